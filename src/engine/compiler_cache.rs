//! A compiler cache of the user's, sccache: its server compiles beside the sandboxes and keeps
//! what it likes, so that what it gives is fast and stays on this machine.
//!
//! It enters no key: with and without it, the same sources give the same bytes. The server
//! knows the machine's paths alone, which the namespaces of a sandbox hide: units that use it
//! run in the next tier.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Engine;
use crate::machine::environment::Environment;
use crate::machine::process::Process;
use crate::machine::sandbox::{self, Bind, Tier};
use crate::model::action::{ProcessAction, VIRTUAL_ROOT};
use crate::model::event::Event;

/// Longest path of a socket (unix(7)).
const SOCKET_PATH_AT_MOST: usize = 100;
/// Ends a server that nobody could stop.
const IDLE_SECS: &str = "900";
/// Tools that compile, by the ends of their names.
const COMPILERS: [&str; 5] = ["cc", "c++", "clang", "gcc", "g++"];

/// The user's sccache.
pub struct CompilerCache {
    program: PathBuf,
    environment: BTreeMap<String, String>,
    /// Where its server listens while this build runs.
    socket: PathBuf,
    scratch: PathBuf,
    /// The tier that its units run in, once the server was started.
    started: OnceLock<Option<Tier>>,
}

impl CompilerCache {
    /// The cache of the user. `None` with the reason, where there is none.
    pub fn find(environment: &Environment, folder: &Path) -> Result<Self, String> {
        let program = environment
            .find_program("sccache")
            .ok_or("`compiler-cache` is sccache, which is not on PATH: compilers run without it")?;
        let socket = folder.join("sccache.sock");
        if socket.as_os_str().len() > SOCKET_PATH_AT_MOST {
            let place = socket.display();
            return Err(format!("the path {place} is too long for a socket of sccache"));
        }
        let mut variables = environment.variables.clone();
        variables.insert("SCCACHE_SERVER_UDS".into(), socket.to_string_lossy().into_owned());
        variables.insert("SCCACHE_IDLE_TIMEOUT".into(), IDLE_SECS.into());
        let (environment, scratch) = (variables, folder.join("sccache-probe"));
        Ok(Self { program, environment, socket, scratch, started: OnceLock::new() })
    }

    /// The tier in which that action runs with the cache; `None` if it runs without.
    pub fn tier(&self, engine: &Engine, action: &ProcessAction) -> Option<Tier> {
        let compiles = ["llvm", "rust"].iter().any(|mount| action.mounts.contains_key(*mount));
        if !compiles {
            return None;
        }
        *self.started.get_or_init(|| {
            // Of a server that was killed.
            let _ = std::fs::remove_file(&self.socket);
            let output = self.call("--start-server");
            if let Some(why) = output.err() {
                let text = format!("sccache does not start: {why}; compilers run without it");
                engine.tell(Event::Warning { text });
                return None;
            }
            let works = |tier| sandbox::works(tier, &self.scratch);
            let tier = if engine.tier == Tier::None || !works(Tier::Landlock) {
                Tier::None
            } else {
                Tier::Landlock
            };
            let text = format!(
                "compilers run with sccache, in the sandbox tier `{}`; their results stay on this \
                 machine",
                tier.name()
            );
            engine.tell(Event::Note { text });
            Some(tier)
        })
    }

    fn call(&self, argument: &str) -> Result<(), String> {
        let mut process = Process::new(&self.program).arg(argument).merged();
        process.environment = self.environment.clone();
        let output = process.output().map_err(|error| error.to_string())?;
        if output.success() {
            return Ok(());
        }
        let text = output.text();
        Err(text.trim().lines().last().unwrap_or("it ended without a word").to_owned())
    }

    /// What a sandbox has to show.
    pub fn binds(&self) -> [Bind; 2] {
        let at = |name: &str| format!("{VIRTUAL_ROOT}/{name}");
        [
            Bind { source: self.program.clone(), at: at("sccache"), writable: false },
            Bind { source: self.socket.clone(), at: at("sccache.sock"), writable: true },
        ]
    }

    /// Adds what makes cargo use it.
    pub fn add_variables(&self, environment: &mut BTreeMap<String, String>) {
        let socket = self.socket.to_string_lossy().into_owned();
        environment.insert("SCCACHE_SERVER_UDS".into(), socket);
        if environment.contains_key("RUSTC") {
            let program = self.program.to_string_lossy().into_owned();
            environment.insert("RUSTC_WRAPPER".into(), program);
        }
    }

    /// The text of a tool, which asks the cache if it is a compiler.
    pub fn wrapped(&self, path: &str, text: String) -> String {
        let name = path.strip_prefix("bin/").unwrap_or_default();
        if !COMPILERS.iter().any(|compiler| name.ends_with(compiler)) {
            return text;
        }
        text.replace(" exec '", &format!(" exec '{}' '", self.program.display()))
    }
}

impl Drop for CompilerCache {
    fn drop(&mut self) {
        if matches!(self.started.get(), Some(Some(_))) {
            // One that stays ends by itself when nobody asks it any more.
            let _ = self.call("--stop-server");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_alone_are_wrapped() {
        let cache = CompilerCache {
            program: "/bin/sccache".into(),
            environment: BTreeMap::new(),
            socket: PathBuf::new(),
            scratch: PathBuf::new(),
            started: OnceLock::new(),
        };
        let script = "#!/bin/sh\nLD_LIBRARY_PATH='x' exec '/l/clang' \"$@\"\n";
        let wrapped = |path: &str| cache.wrapped(path, script.to_owned());
        let expected = "#!/bin/sh\nLD_LIBRARY_PATH='x' exec '/bin/sccache' '/l/clang' \"$@\"\n";
        assert_eq!(wrapped("bin/aarch64-linux-gnu-g++"), expected);
        assert_eq!(wrapped("bin/cc"), expected);
        for other in ["bin/ar", "bin/ld.lld", "bin/rustc", "cmake/toolchain.cmake"] {
            assert_eq!(wrapped(other), script, "{other}");
        }
    }
}
