//! What resolving learns of native libraries and of programs that other build systems make:
//! their sources, patches and lock files, what images lack at run time, and which packages
//! all compile units need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::additions::{Runtimes, Sets, packages_of, provided};
use super::resolve::Resolver;
use super::suites::{Suites, Uses};
use crate::config::pre_build::pre_build;
use crate::config::{Kind, LibraryRecipe, Project, Recipe, library_closure};
use crate::model::action::SourceReference;
use crate::model::base::BaseImage;
use crate::model::package::{PackageRequest, PackageSet};
use crate::model::source::Origin;
use crate::model::{Digest, Finding, Place, Platform};
use crate::plan::facts::{
    BUILD_SYSTEMS, Listing, NativeSources, PreBuild, SysrootKey, of_suite, userland_tools,
};
use crate::plan::libraries::build_tools;
use crate::plan::mounts::development_packages;
use crate::plan::selection::Selection;
use crate::source::lock::{LockedSet, LockedSource};
use crate::toolchain::description::Description;
use crate::toolchain::parts;

/// Something that another build system makes.
pub struct NativeBuild<'a> {
    /// `library NAME` or `binary NAME`.
    pub what: String,
    /// Where its sources come from.
    pub origin: &'a Origin,
    /// Folder in them.
    pub folder: &'a str,
    /// By what.
    pub kind: &'a Kind,
    /// Patches.
    pub patches: &'a [String],
    /// Libraries that it is built against.
    pub needs: &'a [String],
    /// Packages of its build.
    pub tools: &'a [String],
    /// Where it is declared.
    pub place: &'a Place,
}

/// Everything that other build systems make, of the libraries and of `binaries`.
pub fn native_builds<'a>(
    project: &'a Project,
    binaries: &BTreeSet<&String>,
) -> Vec<NativeBuild<'a>> {
    let libraries = project.libraries.iter().filter_map(|(name, library)| {
        let LibraryRecipe::Built { origin, folder, kind } = &library.recipe else { return None };
        Some(NativeBuild {
            what: format!("library {name}"),
            origin,
            folder,
            kind,
            patches: &library.patches,
            needs: &library.needs,
            tools: &library.tools,
            place: &library.place,
        })
    });
    let binaries = project.binaries.iter().filter(|(name, _)| binaries.contains(name));
    let binaries = binaries.filter_map(|(name, binary)| {
        let Recipe::Built { origin, folder, kind, .. } = &binary.recipe else { return None };
        Some(NativeBuild {
            what: format!("binary {name}"),
            origin,
            folder,
            kind,
            patches: &[],
            needs: &binary.libraries,
            tools: &binary.tools,
            place: &binary.place,
        })
    });
    libraries.chain(binaries).collect()
}

/// What is done before builds, by triple.
pub fn pre_builds(
    project: &Project,
    targets: &[&'static Description],
) -> BTreeMap<String, PreBuild> {
    let of = |target: &&'static Description| {
        let lines = &project.targets.get(&target.triple)?.pre_build;
        let request = pre_build(lines, &target.debian_architecture);
        let found =
            PreBuild { packages: request.packages, tools: request.tools, scripts: request.scripts };
        Some((target.triple.clone(), found))
    };
    targets.iter().filter_map(of).collect()
}

impl Resolver<'_> {
    /// The sources of a build, or nothing and a finding.
    pub(super) fn native_sources(
        &mut self,
        build: &NativeBuild<'_>,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<NativeSources> {
        let before = self.findings.len();
        let sources = self.unplaced_sources(build, listings);
        for finding in &mut self.findings[before..] {
            finding.place.get_or_insert_with(|| build.place.clone());
        }
        sources
    }

    fn unplaced_sources(
        &mut self,
        build: &NativeBuild<'_>,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<NativeSources> {
        let mut patches = Vec::new();
        for name in build.patches {
            match fs::read_to_string(self.folder.join(name)) {
                Ok(text) => patches.push((name.clone(), text)),
                Err(error) => {
                    let message =
                        format!("{}: cannot read the patch `{name}`: {error}", build.what);
                    self.problem("missing-file", &message);
                }
            }
        }
        let mut sources = NativeSources {
            origin: build.origin.clone(),
            checksum: None,
            reference: None,
            start: String::new(),
            folder: build.folder.to_owned(),
            patches,
            needs_lock: false,
            lock: None,
            lock_digest: Digest::of(b""),
            has_dependencies: false,
        };
        match build.origin {
            Origin::Path { path } => {
                let (name, listing) = self.path_listing(build, path, listings)?;
                let digest = self.select(&name, &listing, Selection::All);
                sources.reference = Some(SourceReference { name, digest });
                sources.start.clone_from(path);
            }
            Origin::Archive { at, .. }
                if !at.contains("://") && !self.folder.join(at).is_file() =>
            {
                let message = format!("{}: there is no archive `{at}`", build.what);
                self.problem("missing-file", &message);
                return None;
            }
            Origin::Crate { name, version, .. } => {
                sources.checksum = Some(self.crate_checksum(&build.what, name, version)?);
            }
            _ => {}
        }
        if matches!(build.kind, Kind::Cargo { .. }) {
            sources.needs_lock = self.own_cargo_lock(build, &mut sources, listings).is_none();
        }
        Some(sources)
    }

    /// The listing of a folder of the project, of declared inputs only where there are some.
    fn path_listing(
        &mut self,
        build: &NativeBuild<'_>,
        path: &str,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<(String, Listing)> {
        let listing = self.listing(&build.what, path, listings)?;
        let Kind::Command { inputs, .. } = build.kind else {
            return Some((path.to_owned(), listing));
        };
        if inputs.is_empty() {
            return Some((path.to_owned(), listing));
        }
        let wanted = self.patterns(inputs)?;
        let mut own = listing.clone();
        own.files.retain(|file, _| wanted.matches(file));
        if own.files.is_empty() {
            let message = format!("{}: no file of {path} matches its `inputs`", build.what);
            self.problem("missing-sources", &message);
            return None;
        }
        let name = format!("inputs of {}", build.what);
        listings.insert(name.clone(), own.clone());
        Some((name, own))
    }

    /// Packages of sysroots, userlands and build systems for every compile unit.
    pub(super) fn compile_packages(
        &mut self,
        project: &Project,
        binaries: &BTreeSet<&String>,
        host: &'static Description,
        targets: &[&'static Description],
        (pre_builds, suites): (&BTreeMap<String, PreBuild>, &BTreeMap<String, String>),
    ) -> CompilePackages {
        let mut packages = CompilePackages::default();
        let uses = Uses::new(project, suites);
        let builds = native_builds(project, binaries);
        let mut compiled: Vec<Compiled> = Vec::new();
        for build in &builds {
            let tools = build_tools(build.kind, build.tools);
            let suites = uses.of(&build.what);
            let (libraries, place) = (build.needs.to_vec(), Some(build.place.clone()));
            compiled.push(Compiled { libraries, tools, place, suites });
        }
        for (name, binary) in project.binaries.iter().filter(|(name, _)| binaries.contains(name)) {
            match &binary.recipe {
                Recipe::Built { .. } => {}
                Recipe::Go { cgo: false, .. } => packages.userland_only.push(binary.tools.clone()),
                _ => {
                    let place = Some(binary.libraries_place.clone());
                    let suites = uses.of(&format!("binary {name}"));
                    let (libraries, tools) = (binary.libraries.clone(), binary.tools.clone());
                    compiled.push(Compiled { libraries, tools, place, suites });
                }
            }
        }
        // All at once only where they are asked for: some may exclude one another.
        if self.every_library && !compiled.is_empty() {
            let libraries = project.libraries.keys().cloned().collect();
            let suites = Suites::from([None]);
            compiled.push(Compiled { libraries, tools: Vec::new(), place: None, suites });
        }
        let architecture = &host.debian_architecture;
        if !compiled.is_empty() {
            let architecture = architecture.clone();
            let key = SysrootKey { suite: None, architecture, packages: Vec::new() };
            self.sysroot(key, None, &mut packages.sysroots);
        }
        for target in targets {
            let pre_build = pre_builds.get(&target.triple);
            for Compiled { libraries, tools, place, suites } in &compiled {
                let wanted = development_packages(project, libraries, pre_build);
                let place = place.as_ref();
                for suite in suites {
                    let key = SysrootKey {
                        suite: suite.clone(),
                        architecture: target.debian_architecture.clone(),
                        packages: wanted.clone(),
                    };
                    self.sysroot(key, place, &mut packages.sysroots);
                }
                let place = place.filter(|_| !tools.is_empty());
                self.userland(host, userland_tools(tools, pre_build), place, &mut packages);
            }
            for tools in packages.userland_only.clone() {
                self.userland(host, userland_tools(&tools, pre_build), None, &mut packages);
            }
        }
        if !compiled.is_empty() || !packages.userland_only.is_empty() {
            self.userland(host, Vec::new(), None, &mut packages);
        }
        for name in BUILD_SYSTEMS {
            if compiled.iter().any(|compiled| compiled.tools.iter().any(|tool| tool == name))
                && let Some(set) = self.part(name, architecture, &[], None)
            {
                packages.build_systems.insert(name.to_owned(), set);
            }
        }
        packages
    }

    fn userland(
        &mut self,
        host: &'static Description,
        tools: Vec<String>,
        place: Option<&Place>,
        packages: &mut CompilePackages,
    ) {
        if !packages.userlands.contains_key(&tools)
            && let Some(set) = self.part("userland", &host.debian_architecture, &tools, place)
        {
            packages.userlands.insert(tools, set);
        }
    }

    /// For each image and platform, the packages that it adds to its base; and with the
    /// library, the run-time packages of a library of packages that it then lacks.
    pub(super) fn runtimes(
        &mut self,
        project: &Project,
        targets: &[&'static Description],
        roots: &Sets,
        suites: &BTreeMap<String, String>,
        bases: &BTreeMap<(String, Platform), BaseImage>,
    ) -> (Sets, Runtimes) {
        let (mut additions, mut runtimes) = (Sets::new(), Runtimes::new());
        for image_name in crate::config::image_order(project) {
            let known = (roots, &mut additions, &runtimes);
            self.addition(project, &image_name, targets, known, (suites, bases));
            let image = &project.images[&image_name];
            let binaries = image.binaries.iter().filter_map(|name| project.binaries.get(name));
            let libraries: Vec<String> =
                binaries.flat_map(|binary| binary.libraries.iter().cloned()).collect();
            for name in library_closure(project, &libraries) {
                let library = &project.libraries[&name];
                let LibraryRecipe::Packages(packages) = &library.recipe else { continue };
                if !library.link.is_shared() {
                    continue;
                }
                for target in targets {
                    // What comes with one library is not brought again by the next.
                    let sets = [roots, &additions];
                    let platform = &target.platform;
                    let mut there = packages_of(project, &image_name, platform, &sets, &runtimes);
                    there.extend(self.provided_by_base(project, &image_name, platform, bases));
                    let architecture = &target.debian_architecture;
                    let mut names = Vec::new();
                    let suite = suites.get(&image_name).map(String::as_str);
                    for package in packages {
                        names.extend(self.run_time(suite, architecture, package, &library.place));
                    }
                    names.retain(|name| !there.contains_key(name));
                    let set = if names.is_empty() {
                        PackageSet::default()
                    } else {
                        let provided = provided(&there, architecture, &names);
                        let mut request = parts::run_time_request(architecture, names, provided);
                        request.suite = suite.map(str::to_owned);
                        let name =
                            format!("packages of {name} for {image_name} {}", target.platform);
                        match self.set(&name, &[request], Some(&library.place)) {
                            Some(set) => set,
                            None => continue,
                        }
                    };
                    let key = (image_name.clone(), name.clone(), target.platform.clone());
                    runtimes.insert(key, set);
                }
            }
        }
        (additions, runtimes)
    }

    /// Names of the run-time packages of a development package, as pinned or asked.
    fn run_time(
        &mut self,
        suite: Option<&str>,
        architecture: &str,
        package: &str,
        place: &Place,
    ) -> Vec<String> {
        let name = of_suite(&format!("run-time {architecture} {package}"), suite);
        if let Some(locked) = self.lock.packages.get(&name) {
            return locked.request.packages.clone();
        }
        if self.locked {
            let message = format!("images.lock does not pin `{name}`, and `--locked` was given");
            let finding = Finding::new("not-locked", message);
            self.findings.push(finding.help("run without `--locked` once and commit images.lock"));
            return Vec::new();
        }
        let engine = self.engine;
        match engine
            .archives
            .run_time_packages(suite, architecture, package, &mut |event| engine.tell(event))
        {
            Ok(names) => {
                let request = PackageRequest {
                    suite: suite.map(str::to_owned),
                    architecture: architecture.to_owned(),
                    packages: names.clone(),
                    provided: Vec::new(),
                    closure: false,
                };
                let locked = LockedSet { request, set: PackageSet::default() };
                self.lock.packages.insert(name, locked);
                names
            }
            Err(error) => {
                let mut finding = self.refusal(&name, &error);
                finding.place.get_or_insert_with(|| place.clone());
                self.findings.push(finding);
                Vec::new()
            }
        }
    }
}

/// What something is compiled against and with, and in which suites.
struct Compiled {
    libraries: Vec<String>,
    tools: Vec<String>,
    place: Option<Place>,
    suites: Suites,
}

/// What all compile units need.
#[derive(Default)]
pub struct CompilePackages {
    /// By suite, architecture and development packages.
    pub sysroots: BTreeMap<SysrootKey, PackageSet>,
    /// By tools that are added.
    pub userlands: BTreeMap<Vec<String>, PackageSet>,
    /// `cmake` and `meson`.
    pub build_systems: BTreeMap<String, PackageSet>,
    userland_only: Vec<Vec<String>>,
}

impl Resolver<'_> {
    /// The hash of a crate's archive, as pinned or as the registry says.
    fn crate_checksum(&mut self, what: &str, name: &str, version: &str) -> Option<Digest> {
        let origin = format!("crate {name} {version}");
        if let Some(hash) = self.lock.source(what, &origin) {
            return Some(hash);
        }
        if self.locked {
            let message =
                format!("images.lock does not pin the source of {what}, and `--locked` was given");
            let finding = Finding::new("not-locked", message);
            self.findings.push(finding.help("run without `--locked` once and commit images.lock"));
            return None;
        }
        match super::crate_checksum(self.engine, name, version) {
            Ok(hash) => {
                self.lock.sources.insert(what.to_owned(), LockedSource { origin, hash });
                Some(hash)
            }
            Err(finding) => {
                self.findings.push(finding);
                None
            }
        }
    }

    /// The lock file of a build by cargo, where its sources are a folder of the project that
    /// has one.
    fn own_cargo_lock(
        &mut self,
        build: &NativeBuild<'_>,
        sources: &mut NativeSources,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<()> {
        let Origin::Path { path } = build.origin else { return None };
        let listing = listings.get(path)?;
        let manifests = |lock| Selection::Manifests(vec![path.clone()], lock);
        sources.lock_digest = self.select(path, listing, manifests(None));
        if sources.changes_manifests() {
            return None;
        }
        // Beside the manifest of the workspace, which may be above.
        let file = std::path::Path::new(build.folder)
            .ancestors()
            .map(|folder| folder.join("Cargo.lock").to_string_lossy().into_owned())
            .find(|file| listing.files.contains_key(file))?;
        let text = fs::read_to_string(listing.root.join(&file)).ok()?;
        sources.lock_digest = self.select(path, listing, manifests(Some(listing.path(&file))));
        sources.has_dependencies = has_dependencies(&text);
        Some(())
    }
}

/// Whether a lock file names crates of a registry or a repository.
pub fn has_dependencies(lock: &str) -> bool {
    lock.lines().any(|line| line.starts_with("source = "))
}
