//! The engine: the one room that runs things.
//!
//! It takes a plan, looks up what is there, runs the rest in parallel and leaves results
//! in the store. Deliberately absent: deciding what to build, and the screen.

mod additions;
mod base_archives;
mod base_content;
mod bases;
pub mod build;
pub mod cache;
mod compiler_cache;
mod compiler_state;
mod crate_locks;
pub mod environment;
mod estimate;
mod execute;
pub mod explain;
mod fetch;
mod fetch_crate;
mod fetch_git;
mod fetch_source;
mod files;
mod files_found;
mod finish;
mod floor;
pub mod history;
mod imports;
mod library;
mod library_lock;
mod log;
mod natives;
pub mod observe;
mod own_settings;
mod pack;
mod pass;
mod pins;
pub mod probe_report;
mod programs;
pub mod remote;
pub mod report;
pub mod resolve;
mod roots;
mod rust_sources;
mod schedule;
mod secrets;
pub mod since;
pub mod snapshot;
mod sources;
mod start;
mod suites;
mod toolchains;
mod undeclared;
pub mod vendor;
mod walk;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use crate::machine::environment::Environment;
use crate::machine::process::JobTokens;
use crate::machine::sandbox::Tier;
use crate::model::Digest;
use crate::model::event::Event;
use crate::registry::sessions::Sessions;
use crate::source::archives::Archives;
use crate::store::{Found, Store};

pub use fetch_crate::crate_checksum;
pub use schedule::{Failure, Outcome};

/// What the engine works with during one run.
pub struct Engine {
    /// Where results are.
    pub store: Store,
    /// The machine's environment as it was at the start.
    pub environment: Environment,
    /// How children are isolated.
    pub tier: Tier,
    /// Cores that all tools together may use.
    pub jobs: usize,
    /// Tokens for the cores; a make jobserver.
    pub tokens: JobTokens,
    /// Whether independent units go on after a failure.
    pub keep_going: bool,
    /// Whether the network may be used.
    pub offline: bool,
    /// Package archives.
    pub archives: Archives,
    /// Where events go.
    pub events: Sender<Event>,
    /// Set by the first interrupt.
    pub interrupted: Arc<AtomicBool>,
    /// Name of the folder of compiler state, unique to the project.
    pub project_state: PathBuf,
    /// Sources by name, copied before their first use.
    pub snapshots: snapshot::Snapshots,
    /// Only one unit at a time asks the network for packages.
    pub network: Mutex<()>,
    /// Folder that keeps what the lock pins, where there is one.
    pub vendor: Option<PathBuf>,
    /// Archives of bases that are open.
    pub base_archives: base_archives::BaseArchives,
    /// What registries told.
    pub registries: Sessions,
    /// The cache that machines share, if one is used.
    pub remote: Option<remote::Remote>,
    /// The user's compiler cache, where it is to be used.
    pub compiler_cache: Option<compiler_cache::CompilerCache>,
    /// cargo of the machine, which collects crates.
    pub cargo: Option<PathBuf>,
    /// Folder of the configuration.
    pub project: PathBuf,
}

impl Engine {
    /// Tells what happened. A screen that is gone is no reason to stop.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// A blob of the store, whole. One that is damaged is told, removed, and not there.
    pub fn blob(&self, digest: &Digest) -> Option<PathBuf> {
        match self.store.blob(digest) {
            Found::Whole(path) => Some(path),
            Found::Nothing => None,
            Found::Damaged(path) => {
                let text = format!(
                    "{} is damaged: it is not what its name says; it was removed and is fetched \
                     again",
                    path.display()
                );
                self.tell(Event::Warning { text });
                None
            }
        }
    }

    /// Whether the user asked to stop.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
