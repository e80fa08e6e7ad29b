//! Archives that hold images (`docker save`, an OCI layout as a tar): members by name, read in
//! place. Hostile bytes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use super::compression::{decoder, extension};
use super::limits::{HEADER_BYTES_AT_MOST, Metered, bytes_at_most};
use super::path::clean;

/// Members of one archive; an image has some hundred.
const MEMBERS_AT_MOST: usize = 20_000;
/// Bytes of the names and links of all members.
const NAME_BYTES_AT_MOST: usize = 4 << 20;

/// An archive and what it holds.
#[derive(Debug)]
pub struct ImageArchive {
    file: PathBuf,
    extension: &'static str,
    members: BTreeMap<String, Member>,
}

#[derive(Clone, Debug)]
enum Member {
    /// Where its bytes start, where the archive is not compressed, and their number.
    File { at: u64, size_bytes: u64 },
    /// Another member, by its path.
    Link(String),
}

impl ImageArchive {
    /// Opens `file`, a tar archive that may be compressed, and lists its members.
    pub fn open(file: &Path) -> io::Result<Self> {
        let refuse = |name: &str, why: &str| {
            io::Error::other(format!("member `{}`: {why}", name.escape_debug()))
        };
        let mut start = Vec::new();
        // Anything else might never end.
        match fs::metadata(file)? {
            status if status.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            status if !status.is_file() => return Err(io::Error::other("it is no file")),
            _ => fs::File::open(file)?.take(6).read_to_end(&mut start)?,
        };
        let mut archive =
            Self { file: file.to_owned(), extension: extension(&start), members: BTreeMap::new() };
        let mut name_bytes = 0;
        let mut members = BTreeMap::new();
        archive.visit(&mut |head, _| {
            let raw = &head.name;
            let name = clean(raw).ok_or_else(|| refuse(raw, "it is outside the archive"))?;
            let member = match head.kind {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    Member::File { at: head.at, size_bytes: head.size_bytes }
                }
                // Written for layers that are there already, by older versions.
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let hard = head.kind == tar::EntryType::Link;
                    let target = if hard { clean(&head.link) } else { joined(&name, &head.link) };
                    Member::Link(target.ok_or_else(|| refuse(raw, "its link leaves the archive"))?)
                }
                tar::EntryType::Directory | tar::EntryType::XGlobalHeader => return Ok(true),
                _ => return Err(refuse(raw, "it is no file")),
            };
            name_bytes += name.len();
            if let Member::Link(target) = &member {
                name_bytes += target.len();
            }
            if members.len() >= MEMBERS_AT_MOST || name_bytes > NAME_BYTES_AT_MOST {
                return Err(io::Error::other("it has more members than any image"));
            }
            match members.insert(name, member) {
                Some(_) => Err(refuse(raw, "its path is there twice")),
                None => Ok(true),
            }
        })?;
        if members.is_empty() {
            return Err(io::Error::other("it is empty"));
        }
        archive.members = members;
        Ok(archive)
    }

    /// Size of a member, or `None` if there is no such file.
    pub fn size_bytes(&self, name: &str) -> Option<u64> {
        self.file(name).map(|(_, _, size_bytes)| size_bytes)
    }

    fn file(&self, name: &str) -> Option<(&str, u64, u64)> {
        let (mut name, mut member) = self.members.get_key_value(&clean(name)?)?;
        if let Member::Link(target) = member {
            (name, member) = self.members.get_key_value(target)?;
        }
        match member {
            Member::File { at, size_bytes } => Some((name, *at, *size_bytes)),
            Member::Link(_) => None,
        }
    }

    /// Gives the content of a member to `read`.
    pub fn read<T>(
        &self,
        name: &str,
        read: &mut dyn FnMut(&mut dyn Read) -> io::Result<T>,
    ) -> io::Result<T> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("it has no `{name}`"));
        let (name, at, size_bytes) = self.file(name).ok_or_else(missing)?;
        if self.extension.is_empty() {
            let mut file = fs::File::open(&self.file)?;
            file.seek(io::SeekFrom::Start(at))?;
            return read(&mut file.take(size_bytes));
        }
        let mut found = None;
        self.visit(&mut |head, content| {
            if clean(&head.name).as_deref() != Some(name) {
                return Ok(true);
            }
            found = Some(read(content)?);
            Ok(false)
        })?;
        found.ok_or_else(missing)
    }

    /// Visits members until told to stop.
    fn visit(&self, each: &mut Each<'_>) -> io::Result<()> {
        let file = fs::File::open(&self.file)?;
        let size_bytes = file.metadata()?.len();
        let (done, part) = (Cell::new(0), Cell::new(HEADER_BYTES_AT_MOST));
        if self.extension.is_empty() {
            let reader = Metered { reader: file, done: &done, end: u64::MAX, part: &part };
            let mut archive = tar::Archive::new(reader);
            // Content that nobody asks for is passed over without being read.
            return walk(archive.entries_with_seek()?, &done, &part, each);
        }
        let end = bytes_at_most(size_bytes);
        let reader = decoder(self.extension, io::BufReader::new(file))?;
        let mut archive = tar::Archive::new(Metered { reader, done: &done, end, part: &part });
        walk(archive.entries()?, &done, &part, each)
    }
}

/// What is asked of a member, and whether to go on.
type Each<'a> = dyn FnMut(&Head, &mut dyn Read) -> io::Result<bool> + 'a;

/// What precedes a member's content.
struct Head {
    name: String,
    kind: tar::EntryType,
    link: String,
    at: u64,
    size_bytes: u64,
}

fn walk<R: Read>(
    entries: tar::Entries<'_, R>,
    done: &Cell<u64>,
    part: &Cell<u64>,
    each: &mut Each<'_>,
) -> io::Result<()> {
    for (at, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|error| damaged(at, &error))?;
        part.set(u64::MAX);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let head = Head {
            name: text(&entry.path_bytes()),
            kind: entry.header().entry_type(),
            link: text(&entry.link_name_bytes().unwrap_or_default()),
            at: entry.raw_file_position(),
            size_bytes: entry.size(),
        };
        if !each(&head, &mut entry)? {
            break;
        }
        let next = done.get().saturating_add(head.size_bytes).saturating_add(HEADER_BYTES_AT_MOST);
        part.set(next);
    }
    Ok(())
}

/// An error of the reader, which may quote what it read.
fn damaged(members: usize, error: &io::Error) -> io::Error {
    let text = error.to_string();
    let quoted = text.split_once(" text: ").map_or(text.as_str(), |(why, _)| why);
    let why = quoted.escape_debug();
    let text = match members {
        0 => format!("it is no tar archive ({why})"),
        1 => format!("it is damaged after its first member: {why}"),
        _ => format!("it is damaged after {members} members: {why}"),
    };
    io::Error::new(error.kind(), text)
}

/// Where a link at `name` leads.
fn joined(name: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!target.starts_with('/')).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, tar::EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content, link) in members {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn members_are_found_compressed_or_not() {
        use tar::EntryType::{Regular, Symlink};
        let folder = tempfile::tempdir().unwrap();
        let plain = archive(&[
            ("./manifest.json", Regular, "[]", ""),
            ("a/layer.tar", Regular, "layer", ""),
            ("b/layer.tar", Symlink, "", "../a/layer.tar"),
        ]);
        let mut encoder = super::super::compression::Encoder::new(
            Vec::new(),
            super::super::compression::Compression::Gzip,
            1,
        );
        io::Write::write_all(&mut encoder, &plain).unwrap();
        for bytes in [plain.clone(), encoder.finish().unwrap()] {
            let file = folder.path().join("x.tar");
            fs::write(&file, bytes).unwrap();
            let archive = ImageArchive::open(&file).unwrap();
            let read = |name: &str| {
                archive.read(name, &mut |reader| io::read_to_string(reader)).map_err(|e| e.kind())
            };
            assert_eq!(read("manifest.json").as_deref(), Ok("[]"));
            assert_eq!(read("b/layer.tar").as_deref(), Ok("layer"));
            assert_eq!(read("none"), Err(io::ErrorKind::NotFound));
            assert_eq!(archive.size_bytes("b/layer.tar"), Some(5));
        }
    }

    #[test]
    fn hostile_archives_are_refused() {
        use tar::EntryType::{Block, Regular, Symlink};
        let folder = tempfile::tempdir().unwrap();
        let check = |members: &[(&str, tar::EntryType, &str, &str)]| {
            let file = folder.path().join("x.tar");
            fs::write(&file, archive(members)).unwrap();
            ImageArchive::open(&file).unwrap_err().to_string()
        };
        let error = check(&[("../x", Regular, "", "")]);
        assert_eq!(error, "member `../x`: it is outside the archive");
        let error = check(&[("x", Regular, "", ""), ("./x", Regular, "", "")]);
        assert_eq!(error, "member `./x`: its path is there twice");
        assert_eq!(check(&[]), "it is empty");
        assert_eq!(check(&[("x", Block, "", "")]), "member `x`: it is no file");
        let error = check(&[("x", Symlink, "", "/etc/passwd")]);
        assert_eq!(error, "member `x`: its link leaves the archive");
    }

    #[test]
    fn what_is_no_archive_is_named_as_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.tar");
        let check = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            ImageArchive::open(&file).unwrap_err().to_string()
        };
        let short = check(b"no archive");
        assert_eq!(short, "it is no tar archive (failed to read entire block)");
        let noise: Vec<u8> = (0..2000_u32).map(|at| (at * 7 % 251) as u8).collect();
        let noise = check(&noise);
        assert!(noise.starts_with("it is no tar archive (") && noise.is_ascii(), "{noise}");
        let mut cut = archive(&[("x", tar::EntryType::Regular, "x", "")]);
        cut.truncate(1024 + 100);
        let cut = check(&cut);
        assert_eq!(cut, "it is damaged after its first member: failed to read entire block");
        let error = ImageArchive::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
