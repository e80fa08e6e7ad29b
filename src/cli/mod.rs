//! Placeholder.

/// The `xstitch` command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}

/// The `cargo xtask` command line.
pub fn xtask() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
