//! The main job: configuration in, one OCI layout out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::compiler_cache::CompilerCache;
pub use super::pins::Pins;
use super::pins::released;
use super::remote::settings::{self, RemoteMode};
use super::report::BuildError;
use super::resolve::{Resolver, platforms, project_state};
use super::snapshot::Snapshots;
use super::start::{hold, lock_project, tier};
use super::{Engine, programs};
use crate::config::{self, FILE_NAME, Project};
use crate::machine::environment::{Environment, available_cores, now_nanos};
use crate::machine::process::JobTokens;
use crate::machine::sandbox::Tier;
use crate::model::event::Event;
use crate::model::{Finding, Platform};
use crate::plan::facts::Facts;
use crate::plan::{Plan, images};
use crate::source::archives::Archives;
use crate::source::lock::Lock;
use crate::source::pins::Move;
use crate::store::{StatIndex, sweep_beside, write_durably};

/// Name of the lock file.
pub const LOCK_NAME: &str = "images.lock";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Folder of `images.toml`.
    pub project: PathBuf,
    /// Images, all if empty.
    pub images: Vec<String>,
    /// Platforms, the project's if empty.
    pub platforms: Vec<Platform>,
    /// Cores, the machine's if not given.
    pub jobs: Option<usize>,
    /// Whether the lock may not change.
    pub locked: bool,
    /// What becomes of what the lock pins already.
    pub pins: Pins,
    /// Whether every library is wanted at once, as in [`Prepared::environment`].
    pub every_library: bool,
    /// Whether the network may not be used.
    pub offline: bool,
    /// Whether independent units go on after a failure.
    pub keep_going: bool,
    /// Sandbox tier, the best one if not given.
    pub tier: Option<Tier>,
    /// Tags instead of the project's, if any are given.
    pub tags: Vec<String>,
    /// `gzip` or `zstd`, the project's if not given.
    pub compression: Option<String>,
    /// How far a shared cache is used, as far as can be if not given.
    pub remote_cache: Option<RemoteMode>,
    /// Where the layout goes, `target/images` in the project if not given.
    pub output: Option<PathBuf>,
}

/// A plan and everything to run it with.
pub struct Prepared {
    /// The engine.
    pub engine: Engine,
    /// The plan.
    pub plan: Plan,
    /// The facts that it came from.
    pub facts: Facts,
    /// What is pinned.
    pub lock: Lock,
    /// What is pinned otherwise than before.
    pub moves: BTreeSet<Move>,
    /// Why images are missing in the plan, whose bases cannot be had. Only with `keep_going`.
    pub(super) set_aside: Vec<Finding>,
    /// Whether everything of the project is planned.
    pub(super) is_whole: bool,
    pub(super) output: PathBuf,
    pub(super) started: Instant,
    /// Held until the build is done: compiler state and snapshots are the project's.
    _alone: fs::File,
    /// Held until the build is done: nobody removes what it uses.
    _hold: fs::File,
}

fn finding(code: &'static str, message: String) -> BuildError {
    BuildError::Findings(vec![Finding::new(code, message)])
}

/// Reads the configuration of a project.
pub fn configuration(folder: &Path) -> Result<Project, BuildError> {
    let file = folder.join(FILE_NAME);
    let text = fs::read_to_string(&file).map_err(|error| {
        let finding = match error.kind() {
            std::io::ErrorKind::NotFound => {
                Finding::new("no-configuration", format!("there is no {}", file.display())).help(
                    "go to the folder that has one, or name it with `--project DIR`; \
                     the README shows a first one",
                )
            }
            _ => {
                Finding::new("no-configuration", format!("cannot read {}: {error}", file.display()))
            }
        };
        BuildError::Findings(vec![finding])
    })?;
    config::parse(FILE_NAME, &text).map_err(BuildError::Findings)
}

/// Reads, resolves and plans. Writes the lock if it grew.
pub fn prepare(
    request: &Request,
    environment: &Environment,
    events: Sender<Event>,
    interrupted: Arc<AtomicBool>,
) -> Result<Prepared, BuildError> {
    let started = Instant::now();
    let folder = fs::canonicalize(environment.folder.join(&request.project)).map_err(|error| {
        finding("no-project", format!("cannot open {}: {error}", request.project.display()))
    })?;
    let mut project = configuration(&folder)?;
    if !request.tags.is_empty() {
        project.tags.clone_from(&request.tags);
    }
    if let Some(compression) = &request.compression {
        project.compression.clone_from(compression);
    }
    let wanted = platforms(&project, &request.platforms)
        .map_err(|finding| BuildError::Findings(vec![finding]))?;
    if let Some(name) = request.images.iter().find(|name| !project.images.contains_key(*name)) {
        let known: Vec<&str> = project.images.keys().map(String::as_str).collect();
        let message = format!("there is no image `{name}`; the project has {}", known.join(", "));
        return Err(finding("unknown-image", message));
    }
    let store = super::cache::open(environment)?;
    let hold = hold(&store, &events, &interrupted)?;
    let remote = match request.offline {
        true => None,
        false => {
            let warn = |text: String| {
                let _ = events.send(Event::Warning { text });
            };
            settings::open(&project, environment, request.remote_cache, &warn)
                .map_err(|finding| BuildError::Findings(vec![finding]))?
        }
    };
    let jobs = request.jobs.unwrap_or_else(available_cores).max(1);
    let tokens = JobTokens::new(jobs)
        .map_err(|error| BuildError::Output(format!("cannot make a jobserver: {error}")))?;
    let tier = tier(request.tier, &store, &events)?;
    if let Some(finding) = programs::unusable_cache(&project, tier, store.root()) {
        return Err(BuildError::Findings(vec![finding]));
    }
    let lock_file = folder.join(LOCK_NAME);
    let lock_text = fs::read_to_string(&lock_file).unwrap_or_default();
    let old_lock = if lock_text.is_empty() {
        Lock::default()
    } else {
        Lock::parse(LOCK_NAME, &lock_text).map_err(|finding| BuildError::Findings(vec![finding]))?
    };
    let state = project_state(store.root(), &folder);
    let alone = lock_project(&state, &events, &interrupted)?;
    // What a killed build left there would be a source.
    sweep_beside(&folder, &[".new-"]);
    let mut engine = Engine {
        archives: Archives::new(
            environment,
            &store,
            &folder,
            &project.suites,
            project.suite.as_deref(),
            request.offline,
            Arc::clone(&interrupted),
        ),
        cargo: environment
            .get("CARGO")
            .map(PathBuf::from)
            .or_else(|| environment.find_program("cargo")),
        environment: environment.clone(),
        tier,
        jobs,
        tokens,
        keep_going: request.keep_going,
        offline: request.offline,
        interrupted,
        compiler_cache: project
            .sccache
            .then(|| CompilerCache::find(environment, &state))
            .and_then(|found| found.map_err(|text| events.send(Event::Warning { text })).ok()),
        events,
        project_state: state.clone(),
        vendor: project.vendor.as_ref().map(|vendor| folder.join(vendor)),
        snapshots: Snapshots::none(),
        network: Mutex::new(()),
        base_archives: Default::default(),
        registries: Default::default(),
        remote,
        project: folder.clone(),
        store,
    };
    let mut resolver = Resolver {
        index: StatIndex::open(&state.join("stat-index.json"), now_nanos()),
        engine: &engine,
        folder: &folder,
        lock: released(&old_lock, &project, &request.pins)?,
        locked: request.locked,
        every_library: request.every_library,
        compression: project.compression.clone(),
        asked_by: BTreeMap::new(),
        set_aside: Vec::new(),
        selections: BTreeMap::new(),
        findings: Vec::new(),
    };
    let facts = resolver.facts(&project);
    resolver.index.save()?;
    let (mut lock, findings) = (resolver.lock, resolver.findings);
    let set_aside = resolver.set_aside;
    engine.archives.know(&lock);
    engine.archives.forget_lists();
    let Some(mut facts) = facts.filter(|_| findings.is_empty()) else {
        return Err(BuildError::Findings([set_aside, findings].concat()));
    };
    engine.snapshots = Snapshots::new(&facts, &state, engine.store.boot());
    super::crate_locks::complete(&engine, &mut facts, &mut lock, request.locked)?;
    if request.pins != Pins::Keep {
        lock.keep_other_hosts(&old_lock, &facts.host.debian_architecture);
    }
    let rendered = lock.render();
    // One that was merged by hand and says the same is no change.
    let changed = if request.locked { lock != old_lock } else { rendered != lock_text };
    if changed && !lock.names().is_empty() && request.pins != Pins::Compare {
        write_durably(&lock_file, rendered.as_bytes())?;
    }
    // All is new in a new lock.
    let is_first = old_lock == Lock::default();
    // What is not asked for any more is not older than anything.
    let old_lock =
        if request.pins == Pins::Compare { old_lock.only(&lock.names()) } else { old_lock };
    let moves = if is_first { BTreeSet::new() } else { lock.moved_from(&old_lock) };
    let plan = images::plan(&facts, &request.images, &wanted);
    let output = match &request.output {
        Some(output) => environment.folder.join(output),
        None => folder.join("target/images"),
    };
    let is_whole = request.images.is_empty() && request.platforms.is_empty();
    let is_whole = is_whole && set_aside.is_empty();
    Ok(Prepared {
        engine,
        plan,
        facts,
        lock,
        moves,
        set_aside,
        is_whole,
        output,
        started,
        _alone: alone,
        _hold: hold,
    })
}
