//! The example, built a second time with nothing changed.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::measure::{Run, Sample, children_cpu_secs, run};
use crate::project::{agency, folder, reported, xstitch};
use crate::table::{Row, Target};

const RUNS: usize = 15;

const WALL_SECS: f64 = 0.06;
const CPU_SECS: f64 = 0.04;

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
            .held_to(Target::AtMost(WALL_SECS)),
        Row::new("second build, CPU", Sample::of([cpu]), "s")
            .held_to(Target::AtMost(CPU_SECS))
            .note(format!("mean of {RUNS} runs, with children")),
        children(&project),
    ]
}

/// How many processes the build starts, as strace sees it, whatever becomes of them.
fn children(project: &Path) -> Row {
    let measure = "second build, processes started";
    let log = folder("strace.log");
    let build = xstitch(project);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=clone,clone3,fork,vfork,execve"]);
    command.args(["-e", "signal=none", "-o"]);
    command.arg(&log).arg(build.get_program()).args(build.get_args());
    if Command::new("strace").arg("-V").output().is_err() {
        return Row::skipped(measure, "there is no strace");
    }
    run(&mut command);
    let log = fs::read_to_string(&log).unwrap();
    let calls = |names: &[&str]| -> Vec<&str> {
        let is_start = |line: &&str| {
            names.iter().any(|name| line.contains(name)) && !line.contains(" resumed>")
        };
        log.lines().filter(is_start).collect()
    };
    // A thread is no process.
    let started = calls(&["clone(", "clone3(", " fork(", "vfork("]);
    let started = started.iter().filter(|line| !line.contains("CLONE_THREAD")).count();
    // The first is the program itself.
    let programs: Vec<&str> = calls(&["execve("])
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once("execve(\"")?.1.split('"').next())
        .collect();
    let note = if programs.is_empty() { "no child".into() } else { programs.join(", ") };
    Row::new(measure, Sample::of([started as f64]), "").held_to(Target::AtMost(0.0)).note(note)
}
