//! Archives: hostile bytes in, files below one folder out; and compression.
//!
//! Deliberately absent: where archives come from, and what their content means.

pub mod compression;
pub mod deb;
pub mod exclude;
pub mod images;
pub mod layer;
mod limits;
pub mod path;
pub mod source;
pub mod zip;

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An archive that cannot be unpacked, or must not be.
#[derive(Debug)]
pub struct ArchiveError {
    /// The archive.
    pub archive: PathBuf,
    /// The member, where one is to blame.
    pub member: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an archive.
#[derive(Debug)]
pub enum Problem {
    /// A member's path or link leaves the folder.
    Escapes,
    /// A device, socket or other thing that no package has.
    Kind(String),
    /// The bytes are no archive of a known format.
    Format,
    /// A part that the format requires is missing.
    Missing(&'static str),
    /// It grows beyond all measure.
    TooLarge {
        /// Bytes that it may have.
        bytes_at_most: u64,
    },
    /// What precedes a member is longer than any name.
    Headers,
    /// The bytes are damaged, or the disk fails.
    Io(io::Error),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot unpack {}", self.archive.display())?;
        if let Some(member) = &self.member {
            write!(f, ", member `{member}`")?;
        }
        match &self.problem {
            Problem::Escapes => f.write_str(": it would be written outside the folder"),
            Problem::Kind(kind) => write!(f, ": it is a {kind}"),
            Problem::Format => f.write_str(
                ": it is neither a tar archive (plain, gzip, bzip2, xz or zstd) nor a zip archive",
            ),
            Problem::Missing(part) => write!(f, ": it has no {part}"),
            Problem::TooLarge { bytes_at_most } => write!(
                f,
                ": it has more than {bytes_at_most} bytes when decompressed, which only a bomb has"
            ),
            Problem::Headers => f.write_str(": its headers are longer than any name"),
            Problem::Io(error) => write!(f, ": {error}"),
        }
    }
}

impl std::error::Error for ArchiveError {}
