//! Scratch: one folder a process, locked while the process lives.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::write::is_gone;
use super::{Store, StoreError, doing, guard};

/// The scratch folder of this process. It goes with the last copy of the store.
#[derive(Debug)]
pub(super) struct Session {
    folder: tempfile::TempDir,
    _lock: fs::File,
}

impl Store {
    /// A new empty scratch folder, on the store's own file system, removed when dropped.
    pub fn scratch(&self) -> Result<tempfile::TempDir, StoreError> {
        let path = self.root().join("scratch");
        let mut session = guard(&self.scratch);
        if session.is_none() {
            *session = Some(start(&path).map_err(doing("create a scratch folder in", &path))?);
        }
        let folder = session.as_ref().map_or(path.as_path(), |session| session.folder.path());
        tempfile::tempdir_in(folder).map_err(doing("create a scratch folder in", &path))
    }

    /// Moves something out of the way and removes it: nothing half removed is ever in place.
    pub(super) fn discard(&self, path: &Path) -> Result<(), StoreError> {
        let scratch = self.scratch()?;
        fs::rename(path, scratch.path().join("discarded")).map_err(doing("remove", path))
    }

    /// Removes scratch that processes left which are gone. Both signs are needed: processes of
    /// other containers have no number here, and those that just start have no lock.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(self.root().join("scratch")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.split('-').next());
            let path = entry.path();
            let is_locked = fs::File::open(&path).is_ok_and(|folder| folder.try_lock().is_err());
            if owner.is_none_or(is_gone) && !is_locked {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
}

fn start(path: &PathBuf) -> io::Result<Session> {
    loop {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(path)?;
        let lock = fs::File::open(folder.path())?;
        // Somebody in another container may have swept it before it was locked.
        let is_there = fs::metadata(folder.path())
            .is_ok_and(|there| lock.metadata().is_ok_and(|own| own.ino() == there.ino()));
        if lock.try_lock().is_ok() && is_there {
            return Ok(Session { folder, _lock: lock });
        }
    }
}
