//! `plan --since`: what git says that changed since a revision, and which images that touches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::build::{LOCK_NAME, Prepared};
use super::report::BuildError;
use crate::config::{FILE_NAME, Version};
use crate::machine::process::{Output, Process};
use crate::model::Finding;
use crate::model::package::Package;
use crate::plan::touched::{Changes, touched};
use crate::source::lock::Lock;

/// What changes since a revision touch.
#[derive(Clone, Debug, Serialize)]
pub struct Since {
    /// Version of this format.
    pub version: u32,
    /// The revision, as it was given.
    pub since: String,
    /// Paths in the project that changed, and files that git does not know.
    pub files: Vec<String>,
    /// Published images.
    pub images: Vec<TouchedImage>,
    /// Units.
    pub units: Vec<TouchedUnit>,
}

/// An image, and by what it is touched.
#[derive(Clone, Debug, Serialize)]
pub struct TouchedImage {
    /// Its name.
    pub image: String,
    /// Paths, tables of the configuration, pins.
    pub because: BTreeSet<String>,
}

/// A unit, and by what it is touched.
#[derive(Clone, Debug, Serialize)]
pub struct TouchedUnit {
    /// Its name.
    pub unit: String,
    /// Paths, tables of the configuration, pins.
    pub because: BTreeSet<String>,
}

fn refused(message: String, help: &str) -> BuildError {
    BuildError::Findings(vec![Finding::new("no-revision", message).help(help)])
}

/// git in the folder of a project.
struct Git<'a> {
    prepared: &'a Prepared,
    program: PathBuf,
}

impl Git<'_> {
    fn run(&self, arguments: &[&str]) -> Result<Output, BuildError> {
        let engine = &self.prepared.engine;
        let mut process =
            Process::new(&self.program).args(arguments.iter().copied()).folder(&engine.project);
        process.environment = engine.environment.pick(&["PATH", "HOME"]);
        process.output().map_err(|error| refused(format!("`--since` asks git: {error}"), HELP))
    }

    /// The output of a command that has to succeed.
    fn ask(&self, arguments: &[&str]) -> Result<String, BuildError> {
        let output = self.run(arguments)?;
        if !output.success() {
            let text = output.text();
            return Err(refused(format!("`--since` asks git: {}", text.trim_end()), HELP));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Refuses a revision that is not there.
    fn check(&self, revision: &str) -> Result<(), BuildError> {
        let inside = self.run(&["rev-parse", "--is-inside-work-tree"])?;
        if !inside.success() {
            let folder = self.prepared.engine.project.display();
            let text = inside.text();
            return Err(refused(
                format!("`--since` asks git, which says of {folder}: {}", text.trim_end()),
                HELP,
            ));
        }
        let commit = format!("{revision}^{{commit}}");
        let known = self.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit])?;
        if known.success() {
            return Ok(());
        }
        let shallow = self.ask(&["rev-parse", "--is-shallow-repository"])?;
        if shallow.trim() == "true" {
            return Err(refused(
                format!("git does not know the revision `{revision}`: this clone is shallow"),
                &format!(
                    "fetch it with `git fetch --depth=1 origin COMMIT`, or all of the history \
                     with `git fetch --unshallow`; for a branch, `git fetch --depth=1 origin \
                     {revision}` and `--since FETCH_HEAD`"
                ),
            ));
        }
        let help = "name a commit, tag or branch of this clone; `git fetch` brings those of others";
        Err(refused(format!("git does not know the revision `{revision}`"), help))
    }

    /// Text of a file of the project at a revision, if it was there.
    fn text_at(&self, revision: &str, path: &str) -> Result<Option<String>, BuildError> {
        let output = self.run(&["show", "--end-of-options", &format!("{revision}:./{path}")])?;
        Ok(output.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

const HELP: &str = "`--since` needs git on PATH and a project in a work tree of git";

impl Prepared {
    /// The images and units that changes since a revision touch, and files that git does not
    /// know and does not ignore.
    pub fn since(&self, revision: &str) -> Result<Since, BuildError> {
        let Some(program) = self.engine.environment.find_program("git") else {
            return Err(refused("`--since` asks git, which is not on PATH".to_owned(), HELP));
        };
        let git = Git { prepared: self, program };
        git.check(revision)?;
        let commit = git.ask(&["rev-parse", "--verify", "--end-of-options", revision])?;
        let commit = commit.trim();
        let tracked = git.ask(&[
            "diff",
            "--name-only",
            "--no-renames",
            "--relative",
            "-z",
            commit,
            "--",
            ".",
        ])?;
        let untracked =
            git.ask(&["ls-files", "--others", "--exclude-standard", "-z", "--", "."])?;
        let names = |text: &str| -> Vec<String> {
            text.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let (tracked, untracked) = (names(&tracked), names(&untracked));
        let all: BTreeSet<String> = tracked.iter().chain(&untracked).cloned().collect();
        let mut changes = Changes::default();
        for path in &all {
            let exists = self.engine.project.join(path).symlink_metadata().is_ok();
            changes.files.insert(path.clone(), exists);
        }
        if all.contains(FILE_NAME) {
            let old = git.text_at(commit, FILE_NAME)?;
            let new = std::fs::read_to_string(self.engine.project.join(FILE_NAME));
            tables(old.as_deref(), new.ok().as_deref(), &mut changes);
        }
        // A lock that is not committed pins the same for all revisions.
        if tracked.iter().any(|path| path == LOCK_NAME) {
            let old = git.text_at(commit, LOCK_NAME)?;
            self.pins(old.as_deref(), &mut changes);
        }
        self.versions(&git, commit, &mut changes)?;
        let found = touched(&self.plan, &self.facts, &changes);
        let images = self.plan.images.iter().filter(|image| image.publish).filter_map(|image| {
            let because = found.get(&image.index?)?.clone();
            Some(TouchedImage { image: image.name.clone(), because })
        });
        let units = found.iter().map(|(index, because)| TouchedUnit {
            unit: self.plan.units[*index].name.clone(),
            because: because.clone(),
        });
        Ok(Since {
            version: 1,
            since: revision.to_owned(),
            files: all.into_iter().collect(),
            images: images.collect(),
            units: units.collect(),
        })
    }

    /// What the lock pins otherwise.
    fn pins(&self, old: Option<&str>, changes: &mut Changes) {
        let Some(old) = old.and_then(|text| Lock::parse(LOCK_NAME, text).ok()) else {
            changes.everything = Some(format!("{LOCK_NAME} is new"));
            return;
        };
        let new = &self.lock;
        for (name, locked) in &new.packages {
            let set = |lock: &Lock| -> BTreeSet<Package> {
                let found = lock.packages.get(name);
                found.into_iter().flat_map(|found| found.set.packages.iter().cloned()).collect()
            };
            let (before, now) = (set(&old), set(new));
            let added: Vec<Package> = now.difference(&before).cloned().collect();
            if added.is_empty() && before != now {
                changes.shrunk.push(locked.set.packages.iter().cloned().collect());
            }
            changes.packages.extend(added);
        }
        changes.toolchains = differing(&old.toolchains, &new.toolchains);
        changes.pins = differing(&old.sources, &new.sources);
        changes.pins.extend(differing(&old.cargo, &new.cargo));
        changes.bases = differing(&old.bases, &new.bases);
    }

    /// The project's version is in every manifest.
    fn versions(
        &self,
        git: &Git<'_>,
        commit: &str,
        changes: &mut Changes,
    ) -> Result<(), BuildError> {
        let versions = [Some(&self.facts.project.version), self.facts.project.revision.as_ref()];
        for version in versions.into_iter().flatten() {
            match version {
                Version::File(name) if changes.files.contains_key(name) => {
                    changes.everything = Some(name.clone());
                }
                Version::Cargo(package) if changes.files.contains_key("Cargo.lock") => {
                    let old = git.text_at(commit, "Cargo.lock")?;
                    let now = std::fs::read_to_string(self.engine.project.join("Cargo.lock"));
                    let of = |text: &str| package_version(text, package);
                    if old.as_deref().and_then(of) != now.ok().as_deref().and_then(of) {
                        changes.everything = Some("Cargo.lock".to_owned());
                    }
                }
                // What git says moves with every commit: it is no change of its own.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names whose values differ, or that only one has.
fn differing<T: PartialEq>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
) -> BTreeSet<String> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

/// The version of a package in a lock file of cargo's.
fn package_version(lock: &str, name: &str) -> Option<String> {
    let lock: toml::Table = lock.parse().ok()?;
    let packages = lock.get("package")?.as_array()?;
    let package = packages
        .iter()
        .find(|package| package.get("name").and_then(toml::Value::as_str) == Some(name))?;
    package.get("version").and_then(toml::Value::as_str).map(str::to_owned)
}

/// The tables of the configuration that differ: those of images, binaries, libraries and
/// targets by name.
fn tables(old: Option<&str>, new: Option<&str>, changes: &mut Changes) {
    let parse = |text: Option<&str>| text.and_then(|text| text.parse::<toml::Table>().ok());
    let (Some(old), Some(new)) = (parse(old), parse(new)) else {
        changes.everything = Some(format!("{FILE_NAME} is new"));
        return;
    };
    let flat = |table: &toml::Table| -> BTreeMap<String, toml::Value> {
        let named = ["image", "binary", "library", "target"];
        let mut flat = BTreeMap::new();
        for (key, value) in table {
            match value.as_table().filter(|_| named.contains(&key.as_str())) {
                Some(inner) => flat.extend(
                    inner.iter().map(|(name, value)| (format!("{key}.{name}"), value.clone())),
                ),
                None => drop(flat.insert(key.clone(), value.clone())),
            }
        }
        flat
    };
    let keys = |value: Option<&toml::Value>| -> BTreeMap<String, toml::Value> {
        let table = value.and_then(toml::Value::as_table).cloned().unwrap_or_default();
        table.into_iter().collect()
    };
    let (old, new) = (flat(&old), flat(&new));
    for name in differing(&old, &new) {
        let changed = differing(&keys(old.get(&name)), &keys(new.get(&name)));
        changes.tables.insert(name, changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_differ() {
        let old = "[project]\nname = 'x'\n[image.a]\nuser = 'u'\n[image.b]\nlabels = {a = '1'}\n\
                   [binary.x]\ngo = {path = '.'}\n";
        let new = old.replace("'1'", "'2'").replace("[binary.x]", "[binary.y]");
        let mut changes = Changes::default();
        tables(Some(old), Some(&new), &mut changes);
        let keys = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let expected = BTreeMap::from([
            ("binary.x".to_owned(), keys(&["go"])),
            ("binary.y".to_owned(), keys(&["go"])),
            ("image.b".to_owned(), keys(&["labels"])),
        ]);
        assert_eq!(changes.tables, expected);
        tables(None, Some(old), &mut changes);
        assert_eq!(changes.everything.as_deref(), Some("images.toml is new"));
    }

    #[test]
    fn versions_in_lock_files() {
        let lock = "version = 4\n[[package]]\nname = 'a'\nversion = '1'\n";
        assert_eq!(package_version(lock, "a").as_deref(), Some("1"));
        assert_eq!(package_version(lock, "b"), None);
    }
}
