//! The lock's verbs: pin, compare, move, keep what is pinned, and build from that alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::{build, copy, text, xstitch};

const CONFIGURATION: &str = r#"
[project]
name = "kept"
platforms = ["linux/arm64"]
version = "1"
vendor = "kept"

[library.crypto]
packages = ["libssl-dev"]

[binary.vault]
go = { path = "vault" }

[image.base]
from = { packages = ["ca-certificates", "libc6"] }
publish = false

[image.vault]
from = "base"
binaries = ["vault"]
"#;

/// A program of Go with a module from elsewhere, on a base of packages.
fn project(folder: &Path) -> std::path::PathBuf {
    let project = folder.join("project");
    fs::create_dir(&project).unwrap();
    let vault = copy("examples/agency/services/vault", &project);
    assert_eq!(vault, project.join("vault"));
    fs::write(project.join("images.toml"), CONFIGURATION).unwrap();
    project
}

/// Standard output and error of a command with that exit code.
fn says(command: &mut Command, code: i32) -> String {
    let output = command.arg("--quiet").output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} has no `{from}`", file.display());
    fs::write(file, text.replace(from, to)).unwrap();
}

/// The version that the lock pins of a package for an architecture.
fn version(lock: &Path, name: &str, architecture: &str) -> String {
    let text = fs::read_to_string(lock).unwrap();
    let mut lines = text.lines().map(|line| line.trim().trim_matches([',', '"']));
    let found = lines.find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let is_it = words.len() == 5 && words[0] == name && words[2] == architecture;
        is_it.then(|| words[1].to_owned())
    });
    found.unwrap_or_else(|| panic!("{name}:{architecture} is not pinned"))
}

#[test]
fn integration_pins_are_compared_and_moved() {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path());
    let lock = project.join("images.lock");
    let run = |arguments: &[&str], code| says(xstitch(&project).args(arguments), code);

    let said = run(&["build", "--locked"], 2);
    assert!(said.contains("[not-locked]") && !lock.exists(), "{said}");
    let said = run(&["lock"], 0);
    assert!(said.starts_with("images.lock pins "), "{said}");
    assert!(!project.join("target").exists(), "it builds nothing");
    let first = fs::read_to_string(&lock).unwrap();
    assert_eq!(run(&["lock", "--check"], 0), "nothing is newer than what images.lock pins\n");

    // As if the archive had moved on since.
    let new = version(&lock, "libc6", "arm64");
    edit(&lock, &format!("libc6 {new} arm64"), "libc6 2.30-1 arm64");
    let old = fs::read_to_string(&lock).unwrap();
    let said = run(&["lock", "--check"], 1);
    assert!(said.starts_with(&format!("libc6:arm64 2.30-1 → {new}\n")), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&["lock", "--check", "--format", "json"], 1)).unwrap();
    assert_eq!(json["moves"][0]["what"], "libc6:arm64");
    assert_eq!(json["moves"][0]["from"], "2.30-1");
    assert_eq!(fs::read_to_string(&lock).unwrap(), old, "looking changes nothing");
    assert!(run(&["lock"], 0).starts_with("images.lock pins "), "what is pinned stays");
    assert_eq!(fs::read_to_string(&lock).unwrap(), old);

    assert!(run(&["lock", "--update", "userland"], 0).starts_with("images.lock pins "));
    assert_eq!(version(&lock, "libc6", "arm64"), "2.30-1", "only what was named moves");
    let said = run(&["lock", "--update", "base"], 0);
    assert!(said.starts_with(&format!("libc6:arm64 2.30-1 → {new}\n")), "{said}");
    assert_eq!(fs::read_to_string(&lock).unwrap(), first);
    insta::assert_snapshot!("unknown_pin", run(&["lock", "--update", "bsae"], 2));
    run(&["lock", "--update"], 0);
    assert_eq!(fs::read_to_string(&lock).unwrap(), first);

    // A merge by hand that left another order is no change, one that left marks is none yet.
    let (head, tables) = first.split_at(first.find("\n[").unwrap());
    let mut parts: Vec<String> =
        tables.split("\n[").skip(1).map(|table| format!("\n[{table}")).collect();
    parts.reverse();
    let turned = format!("{head}{}", parts.concat());
    fs::write(&lock, &turned).unwrap();
    run(&["check", "--locked"], 0);
    assert_eq!(fs::read_to_string(&lock).unwrap(), turned);
    run(&["lock"], 0);
    assert_eq!(fs::read_to_string(&lock).unwrap(), first);
    fs::write(&lock, format!("{head}\n<<<<<<< HEAD\n{tables}=======\n>>>>>>> other\n")).unwrap();
    insta::assert_snapshot!("unmerged", run(&["check"], 2));
}

#[test]
fn integration_what_is_kept_suffices() {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path());
    let index = build(&mut xstitch(&project), &project);
    let said = says(xstitch(&project).args(["lock", "--vendor"]), 0);
    assert!(said.contains(" keeps ") && !said.contains("say `vendor"), "{said}");
    let kept = |name: &str| {
        let files = fs::read_dir(project.join("kept").join(name)).unwrap();
        files.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    assert!(kept("files").len() > 10);
    assert_eq!(kept("trees").len(), 1, "the modules");

    // Another machine: nothing is there but the checkout, and no mirror answers.
    let elsewhere = folder.path().join("elsewhere");
    let status = Command::new("cp").arg("-r").arg(&project).arg(&elsewhere).status();
    assert!(status.unwrap().success());
    fs::remove_dir_all(elsewhere.join("target")).unwrap();
    let cache = folder.path().join("cache");
    let offline = |project: &Path| {
        let mut command = xstitch(project);
        command.args(["--offline", "--locked"]).env("XSTITCH_CACHE", &cache);
        command
    };
    assert_eq!(build(&mut offline(&elsewhere), &elsewhere), index);

    // What is no longer pinned goes, what others left in the folder stays.
    let stranger = project.join("kept/files/README");
    fs::write(&stranger, "ours").unwrap();
    let stale = project.join("kept/files").join("0".repeat(64));
    fs::write(&stale, "x").unwrap();
    let said = says(xstitch(&project).args(["lock", "--vendor"]), 0);
    assert!(said.contains("; 1 that nothing pins were removed"), "{said}");
    assert!(stranger.exists() && !stale.exists());

    // Damage is found, told, and never taken.
    let file = fs::read_dir(elsewhere.join("kept/trees")).unwrap().next().unwrap();
    let file = file.unwrap().path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[1..]).unwrap();
    fs::remove_dir_all(&cache).unwrap();
    let said = says(&mut offline(&elsewhere), 1);
    assert!(said.contains("kept/trees/"), "{said}");
    fs::write(&file, bytes).unwrap();
    for entry in fs::read_dir(elsewhere.join("kept/files")).unwrap() {
        let file = entry.unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        bytes.push(0);
        fs::write(&file, bytes).unwrap();
    }
    fs::remove_dir_all(&cache).unwrap();
    let said = says(&mut offline(&elsewhere), 1);
    assert!(said.contains("is damaged: it is not what its name says"), "{said}");
}

#[test]
fn integration_fetching_is_enough_for_offline() {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path());
    let cache = folder.path().join("cache");
    let run = |arguments: &[&str]| {
        says(xstitch(&project).args(arguments).env("XSTITCH_CACHE", &cache), 0)
    };
    let said = run(&["fetch"]);
    assert!(said.contains(" downloads were missing; everything is here"), "{said}");
    assert!(run(&["fetch"]).starts_with("0 of "), "a second time finds all of it");
    let json: serde_json::Value =
        serde_json::from_str(&run(&["fetch", "--format", "json"])).unwrap();
    assert_eq!(json["units_run"], 0);
    assert!(json["size_bytes"].as_u64().unwrap() > 1_000_000);
    let compiled = project.join("target/images");
    assert!(!compiled.exists(), "it compiles nothing");
    run(&["build", "--offline", "--locked"]);
    assert!(compiled.exists());
}
