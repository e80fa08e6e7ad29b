//! What compilers keep of earlier builds, and how far it is trusted.
//!
//! A stamp beside it says at which start of the machine it was written. That of another start
//! may be half written, which no compiler would notice: it is removed, unless it was waited for
//! until it was on the disk. The stamp also says whether all of it came from the inputs of one
//! build: only a result of such clean state leaves this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::execute::text;
use crate::machine::disk;
use crate::store::{write_atomically, write_durably};

const STAMP: &str = "stamp.json";

/// State that took compilers longer is worth waiting for the disk.
const WORTH: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    boot: String,
    /// Whether everything was on the disk when this was written.
    durable: bool,
    /// Stands for sources, compilers and libraries.
    inputs: String,
    is_clean: bool,
    /// Whether the last build with this state ended well.
    is_done: bool,
}

/// The state of a unit that runs.
pub struct CompilerState {
    folder: PathBuf,
    stamp: Stamp,
}

impl CompilerState {
    /// Looks at the state in `folder`, and removes it if it cannot be trusted. `starts_anew`
    /// says that the unit itself uses nothing of it.
    pub fn begin(
        engine: &Engine,
        folder: &Path,
        inputs: String,
        starts_anew: bool,
    ) -> Result<Self, String> {
        let boot = engine.store.boot().to_owned();
        let (place, build) = (folder.join(STAMP), folder.join("build"));
        let old = read(&place);
        let is_there = fs::read_dir(&build).is_ok_and(|mut entries| entries.next().is_some());
        // An earlier version left no stamp; whoever knows no starts has to trust.
        let known = old.as_ref().is_none_or(|old| old.boot == boot || old.durable);
        if is_there && !known {
            fs::remove_dir_all(&build)
                .map_err(|error| format!("cannot remove {}: {error}", build.display()))?;
        }
        let same =
            old.as_ref().is_some_and(|old| old.is_clean && old.is_done && old.inputs == inputs);
        let is_clean = starts_anew || !is_there || !known || same;
        let stamp = Stamp { boot, durable: false, inputs, is_clean, is_done: false };
        let json = json(&stamp);
        // If the machine stops now, the old stamp must not vouch for what comes.
        match old.is_some_and(|old| old.durable) {
            true => write_durably(&place, &json),
            false => write_atomically(&place, &json),
        }
        .map_err(text)?;
        Ok(Self { folder: folder.to_owned(), stamp })
    }

    /// The build ended well. Returns whether all of the state was of the same inputs.
    pub fn end(mut self) -> Result<bool, String> {
        self.stamp.is_done = true;
        write_atomically(&self.folder.join(STAMP), &json(&self.stamp)).map_err(text)?;
        Ok(self.stamp.is_clean)
    }
}

/// Waits until the state of units that ran is on the disk, if that is worth it: their names and
/// how long they took.
pub fn settle(engine: &Engine, ran: &[(&str, Duration)]) {
    if ran.iter().map(|(_, elapsed)| *elapsed).sum::<Duration>() < WORTH {
        return;
    }
    // Without, compilers start anew when the machine was started again.
    if disk::settle(engine.store.root()).is_err() {
        return;
    }
    for (state, _) in ran {
        let place = engine.project_state.join(state).join(STAMP);
        if let Some(stamp) = read(&place).filter(|stamp| stamp.is_done) {
            let _ = write_atomically(&place, &json(&Stamp { durable: true, ..stamp }));
        }
    }
}

fn read(place: &Path) -> Option<Stamp> {
    serde_json::from_slice(&fs::read(place).ok()?).ok()
}

fn json(stamp: &Stamp) -> Vec<u8> {
    serde_json::to_vec(stamp).expect("a stamp has string keys only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_another_boot_goes_and_clean_state_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, _told) = super::super::tests::engine(folder.path(), true);
        let state = engine.project_state.join("x");
        let object = state.join("build/x.o");
        let run = |inputs: &str, ends: bool| {
            let state = CompilerState::begin(&engine, &state, inputs.into(), false).unwrap();
            let had = object.is_file();
            fs::create_dir_all(object.parent().unwrap()).unwrap();
            fs::write(&object, "o").unwrap();
            (had, ends.then(|| state.end().unwrap()))
        };
        assert_eq!(run("a", true), (false, Some(true)));
        assert_eq!(run("a", true), (true, Some(true)), "another unit of the same sources");
        assert_eq!(run("b", true), (true, Some(false)), "sources changed");
        assert_eq!(run("b", true), (true, Some(false)), "it stays what it was");
        fs::remove_dir_all(state.join("build")).unwrap();
        assert_eq!(run("a", false), (false, None), "killed");
        assert_eq!(run("a", true), (true, Some(false)));
        let other_boot = |durable: bool| {
            let stamp = read(&state.join(STAMP)).unwrap();
            let stamp = Stamp { boot: "other".into(), durable, ..stamp };
            fs::write(state.join(STAMP), json(&stamp)).unwrap();
        };
        other_boot(true);
        assert!(run("a", true).0, "it was on the disk");
        other_boot(false);
        assert_eq!(run("a", true), (false, Some(true)));
        settle(&engine, &[("x", Duration::from_secs(1))]);
        assert!(!read(&state.join(STAMP)).unwrap().durable);
        settle(&engine, &[("x", Duration::from_secs(11))]);
        assert!(read(&state.join(STAMP)).unwrap().durable);
        assert!(run("a", true).0);
        assert!(!read(&state.join(STAMP)).unwrap().durable);
    }
}
