//! The schedule: which unit runs when. Longest chains first, as many at once as there are
//! job tokens; units that share compiler state one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::execute::UnitError;
use super::{Engine, vendor};
use crate::model::action::JobStyle;
use crate::model::event::Event;
use crate::model::{Configuration, Digest};
use crate::plan::Plan;
use crate::plan::reason::{self, Reason};
use crate::store::{NO_SPACE_HELP, Record};

/// How often the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(50);

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

/// Runs every unit of the plan that has no result.
pub fn run(engine: &Engine, plan: &Plan, tell: &Tell<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let chains = plan.chain_lengths();
    let mut waiting: BTreeSet<usize> = (0..plan.units.len()).collect();
    let mut running: BTreeSet<usize> = BTreeSet::new();
    let (sender, receiver) = channel();
    engine.tell(Event::Planned { units: plan.units.len() });
    std::thread::scope(|scope| {
        loop {
            let stop = outcome.interrupted || (!outcome.failures.is_empty() && !engine.keep_going);
            let mut found = false;
            if !stop {
                let ready = ready(plan, &chains, &waiting, &mut outcome);
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
                        let _ = sender.send((index, result));
                    });
                }
            }
            // A result that was there may have made other units ready.
            if found && !stop {
                continue;
            }
            if running.is_empty() {
                break;
            }
            match receiver.recv_timeout(TICK) {
                Ok((index, result)) => {
                    running.remove(&index);
                    let unit = plan.units[index].name.clone();
                    match result {
                        Ok((record, elapsed)) => {
                            outcome.records.insert(index, record);
                            outcome.ran.insert(index, elapsed);
                            engine.tell(Event::Finished { unit, elapsed });
                        }
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
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if engine.is_interrupted() && !outcome.interrupted {
                outcome.interrupted = true;
                refill(engine);
            }
        }
    });
    outcome
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

/// Runs one unit with one job token, or more where the unit can use them.
fn run_unit(
    engine: &Engine,
    plan: &Plan,
    index: usize,
    key: &Digest,
    needs: &[Record],
    why: String,
) -> Result<(Record, Duration), UnitError> {
    let unit = &plan.units[index];
    let token = engine.tokens.acquire().map_err(|error| format!("job token: {error}"))?;
    if engine.is_interrupted() {
        return Err("interrupted".into());
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
        Some(record) => Ok(record),
        None => super::execute::execute(engine, plan, index, needs, 1 + more.len()),
    };
    drop((token, more));
    let record = result?;
    engine.store.put_record(key, &record).map_err(|error| error.to_string())?;
    Ok((record, started.elapsed()))
}
