//! The torture test: nothing but the inputs decides the digests.

use std::fs;
use std::process::Command;

use crate::fixture::{build, cache, copy, path_without_targets, text, xstitch};

#[test]
fn integration_torture_the_same_inputs_give_the_same_digests() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/torture", folder.path());
    let path = path_without_targets(folder.path());
    let first = build(xstitch(&project).env("PATH", &path), &project);
    // A folder, time zone, language, umask and number of jobs of its own; nothing is shared
    // but packages, because results are looked up by key and keys have no paths: so the
    // records are left out of the second cache.
    let cache = cache();
    let elsewhere = folder.path().join("else where's");
    fs::create_dir(&elsewhere).unwrap();
    for (name, tier) in [("one", "namespaces"), ("two", "none")] {
        let place = elsewhere.join(name);
        fs::create_dir(&place).unwrap();
        let second = copy("tests/projects/torture", &place);
        fs::copy(project.join("images.lock"), second.join("images.lock")).unwrap();
        let own_cache = folder.path().join(format!("cache-{name}"));
        fs::create_dir_all(own_cache.join("v1")).unwrap();
        let blobs = Command::new("cp")
            .arg("-al")
            .arg(cache.join("v1/blobs"))
            .arg(own_cache.join("v1/"))
            .status();
        assert!(blobs.unwrap().success());
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "umask 077; exec \"$@\"",
                "sh",
                env!("CARGO_BIN_EXE_xstitch"),
                "--project",
            ])
            .arg(&second)
            .args(["--jobs", "1", "--locked", "--sandbox", tier])
            .env("XSTITCH_CACHE", &own_cache)
            .env("PATH", &path)
            .env("TZ", "Asia/Tokyo")
            .env("LANG", "de_DE.UTF-8")
            .env("CFLAGS", "-DNOBODY_ASKED");
        assert_eq!(build(&mut command, &second), first, "{tier}");
        fs::remove_dir_all(&own_cache).unwrap();
    }
    // One platform and one image against all: the manifest is the same.
    let one = folder.path().join("one-layout");
    let output = xstitch(&project)
        .args(["second", "--platform", "linux/arm64", "--format", "json", "--output"])
        .arg(&one)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let digest = report["images"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    assert!(project.join("target/images/blobs/sha256").join(digest).is_file());
}
