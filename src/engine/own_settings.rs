//! Settings of the user that builds do not take: those of cargo and Go outside the project, and
//! variables. Told once for each project, and again when they change.

use std::fs;
use std::path::{Path, PathBuf};

use super::resolve::Resolver;
use crate::config::{Project, Recipe, cargo_files};
use crate::model::Digest;
use crate::model::event::Event;
use crate::store::write_atomically;

/// Variables that change what cargo builds.
const OF_CARGO: [&str; 5] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER"];
/// Those of Go.
const OF_GO: [&str; 4] = ["GOFLAGS", "GOEXPERIMENT", "GOAMD64", "GOARM64"];

impl Resolver<'_> {
    /// Tells what of the user's settings is not used.
    pub(super) fn tell_own_settings(&self, project: &Project) {
        let uses = |is_it: fn(&Recipe) -> bool| {
            project.binaries.values().any(|binary| is_it(&binary.recipe))
        };
        let mut found = Vec::new();
        if uses(|recipe| matches!(recipe, Recipe::Rust { .. })) {
            found.extend(self.of_cargo());
            found.extend(self.variables(&OF_CARGO));
        }
        if uses(|recipe| matches!(recipe, Recipe::Go { .. })) {
            found.extend(self.of_go());
            found.extend(self.variables(&OF_GO));
        }
        let text = found.join("; ");
        let place = self.engine.project_state.join("told-settings");
        let digest = Digest::of(text.as_bytes()).hex();
        if fs::read_to_string(&place).unwrap_or_default() == digest {
            return;
        }
        if !text.is_empty() {
            let text = format!(
                "images are built without settings from outside the project: {text}; what they \
                 need belongs into the project's `.cargo/config.toml` or [target.TRIPLE]"
            );
            self.engine.tell(Event::Note { text });
        }
        // Whoever cannot write is told again.
        let _ = write_atomically(&place, digest.as_bytes());
    }

    fn variables(&self, names: &[&str]) -> Option<String> {
        let given = |name: &&&str| self.engine.environment.get(name).is_some_and(|x| !x.is_empty());
        let set: Vec<&str> = names.iter().filter(given).copied().collect();
        (!set.is_empty()).then(|| format!("the environment ({})", set.join(", ")))
    }

    /// Files of cargo's settings above the project and in its home.
    fn of_cargo(&self) -> Vec<String> {
        let mut folders: Vec<PathBuf> = Vec::new();
        if let Some(above) = self.folder.parent() {
            folders.extend(above.ancestors().map(|folder| folder.join(".cargo")));
        }
        let environment = &self.engine.environment;
        let home = match (environment.get("CARGO_HOME"), environment.get("HOME")) {
            (Some(home), _) => Some(PathBuf::from(home)),
            (None, Some(home)) => Some(Path::new(home).join(".cargo")),
            (None, None) => None,
        };
        folders.extend(home);
        folders.dedup();
        let mut told: Vec<String> = Vec::new();
        for file in
            folders.iter().flat_map(|folder| ["config.toml", "config"].map(|f| folder.join(f)))
        {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let telling = cargo_files::telling_settings(&text);
            let line = format!("{} ({})", file.display(), telling.join(", "));
            if !telling.is_empty() && !told.contains(&line) {
                told.push(line);
            }
        }
        told
    }

    /// What `go env -w` keeps.
    fn of_go(&self) -> Option<String> {
        let environment = &self.engine.environment;
        let file = match environment.get("GOENV") {
            Some("off") => return None,
            Some(file) => PathBuf::from(file),
            None => match (environment.get("XDG_CONFIG_HOME"), environment.get("HOME")) {
                (Some(home), _) => Path::new(home).join("go/env"),
                (None, Some(home)) => Path::new(home).join(".config/go/env"),
                (None, None) => return None,
            },
        };
        let text = fs::read_to_string(&file).ok()?;
        let names = text.lines().filter_map(|line| line.split_once('=').map(|(name, _)| name));
        let set: Vec<&str> = names.filter(|name| OF_GO.contains(name)).collect();
        (!set.is_empty()).then(|| format!("{} ({})", file.display(), set.join(", ")))
    }
}
