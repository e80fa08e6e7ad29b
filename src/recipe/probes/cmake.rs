//! `CMakeCache.txt`: which of its entries are answers of probes, by what CMake says about
//! them, the same from 3.25 to 4.4.

use std::collections::{BTreeMap, BTreeSet};

/// How the descriptions start that CMake's modules and commands give to answers.
const ANSWERS: [&str; 9] = [
    "Test ",
    "Have symbol ",
    "Have include",
    "Have function ",
    "Have library ",
    "Have variable ",
    "Have correct prototype ",
    "CHECK_TYPE_SIZE: ",
    "Result of T",
];

/// The same for exit codes of programs that were run, or told about.
const RUNS: [&str; 2] = ["Result of try_run()", "Run result of try_run()"];

/// The same for what was looked for in the sysroot, of which the path is of no interest.
const SEARCHES: [&str; 3] = [
    "Path to a library.",
    "Path to a file.",
    "The directory containing a CMake configuration file",
];

/// Names of paths that a project describes in its own words.
const PATHS: [&str; 6] = [
    "*_LIBRARY",
    "*_LIBRARIES",
    "*_LIBRARY_RELEASE",
    "*_LIBRARY_DEBUG",
    "*_INCLUDE_DIR",
    "*_INCLUDE_DIRS",
];

/// Names that projects give to answers of their own or preset.
const NAMES: [&str; 3] = ["HAVE_*", "*_HAVE_*", "*_FOUND"];

struct Entry<'a> {
    help: String,
    kind: &'a str,
    value: &'a str,
}

/// Names and values, sorted.
pub fn results(text: &str) -> Vec<(String, String)> {
    let entries = entries(text);
    // pkg-config's answers have a prefix that the project chose.
    let packages: BTreeSet<&str> =
        entries.keys().filter_map(|name| name.strip_prefix("__pkg_config_checked_")).collect();
    let mut results = Vec::new();
    for (name, entry) in entries.iter().filter(|(name, _)| !is_detail(name, &entries)) {
        let package = name.strip_suffix("_VERSION");
        if let Some(package) = name.strip_prefix("FIND_PACKAGE_MESSAGE_DETAILS_") {
            results.extend(found_version(entry.value).map(|v| (format!("{package}_FOUND"), v)));
        } else if package.is_some_and(|package| packages.contains(package)) {
            if !entry.value.is_empty() {
                results.push(((*name).to_owned(), entry.value.to_owned()));
            }
        } else if let Some(value) = value(name, entry) {
            results.push(((*name).to_owned(), value));
        }
    }
    results
}

/// The answer that an entry has, if it has one.
fn value(name: &str, entry: &Entry<'_>) -> Option<String> {
    let starts = |starts: &[&str]| starts.iter().any(|start| entry.help.starts_with(start));
    let is_named = |patterns: &[&str]| patterns.iter().any(|p| super::matches(p, name));
    match entry.kind {
        "STATIC" => None,
        "PATH" | "FILEPATH" => {
            let search = !name.starts_with("CMAKE_") && (starts(&SEARCHES) || is_named(&PATHS));
            let missing = entry.value.is_empty() || entry.value.ends_with("NOTFOUND");
            search.then(|| if missing { "no" } else { "yes" }.to_owned())
        }
        // 0 stands for success there.
        _ if starts(&RUNS) && entry.value.parse::<i64>().is_ok() => {
            Some(format!("exit code {}", entry.value))
        }
        "INTERNAL" if starts(&ANSWERS) => Some(entry.value.to_owned()),
        _ => is_named(&NAMES).then(|| entry.value.to_owned()),
    }
}

fn entries(text: &str) -> BTreeMap<&str, Entry<'_>> {
    let mut entries = BTreeMap::new();
    let mut help = String::new();
    for line in text.lines() {
        if let Some(more) = line.strip_prefix("//") {
            help.push_str(more);
        } else if let Some((name, (kind, value))) = entry(line) {
            entries.insert(name, Entry { help: std::mem::take(&mut help), kind, value });
        } else {
            help.clear();
        }
    }
    entries
}

/// `NAME:TYPE=VALUE`; a name with a colon has quotes.
fn entry(line: &str) -> Option<(&str, (&str, &str))> {
    let (name, rest) = match line.strip_prefix('"') {
        Some(line) => line.split_once("\":")?,
        None => line.split_once(':')?,
    };
    (!name.starts_with('#')).then_some((name, rest.split_once('=')?))
}

/// Whether an entry only tells more about another: a property of it, or the two steps of an
/// answer that came from running a program.
fn is_detail(name: &str, entries: &BTreeMap<&str, Entry<'_>>) -> bool {
    let property = ["-ADVANCED", "-STRINGS", "-MODIFIED"].iter().any(|end| name.ends_with(end));
    let step = ["_COMPILED", "_EXITCODE"]
        .iter()
        .any(|end| name.strip_suffix(end).is_some_and(|name| entries.contains_key(name)));
    let flag = name.split_once('-').is_some_and(|(_, flag)| super::autoconf::is_warning(flag));
    property || step || flag
}

/// The version in `[/usr/lib/libz.so][v1.2.13()]`, which is there once a package is found
/// that is no program of the machine that builds.
fn found_version(details: &str) -> Option<String> {
    if details.contains("/bin/") {
        return None;
    }
    let version = details.rsplit_once("[v").and_then(|(_, end)| end.split_once('('));
    let version = version.map(|(version, _)| version).filter(|version| !version.is_empty());
    Some(version.unwrap_or("yes").to_owned())
}
