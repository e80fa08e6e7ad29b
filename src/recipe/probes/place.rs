//! Where probes are kept in a build folder, and which names are no property of a target:
//! hashes, paths and triples.

use crate::model::platform::TRIPLES;

/// Whether that file of a build folder, given by its name and its path there, has answers of
/// probes for the target. Below cargo's target folder only those of the target have, which
/// are in a folder of its triple.
pub fn is_probe_file(name: &str, path: &str) -> bool {
    let folders: Vec<&str> = path.split('/').rev().skip(1).collect();
    let known = match name {
        "config.log" | "CMakeCache.txt" => true,
        "meson-log.txt" => folders.first() == Some(&"meson-logs"),
        _ => false,
    };
    // What CMake leaves there are projects that it made up to try something.
    let own = folders.iter().any(|folder| ["CMakeFiles", "cargo-home"].contains(folder));
    let folders: Vec<&str> = folders.into_iter().rev().collect();
    let foreign =
        package(&folders).is_some_and(|(at, _)| at < 2 || !TRIPLES.contains(&folders[at - 2]));
    known && !own && !foreign
}

/// What a file at `path` configured, by a name that is the same for every target and run:
/// the crate for a build script's, a folder for others, nothing for the build itself.
pub fn origin(path: &str) -> String {
    let mut folders: Vec<&str> = path.split('/').filter(|folder| !folder.is_empty()).collect();
    folders.pop();
    let mut names = Vec::new();
    if let Some((at, length)) = package(&folders) {
        let name = folders[at + 1];
        names.push(if length == 1 { &name[..name.len() - HASH - 1] } else { name });
        folders.drain(..=at + length);
        if folders.first() == Some(&"out") {
            folders.remove(0);
        }
    }
    names.extend(folders);
    while names.last().is_some_and(|name| ["build", "meson-logs", "."].contains(name)) {
        names.pop();
    }
    neutral(&names.join("/"))
}

/// Digits of the hash that cargo tells the builds of a package apart with.
const HASH: usize = 16;

/// The place of `build` in cargo's `build/<package>-<hash>`, or in the `build/<package>/<hash>`
/// of its newer layout, and how many folders follow.
fn package(folders: &[&str]) -> Option<(usize, usize)> {
    let is_hash = |text: &str| text.len() == HASH && text.bytes().all(|c| c.is_ascii_hexdigit());
    let hashed = |text: &str| text.rsplit_once('-').is_some_and(|(_, hash)| is_hash(hash));
    (0..folders.len()).filter(|at| folders[*at] == "build").find_map(|at| {
        if folders.get(at + 1).is_some_and(|folder| hashed(folder)) {
            Some((at, 1))
        } else if folders.get(at + 2).is_some_and(|folder| is_hash(folder)) {
            Some((at, 2))
        } else {
            None
        }
    })
}

/// The text with `<path>` for each absolute path and `<triple>` for each target triple.
pub fn neutral(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('/') {
        let (before, path) = rest.split_at(start);
        let end = path.find(ends_path).unwrap_or(path.len());
        result.push_str(before);
        result.push_str(if starts_path(before) { "<path>" } else { &path[..end] });
        rest = &path[end..];
    }
    result.push_str(rest);
    without_triples(&result)
}

fn ends_path(c: char) -> bool {
    c.is_whitespace() || ":;,'\"`()<>|".contains(c)
}

/// Whether a slash after `before` starts an absolute path and does not go on with a relative
/// one or a command of sed.
fn starts_path(before: &str) -> bool {
    let word = before.rsplit(ends_path).next().unwrap_or_default();
    word.is_empty() || word.ends_with('=') || ["-L", "-I", "-isystem"].contains(&word)
}

fn without_triples(text: &str) -> String {
    let in_triple = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let mut result = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !in_triple(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let is_triple = word.find("-linux").is_some_and(|at| at > 0)
            || TRIPLES.iter().any(|triple| word.contains(triple));
        result.push_str(if is_triple { "<triple>" } else { word });
        let next = after.find(in_triple).unwrap_or(after.len());
        result.push_str(&after[..next]);
        rest = &after[next..];
    }
    result
}
