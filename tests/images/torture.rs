//! The torture test: nothing but the inputs decides the digests.
//!
//! Each variant starts from an empty cache, but for downloaded packages: no result of the
//! first build can be found there, so everything is compiled again.

use std::fs;
use std::process::Command;

use crate::first::{First, age};
use crate::fixture::{Handler, build, is_root, text};
use crate::tools::has;

const PROJECT: &str = "tests/projects/torture";

#[test]
fn integration_torture_another_user_and_folder() {
    let first = First::build(PROJECT);
    assert_eq!(first.index_of_another_user(), first.index);
}

#[test]
fn integration_torture_no_sandbox_one_image_changed_and_changed_back() {
    let first = First::build(PROJECT);
    let project = first.copy(&first.folder.path().join("two"));
    let own_cache = first.cache("cache-two");
    let run = |arguments: &[&str]| {
        let mut command = first.xstitch(&project, &own_cache);
        let output = command.args(["--sandbox", "none"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        output
    };
    // One image for one platform: its manifest is one of those of the whole.
    let one = first.folder.path().join("one-layout").display().to_string();
    let output =
        run(&["second", "--platform", "linux/arm64", "--format", "json", "--output", &one]);
    assert!(first.has_manifest(&output.stdout));
    // Changed, with the changed state of the compilers.
    let sources = ["rust/src/main.rs", "rust/native/bundled.c", "go/main.go", "cxx/fault.cc"];
    let original = sources.map(|name| fs::read_to_string(project.join(name)).unwrap());
    let layout = || fs::read_to_string(project.join("target/images/index.json")).unwrap();
    for (name, text) in sources.iter().zip(&original) {
        let text = text.replace("Prints", "Shows").replace("worker ", "thread ");
        fs::write(project.join(name), format!("{text}\n// changed\n\n")).unwrap();
    }
    let main = &original[0].replace("torture-rust {}", "tortured-rust {}");
    fs::write(project.join(sources[0]), main).unwrap();
    let bundled =
        &original[1].replace("uint32_t crc = UINT32_MAX;", "\n\tuint32_t crc = UINT32_MAX;");
    fs::write(project.join(sources[1]), bundled.replace("return __FILE__", "return \"-\""))
        .unwrap();
    run(&[]);
    let changed = layout();
    assert_ne!(changed, first.index);
    // Changed back, with times that are older than the outputs, and no result to look up.
    for (name, text) in sources.iter().zip(&original) {
        fs::write(project.join(name), text).unwrap();
        let old = Command::new("touch").args(["-d", "2001-02-03"]).arg(project.join(name)).status();
        assert!(old.unwrap().success());
    }
    fs::remove_dir_all(own_cache.join("v1/records")).unwrap();
    run(&[]);
    assert_eq!(layout(), first.index);
}

#[test]
fn system_torture_with_an_emulator_registered() {
    if !has("qemu-aarch64-static") {
        return;
    }
    if !is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI has to run this as root");
        eprintln!("SKIPPED: only root can register an emulator");
        return;
    }
    let first = First::build(PROJECT);
    let project = first.copy(&first.folder.path().join("three"));
    age(&project);
    let own_cache = first.cache("cache-three");
    let handler = Handler::register();
    let index = build(
        first.xstitch(&project, &own_cache).args(["--sandbox", "landlock", "--jobs", "3"]),
        &project,
    );
    drop(handler);
    assert_eq!(index, first.index);
}
