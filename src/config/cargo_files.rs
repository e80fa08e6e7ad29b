//! What manifests and settings of cargo name beyond the workspace that they are in. Pure.
//!
//! Deliberately absent: what cargo says itself (`discovery`), and looking for the files.

use toml::{Table, Value};

/// Tables of a manifest that have dependencies.
const DEPENDENCIES: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];

/// Settings that change what cargo builds, or how.
const TELLING: [&str; 8] =
    ["build", "env", "host", "patch", "paths", "profile", "target", "unstable"];

/// Folders that a manifest names by path: dependencies, patches, replacements, and what a
/// workspace offers to its members. Relative to the manifest. A text that is no TOML names
/// none: cargo says what is wrong with it.
pub fn manifest_paths(text: &str) -> Vec<String> {
    let Ok(manifest) = text.parse::<Table>() else { return Vec::new() };
    let mut found = Vec::new();
    let tables = |table: &Table, found: &mut Vec<String>| {
        for name in DEPENDENCIES {
            found.extend(paths_in(table.get(name)));
        }
    };
    tables(&manifest, &mut found);
    for target in values(manifest.get("target")).filter_map(Value::as_table) {
        tables(target, &mut found);
    }
    if let Some(workspace) = manifest.get("workspace").and_then(Value::as_table) {
        tables(workspace, &mut found);
    }
    for source in values(manifest.get("patch")) {
        found.extend(paths_in(Some(source)));
    }
    found.extend(paths_in(manifest.get("replace")));
    found
}

/// Whether a manifest takes something from its workspace's.
pub fn inherits(text: &str) -> bool {
    fn has(value: &Value) -> bool {
        match value {
            Value::Table(table) => table.iter().any(|(key, value)| {
                (key == "workspace" && value.as_bool() == Some(true)) || has(value)
            }),
            _ => false,
        }
    }
    text.parse::<Table>().is_ok_and(|manifest| manifest.values().any(has))
}

/// Whether a manifest is that of a workspace.
pub fn is_workspace(text: &str) -> bool {
    text.parse::<Table>().is_ok_and(|manifest| manifest.contains_key("workspace"))
}

/// Folders that settings name: vendored crates, overrides, patches. Relative to the folder that
/// `.cargo` is in.
pub fn settings_paths(text: &str) -> Vec<String> {
    let Ok(settings) = text.parse::<Table>() else { return Vec::new() };
    let mut found = Vec::new();
    for source in values(settings.get("source")).filter_map(Value::as_table) {
        let places = ["directory", "local-registry"].map(|key| source.get(key));
        found.extend(places.into_iter().flatten().filter_map(text_of));
    }
    let overrides = settings.get("paths").and_then(Value::as_array);
    found.extend(overrides.into_iter().flatten().filter_map(text_of));
    for source in values(settings.get("patch")) {
        found.extend(paths_in(Some(source)));
    }
    found
}

/// Settings that would change what is built, such as `build.rustflags`.
pub fn telling_settings(text: &str) -> Vec<String> {
    let Ok(settings) = text.parse::<Table>() else { return Vec::new() };
    let mut found = Vec::new();
    for (name, value) in settings.iter().filter(|(name, _)| TELLING.contains(&name.as_str())) {
        match value {
            Value::Table(table) => found.extend(table.keys().filter_map(|key| {
                // Where cargo puts files, and how many it makes at once, changes no byte.
                let is_place = name == "build" && matches!(key.as_str(), "jobs" | "target-dir");
                (!is_place).then(|| format!("{name}.{key}"))
            })),
            _ => found.push(name.clone()),
        }
    }
    found
}

fn values(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_table).into_iter().flat_map(Table::values)
}

fn paths_in(dependencies: Option<&Value>) -> Vec<String> {
    values(dependencies).filter_map(|value| text_of(value.get("path")?)).collect()
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_manifests_name_by_path() {
        let manifest = r#"
            [dependencies]
            a = "1"
            b = { path = "../b", version = "1" }
            c.workspace = true
            [dev-dependencies.d]
            path = "../d"
            [target.'cfg(unix)'.build-dependencies]
            e = { path = "e" }
            [workspace.dependencies]
            f = { path = "f" }
            [patch."https://host/x"]
            g = { path = "../g" }
            [replace]
            "h:1.0.0" = { path = "../h" }
        "#;
        assert_eq!(manifest_paths(manifest), ["../b", "../d", "e", "f", "../g", "../h"]);
        assert!(inherits(manifest) && is_workspace(manifest));
        assert!(inherits("[package]\nversion.workspace = true"));
        assert!(!inherits("[package]\nname = 'x'\nworkspace = '..'"));
        assert!(manifest_paths("[broken").is_empty() && !is_workspace("[package]"));
    }

    #[test]
    fn what_settings_name() {
        let settings = r#"
            paths = ["../over"]
            [source.vendored]
            directory = "vendor"
            [source.mirror]
            registry = "sparse+x"
            [build]
            jobs = 2
            rustflags = ["-Ctarget-cpu=native"]
            [env]
            X = "1"
            [net]
            retry = 3
            [patch.x]
            y = { path = "y" }
        "#;
        assert_eq!(settings_paths(settings), ["vendor", "../over", "y"]);
        let telling = telling_settings(settings);
        assert_eq!(telling, ["build.rustflags", "env.X", "patch.x", "paths"]);
    }
}
