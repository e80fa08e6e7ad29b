//! What builds found out about their targets, compared, and what they tried to start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::observe::probe_files;
use super::schedule::{Failure, Outcome};
use super::{Engine, execute};
use crate::config::Project;
use crate::model::action::{Action, ProcessAction};
use crate::model::attempt::{Attempt, Attempts};
use crate::model::event::Event;
use crate::model::{Digest, Platform};
use crate::plan::{Plan, Unit};
use crate::recipe::probes::{Difference, Probes, differences, explained, matches};
use crate::store::Record;
use crate::toolchain::description;

/// What is known of one unit beside its output. It depends on the sandbox tier, and is
/// therefore no part of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Answers of its probes.
    pub probes: Probes,
    /// Starts of foreign programs that were refused.
    pub attempts: Vec<Attempt>,
    /// Whether every start was looked at.
    pub supervised: bool,
}

/// Keeps what a unit's commands left, if that is anything. Returns the digest of the blob.
pub fn keep(
    engine: &Engine,
    action: &ProcessAction,
    attempts: Attempts,
    scratch: &Path,
) -> Result<Option<Digest>, String> {
    let mut observed = Observed {
        attempts: attempts.attempts,
        supervised: attempts.supervised,
        ..Observed::default()
    };
    if action.probes {
        let folder = engine.project_state.join(&action.state).join("build");
        let files = probe_files(&folder).map_err(execute::text)?.into_iter();
        let files = files.map(|(path, text)| (own_path(&path).to_owned(), text)).collect();
        observed.probes = Probes::from_files(&files);
    }
    let nothing = observed.probes.found.is_empty() && observed.attempts.is_empty();
    if nothing && observed.supervised {
        return Ok(None);
    }
    let json = serde_json::to_vec(&observed).map_err(execute::text)?;
    let digest = Digest::of(&json);
    let file = scratch.join("observed.json");
    fs::write(&file, json).map_err(execute::text)?;
    engine.store.adopt_blob(&file, &digest).map_err(execute::text)?;
    Ok(Some(digest))
}

/// A path below the folder of a build, which is a folder of its own for each form of a library.
fn own_path(path: &str) -> &str {
    let path = path.strip_prefix("work/").unwrap_or(path);
    path.strip_prefix("off/").or_else(|| path.strip_prefix("on/")).unwrap_or(path)
}

fn observed(engine: &Engine, record: &Record) -> Option<Observed> {
    let bytes = fs::read(engine.store.blob_path(&record.observed?)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The report beside a layout.
#[derive(Debug, Serialize)]
pub struct ProbeReport {
    /// Version of this format.
    pub version: u32,
    /// By `library NAME` or `binary NAME`.
    pub builds: BTreeMap<String, BuildProbes>,
}

/// What is known of one build on all platforms.
#[derive(Debug, Default, Serialize)]
pub struct BuildProbes {
    /// By platform.
    pub platforms: BTreeMap<Platform, Observed>,
    /// Sentences about probes that were answered differently, for no known reason.
    pub differences: Vec<String>,
    /// Probes that were answered differently, with the reason.
    pub explained: BTreeMap<String, String>,
}

/// Collects what the units of a finished run observed.
pub fn collect(engine: &Engine, plan: &Plan, outcome: &Outcome, project: &Project) -> ProbeReport {
    let mut builds: BTreeMap<String, BuildProbes> = BTreeMap::new();
    for (&index, record) in &outcome.records {
        let Some((what, platform)) = name(&plan.units[index]) else { continue };
        if let Some(observed) = observed(engine, record) {
            builds.entry(what).or_default().platforms.insert(platform, observed);
        }
    }
    for (what, build) in &mut builds {
        let none = BTreeMap::new();
        let allowed = match what.split_once(' ') {
            Some(("library", name)) => {
                project.libraries.get(name).map_or(&none, |library| &library.differences)
            }
            Some((_, name)) => {
                project.binaries.get(name).map_or(&none, |binary| &binary.differences)
            }
            None => &none,
        };
        let reason = |probe: &str| {
            let own = allowed.iter().find(|(pattern, _)| matches(pattern, probe));
            own.map(|(_, reason)| reason.clone()).or_else(|| explained(probe).map(str::to_owned))
        };
        let probes = build.platforms.iter();
        let probes = probes.map(|(platform, found)| (platform.clone(), found.probes.clone()));
        for difference in differences(&probes.collect(), |_| false) {
            let Difference { probe, .. } = &difference;
            match reason(probe) {
                Some(reason) => drop(build.explained.insert(probe.clone(), reason)),
                None => build.differences.push(difference.to_string()),
            }
        }
    }
    ProbeReport { version: 1, builds }
}

/// What a unit builds, and for which platform.
fn name(unit: &Unit) -> Option<(String, Platform)> {
    let Action::Process(_) = &unit.action else { return None };
    let (what, platform) = unit.name.rsplit_once(' ')?;
    Some((what.to_owned(), platform.parse().ok()?))
}

impl ProbeReport {
    /// Tells what the user should know. Attempts of units that just ran were told then.
    pub fn tell(&self, engine: &Engine, plan: &Plan, outcome: &Outcome) {
        let ran: Vec<&str> =
            outcome.ran.keys().map(|&index| plan.units[index].name.as_str()).collect();
        for (what, build) in &self.builds {
            for (platform, observed) in &build.platforms {
                let unit = format!("{what} {platform}");
                if !ran.contains(&unit.as_str()) {
                    for attempt in &observed.attempts {
                        engine.tell(Event::Warning { text: sentence(&unit, attempt) });
                    }
                }
            }
            for difference in &build.differences {
                engine.tell(Event::Warning { text: format!("{what}: {difference}") });
            }
        }
    }

    /// A failure for each unit that tried to start a foreign program.
    pub fn failures(&self) -> Vec<Failure> {
        let builds = self.builds.iter();
        let observed = builds.flat_map(|(what, build)| {
            build.platforms.iter().map(move |(platform, observed)| (what, platform, observed))
        });
        observed
            .filter(|(.., observed)| !observed.attempts.is_empty())
            .map(|(what, platform, observed)| {
                let unit = format!("{what} {platform}");
                let attempts = observed.attempts.iter().map(|attempt| sentence(&unit, attempt));
                let attempts: Vec<String> = attempts.collect();
                let message = format!(
                    "it tried to start foreign programs, and the project is `strict`:\n{}\n  help: \
                     tell the build that it is a cross build, answer the probe beforehand, or \
                     leave `strict` out",
                    attempts.join("\n")
                );
                Failure { unit, configuration: None, message, is_remote: false }
            })
            .collect()
    }

    /// Writes the report, if it is another than the one that is there.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let mut json = serde_json::to_vec_pretty(self).map_err(execute::text)?;
        json.push(b'\n');
        if fs::read(file).is_ok_and(|there| there == json) {
            return Ok(());
        }
        crate::store::write_atomically(file, &json).map_err(execute::text)
    }
}

/// An attempt, for people.
pub fn sentence(unit: &str, attempt: &Attempt) -> String {
    let Attempt { program, machine, probe } = attempt;
    let machine = description::machine_name(*machine);
    format!("{unit}: {program}, a program for {machine}, was started by {probe} and refused")
}
