//! The main job: configuration in, one OCI layout out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::explain::Explainer;
use super::history::History;
pub use super::pins::Pins;
use super::pins::released;
use super::report::{BuildError, ImageReport, Report, UnitReport};
use super::resolve::{Resolver, platforms, project_state};
use super::schedule::{self, Outcome};
use super::snapshot::Snapshot;
use super::{Engine, pack, probe_report, programs};
use crate::config::{self, FILE_NAME, Project};
use crate::image::manifest::{CONFIG, Descriptor, INDEX};
use crate::machine::environment::{Environment, available_cores, now_nanos, user_id};
use crate::machine::process::JobTokens;
use crate::machine::sandbox::{self, Tier};
use crate::model::event::Event;
use crate::model::{Digest, Finding, Platform};
use crate::plan::facts::Facts;
use crate::plan::{Plan, images};
use crate::release::layout::{self, Entry};
use crate::source::archives::Archives;
use crate::source::lock::Lock;
use crate::source::pins::Move;
use crate::store::{StatIndex, Store, StoreError};

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
    set_aside: Vec<Finding>,
    /// Whether everything of the project is planned.
    is_whole: bool,
    output: PathBuf,
    started: Instant,
    /// Held until the build is done: compiler state and snapshots are the project's.
    _alone: fs::File,
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
    let cache = environment.cache_folder().ok_or_else(|| {
        finding("no-cache", "there is no folder for the cache: set XSTITCH_CACHE or HOME".into())
    })?;
    let store = Store::open(&cache)?;
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
    let alone = lock_project(&state, &events)?;
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
        events,
        interrupted,
        project_state: state.clone(),
        vendor: project.vendor.as_ref().map(|vendor| folder.join(vendor)),
        snapshots: BTreeMap::new(),
        network: Mutex::new(()),
        base_archives: Default::default(),
        registries: Default::default(),
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
    engine.snapshots = facts
        .listings
        .iter()
        .map(|(name, listing)| {
            let slug = crate::plan::images::slug(name);
            let snapshot = Snapshot {
                listing: listing.clone(),
                folder: state.join("src").join(slug),
                name: listing.folder.clone(),
                done: OnceLock::new(),
            };
            (name.clone(), snapshot)
        })
        .collect();
    super::crate_locks::complete(&engine, &mut facts, &mut lock, request.locked)?;
    if request.pins != Pins::Keep {
        lock.keep_other_hosts(&old_lock, &facts.host.debian_architecture);
    }
    let rendered = lock.render();
    // One that was merged by hand and says the same is no change.
    let changed = if request.locked { lock != old_lock } else { rendered != lock_text };
    if changed && !lock.names().is_empty() && request.pins != Pins::Compare {
        crate::store::write_atomically(&lock_file, rendered.as_bytes())?;
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
    })
}

/// Waits, visibly, until no other process builds this project. The lock dies with its
/// process.
fn lock_project(state: &Path, events: &Sender<Event>) -> Result<fs::File, BuildError> {
    let path = state.join("lock");
    let failed = |source| StoreError { doing: "lock", path: path.clone(), source };
    fs::create_dir_all(state).map_err(failed)?;
    let file = fs::File::create(&path).map_err(failed)?;
    if file.try_lock().is_err() {
        let text = "waiting for another build of this project".to_owned();
        let _ = events.send(Event::Note { text });
        file.lock().map_err(failed)?;
    }
    Ok(file)
}

/// The tier asked for, or the best that the machine can do. What was found out is
/// remembered until the machine is started again.
fn tier(asked: Option<Tier>, store: &Store, events: &Sender<Event>) -> Result<Tier, BuildError> {
    if let Some(tier) = asked {
        return Ok(tier);
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let user = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let key = Digest::of(format!("{boot}{user}{}", user_id()).as_bytes());
    let memory = store.state("tier").join(key.hex());
    let known = fs::read_to_string(&memory).unwrap_or_default();
    let (name, reason) = known.split_once('\n').unwrap_or_default();
    let (tier, reason) = match Tier::parse(name) {
        Some(tier) => (tier, reason.to_owned()),
        None => {
            let scratch = store.scratch()?;
            let (tier, reason) = sandbox::detect(scratch.path());
            let reason = reason.unwrap_or_default();
            let text = format!("{}\n{reason}", tier.name());
            crate::store::write_atomically(&memory, text.as_bytes())?;
            (tier, reason)
        }
    };
    if !reason.is_empty() {
        let text = format!(
            "compilers run in the sandbox tier `{}`, no better one works here: {reason}",
            tier.name()
        );
        let _ = events.send(Event::Warning { text });
    }
    Ok(tier)
}

impl Prepared {
    /// An error, where the plan lacks images whose bases cannot be had.
    pub fn whole(&self) -> Result<(), BuildError> {
        BuildError::unless_none(&self.set_aside, Vec::new())
    }

    /// Runs the plan and writes the layout.
    pub fn build(&self) -> Result<Report, BuildError> {
        let explainer = Explainer::new(&self.engine, &self.plan, &self.facts);
        let mut outcome = schedule::run(&self.engine, &self.plan, &|index, outputs, key| {
            let outputs: Vec<Option<Digest>> = outputs.iter().copied().map(Some).collect();
            explainer.reasons(index, &outputs, Some(key)).0
        });
        let history = History::new(&self.engine.project_state);
        if let Err(error) = history.keep(&self.plan, &self.facts, &outcome, self.is_whole) {
            let text = format!("`plan` will not know why units run: {error}");
            self.engine.tell(Event::Warning { text });
        }
        if outcome.interrupted {
            return Err(BuildError::Interrupted);
        }
        BuildError::unless_none(&self.set_aside, std::mem::take(&mut outcome.failures))?;
        let output = |error: String| {
            BuildError::Output(format!("cannot write {}: {error}", self.output.display()))
        };
        let probes = probe_report::collect(&self.engine, &self.plan, &outcome, &self.facts.project);
        probes.tell(&self.engine, &self.plan, &outcome);
        let attempts = probes.failures();
        if self.facts.project.strict && !attempts.is_empty() {
            return Err(BuildError::Units(attempts));
        }
        let mut blobs: BTreeMap<Digest, (u64, PathBuf)> = BTreeMap::new();
        let mut entries = Vec::new();
        let mut reports = Vec::new();
        let mut counted = BTreeSet::new();
        for image in self.plan.images.iter().filter(|image| image.publish) {
            let Some(index) = image.index else { continue };
            let mut total = 0;
            for (platform, manifest, layers) in &image.platforms {
                let layers = &self.layers(&outcome, layers).map_err(output)?;
                let mut report = self
                    .collect(&outcome, &image.name, platform, *manifest, layers, &mut blobs)
                    .map_err(output)?;
                let new = layers.iter().filter(|layer| outcome.ran.contains_key(layer));
                report.layers_new = new.filter(|layer| counted.insert(**layer)).count();
                report.layers_shared = layers.len() - report.layers_new;
                total += report.size_bytes;
                reports.push(report);
            }
            let file = self.file(&outcome, index, pack::INDEX_BLOB);
            let bytes = fs::read(&file).map_err(|error| output(error.to_string()))?;
            let descriptor = Descriptor::of(INDEX, &bytes);
            blobs.insert(descriptor.digest, (descriptor.size_bytes, file));
            let platforms = reports.iter().filter(|report| report.image == image.name);
            let report = ImageReport {
                image: image.name.clone(),
                platform: None,
                digest: descriptor.digest,
                size_bytes: total,
                layers_new: platforms.clone().map(|report| report.layers_new).sum(),
                layers_shared: platforms.map(|report| report.layers_shared).sum(),
                time_ms: 0,
            };
            reports.push(report);
            for tag in self.facts.tags() {
                entries.push(Entry {
                    name: self.facts.reference(&image.name, &tag),
                    reference: format!("{}:{tag}", image.name),
                    index: descriptor.clone(),
                });
            }
        }
        let written = layout::write(&self.output, &entries, &blobs)
            .map_err(|error| output(error.to_string()))?;
        let report_file = self.output.with_extension("probes.json");
        probes.write(&report_file).map_err(BuildError::Output)?;
        Ok(Report {
            version: 1,
            layout: self.output.clone(),
            images: reports,
            ran: self.ran(&outcome),
            units_run: outcome.ran.len(),
            units_cached: outcome.records.len() - outcome.ran.len(),
            written,
            probes: report_file,
            probe_differences: probes.builds.values().map(|build| build.differences.len()).sum(),
            attempts: attempts.len(),
            elapsed_ms: milliseconds(self.started.elapsed()),
        })
    }

    /// The units that ran, in the order of the plan.
    fn ran(&self, outcome: &Outcome) -> Vec<UnitReport> {
        let ran = outcome.ran.iter().map(|(index, time)| UnitReport {
            unit: self.plan.units[*index].name.clone(),
            time_ms: milliseconds(*time),
            reasons: outcome.reasons.get(index).cloned().unwrap_or_default(),
        });
        ran.collect()
    }

    fn file(&self, outcome: &Outcome, unit: usize, name: &str) -> PathBuf {
        self.engine.store.tree_path(&outcome.records[&unit].output).join(name)
    }

    /// The layers that an image has: those that hold something.
    fn layers(&self, outcome: &Outcome, layers: &[usize]) -> Result<Vec<usize>, String> {
        let mut kept = Vec::new();
        for &layer in layers {
            if !pack::packed(&self.engine, &outcome.records[&layer])?.is_empty() {
                kept.push(layer);
            }
        }
        Ok(kept)
    }

    /// Adds the blobs of one image on one platform, and reports it.
    fn collect(
        &self,
        outcome: &Outcome,
        image: &str,
        platform: &Platform,
        manifest: usize,
        layers: &[usize],
        blobs: &mut BTreeMap<Digest, (u64, PathBuf)>,
    ) -> Result<ImageReport, String> {
        let mut size_bytes = 0;
        for &layer in layers {
            let packed = pack::packed(&self.engine, &outcome.records[&layer])?;
            size_bytes += packed.size_bytes;
            let file = self.file(outcome, layer, pack::LAYER_BLOB);
            blobs.insert(packed.digest, (packed.size_bytes, file));
        }
        let mut digest = Digest::of(b"");
        for (name, media_type) in [(pack::CONFIG_BLOB, CONFIG), (pack::MANIFEST_BLOB, "")] {
            let file = self.file(outcome, manifest, name);
            let bytes = fs::read(&file).map_err(|error| error.to_string())?;
            let descriptor = Descriptor::of(media_type, &bytes);
            digest = descriptor.digest;
            blobs.insert(digest, (descriptor.size_bytes, file));
        }
        let mut below = BTreeSet::from([manifest]);
        for index in (0..=manifest).rev() {
            if below.contains(&index) {
                below.extend(&self.plan.units[index].needs);
            }
        }
        let time: Duration = below.iter().filter_map(|unit| outcome.ran.get(unit)).sum();
        Ok(ImageReport {
            image: image.to_owned(),
            platform: Some(platform.clone()),
            digest,
            size_bytes,
            layers_new: 0,
            layers_shared: layers.len(),
            time_ms: milliseconds(time),
        })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
