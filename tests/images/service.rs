//! Images that run: unpacked into a root, entered as the image's user with the image's
//! environment, natively or by an emulator inside the root.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{free_port, succeed};
use crate::tools::{self, tool};

/// Emulation on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file system of an image, and how the image wants to be run.
pub struct Root {
    pub folder: PathBuf,
    pub config: Value,
    emulator: Option<String>,
}

impl Root {
    /// Unpacks one platform (`linux/arm/v7`) of an image of a registry into a folder of its
    /// own below `place`. Where the platform needs an `emulator`, it is copied in.
    pub fn unpack(source: &str, platform: &str, emulator: Option<&str>, place: &Path) -> Self {
        let slug =
            format!("{}-{}", source.rsplit('/').next().unwrap(), platform).replace([':', '/'], "-");
        let layout = place.join(format!("{slug}-layout"));
        let mut parts = platform.split('/').skip(1);
        let mut skopeo = tool("skopeo");
        skopeo.args(["--override-os", "linux", "--override-arch", parts.next().unwrap()]);
        if let Some(variant) = parts.next() {
            skopeo.args(["--override-variant", variant]);
        }
        skopeo.args(["copy", "--src-tls-verify=false", source]);
        succeed(skopeo.arg(format!("oci:{}:x", layout.display())));
        let config = succeed(
            tool("skopeo").args(["inspect", "--config"]).arg(format!("oci:{}:x", layout.display())),
        );
        let folder = place.join(&slug);
        let mut umoci = tool("umoci");
        umoci.args(["raw", "unpack", "--rootless", "--image"]);
        succeed(umoci.arg(format!("{}:x", layout.display())).arg(&folder));
        if let Some(emulator) = emulator {
            fs::copy(tools::path(emulator), folder.join(emulator)).unwrap();
        }
        let config = serde_json::from_slice(&config.stdout).unwrap();
        Self { folder, config, emulator: emulator.map(str::to_owned) }
    }

    /// The image's entry point.
    pub fn entrypoint(&self) -> &str {
        self.config["config"]["Entrypoint"][0].as_str().unwrap()
    }

    /// Whether the kernel cannot run the image's programs.
    pub fn is_emulated(&self) -> bool {
        self.emulator.is_some()
    }

    /// A command inside the root, with the image's user and environment and no other.
    pub fn command(&self, program: &str) -> Command {
        let run = &self.config["config"];
        let user = run["User"].as_str().unwrap_or("0:0");
        let mut command = if rustix::process::getuid().is_root() {
            let mut command = Command::new("chroot");
            command.args(["--groups=", "--userspec", user]).arg(&self.folder);
            command
        } else {
            let (user, group) = user.split_once(':').unwrap();
            let mut command = Command::new("unshare");
            command.arg(format!("--map-user={user}")).arg(format!("--map-group={group}"));
            command.arg("--root").arg(&self.folder).arg("--wd=/");
            command
        };
        command.args(self.emulator.iter().map(|emulator| format!("/{emulator}"))).arg(program);
        command.env_clear();
        for variable in run["Env"].as_array().unwrap() {
            let (name, value) = variable.as_str().unwrap().split_once('=').unwrap();
            command.env(name, value);
        }
        command
    }
}

/// A service that runs until it is stopped, or dropped.
pub struct Service {
    child: Child,
    log: PathBuf,
    pub port: u16,
}

impl Service {
    /// Starts `command` on a free port of the loopback interface, and waits for `/health`.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let port = free_port();
        command.env("PORT", port.to_string()).env("AGENCY_ADDRESS", "127.0.0.1");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut service = Self { child, log, port };
        let started = Instant::now();
        while !matches!(service.request("GET", "/health", ""), Some((200, _))) {
            let ended = service.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < PATIENCE,
                "{command:?} ({ended:?}) does not serve: {}",
                fs::read_to_string(&service.log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        service
    }

    /// Status and body of the answer; `None` if there is none.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The answer's body, which has to have that status.
    pub fn expect(&self, status: u16, method: &str, path: &str, body: &str) -> String {
        let (found, answer) = self.request(method, path, body).unwrap();
        assert_eq!(found, status, "{method} {path}: {answer}");
        answer
    }

    /// The same, as JSON.
    pub fn json(&self, status: u16, method: &str, path: &str, body: &str) -> Value {
        serde_json::from_str(&self.expect(status, method, path, body)).unwrap()
    }

    /// Sends SIGTERM and returns how it ended, with every line that it logged as JSON.
    pub fn terminate(mut self) -> (ExitStatus, Vec<Value>) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "a service ignores SIGTERM");
            std::thread::sleep(Duration::from_millis(20));
        };
        let log = fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in log line {line}"))
        });
        (status, lines.collect())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
