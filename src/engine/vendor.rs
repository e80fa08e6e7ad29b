//! What the lock pins, downloaded ahead, and kept in a folder of the project for days when
//! mirrors have dropped it.
//!
//! The folder holds `files/DIGEST` for packages, and for everything else that was fetched
//! `trees/KEY-DIGEST.tar.zst`: the key of the unit, the digest of what it left. Both are
//! checked when they are read. Deliberately absent: toolchains of the machine and of rustup.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::build::Prepared;
use super::execute::{UnitError, text};
use super::report::BuildError;
use super::{Engine, fetch, schedule};
use crate::archive::compression::Compression;
use crate::archive::source::unpack_source;
use crate::image::document::{Document, parse};
use crate::image::filesystem::Filesystem;
use crate::image::layer::pack;
use crate::model::{Digest, Finding};
use crate::plan::{Plan, Unit};
use crate::store::{Record, copy_file, describe};

const FILES: &str = "files";
const TREES: &str = "trees";
const ENDING: &str = ".tar.zst";
/// A tree lies in a folder of the archive, so that its own top stays as it is.
const TOP: &str = "tree";

/// What was downloaded.
#[derive(Debug, Serialize)]
pub struct Fetched {
    /// Version of this format.
    pub version: u32,
    /// Units that fetch.
    pub units: usize,
    /// Of these, those that ran now.
    pub units_run: usize,
    /// Size of what all of them left, in bytes.
    pub size_bytes: u64,
}

/// What a folder keeps.
#[derive(Debug, Serialize)]
pub struct Vendored {
    /// The folder.
    pub folder: PathBuf,
    /// Number of files.
    pub files: usize,
    /// Their size in bytes.
    pub size_bytes: u64,
    /// Files that nothing pins any more, which were removed.
    pub removed: usize,
    /// Whether builds look there: the configuration names it.
    pub is_used: bool,
}

/// Whether the unit asks the network for something that is pinned.
fn fetches(unit: &Unit) -> bool {
    matches!(unit.kind(), "packages" | "source" | "crates" | "modules" | "base layer")
}

/// Whether what the unit leaves is kept whole; packages are kept as they came.
fn is_kept_whole(unit: &Unit) -> bool {
    fetches(unit) && unit.kind() != "packages"
}

impl Prepared {
    /// Downloads everything that the plan needs from elsewhere.
    pub fn fetch(&self) -> Result<Fetched, BuildError> {
        let (_, _, fetched) = self.fetched()?;
        Ok(fetched)
    }

    fn fetched(&self) -> Result<(Plan, schedule::Outcome, Fetched), BuildError> {
        let plan = self.plan.part(fetches);
        let outcome = schedule::run(&self.engine, &plan);
        if outcome.interrupted {
            return Err(BuildError::Interrupted);
        }
        if !outcome.failures.is_empty() {
            return Err(BuildError::Units(outcome.failures));
        }
        let units = (0..plan.units.len()).filter(|&index| fetches(&plan.units[index]));
        let units: Vec<usize> = units.collect();
        let fetched = Fetched {
            version: 1,
            units: units.len(),
            units_run: units.iter().filter(|index| outcome.ran.contains_key(index)).count(),
            size_bytes: units.iter().map(|index| outcome.records[index].size_bytes).sum(),
        };
        Ok((plan, outcome, fetched))
    }

    /// Keeps in `folder`, the project's own by default, what the lock pins, and removes there
    /// what it no longer does.
    pub fn vendor(&self, folder: Option<&Path>) -> Result<Vendored, BuildError> {
        let engine = &self.engine;
        let folder = folder.or(engine.vendor.as_deref()).ok_or_else(|| {
            let finding = Finding::new("no-vendor", "`--vendor` needs a folder")
                .help("name one, or say `vendor = \"DIR\"` in [project]");
            BuildError::Findings(vec![finding])
        })?;
        let (plan, outcome, _) = self.fetched()?;
        let failed = |error: String| {
            BuildError::Output(format!("cannot keep files in {}: {error}", folder.display()))
        };
        for name in [FILES, TREES] {
            fs::create_dir_all(folder.join(name)).map_err(|error| failed(text(error)))?;
        }
        let mut wanted = BTreeSet::new();
        for (name, locked) in &self.lock.packages {
            let packages = &locked.set.packages;
            let scratch = engine.store.scratch()?;
            // Units that were there already may have been made before their packages went.
            fetch::fetch(engine, name, packages, scratch.path())
                .map_err(|error| failed(error.message))?;
            for package in packages {
                let place = folder.join(FILES).join(package.sha256.hex());
                let blob = engine.store.blob_path(&package.sha256);
                keep(&place, |new| copy_file(&blob, new).map(drop).map_err(text))
                    .map_err(failed)?;
                wanted.insert(place);
            }
        }
        for document in self.base_documents().map_err(failed)? {
            let place = folder.join(FILES).join(document.hex());
            let blob = engine.store.blob_path(&document);
            keep(&place, |new| copy_file(&blob, new).map(drop).map_err(text)).map_err(failed)?;
            wanted.insert(place);
        }
        for (index, unit) in plan.units.iter().enumerate().filter(|(_, unit)| is_kept_whole(unit)) {
            let needs: Vec<Digest> =
                unit.needs.iter().map(|need| outcome.records[need].output).collect();
            let (key, output) = (plan.key(index, &needs), outcome.records[&index].output);
            let name = format!("{}-{}{ENDING}", key.hex(), output.hex());
            let place = folder.join(TREES).join(name);
            keep(&place, |new| pack_tree(&engine.store.tree_path(&output), new)).map_err(failed)?;
            wanted.insert(place);
        }
        let mut report = Vendored {
            folder: folder.to_owned(),
            files: wanted.len(),
            size_bytes: 0,
            removed: 0,
            is_used: engine.vendor.as_deref().is_some_and(|used| is_same(used, folder)),
        };
        for name in [FILES, TREES] {
            for entry in fs::read_dir(folder.join(name)).into_iter().flatten().flatten() {
                if wanted.contains(&entry.path()) {
                    report.size_bytes += entry.metadata().map_or(0, |status| status.len());
                } else if is_ours(&entry.file_name().to_string_lossy()) {
                    fs::remove_file(entry.path()).map_err(|error| failed(text(error)))?;
                    report.removed += 1;
                }
            }
        }
        Ok(report)
    }

    /// Indexes, manifests and configurations of bases from registries: what planning asks for.
    pub(super) fn base_documents(&self) -> Result<BTreeSet<Digest>, String> {
        let mut documents = BTreeSet::new();
        for base in self.facts.bases.values().filter(|base| base.origin.is_remote()) {
            let pinned = self.lock.bases.get(&base.origin.to_string());
            documents.extend(pinned.map(|pinned| pinned.digest));
            documents.insert(base.manifest);
            let manifest = fs::read(self.engine.store.blob_path(&base.manifest)).map_err(text)?;
            if let Document::Manifest { config, .. } = parse(&manifest)? {
                documents.insert(config.digest);
            }
        }
        Ok(documents)
    }
}

/// Whether a name is one that this module gives: whoever names another folder by mistake
/// loses nothing.
fn is_ours(name: &str) -> bool {
    let name = name.strip_suffix(ENDING).unwrap_or(name);
    name.split('-').all(|part| Digest::from_hex(part).is_ok())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Has `write` write a file beside `place` and moves it there, unless it is there.
fn keep(place: &Path, write: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    if place.is_file() {
        return Ok(());
    }
    let folder = place.parent().unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new().prefix(".new-").tempdir_in(folder).map_err(text)?;
    let new = scratch.path().join("file");
    write(&new)?;
    fs::rename(&new, place).map_err(text)
}

fn pack_tree(tree: &Path, to: &Path) -> Result<(), String> {
    let mut files = Filesystem::default();
    files.add_folder(TOP, 0o755);
    for (path, node) in Filesystem::from_folder(tree).map_err(text)?.nodes {
        files.nodes.insert(format!("{TOP}/{path}"), node);
    }
    let out = fs::File::create_new(to).map_err(text)?;
    pack(&files, TOP, Compression::Zstd, 1, 0, out).map(drop).map_err(text)
}

/// Takes files that a folder keeps to the store: those that are missing there.
pub fn take_files<'a>(
    engine: &Engine,
    digests: impl Iterator<Item = &'a Digest>,
    scratch: &Path,
) -> Result<(), UnitError> {
    let Some(folder) = &engine.vendor else { return Ok(()) };
    for digest in digests {
        let kept = folder.join(FILES).join(digest.hex());
        if !kept.is_file() || engine.blob(digest).is_some() {
            continue;
        }
        let copy = scratch.join(digest.hex());
        let found = copy_file(&kept, &copy)
            .map_err(|error| format!("cannot copy {}: {error}", kept.display()))?;
        if found != *digest {
            return Err(damaged(&kept).into());
        }
        engine.store.adopt_blob(&copy, digest).map_err(text)?;
    }
    Ok(())
}

/// Where a folder keeps what the unit of that key left, and its digest.
fn kept_tree(engine: &Engine, unit: &Unit, key: &Digest) -> Option<(Digest, PathBuf)> {
    let folder = engine.vendor.as_ref().filter(|_| is_kept_whole(unit))?;
    let start = format!("{}-", key.hex());
    let entries = fs::read_dir(folder.join(TREES)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).find_map(|path| {
        let name = path.file_name()?.to_str()?;
        let output = name.strip_prefix(&start)?.strip_suffix(ENDING)?;
        Some((Digest::from_hex(output).ok()?, path))
    })
}

/// Whether a folder keeps what the unit of that key left.
pub fn has_tree(engine: &Engine, unit: &Unit, key: &Digest) -> bool {
    kept_tree(engine, unit, key).is_some()
}

/// What the unit of that key left, where a folder keeps it.
pub fn take_tree(engine: &Engine, unit: &Unit, key: &Digest) -> Result<Option<Record>, UnitError> {
    let Some((output, archive)) = kept_tree(engine, unit, key) else { return Ok(None) };
    let scratch = engine.store.scratch().map_err(text)?;
    let out = scratch.path().join("out");
    fs::create_dir(&out).map_err(text)?;
    unpack_source(&archive, &scratch.path().join("unpacked"), &out).map_err(text)?;
    if describe(&out).map_err(text)?.digest() != output {
        return Err(damaged(&archive).into());
    }
    let (output, tree) = engine.store.adopt_tree(&out).map_err(text)?;
    Ok(Some(Record { output, size_bytes: tree.size_bytes(), observed: None }))
}

fn damaged(file: &Path) -> String {
    format!(
        "{} is damaged: it is not what its name says\n  help: restore it, or remove it and run \
         `xstitch lock --vendor` again",
        file.display()
    )
}
