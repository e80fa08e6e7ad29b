//! Sources of Rust binaries: the workspace, what it names by path beyond its folder, and the
//! settings of cargo that reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::natives::has_dependencies;
use super::resolve::Resolver;
use super::sources::below;
use crate::config::{cargo_files, discovery};
use crate::model::{Digest, Finding};
use crate::plan::facts::{BinarySources, Listing};
use crate::plan::patterns::Patterns;
use crate::plan::selection::{Selection, Workspace};

/// Names that cargo's settings have in `.cargo`.
const SETTINGS: [&str; 2] = ["config.toml", "config"];

impl Resolver<'_> {
    pub(super) fn rust_sources(
        &mut self,
        name: &str,
        (package, binary): (&str, Option<&str>),
        manifest: &str,
        inputs: Patterns,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<BinarySources> {
        let what = format!("binary {name}");
        let listing = self.listing(&what, manifest, listings)?;
        let lock_file = join(manifest, "Cargo.lock");
        if !listing.files.contains_key("Cargo.lock") {
            let place = if manifest.is_empty() { "the project's folder" } else { manifest };
            self.findings.push(
                Finding::new("no-cargo-lock", format!("{what}: there is no Cargo.lock in {place}"))
                    .help("run `cargo generate-lockfile` and commit the file"),
            );
            return None;
        }
        let manifests =
            |folders: Vec<String>| Selection::Manifests(folders, Some(lock_file.clone()));
        let digest = manifests(vec![manifest.to_owned()]).digest(&listing);
        let workspace = self.workspace(&what, &self.folder.join(manifest), &digest)?;
        let program = self.program(&what, package, binary, &workspace)?;
        let own = self.packages(&what, manifest, &workspace)?;
        let mut folders = vec![manifest.to_owned()];
        folders.extend(own.packages.iter().cloned());
        // A file has no folder of its own to be listed.
        let parent = |file: &String| file.rsplit_once('/').map_or("", |(parent, _)| parent).into();
        folders.extend(own.settings.iter().map(parent));
        let pins = manifests(folders.clone());
        let (listing_name, listing, selection) =
            self.sources_of(&what, &folders, Selection::Workspace(own), inputs, listings)?;
        let lock = self.read(&what, &lock_file)?;
        Some(BinarySources {
            digest: self.select(&listing_name, &listing, selection),
            lock_digest: self.select(&listing_name, &listing, pins),
            listing: listing_name,
            folder: manifest.to_owned(),
            has_dependencies: has_dependencies(&lock),
            files: Vec::new(),
            go: None,
            program,
        })
    }

    /// The binary target that is meant, or nothing and a finding.
    fn program(
        &mut self,
        what: &str,
        package: &str,
        binary: Option<&str>,
        workspace: &discovery::Workspace,
    ) -> Option<String> {
        let Some(member) = workspace.members.iter().find(|member| member.name == package) else {
            let known: Vec<&str> =
                workspace.members.iter().map(|member| member.name.as_str()).collect();
            let message = format!(
                "{what}: the workspace has no package `{package}`; it has {}",
                known.join(", ")
            );
            self.problem("unknown-package", &message);
            return None;
        };
        let program = binary.map_or_else(
            || match member.binaries.as_slice() {
                [only] => only.clone(),
                _ => package.to_owned(),
            },
            str::to_owned,
        );
        if !member.binaries.contains(&program) {
            let message = format!(
                "{what}: the package `{package}` has no binary target `{program}`; it has {}",
                if member.binaries.is_empty() {
                    "none".to_owned()
                } else {
                    member.binaries.join(", ")
                }
            );
            self.problem("unknown-binary-target", &message);
            return None;
        }
        Some(program)
    }

    /// Where the packages are that a workspace stands on, and the settings that reach it. Any
    /// package of it may be a dependency; other folders are not cargo's.
    fn packages(
        &mut self,
        what: &str,
        manifest: &str,
        workspace: &discovery::Workspace,
    ) -> Option<Workspace> {
        let mut own = Workspace { folder: manifest.to_owned(), ..Workspace::default() };
        let mut named: Vec<(String, String)> = Vec::new();
        let root = join(manifest, "Cargo.toml");
        named.extend(self.named_by(&root, cargo_files::manifest_paths));
        for member in &workspace.members {
            let folder = join(manifest, &member.folder);
            named.extend(self.named_by(&join(&folder, "Cargo.toml"), cargo_files::manifest_paths));
            own.packages.push(folder);
            let elsewhere = member.elsewhere.iter();
            own.packages.extend(elsewhere.map(|folder| join(manifest, folder)));
        }
        for folder in Path::new(manifest).ancestors() {
            for name in SETTINGS {
                let file = folder.join(".cargo").join(name).to_string_lossy().into_owned();
                if !self.folder.join(&file).is_file() {
                    continue;
                }
                let paths = self.named_by(&file, cargo_files::settings_paths);
                let above = |(by, path)| (by, format!("../{path}"));
                named.extend(paths.into_iter().map(above));
                if folder != Path::new(manifest) {
                    own.settings.push(file);
                }
            }
        }
        let mut seen: BTreeSet<String> = BTreeSet::new();
        while let Some((by, path)) = named.pop() {
            let from = by.rsplit_once('/').map_or("", |(folder, _)| folder);
            let Some(folder) = below(from, &path).filter(|_| !path.starts_with('/')) else {
                let message = format!("{what}: {by} names `{path}`, which is not in the project");
                self.findings.push(Finding::new("outside-project", message).help(
                    "compilers see files of the project alone: move its `images.toml` up to the \
                     folder that has both",
                ));
                return None;
            };
            let known = own.packages.contains(&folder);
            if !seen.insert(folder.clone()) || known {
                continue;
            }
            let file = join(&folder, "Cargo.toml");
            let text = fs::read_to_string(self.folder.join(&file)).unwrap_or_default();
            named.extend(self.named_by(&file, cargo_files::manifest_paths));
            if cargo_files::inherits(&text) {
                own.settings.extend(self.workspace_above(&folder));
            }
            own.packages.push(folder);
        }
        own.packages.sort();
        own.packages.dedup();
        own.settings.sort();
        own.settings.dedup();
        Some(own)
    }

    /// The manifest of the workspace that a package is in.
    fn workspace_above(&self, folder: &str) -> Option<String> {
        Path::new(folder).ancestors().find_map(|folder| {
            let file = folder.join("Cargo.toml");
            let text = fs::read_to_string(self.folder.join(&file)).ok()?;
            cargo_files::is_workspace(&text).then(|| file.to_string_lossy().into_owned())
        })
    }

    /// What a file of the project names, with the file.
    fn named_by(&self, file: &str, find: fn(&str) -> Vec<String>) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        find(&text).into_iter().map(|path| (file.to_owned(), path)).collect()
    }

    /// The workspace's description, asked of cargo only when a manifest changed.
    pub(super) fn workspace(
        &mut self,
        what: &str,
        folder: &Path,
        manifests: &Digest,
    ) -> Option<discovery::Workspace> {
        let key = Digest::of(&serde_json::to_vec(&(folder, manifests)).expect("plain data"));
        let memory = self.engine.store.state("workspaces").join(key.hex());
        let json = match fs::read_to_string(&memory) {
            Ok(json) => json,
            Err(_) => {
                let Some(cargo) = &self.engine.cargo else {
                    self.problem(
                        "no-cargo",
                        "there is no `cargo` on PATH to describe the workspace with",
                    );
                    return None;
                };
                let mut process = discovery::command(cargo, folder);
                process.environment = self.engine.environment.for_downloads();
                match process.output() {
                    Ok(output) if output.success() => {
                        let json = String::from_utf8_lossy(&output.stdout).into_owned();
                        let _ = crate::store::write_durably(&memory, json.as_bytes());
                        json
                    }
                    Ok(output) => {
                        let message =
                            format!("{what}: cargo metadata failed:\n{}", output.text().trim_end());
                        self.problem("cargo-metadata", &message);
                        return None;
                    }
                    Err(error) => {
                        self.problem("cargo-metadata", &error.to_string());
                        return None;
                    }
                }
            }
        };
        match discovery::parse(&json) {
            Ok(workspace) => Some(workspace),
            Err(error) => {
                self.problem("cargo-metadata", &error);
                None
            }
        }
    }
}

/// A path in a folder; the folder of the project has no name.
fn join(folder: &str, path: &str) -> String {
    match (folder, path) {
        ("", path) => path.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, path) => format!("{folder}/{path}"),
    }
}
