//! The benchmark: every performance target, measured on this machine and printed as one
//! table. `cargo xtask bench [NAME…] [--format json]`.
//!
//! Medians over several runs; where there is a peer, its runs alternate with ours and the
//! ratio is the median of the ratios of neighbours, so that what else the machine does
//! meets both. Deliberately absent: assertions. A missed target is a line of the table.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    reason = "a program of its own, which should end where it cannot go on"
)]

mod base;
mod changed;
mod cold;
mod crossing;
mod emulated;
mod measure;
mod memory;
mod no_op;
mod packing;
mod peers;
mod project;
mod synthetic;
mod table;

use std::process::ExitCode;

use measure::Load;
use table::{Row, Table};

/// A subject's name and what measures it.
type Subject = (&'static str, fn() -> Vec<Row>);

const SUBJECTS: [Subject; 9] = [
    ("no-op", no_op::measure),
    ("synthetic", synthetic::measure),
    ("changed", changed::measure),
    ("memory", memory::measure),
    ("packing", packing::measure),
    ("peers", peers::measure),
    ("base", base::measure),
    ("cold", cold::measure),
    ("crossing", crossing::measure),
];

/// Those that take so long that they run only where they are named.
const ON_REQUEST: [Subject; 1] = [("crossing-emulated", emulated::measure)];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // What cargo adds when it runs benchmarks, and only then.
    if arguments.last().map(String::as_str) != Some("--bench") {
        eprintln!("this takes minutes; run it with `cargo xtask bench`");
        return ExitCode::SUCCESS;
    }
    arguments.pop();
    let Ok((names, json)) = parse(arguments) else {
        let names: Vec<&str> = all().map(|(name, _)| name).collect();
        eprintln!(
            "usage: cargo xtask bench [NAME…] [--format text|json]\n  names: {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    };
    let mut table = Table::new();
    for (name, measure) in all() {
        let is_usual = SUBJECTS.iter().any(|(usual, _)| *usual == name);
        if (names.is_empty() && is_usual) || names.iter().any(|wanted| wanted == name) {
            eprintln!("measuring {name}");
            let load = Load::start();
            let rows = measure();
            table.add(name, rows, load.others());
        }
    }
    print!("{}", if json { table.json() } else { table.text() });
    ExitCode::SUCCESS
}

fn all() -> impl Iterator<Item = Subject> {
    SUBJECTS.into_iter().chain(ON_REQUEST)
}

/// Names of subjects, and whether JSON is asked for.
fn parse(arguments: Vec<String>) -> Result<(Vec<String>, bool), ()> {
    let (mut names, mut json) = (Vec::new(), false);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let format = match argument.as_str() {
            "--format" => arguments.next(),
            other => other.strip_prefix("--format=").map(str::to_owned),
        };
        match (format.as_deref(), argument.as_str()) {
            (Some("json"), _) => json = true,
            (Some("text"), _) => json = false,
            (None, name) if all().any(|(known, _)| known == name) => {
                names.push(argument);
            }
            _ => return Err(()),
        }
    }
    Ok((names, json))
}
