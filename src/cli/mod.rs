//! The command line: arguments to requests, events to progress, errors to exit codes.
//! The only room that prints.

mod arguments;
mod printer;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;

use clap::Parser as _;

use crate::engine::build::{self, BuildError};
use crate::machine::environment::Environment;
use crate::machine::sandbox;
use arguments::{Arguments, Command, Format};
use printer::Printer;

/// The `xstitch` command line.
pub fn main() -> ExitCode {
    run(std::env::args().collect())
}

/// The `cargo xtask` command line: `cargo xtask images …` is `xstitch …`.
pub fn xtask() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("images") => {
            arguments.remove(1);
            run(arguments)
        }
        Some(sandbox::STAGE_ONE | "__sandbox-inner") => run(arguments),
        _ => {
            printer::error(
                "usage: cargo xtask images [build|plan|check] [OPTIONS]\n  `cargo xtask images --help` tells more",
            );
            ExitCode::from(2)
        }
    }
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
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends the program at once, as a user who repeats it expects.
        let _ =
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted));
        let _ = signal_hook::flag::register(signal, Arc::clone(&interrupted));
    }
    let command = arguments.command();
    let options = arguments.options(&command);
    let (sender, receiver) = channel();
    let printer = Printer::new(&environment, options.screen());
    let result = std::thread::scope(|scope| {
        let screen = scope.spawn(|| printer.show(receiver));
        let result = perform(&command, &options, &environment, sender, interrupted);
        let _ = screen.join();
        result
    });
    match result {
        Ok(text) => {
            printer::data(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            printer::error(&error.to_string());
            ExitCode::from(match error {
                BuildError::Findings(_) => 2,
                BuildError::Interrupted => 130,
                _ => 1,
            })
        }
    }
}

/// Does what was asked and returns what goes to standard output.
fn perform(
    command: &Command,
    options: &arguments::Options,
    environment: &Environment,
    events: std::sync::mpsc::Sender<crate::model::event::Event>,
    interrupted: Arc<AtomicBool>,
) -> Result<String, BuildError> {
    let request = options.request(command)?;
    let prepared = build::prepare(&request, environment, events, interrupted)?;
    let json = options.format() == Format::Json;
    Ok(match command {
        Command::Build(_) => {
            let report = prepared.build()?;
            if json { printer::json(&report) } else { printer::summary(&report) }
        }
        Command::Plan(_) => {
            let explained = prepared.explain();
            if json { printer::json(&explained) } else { printer::plan(&explained) }
        }
        Command::Check(_) => {
            if json {
                printer::json(&serde_json::json!({"version": 1, "findings": []}))
            } else {
                "no problems\n".to_owned()
            }
        }
    })
}
