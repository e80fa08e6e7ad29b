//! Resolving bases that others made: what a reference means is pinned once for each platform,
//! and looked at before anything is compiled. Only indexes, manifests and configurations are
//! fetched here, except that the layers of a new base are read for its distribution.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::base_content::BaseContent;
use super::execute::execute;
use super::imports;
use super::resolve::Resolver;
use crate::config::{Base, Project, Recipe, library_closure};
use crate::gate::base;
use crate::image::document::{
    Configuration, DOCKER_LAYER, Document, is_manifest, layer_type, parse, parse_configuration,
};
use crate::image::manifest::{Descriptor, rfc3339};
use crate::machine::environment::now_nanos;
use crate::model::action::{Action, ImportAction};
use crate::model::base::{
    BaseFacts, BaseImage, BaseLayer, BaseOrigin, BaseSystem, Inherited, PinnedBase,
};
use crate::model::event::Event;
use crate::model::{Digest, Finding, Place, Platform};
use crate::plan::{Plan, Unit};
use crate::store::StatIndex;
use crate::toolchain::description::Description;

/// A base without what is learned from its layers.
struct Found {
    digest: Digest,
    images: BTreeMap<Platform, BaseImage>,
}

impl Resolver<'_> {
    /// The bases of images that others made, by image and platform, and the project without
    /// the images on bases that cannot be had, where the others are to be built.
    pub(super) fn bases<'p>(
        &mut self,
        project: &'p Project,
        targets: &[&'static Description],
    ) -> (BTreeMap<(String, Platform), BaseImage>, Cow<'p, Project>) {
        let mut images: BTreeMap<&BaseOrigin, Vec<&String>> = BTreeMap::new();
        for (name, image) in &project.images {
            if let Base::External(origin) = &image.from {
                images.entry(origin).or_default().push(name);
            }
        }
        let (mut bases, mut left_out) = (BTreeMap::new(), BTreeSet::new());
        for (origin, names) in images {
            let place = &project.images[names[0]].from_place;
            let before = self.findings.len();
            let Some(found) = self.base(origin, targets, place) else {
                if self.engine.keep_going {
                    self.set_aside.extend(self.findings.drain(before..));
                    left_out.extend(names);
                }
                continue;
            };
            for name in names {
                self.tell_other_system(project, name, &found);
                for (platform, base) in &found {
                    bases.insert((name.clone(), platform.clone()), base.clone());
                }
            }
        }
        if left_out.is_empty() {
            return (bases, Cow::Borrowed(project));
        }
        let mut rest = project.clone();
        rest.images.retain(|name, _| !left_out.contains(&root_of(project, name).to_owned()));
        if rest.images.is_empty() {
            self.findings.append(&mut self.set_aside);
        }
        (bases, Cow::Owned(rest))
    }

    /// One base on all platforms; the lock learns what it lacks.
    fn base(
        &mut self,
        origin: &BaseOrigin,
        targets: &[&'static Description],
        place: &Place,
    ) -> Option<BTreeMap<Platform, BaseImage>> {
        let name = origin.to_string();
        let mut pinned = self.lock.bases.get(&name).cloned();
        let content = BaseContent::new(self.engine, origin);
        let found = find(&content, &mut self.index, pinned.as_ref(), self.locked, targets);
        let mut found = match found {
            Ok(found) => found,
            Err(findings) => {
                self.findings.extend(findings.into_iter().map(|finding| finding.at(place.clone())));
                return None;
            }
        };
        if let Some(old) = pinned.as_ref().filter(|old| old.digest != found.digest) {
            // Only what is in the project itself moves by itself.
            let text = format!(
                "images.lock: the base {name} moved from {} to {}",
                old.digest, found.digest
            );
            self.engine.tell(Event::Note { text });
            pinned = None;
        }
        let manifests: BTreeMap<Platform, Digest> = found
            .images
            .iter()
            .map(|(platform, image)| (platform.clone(), image.manifest))
            .collect();
        let is_pinned = |pinned: &PinnedBase| {
            manifests
                .iter()
                .all(|(platform, digest)| pinned.manifests.get(platform) == Some(digest))
        };
        let system = match &pinned {
            Some(pinned) if is_pinned(pinned) => pinned.system.clone(),
            _ if self.locked => {
                let message = format!(
                    "images.lock does not pin the base {name} as it is now, and `--locked` was given"
                );
                let finding = Finding::new("not-locked", message)
                    .help("run without `--locked` once and commit images.lock");
                self.findings.push(finding.at(place.clone()));
                return None;
            }
            Some(pinned) => pinned.system.clone(),
            None => match found.images.values().next().map(|image| self.facts_of(image)) {
                Some(Ok(facts)) => facts.system,
                Some(Err(finding)) => {
                    self.findings.push(finding.at(place.clone()));
                    return None;
                }
                None => BaseSystem::default(),
            },
        };
        let seconds = u64::try_from(now_nanos() / 1_000_000_000).unwrap_or_default();
        if let Some(text) = base::outdated(&name, &system, &rfc3339(seconds)[..10]) {
            self.engine.tell(Event::Warning { text });
        }
        for image in found.images.values_mut() {
            image.system = system.clone();
        }
        let mut all = pinned.map(|pinned| pinned.manifests).unwrap_or_default();
        all.extend(manifests);
        let pin = PinnedBase { digest: found.digest, manifests: all, system };
        self.lock.bases.insert(name, pin);
        Some(found.images)
    }

    /// Programs that are linked with libraries need a base whose packages are known.
    fn tell_other_system(
        &self,
        project: &Project,
        image: &str,
        found: &BTreeMap<Platform, BaseImage>,
    ) {
        let Some(system) = found.values().next().map(|base| &base.system) else { return };
        let (Some(id), Some(suite)) = (&system.id, &system.suite) else { return };
        let is_known = system.has_packages() || project.suites.contains_key(suite);
        if !is_known && compiles_on(project, image) {
            let text = format!(
                "[image.{image}] stands on {id} {suite}, whose packages cannot be read: programs \
                 for it are compiled against `{}`, and only static ones will run",
                self.suite()
            );
            self.engine.tell(Event::Warning { text });
        }
    }

    /// What the layers of a base say, which are fetched where they are not in the cache.
    pub fn facts_of(&self, base: &BaseImage) -> Result<BaseFacts, Finding> {
        let mut records = Vec::new();
        for (layer, is_compressed) in &base.layers {
            // The compression changes nothing about what the layer holds, but it is in the key.
            let compression = (!is_compressed).then(|| self.compression.clone());
            let action = ImportAction {
                layer: layer.clone(),
                compression,
                origin: Some(base.origin.clone()),
            };
            let unit = Unit {
                name: format!("layer {} of {}", layer.digest.short(), base.inherited.name),
                configuration: None,
                action: Action::ImportLayer(Box::new(action)),
                needs: vec![],
            };
            let mut plan = Plan::default();
            plan.add(unit);
            let key = plan.key(0, &[]);
            let known = self.engine.store.record(&key);
            let record = match known.filter(|known| self.engine.store.prove(known).unwrap_or(false))
            {
                Some(record) => record,
                None => {
                    let started = Instant::now();
                    let done = execute(self.engine, &plan, 0, &[], 1).map_err(|error| {
                        let code = if error.is_remote {
                            crate::model::finding::REMOTE_FAILED
                        } else {
                            "base-refused"
                        };
                        Finding::new(code, error.message)
                    })?;
                    let unit = &plan.units[0];
                    let about = super::schedule::about(unit, started.elapsed(), &done);
                    let kept = self.engine.store.put_record(&key, &done.record, &about);
                    kept.map_err(|error| Finding::new("base-refused", error.to_string()))?;
                    done.record
                }
            };
            records.push(record);
        }
        let joined = imports::joined(self.engine, &records)
            .map_err(|why| Finding::new("base-refused", why))?;
        Ok(joined.facts())
    }

    /// Packages that the base of an image has, with their versions, where others made it.
    pub(super) fn provided_by_base(
        &mut self,
        project: &Project,
        image: &str,
        platform: &Platform,
        bases: &BTreeMap<(String, Platform), BaseImage>,
    ) -> BTreeMap<String, String> {
        let at = root_of(project, image);
        let Some(base) = bases.get(&(at.to_owned(), platform.clone())) else {
            return BTreeMap::new();
        };
        match self.facts_of(base) {
            Ok(facts) => facts.packages,
            Err(finding) => {
                self.findings.push(finding.at(project.images[at].from_place.clone()));
                BTreeMap::new()
            }
        }
    }
}

/// The image that the others below `image` stand on.
fn root_of<'a>(project: &'a Project, image: &'a str) -> &'a str {
    let mut at = image;
    while let Some(Base::Image(below)) = project.images.get(at).map(|image| &image.from) {
        at = below;
    }
    at
}

/// Whether an image that stands on `base`, or itself, has programs that are linked with
/// libraries of the suite.
fn compiles_on(project: &Project, base: &str) -> bool {
    let images = project.images.iter().filter(|(name, _)| root_of(project, name) == base);
    let binaries: BTreeSet<&String> = images.flat_map(|(_, image)| &image.binaries).collect();
    binaries.into_iter().filter_map(|name| project.binaries.get(name)).any(|binary| {
        !matches!(binary.recipe, Recipe::Go { cgo: false, .. })
            || !library_closure(project, &binary.libraries).is_empty()
    })
}

/// What an origin has for each platform, or everything that is wrong with it.
fn find(
    content: &BaseContent<'_>,
    index: &mut StatIndex,
    pinned: Option<&PinnedBase>,
    locked: bool,
    targets: &[&'static Description],
) -> Result<Found, Vec<Finding>> {
    let origin = content.origin;
    let name = origin.to_string();
    let one = |finding| vec![finding];
    let known = match (origin, pinned) {
        (BaseOrigin::Registry { reference }, pinned) => {
            reference.digest.or(pinned.map(|pinned| pinned.digest))
        }
        _ => None,
    };
    if known.is_none() && pinned.is_none() && locked {
        let message = format!("images.lock does not pin the base {name}, and `--locked` was given");
        let finding = Finding::new("not-locked", message);
        return Err(one(finding.help("run without `--locked` once and commit images.lock")));
    }
    let root = match known {
        Some(digest) => content.document(&digest, None).map_err(one)?,
        None => content.root(index).map_err(one)?,
    };
    let digest = Digest::of(&root);
    content.keep(&digest, &root).map_err(one)?;
    let refused = |what: &Digest, why: String| {
        one(Finding::new("base-refused", format!("the base {name}: {what}: {why}")))
    };
    let mut findings = Vec::new();
    let mut images = BTreeMap::new();
    let document = parse(&root).map_err(|why| refused(&digest, why))?;
    for target in targets {
        let platform = &target.platform;
        let (manifest, config, layers, entry) = match &document {
            Document::Manifest { config, layers } => (digest, config.clone(), layers.clone(), None),
            Document::Index(entries) => {
                let entry = match base::select(&name, entries, platform) {
                    Ok(entry) => entry,
                    Err(finding) => {
                        findings.push(finding);
                        continue;
                    }
                };
                if !is_manifest(&entry.media_type) {
                    let why =
                        format!("its media type `{}` is unknown", entry.media_type.escape_debug());
                    return Err(refused(&entry.digest, why));
                }
                let bytes = manifest_of(content, origin, entry).map_err(one)?;
                match parse(&bytes).map_err(|why| refused(&entry.digest, why))? {
                    Document::Manifest { config, layers } => {
                        (entry.digest, config, layers, entry.platform.clone())
                    }
                    Document::Index(_) => {
                        let why = "it is an index, where a manifest has to be".to_owned();
                        return Err(refused(&entry.digest, why));
                    }
                }
            }
        };
        let bytes = content.document(&config.digest, Some(config.size_bytes)).map_err(one)?;
        let parsed = parse_configuration(&bytes).map_err(|why| refused(&config.digest, why))?;
        let wrong = match &entry {
            None => base::single(&name, &digest, &parsed.platform, platform),
            Some(entry) => base::disagrees(&name, entry, &parsed.platform),
        };
        if let Some(finding) = wrong {
            findings.push(finding);
            continue;
        }
        let image =
            image(origin, manifest, &layers, parsed).map_err(|why| refused(&manifest, why))?;
        images.insert(platform.clone(), image);
    }
    if findings.is_empty() { Ok(Found { digest, images }) } else { Err(findings) }
}

/// The bytes of a manifest. Registries give it by another path than blobs.
fn manifest_of(
    content: &BaseContent<'_>,
    origin: &BaseOrigin,
    entry: &Descriptor,
) -> Result<Vec<u8>, Finding> {
    let size_bytes = (!origin.is_remote()).then_some(entry.size_bytes);
    content.document(&entry.digest, size_bytes)
}

/// A base as its manifest and configuration say.
fn image(
    origin: &BaseOrigin,
    manifest: Digest,
    descriptors: &[Descriptor],
    parsed: Configuration,
) -> Result<BaseImage, String> {
    if descriptors.len() != parsed.diff_ids.len() {
        let (layers, ids) = (descriptors.len(), parsed.diff_ids.len());
        return Err(format!("it has {layers} layers, its configuration lists {ids}"));
    }
    let mut layers = Vec::new();
    for (descriptor, diff_id) in descriptors.iter().zip(&parsed.diff_ids) {
        let Descriptor { media_type, digest, size_bytes, .. } = descriptor;
        let (oci, compression) =
            layer_type(media_type).map_err(|why| format!("layer {digest}: {why}"))?;
        if compression.is_empty() && digest != diff_id {
            return Err(format!("layer {digest}: its archive cannot have the digest {diff_id}"));
        }
        let is_compressed = *media_type != DOCKER_LAYER;
        let layer = BaseLayer {
            digest: *digest,
            size_bytes: *size_bytes,
            media_type: oci,
            diff_id: *diff_id,
        };
        layers.push((layer, is_compressed));
    }
    let name = match origin {
        BaseOrigin::Registry { reference } => reference.to_string(),
        BaseOrigin::Layout { folder: place, reference }
        | BaseOrigin::Archive { file: place, reference } => {
            reference.clone().unwrap_or_else(|| place.clone())
        }
    };
    Ok(BaseImage {
        origin: origin.clone(),
        manifest,
        inherited: Inherited {
            name,
            digest: manifest,
            config: parsed.config,
            history: parsed.history,
            layers: layers.len(),
        },
        layers,
        system: BaseSystem::default(),
    })
}
