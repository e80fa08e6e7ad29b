//! The machine's disks: room on them, and what their file systems do better than plain copies.

use std::fs;
use std::io;
use std::path::Path;

/// Bytes that this user may still write to the file system of `path`.
pub fn available_bytes(path: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(path)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Swaps two paths at once, so that at no instant one of them is absent. Not every file
/// system can.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    Ok(rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags)?)
}

/// Makes `to`, which is not there, a file that shares the blocks of `from` until one of them is
/// written. Not every file system can; then nothing is left.
pub fn clone_file(from: &Path, to: &Path) -> io::Result<()> {
    let source = fs::File::open(from)?;
    let target = fs::File::create_new(to)?;
    rustix::fs::ioctl_ficlone(&target, &source).map_err(|error| {
        let _ = fs::remove_file(to);
        error.into()
    })
}

/// Waits until everything that was written to the file system of `path` is on the disk.
pub fn settle(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some() {
        assert!(available_bytes(&std::env::temp_dir()).unwrap() > 0);
        assert!(available_bytes(Path::new("/no/such/folder")).is_err());
    }

    #[test]
    fn copies_that_share_blocks_leave_nothing_where_they_fail() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&from, "x").unwrap();
        match clone_file(&from, &to) {
            Ok(()) => assert_eq!(fs::read(&to).unwrap(), b"x"),
            Err(_) => assert!(!to.exists()),
        }
        settle(folder.path()).unwrap();
    }
}
