//! One snapshot of the process environment, taken at the start; also the only clock.
//!
//! Nothing else reads variables, so what could change a result is seen in one place.

#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Variables and the working folder as they were when the program started.
#[derive(Clone, Debug)]
pub struct Environment {
    /// All variables that are valid Unicode.
    pub variables: BTreeMap<String, String>,
    /// The working folder.
    pub folder: PathBuf,
}

impl Environment {
    /// Takes the snapshot.
    pub fn snapshot() -> std::io::Result<Self> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { variables, folder: std::env::current_dir()? })
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The cache: `XSTITCH_CACHE`, else `xstitch` below `XDG_CACHE_HOME` or `~/.cache`.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        if let Some(folder) = self.get("XSTITCH_CACHE") {
            return Some(self.folder.join(folder));
        }
        let caches = match self.get("XDG_CACHE_HOME") {
            Some(folder) => PathBuf::from(folder),
            None => Path::new(self.get("HOME")?).join(".cache"),
        };
        Some(caches.join("xstitch"))
    }

    /// The program of that name on `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        which::which_in(name, self.get("PATH"), &self.folder).ok()
    }

    /// The variables of that names which are set, for a tool of the machine.
    pub fn pick(&self, names: &[&str]) -> BTreeMap<String, String> {
        names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.get(name)?.to_owned())))
            .collect()
    }

    /// Variables that a downloader of the machine may need: where its configuration is,
    /// proxies and trust stores. Credentials that it keeps in files are found by `HOME`.
    pub fn for_downloads(&self) -> BTreeMap<String, String> {
        self.variables
            .iter()
            .filter(|(name, _)| {
                let upper = name.to_uppercase();
                matches!(
                    upper.as_str(),
                    "PATH"
                        | "HOME"
                        | "TMPDIR"
                        | "APT_CONFIG"
                        | "SSL_CERT_FILE"
                        | "SSL_CERT_DIR"
                        | "RUSTUP_HOME"
                        | "RUSTUP_TOOLCHAIN"
                        | "NETRC"
                        // Where git and its helpers find settings, keys and agents.
                        | "XDG_CONFIG_HOME"
                        | "XDG_RUNTIME_DIR"
                        | "DBUS_SESSION_BUS_ADDRESS"
                        | "SSH_AUTH_SOCK"
                        | "GIT_ALLOW_PROTOCOL"
                        | "GIT_ASKPASS"
                        | "GIT_SSH"
                        | "GIT_SSH_COMMAND"
                        | "GIT_SSH_VARIANT"
                ) || upper.ends_with("_PROXY")
                    || [
                        "CARGO_HOME",
                        "CARGO_HTTP_",
                        "CARGO_NET_",
                        "CARGO_REGISTR",
                        "CARGO_SOURCE_",
                        "GIT_CONFIG_",
                        "GIT_HTTP_",
                        "GIT_SSL_",
                    ]
                    .iter()
                    .any(|prefix| upper.starts_with(prefix))
                    || matches!(
                        upper.as_str(),
                        "GOPROXY"
                            | "GOPRIVATE"
                            | "GONOPROXY"
                            | "GONOSUMDB"
                            | "GOSUMDB"
                            | "GOENV"
                            | "GOAUTH"
                            | "GOINSECURE"
                            | "GOVCS"
                    )
                    || upper.starts_with("PIP_")
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// Gives files that this process makes the modes that they have everywhere, whatever the
/// user's umask: some of them become members of layers.
pub fn settle_umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// Number of the user that this process runs as.
pub fn user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Bytes that nobody can guess, from the kernel.
pub fn random_bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut done = 0;
    while done < N {
        done += rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// What the kernel calls this start of the machine; empty where it does not tell.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Cores that this process may use.
pub fn available_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory that this process and what it starts may take now, in bytes: what the machine has
/// left, or its control group (`Documentation/admin-guide/cgroup-v2.rst`).
pub fn available_memory_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    });
    let group = || {
        let group = read("/proc/self/cgroup")?;
        let path = group.lines().find_map(|line| line.strip_prefix("0::"))?.trim().to_owned();
        let number =
            |name: &str| read(&format!("/sys/fs/cgroup{path}/{name}"))?.trim().parse::<u64>().ok();
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    };
    match (machine, group()) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// Nanoseconds since 1970.
pub fn now_nanos() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX))
}
