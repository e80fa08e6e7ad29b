//! Real projects, real compilers, real packages: what is built, twice and elsewhere.
//!
//! `integration_` tests need apt and a network; `system_` tests also need skopeo, a
//! registry, umoci and qemu-user. A tool that is missing fails a test under `CI`, and
//! skips it loudly elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end")]
#![allow(clippy::disallowed_methods, reason = "tests start programs")]
#![allow(clippy::disallowed_macros, reason = "a skipped test says so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A copy of a test project in a folder of its own.
fn copy(project: &str, to: &Path) -> PathBuf {
    let place = to.join(Path::new(project).file_name().unwrap());
    let status = Command::new("cp").arg("-r").arg(repository().join(project)).arg(&place).status();
    assert!(status.unwrap().success());
    place
}

fn xstitch(project: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xstitch"));
    command.arg("--project").arg(project);
    command
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Builds and returns `index.json` of the layout.
fn build(command: &mut Command, project: &Path) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    fs::read_to_string(project.join("target/images/index.json")).unwrap()
}

/// Whether the tool is there; under `CI` it has to be.
fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
    let found = found.status.success();
    assert!(found || std::env::var_os("CI").is_none(), "CI has to install {tool}");
    if !found {
        eprintln!("SKIPPED: there is no {tool}");
    }
    found
}

/// A process that is ended when the test is.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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
fn integration_torture_the_same_inputs_give_the_same_digests() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/torture", folder.path());
    let first = build(&mut xstitch(&project), &project);
    // A folder, time zone, language, umask and number of jobs of its own; nothing is shared
    // but packages, because results are looked up by key and keys have no paths: so the
    // records are left out of the second cache.
    let cache =
        PathBuf::from(std::env::var_os("XSTITCH_CACHE").unwrap_or_else(|| {
            format!("{}/.cache/xstitch", std::env::var("HOME").unwrap()).into()
        }));
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
fn integration_errors_say_what_to_do_and_leave_the_last_output() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/small", folder.path());
    let good = build(&mut xstitch(&project), &project);
    let configuration = fs::read_to_string(project.join("images.toml")).unwrap();
    let check = |change: &dyn Fn(), arguments: &[&str], code: i32, words: &str| {
        change();
        let output = xstitch(&project).args(arguments).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "expected `{words}` in:\n{said}");
        let layout = project.join("target/images/index.json");
        assert_eq!(fs::read_to_string(layout).unwrap(), good);
        fs::write(project.join("images.toml"), &configuration).unwrap();
    };
    let edit = |from: &'static str, to: &'static str| {
        let (file, text) = (project.join("images.toml"), configuration.replace(from, to));
        move || fs::write(&file, &text).unwrap()
    };
    check(&edit("src/*.c", "none/*.c"), &[], 2, "there is no folder");
    check(&edit("src/*.c", "src/*.cc"), &[], 2, "no file matches `src/*.cc`");
    check(
        &edit("\"libc6\"", "\"libc6\", \"no-such-package\""),
        &[],
        2,
        "has no package `no-such-package`",
    );
    check(&edit("\"libc6\"", "\"libc6\", \"zlib1g\""), &["--offline"], 2, "`--offline` was given");
    check(&edit("\"libc6\"", "\"libc6\", \"zlib1g\""), &["--locked"], 2, "`--locked` was given");
    check(&edit("platforms", "platfroms"), &[], 2, "did you mean `platforms`?");
    check(&|| fs::remove_file(project.join("images.toml")).unwrap(), &[], 2, "there is no ");
    check(&|| (), &["--platform", "linux/s390x"], 2, "the project has no platform linux/s390x");
    check(&|| (), &["nobody"], 2, "there is no image `nobody`");
    let source = project.join("src/hello.c");
    let program = fs::read_to_string(&source).unwrap();
    check(
        &|| fs::write(&source, "int main(void) { return x; }\n").unwrap(),
        &[],
        1,
        "hello.c:1:25: error: use of undeclared identifier 'x'",
    );
    fs::write(&source, program).unwrap();
    assert_eq!(build(&mut xstitch(&project), &project), good);
}

#[test]
fn system_images_run_and_travel() {
    if !["skopeo", "docker-registry", "umoci", "qemu-aarch64-static"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/small", folder.path());
    build(&mut xstitch(&project), &project);
    let layout = project.join("target/images");
    let image = format!("oci:{}:hello:0.1.0", layout.display());

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("registry.yml");
    let storage = folder.path().join("registry");
    fs::write(
        &config,
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            storage.display()
        ),
    )
    .unwrap();
    let mut server = Command::new("docker-registry");
    server.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let _registry = Server(server.spawn().unwrap());
    let target = format!("docker://127.0.0.1:{port}/hello:0.1.0");
    let copied = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let copy = Command::new("skopeo")
            .args(["copy", "--all", "--dest-tls-verify=false", &image, &target])
            .output()
            .unwrap();
        copy.status.success()
    });
    assert!(copied, "skopeo could not copy to the registry");

    for (architecture, emulator) in [("amd64", None), ("arm64", Some("qemu-aarch64-static"))] {
        let single = folder.path().join(architecture);
        let from = Command::new("skopeo")
            .args(["--override-arch", architecture, "copy", "--src-tls-verify=false", &target])
            .arg(format!("oci:{}:x", single.display()))
            .output()
            .unwrap();
        assert!(from.status.success(), "{}", text(&from));
        let bundle = folder.path().join(format!("bundle-{architecture}"));
        let unpacked = Command::new("umoci")
            .args(["raw", "unpack", "--rootless", "--image"])
            .arg(format!("{}:x", single.display()))
            .arg(&bundle)
            .output()
            .unwrap();
        assert!(unpacked.status.success(), "{}", text(&unpacked));
        let program = bundle.join("usr/local/bin/hello");
        let loader = match emulator {
            None => {
                let mut command = Command::new(bundle.join("usr/lib64/ld-linux-x86-64.so.2"));
                command.arg("--library-path").arg(bundle.join("usr/lib/x86_64-linux-gnu"));
                command
            }
            Some(emulator) => {
                let mut command = Command::new(emulator);
                command.arg("-L").arg(&bundle);
                command
            }
        };
        let output = { loader }.arg(&program).arg("--version").output().unwrap();
        assert!(output.status.success(), "{architecture}: {}", text(&output));
        assert!(text(&output).contains("0.1.0"), "{}", text(&output));
    }
}
