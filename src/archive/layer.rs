//! Layers of images that others made (OCI image specification, "Image Layer Filesystem
//! Changeset"): read as a stream, never unpacked. Hostile bytes.
//!
//! Memory does not grow with the layer: members pass one after the other, and what precedes
//! one, such as long names and extended headers, is bounded. What a layer may not have is
//! refused with its member:
//!
//! | refused | why |
//! |---|---|
//! | paths with `..`, absolute paths | they are outside the image |
//! | paths and links longer than `PATH_MAX` | no system has them |
//! | members below a link or file of the same layer | where they end depends on who unpacks |
//! | hard links to such paths | they take in what is not the image's |
//! | devices but below `dev`, sockets and unknown kinds | nothing that an image has |
//! | a path twice, unless both are folders or the same link | which one counts depends on who unpacks |
//! | whiteouts of nothing, of `.` or `..`, of the root, with content, or not a file | they mean nothing |
//! | more bytes than compression of real files gives, more members than any image has | bombs |
//! | anything but zeros after the end | it is hidden from some readers |
//!
//! Symbolic links may have any text: they are followed within the image only.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use super::limits::{HEADER_BYTES_AT_MOST, Metered, PATH_BYTES_AT_MOST, bytes_at_most};
use super::path::clean;

/// Members of one layer.
const MEMBERS_AT_MOST: usize = 1_000_000;
/// Bytes of paths and link texts of one layer.
const TEXT_BYTES_AT_MOST: usize = 64 << 20;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// What the file system of old builders left in layers; it means nothing.
const AUFS: [&str; 3] = [".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk"];

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A regular file.
    File {
        /// Its apparent size.
        size_bytes: u64,
        /// Whether it has holes, so that it may be far longer than the layer.
        sparse: bool,
    },
    /// A folder.
    Folder,
    /// A symbolic link and its text.
    Link(String),
    /// Another name of a file: its path.
    HardLink(String),
    /// A device or pipe.
    Special,
    /// The path is removed from the layers below.
    Whiteout,
    /// All that the layers below have in the folder is removed.
    Opaque,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerMember {
    /// Path without leading slash; empty for the root. Of a whiteout, what it removes.
    pub path: String,
    /// What it is.
    pub kind: LayerKind,
    /// Permission bits.
    pub mode: u32,
    /// Numbers of its user and group.
    pub owner: (u64, u64),
}

/// A layer that is refused.
#[derive(Debug)]
pub struct LayerError {
    /// The member's path, where one is to blame.
    pub member: Option<String>,
    /// What is wrong, as words that follow the member.
    pub problem: LayerProblem,
}

/// What is wrong with a layer.
#[derive(Debug)]
pub enum LayerProblem {
    /// Its structure.
    Refused(&'static str),
    /// It grows beyond all measure.
    TooLarge {
        /// Bytes that it may have.
        bytes_at_most: u64,
    },
    /// The bytes are damaged, or the disk fails.
    Io(io::Error),
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(member) = &self.member {
            write!(f, "member `{}`: ", member.escape_debug())?;
        }
        match &self.problem {
            LayerProblem::Refused(why) => f.write_str(why),
            LayerProblem::TooLarge { bytes_at_most } => {
                write!(
                    f,
                    "it has more than {bytes_at_most} bytes when decompressed, which only a bomb has"
                )
            }
            LayerProblem::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LayerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            LayerProblem::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Calls `visit` for each member of the layer whose tar archive `reader` gives; its second
/// argument reads a file's content. `blob_bytes` is the size of what it is decompressed from.
/// The reader is read to its end.
pub fn read_layer(
    reader: impl Read,
    blob_bytes: u64,
    visit: &mut dyn FnMut(&LayerMember, &mut dyn Read) -> io::Result<()>,
) -> Result<(), LayerError> {
    let end = bytes_at_most(blob_bytes);
    let (done, part) = (Cell::new(0), Cell::new(HEADER_BYTES_AT_MOST));
    let failed = |member: Option<String>, error: io::Error| {
        let problem = if done.get() > end {
            LayerProblem::TooLarge { bytes_at_most: end }
        } else if done.get() > part.get() {
            LayerProblem::Refused("its headers are longer than any name")
        } else {
            LayerProblem::Io(error)
        };
        LayerError { member, problem }
    };
    let metered = Metered { reader, done: &done, end, part: &part };
    let mut archive = tar::Archive::new(metered);
    let mut known = Known::default();
    let mut last: Option<String> = None;
    for entry in archive.entries().map_err(|error| failed(None, error))? {
        let mut entry = entry.map_err(|error| failed(last.clone(), error))?;
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refused =
            |why| LayerError { member: Some(raw.clone()), problem: LayerProblem::Refused(why) };
        part.set(u64::MAX);
        let sparse = entry.header().entry_type() == tar::EntryType::GNUSparse;
        if entry.header().entry_type() != tar::EntryType::XGlobalHeader {
            let member = member(&entry, &raw).map_err(&refused)?;
            if let Some(member) = member {
                known.add(&member).map_err(&refused)?;
                visit(&member, &mut entry).map_err(|error| failed(Some(raw.clone()), error))?;
            }
        }
        let left = if sparse {
            entry.header().entry_size().map_err(|error| failed(Some(raw.clone()), error))?
        } else {
            io::copy(&mut entry, &mut io::sink())
                .map_err(|error| failed(Some(raw.clone()), error))?;
            0
        };
        part.set(done.get().saturating_add(left).saturating_add(HEADER_BYTES_AT_MOST));
        last = Some(raw);
    }
    part.set(u64::MAX);
    let mut rest = archive.into_inner();
    let mut buffer = [0; 1 << 14];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) if buffer[..length].iter().all(|&byte| byte == 0) => {}
            Ok(_) => {
                let problem = LayerProblem::Refused("it goes on after its end");
                return Err(LayerError { member: None, problem });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(None, error)),
        }
    }
}

/// The member that an entry is; `None` for what means nothing.
fn member<R: Read>(
    entry: &tar::Entry<'_, R>,
    raw: &str,
) -> Result<Option<LayerMember>, &'static str> {
    use tar::EntryType as T;
    let header = entry.header();
    if std::str::from_utf8(&entry.path_bytes()).is_err() {
        return Err("its name is not UTF-8");
    }
    if raw.contains('\0') || raw.is_empty() {
        return Err("its name is none");
    }
    if raw.len() > PATH_BYTES_AT_MOST {
        return Err("its name is longer than any path");
    }
    let path = clean(raw).ok_or("it is outside the image")?;
    if raw.starts_with('/') && !path.is_empty() {
        return Err("its path is absolute");
    }
    let kind = header.entry_type();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if folder.split('/').any(|part| part.starts_with(WHITEOUT)) {
        return Err("it is below a whiteout");
    }
    // What is left empty is zero to all other readers.
    let number = |value: io::Result<u64>, field: &[u8]| match value {
        Ok(value) => Ok(value),
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
        Err(_) => Err("its header is damaged"),
    };
    let size_bytes = entry.size();
    let member = |path: &str, kind| -> Result<Option<LayerMember>, &'static str> {
        let old = header.as_old();
        let mode = number(header.mode().map(u64::from), &old.mode)?;
        let mode = u32::try_from(mode & 0o7777).expect("twelve bits fit");
        let owner = (number(header.uid(), &old.uid)?, number(header.gid(), &old.gid)?);
        Ok(Some(LayerMember { path: path.to_owned(), kind, mode, owner }))
    };
    if let Some(removed) = name.strip_prefix(WHITEOUT) {
        if !matches!(kind, T::Regular | T::Continuous | T::Link) || size_bytes != 0 {
            // Old builders made folders of their own there.
            return if AUFS.contains(&name) {
                Ok(None)
            } else {
                Err("it is a whiteout that is no empty file")
            };
        }
        return match (name, removed) {
            (OPAQUE, _) if folder.is_empty() => Err("it is a whiteout of the root"),
            (OPAQUE, _) => member(folder, LayerKind::Opaque),
            (name, _) if AUFS.contains(&name) => Ok(None),
            (_, "" | "." | "..") => Err("it is a whiteout of nothing"),
            (_, removed) if removed.starts_with(WHITEOUT) => Err("it is a whiteout of a whiteout"),
            (_, removed) if folder.is_empty() => member(removed, LayerKind::Whiteout),
            (_, removed) => member(&format!("{folder}/{removed}"), LayerKind::Whiteout),
        };
    }
    if path.is_empty() && kind != T::Directory {
        return Err("it is the root and no folder");
    }
    let link = || match entry.link_name_bytes() {
        Some(text) if text.len() > PATH_BYTES_AT_MOST => Err("its link is longer than any path"),
        Some(text) if !text.is_empty() && !text.contains(&0) => {
            String::from_utf8(text.into_owned()).map_err(|_| "its link is not UTF-8")
        }
        _ => Err("it links to nothing"),
    };
    let kind = match kind {
        T::Directory => LayerKind::Folder,
        T::Regular | T::Continuous => LayerKind::File { size_bytes, sparse: false },
        T::GNUSparse => LayerKind::File { size_bytes, sparse: true },
        T::Symlink => LayerKind::Link(link()?),
        T::Link => match clean(&link()?) {
            Some(target) if !target.is_empty() && target != path => LayerKind::HardLink(target),
            _ => return Err("it links to what is outside the image"),
        },
        T::Fifo => LayerKind::Special,
        T::Char | T::Block if path.starts_with("dev/") => LayerKind::Special,
        T::Char | T::Block => return Err("it is a device"),
        _ => return Err("it is of an unknown kind"),
    };
    member(&path, kind)
}

/// What was seen of a layer.
#[derive(Default)]
struct Known {
    /// Links and other members that nothing can be below.
    others: BTreeMap<String, Option<String>>,
    folders: std::collections::BTreeSet<String>,
    members: usize,
    text_bytes: usize,
}

impl Known {
    fn add(&mut self, member: &LayerMember) -> Result<(), &'static str> {
        self.members += 1;
        self.text_bytes += member.path.len();
        if let LayerKind::Link(text) | LayerKind::HardLink(text) = &member.kind {
            self.text_bytes += text.len();
        }
        let path = &member.path;
        for (at, _) in path.match_indices('/') {
            if self.others.contains_key(&path[..at]) {
                return Err("it is below a link or a file");
            }
            if !self.folders.contains(&path[..at]) {
                self.text_bytes += at;
                self.folders.insert(path[..at].to_owned());
            }
        }
        if self.members > MEMBERS_AT_MOST || self.text_bytes > TEXT_BYTES_AT_MOST {
            return Err("the layer has more members than any image");
        }
        match &member.kind {
            LayerKind::Whiteout | LayerKind::Opaque => Ok(()),
            LayerKind::Folder if self.others.contains_key(path) => Err("its path is there twice"),
            LayerKind::Folder => {
                self.folders.insert(path.clone());
                Ok(())
            }
            kind => {
                let text = match kind {
                    LayerKind::Link(text) => Some(text.clone()),
                    LayerKind::HardLink(text) => Some(format!("/{text}")),
                    _ => None,
                };
                let known = self.others.get(path);
                if self.folders.contains(path)
                    || known.is_some_and(|known| text.is_none() || *known != text)
                {
                    return Err("its path is there twice");
                }
                self.others.insert(path.clone(), text);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
