//! What the tests share: projects copied to folders of their own, the program, servers.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::tools::{self, tool};

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

/// An emulator for arm64 programs, registered with the kernel while this lives.
/// It is the whole machine's, so there is one at a time.
pub struct Handler {
    own: bool,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

impl Handler {
    pub fn register() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Path::new(HANDLERS);
        if !place.join("register").exists() {
            let mounted =
                Command::new("mount").args(["-t", "binfmt_misc", "binfmt_misc", HANDLERS]).status();
            assert!(mounted.unwrap().success(), "no binfmt_misc");
        }
        let own = !place.join("qemu-aarch64").exists();
        if own {
            let magic = r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:";
            let text = format!("{magic}{}:F", tools::path("qemu-aarch64-static").display());
            fs::write(place.join("register"), text).unwrap();
        }
        assert!(place.join("qemu-aarch64").exists());
        Self { own, _alone: alone }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if self.own {
            let _ = fs::write(Path::new(HANDLERS).join("qemu-aarch64"), "-1");
        }
    }
}

/// Whether this is allowed to do what only root may.
pub fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}
