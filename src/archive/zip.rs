//! Zip archives: Python wheels. Execute bits are kept, paths are checked.

use std::fs;
use std::io;
use std::path::Path;

use super::{ArchiveError, Problem, path};

/// Unpacks `archive` below `root`, which is made.
pub fn unpack_zip(archive: &Path, root: &Path) -> Result<(), ArchiveError> {
    let failed = |member: Option<&str>, problem: Problem| ArchiveError {
        archive: archive.to_owned(),
        member: member.map(str::to_owned),
        problem,
    };
    let io = |error: io::Error| failed(None, Problem::Io(error));
    fs::create_dir_all(root).map_err(io)?;
    let file = io::BufReader::new(fs::File::open(archive).map_err(io)?);
    let mut zip = zip::ZipArchive::new(file).map_err(|error| io(io::Error::other(error)))?;
    for index in 0..zip.len() {
        let mut member = zip.by_index(index).map_err(|error| io(io::Error::other(error)))?;
        let raw = member.name().map_err(|error| io(io::Error::other(error)))?.into_owned();
        let name = path::clean(&raw).ok_or_else(|| failed(Some(&raw), Problem::Escapes))?;
        if name.is_empty() {
            continue;
        }
        let place = path::place(root, &name).map_err(|problem| failed(Some(&raw), problem))?;
        let io = |error: io::Error| failed(Some(&raw), Problem::Io(error));
        if member.is_dir() {
            match fs::create_dir(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(io(error));
                }
                _ => continue,
            }
        }
        let mode = member.unix_mode().unwrap_or(0o644) & 0o777 | 0o600;
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).open(&place).map_err(io)?;
        io::copy(&mut member, &mut file).map_err(io)?;
        super::deb::set_mode(&place, mode).map_err(io)?;
    }
    Ok(())
}
