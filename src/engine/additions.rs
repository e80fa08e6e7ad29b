//! What resolving learns of the packages that images add to their bases, and whether the
//! packages that an image speaks of are in it.

use std::collections::BTreeMap;

use super::resolve::Resolver;
use crate::config::{Base, Image, Project};
use crate::model::base::BaseImage;
use crate::model::package::PackageSet;
use crate::model::{Finding, Platform};
use crate::toolchain::description::Description;
use crate::toolchain::parts;

/// Packages by image and platform.
pub type Sets = BTreeMap<(String, Platform), PackageSet>;

/// Run-time packages by image, library and platform.
pub type Runtimes = BTreeMap<(String, String, Platform), PackageSet>;

/// Bases that others made, by image and platform.
pub type Bases = BTreeMap<(String, Platform), BaseImage>;

/// Versions by name of the packages that are in an image and what it stands on, as far as
/// they are known.
pub fn packages_of(
    project: &Project,
    image: &str,
    platform: &Platform,
    sets: &[&Sets],
    runtimes: &Runtimes,
) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut at = image.to_owned();
    loop {
        let own = sets.iter().filter_map(|sets| sets.get(&(at.clone(), platform.clone())));
        let brought = runtimes.iter().filter(|((of, _, on), _)| *of == at && on == platform);
        for package in own.chain(brought.map(|(_, set)| set)).flat_map(|set| &set.packages) {
            versions.entry(package.name.clone()).or_insert_with(|| package.version.clone());
        }
        match project.images.get(&at).map(|image| &image.from) {
            Some(Base::Image(base)) => at.clone_from(base),
            _ => return versions,
        }
    }
}

/// What counts as there for those who ask for `wanted` on top of packages: these, in their
/// versions, and what only maintainer scripts would use.
pub fn provided(
    there: &BTreeMap<String, String>,
    architecture: &str,
    wanted: &[String],
) -> Vec<String> {
    let mut provided = parts::root_request(architecture, wanted).provided;
    provided.retain(|name| !there.contains_key(name));
    provided.extend(there.iter().map(|(name, version)| format!("{name}={version}")));
    provided
}

impl Resolver<'_> {
    /// For each platform, the packages that an image adds to its base, into the second of
    /// what is known of images before it: roots, additions, run-time packages.
    pub(super) fn addition(
        &mut self,
        project: &Project,
        name: &str,
        targets: &[&'static Description],
        (roots, additions, runtimes): (&Sets, &mut Sets, &Runtimes),
        (suites, bases): (&BTreeMap<String, String>, &Bases),
    ) {
        let image = &project.images[name];
        if image.packages.added.is_empty() {
            return;
        }
        let is_made_of_packages = says_nothing(project, image).is_none();
        for target in targets {
            let platform = &target.platform;
            let mut there = packages_of(project, name, platform, &[roots, &*additions], runtimes);
            let before = self.findings.len();
            let by_base = self.provided_by_base(project, name, platform, bases);
            if by_base.is_empty() && !is_made_of_packages {
                if self.findings.len() == before {
                    let nothing = says_nothing(project, image).unwrap_or_default();
                    self.no_package_base(name, image, &nothing);
                }
                return;
            }
            there.extend(by_base);
            let architecture = &target.debian_architecture;
            let mut wanted = image.packages.added.clone();
            wanted.retain(|package| !there.contains_key(package));
            let set = if wanted.is_empty() {
                PackageSet::default()
            } else {
                let provided = provided(&there, architecture, &wanted);
                let mut request = parts::run_time_request(architecture, wanted, provided);
                request.suite = suites.get(name).cloned();
                let what = format!("packages for {name} {platform}");
                match self.set(&what, &[request], Some(&image.packages.place)) {
                    Some(set) => set,
                    None => continue,
                }
            };
            additions.insert((name.to_owned(), platform.clone()), set);
        }
    }

    fn no_package_base(&mut self, name: &str, image: &Image, nothing: &str) {
        let message =
            format!("[image.{name}] adds packages to {nothing}, which does not say what it has");
        let finding = Finding::new("no-package-base", message).at(image.packages.place.clone());
        self.findings.push(finding.help(
            "stand it on packages: `from = { packages = [\"base-files\", \"libc6\"] }`, or on an \
             image that does",
        ));
    }

    /// Packages whose scripts are to be ignored have to be there.
    pub(super) fn ignored_scripts(
        &mut self,
        project: &Project,
        sets: &[&Sets],
        runtimes: &Runtimes,
    ) {
        for (name, image) in &project.images {
            let of_image = sets.iter().flat_map(|sets| sets.iter());
            let of_image = of_image.filter(|((of, _), _)| of == name).map(|(_, set)| set);
            let brought = runtimes.iter().filter(|((of, _, _), _)| of == name);
            let known: Vec<&str> = of_image
                .chain(brought.map(|(_, set)| set))
                .flat_map(|set| set.packages.iter().map(|package| package.name.as_str()))
                .collect();
            for (package, place) in &image.packages.ignored_scripts {
                if !known.contains(&package.as_str()) {
                    let message = format!(
                        "`scripts` of [image.{name}] names `{package}`, a package that it does not \
                         bring"
                    );
                    let finding = Finding::new("unknown-package", message).at(place.clone());
                    self.findings.push(crate::config::suggest(finding, package, &known));
                }
            }
        }
    }
}

/// What an image stands on in the end, if that does not say which packages it has.
fn says_nothing(project: &Project, image: &Image) -> Option<String> {
    let mut from = &image.from;
    loop {
        match from {
            Base::Packages { .. } => return None,
            Base::Scratch => return Some("`scratch`".into()),
            Base::External(origin) => return Some(format!("`{origin}`")),
            Base::Image(base) => match project.images.get(base) {
                Some(image) => from = &image.from,
                None => return Some(format!("`{base}`")),
            },
        }
    }
}
