//! One unit: its action done in scratch, its output moved into the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::compiler_cache::CompilerCache;
use super::compiler_state::CompilerState;
use super::log::{Log, failure};
use super::undeclared::Failed;
use super::{Engine, fetch, fetch_source, imports, library, pack, probe_report, programs};
use crate::machine::process::jobserver_variables;
use crate::machine::sandbox::{Bind, Sandbox, Tier};
use crate::machine::supervisor;
use crate::model::Digest;
use crate::model::action::{Action, JobStyle, Mount, ProcessAction, VIRTUAL_ROOT};
use crate::model::attempt::Attempts;
use crate::model::event::Event;
use crate::plan::Plan;
use crate::store::{Record, normalise};

/// Why a unit failed, for people.
#[derive(Clone, Debug)]
pub struct UnitError {
    /// What went wrong, whole.
    pub message: String,
    /// Whether a remote side is to blame.
    pub is_remote: bool,
}

impl<T: Into<String>> From<T> for UnitError {
    fn from(message: T) -> Self {
        Self { message: message.into(), is_remote: false }
    }
}

/// What a unit gave.
pub struct Done {
    /// Its record.
    pub record: Record,
    /// Whether it is no work of compilers with what they kept of earlier builds.
    pub is_clean: bool,
    /// Memory that its largest process took, in bytes.
    pub largest_bytes: u64,
}

/// Does the unit's action.
pub fn execute(
    engine: &Engine,
    plan: &Plan,
    index: usize,
    needs: &[Record],
    jobs: usize,
) -> Result<Done, UnitError> {
    let unit = &plan.units[index];
    let scratch = engine.store.scratch().map_err(text)?;
    let out = scratch.path().join("out");
    fs::create_dir(&out).map_err(|error| format!("cannot create {}: {error}", out.display()))?;
    let (mut observed, mut is_clean, mut largest_bytes) = (None, true, 0);
    match &unit.action {
        Action::UnpackPackages(action) => {
            fetch::unpack(engine, &unit.name, action, scratch.path(), &out)?;
        }
        Action::FetchSource { origin, checksum } => {
            let scratch = scratch.path();
            fetch_source::source(engine, &unit.name, origin, checksum.as_ref(), scratch, &out)?;
        }
        Action::VendorCrates { sources, lock, .. } => {
            let tree = needs.first().map(|need| engine.store.tree_path(&need.output));
            let from = fetch::Manifests { sources, lock: lock.as_deref(), tree };
            fetch::crates(engine, &unit.name, &from, scratch.path(), &out)?;
        }
        Action::JoinTrees { names, archives } => {
            library::join(engine, names, archives, needs, &out)?;
        }
        Action::InstallFiles { files, product } => {
            library::install_files(engine, files, product, &out)?;
        }
        Action::DownloadModules { sources, folder, go, .. } => {
            let root = &plan.machine_folders[&format!("go{go}")];
            fetch::modules(engine, &unit.name, (sources, folder), root, &out)?;
        }
        Action::Process(action) => {
            let run = Run { engine, plan, name: &unit.name, action, needs, jobs };
            let state = run.state()?;
            let attempts = run.run(scratch.path(), &out)?;
            largest_bytes = attempts.largest_bytes;
            is_clean = state.end()? & run.is_alike_elsewhere();
            observed = probe_report::keep(engine, action, attempts, scratch.path())?;
        }
        Action::PackLayer(action) => pack::layer(engine, action, needs, jobs, &out)?,
        Action::ImportLayer(action) => {
            imports::layer(engine, action, jobs, scratch.path(), &out)?;
        }
        Action::CheckBase { name, platform } => {
            imports::check(engine, name, platform, needs, &out)?;
        }
        Action::PlaceFolders { folders, texts } => {
            imports::places(engine, (folders, *texts), needs, &out)?;
        }
        Action::CheckPlatform { image, platform } => pack::check(engine, image, platform, needs)?,
        Action::Manifest(action) => pack::manifest(engine, action, needs, &out)?,
        Action::Index { platforms, annotations, .. } => {
            pack::index(engine, platforms, annotations, needs, &out)?;
        }
    }
    if !matches!(unit.action, Action::UnpackPackages(_) | Action::JoinTrees { .. }) {
        normalise(&out).map_err(text)?;
    }
    let (output, tree) = engine.store.adopt_tree(&out).map_err(text)?;
    let record = Record { output, size_bytes: tree.size_bytes(), observed };
    Ok(Done { record, is_clean, largest_bytes })
}

/// An error as its text.
pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A process action on its way.
struct Run<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    name: &'a str,
    action: &'a ProcessAction,
    needs: &'a [Record],
    jobs: usize,
}

impl Run<'_> {
    /// What compilers kept, fit to be used.
    fn state(&self) -> Result<CompilerState, String> {
        let sources = self.action.sources.as_ref().map(|sources| sources.digest.short());
        let inputs = format!("{} {}", sources.unwrap_or_default(), self.inputs());
        let folder = self.engine.project_state.join(&self.action.state);
        // A library unpacks its sources anew each time.
        CompilerState::begin(self.engine, &folder, inputs, self.action.product.is_some())
    }

    /// Whether the same sources give the same elsewhere, as far as this run goes: nobody can
    /// vouch for what another program kept, and without constant paths some bytes depend on
    /// the machine's.
    fn is_alike_elsewhere(&self) -> bool {
        let (cache, tier) = self.compiler_cache();
        let placed =
            self.action.sources.as_ref().is_some_and(|from| self.engine.snapshots.is_placed(from));
        cache.is_none() && (tier == Tier::Namespaces || !placed)
    }

    /// The compiler cache that it uses, and its tier.
    fn compiler_cache(&self) -> (Option<&CompilerCache>, Tier) {
        let cache = self.engine.compiler_cache.as_ref();
        match cache.and_then(|cache| cache.tier(self.engine, self.action)) {
            Some(tier) => (cache, tier),
            None => (None, self.engine.tier),
        }
    }

    /// Runs the commands and returns what foreign programs they tried to start.
    fn run(&self, scratch: &Path, out: &Path) -> Result<Attempts, String> {
        let folders = self.folders(scratch, out)?;
        let (cache, tier) = self.compiler_cache();
        let constant = tier == Tier::Namespaces;
        let place = |name: &str| {
            if constant {
                format!("{VIRTUAL_ROOT}/{name}")
            } else {
                folders[name].0.to_string_lossy().into_owned()
            }
        };
        let inputs = self.inputs();
        let programs = if constant {
            PathBuf::from("/usr/bin")
        } else {
            programs::wrapped(self.engine, &folders["userland"].0)?
        };
        let fill = |template: &str| {
            let mut filled = template.replace("@{jobs}", &self.jobs.to_string());
            filled = filled.replace("@{programs}", &programs.to_string_lossy());
            filled = filled.replace("@{inputs}", &inputs);
            for name in folders.keys() {
                filled = filled.replace(&format!("@{{{name}}}"), &place(name));
            }
            filled
        };
        for (path, content) in &self.action.tools {
            let content = match cache {
                Some(cache) => cache.wrapped(path, fill(content)),
                None => fill(content),
            };
            write_tool(&folders["tools"].0.join(path), &content)?;
        }
        let mut environment: BTreeMap<String, String> = self
            .action
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), fill(value)))
            .collect();
        if self.action.jobs == JobStyle::Jobserver {
            environment.extend(jobserver_variables(&self.engine.tokens));
        }
        let mut binds = folders
            .iter()
            .map(|(name, (source, writable))| Bind {
                source: source.clone(),
                at: format!("{VIRTUAL_ROOT}/{name}"),
                writable: *writable,
            })
            .collect::<Vec<_>>();
        if !constant {
            let at = format!("{VIRTUAL_ROOT}/programs");
            binds.push(Bind { source: programs.clone(), at, writable: false });
        }
        if let Some(cache) = cache {
            cache.add_variables(&mut environment);
            binds.extend(cache.binds());
        }
        let root = scratch.join("root");
        fs::create_dir_all(&root).map_err(text)?;
        let mut log = Log::start(&self.engine.project_state, self.name)?;
        let record = scratch.join("attempts.json");
        let mut attempts = Attempts::none();
        for command in &self.action.commands {
            let command: Vec<String> = command.iter().map(|word| fill(word)).collect();
            let line = shell_line(&environment, &command);
            self.engine.tell(Event::Command { unit: self.name.to_owned(), line });
            let sandbox = Sandbox {
                tier,
                userland: folders["userland"].0.clone(),
                root: root.clone(),
                binds: binds.clone(),
                network: false,
                folder: fill(&self.action.folder),
                command: command.clone(),
                environment: environment.clone(),
                attempts: Some(record.clone()),
                watch: None,
            };
            let process = sandbox.process(&scratch.join("sandbox.json")).map_err(text)?.merged();
            let output = match self.action.jobs {
                JobStyle::Jobserver => process.output_with_jobs(&self.engine.tokens),
                _ => process.output(),
            }
            .map_err(text)?;
            let words = output.text();
            log.add(&words)?;
            self.tell_attempts(&mut attempts, supervisor::read(&record));
            if !output.success() {
                log.add_records(&folders["build"].0)?;
                let help = self.undeclared(&sandbox, &words, scratch);
                let end = (output.ending(), words);
                return Err(failure(&command, end, help, tier, &log));
            }
            if !words.is_empty() {
                self.engine.tell(Event::Output { unit: self.name.to_owned(), text: words });
            }
        }
        if let Some(product) = &self.action.product {
            let stage = folders["build"].0.join("stage");
            library::check(product, out, &stage)
                .map_err(|error| format!("{error}\n  log: {log}"))?;
        }
        Ok(attempts)
    }

    /// What to do about files that a command which failed wanted and the unit does not declare.
    fn undeclared(&self, sandbox: &Sandbox, words: &str, scratch: &Path) -> Option<String> {
        let shares = self.action.jobs == JobStyle::Jobserver;
        let failed = Failed {
            unit: self.name,
            words,
            sources: self.action.sources.as_ref()?,
            sandbox,
            tokens: shares.then_some(&self.engine.tokens),
        };
        failed.help(self.engine, scratch)
    }

    /// Adds the attempts of a command, and tells those that are new.
    fn tell_attempts(&self, all: &mut Attempts, more: Attempts) {
        let known = all.attempts.len();
        all.extend(more);
        for attempt in &all.attempts[known..] {
            let text = probe_report::sentence(self.name, attempt);
            self.engine.tell(Event::Warning { text });
        }
    }

    /// What stands for the compilers and libraries that are mounted: compilers' own caches do
    /// not know them.
    fn inputs(&self) -> String {
        let mut digests = BTreeMap::new();
        for (name, mount) in &self.action.mounts {
            if !matches!(name.as_str(), "src" | "vendor" | "modules") {
                let digest = match mount {
                    Mount::Need { need } => self.needs[*need].output,
                    Mount::Machine { digest, .. } => *digest,
                };
                digests.insert(name, digest);
            }
        }
        Digest::of(&serde_json::to_vec(&digests).expect("names are strings")).short()
    }

    /// Folders by name, and whether the commands may write there.
    fn folders(
        &self,
        scratch: &Path,
        out: &Path,
    ) -> Result<BTreeMap<String, (PathBuf, bool)>, String> {
        let engine = self.engine;
        let state = engine.project_state.join(&self.action.state);
        let mut folders = BTreeMap::new();
        if let Some(sources) = &self.action.sources {
            let sources = engine.snapshots.folder(&sources.name, sources.digest)?;
            folders.insert("src".to_owned(), (sources.to_owned(), false));
        }
        folders.insert("out".to_owned(), (out.to_owned(), true));
        // One folder of tools for each unit: their paths must stay, and their content differs.
        let tools = state.join("tools").join(self.name.replace([' ', '/'], "-"));
        for (name, path, writable) in [
            ("build", state.join("build"), true),
            ("tools", tools, false),
            ("tmp", scratch.join("tmp"), true),
        ] {
            fs::create_dir_all(&path)
                .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
            folders.insert(name.to_owned(), (path, writable));
        }
        for (name, mount) in &self.action.mounts {
            let path = match mount {
                Mount::Need { need } => engine.store.tree_path(&self.needs[*need].output),
                Mount::Machine { name, .. } => self.plan.machine_folders[name].clone(),
            };
            folders.insert(name.clone(), (path, false));
        }
        Ok(folders)
    }
}

/// Writes a file that can be executed, unless it is there.
pub fn write_tool(path: &Path, content: &str) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let is_program = |path: &Path| {
        fs::metadata(path).is_ok_and(|status| status.permissions().mode() & 0o777 == 0o755)
    };
    if is_program(path) && fs::read_to_string(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // What a killed process left may have the content and not the mode.
        let _ = fs::remove_file(path);
        fs::write(path, content)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    write().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// A command with its environment, as it could be typed.
fn shell_line(environment: &BTreeMap<String, String>, command: &[String]) -> String {
    let quote = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let environment = environment.iter().map(|(name, value)| format!("{name}={}", quote(value)));
    let words = command.iter().map(|word| quote(word));
    environment.chain(words).collect::<Vec<_>>().join(" ")
}
