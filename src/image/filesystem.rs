//! A file system as a value: what a layer holds, before it is bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a file of the machine.
    Path(PathBuf),
    /// Here.
    Bytes(Vec<u8>),
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File(Source),
    /// A symbolic link and its text.
    Link(String),
    /// A folder.
    Folder,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Numbers of its user and group.
    pub owner: (u64, u64),
    /// Extended attributes by name, such as `security.capability`.
    pub attributes: BTreeMap<String, Vec<u8>>,
}

impl Node {
    /// A member that belongs to user and group 0.
    pub fn new(kind: Kind, mode: u32) -> Self {
        Self { kind, mode, owner: (0, 0), attributes: BTreeMap::new() }
    }
}

/// Members by path, relative and without a leading slash, in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// The members.
    pub nodes: BTreeMap<String, Node>,
}

impl Filesystem {
    /// Everything below `folder`.
    pub fn from_folder(folder: &Path) -> io::Result<Self> {
        let mut filesystem = Self::default();
        filesystem.read(folder, "")?;
        Ok(filesystem)
    }

    fn read(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let status = fs::symlink_metadata(entry.path())?;
            let mode = status.permissions().mode() & 0o7777;
            let (kind, mode) = if status.is_symlink() {
                (Kind::Link(fs::read_link(entry.path())?.to_string_lossy().into_owned()), 0o777)
            } else if status.is_dir() {
                self.read(&entry.path(), &format!("{name}/"))?;
                (Kind::Folder, mode)
            } else {
                (Kind::File(Source::Path(entry.path())), mode)
            };
            self.nodes.insert(name, Node::new(kind, mode));
        }
        Ok(())
    }

    /// Adds a file with the bytes given.
    pub fn add_bytes(&mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) {
        let kind = Kind::File(Source::Bytes(bytes.into()));
        self.nodes.insert(path.to_owned(), Node::new(kind, mode));
    }

    /// Adds a file of the machine.
    pub fn add_file(&mut self, path: &str, file: PathBuf, mode: u32) {
        self.nodes.insert(path.to_owned(), Node::new(Kind::File(Source::Path(file)), mode));
    }

    /// Adds a link.
    pub fn add_link(&mut self, path: &str, target: &str) {
        self.nodes.insert(path.to_owned(), Node::new(Kind::Link(target.to_owned()), 0o777));
    }

    /// Adds a folder.
    pub fn add_folder(&mut self, path: &str, mode: u32) {
        self.nodes.insert(path.to_owned(), Node::new(Kind::Folder, mode));
    }

    /// Adds the parents that members lack, as folders with the mode that every system gives
    /// them: 755 but for a few.
    pub fn add_parents(&mut self) {
        let parents: Vec<String> = self
            .nodes
            .keys()
            .flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()))
            .collect();
        for parent in parents {
            let mode = match parent.as_str() {
                "tmp" | "var/tmp" => 0o1777,
                "root" => 0o700,
                _ => 0o755,
            };
            self.nodes.entry(parent).or_insert(Node::new(Kind::Folder, mode));
        }
    }

    /// The bytes of a file, or `None` if there is no file of that path.
    pub fn bytes(&self, path: &str) -> Option<io::Result<Vec<u8>>> {
        match &self.nodes.get(path)?.kind {
            Kind::File(Source::Bytes(bytes)) => Some(Ok(bytes.clone())),
            Kind::File(Source::Path(file)) => Some(fs::read(file)),
            _ => None,
        }
    }
}
