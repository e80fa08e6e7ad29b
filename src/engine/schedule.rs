//! The schedule: which unit runs when. Longest chains first, as many at once as there are
//! job tokens; units that share compiler state one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::Engine;
use crate::model::Digest;
use crate::model::action::JobStyle;
use crate::model::event::Event;
use crate::plan::Plan;
use crate::store::Record;

/// How often the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(50);

/// What a run left.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Results by unit; those of failed units and of what needs them are missing.
    pub records: BTreeMap<usize, Record>,
    /// Units that ran, with their time.
    pub ran: BTreeMap<usize, Duration>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// A unit that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Unit name.
    pub unit: String,
    /// What went wrong, whole.
    pub message: String,
}

/// Runs every unit of the plan that has no result.
pub fn run(engine: &Engine, plan: &Plan) -> Outcome {
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
                for (index, key) in ready(plan, &chains, &waiting, &outcome) {
                    if let Some(record) = engine.store.record(&key) {
                        waiting.remove(&index);
                        engine.tell(Event::Cached { unit: plan.units[index].name.clone() });
                        outcome.records.insert(index, record);
                        found = true;
                        continue;
                    }
                    let state = plan.units[index].state();
                    let shared =
                        |other: &&usize| state.is_some() && plan.units[**other].state() == state;
                    if running.len() >= engine.jobs || running.iter().any(|other| shared(&other)) {
                        continue;
                    }
                    waiting.remove(&index);
                    running.insert(index);
                    let sender = sender.clone();
                    let needs: Vec<Record> = plan.units[index]
                        .needs
                        .iter()
                        .map(|need| outcome.records[need].clone())
                        .collect();
                    scope.spawn(move || {
                        let started = Instant::now();
                        let result = run_unit(engine, plan, index, &key, &needs);
                        let _ = sender.send((index, result, started.elapsed()));
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
                Ok((index, result, elapsed)) => {
                    running.remove(&index);
                    let unit = plan.units[index].name.clone();
                    match result {
                        Ok(record) => {
                            outcome.records.insert(index, record);
                            outcome.ran.insert(index, elapsed);
                            engine.tell(Event::Finished { unit, elapsed });
                        }
                        Err(_) if outcome.interrupted => {}
                        Err(message) => {
                            engine.tell(Event::Failed {
                                unit: unit.clone(),
                                message: message.clone(),
                            });
                            outcome.failures.push(Failure { unit, message });
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if engine.is_interrupted() {
                outcome.interrupted = true;
                crate::machine::process::end_all();
            }
        }
    });
    outcome
}

/// Units whose needs are there, longest chain first, with their keys.
fn ready(
    plan: &Plan,
    chains: &[usize],
    waiting: &BTreeSet<usize>,
    outcome: &Outcome,
) -> Vec<(usize, Digest)> {
    let mut ready: Vec<(usize, Digest)> = waiting
        .iter()
        .filter_map(|&index| {
            let outputs: Option<Vec<Digest>> = plan.units[index]
                .needs
                .iter()
                .map(|need| outcome.records.get(need).map(|record| record.output))
                .collect();
            Some((index, plan.key(index, &outputs?)))
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
) -> Result<Record, String> {
    let unit = &plan.units[index];
    let token = engine.tokens.acquire().map_err(|error| format!("job token: {error}"))?;
    let mut more = Vec::new();
    if unit.jobs() == JobStyle::Lease {
        while more.len() + 1 < engine.jobs {
            match engine.tokens.try_acquire() {
                Ok(Some(token)) => more.push(token),
                _ => break,
            }
        }
    }
    engine.tell(Event::Started { unit: unit.name.clone() });
    let result = super::execute::execute(engine, plan, index, needs, 1 + more.len());
    drop((token, more));
    let record = result?;
    engine.store.put_record(key, &record).map_err(|error| error.to_string())?;
    Ok(record)
}
