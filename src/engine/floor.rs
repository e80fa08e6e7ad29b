//! What can be known before anything is compiled: files that somebody else built are what
//! their hashes say, and no image is built with a newer glibc than it has.

use std::collections::BTreeMap;
use std::fs;

use super::resolve::Resolver;
use crate::config::{LibraryRecipe, PrebuiltFile, Project, library_closure};
use crate::gate::glibc::{GlibcVersion, required};
use crate::image::elf;
use crate::model::package::PackageSet;
use crate::model::{Finding, Platform};
use crate::plan::facts::SysrootKey;
use crate::plan::libraries::for_target;
use crate::toolchain::description::by_platform;

impl Resolver<'_> {
    /// Prebuilt files are those that were meant.
    pub(super) fn prebuilt_files(&mut self, project: &Project) {
        for (name, library) in &project.libraries {
            let LibraryRecipe::Prebuilt(all) = &library.recipe else { continue };
            for file in all.values().flatten() {
                self.prebuilt_file(name, file);
            }
        }
    }

    fn prebuilt_file(&mut self, library: &str, file: &PrebuiltFile) {
        let found = match self.index.digest(&self.folder.join(&file.from)) {
            Ok(found) => found,
            Err(error) => {
                let message = format!("library {library}: cannot read `{}`: {error}", file.from);
                self.problem_at("missing-file", message, Some(&file.place));
                return;
            }
        };
        if found != file.sha256 {
            let message = format!(
                "library {library}: `{}` has the hash {}, `sha256` says {}",
                file.from,
                found.hex(),
                file.sha256.hex()
            );
            let finding = Finding::new("wrong-hash", message);
            self.findings.push(
                finding.at(file.place.clone()).help("if the new file is right, write its hash"),
            );
        }
    }

    /// No image's glibc is older than what its binaries are built against, nor than what
    /// prebuilt libraries were.
    pub(super) fn glibc_floor(
        &mut self,
        project: &Project,
        roots: &BTreeMap<(String, Platform), PackageSet>,
        sysroots: &BTreeMap<SysrootKey, PackageSet>,
        suites: &BTreeMap<String, String>,
    ) {
        for ((image, platform), root) in roots {
            let Some(floor) = glibc_of(root, "libc6") else { continue };
            let Some(target) = by_platform(platform) else { continue };
            let sysroot = sysroots
                .iter()
                .filter(|(key, _)| key.architecture == target.debian_architecture)
                .filter(|(key, _)| key.suite.as_ref() == suites.get(image))
                .find_map(|(_, set)| glibc_of(set, "libc6-dev"));
            if let Some(sysroot) = sysroot.filter(|sysroot| *sysroot > floor) {
                let message = format!(
                    "[image.{image}] on {platform} has glibc {floor}, its binaries would be \
                     compiled against glibc {sysroot}"
                );
                let finding = Finding::new("glibc-floor", message)
                    .help("move both to what the suite has now with `xstitch lock --update`");
                let place = project.images.get(image).map(|image| image.from_place.clone());
                self.findings.push(match place {
                    Some(place) => finding.at(place),
                    None => finding,
                });
            }
            self.prebuilt_floor(project, image, platform, floor);
        }
    }

    fn prebuilt_floor(
        &mut self,
        project: &Project,
        root: &str,
        platform: &Platform,
        floor: GlibcVersion,
    ) {
        let Some(target) = by_platform(platform) else { return };
        for (image, libraries) in images_on(project, root) {
            for name in library_closure(project, &libraries) {
                let library = &project.libraries[&name];
                let LibraryRecipe::Prebuilt(all) = &library.recipe else { continue };
                for file in for_target(all, target).into_iter().flatten() {
                    let opened = fs::File::open(self.folder.join(&file.from)).ok();
                    let needs = opened.and_then(elf::facts).and_then(|facts| required(&facts));
                    let Some(needs) = needs.filter(|needs| *needs > floor) else { continue };
                    let message = format!(
                        "library {name}: `{}` needs glibc {needs}, [image.{image}] on {platform} \
                         has glibc {floor}",
                        file.from
                    );
                    let finding = Finding::new("glibc-floor", message).help(
                        "build the library against an older glibc, or take a base of a newer suite",
                    );
                    self.findings.push(finding.at(file.place.clone()));
                }
            }
        }
    }

    /// The project with the variables that targets take from the user.
    pub(super) fn with_passed_variables(&self, project: &Project) -> Project {
        let mut project = project.clone();
        for target in project.targets.values_mut() {
            for name in target.passthrough.clone() {
                let (name, given) = match name.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (name.clone(), self.engine.environment.get(&name).map(str::to_owned)),
                };
                if let Some(value) = given {
                    target.env.entry(name).or_insert(value);
                }
            }
        }
        project
    }
}

/// The version of glibc that a package of a set has.
fn glibc_of(set: &PackageSet, package: &str) -> Option<GlibcVersion> {
    let found = set.packages.iter().find(|found| found.name == package)?;
    let upstream = found.version.rsplit(':').next()?;
    upstream.split(['-', '+', '~']).next()?.parse().ok()
}

/// Images that stand on `root`, itself included, with the libraries of their binaries.
fn images_on(project: &Project, root: &str) -> Vec<(String, Vec<String>)> {
    let stands = |name: &str| {
        let mut at = name.to_owned();
        for _ in 0..=project.images.len() {
            if at == root {
                return true;
            }
            match project.images.get(&at).map(|image| &image.from) {
                Some(crate::config::Base::Image(base)) => at.clone_from(base),
                _ => return false,
            }
        }
        false
    };
    let images = project.images.iter().filter(|(name, _)| stands(name));
    images
        .map(|(name, image)| {
            let binaries = image.binaries.iter().filter_map(|name| project.binaries.get(name));
            (name.clone(), binaries.flat_map(|binary| binary.libraries.clone()).collect())
        })
        .collect()
}
