//! `cargo xtask fuzz [TARGET…] [--seconds N]`: each reader of hostile bytes under libFuzzer
//! for a while. It starts from `fuzz/seeds.rs` and keeps what it finds in `fuzz/corpus`.
//!
//! Stable Rust is enough: coverage, which steers the fuzzer, is a pass of LLVM's. Deliberately
//! absent: sanitizers, which need nightly Rust (`cargo +nightly fuzz run TARGET`).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a program of its own, which prints and starts what a developer would"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use xstitch::machine::disk::available_bytes;

#[path = "../../fuzz/seeds.rs"]
mod seeds;

/// The readers of `fuzz/entries.rs`, slow ones first.
const TARGETS: [&str; 7] = ["base", "deb", "source", "images", "layer", "packages", "documents"];
const SECONDS: u64 = 15;
/// Memory of the fuzzer and what it calls, and how long one input may take.
const LIMITS: [&str; 2] = ["-rss_limit_mb=512", "-timeout=20"];
/// Room for what all targets unpack at a time.
const SCRATCH_BYTES: u64 = 1 << 30;
/// What `cargo fuzz --sanitizer none` gives the compiler.
const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cdebug-assertions",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Runs the fuzzer. Fails if an input fails, or if something is missing.
pub fn main(arguments: &[String]) -> ExitCode {
    let Some((targets, seconds)) = parse(arguments) else {
        eprintln!("usage: cargo xtask fuzz [TARGET…] [--seconds N]");
        eprintln!("  targets: {}", TARGETS.join(", "));
        return ExitCode::from(2);
    };
    match run(&targets, seconds) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: cannot fuzz: {error}");
            ExitCode::from(1)
        }
    }
}

fn parse(arguments: &[String]) -> Option<(Vec<&'static str>, u64)> {
    let (mut targets, mut seconds) = (Vec::new(), SECONDS);
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            seconds = arguments.next()?.parse().ok().filter(|seconds| *seconds > 0)?;
        } else {
            targets.push(*TARGETS.iter().find(|target| **target == argument)?);
        }
    }
    Some((if targets.is_empty() { TARGETS.to_vec() } else { targets }, seconds))
}

/// Whether all targets came through.
fn run(targets: &[&'static str], seconds: u64) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in the checkout");
    let programs = build(root)?;
    let queue = Mutex::new(targets.iter().rev().copied().collect::<Vec<_>>());
    let next = || queue.lock().expect("no holder panics").pop();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results = Vec::new();
    std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            while let Some(target) = next() {
                done.push(fuzz(root, &programs, target, seconds));
            }
            done
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        results.extend(threads.into_iter().flat_map(|thread| thread.join().expect("no panic")));
    });
    let results: Vec<bool> = results.into_iter().collect::<Result<_, _>>()?;
    Ok(results.into_iter().all(|is_good| is_good))
}

/// Builds the targets. The folder that they are in.
fn build(root: &Path) -> Result<PathBuf, String> {
    let compiler = std::env::var("CXX").unwrap_or("c++".to_owned());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return Err(format!(
            "there is no C++ compiler `{compiler}`, which libFuzzer is built with\n  help: \
             install one (Debian, Ubuntu: `apt-get install g++`), or set `CXX`"
        ));
    }
    let cargo = std::env::var("CARGO").unwrap_or("cargo".to_owned());
    let folder = root.join("target/fuzz");
    let status = Command::new(&cargo)
        .args(["build", "--quiet", "--locked", "--bins", "--target=host-tuple", "--target-dir"])
        .arg(&folder)
        .arg("--manifest-path")
        .arg(root.join("fuzz/Cargo.toml"))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .status()
        .map_err(|error| format!("cannot run {cargo}: {error}"))?;
    if !status.success() {
        return Err("the targets cannot be built".to_owned());
    }
    let rustc = std::env::var("RUSTC").unwrap_or("rustc".to_owned());
    let output = Command::new(&rustc)
        .args(["--print", "host-tuple"])
        .output()
        .map_err(|error| format!("cannot run {rustc}: {error}"))?;
    Ok(folder.join(String::from_utf8_lossy(&output.stdout).trim()).join("debug"))
}

/// Where inputs are unpacked: in memory, which is ten times as fast, where there is room.
fn scratch(root: &Path) -> PathBuf {
    let memory = Path::new("/dev/shm");
    match available_bytes(memory) {
        Ok(bytes) if bytes >= SCRATCH_BYTES => memory.to_owned(),
        _ => root.join("target/fuzz"),
    }
}

/// Whether a target came through.
fn fuzz(root: &Path, programs: &Path, target: &str, seconds: u64) -> Result<bool, String> {
    let io = |error: std::io::Error| format!("{target}: {error}");
    let corpus = root.join("fuzz/corpus").join(target);
    let artifacts = root.join("fuzz/artifacts").join(target);
    let scratch = scratch(root).join(format!("xstitch-fuzz-{}-{target}", std::process::id()));
    for folder in [&corpus, &artifacts, &scratch] {
        fs::create_dir_all(folder).map_err(io)?;
    }
    for (at, seed) in seeds::seeds(target).into_iter().enumerate() {
        fs::write(corpus.join(format!("seed-{at}")), seed).map_err(io)?;
    }
    let log = root.join(format!("target/fuzz/{target}.log"));
    let program = programs.join(target);
    let status = Command::new(&program)
        .arg(&corpus)
        .args(LIMITS)
        .args(["-seed=1", "-print_final_stats=1"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        // What an input that fails leaves is removed with it.
        .env("TMPDIR", &scratch)
        .stdout(fs::File::create(log.with_extension("out")).map_err(io)?)
        .stderr(fs::File::create(&log).map_err(io)?)
        .status()
        .map_err(io)?;
    fs::remove_dir_all(&scratch).map_err(io)?;
    let text = String::from_utf8_lossy(&fs::read(&log).map_err(io)?).into_owned();
    if status.success() {
        let after = |mark: &str| {
            let rest = text.rsplit_once(mark).map_or("", |(_, rest)| rest);
            rest.split_whitespace().next().unwrap_or("?").to_owned()
        };
        let (inputs, edges) = (after("number_of_executed_units:"), after("cov:"));
        println!("fuzz {target}: {inputs} inputs in {seconds} s, {edges} edges, none fails");
        return Ok(true);
    }
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
    eprintln!(
        "error: fuzz {target}: an input fails; it is in {}\n  help: `{} FILE` shows it again, so \
         does `cargo +nightly fuzz run {target} FILE`, with a sanitizer",
        artifacts.display(),
        program.display()
    );
    Ok(false)
}
