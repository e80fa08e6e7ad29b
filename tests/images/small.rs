//! The road on a project of one C program: built again, changed and changed back, run.

use std::fs;
use std::process::Command;

use crate::fixture::{build, copy, publish, registry, succeed, text, xstitch};
use crate::service::Root;
use crate::tools::has;

#[test]
fn integration_a_second_build_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/small", folder.path());
    let first = build(&mut xstitch(&project), &project);
    let output =
        xstitch(&project).args(["--format", "json", "--locked", "--offline"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["units_run"], 0);
    assert_eq!(report["written"], false);
    assert_eq!(fs::read_to_string(project.join("target/images/index.json")).unwrap(), first);
}

#[test]
fn integration_a_file_changed_and_changed_back() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/small", folder.path());
    let first = build(&mut xstitch(&project), &project);
    let source = project.join("src/hello.c");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, format!("{text}\nint more(void) {{ return 7; }}\n")).unwrap();
    assert_ne!(build(&mut xstitch(&project), &project), first);
    fs::write(&source, text).unwrap();
    assert_eq!(build(&mut xstitch(&project), &project), first);
}

#[test]
fn integration_the_own_image_is_planned() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path();
    // As a clone would have it: without what building here left.
    let repository = crate::fixture::repository();
    for name in [
        "Cargo.toml",
        "Cargo.lock",
        "benches",
        "images.toml",
        "src",
        "toolchains",
        "templates",
        "xtask",
    ] {
        let copy = Command::new("cp").arg("-r").arg(repository.join(name)).arg(project).status();
        assert!(copy.unwrap().success());
    }
    let output = succeed(xstitch(project).args(["plan", "--format", "json"]));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let units = plan["units"].as_array().unwrap();
    for platform in ["linux/amd64", "linux/arm64"] {
        let binary = format!("binary xstitch {platform}");
        assert!(units.iter().any(|unit| unit["unit"] == binary.as_str()), "{platform}");
    }
}

#[test]
fn integration_where_namespaces_are_not_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/small", folder.path());
    let first = build(&mut xstitch(&project), &project);
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    let other = copy("tests/projects/small", &other);
    fs::copy(project.join("images.lock"), other.join("images.lock")).unwrap();
    // Within these namespaces, no further ones can be made.
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--map-root-user", "sh", "-euc", forbid, "sh", env!("CARGO_BIN_EXE_xstitch")])
        .arg("--project")
        .arg(&other)
        .env("XSTITCH_CACHE", folder.path().join("cache"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("warning: compilers run in the sandbox tier `landlock`"), "{said}");
    assert_eq!(fs::read_to_string(other.join("target/images/index.json")).unwrap(), first);
}

#[test]
fn system_images_run_and_travel() {
    if !["skopeo", "docker-registry", "umoci", "qemu-aarch64-static"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/small", folder.path());
    build(&mut xstitch(&project), &project);
    let (_registry, registry) = registry(folder.path());
    publish(&project.join("target/images"), "hello:0.1.0", &registry);
    let source = format!("docker://{registry}/hello:0.1.0");
    for (platform, emulator) in
        [("linux/amd64", None), ("linux/arm64", Some("qemu-aarch64-static"))]
    {
        let root = Root::unpack(&source, platform, emulator, folder.path());
        let output = succeed(root.command(root.entrypoint()).arg("--version"));
        assert!(text(&output).contains("0.1.0"), "{platform}: {}", text(&output));
    }
}
