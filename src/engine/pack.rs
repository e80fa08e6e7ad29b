//! Units whose work is done here, not by a child: layers, checks, manifests, indexes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::execute::text;
use super::{Engine, files, imports, library, roots};
use crate::archive::compression::Compression;
use crate::gate;
use crate::image::document::parse_configuration;
use crate::image::filesystem::Filesystem;
use crate::image::layer::{self, PackedLayer};
use crate::image::manifest::{self, Descriptor};
use crate::image::settle::Root;
use crate::image::summary::{LayerSummary, summarise};
use crate::model::action::{LayerAction, LayerContent, ManifestAction};
use crate::model::base::Inherited;
use crate::model::{Digest, Platform};
use crate::store::Record;
use crate::toolchain::description::by_platform;

/// Names of the files in the output of a layer unit.
pub const LAYER_BLOB: &str = "layer";
/// What is known of the blob.
pub const LAYER_FACTS: &str = "layer.json";
/// What it holds.
pub const LAYER_SUMMARY: &str = "summary.json";
/// Names of the files in the output of a manifest unit.
pub const CONFIG_BLOB: &str = "config.json";
/// The manifest's bytes.
pub const MANIFEST_BLOB: &str = "manifest.json";
/// The index's bytes.
pub const INDEX_BLOB: &str = "index.json";

pub(super) fn tree(engine: &Engine, record: &Record) -> PathBuf {
    engine.store.tree_path(&record.output)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes =
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

pub fn layer(
    engine: &Engine,
    action: &LayerAction,
    needs: &[Record],
    threads: usize,
    out: &Path,
) -> Result<(), String> {
    let places = match needs.last().filter(|_| action.placed) {
        Some(record) => Some(imports::read_places(engine, record)?),
        None => None,
    };
    let mut files = match &action.content {
        LayerContent::Root { furnish, stages, apart } => {
            // The folders of a base come after the trees.
            let trees = &needs[..needs.len() - usize::from(action.placed)];
            let trees: Vec<PathBuf> = trees.iter().map(|record| tree(engine, record)).collect();
            let root = match &places {
                Some(places) => Root::on_base(places.texts.clone()),
                None => Root::new(*furnish),
            };
            roots::members(&trees, root, stages, *apart)?
        }
        LayerContent::Outputs { files: outputs } => {
            let mut files = Filesystem::default();
            for (from, to) in outputs {
                let from = tree(engine, &needs[0]).join(from);
                files.add_file(to.trim_start_matches('/'), from, 0o755);
            }
            files
        }
        LayerContent::SharedLibraries { folder } => {
            let mut files = Filesystem::default();
            let place = tree(engine, &needs[0]).join(folder);
            let found = library::shared_libraries(&place).map_err(text)?;
            for name in &found.files {
                files.add_file(&format!("{folder}/{name}"), place.join(name), 0o644);
            }
            for (name, target) in &found.links {
                files.add_link(&format!("{folder}/{name}"), target);
            }
            files
        }
        LayerContent::Files { members } => files::collect(engine, members, out)?,
    };
    if let Some(places) = places {
        places.settle(&mut files);
    }
    files.add_parents();
    let compression: Compression = action.compression.parse()?;
    let blob = fs::File::create(out.join(LAYER_BLOB)).map_err(text)?;
    let packed = layer::pack(&files, &action.title, compression, threads, action.epoch_secs, blob)
        .map_err(|error| format!("cannot pack the layer: {error}"))?;
    let summary = summarise(&files).map_err(text)?;
    write(&out.join(LAYER_FACTS), &serde_json::to_vec(&packed).map_err(text)?)?;
    write(&out.join(LAYER_SUMMARY), &serde_json::to_vec(&summary).map_err(text)?)
}

pub fn check(
    engine: &Engine,
    image: &str,
    platform: &Platform,
    needs: &[Record],
) -> Result<(), String> {
    let target = by_platform(platform).ok_or_else(|| format!("no target for {platform}"))?;
    let mut layers: Vec<(LayerSummary, String)> = Vec::new();
    for record in needs {
        let summary = read(&tree(engine, record).join(LAYER_SUMMARY))?;
        let title = match imports::base_title(engine, record) {
            Some(title) => title,
            None => packed(engine, record)?.title,
        };
        layers.push((summary, title));
    }
    let layers: Vec<_> = layers.iter().map(|(summary, title)| (summary, title.as_str())).collect();
    let mut findings: Vec<_> = layers
        .iter()
        .flat_map(|(summary, title)| gate::platform::check(summary, title, target))
        .collect();
    findings.extend(gate::libraries::check(&layers, target));
    findings.extend(gate::glibc::check(&layers));
    if findings.is_empty() {
        return Ok(());
    }
    let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Err(format!("image {image} for {platform} is refused:\n{}", findings.join("\n")))
}

/// Facts of a packed layer.
pub fn packed(engine: &Engine, record: &Record) -> Result<PackedLayer, String> {
    read(&tree(engine, record).join(LAYER_FACTS))
}

pub fn manifest(
    engine: &Engine,
    action: &ManifestAction,
    needs: &[Record],
    out: &Path,
) -> Result<(), String> {
    let mut annotations = action.annotations.clone();
    // A base of the configuration comes first, then the check, then the layers.
    let (mut action, mut needs) = (action.clone(), needs);
    if let (Some(base), [manifest, rest @ ..]) = (&action.base, needs) {
        action.inherited = Some(inherited(engine, base, manifest)?);
        needs = rest;
    }
    if let Some(base) = &action.inherited {
        let key = |name: &str| format!("org.opencontainers.image.base.{name}");
        annotations.insert(key("name"), base.name.clone());
        annotations.insert(key("digest"), base.digest.to_string());
    }
    let mut layers: Vec<PackedLayer> =
        needs.iter().skip(1).map(|record| packed(engine, record)).collect::<Result<_, _>>()?;
    // Of a library of headers or archives alone.
    layers.retain(|layer| !layer.is_empty());
    let config = manifest::config(&action, &layers);
    let descriptor = Descriptor::of(manifest::CONFIG, &config);
    write(&out.join(CONFIG_BLOB), &config)?;
    write(&out.join(MANIFEST_BLOB), &manifest::manifest(&descriptor, &layers, &annotations))
}

/// What an image of the configuration gives to those on it, of which it already took over what
/// its own base gives.
fn inherited(engine: &Engine, name: &str, manifest: &Record) -> Result<Inherited, String> {
    let place = tree(engine, manifest);
    let bytes = fs::read(place.join(MANIFEST_BLOB)).map_err(text)?;
    let config = fs::read(place.join(CONFIG_BLOB)).map_err(text)?;
    let parsed = parse_configuration(&config)?;
    Ok(Inherited {
        name: name.to_owned(),
        digest: Digest::of(&bytes),
        config: parsed.config,
        history: parsed.history,
        layers: parsed.diff_ids.len(),
    })
}

pub fn index(
    engine: &Engine,
    platforms: &[Platform],
    annotations: &BTreeMap<String, String>,
    needs: &[Record],
    out: &Path,
) -> Result<(), String> {
    let mut manifests = Vec::new();
    for (platform, record) in platforms.iter().zip(needs) {
        let bytes = fs::read(tree(engine, record).join(MANIFEST_BLOB)).map_err(text)?;
        let mut descriptor = Descriptor::of(manifest::MANIFEST, &bytes);
        descriptor.platform = Some(platform.clone());
        manifests.push(descriptor);
    }
    write(&out.join(INDEX_BLOB), &manifest::index(&manifests, annotations))
}
