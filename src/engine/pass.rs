//! One pass through a plan: which unit runs when. Longest chains first, as many at once as there
//! are job tokens and memory; units that share compiler state one after the other.
//!
//! A result may be known while its files are not here, because a shared cache told its digest.
//! That is enough for the keys of what needs it. The files are had when a unit that runs needs
//! them, or whoever reads the results afterwards: they are downloaded, or the unit runs after
//! all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use super::Engine;
use super::estimate::{self, Estimate, Memory};
use super::execute::UnitError;
use super::remote::uploads::Uploads;
use super::schedule::{Failure, Outcome, Tell, run_unit};
use crate::model::Digest;
use crate::model::event::Event;
use crate::plan::Plan;
use crate::plan::reason;
use crate::store::Record;

/// How often the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How many questions a shared cache is asked at once, and how many results it sends.
const ASKED_AT_ONCE: usize = 8;

/// What a thread of a pass did.
enum Done {
    /// A unit ran, unless something that it needs was damaged.
    Ran(usize, Result<Option<(Record, Duration)>, UnitError>),
    /// A shared cache was asked about a unit.
    Asked(usize),
    /// The files of a unit's result were to come from there, and whether they did.
    Fetched(usize, bool),
}

/// The state of a pass.
struct Pass<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    uploads: &'a Uploads,
    outcome: &'a mut Outcome,
    waiting: BTreeSet<usize>,
    running: BTreeSet<usize>,
    /// Units that another process makes.
    elsewhere: BTreeSet<usize>,
    asking: BTreeSet<usize>,
    fetching: BTreeSet<usize>,
    /// Units whose files somebody needs.
    wanted: BTreeSet<usize>,
    /// What keys were made with, of results whose files are made here after all.
    claimed: BTreeMap<usize, Digest>,
    /// Whether one of those came out differently.
    is_inconsistent: bool,
    /// How long each unit and what waits for it will take, in milliseconds.
    chains: Vec<u64>,
    /// What was measured, once something runs.
    estimates: Option<(Vec<Estimate>, Memory)>,
    sender: Sender<Done>,
}

/// Looks up or runs each unit once. Those whose needs are damaged, and what waits for them, are
/// left without a record. False if results differ from what keys were made with: then
/// everything has to be looked up again.
pub fn pass(
    engine: &Engine,
    plan: &Plan,
    (tell, reads): (&Tell<'_>, &dyn Fn(usize) -> bool),
    uploads: &Uploads,
    outcome: &mut Outcome,
) -> bool {
    let usual = |index: usize| estimate::usual(&plan.units[index]).elapsed_ms;
    let (sender, receiver) = channel();
    let mut pass = Pass {
        engine,
        plan,
        uploads,
        outcome,
        waiting: (0..plan.units.len()).collect(),
        running: BTreeSet::new(),
        elsewhere: BTreeSet::new(),
        asking: BTreeSet::new(),
        fetching: BTreeSet::new(),
        wanted: (0..plan.units.len()).filter(|&index| reads(index)).collect(),
        claimed: BTreeMap::new(),
        is_inconsistent: false,
        chains: plan.chain_lengths(usual),
        estimates: None,
        sender,
    };
    std::thread::scope(|scope| {
        loop {
            let (mut found, mut others) = (false, 0);
            let stop = pass.stops();
            if !stop {
                (found, others) = pass.start(scope, tell);
                found |= pass.bring(scope);
            }
            // A result that was there may have made other units ready.
            if found && !stop {
                continue;
            }
            if pass.is_idle() {
                if others == 0 {
                    break;
                }
                std::thread::sleep(TICK);
            } else {
                pass.receive(&receiver);
            }
            if engine.is_interrupted() && !pass.outcome.interrupted {
                pass.outcome.interrupted = true;
                refill(engine);
            }
        }
    });
    !pass.is_inconsistent
}

impl<'a> Pass<'a> {
    fn stops(&self) -> bool {
        let failed = !self.outcome.failures.is_empty() && !self.engine.keep_going;
        self.outcome.interrupted || failed || self.is_inconsistent
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.asking.is_empty() && self.fetching.is_empty()
    }

    /// Takes what is known and starts what can run. Returns whether anything was known, and how
    /// many units wait for other processes.
    fn start<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, tell: &Tell<'_>) -> (bool, usize)
    where
        'a: 'scope,
    {
        let (engine, plan) = (self.engine, self.plan);
        let (mut found, mut others) = (false, 0);
        let ready = ready(plan, &self.chains, &self.waiting, self.outcome);
        // Bases need nothing but bases: one that is neither here nor there never runs.
        let is_base = |index: &usize| plan.units[*index].is_base();
        let held = self.running.iter().chain(ready.iter().map(|(index, _)| index)).any(is_base);
        for (index, key) in ready {
            if let Some(record) = engine.store.record(&key) {
                self.know(index, record);
                found = true;
                continue;
            }
            match self.known(index, &key) {
                Known::Result(record) => {
                    self.outcome.absent.insert(index);
                    self.know(index, record);
                    found = true;
                    continue;
                }
                Known::NotYet => {
                    self.ask(scope, index, key);
                    continue;
                }
                Known::Nothing => {}
            }
            let absent = |need: &&usize| self.outcome.absent.contains(need);
            let absent: Vec<usize> =
                plan.units[index].needs.iter().filter(absent).copied().collect();
            if !absent.is_empty() {
                self.wanted.extend(absent);
                continue;
            }
            let state = plan.units[index].state();
            // What is wrong with a base is known before anything is compiled for it.
            if held && state.is_some() {
                continue;
            }
            let shared = |other: &&usize| state.is_some() && plan.units[**other].state() == state;
            if self.running.len() >= engine.jobs || self.running.iter().any(|other| shared(&other))
            {
                continue;
            }
            let Some((known, memory)) = &self.estimates else {
                self.measure();
                // Others may be to start first.
                return (true, others);
            };
            let running = self.running.iter().map(|&index| known[index]);
            if !memory.holds(running, known[index]) {
                continue;
            }
            // Without a lock file two may do the same work, which is not wrong.
            let claim = match engine.store.claim(&key) {
                Ok(None) => {
                    others += 1;
                    if self.elsewhere.insert(index) {
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
            if self.running.is_empty() {
                refill(engine);
                // What is edited while this builds is for the next build.
                engine.snapshots.take();
            }
            self.waiting.remove(&index);
            self.running.insert(index);
            let sender = self.sender.clone();
            let needs: Vec<Record> = plan.units[index]
                .needs
                .iter()
                .map(|need| self.outcome.records[need].clone())
                .collect();
            let outputs: Vec<Digest> = needs.iter().map(|need| need.output).collect();
            let reasons = tell(index, &outputs, &key);
            let why = reason::line(&reasons, false);
            self.outcome.reasons.insert(index, reasons);
            scope.spawn(move || {
                let result = run_unit(engine, plan, index, &key, &needs, why);
                drop(claim);
                let _ = sender.send(Done::Ran(index, result));
            });
        }
        (found, others)
    }

    /// Reads what units took when they ran last.
    fn measure(&mut self) {
        let mut left = self.waiting.clone();
        left.extend(&self.running);
        let known = estimate::of_units(self.engine, self.plan, &left);
        self.chains = self.plan.chain_lengths(|index| known[index].elapsed_ms);
        self.estimates = Some((known, Memory::now()));
    }

    fn know(&mut self, index: usize, record: Record) {
        self.waiting.remove(&index);
        let unit = self.plan.units[index].name.clone();
        self.engine.tell(Event::Cached { unit });
        self.finish(index, record);
    }

    /// What is known of a result whose files are not here.
    fn known(&mut self, index: usize, key: &Digest) -> Known {
        let engine = self.engine;
        if self.outcome.refused.contains(key) {
            return Known::Nothing;
        }
        let unit = &self.plan.units[index];
        match engine.remote.as_ref().map(|remote| remote.answer(engine, unit, key)) {
            Some(None) => return Known::NotYet,
            Some(Some(Some(record))) => {
                self.outcome.remote.insert(index);
                return Known::Result(record);
            }
            Some(Some(None)) | None => {}
        }
        engine.store.promise(key).map_or(Known::Nothing, Known::Result)
    }

    /// Asks a shared cache about a unit.
    fn ask<'scope>(&mut self, scope: &'scope Scope<'scope, '_>, index: usize, key: Digest)
    where
        'a: 'scope,
    {
        let (engine, plan) = (self.engine, self.plan);
        let Some(remote) = &engine.remote else { return };
        if self.asking.len() < ASKED_AT_ONCE && self.asking.insert(index) {
            let sender = self.sender.clone();
            scope.spawn(move || {
                remote.look_up(engine, &plan.units[index], &key);
                let _ = sender.send(Done::Asked(index));
            });
        }
    }

    /// Brings files that are wanted and not here. Returns whether units have to run for them.
    fn bring<'scope>(&mut self, scope: &'scope Scope<'scope, '_>) -> bool
    where
        'a: 'scope,
    {
        let (engine, plan) = (self.engine, self.plan);
        let wanted: Vec<usize> = self.outcome.absent.intersection(&self.wanted).copied().collect();
        let mut found = false;
        for index in wanted {
            if self.fetching.contains(&index) {
                continue;
            }
            let key = self.outcome.keys[&index];
            match engine.remote.as_ref().filter(|remote| remote.has_content(&key)) {
                Some(remote) => {
                    if self.fetching.len() < ASKED_AT_ONCE {
                        self.fetching.insert(index);
                        let sender = self.sender.clone();
                        scope.spawn(move || {
                            let is_here = remote.fetch(engine, &plan.units[index], &key);
                            let _ = sender.send(Done::Fetched(index, is_here));
                        });
                    }
                }
                None => {
                    self.make(index);
                    found = true;
                }
            }
        }
        found
    }

    /// Has a unit run whose result is known.
    fn make(&mut self, index: usize) {
        self.outcome.absent.remove(&index);
        self.outcome.remote.remove(&index);
        if let Some(key) = self.outcome.keys.get(&index) {
            self.outcome.refused.insert(*key);
        }
        if let Some(record) = self.outcome.records.remove(&index) {
            self.claimed.insert(index, record.output);
        }
        self.waiting.insert(index);
    }

    /// A result is there.
    fn finish(&mut self, index: usize, record: Record) {
        if let Some(claimed) = self.claimed.remove(&index)
            && claimed != record.output
        {
            let text = format!(
                "{} gives another result here than elsewhere, {} and not {}: it is not the same \
                 each time, or somebody told what is not so; what needs it is looked up again",
                self.plan.units[index].name,
                record.output.short(),
                claimed.short()
            );
            self.engine.tell(Event::Warning { text });
            self.is_inconsistent = true;
        }
        self.outcome.records.insert(index, record);
    }

    /// Waits for a moment for what threads did.
    fn receive(&mut self, receiver: &Receiver<Done>) {
        match receiver.recv_timeout(TICK) {
            Ok(Done::Asked(index)) => {
                self.asking.remove(&index);
            }
            Ok(Done::Fetched(index, is_here)) => {
                self.fetching.remove(&index);
                if is_here {
                    self.outcome.absent.remove(&index);
                } else if !self.engine.is_interrupted() {
                    self.make(index);
                }
            }
            Ok(Done::Ran(index, result)) => self.ran(index, result),
            Err(_) => {}
        }
    }

    fn ran(&mut self, index: usize, result: Result<Option<(Record, Duration)>, UnitError>) {
        self.running.remove(&index);
        let unit = self.plan.units[index].name.clone();
        match result {
            Ok(Some((record, elapsed))) => {
                self.finish(index, record);
                self.outcome.ran.insert(index, elapsed);
                self.engine.tell(Event::Finished { unit, elapsed });
                if let Some(key) = self.outcome.keys.get(&index) {
                    self.uploads.add(self.plan, index, key);
                }
            }
            Ok(None) => {}
            Err(_) if self.outcome.interrupted => {}
            Err(UnitError { message, is_remote }) => {
                let configuration = self.plan.units[index].configuration.clone();
                let failure = Failure { unit, configuration, message, is_remote };
                let (unit, message) = (failure.unit.clone(), failure.to_string());
                self.engine.tell(Event::Failed { unit, message });
                self.outcome.failures.push(failure);
            }
        }
    }
}

/// What is known of a result.
enum Known {
    Result(Record),
    NotYet,
    Nothing,
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
    chains: &[u64],
    waiting: &BTreeSet<usize>,
    outcome: &mut Outcome,
) -> Vec<(usize, Digest)> {
    let Outcome { records, keys, .. } = outcome;
    let mut ready: Vec<(usize, Digest)> = waiting
        .iter()
        .filter_map(|&index| {
            let needs = plan.units[index].needs.iter();
            let outputs: Option<Vec<Digest>> =
                needs.map(|need| records.get(need).map(|record| record.output)).collect();
            let outputs = outputs?;
            let key = keys.entry(index).or_insert_with(|| plan.key(index, &outputs));
            Some((index, *key))
        })
        .collect();
    ready.sort_by_key(|&(index, _)| (std::cmp::Reverse(chains[index]), index));
    ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::schedule::run;
    use crate::model::action::Action;
    use crate::model::{Configuration, Tree};
    use crate::plan::Unit;
    use crate::store::About;

    fn join(name: &str, needs: Vec<usize>) -> Unit {
        let names = needs.iter().map(ToString::to_string).chain([name.to_owned()]).collect();
        let action = Action::JoinTrees { names, archives: vec![] };
        Unit { name: name.to_owned(), configuration: None::<Configuration>, action, needs }
    }

    /// Two units, of which the first is said to give `claimed`. Returns warnings, and which ran.
    fn check(claimed: Digest) -> (Vec<String>, Vec<usize>) {
        let folder = tempfile::tempdir().unwrap();
        let (engine, told) = crate::engine::tests::engine(folder.path(), true);
        let units = vec![join("first", vec![]), join("second", vec![0])];
        let mut plan = Plan::default();
        plan.units = units;
        let record = Record { output: claimed, size_bytes: 0, observed: None };
        engine.store.put_promise(&plan.key(0, &[]), &record, &About::default()).unwrap();
        let outcome = run(&engine, &plan);
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        assert_eq!(outcome.records[&0].output, Tree::default().digest());
        assert_eq!(outcome.keys[&1], plan.key(1, &[Tree::default().digest()]));
        let warnings = told.try_iter().filter_map(|event| match event {
            Event::Warning { text } => Some(text),
            _ => None,
        });
        (warnings.collect(), outcome.ran.keys().copied().collect())
    }

    #[test]
    fn what_is_known_is_made_when_it_is_needed() {
        assert_eq!(check(Tree::default().digest()), (vec![], vec![0, 1]));
    }

    #[test]
    fn what_is_known_wrongly_is_told_and_looked_up_again() {
        let (warnings, ran) = check(Digest::of(b"another tree"));
        assert_eq!(ran, [0, 1]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("first gives another result here than elsewhere, "));
    }
}
