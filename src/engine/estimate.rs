//! What units will take, going by their last run in this project: for the schedule, which
//! starts the longest chain first and no more at once than the memory holds.

use std::collections::BTreeSet;

use super::Engine;
use super::history::History;
use crate::machine::environment::available_memory_bytes;
use crate::model::action::Action;
use crate::plan::{Plan, Unit};

/// What stays free for everything else.
const SPARE_BYTES: u64 = 512 << 20;
/// Smaller ones are not counted: a machine that builds has room for them.
const LARGE_BYTES: u64 = 256 << 20;

/// What a unit will take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// In milliseconds.
    pub elapsed_ms: u64,
    /// Memory of its largest process, in bytes; 0 where that is not known.
    pub largest_bytes: u64,
}

/// By position in the plan: what is known, for the units of `wanted`, else what such units take.
pub fn of_units(engine: &Engine, plan: &Plan, wanted: &BTreeSet<usize>) -> Vec<Estimate> {
    let keys = History::new(&engine.project_state).keys();
    let units = plan.units.iter().enumerate();
    let estimates = units.map(|(index, unit)| {
        let known = wanted.contains(&index).then(|| keys.get(&unit.name)).flatten();
        let about = known.and_then(|key| engine.store.about(key));
        about.map_or_else(
            || usual(unit),
            |about| Estimate { elapsed_ms: about.elapsed_ms, largest_bytes: about.largest_bytes },
        )
    });
    estimates.collect()
}

/// What a unit takes that nobody measured: compilers take longest.
pub fn usual(unit: &Unit) -> Estimate {
    let elapsed_ms = match &unit.action {
        Action::Process(_) => 30_000,
        Action::UnpackPackages(_)
        | Action::FetchSource { .. }
        | Action::VendorCrates { .. }
        | Action::DownloadModules { .. } => 5_000,
        Action::PackLayer(_) | Action::ImportLayer(_) | Action::JoinTrees { .. } => 1_000,
        _ => 10,
    };
    Estimate { elapsed_ms, largest_bytes: 0 }
}

/// The memory that units may take together.
#[derive(Clone, Copy, Debug)]
pub struct Memory(Option<u64>);

impl Memory {
    /// What is there now, with nothing running.
    pub fn now() -> Self {
        Self(available_memory_bytes().map(|bytes| bytes.saturating_sub(SPARE_BYTES)))
    }

    /// Whether a unit may start beside those that run. One alone always may.
    pub fn holds(self, mut running: impl Iterator<Item = Estimate>, wanted: Estimate) -> bool {
        let Some(room) = self.0.filter(|_| wanted.largest_bytes >= LARGE_BYTES) else {
            return true;
        };
        let mut taken = 0_u64;
        let mut alone = true;
        for estimate in running.by_ref() {
            alone = false;
            taken = taken.saturating_add(estimate.largest_bytes);
        }
        alone || taken.saturating_add(wanted.largest_bytes) <= room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_memory_holds() {
        let gib = |number: u64| Estimate { elapsed_ms: 0, largest_bytes: number << 30 };
        let memory = Memory(Some(8 << 30));
        let holds = |running: &[u64], wanted| {
            memory.holds(running.iter().map(|&number| gib(number)), gib(wanted))
        };
        assert!(holds(&[], 20), "one alone has to run");
        assert!(holds(&[4], 4) && !holds(&[4], 5) && !holds(&[2, 4], 3));
        assert!(holds(&[8, 8], 0), "small ones always fit");
        assert!(Memory(None).holds([gib(8)].into_iter(), gib(8)));
    }
}
