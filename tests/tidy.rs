//! The house is in order: rooms import only rooms above them, each third-party crate with
//! effects has one door, files stay readable.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms in the order in which they may import one another, as `src/lib.rs` lists them.
const ROOMS: [&str; 15] = [
    "model",
    "machine",
    "store",
    "archive",
    "config",
    "source",
    "toolchain",
    "recipe",
    "image",
    "registry",
    "gate",
    "plan",
    "release",
    "engine",
    "cli",
];

/// Crates with effects or a large surface, and the only file, or folder, that may import each.
const DOORS: &[(&str, &str)] = &[
    ("ar", "archive/deb.rs"),
    ("bzip2", "archive/compression.rs"),
    ("cargo_metadata", "config/discovery.rs"),
    ("cc", "toolchain/compiler.rs"),
    ("clap", "cli/arguments.rs"),
    ("ed25519_dalek", "engine/remote/signature.rs"),
    ("flate2", "archive/compression.rs"),
    ("globset", "plan/patterns.rs"),
    ("ignore", "engine/walk.rs"),
    ("indicatif", "cli/printer.rs"),
    ("jobserver", "machine/process.rs"),
    ("landlock", "machine/sandbox.rs"),
    ("libc", "machine/seccomp.rs"),
    ("liblzma", "archive/compression.rs"),
    ("memchr", "engine/secrets.rs"),
    ("object", "image/elf.rs"),
    ("oci_spec", "image/manifest.rs"),
    ("pgp", "source/openpgp.rs"),
    ("prost", "engine/remote/action_result.rs"),
    ("rustix", "machine/"),
    ("sha2", "model/digest.rs"),
    ("signal_hook", "cli/mod.rs"),
    ("ureq", "machine/network/"),
    ("which", "machine/environment.rs"),
    ("zip", "archive/zip.rs"),
    ("zstd", "archive/compression.rs"),
];

const LINES_AT_MOST: usize = 500;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Source files by their path in `src`, without their tests.
fn code() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root)
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            (name, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
        })
        .filter(|(name, _)| !name.ends_with("tests.rs"))
        .collect()
}

#[test]
fn unit_rooms_import_only_rooms_above() {
    let mut wrong = Vec::new();
    for (name, text) in code() {
        let Some(room) = ROOMS.iter().position(|room| name.starts_with(&format!("{room}/"))) else {
            continue;
        };
        for (below, other) in ROOMS.iter().enumerate() {
            if below > room && text.contains(&format!("crate::{other}::")) {
                wrong.push(format!("{name} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unit_every_dependency_has_one_door() {
    let mut wrong = Vec::new();
    for (name, text) in code() {
        for (dependency, door) in DOORS.iter().copied() {
            let used =
                text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
                    line.match_indices(&format!("{dependency}::")).any(|(at, _)| {
                        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c))
                    })
                });
            let own_module =
                ["zip"].contains(&dependency) && text.contains(&format!("archive::{dependency}::"));
            let parser = dependency == "clap" && name == "cli/mod.rs";
            let inside = name == door || (door.ends_with('/') && name.starts_with(door));
            if used && !inside && !own_module && !parser {
                wrong.push(format!("{name} uses {dependency}, whose door is {door}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unit_files_say_what_they_own_and_stay_readable() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&root) {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&root).unwrap().display();
        if text.lines().count() > LINES_AT_MOST {
            wrong.push(format!("{name} has {} lines", text.lines().count()));
        }
        if !text.starts_with("//!") && !name.to_string().ends_with("tests.rs") {
            wrong.push(format!("{name} does not open with `//!`"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unit_the_documentation_configures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut examples = 0;
    let names = [
        "README.md",
        "docs/bases.md",
        "docs/cache.md",
        "docs/configuration.md",
        "docs/libraries.md",
        "docs/packages.md",
    ];
    for name in names {
        let text = fs::read_to_string(root.join(name)).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            if let Err(findings) = xstitch::config::parse(name, block) {
                let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
                panic!("{name}: {}\n{block}", findings.join("\n"));
            }
            examples += 1;
        }
    }
    assert!(examples > 5, "{examples}");
}
