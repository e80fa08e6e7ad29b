//! The only spawner of processes. Each child leads a process group of its own, known
//! here, so that an interrupt can end every child and all that it started.

#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Tokens for the machine's cores, shared with children that speak the make jobserver's
/// protocol.
pub use jobserver::Client as JobTokens;

/// Process groups that run now, and whether more may start.
static RUNNING: Mutex<Running> = Mutex::new(Running { groups: BTreeSet::new(), stopped: false });

struct Running {
    groups: BTreeSet<u32>,
    stopped: bool,
}

/// A child process, complete: it inherits nothing.
#[derive(Clone, Debug)]
pub struct Process {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its working folder, if not this process's own.
    pub folder: Option<PathBuf>,
    /// Whether standard error comes among standard output, in the order of writing.
    pub merged: bool,
}

/// What a process left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output and then standard error, as text.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&self.stderr));
        text
    }

    /// How it ended, for people.
    pub fn ending(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown end".to_owned(),
        }
    }
}

/// A process that could not be started or waited for.
#[derive(Debug)]
pub struct ProcessError {
    program: PathBuf,
    source: io::Error,
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot run {}: {}", self.program.display(), self.source)
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Process {
    /// A process without arguments or environment.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            merged: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Keeps standard error among standard output.
    #[must_use]
    pub fn merged(mut self) -> Self {
        self.merged = true;
        self
    }

    /// Runs it to its end, without standard input.
    pub fn output(&self) -> Result<Output, ProcessError> {
        self.run(None)
    }

    /// Like [`Process::output`], as a client of the jobserver.
    pub fn output_with_jobs(&self, tokens: &JobTokens) -> Result<Output, ProcessError> {
        self.run(Some(tokens))
    }

    /// Becomes that process, which keeps standard input and outputs. Returns only if it
    /// cannot be started.
    pub fn replace(&self) -> ProcessError {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(&self.environment);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        ProcessError { program: self.program.clone(), source: command.exec() }
    }

    fn run(&self, tokens: Option<&JobTokens>) -> Result<Output, ProcessError> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if let Some(tokens) = tokens {
            tokens.configure_make(&mut command);
        }
        let failed = |source| ProcessError { program: self.program.clone(), source };
        let mut both = None;
        if self.merged {
            let (reader, writer) = io::pipe().map_err(failed)?;
            command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
            both = Some(reader);
        }
        let mut children = running();
        if children.stopped {
            return Err(failed(io::Error::new(io::ErrorKind::Interrupted, "interrupted")));
        }
        let mut child = command.spawn().map_err(failed)?;
        let group = child.id();
        children.groups.insert(group);
        drop(children);
        // The ends that the child writes to are open in here, too.
        drop(command);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = if let Some(mut both) = both {
            both.read_to_end(&mut out)
        } else {
            let mut stdout = child.stdout.take().expect("standard output is piped");
            let mut stderr = child.stderr.take().expect("standard error is piped");
            std::thread::scope(|scope| {
                let other = scope.spawn(|| stderr.read_to_end(&mut err));
                let read = stdout.read_to_end(&mut out);
                read.and(
                    other.join().unwrap_or_else(|_| Err(io::Error::other("reader thread ended"))),
                )
            })
        };
        let status = child.wait();
        running().groups.remove(&group);
        read.map_err(failed)?;
        let status = status.map_err(failed)?;
        Ok(Output { code: status.code(), signal: status.signal(), stdout: out, stderr: err })
    }
}

/// Variables that make a process a client of the jobserver, under the names that make and
/// cargo look for.
pub fn jobserver_variables(tokens: &JobTokens) -> BTreeMap<String, String> {
    let mut command = Command::new("true");
    tokens.configure(&mut command);
    tokens.configure_make(&mut command);
    command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .collect()
}

/// Ends every child and all that it started; none starts from now on.
pub fn stop() {
    let mut children = running();
    children.stopped = true;
    for &group in &children.groups {
        if let Some(group) = i32::try_from(group).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

fn running() -> std::sync::MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
