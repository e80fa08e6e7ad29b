//! What the store holds, by kind of result and by project, and what that takes on the disk.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Store;
use super::records::Kept;
use crate::model::Digest;

/// In the folder of a project's state: what is told about it.
pub const PROJECT_FILE: &str = "project.json";

/// What is told about the builds of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectUses {
    /// Folder of the project.
    pub folder: PathBuf,
    /// Builds that ended well.
    pub builds: u64,
    /// Units that these builds ran.
    pub runs: u64,
    /// Units whose result was there.
    pub hits: u64,
    /// Keys of the results that the last of them used.
    pub keys: Vec<Digest>,
}

/// What the store holds.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Version of this format.
    pub version: u32,
    /// The folder of the store.
    pub folder: PathBuf,
    /// What all of it takes on the disk; a file of several names counts once.
    pub disk_bytes: u64,
    /// Results by kind.
    pub kinds: Vec<KindUsage>,
    /// Downloaded files and documents, in number.
    pub downloads: usize,
    /// Their size.
    pub downloads_bytes: u64,
    /// Projects.
    pub projects: Vec<ProjectUsage>,
    /// Package lists, toolchains and memories, on the disk.
    pub other_bytes: u64,
    /// Units whose result was there in a build of any project.
    pub hits: u64,
}

/// Results of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KindUsage {
    /// What the units are, in one word; `unknown` where an earlier version made them.
    pub kind: String,
    /// Number of results.
    pub results: usize,
    /// Size of their files; what several results have in common counts for each.
    pub size_bytes: u64,
    /// How long the units took when they ran, in milliseconds.
    pub elapsed_ms: u64,
}

/// One project.
#[derive(Clone, Debug, Serialize)]
pub struct ProjectUsage {
    /// Its folder, if that is known.
    pub folder: Option<PathBuf>,
    /// Whether the folder is there.
    pub is_there: bool,
    /// Where its compiler state is.
    pub state: PathBuf,
    /// What that takes on the disk.
    pub state_bytes: u64,
    /// Builds that ended well.
    pub builds: u64,
    /// Units that they ran.
    pub runs: u64,
    /// Units whose result was there.
    pub hits: u64,
    /// Results that the last build used and that are there.
    pub results: usize,
    /// Size of their files.
    pub results_bytes: u64,
    /// Seconds since the last build.
    pub unused_secs: u64,
}

impl Store {
    /// Looks at everything in the store.
    pub fn usage(&self) -> Usage {
        let mut seen = HashSet::new();
        let mut kinds: BTreeMap<String, KindUsage> = BTreeMap::new();
        let (mut sizes, mut observed) = (BTreeMap::new(), BTreeSet::new());
        for (key, _, kept) in self.records() {
            let Some(kept) = kept else { continue };
            if kept.is_promise && !self.tree_path(&kept.output).is_dir() {
                continue;
            }
            let kind = if kept.about.kind.is_empty() { "unknown" } else { &kept.about.kind };
            let usage = kinds.entry(kind.to_owned()).or_default();
            usage.kind = kind.to_owned();
            usage.results += 1;
            usage.size_bytes += kept.size_bytes;
            usage.elapsed_ms += kept.about.elapsed_ms;
            sizes.insert(key, (kept.output, kept.size_bytes));
            observed.extend(kept.observed.map(|observed| observed.hex()));
        }
        let mut usage = Usage {
            version: 1,
            folder: self.root().to_owned(),
            disk_bytes: 0,
            kinds: kinds.into_values().collect(),
            downloads: 0,
            downloads_bytes: 0,
            projects: Vec::new(),
            other_bytes: 0,
            hits: 0,
        };
        for entry in names(&self.root().join("blobs")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !observed.contains(&name) {
                usage.downloads += 1;
                usage.downloads_bytes += entry.metadata().map_or(0, |status| status.len());
            }
        }
        usage.disk_bytes += disk_bytes(&self.root().join("trees"), &mut seen);
        usage.disk_bytes += disk_bytes(&self.root().join("blobs"), &mut seen);
        for (state, uses, last) in self.projects() {
            let keys = uses.keys.iter().filter_map(|key| sizes.get(key));
            let results: BTreeMap<Digest, u64> = keys.copied().collect();
            let state_bytes = disk_bytes(&state, &mut seen);
            usage.disk_bytes += state_bytes;
            usage.hits += uses.hits;
            usage.projects.push(ProjectUsage {
                is_there: uses.folder.is_dir(),
                folder: Some(uses.folder).filter(|folder| !folder.as_os_str().is_empty()),
                state,
                state_bytes,
                builds: uses.builds,
                runs: uses.runs,
                hits: uses.hits,
                results: results.len(),
                results_bytes: results.values().sum(),
                unused_secs: self.opened.duration_since(last).map_or(0, |age| age.as_secs()),
            });
        }
        usage.projects.sort_by(|a, b| (a.unused_secs, &a.folder).cmp(&(b.unused_secs, &b.folder)));
        usage.other_bytes = disk_bytes(self.root(), &mut seen);
        usage.disk_bytes += usage.other_bytes;
        usage
    }

    /// Keys, when they were last used, and records; `None` for what is no record.
    pub(super) fn records(&self) -> Vec<(Digest, SystemTime, Option<Kept>)> {
        let entries = names(&self.root().join("records")).into_iter();
        entries
            .filter_map(|entry| {
                let key = Digest::from_hex(entry.file_name().to_str()?).ok()?;
                let last = entry.metadata().and_then(|status| status.modified()).ok()?;
                Some((key, last, self.kept(&key)))
            })
            .collect()
    }

    /// Folders with the state of projects, what is told about each, and when it was last used.
    pub(super) fn projects(&self) -> Vec<(PathBuf, ProjectUses, SystemTime)> {
        let entries = names(&self.state("projects")).into_iter();
        entries
            .map(|entry| {
                let state = entry.path();
                let file = state.join(PROJECT_FILE);
                let uses = fs::read(&file).ok().and_then(|json| serde_json::from_slice(&json).ok());
                let last = [file, state.join("lock"), state.clone()]
                    .iter()
                    .filter_map(|path| fs::metadata(path).and_then(|status| status.modified()).ok())
                    .next()
                    .unwrap_or(SystemTime::UNIX_EPOCH);
                (state, uses.unwrap_or_default(), last)
            })
            .collect()
    }
}

/// What is in a folder; nothing if it cannot be listed.
pub(super) fn names(folder: &Path) -> Vec<fs::DirEntry> {
    let mut names: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    names
}

/// What a path and everything below it take on the disk, but for files seen before.
fn disk_bytes(path: &Path, seen: &mut HashSet<u64>) -> u64 {
    let mut sum = 0;
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(status) = entry.metadata() else { continue };
            if status.is_dir() {
                folders.push(entry.path());
            }
            if seen.insert(status.ino()) {
                sum += status.blocks() * 512;
            }
        }
    }
    sum
}
