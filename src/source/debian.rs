//! Debian packages through the machine's own apt, in a state of its own.
//!
//! apt resolves, downloads and checks signatures with the mirrors and keys that the
//! machine is configured with, for any architecture, without root. Each architecture
//! has a state folder of its own: with several in one, the resolver mixes them. So has
//! each configuration of sources: an update drops the lists of sources that it does not
//! know, and builds may run at the same time.
//! Deliberately absent: unpacking, and what the packages are for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::lists::{digest_of_sources, problems, run_time_depends, source_files, sources_without};
pub use super::refusal::AptError;
use crate::machine::disk::available_bytes;
use crate::machine::environment::Environment;
use crate::machine::process::{Output, Process};
use crate::model::event::Event;
use crate::model::package::{Package, PackageRequest, PackageSet};
use crate::model::{Digest, Hasher};

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
    apt_cache: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    offline: bool,
    apt_config: Option<PathBuf>,
    /// Names the sources that apt is configured with.
    sources: OnceLock<String>,
    updated: Mutex<BTreeMap<String, Lists>>,
}

/// What an update of the lists of an architecture came to.
#[derive(Clone, Debug)]
enum Lists {
    Ready,
    /// No source has any.
    None,
    /// apt's words.
    Refused(String),
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
            apt_cache: environment.find_program("apt-cache"),
            apt_config: environment.find_program("apt-config"),
            sources: OnceLock::new(),
            environment: variables,
            offline,
            updated: Mutex::default(),
        }
    }

    /// Resolves a request to pinned packages. `tell` hears of package lists that are
    /// downloaded, and of sources that have none.
    pub fn resolve(
        &self,
        request: &PackageRequest,
        tell: &mut dyn FnMut(Event),
    ) -> Result<PackageSet, AptError> {
        let architecture = &request.architecture;
        if self.offline {
            let what =
                format!("choosing packages for {architecture} that images.lock does not pin");
            return Err(AptError::Offline { what });
        }
        let _alone = self.lock(architecture)?;
        self.update(architecture, tell)?;
        let status = self.folder(architecture)?.join("provided");
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

    /// Names of the packages that hold the shared libraries of a development package: those
    /// that it depends on in its own version (Debian policy 8.4). One that only stands for
    /// another development package has that one's.
    pub fn run_time_packages(
        &self,
        architecture: &str,
        package: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<String>, AptError> {
        if self.offline {
            let what = format!("asking what {package} needs at run time");
            return Err(AptError::Offline { what });
        }
        let _alone = self.lock(architecture)?;
        self.update(architecture, tell)?;
        let mut wanted = vec![package.to_owned()];
        let mut seen = Vec::new();
        let mut names = Vec::new();
        while let Some(name) = wanted.pop() {
            let process = self.program(self.apt_cache.as_ref(), architecture)?;
            let output = process.args(["--no-all-versions", "show"]).arg(&name).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let (libraries, others) = run_time_depends(&text);
            seen.push(name);
            if libraries.is_empty() {
                wanted.extend(others.into_iter().filter(|other| !seen.contains(other)));
            }
            names.extend(libraries);
        }
        names.sort();
        names.dedup();
        Ok(names)
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
        self.update(architecture, &mut drop)?;
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

    fn folder(&self, architecture: &str) -> Result<PathBuf, AptError> {
        let sources = match self.sources.get() {
            Some(sources) => sources,
            None => {
                let digest = self.digest_of_sources()?;
                self.sources.get_or_init(|| digest.hex()[..12].to_owned())
            }
        };
        Ok(self.state.join(format!("{architecture}-{sources}")))
    }

    fn digest_of_sources(&self) -> Result<Digest, AptError> {
        let program = self.apt_config.as_ref().ok_or(AptError::NoApt)?;
        let mut process = Process::new(program).args([
            "shell",
            "LIST",
            "Dir::Etc::sourcelist/f",
            "PARTS",
            "Dir::Etc::sourceparts/d",
        ]);
        process.environment = self.environment.clone();
        let output = process.output()?;
        if !output.success() {
            let doing = "say where its sources are".to_owned();
            return Err(AptError::Apt { doing, text: output.text() });
        }
        Ok(digest_of_sources(&source_files(&String::from_utf8_lossy(&output.stdout))))
    }

    /// Waits until no other process uses the state of this architecture: apt's own locks
    /// are off, because they would want root. The lock dies with its process.
    fn lock(&self, architecture: &str) -> Result<fs::File, AptError> {
        let folder = self.folder(architecture)?;
        let path = folder.join("lock");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::File::create(&path))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| AptError::File { path, source })
    }

    /// An `apt-get` that knows one architecture and none of the machine's own state.
    fn apt(&self, architecture: &str) -> Result<Process, AptError> {
        self.program(self.apt_get.as_ref(), architecture)
    }

    fn program(&self, program: Option<&PathBuf>, architecture: &str) -> Result<Process, AptError> {
        let program = program.ok_or(AptError::NoApt)?;
        let folder = self.folder(architecture)?;
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

    /// Sees to it that the package lists of an architecture are there and fresh. What came
    /// of it is remembered: apt is not asked again for what it refused.
    fn update(&self, architecture: &str, tell: &mut dyn FnMut(Event)) -> Result<(), AptError> {
        let mut updated = self.updated.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lists = match updated.get(architecture) {
            Some(lists) => lists.clone(),
            None => {
                let lists = self.download_lists(architecture, tell)?;
                updated.insert(architecture.to_owned(), lists.clone());
                lists
            }
        };
        let architecture = architecture.to_owned();
        match lists {
            Lists::Ready => Ok(()),
            Lists::None => Err(AptError::NoArchitecture { architecture }),
            Lists::Refused(text) => Err(AptError::Lists { architecture, text }),
        }
    }

    fn download_lists(
        &self,
        architecture: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Lists, AptError> {
        let folder = self.folder(architecture)?;
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
            let what = format!("the package lists for {architecture}");
            let to = lists.display().to_string();
            tell(Event::Download { what: what.clone(), size_bytes: None, to });
            // Not quieter: which sources lack the architecture is only said then.
            let output = self
                .apt(architecture)?
                .args(["-o", "quiet=0", "-o", "APT::Update::Error-Mode=any"])
                .args(["-o", "Acquire::Retries=3", "update"])
                .output()?;
            if !output.success() {
                return match remote(doing, &output, &folder) {
                    AptError::Remote { text, .. } => Ok(Lists::Refused(text)),
                    error => Err(error),
                };
            }
            let sizes = fs::read_dir(&lists).into_iter().flatten().flatten();
            let sizes = sizes.filter_map(|entry| entry.metadata().ok());
            let size_bytes = sizes.filter(|file| file.is_file()).map(|file| file.len()).sum();
            tell(Event::Downloaded { what, size_bytes });
            for text in sources_without(&output.text(), architecture) {
                tell(Event::Note { text });
            }
            write(&stamp, "")?;
        }
        // Only targets whose file is there are listed.
        let output = self
            .apt(architecture)?
            .args(["indextargets", "--format", "$(FILENAME)", "Created-By: Packages"])
            .arg(format!("Architecture: {architecture}"))
            .output()?;
        if !output.success() {
            let doing = format!("say which lists it has for {architecture}");
            return Err(AptError::Apt { doing, text: problems(&output.text()) });
        }
        let none = String::from_utf8_lossy(&output.stdout).trim().is_empty();
        Ok(if none { Lists::None } else { Lists::Ready })
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
            text: problems(&output.text()),
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
    let text = problems(&output.text());
    if text.contains("No space left on device") || text.contains("enough free space") {
        return AptError::DiskFull { doing, folder: folder.to_owned() };
    }
    AptError::Remote { doing, text }
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
