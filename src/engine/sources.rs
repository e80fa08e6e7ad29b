//! Sources of binaries: which files there are, what they depend on, what of
//! them is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::resolve::Resolver;
use super::walk;
use crate::config::{Binary, Recipe, Version};
use crate::machine::process::Process;
use crate::model::Digest;
use crate::plan::facts::{BinarySources, Listing, SourceFile};
use crate::plan::patterns::{self, Patterns};
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
        let sources = self.recipe_sources(name, binary, listings);
        for finding in &mut self.findings[before..] {
            finding.place.get_or_insert_with(|| binary.place.clone());
        }
        sources
    }

    fn recipe_sources(
        &mut self,
        name: &str,
        binary: &Binary,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<BinarySources> {
        let what = format!("binary {name}");
        let inputs = self.patterns(&binary.inputs)?;
        match &binary.recipe {
            Recipe::Rust { package, binary, manifest, .. } => {
                let binary = binary.as_deref();
                self.rust_sources(name, (package, binary), manifest, inputs, listings)
            }
            Recipe::Go { path, .. } => self.go_sources(name, path, inputs, listings),
            // Theirs are among those of native libraries.
            Recipe::Built { .. } => None,
            Recipe::C { sources, include, .. } => {
                let mut folders: Vec<String> =
                    sources.iter().map(|pattern| patterns::start(pattern)).collect();
                folders.extend(include.iter().cloned());
                let root = common_folder(&folders);
                let own = Selection::Folder(root);
                let (root, listing, selection) =
                    self.sources_of(&what, &folders, own, inputs, listings)?;
                let mut files = Vec::new();
                for pattern in sources {
                    let matcher = self.patterns(&[pattern])?;
                    let before = files.len();
                    let paths = listing.files.keys().map(|path| listing.path(path));
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
                let digest = self.select(&root, &listing, selection);
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
        inputs: Patterns,
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
        let what = format!("binary {name}");
        let own = Selection::Modules(modules.clone());
        let (root, listing, selection) = self.sources_of(&what, &modules, own, inputs, listings)?;
        let has = |file: &str| {
            let file = Path::new(path).join(file);
            let file = file.strip_prefix(&listing.folder).unwrap_or(&file);
            listing.files.contains_key(file.to_string_lossy().as_ref())
        };
        Some(BinarySources {
            listing: root.clone(),
            digest: self.select(&root, &listing, selection),
            folder: path.to_owned(),
            lock_digest: self.select(&root, &listing, Selection::ModulePins(modules)),
            has_dependencies: has("go.sum") && !has("vendor/modules.txt"),
            files: Vec::new(),
            go: Some(self.go(&go_mod)?),
            program: name.to_owned(),
        })
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

    /// What patterns of the configuration match, or nothing and a finding.
    pub(super) fn patterns<S: AsRef<str>>(&mut self, patterns: &[S]) -> Option<Patterns> {
        Patterns::new(patterns).map_err(|error| self.problem("invalid-value", &error)).ok()
    }

    /// The listing that has `folders` of the project and the files that `inputs` match, its
    /// name, and what of it is depended on. Inputs are there even where an ignore file leaves
    /// them out.
    pub(super) fn sources_of(
        &mut self,
        what: &str,
        folders: &[String],
        own: Selection,
        inputs: Patterns,
        listings: &mut BTreeMap<String, Listing>,
    ) -> Option<(String, Listing, Selection)> {
        let starts = inputs.texts().iter().map(|pattern| patterns::start(pattern));
        let folders: Vec<String> = folders.iter().cloned().chain(starts).collect();
        let root = common_folder(&folders);
        let listing = self.listing(what, &root, listings)?;
        if inputs.texts().is_empty() {
            return Some((root, listing, own));
        }
        let mut whole = listing.clone();
        for pattern in inputs.texts() {
            let one = self.patterns(&[pattern])?;
            let start = self.folder.join(patterns::start(pattern));
            let mut found = false;
            let output = self.folder.join("target");
            for path in start.is_dir().then(|| walk::all(&start, &output)).into_iter().flatten() {
                let path = path.map_err(|error| self.problem("unreadable-source", &error)).ok()?;
                let name = path.strip_prefix(self.folder).unwrap_or(&path).to_string_lossy();
                if one.matches(&name) {
                    found = true;
                    self.add_source(what, &path, &mut whole);
                }
            }
            if !found {
                let message = format!("{what}: no file matches `{pattern}` of its `inputs`");
                self.problem("missing-sources", &message);
            }
        }
        let selection = Selection::With(Box::new(own), inputs);
        if whole.files.len() == listing.files.len() {
            return Some((root, listing, selection));
        }
        let name = format!("inputs of {what}");
        listings.insert(name.clone(), whole.clone());
        Some((name, whole, selection))
    }

    pub(super) fn read(&mut self, what: &str, path: &str) -> Option<String> {
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
            match path {
                Ok(path) => self.add_source(name, &path, &mut listing),
                Err(error) => self.problem("unreadable-source", &format!("{name}: {error}")),
            }
        }
        listing.files.retain(|path, _| !matches!(path.as_str(), "images.toml" | "images.lock"));
        listings.insert(folder.to_owned(), listing.clone());
        Some(listing)
    }

    fn add_source(&mut self, name: &str, path: &Path, listing: &mut Listing) {
        let Some(status) = fs::metadata(path).ok().filter(fs::Metadata::is_file) else { return };
        match self.index.digest_of(path, &status) {
            Ok(digest) => {
                let inside = path.strip_prefix(&listing.root).unwrap_or(path).to_string_lossy();
                let file = SourceFile { digest, executable: is_executable(&status) };
                listing.files.insert(inside.into_owned(), file);
            }
            Err(error) => {
                let message = format!("{name}: {}: {error}", path.display());
                self.problem("unreadable-source", &message);
            }
        }
    }
}

/// Whether its owner may execute a file.
pub(super) fn is_executable(status: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    status.permissions().mode() & 0o100 != 0
}

/// `relative` to `folder`, unless that leaves the project.
pub(super) fn below(folder: &str, relative: &str) -> Option<String> {
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

/// The longest folder that all folders are in.
pub(super) fn common_folder(folders: &[String]) -> String {
    let parts = |path: &String| -> Vec<String> {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.map(str::to_owned).collect()
    };
    let mut all = folders.iter().map(parts);
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
        let check = |folders: &[&str]| {
            let folders: Vec<String> = folders.iter().map(|text| text.to_string()).collect();
            common_folder(&folders)
        };
        assert_eq!(check(&["src"]), "src");
        assert_eq!(check(&["./a/b", "a/c"]), "a");
        assert_eq!(check(&["a/src", "a/include"]), "a");
        assert_eq!(check(&["", "x"]), "");
        assert_eq!(check(&["services/x", "libraries/y"]), "");
        assert_eq!(check(&[]), "");
    }

    #[test]
    fn replaced_folders() {
        assert_eq!(below("services/x", "../../lib").as_deref(), Some("lib"));
        assert_eq!(below("services/x", "./y").as_deref(), Some("services/x/y"));
        assert_eq!(below("x", "../../y"), None);
    }
}
