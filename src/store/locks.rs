//! Locks between processes that share the store. Each dies with its process.
//!
//! A build holds the store with others; who removes things holds it alone. Whoever makes a
//! result claims its key, so that nobody else makes it meanwhile.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::{Store, StoreError, doing};
use crate::model::Digest;

/// How often a lock that somebody else has is asked for.
const TICK: Duration = Duration::from_millis(50);

/// Why there is no lock.
#[derive(Debug)]
pub enum Stopped {
    /// Whoever waited does not want to any more.
    Unwanted,
    /// The lock file cannot be used.
    Failed(StoreError),
}

/// The right to make the result of a key, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: fs::File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// Keeps others from removing things. Calls `waits` at each look at a store that somebody
    /// removes things from; it says whether to wait on.
    pub fn hold(&self, waits: &mut dyn FnMut() -> bool) -> Result<fs::File, Stopped> {
        lock_file(&self.root().join("locks/store"), true, waits)
    }

    /// Keeps everybody else from using the store.
    pub fn hold_alone(&self, waits: &mut dyn FnMut() -> bool) -> Result<fs::File, Stopped> {
        lock_file(&self.root().join("locks/store"), false, waits)
    }

    /// The right to make the result of `key`; `None` while another process has it.
    pub fn claim(&self, key: &Digest) -> Result<Option<Claim>, StoreError> {
        let path = self.root().join("locks").join(key.hex());
        let failed = || doing("lock", &path);
        loop {
            let lock = open(&path).map_err(failed())?;
            match lock.try_lock() {
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(error)) => return Err(failed()(error)),
                Ok(()) => {}
            }
            // Its owner may have removed it after it was opened here.
            let own = lock.metadata().map_err(failed())?;
            if fs::metadata(&path).is_ok_and(|there| there.ino() == own.ino()) {
                return Ok(Some(Claim { path, _lock: lock }));
            }
        }
    }
}

/// Locks a file, with others or alone. Calls `waits` at each look at one that somebody else
/// has; it says whether to wait on.
pub fn lock_file(
    path: &Path,
    shared: bool,
    waits: &mut dyn FnMut() -> bool,
) -> Result<fs::File, Stopped> {
    let failed = |error| Stopped::Failed(doing("lock", path)(error));
    let file = open(path).map_err(failed)?;
    loop {
        let locked = if shared { file.try_lock_shared() } else { file.try_lock() };
        match locked {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            Err(fs::TryLockError::WouldBlock) if waits() => sleep(TICK),
            Err(fs::TryLockError::WouldBlock) => return Err(Stopped::Unwanted),
        }
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::options().create(true).truncate(false).write(true).open(path)
}
