//! The torture test: nothing but the inputs decides the digests.
//!
//! Each variant starts from an empty cache, but for downloaded packages: no result of the
//! first build can be found there, so everything is compiled again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{Handler, build, cache, copy, is_root, path_without_targets, text, xstitch};
use crate::tools::has;

const PROJECT: &str = "tests/projects/torture";

/// The project as it is built first, and what it gave.
struct First {
    folder: tempfile::TempDir,
    project: PathBuf,
    path: String,
    index: String,
}

impl First {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = copy(PROJECT, folder.path());
        let path = path_without_targets(folder.path());
        let index = build(xstitch(&project).env("PATH", &path), &project);
        Self { folder, project, path, index }
    }

    /// A copy of the project with the same pins, in `place`.
    fn copy(&self, place: &Path) -> PathBuf {
        fs::create_dir_all(place).unwrap();
        let project = copy(PROJECT, place);
        fs::copy(self.project.join("images.lock"), project.join("images.lock")).unwrap();
        project
    }

    /// A cache that holds the pinned packages and nothing else.
    fn cache(&self, name: &str) -> PathBuf {
        let blobs = self.folder.path().join(name).join("v1/blobs");
        fs::create_dir_all(&blobs).unwrap();
        let lock = fs::read_to_string(self.project.join("images.lock")).unwrap();
        let mut copied = 0;
        for hash in lock.split([' ', '"', '\n']).filter(|word| word.len() == 64) {
            let from = cache().join("v1/blobs").join(hash);
            if from.is_file() {
                fs::copy(from, blobs.join(hash)).unwrap();
                copied += 1;
            }
        }
        assert!(copied > 50, "only {copied} packages");
        self.folder.path().join(name)
    }

    fn xstitch(&self, project: &Path, cache: &Path) -> Command {
        let mut command = xstitch(project);
        command.arg("--locked").env("PATH", &self.path).env("XSTITCH_CACHE", cache);
        command
    }
}

#[test]
fn integration_torture_another_user_and_folder() {
    let first = First::build();
    let place = first.folder.path().join("else where's");
    let project = first.copy(&place);
    let own_cache = first.cache("cache of nobody");
    let home = place.join("home");
    fs::create_dir_all(&home).unwrap();
    // The machine's cargo and Go may be in a folder that only their owner can enter.
    let cargo = Command::new("rustup").args(["which", "cargo"]).output();
    let cargo = match cargo {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => which("cargo"),
    };
    fs::copy(cargo.trim(), home.join("cargo")).unwrap();
    let go = PathBuf::from(which("go").trim()).parent().unwrap().display().to_string();
    let path = format!("{}:{}:{go}:/usr/bin:/bin", home.display(), first.path);
    let root = is_root();
    let mut command = Command::new(if root { "setpriv" } else { "env" });
    if root {
        for folder in [&place, &own_cache] {
            let owner = Command::new("chown").args(["-R", "65534:65534"]).arg(folder).status();
            assert!(owner.unwrap().success());
        }
        let open = |path: &Path| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        open(first.folder.path());
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "env"]);
    } else {
        eprintln!("SKIPPED: only root can build as another user; the other variations stay");
    }
    // A program that the other user can start, wherever the repository is.
    let program = first.folder.path().join("xstitch");
    fs::copy(env!("CARGO_BIN_EXE_xstitch"), &program).unwrap();
    command
        .args(["-i", "CFLAGS=-DNOBODY_ASKED", "RUSTFLAGS=-Copt-level=0", "GOFLAGS=-race"])
        .args(["TZ=Asia/Tokyo", "LANG=de_DE.UTF-8", "LC_ALL=de_DE.UTF-8", "USER=somebody"])
        .arg(format!("HOME={}", home.display()))
        .arg(format!("PATH={path}"))
        .arg(format!("XSTITCH_CACHE={}", own_cache.display()))
        .args(["sh", "-c", "umask 077; exec \"$@\"", "sh"])
        .arg(&program)
        .args(["--jobs", "1", "--locked", "--project"])
        .arg(&project);
    assert_eq!(build(&mut command, &project), first.index);
}

#[test]
fn integration_torture_no_sandbox_one_image_changed_and_changed_back() {
    let first = First::build();
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
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let digest = report["images"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    assert!(first.project.join("target/images/blobs/sha256").join(digest).is_file());
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
    let first = First::build();
    let project = first.copy(&first.folder.path().join("three"));
    let old = Command::new("find")
        .arg(&project)
        .args(["-exec", "touch", "-h", "-d", "1999-12-31", "{}", "+"])
        .status();
    assert!(old.unwrap().success());
    let own_cache = first.cache("cache-three");
    let handler = Handler::register();
    let index = build(
        first.xstitch(&project, &own_cache).args(["--sandbox", "landlock", "--jobs", "3"]),
        &project,
    );
    drop(handler);
    assert_eq!(index, first.index);
}

fn which(program: &str) -> String {
    let output =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    assert!(output.status.success(), "there is no {program}");
    String::from_utf8(output.stdout).unwrap()
}
