//! The example, built a second time with nothing changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::measure::{Run, Sample, children_cpu_secs, run};
use crate::project::{agency, folder, reported, xstitch};
use crate::table::{Row, Target};

const RUNS: usize = 15;

/// Programs that compile, assemble or link, and those that only drive them.
const COMPILERS: [&str; 22] = [
    "ar", "as", "asm", "cargo", "cc", "cc1", "cgo", "clang", "clang++", "collect2", "compile",
    "c++", "g++", "gcc", "go", "ld", "ld.lld", "link", "lld", "make", "rust-lld", "rustc",
];

/// Builds the example, so that nothing is left to do. Returns its folder and that build.
pub fn built() -> (std::path::PathBuf, Run) {
    let project = agency();
    eprintln!("  first build of the example; minutes and 260 MB where the cache is cold");
    let first = run(&mut xstitch(&project));
    (project, first)
}

/// A build that finds nothing to do.
pub fn again(project: &Path) -> Run {
    let again = run(&mut xstitch(project));
    assert_eq!(reported(&again.stdout, "units_run"), 0, "something was left to do");
    assert_eq!(reported(&again.stdout, "written"), false, "the layout was written again");
    again
}

/// Wall and CPU time, and what was started.
pub fn measure() -> Vec<Row> {
    let (project, first) = built();
    let first_units = reported(&first.stdout, "units_run");
    again(&project);
    let before = children_cpu_secs();
    let runs: Vec<Run> = (0..RUNS).map(|_| again(&project)).collect();
    let cpu = (children_cpu_secs() - before) / RUNS as f64;
    vec![
        Row::new("first build, wall", Sample::of([first.wall_secs]), "s").note(format!(
            "{first_units} units ran, peak {:.0} MB; set-up, held to nothing",
            first.peak_bytes as f64 / 1e6
        )),
        Row::new("second build, wall", Sample::of(runs.iter().map(|run| run.wall_secs)), "s")
            .held_to(Target::AtMost(0.3)),
        Row::new("second build, CPU", Sample::of([cpu]), "s")
            .note(format!("mean of {RUNS} runs, with children")),
        compilers(&project),
    ]
}

/// How many compilers the build starts, as strace sees it.
fn compilers(project: &Path) -> Row {
    let measure = "second build, compilers started";
    let log = folder("strace.log");
    let build = xstitch(project);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=execve", "-e", "status=successful", "-o"]);
    command.arg(&log).arg(build.get_program()).args(build.get_args());
    if Command::new("strace").arg("-V").output().is_err() {
        return Row::skipped(measure, "there is no strace");
    }
    run(&mut command);
    let log = fs::read_to_string(&log).unwrap();
    let mut programs: BTreeMap<&str, usize> = BTreeMap::new();
    for path in log.lines().filter_map(|line| line.split_once("execve(\"")?.1.split('"').next()) {
        *programs.entry(path.rsplit('/').next().unwrap_or(path)).or_default() += 1;
    }
    // The first is the program itself.
    programs.remove("xstitch");
    let started = |(name, count): (&&str, &usize)| format!("{name} ({count})");
    let names: Vec<String> = programs.iter().map(started).collect();
    let compilers = programs.iter().filter(|(name, _)| is_compiler(name)).map(|(_, count)| count);
    let compilers: usize = compilers.sum();
    let note = if names.is_empty() { "no child".into() } else { names.join(", ") };
    Row::new(measure, Sample::of([compilers as f64]), "").held_to(Target::AtMost(0.0)).note(note)
}

/// Whether it is a compiler, whatever target or version its name tells.
fn is_compiler(name: &str) -> bool {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    COMPILERS.iter().any(|compiler| {
        plain == *compiler || name == *compiler || plain.ends_with(&format!("-{compiler}"))
    })
}
