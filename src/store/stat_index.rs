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
        self.learned(path, "", |_| true, || hash_file(path).map(|(digest, _)| digest))
    }

    /// The same for whoever looked at the file already: `status` is what it saw, before.
    pub fn digest_of(&mut self, path: &Path, status: &fs::Metadata) -> io::Result<Digest> {
        self.look_up(path, "", status, |_| true, || hash_file(path).map(|(digest, _)| digest))
    }

    /// The digest of something else that the file's bytes alone decide, named by `what`.
    /// `learn` reads them, if the status is not known or what was learned is of no use.
    pub fn learned<E>(
        &mut self,
        path: &Path,
        what: &str,
        is_useful: impl FnOnce(&Digest) -> bool,
        learn: impl FnOnce() -> Result<Digest, E>,
    ) -> Result<Digest, E> {
        match fs::metadata(path) {
            Ok(status) => self.look_up(path, what, &status, is_useful, learn),
            Err(_) => learn(),
        }
    }

    fn look_up<E>(
        &mut self,
        path: &Path,
        what: &str,
        status: &fs::Metadata,
        is_useful: impl FnOnce(&Digest) -> bool,
        learn: impl FnOnce() -> Result<Digest, E>,
    ) -> Result<Digest, E> {
        let mut name = path.to_string_lossy().into_owned();
        if !what.is_empty() {
            // No path has this in it.
            name = format!("{name}\0{what}");
        }
        if let Some(known) = self.known.get(&name)
            && known.0 == status.len()
            && (known.1, known.2) == (status.mtime(), status.mtime_nsec())
            && (known.3, known.4) == (status.ctime(), status.ctime_nsec())
            && known.5 == status.ino()
            && is_useful(&known.6)
        {
            return Ok(known.6);
        }
        let digest = learn()?;
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
            self.known.insert(name, entry);
        } else {
            self.known.remove(&name);
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
        let mut again = StatIndex::open(&file, written + 2 * TICK_NANOS);
        assert_eq!(again.known, index.known);
        let learned = |index: &mut StatIndex, what: &str, useful: bool, text: &str| {
            let learn = || Ok::<_, ()>(Digest::of(text.as_bytes()));
            index.learned(&source, what, |_| useful, learn).unwrap()
        };
        assert_eq!(learned(&mut again, "a", true, "of a"), Digest::of(b"of a"));
        assert_eq!(learned(&mut again, "a", true, "more"), Digest::of(b"of a"));
        assert_eq!(learned(&mut again, "b", true, "of b"), Digest::of(b"of b"));
        assert_eq!(learned(&mut again, "a", false, "new"), Digest::of(b"new"));
        assert_eq!(again.digest(&source).unwrap(), Digest::of(b"one"));
    }
}
