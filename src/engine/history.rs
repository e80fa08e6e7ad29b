//! What the last build of the project made its units of, for `plan` to compare with.
//!
//! It lies in the project's state folder: a file a unit, the files of the sources once each,
//! and an index by which a build that changes nothing sees that there is nothing to write.
//! Losing it costs explanations, never a result.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::schedule::Outcome;
use crate::model::Digest;
use crate::plan::Plan;
use crate::plan::facts::Facts;
use crate::plan::parts::{Files, Parts};
use crate::store::{StoreError, write_atomically};

/// What is kept of a unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Its key.
    pub key: Digest,
    /// What that was made of.
    pub parts: Parts,
    /// Digest by which the files are kept that it depends on.
    pub sources: Option<Digest>,
}

/// The key of a unit, and what its files are kept by.
type Line = (Digest, Option<Digest>);

/// Where a project keeps it.
pub struct History {
    folder: PathBuf,
}

impl History {
    /// That of the project with that state folder.
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("history") }
    }

    /// What is kept of the unit of that name.
    pub fn of(&self, unit: &str) -> Option<Kept> {
        serde_json::from_slice(&fs::read(self.unit_path(unit)).ok()?).ok()
    }

    /// The key that each unit had.
    pub fn keys(&self) -> BTreeMap<String, Digest> {
        self.index().into_iter().map(|(unit, (key, _))| (unit, key)).collect()
    }

    /// Files that were kept.
    pub fn files(&self, digest: &Digest) -> Option<Files> {
        serde_json::from_slice(&fs::read(self.files_path(digest)).ok()?).ok()
    }

    /// Keeps the units that have results. Nothing is written if they are those of the last
    /// time. `whole` says that the plan has every unit of the project: others are forgotten.
    pub fn keep(
        &self,
        plan: &Plan,
        facts: &Facts,
        outcome: &Outcome,
        whole: bool,
    ) -> Result<(), StoreError> {
        let mut index = self.index();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut written: BTreeMap<(&str, Digest), Digest> = BTreeMap::new();
        let mut changed = false;
        for &at in outcome.records.keys() {
            let unit = &plan.units[at];
            let Some(key) = outcome.keys.get(&at) else { continue };
            if !seen.insert(&unit.name)
                || index.get(&unit.name).is_some_and(|(known, _)| known == key)
            {
                continue;
            }
            let mut sources = None;
            if let Some(selected) = facts.selected(&unit.action) {
                let id = (selected.listing.folder.as_str(), selected.digest);
                let digest = match written.get(&id) {
                    Some(&digest) => digest,
                    None => self.keep_files(&selected.files())?,
                };
                written.insert(id, digest);
                sources = Some(digest);
            }
            let needs = unit.needs.iter().map(|need| outcome.records.get(need).map(|r| r.output));
            let parts = Parts::of(plan, facts, unit, &needs.collect::<Vec<_>>());
            let kept = Kept { key: *key, parts, sources };
            let bytes = serde_json::to_vec(&kept).expect("parts have string keys only");
            write_atomically(&self.unit_path(&unit.name), &bytes)?;
            index.insert(unit.name.clone(), (*key, sources));
            changed = true;
        }
        if whole {
            let names: BTreeSet<&str> = plan.units.iter().map(|unit| unit.name.as_str()).collect();
            index.retain(|name, _| {
                let stays = names.contains(name.as_str());
                if !stays {
                    let _ = fs::remove_file(self.unit_path(name));
                    changed = true;
                }
                stays
            });
        }
        if changed {
            self.write_index(&index)?;
        }
        Ok(())
    }

    fn keep_files(&self, files: &Files) -> Result<Digest, StoreError> {
        let bytes = serde_json::to_vec(files).expect("files have string keys only");
        let digest = Digest::of(&bytes);
        let path = self.files_path(&digest);
        if !path.is_file() {
            write_atomically(&path, &bytes)?;
        }
        Ok(digest)
    }

    fn unit_path(&self, unit: &str) -> PathBuf {
        let name = &Digest::of(unit.as_bytes()).hex()[..32];
        self.folder.join("units").join(format!("{name}.json"))
    }

    fn files_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("files").join(format!("{}.json", digest.hex()))
    }

    fn index(&self) -> BTreeMap<String, Line> {
        let text = fs::read_to_string(self.folder.join("index")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let key = Digest::from_hex(words.next()?).ok()?;
            let files = Digest::from_hex(words.next()?).ok();
            Some((words.next()?.to_owned(), (key, files)))
        });
        lines.collect()
    }

    fn write_index(&self, index: &BTreeMap<String, Line>) -> Result<(), StoreError> {
        let mut text = String::new();
        for (name, (key, files)) in index {
            let files = files.map_or_else(|| "-".to_owned(), |digest| digest.hex());
            text.push_str(&format!("{} {files} {name}\n", key.hex()));
        }
        write_atomically(&self.folder.join("index"), text.as_bytes())?;
        let used: BTreeSet<PathBuf> =
            index.values().filter_map(|(_, files)| Some(self.files_path(&(*files)?))).collect();
        let Ok(entries) = fs::read_dir(self.folder.join("files")) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            if !used.contains(&path) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}
