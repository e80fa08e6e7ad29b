//! Rust binaries: one cargo call per package, feature set, profile and target.

use std::collections::BTreeMap;

use super::environment::{Cross, environment, prefix_maps};
use crate::model::action::{JobStyle, Mount, ProcessAction, SourceReference};

/// What is compiled.
#[derive(Clone, Debug)]
pub struct Cargo<'a> {
    /// Package name.
    pub package: &'a str,
    /// Name of the binary target.
    pub program: &'a str,
    /// Features to turn on.
    pub features: &'a [String],
    /// Whether default features stay on.
    pub default_features: bool,
    /// Cargo profile.
    pub profile: &'a str,
    /// Further flags for rustc, from the target's overrides.
    pub rustflags: &'a [String],
    /// Sources.
    pub sources: SourceReference,
    /// Folder of the workspace in the sources.
    pub folder: String,
    /// Name of the compiler state.
    pub state: String,
    /// Whether `vendor` is mounted.
    pub vendored: bool,
    /// Whether `rust` is a rustup toolchain instead of unpacked packages.
    pub rustup: bool,
}

/// The action that leaves `bin/<program>`.
pub fn build(
    cross: &Cross<'_>,
    cargo: &Cargo<'_>,
    mounts: BTreeMap<String, Mount>,
) -> ProcessAction {
    let mut environment = environment(cross);
    let root = if cargo.rustup { "@{rust}" } else { "@{rust}/usr" };
    let libraries =
        format!("{root}/lib:@{{rust}}/usr/lib/{0}:@{{llvm}}/usr/lib/{0}", cross.host.gnu_triple);
    let maps = prefix_maps("--remap-path-prefix=", cross.mounts).join(" ");
    let tool = |program: &str, arguments: &str| {
        format!(
            "#!/bin/sh\nLD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} \
             exec {root}/bin/{program}{arguments} \"$@\"\n"
        )
    };
    environment.tools.insert("bin/cargo".into(), tool("cargo", ""));
    environment.tools.insert("bin/rustc".into(), tool("rustc", &format!(" {maps}")));
    environment.tools.insert("bin/rustdoc".into(), tool("rustdoc", ""));

    let triple = &cross.target.triple;
    let upper = triple.replace('-', "_").to_uppercase();
    let host_upper = cross.host.triple.replace('-', "_").to_uppercase();
    let variables = &mut environment.variables;
    let mut set = |name: String, value: String| drop(variables.insert(name, value));
    set("CARGO_HOME".into(), "@{build}/cargo-home".into());
    set("CARGO_TARGET_DIR".into(), "@{build}/target".into());
    set("CARGO_INCREMENTAL".into(), "0".into());
    set("CARGO_NET_OFFLINE".into(), "true".into());
    set("CARGO_TERM_COLOR".into(), "never".into());
    set("RUSTC".into(), "@{tools}/bin/rustc".into());
    set(
        format!("CARGO_TARGET_{upper}_LINKER"),
        format!("@{{tools}}/bin/{}-cc", cross.target.gnu_triple),
    );
    if !cargo.rustflags.is_empty() {
        set(format!("CARGO_TARGET_{upper}_RUSTFLAGS"), cargo.rustflags.join(" "));
    }
    // Build scripts and macros run here: they are linked against the locked suite too.
    if triple != &cross.host.triple {
        set(format!("CARGO_TARGET_{host_upper}_LINKER"), "@{tools}/bin/host-cc".into());
    }

    let profile_folder = if cargo.profile == "dev" { "debug" } else { cargo.profile };
    let mut command: Vec<String> =
        ["cargo", "build", "--locked", "--offline"].map(String::from).into();
    command.extend(["--profile".into(), cargo.profile.into()]);
    command.extend(["--package".into(), cargo.package.into()]);
    command.extend(["--bin".into(), cargo.program.into()]);
    command.extend(["--target".into(), triple.clone()]);
    if !cargo.default_features {
        command.push("--no-default-features".into());
    }
    if !cargo.features.is_empty() {
        command.extend(["--features".into(), cargo.features.join(",")]);
    }
    let configure = if cargo.vendored {
        "sed 's#@VENDOR@#@{vendor}#g' '@{vendor}/config.toml' > \"$CARGO_HOME/config.toml\""
    } else {
        ": > \"$CARGO_HOME/config.toml\""
    };
    let built = format!("@{{build}}/target/{triple}/{profile_folder}/{}", cargo.program);
    ProcessAction {
        commands: vec![
            shell(&format!("mkdir -p \"$CARGO_HOME\" \"$HOME\" && {configure}")),
            command,
            shell(&format!(
                "mkdir -p '@{{out}}/bin' && cp '{built}' '@{{out}}/bin/{}'",
                cargo.program
            )),
        ],
        environment: environment.variables,
        folder: if cargo.folder.is_empty() {
            "@{src}".into()
        } else {
            format!("@{{src}}/{}", cargo.folder)
        },
        mounts,
        tools: environment.tools,
        sources: cargo.sources.clone(),
        state: cargo.state.clone(),
        jobs: JobStyle::Jobserver,
    }
}

/// A command line for the userland's shell.
pub fn shell(script: &str) -> Vec<String> {
    vec!["/bin/sh".into(), "-euc".into(), script.into()]
}
