//! One unit: its action done in scratch, its output moved into the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Engine, pack};
use crate::archive::deb::{UnpackOptions, unpack_deb};
use crate::machine::process::{Process, jobserver_variables};
use crate::machine::sandbox::{Bind, Sandbox, Tier};
use crate::model::action::{
    Action, JobStyle, Mount, ProcessAction, Shape, UnpackAction, VIRTUAL_ROOT,
};
use crate::model::event::Event;
use crate::model::package::Package;
use crate::plan::Plan;
use crate::store::{Record, normalise};

/// Parts of packages that no toolchain needs.
const DOCUMENTATION: [&str; 6] = [
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/bug",
];

/// Does the unit's action and returns its record. The error is for people.
pub fn execute(
    engine: &Engine,
    plan: &Plan,
    index: usize,
    needs: &[Record],
    jobs: usize,
) -> Result<Record, String> {
    let unit = &plan.units[index];
    let scratch = engine.store.scratch().map_err(text)?;
    let out = scratch.path().join("out");
    fs::create_dir(&out).map_err(|error| format!("cannot create {}: {error}", out.display()))?;
    match &unit.action {
        Action::UnpackPackages(action) => unpack(engine, &unit.name, action, scratch.path(), &out)?,
        Action::VendorCrates { sources, .. } => vendor(engine, sources, &out)?,
        Action::DownloadModules { sources, go, .. } => {
            let root = &plan.machine_folders[&format!("go{go}")];
            download_modules(engine, sources, root, &out)?;
        }
        Action::Process(action) => {
            let run = Run { engine, plan, name: &unit.name, action, needs, jobs };
            run.run(scratch.path(), &out)?;
        }
        Action::PackLayer(action) => pack::layer(engine, action, needs, jobs, &out)?,
        Action::CheckPlatform { image, platform } => pack::check(engine, image, platform, needs)?,
        Action::Manifest(action) => pack::manifest(engine, action, needs, &out)?,
        Action::Index { platforms, annotations, .. } => {
            pack::index(engine, platforms, annotations, needs, &out)?;
        }
    }
    if !matches!(unit.action, Action::UnpackPackages(_)) {
        normalise(&out).map_err(text)?;
    }
    let (output, tree) = engine.store.adopt_tree(&out).map_err(text)?;
    Ok(Record { output, size_bytes: tree.size_bytes() })
}

/// An error as its text.
pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Makes sure that the packages are in the store, checked.
fn fetch(engine: &Engine, unit: &str, packages: &[Package], scratch: &Path) -> Result<(), String> {
    let _one_at_a_time = engine.network.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let missing: Vec<Package> = packages
        .iter()
        .filter(|package| !engine.store.blob_path(&package.sha256).is_file())
        .cloned()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    engine.tell(Event::Download {
        what: format!("{} packages for {unit}", missing.len()),
        size_bytes: Some(missing.iter().map(|package| package.size_bytes).sum()),
        to: engine.store.root().join("blobs").display().to_string(),
    });
    let folder = scratch.join("packages");
    fs::create_dir_all(&folder).map_err(text)?;
    let mut by_architecture: BTreeMap<&str, Vec<Package>> = BTreeMap::new();
    let some = packages.iter().find(|package| package.architecture != "all");
    let native = some.map_or("amd64", |package| package.architecture.as_str());
    for package in &missing {
        let architecture = match package.architecture.as_str() {
            "all" => native,
            architecture => architecture,
        };
        by_architecture.entry(architecture).or_default().push(package.clone());
    }
    for (architecture, packages) in by_architecture {
        let files = engine.apt.fetch(architecture, &packages, &folder).map_err(text)?;
        for (package, file) in packages.iter().zip(files) {
            engine.store.adopt_blob(&file, &package.sha256).map_err(text)?;
        }
    }
    Ok(())
}

fn unpack(
    engine: &Engine,
    unit: &str,
    action: &UnpackAction,
    scratch: &Path,
    out: &Path,
) -> Result<(), String> {
    fetch(engine, unit, &action.packages, scratch)?;
    let root = action.shape == Shape::Root;
    let options = UnpackOptions {
        exclude: DOCUMENTATION.iter().map(|path| (*path).to_owned()).collect(),
        relative_links: !root,
        keep_copyright: root,
    };
    for package in &action.packages {
        let deb = engine.store.blob_path(&package.sha256);
        let control =
            unpack_deb(&deb, out, &options).map_err(|error| format!("{package}: {error}"))?;
        if root {
            // Where scanners of images without a package manager look.
            let folder = out.join("var/lib/dpkg/status.d");
            fs::create_dir_all(&folder).map_err(text)?;
            fs::write(folder.join(&package.name), &control.stanza).map_err(text)?;
            fs::write(folder.join(format!("{}.md5sums", package.name)), &control.md5sums)
                .map_err(text)?;
        }
    }
    if !root {
        for name in ["bin", "lib", "lib32", "lib64", "libx32", "sbin"] {
            if out.join("usr").join(name).is_dir() {
                std::os::unix::fs::symlink(format!("usr/{name}"), out.join(name)).map_err(text)?;
            }
        }
        // The shell is a link that a maintainer script would make on some systems.
        let shell = out.join("usr/bin/sh");
        if !shell.exists() && out.join("usr/bin/dash").exists() {
            std::os::unix::fs::symlink("dash", shell).map_err(text)?;
        }
        // The alternatives system would choose this one.
        let awk = out.join("usr/bin/awk");
        if !awk.exists() && out.join("usr/bin/gawk").exists() {
            std::os::unix::fs::symlink("gawk", awk).map_err(text)?;
        }
    }
    // Files written here get what any umask would leave; packages' own modes are theirs.
    if root && !action.packages.is_empty() {
        normalise(&out.join("var/lib/dpkg")).map_err(text)?;
    }
    Ok(())
}

/// A program of the machine that may use the network, with the user's own settings.
fn downloader(engine: &Engine, program: impl Into<PathBuf>) -> Process {
    let mut process = Process::new(program);
    process.environment = engine.environment.for_downloads();
    process
}

fn vendor(engine: &Engine, sources: &str, out: &Path) -> Result<(), String> {
    if engine.offline {
        return Err("collecting crates needs the network, and `--offline` was given\n  help: run once without it".into());
    }
    let cargo = engine.cargo.clone().ok_or("no `cargo` on PATH to collect crates with")?;
    engine.tell(Event::Download {
        what: format!("crates of {sources}"),
        size_bytes: None,
        to: engine.store.root().join("trees").display().to_string(),
    });
    let folder = engine.snapshots[sources].folder()?;
    let output = downloader(engine, cargo)
        .args(["vendor", "--locked", "--versioned-dirs"])
        .arg(out.join("crates").to_string_lossy())
        .folder(folder)
        .output()
        .map_err(text)?;
    if !output.success() {
        return Err(format!("cargo vendor ended with {}:\n{}", output.ending(), output.text()));
    }
    let place = out.join("crates").to_string_lossy().into_owned();
    let config = String::from_utf8_lossy(&output.stdout).replace(&place, "@VENDOR@/crates");
    fs::write(out.join("config.toml"), config).map_err(text)
}

fn download_modules(engine: &Engine, sources: &str, go: &Path, out: &Path) -> Result<(), String> {
    if engine.offline {
        return Err("downloading Go modules needs the network, and `--offline` was given\n  help: run once without it".into());
    }
    engine.tell(Event::Download {
        what: format!("Go modules of {sources}"),
        size_bytes: None,
        to: engine.store.root().join("trees").display().to_string(),
    });
    let folder = engine.snapshots[sources].folder()?;
    let output = downloader(engine, go.join("bin/go"))
        .args(["mod", "download"])
        .env("GOROOT", go.to_string_lossy())
        .env("GOMODCACHE", out.to_string_lossy())
        .env("GOFLAGS", "-modcacherw")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .folder(folder)
        .output()
        .map_err(text)?;
    if !output.success() {
        return Err(format!("go mod download ended with {}:\n{}", output.ending(), output.text()));
    }
    // What the download left beside the modules themselves.
    for name in ["cache/lock", "cache/download/sumdb", "cache/vcs"] {
        let path = out.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(text)?;
        } else if path.exists() {
            fs::remove_file(&path).map_err(text)?;
        }
    }
    remove_locks(&out.join("cache")).map_err(text)
}

fn remove_locks(folder: &Path) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_locks(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
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
    fn run(&self, scratch: &Path, out: &Path) -> Result<(), String> {
        let folders = self.folders(scratch, out)?;
        let constant = self.engine.tier == Tier::Namespaces;
        let place = |name: &str| {
            if constant {
                format!("{VIRTUAL_ROOT}/{name}")
            } else {
                folders[name].0.to_string_lossy().into_owned()
            }
        };
        let fill = |template: &str| {
            let mut filled = template.replace("@{jobs}", &self.jobs.to_string());
            for name in folders.keys() {
                filled = filled.replace(&format!("@{{{name}}}"), &place(name));
            }
            filled
        };
        for (path, content) in &self.action.tools {
            write_tool(&folders["tools"].0.join(path), &fill(content))?;
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
        let binds = folders
            .iter()
            .map(|(name, (source, writable))| Bind {
                source: source.clone(),
                at: format!("{VIRTUAL_ROOT}/{name}"),
                writable: *writable,
            })
            .collect::<Vec<_>>();
        let root = scratch.join("root");
        fs::create_dir_all(&root).map_err(text)?;
        for command in &self.action.commands {
            let command: Vec<String> = command.iter().map(|word| fill(word)).collect();
            let line = shell_line(&environment, &command);
            self.engine.tell(Event::Command { unit: self.name.to_owned(), line });
            let sandbox = Sandbox {
                tier: self.engine.tier,
                userland: folders["userland"].0.clone(),
                root: root.clone(),
                binds: binds.clone(),
                network: false,
                folder: fill(&self.action.folder),
                command: command.clone(),
                environment: environment.clone(),
            };
            let process = sandbox.process(&scratch.join("sandbox.json")).map_err(text)?;
            let output = match self.action.jobs {
                JobStyle::Jobserver => process.output_with_jobs(&self.engine.tokens),
                _ => process.output(),
            }
            .map_err(text)?;
            if !output.success() {
                return Err(format!(
                    "{} ended with {}:\n{}",
                    command.first().map_or("the command", String::as_str),
                    output.ending(),
                    output.text().trim_end()
                ));
            }
        }
        Ok(())
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
        let sources = engine.snapshots[&self.action.sources.name].folder()?;
        folders.insert("src".to_owned(), (sources.to_owned(), false));
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

fn write_tool(path: &Path, content: &str) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    if fs::read_to_string(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
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
