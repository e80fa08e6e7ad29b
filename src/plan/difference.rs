//! How the parts of a key differ from those of another time: pure, the most telling first.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::parts::{Files, Parts};
use super::reason::{Reason, Why};
use crate::model::Configuration;

/// Files of the project that a unit depends on, then and now, where they are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// Then.
    pub old: Option<&'a Files>,
    /// Now.
    pub new: Option<&'a Files>,
}

/// Why the parts of the unit of that name are others than they were, but for what its needs
/// gave. Nothing if they are the same.
pub fn differences(name: &str, old: &Parts, new: &Parts, sources: Sources<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if old.version != new.version {
        let text = format!("this version of xstitch makes a {} otherwise", kind(&new.action));
        reasons.push(Reason::new(Why::Program, "xstitch", text));
    }
    if old.configuration != new.configuration {
        configuration(&old.configuration, &new.configuration, &mut reasons);
    }
    if old.action != new.action {
        let before = reasons.len();
        action(name, old, new, sources, &mut reasons);
        if reasons.len() == before && old.needs.len() == new.needs.len() {
            let text = "what it does is described otherwise";
            reasons.push(Reason::new(Why::Option, "action", text));
        }
    }
    if old.needs.len() != new.needs.len() {
        needs(old, new, &mut reasons);
    }
    reasons.sort();
    reasons.dedup();
    reasons
}

fn kind(action: &Value) -> &str {
    action["type"].as_str().unwrap_or_default()
}

fn configuration(
    old: &Option<Configuration>,
    new: &Option<Configuration>,
    reasons: &mut Vec<Reason>,
) {
    let fields = |configuration: &Option<Configuration>| match configuration {
        Some(configuration) => serde_json::to_value(configuration).unwrap_or_default(),
        None => Value::Null,
    };
    leaves(Why::Configuration, "configuration", "", &fields(old), &fields(new), reasons);
}

fn action(
    name: &str,
    old_parts: &Parts,
    new_parts: &Parts,
    sources: Sources<'_>,
    reasons: &mut Vec<Reason>,
) {
    let (old, new) = (&old_parts.action, &new_parts.action);
    if kind(old) != kind(new) {
        let (from, to) = (Some(kind(old)), Some(kind(new)));
        reasons.push(Reason::of_value(Why::Option, "option", "type", from, to));
        return;
    }
    let changed = source_files(sources, reasons);
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (a, b) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
        if a == b {
            continue;
        }
        match (kind(&new_parts.action), key.as_str()) {
            ("process", "commands") => commands(a, b, &changed, reasons),
            ("process", "environment") => {
                leaves(Why::Variable, "variable", "", a, b, reasons);
            }
            ("process", "tools") => tools(a, b, reasons),
            ("process", "mounts") => mounts(a, b, reasons),
            ("process" | "vendor-crates" | "download-modules", "sources" | "digest") => {
                if changed.is_empty() {
                    let text = "its sources changed";
                    reasons.push(Reason::new(Why::Source, "sources", text));
                }
            }
            ("download-modules", "go") => {
                let text = |value: &Value| format!("go{}", value.as_str().unwrap_or_default());
                let moved = Reason::of_move(Why::Toolchain, "toolchain", "", &text(a), &text(b));
                reasons.push(Reason { what: "go".into(), ..moved });
            }
            ("unpack-packages", "packages") => packages(name, a, b, reasons),
            ("pack-layer", "content") => {
                files(&a["members"], &b["members"], reasons);
                leaves(Why::Option, "option", "content", a, b, reasons);
            }
            ("install-files", "files") => files(a, b, reasons),
            ("import-layer", "layer") => {
                reasons.push(Reason::new(Why::Source, "layer", "the base image has another layer"));
            }
            _ => leaves(Why::Option, "option", key, a, b, reasons),
        }
    }
}

/// Says which files changed, and returns them.
fn source_files(sources: Sources<'_>, reasons: &mut Vec<Reason>) -> BTreeSet<String> {
    let (Some(old), Some(new)) = (sources.old, sources.new) else { return BTreeSet::new() };
    let mut changed = BTreeSet::new();
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for path in paths {
        let change = match (old.get(path), new.get(path)) {
            (Some(a), Some(b)) if a.digest != b.digest => "changed",
            (Some(a), Some(b)) if a != b && b.executable => "became executable",
            (Some(a), Some(b)) if a != b => "is not executable any more",
            (None, Some(_)) => "is new",
            (Some(_), None) => "is gone",
            _ => continue,
        };
        reasons.push(Reason::of_change(Why::Source, "source", path, change));
        changed.insert(path.clone());
    }
    changed
}

/// Words of command lines. Those of files that came or went are told with the files.
fn commands(old: &Value, new: &Value, changed: &BTreeSet<String>, reasons: &mut Vec<Reason>) {
    let words = |value: &Value| -> BTreeSet<String> {
        let words =
            value.as_array().into_iter().flatten().flat_map(|command| {
                command.as_array().into_iter().flatten().filter_map(Value::as_str)
            });
        words
            .flat_map(str::split_whitespace)
            .filter(|word| !changed.contains(*word))
            // Places of the build follow from the sources.
            .filter(|word| !word.trim_matches('\'').starts_with("@{build}"))
            .map(str::to_owned)
            .collect()
    };
    let (a, b) = (words(old), words(new));
    let gone: Vec<&String> = a.difference(&b).collect();
    let mut fresh: Vec<&String> = b.difference(&a).collect();
    let stem = |word: &str| match word.split_once('=') {
        Some((stem, _)) => stem.to_owned(),
        None => word.chars().take(2).collect(),
    };
    for word in &gone {
        // `-O2` and `-O3`, `--level=1` and `--level=2`.
        let same: Vec<usize> =
            (0..fresh.len()).filter(|&at| stem(fresh[at]) == stem(word)).collect();
        let alone = gone.iter().filter(|other| stem(other) == stem(word)).count() == 1;
        if let (true, [at]) = (alone, same.as_slice()) {
            let next = fresh.remove(*at);
            let (from, to) = (Some(word.as_str()), Some(next.as_str()));
            let text = format!("flag {word} -> {next}");
            let what = stem(word);
            let own = |text: Option<&str>| text.map(str::to_owned);
            let reason = Reason::new(Why::Flag, &what, text);
            reasons.push(Reason { from: own(from), to: own(to), ..reason });
        } else {
            reasons.push(Reason::of_change(Why::Flag, "flag", word, "is gone"));
        }
    }
    for word in &fresh {
        reasons.push(Reason::of_change(Why::Flag, "flag", word, "is new"));
    }
    if gone.is_empty() && fresh.is_empty() && changed.is_empty() {
        let text = "the words of its command lines have another order";
        reasons.push(Reason::new(Why::Flag, "commands", text));
    }
}

fn tools(old: &Value, new: &Value, reasons: &mut Vec<Reason>) {
    each(old, new, |path, a, b| {
        let change = match (a, b) {
            (None, _) => "is new",
            (_, None) => "is gone",
            _ => "changed",
        };
        // Patches are texts of the project.
        let (why, noun) = match path.starts_with("patches/") {
            true => (Why::Source, "patch"),
            false => (Why::Template, "template"),
        };
        reasons.push(Reason::of_change(why, noun, path, change));
    });
}

/// Mounted folders of the machine; those of needs are told by the needs.
fn mounts(old: &Value, new: &Value, reasons: &mut Vec<Reason>) {
    each(old, new, |at, a, b| {
        let name = |mount: Option<&Value>| {
            mount.and_then(|mount| mount["name"].as_str()).map(str::to_owned)
        };
        match (name(a), name(b)) {
            (Some(from), Some(to)) if from != to => {
                let moved = Reason::of_move(Why::Toolchain, "toolchain", "", &from, &to);
                reasons.push(Reason { what: at.to_owned(), ..moved });
            }
            (Some(_), Some(to)) => {
                let change = "has other content";
                reasons.push(Reason::of_change(Why::Toolchain, "toolchain", &to, change));
            }
            _ if a.is_none() => {
                reasons.push(Reason::of_change(Why::Toolchain, "toolchain", at, "is new"));
            }
            _ if b.is_none() => {
                reasons.push(Reason::of_change(Why::Toolchain, "toolchain", at, "is gone"));
            }
            (None, None) => {}
            _ => {
                let change = "comes from somewhere else";
                reasons.push(Reason::of_change(Why::Toolchain, "toolchain", at, change));
            }
        }
    });
}

/// Which packages came, went and moved in a unit of that name, or only their order.
pub fn packages(unit: &str, old: &Value, new: &Value, reasons: &mut Vec<Reason>) {
    let is_tool = unit.starts_with("toolchain ") || unit.starts_with("userland");
    let (why, noun) = match is_tool {
        true => (Why::Toolchain, "toolchain"),
        false => (Why::Package, "package"),
    };
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let by_name = |value: &Value| -> BTreeMap<String, (String, String)> {
        let packages = value.as_array().into_iter().flatten();
        packages
            .map(|package| {
                let name = format!("{}:{}", text(package, "name"), text(package, "architecture"));
                (name, (text(package, "version"), text(package, "sha256")))
            })
            .collect()
    };
    let (a, b) = (by_name(old), by_name(new));
    let before = reasons.len();
    for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        reasons.push(match (a.get(name), b.get(name)) {
            (Some((from, _)), Some((to, _))) if from != to => {
                Reason::of_move(why, noun, name, from, to)
            }
            (Some((_, from)), Some((_, to))) if from != to => {
                Reason::of_change(why, noun, name, "has another hash")
            }
            (None, Some((to, _))) => {
                Reason { to: Some(to.clone()), ..Reason::of_change(why, noun, name, "is new") }
            }
            (Some((from, _)), None) => {
                Reason { from: Some(from.clone()), ..Reason::of_change(why, noun, name, "is gone") }
            }
            _ => continue,
        });
    }
    if reasons.len() == before {
        reasons.push(Reason::new(why, "packages", "its packages have another order"));
    }
}

/// Files of the project that become part of a layer or of an output, by where they go.
fn files(old: &Value, new: &Value, reasons: &mut Vec<Reason>) {
    let by_path = |value: &Value| -> Value {
        let members = value.as_array().into_iter().flatten();
        let named =
            members.filter_map(|member| Some((member["to"].as_str()?.to_owned(), member.clone())));
        Value::Object(named.collect())
    };
    each(&by_path(old), &by_path(new), |to, a, b| match (a, b) {
        (Some(a), Some(b)) => {
            let file = |member: &Value| {
                let kind = member.get("kind").filter(|kind| kind.is_object()).unwrap_or(member);
                let text = |key: &str| kind[key].as_str().map(str::to_owned);
                (text("from"), text("digest"))
            };
            let ((from, was), (path, is)) = (file(a), file(b));
            if was != is && from == path {
                let path = path.unwrap_or_else(|| to.to_owned());
                reasons.push(Reason::of_change(Why::Source, "source", &path, "changed"));
            }
            let before = reasons.len();
            leaves(Why::Option, "file", to, a, b, reasons);
            // The content is told by the path in the project.
            let digest = format!("{to}.kind.digest");
            let other = format!("{to}.digest");
            let of_content = |reason: &Reason| reason.what == digest || reason.what == other;
            let rest = reasons.split_off(before);
            reasons.extend(rest.into_iter().filter(|reason| !of_content(reason)));
        }
        (None, _) => reasons.push(Reason::of_change(Why::Option, "file", to, "is new")),
        (_, None) => reasons.push(Reason::of_change(Why::Option, "file", to, "is gone")),
    });
}

/// Needs that came and went.
fn needs(old: &Parts, new: &Parts, reasons: &mut Vec<Reason>) {
    let names = |parts: &Parts| -> BTreeSet<String> {
        parts.needs.iter().map(|(name, _)| name.clone()).collect()
    };
    let (a, b) = (names(old), names(new));
    for name in b.difference(&a) {
        reasons.push(Reason::new(Why::Need, name, format!("now needs {name}")));
    }
    for name in a.difference(&b) {
        reasons.push(Reason::new(Why::Need, name, format!("no longer needs {name}")));
    }
    if a == b {
        reasons.push(Reason::new(Why::Need, "needs", "it needs the same units otherwise"));
    }
}

/// Calls `tell` for each key of two objects whose values differ.
fn each(old: &Value, new: &Value, mut tell: impl FnMut(&str, Option<&Value>, Option<&Value>)) {
    let empty = serde_json::Map::new();
    let (a, b) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        if a.get(key) != b.get(key) {
            tell(key, a.get(key), b.get(key));
        }
    }
}

/// The values that differ, by their path. Members and packages are told elsewhere.
fn leaves(why: Why, noun: &str, path: &str, old: &Value, new: &Value, reasons: &mut Vec<Reason>) {
    if old == new {
        return;
    }
    let is_object = |value: &Value| value.is_object();
    if (is_object(old) || old.is_null()) && (is_object(new) || new.is_null()) {
        each(old, new, |key, a, b| {
            if key == "members" {
                return;
            }
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let (a, b) = (a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null));
            leaves(why, noun, &path, a, b, reasons);
        });
        return;
    }
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if path.ends_with(".mode") => {
            Some(format!("{:o}", number.as_u64().unwrap_or_default()))
        }
        value => Some(value.to_string()),
    };
    let (from, to) = (text(old), text(new));
    let hash = |text: &Option<String>| text.as_deref().is_some_and(|x| x.starts_with("sha256:"));
    reasons.push(if hash(&from) || hash(&to) {
        let change = match (&from, &to) {
            (None, _) => "is new",
            (_, None) => "is gone",
            _ => "changed",
        };
        Reason::of_change(why, noun, path, change)
    } else {
        Reason::of_value(why, noun, path, from.as_deref(), to.as_deref())
    });
}

#[cfg(test)]
mod tests;
