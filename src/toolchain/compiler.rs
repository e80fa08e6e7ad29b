//! What the `cc` crate knows about compiling for a target, recorded as data.
//!
//! `cc` is made for build scripts: it reads the environment and prints. Here every
//! answer is given to it beforehand, and only the flags that it chooses are taken.

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
        .no_default_flags(false)
        .inherit_rustflags(false)
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
    Ok(flags
        .filter(|flag| !flag.starts_with("--target=") && !flag.to_uppercase().starts_with("-W"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_those_of_the_target() {
        let flags = flags("aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu").unwrap();
        assert!(flags.contains(&"-O2".to_owned()), "{flags:?}");
        assert!(flags.contains(&"-ffunction-sections".to_owned()), "{flags:?}");
        assert!(!flags.contains(&"-w".to_owned()), "warnings are the user's: {flags:?}");
    }
}
