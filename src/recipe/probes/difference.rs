//! Comparing targets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Probes, split};
use crate::model::Platform;

/// A probe that was answered differently for different targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, or the origin of probes where a platform has none of them at all.
    pub probe: String,
    /// What each platform answered; nothing where it was not asked.
    pub values: BTreeMap<Platform, Option<String>>,
}

/// Differences that are not `explained`, by probe. One that was not asked counts as answered
/// with `no`, because a library leaves out what it did not ask for.
pub fn differences(
    by_platform: &BTreeMap<Platform, Probes>,
    explained: impl Fn(&str) -> bool,
) -> Vec<Difference> {
    let compare = |probe: &str, value: &dyn Fn(&Probes) -> Option<String>| {
        let values: BTreeMap<Platform, Option<String>> = by_platform
            .iter()
            .map(|(platform, probes)| (platform.clone(), value(probes)))
            .collect();
        let answers: BTreeSet<&str> = values.values().map(answer).collect();
        (answers.len() > 1).then(|| Difference { probe: probe.to_owned(), values })
    };
    let names: BTreeSet<&str> =
        by_platform.values().flat_map(|probes| probes.found.keys()).map(String::as_str).collect();
    let origins: BTreeSet<&str> = names.iter().map(|name| split(name).0).collect();
    let mut differences = Vec::new();
    for origin in origins {
        let of_origin: Vec<&str> =
            names.iter().copied().filter(|name| split(name).0 == origin).collect();
        let asked = |probes: &Probes| {
            of_origin.iter().any(|name| probes.found.contains_key(*name)).then(|| "yes".to_owned())
        };
        // Without this, all probes of what one target does not build would be told.
        let whole = if origin.is_empty() { "probes" } else { origin };
        if let Some(difference) = compare(whole, &asked) {
            if !explained(whole) {
                differences.push(difference);
            }
            continue;
        }
        differences.extend(
            of_origin
                .into_iter()
                .filter_map(|name| compare(name, &|probes| probes.found.get(name).cloned()))
                .filter(|difference| !explained(&difference.probe)),
        );
    }
    differences
}

fn answer(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("no")
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut platforms: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (platform, value) in &self.values {
            platforms.entry(answer(value)).or_default().push(platform.to_string());
        }
        let missing = platforms.remove("no").map(|platforms| list(&platforms));
        write!(f, "{}", self.probe)?;
        match (platforms.get("yes"), platforms.len(), &missing) {
            (Some(found), 1, Some(missing)) => {
                return write!(f, " found on {}, not on {missing}", list(found));
            }
            _ => write!(f, " is ")?,
        }
        let mut values: Vec<String> = platforms
            .iter()
            .map(|(value, platforms)| format!("{value} on {}", list(platforms)))
            .collect();
        values.extend(missing.map(|platforms| format!("not found on {platforms}")));
        write!(f, "{}", values.join(", "))
    }
}

/// `a`, `a and b`, `a, b and c`.
fn list(platforms: &[String]) -> String {
    match platforms.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
