//! The cache that machines share: what it is asked, what is believed, and when it is left alone.
//!
//! Results are looked up where a unit would run. Of packages and of trees that are joined of
//! others the cache has only the digest: what brings them is pinned, and cheap to do again where
//! somebody needs their files. Of everything else that takes long it has the files as well,
//! which are downloaded when something needs them. Deliberately absent: when units run.

mod action_result;
mod backend;
mod content;
pub mod settings;
pub mod signature;
mod statement;
pub mod uploads;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::backend::{Asking, Backend, Refusal};
use self::content::Unpacker;
use self::signature::{PublicKey, SecretKey};
use self::statement::{Disbelief, Part, Statement};
use super::Engine;
use crate::machine::network::{Connections, Watch};
use crate::model::action::Action;
use crate::model::event::Event;
use crate::model::{Digest, Tree};
use crate::plan::Unit;
use crate::store::{About, Record, StoreError, Unfit, WantedFile};

/// Time that any request may take, and further time for its bytes: a cache that is slower is
/// of no use.
const TIME_AT_MOST: Duration = Duration::from_secs(10);
const BYTES_PER_SEC_AT_LEAST: u64 = 256 << 10;
/// Before what may pass by itself is tried again, once.
const PAUSE: Duration = Duration::from_millis(300);
/// So many wrong results are no accident.
const WRONG_AT_MOST: usize = 5;
/// Bytes of the description of a tree.
const TREE_BYTES_AT_MOST: u64 = 256 << 20;

/// A shared cache during one run.
pub struct Remote {
    backend: Backend,
    trusted: Vec<PublicKey>,
    /// Without, nothing is added.
    signer: Option<SecretKey>,
    connections: Connections,
    /// What was asked, and what is believed of the answers.
    answers: Mutex<BTreeMap<Digest, Option<Statement>>>,
    /// Keys that are not trusted, once somebody was told.
    told: Mutex<BTreeSet<String>>,
    /// Results that were not what they should be.
    wrong: AtomicUsize,
    /// Whether it is not asked any more.
    is_silent: AtomicBool,
    /// Whether nothing more is added.
    is_full: AtomicBool,
    downloaded_bytes: AtomicU64,
    uploads: AtomicUsize,
    uploaded_bytes: AtomicU64,
}

/// What a shared cache did for a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemoteReport {
    /// Where it is.
    pub at: String,
    /// Units whose result it knew.
    pub hits: usize,
    /// Bytes that came from it.
    pub downloaded_bytes: u64,
    /// Results that were added to it.
    pub uploads: usize,
    /// Bytes that were sent.
    pub uploaded_bytes: u64,
}

/// What is shared of a unit's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Nothing: it is made in less time than anybody answers.
    Nothing,
    /// Its digest: whoever needs its files makes them of what is pinned.
    Digest,
    /// All of it.
    Content,
}

/// What is shared of such a unit.
pub fn share(unit: &Unit) -> Share {
    match unit.action {
        Action::UnpackPackages(_) | Action::JoinTrees { .. } => Share::Digest,
        Action::FetchSource { .. }
        | Action::VendorCrates { .. }
        | Action::DownloadModules { .. }
        | Action::Process(_)
        | Action::PackLayer(_) => Share::Content,
        // Layers of bases come from where the base is.
        Action::ImportLayer(_)
        | Action::CheckBase { .. }
        | Action::PlaceFolders { .. }
        | Action::InstallFiles { .. }
        | Action::CheckPlatform { .. }
        | Action::Manifest(_)
        | Action::Index { .. } => Share::Nothing,
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remote {
    fn new(backend: Backend, trusted: Vec<PublicKey>, signer: Option<SecretKey>) -> Self {
        Self {
            backend,
            trusted,
            signer,
            connections: Connections::default(),
            answers: Mutex::default(),
            told: Mutex::default(),
            wrong: AtomicUsize::default(),
            is_silent: AtomicBool::default(),
            is_full: AtomicBool::default(),
            downloaded_bytes: AtomicU64::default(),
            uploads: AtomicUsize::default(),
            uploaded_bytes: AtomicU64::default(),
        }
    }

    /// What it knows about a key: `None` if it was not asked, or `Some(None)` if it knows nothing.
    pub fn answer(&self, engine: &Engine, unit: &Unit, key: &Digest) -> Option<Option<Record>> {
        let known = guard(&self.answers).get(key).cloned();
        if let Some(known) = known {
            return Some(known.map(|statement| statement.record()));
        }
        let is_asked = !self.is_silent.load(Ordering::Relaxed)
            && !self.trusted.is_empty()
            && share(unit) != Share::Nothing
            && !super::vendor::has_tree(engine, unit, key);
        if is_asked { None } else { Some(None) }
    }

    /// Asks about a key. What is observed beside a result comes at once.
    pub fn look_up(&self, engine: &Engine, unit: &Unit, key: &Digest) {
        let mut found = self.find(engine, unit, key);
        if let Some(observed) = found.as_ref().and_then(|statement| statement.observed)
            && engine.blob(&observed.digest).is_none()
            && !self.take_blob(engine, unit, key, &observed)
        {
            found = None;
        }
        if let Some(statement) = &found {
            let kept = engine.store.put_promise(key, &statement.record(), &about(unit, statement));
            if let Err(error) = kept {
                engine.tell(Event::Warning { text: error.to_string() });
            }
        }
        guard(&self.answers).insert(*key, found);
    }

    /// Whether it has the files of a result, as far as is known.
    pub fn has_content(&self, key: &Digest) -> bool {
        !self.is_silent.load(Ordering::Relaxed)
            && guard(&self.answers)
                .get(key)
                .is_some_and(|known| known.as_ref().is_some_and(|it| it.tree_bytes.is_some()))
    }

    /// Downloads the files of a result that it knows; false if they cannot be had.
    pub fn fetch(&self, engine: &Engine, unit: &Unit, key: &Digest) -> bool {
        let known = guard(&self.answers).get(key).cloned().flatten();
        let Some(statement) = known else { return false };
        match self.assemble(engine, &statement) {
            Ok(size_bytes) => {
                let kept =
                    engine.store.put_record(key, &statement.record(), &about(unit, &statement));
                if kept.is_err() {
                    return false;
                }
                self.downloaded_bytes.fetch_add(size_bytes, Ordering::Relaxed);
                let what = format!("{} from the shared cache", unit.name);
                engine.tell(Event::Downloaded { what, size_bytes });
                true
            }
            Err(refusal) => {
                self.unusable(engine, unit, key, refusal);
                guard(&self.answers).insert(*key, None);
                false
            }
        }
    }

    /// What the run owes to it, for so many units whose result it knew.
    pub fn report(&self, hits: usize) -> RemoteReport {
        RemoteReport {
            at: self.backend.name(),
            hits,
            downloaded_bytes: self.downloaded_bytes.load(Ordering::Relaxed),
            uploads: self.uploads.load(Ordering::Relaxed),
            uploaded_bytes: self.uploaded_bytes.load(Ordering::Relaxed),
        }
    }

    /// What is believed about a key.
    fn find(&self, engine: &Engine, unit: &Unit, key: &Digest) -> Option<Statement> {
        let ask =
            |asking: &Asking<'_>, watch: &mut Watch<'_>| self.backend.result(key, asking, watch);
        let signed = match self.ask(engine, 0, &|| false, &ask) {
            Ok(signed) => signed,
            Err(Refusal::Missing) => return None,
            Err(refusal) => {
                self.unusable(engine, unit, key, refusal);
                return None;
            }
        };
        match signed.believe(key, &self.trusted) {
            Ok(found) if share(unit) == Share::Content && found.tree_bytes.is_none() => None,
            Ok(found) => Some(found),
            Err(Disbelief::Later) => None,
            Err(Disbelief::Untrusted(signer)) => {
                let text = format!(
                    "{signer} signed the result of {} in the shared cache {} (key {}), and is not \
                     trusted: nothing by that key is used",
                    unit.name,
                    self.backend.name(),
                    key.hex()
                );
                if guard(&self.told).insert(signer) {
                    engine.tell(Event::Warning { text });
                }
                None
            }
            Err(Disbelief::Wrong(why)) => {
                self.unusable(engine, unit, key, Refusal::Wrong(why));
                None
            }
        }
    }

    /// Makes the tree of a statement, and returns how many bytes came.
    fn assemble(&self, engine: &Engine, statement: &Statement) -> Result<u64, Refusal> {
        let scratch = engine.store.scratch().map_err(|error| Refusal::Disk(error.to_string()))?;
        let at = |name: &str| scratch.path().join(name);
        let disk = |error: std::io::Error| Refusal::Disk(error.to_string());
        let size_bytes = statement.tree_bytes.ok_or(Refusal::Missing)?;
        if size_bytes > TREE_BYTES_AT_MOST {
            return Err(Refusal::Wrong("its tree is larger than any".into()));
        }
        let mut done = 0;
        let mut take = |part: Part, to: &Path| {
            done += part.size_bytes;
            self.take(engine, &part, to)
        };
        take(Part { digest: statement.output, size_bytes }, &at("description"))?;
        let json = fs::read(at("description")).map_err(disk)?;
        let tree: Tree = serde_json::from_slice(&json)
            .map_err(|error| Refusal::Wrong(format!("its tree cannot be read: {error}")))?;
        if tree.digest() != statement.output || tree.size_bytes() != statement.size_bytes {
            return Err(Refusal::Wrong("its tree is described in another way".into()));
        }
        if let Some(pack) = &statement.pack {
            take(pack.part, &at("pack"))?;
        }
        let pack = at("pack");
        let wrong = |error: std::io::Error| Refusal::Wrong(error.to_string());
        let mut unpacker =
            Unpacker::open(statement.pack.as_ref().map(|known| (pack.as_path(), known)))
                .map_err(wrong)?;
        let mut write = |file: WantedFile<'_>, to: &Path| {
            if unpacker.write(file, to).map_err(wrong)? {
                return Ok(());
            }
            take(Part { digest: *file.digest, size_bytes: file.size_bytes }, to)?;
            unpacker.wrote(file.digest, to);
            Ok(())
        };
        engine.store.assemble(&tree, &statement.output, &mut write).map_err(
            |error| match error {
                Unfit::Name(name) => Refusal::Wrong(format!("`{name}` is no path in a tree")),
                Unfit::Content(refusal) => refusal,
            },
        )?;
        Ok(done)
    }

    /// Downloads a part.
    fn take(&self, engine: &Engine, part: &Part, to: &Path) -> Result<(), Refusal> {
        let ask =
            |asking: &Asking<'_>, watch: &mut Watch<'_>| self.backend.part(part, to, asking, watch);
        self.ask(engine, part.size_bytes, &|| false, &ask).map_err(|refusal| match refusal {
            Refusal::Wrong(why) => Refusal::Wrong(format!("its part {}: {why}", part.digest)),
            other => other,
        })
    }

    /// Takes a blob to the store; false if it cannot be had.
    fn take_blob(&self, engine: &Engine, unit: &Unit, key: &Digest, part: &Part) -> bool {
        let taken = || {
            let disk = |error: StoreError| Refusal::Disk(error.to_string());
            let scratch = engine.store.scratch().map_err(disk)?;
            let file = scratch.path().join("blob");
            self.take(engine, part, &file)?;
            engine.store.adopt_blob(&file, &part.digest).map_err(disk)
        };
        taken().map_err(|refusal| self.unusable(engine, unit, key, refusal)).is_ok()
    }

    /// Asks within a time, which `is_over` may cut short; again, if the first failure may pass.
    fn ask<T>(
        &self,
        engine: &Engine,
        size_bytes: u64,
        is_over: &(dyn Fn() -> bool + Sync),
        request: &dyn Fn(&Asking<'_>, &mut Watch<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let scratch = engine.store.scratch().map_err(|error| Refusal::Disk(error.to_string()))?;
        let asking = Asking {
            environment: &engine.environment,
            sessions: &engine.registries,
            connections: &self.connections,
            scratch: scratch.path(),
        };
        let time = TIME_AT_MOST + Duration::from_secs(size_bytes / BYTES_PER_SEC_AT_LEAST);
        let attempt = || {
            let started = Instant::now();
            let stop = || engine.is_interrupted() || is_over() || started.elapsed() > time;
            request(&asking, &mut Watch { stop: &stop, progress: &mut |_, _| {} })
        };
        match attempt() {
            Err(Refusal::Passing(_)) => {
                std::thread::sleep(PAUSE);
                attempt()
            }
            other => other,
        }
    }

    /// Tells why a result is not used, or why nothing is asked any more.
    fn unusable(&self, engine: &Engine, unit: &Unit, key: &Digest, refusal: Refusal) {
        match refusal {
            Refusal::Wrong(why) => {
                let text = format!(
                    "the result of {} in the shared cache {} is not used, and made here: {why} \
                     (key {})",
                    unit.name,
                    self.backend.name(),
                    key.hex()
                );
                engine.tell(Event::Warning { text });
                if self.wrong.fetch_add(1, Ordering::Relaxed) + 1 >= WRONG_AT_MOST {
                    self.leave(engine, "too many of its results are wrong");
                }
            }
            Refusal::Stopped if engine.is_interrupted() => {}
            Refusal::Stopped => self.leave(engine, "it is too slow"),
            Refusal::Unusable(why) | Refusal::Passing(why) => self.leave(engine, &why),
            Refusal::Disk(why) => engine.tell(Event::Warning { text: why }),
            // Somebody made room there.
            Refusal::Missing | Refusal::TooLarge => {
                let name = self.backend.name();
                let text = format!("the shared cache {name} lacks a part of {}", unit.name);
                engine.tell(Event::Note { text });
            }
        }
    }

    /// Asks nothing any more, and says so once.
    fn leave(&self, engine: &Engine, why: &str) {
        if !self.is_silent.swap(true, Ordering::Relaxed) {
            let text = format!(
                "the shared cache {} is not asked any more by this build: {why}",
                self.backend.name()
            );
            engine.tell(Event::Warning { text });
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Disk(error.to_string())
    }
}

/// What is told about a result that came from elsewhere.
fn about(unit: &Unit, statement: &Statement) -> About {
    About {
        unit: unit.name.clone(),
        kind: unit.kind().to_owned(),
        elapsed_ms: statement.elapsed_ms,
        // Nothing else is uploaded.
        is_clean: true,
        // What it took there is not told.
        largest_bytes: 0,
    }
}
