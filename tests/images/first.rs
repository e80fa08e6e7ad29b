//! A project that was built once, and what it takes to build it again elsewhere from
//! nothing but its sources and the packages that it pins.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::fixture::{build, cache, copy, is_root, path_without_targets, xstitch};

/// The project as it is built first, and what it gave.
pub struct First {
    pub folder: tempfile::TempDir,
    pub project: PathBuf,
    /// The `index.json` of its layout.
    pub index: String,
    path: String,
    name: &'static str,
}

/// What the first build of each project pinned, for those after it.
static LOCKS: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());

impl First {
    /// Builds a project of the repository, one at a time: what one built, the next one finds.
    pub fn build(name: &'static str) -> Self {
        let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let project = copy(name, folder.path());
        if let Some(lock) = locks.get(name) {
            fs::write(project.join("images.lock"), lock).unwrap();
        }
        let path = path_without_targets(folder.path());
        let index = build(xstitch(&project).env("PATH", &path), &project);
        locks.insert(name, fs::read_to_string(project.join("images.lock")).unwrap());
        Self { folder, project, index, path, name }
    }

    /// A copy of the project with the same pins, in `place`.
    pub fn copy(&self, place: &Path) -> PathBuf {
        fs::create_dir_all(place).unwrap();
        let project = copy(self.name, place);
        fs::copy(self.project.join("images.lock"), project.join("images.lock")).unwrap();
        project
    }

    /// A cache that holds the pinned packages and nothing else.
    pub fn cache(&self, name: &str) -> PathBuf {
        let blobs = self.folder.path().join(name).join("v1/blobs");
        fs::create_dir_all(&blobs).unwrap();
        let lock = fs::read_to_string(self.project.join("images.lock")).unwrap();
        let mut copied = 0;
        for hash in lock.split([' ', '"', '\n']).filter(|word| word.len() == 64) {
            let from = cache().join("v1/blobs").join(hash);
            if from.is_file() && !blobs.join(hash).exists() {
                fs::copy(from, blobs.join(hash)).unwrap();
                copied += 1;
            }
        }
        assert!(copied > 50, "only {copied} packages");
        self.folder.path().join(name)
    }

    /// The program for a copy and its cache.
    pub fn xstitch(&self, project: &Path, cache: &Path) -> Command {
        let mut command = xstitch(project);
        command.arg("--locked").env("PATH", &self.path).env("XSTITCH_CACHE", cache);
        command
    }

    /// Whether the manifest of a build of one platform is one of the whole's.
    pub fn has_manifest(&self, report: &[u8]) -> bool {
        let report: serde_json::Value = serde_json::from_slice(report).unwrap();
        let digest = report["images"][0]["digest"].as_str().unwrap().replace("sha256:", "");
        self.project.join("target/images/blobs/sha256").join(digest).is_file()
    }

    /// The index that another user gets, in another folder, at another time zone, with another
    /// umask, one job and variables of their own.
    pub fn index_of_another_user(&self) -> String {
        let place = self.folder.path().join("else where's");
        let project = self.copy(&place);
        let own_cache = self.cache("cache of nobody");
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
        let path = format!("{}:{}:{go}:/usr/bin:/bin", home.display(), self.path);
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
            open(self.folder.path());
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "env"]);
        } else {
            eprintln!("SKIPPED: only root can build as another user; the other variations stay");
        }
        // A program that the other user can start, wherever the repository is.
        let program = self.folder.path().join("xstitch");
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
        build(&mut command, &project)
    }
}

/// Gives everything in a folder a time before anything was built.
pub fn age(folder: &Path) {
    let old = Command::new("find")
        .arg(folder)
        .args(["-exec", "touch", "-h", "-d", "1999-12-31", "{}", "+"])
        .status();
    assert!(old.unwrap().success());
}

fn which(program: &str) -> String {
    let output =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    assert!(output.status.success(), "there is no {program}");
    String::from_utf8(output.stdout).unwrap()
}
