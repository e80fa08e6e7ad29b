//! The store: blobs, trees and records under one cache folder, each trusted only once whole.
//!
//! Everything is written to scratch and renamed into place. A record names trees by
//! digest and is written last, so that killing the process at any instant leaves either
//! a whole result or none. Deliberately absent: what a key is made of, and eviction.

mod records;
mod stat_index;
mod trees;

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use records::Record;
pub use stat_index::StatIndex;
pub use trees::{copy_file, describe, duplicate, hash_file, normalise};

use crate::model::Digest;

/// Version of the folder layout; another version is another folder.
const VERSION: &str = "v1";

/// What a user can do about a full disk.
pub const NO_SPACE_HELP: &str = "free some space, or move the cache with XSTITCH_CACHE";

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A failure of the file system below the store.
#[derive(Debug)]
pub struct StoreError {
    /// What was being done.
    pub doing: &'static str,
    /// To which path.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.path.display(), self.source)?;
        let help = match self.source.kind() {
            io::ErrorKind::StorageFull => NO_SPACE_HELP,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "point XSTITCH_CACHE at a folder that can be written"
            }
            _ => return Ok(()),
        };
        write!(f, "\n  help: {help}")
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Adds what was being done to an input or output error.
pub(crate) fn doing<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError { doing, path: path.to_owned(), source }
}

impl Store {
    /// Opens the store below `cache`, making its folders.
    pub fn open(cache: &Path) -> Result<Self, StoreError> {
        let store = Self { root: cache.join(VERSION) };
        for folder in ["blobs", "trees", "records", "scratch", "state"] {
            let path = store.root.join(folder);
            fs::create_dir_all(&path).map_err(doing("create the cache folder", &path))?;
        }
        store.sweep();
        Ok(store)
    }

    /// The folder of this version of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for things that are neither results nor scratch, such as apt's lists.
    pub fn state(&self, name: &str) -> PathBuf {
        self.root.join("state").join(name)
    }

    /// Where the blob of that digest is or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    /// Where the tree of that digest is or would be.
    pub fn tree_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("trees").join(digest.hex())
    }

    /// A new empty scratch folder, on the store's own file system, removed when dropped.
    pub fn scratch(&self) -> Result<tempfile::TempDir, StoreError> {
        let path = self.root.join("scratch");
        tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(&path)
            .map_err(doing("create a scratch folder in", &path))
    }

    /// Moves a file that is known to have `digest` into the store.
    pub fn adopt_blob(&self, file: &Path, digest: &Digest) -> Result<PathBuf, StoreError> {
        let place = self.blob_path(digest);
        trees::set_mode(file, 0o444)?;
        fs::rename(file, &place).map_err(doing("move a file into the store at", &place))?;
        Ok(place)
    }

    /// Writes `bytes` to `path` so that a reader sees the old file or the new one.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        write_atomically(path, bytes)
    }

    /// Removes scratch that processes left which are gone.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("scratch")) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.split('-').next());
            let gone = owner.is_none_or(|pid| !Path::new("/proc").join(pid).exists());
            if gone {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Writes `bytes` beside `path` and renames: a reader sees the old file or the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(doing("create", folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder)
        .map_err(doing("write in", folder))?;
    file.write_all(bytes).map_err(doing("write", path))?;
    trees::set_mode(file.path(), 0o644)?;
    file.persist(path).map_err(|error| doing("write", path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entry, Tree};

    #[test]
    fn trees_are_kept_by_content_and_records_only_when_whole() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let scratch = store.scratch().unwrap();
        let folder = scratch.path().join("out");
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::write(folder.join("bin/x"), "hello").unwrap();
        let (digest, tree) = store.adopt_tree(&folder).unwrap();
        assert!(matches!(tree.entries["bin/x"], Entry::File { size_bytes: 5, .. }));
        assert_eq!(Tree::digest(&tree), digest);
        let key = Digest::of(b"key");
        assert_eq!(store.record(&key), None);
        store.put_record(&key, &Record { output: digest, size_bytes: 5, observed: None }).unwrap();
        assert!(store.record(&key).is_some());
        trees::remove(&store.tree_path(&digest)).unwrap();
        assert_eq!(store.record(&key), None, "a record without its tree is no result");
    }

    #[test]
    fn scratch_of_dead_processes_is_swept() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let stale = store.root().join("scratch/4194999-x");
        fs::create_dir_all(&stale).unwrap();
        Store::open(cache.path()).unwrap();
        assert!(!stale.exists());
    }
}
