//! Debian packages through the machine's own apt, in a state of its own.
//!
//! apt resolves, downloads and checks signatures with the mirrors and keys that the
//! machine is configured with, for any architecture, without root. Each architecture
//! has a state folder of its own: with several in one, the resolver mixes them.
//! Deliberately absent: unpacking, and what the packages are for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::machine::disk::available_bytes;
use crate::machine::environment::Environment;
use crate::machine::process::{Output, Process, ProcessError};
use crate::model::package::{Package, PackageRequest, PackageSet};
use crate::model::{Digest, Hasher};
use crate::store::NO_SPACE_HELP;

/// Lists younger than this are not asked for again.
const LISTS_STAY_FRESH: Duration = Duration::from_secs(3600);

/// What the package lists of one architecture take while they are read.
const LISTS_BYTES: u64 = 96 << 20;

/// Version that a package has which counts as installed.
const PROVIDED_VERSION: &str = "9999:9999";

/// The machine's apt.
#[derive(Debug)]
pub struct Apt {
    state: PathBuf,
    apt_get: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    offline: bool,
    updated: Mutex<BTreeSet<String>>,
}

/// Why packages could not be had.
#[derive(Debug)]
pub enum AptError {
    /// There is no `apt-get` on `PATH`.
    NoApt,
    /// The network would be needed, and `--offline` was given.
    Offline {
        /// For what.
        what: String,
    },
    /// The archive has no package of that name.
    NoSuchPackage {
        /// Package name.
        name: String,
        /// Debian architecture.
        architecture: String,
    },
    /// The archive has the package, but no longer this version of it.
    NoSuchVersion {
        /// The pinned package.
        package: Box<Package>,
    },
    /// A downloaded file is not what is pinned.
    WrongHash {
        /// The pinned package.
        package: Box<Package>,
        /// Digest of what came.
        found: Digest,
    },
    /// The archive could not be reached, or did not deliver.
    Remote {
        /// What was asked of it.
        doing: String,
        /// apt's words.
        text: String,
    },
    /// The disk is full.
    DiskFull {
        /// What was being done.
        doing: String,
        /// Where.
        folder: PathBuf,
    },
    /// apt says no.
    Apt {
        /// What it was asked.
        doing: String,
        /// Its words.
        text: String,
    },
    /// Something that apt printed cannot be understood.
    Unparsable {
        /// The line.
        line: String,
    },
    /// apt could not be started.
    Process(ProcessError),
    /// A file of apt's state could not be written or read.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for AptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApt => f.write_str("no `apt-get` on PATH"),
            Self::Offline { what } => {
                write!(f, "{what} would need the network, and `--offline` was given")
            }
            Self::NoSuchPackage { name, architecture } => {
                write!(f, "the package archive has no package `{name}` for {architecture}")
            }
            Self::NoSuchVersion { package } => {
                write!(f, "the package archive no longer has {package}, which images.lock pins")
            }
            Self::WrongHash { package, found } => {
                write!(f, "{package} has the hash {found}, images.lock pins {}", package.sha256)
            }
            Self::Remote { doing, text } | Self::Apt { doing, text } => {
                write!(f, "apt could not {doing}:\n{}", text.trim_end())
            }
            Self::DiskFull { doing, folder } => {
                write!(f, "cannot {doing}: no space left on device in {}", folder.display())
            }
            Self::Unparsable { line } => {
                write!(f, "apt printed a line that is not understood: {line}")
            }
            Self::Process(error) => error.fmt(f),
            Self::File { path, source } => write!(f, "cannot use {}: {source}", path.display()),
        }
    }
}

impl AptError {
    /// Whether the other side is to blame, not the request.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }

    /// What the user can do.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoApt => {
                "packages come through apt: run this on Debian or Ubuntu, or in a container of one"
                    .to_owned()
            }
            Self::Offline { .. } => "run once without `--offline`".to_owned(),
            Self::NoSuchPackage { name, architecture } => format!(
                "check the name with `apt-cache policy {name}`, and that apt's sources list \
                 {architecture}"
            ),
            Self::NoSuchVersion { .. } => {
                "remove images.lock to pin what the archive has now".to_owned()
            }
            Self::WrongHash { package, .. } => format!(
                "the file was damaged on its way, images.lock was edited, or the archive changed \
                 a published version; compare with `apt-cache show {}={}`",
                package.name, package.version
            ),
            Self::Remote { .. } => "check the network, proxies and the mirrors in apt's \
                 configuration; what is downloaded already serves with `--offline`"
                .to_owned(),
            Self::DiskFull { .. } => NO_SPACE_HELP.to_owned(),
            _ => return None,
        })
    }
}

impl std::error::Error for AptError {}

impl From<ProcessError> for AptError {
    fn from(error: ProcessError) -> Self {
        Self::Process(error)
    }
}

impl Apt {
    /// The machine's apt, with its state below `state`.
    pub fn new(environment: &Environment, state: PathBuf, offline: bool) -> Self {
        let mut variables = environment.for_downloads();
        variables.insert("LC_ALL".into(), "C.UTF-8".into());
        variables.insert("DEBIAN_FRONTEND".into(), "noninteractive".into());
        Self {
            state,
            apt_get: environment.find_program("apt-get"),
            environment: variables,
            offline,
            updated: Mutex::default(),
        }
    }

    /// Resolves a request to pinned packages. `refreshing` is told before the package
    /// lists are downloaded, and their size in bytes afterwards.
    pub fn resolve(
        &self,
        request: &PackageRequest,
        refreshing: &mut dyn FnMut(&Path, Option<u64>),
    ) -> Result<PackageSet, AptError> {
        let architecture = &request.architecture;
        if self.offline {
            let what =
                format!("choosing packages for {architecture} that images.lock does not pin");
            return Err(AptError::Offline { what });
        }
        let _alone = self.lock(architecture)?;
        self.update(architecture, refreshing)?;
        let status = self.folder(architecture).join("provided");
        let stanzas: String =
            request.provided.iter().map(|name| provided_stanza(name, architecture)).collect();
        write(&status, &stanzas)?;
        let mut process = self.apt(architecture)?;
        process = process.arg("-o").arg(format!("Dir::State::status={}", status.display()));
        process = process.args(["-o", "Acquire::ForceHash=SHA256", "-qq", "--print-uris"]);
        process = process.arg(if request.closure { "install" } else { "download" });
        let output = process.args(&request.packages).output()?;
        if !output.success() {
            return Err(failure(&output, request, "choose packages"));
        }
        let mut packages = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(parse_uri_line)
            .collect::<Result<Vec<_>, _>>()?;
        packages.sort();
        packages.dedup();
        Ok(PackageSet { packages })
    }

    /// Downloads pinned packages into `destination`, checks them, and returns their files
    /// in the order of `packages`. `architecture` is the one that the set was resolved for.
    pub fn fetch(
        &self,
        architecture: &str,
        packages: &[Package],
        destination: &Path,
    ) -> Result<Vec<PathBuf>, AptError> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        if self.offline {
            let what = format!("downloading {} packages", packages.len());
            return Err(AptError::Offline { what });
        }
        let _alone = self.lock(architecture)?;
        self.update(architecture, &mut |_, _| ())?;
        let size_bytes = packages.iter().map(|package| package.size_bytes).sum();
        check_room(destination, size_bytes, "download packages")?;
        let names = packages.iter().map(|package| {
            format!("{}:{}={}", package.name, qualifier(package, architecture), package.version)
        });
        let process = self
            .apt(architecture)?
            .args(["-qq", "-o", "Acquire::Retries=3", "download"])
            .args(names)
            .folder(destination);
        let output = process.output()?;
        if !output.success() {
            let text = output.text();
            let missing = packages.iter().find(|package| {
                text.lines().any(|line| {
                    line.contains(&format!("'{}' for '{}", package.version, package.name))
                })
            });
            return Err(match missing {
                Some(package) => AptError::NoSuchVersion { package: Box::new(package.clone()) },
                None => remote("download packages".into(), &output, destination),
            });
        }
        packages
            .iter()
            .map(|package| {
                let version = package.version.replace(':', "%3a");
                let name = format!("{}_{version}_{}.deb", package.name, package.architecture);
                let path = destination.join(name);
                let mut hasher = Hasher::new();
                let copied =
                    fs::File::open(&path).and_then(|mut file| io::copy(&mut file, &mut hasher));
                copied.map_err(|source| AptError::File { path: path.clone(), source })?;
                match hasher.finish() {
                    (digest, _) if digest == package.sha256 => Ok(path),
                    (found, _) => {
                        Err(AptError::WrongHash { package: Box::new(package.clone()), found })
                    }
                }
            })
            .collect()
    }

    fn folder(&self, architecture: &str) -> PathBuf {
        self.state.join(architecture)
    }

    /// Waits until no other process uses the state of this architecture: apt's own locks
    /// are off, because they would want root. The lock dies with its process.
    fn lock(&self, architecture: &str) -> Result<fs::File, AptError> {
        let folder = self.folder(architecture);
        let path = folder.join("lock");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::File::create(&path))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| AptError::File { path, source })
    }

    /// An `apt-get` that knows one architecture and none of the machine's own state.
    fn apt(&self, architecture: &str) -> Result<Process, AptError> {
        let program = self.apt_get.as_ref().ok_or(AptError::NoApt)?;
        let folder = self.folder(architecture);
        let options = [
            format!("Dir::State={}", folder.join("state").display()),
            format!("Dir::State::status={}", folder.join("status").display()),
            format!("Dir::Cache={}", folder.join("cache").display()),
            format!("Dir::Log={}", folder.join("log").display()),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
            "APT::Install-Recommends=0".into(),
            "APT::Install-Suggests=0".into(),
            "APT::Get::Show-User-Simulation-Note=0".into(),
            "APT::Sandbox::User=".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Debug::NoLocking=1".into(),
        ];
        let mut process = Process::new(program);
        process.environment = self.environment.clone();
        Ok(options.into_iter().fold(process, |process, option| process.arg("-o").arg(option)))
    }

    /// Downloads the package lists of an architecture unless they are fresh.
    fn update(
        &self,
        architecture: &str,
        refreshing: &mut dyn FnMut(&Path, Option<u64>),
    ) -> Result<(), AptError> {
        let mut updated = self.updated.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if updated.contains(architecture) {
            return Ok(());
        }
        let folder = self.folder(architecture);
        for name in ["state/lists/partial", "cache/archives/partial", "log"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(|source| AptError::File { path, source })?;
        }
        write(&folder.join("status"), "")?;
        let stamp = folder.join("updated");
        let fresh = fs::metadata(&stamp)
            .and_then(|status| status.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < LISTS_STAY_FRESH));
        if !fresh {
            let lists = folder.join("state/lists");
            let doing = format!("download the package lists for {architecture}");
            check_room(&folder, LISTS_BYTES, &doing)?;
            refreshing(&lists, None);
            let output = self
                .apt(architecture)?
                .args([
                    "-q",
                    "-o",
                    "APT::Update::Error-Mode=any",
                    "-o",
                    "Acquire::Retries=3",
                    "update",
                ])
                .output()?;
            if !output.success() {
                return Err(remote(doing, &output, &folder));
            }
            let sizes = fs::read_dir(&lists).into_iter().flatten().flatten();
            let sizes = sizes.filter_map(|entry| entry.metadata().ok());
            refreshing(
                &lists,
                Some(sizes.filter(|file| file.is_file()).map(|file| file.len()).sum()),
            );
            write(&stamp, "")?;
        }
        updated.insert(architecture.to_owned());
        Ok(())
    }
}

/// The code name of a distribution's suite, from the text of its `os-release`.
pub fn suite_from_os_release(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
}

fn qualifier<'a>(package: &'a Package, architecture: &'a str) -> &'a str {
    if package.architecture == "all" { architecture } else { &package.architecture }
}

/// A status stanza (Debian policy 5.3) that says the package is installed.
fn provided_stanza(name: &str, architecture: &str) -> String {
    let provides = match name {
        "debconf" => "Provides: debconf-2.0\n",
        "gcc" | "clang" => "Provides: c-compiler\n",
        "libc6-dev" => "Provides: libc-dev\n",
        _ => "",
    };
    format!(
        "Package: {name}\nStatus: install ok installed\nMaintainer: none\n\
         Architecture: {architecture}\nMulti-Arch: foreign\nVersion: {PROVIDED_VERSION}\n\
         {provides}Description: provided otherwise\n\n"
    )
}

/// One line of `--print-uris`: `'URI' name_version_architecture.deb size SHA256:hash`.
fn parse_uri_line(line: &str) -> Result<Package, AptError> {
    let parse = || {
        let mut words = line.split_whitespace();
        let (_uri, file, size, hash) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let mut parts = file.strip_suffix(".deb")?.splitn(3, '_');
        let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Package {
            name: name.to_owned(),
            version: version.replace("%3a", ":"),
            architecture: architecture.to_owned(),
            sha256: Digest::from_hex(hash.strip_prefix("SHA256:")?).ok()?,
            size_bytes: size.parse().ok()?,
        })
    };
    parse().ok_or_else(|| AptError::Unparsable { line: line.to_owned() })
}

fn failure(output: &Output, request: &PackageRequest, doing: &str) -> AptError {
    let text = output.text();
    let missing = text.lines().find_map(|line| {
        let name =
            line.trim_start().strip_prefix("E: Unable to locate package ").or_else(|| {
                line.strip_prefix("E: Package '")
                    .and_then(|rest| rest.split_once("' has no installation candidate"))
                    .map(|(name, _)| name)
            })?;
        Some(name.split(':').next().unwrap_or(name).trim().to_owned())
    });
    match missing {
        Some(name) => AptError::NoSuchPackage { name, architecture: request.architecture.clone() },
        None => AptError::Apt {
            doing: format!("{doing} for {} ({})", request.architecture, request.packages.join(" ")),
            text: problems(output),
        },
    }
}

/// On a full disk apt may wait for ever, so room is made sure of before.
fn check_room(folder: &Path, size_bytes: u64, doing: &str) -> Result<(), AptError> {
    match available_bytes(folder) {
        Ok(room) if room < size_bytes => {
            let doing = format!(
                "{doing}, which takes {} MiB while {} MiB are free",
                size_bytes.div_ceil(1 << 20),
                room >> 20
            );
            Err(AptError::DiskFull { doing, folder: folder.to_owned() })
        }
        _ => Ok(()),
    }
}

/// A download that failed: by the archive's fault unless the disk is full.
fn remote(doing: String, output: &Output, folder: &Path) -> AptError {
    let text = problems(output);
    if text.contains("No space left on device") || text.contains("enough free space") {
        return AptError::DiskFull { doing, folder: folder.to_owned() };
    }
    AptError::Remote { doing, text }
}

/// What of apt's output a person needs: its errors, else its warnings, else everything.
fn problems(output: &Output) -> String {
    let text = output.text();
    let starting = |start: &[&str]| -> Vec<&str> {
        text.lines().filter(|line| start.iter().any(|start| line.starts_with(start))).collect()
    };
    let (errors, warnings) = (starting(&["E:"]), starting(&["W:", "Err:"]));
    match (errors.is_empty(), warnings.is_empty()) {
        (false, _) => errors.join("\n"),
        (true, false) => warnings.join("\n"),
        (true, true) => text,
    }
}

fn write(path: &Path, text: &str) -> Result<(), AptError> {
    fs::write(path, text).map_err(|source| AptError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_lines_are_read_strictly() {
        let hash = "d7dd1d1411fedf27f5e27650a6eff20ef294077b568f4c8c5e51466dc7c08ce4";
        let line =
            format!("'x://y/zlib1g.deb' zlib1g_1%3a1.2.13.dfsg-1_amd64.deb 86684 SHA256:{hash}");
        let package = parse_uri_line(&line).unwrap();
        assert_eq!(package.to_string(), "zlib1g:amd64 1:1.2.13.dfsg-1");
        assert_eq!(package.size_bytes, 86684);
        for bad in ["", "x", "'u' a_1_b.deb 12 MD5Sum:00", "'u' a_1.deb 12 SHA256:00"] {
            assert!(parse_uri_line(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn suites_come_from_os_release() {
        let check = suite_from_os_release;
        assert_eq!(check("NAME=x\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
        assert_eq!(check("VERSION_CODENAME=\"noble\"").as_deref(), Some("noble"));
        assert_eq!(check("NAME=x"), None);
    }
}
