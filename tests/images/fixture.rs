//! What the tests share: projects copied to folders of their own, the program, servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A copy of a project in a folder of its own, without what building there left.
pub fn copy(project: &str, to: &Path) -> PathBuf {
    let place = to.join(Path::new(project).file_name().unwrap());
    let status = Command::new("cp").arg("-r").arg(repository().join(project)).arg(&place).status();
    assert!(status.unwrap().success());
    let _ = fs::remove_dir_all(place.join("target"));
    let _ = fs::remove_file(place.join("images.lock"));
    place
}

pub fn xstitch(project: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xstitch"));
    command.arg("--project").arg(project);
    command
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Builds and returns `index.json` of the layout.
pub fn build(command: &mut Command, project: &Path) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    fs::read_to_string(project.join("target/images/index.json")).unwrap()
}

/// Whether the tool is there; under `CI` it has to be.
pub fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
    let found = found.status.success();
    assert!(found || std::env::var_os("CI").is_none(), "CI has to install {tool}");
    if !found {
        eprintln!("SKIPPED: there is no {tool}");
    }
    found
}

/// A process that is ended when the test is.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `PATH` on which rustup can add no target, so that the distribution's Rust has to serve.
pub fn path_without_targets(folder: &Path) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let place = folder.join("rustup-without-targets");
    fs::create_dir_all(&place).unwrap();
    let rustup = place.join("rustup");
    fs::write(&rustup, "#!/bin/sh\necho 'error: no network' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&rustup, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", place.display(), std::env::var("PATH").unwrap())
}

/// The cache that the program uses.
pub fn cache() -> PathBuf {
    match std::env::var_os("XSTITCH_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/xstitch"),
    }
}
