//! Packages of all archives: the machine's apt, and those that the configuration names.
//!
//! A request says by its suite which; without one, it is everything that the machine's apt
//! serves. Whatever brings the bytes, one index is made of the lists and one resolver
//! chooses. Deliberately absent: unpacking, and what packages are for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::apt::{Apt, check_room, checked};
use super::closure::{NoClosure, closure};
use super::index::{Index, ListOrigin};
use super::lists::run_time_depends;
use super::lock::Lock;
use super::mirror::{Access, MirrorArchive};
pub use super::refusal::PackageError;
use super::release_file::Release;
use crate::config::suite_keys::Suite;
use crate::machine::environment::Environment;
use crate::model::Digest;
use crate::model::event::Event;
use crate::model::package::{Package, PackageRequest, PackageSet};
use crate::store::Store;

/// What a suite says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SuiteRelease {
    /// As `ID` of `os-release`: `debian`, `ubuntu`, …; empty where it does not say.
    pub id: String,
    /// As `VERSION_ID` of `os-release`: `12`, `24.04`, …; empty where it does not say.
    pub version: String,
    /// As `VERSION_CODENAME` of `os-release`: `bookworm`, …; empty where it does not say.
    pub codename: String,
}

/// Package archives.
#[derive(Debug)]
pub struct Archives {
    apt: Apt,
    suites: BTreeMap<String, Vec<MirrorArchive>>,
    default: Option<String>,
    access: Access,
    /// By suite and architecture.
    loaded: Mutex<BTreeMap<(Option<String>, String), Lists>>,
    /// The suite that a package was chosen from.
    origins: Mutex<BTreeMap<Digest, Option<String>>>,
}

type Lists = Arc<Loaded>;

/// The lists of a suite for an architecture.
#[derive(Debug)]
struct Loaded {
    index: Index,
    /// Of each list: the archive of the suite that it is from, and its release file.
    lists: Vec<(usize, Arc<Release>)>,
}

impl Archives {
    /// The machine's apt, and the suites of a configuration whose folder is `project`;
    /// `default` is the one of requests that name none, if it is not what apt serves.
    /// Nothing is asked or started before packages are wanted.
    pub fn new(
        environment: &Environment,
        store: &Store,
        project: &Path,
        suites: &BTreeMap<String, Suite>,
        default: Option<&str>,
        offline: bool,
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        let state = store.state("archives");
        let suites = suites.iter().map(|(name, suite)| {
            let archives = suite.archives.iter();
            let mirrors = archives.flat_map(|archive| MirrorArchive::all(archive, project, &state));
            (name.clone(), mirrors.collect())
        });
        Self {
            apt: Apt::new(environment, store.state("apt"), offline),
            suites: suites.collect(),
            default: default.map(ToOwned::to_owned),
            access: Access { environment: environment.clone(), offline, interrupted },
            loaded: Mutex::default(),
            origins: Mutex::default(),
        }
    }

    /// Resolves a request to pinned packages. `tell` hears of package lists that are
    /// downloaded, and of sources that have none.
    pub fn resolve(
        &self,
        request: &PackageRequest,
        tell: &mut dyn FnMut(Event),
    ) -> Result<PackageSet, PackageError> {
        let PackageRequest { suite, architecture, packages, provided, closure: with_closure } =
            request;
        let doing =
            || format!("choosing packages for {architecture} that images.lock does not pin");
        let loaded = self.load(suite.as_deref(), architecture, doing, tell)?;
        let index = &loaded.index;
        let missing = |name: &str| PackageError::NoSuchPackage {
            name: name.to_owned(),
            architecture: architecture.clone(),
        };
        let ids = if *with_closure {
            closure(index, architecture, packages, provided).map_err(|problem| match problem {
                NoClosure::Missing(name) => missing(&name),
                NoClosure::Unsatisfiable(text) => {
                    PackageError::Unsatisfiable { architecture: architecture.clone(), text }
                }
            })?
        } else {
            let best = |name: &String| index.versions(name).first().copied();
            let ids = packages.iter().map(|name| best(name).ok_or_else(|| missing(name)));
            ids.collect::<Result<_, _>>()?
        };
        let pinned = ids.into_iter().map(|id| {
            let name = || PackageError::Unpinnable { name: index.name(id).to_owned() };
            index.package(id).ok_or_else(name)
        });
        let mut packages = pinned.collect::<Result<Vec<_>, _>>()?;
        packages.sort();
        packages.dedup();
        let set = PackageSet { packages };
        self.remember(suite.as_deref(), &set);
        Ok(set)
    }

    /// Names of the packages that hold the shared libraries of a development package: those
    /// that it depends on in its own version (Debian policy 8.4). One that only stands for
    /// another development package has that one's.
    pub fn run_time_packages(
        &self,
        suite: Option<&str>,
        architecture: &str,
        package: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<String>, PackageError> {
        let doing = || format!("asking what {package} needs at run time");
        let loaded = self.load(suite, architecture, doing, tell)?;
        let index = &loaded.index;
        let mut wanted = vec![package.to_owned()];
        let mut seen = Vec::new();
        let mut names = Vec::new();
        while let Some(name) = wanted.pop() {
            if let Some(id) = index.versions(&name).first() {
                let depends = index.field(*id, "Depends").unwrap_or_default();
                let (libraries, others) = run_time_depends(depends, index.version(*id));
                if libraries.is_empty() {
                    wanted.extend(others.into_iter().filter(|other| !seen.contains(other)));
                }
                names.extend(libraries);
            }
            seen.push(name);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What a suite says of itself.
    pub fn release(
        &self,
        suite: Option<&str>,
        architecture: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<SuiteRelease, PackageError> {
        let doing = || "asking which release the packages are of".to_owned();
        let loaded = self.load(suite, architecture, doing, tell)?;
        let Some((_, release)) = loaded.lists.first() else { return Ok(SuiteRelease::default()) };
        let id = release.origin.to_lowercase();
        let version = match id.as_str() {
            // Point releases are the same release.
            "debian" => release.version.split('.').next().unwrap_or_default(),
            _ => &release.version,
        };
        Ok(SuiteRelease { version: version.to_owned(), codename: release.codename.clone(), id })
    }

    /// Downloads pinned packages into `destination`, checks them, and returns their files
    /// in the order of `packages`. `architecture` is the one that the set was resolved for.
    pub fn fetch(
        &self,
        architecture: &str,
        packages: &[Package],
        destination: &Path,
    ) -> Result<Vec<PathBuf>, PackageError> {
        let mut by_suite: BTreeMap<Option<String>, Vec<Package>> = BTreeMap::new();
        for package in packages {
            let suite = guard(&self.origins).get(&package.sha256).cloned().flatten();
            let suite = suite.or_else(|| self.default_suite().map(ToOwned::to_owned));
            by_suite.entry(suite).or_default().push(package.clone());
        }
        let mut files = BTreeMap::new();
        for (suite, packages) in by_suite {
            let configured = suite.as_ref().and_then(|suite| self.suites.get(suite));
            let found = match (&suite, configured) {
                (Some(suite), Some(archives)) => {
                    self.fetch_from(suite, archives, architecture, &packages, destination)?
                }
                _ => self.apt.fetch(architecture, &packages, destination)?,
            };
            files.extend(packages.into_iter().map(|package| package.sha256).zip(found));
        }
        Ok(packages.iter().map(|package| files[&package.sha256].clone()).collect())
    }

    /// Keeps in mind which suites pinned packages are of, so that they are found there.
    pub fn know(&self, lock: &Lock) {
        for locked in lock.packages.values() {
            self.remember(locked.request.suite.as_deref(), &locked.set);
        }
    }

    /// Gives back the memory of the lists; they are read again when they are wanted.
    pub fn forget_lists(&self) {
        guard(&self.loaded).clear();
    }

    /// Whether the configuration says where a suite is.
    pub fn is_configured(&self, suite: &str) -> bool {
        self.suites.contains_key(suite)
    }

    /// The suite of requests that name none, if it is not all that the machine's apt serves:
    /// the one that the configuration says, or without an apt the only one that it has.
    pub fn default_suite(&self) -> Option<&str> {
        if let Some(suite) = &self.default {
            return Some(suite);
        }
        let mut suites = self.suites.keys();
        match (suites.next(), suites.next()) {
            (Some(only), None) if !self.apt.is_there() => Some(only),
            _ => None,
        }
    }

    fn remember(&self, suite: Option<&str>, set: &PackageSet) {
        let mut origins = guard(&self.origins);
        for package in &set.packages {
            origins.entry(package.sha256).or_insert_with(|| suite.map(ToOwned::to_owned));
        }
    }

    fn fetch_from(
        &self,
        suite: &str,
        archives: &[MirrorArchive],
        architecture: &str,
        packages: &[Package],
        destination: &Path,
    ) -> Result<Vec<PathBuf>, PackageError> {
        let doing = || format!("downloading {} packages", packages.len());
        let loaded = self.load(Some(suite), architecture, doing, &mut drop)?;
        let size_bytes = packages.iter().map(|package| package.size_bytes).sum();
        check_room(destination, size_bytes, "download packages")?;
        let index = &loaded.index;
        let mut files = Vec::new();
        for package in packages {
            let gone = || PackageError::NoSuchVersion { package: Box::new(package.clone()) };
            let mut versions = index.versions(&package.name).iter();
            let same = |id: &&u32| index.version(**id) == package.version;
            let id = *versions.find(same).ok_or_else(gone)?;
            let listed = index.package(id).ok_or_else(gone)?;
            if listed.sha256 != package.sha256 {
                let (package, found) = (Box::new(package.clone()), listed.sha256);
                return Err(PackageError::WrongHash { package, found });
            }
            let path = index.field(id, "Filename").ok_or_else(gone)?;
            let to = destination.join(package.sha256.hex());
            let (archive, _) = loaded.lists[index.list(id)];
            if !archives[archive].package(path, package.size_bytes, &to, &self.access)? {
                return Err(gone());
            }
            files.push(checked(package, to)?);
        }
        Ok(files)
    }

    /// The lists of a suite for an architecture. `doing` says what for, where the network
    /// may not be used.
    fn load(
        &self,
        suite: Option<&str>,
        architecture: &str,
        doing: impl FnOnce() -> String,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Lists, PackageError> {
        let suite = suite.or_else(|| self.default_suite());
        let key = (suite.map(ToOwned::to_owned), architecture.to_owned());
        if let Some(loaded) = guard(&self.loaded).get(&key) {
            return Ok(Arc::clone(loaded));
        }
        let configured = suite.and_then(|suite| self.suites.get(suite));
        let is_local = configured.is_some_and(|archives| archives.iter().all(|a| a.is_local()));
        if self.access.offline && !is_local {
            return Err(PackageError::Offline { what: doing() });
        }
        let loaded = match configured {
            Some(archives) => {
                self.load_mirrors(suite.unwrap_or_default(), archives, architecture, tell)?
            }
            None => self.load_apt(suite, architecture, tell)?,
        };
        let loaded = Arc::new(loaded);
        guard(&self.loaded).insert(key, Arc::clone(&loaded));
        Ok(loaded)
    }

    fn load_mirrors(
        &self,
        suite: &str,
        archives: &[MirrorArchive],
        architecture: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Loaded, PackageError> {
        let mut loaded = Loaded { index: Index::default(), lists: Vec::new() };
        for (at, archive) in archives.iter().enumerate().filter(|(_, a)| a.is_for(architecture)) {
            for list in archive.lists(architecture, &self.access, tell)? {
                let is_backup = list.release.not_automatic;
                let origin = ListOrigin { list: loaded.lists.len(), is_backup };
                list.read(|reader| loaded.index.add(reader, origin, architecture))?;
                loaded.lists.push((at, Arc::clone(&list.release)));
            }
        }
        if loaded.lists.is_empty() {
            return Err(PackageError::NoArchitecture {
                architecture: architecture.to_owned(),
                suite: Some(suite.to_owned()),
            });
        }
        loaded.index.finish();
        Ok(loaded)
    }

    fn load_apt(
        &self,
        suite: Option<&str>,
        architecture: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Loaded, PackageError> {
        if let Some(name) = suite.filter(|_| !self.apt.is_there()) {
            return Err(PackageError::NoSuite { name: name.to_owned(), served: Vec::new() });
        }
        let mut loaded = Loaded { index: Index::default(), lists: Vec::new() };
        let mut served = Vec::new();
        for list in self.apt.lists(architecture, tell)? {
            let release = list.release;
            // What a machine knows but does not take by itself, such as backports.
            if release.not_automatic {
                continue;
            }
            served.push(release.codename.clone());
            if suite.is_some_and(|suite| !is_part(&release, suite)) {
                continue;
            }
            let origin = ListOrigin { list: loaded.lists.len(), is_backup: false };
            let index = &mut loaded.index;
            self.apt.read_list(architecture, &list.path, |reader| {
                index.add(reader, origin, architecture)
            })?;
            loaded.lists.push((0, Arc::new(release)));
        }
        if let Some(name) = suite.filter(|_| loaded.lists.is_empty()) {
            served.sort();
            served.dedup();
            return Err(PackageError::NoSuite { name: name.to_owned(), served });
        }
        loaded.index.finish();
        Ok(loaded)
    }
}

/// Whether a release is of a suite, or of its updates: `bookworm`, `bookworm-security`, ….
fn is_part(release: &Release, suite: &str) -> bool {
    [&release.suite, &release.codename].into_iter().any(|name| {
        let rest = name.strip_prefix(suite);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
    })
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_apt_the_only_suite_serves() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache")).unwrap();
        let variables = BTreeMap::from([("PATH".to_owned(), "/nowhere".to_owned())]);
        let environment = Environment { variables, folder: folder.path().to_owned() };
        let default = |names: &[&str], default: Option<&str>| {
            let tables = names
                .iter()
                .map(|name| format!("[suite.{name}]\nmirror = \"m\"\nkeyring = \"k\"\n"));
            let text = format!("[image.x]\nfrom = \"scratch\"\n{}", tables.collect::<String>());
            let project = crate::config::parse("images.toml", &text).unwrap();
            let (suites, stop) = (&project.suites, Arc::default());
            let archives =
                Archives::new(&environment, &store, folder.path(), suites, default, false, stop);
            archives.default_suite().map(ToOwned::to_owned)
        };
        assert_eq!(default(&["a"], None).as_deref(), Some("a"));
        assert_eq!(default(&["a", "b"], None), None);
        assert_eq!(default(&["a", "b"], Some("b")).as_deref(), Some("b"));
        assert_eq!(default(&[], None), None);
    }

    #[test]
    fn updates_are_part_of_a_suite() {
        let release = |suite: &str, codename: &str| Release {
            suite: suite.into(),
            codename: codename.into(),
            ..Release::default()
        };
        assert!(is_part(&release("stable", "bookworm"), "bookworm"));
        assert!(is_part(&release("stable", "bookworm"), "stable"));
        assert!(is_part(&release("stable-security", "bookworm-security"), "bookworm"));
        assert!(is_part(&release("noble-updates", "noble"), "noble"));
        assert!(!is_part(&release("cloud-sdk-bookworm", "cloud-sdk-bookworm"), "bookworm"));
        assert!(!is_part(&release("", ""), "bookworm"));
    }
}
