//! Nothing runs on an emulator: programs for other machines are refused in every tier,
//! whatever the machine has registered, and whoever tried to start one is named.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use xstitch::machine::process::Output;
use xstitch::machine::sandbox::{Bind, STAGE_ONE, Sandbox, Tier};
use xstitch::machine::supervisor;
use xstitch::model::attempt::{Attempt, Attempts};

use crate::fixture::{Handler, copy, is_root, set_platforms, succeed, text, xstitch};
use crate::tools::has;

const TIERS: [Tier; 3] = [Tier::Namespaces, Tier::Landlock, Tier::None];
const EM_MIPS: u16 = 8;
const PROGRAM: &str = env!("CARGO_BIN_EXE_xstitch");

/// A sandbox with the machine's own userland and one folder, in which commands start.
struct Place {
    folder: tempfile::TempDir,
    tier: Tier,
}

impl Place {
    /// One for each tier that the machine can do.
    fn all() -> Vec<Self> {
        let places = TIERS.map(|tier| Self { folder: tempfile::tempdir().unwrap(), tier });
        places.into_iter().filter(Self::works).collect()
    }

    fn works(&self) -> bool {
        fs::create_dir_all(self.work()).unwrap();
        fs::create_dir_all(self.folder.path().join("root")).unwrap();
        let (output, _) = self.run("exit 7");
        if output.code != Some(7) {
            let tier = self.tier.name();
            assert!(std::env::var_os("CI").is_none(), "CI needs {tier}: {}", output.text());
            eprintln!("SKIPPED: no tier {tier} here");
        }
        output.code == Some(7)
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// A file that the command finds, which may be executed.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Where the command sees its files.
    fn path(&self, name: &str) -> String {
        match self.tier {
            Tier::Namespaces => format!("/xs/work/{name}"),
            _ => self.work().join(name).display().to_string(),
        }
    }

    /// What runs a script for bash, which says why a program cannot be started.
    fn sandbox(&self, script: &str) -> Sandbox {
        let work = Bind { source: self.work(), at: "/xs/work".into(), writable: true };
        Sandbox {
            tier: self.tier,
            userland: "/".into(),
            root: self.folder.path().join("root"),
            binds: vec![work],
            network: false,
            folder: self.path("."),
            command: ["/bin/bash", "-c", script].map(str::to_owned).into(),
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            attempts: Some(self.folder.path().join("attempts.json")),
            watch: None,
        }
    }

    fn run(&self, script: &str) -> (Output, Attempts) {
        let sandbox = self.sandbox(script);
        let mut process = sandbox.process(&self.folder.path().join("sandbox.json")).unwrap();
        process.program = PROGRAM.into();
        let output = process.output().unwrap();
        (output, supervisor::read(&sandbox.attempts.unwrap()))
    }
}

/// As much of a program as the kernel needs to know for which machine it is.
fn program(machine: u16) -> Vec<u8> {
    let mut head = vec![0; 64];
    head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    head[16] = 2;
    head[18..20].copy_from_slice(&machine.to_le_bytes());
    head
}

#[test]
fn integration_foreign_programs_are_refused_and_recorded() {
    for place in Place::all() {
        place.write("foreign", program(EM_MIPS));
        place.write("script", "#! ./foreign -x\n");
        place.write("data", program(EM_MIPS));
        let data = place.work().join("data");
        fs::set_permissions(data, fs::Permissions::from_mode(0o644)).unwrap();
        place.write("deep/config.log", "configure:9: checking for foo\nconfigure:10: ./conftest\n");
        place.write("deep/a/conftest", program(EM_MIPS));
        let script = "./foreign; echo $?; ./script; ./data; ./nothing; \
                      (exec /proc/self/cwd/foreign); (cd deep/a && ./conftest); /bin/true; exit 3";
        let (output, attempts) = place.run(script);
        let text = output.text();
        assert_eq!(output.code, Some(3), "{text}");
        assert!(text.starts_with("126\n"), "{text}");
        assert_eq!(text.matches("Exec format error").count(), 3, "{text}");
        assert_eq!(text.matches("Permission denied").count(), 1, "{text}");
        assert_eq!(text.matches("No such file").count(), 1, "{text}");
        assert!(attempts.supervised);
        let found: Vec<(String, u16)> =
            attempts.attempts.iter().map(|a| (a.program.clone(), a.machine)).collect();
        assert_eq!(
            found,
            [(place.path("foreign"), EM_MIPS), (place.path("deep/a/conftest"), EM_MIPS)]
        );
        assert!(attempts.attempts[0].probe.starts_with("`foreign` started by `/bin/bash -c ./f"));
        assert_eq!(attempts.attempts[1].probe, "checking for foo");
    }
}

#[test]
fn integration_many_starts_at_once_are_all_answered() {
    for place in Place::all() {
        place.write("foreign", program(EM_MIPS));
        let script = "for i in 1 2 3 4; do (for j in $(seq 100); do /bin/true && /usr/bin/env \
                      true; done; ./foreign 2> /dev/null; echo $?) & done; wait";
        let (output, attempts) = place.run(script);
        assert_eq!(output.text(), "126\n".repeat(4));
        let [Attempt { program, .. }] = attempts.attempts.as_slice() else {
            panic!("{attempts:?}")
        };
        assert_eq!(*program, place.path("foreign"));
    }
}

#[test]
fn integration_a_command_ends_as_it_would_alone() {
    for place in Place::all() {
        // The first process of a namespace is spared its own signals.
        if place.tier != Tier::Namespaces {
            for signal in [6, 9, 11, 13, 15] {
                let (output, attempts) = place.run(&format!("kill -{signal} $$"));
                assert_eq!((output.signal, output.code), (Some(signal), None));
                assert!(attempts.supervised);
            }
        }
        let started = Instant::now();
        let (output, _) =
            place.run("(sleep 60; : > late) & setsid sleep 60 > /dev/null 2>&1 & exit 5");
        assert_eq!(output.code, Some(5));
        assert!(started.elapsed() < Duration::from_secs(30), "somebody waited for what was left");
    }
}

#[test]
fn integration_a_second_supervisor_leaves_it_to_the_first() {
    let place = Place { folder: tempfile::tempdir().unwrap(), tier: Tier::None };
    assert!(place.works());
    place.write("foreign", program(EM_MIPS));
    let file = |name: &str| place.folder.path().join(name);
    let mut inner = place.sandbox("./foreign; exit 4");
    inner.attempts = Some(file("inner-attempts.json"));
    inner.process(&file("inner.json")).unwrap();
    let script = format!("'{PROGRAM}' '{STAGE_ONE}' '{}'", file("inner.json").display());
    let (output, attempts) = place.run(&script);
    assert_eq!(output.code, Some(4), "{}", output.text());
    assert!(output.text().contains("Exec format error"));
    let inner = supervisor::read(&file("inner-attempts.json"));
    assert_eq!(inner, Attempts { largest_bytes: inner.largest_bytes, ..Attempts::default() });
    assert!(attempts.supervised);
    assert_eq!(attempts.attempts.len(), 1);
}

/// A copy of the project that was never built, and how it is built.
fn variant(first: &Path, place: &Path, platform: &str) -> PathBuf {
    fs::create_dir_all(place).unwrap();
    let project = copy("tests/projects/emulation", place);
    set_platforms(&project, &[platform]);
    // No result of another variant is found, and nothing that is compiled differs.
    fs::write(project.join("variant.txt"), place.display().to_string()).unwrap();
    let _ = fs::copy(first.join("images.lock"), project.join("images.lock"));
    project
}

#[test]
fn system_an_emulator_changes_nothing_in_any_tier() {
    let foreign = if cfg!(target_arch = "x86_64") { "linux/arm64" } else { "linux/amd64" };
    // The handler that can be registered is one for arm64.
    let can_register = foreign == "linux/arm64" && has("qemu-aarch64-static") && is_root();
    if !can_register {
        eprintln!("SKIPPED: the builds with an emulator; they need root, and a machine but arm64");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut first: Option<(PathBuf, String)> = None;
    for registered in [false, true] {
        if registered && !can_register {
            continue;
        }
        let _handler = registered.then(Handler::register);
        for tier in TIERS.map(Tier::name) {
            let place = folder.path().join(format!("{tier}-{registered}"));
            let lock = first.as_ref().map_or(place.as_path(), |(project, _)| project);
            let project = variant(lock, &place, foreign);
            let mut command = xstitch(&project);
            if first.is_some() {
                command.arg("--locked");
            }
            let output = succeed(command.args(["--sandbox", tier]));
            let said = text(&output);
            let warning = said.lines().find(|line| line.contains(" was started by "));
            let warning = warning.unwrap_or_else(|| panic!("{tier} warns of nothing: {said}"));
            let end = "was started by build script of emulation 0.1.0 and refused";
            assert!(warning.ends_with(end), "{warning}");
            assert!(warning.contains(&format!("binary emulation {foreign}: /")), "{warning}");
            let program = warning.split(": ").nth(2).unwrap().split(',').next().unwrap();
            if registered && tier == "landlock" {
                let control = Command::new(program).status().unwrap();
                assert_eq!(control.code(), Some(42), "{program} does not run outside either");
            }
            let index = fs::read_to_string(project.join("target/images/index.json")).unwrap();
            match &first {
                None => {
                    assert!(has_text(&project, "the probe did not run: Exec format error"));
                    first = Some((project, index));
                }
                Some((_, first)) => assert_eq!(index, *first, "{tier}, {registered}"),
            }
        }
    }
}

/// Whether the program of the project's image has that text in it.
fn has_text(project: &Path, text: &str) -> bool {
    let blobs = fs::read_dir(project.join("target/images/blobs/sha256")).unwrap();
    blobs.map(|blob| blob.unwrap().path()).any(|blob| {
        let mut tar = Command::new("tar");
        let output = tar.arg("-xzOf").arg(blob).arg("usr/local/bin/emulation").output().unwrap();
        output.stdout.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    })
}
