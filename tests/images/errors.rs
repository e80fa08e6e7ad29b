//! Bad input: each problem is named with its place or unit, says what to do, exits with
//! the right code, and leaves the last good output.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::fixture::{build, cache, copy, text, xstitch};

/// A project that was built once, to be broken and mended.
struct Broken {
    _folder: tempfile::TempDir,
    project: PathBuf,
    good: String,
}

impl Broken {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = copy("tests/projects/small", folder.path());
        let good = build(&mut xstitch(&project), &project);
        Self { _folder: folder, project, good }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.project.join(name)
    }

    /// Replaces `from` in a file.
    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`");
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }

    /// Adds to the configuration.
    fn add(&self, tables: &str) {
        let text = fs::read_to_string(self.path("images.toml")).unwrap();
        fs::write(self.path("images.toml"), format!("{text}\n{tables}")).unwrap();
    }

    /// What the program says, after checking its exit code and the last good output.
    fn says(&self, command: &mut Command, code: i32) -> String {
        let output = command.arg("--quiet").output().unwrap();
        self.check(&output, code);
        assert!(output.stdout.is_empty(), "{}", text(&output));
        let mut said = String::from_utf8(output.stderr).unwrap();
        for (path, name) in [(&self.project, "PROJECT"), (&cache(), "CACHE")] {
            said = said.replace(&path.display().to_string(), name);
        }
        // The place of a log is named by the place of the project.
        let lines = said.lines().map(|line| match line.strip_prefix("  log: ") {
            Some(path) => format!("  log: …/{}\n", path.rsplit('/').next().unwrap_or_default()),
            None => format!("{line}\n"),
        });
        lines.collect()
    }

    fn check(&self, output: &Output, code: i32) {
        assert_eq!(output.status.code(), Some(code), "{}", text(output));
        let layout = self.path("target/images/index.json");
        assert_eq!(fs::read_to_string(layout).unwrap(), self.good, "the last output changed");
    }

    fn mend(&self) {
        let sources = ["images.toml", "src/hello.c"];
        for name in sources {
            let from = crate::fixture::repository().join("tests/projects/small").join(name);
            fs::copy(from, self.path(name)).unwrap();
        }
    }
}

#[test]
fn integration_wrong_configurations() {
    let broken = Broken::new();
    let check = |code: i32, arguments: &[&str]| {
        let said = broken.says(xstitch(&broken.project).args(arguments), code);
        broken.mend();
        said
    };
    fs::remove_file(broken.path("images.toml")).unwrap();
    insta::assert_snapshot!("missing", check(2, &[]));
    fs::write(broken.path("images.toml"), "[image.x").unwrap();
    insta::assert_snapshot!("not_toml", check(2, &[]));
    broken.edit("images.toml", "platforms", "platfroms");
    insta::assert_snapshot!("unknown_key", check(2, &[]));
    broken.edit("images.toml", "[\"linux/amd64\", \"linux/arm64\"]", "\"linux/amd64\"");
    insta::assert_snapshot!("wrong_type", check(2, &[]));
    broken.add("[image.hello]\nfrom = \"scratch\"\n");
    insta::assert_snapshot!("two_of_one_name", check(2, &[]));
    broken.add("[image.a]\nfrom = \"b\"\n[image.b]\nfrom = \"a\"\n");
    insta::assert_snapshot!("cycle", check(2, &[]));
    broken.edit("images.toml", "linux/arm64", "linux/arm46");
    insta::assert_snapshot!("unknown_platform", check(2, &[]));
    insta::assert_snapshot!("platform_not_there", check(2, &["--platform", "linux/s390x"]));
    insta::assert_snapshot!("image_not_there", check(2, &["nobody"]));
    broken.edit("images.toml", "\"0.1.0\"", "\"0.1+x\"");
    insta::assert_snapshot!("version_no_tag", check(2, &[]));
    broken.edit("images.toml", "from = {", "from = { suite = \"sarge\",");
    let said = check(2, &[]);
    assert!(
        said.contains("there is no suite `sarge`: the configuration has no [suite.sarge]"),
        "{said}"
    );
}

#[test]
fn integration_missing_inputs() {
    let broken = Broken::new();
    let check = |arguments: &[&str]| {
        let said = broken.says(xstitch(&broken.project).args(arguments), 2);
        broken.mend();
        said
    };
    broken.edit("images.toml", "src/*.c", "none/*.c");
    insta::assert_snapshot!("source_folder", check(&[]));
    broken.edit("images.toml", "src/*.c", "src/*.cc");
    insta::assert_snapshot!("source_files", check(&[]));
    broken.add("files = [{ from = \"deploy/start.sh\", to = \"/start.sh\" }]\n");
    insta::assert_snapshot!("file", check(&[]));
    broken.edit("images.toml", "\"libc6\"", "\"libc6\", \"no-such-package\"");
    insta::assert_snapshot!("package", check(&[]));
    broken.edit(
        "images.toml",
        "\"src/*.c\"] }\n",
        "\"src/*.c\"] }\nlibraries = [\"x\"]\n[library.x]\npackages = [\"libno-such-dev\"]\n",
    );
    insta::assert_snapshot!("library", check(&[]));
    let rust = |package: &str, program: &str| {
        let recipe = format!("rust = {{ package = \"{package}\"{program} }}");
        broken.edit("images.toml", "c = { sources = [\"src/*.c\"] }", &recipe);
    };
    rust("hello", "");
    insta::assert_snapshot!("no_workspace", check(&[]));
    let manifest = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    fs::write(broken.path("Cargo.toml"), manifest).unwrap();
    fs::write(broken.path("src/main.rs"), "fn main() {}\n").unwrap();
    let lock = "version = 4\n\n[[package]]\nname = \"hello\"\nversion = \"0.1.0\"\n";
    fs::write(broken.path("Cargo.lock"), lock).unwrap();
    rust("helo", "");
    insta::assert_snapshot!("rust_package", check(&[]));
    rust("hello", ", binary = \"hullo\"");
    insta::assert_snapshot!("binary_target", check(&[]));
    broken.edit("images.toml", "\"libc6\"", "\"libc6\", \"zlib1g\"");
    insta::assert_snapshot!("not_locked", check(&["--locked"]));
}

#[test]
fn integration_compile_errors_are_whole() {
    let broken = Broken::new();
    broken.add("[binary.other]\nc = { sources = [\"other/*.c\"] }\n");
    broken.add("[image.other]\nfrom = \"scratch\"\nbinaries = [\"other\"]\n");
    fs::create_dir(broken.path("other")).unwrap();
    fs::write(broken.path("other/main.c"), "int main(void) { return 7; }\n").unwrap();
    fs::write(broken.path("src/hello.c"), "int main(void) { return x; }\n").unwrap();
    let mut command = xstitch(&broken.project);
    let said = broken.says(command.args(["--platform", "linux/arm64", "--keep-going"]), 1);
    insta::assert_snapshot!("compile_error", said);
    // What does not need the broken unit was finished.
    let plan = xstitch(&broken.project)
        .args(["plan", "--platform", "linux/arm64", "--format", "json"])
        .output()
        .unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let state = |name: &str| {
        let units = plan["units"].as_array().unwrap();
        units.iter().find(|unit| unit["unit"] == name).unwrap()["state"].clone()
    };
    assert_eq!(state("binary hello linux/arm64"), "will-run");
    assert_eq!(state("layer binary hello linux/arm64"), "may-run");
    assert_eq!(state("index other"), "cached");
    // The same as data.
    let output = xstitch(&broken.project).args(["--format", "json"]).output().unwrap();
    broken.check(&output, 1);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["exit_code"], 1);
    let failure = &report["failures"][0];
    assert!(failure["unit"].as_str().unwrap().starts_with("binary hello linux/"), "{report}");
    assert!(failure["message"].as_str().unwrap().contains("'x'"), "{report}");
    broken.mend();
    fs::remove_dir_all(broken.path("other")).unwrap();
    assert_eq!(build(&mut xstitch(&broken.project), &broken.project), broken.good);
}

#[test]
fn integration_a_file_for_another_machine_is_refused() {
    let broken = Broken::new();
    // Compiled for one platform, shipped as a file to both.
    let layer = |platform: &str| {
        let mut command = xstitch(&broken.project);
        command.args(["--platform", platform, "--keep-going"]);
        command
    };
    let program = broken.path("program");
    fs::copy(env!("CARGO_BIN_EXE_xstitch"), &program).unwrap();
    broken.add("files = [{ from = \"program\", to = \"/opt/program\" }]\n");
    let (other, platform) = match std::env::consts::ARCH {
        "x86_64" => ("linux/arm64", "64-bit x86-64, linux/arm64 needs 64-bit AArch64"),
        _ => ("linux/amd64", "64-bit AArch64, linux/amd64 needs 64-bit x86-64"),
    };
    let said = broken.says(&mut layer(other), 1);
    assert!(said.starts_with(&format!("error: check hello {other} failed: image hello")), "{said}");
    let finding = format!("/opt/program in layer `files` is {platform} [elf-wrong-machine]");
    assert!(said.contains(&finding), "{said}");
    broken.mend();
    fs::remove_file(program).unwrap();
    assert_eq!(build(&mut xstitch(&broken.project), &broken.project), broken.good);
}

#[test]
fn integration_a_package_with_a_wrong_hash_is_refused() {
    let broken = Broken::new();
    let lock = fs::read_to_string(broken.path("images.lock")).unwrap();
    let line = lock.lines().find(|line| line.contains("\"base-files ")).unwrap();
    let hash = line.split(' ').rev().nth(1).unwrap();
    fs::write(broken.path("images.lock"), lock.replace(hash, &"5".repeat(64))).unwrap();
    let said = broken.says(&mut xstitch(&broken.project), 1);
    assert!(
        said.contains("root hello packages linux/") && said.contains("failed: base-files:"),
        "{said}"
    );
    assert!(said.contains(&format!("has the hash sha256:{hash}, images.lock pins sha256:5555")));
    assert!(said.contains("help: the file was damaged on its way, images.lock was edited"));
    fs::write(broken.path("images.lock"), lock).unwrap();
    assert_eq!(build(&mut xstitch(&broken.project), &broken.project), broken.good);
}

/// A command in namespaces of its own: `setup` is shell text that runs before it, as root.
fn isolated(flags: &str, setup: &str, command: &Command) -> Command {
    let mut isolated = Command::new("unshare");
    isolated.args(["--map-root-user", flags, "sh", "-euc", &format!("{setup}\nexec \"$@\""), "sh"]);
    isolated.arg(command.get_program()).args(command.get_args());
    isolated
}

#[test]
fn integration_without_a_network() {
    let broken = Broken::new();
    let empty = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], code: i32| {
        let mut command = isolated("--net", "", xstitch(&broken.project).args(arguments));
        let said = broken.says(command.env("XSTITCH_CACHE", empty.path()), code);
        said.replace(&empty.path().display().to_string(), "CACHE")
    };
    // What is pinned cannot be fetched; what is not pinned cannot be chosen.
    let said = run(&[], 3);
    assert!(said.contains(" failed: apt could not download the package lists for "), "{said}");
    assert!(said.contains("help: check the network, proxies and the mirrors"), "{said}");
    insta::assert_snapshot!("offline_fetch", first_failure(&run(&["--offline"], 1)));
    fs::rename(broken.path("images.lock"), broken.path("kept.lock")).unwrap();
    let said = run(&[], 3);
    assert!(said.starts_with("error: linux/amd64: apt could not download the package"), "{said}");
    insta::assert_snapshot!("offline_choice", run(&["--offline"], 2));
    assert!(!broken.path("images.lock").exists(), "nothing was learned, nothing is pinned");
    fs::rename(broken.path("kept.lock"), broken.path("images.lock")).unwrap();
    // With everything in the cache, no network is needed.
    let output = isolated("--net", "", xstitch(&broken.project).arg("--offline")).output().unwrap();
    broken.check(&output, 0);
}

/// The first of several failures, whose order depends on the schedule; packages by number.
fn first_failure(said: &str) -> String {
    let mut failures: Vec<&str> = said.trim_start_matches("error: ").split("\n\n").collect();
    failures.sort_unstable();
    let words = failures[0].split_inclusive(' ');
    words.map(|word| if word.trim().parse::<u32>().is_ok() { "N " } else { word }).collect()
}

#[test]
fn integration_a_full_disk() {
    let broken = Broken::new();
    let disk = tempfile::tempdir().unwrap();
    let mount =
        |size: &str| format!("mount -t tmpfs -o size={size} tmpfs '{}'", disk.path().display());
    // The cache is on it.
    let mut command = isolated("--mount", &mount("4m"), &xstitch(&broken.project));
    let said = broken.says(command.env("XSTITCH_CACHE", disk.path()), 1);
    assert!(said.to_lowercase().contains("no space left on device"), "{said}");
    assert!(said.contains("help: free some space, or move the cache with XSTITCH_CACHE"), "{said}");
    // The output is on it.
    let output = disk.path().join("images");
    let mut command =
        isolated("--mount", &mount("1m"), xstitch(&broken.project).arg("--output").arg(output));
    let said = broken.says(&mut command, 1);
    assert!(said.starts_with("error: cannot write "), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(build(&mut xstitch(&broken.project), &broken.project), broken.good);
}

#[test]
fn integration_a_read_only_cache() {
    let broken = Broken::new();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    let setup = format!("mount --bind '{place}' '{place}'\nmount -o remount,bind,ro '{place}'");
    let mut command = isolated("--mount", &setup, &xstitch(&broken.project));
    let said = broken.says(command.env("XSTITCH_CACHE", folder.path()), 1);
    insta::assert_snapshot!("read_only_cache", said.replace(&place, "CACHE"));
}

#[test]
fn integration_an_interrupt_ends_everything() {
    let broken = Broken::new();
    let marker = format!("MARKER_{}", std::process::id());
    let slow = "constexpr long sum(long n) { long s = 0; for (long i = 0; i < n; i++) s += i; return s; }\n\
                static_assert(sum(2000000000) > 0);\nint main() {}\n";
    fs::create_dir(broken.path("slow")).unwrap();
    fs::write(broken.path("slow/main.cc"), slow).unwrap();
    broken.add(&format!(
        "[binary.slow]\ncxx = {{ sources = [\"slow/*.cc\"], flags = [\"-fconstexpr-steps=2147483647\", \"-D{marker}\"] }}\n\
         [image.slow]\nfrom = \"scratch\"\nbinaries = [\"slow\"]\n"
    ));
    let running = || processes(&marker).len();
    let mut child = xstitch(&broken.project)
        .args(["slow", "--quiet"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let started = (0..1200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        running() > 0
    });
    assert!(started, "the compiler did not start");
    let id = child.id();
    let kill = Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait().map(|status| status.code()).unwrap();
    assert_eq!(output, Some(130));
    assert_eq!(running(), 0, "a compiler was left behind");
    let scratch = fs::read_dir(cache().join("v1/scratch")).unwrap().flatten();
    let left: Vec<_> = scratch
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&format!("{id}-")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    broken.mend();
    assert_eq!(build(&mut xstitch(&broken.project), &broken.project), broken.good);
}

/// Processes that have `word` in their command line.
fn processes(word: &str) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has = |path: &Path| {
        fs::read(path.join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    };
    all.filter(|path| has(path)).collect()
}
