//! Package lists and packages through the machine's own apt, in a state of its own.
//!
//! apt downloads and checks signatures with the mirrors and keys that the machine is
//! configured with, for any architecture, without root. Each architecture has a state folder
//! of its own: `download` mixes them otherwise. So has each configuration of sources: an
//! update drops the lists of sources that it does not know, and builds may run at the same
//! time. Deliberately absent: choosing packages, and unpacking them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::lists::{AptList, digest_of_sources, problems, source_files, sources_without, targets};
use super::refusal::PackageError;
use crate::archive::compression::decoder;
use crate::machine::disk::available_bytes;
use crate::machine::environment::Environment;
use crate::machine::process::{Output, Process};
use crate::model::Digest;
use crate::model::event::Event;
use crate::model::package::Package;
use crate::store::hash_file;

/// Lists younger than this are not asked for again.
const LISTS_STAY_FRESH: Duration = Duration::from_secs(3600);

/// What the package lists of one architecture take while they are read.
const LISTS_BYTES: u64 = 96 << 20;

/// The machine's apt.
#[derive(Debug)]
pub struct Apt {
    state: PathBuf,
    apt_get: Option<PathBuf>,
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
            apt_config: environment.find_program("apt-config"),
            sources: OnceLock::new(),
            environment: variables,
            offline,
            updated: Mutex::default(),
        }
    }

    /// Whether the machine has an apt.
    pub fn is_there(&self) -> bool {
        self.apt_get.is_some()
    }

    /// The lists of an architecture, fresh, in the order of apt's sources. `tell` hears of
    /// lists that are downloaded, and of sources that have none.
    pub fn lists(
        &self,
        architecture: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<AptList>, PackageError> {
        let _alone = self.lock(architecture)?;
        self.update(architecture, tell)?;
        let output = self.targets(architecture)?;
        Ok(targets(&output))
    }

    /// Hands a list of an architecture to `read`, unpacked.
    pub fn read_list(
        &self,
        architecture: &str,
        list: &Path,
        read: impl FnOnce(&mut dyn BufRead) -> io::Result<()>,
    ) -> Result<(), PackageError> {
        let failed = |source| PackageError::File { path: list.to_owned(), source };
        let _alone = self.lock(architecture)?;
        let extension = match list.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => ".xz",
            Some("gz") => ".gz",
            Some("bz2") => ".bz2",
            Some("zst") => ".zst",
            // Only apt has a decoder for what machines may be told to keep lists in.
            Some("lz4" | "lzma") => return self.cat(architecture, list, read),
            _ => "",
        };
        let file = fs::File::open(list).map_err(failed)?;
        let reader = decoder(extension, BufReader::new(file)).map_err(failed)?;
        read(&mut BufReader::with_capacity(1 << 18, reader)).map_err(failed)
    }

    /// A list as apt's own helper unpacks it.
    fn cat(
        &self,
        architecture: &str,
        list: &Path,
        read: impl FnOnce(&mut dyn BufRead) -> io::Result<()>,
    ) -> Result<(), PackageError> {
        let helper = self
            .apt_get
            .as_ref()
            .and_then(|program| Some(program.parent()?.parent()?.join("lib/apt/apt-helper")));
        let output = self
            .program(helper.as_ref(), architecture)?
            .arg("cat-file")
            .arg(list.to_string_lossy().into_owned())
            .output()?;
        if !output.success() {
            let doing = format!("unpack {}", list.display());
            return Err(PackageError::Apt { doing, text: problems(&output.text()) });
        }
        read(&mut output.stdout.as_slice())
            .map_err(|source| PackageError::File { path: list.to_owned(), source })
    }

    /// Downloads pinned packages into `destination`, checks them, and returns their files
    /// in the order of `packages`. `architecture` is the one that the set was resolved for.
    pub fn fetch(
        &self,
        architecture: &str,
        packages: &[Package],
        destination: &Path,
    ) -> Result<Vec<PathBuf>, PackageError> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        if self.offline {
            let what = format!("downloading {} packages", packages.len());
            return Err(PackageError::Offline { what });
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
                Some(package) => PackageError::NoSuchVersion { package: Box::new(package.clone()) },
                None => remote("download packages".into(), &output, destination),
            });
        }
        packages
            .iter()
            .map(|package| {
                let version = package.version.replace(':', "%3a");
                let name = format!("{}_{version}_{}.deb", package.name, package.architecture);
                checked(package, destination.join(name))
            })
            .collect()
    }

    fn folder(&self, architecture: &str) -> Result<PathBuf, PackageError> {
        let sources = match self.sources.get() {
            Some(sources) => sources,
            None => {
                let digest = self.digest_of_sources()?;
                self.sources.get_or_init(|| digest.hex()[..12].to_owned())
            }
        };
        Ok(self.state.join(format!("{architecture}-{sources}")))
    }

    fn digest_of_sources(&self) -> Result<Digest, PackageError> {
        let program = self.apt_config.as_ref().ok_or(PackageError::NoApt)?;
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
            return Err(PackageError::Apt { doing, text: output.text() });
        }
        Ok(digest_of_sources(&source_files(&String::from_utf8_lossy(&output.stdout))))
    }

    /// Waits until no other process uses the state of this architecture: apt's own locks
    /// are off, because they would want root. The lock dies with its process.
    fn lock(&self, architecture: &str) -> Result<fs::File, PackageError> {
        let folder = self.folder(architecture)?;
        let path = folder.join("lock");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::File::create(&path))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| PackageError::File { path, source })
    }

    /// An `apt-get` that knows one architecture and none of the machine's own state.
    fn apt(&self, architecture: &str) -> Result<Process, PackageError> {
        self.program(self.apt_get.as_ref(), architecture)
    }

    fn program(
        &self,
        program: Option<&PathBuf>,
        architecture: &str,
    ) -> Result<Process, PackageError> {
        let program = program.ok_or(PackageError::NoApt)?;
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
            // Lists that are read often are read faster as they are.
            "Acquire::GzipIndexes=false".into(),
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
    fn update(&self, architecture: &str, tell: &mut dyn FnMut(Event)) -> Result<(), PackageError> {
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
            Lists::None => Err(PackageError::NoArchitecture { architecture, suite: None }),
            Lists::Refused(text) => Err(PackageError::Lists { architecture, text }),
        }
    }

    fn download_lists(
        &self,
        architecture: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Lists, PackageError> {
        let folder = self.folder(architecture)?;
        for name in ["state/lists/partial", "cache/archives/partial", "log"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(|source| PackageError::File { path, source })?;
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
                    PackageError::Remote { text, .. } => Ok(Lists::Refused(text)),
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
        let none = self.targets(architecture)?.trim().is_empty();
        Ok(if none { Lists::None } else { Lists::Ready })
    }

    /// What apt says of its lists; only those whose file is there are listed.
    fn targets(&self, architecture: &str) -> Result<String, PackageError> {
        let output = self
            .apt(architecture)?
            .args(["indextargets", "--format", "$(FILENAME)\t$(METAKEY)"])
            .arg("Created-By: Packages")
            .arg(format!("Architecture: {architecture}"))
            .output()?;
        if !output.success() {
            let doing = format!("say which lists it has for {architecture}");
            return Err(PackageError::Apt { doing, text: problems(&output.text()) });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn qualifier<'a>(package: &'a Package, architecture: &'a str) -> &'a str {
    if package.architecture == "all" { architecture } else { &package.architecture }
}

/// The file of a package, if it is what is pinned.
pub(super) fn checked(package: &Package, path: PathBuf) -> Result<PathBuf, PackageError> {
    match hash_file(&path) {
        Ok((found, _)) if found == package.sha256 => Ok(path),
        Ok((found, _)) => {
            Err(PackageError::WrongHash { package: Box::new(package.clone()), found })
        }
        Err(source) => Err(PackageError::File { path, source }),
    }
}

/// On a full disk apt may wait for ever, so room is made sure of before.
pub(super) fn check_room(folder: &Path, size_bytes: u64, doing: &str) -> Result<(), PackageError> {
    match available_bytes(folder) {
        Ok(room) if room < size_bytes => {
            let doing = format!(
                "{doing}, which takes {} MiB while {} MiB are free",
                size_bytes.div_ceil(1 << 20),
                room >> 20
            );
            Err(PackageError::DiskFull { doing, folder: folder.to_owned() })
        }
        _ => Ok(()),
    }
}

/// A download that failed: by the archive's fault unless the disk is full.
fn remote(doing: String, output: &Output, folder: &Path) -> PackageError {
    let text = problems(&output.text());
    if text.contains("No space left on device") || text.contains("enough free space") {
        return PackageError::DiskFull { doing, folder: folder.to_owned() };
    }
    PackageError::Remote { doing, text }
}

fn write(path: &Path, text: &str) -> Result<(), PackageError> {
    fs::write(path, text).map_err(|source| PackageError::File { path: path.to_owned(), source })
}
