//! The cache as a whole: what a build counts, what leaves and enters it, what is removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

use super::build::Prepared;
use super::report::BuildError;
use super::schedule::Outcome;
use super::{Engine, start};
use crate::machine::environment::Environment;
use crate::model::event::Event;
use crate::model::{Digest, Finding};
use crate::store::{
    Collected, ExchangeError, Exported, Imported, Limits, PROJECT_FILE, ProjectUses, Store, Wanted,
    write_atomically,
};

/// Folder of the cache.
pub fn folder(environment: &Environment) -> Result<PathBuf, BuildError> {
    environment.cache_folder().ok_or_else(|| {
        let message = "there is no folder for the cache: set XSTITCH_CACHE or HOME";
        BuildError::Findings(vec![Finding::new("no-cache", message)])
    })
}

/// Opens the cache.
pub fn open(environment: &Environment) -> Result<Store, BuildError> {
    Ok(Store::open(&folder(environment)?)?)
}

/// Counts a build that ended well. Nobody needs that to build.
pub(super) fn count(engine: &Engine, outcome: &Outcome) {
    let place = engine.project_state.join(PROJECT_FILE);
    let known = fs::read(&place).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let mut uses: ProjectUses = known.unwrap_or_default();
    uses.folder.clone_from(&engine.project);
    uses.builds += 1;
    uses.runs += outcome.ran.len() as u64;
    uses.hits += (outcome.records.len() - outcome.ran.len()) as u64;
    uses.keys = outcome.keys.values().copied().collect();
    let json = serde_json::to_vec(&uses).expect("uses have string keys only");
    let _ = write_atomically(&place, &json);
}

/// Removes what `limits` do not let stay, when no build uses the cache. What would be removed
/// is known at once.
pub fn collect(
    store: &Store,
    limits: Limits,
    dry_run: bool,
    events: &Sender<Event>,
    interrupted: &AtomicBool,
) -> Result<Collected, BuildError> {
    let _alone = match dry_run {
        true => None,
        false => Some(start::hold_alone(store, events, interrupted)?),
    };
    Ok(store.collect(limits, dry_run)?)
}

/// Takes the results of an exported folder.
pub fn import(
    store: &Store,
    folder: &Path,
    events: &Sender<Event>,
    interrupted: &AtomicBool,
) -> Result<Imported, BuildError> {
    let _hold = start::hold(store, events, interrupted)?;
    store.import(folder).map_err(refused)
}

/// What cannot be exchanged, for people.
fn refused(error: ExchangeError) -> BuildError {
    let finding = match &error {
        ExchangeError::Store(_) => None,
        ExchangeError::Foreign { .. } => Some(
            Finding::new("not-a-cache", error.to_string())
                .help("name a folder that `xstitch cache export` wrote, or for it a new one"),
        ),
        ExchangeError::Damaged { .. } => Some(
            Finding::new("damaged-cache", error.to_string())
                .help("nothing was imported: remove the folder and export it again"),
        ),
    };
    match (finding, error) {
        (Some(finding), _) => BuildError::Findings(vec![finding]),
        (None, ExchangeError::Store(error)) => BuildError::Store(error),
        (None, error) => BuildError::Output(error.to_string()),
    }
}

impl Prepared {
    /// Makes `folder` hold what a build of this plan needs, as far as it is there.
    pub fn export(&self, folder: &Path) -> Result<Exported, BuildError> {
        let mut outputs: BTreeMap<usize, Digest> = BTreeMap::new();
        let mut wanted = Wanted::default();
        for (index, unit) in self.plan.units.iter().enumerate() {
            let needs: Option<Vec<Digest>> =
                unit.needs.iter().map(|need| outputs.get(need).copied()).collect();
            let Some(needs) = needs else { continue };
            let key = self.plan.key(index, &needs);
            let store = &self.engine.store;
            if let Some(record) = store.record(&key).or_else(|| store.promise(&key)) {
                outputs.insert(index, record.output);
                wanted.keys.push(key);
            }
        }
        wanted.keys.sort_unstable();
        wanted.keys.dedup();
        let missing = self.plan.units.len() - outputs.len();
        wanted.blobs = self.base_documents().map_err(BuildError::Output)?;
        let mut exported = self.engine.store.export(folder, &wanted).map_err(refused)?;
        exported.missing += missing;
        Ok(exported)
    }
}
