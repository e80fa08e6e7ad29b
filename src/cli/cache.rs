//! The verb `cache`: limits as typed, reports as text.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::arguments::{CacheVerb, Format, Key, Limit};
use super::printer::{bytes, json};
use crate::engine::build::Prepared;
use crate::engine::cache;
use crate::engine::remote::signature;
use crate::engine::report::BuildError;
use crate::machine::environment::Environment;
use crate::model::Finding;
use crate::model::event::Event;
use crate::store::{Collected, Exported, Imported, Limits, Usage};

/// What `gc` keeps if nothing is said.
const DEFAULT_KEEP_BYTES: u64 = 20_000_000_000;
const DEFAULT_UNUSED: Duration = Duration::from_secs(14 * DAY);

const DAY: u64 = 24 * 60 * 60;

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const TIMES: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", DAY), ("w", 7 * DAY)];

/// Does what needs no project; `None` if a project is needed.
pub fn perform(
    verb: &CacheVerb,
    format: Format,
    environment: &Environment,
    events: &Sender<Event>,
    interrupted: &AtomicBool,
) -> Result<Option<String>, BuildError> {
    let is_json = format == Format::Json;
    Ok(Some(match verb {
        CacheVerb::Export(_) => return Ok(None),
        CacheVerb::Path => {
            let path = cache::folder(environment)?;
            match is_json {
                true => json(&serde_json::json!({"version": 1, "path": path})),
                false => format!("{}\n", path.display()),
            }
        }
        CacheVerb::Info => {
            let usage = cache::open(environment)?.usage();
            if is_json { json(&usage) } else { usage_text(&usage) }
        }
        CacheVerb::Gc(limit) => {
            let limits = limits(limit)?;
            let store = cache::open(environment)?;
            let collected = cache::collect(&store, limits, limit.dry_run, events, interrupted)?;
            if is_json { json(&collected) } else { collected_text(&collected) }
        }
        CacheVerb::Key(Key { file }) => {
            let file = file.as_ref().map(|file| environment.folder.join(file));
            let (public, secret) = signature::key(file.as_deref())?;
            match (is_json, secret) {
                (true, secret) => {
                    json(&serde_json::json!({"version": 1, "public": public, "secret": secret}))
                }
                (false, None) => format!("{public}\n"),
                (false, Some(secret)) => format!("{public}\n{secret}\n"),
            }
        }
        CacheVerb::Import(import) => {
            let folder = environment.folder.join(&import.folder);
            let store = cache::open(environment)?;
            let imported = cache::import(&store, &folder, events, interrupted)?;
            if is_json { json(&imported) } else { imported_text(&imported) }
        }
    }))
}

/// Exports what a project needs.
pub fn export(
    prepared: &Prepared,
    verb: &CacheVerb,
    environment: &Environment,
    format: Format,
) -> Result<String, BuildError> {
    let CacheVerb::Export(export) = verb else { return Ok(String::new()) };
    let exported = prepared.export(&environment.folder.join(&export.folder))?;
    Ok(if format == Format::Json { json(&exported) } else { exported_text(&exported) })
}

/// Limits as typed; both defaults if none is.
fn limits(limit: &Limit) -> Result<Limits, BuildError> {
    let mut findings = Vec::new();
    let mut parse = |text: &Option<String>, read: fn(&str) -> Result<u64, Finding>| {
        let text = text.as_ref()?;
        read(text).map_err(|finding| findings.push(finding)).ok()
    };
    let keep_bytes = parse(&limit.keep, size);
    let unused = parse(&limit.unused, time).map(Duration::from_secs);
    if !findings.is_empty() {
        return Err(BuildError::Findings(findings));
    }
    Ok(match (keep_bytes, unused) {
        (None, None) => {
            Limits { keep_bytes: Some(DEFAULT_KEEP_BYTES), unused: Some(DEFAULT_UNUSED) }
        }
        (keep_bytes, unused) => Limits { keep_bytes, unused },
    })
}

fn size(text: &str) -> Result<u64, Finding> {
    quantity(text, &SIZES).map_err(|why| {
        Finding::new("invalid-size", format!("`--keep {text}` is no size: {why}"))
            .help("write a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as `20GB`")
    })
}

fn time(text: &str) -> Result<u64, Finding> {
    quantity(text, &TIMES).map_err(|why| {
        Finding::new("invalid-time", format!("`--unused {text}` is no time: {why}"))
            .help("write a whole number and s, m, h, d or w, such as `14d`")
    })
}

/// A number with one of these units.
fn quantity(text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim());
    let found = units.iter().find(|(name, _)| *name == unit);
    let Some((_, factor)) = found else {
        return Err(match unit {
            "" => "it has no unit".to_owned(),
            unit => format!("there is no unit `{unit}`"),
        });
    };
    let wrong = || format!("`{number}` is no number");
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let digits = u32::try_from(part.len()).ok().filter(|digits| *digits <= 9).ok_or_else(wrong)?;
    let part: u64 = part.parse().map_err(|_| wrong())?;
    let whole = whole.checked_mul(*factor).ok_or_else(|| "it is too large".to_owned())?;
    let part = u128::from(part) * u128::from(*factor) / 10_u128.pow(digits);
    Ok(whole.saturating_add(u64::try_from(part).unwrap_or(u64::MAX)))
}

/// Rows with columns as wide as they need.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn usage_text(usage: &Usage) -> String {
    let mut text =
        format!("{} takes {} on the disk\n\n", usage.folder.display(), bytes(usage.disk_bytes));
    let mut rows = vec![["RESULTS", "NUMBER", "SIZE", "MADE IN"].map(str::to_owned)];
    for kind in &usage.kinds {
        let made = format!("{:.1} s", Duration::from_millis(kind.elapsed_ms).as_secs_f64());
        rows.push([kind.kind.clone(), kind.results.to_string(), bytes(kind.size_bytes), made]);
    }
    let downloads = (usage.downloads.to_string(), bytes(usage.downloads_bytes));
    rows.push(["(downloads)".into(), downloads.0, downloads.1, String::new()]);
    let other = bytes(usage.other_bytes);
    rows.push(["(lists and toolchains)".into(), String::new(), other, String::new()]);
    text.push_str(&table(&rows));
    if usage.projects.is_empty() {
        return text;
    }
    text.push('\n');
    let head = ["PROJECT", "RESULTS", "SIZE", "COMPILER STATE", "BUILDS", "REUSED", "LAST BUILD"];
    let mut rows = vec![head.map(str::to_owned)];
    let known =
        usage.projects.iter().filter_map(|project| Some((project, project.folder.as_ref()?)));
    for (project, folder) in known {
        let folder = match project.is_there {
            true => folder.display().to_string(),
            false => format!("{} (gone)", folder.display()),
        };
        rows.push([
            folder,
            project.results.to_string(),
            bytes(project.results_bytes),
            bytes(project.state_bytes),
            project.builds.to_string(),
            format!("{} of {} units", project.hits, project.hits + project.runs),
            format!("{} ago", age(project.unused_secs)),
        ]);
    }
    let unknown = usage.projects.iter().filter(|project| project.folder.is_none());
    let (number, state) =
        unknown.fold((0, 0), |(number, state), project| (number + 1, state + project.state_bytes));
    if number > 0 {
        let mut row = [""; 7].map(str::to_owned);
        row[0] = format!("({number} of earlier versions)");
        row[3] = bytes(state);
        rows.push(row);
    }
    text.push_str(&table(&rows));
    text.push_str("\nwhat several results have in common counts for each, and once on the disk\n");
    text
}

/// A time in the largest unit of which it has one.
fn age(secs: u64) -> String {
    let unit = TIMES.iter().rev().find(|(name, size)| *name != "w" && secs >= *size);
    unit.map_or_else(|| "0 s".to_owned(), |(name, size)| format!("{} {name}", secs / size))
}

fn collected_text(collected: &Collected) -> String {
    let Collected { results, downloads, projects, removed_bytes, left_bytes, .. } = collected;
    format!(
        "{} {results} results, {downloads} downloads and the compiler state of {projects} projects, \
         {}; {} {}\n",
        if collected.dry_run { "would remove" } else { "removed" },
        bytes(*removed_bytes),
        bytes(*left_bytes),
        if collected.dry_run { "would stay" } else { "stay" },
    )
}

fn exported_text(exported: &Exported) -> String {
    let Exported { folder, results, unclean, missing, files, size_bytes, .. } = exported;
    let mut text = format!(
        "{} holds {results} results in {files} files, {}: {} new, {} removed\n",
        folder.display(),
        bytes(*size_bytes),
        exported.files_new,
        exported.files_removed
    );
    if exported.elsewhere > 0 {
        text.push_str(&format!(
            "{} results are known and not here, because nothing needed their files\n",
            exported.elsewhere
        ));
    }
    if *missing > 0 {
        text.push_str(&format!("{missing} units have no result yet; `xstitch build` makes them\n"));
    }
    if *unclean > 0 {
        text.push_str(&format!(
            "{unclean} results stay here: compilers made them with what they kept of earlier \
             builds, or an earlier version did\n"
        ));
    }
    text
}

fn imported_text(imported: &Imported) -> String {
    let Imported { results, results_new, size_bytes, .. } = imported;
    format!("{results_new} of {results} results were new, {}\n", bytes(*size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(size("20GB"), Ok(20_000_000_000));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("0B"), Ok(0));
        assert_eq!(time("14d"), Ok(14 * DAY));
        for text in ["20", "20XB", "GB", "-1GB", "1.2.3GB", "99999999999TB", "1.GB", "20gb"] {
            assert!(size(text).is_err(), "{text}");
        }
        let error = size("20XB").unwrap_err().to_string();
        insta::assert_snapshot!(error, @"
        `--keep 20XB` is no size: there is no unit `XB` [invalid-size]
          help: write a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as `20GB`
        ");
        assert_eq!(age(0), "0 s");
        assert_eq!(age(90), "1 m");
        assert_eq!(age(40 * DAY), "40 d");
    }

    #[test]
    fn one_limit_alone_is_the_only_one() {
        let limit = |keep: Option<&str>, unused: Option<&str>| {
            let (keep, unused) = (keep.map(str::to_owned), unused.map(str::to_owned));
            limits(&Limit { keep, unused, dry_run: false }).unwrap()
        };
        assert_eq!(limit(Some("1B"), None), Limits { keep_bytes: Some(1), unused: None });
        let both = limit(None, None);
        assert!(both.keep_bytes.is_some() && both.unused.is_some());
    }
}
