//! The keys of `[library.*]`, and those that binaries of other build systems share with them.

use std::collections::BTreeMap;

use super::Recipe;
use super::library::{Kind, Library, LibraryRecipe, LibraryTarget, Link, PrebuiltFile, Strip};
use super::raw::{Keys, Reader, Value, suggest};
use super::valid::folder;
use crate::model::platform::{PLATFORMS, TRIPLES};
use crate::model::source::Origin;
use crate::model::{Digest, Finding, Place};

const KINDS: [&str; 9] =
    ["packages", "cargo", "autotools", "cmake", "meson", "make", "cc", "command", "prebuilt"];

/// Keys that say how something is built, of no use to what others built.
const OF_BUILDS: [&str; 6] = ["patches", "tools", "env", "strip", "target", "differences"];

/// Reads `[library.NAME]`. Where its recipe is wrong, the library is there without one, so
/// that nobody who names it is told that there is none.
pub fn library<'a>(
    reader: &mut Reader<'a>,
    name: &str,
    place: &Place,
    value: Value<'a>,
) -> Option<Library> {
    let what = format!("[library.{name}]");
    let mut keys = reader.table(&what, place, value)?;
    let mut recipes = Vec::new();
    let mut recipe_place = place.clone();
    for kind in KINDS {
        let at = keys.place_of(kind);
        let recipe = match kind {
            "packages" => {
                let (there, before) = (keys.has("packages"), reader.findings.len());
                let packages = reader.texts(&mut keys, "packages", false);
                if there && packages.is_empty() && reader.findings.len() == before {
                    let message = format!("`packages` of {what} names none");
                    reader.problem("missing-key", at.clone(), message);
                }
                there.then_some(Some(LibraryRecipe::Packages(packages)))
            }
            _ => reader.take(&mut keys, kind).map(|(at, value)| {
                let mut table = reader.table(&format!("`{kind}` of {what}"), &at, value)?;
                let recipe = match kind {
                    "prebuilt" => Some(prebuilt(reader, &what, &mut table)),
                    _ => built(reader, &what, name, kind, &at, &mut table),
                };
                reader.finish(table);
                recipe
            }),
        };
        if let Some(recipe) = recipe {
            recipes.push((kind, recipe));
            recipe_place = at;
        }
    }
    if let [(kind @ ("packages" | "prebuilt"), _)] = recipes.as_slice() {
        for key in OF_BUILDS.into_iter().filter(|key| keys.has(key)) {
            let message = format!("{what} is not built, so that its `{key}` would do nothing");
            let finding = Finding::new("unused-key", message)
                .help(format!("take it out, or build the library instead of `{kind}`"));
            reader.findings.push(finding.at(keys.place_of(key)));
        }
    }
    let needs_place = keys.place_of("needs");
    let needs = reader.texts(&mut keys, "needs", false);
    let link = link(reader, &mut keys);
    // What a script leaves is declared by it.
    let named = keys.has("libraries") || matches!(recipes.first(), Some(("command", _)));
    let mut libraries = reader.texts(&mut keys, "libraries", false);
    if !named {
        libraries.push(name.strip_prefix("lib").unwrap_or(name).to_owned());
    }
    if let [(_, Some(LibraryRecipe::Built { kind: Kind::Command { outputs, .. }, .. }))] =
        recipes.as_slice()
    {
        let dropped = |path: &&String| {
            (path.ends_with(".a") && !link.is_static())
                || (path.contains(".so") && !link.is_shared())
        };
        if let Some(path) = outputs.iter().find(dropped) {
            let message = format!("{what} has the output `{path}`, which its `link` leaves out");
            let finding = Finding::new("unused-output", message).help(
                "`link` is \"shared\" unless it says otherwise; \"static\" keeps archives, \
                 \"both\" keeps both",
            );
            reader.findings.push(finding.at(recipe_place.clone()));
        }
    }
    let library = Library {
        recipe: LibraryRecipe::Packages(Vec::new()),
        needs,
        needs_place,
        link,
        libraries,
        headers: paths(reader, &mut keys, "headers"),
        patches: paths(reader, &mut keys, "patches"),
        tools: reader.texts(&mut keys, "tools", false),
        env: reader.map(&mut keys, "env"),
        strip: strip(reader, &mut keys).unwrap_or(Strip::All),
        targets: targets(reader, &mut keys, &what),
        differences: reader.map(&mut keys, "differences"),
        place: recipe_place,
    };
    reader.finish(keys);
    match <[_; 1]>::try_from(recipes) {
        Ok([(_, Some(recipe))]) => Some(Library { recipe, ..library }),
        Ok([(_, None)]) => Some(library),
        Err(recipes) => {
            let found: Vec<String> = recipes.iter().map(|(kind, _)| format!("`{kind}`")).collect();
            let has = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            let message = format!(
                "{what} needs exactly one of {}; it has {has}",
                KINDS.map(|kind| format!("`{kind}`")).join(", ")
            );
            reader.problem("recipe-count", library.place.clone(), message);
            Some(library)
        }
    }
}

/// `shared`, `static` or `both`.
fn link<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>) -> Link {
    let place = keys.place_of("link");
    match reader.text(keys, "link").as_deref() {
        None | Some("shared") => Link::Shared,
        Some("static") => Link::Static,
        Some("both") => Link::Both,
        Some(other) => {
            let finding = Finding::new("invalid-value", format!("`link` cannot be `{other}`"));
            reader.findings.push(suggest(finding, other, &["shared", "static", "both"]).at(place));
            Link::Shared
        }
    }
}

/// `true`, `false` or `"debug"`.
pub fn strip<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>) -> Option<Strip> {
    let (place, value) = reader.take(keys, "strip")?;
    match value.get_ref() {
        toml::de::DeValue::Boolean(true) => Some(Strip::All),
        toml::de::DeValue::Boolean(false) => Some(Strip::None),
        toml::de::DeValue::String(text) if text == "debug" => Some(Strip::Debug),
        _ => {
            let message = "`strip` must be true, false or \"debug\"".to_owned();
            reader.problem("wrong-type", place, message);
            None
        }
    }
}

/// Paths that stay in the project, the source or the output.
/// Paths that stay where they belong.
pub(super) fn paths<'a>(
    reader: &mut Reader<'a>,
    keys: &mut Keys<'a>,
    name: &'static str,
) -> Vec<String> {
    let texts = reader.placed_texts(keys, name, false);
    texts
        .into_iter()
        .map(|(place, text)| {
            if text.starts_with('/') || text.split('/').any(|part| part == "..") {
                let message = match name {
                    "headers" => format!("`{name}` are paths below /usr/include, not `{text}`"),
                    "outputs" => format!("`{name}` are paths below /usr, not `{text}`"),
                    _ => format!("`{name}` must stay in the project, this is `{text}`"),
                };
                reader.problem("invalid-value", place, message);
            }
            text.trim_start_matches("./").to_owned()
        })
        .collect()
}

/// Tables by platform or triple.
fn by_target<'a>(
    reader: &mut Reader<'a>,
    what: &str,
    tables: Vec<(String, Place, Value<'a>)>,
) -> Vec<(String, Place, Value<'a>)> {
    for (name, place, _) in &tables {
        if !PLATFORMS.contains(&name.as_str()) && !TRIPLES.contains(&name.as_str()) {
            let message = format!("{what}: there is no platform or target `{name}`");
            let finding = Finding::new("unknown-target", message);
            reader.findings.push(suggest(finding, name, &PLATFORMS).at(place.clone()));
        }
    }
    tables
}

fn targets<'a>(
    reader: &mut Reader<'a>,
    keys: &mut Keys<'a>,
    what: &str,
) -> BTreeMap<String, LibraryTarget> {
    let tables = reader.named(keys, "target");
    let mut targets = BTreeMap::new();
    for (name, place, value) in by_target(reader, what, tables) {
        let Some(mut keys) = reader.table(&format!("{what} target {name}"), &place, value) else {
            continue;
        };
        let target = LibraryTarget {
            options: reader.texts(&mut keys, "options", false),
            env: reader.map(&mut keys, "env"),
        };
        reader.finish(keys);
        targets.insert(name, target);
    }
    targets
}

fn prebuilt<'a>(reader: &mut Reader<'a>, what: &str, keys: &mut Keys<'a>) -> LibraryRecipe {
    let mut all = BTreeMap::new();
    let tables = reader.rest(keys);
    for (name, place, value) in by_target(reader, what, tables) {
        let what = format!("`prebuilt` of {what} for {name}");
        let mut files = Vec::new();
        for mut entry in reader.as_tables(&what, &place, value) {
            let place = entry.place();
            let from = folder(reader, &mut entry, "from");
            let to = folder(reader, &mut entry, "to");
            let sha256 = sha256(reader, &mut entry, &what);
            reader.finish(entry);
            match (from, to, sha256) {
                (Some(from), Some(to), Some(sha256)) => {
                    files.push(PrebuiltFile { from, to, sha256, place });
                }
                (_, _, None) => {}
                _ => {
                    let message = format!("{what} needs `from`, `to` and `sha256`");
                    reader.problem("missing-key", place, message);
                }
            }
        }
        all.insert(name, files);
    }
    LibraryRecipe::Prebuilt(all)
}

fn sha256<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>, what: &str) -> Option<Digest> {
    let (start, place) = (keys.place(), keys.place_of("sha256"));
    let Some(text) = reader.text(keys, "sha256") else {
        let finding = Finding::new("missing-key", format!("{what} needs `sha256`"))
            .help("it pins the content: `sha256sum FILE` shows it");
        reader.findings.push(finding.at(start));
        return None;
    };
    let digest = Digest::from_hex(text.trim_start_matches("sha256:"));
    if digest.is_err() {
        let message = format!("`{text}` is no SHA-256: 64 hexadecimal digits");
        reader.problem("invalid-value", place, message);
    }
    digest.ok()
}

/// The one place that sources come from.
fn origin<'a>(
    reader: &mut Reader<'a>,
    what: &str,
    place: &Place,
    keys: &mut Keys<'a>,
    folder_in_crate: &mut String,
) -> Option<Origin> {
    let mut origins: Vec<Option<Origin>> = Vec::new();
    if let Some(path) = folder(reader, keys, "path") {
        origins.push(Some(Origin::Path { path }));
    }
    let archive_place = keys.place_of("archive");
    if let Some(at) = reader.text(keys, "archive") {
        let known = ["https://", "http://", "file://"].iter().any(|scheme| at.starts_with(scheme));
        if !known && (at.contains("://") || at.starts_with('/') || at.split('/').any(|p| p == ".."))
        {
            let message = format!("`archive` is a URL or a file of the project, not `{at}`");
            reader.problem("invalid-value", archive_place, message);
        }
        let digest = sha256(reader, keys, &format!("{what} with `archive`"));
        origins.push(digest.map(|sha256| Origin::Archive { at, sha256 }));
    }
    let git_place = keys.place_of("git");
    if let Some(url) = reader.text(keys, "git") {
        let commit_place = keys.place_of("commit");
        let commit = reader.text(keys, "commit");
        let hash = |commit: &String| {
            matches!(commit.len(), 40 | 64) && commit.chars().all(|c| c.is_ascii_hexdigit())
        };
        if !commit.as_ref().is_some_and(hash) {
            let finding = Finding::new(
                "missing-key",
                format!("{what} with `git` needs `commit`, a whole commit hash"),
            )
            .help("a branch or tag can move: `git rev-parse NAME^{commit}` shows the hash");
            let place = if commit.is_some() { commit_place } else { git_place };
            reader.findings.push(finding.at(place));
        }
        origins.push(commit.map(|commit| Origin::Git { url, commit }));
    }
    if let Some(name) = reader.text(keys, "crate") {
        let version = reader.text(keys, "version");
        if version.is_none() {
            let message = format!("{what} with `crate` needs `version`, an exact one");
            reader.problem("missing-key", place.clone(), message);
        }
        let folder = std::mem::take(folder_in_crate);
        origins.push(version.map(|version| Origin::Crate { name, version, folder }));
    }
    match <[_; 1]>::try_from(origins) {
        Ok([origin]) => origin,
        Err(origins) => {
            let message = format!(
                "{what} needs one source: `path`, `archive` with `sha256`, `git` with `commit`, or \
                 `crate` with `version`; it has {}",
                origins.len()
            );
            reader.problem("missing-key", place.clone(), message);
            None
        }
    }
}

fn built<'a>(
    reader: &mut Reader<'a>,
    what: &str,
    name: &str,
    kind: &'static str,
    place: &Place,
    keys: &mut Keys<'a>,
) -> Option<LibraryRecipe> {
    let what = format!("`{kind}` of {what}");
    let mut folder = folder(reader, keys, "folder").unwrap_or_default();
    // cargo needs the whole crate; elsewhere the folder is all that is wanted of it.
    let mut none = String::new();
    let in_crate = if kind == "cargo" { &mut none } else { &mut folder };
    let origin = origin(reader, &what, place, keys, in_crate);
    let kind = match kind {
        "cargo" => Kind::Cargo {
            package: reader.text(keys, "package"),
            features: reader.texts(keys, "features", false),
            default_features: reader.boolean(keys, "default-features", true),
            profile: reader.text(keys, "profile").unwrap_or_else(|| "release".into()),
            options: reader.texts(keys, "options", false),
            include: paths(reader, keys, "include"),
            soname: soname(reader, keys),
        },
        "autotools" => Kind::Autotools { options: reader.texts(keys, "options", false) },
        "cmake" => Kind::Cmake { options: reader.texts(keys, "options", false) },
        "meson" => Kind::Meson { options: reader.texts(keys, "options", false) },
        "make" => {
            let options = reader.texts(keys, "options", false);
            let build = reader.texts(keys, "build", false);
            let mut install = reader.texts(keys, "install", false);
            if install.is_empty() {
                install.push("install".into());
            }
            Kind::Make { options, build, install }
        }
        "cc" => {
            let sources = paths(reader, keys, "sources");
            if sources.is_empty() {
                reader.problem("missing-key", place.clone(), format!("{what} needs `sources`"));
            }
            Kind::Cc {
                sources,
                flags: reader.texts(keys, "flags", false),
                ldflags: reader.texts(keys, "ldflags", false),
                include: paths(reader, keys, "include"),
                install: paths(reader, keys, "install"),
                soname: soname(reader, keys),
            }
        }
        _ => {
            let run = reader.texts(keys, "run", true);
            let outputs = paths(reader, keys, "outputs");
            if run.is_empty() || outputs.is_empty() {
                let message = format!(
                    "{what} needs `run`, what the shell runs, and `outputs`, the paths below `usr` \
                     that it leaves, such as \"lib/lib{name}.so\""
                );
                reader.problem("missing-key", place.clone(), message);
            }
            Kind::Command { run: run.join("\n"), inputs: paths(reader, keys, "inputs"), outputs }
        }
    };
    Some(LibraryRecipe::Built { origin: origin?, folder, kind })
}

/// A program that another build system installs, with the keys of a library of that kind.
pub fn built_program<'a>(
    reader: &mut Reader<'a>,
    what: &str,
    name: &str,
    kind: &'static str,
    place: &Place,
    keys: &mut Keys<'a>,
) -> Option<Recipe> {
    let program = reader.text(keys, "program");
    match built(reader, what, name, kind, place, keys)? {
        LibraryRecipe::Built { origin, folder, kind } => {
            Some(Recipe::Built { origin, folder, kind, program })
        }
        _ => None,
    }
}

fn soname<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>) -> Option<String> {
    let place = keys.place_of("soname");
    let text = reader.text(keys, "soname")?;
    if text.contains(['/', ' ', ',']) || !text.contains(".so") {
        let message = format!("`{text}` is no SONAME such as \"libx.so.1\"");
        reader.problem("invalid-value", place, message);
    }
    Some(text)
}
