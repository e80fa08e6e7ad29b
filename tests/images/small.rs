//! The road on a project of one C program: built again, changed and changed back, run.

use std::fs;
use std::process::{Command, Stdio};

use crate::fixture::{Server, build, copy, has, text, xstitch};

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
