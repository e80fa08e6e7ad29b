//! What each key means. Names are checked against one another in `references`.

use std::collections::BTreeMap;

use super::image_keys::image;
use super::library_keys::{built_program, library, paths, strip};
use super::raw::{Keys, Reader, Value};
use super::suite_keys::suite;
use super::{Binary, Project, Recipe, Target, Version};
use crate::model::platform::{PLATFORMS, TRIPLES};
use crate::model::{Finding, Place, Platform};

/// What makes a binary.
const RECIPES: [&str; 8] = ["rust", "go", "c", "cxx", "cmake", "meson", "make", "autotools"];

pub fn project<'a>(reader: &mut Reader<'a>, mut file: Keys<'a>) -> Project {
    let mut project = Project {
        name: None,
        platforms: Vec::new(),
        version: Version::Text("0.0.0".into()),
        tags: vec!["{version}".into()],
        registry: None,
        cache: None,
        source: None,
        revision: None,
        compression: "gzip".into(),
        sccache: false,
        vendor: None,
        strict: false,
        libraries: BTreeMap::new(),
        binaries: BTreeMap::new(),
        images: BTreeMap::new(),
        targets: BTreeMap::new(),
        suite: None,
        suites: BTreeMap::new(),
    };
    if let Some((place, value)) = reader.take(&mut file, "project")
        && let Some(keys) = reader.table("[project]", &place, value)
    {
        head(reader, keys, &mut project);
    }
    for (name, place, value) in reader.named(&mut file, "library") {
        check_name(reader, "library", &name, &place);
        if let Some(library) = library(reader, &name, &place, value) {
            project.libraries.insert(name, library);
        }
    }
    for (name, place, value) in reader.named(&mut file, "binary") {
        check_name(reader, "binary", &name, &place);
        if let Some(keys) = reader.table(&format!("[binary.{name}]"), &place, value)
            && let Some(binary) = binary(reader, &name, keys)
        {
            project.binaries.insert(name, binary);
        }
    }
    for (name, place, value) in reader.named(&mut file, "image") {
        check_name(reader, "image", &name, &place);
        if let Some(keys) = reader.table(&format!("[image.{name}]"), &place, value) {
            let image = image(reader, &name, keys, &mut project.binaries);
            project.images.insert(name, image);
        }
    }
    for (triple, place, value) in reader.named(&mut file, "target") {
        if !TRIPLES.contains(&triple.as_str()) {
            let finding = Finding::new("unknown-target", format!("there is no target `{triple}`"));
            reader.findings.push(super::raw::suggest(finding, &triple, &TRIPLES).at(place.clone()));
        }
        if let Some(mut keys) = reader.table(&format!("[target.{triple}]"), &place, value) {
            let target = target(reader, &triple, &mut keys);
            reader.finish(keys);
            project.targets.insert(triple, target);
        }
    }
    for (name, place, value) in reader.named(&mut file, "suite") {
        check_name(reader, "suite", &name, &place);
        if let Some(keys) = reader.table(&format!("[suite.{name}]"), &place, value) {
            let suite = suite(reader, &name, keys);
            project.suites.insert(name, suite);
        }
    }
    reader.finish(file);
    if project.platforms.is_empty() {
        project.platforms =
            ["linux/amd64", "linux/arm64"].iter().filter_map(|text| text.parse().ok()).collect();
    }
    project
}

fn head<'a>(reader: &mut Reader<'a>, mut keys: Keys<'a>, project: &mut Project) {
    project.name = reader.text(&mut keys, "name");
    for (place, text) in reader.placed_texts(&mut keys, "platforms", false) {
        match text.parse::<Platform>() {
            Ok(platform) if PLATFORMS.contains(&text.as_str()) => project.platforms.push(platform),
            _ => {
                let finding =
                    Finding::new("unknown-platform", format!("there is no platform `{text}`"));
                reader.findings.push(super::raw::suggest(finding, &text, &PLATFORMS).at(place));
            }
        }
    }
    project.platforms.sort();
    project.platforms.dedup();
    project.registry = reader.text(&mut keys, "registry");
    project.cache = super::cache_keys::cache(reader, &mut keys, project.registry.as_deref());
    project.source = reader.text(&mut keys, "source");
    project.revision = version(reader, &mut keys, "revision");
    project.vendor = folder(reader, &mut keys, "vendor");
    if let Some((place, value)) = reader.take(&mut keys, "compiler-cache")
        && let Some(text) = reader.as_text("compiler-cache", &place, value)
    {
        project.sccache = text == "sccache";
        if !matches!(text.as_str(), "sccache" | "none") {
            let message = format!("`{text}` is no compiler cache; known: sccache, none");
            reader.problem("invalid-value", place, message);
        }
    }
    project.suite = reader.text(&mut keys, "suite");
    project.strict = reader.boolean(&mut keys, "strict", false);
    let tags = reader.texts(&mut keys, "tags", false);
    if !tags.is_empty() {
        project.tags = tags;
    }
    if let Some((place, value)) = reader.take(&mut keys, "compression")
        && let Some(text) = reader.as_text("compression", &place, value)
    {
        if !matches!(text.as_str(), "gzip" | "zstd") {
            let message = format!("`{text}` is no compression; known: gzip, zstd");
            reader.problem("invalid-value", place, message);
        }
        project.compression = text;
    }
    if let Some(version) = version(reader, &mut keys, "version") {
        project.version = version;
    }
    reader.finish(keys);
}

/// A text, or a table that says where the text comes from.
fn version<'a>(
    reader: &mut Reader<'a>,
    keys: &mut Keys<'a>,
    name: &'static str,
) -> Option<Version> {
    let (place, value) = reader.take(keys, name)?;
    if !value.get_ref().is_table() {
        return reader.as_text(name, &place, value).map(Version::Text);
    }
    let mut table = reader.table(name, &place, value)?;
    let file = folder(reader, &mut table, "file").map(Version::File);
    let cargo = reader.text(&mut table, "cargo").map(Version::Cargo);
    let git = reader.boolean(&mut table, "git", false).then_some(Version::Git);
    reader.finish(table);
    let mut found = file.into_iter().chain(cargo).chain(git);
    match (found.next(), found.next()) {
        (Some(version), None) => Some(version),
        _ => {
            let message = format!(
                "`{name}` is a text, or has one of `file = \"…\"`, `cargo = \"PACKAGE\"`, `git = true`"
            );
            reader.problem("missing-key", place, message);
            None
        }
    }
}

/// Overrides of a toolchain, with the keys of cross where they fit.
fn target<'a>(reader: &mut Reader<'a>, triple: &str, keys: &mut Keys<'a>) -> Target {
    let mut target = Target {
        rustflags: reader.texts(keys, "rustflags", false),
        cflags: reader.texts(keys, "cflags", false),
        pre_build: reader.texts(keys, "pre-build", true),
        runner: reader.text(keys, "runner"),
        ..Target::default()
    };
    if let Some((place, value)) = reader.take(keys, "env")
        && let Some(mut env) = reader.table(&format!("`env` of [target.{triple}]"), &place, value)
    {
        target.passthrough = reader.texts(&mut env, "passthrough", false);
        target.env = reader.map(&mut env, "set");
        reader.finish(env);
    }
    target
}

fn binary<'a>(reader: &mut Reader<'a>, name: &str, mut keys: Keys<'a>) -> Option<Binary> {
    let mut place = keys.place();
    let mut recipes = Vec::new();
    for kind in RECIPES {
        if let Some((at, value)) = reader.take(&mut keys, kind) {
            recipes.push(recipe(reader, kind, name, &at, value));
            place = at;
        }
    }
    let libraries_place = keys.place_of("libraries");
    let libraries = reader.texts(&mut keys, "libraries", false);
    let tools = reader.texts(&mut keys, "tools", false);
    let inputs_place = keys.place_of("inputs");
    let inputs = paths(reader, &mut keys, "inputs");
    let strip = strip(reader, &mut keys);
    let differences = reader.map(&mut keys, "differences");
    reader.finish(keys);
    if recipes.len() != 1 {
        let message = format!(
            "[binary.{name}] needs exactly one of {}; it has {}",
            RECIPES.map(|kind| format!("`{kind}`")).join(", "),
            recipes.len()
        );
        reader.problem("recipe-count", place, message);
        return None;
    }
    let recipe = recipes.pop().flatten()?;
    if matches!(recipe, Recipe::Built { .. }) && !inputs.is_empty() {
        let message = format!(
            "[binary.{name}] has `inputs`, but everything in the folder of its sources is one"
        );
        reader.problem("unused-key", inputs_place, message);
    }
    Some(Binary { recipe, libraries, libraries_place, tools, inputs, strip, differences, place })
}

fn recipe<'a>(
    reader: &mut Reader<'a>,
    kind: &'static str,
    name: &str,
    place: &Place,
    value: Value<'a>,
) -> Option<Recipe> {
    if value.get_ref().is_str() && matches!(kind, "rust" | "go") {
        let text = reader.as_text(kind, place, value)?;
        return Some(match kind {
            "rust" => rust(text),
            _ => Recipe::Go {
                path: text,
                package: ".".into(),
                tags: vec![],
                ldflags: vec![],
                cgo: false,
            },
        });
    }
    let mut keys = reader.table(&format!("`{kind}` of [binary.{name}]"), place, value)?;
    let required = |reader: &mut Reader<'a>, value: Option<String>, key: &str| {
        if value.is_none() {
            reader.problem(
                "missing-key",
                place.clone(),
                format!("`{kind}` of [binary.{name}] needs `{key}`"),
            );
        }
        value
    };
    let recipe = match kind {
        "rust" => {
            let package = reader.text(&mut keys, "package");
            let binary = reader.text(&mut keys, "binary");
            let features = reader.texts(&mut keys, "features", false);
            let default_features = reader.boolean(&mut keys, "default-features", true);
            let profile = reader.text(&mut keys, "profile").unwrap_or_else(|| "release".into());
            let manifest = folder(reader, &mut keys, "manifest").unwrap_or_default();
            required(reader, package, "package").map(|package| Recipe::Rust {
                package,
                binary,
                features,
                default_features,
                profile,
                manifest,
            })
        }
        "go" => {
            let path = folder(reader, &mut keys, "path");
            let package = reader.text(&mut keys, "package").unwrap_or_else(|| ".".into());
            let tags = reader.texts(&mut keys, "tags", false);
            let ldflags = reader.texts(&mut keys, "ldflags", false);
            let cgo = reader.boolean(&mut keys, "cgo", false);
            required(reader, path, "path").map(|path| Recipe::Go {
                path,
                package,
                tags,
                ldflags,
                cgo,
            })
        }
        "cmake" | "meson" | "make" | "autotools" => {
            built_program(reader, &format!("[binary.{name}]"), name, kind, place, &mut keys)
        }
        _ => {
            let sources = reader.texts(&mut keys, "sources", false);
            let flags = reader.texts(&mut keys, "flags", false);
            let ldflags = reader.texts(&mut keys, "ldflags", false);
            let include = reader.texts(&mut keys, "include", false);
            required(reader, sources.first().cloned(), "sources").map(|_| Recipe::C {
                cxx: kind == "cxx",
                sources,
                flags,
                ldflags,
                include,
            })
        }
    };
    reader.finish(keys);
    recipe
}

pub fn rust(package: String) -> Recipe {
    Recipe::Rust {
        package,
        binary: None,
        features: vec![],
        default_features: true,
        profile: "release".into(),
        manifest: String::new(),
    }
}

/// A path in the project.
pub fn folder<'a>(
    reader: &mut Reader<'a>,
    keys: &mut Keys<'a>,
    name: &'static str,
) -> Option<String> {
    let (place, value) = reader.take(keys, name)?;
    let text = reader.as_text(name, &place, value)?;
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        reader.problem(
            "invalid-value",
            place,
            format!("`{name}` must stay in the project, this is `{text}`"),
        );
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Some(parts.join("/"))
}

fn check_name(reader: &mut Reader<'_>, what: &str, name: &str, place: &Place) {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if !name.chars().all(good) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        let message =
            format!("`{name}` is no name of a {what}: lower-case letters, digits, `.`, `_`, `-`");
        reader.problem("invalid-name", place.clone(), message);
    }
}
