//! Archives of sources: tar, compressed or not, and zip, by their first bytes.
//!
//! Files get the two modes that every checkout has, hard links become copies, owners and
//! times are not kept. Nothing is written through a link, and no link may lead out.

use std::fs;
use std::io::{self, Read, Seek as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::compression::{decoder, extension};
use super::limits::{MemberProblem, Room, each_entry};
use super::{ArchiveError, Problem, path};

/// Longer targets of links are no paths (`PATH_MAX`).
const TARGET_BYTES_AT_MOST: u64 = 4096;
/// Where tar has `ustar` (POSIX.1-1988), and the size of its header.
const TAR_MAGIC_AT: usize = 257;
const TAR_BLOCK_BYTES: usize = 512;
/// Type bits of a mode, and the types that zip archives may have.
const TYPE_BITS: u32 = 0o170_000;
const TYPE_LINK: u32 = 0o120_000;
const TYPE_FILE: u32 = 0o100_000;

/// Unpacks `archive` into `out`, an empty folder. Where the archive has one folder at its
/// top and nothing beside it, `out` becomes that folder. `scratch`, on the file system of
/// `out`, is where it is unpacked first; nothing may be there yet.
pub fn unpack_source(archive: &Path, scratch: &Path, out: &Path) -> Result<(), ArchiveError> {
    let failed = |member: Option<String>, problem: Problem| ArchiveError {
        archive: archive.to_owned(),
        member,
        problem,
    };
    let io = |error: io::Error| failed(None, Problem::Io(error));
    fs::create_dir_all(scratch).map_err(io)?;
    let mut file = fs::File::open(archive).map_err(io)?;
    let mut start = [0; TAR_BLOCK_BYTES];
    let length = read_start(&mut file, &mut start).map_err(io)?;
    let start = &start[..length];
    let packed_bytes = file.metadata().map_err(io)?.len();
    let target = Target { root: scratch, room: Room::of(packed_bytes) };
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        super::zip::each_member(archive, &mut |member| from_zip(&target, member))?;
    } else {
        let extension = extension(start);
        if extension.is_empty() && !is_tar(start) {
            return Err(failed(None, Problem::Format));
        }
        file.rewind().map_err(io)?;
        let file = io::BufReader::with_capacity(1 << 18, file);
        let reader = decoder(extension, file).map_err(io)?;
        from_tar(&target, packed_bytes, reader)
            .map_err(|(member, problem)| failed(member, problem))?;
    }
    let top = only_folder(scratch).map_err(io)?;
    let root = top.as_deref().unwrap_or(scratch);
    if fs::read_dir(root).map_err(io)?.next().is_none() {
        return Err(failed(None, Problem::Missing("member")));
    }
    if let Some(link) = path::leaving_link(root).map_err(io)? {
        return Err(failed(Some(link), Problem::Escapes));
    }
    fs::rename(root, out).map_err(io)
}

/// The path of a link in `root` that leads out of it, if there is one.
pub fn leaving_link(root: &Path) -> io::Result<Option<String>> {
    path::leaving_link(root)
}

fn read_start(reader: &mut impl Read, start: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < start.len() {
        match reader.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Whether a block is a tar header: by its magic, or, older than that, by its checksum.
fn is_tar(block: &[u8]) -> bool {
    if block.len() < TAR_BLOCK_BYTES {
        return false;
    }
    let sum = || {
        let header = tar::Header::from_byte_slice(block);
        let bytes = block.iter().enumerate();
        let sum =
            bytes.map(|(at, &byte)| u32::from(if (148..156).contains(&at) { b' ' } else { byte }));
        header.cksum().is_ok_and(|said| said == sum.sum::<u32>())
    };
    block[TAR_MAGIC_AT..].starts_with(b"ustar") || sum()
}

/// The folder in `folder`, if that is all there is.
fn only_folder(folder: &Path) -> io::Result<Option<std::path::PathBuf>> {
    let mut entries = fs::read_dir(folder)?;
    match (entries.next().transpose()?, entries.next()) {
        (Some(only), None) if only.file_type()?.is_dir() => Ok(Some(only.path())),
        _ => Ok(None),
    }
}

/// Where members go.
struct Target<'a> {
    root: &'a Path,
    room: Room,
}

fn from_tar(to: &Target<'_>, packed_bytes: u64, reader: impl Read) -> Result<(), MemberProblem> {
    each_entry(reader, packed_bytes, &mut |raw, entry| {
        let mode = entry.header().mode().map_err(Problem::Io)?;
        let target = entry.link_name_bytes().unwrap_or_default();
        let target = String::from_utf8_lossy(&target).into_owned();
        match entry.header().entry_type() {
            tar::EntryType::XGlobalHeader => Ok(()),
            tar::EntryType::Directory => folder(to.root, raw),
            // How folders were told before there was a type for them.
            tar::EntryType::Regular if raw.ends_with('/') => folder(to.root, raw),
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                file(to, raw, mode, entry)
            }
            tar::EntryType::Symlink => link(to.root, raw, &target),
            tar::EntryType::Link => copy(to, raw, &target),
            other => Err(Problem::Kind(format!("{other:?} member").to_lowercase())),
        }
    })
}

fn from_zip(to: &Target<'_>, member: super::zip::Member<'_>) -> Result<(), Problem> {
    let mode = member.mode.unwrap_or(0o644);
    match mode & TYPE_BITS {
        _ if member.is_folder => folder(to.root, member.path),
        0 | TYPE_FILE => file(to, member.path, mode, member.bytes),
        TYPE_LINK => {
            let mut target = String::new();
            let mut bytes = member.bytes.take(TARGET_BYTES_AT_MOST);
            bytes.read_to_string(&mut target).map_err(Problem::Io)?;
            link(to.root, member.path, &target)
        }
        kind => Err(Problem::Kind(format!("member of type {kind:o}"))),
    }
}

/// The place of a member, unless it is the top itself.
fn place(root: &Path, raw: &str) -> Result<Option<std::path::PathBuf>, Problem> {
    if raw.starts_with('/') {
        return Err(Problem::Escapes);
    }
    let name = path::clean(raw).ok_or(Problem::Escapes)?;
    if name.is_empty() { Ok(None) } else { path::place(root, &name).map(Some) }
}

fn folder(root: &Path, raw: &str) -> Result<(), Problem> {
    let Some(place) = place(root, raw)? else { return Ok(()) };
    match fs::create_dir(&place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let there = fs::symlink_metadata(&place).map_err(Problem::Io)?;
            if there.is_dir() { Ok(()) } else { Err(Problem::Io(error)) }
        }
        Err(error) => Err(Problem::Io(error)),
        Ok(()) => super::deb::set_mode(&place, 0o755).map_err(Problem::Io),
    }
}

fn file(to: &Target<'_>, raw: &str, mode: u32, bytes: &mut dyn Read) -> Result<(), Problem> {
    let Some(place) = place(to.root, raw)? else { return Err(Problem::Escapes) };
    write(to, &place, bytes, if mode & 0o100 == 0 { 0o644 } else { 0o755 })
}

fn write(to: &Target<'_>, place: &Path, bytes: &mut dyn Read, mode: u32) -> Result<(), Problem> {
    super::deb::remove_file(place).map_err(Problem::Io)?;
    let file = fs::OpenOptions::new().write(true).create_new(true).open(place);
    to.room.copy(bytes, &mut file.map_err(Problem::Io)?)?;
    super::deb::set_mode(place, mode).map_err(Problem::Io)
}

fn link(root: &Path, raw: &str, target: &str) -> Result<(), Problem> {
    let Some(place) = place(root, raw)? else { return Err(Problem::Escapes) };
    super::deb::remove_file(&place).and_then(|()| symlink(target, &place)).map_err(Problem::Io)
}

/// A hard link, as the copy of the file that it names.
fn copy(to: &Target<'_>, raw: &str, target: &str) -> Result<(), Problem> {
    let Some(from) = place(to.root, target)? else { return Err(Problem::Escapes) };
    let Some(place) = place(to.root, raw)? else { return Err(Problem::Escapes) };
    let there = fs::symlink_metadata(&from).map_err(Problem::Io)?;
    if there.is_symlink() {
        let target = fs::read_link(&from).map_err(Problem::Io)?;
        return super::deb::remove_file(&place)
            .and_then(|()| symlink(target, &place))
            .map_err(Problem::Io);
    }
    if from == place {
        return Ok(());
    }
    let mut bytes = fs::File::open(&from).map_err(Problem::Io)?;
    write(to, &place, &mut bytes, there.permissions().mode() & 0o777)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::model::Entry;

    type Tar = tar::Builder<Vec<u8>>;

    fn append(tar: &mut Tar, name: &str, kind: tar::EntryType, bytes: &[u8], link: &str) {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(if name.ends_with(".sh") { 0o4711 } else { 0o400 });
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }

    fn tar(build: &dyn Fn(&mut Tar)) -> Vec<u8> {
        let mut tar = Tar::new(Vec::new());
        build(&mut tar);
        tar.into_inner().unwrap()
    }

    /// Unpacks and lists: `path mode`, `path -> target`.
    fn unpack(bytes: &[u8]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let (archive, out) = (folder.path().join("x.archive"), folder.path().join("out"));
        fs::write(&archive, bytes).unwrap();
        fs::create_dir(&out).unwrap();
        let result = unpack_source(&archive, &folder.path().join("scratch"), &out);
        assert!(!folder.path().join("escaped").exists());
        let place = folder.path().display().to_string();
        result.map_err(|error| error.to_string().replace(&format!("{place}/"), ""))?;
        let tree = crate::store::describe(&out).unwrap();
        let lines = tree.entries.into_iter().map(|(path, entry)| match entry {
            Entry::Link { target } => format!("{path} -> {target}"),
            Entry::Folder { mode } | Entry::File { mode, .. } => format!("{path} {mode:o}"),
        });
        Ok(lines.collect())
    }

    fn sample(tar: &mut Tar) {
        use tar::EntryType::{Directory, Link, Regular, Symlink, XGlobalHeader};
        append(tar, "pax_global_header", XGlobalHeader, b"18 comment=0123456\n", "");
        append(tar, "./x-1.0/", Directory, b"", "");
        append(tar, "x-1.0/src/a.c", Regular, b"int a;", "");
        append(tar, "x-1.0/configure.sh", Regular, b"#!/bin/sh", "");
        append(tar, "x-1.0/src/b.c", Link, b"", "x-1.0/src/a.c");
        append(tar, "x-1.0/old/", Regular, b"", "");
        append(tar, "x-1.0/include", Symlink, b"", "src/../src");
        append(tar, "x-1.0/src/up", Symlink, b"", "../include/missing");
    }

    const SAMPLE: [&str; 7] = [
        "configure.sh 755",
        "include -> src/../src",
        "old 755",
        "src 755",
        "src/a.c 644",
        "src/b.c 644",
        "src/up -> ../include/missing",
    ];

    #[test]
    fn every_compression_gives_the_same_tree() {
        use flate2::write::GzEncoder;
        let plain = tar(&sample);
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&plain).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&plain).unwrap();
        for bytes in [
            zstd::encode_all(plain.as_slice(), 1).unwrap(),
            gzip.finish().unwrap(),
            xz.finish().unwrap(),
            bzip2.finish().unwrap(),
            plain,
        ] {
            assert_eq!(unpack(&bytes).unwrap(), SAMPLE);
        }
    }

    fn zip(members: &[(&str, &str, u32)]) -> Vec<u8> {
        let mut zip = ::zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, text, mode) in members {
            let options = ::zip::write::SimpleFileOptions::default().unix_permissions(*mode);
            if mode & TYPE_BITS == TYPE_LINK {
                zip.add_symlink(*name, *text, options).unwrap();
            } else if name.ends_with('/') {
                zip.add_directory(*name, options).unwrap();
            } else {
                zip.start_file(*name, options).unwrap();
                zip.write_all(text.as_bytes()).unwrap();
            }
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn zip_archives_have_links_and_modes_too() {
        let bytes = zip(&[
            ("x/", "", 0o755),
            ("x/run.sh", "#!/bin/sh", 0o755),
            ("x/a.c", "int a;", 0o640),
            ("x/b.c", "a.c", TYPE_LINK | 0o777),
        ]);
        assert_eq!(unpack(&bytes).unwrap(), ["a.c 644", "b.c -> a.c", "run.sh 755"]);
        let outside = ": it would be written outside the folder";
        for hostile in [
            zip(&[("../escaped", "x", 0o644)]),
            zip(&[("/escaped", "x", 0o644)]),
            zip(&[("a", "../escaped", TYPE_LINK | 0o777), ("b", "", 0o644)]),
            zip(&[("a", "..", TYPE_LINK | 0o777), ("a/escaped", "", 0o644)]),
        ] {
            let error = unpack(&hostile).unwrap_err();
            assert!(error.ends_with(outside), "{error}");
        }
    }

    #[test]
    fn only_a_lone_folder_is_left_out() {
        use tar::EntryType::{Directory, Regular};
        let two = tar(&|tar| {
            append(tar, "a/x", Regular, b"", "");
            append(tar, "README", Regular, b"", "");
        });
        assert_eq!(unpack(&two).unwrap(), ["README 644", "a 755", "a/x 644"]);
        let file = tar(&|tar| append(tar, "x.c", Regular, b"", ""));
        assert_eq!(unpack(&file).unwrap(), ["x.c 644"]);
        let empty = tar(&|tar| append(tar, "x/", Directory, b"", ""));
        assert_eq!(unpack(&empty).unwrap_err(), "cannot unpack x.archive: it has no member");
    }

    #[test]
    fn hostile_members_are_refused() {
        use tar::EntryType::{Block, Fifo, Link, Regular, Symlink};
        let outside = "it would be written outside the folder";
        let check = |build: &dyn Fn(&mut Tar), member: &str, why: &str| {
            let error = unpack(&tar(&|tar| {
                append(tar, "x/a/b/file", Regular, b"", "");
                build(tar);
            }));
            let expected = format!("cannot unpack x.archive, member `{member}`: {why}");
            assert_eq!(error.unwrap_err(), expected);
        };
        check(&|tar| append(tar, "../escaped", Regular, b"x", ""), "../escaped", outside);
        check(&|tar| append(tar, "x/../escaped", Regular, b"x", ""), "x/../escaped", outside);
        check(&|tar| append(tar, "/escaped", Regular, b"x", ""), "/escaped", outside);
        check(&|tar| append(tar, "x/l", Symlink, b"", "/etc/passwd"), "l", outside);
        check(&|tar| append(tar, "x/l", Symlink, b"", "../x/a"), "l", outside);
        check(&|tar| append(tar, "x/h", Link, b"", "../escaped"), "x/h", outside);
        check(&|tar| append(tar, "x/h", Link, b"", "/etc/passwd"), "x/h", outside);
        let through = |tar: &mut Tar| {
            append(tar, "x/d", Symlink, b"", "..");
            append(tar, "x/d/escaped", Regular, b"x", "");
        };
        check(&through, "x/d/escaped", outside);
        let copied = |tar: &mut Tar| {
            append(tar, "x/d", Symlink, b"", "/etc");
            append(tar, "x/h", Link, b"", "x/d/passwd");
        };
        check(&copied, "x/h", outside);
        // Each step is inside as its text says, and yet the last is not.
        let wound = |tar: &mut Tar| {
            append(tar, "x/d", Symlink, b"", ".");
            append(tar, "x/a/b/l", Symlink, b"", "../../d/d/d/../..");
        };
        check(&wound, "a/b/l", outside);
        check(&|tar| append(tar, "x/dev", Block, b"", ""), "x/dev", "it is a block member");
        check(&|tar| append(tar, "x/pipe", Fifo, b"", ""), "x/pipe", "it is a fifo member");
    }

    #[test]
    fn links_are_followed_where_they_lead() {
        use tar::EntryType::{Regular, Symlink};
        let fine = tar(&|tar| {
            append(tar, "x/a/b/file", Regular, b"", "");
            append(tar, "x/deep", Symlink, b"", "a/b");
            // Above the top by its text alone.
            append(tar, "x/l", Symlink, b"", "deep/../../a");
            append(tar, "x/loop", Symlink, b"", "loop/../..");
        });
        assert_eq!(unpack(&fine).unwrap().len(), 6);
    }

    #[test]
    fn other_bytes_are_no_archive() {
        let error = unpack(b"<html>not found</html>").unwrap_err();
        assert!(error.starts_with("cannot unpack x.archive: it is neither a tar"), "{error}");
        assert!(unpack(b"").is_err());
        assert!(unpack(b"PK\x03\x04 and no more").is_err());
        let whole = tar(&sample);
        for length in [600, 1000, 1600] {
            let gzip = {
                let level = flate2::Compression::fast();
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
                gzip.write_all(&whole[..length]).unwrap();
                gzip.finish().unwrap()
            };
            assert!(unpack(&gzip[..gzip.len() / 2]).is_err(), "{length}");
        }
        let mut old = tar(&|tar| append(tar, "x.c", tar::EntryType::Regular, b"", ""));
        old[TAR_MAGIC_AT..TAR_MAGIC_AT + 8].fill(0);
        let sum: u32 = (0..512)
            .map(|at| u32::from(if (148..156).contains(&at) { b' ' } else { old[at] }))
            .sum();
        old[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(unpack(&old).unwrap(), ["x.c 644"]);
    }
}
