//! From facts to a plan: the units of every binary, layer, manifest and index.

use std::collections::BTreeMap;

use super::bases::Standing;
use super::facts::{Facts, Setting};
use super::graph::{Plan, PlannedImage, Unit};
use super::roots::Stage;
use crate::config::{Base, Image, image_order};
use crate::model::action::{
    Action, LayerAction, LayerContent, ManifestAction, Shape, UnpackAction,
};
use crate::model::package::PackageSet;
use crate::model::{Configuration, Digest, Platform};
use crate::toolchain::description::Description;

/// Folder of an image that binaries are installed to.
pub const INSTALL_FOLDER: &str = "/usr/local/bin";

/// The plan for `images` (all, if empty) on `platforms`.
pub fn plan(facts: &Facts, images: &[String], platforms: &[Platform]) -> Plan {
    let mut planner = Planner::new(facts);
    let project = &facts.project;
    for name in image_order(project) {
        if !is_wanted(facts, &name, images) {
            continue;
        }
        let image = &project.images[&name];
        let built: Vec<_> = platforms
            .iter()
            .filter_map(|platform| {
                let target = facts.targets.iter().find(|target| target.platform == *platform)?;
                let (manifest, layers) = planner.image(&name, image, target);
                let done = (manifest, layers.clone(), planner.standing.take());
                planner.done.insert((name.clone(), platform.clone()), done);
                Some((platform.clone(), manifest, layers))
            })
            .collect();
        let index = image.publish.then(|| {
            let action = Action::Index {
                image: name.clone(),
                platforms: platforms.to_vec(),
                annotations: annotations(facts, &name, image),
            };
            let needs = built.iter().map(|(_, manifest, _)| *manifest).collect();
            planner.unit(format!("index {name}"), None, action, needs)
        });
        planner.plan.images.push(PlannedImage {
            name: name.clone(),
            publish: image.publish,
            platforms: built,
            index,
        });
    }
    planner.plan
}

/// Whether an image was asked for, or one that was stands on it.
pub fn is_wanted(facts: &Facts, name: &str, wanted: &[String]) -> bool {
    wanted.is_empty()
        || wanted.iter().any(|start| {
            let mut at = start.as_str();
            loop {
                if at == name {
                    return true;
                }
                match facts.project.images.get(at).map(|image| &image.from) {
                    Some(Base::Image(base)) => at = base,
                    _ => return false,
                }
            }
        })
}

/// Standard annotations (image specification, "Pre-Defined Annotation Keys").
fn annotations(facts: &Facts, name: &str, image: &Image) -> BTreeMap<String, String> {
    let key = |name: &str| format!("org.opencontainers.image.{name}");
    let title = image.title.clone().unwrap_or_else(|| name.to_owned());
    let mut annotations =
        BTreeMap::from([(key("title"), title), (key("version"), facts.version.clone())]);
    if let Some(source) = &facts.project.source {
        annotations.insert(key("source"), source.clone());
    }
    if let Some(revision) = &facts.revision {
        annotations.insert(key("revision"), revision.clone());
    }
    annotations
}

/// Manifest and layers of an image that is planned, and what they stand on.
type Done = (usize, Vec<usize>, Option<Standing>);

/// A plan in the making.
pub struct Planner<'a> {
    /// What is known.
    pub facts: &'a Facts,
    /// What is planned.
    pub plan: Plan,
    done: BTreeMap<(String, Platform), Done>,
    /// What the layers that are planned now go onto, where others made it.
    pub standing: Option<Standing>,
    /// Stages in which the root of an image grew.
    pub(super) stages: BTreeMap<(String, Platform), Vec<Stage>>,
}

impl<'a> Planner<'a> {
    /// An empty plan.
    pub fn new(facts: &'a Facts) -> Self {
        let (done, stages) = (BTreeMap::new(), BTreeMap::new());
        Self { facts, plan: Plan::default(), done, standing: None, stages }
    }

    /// Adds a unit.
    pub fn unit(
        &mut self,
        name: String,
        configuration: Option<Configuration>,
        action: Action,
        needs: Vec<usize>,
    ) -> usize {
        self.plan.add(Unit { name, configuration, action, needs })
    }

    /// Adds the unit that unpacks sets into one tree.
    pub fn packages(&mut self, name: String, sets: &[&PackageSet], shape: Shape) -> usize {
        let packages = sets.iter().flat_map(|set| set.packages.iter().cloned()).collect();
        self.unit(
            name,
            None,
            Action::UnpackPackages(UnpackAction { packages, shape, root: None }),
            vec![],
        )
    }

    /// Adds the unit that packs a layer.
    pub fn layer(
        &mut self,
        name: String,
        title: &str,
        content: LayerContent,
        mut needs: Vec<usize>,
    ) -> usize {
        needs.extend(self.places(&content));
        let action = LayerAction {
            placed: self.standing.is_some(),
            title: title.to_owned(),
            content,
            compression: self.facts.project.compression.clone(),
            epoch_secs: 0,
        };
        self.unit(name, None, Action::PackLayer(Box::new(action)), needs)
    }

    /// Manifest and layers of one image on one platform.
    fn image(
        &mut self,
        name: &str,
        image: &Image,
        target: &'static Description,
    ) -> (usize, Vec<usize>) {
        let platform = &target.platform;
        let setting = Setting { target, suite: self.facts.suites.get(name).cloned() };
        let mut needs = Vec::new();
        let mut layers = Vec::new();
        let base = match &image.from {
            Base::Scratch => None,
            Base::Image(base) => {
                let done = self.done[&(base.clone(), platform.clone())].clone();
                let (manifest, below, standing) = done;
                self.standing = standing;
                needs.push(manifest);
                layers.extend(below);
                // One that is not published has no reference, only its name.
                let published = self.facts.project.images[base].publish;
                let tag = self.facts.tags().next().filter(|_| published);
                Some(tag.map_or_else(|| base.clone(), |tag| self.facts.reference(base, &tag)))
            }
            Base::Packages { .. } => None,
            Base::External(_) => {
                layers.extend(self.base(name, platform));
                None
            }
        };
        layers.extend(self.package_layers(name, image, platform));
        for binary in &image.binaries {
            let libraries = &self.facts.project.binaries[binary].libraries;
            for layer in self.library_layers(name, libraries, &setting) {
                if !layers.contains(&layer) {
                    layers.push(layer);
                }
            }
        }
        let files = &self.facts.files[name];
        let common = (&files.common, String::new());
        let own = files.own.get(platform).map(|own| (own, format!(" {platform}")));
        for (members, which) in std::iter::once(common).chain(own) {
            if !members.is_empty() {
                let content = LayerContent::Files { members: members.clone() };
                let (name, title) = (format!("layer {name} files{which}"), format!("files{which}"));
                layers.push(self.layer(name, &title, content, vec![]));
            }
        }
        for binary in &image.binaries {
            let unit = self.binary(binary, &setting);
            // Other build systems install by the binary's name.
            let program =
                self.facts.binaries.get(binary).map_or(binary, |sources| &sources.program);
            let files = vec![(format!("bin/{program}"), format!("{INSTALL_FOLDER}/{binary}"))];
            let content = LayerContent::Outputs { files };
            let title = format!("binary {binary}");
            layers.push(self.layer(
                format!("layer binary {binary} {}", setting.name()),
                &title,
                content,
                vec![unit],
            ));
        }
        let check = Action::CheckPlatform { image: name.to_owned(), platform: platform.clone() };
        let mut checked = layers.clone();
        if let Some(standing) = &self.standing {
            // What the base's layers leave is known as a whole.
            checked.splice(..standing.inherited.layers, [standing.check]);
        }
        let check = self.unit(format!("check {name} {platform}"), None, check, checked);
        let entrypoint = match (image.entrypoint.is_empty(), image.binaries.as_slice()) {
            (true, [binary]) if image.publish => vec![format!("{INSTALL_FOLDER}/{binary}")],
            _ => image.entrypoint.clone(),
        };
        // What an image of the configuration gives is known once its manifest is there.
        let is_on_own = matches!(image.from, Base::Image(_));
        let standing = self.standing.as_ref().filter(|_| !is_on_own);
        let inherited = standing.map(|standing| standing.inherited.clone());
        let mut env = image.env.clone();
        if !is_on_own && inherited.as_ref().is_none_or(|base| !base.sets("PATH")) {
            env.entry("PATH".into()).or_insert_with(|| {
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()
            });
        }
        let action = ManifestAction {
            image: name.to_owned(),
            platform: platform.clone(),
            entrypoint,
            cmd: image.cmd.clone(),
            env,
            expose: image.expose.clone(),
            user: image.user.as_deref().map(|user| match user {
                // A number, so that "must not run as root" policies can see it.
                "nonroot" => "65532:65532".to_owned(),
                user => user.to_owned(),
            }),
            workdir: image.workdir.clone(),
            labels: image.labels.clone(),
            volumes: image.volumes.clone(),
            stop_signal: image.stop_signal.clone(),
            annotations: annotations(self.facts, name, image),
            base,
            inherited,
            epoch_secs: 0,
        };
        needs.push(check);
        needs.extend(&layers);
        let action = Action::Manifest(Box::new(action));
        (self.unit(format!("manifest {name} {platform}"), None, action, needs), layers)
    }
}

/// The name of a folder of the project as one part of a path, different for each, and one
/// word of a shell.
pub fn slug(folder: &str) -> String {
    match folder {
        "" => "root".to_owned(),
        folder => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let name = folder.replace(|c| !plain(c), "-");
            format!("{name}-{}", &Digest::of(folder.as_bytes()).hex()[..6])
        }
    }
}
