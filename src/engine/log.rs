//! Logs: everything that the commands of a unit printed, kept until the unit runs again,
//! and how much of it a failure shows.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::machine::sandbox::Tier;

/// How many lines of a log a failure shows.
const LINES_SHOWN: usize = 60;

/// Files in which build systems write what they tried, by the ends of their paths.
const RECORDS: [&str; 5] = [
    "config.log",
    "CMakeFiles/CMakeConfigureLog.yaml",
    "CMakeFiles/CMakeError.log",
    "CMakeFiles/CMakeOutput.log",
    "meson-logs/meson-log.txt",
];

/// How many bytes of the end of each are kept.
const RECORD_BYTES: usize = 256 * 1024;

/// The log of a unit.
pub struct Log {
    path: PathBuf,
    /// Names of the build systems' own logs at its end.
    records: Vec<String>,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)?;
        match self.records.as_slice() {
            [] => Ok(()),
            records => write!(f, " (at its end {})", records.join(", ")),
        }
    }
}

impl Log {
    /// An empty log for the unit, below the state of its project.
    pub fn start(state: &Path, unit: &str) -> Result<Self, String> {
        let path = state.join("logs").join(format!("{}.log", unit.replace([' ', '/'], "-")));
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, ""))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { path, records: Vec::new() })
    }

    /// Adds what a command printed.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        fs::OpenOptions::new()
            .append(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }

    /// Adds what build systems wrote into their own logs below `build`, which the next start
    /// of the unit removes.
    pub fn add_records(&mut self, build: &Path) -> Result<(), String> {
        for path in records(&build.join("work"), 3) {
            let bytes = fs::read(&path).unwrap_or_default();
            let end = &bytes[bytes.len().saturating_sub(RECORD_BYTES)..];
            let name = path.strip_prefix(build).unwrap_or(&path).display();
            self.add(&format!("\n--- {name}\n{}\n", String::from_utf8_lossy(end).trim_end()))?;
            self.records.push(name.to_string());
        }
        Ok(())
    }
}

/// Such files in a folder and those in it, `depth` folders deep, sorted.
fn records(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        RECORDS.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|_| depth > 0) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(records(&entry.path(), depth - 1));
        }
    }
    found.sort();
    found
}

/// What is said of a command that failed: how it ended, the end of what it printed, what
/// the user can do (`known`, or what the words mean), and where the rest is.
pub fn failure(
    command: &[String],
    (ending, words): (String, String),
    known: Option<String>,
    tier: Tier,
    log: &Log,
) -> String {
    let program = command.first().map_or("the command", String::as_str);
    let lines: Vec<&str> = words.trim_end().lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    let mut message = format!("{program} ended with {ending}:\n");
    if shown.len() < lines.len() {
        message.push_str(&format!("[{} lines before]\n", lines.len() - shown.len()));
    }
    message.push_str(&shown.join("\n"));
    if let Some(help) = known.or_else(|| help(&words, tier)) {
        message.push_str(&format!("\n  help: {help}"));
    }
    message.push_str(&format!("\n  log: {log}"));
    message
}

/// What the words of a failed build often mean here.
fn help(words: &str, tier: Tier) -> Option<String> {
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
             `crate`) or as a library of its own"
                .into(),
        );
    }
    if any(&["Read-only file system", "read-only file system"])
        || (tier == Tier::Landlock && words.contains("Permission denied"))
    {
        return Some(
            "a build can write to its own folders only: the working folder, DESTDIR, TMPDIR and HOME"
                .into(),
        );
    }
    if words.contains("No space left on device") {
        return None;
    }
    let program = missing_program(words)?;
    let and = match tier {
        Tier::Namespaces => "",
        _ => "; without namespaces, a program that needs other files of its package cannot run",
    };
    Some(format!(
        "there is no `{program}` in this build: add the package that has it to `tools`, such as \
         `tools = [\"nasm\"]`{and}"
    ))
}

/// The program that a shell, make or another program could not find.
fn missing_program(words: &str) -> Option<&str> {
    words.lines().rev().find_map(|line| {
        // `sh: 1: nasm: not found`, `line 2: nasm: command not found`, `make: nasm: No such …`.
        let before = line
            .strip_suffix(": not found")
            .or_else(|| line.strip_suffix(": command not found"))
            .or_else(|| {
                let of_make = line.starts_with("make") && line.contains(": ");
                line.strip_suffix(": No such file or directory").filter(|_| of_make)
            })?;
        let program = before.rsplit(": ").next()?.trim_matches(['\'', '`', '"']);
        let is_word = !program.is_empty() && !program.contains([' ', '=', '(', '/']);
        (is_word && before.contains(": ")).then_some(program)
    })
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
        let message = failure(
            &["make".into()],
            ("exit code 2".into(), words.clone()),
            None,
            Tier::Namespaces,
            &log,
        );
        assert!(message.starts_with("make ended with exit code 2:\n[40 lines before]\nline 40\n"));
        let path = folder.path().join("logs/library-x-linux-arm64.log");
        assert!(message.ends_with(&format!("line 99\n  log: {}", path.display())));
        assert_eq!(fs::read_to_string(path).unwrap(), words);
    }

    #[test]
    fn the_logs_of_build_systems_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("build/work");
        fs::create_dir_all(work.join("on/CMakeFiles")).unwrap();
        fs::write(work.join("config.log"), "conftest.c: no zlib.h\n").unwrap();
        fs::write(work.join("on/CMakeFiles/CMakeError.log"), "no getrandom\n").unwrap();
        let mut log = Log::start(folder.path(), "library x").unwrap();
        log.add("checking\n").unwrap();
        log.add_records(&folder.path().join("build")).unwrap();
        let path = folder.path().join("logs/library-x.log");
        let records = "work/config.log, work/on/CMakeFiles/CMakeError.log";
        assert_eq!(log.to_string(), format!("{} (at its end {records})", path.display()));
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            "checking\n\n--- work/config.log\nconftest.c: no zlib.h\n\n\
             --- work/on/CMakeFiles/CMakeError.log\nno getrandom\n"
        );
    }

    #[test]
    fn common_failures_are_explained() {
        let help = |words: &str| super::help(words, Tier::Namespaces);
        assert!(help("/bin/sh: 1: nasm: not found\n").unwrap().contains("no `nasm` in"));
        assert!(help("x: line 2: yasm: command not found").unwrap().contains("no `yasm` in"));
        assert!(help("make: perl: No such file or directory\nmake: *** [x]").is_some());
        assert!(help("symbol foo: not found in libx\nmain.c: No such file or directory").is_none());
        assert!(help("cp: cannot create '/usr/x': Read-only file system").is_some());
        assert!(help("curl: (6) Could not resolve host: x").unwrap().contains("no network"));
        let denied = "touch: cannot touch 'x': Permission denied";
        assert_eq!(help(denied), None);
        assert!(super::help(denied, Tier::Landlock).is_some());
        assert_eq!(help("error: expected expression"), None);
    }
}
