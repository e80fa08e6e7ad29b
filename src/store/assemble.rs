//! Trees made of their description and of files from elsewhere.
//!
//! Whoever calls vouches for the description; a path in it cannot leave the tree. Files are
//! checked by whoever brings them.

use std::fs;
use std::path::{Component, Path};

use super::{Store, StoreError, doing, trees};
use crate::model::{Digest, Entry, Tree};

/// A file that a tree has.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Path in the tree.
    pub path: &'a str,
    /// Digest of its bytes.
    pub digest: &'a Digest,
    /// Their number.
    pub size_bytes: u64,
    /// Permission bits, which it is given.
    pub mode: u32,
}

/// Why there is no tree.
#[derive(Debug)]
pub enum Unfit<E> {
    /// This name is no plain path below folders of the tree.
    Name(String),
    /// A file cannot be had or written.
    Content(E),
}

impl<E: From<StoreError>> From<StoreError> for Unfit<E> {
    fn from(error: StoreError) -> Self {
        Self::Content(error.into())
    }
}

impl Store {
    /// Makes the tree whose description has the digest `output`. `write` has to write a file
    /// with exactly the bytes that it is asked for.
    pub fn assemble<E: From<StoreError>>(
        &self,
        tree: &Tree,
        output: &Digest,
        write: &mut dyn FnMut(Wanted<'_>, &Path) -> Result<(), E>,
    ) -> Result<(), Unfit<E>> {
        let scratch = self.scratch()?;
        let root = scratch.path().join("tree");
        fs::create_dir(&root).map_err(doing("create", &root))?;
        for (name, entry) in &tree.entries {
            if !is_inside(name, tree) {
                return Err(Unfit::Name(name.clone()));
            }
            let place = root.join(name);
            match entry {
                Entry::Folder { .. } => {
                    fs::create_dir(&place).map_err(doing("create", &place))?;
                }
                Entry::Link { target } => {
                    std::os::unix::fs::symlink(target, &place).map_err(doing("create", &place))?;
                }
                Entry::File { digest, size_bytes, mode } => {
                    let (size_bytes, mode) = (*size_bytes, *mode);
                    let file = Wanted { path: name, digest, size_bytes, mode };
                    write(file, &place).map_err(Unfit::Content)?;
                    trees::set_mode(&place, mode & 0o7777)?;
                }
            }
        }
        // Last: a folder may forbid to write into it.
        for (name, entry) in tree.entries.iter().rev() {
            if let Entry::Folder { mode } = entry {
                trees::set_mode(&root.join(name), mode & 0o7777)?;
            }
        }
        self.adopt_described(&root, output)?;
        Ok(())
    }
}

/// Whether a name of a tree is a plain path below folders of that tree.
fn is_inside(name: &str, tree: &Tree) -> bool {
    let path = Path::new(name);
    let is_plain = !name.contains('\0')
        && path.components().all(|part| matches!(part, Component::Normal(_)))
        && path.components().map(|part| part.as_os_str().len() + 1).sum::<usize>()
            == name.len() + 1;
    let parent = name.rsplit_once('/').map(|(parent, _)| parent);
    is_plain
        && parent
            .is_none_or(|parent| matches!(tree.entries.get(parent), Some(Entry::Folder { .. })))
}
