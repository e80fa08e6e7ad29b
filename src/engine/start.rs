//! What a run waits for and finds out before it reads anything: locks and the sandbox.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use super::report::BuildError;
use crate::machine::environment::user_id;
use crate::machine::sandbox::{self, Tier};
use crate::model::Digest;
use crate::model::event::Event;
use crate::store::{Stopped, Store, lock_file};

/// Says once what is waited for, and waits until the user does not want to any more.
fn waits<'a>(
    text: &'a str,
    events: &'a Sender<Event>,
    interrupted: &'a AtomicBool,
) -> impl FnMut() -> bool + 'a {
    let mut told = false;
    move || {
        if !std::mem::replace(&mut told, true) {
            let _ = events.send(Event::Note { text: text.to_owned() });
        }
        !interrupted.load(Ordering::Relaxed)
    }
}

impl From<Stopped> for BuildError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Unwanted => Self::Interrupted,
            Stopped::Failed(error) => Self::Store(error),
        }
    }
}

/// Waits, visibly, until no other process builds this project. The lock dies with its
/// process.
pub(super) fn lock_project(
    state: &Path,
    events: &Sender<Event>,
    interrupted: &AtomicBool,
) -> Result<fs::File, BuildError> {
    let text = "waiting for another build of this project";
    Ok(lock_file(&state.join("lock"), false, &mut waits(text, events, interrupted))?)
}

/// Keeps others from removing what is in the store; waits, visibly, while somebody does.
pub(super) fn hold(
    store: &Store,
    events: &Sender<Event>,
    interrupted: &AtomicBool,
) -> Result<fs::File, BuildError> {
    let text = "waiting for `xstitch cache gc` to end";
    Ok(store.hold(&mut waits(text, events, interrupted))?)
}

/// Keeps everybody else from using the store; waits, visibly, while builds do.
pub(super) fn hold_alone(
    store: &Store,
    events: &Sender<Event>,
    interrupted: &AtomicBool,
) -> Result<fs::File, BuildError> {
    let text = "waiting for builds that use the cache to end";
    Ok(store.hold_alone(&mut waits(text, events, interrupted))?)
}

/// The tier asked for, or the best that the machine can do. What was found out is
/// remembered until the machine is started again.
pub(super) fn tier(
    asked: Option<Tier>,
    store: &Store,
    events: &Sender<Event>,
) -> Result<Tier, BuildError> {
    if let Some(tier) = asked {
        return Ok(tier);
    }
    let user = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let key = Digest::of(format!("{}{user}{}", store.boot(), user_id()).as_bytes());
    let memory = store.state("tier").join(key.hex());
    let known = fs::read_to_string(&memory).unwrap_or_default();
    let (name, reason) = known.split_once('\n').unwrap_or_default();
    let (tier, reason) = match Tier::parse(name) {
        Some(tier) => (tier, reason.to_owned()),
        None => {
            let scratch = store.scratch()?;
            let (tier, reason) = sandbox::detect(scratch.path());
            let reason = reason.unwrap_or_default();
            let text = format!("{}\n{reason}", tier.name());
            crate::store::write_atomically(&memory, text.as_bytes())?;
            (tier, reason)
        }
    };
    if !reason.is_empty() {
        let text = format!(
            "compilers run in the sandbox tier `{}`, no better one works here: {reason}",
            tier.name()
        );
        let _ = events.send(Event::Warning { text });
    }
    Ok(tier)
}
