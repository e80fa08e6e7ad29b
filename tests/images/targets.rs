//! Architectures beyond the usual two: what the package archive has is built and run by an
//! emulator; what it has not is refused in words that help.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::fixture::{
    cache, copy, path_without_targets, publish, registry, set_platforms, succeed, text,
};
use crate::layout::Layout;
use crate::service::Root;
use crate::tools::has;

/// A cgo and a C++ program; a Rust one would need a standard library for the target.
const WITHOUT_RUST: &str = r#"
[project]
name = "torture"
platforms = ["linux/amd64"]
version = "0.1.0"
tags = ["{version}"]

[binary.torture-go]
go = { path = "go", cgo = true, ldflags = ["-X main.version={version}"] }

[binary.torture-cxx]
cxx = { sources = ["cxx/*.cc"], flags = ["-std=c++17", "-pthread"] }

[image.torture]
from = { packages = ["base-files", "libc6", "libgcc-s1", "libstdc++6"] }
binaries = ["torture-go", "torture-cxx"]
entrypoint = ["/usr/local/bin/torture-cxx"]
"#;

/// What the machine's apt says to a project.
pub struct Archive {
    folder: PathBuf,
    apt_config: Option<PathBuf>,
}

impl Archive {
    /// The machine's sources, as they are.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), apt_config: None }
    }

    fn run(&self, verb: &str, project: &Path) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xstitch"));
        command.arg(verb).arg("--project").arg(project);
        command.env("PATH", path_without_targets(&self.folder));
        command.envs(self.apt_config.iter().map(|file| ("APT_CONFIG", file)));
        command.output().unwrap()
    }

    /// Builds. Where a source is refused because its lists for the architecture are stale,
    /// that has to be said; then what the message says is done, and built again.
    pub fn build(&mut self, project: &Path, platform: &str, architecture: &str) -> Output {
        let output = self.run("build", project);
        let said = text(&output);
        if output.status.success() || !said.contains("could not download the package lists") {
            return output;
        }
        assert_eq!(output.status.code(), Some(3), "{said}");
        for words in [&format!("{platform}: apt could not"), "`Architectures:`", "APT_CONFIG"] {
            assert!(said.contains(words), "expected `{words}` in:\n{said}");
        }
        let times = said.matches(&format!("package lists for {architecture}:")).count();
        assert_eq!(times, 1, "one problem is told {times} times:\n{said}");
        let refused = said.lines().find_map(|line| {
            let (_, rest) = line.strip_prefix("E: Failed to fetch ")?.split_once("/dists/")?;
            rest.split('/').next()
        });
        let refused = refused.unwrap_or_else(|| panic!("no source is named in:\n{said}"));
        eprintln!("without {refused}, whose lists for {architecture} apt refuses");
        self.apt_config = Some(without_suite(refused, &self.folder));
        self.run("build", project)
    }
}

/// A configuration of apt with the machine's sources but for one suite.
fn without_suite(suite: &str, folder: &Path) -> PathBuf {
    let place = folder.join("apt");
    let parts = place.join("sources.list.d");
    fs::create_dir_all(&parts).unwrap();
    let shell = succeed(Command::new("apt-config").args([
        "shell",
        "LIST",
        "Dir::Etc::sourcelist/f",
        "PARTS",
        "Dir::Etc::sourceparts/d",
    ]));
    let copy = |from: &Path, to: &Path| {
        let Ok(text) = fs::read_to_string(from) else { return };
        let stanzas = text.split("\n\n").map(|stanza| {
            let lines: Vec<String> = stanza
                .lines()
                .filter(|line| !(line.starts_with("deb") && line.split(' ').any(|w| w == suite)))
                .map(|line| match line.strip_prefix("Suites:") {
                    Some(suites) => {
                        let rest: Vec<&str> =
                            suites.split_whitespace().filter(|name| *name != suite).collect();
                        format!("Suites: {}", rest.join(" "))
                    }
                    None => line.to_owned(),
                })
                .collect();
            lines.join("\n")
        });
        let kept: Vec<String> =
            stanzas.filter(|stanza| !stanza.lines().any(|line| line == "Suites: ")).collect();
        fs::write(to, kept.join("\n\n")).unwrap();
    };
    for line in String::from_utf8(shell.stdout).unwrap().lines() {
        let (name, path) = line.split_once("='").unwrap();
        let path = Path::new(path.trim_end_matches('\''));
        match name {
            "LIST" => copy(path, &place.join("sources.list")),
            _ => fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| {
                copy(&entry.path(), &parts.join(entry.file_name()));
            }),
        }
    }
    let config = place.join("apt.conf");
    let text = format!(
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"{}\";\n",
        place.join("sources.list").display(),
        parts.display()
    );
    fs::write(&config, text).unwrap();
    config
}

/// Runs every program of the torture image, each twice: for its version, and for the
/// threads, exceptions and calls between languages that it is there for.
fn run_torture(project: &Path, platform: &str, emulator: &str, programs: &[&str]) -> Root {
    let folder = project.parent().unwrap();
    let (_registry, registry) = registry(folder);
    publish(&project.join("target/images"), "torture:0.1.0", &registry);
    let source = format!("docker://{registry}/torture:0.1.0");
    let root = Root::unpack(&source, platform, Some(emulator), folder);
    for program in programs {
        let path = format!("/usr/local/bin/{program}");
        let version = succeed(root.command(&path).arg("--version"));
        assert!(text(&version).starts_with(&format!("{program} 0.1.0\n")), "{}", text(&version));
        let all = text(&succeed(&mut root.command(&path)));
        let proof = match *program {
            "torture-rust" => "panic at rust/src/main.rs",
            "torture-go" => "Go file example.org/torture/main.go:",
            _ => "fault.cc:5 worker 3",
        };
        assert!(all.contains(proof), "expected `{proof}` in {platform}:\n{all}");
    }
    root
}

/// An older suite's compiler serves as well, where only that one has the architecture.
pub fn without_rust_version(project: &Path, manifests: &[&str]) {
    for name in manifests {
        let file = project.join(name);
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.starts_with("rust-version")).collect();
        fs::write(&file, lines.join("\n")).unwrap();
    }
}

#[test]
fn system_arm_v7_is_built_and_run() {
    if !["skopeo", "docker-registry", "umoci", "qemu-arm-static", "go"].iter().all(|tool| has(tool))
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/torture", folder.path());
    set_platforms(&project, &["linux/arm/v7"]);
    without_rust_version(&project, &["Cargo.toml", "rust/Cargo.toml", "macros/Cargo.toml"]);
    let mut archive = Archive::new(folder.path());
    let output = archive.build(&project, "linux/arm/v7", "armhf");
    assert!(output.status.success(), "{}", text(&output));

    let layout = Layout::open(&project.join("target/images"));
    let index = layout.json(&layout.images()["torture:0.1.0"]);
    assert_eq!(
        index["manifests"][0]["platform"],
        serde_json::json!({"os": "linux", "architecture": "arm", "variant": "v7"})
    );
    assert_eq!(layout.platforms(&index).keys().collect::<Vec<_>>(), ["linux/arm/v7"]);
    let programs = ["torture-rust", "torture-go", "torture-cxx"];
    let root = run_torture(&project, "linux/arm/v7", "qemu-arm-static", &programs);
    for program in programs {
        let header = fs::read(root.folder.join("usr/local/bin").join(program)).unwrap();
        // ELF, 32-bit, little-endian; Arm; EABI version 5, hard-float.
        assert_eq!(header[..6], *b"\x7fELF\x01\x01", "{program}");
        assert_eq!(header[18..20], [40, 0], "{program}");
        let flags = u32::from_le_bytes(header[36..40].try_into().unwrap());
        assert_eq!(flags & 0xff00_0600, 0x0500_0400, "{program}: {flags:#x}");
    }
}

#[test]
fn system_more_architectures_are_built_or_refused() {
    let targets = [
        ("linux/s390x", "s390x", "qemu-s390x-static", 22_u16),
        ("linux/ppc64le", "ppc64el", "qemu-ppc64le-static", 21),
        ("linux/riscv64", "riscv64", "qemu-riscv64-static", 243),
    ];
    if !["skopeo", "docker-registry", "umoci", "go"]
        .iter()
        .chain(targets.iter().map(|(_, _, emulator, _)| emulator))
        .all(|tool| has(tool))
    {
        return;
    }
    for (platform, architecture, emulator, machine) in targets {
        let folder = tempfile::tempdir().unwrap();
        let project = copy("tests/projects/torture", folder.path());
        fs::write(project.join("images.toml"), WITHOUT_RUST).unwrap();
        set_platforms(&project, &[platform]);
        let mut archive = Archive::new(folder.path());
        let output = archive.build(&project, platform, architecture);
        if !output.status.success() {
            check_refusal(&text(&output), output.status.code(), platform, architecture);
            continue;
        }
        let layout = Layout::open(&project.join("target/images"));
        let index = layout.json(&layout.images()["torture:0.1.0"]);
        assert_eq!(layout.platforms(&index).keys().collect::<Vec<_>>(), [platform]);
        let programs = ["torture-go", "torture-cxx"];
        let root = run_torture(&project, platform, emulator, &programs);
        for program in programs {
            let header = fs::read(root.folder.join("usr/local/bin").join(program)).unwrap();
            let found = [header[18], header[19]];
            let big_endian = architecture == "s390x";
            let wanted = if big_endian { machine.to_be_bytes() } else { machine.to_le_bytes() };
            assert_eq!((header[4], found), (2, wanted), "{platform}: {program}");
        }
    }
}

/// The archive has nothing for the architecture: that is said once, with what to do. The
/// release files that apt keeps have to agree.
fn check_refusal(said: &str, code: Option<i32>, platform: &str, architecture: &str) {
    assert_eq!(code, Some(2), "{said}");
    let nothing = format!("has nothing for {architecture}");
    assert_eq!(said.matches(&nothing).count(), 1, "{said}");
    let help = format!("(`Architectures: {architecture}`)");
    for words in [&format!("{platform}: the package archive of"), "leave the platform out", &help] {
        assert!(said.contains(words), "expected `{words}` in:\n{said}");
    }
    let mut releases = 0;
    for state in fs::read_dir(cache().join("v1/state/apt")).unwrap() {
        let state = state.unwrap();
        if !state.file_name().to_string_lossy().starts_with(&format!("{architecture}-")) {
            continue;
        }
        for file in fs::read_dir(state.path().join("state/lists")).unwrap() {
            let path = file.unwrap().path();
            if !path.to_string_lossy().ends_with("_InRelease") {
                continue;
            }
            releases += 1;
            let release = fs::read_to_string(&path).unwrap();
            let has = release
                .lines()
                .filter_map(|line| line.strip_prefix("Architectures:"))
                .any(|names| names.split_whitespace().any(|name| name == architecture));
            assert!(!has, "{} has {architecture}", path.display());
        }
    }
    assert!(releases > 0, "no release was read for {architecture}");
}

#[test]
fn integration_a_missing_standard_library_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/torture", folder.path());
    set_platforms(&project, &["linux/s390x"]);
    let archive = Archive::new(folder.path());
    let output = archive.run("plan", &project);
    let said = text(&output);
    if output.status.success() {
        let lock = fs::read_to_string(project.join("images.lock")).unwrap();
        assert!(lock.contains("libstd-rust-"), "{lock}");
        return;
    }
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in
        ["linux/s390x: the package archive of", "has no Rust standard library for s390x", "rustup"]
    {
        assert!(said.contains(words), "expected `{words}` in:\n{said}");
    }
}
