//! What the entries of `files` of an image mean.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::raw::{Keys, Reader, suggest};
use super::{FileContent, FileEntry, FileSource};
use crate::model::capability::{self, Capabilities, CapabilityError};
use crate::model::platform::{PLATFORMS, TRIPLES};
use crate::model::template;
use crate::model::{Finding, Place};

/// What an entry is, by key.
const KINDS: [&str; 3] = ["from", "link", "folder"];

/// Keys that say how files are found, of no use to links and folders.
const OF_COPIES: [&str; 4] = ["folder-mode", "exclude", "capabilities", "allow-secrets"];

/// The largest number of a user or group; the one above means none.
const OWNER_AT_MOST: u64 = 0xffff_fffe;

/// The entries of `files` of an image.
pub fn files<'a>(reader: &mut Reader<'a>, image: &str, keys: &mut Keys<'a>) -> Vec<FileEntry> {
    let what = format!("`files` of [image.{image}]");
    let tables = reader.tables(keys, "files", &what);
    tables.into_iter().filter_map(|entry| file(reader, &what, entry)).collect()
}

fn file<'a>(reader: &mut Reader<'a>, what: &str, mut keys: Keys<'a>) -> Option<FileEntry> {
    let place = keys.place();
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| keys.has(kind)).collect();
    let to_place = keys.place_of(if kinds == ["folder"] { "folder" } else { "to" });
    let content = match kinds.as_slice() {
        ["from"] => source(reader, what, &mut keys).map(FileContent::Copy),
        ["link"] => reader.text(&mut keys, "link").map(FileContent::Link),
        ["folder"] => Some(FileContent::Folder),
        _ => {
            let found: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
            let has = if found.is_empty() { "none".to_owned() } else { found.join(" and ") };
            let message = format!(
                "an entry of {what} needs exactly one of `from`, `link`, `folder`; it has {has}"
            );
            reader.problem("missing-key", place.clone(), message);
            None
        }
    };
    let is_copy = matches!(content, Some(FileContent::Copy(_)));
    let to = match content {
        Some(FileContent::Folder) => reader.text(&mut keys, "folder"),
        _ => {
            let to = reader.text(&mut keys, "to");
            if to.is_none() && content.is_some() {
                let message = format!("an entry of {what} needs `to`, a path in the image");
                reader.problem("missing-key", place.clone(), message);
            }
            to
        }
    };
    if !is_copy && content.is_some() {
        let link = matches!(content, Some(FileContent::Link(_)));
        let kind = if link { "a link" } else { "a folder" };
        let has = OF_COPIES.into_iter().chain([if link { "mode" } else { "to" }]);
        for key in has.filter(|key| keys.has(key)) {
            let message = format!("an entry of {what} that is {kind} has no use for `{key}`");
            reader.problem("unused-key", keys.place_of(key), message);
        }
    }
    let mode_of_files = mode(reader, &mut keys, "mode");
    let folder_mode = mode(reader, &mut keys, "folder-mode");
    let owner = owner(reader, &mut keys);
    let exclude = reader.texts(&mut keys, "exclude", true);
    let capabilities = capabilities(reader, &mut keys);
    let allow_secrets = inside(reader, &mut keys, "allow-secrets");
    // Known now, so that a misspelt key is told beside the right ones.
    for kind in KINDS.into_iter().chain(["to"]) {
        let _ = reader.take(&mut keys, kind);
    }
    reader.finish(keys);
    let entry = FileEntry {
        content: content?,
        to: to?,
        mode: mode_of_files,
        folder_mode,
        owner,
        exclude,
        capabilities,
        allow_secrets,
        place,
    };
    destination(reader, &entry, &to_place);
    for text in entry.templates() {
        for name in template::names(text).filter(|name| !template::NAMES.contains(name)) {
            let message =
                format!("there is no name `{{{name}}}` to stand for something in `{text}`");
            let finding = Finding::new("unknown-name", message).at(entry.place.clone());
            reader.findings.push(suggest(finding, name, &template::NAMES));
        }
    }
    Some(entry)
}

/// Checks where something goes.
fn destination(reader: &mut Reader<'_>, entry: &FileEntry, place: &Place) {
    let to = &entry.to;
    let is_copy = matches!(entry.content, FileContent::Copy(_));
    if !to.starts_with('/') || to.split('/').any(|part| part == "..") {
        let message =
            format!("a path in the image must be absolute and have no `..`, this is `{to}`");
        reader.problem("invalid-value", place.clone(), message);
    } else if !is_copy && to.split('/').all(|part| matches!(part, "" | ".")) {
        let message = format!("`{to}` is the root of the image, which is there already");
        reader.problem("invalid-value", place.clone(), message);
    }
    if let FileContent::Link(text) = &entry.content
        && let Err(why) = check_link(to, text)
    {
        reader.problem("invalid-value", entry.place.clone(), format!("the link `{to}`: {why}"));
    }
}

/// Whether a link at the absolute path `at` with that text stays below the root.
pub fn check_link(at: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it leads to nothing".to_owned());
    }
    let parts = |path: &str| {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut way = if text.starts_with('/') { Vec::new() } else { parts(at) };
    way.pop();
    for part in parts(text) {
        if part != ".." {
            way.push(part);
        } else if way.pop().is_none() {
            return Err(format!("`{text}` leads out of the image"));
        }
    }
    Ok(())
}

/// A path, a pattern, or a table of them by platform.
fn source<'a>(reader: &mut Reader<'a>, what: &str, keys: &mut Keys<'a>) -> Option<FileSource> {
    let (place, value) = reader.take(keys, "from")?;
    if !value.get_ref().is_table() {
        let text = reader.as_text("from", &place, value)?;
        return Some(FileSource::One(path(reader, "from", &place, &text)));
    }
    let mut table = reader.table("from", &place, value)?;
    let mut each = BTreeMap::new();
    for (name, place, value) in reader.rest(&mut table) {
        if !PLATFORMS.contains(&name.as_str()) && !TRIPLES.contains(&name.as_str()) {
            let message = format!("`from` in {what}: there is no platform or target `{name}`");
            let finding = Finding::new("unknown-target", message);
            reader.findings.push(suggest(finding, &name, &PLATFORMS).at(place.clone()));
        }
        if let Some(text) = reader.as_text("from", &place, value) {
            let text = path(reader, "from", &place, &text);
            each.insert(name, text);
        }
    }
    Some(FileSource::Each(each))
}

/// A path in the project, its parts cleaned.
fn path(reader: &mut Reader<'_>, key: &str, place: &Place, text: &str) -> String {
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        let message = format!("`{key}` must stay in the project, this is `{text}`");
        reader.problem("invalid-value", place.clone(), message);
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}

fn inside<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>, name: &'static str) -> Vec<String> {
    let texts = reader.placed_texts(keys, name, true);
    texts.into_iter().map(|(place, text)| path(reader, name, &place, &text)).collect()
}

fn mode<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>, name: &'static str) -> Option<u32> {
    let place = keys.place_of(name);
    let text = reader.text(keys, name)?;
    let digits = text.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| digits && *mode <= 0o7777);
    if mode.is_none() {
        reader.problem("invalid-value", place, format!("`{text}` is no mode such as \"0755\""));
    }
    mode
}

/// Numbers of a user and a group; the group is the user's, if it is not given.
fn owner<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>) -> Option<(u64, u64)> {
    let (place, value) = reader.take(keys, "owner")?;
    let text = match value.get_ref() {
        DeValue::Integer(number) => number.to_string(),
        _ => reader.as_text("owner", &place, value)?,
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| digits && *number <= OWNER_AT_MOST)
    };
    let (user, group) = text.split_once(':').unwrap_or((&text, &text));
    if let (Some(user), Some(group)) = (number(user), number(group)) {
        return Some((user, group));
    }
    let message = format!("`owner` must be numbers such as \"65532:65532\", this is `{text}`");
    let finding = Finding::new("invalid-value", message).help(
        "a layer holds numbers; what number a name has is said by the `/etc/passwd` of whatever \
         the layer is put on. The user `nonroot` of images made of packages is 65532",
    );
    reader.findings.push(finding.at(place));
    None
}

fn capabilities<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>) -> Option<Capabilities> {
    let place = keys.place_of("capabilities");
    let texts = reader.texts(keys, "capabilities", true);
    if texts.is_empty() {
        return None;
    }
    match Capabilities::parse(&texts) {
        Ok(capabilities) => Some(capabilities),
        Err(error) => {
            let finding = Finding::new("invalid-value", error.to_string());
            let finding = match &error {
                CapabilityError::Unknown(name) => {
                    let lower = name.to_lowercase();
                    let name =
                        if lower.starts_with("cap_") { lower } else { format!("cap_{lower}") };
                    suggest(finding, &name, &capability::NAMES)
                }
                CapabilityError::Flags(_) => {
                    finding.help("flags are `p` permitted, `i` inheritable, `e` effective")
                }
                CapabilityError::SomeEffective => finding,
            };
            reader.findings.push(finding.at(place));
            None
        }
    }
}
