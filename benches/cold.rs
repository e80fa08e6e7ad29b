//! The example compiled for two platforms beside one: nothing of it is there but what is
//! mounted and downloaded.

use std::fs;

use crate::measure::{Load, Run, Sample, children_cpu_secs, run};
use crate::no_op;
use crate::project::{forget_compilers, reported, state, xstitch};
use crate::table::{Row, Target};

/// Each takes minutes.
const ROUNDS: usize = 1;
const ONE: &[&str] = &["linux/amd64"];
const TWO: &[&str] = &["linux/amd64", "linux/arm64"];
/// How the ratio of times may exceed that of the compilers' CPU time.
const TARGET: Target = Target::AtMost(1.1);
const MEGABYTES: Target = Target::AtMost(150.0);

/// A build, and CPU seconds of all that it started.
struct Built {
    run: Run,
    compilers_secs: f64,
}

/// Wall and CPU times, and their ratios.
pub fn measure() -> Vec<Row> {
    let (project, _) = no_op::built();
    let state = state(&project);
    let configuration = fs::read_to_string(project.join("images.toml")).unwrap();
    let build = |platforms: &[&str]| {
        forget_compilers(&state);
        // What no build looks at but every key holds; programs of Go have the version.
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let targets = ["x86_64", "aarch64"].map(|machine| {
            format!(
                "\n[target.{machine}-unknown-linux-gnu]\n\
                 env = {{ set = {{ BENCHMARK_RUN = \"{now}\" }} }}\n"
            )
        });
        let text = format!("{configuration}{}", targets.concat());
        fs::write(project.join("images.toml"), text).unwrap();
        fs::write(project.join("VERSION"), format!("1.0.{now}\n")).unwrap();
        let before = children_cpu_secs();
        let mut command = xstitch(&project);
        command.arg("--offline").args(platforms.iter().flat_map(|name| ["--platform", name]));
        let run = run(&mut command);
        let compilers_secs = children_cpu_secs() - before - run.own_cpu_secs;
        Built { run, compilers_secs }
    };
    let (mut one, mut two, mut others) = (vec![], vec![], vec![]);
    for round in 1..=ROUNDS {
        eprintln!("  round {round} of {ROUNDS}");
        let load = Load::start();
        one.push(build(ONE));
        two.push(build(TWO));
        others.push(load.others() * 100.0);
    }
    let others = format!("others {:.0} %", Sample::of(others).median);
    let sample = |built: &[Built], of: fn(&Built) -> f64| Sample::of(built.iter().map(of));
    let units = |built: &[Built]| reported(&built[0].run.stdout, "units_run");
    let note = |built: &[Built]| format!("{} units ran; {others}", units(built));
    let pairs = || one.iter().zip(&two);
    let walls = || pairs().map(|(one, two)| two.run.wall_secs / one.run.wall_secs);
    let cpu = || pairs().map(|(one, two)| two.compilers_secs / one.compilers_secs);
    let more = walls().zip(cpu()).map(|(wall, cpu)| wall / cpu);
    let peaks = one.iter().chain(&two).map(|built| built.run.peak_bytes as f64 / 1e6);
    vec![
        Row::new("one platform cold, wall", sample(&one, |built| built.run.wall_secs), "s")
            .note(note(&one)),
        Row::new("two platforms cold, wall", sample(&two, |built| built.run.wall_secs), "s")
            .note(note(&two)),
        Row::new("one platform cold, compilers' CPU", sample(&one, |b| b.compilers_secs), "s"),
        Row::new("two platforms cold, compilers' CPU", sample(&two, |b| b.compilers_secs), "s"),
        Row::new("two / one, wall", Sample::of(walls()), "x"),
        Row::new("two / one, compilers' CPU", Sample::of(cpu()), "x"),
        Row::new("ratio of wall / ratio of CPU", Sample::of(more), "x").held_to(TARGET),
        Row::new("peak memory", Sample::of(peaks), "MB").held_to(MEGABYTES),
    ]
}
