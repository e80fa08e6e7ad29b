//! Package lists of an archive as files, read only as far as their release file goes.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::refusal::{MirrorError, PackageError};
use super::release_file::Release;
use crate::archive::compression::decoder;
use crate::model::{Digest, Hasher};

/// A list is not larger when it is unpacked, whatever its archive says.
const LIST_BYTES_AT_MOST: u64 = 1 << 30;

/// What to do about a file that is not what its release file says.
pub const BEING_UPDATED: &str = "a mirror that is being updated is whole again later; if it stays, \
                             use another one";

/// A file of an archive that is not to be believed.
pub fn refuse(archive: &str, file: &str, text: String, help: Option<&str>) -> PackageError {
    PackageError::Mirror(Box::new(MirrorError {
        archive: archive.to_owned(),
        file: file.to_owned(),
        text,
        help: help.map(ToOwned::to_owned),
        is_remote: false,
    }))
}

/// A package list of an archive, downloaded.
#[derive(Debug)]
pub struct ListFile {
    /// The file, compressed.
    pub path: PathBuf,
    /// The release file that vouches for it.
    pub release: Arc<Release>,
    /// The archive, for people.
    pub shown: String,
    /// Its path in the archive.
    pub file: String,
    /// Its compression, as an extension.
    pub extension: &'static str,
    /// Digest and size in bytes of the file.
    pub packed: (Digest, u64),
    /// Digest and size in bytes of what is in it, where the release file says.
    pub plain: Option<(Digest, u64)>,
}

impl ListFile {
    /// Whether the file is the one that the release file lists.
    pub fn check(&self) -> Result<(), PackageError> {
        let mut hasher = Hasher::new();
        fs::File::open(&self.path)
            .and_then(|mut file| io::copy(&mut file, &mut hasher))
            .map_err(|source| PackageError::File { path: self.path.clone(), source })?;
        let found = hasher.finish();
        if found == self.packed {
            return Ok(());
        }
        let (digest, size_bytes) = self.packed;
        let text = format!(
            "it has {} bytes and the hash {}, its release file says {size_bytes} and {digest}",
            found.1, found.0
        );
        Err(refuse(&self.shown, &self.file, text, Some(BEING_UPDATED)))
    }

    /// Hands the unpacked list to `read`, and refuses it if it was not what the release file
    /// lists.
    pub fn read(
        &self,
        read: impl FnOnce(&mut dyn io::BufRead) -> io::Result<()>,
    ) -> Result<(), PackageError> {
        let damaged = |error: io::Error| {
            refuse(&self.shown, &self.file, format!("it cannot be read: {error}"), None)
        };
        let said = self.plain.map_or(u64::MAX, |(_, size_bytes)| size_bytes);
        let at_most = said.min(LIST_BYTES_AT_MOST);
        let file = fs::File::open(&self.path)
            .map_err(|source| PackageError::File { path: self.path.clone(), source })?;
        let inner = decoder(self.extension, BufReader::new(file)).map_err(damaged)?;
        let mut counted = Counted { inner, hasher: Hasher::new(), done: 0, at_most };
        let mut reader = BufReader::with_capacity(1 << 18, &mut counted);
        read(&mut reader).map_err(damaged)?;
        drop(reader);
        match self.plain {
            Some(plain) if counted.hasher.finish() != plain => {
                let text = "its content is not what its release file says".to_owned();
                Err(refuse(&self.shown, &self.file, text, Some(BEING_UPDATED)))
            }
            _ => Ok(()),
        }
    }
}

/// A reader that hashes what it gives, and gives no more than it should.
struct Counted<R> {
    inner: R,
    hasher: Hasher,
    done: u64,
    at_most: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.done += length as u64;
        if self.done > self.at_most {
            let why = format!("it unpacks to more than {} bytes", self.at_most);
            return Err(io::Error::other(why));
        }
        io::Write::write_all(&mut self.hasher, &buffer[..length])?;
        Ok(length)
    }
}
