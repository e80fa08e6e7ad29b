//! Sources inside a crate of the registry: cargo fetches the `.crate` file with the user's
//! own registries, mirrors and credentials; what is unpacked is the file with the pinned
//! checksum, whatever it came through.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Engine;
use super::execute::{UnitError, text};
use super::fetch::{ask, downloader, stop_if_offline};
use super::library_lock::finding;
use crate::model::event::Event;
use crate::model::{Digest, Finding};
use crate::store::{copy_file, hash_file};

/// The registry's checksum of a crate's `.crate` file: what `images.lock` pins. Downloads
/// nothing but the index.
pub fn crate_checksum(engine: &Engine, name: &str, version: &str) -> Result<Digest, Finding> {
    if engine.offline {
        let message =
            format!("the checksum of crate {name} {version} is needed, and `--offline` was given");
        return Err(Finding::new("offline", message).help("run once without it"));
    }
    let ask = || -> Result<Digest, UnitError> {
        let scratch = engine.store.scratch().map_err(text)?;
        checksum(engine, (name, version), scratch.path())
    };
    ask().map_err(|error| finding("no-crate", error))
}

/// Makes sure that the crate is in the store, and returns its digest.
pub(super) fn fetch(
    engine: &Engine,
    (name, version): (&str, &str),
    pinned: Option<&Digest>,
    scratch: &Path,
) -> Result<Digest, UnitError> {
    let wanted = match pinned {
        Some(pinned) => *pinned,
        None => {
            stop_if_offline(engine)?;
            checksum(engine, (name, version), scratch)?
        }
    };
    if engine.blob(&wanted).is_some() || adopt(engine, (name, version), &wanted, scratch)? {
        return Ok(wanted);
    }
    stop_if_offline(engine)?;
    let what = format!("crate {name} {version}");
    let to = engine.store.root().join("blobs").display().to_string();
    engine.tell(Event::Download { what: what.clone(), size_bytes: None, to });
    // To describe a crate, cargo downloads this one only. It could not always, and never from
    // every kind of registry; then it fetches what the crate depends on too.
    let specification = format!("{name}@{}", plain(version));
    let described = ask(&cargo(engine, scratch)?.args(["info", "--quiet", &specification]));
    if let Err(error) = described.as_ref()
        && error.is_remote
    {
        return described.map(|_| wanted);
    }
    let mut found = adopt(engine, (name, version), &wanted, scratch)?;
    if !found && downloaded(engine, name, version).is_empty() {
        let package = package(engine, (name, version), scratch)?;
        ask(&cargo(engine, scratch)?.args(["fetch", "--manifest-path", &package]))?;
        found = adopt(engine, (name, version), &wanted, scratch)?;
    }
    if !found {
        return Err(absent(engine, &what, (name, version), &wanted).into());
    }
    let size_bytes = fs::metadata(engine.store.blob_path(&wanted)).map_or(0, |file| file.len());
    engine.tell(Event::Downloaded { what, size_bytes });
    Ok(wanted)
}

/// Moves the `folder` of an unpacked crate to `out`, an empty folder.
pub(super) fn take(unpacked: &Path, folder: &str, out: &Path) -> Result<(), String> {
    // What cargo and the registry add is not the library's.
    for name in [".cargo-ok", ".cargo-checksum.json"] {
        let path = unpacked.join(name);
        if path.is_file() {
            fs::remove_file(&path).map_err(text)?;
        }
    }
    let mut place = unpacked.to_owned();
    for part in folder.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let known = folders(&place).map_err(text)?;
        if !known.iter().any(|name| name == part) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!(
                "it has no folder `{folder}`; where `{part}` should be there is {known}"
            ));
        }
        place.push(part);
    }
    if let Some(link) = crate::archive::source::leaving_link(&place).map_err(text)? {
        return Err(format!("the link `{link}` leads out of `{folder}`"));
    }
    fs::rename(&place, out).map_err(text)
}

/// Names of the folders in a folder.
fn folders(place: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The machine's cargo, away from the project and from what was unpacked.
fn cargo(engine: &Engine, scratch: &Path) -> Result<crate::machine::process::Process, String> {
    let cargo = engine.cargo.clone().ok_or("no `cargo` on PATH to fetch a crate with")?;
    Ok(downloader(engine, cargo).folder(scratch))
}

/// The version without build metadata, which requirements do not have.
fn plain(version: &str) -> &str {
    version.split('+').next().unwrap_or_default()
}

/// Whether a crate's whole version is the one that was asked for, maybe without metadata.
fn same(whole: &str, version: &str) -> bool {
    whole == version || plain(whole) == version
}

/// Writes a package that depends on that crate alone, and returns its manifest.
fn package(
    engine: &Engine,
    (name, version): (&str, &str),
    scratch: &Path,
) -> Result<String, UnitError> {
    let is_plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
    };
    if !is_plain(name) || !is_plain(version) {
        return Err(format!("`{name}` and `{version}` are no name and version of a crate").into());
    }
    let folder = scratch.join("package");
    let manifest = folder.join("Cargo.toml");
    let content = format!(
        "[package]\nname = \"source-of-{name}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
         [lib]\npath = \"lib.rs\"\n\n[workspace]\n\n[dependencies.{name}]\n\
         version = \"={}\"\ndefault-features = false\n",
        plain(version)
    );
    let write = |path: &Path, content: &str| engine.store.write_file(path, content.as_bytes());
    write(&manifest, &content).map_err(text)?;
    write(&folder.join("lib.rs"), "").map_err(text)?;
    Ok(manifest.to_string_lossy().into_owned())
}

/// Asks the registry for the checksum.
fn checksum(
    engine: &Engine,
    (name, version): (&str, &str),
    scratch: &Path,
) -> Result<Digest, UnitError> {
    let manifest = package(engine, (name, version), scratch)?;
    ask(&cargo(engine, scratch)?.args(["generate-lockfile", "--manifest-path", &manifest]))?;
    let lock = Path::new(&manifest).with_file_name("Cargo.lock");
    let lock = fs::read_to_string(&lock)
        .map_err(|error| format!("cannot read {}: {error}", lock.display()))?;
    locked_checksum(&lock, name, version)
        .ok_or_else(|| format!("the registry has no crate {name} {version} with a checksum").into())
}

#[derive(Deserialize)]
struct CargoLock {
    #[serde(default)]
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The checksum that a Cargo.lock has for a crate.
fn locked_checksum(lock: &str, name: &str, version: &str) -> Option<Digest> {
    let lock: CargoLock = toml::from_str(lock).ok()?;
    let is_it = |package: &&LockedPackage| package.name == name && same(&package.version, version);
    Digest::from_hex(lock.package.iter().find(is_it)?.checksum.as_deref()?).ok()
}

/// Files of that crate and version that cargo has downloaded, from any registry.
fn downloaded(engine: &Engine, name: &str, version: &str) -> Vec<PathBuf> {
    let environment = &engine.environment;
    let home = match (environment.get("CARGO_HOME"), environment.get("HOME")) {
        (Some(folder), _) => environment.folder.join(folder),
        (None, Some(home)) => Path::new(home).join(".cargo"),
        (None, None) => return Vec::new(),
    };
    let start = format!("{name}-");
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let whole = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".crate"));
        whole.is_some_and(|whole| same(whole, version))
    };
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    entries(&home.join("registry/cache"))
        .flat_map(|registry| entries(&registry.path()))
        .map(|file| file.path())
        .filter(is_it)
        .collect()
}

/// Brings the file with the wanted checksum from cargo's cache into the store, if it is there.
fn adopt(
    engine: &Engine,
    (name, version): (&str, &str),
    wanted: &Digest,
    scratch: &Path,
) -> Result<bool, UnitError> {
    for path in downloaded(engine, name, version) {
        let file = scratch.join("crate.download");
        // cargo may be writing or removing it now.
        match copy_file(&path, &file) {
            Ok(found) if found == *wanted => {
                engine.store.adopt_blob(&file, wanted).map_err(text)?;
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(text(error).into());
            }
            _ => {}
        }
        super::library_lock::remove_if_there(&file).map_err(text)?;
    }
    Ok(false)
}

/// Why the wanted file is not there although cargo downloaded what the registry has.
fn absent(engine: &Engine, what: &str, (name, version): (&str, &str), wanted: &Digest) -> String {
    let others = downloaded(engine, name, version);
    let found = others.iter().find_map(|path| hash_file(path).ok());
    match found {
        Some((found, _)) => format!(
            "{what} is not the crate that images.lock pins\n  expected sha256 {}\n  found    \
             sha256 {}\n  help: if the crate is right, remove its entry from images.lock and run \
             again; if not, something between here and the registry changed it",
            wanted.hex(),
            found.hex()
        ),
        None => format!(
            "cargo keeps no archive of {what}\n  help: a registry that is a plain folder of \
             crates has none; name that folder with `path` instead"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_found_by_name_and_version() {
        let hex = Digest::of(b"x").hex();
        let lock = format!(
            "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\n\
             name = \"z-sys\"\nversion = \"2.0.1+z.1.5\"\nchecksum = \"{hex}\"\n"
        );
        assert_eq!(locked_checksum(&lock, "z-sys", "2.0.1"), Some(Digest::of(b"x")));
        assert_eq!(locked_checksum(&lock, "z-sys", "2.0.1+z.1.5"), Some(Digest::of(b"x")));
        assert_eq!(locked_checksum(&lock, "z-sys", "2.0.1+z.1.4"), None);
        assert_eq!(locked_checksum(&lock, "z-sys", "2.0.2"), None);
        assert_eq!(locked_checksum(&lock, "a", "1.0.0"), None);
    }

    #[test]
    fn a_folder_of_a_crate_is_taken() {
        let take_from = |folder: &str| {
            let scratch = tempfile::tempdir().unwrap();
            let (whole, out) = (scratch.path().join("crate"), scratch.path().join("out"));
            fs::create_dir_all(whole.join("lib/x")).unwrap();
            fs::create_dir(&out).unwrap();
            fs::write(whole.join("lib/x/a.c"), "").unwrap();
            fs::write(whole.join("b.c"), "").unwrap();
            fs::write(whole.join(".cargo-ok"), "ok").unwrap();
            std::os::unix::fs::symlink("../b.c", whole.join("lib/up")).unwrap();
            take(&whole, folder, &out)?;
            let tree = crate::store::describe(&out).unwrap();
            Ok::<_, String>(tree.entries.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(take_from("").unwrap(), ["b.c", "lib", "lib/up", "lib/x", "lib/x/a.c"]);
        assert_eq!(take_from("lib/x/").unwrap(), ["a.c"]);
        let error = take_from("lib/y").unwrap_err();
        assert_eq!(error, "it has no folder `lib/y`; where `y` should be there is x");
        assert!(take_from("lib/../lib").is_err());
        assert_eq!(take_from("lib").unwrap_err(), "the link `up` leads out of `lib`");
    }
}
