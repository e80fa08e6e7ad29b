//! Sandbox tiers: how much of the machine a child process can see.
//!
//! The program starts itself twice: the first stage makes user, mount, process and
//! network namespaces and supervises the second, which is the first process in them, lays
//! out the folders and becomes the command. No stage forks a threaded process.
//! Deliberately absent: what is mounted, and why; that is the action's business.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::process::Process;
use super::seccomp::Filter;
use super::supervisor::{self, Supervisor};

/// First argument of the first stage.
pub const STAGE_ONE: &str = "__sandbox";
/// First argument of the second stage.
pub const STAGE_TWO: &str = "__sandbox-inner";

/// How much isolation a child process gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// User, mount, process and network namespaces: only declared inputs, constant paths,
    /// no emulator.
    Namespaces,
    /// Landlock: writes only where declared; paths are the machine's.
    Landlock,
    /// A clean environment, no network, and nothing else.
    None,
}

impl Tier {
    /// The tier of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "namespaces" => Some(Self::Namespaces),
            "landlock" => Some(Self::Landlock),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    /// The name that [`Tier::parse`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
            Self::None => "none",
        }
    }
}

/// One folder that a sandbox shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// Folder of the machine.
    pub source: PathBuf,
    /// Absolute path in the sandbox.
    pub at: String,
    /// Whether the command may write there.
    pub writable: bool,
}

/// Everything that the stages need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// Which stage-one work to do.
    pub tier: Tier,
    /// Unpacked userland whose `usr` becomes the sandbox's.
    pub userland: PathBuf,
    /// Empty folder of the machine on which the new root is mounted.
    pub root: PathBuf,
    /// What is shown.
    pub binds: Vec<Bind>,
    /// Whether the network stays reachable.
    pub network: bool,
    /// Working folder of the command.
    pub folder: String,
    /// The command line; its first word is an absolute path or found on the given `PATH`.
    pub command: Vec<String>,
    /// The whole environment of the command.
    pub environment: BTreeMap<String, String>,
    /// File, out of the command's reach, for what [`supervisor::read`] reads.
    pub attempts: Option<PathBuf>,
    /// Folder, as the command sees it: files that are looked for below and are not there are
    /// told with the attempts. That takes long.
    pub watch: Option<String>,
}

impl Sandbox {
    /// The process that runs the sandbox: this program, as its own first stage.
    /// `specification` is where the description is written for it.
    pub fn process(&self, specification: &Path) -> io::Result<Process> {
        fs::write(specification, serde_json::to_vec(self)?)?;
        if let Some(attempts) = &self.attempts {
            fs::write(attempts, "")?;
        }
        // Not the program's path: an update may replace the file while a build runs.
        let mut process = Process::new("/proc/self/exe");
        process.arguments =
            vec![STAGE_ONE.to_owned(), specification.to_string_lossy().into_owned()];
        process.environment = self.environment.clone();
        Ok(process)
    }
}

/// Runs a stage if the arguments ask for one; does not return then, unless it fails.
pub fn run_stage(arguments: &[String]) -> Option<io::Error> {
    let (stage, file, socket) = match arguments {
        [_, stage, file] if stage == STAGE_ONE => (stage, file, ""),
        [_, stage, file, socket] if stage == STAGE_TWO => (stage, file, socket.as_str()),
        _ => return None,
    };
    let work = || -> io::Result<std::convert::Infallible> {
        // Whatever ends the parent ends this, too: nothing is left that nobody waits for.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let sandbox: Sandbox = serde_json::from_slice(&fs::read(file)?)?;
        if stage == STAGE_ONE {
            return stage_one(&sandbox, file);
        }
        match sandbox.tier {
            Tier::Namespaces => lay_out(&sandbox)?,
            Tier::Landlock => restrict(&sandbox)?,
            Tier::None => {}
        }
        become_command(&sandbox, socket)
    };
    work().err()
}

fn context(what: impl std::fmt::Display) -> impl FnOnce(rustix::io::Errno) -> io::Error {
    move |errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("sandbox: {what}: {error}"))
    }
}

/// Waits for the second stage, which is in namespaces where the tier has them.
#[allow(clippy::disallowed_methods, reason = "the second stage is this same process")]
fn stage_one(sandbox: &Sandbox, file: &str) -> io::Result<std::convert::Infallible> {
    let supervisor = Supervisor::new(sandbox.attempts.as_deref(), sandbox.watch.clone())?;
    if sandbox.tier == Tier::Namespaces {
        unshare(sandbox.network)?;
    }
    let mut command = std::process::Command::new("/proc/self/exe");
    supervisor
        .run(command.args([STAGE_TWO, file]))
        .map_err(|error| io::Error::new(error.kind(), format!("sandbox: second stage: {error}")))
}

/// Makes the namespaces.
#[allow(unsafe_code, reason = "unshare can share too little, not too much, in one thread")]
fn unshare(network: bool) -> io::Result<()> {
    let user = rustix::process::getuid().as_raw();
    let group = rustix::process::getgid().as_raw();
    let mut flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    if !network {
        flags |= UnshareFlags::NEWNET;
    }
    // SAFETY: this process has one thread and shares no file table.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(context("new namespaces"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(context("private mounts"))
}

/// Lays out the root and makes it the root.
fn lay_out(sandbox: &Sandbox) -> io::Result<()> {
    let root = &sandbox.root;
    rustix::mount::mount("tmpfs", root, "tmpfs", MountFlags::NOSUID, Some(c"mode=755"))
        .map_err(context("root"))?;
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for folder in ["usr", "proc", "dev", "tmp", "etc", "xs", "root"] {
        fs::create_dir_all(inside(folder))?;
    }
    for entry in fs::read_dir(&sandbox.userland)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            let target = fs::read_link(entry.path())?;
            std::os::unix::fs::symlink(target, root.join(entry.file_name()))?;
        }
    }
    bind(&sandbox.userland.join("usr"), &inside("usr"), false)?;
    fs::write(inside("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(inside("etc/group"), "root:x:0:\n")?;
    for device in ["null", "zero", "full", "random", "urandom"] {
        let place = inside("dev").join(device);
        fs::write(&place, "")?;
        bind(&Path::new("/dev").join(device), &place, true)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, inside("dev").join(name))?;
    }
    let mut folders = sandbox.binds.clone();
    folders.sort_by(|a, b| a.at.cmp(&b.at));
    for folder in &folders {
        let place = inside(&folder.at);
        if folder.source.is_dir() {
            fs::create_dir_all(&place)?;
        } else {
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&place, "")?;
        }
        bind(&folder.source, &place, folder.writable)?;
    }
    mount_proc(&inside("proc"))?;
    rustix::process::chdir(root)?;
    rustix::process::pivot_root(".", ".").map_err(context("new root"))?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)
        .map_err(context("old root"))?;
    rustix::process::chdir("/")?;
    rustix::system::sethostname(b"xstitch").map_err(context("host name"))
}

fn bind(source: &Path, place: &Path, writable: bool) -> io::Result<()> {
    rustix::mount::mount_bind_recursive(source, place)
        .map_err(context(format_args!("show {}", source.display())))?;
    if !writable {
        // A remount may not drop what the machine's own mount is locked to.
        let base = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
        let attempts = [
            base,
            base | MountFlags::NODEV,
            base | MountFlags::NODEV | MountFlags::NOEXEC,
            base | MountFlags::NODEV | MountFlags::RELATIME,
            base | MountFlags::NODEV | MountFlags::NOATIME,
        ];
        let done =
            attempts.iter().any(|&flags| rustix::mount::mount_remount(place, flags, "").is_ok());
        if !done {
            return Err(io::Error::other(format!(
                "sandbox: cannot make {} read-only",
                source.display()
            )));
        }
    }
    Ok(())
}

/// A process file system of the namespace's own where the machine allows one, with no
/// emulator registered in it.
fn mount_proc(place: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if rustix::mount::mount("proc", place, "proc", flags, None).is_err() {
        rustix::mount::mount_bind_recursive("/proc", place).map_err(context("/proc"))?;
    }
    // Kernels before 6.7 have one table of handlers for all; there the mount fails, and only
    // the supervisor keeps foreign programs from an emulator that somebody registered.
    let table = place.join("sys/fs/binfmt_misc");
    let _ = rustix::mount::mount("binfmt_misc", &table, "binfmt_misc", flags, None);
    Ok(())
}

/// Lets the process write only where the sandbox says, and read everything.
fn restrict(sandbox: &Sandbox) -> io::Result<()> {
    use landlock::{
        ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
        RulesetAttr as _, RulesetCreatedAttr as _,
    };
    let error = |error: &dyn std::error::Error| io::Error::other(format!("landlock: {error}"));
    // The first version that lets files move between folders, which rustc does; with less,
    // nothing compiles.
    let abi = ABI::V2;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(|e| error(&e))?
        .create()
        .map_err(|e| error(&e))?;
    let readable = ["/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/sys"];
    let devices = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
    let machine = readable
        .iter()
        .map(|path| (PathBuf::from(path), false))
        .chain(devices.iter().map(|path| (PathBuf::from(path), true)))
        .filter(|(path, _)| path.exists());
    let declared = sandbox.binds.iter().map(|bind| (bind.source.clone(), bind.writable));
    let userland = std::iter::once((sandbox.userland.clone(), false));
    for (path, writable) in machine.chain(userland).chain(declared) {
        let access = if writable { AccessFs::from_all(abi) } else { AccessFs::from_read(abi) };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
        let fd = PathFd::new(&path).map_err(|e| error(&e))?;
        rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(|e| error(&e))?;
    }
    rules.restrict_self().map_err(|e| error(&e))?;
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "replaces this process, spawns none")]
fn become_command(sandbox: &Sandbox, socket: &str) -> io::Result<std::convert::Infallible> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let [program, arguments @ ..] = sandbox.command.as_slice() else {
        return Err(io::Error::other("sandbox: no command"));
    };
    let program = if program.contains('/') {
        PathBuf::from(program)
    } else {
        let paths = sandbox.environment.get("PATH").map_or("", String::as_str);
        paths
            .split(':')
            .map(|path| Path::new(path).join(program))
            .find(|path| path.is_file())
            .ok_or_else(|| io::Error::other(format!("sandbox: `{program}` is not on its PATH")))?
    };
    // A namespace without a network has sockets that reach nobody.
    let network = sandbox.network || sandbox.tier == Tier::Namespaces;
    let filter = Filter { network, looks: sandbox.watch.is_some() };
    supervisor::answer_to(socket, filter)?;
    let error = std::process::Command::new(&program)
        .args(arguments)
        .env_clear()
        .envs(&sandbox.environment)
        .current_dir(&sandbox.folder)
        .exec();
    Err(io::Error::new(error.kind(), format!("sandbox: start {}: {error}", program.display())))
}

/// The best tier that this machine can do, and why it can do no better one.
pub fn detect(scratch: &Path) -> (Tier, Option<String>) {
    let mut reasons = Vec::new();
    for tier in [Tier::Namespaces, Tier::Landlock] {
        match probe(tier, scratch) {
            Ok(None) => return (tier, (!reasons.is_empty()).then(|| reasons.join("; "))),
            Ok(Some(reason)) => reasons.push(reason),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    (Tier::None, Some(reasons.join("; ")))
}

/// Whether that tier works here.
pub fn works(tier: Tier, scratch: &Path) -> bool {
    matches!(probe(tier, scratch), Ok(None))
}

/// Why a tier does not work here, if it does not.
fn probe(tier: Tier, scratch: &Path) -> io::Result<Option<String>> {
    // A program that does not exist: once the stages get as far as starting it, they work.
    const NOTHING: &str = "/xs/none";
    let sandbox = Sandbox {
        tier,
        userland: scratch.join("userland"),
        root: scratch.join("root"),
        binds: Vec::new(),
        network: false,
        folder: "/".into(),
        command: vec![NOTHING.into()],
        environment: BTreeMap::new(),
        attempts: None,
        watch: None,
    };
    fs::create_dir_all(sandbox.userland.join("usr"))?;
    fs::create_dir_all(&sandbox.root)?;
    let process = sandbox.process(&scratch.join("probe.json"))?;
    let output = process.output().map_err(io::Error::other)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((!text.contains(&format!("start {NOTHING}"))).then(|| text.trim().to_owned()))
}
