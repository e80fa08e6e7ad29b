//! The store: blobs, trees and records under one cache folder, each trusted only once whole.
//!
//! Everything is written to scratch and renamed into place. A record names trees by
//! digest and is written last, so that killing the process at any instant leaves either
//! a whole result or none. What a machine that lost its power leaves may have names and no
//! content: what was kept before the last start is hashed before its bytes are used.
//! Deliberately absent: what a key is made of.

mod assemble;
mod blobs;
mod collect;
mod exchange;
mod import;
mod locks;
mod records;
mod scratch;
mod stat_index;
mod trees;
mod usage;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use assemble::{Unfit, Wanted as WantedFile};
pub use blobs::Found;
pub use collect::{Collected, Limits};
pub use exchange::{ExchangeError, Exported, MARKER, Wanted};
pub use import::Imported;
pub use locks::{Claim, Stopped, lock_file};
pub use records::{About, Record};
pub use stat_index::StatIndex;
pub use trees::{copy_file, describe, duplicate, hash_file, normalise};
pub use usage::{KindUsage, PROJECT_FILE, ProjectUsage, ProjectUses, Usage};
pub use write::{sweep_beside, write_atomically, write_durably};

use crate::machine::environment::{boot_id, now_nanos};
use crate::model::Digest;

/// Version of the folder layout; another version is another folder.
const VERSION: &str = "v1";

/// What a user can do about a full disk.
pub const NO_SPACE_HELP: &str = "free some space, or move the cache with XSTITCH_CACHE";

/// A result that is used again is marked as used if its mark is older than this, so that
/// builds do not write for each result each time.
const MARK_AGE: Duration = Duration::from_secs(60 * 60);

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// This start of the machine.
    boot: Arc<str>,
    opened: SystemTime,
    scratch: Arc<Mutex<Option<scratch::Session>>>,
    /// Trees that records of other starts of the machine name, with the keys of those.
    suspects: Arc<Mutex<BTreeMap<Digest, BTreeSet<Digest>>>>,
    /// Trees and blobs that this process made or hashed.
    proven: Arc<Mutex<BTreeSet<Digest>>>,
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

/// What a lock guards stays usable after a panic elsewhere.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store below `cache`, making its folders.
    pub fn open(cache: &Path) -> Result<Self, StoreError> {
        let now = u64::try_from(now_nanos()).unwrap_or(u64::MAX);
        let store = Self {
            root: cache.join(VERSION),
            boot: boot_id().into(),
            opened: UNIX_EPOCH + Duration::from_nanos(now),
            scratch: Arc::default(),
            suspects: Arc::default(),
            proven: Arc::default(),
        };
        for folder in ["blobs", "trees", "records", "scratch", "state", "locks"] {
            let path = store.root.join(folder);
            fs::create_dir_all(&path).map_err(doing("create the cache folder", &path))?;
        }
        store.sweep();
        Ok(store)
    }

    /// The folder of this version of the store below `cache`.
    pub fn place(cache: &Path) -> PathBuf {
        cache.join(VERSION)
    }

    /// The folder of this version of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// This start of the machine.
    pub fn boot(&self) -> &str {
        &self.boot
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

    fn record_path(&self, key: &Digest) -> PathBuf {
        self.root.join("records").join(key.hex())
    }

    /// Writes `bytes` to `path` so that a reader sees the old file or the new one.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        write_atomically(path, bytes)
    }

    /// Marks a file as used now, unless that was done lately.
    fn mark(&self, file: &fs::File) {
        let marked = file.metadata().and_then(|status| status.modified());
        let age = marked.ok().and_then(|marked| self.opened.duration_since(marked).ok());
        if age.is_none_or(|age| age > MARK_AGE) {
            // A store that cannot be written is collected by whoever can.
            let _ = file.set_modified(self.opened);
        }
    }
}

#[cfg(test)]
mod tests;
