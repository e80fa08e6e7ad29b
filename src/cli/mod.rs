//! The command line: arguments to requests, events to progress, errors to exit codes.
//! The only room that prints.

mod arguments;
mod cache;
mod graph;
mod printer;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use clap::Parser as _;

use crate::engine::build;
use crate::engine::environment::target as environment_of;
use crate::engine::report::BuildError;
use crate::machine::environment::Environment;
use crate::machine::process::{self, Process};
use crate::machine::sandbox;
use arguments::{Arguments, Command, Format};
use printer::Printer;

/// The `xstitch` command line.
pub fn main() -> ExitCode {
    run(std::env::args().collect())
}

/// The `cargo xtask` command line: `cargo xtask images …` is `xstitch …`, `cargo xtask
/// bench …` measures the release program.
pub fn xtask() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("images") => {
            arguments.remove(1);
            run(arguments)
        }
        Some("bench") => bench(arguments.split_off(2)),
        Some(sandbox::STAGE_ONE | sandbox::STAGE_TWO) => run(arguments),
        _ => {
            printer::error(
                "usage: cargo xtask images [build|plan|check|lock|fetch|cache|env] [OPTIONS]\n       cargo xtask bench [NAME…] [--format text|json]\n       cargo xtask fuzz [TARGET…] [--seconds N]\n  `cargo xtask images --help` tells more",
            );
            ExitCode::from(2)
        }
    }
}

/// Runs the benchmark of this checkout.
fn bench(arguments: Vec<String>) -> ExitCode {
    let error = match Environment::snapshot() {
        Ok(environment) => {
            let cargo = environment.get("CARGO").unwrap_or("cargo").to_owned();
            let mut process = Process::new(cargo)
                .args(["bench", "--quiet", "--package", "xstitch", "--bench", "figures", "--"])
                .args(arguments);
            process.environment = environment.variables;
            process.replace().to_string()
        }
        Err(error) => format!("cannot see the working folder: {error}"),
    };
    printer::error(&error);
    ExitCode::from(1)
}

fn run(arguments: Vec<String>) -> ExitCode {
    if let Some(error) = sandbox::run_stage(&arguments) {
        printer::error(&error.to_string());
        return ExitCode::from(125);
    }
    let arguments = match Arguments::try_parse_from(&arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let environment = match Environment::snapshot() {
        Ok(environment) => environment,
        Err(error) => {
            printer::error(&format!("cannot see the working folder: {error}"));
            return ExitCode::from(2);
        }
    };
    crate::machine::environment::settle_umask();
    let interrupted = stop_on_signals();
    let command = arguments.command();
    let options = arguments.options;
    let (sender, receiver) = channel();
    let printer = Printer::new(&environment, options.screen());
    let result = std::thread::scope(|scope| {
        let screen = scope.spawn(|| printer.show(receiver));
        let mut result = perform(&command, &options, &environment, sender, &interrupted);
        if interrupted.load(Ordering::Relaxed) {
            result = Err(BuildError::Interrupted);
        }
        let _ = screen.join();
        result
    });
    match result {
        Ok(Done::Text(text)) => {
            printer::data(&text);
            ExitCode::SUCCESS
        }
        Ok(Done::Different(text)) => {
            printer::data(&text);
            ExitCode::from(1)
        }
        Ok(Done::Next(process)) => {
            printer::error(&process.replace().to_string());
            ExitCode::from(1)
        }
        Err(error) => {
            if options.format() == Format::Json {
                printer::data(&printer::json(&error.report()));
            }
            printer::error(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Ends every child at the first signal, and says so through the flag, so that the program
/// can clean up. A second signal ends it at once, as a user who repeats it expects.
fn stop_on_signals() -> Arc<AtomicBool> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let interrupted = Arc::new(AtomicBool::new(false));
    let signals = [SIGHUP, SIGINT, SIGTERM];
    for signal in signals {
        let _ =
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted));
        let _ = signal_hook::flag::register(signal, Arc::clone(&interrupted));
    }
    if let Ok(mut signals) = signal_hook::iterator::Signals::new(signals) {
        std::thread::spawn(move || signals.forever().for_each(|_| process::stop()));
    }
    interrupted
}

/// What is left to do in the end.
enum Done {
    /// Something for standard output.
    Text(String),
    /// The same, where scripts are to notice by the exit code that something differs.
    Different(String),
    /// The process to become.
    Next(Box<Process>),
}

/// Does what was asked.
fn perform(
    command: &Command,
    options: &arguments::Options,
    environment: &Environment,
    events: std::sync::mpsc::Sender<crate::model::event::Event>,
    interrupted: &Arc<AtomicBool>,
) -> Result<Done, BuildError> {
    if let Command::Cache(cache) = command
        && let Some(text) =
            cache::perform(&cache.verb, options.format(), environment, &events, interrupted)?
    {
        return Ok(Done::Text(text));
    }
    let request = options.request(command)?;
    let prepared = build::prepare(&request, environment, events, Arc::clone(interrupted))?;
    if !matches!(command, Command::Build(_)) {
        prepared.whole()?;
    }
    let json = options.format() == Format::Json;
    let is_verbose = options.screen() == arguments::Screen::Verbose;
    Ok(Done::Text(match command {
        Command::Env(env) => {
            let target = environment_of(&prepared, &env.target)?;
            if !env.command.is_empty() {
                return Ok(Done::Next(Box::new(prepared.command(target, &env.command)?)));
            }
            let variables = prepared.environment(target)?;
            if json {
                printer::json(&serde_json::json!({"version": 1, "variables": variables}))
            } else {
                printer::variables(&variables)
            }
        }
        Command::Cache(cache) => {
            cache::export(&prepared, &cache.verb, environment, options.format())?
        }
        Command::Build(_) => {
            let report = prepared.build()?;
            if json { printer::json(&report) } else { printer::summary(&report) }
        }
        Command::Plan(planning) => {
            if let Some(revision) = &planning.since {
                let since = prepared.since(revision)?;
                let is_quiet = options.screen() == arguments::Screen::Quiet;
                let text =
                    if json { printer::json(&since) } else { graph::since(&since, is_quiet) };
                return Ok(Done::Text(text));
            }
            let explained = prepared.explain();
            match options.format() {
                Format::Text => graph::tree(&explained, is_verbose),
                Format::Json => {
                    printer::json(&serde_json::json!({"version": 1, "units": explained}))
                }
                Format::Dot => graph::dot(&explained, is_verbose),
                Format::Mermaid => graph::mermaid(&explained, is_verbose),
            }
        }
        Command::Lock(pinning) => {
            let vendored = match &pinning.vendor {
                Some(folder) => {
                    let folder = folder.as_ref().map(|folder| environment.folder.join(folder));
                    Some(prepared.vendor(folder.as_deref())?)
                }
                None => None,
            };
            let moves = &prepared.moves;
            let text = if json {
                printer::json(&serde_json::json!({
                    "version": 1,
                    "pins": prepared.lock.names().len(),
                    "moves": moves,
                    "vendored": vendored,
                }))
            } else {
                printer::pins(&prepared.lock, moves, pinning.check, vendored.as_ref())
            };
            if pinning.check && !moves.is_empty() {
                return Ok(Done::Different(text));
            }
            text
        }
        Command::Fetch(_) => {
            let fetched = prepared.fetch()?;
            if json { printer::json(&fetched) } else { printer::fetched(&fetched) }
        }
        Command::Check(_) => {
            if json {
                printer::json(&serde_json::json!({"version": 1, "findings": []}))
            } else {
                "no problems\n".to_owned()
            }
        }
    }))
}
