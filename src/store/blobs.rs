//! Blobs: files by the digest of their bytes.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Store, StoreError, doing, guard, trees};
use crate::model::Digest;

/// What was found in the place of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The blob, whose bytes were hashed in this process.
    Whole(PathBuf),
    /// Other bytes, which were removed.
    Damaged(PathBuf),
    /// Nothing.
    Nothing,
}

impl Store {
    /// Looks for a blob, hashes it at its first use in this process and removes it if it is
    /// damaged: that a name exists proves nothing.
    pub fn blob(&self, digest: &Digest) -> Found {
        let place = self.blob_path(digest);
        let Ok(file) = fs::File::open(&place) else { return Found::Nothing };
        if !guard(&self.proven).contains(digest) {
            if !trees::hash_file(&place).is_ok_and(|(found, _)| found == *digest) {
                let _ = fs::remove_file(&place);
                return Found::Damaged(place);
            }
            guard(&self.proven).insert(*digest);
        }
        self.mark(&file);
        Found::Whole(place)
    }

    /// Moves a file that is known to have `digest` into the store.
    pub fn adopt_blob(&self, file: &Path, digest: &Digest) -> Result<PathBuf, StoreError> {
        let place = self.blob_path(digest);
        trees::set_mode(file, 0o444)?;
        // Downloaders like to give files the times that servers tell.
        let _ = fs::File::open(file).and_then(|file| file.set_modified(self.opened));
        fs::rename(file, &place).map_err(doing("move a file into the store at", &place))?;
        guard(&self.proven).insert(*digest);
        Ok(place)
    }
}
