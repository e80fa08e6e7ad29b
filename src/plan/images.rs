//! From facts to a plan: the units of every binary, layer, manifest and index.

use std::collections::BTreeMap;
use std::path::Path;

use super::facts::{BinarySources, Facts, RustProvider};
use super::graph::{Plan, PlannedImage, Unit};
use crate::config::{Base, Image, Recipe, image_order};
use crate::model::action::{
    Action, LayerAction, LayerContent, ManifestAction, Mount, Shape, SourceReference, UnpackAction,
};
use crate::model::package::PackageSet;
use crate::model::{Configuration, Digest, Platform};
use crate::recipe::environment::Cross;
use crate::recipe::{c, cargo, go};
use crate::toolchain::description::Description;

/// Folder of an image that binaries are installed to.
pub const INSTALL_FOLDER: &str = "/usr/local/bin";

/// The plan for `images` (all, if empty) on `platforms`.
pub fn plan(facts: &Facts, images: &[String], platforms: &[Platform]) -> Plan {
    let mut planner = Planner { facts, plan: Plan::default(), done: BTreeMap::new() };
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
                planner.done.insert((name.clone(), platform.clone()), (manifest, layers.clone()));
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

struct Planner<'a> {
    facts: &'a Facts,
    plan: Plan,
    done: BTreeMap<(String, Platform), (usize, Vec<usize>)>,
}

impl<'a> Planner<'a> {
    fn unit(
        &mut self,
        name: String,
        configuration: Option<Configuration>,
        action: Action,
        needs: Vec<usize>,
    ) -> usize {
        self.plan.add(Unit { name, configuration, action, needs })
    }

    fn packages(&mut self, name: String, sets: &[&PackageSet], shape: Shape) -> usize {
        let packages = sets.iter().flat_map(|set| set.packages.iter().cloned()).collect();
        self.unit(name, None, Action::UnpackPackages(UnpackAction { packages, shape }), vec![])
    }

    fn layer(
        &mut self,
        name: String,
        title: &str,
        content: LayerContent,
        needs: Vec<usize>,
    ) -> usize {
        let action = LayerAction {
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
        let mut needs = Vec::new();
        let mut layers = Vec::new();
        let base = match &image.from {
            Base::Scratch => None,
            Base::Image(base) => {
                let (manifest, below) = self.done[&(base.clone(), platform.clone())].clone();
                needs.push(manifest);
                layers.extend(below);
                // One that is not published has no reference, only its name.
                let published = self.facts.project.images[base].publish;
                let tag = self.facts.tags().next().filter(|_| published);
                Some(tag.map_or_else(|| base.clone(), |tag| self.facts.reference(base, &tag)))
            }
            Base::Packages { .. } => {
                layers.extend(self.root(name, platform));
                None
            }
        };
        let files = &self.facts.files[name];
        if !files.is_empty() {
            let content = LayerContent::Files { files: files.clone() };
            layers.push(self.layer(format!("layer {name} files"), "files", content, vec![]));
        }
        for binary in &image.binaries {
            let unit = self.binary(binary, target);
            let program = &self.facts.binaries[binary].program;
            let files = vec![(format!("bin/{program}"), format!("{INSTALL_FOLDER}/{binary}"))];
            let content = LayerContent::Outputs { files };
            let title = format!("binary {binary}");
            layers.push(self.layer(
                format!("layer binary {binary} {platform}"),
                &title,
                content,
                vec![unit],
            ));
        }
        let check = Action::CheckPlatform { image: name.to_owned(), platform: platform.clone() };
        let check = self.unit(format!("check {name} {platform}"), None, check, layers.clone());
        let entrypoint = match (image.entrypoint.is_empty(), image.binaries.as_slice()) {
            (true, [binary]) if image.publish => vec![format!("{INSTALL_FOLDER}/{binary}")],
            _ => image.entrypoint.clone(),
        };
        let mut env = image.env.clone();
        env.entry("PATH".into()).or_insert_with(|| {
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()
        });
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
            epoch_secs: 0,
        };
        needs.push(check);
        needs.extend(&layers);
        let action = Action::Manifest(Box::new(action));
        (self.unit(format!("manifest {name} {platform}"), None, action, needs), layers)
    }

    /// The layers of a root made of packages: what is the same everywhere, then the rest.
    fn root(&mut self, name: &str, platform: &Platform) -> Vec<usize> {
        let set = &self.facts.roots[&(name.to_owned(), platform.clone())];
        let (common, own): (Vec<_>, Vec<_>) =
            set.packages.iter().cloned().partition(|package| package.architecture == "all");
        let parts = [
            (own, "packages", format!(" {platform}"), true),
            (common, "common packages", String::new(), false),
        ];
        let mut layers = Vec::new();
        for (packages, title, which, furnish) in parts {
            if packages.is_empty() {
                continue;
            }
            let set = PackageSet { packages };
            let name = format!("{name} {title}{which}");
            let tree = self.packages(format!("root {name}"), &[&set], Shape::Root);
            let content = LayerContent::Root { furnish };
            layers.push(self.layer(format!("layer {name}"), title, content, vec![tree]));
        }
        layers
    }

    /// The unit that compiles a binary.
    fn binary(&mut self, name: &str, target: &'static Description) -> usize {
        let facts = self.facts;
        let binary = &facts.project.binaries[name];
        let sources = &facts.binaries[name];
        let overrides = facts.project.targets.get(&target.triple).cloned().unwrap_or_default();
        let mut needs = Vec::new();
        let mut mounts = BTreeMap::new();
        let mut mount = |name: &str, unit: usize| {
            mounts.insert(name.to_owned(), Mount::Need { need: needs.len() });
            needs.push(unit);
        };
        mount("userland", self.packages("userland".into(), &[&facts.userland], Shape::Toolchain));
        let needs_c = !matches!(binary.recipe, Recipe::Go { cgo: false, .. });
        if needs_c {
            mount("llvm", self.packages("toolchain llvm".into(), &[&facts.llvm], Shape::Toolchain));
            let packages = development_packages(facts, &binary.libraries);
            let architecture = &target.debian_architecture;
            mount("sysroot", self.sysroot(architecture, &packages));
        }
        let mut rustup = false;
        if let Recipe::Rust { .. } = &binary.recipe {
            mount("host", self.sysroot(&facts.host.debian_architecture, &[]));
            match facts.rust.as_ref() {
                Some(RustProvider::Packages { host, targets }) => {
                    let unit =
                        self.packages("toolchain rust".into(), &[host, targets], Shape::Toolchain);
                    mount("rust", unit);
                }
                Some(RustProvider::Rustup { .. }) | None => rustup = true,
            }
            if sources.has_dependencies {
                let action = Action::VendorCrates {
                    sources: sources.listing.clone(),
                    digest: sources.lock_digest,
                };
                mount(
                    "vendor",
                    self.unit(
                        format!(
                            "crates of {}",
                            Path::new(&sources.listing).join("Cargo.lock").display()
                        ),
                        None,
                        action,
                        vec![],
                    ),
                );
            }
        }
        if let (Recipe::Go { .. }, Some(go)) = (&binary.recipe, &sources.go)
            && sources.has_dependencies
        {
            let action = Action::DownloadModules {
                sources: sources.listing.clone(),
                folder: sources.folder.clone(),
                digest: sources.lock_digest,
                go: go.version.clone(),
            };
            mount(
                "modules",
                self.unit(format!("modules of {}/go.mod", sources.folder), None, action, vec![]),
            );
        }
        let mut machine =
            |plan: &mut Plan, name: &str, at: &str, root: &std::path::Path, digest| {
                plan.machine_folders.insert(name.to_owned(), root.to_owned());
                mounts.insert(at.to_owned(), Mount::Machine { name: name.to_owned(), digest });
            };
        if let Some(go) = &sources.go {
            machine(&mut self.plan, &format!("go{}", go.version), "go", &go.root, go.digest);
        }
        if let (true, Some(RustProvider::Rustup { root, digests })) = (rustup, &facts.rust) {
            machine(&mut self.plan, "rust", "rust", root, digests[&target.triple]);
        }
        let names: Vec<String> = mounts.keys().cloned().collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let cross =
            Cross { host: facts.host, target, llvm_version: &facts.llvm_version, mounts: &names };
        let flags = facts.c_flags.get(&target.triple).map_or(&[][..], Vec::as_slice);
        let process = recipe(
            &cross,
            name,
            &binary.recipe,
            sources,
            &overrides,
            flags,
            &facts.version,
            rustup,
            mounts,
        );
        let profile = match &binary.recipe {
            Recipe::Rust { profile, .. } => profile.clone(),
            _ => "release".into(),
        };
        let configuration = Configuration {
            execution: facts.host.triple.clone(),
            target: target.triple.clone(),
            suite: facts.suite.clone(),
            cpu: target.cpu.clone(),
            profile,
        };
        let action = Action::Process(Box::new(process));
        self.unit(format!("binary {name} {}", target.platform), Some(configuration), action, needs)
    }

    fn sysroot(&mut self, architecture: &str, packages: &[String]) -> usize {
        let set = &self.facts.sysroots[&(architecture.to_owned(), packages.to_vec())];
        let name = format!("sysroot {architecture} {}", packages.join(" "));
        self.packages(name.trim_end().to_owned(), &[set], Shape::Toolchain)
    }
}

/// The name of a folder of the project as one part of a path, different for each.
pub fn slug(folder: &str) -> String {
    match folder {
        "" => "root".to_owned(),
        folder => {
            format!("{}-{}", folder.replace('/', "-"), &Digest::of(folder.as_bytes()).hex()[..6])
        }
    }
}

/// Development packages of libraries, sorted.
pub fn development_packages(facts: &Facts, libraries: &[String]) -> Vec<String> {
    packages_of(&facts.project, libraries)
}

/// Development packages of libraries of a project, sorted.
pub fn packages_of(project: &crate::config::Project, libraries: &[String]) -> Vec<String> {
    let mut packages: Vec<String> = libraries
        .iter()
        .filter_map(|name| project.libraries.get(name))
        .flat_map(|library| library.packages.iter().cloned())
        .collect();
    packages.sort();
    packages.dedup();
    packages
}

#[allow(clippy::too_many_arguments, reason = "everything a recipe may depend on")]
fn recipe(
    cross: &Cross<'_>,
    name: &str,
    recipe: &Recipe,
    sources: &BinarySources,
    overrides: &crate::config::Target,
    default_flags: &[String],
    version: &str,
    rustup: bool,
    mounts: BTreeMap<String, Mount>,
) -> crate::model::action::ProcessAction {
    let reference = SourceReference { name: sources.listing.clone(), digest: sources.digest };
    let state = |language: &str| format!("{language}-{}", slug(&sources.folder));
    match recipe {
        Recipe::Rust { package, features, default_features, profile, .. } => {
            let build = cargo::Cargo {
                package,
                program: &sources.program,
                features,
                default_features: *default_features,
                profile,
                rustflags: &overrides.rustflags,
                sources: reference,
                folder: sources.folder.clone(),
                state: state("rust"),
                vendored: sources.has_dependencies,
                rustup,
            };
            cargo::build(cross, &build, mounts)
        }
        Recipe::Go { package, tags, ldflags, cgo, .. } => {
            let build = go::Go {
                package,
                program: &sources.program,
                tags,
                ldflags: &ldflags
                    .iter()
                    .map(|flag| flag.replace("{version}", version))
                    .collect::<Vec<_>>(),
                cgo: *cgo,
                sources: reference,
                folder: sources.folder.clone(),
                // Go's cache has keys of its own, and its bytes do not depend on it.
                state: format!("{}-{}", state("go"), cross.target.platform.slug()),
            };
            go::build(cross, &build, mounts)
        }
        Recipe::C { cxx, flags, ldflags, include, .. } => {
            let mut all_flags = default_flags.to_vec();
            all_flags.extend(overrides.cflags.iter().chain(flags).cloned());
            let build = c::C {
                program: &sources.program,
                cxx: *cxx,
                files: &sources.files,
                flags: all_flags,
                ldflags,
                include,
                sources: reference,
                state: format!("c-{name}-{}", cross.target.platform.slug()),
            };
            c::build(cross, &build, mounts)
        }
    }
}
