//! The schedule: a plan is passed through until all its results are there and whole. What
//! happens in one pass is in [`super::pass`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::execute::{Done, UnitError};
use super::pass::pass;
use super::remote::uploads::Uploads;
use super::{Engine, vendor};
use crate::model::action::{Action, JobStyle};
use crate::model::event::Event;
use crate::model::{Configuration, Digest};
use crate::plan::reason::Reason;
use crate::plan::{Plan, Unit};
use crate::store::{About, NO_SPACE_HELP, Record, StoreError};

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
    /// Units whose result is known, while its files are not here.
    pub absent: BTreeSet<usize>,
    /// Units whose result a shared cache knew.
    pub remote: BTreeSet<usize>,
    /// Keys whose results are made here, whatever is known of them.
    pub refused: BTreeSet<Digest>,
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

/// What a run is for.
#[derive(Clone, Copy)]
pub struct Purpose<'a> {
    /// Says why units run.
    pub tell: &'a Tell<'a>,
    /// Whether the files of that unit's result are read afterwards. Those that no unit needs
    /// always are.
    pub reads: &'a dyn Fn(usize) -> bool,
    /// Looks at the results that are used afterwards, and has the store remove those that are
    /// damaged; the run goes on until it accepts what there is.
    pub is_whole: &'a dyn Fn(&Outcome) -> Result<bool, StoreError>,
}

/// Runs every unit of the plan that has no result. Results that turn out to be damaged are made
/// again.
pub fn run(engine: &Engine, plan: &Plan) -> Outcome {
    let purpose = Purpose { tell: &untold, reads: &|_| true, is_whole: &|_| Ok(true) };
    run_for(engine, plan, purpose)
}

/// The same for a purpose.
pub fn run_for(engine: &Engine, plan: &Plan, purpose: Purpose<'_>) -> Outcome {
    engine.tell(Event::Planned { units: plan.units.len() });
    std::thread::scope(|scope| {
        let uploads = Uploads::start(engine, plan, scope);
        let outcome = passes(engine, plan, purpose, &uploads);
        uploads.end(engine, plan, &outcome);
        outcome
    })
}

fn passes(engine: &Engine, plan: &Plan, purpose: Purpose<'_>, uploads: &Uploads) -> Outcome {
    let mut outcome = Outcome::default();
    // Whoever runs a plan reads what nothing in the plan needs.
    let needed: BTreeSet<usize> =
        plan.units.iter().flat_map(|unit| unit.needs.iter().copied()).collect();
    let reads = |index: usize| !needed.contains(&index) || (purpose.reads)(index);
    for _ in 0..PASSES_AT_MOST {
        let is_consistent = pass(engine, plan, (purpose.tell, &reads), uploads, &mut outcome);
        if outcome.interrupted || !outcome.failures.is_empty() {
            return outcome;
        }
        let ends = outcome.records.iter().filter(|(index, _)| !needed.contains(index));
        let proven = ends.map(|(&index, record)| prove(engine, plan, index, record, false));
        let proven = proven.collect::<Result<Vec<bool>, _>>();
        let is_complete = is_consistent && outcome.records.len() == plan.units.len();
        let whole = proven.and_then(|proven| {
            let whole = proven.into_iter().all(|whole| whole);
            Ok(whole && is_complete && (purpose.is_whole)(&outcome)?)
        });
        match whole {
            Ok(true) => return outcome,
            Ok(false) => {}
            Err(error) => return failed(outcome, error.to_string()),
        }
        // Everything is looked up again; what is there costs nothing.
        outcome.records.clear();
        outcome.keys.clear();
        outcome.absent.clear();
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

/// Runs one unit with one job token, or more where the unit can use them. Does nothing if
/// something that it needs is damaged.
pub(super) fn run_unit(
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
        Some(record) => Ok(Done { record, is_clean: true, largest_bytes: 0 }),
        None => super::execute::execute(engine, plan, index, needs, 1 + more.len()),
    };
    drop((token, more));
    let done = result?;
    let about = about(unit, started.elapsed(), &done);
    engine.store.put_record(key, &done.record, &about).map_err(|error| error.to_string())?;
    Ok(Some((done.record, started.elapsed())))
}

/// What is told about the result of a unit.
pub(super) fn about(unit: &Unit, elapsed: Duration, done: &Done) -> About {
    About {
        unit: unit.name.clone(),
        kind: unit.kind().to_owned(),
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        is_clean: done.is_clean,
        largest_bytes: done.largest_bytes,
    }
}
