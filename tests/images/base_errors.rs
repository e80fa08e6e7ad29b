//! Bases that cannot be had: what is said about each, and that other images are built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bases::{blob, copy_to};
use crate::fixture::{build, free_port, succeed, text, xstitch};
use crate::layout::sha256;

const TWO: &str = "[project]\nplatforms = [\"linux/amd64\"]\nversion = \"1\"\n\
    [image.one]\nfrom = \"scratch\"\nfiles = [{ from = \"note\", to = \"/one\" }]\n\
    [image.two]\nfrom = \"scratch\"\nfiles = [{ from = \"note\", to = \"/two\" }]\n";

fn project(folder: &Path, name: &str, configuration: &str) -> PathBuf {
    let project = folder.join(name);
    fs::create_dir_all(&project).unwrap();
    fs::write(project.join("note"), "note").unwrap();
    fs::write(project.join("images.toml"), configuration).unwrap();
    project
}

/// A layout with two images for amd64.
fn layout(folder: &Path) -> PathBuf {
    let project = project(folder, "two", TWO);
    build(&mut xstitch(&project), &project);
    project.join("target/images")
}

fn tar(arguments: &[&str], folder: &Path) {
    succeed(Command::new("tar").args(arguments).current_dir(folder));
}

#[test]
fn integration_bases_that_cannot_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout(folder.path());
    let project = project(folder.path(), "project", "");
    copy_to(&layout, &project.join("vendor"));
    fs::create_dir(project.join("empty")).unwrap();
    fs::write(project.join("text.tar"), "no archive").unwrap();
    fs::write(project.join("nothing.tar"), "").unwrap();
    fs::write(project.join("noise.tar"), [0x1b, 0xff, b'[', 7].repeat(600)).unwrap();
    tar(&["-cf", "other.tar", "note"], &project);
    tar(&["-cf", "vendor.tar", "-C", "vendor", "."], &project);
    tar(&["-cf", "part.tar", "-C", "vendor", "index.json", "oci-layout"], &project);
    let digest = format!("sha256:{}", "a".repeat(64));
    let port = free_port();
    let mut said = String::new();
    for from in [
        "{ layout = \"none\" }",
        "{ layout = \"note\" }",
        "{ layout = \"empty\" }",
        "{ layout = \"vendor\" }",
        "{ layout = \"vendor\", ref = \"three:1\" }",
        &format!("{{ layout = \"vendor\", ref = \"{digest}\" }}"),
        "{ archive = \"none.tar\" }",
        "{ archive = \"\" }",
        "{ archive = \"vendor\" }",
        "{ archive = \"text.tar\" }",
        "{ archive = \"nothing.tar\" }",
        "{ archive = \"noise.tar\" }",
        "{ archive = \"other.tar\" }",
        "{ archive = \"vendor.tar\" }",
        "{ archive = \"vendor.tar\", ref = \"three:1\" }",
        "{ archive = \"part.tar\", ref = \"one:1\" }",
        &format!("\"127.0.0.1:{port}/team/base:1\""),
        &format!("\"127.0.0.1:{port}/team/base@{digest}\""),
        "\"Team/Base:1\"",
    ] {
        let configuration = format!(
            "[project]\nplatforms = [\"linux/amd64\"]\nversion = \"1\"\n[image.x]\nfrom = {from}\n"
        );
        fs::write(project.join("images.toml"), configuration).unwrap();
        let output = xstitch(&project).arg("--quiet").output().unwrap();
        let code = output.status.code().unwrap();
        let told = text(&output);
        assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
        said += &format!("from = {from} → {code}\n{told}\n");
        assert!(!project.join("images.lock").exists() && !project.join("target").exists());
    }
    let top: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    for (at, entry) in top["manifests"].as_array().unwrap().iter().enumerate() {
        said = said.replace(entry["digest"].as_str().unwrap(), &format!("sha256:{at}"));
    }
    let said = said.replace(&port.to_string(), "PORT").replace(&digest, "sha256:aaa");
    insta::assert_snapshot!(said);
}

/// An image that stands on nothing, one on a base that lacks the platform, one on that image,
/// and one on a base whose files are for another machine.
const THREE: &str = r#"[project]
platforms = ["linux/arm64"]
version = "1"

[image.good]
from = "scratch"
files = [{ from = "note", to = "/note" }]

[image.lacking]
from = { layout = "vendor", ref = "one:1" }

[image.on-lacking]
from = "lacking"

[image.foreign]
from = { layout = "foreign", ref = "one:1" }
"#;

/// Makes a layout say that its image `one` is for arm64, with digests that fit.
fn disguise(layout: &Path) {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let top = layout.join("index.json");
    let parsed = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let digest = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    let index = digest(&parsed(&read(&top))["manifests"][0]);
    let manifest = digest(&parsed(&read(&blob(layout, &index.clone().into())))["manifests"][0]);
    let config = digest(&parsed(&read(&blob(layout, &manifest.clone().into())))["config"]);
    // Names of as many letters, so that sizes stay.
    let mut changed = vec![("amd64".to_owned(), "arm64".to_owned())];
    for old in [config, manifest, index] {
        let text = read(&blob(layout, &old.clone().into()));
        let text = changed.iter().fold(text, |text, (from, to)| text.replace(from, to));
        let new = sha256(text.as_bytes());
        fs::write(blob(layout, &new.clone().into()), text).unwrap();
        changed.push((old, new));
    }
    let text = changed.iter().fold(read(&top), |text, (from, to)| text.replace(from, to));
    fs::write(&top, text).unwrap();
}

/// The head of an ELF program for amd64.
fn program() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    (bytes[16], bytes[18], bytes[20], bytes[52]) = (2, 62, 1, 64);
    bytes
}

#[test]
fn integration_other_images_are_built_where_a_base_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let two = layout(folder.path());
    let foreign = project(folder.path(), "foreign", TWO);
    fs::write(foreign.join("note"), program()).unwrap();
    build(&mut xstitch(&foreign), &foreign);
    disguise(&foreign.join("target/images"));
    let project = project(folder.path(), "project", THREE);
    copy_to(&two, &project.join("vendor"));
    copy_to(&foreign.join("target/images"), &project.join("foreign"));
    let run = |cache: &str, arguments: &[&str]| {
        let mut command = xstitch(&project);
        command.arg("--quiet").args(arguments);
        command.env("XSTITCH_CACHE", folder.path().join(cache));
        let output = command.output().unwrap();
        let said = text(&output).replace(&project.display().to_string(), "PROJECT");
        (output.status.code().unwrap(), said)
    };
    let (code, stopped) = run("stopped", &[]);
    assert_eq!(code, 2, "{stopped}");
    assert!(stopped.contains("[base-lacks-platform]") && !stopped.contains("foreign"), "{stopped}");
    let (code, said) = run("all", &["--keep-going"]);
    insta::assert_snapshot!(format!("exit code {code}\n{said}"));
    assert!(!project.join("target").exists(), "no layout lacks images");
    // What only reads does not go on.
    assert_eq!(run("all", &["plan", "--keep-going"]), (2, stopped.clone()));
    // All of the others is there, and nothing else.
    let (good, rest) = THREE.split_once("[image.lacking]").unwrap();
    let check = |cache: &str| {
        fs::write(project.join("images.toml"), good).unwrap();
        let (code, report) = run(cache, &["--format", "json"]);
        assert_eq!(code, 0, "{report}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["units_run"], 0, "{report}");
        fs::remove_dir_all(project.join("target")).unwrap();
    };
    check("all");
    // Only a unit fails, or only the plan.
    let (lacking, foreign) = rest.split_once("[image.foreign]").unwrap();
    fs::write(project.join("images.toml"), format!("{good}[image.foreign]{foreign}")).unwrap();
    let (code, said) = run("unit", &["--keep-going"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("[elf-wrong-machine]"), "{said}");
    check("unit");
    fs::write(project.join("images.toml"), format!("{good}[image.lacking]{lacking}")).unwrap();
    assert_eq!(run("plan", &["--keep-going"]), (2, stopped));
    check("plan");
}
