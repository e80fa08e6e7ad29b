//! Lock files of crates that come without one: made once, then pinned in `images.lock`.
//!
//! cargo never runs inside a tree that others wrote: its configuration there could name
//! programs to run, and here it has the network and the user's credentials.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Engine;
use super::execute::{UnitError, text};
use super::fetch::{ask, downloader};
use crate::model::Finding;
use crate::model::finding::REMOTE_FAILED;
use crate::store::duplicate;

/// The text of the lock file that a tree brings for the package or workspace in `folder`,
/// if it brings one.
pub fn own_lock(engine: &Engine, tree: &Path, folder: &str) -> Result<Option<String>, Finding> {
    let find = || -> Result<Option<String>, UnitError> {
        let scratch = engine.store.scratch().map_err(text)?;
        let manifest = manifests(tree, folder, scratch.path())?;
        let lock = lock_file(engine, &manifest, scratch.path())?;
        match fs::read_to_string(&lock) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", lock.display()).into()),
        }
    };
    find().map_err(|error| finding("no-cargo-lock", error))
}

/// The text of a new lock file for the package or workspace in `folder` of a tree. It
/// belongs beside the manifest of the workspace, which may be above `folder`. `compiler` is
/// the version of the compiler to come, such as 1.85.0, which crates are chosen for.
pub fn generate_lock(
    engine: &Engine,
    tree: &Path,
    folder: &str,
    compiler: Option<&str>,
) -> Result<String, Finding> {
    if engine.offline {
        let message = "a lock file for crates is needed, and `--offline` was given";
        return Err(Finding::new("offline", message).help("run once without it"));
    }
    let generate = || -> Result<String, UnitError> {
        let scratch = engine.store.scratch().map_err(text)?;
        let manifest = manifests(tree, folder, scratch.path())?;
        let lock = lock_file(engine, &manifest, scratch.path())?;
        remove_if_there(&lock).map_err(text)?;
        let cargo = engine.cargo.clone().ok_or("no `cargo` on PATH to make a lock file with")?;
        let mut process = downloader(engine, cargo)
            .args(["generate-lockfile", "--manifest-path"])
            .arg(manifest.to_string_lossy())
            .folder(scratch.path());
        // Rather an older version than one that the compiler cannot take.
        process = process.env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback");
        if let Some(version) = compiler {
            // The oldest compiler that the package takes says nothing of the one to come.
            forget_rust_versions(&scratch.path().join("manifests")).map_err(text)?;
            let stand_in = scratch.path().join("rustc");
            super::execute::write_tool(&stand_in, &rustc_of(version))?;
            process = process.env("RUSTC", stand_in.to_string_lossy());
        }
        ask(&process)?;
        fs::read_to_string(&lock)
            .map_err(|error| format!("cannot read {}: {error}", lock.display()).into())
    };
    generate().map_err(|error| finding("no-cargo-lock", error))
}

/// Takes `rust-version` out of every manifest of a copy.
fn forget_rust_versions(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            forget_rust_versions(&path)?;
        } else if kind.is_file() && path.file_name().is_some_and(|name| name == "Cargo.toml") {
            let manifest = fs::read_to_string(&path)?;
            let lines = manifest.lines().filter(|line| !line.starts_with("rust-version"));
            let lines: String = lines.flat_map(|line| [line, "\n"]).collect();
            // It may be a link to the file of the store.
            remove_if_there(&path)?;
            fs::write(&path, lines)?;
        }
    }
    Ok(())
}

/// A program that says what cargo asks rustc before it chooses crates: the one that will
/// compile need not be unpacked yet.
fn rustc_of(version: &str) -> String {
    let host = crate::toolchain::description::host().map_or("", |host| &host.triple);
    format!(
        "#!/bin/sh\necho 'rustc {version}'\necho 'binary: rustc'\necho 'commit-hash: unknown'\n\
         echo 'commit-date: unknown'\necho 'host: {host}'\necho 'release: {version}'\n"
    )
}

/// A copy of the tree in scratch, with links to its files, and the manifest in `folder` there.
pub(super) fn manifests(tree: &Path, folder: &str, scratch: &Path) -> Result<PathBuf, String> {
    let copy = scratch.join("manifests");
    duplicate(tree, &copy).map_err(text)?;
    let manifest = copy.join(folder).join("Cargo.toml");
    if manifest.is_file() {
        return Ok(manifest);
    }
    Err(match folder {
        "" => "the sources have no Cargo.toml at their top".to_owned(),
        folder => format!("the sources have no Cargo.toml in `{folder}`"),
    })
}

/// Where cargo looks for the lock file of a manifest in scratch: at the top of its workspace.
pub(super) fn lock_file(
    engine: &Engine,
    manifest: &Path,
    scratch: &Path,
) -> Result<PathBuf, UnitError> {
    let cargo = engine.cargo.clone().ok_or("no `cargo` on PATH to find a workspace with")?;
    let process = downloader(engine, cargo)
        .args(["locate-project", "--workspace", "--message-format", "plain", "--manifest-path"])
        .arg(manifest.to_string_lossy())
        .folder(scratch);
    let root = PathBuf::from(ask(&process)?.trim_end());
    if !root.starts_with(scratch) {
        let message = format!("cargo takes {} for the sources' workspace", root.display());
        return Err(message.into());
    }
    Ok(root.with_file_name("Cargo.lock"))
}

/// Removes a file, if it is there. Written anew, it is no longer a link to a file of the store.
pub(super) fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A unit's error as a problem of the resolver's.
pub(super) fn finding(code: &'static str, error: UnitError) -> Finding {
    let code = if error.is_remote { REMOTE_FAILED } else { code };
    match error.message.split_once("\n  help: ") {
        Some((message, help)) => Finding::new(code, message).help(help),
        None => Finding::new(code, error.message),
    }
}
