//! Projects to build: the example, projects made of large files, and the program itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use xstitch::engine::build::{Pins, Request, prepare};
use xstitch::engine::resolve::project_state;
use xstitch::machine::environment::Environment;
use xstitch::model::Digest;
use xstitch::plan::facts::Facts;
use xstitch::store::Store;

/// A folder that stays between runs and is no part of a checkout.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The release program, on `project`.
pub fn xstitch(project: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xstitch"));
    command.arg("--project").arg(project).args(["--format", "json"]);
    command
}

/// A field of the report that the program printed.
pub fn reported(stdout: &str, field: &str) -> serde_json::Value {
    let report: serde_json::Value = serde_json::from_str(stdout).unwrap();
    report[field].clone()
}

/// What is known of a project that is built.
pub struct Planned {
    /// Outputs of units, by unit.
    pub trees: BTreeMap<String, PathBuf>,
    /// What its plan came from.
    pub facts: Facts,
}

impl Planned {
    /// Plans it, and looks up what its units gave.
    pub fn of(project: &Path) -> Self {
        let environment = Environment::snapshot().unwrap();
        let request = Request {
            project: project.to_owned(),
            images: Vec::new(),
            platforms: Vec::new(),
            jobs: None,
            locked: false,
            pins: Pins::Keep,
            every_library: false,
            offline: false,
            keep_going: false,
            tier: None,
            tags: Vec::new(),
            compression: None,
            remote_cache: None,
            output: None,
        };
        let (events, _screen) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let prepared = prepare(&request, &environment, events, stop).unwrap();
        let (plan, store) = (&prepared.plan, &prepared.engine.store);
        let mut outputs: Vec<Digest> = Vec::new();
        for (index, unit) in plan.units.iter().enumerate() {
            let needs: Vec<Digest> = unit.needs.iter().map(|&need| outputs[need]).collect();
            outputs.push(store.record(&plan.key(index, &needs)).unwrap().output);
        }
        let names = plan.units.iter().map(|unit| unit.name.clone());
        let trees = names.zip(outputs.iter().map(|output| store.tree_path(output))).collect();
        Self { trees, facts: prepared.facts.clone() }
    }
}

/// Where the program keeps what it remembers of a project, compiler state too.
pub fn state(project: &Path) -> PathBuf {
    let environment = Environment::snapshot().unwrap();
    let store = Store::open(&environment.cache_folder().unwrap()).unwrap();
    project_state(store.root(), &fs::canonicalize(project).unwrap())
}

/// Removes what compilers keep, but not the copies of the sources.
pub fn forget_compilers(state: &Path) {
    for entry in fs::read_dir(state).unwrap() {
        let entry = entry.unwrap();
        let is_kept = ["src", "history"].iter().any(|name| entry.file_name() == *name);
        if entry.file_type().unwrap().is_dir() && !is_kept {
            remove(&entry.path());
        }
    }
}

/// A fresh copy of the example, always at the same place, so that it is one project.
pub fn agency() -> PathBuf {
    let to = folder("agency");
    remove(&to);
    copy(&example(), &to);
    to
}

/// The example in the checkout.
pub fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agency")
}

/// Copies a folder without what was built in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, name) = (entry.file_type().unwrap(), entry.file_name());
        if kind.is_dir() && name != "target" {
            copy(&entry.path(), &to.join(name));
        } else if kind.is_file() && name != "images.lock" {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// Removes a folder that may not be there.
pub fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            panic!("cannot remove {}: {error}", folder.display())
        }
        _ => {}
    }
}

/// Writes a project of one image on nothing, with the files given as (source, place).
pub fn of_files(folder: &Path, compression: &str, files: &[(String, String)]) {
    let files: Vec<String> = files
        .iter()
        .map(|(from, to)| format!("    {{ from = \"{from}\", to = \"{to}\" }},\n"))
        .collect();
    let text = format!(
        "[project]\nname = \"files\"\nplatforms = [\"linux/amd64\"]\nversion = \"1\"\n\
         compression = \"{compression}\"\n\n[image.files]\nfrom = \"scratch\"\nfiles = [\n{}]\n",
        files.concat()
    );
    fs::write(folder.join("images.toml"), text).unwrap();
}

/// ELF files of the largest tree in the cache (a compiler, once the example is built), in
/// the order of their paths, until they are `at_least_bytes`: path in the tree, file, size.
pub fn elf_files(at_least_bytes: u64) -> Vec<(String, PathBuf, u64)> {
    let environment = Environment::snapshot().unwrap();
    let store = Store::open(&environment.cache_folder().unwrap()).unwrap();
    let trees = fs::read_dir(store.root().join("trees")).unwrap();
    let trees = trees.map(|entry| {
        let root = entry.unwrap().path();
        let mut files = Vec::new();
        find_elf(&root, &root, &mut files);
        files
    });
    let total = |files: &[(String, PathBuf, u64)]| files.iter().map(|file| file.2).sum::<u64>();
    let mut files = trees.max_by_key(|files| total(files)).unwrap_or_default();
    files.sort();
    // One that would go far beyond is left out.
    let mut sum = 0;
    files.retain(|file| {
        let wanted = sum < at_least_bytes && sum + file.2 < at_least_bytes / 4 * 5;
        sum += if wanted { file.2 } else { 0 };
        wanted
    });
    assert!(total(&files) >= at_least_bytes, "the cache holds too few ELF files");
    files
}

fn find_elf(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf, u64)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let status = fs::symlink_metadata(&path).unwrap();
        if status.is_dir() {
            find_elf(root, &path, files);
        } else if status.is_file() && is_elf(&path) {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            files.push((name, path, status.len()));
        }
    }
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && &magic == b"\x7fELF"
}
