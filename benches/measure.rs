//! What one run costs: wall time, CPU time, peak memory, children; and medians of runs.
//!
//! All of it is read from `/proc` (proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Clock ticks of a second in `/proc`, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// One run of a program.
pub struct Run {
    /// From its start to its end.
    pub wall_secs: f64,
    /// `VmHWM` of the process itself, without its children.
    pub peak_bytes: u64,
    /// CPU time of the process itself, without its children; to 10 ms.
    pub own_cpu_secs: f64,
    /// Standard output.
    pub stdout: String,
}

/// Runs a program to its end and ends with its words if it fails.
pub fn run(command: &mut Command) -> Run {
    let mut stdout = tempfile::tempfile().unwrap();
    let mut stderr = tempfile::tempfile().unwrap();
    command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap());
    let started = Instant::now();
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let id = child.id();
    let ended = AtomicBool::new(false);
    let (status, (peak_bytes, own_cpu_secs), wall_secs) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(id, &ended));
        let status = child.wait().unwrap();
        let wall = started.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (status, watcher.join().unwrap(), wall)
    });
    let text = |file: &mut fs::File| {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    };
    assert!(status.success(), "{command:?} ended with {status}:\n{}", text(&mut stderr));
    Run { wall_secs, peak_bytes, own_cpu_secs, stdout: text(&mut stdout) }
}

/// The high-water mark of a process's resident memory, and its CPU seconds. They only grow, so
/// that the last look is right but for the last few milliseconds.
fn watch(id: u32, ended: &AtomicBool) -> (u64, f64) {
    let (mut peak, mut cpu_secs) = (0, 0.0);
    while !ended.load(Ordering::Relaxed) {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        peak = peak.max(kibibytes.unwrap_or(0) << 10);
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        if let [own, ..] = cpu_of(&stat)[..] {
            cpu_secs = own.max(cpu_secs);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    (peak, cpu_secs)
}

/// CPU seconds in `/proc/PID/stat`: of the process, and of its children that ended.
fn cpu_of(stat: &str) -> Vec<f64> {
    // The second field may hold anything but ends with the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    ticks.chunks(2).map(|ticks| ticks.iter().sum::<f64>() / TICKS_PER_SECOND).collect()
}

/// CPU time of this process, without children, and of children that ended, with theirs.
fn cpu_secs() -> (f64, f64) {
    let secs = cpu_of(&fs::read_to_string("/proc/self/stat").unwrap());
    (secs[0], secs[1])
}

/// CPU seconds of all children that ended, with theirs; to 10 ms, so of many runs at once.
pub fn children_cpu_secs() -> f64 {
    cpu_secs().1
}

/// CPU seconds so far of a process that runs, and of all that it started.
pub fn tree_cpu_secs(root: u32) -> f64 {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (id, _) = stat.split_once(' ')?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let ticks: f64 = fields[11..15].iter().filter_map(|field| field.parse::<f64>().ok()).sum();
        Some((id.parse().ok()?, (fields[1].parse().ok()?, ticks / TICKS_PER_SECOND)))
    });
    let processes: BTreeMap<u32, (u32, f64)> = processes.collect();
    let in_tree = |id: &u32| {
        let parent = |id: &u32| processes.get(id).map(|(parent, _)| *parent);
        std::iter::successors(Some(*id), parent).any(|id| id == root)
    };
    processes.iter().filter(|(id, _)| in_tree(id)).map(|(_, (_, secs))| secs).sum()
}

fn own_cpu_secs() -> f64 {
    let (own, children) = cpu_secs();
    own + children
}

/// Some work done in this process.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// From its start to its end.
    pub wall_secs: f64,
    /// CPU time, with that of children; to 10 ms.
    pub cpu_secs: f64,
    /// The share of the machine that others used meanwhile.
    pub others: f64,
}

/// Times `work`.
pub fn time(work: impl FnOnce()) -> Timed {
    let load = Load::start();
    work();
    Timed {
        wall_secs: load.started.elapsed().as_secs_f64(),
        cpu_secs: own_cpu_secs() - load.own_secs,
        others: load.others(),
    }
}

/// What was measured several times.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// How many.
    pub runs: usize,
}

impl Sample {
    /// The sample of some values, of which there is at least one.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let runs = values.len();
        let median = f64::midpoint(values[(runs - 1) / 2], values[runs / 2]);
        Self { median, low: values[0], high: values[runs - 1], runs }
    }
}

/// How busy other processes keep the machine.
pub struct Load {
    started: Instant,
    machine_secs: f64,
    own_secs: f64,
}

impl Load {
    /// From now on.
    pub fn start() -> Self {
        Self { started: Instant::now(), machine_secs: busy_secs(), own_secs: own_cpu_secs() }
    }

    /// The share of all cores that others used since the start.
    pub fn others(&self) -> f64 {
        let own = own_cpu_secs() - self.own_secs;
        let all = self.started.elapsed().as_secs_f64() * cores() as f64;
        ((busy_secs() - self.machine_secs - own) / all).max(0.0)
    }
}

/// CPU time that was not idle, of the whole machine.
fn busy_secs() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap())
        .collect();
    let [user, nice, system, _idle, _waiting, interrupts, soft, stolen, ..] = fields[..] else {
        panic!("/proc/stat has too few fields");
    };
    (user + nice + system + interrupts + soft + stolen) / TICKS_PER_SECOND
}

/// Cores that may be used.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The machine in a few words.
pub fn machine() -> String {
    let field = |file: &str, key: &str, separator: char| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .find_map(|line| {
                let (name, value) = line.split_once(separator)?;
                (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
            })
            .unwrap_or_else(|| "unknown".into())
    };
    format!(
        "{} cores, {}, {}",
        cores(),
        field("/proc/cpuinfo", "model name", ':'),
        field("/etc/os-release", "PRETTY_NAME", '=')
    )
}
