//! Files that change as a whole.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::{StoreError, doing, trees};

/// Writes `bytes` beside `path` and renames: a reader sees the old file or the new one. After a
/// loss of power the file may be empty: its reader has to notice.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write(path, bytes, false)
}

/// The same, and the file is whole after a loss of power too.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write(path, bytes, true)
}

fn write(path: &Path, bytes: &[u8], durably: bool) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(doing("create", folder))?;
    let mut file = tempfile::Builder::new()
        .prefix(&format!(".new-{}-", std::process::id()))
        .tempfile_in(folder)
        .map_err(doing("write in", folder))?;
    file.write_all(bytes).map_err(doing("write", path))?;
    trees::set_mode(file.path(), 0o644)?;
    if durably {
        file.as_file().sync_all().map_err(doing("write", path))?;
    }
    file.persist(path).map_err(|error| doing("write", path)(error.error))?;
    Ok(())
}

/// Removes what processes left in `folder` that were killed while they wrote there: files and
/// folders whose names start with one of `prefixes` and the number of a process that is gone.
pub fn sweep_beside(folder: &Path, prefixes: &[&str]) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let rest = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
        let owner = rest.and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| owner.parse::<u32>().is_ok() && is_gone(owner)) {
            let path = entry.path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

/// Whether no process has that number.
pub(super) fn is_gone(process: &str) -> bool {
    !Path::new("/proc").join(process).exists()
}
