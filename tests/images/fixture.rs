//! What the tests share: projects copied to folders of their own, the program, servers.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::tools::tool;

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

/// Gives a copied project other platforms.
pub fn set_platforms(project: &Path, platforms: &[&str]) {
    let file = project.join("images.toml");
    let text = fs::read_to_string(&file).unwrap();
    let line = text.lines().find(|line| line.starts_with("platforms = ")).unwrap();
    fs::write(&file, text.replace(line, &format!("platforms = {platforms:?}"))).unwrap();
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

/// A process that is ended when the test is.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A registry on the loopback interface, and its `host:port`.
pub fn registry(folder: &Path) -> (Server, String) {
    let port = free_port();
    let (config, storage) = (folder.join("registry.yml"), folder.join("registry"));
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: 127.0.0.1:{port}}}\n",
        storage.display()
    );
    fs::write(&config, text).unwrap();
    let mut server = tool("docker-registry");
    server.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(server.spawn().unwrap());
    let up = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    assert!(up, "the registry does not start");
    (server, format!("127.0.0.1:{port}"))
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Copies an image of a layout to a registry, every platform.
pub fn publish(layout: &Path, name: &str, registry: &str) {
    let mut skopeo = tool("skopeo");
    skopeo.args(["copy", "--all", "--dest-tls-verify=false"]);
    skopeo.arg(format!("oci:{}:{name}", layout.display()));
    succeed(skopeo.arg(format!("docker://{registry}/{name}")));
}

/// Runs to a successful end.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    output
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
