//! How large archives may become when they are unpacked: bombs end where real files never
//! reach. Deliberately absent: what is done with the bytes.

use std::cell::Cell;
use std::io::{self, Read, Seek, Write};

use super::Problem;

/// Bytes that any archive may have when decompressed.
pub(super) const BYTES_FREE: u64 = 64 << 20;
/// Bytes beyond those for each byte of the archive. Real files reach a tenth of it.
pub(super) const RATIO_AT_MOST: u64 = 200;
/// Bytes of names and extended headers before one member.
pub(super) const HEADER_BYTES_AT_MOST: u64 = 1 << 20;
/// Bytes of a path or of a link's text (`PATH_MAX`).
pub(super) const PATH_BYTES_AT_MOST: usize = 4096;

/// Bytes that an archive of so many may have when decompressed.
pub(super) fn bytes_at_most(packed_bytes: u64) -> u64 {
    BYTES_FREE.saturating_add(packed_bytes.saturating_mul(RATIO_AT_MOST))
}

/// A reader that stops at limits.
pub(super) struct Metered<'a, R> {
    pub reader: R,
    /// Bytes that were read.
    pub done: &'a Cell<u64>,
    /// Where the archive has to end.
    pub end: u64,
    /// Where the part that is read now has to end.
    pub part: &'a Cell<u64>,
}

impl<R: Seek> Seek for Metered<'_, R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.reader.seek(to)
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        let done = self.done.get() + length as u64;
        self.done.set(done);
        if done > self.end || done > self.part.get() {
            return Err(io::Error::other("it is larger than any image"));
        }
        Ok(length)
    }
}

/// Room for what is unpacked of one archive.
pub(super) struct Room {
    bytes_at_most: u64,
    left: Cell<u64>,
}

impl Room {
    /// The room of an archive of so many bytes.
    pub fn of(packed_bytes: u64) -> Self {
        let bytes_at_most = bytes_at_most(packed_bytes);
        Self { bytes_at_most, left: Cell::new(bytes_at_most) }
    }

    /// Copies to `to` what `from` has, as long as there is room.
    pub fn copy(&self, from: &mut dyn Read, to: &mut impl Write) -> Result<(), Problem> {
        let left = self.left.get();
        let done = io::copy(&mut from.take(left.saturating_add(1)), to).map_err(Problem::Io)?;
        self.left.set(left.saturating_sub(done));
        if done > left { Err(self.problem()) } else { Ok(()) }
    }

    fn problem(&self) -> Problem {
        Problem::TooLarge { bytes_at_most: self.bytes_at_most }
    }
}

/// A problem, and the member that it is of.
pub(super) type MemberProblem = (Option<String>, Problem);

/// Takes a member: its path as it is written, and its content.
type Visit<'a> = dyn FnMut(&str, &mut tar::Entry<'_, &mut dyn Read>) -> Result<(), Problem> + 'a;

/// Calls `visit` for each entry of the tar archive that `reader` gives, with its path; no more
/// is read of it than an archive of `packed_bytes` may have.
pub(super) fn each_entry(
    reader: impl Read,
    packed_bytes: u64,
    visit: &mut Visit<'_>,
) -> Result<(), MemberProblem> {
    let end = bytes_at_most(packed_bytes);
    let (done, part) = (Cell::new(0), Cell::new(HEADER_BYTES_AT_MOST));
    let failed = |member: Option<String>, problem: Problem| {
        let too_large = Problem::TooLarge { bytes_at_most: end };
        let problem = match problem {
            Problem::Io(_) if done.get() > end => too_large,
            Problem::Io(_) if done.get() > part.get() => Problem::Headers,
            other => other,
        };
        (member, problem)
    };
    let mut metered = Metered { reader, done: &done, end, part: &part };
    let mut archive = tar::Archive::new(&mut metered as &mut dyn Read);
    for entry in archive.entries().map_err(|error| failed(None, Problem::Io(error)))? {
        let mut entry = entry.map_err(|error| failed(None, Problem::Io(error)))?;
        part.set(u64::MAX);
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        visit(&path, &mut entry).map_err(|problem| failed(Some(path), problem))?;
        // What was not read of it is passed over with the next headers.
        let size_bytes = match entry.header().entry_type() {
            tar::EntryType::GNUSparse => entry.header().entry_size().unwrap_or(0),
            _ => entry.size(),
        };
        part.set(done.get().saturating_add(size_bytes).saturating_add(HEADER_BYTES_AT_MOST));
    }
    Ok(())
}
