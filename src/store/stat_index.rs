//! The stat index: what a file's bytes hashed to when it last looked like this.
//!
//! An entry as new as the moment at which it was taken is not kept: the file could
//! change again within the same tick of the file system's clock.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::trees::hash_file;
use super::{StoreError, write_atomically};
use crate::model::Digest;

/// A file system's clock ticks at least this often.
const TICK_NANOS: i128 = 20_000_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known(u64, i64, i64, i64, i64, u64, Digest);

/// Digests of files by path and status.
#[derive(Debug, Default)]
pub struct StatIndex {
    file: PathBuf,
    known: BTreeMap<String, Known>,
    changed: bool,
    started_nanos: i128,
}

impl StatIndex {
    /// Reads the index from `file`; one that is missing or damaged is empty.
    /// `now_nanos` is the present time since 1970.
    pub fn open(file: &Path, now_nanos: i128) -> Self {
        let known = fs::read(file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self { file: file.to_owned(), known, changed: false, started_nanos: now_nanos }
    }

    /// The digest of the file's bytes; reads them only if the status is not known.
    pub fn digest(&mut self, path: &Path) -> io::Result<Digest> {
        let status = fs::metadata(path)?;
        let name = path.to_string_lossy();
        if let Some(known) = self.known.get(name.as_ref())
            && known.0 == status.len()
            && (known.1, known.2) == (status.mtime(), status.mtime_nsec())
            && (known.3, known.4) == (status.ctime(), status.ctime_nsec())
            && known.5 == status.ino()
        {
            return Ok(known.6);
        }
        let (digest, _) = hash_file(path)?;
        let newest = nanos(status.ctime(), status.ctime_nsec())
            .max(nanos(status.mtime(), status.mtime_nsec()));
        self.changed = true;
        if newest + TICK_NANOS < self.started_nanos {
            let entry = Known(
                status.len(),
                status.mtime(),
                status.mtime_nsec(),
                status.ctime(),
                status.ctime_nsec(),
                status.ino(),
                digest,
            );
            self.known.insert(name.into_owned(), entry);
        } else {
            self.known.remove(name.as_ref());
        }
        Ok(digest)
    }

    /// Writes the index back if it changed.
    pub fn save(&self) -> Result<(), StoreError> {
        if !self.changed {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&self.known).expect("an index has string keys only");
        write_atomically(&self.file, &bytes)
    }
}

fn nanos(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_entries_are_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (file, source) = (folder.path().join("index"), folder.path().join("a"));
        fs::write(&source, "one").unwrap();
        let status = fs::metadata(&source).unwrap();
        let written = nanos(status.mtime(), status.mtime_nsec());
        let mut index = StatIndex::open(&file, written);
        assert_eq!(index.digest(&source).unwrap(), Digest::of(b"one"));
        assert!(index.known.is_empty());
        let mut index = StatIndex::open(&file, written + 2 * TICK_NANOS);
        assert_eq!(index.digest(&source).unwrap(), Digest::of(b"one"));
        assert_eq!(index.known.len(), 1);
        index.save().unwrap();
        let again = StatIndex::open(&file, written + 2 * TICK_NANOS);
        assert_eq!(again.known, index.known);
    }
}
