//! Logs: everything that the commands of a unit printed, kept until the unit runs again,
//! and how much of it a failure shows.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// How many lines of a log a failure shows.
const LINES_SHOWN: usize = 60;

/// The log of a unit.
pub struct Log {
    path: PathBuf,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Log {
    /// An empty log for the unit, below the state of its project.
    pub fn start(state: &Path, unit: &str) -> Result<Self, String> {
        let path = state.join("logs").join(format!("{}.log", unit.replace([' ', '/'], "-")));
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, ""))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { path })
    }

    /// Adds what a command printed.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        fs::OpenOptions::new()
            .append(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

/// What is said of a command that failed: how it ended, the end of what it printed, what
/// the user can do, and where the rest is.
pub fn failure(command: &[String], ending: &str, words: &str, log: &Log) -> String {
    let program = command.first().map_or("the command", String::as_str);
    let lines: Vec<&str> = words.trim_end().lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    let mut message = format!("{program} ended with {ending}:\n");
    if shown.len() < lines.len() {
        message.push_str(&format!("[{} lines before]\n", lines.len() - shown.len()));
    }
    message.push_str(&shown.join("\n"));
    if let Some(help) = help(words) {
        message.push_str(&format!("\n  help: {help}"));
    }
    message.push_str(&format!("\n  log: {log}"));
    message
}

/// What the words of a failed build often mean here.
fn help(words: &str) -> Option<&'static str> {
    let any = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    if any(&[
        "Could not resolve host",
        "Temporary failure in name resolution",
        "Network is unreachable",
        "Name or service not known",
        "network is unreachable",
        "server misbehaving",
    ]) {
        return Some(
            "builds have no network: declare what it downloads as a source (`archive`, `git`, \
             `crate`) or as a library of its own",
        );
    }
    if any(&["Read-only file system"]) {
        return Some(
            "a build can write to its own folders only: the working folder, DESTDIR, TMPDIR and HOME",
        );
    }
    if words.contains("No space left on device") {
        return None;
    }
    if words.contains(": not found") || words.contains("command not found") {
        return Some(
            "a program is missing: add the package that has it to `tools`, such as `tools = [\"nasm\"]`",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_shown_and_the_whole_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::start(folder.path(), "library x linux/arm64").unwrap();
        let words: String = (0..100).map(|line| format!("line {line}\n")).collect();
        log.add(&words).unwrap();
        let message = failure(&["make".into()], "exit code 2", &words, &log);
        assert!(message.starts_with("make ended with exit code 2:\n[40 lines before]\nline 40\n"));
        let path = folder.path().join("logs/library-x-linux-arm64.log");
        assert!(message.ends_with(&format!("line 99\n  log: {}", path.display())));
        assert_eq!(fs::read_to_string(path).unwrap(), words);
    }

    #[test]
    fn common_failures_are_explained() {
        assert!(help("/bin/sh: 1: nasm: not found").unwrap().contains("tools"));
        assert!(help("cp: cannot create '/usr/x': Read-only file system").is_some());
        assert!(help("curl: (6) Could not resolve host: x").unwrap().contains("no network"));
        assert_eq!(help("error: expected expression"), None);
    }
}
