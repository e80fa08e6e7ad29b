//! `images.lock`: which provider, version and hash is used, so that it never changes
//! silently. Sorted, one package a line, so that it diffs and merges well.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::lock_base;
use crate::model::base::PinnedBase;
use crate::model::package::{Package, PackageRequest, PackageSet};
use crate::model::{Digest, Finding, Place};

/// The lock file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Toolchains that are not packages, by name: `go`, `rust`.
    pub toolchains: BTreeMap<String, LockedToolchain>,
    /// Package sets by name: `llvm`, `sysroot arm64 libssl-dev`, ….
    pub packages: BTreeMap<String, LockedSet>,
    /// Sources whose content the configuration does not pin, by library.
    pub sources: BTreeMap<String, LockedSource>,
    /// Images that others made, by their origin.
    pub bases: BTreeMap<String, PinnedBase>,
    /// Lock files for crates that come without one, by library.
    pub cargo: BTreeMap<String, LockedCargo>,
}

/// A pinned source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedSource {
    /// What was asked for; a changed question has another answer.
    pub origin: String,
    /// Digest of the file that holds the source.
    pub hash: Digest,
}

/// A pinned lock file of cargo's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedCargo {
    /// What it was made for; a changed request has another.
    pub origin: String,
    /// Its text, as cargo wrote it.
    pub lock: String,
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
    #[serde(default)]
    source: BTreeMap<String, FileSource>,
    #[serde(default)]
    base: BTreeMap<String, lock_base::FileBase>,
    #[serde(default)]
    cargo: BTreeMap<String, LockedCargo>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSource {
    origin: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSet {
    suite: Option<String>,
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

    /// The digest pinned for a library's source, if it comes from the same place.
    pub fn source(&self, name: &str, origin: &str) -> Option<Digest> {
        let locked = self.sources.get(name)?;
        (locked.origin == origin).then_some(locked.hash)
    }

    /// The lock file pinned for a library's crates, if it was made for the same.
    pub fn cargo(&self, name: &str, origin: &str) -> Option<&str> {
        let locked = self.cargo.get(name)?;
        (locked.origin == origin).then_some(locked.lock.as_str())
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
        let marks = ["<<<<<<< ", "=======", ">>>>>>> "];
        if let Some(at) =
            text.lines().position(|line| marks.iter().any(|mark| line.starts_with(mark)))
        {
            let place = Place { file: file_name.to_owned(), line: at + 1, column: 1 };
            return Err(Finding::new("unmerged-lock", "a merge left its marks here")
                .at(place)
                .help(
                    "take either side whole, then run `xstitch lock`, which adds what is missing",
                ));
        }
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
                suite: set.suite,
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
        let mut sources = BTreeMap::new();
        for (name, FileSource { origin, sha256 }) in file.source {
            let hash = Digest::from_hex(&sha256).map_err(|_| {
                let at = text.lines().position(|l| l.contains(sha256.as_str())).unwrap_or(0);
                damaged(format!("`{sha256}` is not 64 hexadecimal digits"), at + 1)
            })?;
            sources.insert(name, LockedSource { origin, hash });
        }
        let mut bases = BTreeMap::new();
        for (name, base) in file.base {
            let base = base.parse().map_err(|wrong| {
                let at = text.lines().position(|l| l.contains(wrong.as_str())).unwrap_or(0);
                damaged(format!("`{wrong}` is not `platform sha256:…`"), at + 1)
            })?;
            bases.insert(name, base);
        }
        Ok(Self { toolchains: file.toolchain, packages, sources, bases, cargo: file.cargo })
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
            let PackageRequest { suite, architecture, packages, provided, closure } =
                &locked.request;
            let _ = write!(text, "\n[packages.{}]\n", quoted(name));
            if let Some(suite) = suite {
                let _ = writeln!(text, "suite = {}", quoted(suite));
            }
            let _ = write!(
                text,
                "architecture = {}\nrequest = {}\nprovided = {}\nclosure = {closure}\npackages = [\n",
                quoted(architecture),
                array(packages),
                array(provided),
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
        for (name, LockedSource { origin, hash }) in &self.sources {
            let (name, origin, hash) = (quoted(name), quoted(origin), hash.hex());
            let _ = write!(text, "\n[source.{name}]\norigin = {origin}\nsha256 = \"{hash}\"\n");
        }
        for (name, base) in &self.bases {
            text.push_str(&lock_base::render(name, base));
        }
        for (name, LockedCargo { origin, lock }) in &self.cargo {
            let (name, origin, lock) = (quoted(name), quoted(origin), literal(lock));
            let _ = write!(text, "\n[cargo.{name}]\norigin = {origin}\nlock = {lock}\n");
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

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A text as a literal string of many lines (TOML 1.0), which looks as it is; as another
/// string if it has what such strings cannot.
fn literal(text: &str) -> String {
    let is_plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
    if text.chars().all(is_plain) && !text.contains("'''") && !text.ends_with('\'') {
        format!("'''\n{text}'''")
    } else {
        quoted(text)
    }
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
            suite: None,
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
            ..Lock::default()
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
    fn sources_and_lock_files_round_trip() {
        let origin = "crate libsodium-sys-stable 1.24.3";
        let source =
            |text: &str| LockedSource { origin: origin.into(), hash: Digest::of(text.as_bytes()) };
        let plain = "# Not for editing.\nversion = 4\n\n[[package]]\nname = \"x\"\n";
        let cargo = |lock: &str| LockedCargo { origin: "a \"b\"".into(), lock: lock.into() };
        let texts = [plain, "", "x", "\nx\n", "x'", "'''", "x\r\ny\r\n", "\u{1}\\", "ü\t'x''\n"];
        let lock = Lock {
            sources: BTreeMap::from([("sodium".into(), source("a")), ("a b".into(), source("b"))]),
            cargo: (0..).zip(texts).map(|(at, text)| (format!("c{at}"), cargo(text))).collect(),
            ..Lock::default()
        };
        let text = lock.render();
        assert_eq!(Lock::parse("images.lock", &text), Ok(lock.clone()), "{text}");
        assert!(text.contains(&format!("\nlock = '''\n{plain}'''\n")), "{text}");
        let hash = Digest::of(b"a").hex();
        let lines = format!("[source.\"sodium\"]\norigin = \"{origin}\"\nsha256 = \"{hash}\"\n");
        assert!(text.contains(&lines), "{text}");
        assert!(text.find("[source.\"a b\"]") < text.find("[source.\"sodium\"]"));
        assert_eq!(lock.source("sodium", origin), Some(Digest::of(b"a")));
        assert_eq!(lock.source("sodium", "crate libsodium-sys-stable 1.24.2"), None);
        assert_eq!(lock.cargo("c2", "a \"b\""), Some("x"));
        assert_eq!(lock.cargo("c2", "c"), None);
        let damaged = text.replace(&hash, "12");
        let finding = Lock::parse("images.lock", &damaged).unwrap_err();
        assert_eq!(finding.message, "`12` is not 64 hexadecimal digits");
        let line = damaged.lines().position(|line| line == "sha256 = \"12\"");
        assert_eq!(Some(finding.place.unwrap().line - 1), line);
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
