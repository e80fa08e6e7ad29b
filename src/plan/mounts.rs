//! What compile units mount: the userland, compilers, sysroots with the libraries that they
//! are compiled against.

use std::collections::BTreeMap;

use super::facts::{PreBuild, RustProvider, Setting, SysrootKey, of_suite};
use super::images::Planner;
use crate::config::{LibraryRecipe, Link, Project, library_closure};
use crate::model::Digest;
use crate::model::action::{Action, Mount, Shape};
use crate::toolchain::description::Description;

/// Folders that an action mounts, with the units that they come from.
#[derive(Default)]
pub struct Mounts {
    /// By name.
    pub mounts: BTreeMap<String, Mount>,
    /// Units.
    pub needs: Vec<usize>,
}

impl Mounts {
    /// Shows the output of a unit.
    pub fn add(&mut self, name: &str, unit: usize) {
        self.mounts.insert(name.to_owned(), Mount::Need { need: self.needs.len() });
        self.needs.push(unit);
    }

    /// The names.
    pub fn names(&self) -> Vec<&str> {
        self.mounts.keys().map(String::as_str).collect()
    }
}

/// Development packages of libraries and all that they need, with those that are asked for
/// before any build, sorted.
pub fn development_packages(
    project: &Project,
    names: &[String],
    pre_build: Option<&PreBuild>,
) -> Vec<String> {
    let mut packages: Vec<String> = library_closure(project, names)
        .iter()
        .filter_map(|name| match &project.libraries[name].recipe {
            LibraryRecipe::Packages(packages) => Some(packages.clone()),
            _ => None,
        })
        .flatten()
        .chain(pre_build.iter().flat_map(|found| found.packages.iter().cloned()))
        .collect();
    packages.sort();
    packages.dedup();
    packages
}

impl Planner<'_> {
    /// The sysroot with libraries and all that they need.
    pub fn sysroot(&mut self, setting: &Setting, libraries: &[String]) -> usize {
        let facts = self.facts;
        let target = setting.target;
        let pre_build = facts.pre_builds.get(&target.triple);
        let packages = development_packages(&facts.project, libraries, pre_build);
        let suite = setting.suite.clone();
        let architecture = target.debian_architecture.clone();
        let key = SysrootKey { suite, architecture, packages };
        let packages = self.packages_sysroot(&key);
        let mut needs = vec![packages];
        let mut names = vec!["packages".to_owned()];
        let mut archives = Vec::new();
        for name in library_closure(&self.facts.project, libraries) {
            let library = &facts.project.libraries[&name];
            let unit = match &library.recipe {
                LibraryRecipe::Packages(own) if library.link == Link::Static => {
                    archives.push(needs.len());
                    let mut set = facts.sysroots[&key].clone();
                    set.packages.retain(|package| own.contains(&package.name));
                    let unit = format!("archives of {name} {}", setting.name());
                    Some(self.packages(unit, &[&set], Shape::Toolchain))
                }
                _ => self.library(&name, setting),
            };
            if let Some(unit) = unit {
                needs.push(unit);
                names.push(name);
            }
        }
        if needs.len() == 1 {
            return packages;
        }
        let unit = format!("sysroot {} with {}", setting.name(), names[1..].join(" "));
        self.unit(unit, None, Action::JoinTrees { names, archives }, needs)
    }

    /// The sysroot of the distribution's packages alone.
    pub fn packages_sysroot(&mut self, key: &SysrootKey) -> usize {
        let set = &self.facts.sysroots[key];
        let name = format!("sysroot {} {}", key.architecture, key.packages.join(" "));
        let name = of_suite(name.trim_end(), key.suite.as_deref());
        self.packages(name, &[set], Shape::Toolchain)
    }

    /// What every compile unit mounts: the userland with `tools`, compilers, the sysroots of
    /// the target and of the host, and build systems that are asked for.
    pub fn compile_mounts(
        &mut self,
        setting: &Setting,
        libraries: &[String],
        tools: &[String],
    ) -> Mounts {
        let facts = self.facts;
        let target = setting.target;
        let mut mounts = Mounts::default();
        let userland = &facts.userlands[&facts.userland_tools(tools, target)];
        let name = format!("userland {}", facts.userland_tools(tools, target).join(" "));
        mounts
            .add("userland", self.packages(name.trim_end().into(), &[userland], Shape::Toolchain));
        mounts
            .add("llvm", self.packages("toolchain llvm".into(), &[&facts.llvm], Shape::Toolchain));
        let architecture = facts.host.debian_architecture.clone();
        let host = SysrootKey { suite: None, architecture, packages: Vec::new() };
        mounts.add("host", self.packages_sysroot(&host));
        mounts.add("sysroot", self.sysroot(setting, libraries));
        for name in tools {
            if let Some(set) = facts.build_systems.get(name) {
                let unit = self.packages(format!("toolchain {name}"), &[set], Shape::Toolchain);
                mounts.add(name, unit);
            }
        }
        mounts
    }

    /// Mounts Rust, from packages or from the machine. Returns whether it is rustup's.
    pub fn mount_rust(&mut self, mounts: &mut Mounts, target: &Description) -> bool {
        match self.facts.rust.as_ref() {
            Some(RustProvider::Packages { host, targets }) => {
                let unit =
                    self.packages("toolchain rust".into(), &[host, targets], Shape::Toolchain);
                mounts.add("rust", unit);
                false
            }
            Some(RustProvider::Rustup { root, version, digests }) => {
                let digest = digests[&target.triple];
                let version = version.strip_prefix("rustc ").unwrap_or(version);
                self.machine_folder(mounts, &format!("rust {version}"), "rust", root, digest);
                true
            }
            None => true,
        }
    }

    /// Mounts a folder of the machine as `at`.
    pub fn machine_folder(
        &mut self,
        mounts: &mut Mounts,
        name: &str,
        at: &str,
        root: &std::path::Path,
        digest: Digest,
    ) {
        self.plan.machine_folders.insert(name.to_owned(), root.to_owned());
        let mount = Mount::Machine { name: name.to_owned(), digest };
        mounts.mounts.insert(at.to_owned(), mount);
    }
}
