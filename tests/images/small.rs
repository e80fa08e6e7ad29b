//! The road on a project of one C program: built again, changed and changed back, run.

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::process::Command;
use std::time::Duration;

use rustix::fs::inotify;

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

/// What is written down for people and for other tools: the plan starts with it.
const READ_EACH_TIME: [&str; 4] = ["images.toml", "images.lock", "go.mod", ".gitignore"];

#[test]
fn integration_nothing_changed_reads_no_source() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/small", folder.path());
    let file = project.join("images.toml");
    let text = fs::read_to_string(&file).unwrap();
    let more = "files = [{ from = \"etc\", to = \"/etc/small\" }]\n\n\
                [image.second]\nfrom = \"scratch\"\ngo = \"second\"\n";
    fs::write(&file, format!("{text}{more}")).unwrap();
    fs::create_dir_all(project.join("etc/more")).unwrap();
    for name in ["etc/a", "etc/b", "etc/more/c", ".gitignore"] {
        fs::write(project.join(name), "x\n").unwrap();
    }
    fs::create_dir(project.join("second")).unwrap();
    fs::write(project.join("second/go.mod"), "module example.org/second\n\ngo 1.21\n").unwrap();
    fs::write(project.join("second/main.go"), "package main\n\nfunc main() {}\n").unwrap();
    let first = build(&mut xstitch(&project), &project);
    // What was as new as the first look at it is read once more.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(build(&mut xstitch(&project), &project), first);
    let again = || {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        for folder in ["", "src", "etc", "etc/more", "second"] {
            inotify::add_watch(&watch, project.join(folder), inotify::WatchFlags::OPEN).unwrap();
        }
        assert_eq!(build(&mut xstitch(&project), &project), first);
        opened(watch)
    };
    let names = again();
    assert!(names.contains("images.toml"), "nothing is seen: {names:?}");
    let read: Vec<_> =
        names.iter().filter(|name| !READ_EACH_TIME.contains(&name.as_str())).collect();
    assert!(read.is_empty(), "{read:?} were read");
    // One that was touched is, and no other.
    succeed(Command::new("touch").arg(project.join("etc/b")));
    let names = again();
    let read: Vec<_> =
        names.iter().filter(|name| !READ_EACH_TIME.contains(&name.as_str())).collect();
    assert_eq!(read, ["b"]);
}

/// Names of the files that were opened since `watch` was there, without folders.
fn opened(watch: std::os::fd::OwnedFd) -> BTreeSet<String> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let mut names = BTreeSet::new();
    while let Ok(event) = reader.next() {
        assert!(!event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW));
        let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
        names.extend(name.filter(|_| !event.events().contains(inotify::ReadFlags::ISDIR)));
    }
    names
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
