//! What is done to a lock as a whole: names of what it pins, letting go of pins, and what
//! is another between two locks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::lock::Lock;
use crate::model::package::PackageSet;

/// Parts that run on the machine that builds: another machine's are none of this one's.
const HOST_PARTS: [&str; 6] = ["cmake", "go", "llvm", "meson", "rust", "userland"];

/// Something that two locks pin differently.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Move {
    /// What it is, such as `libc6:arm64` or `toolchain go1.21`.
    pub what: String,
    /// What it was, unless it was not there.
    pub from: Option<String>,
    /// What it is now, unless it is gone.
    pub to: Option<String>,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{} {from} → {to}", self.what),
            (None, Some(to)) => write!(f, "{} {to}, new", self.what),
            (Some(from), None) => write!(f, "{} {from}, gone", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

impl Lock {
    /// Names of everything that is pinned, as [`Lock::release`] takes them: whole names, and
    /// names of images, libraries, parts and packages in them.
    pub fn names(&self) -> BTreeSet<String> {
        let sections = [
            self.toolchains.keys().collect::<Vec<_>>(),
            self.packages.keys().collect(),
            self.sources.keys().collect(),
            self.bases.keys().collect(),
            self.cargo.keys().collect(),
        ];
        sections.into_iter().flatten().cloned().collect()
    }

    /// Takes out what `name` means: an entry's name, a word of it (an image, a library, a
    /// part of a toolchain, an architecture), or a package of its request. Returns whether
    /// there was anything.
    pub fn release(&mut self, name: &str) -> bool {
        // Compiler and standard libraries are of one build.
        let is_word = |word: &str| word == name || (name == "rust" && word == "rust-std");
        let means = |entry: &str| entry == name || entry.split(' ').any(is_word);
        let before = self.names().len();
        self.toolchains.retain(|entry, _| !means(entry));
        self.packages.retain(|entry, locked| {
            !means(entry) && !locked.request.packages.iter().any(|package| package == name)
        });
        self.sources.retain(|entry, _| !means(entry));
        self.bases.retain(|entry, _| !means(entry));
        self.cargo.retain(|entry, _| !means(entry));
        self.names().len() < before
    }

    /// What is pinned under `names`.
    pub fn only(&self, names: &BTreeSet<String>) -> Self {
        let mut only = self.clone();
        only.toolchains.retain(|name, _| names.contains(name));
        only.packages.retain(|name, _| names.contains(name));
        only.sources.retain(|name, _| names.contains(name));
        only.bases.retain(|name, _| names.contains(name));
        only.cargo.retain(|name, _| names.contains(name));
        only
    }

    /// Takes back from `old` the tools of other machines that build, which this one did not
    /// ask for.
    pub fn keep_other_hosts(&mut self, old: &Self, host_architecture: &str) {
        for (name, locked) in &old.packages {
            let part = name.split(' ').next().unwrap_or_default();
            let of_other = locked.request.architecture != host_architecture;
            if HOST_PARTS.contains(&part) && of_other {
                self.packages.entry(name.clone()).or_insert_with(|| locked.clone());
            }
        }
    }

    /// What is another here than in `old`, each once.
    pub fn moved_from(&self, old: &Self) -> BTreeSet<Move> {
        let mut moves = BTreeSet::new();
        if self == old {
            return moves;
        }
        for name in self.packages.keys().chain(old.packages.keys()) {
            let set = |lock: &Self| versions(lock.packages.get(name).map(|locked| &locked.set));
            differences(&set(old), &set(self), &mut moves);
        }
        let toolchains = |lock: &Self| -> BTreeMap<String, String> {
            let all = lock.toolchains.iter();
            all.map(|(name, t)| {
                let what = format!("toolchain {name}");
                (what, format!("{} from {} ({})", t.version, t.provider, t.hash.short()))
            })
            .collect()
        };
        differences(&toolchains(old), &toolchains(self), &mut moves);
        let sources = |lock: &Self| -> BTreeMap<String, String> {
            let all = lock.sources.iter();
            all.map(|(name, source)| {
                (
                    format!("source of {name}"),
                    format!("{} ({})", source.origin, source.hash.short()),
                )
            })
            .collect()
        };
        differences(&sources(old), &sources(self), &mut moves);
        let bases = |lock: &Self| -> BTreeMap<String, String> {
            let all = lock.bases.iter();
            all.map(|(name, base)| (format!("base {name}"), base.digest.short())).collect()
        };
        differences(&bases(old), &bases(self), &mut moves);
        for name in self.cargo.keys().chain(old.cargo.keys()) {
            let crates = |lock: &Self| {
                lock.cargo.get(name).map_or_else(BTreeMap::new, |cargo| crates(name, &cargo.lock))
            };
            differences(&crates(old), &crates(self), &mut moves);
        }
        moves
    }
}

fn versions(set: Option<&PackageSet>) -> BTreeMap<String, String> {
    let packages = set.into_iter().flat_map(|set| &set.packages);
    packages
        .map(|package| {
            (format!("{}:{}", package.name, package.architecture), package.version.clone())
        })
        .collect()
}

/// Crates of a lock file: those with one name are told apart by all their versions.
fn crates(of: &str, lock: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        let value = |key: &str| {
            line.strip_prefix(key)?.trim_start().strip_prefix("= \"")?.strip_suffix('"')
        };
        if let Some(found) = value("name") {
            name = found;
        } else if let (Some(version), false) = (value("version"), name.is_empty()) {
            let versions = all.entry(format!("crate {name} of {of}")).or_default();
            if !versions.is_empty() {
                versions.push_str(", ");
            }
            versions.push_str(version);
            name = "";
        }
    }
    all
}

fn differences(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    moves: &mut BTreeSet<Move>,
) {
    for what in old.keys().chain(new.keys()) {
        let (from, to) = (old.get(what).cloned(), new.get(what).cloned());
        if from != to {
            moves.insert(Move { what: what.clone(), from, to });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::model::package::{Package, PackageRequest};
    use crate::source::lock::{LockedCargo, LockedSet, LockedToolchain};

    fn set(architecture: &str, packages: &[(&str, &str)]) -> LockedSet {
        let request = PackageRequest {
            suite: None,
            architecture: architecture.into(),
            packages: packages.iter().take(1).map(|(name, _)| (*name).to_owned()).collect(),
            provided: vec![],
            closure: true,
        };
        let packages = packages.iter().map(|(name, version)| Package {
            name: (*name).into(),
            version: (*version).into(),
            architecture: architecture.into(),
            sha256: Digest::of(version.as_bytes()),
            size_bytes: 1,
        });
        LockedSet { request, set: PackageSet { packages: packages.collect() } }
    }

    fn lock() -> Lock {
        let sets = [
            ("root base linux/arm64", set("arm64", &[("libssl3", "3.0"), ("libc6", "2.36-9")])),
            ("sysroot arm64", set("arm64", &[("libc6-dev", "2.36-9"), ("libc6", "2.36-9")])),
            ("llvm arm64", set("arm64", &[("clang-19", "19.1.7")])),
        ];
        let go = LockedToolchain {
            provider: "machine".into(),
            version: "1.26.8".into(),
            hash: Digest::of(b"go"),
        };
        let text = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\n\
                    version = \"2.0.0\"\n";
        let cargo = LockedCargo { origin: "x".into(), lock: text.into() };
        Lock {
            toolchains: BTreeMap::from([("go1.21".into(), go)]),
            packages: sets.map(|(name, set)| (name.to_owned(), set)).into(),
            cargo: BTreeMap::from([("library indy".into(), cargo)]),
            ..Lock::default()
        }
    }

    #[test]
    fn pins_are_released_by_name() {
        let check = |name: &str, left: &[&str]| {
            let mut lock = lock();
            assert_eq!(lock.release(name), lock.names().len() < 5, "{name}");
            let names: Vec<String> = lock.names().into_iter().collect();
            assert_eq!(names, left, "{name}");
        };
        let all =
            ["go1.21", "library indy", "llvm arm64", "root base linux/arm64", "sysroot arm64"];
        check("base", &["go1.21", "library indy", "llvm arm64", "sysroot arm64"]);
        check("libssl3", &["go1.21", "library indy", "llvm arm64", "sysroot arm64"]);
        check("indy", &["go1.21", "llvm arm64", "root base linux/arm64", "sysroot arm64"]);
        check("arm64", &["go1.21", "library indy", "root base linux/arm64"]);
        check("bas", &all);
    }

    #[test]
    fn moves_are_told_once() {
        let old = lock();
        let mut new = lock();
        for locked in new.packages.values_mut() {
            for package in &mut locked.set.packages {
                if package.name == "libc6" {
                    package.version = "2.36-10".into();
                }
            }
        }
        new.packages.remove("llvm arm64");
        let cargo = new.cargo.get_mut("library indy").unwrap();
        cargo.lock = cargo.lock.replace("2.0.0", "2.0.1");
        new.toolchains.get_mut("go1.21").unwrap().version = "1.26.9".into();
        let texts = |moves: BTreeSet<Move>| -> Vec<String> {
            moves.iter().map(ToString::to_string).collect()
        };
        let go = Digest::of(b"go").short();
        let expected = [
            "clang-19:arm64 19.1.7, gone".to_owned(),
            "crate a of library indy 1.0.0, 2.0.0 → 1.0.0, 2.0.1".to_owned(),
            "libc6:arm64 2.36-9 → 2.36-10".to_owned(),
            format!("toolchain go1.21 1.26.8 from machine ({go}) → 1.26.9 from machine ({go})"),
        ];
        assert_eq!(texts(new.moved_from(&old)), expected);
        new.keep_other_hosts(&old, "amd64");
        assert!(texts(new.moved_from(&old))[0].starts_with("crate a"));
        new.packages.remove("llvm arm64");
        new.keep_other_hosts(&old, "arm64");
        assert!(!new.packages.contains_key("llvm arm64"));
    }
}
