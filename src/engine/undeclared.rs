//! What a failed command looked for among its sources that the project has and the unit did
//! not declare. The command runs once more for that, watched.

use std::path::Path;

use super::Engine;
use super::execute::text;
use crate::machine::process::JobTokens;
use crate::machine::sandbox::{Sandbox, Tier};
use crate::machine::supervisor;
use crate::model::action::{SourceReference, VIRTUAL_ROOT};

/// How many files are named.
const NAMED_AT_MOST: usize = 3;

/// Words of failures that a missing file may be behind. In lower case.
const TELLING: [&str; 7] = [
    "no such file",
    "not found",
    "notfound",
    "couldn't read",
    "no matching files",
    "does not exist",
    "enoent",
];

/// Files that tools look for above whatever they are given.
const SOUGHT_ANYWAY: [&str; 8] = [
    ".git",
    ".gitignore",
    ".cargo",
    "Cargo.toml",
    "Cargo.lock",
    "go.mod",
    "go.work",
    "rust-toolchain",
];

/// A command that failed.
pub struct Failed<'a> {
    /// The unit.
    pub unit: &'a str,
    /// What it printed.
    pub words: &'a str,
    /// What it could see of the project.
    pub sources: &'a SourceReference,
    /// How it was run.
    pub sandbox: &'a Sandbox,
    /// Cores, if it shares them.
    pub tokens: Option<&'a JobTokens>,
}

impl Failed<'_> {
    /// What the user can do about a file that was not declared, if one is behind the failure.
    pub fn help(&self, engine: &Engine, scratch: &Path) -> Option<String> {
        // What is not found in a scope is no file.
        let words = self.words.to_lowercase().replace("not found in", "");
        if !TELLING.iter().any(|telling| words.contains(telling)) || engine.is_interrupted() {
            return None;
        }
        let found = self.undeclared(engine, scratch).unwrap_or_default();
        let files: Vec<String> =
            found.iter().take(NAMED_AT_MOST).map(|file| format!("`{file}`")).collect();
        let more = match found.len().saturating_sub(NAMED_AT_MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first = found.first()?;
        let mut parts = self.unit.split(' ');
        let table = [parts.next()?, parts.next()?].join(".");
        let (what, files) = (self.unit, files.join(", "));
        let is_folder = engine.project.join(first).is_dir();
        let pattern = if is_folder { format!("{first}/**") } else { first.clone() };
        let advice = if table.starts_with("binary.") {
            format!("name it in `inputs` of [{table}], such as `inputs = [\"{pattern}\"]`")
        } else {
            format!("move `path` of [{table}] up to a folder that has it too")
        };
        Some(format!("{what} reads {files}{more}, which it does not declare: {advice}"))
    }

    /// Paths in the project, the likeliest first.
    fn undeclared(&self, engine: &Engine, scratch: &Path) -> Result<Vec<String>, String> {
        let folder = match self.sandbox.tier {
            Tier::Namespaces => format!("{VIRTUAL_ROOT}/src"),
            _ => {
                let sources = engine.snapshots.folder(&self.sources.name, self.sources.digest)?;
                sources.to_string_lossy().into_owned()
            }
        };
        let record = scratch.join("missing.json");
        let sandbox = Sandbox {
            attempts: Some(record.clone()),
            watch: Some(folder.clone()),
            ..self.sandbox.clone()
        };
        let process = sandbox.process(&scratch.join("watched.json")).map_err(text)?.merged();
        match self.tokens {
            Some(tokens) => process.output_with_jobs(tokens),
            None => process.output(),
        }
        .map_err(text)?;
        let missing = supervisor::read(&record).missing;
        let mut found: Vec<String> = missing
            .iter()
            .filter_map(|path| path.strip_prefix(folder.as_str())?.strip_prefix('/'))
            .filter(|path| {
                let name = path.rsplit('/').next().unwrap_or(path);
                !SOUGHT_ANYWAY.iter().any(|sought| name.starts_with(sought))
                    && engine.project.join(path).exists()
                    && !engine.snapshots.shows(&self.sources.name, self.sources.digest, path)
            })
            .map(|path| self.named_below(engine, path))
            .collect();
        // A folder that is missing says less than what was wanted of it.
        let all = found.clone();
        found.retain(|path| !all.iter().any(|other| other.starts_with(&format!("{path}/"))));
        let is_named = |path: &String| {
            let name = path.rsplit('/').next().unwrap_or(path);
            self.words.contains(name)
        };
        if found.iter().any(is_named) {
            found.retain(is_named);
        }
        Ok(found)
    }

    /// The file of a folder that the words name, where whoever found no folder looked no
    /// further.
    fn named_below(&self, engine: &Engine, path: &str) -> String {
        let name = path.rsplit('/').next().unwrap_or(path);
        let inside = self.words.match_indices(&format!("{name}/")).find_map(|(at, found)| {
            let rest = &self.words[at + found.len()..];
            let end = rest.find(|c: char| c.is_whitespace() || "'\"`:,;)".contains(c))?;
            let whole = format!("{path}/{}", &rest[..end]);
            engine.project.join(&whole).is_file().then_some(whole)
        });
        inside.unwrap_or_else(|| path.to_owned())
    }
}
