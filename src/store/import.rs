//! Results taken from an exported folder, which may be damaged or made by an enemy.
//!
//! Every byte is hashed on its way into the store, paths cannot leave their tree, and records
//! are written when everything that any of them names is there. What a key gave cannot be
//! checked: who imports a folder trusts whoever wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::assemble::{Unfit, Wanted};
use super::exchange::{ExchangeError, blob_place, marker};
use super::records::Kept;
use super::usage::names;
use super::{Found, Store, copy_file, doing};
use crate::model::{Digest, Tree};

/// What was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Version of this format.
    pub version: u32,
    /// Results in the folder.
    pub results: usize,
    /// Of these, those that were not in the store.
    pub results_new: usize,
    /// Size of their files, in bytes.
    pub size_bytes: u64,
}

impl Store {
    /// Takes what an exported folder holds and the store does not.
    pub fn import(&self, folder: &Path) -> Result<Imported, ExchangeError> {
        let Some(marker) = marker(folder)? else {
            let why = if folder.exists() { "it is empty" } else { "it is not there" };
            return Err(ExchangeError::Foreign { folder: folder.to_owned(), why: why.into() });
        };
        if !marker.complete {
            let why = "its export was not finished".to_owned();
            return Err(ExchangeError::Foreign { folder: folder.to_owned(), why });
        }
        let mut imported = Imported { version: 1, ..Imported::default() };
        let mut records = Vec::new();
        for entry in names(&folder.join("records")) {
            let path = entry.path();
            let Ok(key) = Digest::from_hex(&entry.file_name().to_string_lossy()) else { continue };
            let kept: Kept = serde_json::from_slice(&read(&path)?)
                .map_err(|error| damaged(&path, error.to_string()))?;
            imported.results += 1;
            if self.record(&key).is_none() {
                imported.results_new += 1;
                imported.size_bytes += kept.size_bytes;
                records.push((key, kept));
            }
        }
        let mut import = Import { store: self, folder, files: BTreeMap::new() };
        let outputs: BTreeSet<Digest> = records.iter().map(|(_, kept)| kept.output).collect();
        for output in &outputs {
            import.tree(output)?;
        }
        let observed = records.iter().filter_map(|(_, kept)| kept.observed);
        for blob in observed.chain(marker.blobs).collect::<BTreeSet<_>>() {
            import.blob(&blob)?;
        }
        for (key, kept) in records {
            self.write_record(
                &key,
                &Kept { boot: self.boot().to_owned(), is_promise: false, ..kept },
            )?;
        }
        Ok(imported)
    }
}

fn damaged(path: &Path, why: String) -> ExchangeError {
    ExchangeError::Damaged { path: path.to_owned(), why }
}

/// Reads a regular file.
fn read(path: &Path) -> Result<Vec<u8>, ExchangeError> {
    let status = fs::symlink_metadata(path).map_err(|error| damaged(path, error.to_string()))?;
    if !status.is_file() {
        return Err(damaged(path, "it is no file".into()));
    }
    fs::read(path).map_err(|error| doing("read", path)(error).into())
}

/// A folder on its way into the store.
struct Import<'a> {
    store: &'a Store,
    folder: &'a Path,
    /// Files that are in the store by now, by digest and mode.
    files: BTreeMap<(Digest, u32), PathBuf>,
}

impl Import<'_> {
    fn tree(&mut self, output: &Digest) -> Result<(), ExchangeError> {
        let there = super::Record { output: *output, size_bytes: 0, observed: None };
        if self.store.tree_path(output).is_dir() && self.store.prove_fully(&there)? {
            return Ok(());
        }
        let path = self.folder.join("trees").join(output.hex());
        let json = read(&path)?;
        if Digest::of(&json) != *output {
            return Err(damaged(&path, "it is not what its name says".into()));
        }
        let tree: Tree =
            serde_json::from_slice(&json).map_err(|error| damaged(&path, error.to_string()))?;
        let mut own = BTreeMap::new();
        let (known, from) = (&self.files, &*self);
        let mut write = |file: Wanted<'_>, place: &Path| {
            let same = known.get(&(*file.digest, file.mode));
            // A file has only so many names.
            if same.is_none_or(|same| fs::hard_link(same, place).is_err()) {
                from.file(file.digest, Some(file.size_bytes), place)?;
                own.insert((*file.digest, file.mode), file.path.to_owned());
            }
            Ok(())
        };
        self.store.assemble(&tree, output, &mut write).map_err(|error| match error {
            Unfit::Name(name) => damaged(&path, format!("`{name}` is no path in a tree")),
            Unfit::Content(error) => error,
        })?;
        let place = self.store.tree_path(output);
        self.files.extend(own.into_iter().map(|(file, name)| (file, place.join(name))));
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> Result<(), ExchangeError> {
        if matches!(self.store.blob(digest), Found::Whole(_)) {
            return Ok(());
        }
        let scratch = self.store.scratch()?;
        let file = scratch.path().join("blob");
        self.file(digest, None, &file)?;
        self.store.adopt_blob(&file, digest)?;
        Ok(())
    }

    /// Copies a file to `to`, if its bytes have that digest.
    fn file(
        &self,
        digest: &Digest,
        size_bytes: Option<u64>,
        to: &Path,
    ) -> Result<(), ExchangeError> {
        let from = blob_place(self.folder, digest);
        let status =
            fs::symlink_metadata(&from).map_err(|error| damaged(&from, error.to_string()))?;
        if !status.is_file() || size_bytes.is_some_and(|size_bytes| size_bytes != status.len()) {
            return Err(damaged(&from, "it has not the size that it should have".into()));
        }
        let found = copy_file(&from, to).map_err(doing("copy", &from))?;
        if found != *digest {
            return Err(damaged(&from, "it is not what its name says".into()));
        }
        Ok(())
    }
}
