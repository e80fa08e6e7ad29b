//! Resolving: everything that has to be learned before a pure plan can be made. What is
//! worth pinning goes to the lock; what is a fact about the working tree is cached.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Engine;
use crate::config::{Base, Project, Recipe, Version};
use crate::model::event::Event;
use crate::model::package::{PackageRequest, PackageSet};
use crate::model::{Digest, Finding, Platform};
use crate::plan::facts::{Facts, GoToolchain, RustProvider};
use crate::plan::images::packages_of;
use crate::source::debian::{AptError, suite_from_os_release};
use crate::source::lock::{Lock, LockedSet, LockedToolchain};
use crate::store::StatIndex;
use crate::toolchain::description::{Description, by_platform, host};
use crate::toolchain::{compiler, go, parts, rustup};

/// Resolves a configuration. The lock is completed, never changed.
pub struct Resolver<'a> {
    /// Store, apt, environment.
    pub engine: &'a Engine,
    /// Folder of the configuration.
    pub folder: &'a Path,
    /// What is pinned.
    pub lock: Lock,
    /// Whether pinning something new is an error.
    pub locked: bool,
    /// Digests of files by status.
    pub index: StatIndex,
    /// Problems.
    pub findings: Vec<Finding>,
}

impl Resolver<'_> {
    /// Everything that planning `project` needs, or every problem that was found.
    pub fn facts(&mut self, project: &Project) -> Option<Facts> {
        let host = host().or_else(|| {
            self.problem(
                "unknown-host",
                "this machine's architecture has no toolchain description",
            );
            None
        })?;
        let targets: Vec<&'static Description> =
            project.platforms.iter().filter_map(by_platform).collect();
        let mut listings = BTreeMap::new();
        let mut binaries = BTreeMap::new();
        let used: BTreeSet<&String> =
            project.images.values().flat_map(|image| &image.binaries).collect();
        for (name, binary) in project.binaries.iter().filter(|(name, _)| used.contains(name)) {
            if let Some(sources) = self.binary(name, &binary.recipe, &mut listings) {
                binaries.insert(name.clone(), sources);
            }
        }
        let files = self.files(project);
        let version = self.version(project);
        if !self.findings.is_empty() {
            return None;
        }
        let recipes = || binaries.keys().map(|name| &project.binaries[name]);
        let needs_c = recipes().any(|b| !matches!(b.recipe, Recipe::Go { cgo: false, .. }));
        let needs_rust = recipes().any(|b| matches!(b.recipe, Recipe::Rust { .. }));
        let host_architecture = host.debian_architecture.clone();
        let llvm = if needs_c {
            self.part("llvm", &host_architecture, &[])?
        } else {
            PackageSet::default()
        };
        let llvm_version = llvm
            .packages
            .iter()
            .find_map(|package| package.name.strip_prefix("clang-"))
            .unwrap_or_default()
            .to_owned();
        let userland = if binaries.is_empty() {
            PackageSet::default()
        } else {
            self.part("userland", &host_architecture, &[])?
        };
        let rust = if needs_rust { Some(self.rust(host, &targets)?) } else { None };
        let mut sysroots = BTreeMap::new();
        for name in binaries.keys() {
            let binary = &project.binaries[name];
            if matches!(binary.recipe, Recipe::Go { cgo: false, .. }) {
                continue;
            }
            let packages = packages_of(project, &binary.libraries);
            for target in &targets {
                self.sysroot(&target.debian_architecture, &packages, &mut sysroots);
            }
            if matches!(binary.recipe, Recipe::Rust { .. }) {
                self.sysroot(&host_architecture, &[], &mut sysroots);
            }
        }
        let mut roots = BTreeMap::new();
        for (name, image) in &project.images {
            let Base::Packages(packages) = &image.from else { continue };
            for target in &targets {
                let request = parts::root_request(&target.debian_architecture, packages);
                let platform = target.platform.clone();
                if let Some(set) = self.set(&format!("root {name} {platform}"), &[request]) {
                    roots.insert((name.clone(), platform), set);
                }
            }
        }
        if !self.findings.is_empty() {
            return None;
        }
        let mut c_flags = BTreeMap::new();
        for target in &targets {
            match compiler::flags(Path::new("clang"), &target.triple, &host.triple) {
                Ok(flags) => drop(c_flags.insert(target.triple.clone(), flags)),
                Err(error) => self.problem("no-compiler", &error),
            }
        }
        Some(Facts {
            project: project.clone(),
            version,
            revision: project.revision.clone(),
            host,
            targets,
            suite: self.suite(),
            llvm_version,
            c_flags,
            llvm,
            userland,
            rust,
            sysroots,
            roots,
            binaries,
            listings,
            files,
        })
    }

    pub(super) fn problem(&mut self, code: &'static str, message: &str) {
        self.findings.push(Finding::new(code, message));
    }

    fn suite(&self) -> String {
        fs::read_to_string("/etc/os-release")
            .ok()
            .and_then(|text| suite_from_os_release(&text))
            .unwrap_or_else(|| "unknown".to_owned())
    }

    fn version(&mut self, project: &Project) -> String {
        match &project.version {
            Version::Text(text) => text.clone(),
            Version::File(name) => match fs::read_to_string(self.folder.join(name)) {
                Ok(text) => text.lines().next().unwrap_or_default().trim().to_owned(),
                Err(error) => {
                    let message = format!("cannot read `{name}`, which `version` names: {error}");
                    self.problem("missing-file", &message);
                    String::new()
                }
            },
        }
    }

    fn sysroot(
        &mut self,
        architecture: &str,
        packages: &[String],
        sysroots: &mut BTreeMap<(String, Vec<String>), PackageSet>,
    ) {
        let key = (architecture.to_owned(), packages.to_vec());
        if !sysroots.contains_key(&key)
            && let Some(set) = self.part("sysroot", architecture, packages)
        {
            sysroots.insert(key, set);
        }
    }

    fn part(&mut self, part: &str, architecture: &str, extra: &[String]) -> Option<PackageSet> {
        let name = format!("{part} {architecture} {}", extra.join(" "));
        self.set(name.trim_end(), &parts::requests(part, architecture, extra))
    }

    /// The pinned answer to one of `requests`, or the archive's to the first that it has.
    fn set(&mut self, name: &str, requests: &[PackageRequest]) -> Option<PackageSet> {
        if let Some(set) = requests.iter().find_map(|request| self.lock.set(name, request)) {
            return Some(set);
        }
        if self.locked {
            let message = format!(
                "images.lock does not pin `{name}` as it is asked for now, and `--locked` was given"
            );
            self.findings.push(
                Finding::new("not-locked", message)
                    .help("run without `--locked` once and commit images.lock"),
            );
            return None;
        }
        let engine = self.engine;
        let mut first = None;
        for request in requests {
            let architecture = request.architecture.clone();
            let mut refreshed = || {
                let text = format!("reading the package lists for {architecture}");
                engine.tell(Event::Note { text });
            };
            match engine.apt.resolve(request, &mut refreshed) {
                Ok(set) => {
                    let locked = LockedSet { request: request.clone(), set: set.clone() };
                    self.lock.packages.insert(name.to_owned(), locked);
                    return Some(set);
                }
                Err(error) => {
                    let next =
                        matches!(error, AptError::NoSuchPackage { .. } | AptError::Apt { .. });
                    first.get_or_insert(error);
                    if !next {
                        break;
                    }
                }
            }
        }
        let error =
            first.map_or_else(|| "nothing to ask for".to_owned(), |error| error.to_string());
        let code = if error.contains("--offline") { "offline" } else { "no-packages" };
        self.problem(code, &format!("{name}: {error}"));
        None
    }

    fn rust(
        &mut self,
        host: &'static Description,
        targets: &[&'static Description],
    ) -> Option<RustProvider> {
        let pinned = self.lock.toolchains.get("rust").cloned();
        if pinned.as_ref().is_none_or(|locked| locked.provider == "rustup") {
            let triples: Vec<String> = targets
                .iter()
                .map(|target| target.triple.clone())
                .chain([host.triple.clone()])
                .collect();
            match rustup::choose(&self.engine.environment, &triples, self.engine.offline) {
                Ok(choice) => {
                    let digest = self.machine_folder(
                        &choice.root,
                        &["bin/rustc", "bin/cargo", "lib/rustlib/components"],
                    )?;
                    self.pin(
                        "rust",
                        LockedToolchain {
                            provider: "rustup".into(),
                            version: choice.version,
                            hash: digest,
                        },
                    )?;
                    return Some(RustProvider::Rustup { digest, root: choice.root });
                }
                Err(reason) if pinned.is_some() => {
                    let message = format!(
                        "images.lock pins a rustup toolchain, which cannot be used: {reason}"
                    );
                    self.problem("no-rust", &message);
                    return None;
                }
                Err(reason) => {
                    let text = format!("using the distribution's Rust: {reason}");
                    self.engine.tell(Event::Note { text });
                }
            }
        }
        let architecture = &host.debian_architecture;
        let host_set = self.part("rust", architecture, &[])?;
        let web = host_set.packages.iter().any(|package| package.name == "libstd-rust-web-dev");
        let mut packages = Vec::new();
        for target in targets.iter().filter(|target| target.triple != host.triple) {
            let architecture = &target.debian_architecture;
            let mut requests = parts::requests("rust-std", architecture, &[]);
            // Standard library and compiler must be of one build.
            requests.retain(|request| {
                web == request.packages.iter().any(|name| name.contains("-web-"))
            });
            packages.extend(self.set(&format!("rust-std {architecture}"), &requests)?.packages);
        }
        let targets = PackageSet { packages };
        let version = host_set
            .packages
            .iter()
            .find(|package| package.name.starts_with("rustc"))
            .map_or_else(String::new, |package| package.version.clone());
        let all =
            serde_json::to_vec(&(&host_set, &targets)).expect("packages have string keys only");
        if pinned.is_none() {
            let hash = Digest::of(&all);
            self.pin("rust", LockedToolchain { provider: "packages".into(), version, hash })?;
        }
        Some(RustProvider::Packages { host: host_set, targets })
    }

    /// Pins a toolchain, or checks it against its pin.
    fn pin(&mut self, name: &str, found: LockedToolchain) -> Option<()> {
        match self.lock.toolchains.get(name) {
            None if self.locked => {
                let message = format!(
                    "images.lock does not pin the toolchain `{name}`, and `--locked` was given"
                );
                self.problem("not-locked", &message);
                None
            }
            None => {
                self.lock.toolchains.insert(name.to_owned(), found);
                Some(())
            }
            Some(locked) if *locked == found => Some(()),
            Some(locked) => {
                let message = format!(
                    "images.lock pins {name} {} from {}, this machine has {} from {}",
                    locked.version, locked.provider, found.version, found.provider
                );
                self.findings.push(Finding::new("toolchain-changed", message).help(format!(
                    "install the pinned one, or remove [toolchain.{name}] from images.lock to move to this one"
                )));
                None
            }
        }
    }

    /// The digest of a toolchain folder of the machine, remembered by the state of `guards`.
    fn machine_folder(&mut self, root: &Path, guards: &[&str]) -> Option<Digest> {
        let guards: Vec<(String, Option<Digest>)> = guards
            .iter()
            .map(|name| ((*name).to_owned(), self.index.digest(&root.join(name)).ok()))
            .collect();
        let key = Digest::of(&serde_json::to_vec(&(root, &guards)).expect("plain data"));
        let memory = self.engine.store.state("folders").join(key.hex());
        if let Some(digest) = fs::read_to_string(&memory).ok().and_then(|text| text.parse().ok()) {
            return Some(digest);
        }
        let digest = match crate::store::describe(root) {
            Ok(tree) => tree.digest(),
            Err(error) => {
                self.problem("unreadable-toolchain", &error.to_string());
                return None;
            }
        };
        let written = crate::store::write_atomically(&memory, digest.to_string().as_bytes());
        if let Err(error) = written {
            self.problem("store", &error.to_string());
        }
        Some(digest)
    }

    pub(super) fn go(&mut self, go_mod: &str) -> Option<GoToolchain> {
        let need = go::required_version(go_mod).unwrap_or_else(|| "1.21".to_owned());
        let engine = self.engine;
        let folder = engine.store.state("go");
        let announce = |version: &str| {
            engine.tell(Event::Download {
                what: format!("Go {version}"),
                size_bytes: None,
                to: folder.display().to_string(),
            });
        };
        let pinned = self.lock.toolchains.get(&format!("go{need}")).cloned();
        let chosen = match &pinned {
            Some(locked) if locked.provider != "machine" => {
                let machine = go::of_machine(&engine.environment);
                go::exactly(
                    &engine.environment,
                    &locked.version,
                    machine.as_ref(),
                    &folder,
                    engine.offline,
                    &mut { announce },
                )
            }
            _ => go::choose(&engine.environment, &need, &folder, engine.offline, &mut { announce }),
        };
        let choice = match chosen {
            Ok(choice) => choice,
            Err(finding) => {
                self.findings.push(finding);
                return None;
            }
        };
        let digest = self.machine_folder(&choice.root, &["VERSION", "bin/go"])?;
        let found = LockedToolchain {
            provider: choice.provider,
            version: choice.version.clone(),
            hash: digest,
        };
        self.pin(&format!("go{need}"), found)?;
        Some(GoToolchain { version: choice.version, digest, root: choice.root })
    }
}

/// The platforms of `wanted` that the project has, or why not.
pub fn platforms(project: &Project, wanted: &[Platform]) -> Result<Vec<Platform>, Finding> {
    if wanted.is_empty() {
        return Ok(project.platforms.clone());
    }
    let known: Vec<String> = project.platforms.iter().map(ToString::to_string).collect();
    let mut platforms = wanted.to_vec();
    platforms.sort();
    platforms.dedup();
    match platforms.iter().find(|platform| !project.platforms.contains(platform)) {
        Some(platform) => Err(Finding::new(
            "unknown-platform",
            format!("the project has no platform {platform}; it has {}", known.join(", ")),
        )),
        None => Ok(platforms),
    }
}

/// Where the compiler state of a project is: named by the project's place, so that two
/// checkouts do not share it.
pub fn project_state(engine_root: &Path, folder: &Path) -> PathBuf {
    let place = Digest::of(folder.to_string_lossy().as_bytes());
    engine_root.join("state/projects").join(&place.hex()[..16])
}
