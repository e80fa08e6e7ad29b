//! `cargo xtask images`: the same command line as `xstitch`, from a checkout; and what only
//! its developers run.

mod fuzz;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("fuzz") => fuzz::main(&arguments[2..]),
        _ => xstitch::cli::xtask(),
    }
}
