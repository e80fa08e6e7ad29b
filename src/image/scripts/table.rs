//! The reviewed table of scripts that were written by hand: `toolchains/scripts.toml`.
//!
//! A script is known by what was written of it, whatever debhelper added, wherever and for
//! whichever architecture it was built; or by the versions of its package.

use std::cmp::Ordering;
use std::sync::LazyLock;

use serde::Deserialize;

use super::{Operation, Subject};
use crate::model::Digest;
use crate::source::version::compare;

const TEXT: &str = include_str!("../../../toolchains/scripts.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    script: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    packages: Vec<String>,
    names: Vec<String>,
    #[serde(default)]
    digests: Vec<String>,
    versions: Option<Versions>,
    #[allow(dead_code, reason = "it is for those who review the table")]
    reason: String,
    #[serde(default)]
    operations: Vec<Operation>,
}

/// Versions from one on, and before another.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Versions {
    from: String,
    before: String,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(TEXT).expect("a test parses the table"));

/// Counts how scripts have been understood: another number for other operations.
const UNDERSTANDING: &str = "2";

/// Digest of the table and of how scripts are understood: what was refused may be known
/// tomorrow.
pub fn version() -> Digest {
    Digest::of(format!("{UNDERSTANDING}\n{TEXT}").as_bytes())
}

/// What the table says of a script, if it knows it.
pub fn find(subject: Subject<'_>, script: &str, own: &str) -> Option<Vec<Operation>> {
    let name = |names: &[String], name: &str| names.iter().any(|known| known == name);
    let mut entries = TABLE
        .script
        .iter()
        .filter(|entry| name(&entry.packages, subject.package) && name(&entry.names, script))
        .peekable();
    entries.peek()?;
    let digest = digest(subject, own).hex();
    let entry = entries.find(|entry| {
        let in_range = entry.versions.as_ref().is_some_and(|range| {
            compare(subject.version, &range.from) != Ordering::Less
                && compare(subject.version, &range.before) == Ordering::Less
        });
        in_range || name(&entry.digests, &digest)
    })?;
    let of_architecture = |operation: &Operation| {
        let text = serde_json::to_string(operation).ok()?;
        serde_json::from_str(&text.replace("ARCHITECTURE", subject.architecture)).ok()
    };
    entry.operations.iter().map(of_architecture).collect()
}

/// What a script is known by: a digest of its commands, without comments and indentation,
/// and with names in place of the version and the architecture that it was built for.
pub fn digest(subject: Subject<'_>, own: &str) -> Digest {
    let mut text = String::new();
    for line in own.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line
            .replace(subject.version, "VERSION")
            .replace(&format!(":{}", subject.architecture), ":ARCHITECTURE");
        text.push_str(&without_triples(&line));
        text.push('\n');
    }
    Digest::of(text.as_bytes())
}

/// A line with one name for every multiarch triple.
fn without_triples(line: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("-linux-gnu") {
        let before = rest[..at].trim_end_matches(is_part);
        let after = rest[at + "-linux-gnu".len()..].trim_start_matches(is_part);
        out.push_str(before);
        out.push_str("TRIPLE");
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        for entry in &TABLE.script {
            assert!(!entry.packages.is_empty() && !entry.names.is_empty());
            assert!(!entry.reason.is_empty(), "{:?}", entry.packages);
            assert!(!entry.digests.is_empty() || entry.versions.is_some(), "{:?}", entry.packages);
            for digest in &entry.digests {
                assert!(Digest::from_hex(digest).is_ok(), "{digest}");
            }
        }
    }

    #[test]
    fn architectures_and_versions_do_not_count() {
        let of = |architecture, version, text: &str| {
            digest(Subject { package: "x", version, architecture }, text)
        };
        let one =
            of("amd64", "1-2", "#!/bin/sh\n# x\n cd /usr/lib/x86_64-linux-gnu # 1-2\nx:amd64\n");
        let other = of("armhf", "3", "cd /usr/lib/arm-linux-gnueabihf # 3\n\nx:armhf\n");
        assert_eq!(one, other);
    }
}
