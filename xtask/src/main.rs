//! `cargo xtask images`: the same command line as `xstitch`, from a checkout.

fn main() -> std::process::ExitCode {
    xstitch::cli::xtask()
}
