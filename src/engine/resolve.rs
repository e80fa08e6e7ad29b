//! Resolving: everything that has to be learned before a pure plan can be made. What is
//! worth pinning goes to the lock; what is a fact about the working tree is cached.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Engine;
use super::natives::{native_builds, pre_builds};
use super::suites::{self, SuiteAsked};
use crate::config::{Base, Kind, Project, Recipe};
use crate::model::base::BaseSystem;
use crate::model::event::Event;
use crate::model::finding::REMOTE_FAILED;
use crate::model::package::{PackageRequest, PackageSet};
use crate::model::{Digest, Finding, Place, Platform};
use crate::plan::facts::{Facts, Listing, SysrootKey, is_tag, of_suite};
use crate::plan::selection::Selection;
use crate::source::archives::PackageError;
use crate::source::lock::{Lock, LockedSet};
use crate::store::StatIndex;
use crate::toolchain::description::{Description, all, by_platform, host};
use crate::toolchain::parts;

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
    /// Whether one sysroot is to have every library.
    pub every_library: bool,
    /// `gzip` or `zstd`.
    pub compression: String,
    /// What of listings is depended on, by a listing's name and the digest.
    pub selections: BTreeMap<(String, Digest), Selection>,
    /// Digests of files by status.
    pub index: StatIndex,
    /// What asks for the suites that are not the default one, by name.
    pub asked_by: BTreeMap<String, SuiteAsked>,
    /// Why images are left out whose bases cannot be had, where the others are to be built.
    pub set_aside: Vec<Finding>,
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
        let (bases, project) = self.bases(project, &targets);
        let project = project.as_ref();
        let mut listings = BTreeMap::new();
        let mut binaries = BTreeMap::new();
        let used: BTreeSet<&String> =
            project.images.values().flat_map(|image| &image.binaries).collect();
        for (name, binary) in project.binaries.iter().filter(|(name, _)| used.contains(name)) {
            if matches!(binary.recipe, Recipe::Built { .. }) {
                continue;
            }
            if let Some(sources) = self.binary(name, binary, &mut listings) {
                binaries.insert(name.clone(), sources);
            }
        }
        self.prebuilt_files(project);
        self.tell_own_settings(project);
        let version = self.version("version", &project.version, "describe");
        let revision = project
            .revision
            .as_ref()
            .and_then(|revision| self.version("revision", revision, "rev-parse"));
        let tags = version.iter().flat_map(|version| {
            project.tags.iter().map(move |tag| tag.replace("{version}", version))
        });
        let files = self.files(project, &targets, version.as_deref());
        for tag in tags {
            if !is_tag(&tag) {
                let text =
                    format!("`{tag}` is no tag: letters, digits, `_`, `.`, `-`, at most 128");
                self.problem("invalid-tag", &text);
            }
        }
        let suite = self.suite();
        let suites = suites::of_images(project, &suite, &bases);
        self.asked_by = suites::asked_by(project, &suites, &bases);
        if !self.findings.is_empty() {
            return None;
        }
        let builds = native_builds(project, &used);
        let recipes = || binaries.keys().map(|name| &project.binaries[name]);
        let needs_c = !builds.is_empty()
            || recipes().any(|b| !matches!(b.recipe, Recipe::Go { cgo: false, .. }));
        let needs_rust = recipes().any(|b| matches!(b.recipe, Recipe::Rust { .. }))
            || builds.iter().any(|build| matches!(build.kind, Kind::Cargo { .. }));
        let host_architecture = host.debian_architecture.clone();
        let llvm = if needs_c {
            self.part("llvm", &host_architecture, &[], None)?
        } else {
            PackageSet::default()
        };
        let llvm_version = llvm
            .packages
            .iter()
            .find_map(|package| package.name.strip_prefix("clang-"))
            .unwrap_or_default()
            .to_owned();
        let pre_builds = pre_builds(project, &targets);
        let compile = self.compile_packages(project, &used, host, &targets, (&pre_builds, &suites));
        let rust = if needs_rust { Some(self.rust(host, &targets)?) } else { None };
        let mut natives = BTreeMap::new();
        for build in &builds {
            if let Some(sources) = self.native_sources(build, &mut listings) {
                natives.insert(build.what.clone(), sources);
            }
        }
        let mut roots = BTreeMap::new();
        for (name, image) in &project.images {
            let Base::Packages { packages, .. } = &image.from else { continue };
            for target in &targets {
                let mut request = parts::root_request(&target.debian_architecture, packages);
                request.suite = suites.get(name).cloned();
                let platform = target.platform.clone();
                if let Some(set) = self.set(
                    &format!("root {name} {platform}"),
                    &[request],
                    Some(&image.from_place),
                ) {
                    roots.insert((name.clone(), platform), set);
                }
            }
        }
        let (additions, runtimes) = self.runtimes(project, &targets, &roots, &suites, &bases);
        self.ignored_scripts(project, &[&roots, &additions], &runtimes);
        self.glibc_floor(project, &roots, &compile.sysroots, &suites);
        if !self.findings.is_empty() {
            return None;
        }
        Some(Facts {
            project: self.with_passed_variables(project),
            version: version.unwrap_or_default(),
            revision,
            host,
            targets,
            suite,
            suites,
            llvm_version,
            llvm,
            userlands: compile.userlands,
            build_systems: compile.build_systems,
            rust,
            sysroots: compile.sysroots,
            roots,
            bases,
            additions,
            runtimes,
            natives,
            pre_builds,
            binaries,
            listings,
            selections: std::mem::take(&mut self.selections),
            files,
        })
    }

    /// The digest of what something depends on, which is remembered by it.
    pub(super) fn select(&mut self, name: &str, listing: &Listing, selection: Selection) -> Digest {
        let digest = selection.digest(listing);
        self.selections.insert((name.to_owned(), digest), selection);
        digest
    }

    pub(super) fn problem(&mut self, code: &'static str, message: &str) {
        self.problem_at(code, message.to_owned(), None);
    }

    pub(super) fn problem_at(&mut self, code: &'static str, text: String, place: Option<&Place>) {
        let mut finding = Finding::new(code, text);
        finding.place = place.cloned();
        self.findings.push(finding);
    }

    /// Name of the suite of what names none.
    pub(super) fn suite(&self) -> String {
        if let Some(suite) = self.engine.archives.default_suite() {
            return suite.to_owned();
        }
        fs::read_to_string("/etc/os-release")
            .ok()
            .and_then(|text| BaseSystem::parse(&text).suite)
            .unwrap_or_else(|| "unknown".to_owned())
    }

    pub(super) fn sysroot(
        &mut self,
        key: SysrootKey,
        place: Option<&Place>,
        sysroots: &mut BTreeMap<SysrootKey, PackageSet>,
    ) {
        if sysroots.contains_key(&key) {
            return;
        }
        let name = format!("sysroot {} {}", key.architecture, key.packages.join(" "));
        let name = of_suite(name.trim_end(), key.suite.as_deref());
        let mut requests = parts::requests("sysroot", &key.architecture, &key.packages);
        for request in &mut requests {
            request.suite.clone_from(&key.suite);
        }
        if let Some(set) = self.set(&name, &requests, place) {
            sysroots.insert(key, set);
        }
    }

    /// A part of a toolchain. `place` is where the configuration asks for `extra` packages.
    pub(super) fn part(
        &mut self,
        part: &str,
        architecture: &str,
        extra: &[String],
        place: Option<&Place>,
    ) -> Option<PackageSet> {
        let name = format!("{part} {architecture} {}", extra.join(" "));
        self.set(name.trim_end(), &parts::requests(part, architecture, extra), place)
    }

    /// The pinned answer to one of `requests`, or the archive's to the first that it has.
    pub(super) fn set(
        &mut self,
        name: &str,
        requests: &[PackageRequest],
        place: Option<&Place>,
    ) -> Option<PackageSet> {
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
            match engine.archives.resolve(request, &mut |event| engine.tell(event)) {
                Ok(set) => {
                    let locked = LockedSet { request: request.clone(), set: set.clone() };
                    for moved in self.lock.moves(name, &set) {
                        let text = format!("images.lock: {name} is asked for otherwise: {moved}");
                        engine.tell(Event::Warning { text });
                    }
                    self.lock.packages.insert(name.to_owned(), locked);
                    return Some(set);
                }
                Err(error) => {
                    let next = matches!(
                        error,
                        PackageError::NoSuchPackage { .. } | PackageError::Unsatisfiable { .. }
                    );
                    first.get_or_insert(error);
                    if !next {
                        break;
                    }
                }
            }
        }
        let mut finding = match first {
            None => Finding::new("no-packages", format!("{name}: nothing to ask for")),
            Some(error) => self.refusal(name, &error),
        };
        let same = |other: &Finding| other.code == finding.code && other.message == finding.message;
        // What an architecture lacks is said once, not for each part.
        if !self.findings.iter().any(same) {
            finding.place = finding.place.or_else(|| place.cloned());
            self.findings.push(finding);
        }
        None
    }

    /// A finding that says why packages cannot be had, by platform where it is about one.
    pub(super) fn refusal(&self, name: &str, error: &PackageError) -> Finding {
        let of_platform = |architecture: &str, text: String| {
            let target = all().iter().find(|target| target.debian_architecture == architecture);
            match target {
                Some(target) => format!("{}: {text}", target.platform),
                None => text,
            }
        };
        let mut finding = match error {
            PackageError::NoArchitecture { architecture, suite } => {
                let suite = suite.clone().unwrap_or_else(|| self.suite());
                let text = format!("the package archive of {suite} has nothing for {architecture}");
                Finding::new("no-architecture", of_platform(architecture, text))
            }
            PackageError::Lists { architecture, .. } => {
                Finding::new(REMOTE_FAILED, of_platform(architecture, error.to_string()))
            }
            PackageError::NoSuchPackage { architecture, .. } if name.starts_with("rust-std ") => {
                let suite = self.suite();
                let text = format!(
                    "the package archive of {suite} has no Rust standard library for {architecture}"
                );
                return Finding::new("no-rust-std", of_platform(architecture, text)).help(
                    "use a rustup that can add the target, or leave the platform out of \
                     `platforms`",
                );
            }
            PackageError::Offline { .. } => Finding::new("offline", format!("{name}: {error}")),
            error if error.is_remote() => Finding::new(REMOTE_FAILED, format!("{name}: {error}")),
            PackageError::NoSuite { name, .. } => self.unknown_suite(name, error),
            PackageError::Mirror(_) => Finding::new("untrusted-archive", error.to_string()),
            error => Finding::new("no-packages", format!("{name}: {error}")),
        };
        finding.help = error.help();
        finding
    }

    /// What a suite is asked for by is not what is compiled, but the base below it.
    fn unknown_suite(&self, suite: &str, error: &PackageError) -> Finding {
        match self.asked_by.get(suite) {
            Some(asked) => {
                let why = asked.why.iter().map(|why| format!("{why}: ")).collect::<String>();
                let finding = Finding::new("unknown-suite", format!("{why}{error}"));
                finding.at(asked.place.clone())
            }
            None => Finding::new("unknown-suite", error.to_string()),
        }
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
