//! The torture test of native libraries, one of each kind: nothing but the inputs decides
//! the digests, whoever builds them where, and whatever lies about on the machine.

use std::fs;
use std::process::Command;

use crate::first::{First, age};
use crate::fixture::{is_root, text};
use crate::foreign_files::ForeignFiles;

const PROJECT: &str = "tests/projects/libraries";

#[test]
fn integration_torture_of_libraries_another_user_and_folder() {
    let first = First::build(PROJECT);
    assert_eq!(first.index_of_another_user(), first.index);
}

#[test]
fn integration_torture_of_libraries_changed_and_changed_back() {
    let first = First::build(PROJECT);
    let project = first.copy(&first.folder.path().join("two"));
    let own_cache = first.cache("cache-two");
    let one = first.folder.path().join("one-layout").display().to_string();
    let run = || {
        let mut command = first.xstitch(&project, &own_cache);
        command.args(["--sandbox", "none", "--platform", "linux/arm64", "--format", "json"]);
        let output = command.args(["--output", &one]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        first.has_manifest(&output.stdout)
    };
    // Changed, with the changed state of the build systems.
    let changes = [
        ("plain/more.c", "return __FILE__", "return \"-\""),
        ("made/made.c", "return 10", "return 20"),
        ("cmaked/cmaked.cc", "return 10", "return 20"),
        ("mesoned/generate.c", "4000", "8000"),
        ("scripted/scripted.c", "50000", "60000"),
        ("crated/src/lib.rs", "600_000", "700_000"),
        ("program/main.c", "zlib %s", "zlib: %s"),
    ];
    for (name, from, to) in changes {
        let text = fs::read_to_string(project.join(name)).unwrap();
        assert!(text.contains(from), "{name}");
        fs::write(project.join(name), text.replace(from, to)).unwrap();
    }
    assert!(!run());
    // Changed back, with times that are older than the outputs. The cache has no result for
    // these sources.
    for (name, from, to) in changes {
        let text = fs::read_to_string(project.join(name)).unwrap();
        fs::write(project.join(name), text.replace(to, from)).unwrap();
    }
    age(&project);
    assert!(run());
}

#[test]
fn system_torture_of_libraries_with_wrong_files_on_the_machine() {
    let first = First::build(PROJECT);
    let project = first.copy(&first.folder.path().join("three"));
    age(&project);
    let names = ["plain", "made", "cmaked", "mesoned", "scripted", "crated", "ffi", "given"];
    let files = if is_root() {
        let headers: Vec<String> = names.map(|name| format!("{name}.h")).into();
        let mut headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        headers.extend(["ffitarget.h", "zlib.h"]);
        let mut libraries = names.to_vec();
        libraries.push("z");
        Some(ForeignFiles::put(&headers, &libraries))
    } else {
        assert!(std::env::var_os("CI").is_none(), "CI has to run this as root");
        eprintln!("SKIPPED: only root can put wrong files on the machine; its variables stay");
        None
    };
    // The machine's own platform, for whose programs the machine's files would do.
    let platform = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        _ => "linux/arm64",
    };
    for (tier, jobs) in [("namespaces", "2"), ("landlock", "3"), ("none", "1")] {
        let own_cache = first.cache(&format!("cache-{tier}"));
        let mut command = first.xstitch(&project, &own_cache);
        command.args(["--sandbox", tier, "--jobs", jobs, "--platform", platform]);
        for (name, value) in [
            ("CFLAGS", "-DFROM_THE_MACHINE"),
            ("LDFLAGS", "-la-library-of-the-machine"),
            ("CPATH", "/usr/local/include"),
            ("C_INCLUDE_PATH", "/usr/local/include"),
            ("LIBRARY_PATH", "/usr/local/lib"),
            ("PKG_CONFIG_PATH", "/usr/local/lib/pkgconfig"),
            ("CMAKE_PREFIX_PATH", "/usr/local"),
            ("CONFIG_SITE", "/usr/local/share/config.site"),
            ("DESTDIR", "/usr/local"),
            ("MAKEFLAGS", "--question"),
        ] {
            command.env(name, value);
        }
        let output = command.args(["--format", "json"]).output().unwrap();
        assert!(output.status.success(), "{tier}: {}", text(&output));
        assert!(first.has_manifest(&output.stdout), "{tier}: {}", text(&output));
        fs::remove_dir_all(own_cache).unwrap();
    }
    drop(files);
    let left = Command::new("find").args(["/usr/local/include", "/usr/local/lib"]).output();
    let left = String::from_utf8(left.unwrap().stdout).unwrap();
    assert!(!left.contains("/plain."), "{left}");
}
