//! Which pins of the lock are to move.

use std::collections::BTreeSet;

use super::report::BuildError;
use crate::config::{self, Base, Project};
use crate::model::Finding;
use crate::source::lock::Lock;

/// What becomes of pins that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pins {
    /// They stay.
    Keep,
    /// Those of these names move to what is there now, all if there are no names.
    Move(Vec<String>),
    /// All would move; the file stays as it is.
    Compare,
}

/// The lock without the pins that are to move.
pub fn released(lock: &Lock, project: &Project, pins: &Pins) -> Result<Lock, BuildError> {
    let names = match pins {
        Pins::Keep => return Ok(lock.clone()),
        Pins::Compare => return Ok(Lock::default()),
        Pins::Move(names) if names.is_empty() => return Ok(Lock::default()),
        Pins::Move(names) => names,
    };
    let mut left = lock.clone();
    let mut findings = Vec::new();
    for name in names {
        let mut found = left.release(name);
        // A library of packages is pinned by their names.
        let library = project.libraries.get(name).map(|library| &library.recipe);
        if let Some(config::LibraryRecipe::Packages(packages)) = library {
            found |= packages.iter().fold(false, |found, package| left.release(package) | found);
        }
        if let Some(Base::External(origin)) = project.images.get(name).map(|image| &image.from) {
            found |= left.release(&origin.to_string());
        }
        if !found {
            let known: BTreeSet<String> = lock.names();
            let words = known.iter().flat_map(|name| name.split(' ')).collect::<BTreeSet<_>>();
            let words: Vec<&str> = words.into_iter().collect();
            let finding =
                Finding::new("unknown-pin", format!("images.lock pins nothing of `{name}`"));
            findings.push(config::suggest(finding, name, &words));
        }
    }
    if findings.is_empty() { Ok(left) } else { Err(BuildError::Findings(findings)) }
}
