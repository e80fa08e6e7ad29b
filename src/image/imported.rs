//! Layers that others made: what they hold, joined to what a base image is.
//!
//! Deliberately absent: where layers come from, and unpacking them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::summary::LayerSummary;
use crate::archive::layer::{LayerError, LayerKind, LayerMember, read_layer};
use crate::model::base::{BaseFacts, BaseSystem};

/// Bytes of one text that is kept. The largest is the status of a whole desktop's packages.
const TEXT_BYTES_AT_MOST: u64 = 16 << 20;
/// Bytes of an ELF file whose facts are read.
const ELF_BYTES_AT_MOST: u64 = 4 << 30;
/// Bytes of such a file if it has holes.
const SPARSE_BYTES_AT_MOST: u64 = 256 << 20;
/// Links on the way of one path that an operating system follows before it calls them a loop.
const LINKS_AT_MOST: usize = 40;
/// Files whose text says what a base is.
const TEXTS: [&str; 6] = [
    "etc/group",
    "etc/os-release",
    "etc/passwd",
    "etc/shells",
    "usr/lib/os-release",
    "var/lib/dpkg/status",
];
/// Files of a base that packages on it add lines to.
const GROWING: [&str; 3] = ["etc/group", "etc/passwd", "etc/shells"];
/// Where bases without dpkg keep what it would know.
const STATUS_FOLDER: &str = "var/lib/dpkg/status.d/";

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; its text is in the summary.
    Link,
    /// A device or pipe.
    Special,
}

/// A path of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFacts {
    /// What it is.
    pub kind: PathKind,
    /// Permission bits.
    pub mode: u32,
    /// Numbers of its user and group.
    pub owner: (u64, u64),
}

/// The members of a layer, or of several joined to a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// By path.
    pub paths: BTreeMap<String, PathFacts>,
    /// Paths that it removes from the layers below.
    pub removed: BTreeSet<String>,
    /// Folders of which it keeps nothing that the layers below have.
    pub emptied: BTreeSet<String>,
    /// Second names of files, with the first.
    pub hard_links: BTreeMap<String, String>,
    /// Texts of the files that say what a base is.
    pub texts: BTreeMap<String, String>,
}

/// Reads the layer whose tar archive `reader` gives. ELF files pass through a file in the
/// folder `scratch`, one after the other.
pub fn import(
    reader: impl Read,
    blob_bytes: u64,
    scratch: &Path,
) -> Result<(LayerSummary, Paths), LayerError> {
    let (mut summary, mut all) = (LayerSummary::default(), Paths::default());
    read_layer(reader, blob_bytes, &mut |member, content| {
        let LayerMember { path, kind, mode, owner } = member;
        summary.members += 1;
        let facts = |kind| PathFacts { kind, mode: *mode, owner: *owner };
        let kind = match kind {
            LayerKind::Whiteout => {
                all.removed.insert(path.clone());
                return Ok(());
            }
            LayerKind::Opaque => {
                all.emptied.insert(path.clone());
                return Ok(());
            }
            LayerKind::Folder => PathKind::Folder,
            LayerKind::Special => PathKind::Special,
            LayerKind::Link(text) => {
                summary.links.insert(path.clone(), text.clone());
                PathKind::Link
            }
            LayerKind::HardLink(target) => {
                all.hard_links.insert(path.clone(), target.clone());
                PathKind::File
            }
            LayerKind::File { size_bytes, sparse } => {
                if is_text(path) {
                    if *size_bytes > TEXT_BYTES_AT_MOST {
                        return Err(io::Error::other("it is longer than any text of its kind"));
                    }
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes)?;
                    all.texts.insert(path.clone(), String::from_utf8_lossy(&bytes).into_owned());
                } else {
                    let most = if *sparse { SPARSE_BYTES_AT_MOST } else { ELF_BYTES_AT_MOST };
                    look(&mut summary, path, content, *size_bytes, most, scratch)?;
                }
                PathKind::File
            }
        };
        all.paths.insert(path.clone(), facts(kind));
        Ok(())
    })?;
    Ok((summary, all))
}

fn is_text(path: &str) -> bool {
    let status = path.strip_prefix(STATUS_FOLDER);
    TEXTS.contains(&path)
        || status.is_some_and(|name| !name.contains('/') && !name.ends_with(".md5sums"))
}

/// Takes the facts of a program or the first line of a script.
fn look(
    summary: &mut LayerSummary,
    path: &str,
    content: &mut dyn Read,
    size_bytes: u64,
    bytes_at_most: u64,
    scratch: &Path,
) -> io::Result<()> {
    let mut start = Vec::new();
    (&mut *content).take(4).read_to_end(&mut start)?;
    if start.starts_with(b"#!") {
        return summary.file(path, io::Cursor::new(line(start, content)?));
    }
    if start != b"\x7fELF" {
        return Ok(());
    }
    if size_bytes > bytes_at_most {
        return Err(io::Error::other("it is larger than any program"));
    }
    let place = scratch.join("program");
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&place)?;
    file.write_all(&start)?;
    io::copy(content, &mut file)?;
    file.rewind()?;
    summary.file(path, &file)?;
    fs::remove_file(place)
}

/// `start` and what follows, as long as a first line may be.
fn line(mut start: Vec<u8>, content: &mut dyn Read) -> io::Result<Vec<u8>> {
    content.take(8192).read_to_end(&mut start)?;
    Ok(start)
}

/// A base image as a whole: what its layers leave once each lies on the ones below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Programs, scripts and links.
    pub summary: LayerSummary,
    /// All paths.
    pub all: Paths,
    /// Second names of files that are not there.
    pub broken: Vec<String>,
}

impl Joined {
    /// Lays a layer on top.
    pub fn add(&mut self, summary: &LayerSummary, layer: &Paths) {
        for folder in &layer.emptied {
            let folder = self.real(folder);
            self.remove_below(&folder);
        }
        for path in &layer.removed {
            let path = self.real(path);
            self.remove(&path);
        }
        // First names come before second ones.
        let (second, first): (Vec<_>, Vec<_>) =
            layer.paths.iter().partition(|(path, _)| layer.hard_links.contains_key(*path));
        for (path, facts) in first.into_iter().chain(second) {
            if path.is_empty() {
                continue;
            }
            let place = self.real(path);
            let target = layer.hard_links.get(path).map(|target| self.real(target));
            let source = target.as_ref().map(|target| self.take(target));
            let is_folder = facts.kind == PathKind::Folder;
            let was_folder =
                self.all.paths.get(&place).is_some_and(|known| known.kind == PathKind::Folder);
            if !(is_folder && was_folder) {
                self.remove(&place);
            }
            self.all.paths.insert(place.clone(), *facts);
            // Whoever unpacks makes the folders that no member is.
            for (at, _) in place
                .match_indices('/')
                .filter(|(at, _)| !self.all.paths.contains_key(&place[..*at]))
                .collect::<Vec<_>>()
            {
                let folder = PathFacts { kind: PathKind::Folder, mode: 0o755, owner: (0, 0) };
                self.all.paths.insert(place[..at].to_owned(), folder);
            }
            match source {
                None => {
                    let own = Taken {
                        elf: summary.elf.get(path).cloned(),
                        script: summary.scripts.get(path).cloned(),
                        link: summary.links.get(path).cloned(),
                        text: layer.texts.get(path).cloned(),
                    };
                    self.put(&place, own);
                }
                Some(Some(source)) => self.put(&place, source),
                Some(None) => self.broken.push(path.clone()),
            }
        }
        self.summary.members = self.all.paths.len();
    }

    /// What is known of a file that is there.
    fn take(&self, path: &str) -> Option<Taken> {
        self.all.paths.get(path)?;
        Some(Taken {
            elf: self.summary.elf.get(path).cloned(),
            script: self.summary.scripts.get(path).cloned(),
            link: self.summary.links.get(path).cloned(),
            text: self.all.texts.get(path).cloned(),
        })
    }

    fn put(&mut self, path: &str, taken: Taken) {
        let path = || path.to_owned();
        taken.elf.map(|elf| self.summary.elf.insert(path(), elf));
        taken.script.map(|script| self.summary.scripts.insert(path(), script));
        taken.link.map(|link| self.summary.links.insert(path(), link));
        taken.text.map(|text| self.all.texts.insert(path(), text));
    }

    fn remove(&mut self, path: &str) {
        self.forget(path);
        self.remove_below(path);
    }

    fn forget(&mut self, path: &str) {
        self.all.paths.remove(path);
        self.all.texts.remove(path);
        self.summary.elf.remove(path);
        self.summary.scripts.remove(path);
        self.summary.links.remove(path);
    }

    fn remove_below(&mut self, folder: &str) {
        let prefix = format!("{folder}/");
        let below = self.all.paths.range(prefix.clone()..);
        let below: Vec<String> = below
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&prefix))
            .collect();
        for path in below {
            self.forget(&path);
        }
    }

    /// Where a path leads when the links to folders on its way are followed, as the kernel
    /// does within the image. The last part is not followed.
    pub fn real(&self, path: &str) -> String {
        let mut reached: Vec<String> = Vec::new();
        let mut ahead: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut hops = 0;
        while let Some(part) = ahead.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    reached.pop();
                    continue;
                }
                _ => reached.push(part),
            }
            if ahead.is_empty() {
                break;
            }
            let Some(text) = self.summary.links.get(&reached.join("/")) else { continue };
            hops += 1;
            if hops > LINKS_AT_MOST {
                return path.to_owned();
            }
            reached.pop();
            if text.starts_with('/') {
                reached.clear();
            }
            ahead.extend(text.rsplit('/').map(str::to_owned));
        }
        reached.join("/")
    }

    /// The text of a file, through the links that lead to it.
    fn text(&self, path: &str) -> Option<&String> {
        let mut path = self.real(path);
        for _ in 0..LINKS_AT_MOST {
            let Some(link) = self.summary.links.get(&path) else { break };
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target =
                if link.starts_with('/') { link.clone() } else { format!("{folder}/{link}") };
            path = self.real(&target);
        }
        self.all.texts.get(&path)
    }

    /// Texts of the files that packages on the base add lines to, of those that are there.
    pub fn growing(&self) -> BTreeMap<String, String> {
        let texts = GROWING.iter().filter_map(|path| Some((*path, self.text(path)?)));
        texts.map(|(path, text)| (path.to_owned(), text.clone())).collect()
    }

    /// What the base is.
    pub fn facts(&self) -> BaseFacts {
        let release = self.text("etc/os-release").or_else(|| self.text("usr/lib/os-release"));
        let mut packages = BTreeMap::new();
        let status =
            self.all.texts.iter().filter(|(path, _)| {
                *path == "var/lib/dpkg/status" || path.starts_with(STATUS_FOLDER)
            });
        for (path, text) in status {
            stanzas(text, path.starts_with(STATUS_FOLDER), &mut packages);
        }
        let users = self.text("etc/passwd").into_iter().flat_map(|text| text.lines());
        let users = users.filter_map(|line| {
            let mut fields = line.split(':');
            let (name, number) = (fields.next()?, fields.nth(1)?);
            Some((number.parse().ok()?, name.to_owned()))
        });
        let is_folder = |path: &String| {
            let inside = self.real(&format!("{path}/."));
            self.all.paths.get(&inside).is_some_and(|found| found.kind == PathKind::Folder)
        };
        let links = self.summary.links.iter().filter(|(path, _)| is_folder(path));
        BaseFacts {
            system: release.map(|text| BaseSystem::parse(text)).unwrap_or_default(),
            packages,
            users: users.collect(),
            links: links.map(|(path, text)| (path.clone(), text.clone())).collect(),
        }
    }
}

/// What is known of a file.
struct Taken {
    elf: Option<super::elf::ElfFacts>,
    script: Option<String>,
    link: Option<String>,
    text: Option<String>,
}

/// Adds the packages of dpkg's status (dpkg(1), deb822(5)) that are installed. What has no
/// `Status` is installed where `always`.
fn stanzas(text: &str, always: bool, packages: &mut BTreeMap<String, String>) {
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let installed = field("Status").map_or(always, |status| status.ends_with(" installed"));
        if let (true, Some(name), Some(version)) = (installed, field("Package"), field("Version")) {
            packages.insert(name.to_owned(), version.to_owned());
        }
    }
}

#[cfg(test)]
#[path = "imported_tests.rs"]
mod tests;
