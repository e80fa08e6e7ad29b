//! What the `cc` crate knows about compiling for a target, to be recorded as data.
//!
//! `cc` is made for build scripts: it reads the environment and starts the compiler to learn
//! its family. So builds do not ask it: `cargo xtask flags` prints what it says, which
//! `toolchains/*.toml` have as `default-cflags`, and a test compares the two.

/// A clang that is not there. `cc` asks a compiler for its family by starting it, and goes
/// by the name where it cannot: the machine's own clang must not be asked.
const COMPILER: &str = "/nonexistent/clang";

/// The flags with which `cc` would compile optimised C for `triple` on `host` with a
/// clang. Flags that name a target or a warning level are left out.
pub fn flags(triple: &str, host: &str) -> Result<Vec<String>, String> {
    let tool = cc::Build::new()
        .cargo_metadata(false)
        .cargo_warnings(false)
        .emit_rerun_if_env_changed(false)
        .inherit_rustflags(false)
        // Nothing of the environment counts.
        .set_envs_snapshot([("", ""); 0])
        .compiler(COMPILER)
        .target(triple)
        .host(host)
        .opt_level(2)
        .debug(false)
        .warnings(false)
        .out_dir(std::env::temp_dir())
        .try_get_compiler()
        .map_err(|error| error.to_string())?;
    let flags = tool.args().iter().map(|flag| flag.to_string_lossy().into_owned());
    Ok(flags.filter(|flag| !flag.starts_with("--target=") && flag != "-w").collect())
}
