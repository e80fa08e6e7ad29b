//! A repository with several modules: folders that replace Go modules, versions from git
//! and cargo.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{build, succeed, xstitch};

const CONFIGURATION: &str = r#"
[project]
platforms = ["linux/amd64"]
version = { git = true }
revision = { git = true }
source = "https://git.example.org/team/monorepo"

[image.service]
from = "scratch"
go = "services/service"
"#;

const FILES: [(&str, &str); 6] = [
    ("images.toml", CONFIGURATION),
    (
        "services/service/go.mod",
        "module service\n\ngo 1.24\n\nrequire shared v0.0.0\n\nreplace shared => ../../shared\n",
    ),
    (
        "services/service/main.go",
        "package main\n\nimport \"shared\"\n\nfunc main() { println(shared.Greeting) }\n",
    ),
    ("shared/go.mod", "module shared\n\ngo 1.24\n"),
    ("shared/shared.go", "package shared\n\nconst Greeting = \"hello\"\n"),
    ("unrelated/notes.txt", "nothing to compile\n"),
];

fn git(project: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=x", "-c", "user.email=x@example.org"]).args(arguments);
    let output = succeed(command.current_dir(project));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// How many units a build ran.
fn units_run(project: &Path) -> u64 {
    let output = succeed(xstitch(project).args(["--format", "json"]));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["units_run"].as_u64().unwrap()
}

#[test]
fn integration_a_repository_of_modules() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path();
    for (name, text) in FILES {
        fs::create_dir_all(project.join(name).parent().unwrap()).unwrap();
        fs::write(project.join(name), text).unwrap();
    }
    git(project, &["init", "--quiet"]);
    git(project, &["add", "."]);
    git(project, &["commit", "--quiet", "--message", "first"]);
    git(project, &["tag", "v1.2.3"]);
    let layout = build(&mut xstitch(project), project);
    let layout: Value = serde_json::from_str(&layout).unwrap();
    let entry = &layout["manifests"][0];
    let key = |name: &str| format!("org.opencontainers.image.{name}");
    assert_eq!(entry["annotations"][key("ref.name")], "service:1.2.3");
    let digest = entry["digest"].as_str().unwrap().replace("sha256:", "");
    let index = fs::read(project.join("target/images/blobs/sha256").join(digest)).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let head = git(project, &["rev-parse", "HEAD"]);
    assert_eq!(index["annotations"][key("revision")], head.as_str());
    assert_eq!(index["annotations"][key("version")], "1.2.3");
    assert_eq!(index["annotations"][key("source")], "https://git.example.org/team/monorepo");

    assert_eq!(units_run(project), 0);
    fs::write(project.join("unrelated/notes.txt"), "still nothing\n").unwrap();
    assert_eq!(units_run(project), 0, "files of other folders are no sources");
    let shared = "package shared\n\nconst Greeting = \"good day\"\n";
    fs::write(project.join("shared/shared.go"), shared).unwrap();
    assert!(units_run(project) > 0, "the folder that replaces a module is a source");

    // The version of a package of the workspace, and a folder that is not in the project.
    let manifest = "[package]\nname = \"tool\"\nversion = \"4.5.6\"\nedition = \"2024\"\n";
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(project.join("src")).unwrap();
    fs::write(project.join("src/main.rs"), "fn main() {}\n").unwrap();
    let cargo = CONFIGURATION.replace("version = { git", "version = { cargo = \"tool\" }\n#");
    fs::write(project.join("images.toml"), cargo).unwrap();
    let layout = build(&mut xstitch(project), project);
    assert!(layout.contains("service:4.5.6"), "{layout}");
    let other = CONFIGURATION.replace("version = { git", "version = { cargo = \"other\" }\n#");
    fs::write(project.join("images.toml"), other).unwrap();
    let output = xstitch(project).arg("--quiet").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "error: `version`: the workspace has no package `other` [unknown-package]\n";
    assert_eq!(said, expected);
    let outside = FILES[1].1.replace("../../shared", "../../../shared");
    fs::write(project.join(FILES[1].0), outside).unwrap();
    let output = xstitch(project).arg("--quiet").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: images.toml:11:1: binary service: services/service/go.mod replaces a module by `../../../shared`, which is not in the project"), "{said}");
}
