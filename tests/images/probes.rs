//! What builds find out about their targets, and what they try to start.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{build, text, xstitch};

/// A project of one library by CMake, which no image needs to have.
fn project(folder: &Path, library: &str, lists: &str, strict: bool) -> std::path::PathBuf {
    let project = folder.join("project");
    fs::create_dir_all(project.join("asked")).unwrap();
    let configuration = format!(
        "[project]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nstrict = {strict}\n\n\
         [library.asked]\ncmake = {{ path = \"asked\" }}\nlink = \"static\"\n{library}\n\n\
         [binary.main]\nc = {{ sources = [\"main.c\"], ldflags = [\"-lasked\"] }}\n\
         libraries = [\"asked\"]\n\n\
         [image.main]\nfrom = {{ packages = [\"libc6\"] }}\nbinaries = [\"main\"]\n"
    );
    fs::write(project.join("images.toml"), configuration).unwrap();
    fs::write(project.join("main.c"), "int asked(void);\nint main(void) { return asked(); }\n")
        .unwrap();
    fs::write(project.join("asked/asked.c"), "int asked(void) { return 0; }\n").unwrap();
    let lists = format!(
        "cmake_minimum_required(VERSION 3.16)\nproject(asked LANGUAGES C)\n{lists}\n\
         add_library(asked asked.c)\ninstall(TARGETS asked)\n"
    );
    fs::write(project.join("asked/CMakeLists.txt"), lists).unwrap();
    project
}

/// A question whose answer an operating system would explain, and a processor does not.
const DIFFERS: &str = r##"include(CheckCSourceCompiles)
check_c_source_compiles("#ifdef __aarch64__
#error not here
#endif
int main(void) { return 0; }" HAVE_SO_KEEPALIVE)
check_c_source_compiles("int main(void) { return 0; }" HAVE_SOCK_CLOEXEC)"##;

#[test]
fn integration_differences_between_targets_are_told_unless_explained() {
    let folder = tempfile::tempdir().unwrap();
    let place = project(folder.path(), "", DIFFERS, false);
    let sentence =
        "warning: library asked: HAVE_SO_KEEPALIVE found on linux/amd64, not on linux/arm64";
    // Once more with every unit cached.
    for _ in 0..2 {
        let output = xstitch(&place).args(["--format", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains(sentence), "{said}");
        assert!(!said.contains("HAVE_SOCK_CLOEXEC found"), "{said}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["probe_differences"], 1);
        let file = fs::read(report["probes"].as_str().unwrap()).unwrap();
        let probes: Value = serde_json::from_slice(&file).unwrap();
        let found = &probes["builds"]["library asked"]["platforms"]["linux/arm64"]["probes"];
        assert_eq!(found["HAVE_SO_KEEPALIVE"], "no");
        assert_eq!(found["HAVE_SOCK_CLOEXEC"], "yes");
    }
    let reason = "differences = { \"HAVE_SO_*\" = \"said so\" }";
    let place = project(folder.path(), reason, DIFFERS, false);
    let output = xstitch(&place).args(["--format", "json"]).output().unwrap();
    assert!(!text(&output).contains("HAVE_SO_KEEPALIVE"), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["probe_differences"], 0);
    let file = fs::read(report["probes"].as_str().unwrap()).unwrap();
    let probes: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(probes["builds"]["library asked"]["explained"]["HAVE_SO_KEEPALIVE"], "said so");
}

/// A question that is answered by running a program of the target, against CMake's advice.
const RUNS: &str = r#"file(WRITE ${CMAKE_BINARY_DIR}/answer.c "int main(void) { return 0; }")
execute_process(COMMAND ${CMAKE_C_COMPILER} answer.c -o answer WORKING_DIRECTORY ${CMAKE_BINARY_DIR})
execute_process(COMMAND ${CMAKE_BINARY_DIR}/answer RESULT_VARIABLE answer)
set(HAVE_ANSWER "${answer}")"#;

#[test]
fn integration_a_strict_project_refuses_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let place = project(folder.path(), "", RUNS, false);
    let output = xstitch(&place).args(["--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    let warning = "warning: library asked linux/arm64: ";
    let line =
        said.lines().find(|line| line.starts_with(warning)).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("/answer, a program for AArch64, was started by "), "{line}");
    assert!(line.ends_with(" and refused"), "{line}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["attempts"], 1);
    // The results are there, and still the strict project has no image.
    let layout = place.join("target/images/index.json");
    fs::remove_file(&layout).unwrap();
    let place = project(folder.path(), "", RUNS, true);
    let output = xstitch(&place).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = text(&output);
    for words in [
        "library asked linux/arm64 failed: it tried to start foreign programs",
        "a program for AArch64, was started by",
        "help: tell the build that it is a cross build",
    ] {
        assert!(said.contains(words), "expected `{words}` in:\n{said}");
    }
    assert!(!layout.exists());
    // Without the question it has one.
    let place = project(folder.path(), "", "", true);
    build(&mut xstitch(&place), &place);
}
