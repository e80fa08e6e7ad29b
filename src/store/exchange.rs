//! Results in a folder of their own, for machines that are to have them without making them.
//!
//! | path | holds |
//! |---|---|
//! | `xstitch-cache.json` | what this is; written last, as complete |
//! | `records/KEY` | what a key gave |
//! | `trees/DIGEST` | the description of a tree, whose digest is its name |
//! | `blobs/DI/DIGEST` | a file of trees, or a blob |
//!
//! A file that several trees have is there once, and one that is there already stays, so that
//! exporting again writes what is new only.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::records::Kept;
use super::usage::names;
use super::write::sweep_beside;
use super::{Found, Store, StoreError, copy_file, describe, doing, write_atomically};
use crate::machine::disk;
use crate::model::{Digest, Entry, Tree};

/// The file that says that a folder is such a one.
pub const MARKER: &str = "xstitch-cache.json";

/// What [`MARKER`] says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub format: String,
    pub version: u32,
    pub complete: bool,
    /// Blobs that are wanted for themselves.
    pub blobs: BTreeSet<Digest>,
}

impl Marker {
    fn new(complete: bool, blobs: &BTreeSet<Digest>) -> Self {
        Self { format: "xstitch-cache".into(), version: 1, complete, blobs: blobs.clone() }
    }
}

/// What is to be exported.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Keys of results.
    pub keys: Vec<Digest>,
    /// Other blobs.
    pub blobs: BTreeSet<Digest>,
}

/// What a folder holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Version of this format.
    pub version: u32,
    /// The folder.
    pub folder: PathBuf,
    /// Results.
    pub results: usize,
    /// Results that were left out, because compilers made them with what they had kept of
    /// earlier builds.
    pub unclean: usize,
    /// Units that have no result.
    pub missing: usize,
    /// Results that are known, but not here, because nothing here needed them.
    pub elsewhere: usize,
    /// Files that are there.
    pub files: usize,
    /// Their size in bytes.
    pub size_bytes: u64,
    /// Of these files, those that were written now.
    pub files_new: usize,
    /// Files that nothing needs any more, which were removed.
    pub files_removed: usize,
}

/// Why results were not exported or imported.
#[derive(Debug)]
pub enum ExchangeError {
    /// The folder is something else.
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Why it is not what it should be.
        why: String,
    },
    /// A file of the folder is not what its name says.
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// A file cannot be read or written.
    Store(StoreError),
}

impl From<StoreError> for ExchangeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { folder, why } => {
                write!(f, "{} is no exported cache: {why}", folder.display())
            }
            Self::Damaged { path, why } => write!(f, "{} is damaged: {why}", path.display()),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ExchangeError {}

/// Reads the marker of a folder; `None` if the folder is empty or not there.
pub(super) fn marker(folder: &Path) -> Result<Option<Marker>, ExchangeError> {
    let foreign =
        |why: &str| ExchangeError::Foreign { folder: folder.to_owned(), why: why.to_owned() };
    let text = match fs::read(folder.join(MARKER)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if folder.exists() && (!folder.is_dir() || !names(folder).is_empty()) {
                return Err(foreign(&format!("it has no {MARKER}")));
            }
            return Ok(None);
        }
        Err(error) => return Err(doing("read", &folder.join(MARKER))(error).into()),
    };
    let marker: Marker = serde_json::from_slice(&text)
        .map_err(|error| foreign(&format!("{MARKER} says something else ({error})")))?;
    if marker.format != "xstitch-cache" || marker.version != 1 {
        return Err(foreign(&format!("it is of version {} of the format", marker.version)));
    }
    Ok(Some(marker))
}

/// Where an exported folder has a file.
pub(super) fn blob_place(folder: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    folder.join("blobs").join(&hex[..2]).join(hex)
}

impl Store {
    /// Makes `folder` hold these results and blobs and nothing else. Results that are not there
    /// or damaged are counted as missing.
    pub fn export(&self, folder: &Path, wanted: &Wanted) -> Result<Exported, ExchangeError> {
        marker(folder)?;
        for name in ["records", "trees", "blobs"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(doing("create", &path))?;
        }
        // Whoever is stopped half way leaves a folder that is refused.
        write_marker(folder, &Marker::new(false, &wanted.blobs))?;
        let mut export = Export { store: self, folder, kept: BTreeSet::new(), new: 0 };
        let mut exported =
            Exported { version: 1, folder: folder.to_owned(), ..Exported::default() };
        let mut blobs = BTreeSet::new();
        let mut records = Vec::new();
        for key in &wanted.keys {
            if self.promise(key).is_some() && self.record(key).is_none() {
                exported.elsewhere += 1;
                continue;
            }
            let Some(kept) = self.record(key).and_then(|_| self.kept(key)) else {
                exported.missing += 1;
                continue;
            };
            // What made others stays what it was: their keys have only its digest.
            if kept.about.kind == "compile" && !kept.about.is_clean || kept.about.kind.is_empty() {
                exported.unclean += 1;
                continue;
            }
            if !export.tree(&kept)? {
                exported.missing += 1;
                continue;
            }
            blobs.extend(kept.observed);
            records.push((key, kept));
        }
        blobs.extend(&wanted.blobs);
        for blob in &blobs {
            if let Found::Whole(file) = self.blob(blob) {
                export.file(&file, blob)?;
            }
        }
        for (key, kept) in records {
            let kept = Kept { boot: String::new(), is_promise: false, ..kept };
            let json = serde_json::to_vec(&kept).expect("a record has string keys only");
            export.text(folder.join("records").join(key.hex()), &json)?;
            exported.results += 1;
        }
        let there = |digest: &&Digest| blob_place(folder, digest).is_file();
        let blobs = wanted.blobs.iter().filter(there).copied().collect();
        exported.files_removed = export.remove_others()?;
        write_marker(folder, &Marker::new(true, &blobs))?;
        exported.files = export.kept.len();
        exported.files_new = export.new;
        let sizes = export.kept.iter().map(|file| fs::metadata(file).map_or(0, |file| file.len()));
        exported.size_bytes = sizes.sum();
        Ok(exported)
    }
}

fn write_marker(folder: &Path, marker: &Marker) -> Result<(), StoreError> {
    let mut json = serde_json::to_vec_pretty(marker).expect("a marker has string keys only");
    json.push(b'\n');
    let place = folder.join(MARKER);
    if fs::read(&place).is_ok_and(|there| there == json) {
        return Ok(());
    }
    write_atomically(&place, &json)
}

/// A folder on its way.
struct Export<'a> {
    store: &'a Store,
    folder: &'a Path,
    /// Files that are wanted and there.
    kept: BTreeSet<PathBuf>,
    new: usize,
}

impl Export<'_> {
    /// Adds a tree; false if what the store has is damaged, and was removed.
    fn tree(&mut self, kept: &Kept) -> Result<bool, ExchangeError> {
        let place = self.folder.join("trees").join(kept.output.hex());
        if self.kept.contains(&place) || self.keep_tree(&place, &kept.output) {
            return Ok(true);
        }
        let tree_path = self.store.tree_path(&kept.output);
        let tree = describe(&tree_path)?;
        if tree.digest() != kept.output {
            self.store.discard(&tree_path)?;
            return Ok(false);
        }
        for (path, entry) in &tree.entries {
            if let Entry::File { digest, .. } = entry {
                self.file(&tree_path.join(path), digest)?;
            }
        }
        self.text(place, &tree.to_json())?;
        Ok(true)
    }

    /// Keeps a tree that is there with all its files.
    fn keep_tree(&mut self, place: &Path, output: &Digest) -> bool {
        let tree = fs::read(place).ok().filter(|json| Digest::of(json) == *output);
        let Some(tree) = tree.and_then(|json| serde_json::from_slice::<Tree>(&json).ok()) else {
            return false;
        };
        let mut files = vec![place.to_owned()];
        for entry in tree.entries.values() {
            if let Entry::File { digest, size_bytes, .. } = entry {
                let file = blob_place(self.folder, digest);
                if !fs::metadata(&file).is_ok_and(|there| there.len() == *size_bytes) {
                    return false;
                }
                files.push(file);
            }
        }
        self.kept.extend(files);
        true
    }

    /// Adds a file of the store that has that digest.
    fn file(&mut self, from: &Path, digest: &Digest) -> Result<(), ExchangeError> {
        let place = blob_place(self.folder, digest);
        if self.kept.contains(&place) {
            return Ok(());
        }
        let size = |path: &Path| fs::metadata(path).map(|status| status.len()).ok();
        if size(&place).is_none() || size(&place) != size(from) {
            let parent = place.parent().unwrap_or(self.folder);
            fs::create_dir_all(parent).map_err(doing("create", parent))?;
            let new = parent.join(format!(".new-{}-", std::process::id()));
            let _ = fs::remove_file(&new);
            disk::clone_file(from, &new)
                .or_else(|_| fs::hard_link(from, &new))
                .or_else(|_| copy_file(from, &new).map(drop))
                .and_then(|()| fs::rename(&new, &place))
                .map_err(doing("write", &place))?;
            // Renaming one name of a file to another of its names does nothing.
            let _ = fs::remove_file(&new);
            self.new += 1;
        }
        self.kept.insert(place);
        Ok(())
    }

    fn text(&mut self, place: PathBuf, bytes: &[u8]) -> Result<(), ExchangeError> {
        if !fs::read(&place).is_ok_and(|there| there == bytes) {
            write_atomically(&place, bytes)?;
            self.new += 1;
        }
        self.kept.insert(place);
        Ok(())
    }

    /// Removes what has the name of a digest and is not wanted.
    fn remove_others(&self) -> Result<usize, ExchangeError> {
        let mut removed = 0;
        let blobs = names(&self.folder.join("blobs")).into_iter().map(|entry| entry.path());
        let folders = ["records", "trees"].map(|name| self.folder.join(name)).into_iter();
        for folder in folders.chain(blobs) {
            sweep_beside(&folder, &[".new-"]);
            for entry in names(&folder) {
                let path = entry.path();
                let is_ours = Digest::from_hex(&entry.file_name().to_string_lossy()).is_ok();
                if is_ours && !self.kept.contains(&path) {
                    fs::remove_file(&path).map_err(doing("remove", &path))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}
