//! `images.lock`: which provider, version and hash is used, so that it never changes
//! silently. Sorted, one package a line, so that it diffs and merges well.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::model::package::{Package, PackageRequest, PackageSet};
use crate::model::{Digest, Finding, Place};

/// The lock file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Toolchains that are not packages, by name: `go`, `rust`.
    pub toolchains: BTreeMap<String, LockedToolchain>,
    /// Package sets by name: `llvm`, `sysroot arm64 libssl-dev`, ….
    pub packages: BTreeMap<String, LockedSet>,
}

/// A pinned toolchain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedToolchain {
    /// `machine`, `module-proxy`, `wheel`, `rustup` or `packages`.
    pub provider: String,
    /// Version, as the tool says it.
    pub version: String,
    /// Digest of its content.
    pub hash: Digest,
}

/// A pinned package set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedSet {
    /// What was asked.
    pub request: PackageRequest,
    /// What it became.
    pub set: PackageSet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    toolchain: BTreeMap<String, LockedToolchain>,
    #[serde(default)]
    packages: BTreeMap<String, FileSet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSet {
    architecture: String,
    request: Vec<String>,
    provided: Vec<String>,
    closure: bool,
    packages: Vec<String>,
}

impl Lock {
    /// The set pinned under `name`, if it answers the same request.
    pub fn set(&self, name: &str, request: &PackageRequest) -> Option<PackageSet> {
        let locked = self.packages.get(name)?;
        (locked.request == *request).then(|| locked.set.clone())
    }

    /// Which packages pinned under `name` have another version in `set`, for people.
    pub fn moves(&self, name: &str, set: &PackageSet) -> Vec<String> {
        let pinned = self.packages.get(name).map_or(&[][..], |locked| &locked.set.packages);
        let moved = pinned.iter().filter_map(|old| {
            let same =
                |new: &&Package| new.name == old.name && new.architecture == old.architecture;
            let new = set.packages.iter().find(same)?;
            (new.version != old.version).then(|| format!("{old} → {}", new.version))
        });
        moved.collect()
    }

    /// Reads a lock file's text.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Finding> {
        let damaged = |message: String, line: usize| {
            Finding::new("invalid-lock", message)
                .at(Place { file: file_name.to_owned(), line, column: 1 })
                .help("restore the file from version control, or delete it to pin everything anew")
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            damaged(error.message().to_owned(), text[..at.min(text.len())].lines().count().max(1))
        })?;
        if file.version != 1 {
            let message =
                format!("this version reads lock version 1, the file has {}", file.version);
            return Err(damaged(message, 1));
        }
        let mut packages = BTreeMap::new();
        for (name, set) in file.packages {
            let request = PackageRequest {
                architecture: set.architecture,
                packages: set.request,
                provided: set.provided,
                closure: set.closure,
            };
            let set = set
                .packages
                .iter()
                .map(|line| {
                    parse_package(line).ok_or_else(|| {
                        let at = text.lines().position(|l| l.contains(line.as_str())).unwrap_or(0);
                        damaged(
                            format!("`{line}` is not `name version architecture sha256 size`"),
                            at + 1,
                        )
                    })
                })
                .collect::<Result<_, _>>()?;
            packages.insert(name, LockedSet { request, set: PackageSet { packages: set } });
        }
        Ok(Self { toolchains: file.toolchain, packages })
    }

    /// The text of the lock file.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# Written by xstitch. Commit it: it says exactly what images are made with.\nversion = 1\n",
        );
        for (name, toolchain) in &self.toolchains {
            let LockedToolchain { provider, version, hash } = toolchain;
            let _ = write!(
                text,
                "\n[toolchain.{}]\nprovider = {}\nversion = {}\nhash = \"{hash}\"\n",
                quoted(name),
                quoted(provider),
                quoted(version)
            );
        }
        for (name, locked) in &self.packages {
            let _ = write!(
                text,
                "\n[packages.{}]\narchitecture = {}\nrequest = {}\nprovided = {}\nclosure = {}\npackages = [\n",
                quoted(name),
                quoted(&locked.request.architecture),
                array(&locked.request.packages),
                array(&locked.request.provided),
                locked.request.closure,
            );
            for package in &locked.set.packages {
                let Package { name, version, architecture, sha256, size_bytes } = package;
                let _ = writeln!(
                    text,
                    "    \"{name} {version} {architecture} {} {size_bytes}\",",
                    sha256.hex()
                );
            }
            text.push_str("]\n");
        }
        text
    }
}

fn parse_package(line: &str) -> Option<Package> {
    let mut words = line.split(' ');
    let package = Package {
        name: words.next()?.to_owned(),
        version: words.next()?.to_owned(),
        architecture: words.next()?.to_owned(),
        sha256: Digest::from_hex(words.next()?).ok()?,
        size_bytes: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(package)
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn array(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let package = Package {
            name: "libc6".into(),
            version: "2.36-9+deb12u14".into(),
            architecture: "arm64".into(),
            sha256: Digest::of(b"x"),
            size_bytes: 7,
        };
        let request = PackageRequest {
            architecture: "arm64".into(),
            packages: vec!["libc6".into()],
            provided: vec!["dpkg".into()],
            closure: true,
        };
        let toolchain = LockedToolchain {
            provider: "machine".into(),
            version: "1.26.8".into(),
            hash: Digest::of(b"go"),
        };
        let set =
            LockedSet { request: request.clone(), set: PackageSet { packages: vec![package] } };
        let lock = Lock {
            toolchains: BTreeMap::from([("go".into(), toolchain)]),
            packages: BTreeMap::from([("root base linux/arm64".into(), set.clone())]),
        };
        let text = lock.render();
        assert_eq!(Lock::parse("images.lock", &text), Ok(lock.clone()));
        assert_eq!(lock.set("root base linux/arm64", &request), Some(set.set.clone()));
        let mut newer = set.set.clone();
        assert!(lock.moves("root base linux/arm64", &newer).is_empty());
        newer.packages[0].version = "2.37".into();
        let moves = lock.moves("root base linux/arm64", &newer);
        assert_eq!(moves, ["libc6:arm64 2.36-9+deb12u14 → 2.37"]);
        let other = PackageRequest { closure: false, ..request };
        assert_eq!(lock.set("root base linux/arm64", &other), None);
    }

    #[test]
    fn damage_is_placed() {
        let text = "version = 1\n[packages.x]\narchitecture = \"arm64\"\nrequest = []\n\
                    provided = []\nclosure = true\npackages = [\n  \"libc6 2.36\",\n]\n";
        let finding = Lock::parse("images.lock", text).unwrap_err();
        assert_eq!(finding.place.unwrap().line, 8);
        assert!(Lock::parse("images.lock", "version = 9").is_err());
        assert!(Lock::parse("images.lock", "version = ").is_err());
    }
}
