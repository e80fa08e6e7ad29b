//! Lock files for libraries of cargo whose sources are not simply a folder of the project with
//! one: those that they bring, else new ones, pinned in `images.lock`.

use super::library_lock::{generate_lock, own_lock};
use super::natives::has_dependencies;
use super::report::BuildError;
use super::{Engine, schedule};
use crate::model::{Digest, Finding};
use crate::plan::facts::{Facts, NativeSources};
use crate::plan::libraries::source_plan;
use crate::source::lock::{Lock, LockedCargo};

/// Gives the builds by cargo that lack a lock file one of `lock`, which is completed unless
/// it is `locked`.
pub fn complete(
    engine: &Engine,
    facts: &mut Facts,
    lock: &mut Lock,
    locked: bool,
) -> Result<(), BuildError> {
    let wanted: Vec<String> = facts
        .natives
        .iter()
        .filter(|(_, sources)| sources.needs_lock)
        .map(|(what, _)| what.clone())
        .collect();
    for what in wanted {
        let origin = origin(&facts.natives[&what]);
        let text = match lock.cargo(&what, &origin) {
            Some(text) => text.to_owned(),
            None if locked => {
                let message = format!(
                    "images.lock does not pin the crates of {what}, and `--locked` was given"
                );
                return Err(BuildError::Findings(vec![
                    Finding::new("not-locked", message)
                        .help("run without `--locked` once and commit images.lock"),
                ]));
            }
            None => {
                let compiler = lock.toolchains.get("rust").and_then(|rust| number(&rust.version));
                let text = find(engine, facts, &what, compiler)?;
                let pinned = LockedCargo { origin, lock: text.clone() };
                lock.cargo.insert(what.clone(), pinned);
                text
            }
        };
        if let Some(sources) = facts.natives.get_mut(&what) {
            sources.lock_digest = Digest::of(text.as_bytes());
            sources.has_dependencies = has_dependencies(&text);
            sources.lock = Some(text);
        }
    }
    Ok(())
}

/// What a lock file was made for: another source, other manifests or other patches want
/// another.
fn origin(sources: &NativeSources) -> String {
    let mut origin = format!("{} {}", sources.origin, sources.folder);
    if sources.reference.is_some() {
        origin.push_str(&format!(" with manifests {}", sources.lock_digest.short()));
    }
    if !sources.patches.is_empty() {
        let texts: Vec<&String> = sources.patches.iter().map(|(_, text)| text).collect();
        let digest = Digest::of(&serde_json::to_vec(&texts).expect("texts are plain data"));
        origin.push_str(&format!(" with patches {}", digest.short()));
    }
    origin.trim_end().to_owned()
}

/// The number in what a compiler or a package calls its version.
fn number(version: &str) -> Option<&str> {
    let start = version.find(|c: char| c.is_ascii_digit())?;
    let rest = &version[start..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    Some(&rest[..end])
}

fn find(
    engine: &Engine,
    facts: &Facts,
    what: &str,
    compiler: Option<&str>,
) -> Result<String, BuildError> {
    let sources = &facts.natives[what];
    let (plan, unit) = source_plan(facts, what);
    let tree = match unit {
        Some(unit) => {
            let outcome = schedule::run(engine, &plan);
            if outcome.interrupted {
                return Err(BuildError::Interrupted);
            }
            if !outcome.failures.is_empty() {
                return Err(BuildError::Units(outcome.failures));
            }
            engine.store.tree_path(&outcome.records[&unit].output)
        }
        None => {
            let name = sources.reference.as_ref().map_or("", |reference| &reference.name);
            let folder = engine.snapshots.whole(name).map_err(BuildError::Output)?;
            folder.join(&sources.start)
        }
    };
    let own = if sources.changes_manifests() {
        Ok(None)
    } else {
        own_lock(engine, &tree, &sources.folder)
    };
    let lock = own.and_then(|own| match own {
        Some(own) => Ok(own),
        None => generate_lock(engine, &tree, &sources.folder, compiler),
    });
    lock.map_err(|finding| BuildError::Findings(vec![finding]))
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_have_a_number() {
        assert_eq!(super::number("1.85.0+dfsg3-1~deb12u3"), Some("1.85.0"));
        assert_eq!(super::number("rustc 1.95.0 (59807616e 2026-04-14)"), Some("1.95.0"));
        assert_eq!(super::number(""), None);
    }
}
