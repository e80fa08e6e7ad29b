//! Debian binary packages (deb(5)): `control.tar` read, `data.tar` unpacked safely.
//!
//! No maintainer script is run; they are returned as text.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::compression::decoder;
use super::exclude::Exclude;
use super::limits::{MemberProblem, each_entry};
use super::{ArchiveError, Problem, path};

/// How to unpack.
#[derive(Clone, Debug, Default)]
pub struct UnpackOptions {
    /// What is left out.
    pub exclude: Exclude,
    /// Whether absolute link targets become relative, so that the tree works anywhere.
    pub relative_links: bool,
}

/// What `control.tar` says.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// The package's stanza (Debian policy 5.3).
    pub stanza: String,
    /// `md5sums`.
    pub md5sums: String,
    /// Maintainer scripts by name (Debian policy 6).
    pub scripts: BTreeMap<String, String>,
    /// Numbers of users and groups by path, of members that do not belong to 0 and 0.
    pub owners: BTreeMap<String, (u64, u64)>,
}

impl Control {
    /// The one-line value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Unpacks the package's data below `root` in merged-usr form; modes are the package's,
/// owners are only told.
pub fn unpack_deb(
    deb: &Path,
    root: &Path,
    options: &UnpackOptions,
) -> Result<Control, ArchiveError> {
    let failed = |member: Option<String>, problem: Problem| ArchiveError {
        archive: deb.to_owned(),
        member,
        problem,
    };
    let io = |error: io::Error| failed(None, Problem::Io(error));
    let file = fs::File::open(deb).map_err(io)?;
    let packed_bytes = file.metadata().map_err(io)?.len();
    let mut archive = ar::Archive::new(io::BufReader::with_capacity(1 << 18, file));
    let (mut control, mut owners) = (None, None);
    while let Some(entry) = archive.next_entry() {
        let entry = entry.map_err(io)?;
        let name = String::from_utf8_lossy(entry.header().identifier()).into_owned();
        let name = name.trim_end_matches('/').to_owned();
        let is_second = (name.starts_with("control.tar") && control.is_some())
            || (name.starts_with("data.tar") && owners.is_some());
        if is_second {
            return Err(failed(Some(name), Problem::Kind("part that is there twice".to_owned())));
        }
        if let Some(extension) = name.strip_prefix("control.tar") {
            let reader = decoder(extension, entry).map_err(io)?;
            control = Some(read_control(reader).map_err(|problem| failed(Some(name), problem))?);
        } else if let Some(extension) = name.strip_prefix("data.tar") {
            let reader = decoder(extension, entry).map_err(io)?;
            let found = unpack_data(reader, packed_bytes, root, options)
                .map_err(|(member, problem)| failed(Some(member.unwrap_or(name)), problem))?;
            owners = Some(found);
        }
    }
    let owners = owners.ok_or_else(|| failed(None, Problem::Missing("data.tar")))?;
    let control = control.ok_or_else(|| failed(None, Problem::Missing("control.tar")))?;
    Ok(Control { owners, ..control })
}

fn read_control(reader: impl Read) -> Result<Control, Problem> {
    let mut control = Control::default();
    // Texts: what any archive may have is enough, however large the package is.
    let read = each_entry(reader, 0, &mut |path, entry| {
        if !entry.header().entry_type().is_file() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(Problem::Io)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match path.trim_start_matches("./") {
            "control" => control.stanza = text,
            "md5sums" => control.md5sums = text,
            name @ ("preinst" | "postinst" | "prerm" | "postrm" | "config") => {
                control.scripts.insert(name.to_owned(), text);
            }
            _ => {}
        }
        Ok(())
    });
    read.map(|()| control).map_err(|(_, problem)| problem)
}

fn unpack_data(
    reader: impl Read,
    packed_bytes: u64,
    root: &Path,
    options: &UnpackOptions,
) -> Result<BTreeMap<String, (u64, u64)>, MemberProblem> {
    let mut owners = BTreeMap::new();
    let read = each_entry(reader, packed_bytes, &mut |raw, entry| {
        let cleaned = path::clean(raw).ok_or(Problem::Escapes)?;
        let name = path::merged(&cleaned);
        let kind = entry.header().entry_type();
        if cleaned.is_empty()
            || path::MERGED.contains(&cleaned.as_str())
            || options.exclude.matches(&name, kind.is_symlink())
        {
            return Ok(());
        }
        let place = path::place(root, &name)?;
        let mode = entry.header().mode().map_err(Problem::Io)? & 0o7777;
        let link = || {
            let bytes = entry.link_name_bytes().unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let header = entry.header();
        let owner = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
        if owner != (0, 0) {
            owners.insert(name.clone(), owner);
        }
        match kind {
            tar::EntryType::Directory => {
                match fs::create_dir(&place) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(Problem::Io(error));
                    }
                    Err(_) if !fs::symlink_metadata(&place).map_err(Problem::Io)?.is_dir() => {
                        return Ok(());
                    }
                    _ => {}
                }
                set_mode(&place, mode | 0o700).map_err(Problem::Io)
            }
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let mut write = || {
                    remove_file(&place)?;
                    let mut file =
                        fs::OpenOptions::new().write(true).create_new(true).open(&place)?;
                    io::copy(entry, &mut file)?;
                    set_mode(&place, mode)
                };
                write().map_err(Problem::Io)
            }
            tar::EntryType::Symlink => {
                let target = link();
                let target = if options.relative_links {
                    path::relative_target(&name, &target)
                } else {
                    target
                };
                if leaves(&name, &target) {
                    return Err(Problem::Escapes);
                }
                remove_file(&place).and_then(|()| symlink(target, &place)).map_err(Problem::Io)
            }
            tar::EntryType::Link => {
                let target = path::clean(&link()).ok_or(Problem::Escapes)?;
                let target = path::place(root, &path::merged(&target))?;
                let found = fs::symlink_metadata(&target).map_err(Problem::Io)?;
                if !found.is_file() {
                    return Err(Problem::Escapes);
                }
                remove_file(&place)
                    .and_then(|()| fs::hard_link(&target, &place))
                    .map_err(Problem::Io)
            }
            tar::EntryType::XGlobalHeader => Ok(()),
            other => Err(Problem::Kind(format!("{other:?} member").to_lowercase())),
        }
    });
    read.map(|()| owners)
}

/// Whether a relative link at `path` points above the root.
fn leaves(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return false;
    }
    let mut depth = path.matches('/').count() as isize;
    target.split('/').any(|part| {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

/// Removes a file or link, if there is one.
pub(super) fn remove_file(place: &Path) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Sets the permission bits of a file or folder.
pub(super) fn set_mode(place: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(place, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deb(folder: &Path, build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> std::path::PathBuf {
        let mut data = tar::Builder::new(Vec::new());
        build(&mut data);
        let data = data.into_inner().unwrap();
        let mut control = tar::Builder::new(Vec::new());
        append(&mut control, "./control", tar::EntryType::Regular, b"Package: x\nVersion: 1\n", "");
        let control = control.into_inner().unwrap();
        let path = folder.join("x.deb");
        let mut archive = ar::Builder::new(fs::File::create(&path).unwrap());
        for (name, bytes) in
            [("debian-binary", b"2.0\n".to_vec()), ("control.tar", control), ("data.tar", data)]
        {
            archive
                .append(&ar::Header::new(name.into(), bytes.len() as u64), bytes.as_slice())
                .unwrap();
        }
        path
    }

    fn append(
        tar: &mut tar::Builder<Vec<u8>>,
        name: &str,
        kind: tar::EntryType,
        bytes: &[u8],
        link: &str,
    ) {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    }

    fn check(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let deb = deb(folder.path(), build);
        let result = unpack_deb(&deb, &root, &UnpackOptions::default());
        assert!(!folder.path().join("escaped").exists());
        let control = result
            .map_err(|error| error.to_string().replace(&deb.display().to_string(), "x.deb"))?;
        assert_eq!(control.field("version"), Some("1"));
        let tree = crate::store::describe(&root).unwrap();
        Ok(tree.entries.into_keys().collect())
    }

    #[test]
    fn merged_folders_are_rewritten() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let files = check(|tar| {
            append(tar, "./lib/", Directory, b"", "");
            append(tar, "./lib/x.so.1", Regular, b"x", "");
            append(tar, "./lib/x.so", Symlink, b"", "x.so.1");
            append(tar, "./bin/y", Link, b"", "./lib/x.so.1");
        });
        let expected = ["usr", "usr/bin", "usr/bin/y", "usr/lib", "usr/lib/x.so", "usr/lib/x.so.1"];
        assert_eq!(files.unwrap(), expected);
    }

    #[test]
    fn hostile_members_are_refused() {
        use tar::EntryType::{Block, Link, Regular, Symlink};
        let refused = |build: &dyn Fn(&mut tar::Builder<Vec<u8>>)| check(build).unwrap_err();
        let outside = "it would be written outside the folder";
        let error = refused(&|tar| append(tar, "../escaped", Regular, b"x", ""));
        assert_eq!(error, format!("cannot unpack x.deb, member `../escaped`: {outside}"));
        let error = refused(&|tar| {
            append(tar, "d", Symlink, b"", "/tmp");
            append(tar, "d/escaped", Regular, b"x", "");
        });
        assert_eq!(error, format!("cannot unpack x.deb, member `d/escaped`: {outside}"));
        let error = refused(&|tar| append(tar, "d", Symlink, b"", "../../escaped"));
        assert!(error.ends_with(outside), "{error}");
        let error = refused(&|tar| append(tar, "h", Link, b"", "../escaped"));
        assert!(error.ends_with(outside), "{error}");
        let error = refused(&|tar| append(tar, "dev", Block, b"", ""));
        assert_eq!(error, "cannot unpack x.deb, member `dev`: it is a block member");
    }

    #[test]
    fn bombs_and_what_only_bombs_have_are_refused() {
        use tar::EntryType::{GNULongName, GNUSparse, Regular};
        let zeros = vec![0; 100 << 20];
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let check = |build: &dyn Fn(&mut ar::Builder<fs::File>)| {
            let file = folder.path().join("y.deb");
            let mut archive = ar::Builder::new(fs::File::create(&file).unwrap());
            build(&mut archive);
            drop(archive);
            let error = unpack_deb(&file, &root, &UnpackOptions::default()).unwrap_err();
            error.to_string().replace(&file.display().to_string(), "y.deb")
        };
        let member = |archive: &mut ar::Builder<fs::File>, name: &str, bytes: &[u8]| {
            let header = ar::Header::new(name.into(), bytes.len() as u64);
            archive.append(&header, bytes).unwrap();
        };
        let packed = |name: &str, kind: tar::EntryType, bytes: &[u8]| {
            let mut tar = tar::Builder::new(Vec::new());
            append(&mut tar, name, kind, bytes, "");
            zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap()
        };
        let bomb = packed("control", Regular, &zeros);
        for part in ["control.tar.zst", "data.tar.zst"] {
            let error = check(&|archive| member(archive, part, &bomb));
            assert!(error.ends_with("bytes when decompressed, which only a bomb has"), "{error}");
        }
        let name = packed("././@LongLink", GNULongName, &zeros[..2 << 20]);
        let error = check(&|archive| member(archive, "data.tar.zst", &name));
        assert!(error.ends_with("its headers are longer than any name"), "{error}");
        let sparse = packed("x", GNUSparse, b"");
        let error = check(&|archive| member(archive, "data.tar.zst", &sparse));
        assert!(error.contains("member `x`: it is a gnusparse member"), "{error}");
        let small = packed("x", Regular, b"x");
        let error = check(&|archive| {
            member(archive, "data.tar.zst", &small);
            member(archive, "data.tar.zst", &small);
        });
        assert!(error.ends_with("`data.tar.zst`: it is a part that is there twice"), "{error}");
    }

    #[test]
    fn damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path =
            deb(folder.path(), |tar| append(tar, "x", tar::EntryType::Regular, &[7; 4096], ""));
        let bytes = fs::read(&path).unwrap();
        for length in [0, 4, 70, 400, bytes.len() - 3000] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                unpack_deb(&path, folder.path(), &UnpackOptions::default()).is_err(),
                "{length}"
            );
        }
    }
}
