//! Finding files of the project by path, folder or pattern. What leads out of the project, and
//! what is neither file, folder nor link, is a problem.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::walk::Ignored;
use crate::model::Digest;
use crate::model::action::MemberKind;
use crate::plan::patterns::Patterns;

/// What is looked for.
pub struct Sought<'a> {
    /// A path that is there, or a pattern.
    pub from: &'a str,
    /// What is left out of folders and of what patterns match.
    pub exclude: &'a [String],
}

/// What was found.
pub struct Found {
    /// Path in the project.
    pub path: String,
    /// Path below the folder that was asked for, or below the part of the pattern that has no
    /// wildcards; empty for what was asked for itself.
    pub inside: String,
    /// What it is; the digest of a file is not known yet.
    pub kind: MemberKind,
}

/// Finds files, and collects problems as code, message and help.
pub struct Finder<'a> {
    project: &'a Path,
    ignored: Option<Ignored>,
    /// Problems.
    pub problems: Vec<(&'static str, String, Option<String>)>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A walk through a folder.
struct Walk<'a> {
    /// The folder in the project.
    start: &'a str,
    exclude: Vec<(&'a String, Ignored, bool)>,
    pattern: Option<Patterns>,
    /// Files that only the ignore file kept out.
    ignored: usize,
    excluded: usize,
    found: Vec<Found>,
}

impl<'a> Finder<'a> {
    /// Finds files of the project in that folder, whose path has no links.
    pub fn new(project: &'a Path) -> Self {
        let mut finder = Self { project, ignored: None, problems: vec![], warnings: vec![] };
        match Ignored::of_project(project) {
            Ok(ignored) => finder.ignored = ignored,
            Err(error) => finder.problem("invalid-ignore-file", error, None),
        }
        finder
    }

    fn problem(&mut self, code: &'static str, message: String, help: Option<&str>) {
        self.problems.push((code, message, help.map(str::to_owned)));
    }

    /// What is there of what is sought, sorted by path. Nothing is a problem.
    pub fn find(&mut self, sought: &Sought<'_>) -> Vec<Found> {
        let from = sought.from;
        let place = self.project.join(from);
        let status = match fs::symlink_metadata(&place) {
            Ok(status) => status,
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_pattern(from) => {
                let start = fixed_part(from);
                return match Patterns::new(&[from]) {
                    Ok(pattern) => self.walk(&start, sought, Some(pattern)),
                    Err(error) => {
                        self.problem("invalid-value", error, None);
                        Vec::new()
                    }
                };
            }
            Err(error) => {
                self.problem("missing-file", format!("cannot read `{from}`: {error}"), None);
                return Vec::new();
            }
        };
        if !self.is_inside(from) {
            return Vec::new();
        }
        // A link that is asked for by itself stands for what it leads to.
        let status = if status.is_symlink() { fs::metadata(&place) } else { Ok(status) };
        match status {
            Ok(status) if status.is_dir() => self.walk(from, sought, None),
            Ok(status) => self
                .file(from, status.file_type())
                .map(|kind| Found { path: from.to_owned(), inside: String::new(), kind })
                .into_iter()
                .collect(),
            Err(error) => {
                self.problem("missing-file", format!("cannot read `{from}`: {error}"), None);
                Vec::new()
            }
        }
    }

    /// Whether a path, its links followed, is in the project.
    fn is_inside(&mut self, path: &str) -> bool {
        match fs::canonicalize(self.project.join(path)) {
            Ok(real) if real.starts_with(self.project) => true,
            Ok(real) => {
                let message = format!("`{path}` leads out of the project, to {}", real.display());
                self.problem(
                    "outside-project",
                    message,
                    Some("copy what it leads to into the project"),
                );
                false
            }
            Err(error) => {
                self.problem("missing-file", format!("cannot read `{path}`: {error}"), None);
                false
            }
        }
    }

    /// A regular file, or why there is none.
    fn file(&mut self, path: &str, kind: fs::FileType) -> Option<MemberKind> {
        if kind.is_file() {
            let digest = Digest::of(b"");
            return Some(MemberKind::File { from: path.to_owned(), digest });
        }
        let what = if kind.is_socket() {
            "a socket"
        } else if kind.is_fifo() {
            "a named pipe"
        } else {
            "a device"
        };
        let help = Some("leave it out with `exclude`; images have files, folders and links");
        self.problem("special-file", format!("`{path}` is {what}"), help);
        None
    }

    fn walk(&mut self, start: &str, sought: &Sought<'_>, pattern: Option<Patterns>) -> Vec<Found> {
        let from = sought.from;
        if pattern.is_some() && !self.project.join(start).is_dir() {
            let message = format!("no file matches `{from}`: there is no folder `{start}`");
            self.problem("missing-file", message, None);
            return Vec::new();
        }
        if !start.is_empty() && !self.is_inside(start) {
            return Vec::new();
        }
        let mut exclude = Vec::new();
        for line in sought.exclude {
            match Ignored::new([line.clone()]) {
                Ok(ignored) => exclude.push((line, ignored, false)),
                Err(error) => {
                    self.problem("invalid-value", format!("`exclude` has `{line}`: {error}"), None);
                }
            }
        }
        let mut walk = Walk { start, exclude, pattern, ignored: 0, excluded: 0, found: Vec::new() };
        if walk.pattern.is_none() {
            let kind = MemberKind::Folder;
            walk.found.push(Found { path: start.to_owned(), inside: String::new(), kind });
        }
        let before = self.problems.len();
        self.folder(&mut walk, "", false);
        let files = walk.found.iter().filter(|found| found.kind != MemberKind::Folder).count();
        // A folder may be empty, if it is meant to be.
        let nothing = match walk.pattern {
            Some(_) => files == 0,
            None => files == 0 && walk.ignored + walk.excluded > 0,
        };
        if nothing && self.problems.len() == before {
            let why =
                match (walk.ignored, walk.excluded, self.ignored.as_ref().and_then(|i| i.file)) {
                    (0, 0, _) | (_, 0, None) => String::new(),
                    (0, ..) => "; `exclude` leaves out what does".to_owned(),
                    (count, _, file) => {
                        let file = file.unwrap_or_default();
                        format!("; {file} leaves out {}", counted(count))
                    }
                };
            self.problem("missing-file", format!("no file matches `{from}`{why}"), None);
        }
        for (line, _, used) in &walk.exclude {
            if !used {
                let text =
                    format!("`exclude` of `{from}` has `{line}`, which matches nothing there");
                self.warnings.push(text);
            }
        }
        if walk.pattern.is_some() {
            // The folders of what matched, down from the first that the pattern does not name.
            let parents: BTreeSet<String> = walk
                .found
                .iter()
                .flat_map(|found| {
                    let slashes = found.inside.match_indices('/');
                    slashes.map(|(at, _)| found.inside[..at].to_owned())
                })
                .chain((!walk.found.is_empty()).then(String::new))
                .collect();
            let folders = parents.into_iter().map(|inside| Found {
                path: joined(start, &inside),
                inside,
                kind: MemberKind::Folder,
            });
            walk.found.extend(folders.collect::<Vec<_>>());
        }
        walk.found.sort_by(|a, b| a.path.cmp(&b.path));
        walk.found
    }

    /// Looks into a folder of a walk. `ignored` says that the ignore file leaves it out, but
    /// perhaps not all that is in it.
    fn folder(&mut self, walk: &mut Walk<'_>, inside: &str, ignored: bool) {
        let folder = joined(walk.start, inside);
        let names = fs::read_dir(self.project.join(&folder)).and_then(|entries| {
            let name = |entry: fs::DirEntry| Ok((entry.file_name(), entry.file_type()?));
            entries.map(|entry| entry.and_then(name)).collect::<io::Result<Vec<_>>>()
        });
        let mut names = match names {
            Ok(names) => names,
            Err(error) => {
                self.problem("missing-file", format!("cannot read `{folder}`: {error}"), None);
                return;
            }
        };
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            let Some(name) = name.to_str() else {
                let name = name.to_string_lossy();
                let message = format!("the name `{name}` in `{folder}` is not UTF-8");
                self.problem("special-file", message, None);
                continue;
            };
            let inside = joined(inside, name);
            let path = joined(walk.start, &inside);
            // What git keeps, and what builds leave.
            if name == ".git" || (path == "target" && kind.is_dir()) {
                continue;
            }
            let mut excluded = false;
            for (_, exclude, used) in &mut walk.exclude {
                let hit = exclude.excludes(&inside, kind.is_dir());
                *used |= hit;
                excluded |= hit;
            }
            if excluded {
                walk.excluded += 1;
                continue;
            }
            let left_out = |rules: &Ignored| rules.excludes(&path, kind.is_dir());
            let is_ignored = self.ignored.as_ref().map_or(ignored, left_out);
            if kind.is_dir() {
                if self.ignored.as_ref().is_some_and(|rules| rules.excludes_all(&path)) {
                    walk.ignored += 1;
                    continue;
                }
                if walk.pattern.is_none() && !is_ignored {
                    let kind = MemberKind::Folder;
                    walk.found.push(Found { path, inside: inside.clone(), kind });
                }
                self.folder(walk, &inside, is_ignored);
                continue;
            }
            if walk.pattern.as_ref().is_some_and(|pattern| !pattern.matches(&path)) {
                continue;
            }
            if is_ignored {
                walk.ignored += 1;
                continue;
            }
            let found = if kind.is_symlink() { self.link(&path) } else { self.file(&path, kind) };
            walk.found.extend(found.map(|kind| Found { path, inside, kind }));
        }
    }

    /// A link in the project, if it stays there.
    fn link(&mut self, path: &str) -> Option<MemberKind> {
        let place = self.project.join(path);
        let target = match fs::read_link(&place) {
            Ok(target) => target,
            Err(error) => {
                self.problem("missing-file", format!("cannot read `{path}`: {error}"), None);
                return None;
            }
        };
        let Some(target) = target.to_str() else {
            self.problem(
                "special-file",
                format!("the text of the link `{path}` is not UTF-8"),
                None,
            );
            return None;
        };
        let leaves = match fs::canonicalize(&place) {
            Ok(real) => !real.starts_with(self.project),
            // It leads to nothing now.
            Err(_) => crate::config::check_link(&format!("/{path}"), target).is_err(),
        };
        if target.starts_with('/') || leaves {
            let help = "leave it out with `exclude`; an entry `{ link = \"…\", to = \"…\" }` makes \
                        any link in the image";
            let message = format!("the link `{path}` leads out of the project, to `{target}`");
            self.problem("outside-project", message, Some(help));
            return None;
        }
        Some(MemberKind::Link { target: target.to_owned() })
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "one that does".to_owned() } else { format!("{count} that do") }
}

fn joined(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// The folders of a pattern before the first one with a wildcard.
fn fixed_part(pattern: &str) -> String {
    let (folders, _) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let fixed = folders.split('/').take_while(|part| !is_pattern(part));
    fixed.collect::<Vec<_>>().join("/")
}
