//! Records: what a key gave. Written after the tree that they name is in place.

use std::fs;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, write_atomically};
use crate::model::Digest;

/// The result of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Digest of the output tree.
    pub output: Digest,
    /// Sum of the sizes of its files.
    pub size_bytes: u64,
    /// Digest of the blob with what was observed beside the output, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Digest>,
}

impl Store {
    /// The result for `key`, if it is there and whole.
    pub fn record(&self, key: &Digest) -> Option<Record> {
        let bytes = fs::read(self.record_path(key)).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        self.tree_path(&record.output).is_dir().then_some(record)
    }

    /// Remembers the result for `key`.
    pub fn put_record(&self, key: &Digest, record: &Record) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(record).expect("a record has string keys only");
        write_atomically(&self.record_path(key), &bytes)
    }

    fn record_path(&self, key: &Digest) -> std::path::PathBuf {
        self.root().join("records").join(key.hex())
    }
}
