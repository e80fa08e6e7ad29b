//! Trees on disk: described, normalised, moved into the store.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Store, StoreError, doing, guard};
use crate::machine::disk;
use crate::model::{Digest, Entry, Hasher, Tree};

impl Store {
    /// Describes `folder` and moves it into the store. Returns its digest and
    /// description. A tree that is there already wins, if it is whole.
    pub fn adopt_tree(&self, folder: &Path) -> Result<(Digest, Tree), StoreError> {
        let tree = describe(folder)?;
        let digest = tree.digest();
        self.adopt_described(folder, &digest)?;
        Ok((digest, tree))
    }

    /// Moves a folder that is known to be the tree of `digest` into the store.
    pub(super) fn adopt_described(&self, folder: &Path, digest: &Digest) -> Result<(), StoreError> {
        let place = self.tree_path(digest);
        match fs::rename(folder, &place) {
            Ok(()) => {}
            Err(_) if place.is_dir() => {
                // No record may have named it, so that nobody looked at it since.
                let is_whole = guard(&self.proven).contains(digest)
                    || describe(&place).is_ok_and(|there| there.digest() == *digest);
                if !is_whole && disk::exchange(folder, &place).is_err() {
                    self.discard(&place)?;
                    fs::rename(folder, &place)
                        .map_err(doing("move a tree into the store at", &place))?;
                } else {
                    remove(folder)?;
                }
            }
            Err(error) => return Err(doing("move a tree into the store at", &place)(error)),
        }
        guard(&self.proven).insert(*digest);
        Ok(())
    }
}

/// Gives folders and files the modes that every umask would: folders can be entered and
/// written by their owner, files keep their owner's execute bit for everybody.
pub fn normalise(folder: &Path) -> Result<(), StoreError> {
    visit(folder, &mut |path, metadata| {
        let mode = metadata.permissions().mode() & 0o7777;
        let wanted = if metadata.is_dir() {
            if mode & 0o1000 != 0 { 0o1777 } else { 0o755 }
        } else if metadata.is_file() {
            (mode & 0o6000) | if mode & 0o100 != 0 { 0o755 } else { 0o644 }
        } else {
            return Ok(());
        };
        if mode == wanted { Ok(()) } else { set_mode(path, wanted) }
    })
}

/// Describes what is below `folder`.
pub fn describe(folder: &Path) -> Result<Tree, StoreError> {
    let mut tree = Tree::default();
    visit(folder, &mut |path, metadata| {
        let Ok(name) = path.strip_prefix(folder) else { return Ok(()) };
        if name.as_os_str().is_empty() {
            return Ok(());
        }
        let mode = metadata.permissions().mode() & 0o7777;
        let entry = if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(doing("read the link", path))?;
            Entry::Link { target: target.to_string_lossy().into_owned() }
        } else if metadata.is_dir() {
            Entry::Folder { mode }
        } else {
            let (digest, size_bytes) = hash_file(path).map_err(doing("read", path))?;
            Entry::File { digest, size_bytes, mode }
        };
        tree.entries.insert(name.to_string_lossy().into_owned(), entry);
        Ok(())
    })?;
    Ok(tree)
}

/// The digest and size of a file's bytes.
pub fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let mut reader = io::BufReader::with_capacity(1 << 18, fs::File::open(path)?);
    io::copy(&mut reader, &mut hasher)?;
    Ok(hasher.finish())
}

/// Copies the bytes of `from` to the new file `to`, and returns the digest of what was
/// copied. Memory does not grow with the file.
pub fn copy_file(from: &Path, to: &Path) -> io::Result<Digest> {
    let (mut reader, mut writer) = (fs::File::open(from)?, fs::File::create_new(to)?);
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish().0),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..length]);
        writer.write_all(&buffer[..length])?;
    }
}

/// Gives `to` what is at `from`, as links to the same files where the file system can.
pub fn duplicate(from: &Path, to: &Path) -> Result<(), StoreError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(doing("create", parent))?;
    }
    visit(from, &mut |path, metadata| {
        let place = match path.strip_prefix(from) {
            Ok(inside) if !inside.as_os_str().is_empty() => to.join(inside),
            _ => to.to_owned(),
        };
        let made = if metadata.is_dir() {
            fs::create_dir_all(&place)
        } else if metadata.is_symlink() {
            fs::read_link(path).and_then(|target| std::os::unix::fs::symlink(target, &place))
        } else {
            fs::hard_link(path, &place).or_else(|_| fs::copy(path, &place).map(drop))
        };
        made.map_err(doing("write", &place))
    })
}

/// Removes a folder that may hold folders without write permission.
pub fn remove(folder: &Path) -> Result<(), StoreError> {
    fs::remove_dir_all(folder).map_err(doing("remove", folder))
}

/// Sets the permission bits of a path that is no link.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(doing("set the mode of", path))
}

/// Calls `each` for `path` and everything below it, folders before their members.
fn visit(
    path: &Path,
    each: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let metadata = fs::symlink_metadata(path).map_err(doing("look at", path))?;
    each(path, &metadata)?;
    if metadata.is_dir() {
        let mut names = fs::read_dir(path)
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()
            })
            .map_err(doing("list", path))?;
        names.sort();
        for name in names {
            visit(&name, each)?;
        }
    }
    Ok(())
}
