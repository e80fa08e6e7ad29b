//! Attempts to start programs that are foreign to the machine, and what a person calls
//! whoever made one.
//!
//! Deliberately absent: catching them, and reading the evidence.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Characters of a command line that are shown.
const COMMAND_LINE_AT_MOST: usize = 80;

/// A start of a foreign program, refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// Absolute path of the program, as the command saw it.
    pub program: String,
    /// Its `e_machine` (gABI, "ELF header").
    pub machine: u16,
    /// Who started it, for people.
    pub probe: String,
}

/// What the starts of programs during one or more commands came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Whether every start was looked at. If not, there may have been more attempts, and
    /// an emulator that the machine has registered may have run them.
    pub supervised: bool,
    /// Each once, in the order in which they were first seen.
    pub attempts: Vec<Attempt>,
    /// Paths below the watched folder that were looked for and are not there. Sorted.
    #[serde(default)]
    pub missing: BTreeSet<String>,
    /// Memory of the largest process, in bytes.
    #[serde(default)]
    pub largest_bytes: u64,
}

impl Attempts {
    /// No start at all, each of them looked at: what others are added to.
    pub fn none() -> Self {
        Self { supervised: true, ..Self::default() }
    }

    /// Adds an attempt, unless it is there.
    pub fn push(&mut self, attempt: Attempt) {
        if !self.attempts.contains(&attempt) {
            self.attempts.push(attempt);
        }
    }

    /// Adds those of a further command.
    pub fn extend(&mut self, other: Self) {
        self.supervised &= other.supervised;
        self.largest_bytes = self.largest_bytes.max(other.largest_bytes);
        other.attempts.into_iter().for_each(|attempt| self.push(attempt));
    }
}

/// What is known of who started a program.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Absolute path of the program.
    pub program: String,
    /// End of the nearest `config.log`.
    pub config_log: Option<String>,
    /// `CMakeLists.txt` beside the program.
    pub cmake_lists: Option<String>,
    /// The starter's environment, as `name=value`.
    pub environment: Vec<String>,
    /// The starter's command line; none if it is what the sandbox runs.
    pub command_line: Vec<String>,
}

impl Evidence {
    /// Who started the program, for people.
    pub fn probe(&self) -> String {
        let check = self
            .config_log
            .as_deref()
            .and_then(configure_check)
            .or_else(|| cmake_check(&self.program, self.cmake_lists.as_deref()))
            .or_else(|| self.program.contains("/meson-private/").then(|| "a meson check".into()));
        match (check, build_script(&self.environment)) {
            (Some(check), Some(script)) => format!("{check}, in the {script}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) if self.command_line.is_empty() => "the unit itself".to_owned(),
            (None, None) => {
                let line = self.command_line.join(" ").replace(char::is_control, " ");
                let line: String = line.chars().take(COMMAND_LINE_AT_MOST).collect();
                let name = self.program.rsplit('/').next().unwrap_or_default();
                format!("`{name}` started by `{}`", line.trim_end())
            }
        }
    }
}

/// What `configure` is checking, going by its log so far (Autoconf manual, "config.log").
fn configure_check(log: &str) -> Option<String> {
    let said = log.lines().rev().find_map(|line| {
        let (number, said) = line.strip_prefix("configure:")?.split_once(": ")?;
        let is_check = number.is_empty() || number.bytes().all(|byte| byte.is_ascii_digit());
        (is_check && said.starts_with("checking ")).then_some(said)
    });
    // It checks nothing any more once it told how it ended.
    let ended = log.lines().rev().any(|line| line.starts_with("configure: exit "));
    said.filter(|_| !ended).map(str::to_owned)
}

/// The test that CMake performs, where the program was compiled for one.
fn cmake_check(program: &str, lists: Option<&str>) -> Option<String> {
    let (folder, name) = program.rsplit_once('/')?;
    let scratch = ["/CMakeFiles/CMakeTmp", "/CMakeFiles/CMakeScratch"];
    let project = scratch.iter().find_map(|scratch| Some(folder.split_once(scratch)?.0));
    if project.is_none() && !name.starts_with("cmTC_") {
        return None;
    }
    let project = project.unwrap_or(folder);
    let lists = lists.unwrap_or_default();
    let source =
        lists.split('"').filter_map(|word| word.rsplit_once('/').map(|(_, name)| name)).rfind(
            |name| [".c", ".cc", ".cpp", ".cxx", ".f90", ".F90"].iter().any(|e| name.ends_with(e)),
        );
    // CheckSourceRuns compiles a file of this name and defines the result's variable first.
    let variable = source.filter(|source| source.starts_with("src.")).and_then(|_| {
        let definitions = lists.split_once("add_definitions(")?.1.split_once(')')?.0;
        let variable = definitions.split_once("-D")?.1;
        variable.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
    });
    Some(match (variable, source) {
        (Some(variable), _) => format!("CMake's Performing Test {variable} in {project}"),
        (None, Some(source)) => format!("a CMake try_run of {source} in {project}"),
        (None, None) => format!("a CMake try_run ({name}) in {project}"),
    })
}

/// The crate whose build script set out.
fn build_script(environment: &[String]) -> Option<String> {
    let value = |name: &str| {
        environment.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
    };
    let name = value("CARGO_PKG_NAME")?;
    Some(format!("build script of {name} {}", value("CARGO_PKG_VERSION")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn configure_names_its_check() {
        let log = "configure:3212: checking whether we are cross compiling\n\
                   configure:3220: cc -o conftest -O2 conftest.c >&5\n\
                   configure:3224: $? = 0\n\
                   configure:3231: ./conftest\n";
        assert_eq!(configure_check(log).unwrap(), "checking whether we are cross compiling");
        let log = format!("{log}configure:3300: checking for working malloc\n| #include <x>\n");
        assert_eq!(configure_check(&log).unwrap(), "checking for working malloc");
        let log = format!("{log}configure:9: result: no\n\nconfigure: exit 0\n");
        assert_eq!(configure_check(&log), None);
        assert_eq!(configure_check("| configure:1: checking for x\nother:2: checking\n"), None);
    }

    #[test]
    fn cmake_names_its_test() {
        let check = |program, lists: &str| cmake_check(program, Some(lists));
        let program = "/xs/build/z/CMakeFiles/CMakeScratch/TryCompile-VaBodx/cmTC_1a17b";
        let lists = r#"set(CMAKE_C_FLAGS "${CMAKE_C_FLAGS} ${COMPILE_DEFINITIONS}")
            add_definitions([==[-DHAVE_SLEEP]==] [==[-DOTHER=1]==])
            include("${CMAKE_ROOT}/Modules/Internal/HeaderpadWorkaround.cmake")
            add_executable(cmTC_1a17b "/xs/build/z/CMakeFiles/CMakeScratch/TryCompile-VaBodx/src.c")
            target_link_libraries(cmTC_1a17b ${LINK_LIBRARIES})"#;
        let found = "CMake's Performing Test HAVE_SLEEP in /xs/build/z";
        assert_eq!(check(program, lists).unwrap(), found);
        let older = lists.replace("[==[", "").replace("]==]", "");
        assert_eq!(check(program, &older).unwrap(), found);
        let program = "/xs/build/z/CMakeFiles/CMakeTmp/cmTC_f4826";
        let direct = lists.replace("src.c", "endian.c");
        assert_eq!(check(program, &direct).unwrap(), "a CMake try_run of endian.c in /xs/build/z");
        assert_eq!(check(program, "").unwrap(), "a CMake try_run (cmTC_f4826) in /xs/build/z");
        assert_eq!(check("/b/cmTC_1", "").unwrap(), "a CMake try_run (cmTC_1) in /b");
        assert_eq!(check("/b/CMakeFiles/generator", ""), None);
    }

    #[test]
    fn probes_are_named_by_the_best_source() {
        let mut evidence = Evidence {
            program: "/xs/build/a/conftest".into(),
            command_line: words(&["/bin/sh", "./configure", "--host=x"]),
            ..Evidence::default()
        };
        let own = Evidence { program: evidence.program.clone(), ..Evidence::default() };
        assert_eq!(own.probe(), "the unit itself");
        assert_eq!(evidence.probe(), "`conftest` started by `/bin/sh ./configure --host=x`");
        evidence.command_line = words(&["sh", "-c", "a\nb", &"x".repeat(100)]);
        assert_eq!(evidence.probe().len(), "`conftest` started by ``".len() + 80);
        evidence.environment = words(&["A=b", "CARGO_PKG_NAME=ffi-sys", "CARGO_PKG_VERSION=1.2.3"]);
        assert_eq!(evidence.probe(), "build script of ffi-sys 1.2.3");
        evidence.config_log = Some("configure:77: checking for foo\n".into());
        assert_eq!(evidence.probe(), "checking for foo, in the build script of ffi-sys 1.2.3");
        evidence.config_log = None;
        evidence.program = "/b/meson-private/tmpx/output.exe".into();
        assert_eq!(evidence.probe(), "a meson check, in the build script of ffi-sys 1.2.3");
        evidence.environment.clear();
        assert_eq!(evidence.probe(), "a meson check");
    }

    #[test]
    fn attempts_are_kept_once_in_order() {
        let attempt = |program: &str| Attempt {
            program: program.into(),
            machine: 183,
            probe: "checking for x".into(),
        };
        let mut all = Attempts::none();
        for program in ["/b", "/a", "/b"] {
            all.push(attempt(program));
        }
        assert!(all.supervised);
        all.extend(Attempts {
            supervised: false,
            attempts: vec![attempt("/a"), attempt("/c")],
            ..Attempts::none()
        });
        assert!(!all.supervised);
        let order: Vec<&str> = all.attempts.iter().map(|a| a.program.as_str()).collect();
        assert_eq!(order, ["/b", "/a", "/c"]);
    }
}
