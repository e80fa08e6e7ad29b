//! Bases that cannot be had: what is said about each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bases::copy_to;
use crate::fixture::{build, free_port, succeed, text, xstitch};

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
