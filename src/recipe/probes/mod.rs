//! What `configure`, CMake and meson found out about a target, and where targets differ
//! without a reason.
//!
//! A library probes what the system has and leaves out what it does not find, silently. Every
//! target has the same system, so that answers may differ in what is about the CPU and its
//! ABI only: `toolchains/probes.toml` lists that. Deliberately absent: files. Texts come in.

mod autoconf;
mod cmake;
mod difference;
mod meson;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use difference::{Difference, differences};
pub use place::{is_probe_file, origin};

/// What the probes of one build found, by their names. A name starts with its origin and
/// `: ` where the build has several, such as `zmq-sys: ZMQ_HAVE_SO_KEEPALIVE`.
///
/// Values are the same wherever things are built: `yes`, `no`, or what was computed, with
/// `<path>` and `<triple>` for what a machine or a target calls its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Probes {
    /// Values by name.
    pub found: BTreeMap<String, String>,
}

impl Probes {
    /// Reads the files that [`is_probe_file`] accepts, by their paths in the build folder.
    pub fn from_files(files: &BTreeMap<String, String>) -> Self {
        let mut probes = Self::default();
        for (path, text) in files {
            let results = match path.rsplit('/').next() {
                Some("config.log") => autoconf::results(text),
                Some("CMakeCache.txt") => cmake::results(text),
                Some("meson-log.txt") => meson::results(text),
                _ => continue,
            };
            let origin = origin(path);
            for (name, value) in results {
                let name = place::neutral(&name);
                let name = if origin.is_empty() { name } else { format!("{origin}: {name}") };
                probes.insert(name, answer(&place::neutral(&value)));
            }
        }
        probes
    }

    /// A probe that is asked twice and answered differently has both answers.
    fn insert(&mut self, name: String, value: String) {
        let known = self.found.entry(name).or_insert_with(|| value.clone());
        if !known.split(" / ").any(|other| other == value) {
            let all: BTreeSet<&str> = known.split(" / ").chain([value.as_str()]).collect();
            *known = all.into_iter().collect::<Vec<_>>().join(" / ");
        }
    }
}

/// `yes` and `no` for their many spellings.
fn answer(value: &str) -> String {
    // gnulib guesses what it would have to run.
    let plain = value.strip_prefix("guessing ").unwrap_or(value);
    match plain.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => "yes".to_owned(),
        "" | "0" | "no" | "false" | "off" | "(undefined)" => "no".to_owned(),
        other if other == "notfound" || other.ends_with("-notfound") => "no".to_owned(),
        _ => plain.to_owned(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    explained: Vec<Explained>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explained {
    because: String,
    patterns: Vec<String>,
}

static EXPLAINED: LazyLock<Vec<Explained>> = LazyLock::new(|| {
    let table: Table = toml::from_str(include_str!("../../../toolchains/probes.toml"))
        .expect("a test parses the table");
    table.explained
});

/// Why the answer of a probe may differ between platforms, if it may: it is about the CPU
/// or its ABI.
pub fn explained(probe: &str) -> Option<&'static str> {
    // A crate may be named for a CPU and ask about the system.
    let words = words(split(probe).1);
    let explained = EXPLAINED.iter().find(|explained| {
        explained.patterns.iter().any(|pattern| {
            let pattern: Vec<&str> = pattern.split(' ').collect();
            words.windows(pattern.len()).any(|words| {
                pattern.iter().zip(words).all(|(pattern, word)| matches(pattern, word))
            })
        })
    })?;
    Some(&explained.because)
}

/// The origin of a probe, which may be empty, and its name there.
fn split(probe: &str) -> (&str, &str) {
    match probe.split_once(": ") {
        Some((origin, name)) if !origin.contains(['"', ' ']) => (origin, name),
        _ => ("", probe),
    }
}

/// The words of a name, in lower case: `HAVE_FLAG_-mavx2` has `have`, `flag` and `mavx2`.
fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Whether all of `text` fits `pattern`, in which `*` stands for any characters.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests;
