//! Units that may use the network: packages, crates, Go modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::execute::{UnitError, text};
use super::library_lock::{lock_file, manifests, remove_if_there};
use super::{Engine, vendor};
use crate::archive::deb::{UnpackOptions, unpack_deb};
use crate::archive::exclude::Exclude;
use crate::machine::process::Process;
use crate::model::action::{UnpackAction, VendorSources};
use crate::model::event::Event;
use crate::model::package::Package;

/// Parts of packages that no toolchain needs.
const DOCUMENTATION: [&str; 6] = [
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/bug",
];

/// Makes sure that the packages are in the store, checked.
pub fn fetch(
    engine: &Engine,
    unit: &str,
    packages: &[Package],
    scratch: &Path,
) -> Result<(), UnitError> {
    let _one_at_a_time = engine.network.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    vendor::take_files(engine, packages.iter().map(|package| &package.sha256), scratch)?;
    let missing: Vec<Package> =
        packages.iter().filter(|package| engine.blob(&package.sha256).is_none()).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    engine.tell(Event::Download {
        what: format!("{} packages for {unit}", missing.len()),
        size_bytes: Some(missing.iter().map(|package| package.size_bytes).sum()),
        to: engine.store.root().join("blobs").display().to_string(),
    });
    let folder = scratch.join("packages");
    fs::create_dir_all(&folder).map_err(text)?;
    let mut by_architecture: BTreeMap<&str, Vec<Package>> = BTreeMap::new();
    let some = packages.iter().find(|package| package.architecture != "all");
    let host = crate::toolchain::description::host();
    let native = match (some, host) {
        (Some(package), _) => package.architecture.as_str(),
        (None, Some(host)) => &host.debian_architecture,
        (None, None) => {
            return Err("this machine's architecture has no toolchain description".into());
        }
    };
    for package in &missing {
        let architecture = match package.architecture.as_str() {
            "all" => native,
            architecture => architecture,
        };
        by_architecture.entry(architecture).or_default().push(package.clone());
    }
    for (architecture, packages) in by_architecture {
        let files = engine.archives.fetch(architecture, &packages, &folder).map_err(|error| {
            let help = error.help().map_or_else(String::new, |help| format!("\n  help: {help}"));
            UnitError { message: format!("{error}{help}"), is_remote: error.is_remote() }
        })?;
        for (package, file) in packages.iter().zip(files) {
            engine.store.adopt_blob(&file, &package.sha256).map_err(text)?;
        }
    }
    Ok(())
}

/// Unpacks packages into one tree, downloading those that are not in the store.
pub fn unpack(
    engine: &Engine,
    unit: &str,
    action: &UnpackAction,
    scratch: &Path,
    out: &Path,
) -> Result<(), UnitError> {
    fetch(engine, unit, &action.packages, scratch)?;
    if let Some(options) = &action.root {
        return super::roots::unpack(engine, &action.packages, options, out);
    }
    let options = UnpackOptions { exclude: Exclude::new(&DOCUMENTATION), relative_links: true };
    for package in &action.packages {
        let deb = engine.store.blob_path(&package.sha256);
        unpack_deb(&deb, out, &options).map_err(|error| format!("{package}: {error}"))?;
    }
    for name in ["bin", "lib", "lib32", "lib64", "libx32", "sbin"] {
        if out.join("usr").join(name).is_dir() {
            std::os::unix::fs::symlink(format!("usr/{name}"), out.join(name)).map_err(text)?;
        }
    }
    link_alternatives(&out.join("usr/bin")).map_err(text)?;
    Ok(())
}

/// Links that maintainer scripts and the alternatives system would make.
fn link_alternatives(programs: &Path) -> std::io::Result<()> {
    if !programs.is_dir() {
        return Ok(());
    }
    let mut names: Vec<String> = fs::read_dir(programs)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    for (link, program) in
        [("sh", "dash"), ("awk", "gawk"), ("aclocal", "aclocal-1."), ("automake", "automake-1.")]
    {
        let found = names.iter().rfind(|name| {
            name.as_str() == program || (program.ends_with('.') && name.starts_with(program))
        });
        if let Some(found) = found.filter(|_| !programs.join(link).exists()) {
            std::os::unix::fs::symlink(found, programs.join(link))?;
        }
    }
    Ok(())
}

/// A program of the machine that may use the network, with the user's own settings.
pub(super) fn downloader(engine: &Engine, program: impl Into<PathBuf>) -> Process {
    let mut process = Process::new(program);
    process.environment = engine.environment.for_downloads();
    process
}

/// What says which crates are collected.
pub struct Manifests<'a> {
    /// Where the manifests are.
    pub sources: &'a VendorSources,
    /// The lock file's text, if it is not the one beside them.
    pub lock: Option<&'a str>,
    /// The tree of the first need.
    pub tree: Option<PathBuf>,
}

/// Collects the crates of a lock file.
pub fn crates(
    engine: &Engine,
    unit: &str,
    from: &Manifests<'_>,
    scratch: &Path,
    out: &Path,
) -> Result<(), UnitError> {
    let cargo = engine.cargo.clone().ok_or("no `cargo` on PATH to collect crates with")?;
    let process = downloader(engine, cargo)
        .args(["vendor", "--locked", "--versioned-dirs", "--respect-source-config"])
        .arg(out.join("crates").to_string_lossy());
    let process = match (from.sources, from.lock) {
        (VendorSources::Listing { name, folder }, None) => {
            process.folder(engine.snapshots.whole(name)?.join(folder))
        }
        (sources, lock) => {
            let (tree, folder) = match sources {
                VendorSources::Listing { name, folder } => (engine.snapshots.whole(name)?, folder),
                VendorSources::Need { folder } => {
                    (from.tree.as_deref().ok_or("it needs no tree to find manifests in")?, folder)
                }
            };
            // Nothing runs where the manifests are: settings that they bring are not the user's.
            let manifest = manifests(tree, folder, scratch)?;
            if let Some(lock) = lock {
                let place = lock_file(engine, &manifest, scratch)?;
                remove_if_there(&place).and_then(|()| fs::write(&place, lock)).map_err(text)?;
            }
            let manifest = manifest.to_string_lossy().into_owned();
            process.arg("--manifest-path").arg(manifest).folder(scratch)
        }
    };
    let stdout = download(engine, unit, &process, out)?;
    let place = out.join("crates").to_string_lossy().into_owned();
    let config = stdout.replace(&place, "@VENDOR@/crates");
    fs::write(out.join("config.toml"), config).map_err(text)?;
    Ok(())
}

/// Fills a module cache with what the `go.sum` of a folder of a listing pins.
pub fn modules(
    engine: &Engine,
    unit: &str,
    (sources, folder): (&str, &str),
    go: &Path,
    out: &Path,
) -> Result<(), UnitError> {
    let folder = engine.snapshots.whole(sources)?.join(folder);
    let process = downloader(engine, go.join("bin/go"))
        .args(["mod", "download"])
        .env("GOROOT", go.to_string_lossy())
        .env("GOMODCACHE", out.to_string_lossy())
        .env("GOFLAGS", "-modcacherw")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .folder(folder);
    download(engine, unit, &process, out)?;
    // What the download left beside the modules themselves.
    for name in ["cache/lock", "cache/download/sumdb", "cache/vcs"] {
        let path = out.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(text)?;
        } else if path.exists() {
            fs::remove_file(&path).map_err(text)?;
        }
    }
    remove_locks(&out.join("cache")).map_err(text)?;
    Ok(())
}

/// Runs a downloader, telling what comes and how large it was, and returns its output.
fn download(
    engine: &Engine,
    unit: &str,
    process: &Process,
    out: &Path,
) -> Result<String, UnitError> {
    stop_if_offline(engine)?;
    let to = engine.store.root().join("trees").display().to_string();
    engine.tell(Event::Download { what: unit.to_owned(), size_bytes: None, to });
    let output = ask(process)?;
    let size_bytes = crate::store::describe(out).map_err(text)?.size_bytes();
    engine.tell(Event::Downloaded { what: unit.to_owned(), size_bytes });
    Ok(output)
}

/// An error unless the network may be used.
pub(super) fn stop_if_offline(engine: &Engine) -> Result<(), UnitError> {
    if engine.offline {
        let message =
            "this needs the network, and `--offline` was given\n  help: run once without it";
        return Err(message.into());
    }
    Ok(())
}

/// Runs a downloader and returns what it wrote to standard output.
pub(super) fn ask(process: &Process) -> Result<String, UnitError> {
    let output = process.output().map_err(text)?;
    if output.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = output.text();
    let is_remote = REMOTE_WORDS.iter().any(|remote| words.contains(remote));
    let help = if is_remote {
        "\n  help: check the network, and the registry or proxy that the tool is configured with"
    } else {
        ""
    };
    let program = process.program.file_name().unwrap_or_default().to_string_lossy();
    let message = format!(
        "{program} {} ended with {}:\n{}{help}",
        process.arguments.first().map_or("", String::as_str),
        output.ending(),
        words.trim_end()
    );
    Err(UnitError { message, is_remote })
}

/// How cargo and go say that the other side is to blame.
const REMOTE_WORDS: [&str; 9] = [
    "dial tcp",
    "download of ",
    "i/o timeout",
    "Could not resolve host",
    "Couldn't resolve host",
    "failed to download",
    "failed to query replaced source",
    "network failure",
    "spurious network error",
];

fn remove_locks(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_locks(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
