//! Records: what a key gave. Written after the tree that they name is in place.
//!
//! A record keeps at which start of the machine it was written. One of another start is
//! suspect, because the machine may have stopped without writing its files: the tree is hashed
//! before its bytes are used, once, and the record is written anew. A digest alone may be used
//! at once, which is all that most units of a build are asked for.

use std::fs;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, describe, guard, write_atomically};
use crate::model::Digest;

/// The result of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Digest of the output tree.
    pub output: Digest,
    /// Sum of the sizes of its files.
    pub size_bytes: u64,
    /// Digest of the blob with what was observed beside the output, if there is one.
    pub observed: Option<Digest>,
}

/// What is told about a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Name of the unit in the project that made it.
    pub unit: String,
    /// What the unit is, in one word.
    pub kind: String,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Whether it was made without what compilers had kept of earlier builds.
    pub is_clean: bool,
    /// Memory that the largest process of it took, in bytes; 0 where that is not known.
    #[serde(default)]
    pub largest_bytes: u64,
}

/// A record as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub output: Digest,
    pub size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Digest>,
    #[serde(default)]
    pub about: About,
    /// The start of the machine at which the tree was known to be whole.
    #[serde(default)]
    pub boot: String,
    /// Whether the tree may not be there: somebody who is trusted said what it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_promise: bool,
}

impl Kept {
    pub(super) fn record(&self) -> Record {
        Record { output: self.output, size_bytes: self.size_bytes, observed: self.observed }
    }
}

impl Store {
    /// The result for `key`, if it is there. Its bytes may be used after [`Store::prove`].
    pub fn record(&self, key: &Digest) -> Option<Record> {
        let mut file = fs::File::open(self.record_path(key)).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        let observed = kept.observed.map(|observed| self.blob_path(&observed));
        if !self.tree_path(&kept.output).is_dir() || observed.is_some_and(|blob| !blob.is_file()) {
            return None;
        }
        self.mark(&file);
        if kept.boot != *self.boot {
            guard(&self.suspects).entry(kept.output).or_default().insert(*key);
        }
        Some(kept.record())
    }

    /// What the result for `key` is, whose tree may not be there, as far as somebody who is
    /// trusted said so.
    pub fn promise(&self, key: &Digest) -> Option<Record> {
        let kept = self.kept(key).filter(|kept| kept.is_promise)?;
        let observed = kept.observed.map(|observed| self.blob_path(&observed));
        if observed.is_some_and(|blob| !blob.is_file()) {
            return None;
        }
        Some(kept.record())
    }

    /// Remembers what the result for `key` is, without its tree.
    pub fn put_promise(
        &self,
        key: &Digest,
        record: &Record,
        about: &About,
    ) -> Result<(), StoreError> {
        let Record { output, size_bytes, observed } = *record;
        // Of no start of the machine: a tree that is there by chance is looked at.
        let (about, boot) = (about.clone(), String::new());
        let kept = Kept { output, size_bytes, observed, about, boot, is_promise: true };
        self.write_record(key, &kept)
    }

    /// What is told about the result for `key`.
    pub fn about(&self, key: &Digest) -> Option<About> {
        Some(self.kept(key)?.about)
    }

    pub(super) fn kept(&self, key: &Digest) -> Option<Kept> {
        serde_json::from_slice(&fs::read(self.record_path(key)).ok()?).ok()
    }

    /// Remembers the result for `key`.
    pub fn put_record(
        &self,
        key: &Digest,
        record: &Record,
        about: &About,
    ) -> Result<(), StoreError> {
        let Record { output, size_bytes, observed } = *record;
        let boot = self.boot.to_string();
        let (about, is_promise) = (about.clone(), false);
        self.write_record(key, &Kept { output, size_bytes, observed, about, boot, is_promise })
    }

    pub(super) fn write_record(&self, key: &Digest, kept: &Kept) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(kept).expect("a record has string keys only");
        write_atomically(&self.record_path(key), &bytes)
    }

    /// Whether the bytes of a result are what its record says; hashes them only if the record
    /// is of another start of the machine. What is damaged is removed, and there is no such
    /// result any more.
    pub fn prove(&self, record: &Record) -> Result<bool, StoreError> {
        // Held while hashing: what several units need is hashed once.
        let mut suspects = guard(&self.suspects);
        let Some(keys) = suspects.get(&record.output).cloned() else { return Ok(true) };
        let is_whole = self.hash(record)?;
        suspects.remove(&record.output);
        for key in keys.iter().filter(|_| is_whole) {
            if let Some(kept) = self.kept(key).filter(|kept| kept.output == record.output) {
                let boot = self.boot.to_string();
                self.write_record(key, &Kept { boot, is_promise: false, ..kept })?;
            }
        }
        Ok(is_whole)
    }

    /// The same for a result whose bytes are read as a whole anyway: they are hashed unless
    /// this process made or hashed them.
    pub fn prove_fully(&self, record: &Record) -> Result<bool, StoreError> {
        Ok(self.prove(record)? && self.hash(record)?)
    }

    fn hash(&self, record: &Record) -> Result<bool, StoreError> {
        if let Some(observed) = &record.observed
            && !matches!(self.blob(observed), super::Found::Whole(_))
        {
            return Ok(false);
        }
        if guard(&self.proven).contains(&record.output) {
            return Ok(true);
        }
        let place = self.tree_path(&record.output);
        // What cannot be read is as bad as what is wrong.
        if describe(&place).is_ok_and(|tree| tree.digest() == record.output) {
            guard(&self.proven).insert(record.output);
            return Ok(true);
        }
        if place.is_dir() {
            self.discard(&place)?;
        }
        Ok(false)
    }
}
