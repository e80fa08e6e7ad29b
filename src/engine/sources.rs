//! Sources of binaries: which files there are, what they depend on, what of
//! them is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::natives::has_dependencies;
use super::patterns::Patterns;
use super::resolve::Resolver;
use super::walk;
use crate::config::{Binary, Recipe, Version, discovery};
use crate::machine::process::Process;
use crate::model::{Digest, Finding};
use crate::plan::facts::{BinarySources, Listing, SourceFile};
use crate::plan::selection::Selection;
use crate::toolchain::go;

impl Resolver<'_> {
    pub(super) fn binary(
        &mut self,
        name: &str,
        binary: &Binary,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<BinarySources> {
        let before = self.findings.len();
        let sources = self.recipe_sources(name, &binary.recipe, listings);
        for finding in &mut self.findings[before..] {
            finding.place.get_or_insert_with(|| binary.place.clone());
        }
        sources
    }

    fn recipe_sources(
        &mut self,
        name: &str,
        recipe: &Recipe,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<BinarySources> {
        match recipe {
            Recipe::Rust { package, binary, manifest, .. } => {
                self.rust_sources(name, package, binary.as_deref(), manifest, listings)
            }
            Recipe::Go { path, .. } => self.go_sources(name, path, listings),
            // Theirs are among those of native libraries.
            Recipe::Built { .. } => None,
            Recipe::C { sources, include, .. } => {
                let root = common_folder(sources, include);
                let listing = self.listing(&format!("binary {name}"), &root, listings)?;
                let inside = |path: &str| match root.as_str() {
                    "" => path.to_owned(),
                    root => format!("{root}/{path}"),
                };
                let mut files = Vec::new();
                for pattern in sources {
                    let matcher = match Patterns::new(&[pattern]) {
                        Ok(matcher) => matcher,
                        Err(error) => {
                            self.problem("invalid-value", &error);
                            return None;
                        }
                    };
                    let before = files.len();
                    let paths = listing.files.keys().map(|path| inside(path));
                    files.extend(paths.filter(|path| matcher.matches(path)));
                    if files.len() == before {
                        let message = format!(
                            "binary {name}: no file matches `{pattern}` in {}",
                            self.folder.display()
                        );
                        self.problem("missing-sources", &message);
                    }
                }
                files.sort();
                files.dedup();
                let digest = self.select(&root, &listing, Selection::All);
                Some(BinarySources {
                    listing: root,
                    digest,
                    folder: String::new(),
                    lock_digest: Digest::of(b""),
                    has_dependencies: false,
                    files,
                    go: None,
                    program: name.to_owned(),
                })
            }
        }
    }

    fn go_sources(
        &mut self,
        name: &str,
        path: &str,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<BinarySources> {
        let go_mod = self.read(&format!("binary {name}"), &format!("{path}/go.mod"))?;
        let mut modules = vec![path.to_owned()];
        for replacement in go::local_replacements(&go_mod) {
            let Some(folder) = below(path, &replacement) else {
                let message = format!(
                    "binary {name}: {path}/go.mod replaces a module by `{replacement}`, which is not in the project"
                );
                self.problem("outside-project", &message);
                return None;
            };
            modules.push(folder);
        }
        let root = common_folder(&[], &modules);
        let listing = self.listing(&format!("binary {name}"), &root, listings)?;
        let has = |file: &str| {
            let file = Path::new(path).join(file);
            let file = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().into_owned();
            listing.files.contains_key(&file)
        };
        Some(BinarySources {
            listing: root.clone(),
            digest: self.select(&root, &listing, Selection::Modules(modules.clone())),
            folder: path.to_owned(),
            lock_digest: self.select(&root, &listing, Selection::ModulePins(modules)),
            has_dependencies: has("go.sum") && !has("vendor/modules.txt"),
            files: Vec::new(),
            go: Some(self.go(&go_mod)?),
            program: name.to_owned(),
        })
    }

    fn rust_sources(
        &mut self,
        name: &str,
        package: &str,
        binary: Option<&str>,
        manifest: &str,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<BinarySources> {
        let listing = self.listing(&format!("binary {name}"), manifest, listings)?;
        if !listing.files.contains_key("Cargo.lock") {
            let place = if manifest.is_empty() { "the project's folder" } else { manifest };
            self.findings.push(
                Finding::new(
                    "no-cargo-lock",
                    format!("binary {name}: there is no Cargo.lock in {place}"),
                )
                .help("run `cargo generate-lockfile` and commit the file"),
            );
            return None;
        }
        let manifests = Selection::Manifests(Some("Cargo.lock".to_owned()));
        let lock_digest = self.select(manifest, &listing, manifests);
        let what = format!("binary {name}");
        let workspace = self.workspace(&what, &self.folder.join(manifest), &lock_digest)?;
        let Some(member) = workspace.members.iter().find(|member| member.name == package) else {
            let known: Vec<&str> =
                workspace.members.iter().map(|member| member.name.as_str()).collect();
            let message = format!(
                "binary {name}: the workspace has no package `{package}`; it has {}",
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
                "binary {name}: the package `{package}` has no binary target `{program}`; it has {}",
                if member.binaries.is_empty() {
                    "none".to_owned()
                } else {
                    member.binaries.join(", ")
                }
            );
            self.problem("unknown-binary-target", &message);
            return None;
        }
        let lock = self.read(&what, &format!("{manifest}/Cargo.lock"))?;
        // Any package of the workspace may be a dependency; other folders are not cargo's.
        let members = workspace.members.into_iter().map(|member| member.folder).collect();
        Some(BinarySources {
            listing: manifest.to_owned(),
            digest: self.select(manifest, &listing, Selection::Workspace(members)),
            folder: manifest.to_owned(),
            lock_digest,
            has_dependencies: has_dependencies(&lock),
            files: Vec::new(),
            go: None,
            program,
        })
    }

    /// The workspace's description, asked of cargo only when a manifest changed.
    fn workspace(
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

    /// A version of the project, or of its commit: `git_command` is what git is asked.
    pub(super) fn version(
        &mut self,
        key: &str,
        version: &Version,
        git_command: &str,
    ) -> Option<String> {
        let first = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
        match version {
            Version::Text(text) => Some(text.clone()),
            Version::File(name) => match fs::read_to_string(self.folder.join(name)) {
                Ok(text) => Some(first(&text)),
                Err(error) => {
                    let message = format!("cannot read `{name}`, which `{key}` names: {error}");
                    self.problem("missing-file", &message);
                    None
                }
            },
            Version::Cargo(package) => {
                let what = format!("`{key}`");
                let text = self.read(&what, "Cargo.toml")?;
                let folder = self.folder.to_owned();
                // Versions of members may come from the workspace or their own manifest.
                let lock = fs::read_to_string(folder.join("Cargo.lock")).unwrap_or_default();
                let manifests = Digest::of(format!("{text}{lock}").as_bytes());
                let workspace = self.workspace(&what, &folder, &manifests)?;
                let member = workspace.members.iter().find(|member| member.name == *package);
                if member.is_none() {
                    let message = format!("{what}: the workspace has no package `{package}`");
                    self.problem("unknown-package", &message);
                }
                member.map(|member| member.version.clone())
            }
            Version::Git => {
                let Some(git) = self.engine.environment.find_program("git") else {
                    self.problem("no-git", &format!("`{key}` asks git, which is not on PATH"));
                    return None;
                };
                let arguments: &[&str] = match git_command {
                    "describe" => &["describe", "--tags", "--always"],
                    _ => &["rev-parse", "HEAD"],
                };
                let mut process =
                    Process::new(git).args(arguments.iter().copied()).folder(self.folder);
                process.environment = self.engine.environment.pick(&["PATH", "HOME"]);
                match process.output() {
                    Ok(output) if output.success() => {
                        let text = first(&String::from_utf8_lossy(&output.stdout));
                        Some(text.strip_prefix('v').map_or(text.clone(), str::to_owned))
                    }
                    Ok(output) => {
                        let text = output.text();
                        self.problem("no-git", &format!("`{key}` asks git: {}", text.trim_end()));
                        None
                    }
                    Err(error) => {
                        self.problem("no-git", &format!("`{key}` asks git: {error}"));
                        None
                    }
                }
            }
        }
    }

    fn read(&mut self, what: &str, path: &str) -> Option<String> {
        let file = self.folder.join(path.trim_start_matches('/'));
        fs::read_to_string(&file)
            .map_err(|error| {
                let message = format!("{what}: cannot read {}: {error}", file.display());
                self.problem("missing-file", &message);
            })
            .ok()
    }

    /// The files of a folder that no ignore file excludes, with their digests.
    /// `name` is who wants them.
    pub(super) fn listing(
        &mut self,
        name: &str,
        folder: &str,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<Listing> {
        if let Some(listing) = listings.get(folder) {
            return Some(listing.clone());
        }
        let root = self.folder.join(folder);
        if !root.is_dir() {
            let message = format!("{name}: there is no folder {}", root.display());
            self.problem("missing-folder", &message);
            return None;
        }
        let mut listing =
            Listing { root: root.clone(), folder: folder.to_owned(), files: BTreeMap::new() };
        let output = self.folder.join("target");
        let unseen = [Some(output), self.engine.vendor.clone()].into_iter().flatten().collect();
        for path in walk::sources(&root, unseen) {
            let result = path.and_then(|path| {
                let path = path.as_path();
                let Some(status) = fs::metadata(path).ok().filter(fs::Metadata::is_file) else {
                    return Ok(());
                };
                let digest = self
                    .index
                    .digest_of(path, &status)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                let executable = is_executable(&status);
                let inside =
                    path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
                listing.files.insert(inside, SourceFile { digest, executable });
                Ok(())
            });
            if let Err(error) = result {
                self.problem("unreadable-source", &format!("{name}: {error}"));
            }
        }
        listing.files.retain(|path, _| !matches!(path.as_str(), "images.toml" | "images.lock"));
        listings.insert(folder.to_owned(), listing.clone());
        Some(listing)
    }
}

/// Whether its owner may execute a file.
pub(super) fn is_executable(status: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    status.permissions().mode() & 0o100 != 0
}

/// `relative` to `folder`, unless that leaves the project.
fn below(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The longest folder that all patterns, without wildcards, and all folders are in.
fn common_folder(patterns: &[String], folders: &[String]) -> String {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.map(str::to_owned).collect()
    };
    let patterns = patterns.iter().map(|pattern| {
        let mut parts = parts(pattern);
        parts.pop();
        parts.into_iter().take_while(|part| !part.contains(['*', '?', '[', '{'])).collect()
    });
    let mut all = patterns.chain(folders.iter().map(|folder| parts(folder)));
    let first: Vec<String> = all.next().unwrap_or_default();
    let common = all.fold(first, |common, other| {
        common.into_iter().zip(other).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    });
    common.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_folders() {
        let check = |patterns: &[&str], folders: &[&str]| {
            let own =
                |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
            common_folder(&own(patterns), &own(folders))
        };
        assert_eq!(check(&["src/*.c"], &[]), "src");
        assert_eq!(check(&["./a/b/*.c", "a/c/x.c"], &[]), "a");
        assert_eq!(check(&["a/src/*.c"], &["a/include"]), "a");
        assert_eq!(check(&["main.c"], &["x"]), "");
        assert_eq!(check(&["a/**/x.c"], &[]), "a");
        assert_eq!(check(&[], &["services/x", "libraries/y"]), "");
        assert_eq!(check(&[], &["services/x", "services/y"]), "services");
    }

    #[test]
    fn replaced_folders() {
        assert_eq!(below("services/x", "../../lib").as_deref(), Some("lib"));
        assert_eq!(below("services/x", "./y").as_deref(), Some("services/x/y"));
        assert_eq!(below("x", "../../y"), None);
    }
}
