//! The `xstitch` program: everything is in [`xstitch::cli`].

fn main() -> std::process::ExitCode {
    xstitch::cli::main()
}
