//! Zip archives: Python wheels, sources. Execute bits are kept, paths are checked.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::{ArchiveError, Problem, path};

/// One member on its way out.
pub struct Member<'a> {
    /// Its path, as the archive has it.
    pub path: &'a str,
    /// Type and permission bits, as Unix has them, where the archive says.
    pub mode: Option<u32>,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its bytes.
    pub bytes: &'a mut dyn Read,
}

/// Calls `visit` for each member, in the order of the central directory.
pub fn each_member(
    archive: &Path,
    visit: &mut dyn FnMut(Member<'_>) -> Result<(), Problem>,
) -> Result<(), ArchiveError> {
    let failed = |member: Option<&str>, problem: Problem| ArchiveError {
        archive: archive.to_owned(),
        member: member.map(str::to_owned),
        problem,
    };
    let io = |error: io::Error| failed(None, Problem::Io(error));
    let file = io::BufReader::with_capacity(1 << 18, fs::File::open(archive).map_err(io)?);
    let mut zip = zip::ZipArchive::new(file).map_err(|error| io(io::Error::other(error)))?;
    for index in 0..zip.len() {
        let mut member = zip.by_index(index).map_err(|error| io(io::Error::other(error)))?;
        let raw = member.name().map_err(|error| io(io::Error::other(error)))?.into_owned();
        let (mode, is_folder) = (member.unix_mode(), member.is_dir());
        visit(Member { path: &raw, mode, is_folder, bytes: &mut member })
            .map_err(|problem| failed(Some(&raw), problem))?;
    }
    Ok(())
}

/// Unpacks `archive` below `root`, which is made.
pub fn unpack_zip(archive: &Path, root: &Path) -> Result<(), ArchiveError> {
    fs::create_dir_all(root).map_err(|error| ArchiveError {
        archive: archive.to_owned(),
        member: None,
        problem: Problem::Io(error),
    })?;
    each_member(archive, &mut |member| {
        let name = path::clean(member.path).ok_or(Problem::Escapes)?;
        if name.is_empty() {
            return Ok(());
        }
        let place = path::place(root, &name)?;
        if member.is_folder {
            return match fs::create_dir(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    Err(Problem::Io(error))
                }
                _ => Ok(()),
            };
        }
        let mode = member.mode.unwrap_or(0o644) & 0o777 | 0o600;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&place)
            .map_err(Problem::Io)?;
        io::copy(member.bytes, &mut file).map_err(Problem::Io)?;
        super::deb::set_mode(&place, mode).map_err(Problem::Io)
    })
}
