//! Roots of images from packages: unpacked with a record of what files on disk cannot have,
//! and made into the members of layers.

use std::fs;
use std::path::{Path, PathBuf};

use super::Engine;
use super::execute::{UnitError, text};
use crate::archive::deb::{UnpackOptions, unpack_deb};
use crate::archive::exclude::Exclude;
use crate::image::filesystem::Filesystem;
use crate::image::root;
use crate::image::scripts::{Subject, judge};
use crate::image::settle::{RECORD, Record, Root};
use crate::model::action::RootOptions;
use crate::model::package::Package;
use crate::store::normalise;

/// Unpacks packages that are in the store. Scripts that nobody knows are told all at once.
pub fn unpack(
    engine: &Engine,
    packages: &[Package],
    options: &RootOptions,
    out: &Path,
) -> Result<(), UnitError> {
    let exclude = Exclude { sets: options.sets.clone(), patterns: options.patterns.clone() };
    let unpack = UnpackOptions { exclude, relative_links: false };
    let mut record = Record::default();
    let mut refusals = Vec::new();
    // Where scanners of images without a package manager look.
    let status = out.join("var/lib/dpkg/status.d");
    for package in packages {
        let deb = engine.store.blob_path(&package.sha256);
        let control =
            unpack_deb(&deb, out, &unpack).map_err(|error| format!("{package}: {error}"))?;
        fs::create_dir_all(&status).map_err(text)?;
        fs::write(status.join(&package.name), &control.stanza).map_err(text)?;
        fs::write(status.join(format!("{}.md5sums", package.name)), &control.md5sums)
            .map_err(text)?;
        record.owners.extend(control.owners);
        if options.ignored_scripts.contains(&package.name) {
            continue;
        }
        let subject = Subject {
            package: &package.name,
            version: &package.version,
            architecture: &package.architecture,
        };
        for (name, script) in &control.scripts {
            match judge(subject, name, script) {
                Ok(found) => {
                    let found = found.into_iter().map(|done| (package.name.clone(), done));
                    record.operations.extend(found);
                }
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        }
    }
    if !refusals.is_empty() {
        return Err(refusals.join("\n").into());
    }
    let place = out.join(RECORD);
    fs::write(&place, serde_json::to_vec(&record).map_err(text)?).map_err(text)?;
    // Files written here get what any umask would leave; packages' own modes are theirs.
    normalise(&place).map_err(text)?;
    if !packages.is_empty() {
        normalise(&out.join("var/lib/dpkg")).map_err(text)?;
    }
    Ok(())
}

fn read(tree: &Path) -> Result<(Filesystem, Record), String> {
    let place = tree.join(RECORD);
    let bytes =
        fs::read(&place).map_err(|error| format!("cannot read {}: {error}", place.display()))?;
    let record = serde_json::from_slice(&bytes).map_err(text)?;
    Ok((Filesystem::from_folder(tree).map_err(text)?, record))
}

/// Members of a layer of a `root` that grows in stages: those of the last, which the layers
/// below have not.
pub fn members(
    trees: &[PathBuf],
    mut root: Root,
    stages: &[usize],
    apart: usize,
) -> Result<Filesystem, String> {
    let mut below = Filesystem::default();
    let mut left = trees;
    for (stage, count) in stages.iter().enumerate() {
        let (here, later) = left.split_at_checked(*count).ok_or("a stage lacks a tree")?;
        left = later;
        let is_last = stage + 1 == stages.len();
        let mut operations = Vec::new();
        if is_last {
            below = root.files.clone();
        }
        for (index, tree) in here.iter().enumerate() {
            let (files, record) = read(tree)?;
            if is_last && index < apart {
                let apart = as_it_is(files.clone(), &record)?;
                below.nodes.extend(apart.nodes);
            }
            root.unpack(files, &record);
            operations.extend(record.operations);
        }
        operations.sort_by(|(one, _), (other, _)| one.cmp(other));
        root.settle(&operations)?;
    }
    if let ([], [tree]) = (stages, trees) {
        let (files, record) = read(tree)?;
        return as_it_is(files, &record);
    }
    Ok(root.above(&below))
}

/// The files of a tree, before scripts.
fn as_it_is(files: Filesystem, record: &Record) -> Result<Filesystem, String> {
    let mut only = Root::default();
    only.unpack(files, record);
    root::trust(&mut only.files).map_err(text)?;
    only.files.add_parents();
    Ok(only.files)
}
