//! Removing what was not used for long.
//!
//! Records go first, then the trees and blobs that no record names: whatever ends this half
//! way, nothing is named that is not there. Deliberately absent: lists of packages and fetched
//! toolchains, which are few and asked for again at once.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::records::Kept;
use super::usage::names;
use super::{MARK_AGE, Store, StoreError, doing};
use crate::model::Digest;

/// What may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What everything together may take on the disk.
    pub keep_bytes: Option<u64>,
    /// How long it may be since something was used.
    pub unused: Option<Duration>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Version of this format.
    pub version: u32,
    /// Whether nothing was removed in truth.
    pub dry_run: bool,
    /// Results.
    pub results: usize,
    /// Downloaded files and documents.
    pub downloads: usize,
    /// Folders of compiler state.
    pub projects: usize,
    /// What they took on the disk.
    pub removed_bytes: u64,
    /// What is left.
    pub left_bytes: u64,
}

/// Something that is removed by itself.
enum Item {
    Result(Digest, Digest, Option<Digest>),
    Download(Digest),
    Project(PathBuf),
}

/// Sizes of folders with files of several names, each of which counts once.
#[derive(Default)]
struct Disk {
    /// Files by their number: size, and in how many of the folders they are.
    shared: HashMap<u64, (u64, u32)>,
    /// For each folder: what it has alone, and numbers of files that may be in others.
    folders: BTreeMap<PathBuf, (u64, Vec<u64>)>,
    bytes: u64,
}

impl Disk {
    fn add(&mut self, path: &Path) {
        let (mut own, mut shared) = (0, Vec::new());
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            let Ok(status) = fs::symlink_metadata(&path) else { continue };
            let bytes = status.blocks() * 512;
            if status.is_dir() {
                left.extend(names(&path).iter().map(fs::DirEntry::path));
                own += bytes;
            } else if status.nlink() > 1 {
                let entry = self.shared.entry(status.ino()).or_insert((bytes, 0));
                entry.1 += 1;
                if entry.1 == 1 {
                    self.bytes += bytes;
                }
                shared.push(status.ino());
            } else {
                own += bytes;
            }
        }
        self.bytes += own;
        self.folders.insert(path.to_owned(), (own, shared));
    }

    fn remove(&mut self, path: &Path) {
        let Some((own, shared)) = self.folders.remove(path) else { return };
        self.bytes -= own;
        for number in shared {
            if let Some(entry) = self.shared.get_mut(&number) {
                entry.1 -= 1;
                if entry.1 == 0 {
                    self.bytes -= entry.0;
                }
            }
        }
    }
}

impl Store {
    /// Removes what was least recently used until the rest is within `limits`, and what cannot
    /// be used at all. The store has to be held alone, unless this is a `dry_run`.
    pub fn collect(&self, limits: Limits, dry_run: bool) -> Result<Collected, StoreError> {
        let mut disk = Disk::default();
        let (trees, blobs) = (self.root().join("trees"), self.root().join("blobs"));
        for folder in [&trees, &blobs] {
            names(folder).iter().for_each(|entry| disk.add(&entry.path()));
        }
        for entry in names(&self.root().join("state")) {
            if entry.file_name() != "projects" {
                disk.add(&entry.path());
            }
        }
        let mut collected = Collected { version: 1, dry_run, ..Collected::default() };
        let (mut items, mut used) = (Vec::new(), BTreeMap::<PathBuf, usize>::new());
        // In this order: the first of them are records.
        let (mut records, mut rest) = (Vec::new(), Vec::new());
        for (key, last, kept) in self.records() {
            let is_there = |kept: &Kept| disk.folders.contains_key(&self.tree_path(&kept.output));
            // What is only known takes no room.
            if kept.as_ref().is_some_and(|kept| kept.is_promise && !is_there(kept)) {
                let age = self.opened.duration_since(last).unwrap_or_default();
                if limits.unused.is_some_and(|unused| age > unused + MARK_AGE) {
                    records.push(self.record_path(&key));
                }
                continue;
            }
            let kept = kept.filter(|kept| {
                disk.folders.contains_key(&self.tree_path(&kept.output))
                    && kept.observed.is_none_or(|blob| self.blob_path(&blob).is_file())
            });
            let Some(kept) = kept else {
                records.push(self.record_path(&key));
                continue;
            };
            *used.entry(self.tree_path(&kept.output)).or_default() += 1;
            if let Some(observed) = kept.observed {
                *used.entry(self.blob_path(&observed)).or_default() += 1;
            }
            items.push((last, Item::Result(key, kept.output, kept.observed)));
        }
        for entry in names(&blobs).into_iter().filter(|entry| !used.contains_key(&entry.path())) {
            let last = entry.metadata().and_then(|status| status.modified());
            match Digest::from_hex(&entry.file_name().to_string_lossy()) {
                Ok(blob) => {
                    items.push((last.unwrap_or(SystemTime::UNIX_EPOCH), Item::Download(blob)));
                }
                Err(_) => rest.push(entry.path()),
            }
        }
        rest.extend(
            names(&trees).iter().map(fs::DirEntry::path).filter(|tree| !used.contains_key(tree)),
        );
        for (state, uses, last) in self.projects() {
            disk.add(&state);
            // What an earlier version left does not say whose it is.
            let is_gone = !uses.folder.as_os_str().is_empty() && !uses.folder.is_dir();
            if is_gone {
                collected.projects += 1;
                rest.push(state);
            } else {
                items.push((last, Item::Project(state)));
            }
        }
        let before = disk.bytes;
        rest.iter().for_each(|path| disk.remove(path));
        items.sort_by_key(|(last, _)| *last);
        let mut release = |disk: &mut Disk, path: PathBuf, rest: &mut Vec<PathBuf>| {
            let users = used.entry(path.clone()).or_default();
            *users = users.saturating_sub(1);
            if *users == 0 {
                disk.remove(&path);
                rest.push(path);
            }
        };
        for (last, item) in items {
            let age = self.opened.duration_since(last).unwrap_or_default();
            // A mark may be that old although the thing was used since.
            let is_old = limits.unused.is_some_and(|unused| age > unused + MARK_AGE);
            let is_large = limits.keep_bytes.is_some_and(|keep| disk.bytes > keep);
            if !is_old && !is_large {
                continue;
            }
            match item {
                Item::Result(key, output, observed) => {
                    collected.results += 1;
                    records.push(self.record_path(&key));
                    release(&mut disk, self.tree_path(&output), &mut rest);
                    if let Some(observed) = observed {
                        release(&mut disk, self.blob_path(&observed), &mut rest);
                    }
                }
                Item::Download(blob) => {
                    collected.downloads += 1;
                    release(&mut disk, self.blob_path(&blob), &mut rest);
                }
                Item::Project(state) => {
                    collected.projects += 1;
                    release(&mut disk, state, &mut rest);
                }
            }
        }
        collected.left_bytes = disk.bytes;
        collected.removed_bytes = before - disk.bytes;
        if !dry_run {
            for record in records {
                fs::remove_file(&record).map_err(doing("remove", &record))?;
            }
            for path in rest {
                self.discard(&path)?;
            }
            self.sweep_leftovers();
        }
        Ok(collected)
    }

    /// Removes what killed processes left, and scripts that start programs of trees that are
    /// gone.
    fn sweep_leftovers(&self) {
        for entry in names(&self.root().join("records")) {
            if entry.file_name().to_string_lossy().starts_with(".new-") {
                let _ = fs::remove_file(entry.path());
            }
        }
        for entry in names(&self.root().join("locks")) {
            if entry.file_name() != "store" {
                let _ = fs::remove_file(entry.path());
            }
        }
        for entry in names(&self.state("programs")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let tree = name.split('-').next().unwrap_or_default();
            if !self.root().join("trees").join(tree).is_dir() {
                let _ = self.discard(&entry.path());
            }
        }
    }
}
