//! The schedule: which unit runs when. Longest chains first, as many at once as there are
//! job tokens; units that share compiler state one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::execute::UnitError;
use super::{Engine, vendor};
use crate::model::action::{Action, JobStyle};
use crate::model::event::Event;
use crate::model::{Configuration, Digest};
use crate::plan::reason::{self, Reason};
use crate::plan::{Plan, Unit};
use crate::store::{About, NO_SPACE_HELP, Record, StoreError};

/// How often the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How often damaged results are made again.
const PASSES_AT_MOST: usize = 20;

/// What a run left.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Results by unit; those of failed units and of what needs them are missing.
    pub records: BTreeMap<usize, Record>,
    /// Units that ran, with their time.
    pub ran: BTreeMap<usize, Duration>,
    /// Their reasons.
    pub reasons: BTreeMap<usize, Vec<Reason>>,
    /// Keys of the units whose needs are there.
    pub keys: BTreeMap<usize, Digest>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// A unit that failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Unit name.
    pub unit: String,
    /// The circumstances, where they matter.
    pub configuration: Option<Configuration>,
    /// What went wrong, whole.
    pub message: String,
    /// Whether a remote side is to blame.
    pub is_remote: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.unit)?;
        if let Some(configuration) = &self.configuration {
            write!(f, " for {configuration}")?;
        }
        write!(f, ": {}", self.message)?;
        if self.message.contains("No space left on device") && !self.message.contains("help: ") {
            write!(f, "\n  help: {NO_SPACE_HELP}")?;
        }
        Ok(())
    }
}

/// Says why the unit of that index runs, from what its needs gave and its key.
pub type Tell<'a> = dyn Fn(usize, &[Digest], &Digest) -> Vec<Reason> + 'a;

/// For what is run beside a build: nobody asks why.
pub fn untold(_: usize, _: &[Digest], _: &Digest) -> Vec<Reason> {
    Vec::new()
}

/// Runs every unit of the plan that has no result. Results that turn out to be damaged are made
/// again.
pub fn run(engine: &Engine, plan: &Plan) -> Outcome {
    run_until(engine, plan, &untold, &|_| Ok(true))
}

/// The same until `is_whole` accepts what there is: it looks at the results that are used
/// afterwards, and has the store remove those that are damaged. `tell` says why units run.
pub fn run_until(
    engine: &Engine,
    plan: &Plan,
    tell: &Tell<'_>,
    is_whole: &dyn Fn(&Outcome) -> Result<bool, StoreError>,
) -> Outcome {
    let mut outcome = Outcome::default();
    engine.tell(Event::Planned { units: plan.units.len() });
    for _ in 0..PASSES_AT_MOST {
        pass(engine, plan, tell, &mut outcome);
        if outcome.interrupted || !outcome.failures.is_empty() {
            return outcome;
        }
        // Whoever runs a plan reads what nothing in the plan needs.
        let needed: BTreeSet<usize> =
            plan.units.iter().flat_map(|unit| unit.needs.iter().copied()).collect();
        let ends = outcome.records.iter().filter(|(index, _)| !needed.contains(index));
        let proven = ends.map(|(&index, record)| prove(engine, plan, index, record, false));
        let proven = proven.collect::<Result<Vec<bool>, _>>();
        let whole = proven
            .and_then(|proven| Ok(proven.into_iter().all(|whole| whole) && is_whole(&outcome)?));
        match whole {
            Ok(true) if outcome.records.len() == plan.units.len() => return outcome,
            Ok(_) => {}
            Err(error) => return failed(outcome, error.to_string()),
        }
        // Everything is looked up again; what is there costs nothing.
        outcome.records.clear();
        outcome.keys.clear();
    }
    failed(outcome, "its files change while they are read\n  help: look at the disk".into())
}

/// An outcome with a failure that is no unit's.
fn failed(mut outcome: Outcome, message: String) -> Outcome {
    let unit = "using the cache".into();
    outcome.failures.push(Failure { unit, configuration: None, message, is_remote: false });
    outcome
}

/// Whether the bytes of a result are what its record says; tells if they are not.
pub(super) fn prove(
    engine: &Engine,
    plan: &Plan,
    index: usize,
    record: &Record,
    fully: bool,
) -> Result<bool, StoreError> {
    let store = &engine.store;
    let whole = if fully { store.prove_fully(record) } else { store.prove(record) }?;
    if !whole {
        let unit = &plan.units[index].name;
        let place = store.tree_path(&record.output);
        let text = format!(
            "the result of {unit} in the cache is damaged: {} is not what its name says; it was \
             removed and is made again",
            place.display()
        );
        engine.tell(Event::Warning { text });
    }
    Ok(whole)
}

/// Looks up or runs each unit once. Those whose needs are damaged, and what waits for them, are
/// left without a record.
fn pass(engine: &Engine, plan: &Plan, tell: &Tell<'_>, outcome: &mut Outcome) {
    let chains = plan.chain_lengths();
    let mut waiting: BTreeSet<usize> = (0..plan.units.len()).collect();
    let mut running: BTreeSet<usize> = BTreeSet::new();
    // Units that another process makes.
    let mut elsewhere: BTreeSet<usize> = BTreeSet::new();
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        loop {
            let stop = outcome.interrupted || (!outcome.failures.is_empty() && !engine.keep_going);
            let mut found = false;
            let mut others = 0;
            if !stop {
                let ready = ready(plan, &chains, &waiting, outcome);
                // Bases need nothing but bases: one that is neither here nor there never runs.
                let is_base = |index: &usize| plan.units[*index].is_base();
                let held = running.iter().chain(ready.iter().map(|(index, _)| index)).any(is_base);
                for (index, key) in ready {
                    if let Some(record) = engine.store.record(&key) {
                        waiting.remove(&index);
                        engine.tell(Event::Cached { unit: plan.units[index].name.clone() });
                        outcome.records.insert(index, record);
                        found = true;
                        continue;
                    }
                    let state = plan.units[index].state();
                    // What is wrong with a base is known before anything is compiled for it.
                    if held && state.is_some() {
                        continue;
                    }
                    let shared =
                        |other: &&usize| state.is_some() && plan.units[**other].state() == state;
                    if running.len() >= engine.jobs || running.iter().any(|other| shared(&other)) {
                        continue;
                    }
                    // Without a lock file two may do the same work, which is not wrong.
                    let claim = match engine.store.claim(&key) {
                        Ok(None) => {
                            others += 1;
                            if elsewhere.insert(index) {
                                let unit = &plan.units[index].name;
                                let text = format!("waiting for {unit}, which another build makes");
                                engine.tell(Event::Note { text });
                            }
                            continue;
                        }
                        Ok(claim) => claim,
                        Err(_) => None,
                    };
                    // Its maker may have ended since it was looked up.
                    if engine.store.record(&key).is_some() {
                        found = true;
                        continue;
                    }
                    if running.is_empty() {
                        refill(engine);
                    }
                    waiting.remove(&index);
                    running.insert(index);
                    let sender = sender.clone();
                    let needs: Vec<Record> = plan.units[index]
                        .needs
                        .iter()
                        .map(|need| outcome.records[need].clone())
                        .collect();
                    let outputs: Vec<Digest> = needs.iter().map(|need| need.output).collect();
                    let reasons = tell(index, &outputs, &key);
                    let why = reason::line(&reasons, false);
                    outcome.reasons.insert(index, reasons);
                    scope.spawn(move || {
                        let result = run_unit(engine, plan, index, &key, &needs, why);
                        drop(claim);
                        let _ = sender.send((index, result));
                    });
                }
            }
            // A result that was there may have made other units ready.
            if found && !stop {
                continue;
            }
            if running.is_empty() {
                if others == 0 {
                    break;
                }
                std::thread::sleep(TICK);
            } else if let Ok((index, result)) = receiver.recv_timeout(TICK) {
                running.remove(&index);
                let unit = plan.units[index].name.clone();
                match result {
                    Ok(Some((record, elapsed))) => {
                        outcome.records.insert(index, record);
                        outcome.ran.insert(index, elapsed);
                        engine.tell(Event::Finished { unit, elapsed });
                    }
                    Ok(None) => {}
                    Err(_) if outcome.interrupted => {}
                    Err(UnitError { message, is_remote }) => {
                        let configuration = plan.units[index].configuration.clone();
                        let failure = Failure { unit, configuration, message, is_remote };
                        engine.tell(Event::Failed {
                            unit: failure.unit.clone(),
                            message: failure.to_string(),
                        });
                        outcome.failures.push(failure);
                    }
                }
            }
            if engine.is_interrupted() && !outcome.interrupted {
                outcome.interrupted = true;
                refill(engine);
            }
        }
    });
}

/// Gives back the tokens that children took with them when they were killed.
fn refill(engine: &Engine) {
    let there = engine.tokens.available().unwrap_or(engine.jobs);
    for _ in there..engine.jobs {
        let _ = engine.tokens.release_raw();
    }
}

/// Units whose needs are there, longest chain first, with their keys, each taken once.
fn ready(
    plan: &Plan,
    chains: &[usize],
    waiting: &BTreeSet<usize>,
    outcome: &mut Outcome,
) -> Vec<(usize, Digest)> {
    let Outcome { records, keys, .. } = outcome;
    let mut ready: Vec<(usize, Digest)> = waiting
        .iter()
        .filter_map(|&index| {
            if let Some(&key) = keys.get(&index) {
                return Some((index, key));
            }
            let needs = plan.units[index].needs.iter();
            let outputs: Option<Vec<Digest>> =
                needs.map(|need| records.get(need).map(|record| record.output)).collect();
            let key = plan.key(index, &outputs?);
            keys.insert(index, key);
            Some((index, key))
        })
        .collect();
    ready.sort_by_key(|&(index, _)| (std::cmp::Reverse(chains[index]), index));
    ready
}

/// Runs one unit with one job token, or more where the unit can use them. Does nothing if
/// something that it needs is damaged.
fn run_unit(
    engine: &Engine,
    plan: &Plan,
    index: usize,
    key: &Digest,
    needs: &[Record],
    why: String,
) -> Result<Option<(Record, Duration)>, UnitError> {
    let unit = &plan.units[index];
    let token = engine.tokens.acquire().map_err(|error| format!("job token: {error}"))?;
    if engine.is_interrupted() {
        return Err("interrupted".into());
    }
    // Who packs files reads all of them, and to compress them takes much longer.
    let fully = matches!(unit.action, Action::PackLayer(_));
    let mut whole = true;
    for (&need, record) in unit.needs.iter().zip(needs) {
        whole &= prove(engine, plan, need, record, fully).map_err(|error| error.to_string())?;
    }
    if !whole {
        return Ok(None);
    }
    let mut more = Vec::new();
    if unit.jobs() == JobStyle::Lease {
        while more.len() + 1 < engine.jobs {
            match engine.tokens.try_acquire() {
                Ok(Some(token)) => more.push(token),
                _ => break,
            }
        }
    }
    engine.tell(Event::Started { unit: unit.name.clone(), why });
    let started = Instant::now();
    let result = match vendor::take_tree(engine, unit, key)? {
        Some(record) => Ok((record, true)),
        None => super::execute::execute(engine, plan, index, needs, 1 + more.len()),
    };
    drop((token, more));
    let (record, is_clean) = result?;
    let about = about(unit, started.elapsed(), is_clean);
    engine.store.put_record(key, &record, &about).map_err(|error| error.to_string())?;
    Ok(Some((record, started.elapsed())))
}

/// What is told about the result of a unit.
pub(super) fn about(unit: &Unit, elapsed: Duration, is_clean: bool) -> About {
    About {
        unit: unit.name.clone(),
        kind: unit.kind().to_owned(),
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        is_clean,
    }
}
