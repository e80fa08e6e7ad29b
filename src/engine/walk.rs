//! Folders of the project, and what ignore files leave out of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Names of the files that say what stays out of images, of which the first one counts. What git
/// ignores is often what images are made of.
const IGNORE_FILES: [&str; 2] = [".imagesignore", DOCKER_IGNORE];

const DOCKER_IGNORE: &str = ".dockerignore";

/// The files below `root` that compilers may see: all but those that git ignores. The folders
/// `unseen` are not looked into.
pub fn sources(root: &Path, unseen: Vec<PathBuf>) -> impl Iterator<Item = Result<PathBuf, String>> {
    let walk = ignore::WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .filter_entry(move |entry| {
            let path = entry.path();
            entry.file_name() != ".git" && !unseen.iter().any(|known| known == path)
        })
        .build();
    walk.map(|entry| entry.map(ignore::DirEntry::into_path).map_err(|error| error.to_string()))
}

/// All files below `root`, whoever ignores them, but for git's own and those in `output`.
pub fn all(root: &Path, output: &Path) -> impl Iterator<Item = Result<PathBuf, String>> {
    let output = output.to_owned();
    let walk = ignore::WalkBuilder::new(root)
        .standard_filters(false)
        .filter_entry(move |entry| entry.file_name() != ".git" && entry.path() != output)
        .build();
    walk.map(|entry| entry.map(ignore::DirEntry::into_path).map_err(|error| error.to_string()))
}

/// Patterns of what is left out, with the syntax of `.gitignore`. Of a path and the folders that
/// it is in, the nearest one that a pattern matches decides, so that what `!` names is there
/// even where its folder is not.
pub struct Ignored {
    matcher: Gitignore,
    /// The file that has the patterns, if they are in one.
    pub file: Option<&'static str>,
}

impl Ignored {
    /// The patterns of the project's ignore file, if it has one. Those of `.dockerignore` start
    /// at the project's folder, as Docker has it.
    pub fn of_project(folder: &Path) -> Result<Option<Self>, String> {
        for name in IGNORE_FILES {
            let text = match fs::read_to_string(folder.join(name)) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(format!("cannot read `{name}`: {error}")),
            };
            let lines = text.lines().map(|line| match name {
                DOCKER_IGNORE => anchored(line),
                _ => line.to_owned(),
            });
            let ignored = Self::new(lines).map_err(|error| format!("`{name}`: {error}"))?;
            return Ok(Some(Self { file: Some(name), ..ignored }));
        }
        Ok(None)
    }

    /// These patterns.
    pub fn new(lines: impl IntoIterator<Item = String>) -> Result<Self, String> {
        // Paths are asked for as they are relative to where the patterns start.
        let mut builder = GitignoreBuilder::new("");
        for line in lines {
            builder.add_line(None, &line).map_err(|error| error.to_string())?;
        }
        let matcher = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { matcher, file: None })
    }

    /// Whether the path is left out.
    pub fn excludes(&self, path: &str, is_folder: bool) -> bool {
        !path.is_empty() && self.matcher.matched_path_or_any_parents(path, is_folder).is_ignore()
    }

    /// Whether nothing in the folder is there either, so that nobody need look.
    pub fn excludes_all(&self, folder: &str) -> bool {
        self.matcher.num_whitelists() == 0 && self.excludes(folder, true)
    }
}

/// A line of `.dockerignore` with a pattern from the top.
fn anchored(line: &str) -> String {
    let line = line.trim();
    let (sign, pattern) = match line.strip_prefix('!') {
        Some(pattern) => ("!", pattern.trim()),
        None => ("", line),
    };
    match pattern {
        "" => String::new(),
        _ if line.starts_with('#') => String::new(),
        _ => {
            // Docker takes the folder too where a pattern ends with a slash, and files.
            let pattern = pattern.trim_start_matches("./").trim_matches('/');
            format!("{sign}/{pattern}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(file: &str, text: &str) -> Vec<&'static str> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), text).unwrap();
        let ignored = Ignored::of_project(folder.path()).unwrap().unwrap();
        assert_eq!(ignored.file, Some(file));
        let all = ["a.md", "docs/a.md", "docs/b.txt", "dist/app.js", "dist/app.js.map", ".env"];
        all.into_iter().filter(|path| !ignored.excludes(path, false)).collect()
    }

    #[test]
    fn ignore_files_have_their_own_rules() {
        let git = kept(".imagesignore", "# text\n*.md\n/docs/b.txt\n");
        assert_eq!(git, ["dist/app.js", "dist/app.js.map", ".env"]);
        let docker = kept(".dockerignore", "*.md\n./docs/b.txt\n **/*.map \n");
        assert_eq!(docker, ["docs/a.md", "dist/app.js", ".env"]);
        assert_eq!(kept(".dockerignore", "*\n!dist/\ndist/*.map\n"), ["dist/app.js"]);
        assert_eq!(kept(".imagesignore", "*\n!/dist\n").len(), 0);
    }

    #[test]
    fn one_ignore_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Ignored::of_project(folder.path()).unwrap().is_none());
        fs::write(folder.path().join(".dockerignore"), "x").unwrap();
        fs::write(folder.path().join(".imagesignore"), "y").unwrap();
        let ignored = Ignored::of_project(folder.path()).unwrap().unwrap();
        assert!(ignored.excludes("y", false) && !ignored.excludes("x", false));
        assert!(ignored.excludes_all("y") && ignored.excludes("y/z", false));
        let ignored = Ignored::new(["y".to_owned(), "!z".to_owned()]).unwrap();
        assert!(!ignored.excludes_all("y") && !ignored.excludes("y/z", false));
    }
}
