//! Archives that the configuration names: their release files, lists and packages, by HTTP
//! or from a folder, each believed only as the keys of its keyring vouch for it.
//!
//! The state of an archive's suite is a folder of its own: the release file, the lists by
//! digest, and the date of the newest release file that was seen, so that an older one is
//! refused. Deliberately absent: what packages depend on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::list_file::{BEING_UPDATED, ListFile, refuse};
use super::openpgp::Keyring;
use super::refusal::{MirrorError, PackageError};
use super::release_file::{Expected, Release};
use crate::config::suite_keys::{ANY_ARCHITECTURE, Archive, Mirror};
use crate::machine::environment::{Environment, now_nanos};
use crate::machine::network::{NetworkError, NetworkProblem, Watch, download};
use crate::model::Digest;
use crate::model::event::Event;

/// Release files younger than this are not asked for again.
const STAYS_FRESH: Duration = Duration::from_secs(3600);

/// A release file is not larger.
const RELEASE_BYTES_AT_MOST: u64 = 32 << 20;

/// Compressions of lists, best first.
const EXTENSIONS: [&str; 5] = [".xz", ".zst", ".gz", ".bz2", ""];

/// How the machine may be used.
#[derive(Clone, Debug)]
pub struct Access {
    /// Proxies and trust.
    pub environment: Environment,
    /// Whether the network may not be used.
    pub offline: bool,
    /// Set when the user asks to stop.
    pub interrupted: Arc<AtomicBool>,
}

/// Where the files of an archive come from.
#[derive(Debug)]
enum Transport {
    Web(String),
    Folder(PathBuf),
}

/// What a mirror is asked for.
#[derive(Debug)]
enum Architectures {
    Only(String),
    AllBut(Vec<String>),
}

/// A mirror of an archive of the configuration.
#[derive(Debug)]
pub struct MirrorArchive {
    shown: String,
    architectures: Architectures,
    transport: Transport,
    keyring: PathBuf,
    suites: Vec<String>,
    components: Vec<String>,
    valid_until: bool,
    state: PathBuf,
}

/// Why a file did not come.
enum Failure {
    NotThere,
    Error(PackageError),
}

impl MirrorArchive {
    /// The mirrors of an archive, with their state below `state`. Paths are below `project`.
    pub fn all(archive: &Archive, project: &Path, state: &Path) -> Vec<Self> {
        let mirrors = archive.mirrors.iter();
        mirrors.map(|(is_for, mirror)| Self::new(archive, is_for, mirror, project, state)).collect()
    }

    fn new(archive: &Archive, is_for: &str, mirror: &Mirror, project: &Path, state: &Path) -> Self {
        let named = archive.mirrors.keys().filter(|name| *name != ANY_ARCHITECTURE);
        let architectures = match is_for {
            ANY_ARCHITECTURE => Architectures::AllBut(named.cloned().collect()),
            only => Architectures::Only(only.to_owned()),
        };
        let transport = match mirror {
            Mirror::Web(url) => Transport::Web(url.clone()),
            Mirror::Folder(path) => Transport::Folder(project.join(path)),
        };
        let place = match &transport {
            Transport::Web(_) => mirror.to_string(),
            Transport::Folder(path) => path.display().to_string(),
        };
        let state = state.join(&Digest::of(place.as_bytes()).hex()[..16]);
        Self {
            shown: place,
            architectures,
            transport,
            keyring: project.join(&archive.keyring),
            suites: archive.suites.clone(),
            components: archive.components.clone(),
            valid_until: archive.valid_until,
            state,
        }
    }

    /// The package lists for an architecture, checked against release files that are checked
    /// against the keyring. None where no suite of the archive has the architecture.
    pub fn lists(
        &self,
        architecture: &str,
        access: &Access,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<ListFile>, PackageError> {
        let bytes = fs::read(&self.keyring)
            .map_err(|source| PackageError::File { path: self.keyring.clone(), source })?;
        let keyring = Keyring::parse(&bytes).map_err(|why| {
            let text = format!("it is no keyring: {why}");
            let help = "export the archive's public keys with `gpg --export`, armored or not";
            self.refuse(&self.keyring.display().to_string(), text, Some(help))
        })?;
        let mut lists = Vec::new();
        for suite in &self.suites {
            let state = self.state.join(suite.replace('/', "_"));
            let _alone = lock(&state)?;
            let release = Arc::new(self.release(suite, &state, &keyring, access, tell)?);
            if !release.architectures.iter().any(|name| name == architecture) {
                let text = format!("{} {suite} has no packages for {architecture}", self.shown);
                tell(Event::Note { text });
                continue;
            }
            for component in &self.components {
                let mut names = vec![format!("{component}/binary-{architecture}/Packages")];
                if !release.all_is_in_each {
                    names.push(format!("{component}/binary-all/Packages"));
                }
                for (at, name) in names.iter().enumerate() {
                    let list = self.list(suite, name, &release, &state, access, tell)?;
                    if list.is_none() && at == 0 {
                        let text = format!("it has no list `{name}`");
                        let help = "check `components`";
                        return Err(self.refuse(&in_dists(suite, "Release"), text, Some(help)));
                    }
                    lists.extend(list);
                }
            }
            forget_old(&state, &release);
        }
        Ok(lists)
    }

    /// Downloads the file of a package to `to`. False if the archive has no such file.
    pub fn package(
        &self,
        path: &str,
        size_bytes: u64,
        to: &Path,
        access: &Access,
    ) -> Result<bool, PackageError> {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            let text = "its list names it outside the archive".to_owned();
            return Err(self.refuse(path, text, None));
        }
        match self.get(path, to, size_bytes, access) {
            Ok(()) => Ok(true),
            Err(Failure::NotThere) => Ok(false),
            Err(Failure::Error(error)) => Err(error),
        }
    }

    /// Whether this is the mirror for an architecture.
    pub fn is_for(&self, architecture: &str) -> bool {
        match &self.architectures {
            Architectures::Only(only) => only == architecture,
            Architectures::AllBut(others) => !others.iter().any(|other| other == architecture),
        }
    }

    /// Whether files come without the network.
    pub fn is_local(&self) -> bool {
        matches!(self.transport, Transport::Folder(_))
    }

    /// A fresh release file of a suite, checked.
    fn release(
        &self,
        suite: &str,
        state: &Path,
        keyring: &Keyring,
        access: &Access,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Release, PackageError> {
        let kept = state.join("InRelease");
        let seen = state.join("seen");
        let seen_secs = fs::read_to_string(&seen).ok().and_then(|text| text.trim().parse().ok());
        let now_secs = u64::try_from(now_nanos() / 1_000_000_000).unwrap_or(0);
        let expected = Expected { suite, now_secs, valid_until: self.valid_until, seen_secs };
        let is_fresh = fs::metadata(&kept)
            .and_then(|status| status.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < STAYS_FRESH));
        if is_fresh
            && !self.is_local()
            && let Ok(release) = self.read_release(suite, &kept, keyring, &expected)
        {
            return Ok(release);
        }
        let incoming = state.join("incoming");
        let what = format!("the release file of {suite}");
        let to = state.display().to_string();
        tell(Event::Download { what, size_bytes: None, to });
        let name = in_dists(suite, "InRelease");
        match self.get(&name, &incoming, RELEASE_BYTES_AT_MOST, access) {
            Ok(()) => {
                remove(&state.join("incoming.gpg"))?;
            }
            Err(Failure::Error(error)) => return Err(error),
            Err(Failure::NotThere) => {
                for (name, to) in [("Release", "incoming"), ("Release.gpg", "incoming.gpg")] {
                    let name = in_dists(suite, name);
                    match self.get(&name, &state.join(to), RELEASE_BYTES_AT_MOST, access) {
                        Ok(()) => {}
                        Err(Failure::Error(error)) => return Err(error),
                        Err(Failure::NotThere) => {
                            let text = match to {
                                "incoming" => format!("it has neither `InRelease` nor `Release` for `{suite}`"),
                                _ => "it is not signed: there is neither `InRelease` nor `Release.gpg`".to_owned(),
                            };
                            let help = "check that `mirror` and `suites` name a signed \
                                        Debian-style archive";
                            return Err(self.refuse(&name, text, Some(help)));
                        }
                    }
                }
            }
        }
        let release = self.read_release(suite, &incoming, keyring, &expected)?;
        for (from, to) in [("incoming", "InRelease"), ("incoming.gpg", "InRelease.gpg")] {
            let (from, to) = (state.join(from), state.join(to));
            match from.is_file() {
                true => fs::rename(&from, &to)
                    .map_err(|source| PackageError::File { path: to, source })?,
                false => remove(&to)?,
            }
        }
        fs::write(&seen, format!("{}\n", release.date_secs))
            .map_err(|source| PackageError::File { path: seen, source })?;
        Ok(release)
    }

    /// Reads a release file, whose signature may be in a file beside it.
    fn read_release(
        &self,
        suite: &str,
        path: &Path,
        keyring: &Keyring,
        expected: &Expected<'_>,
    ) -> Result<Release, PackageError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| PackageError::File { path: path.to_owned(), source })
        };
        let bytes = read(path)?;
        let beside = path.with_extension("gpg");
        let name = in_dists(suite, if beside.is_file() { "Release" } else { "InRelease" });
        let not_text = || self.refuse(&name, "it is no text".to_owned(), None);
        let text = String::from_utf8(bytes).map_err(|_| not_text())?;
        // Keys of a snapshot that is meant to be old may be over by now.
        let now_secs = expected.valid_until.then_some(expected.now_secs);
        let signed = if beside.is_file() {
            let signature = read(&beside)?;
            keyring.check_detached(text.as_bytes(), &signature, now_secs).map(|()| text)
        } else {
            keyring.signed_text(&text, now_secs)
        };
        let text = signed.map_err(|problem| {
            let help = format!(
                "check that {} has the archive's present keys, and that nobody changes what the \
                 mirror sends",
                self.keyring.display()
            );
            self.refuse(&name, problem.to_string(), Some(&help))
        })?;
        let release = Release::parse(&text)
            .and_then(|release| release.check(expected).map(|()| release))
            .map_err(|problem| self.refuse(&name, problem.to_string(), Some(problem.help())))?;
        Ok(release)
    }

    /// A list of a suite; none if the release file has none of that name.
    fn list(
        &self,
        suite: &str,
        name: &str,
        release: &Arc<Release>,
        state: &Path,
        access: &Access,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Option<ListFile>, PackageError> {
        let found = EXTENSIONS.iter().find_map(|extension| {
            let entry = release.files.get(&format!("{name}{extension}"))?;
            Some((*extension, *entry))
        });
        let Some((extension, packed)) = found else { return Ok(None) };
        let path = state.join("lists").join(packed.0.hex());
        let list = ListFile {
            path,
            release: Arc::clone(release),
            shown: self.shown.clone(),
            file: in_dists(suite, &format!("{name}{extension}")),
            extension,
            packed,
            plain: release.files.get(name).copied(),
        };
        if list.path.is_file() && list.check().is_ok() {
            return Ok(Some(list));
        }
        fs::create_dir_all(state.join("lists"))
            .map_err(|source| PackageError::File { path: state.join("lists"), source })?;
        let what = format!("the package list {}", list.file);
        let to = list.path.display().to_string();
        tell(Event::Download { what, size_bytes: Some(packed.1), to });
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let by_hash = in_dists(suite, &format!("{folder}/by-hash/SHA256/{}", packed.0.hex()));
        let names = [release.by_hash.then_some(by_hash), Some(list.file.clone())];
        for name in names.into_iter().flatten() {
            match self.get(&name, &list.path, packed.1, access) {
                Ok(()) => {
                    let checked = list.check();
                    if checked.is_err() {
                        remove(&list.path)?;
                    }
                    return checked.map(|()| Some(list));
                }
                Err(Failure::NotThere) => {}
                Err(Failure::Error(error)) => return Err(error),
            }
        }
        let text = "the release file lists it, but the mirror does not have it".to_owned();
        Err(self.refuse(&list.file, text, Some(BEING_UPDATED)))
    }

    /// Brings a file of the archive, which is to have at most so many bytes.
    fn get(&self, name: &str, to: &Path, at_most: u64, access: &Access) -> Result<(), Failure> {
        let too_large = || {
            let text = format!("it is larger than {at_most} bytes");
            Failure::Error(self.refuse(name, text, Some(BEING_UPDATED)))
        };
        match &self.transport {
            Transport::Folder(folder) => {
                let from = folder.join(name);
                match fs::metadata(&from) {
                    Ok(status) if status.is_file() && status.len() > at_most => Err(too_large()),
                    Ok(status) if status.is_file() => match fs::copy(&from, to) {
                        Ok(_) => Ok(()),
                        Err(source) => {
                            Err(Failure::Error(PackageError::File { path: from, source }))
                        }
                    },
                    _ => Err(Failure::NotThere),
                }
            }
            Transport::Web(_) if access.offline => {
                let what = format!("{name} of {}", self.shown);
                Err(Failure::Error(PackageError::Offline { what }))
            }
            Transport::Web(url) => {
                let is_over = AtomicBool::new(false);
                let stop = || {
                    is_over.load(Ordering::Relaxed) || access.interrupted.load(Ordering::Relaxed)
                };
                let mut progress = |done: u64, size_bytes: Option<u64>| {
                    let expected = size_bytes.unwrap_or(0).max(done);
                    if expected > at_most {
                        is_over.store(true, Ordering::Relaxed);
                    }
                };
                let mut watch = Watch { stop: &stop, progress: &mut progress };
                let result =
                    download(&format!("{url}/{name}"), to, &access.environment, &mut watch);
                match result {
                    _ if is_over.load(Ordering::Relaxed) => Err(too_large()),
                    Ok(_) => Ok(()),
                    Err(NetworkError {
                        problem: NetworkProblem::Status { status: 404 | 410, .. },
                        ..
                    }) => Err(Failure::NotThere),
                    Err(error) => {
                        Err(Failure::Error(PackageError::Mirror(Box::new(MirrorError {
                            archive: self.shown.clone(),
                            file: name.to_owned(),
                            text: error.to_string(),
                            help: error.help().map(ToOwned::to_owned),
                            is_remote: error.is_remote(),
                        }))))
                    }
                }
            }
        }
    }

    fn refuse(&self, file: &str, text: String, help: Option<&str>) -> PackageError {
        refuse(&self.shown, file, text, help)
    }
}

fn in_dists(suite: &str, name: &str) -> String {
    format!("dists/{suite}/{name}")
}

/// Waits until no other process uses the state. The lock dies with its process.
fn lock(state: &Path) -> Result<fs::File, PackageError> {
    let path = state.join("lock");
    fs::create_dir_all(state)
        .and_then(|()| fs::File::create(&path))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|source| PackageError::File { path, source })
}

/// Removes lists that the present release file does not have.
fn forget_old(state: &Path, release: &Release) {
    let entries = fs::read_dir(state.join("lists")).into_iter().flatten().flatten();
    for entry in entries {
        let digest = Digest::from_hex(&entry.file_name().to_string_lossy()).ok();
        if !release.files.values().any(|(known, _)| Some(*known) == digest) {
            // Only room on the disk is at stake.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove(path: &Path) -> Result<(), PackageError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(PackageError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
