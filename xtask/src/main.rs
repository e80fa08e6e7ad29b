//! `cargo xtask images`: the same command line as `xstitch`, from a checkout; and what only
//! its developers run.

mod fuzz;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("fuzz") => fuzz::main(&arguments[2..]),
        Some("flags") => flags(),
        _ => xstitch::cli::xtask(),
    }
}

/// Prints the default C flags of each target, as the `cc` crate has them.
#[allow(clippy::disallowed_macros, reason = "its output is all that it is for")]
fn flags() -> std::process::ExitCode {
    use xstitch::toolchain::{compiler, description};
    let Some(host) = description::host() else { return std::process::ExitCode::FAILURE };
    for target in description::all() {
        match compiler::flags(&target.triple, &host.triple) {
            Ok(flags) => println!("{}: default-cflags = {flags:?}", target.triple),
            Err(error) => {
                eprintln!("error: {}: {error}", target.triple);
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}
