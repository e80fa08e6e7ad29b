//! Rust binaries and C libraries made by cargo: one cargo call per package, feature set,
//! profile and target.

use std::collections::BTreeMap;

use super::environment::{Cross, environment, library_folder, prefix_maps};
use super::native::{finish, quoted};
use crate::config::{Link, Strip};
use crate::model::action::{JobStyle, LibraryProduct, Mount, ProcessAction, SourceReference};

/// What is compiled.
#[derive(Clone, Debug)]
pub struct Cargo<'a> {
    /// Package name, where the folder has several.
    pub package: Option<&'a str>,
    /// Features to turn on.
    pub features: &'a [String],
    /// Whether default features stay on.
    pub default_features: bool,
    /// Cargo profile.
    pub profile: &'a str,
    /// Further arguments of cargo.
    pub options: Vec<String>,
    /// Variables of the build.
    pub env: BTreeMap<String, String>,
    /// Sources, unless a need is mounted as `src`.
    pub sources: Option<SourceReference>,
    /// Text of the lock file, where the sources have none.
    pub lock: Option<&'a str>,
    /// Folder of the sources that is copied whole, where a copy is needed.
    pub top: String,
    /// Folder in it where cargo starts.
    pub folder: String,
    /// Name of the compiler state.
    pub state: String,
    /// Whether `vendor` is mounted.
    pub vendored: bool,
    /// Whether `rust` is a rustup toolchain instead of unpacked packages.
    pub rustup: bool,
    /// What results.
    pub result: Crate<'a>,
}

/// What a cargo call is for.
#[derive(Clone, Debug)]
pub enum Crate<'a> {
    /// `bin/<program>`.
    Program {
        /// Name of the binary target.
        program: &'a str,
        /// What is removed from it, if not what the profile removes.
        strip: Option<Strip>,
    },
    /// `usr/…`, as a sysroot has it.
    Library {
        /// What has to result. Its first library is the crate's.
        product: &'a LibraryProduct,
        /// Which forms are kept.
        link: Link,
        /// What is removed from shared libraries.
        strip: Strip,
        /// Header files and folders of the source.
        include: &'a [String],
        /// Name that programs remember the shared library by.
        soname: Option<&'a str>,
    },
}

/// What a static library of Rust needs at link time.
const STATIC_NEEDS: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

/// The action that leaves what `cargo` is for.
pub fn build(
    cross: &Cross<'_>,
    cargo: &Cargo<'_>,
    mounts: BTreeMap<String, Mount>,
) -> ProcessAction {
    let mut environment = environment(cross);
    rust_tools(cross, cargo.rustup, &mut environment.tools);
    let variables = &mut environment.variables;
    // The `cmake` crate is told by target; build scripts for the host must not see this one.
    variables.remove("CMAKE_TOOLCHAIN_FILE");
    variables.remove("CMAKE_GENERATOR");
    let mut set = |name: &str, value: &str| drop(variables.insert(name.into(), value.into()));
    set("CARGO_HOME", "@{build}/cargo-home");
    set("CARGO_TARGET_DIR", "@{build}/target");
    set("CARGO_INCREMENTAL", "0");
    set("CARGO_NET_OFFLINE", "true");
    set("CARGO_TERM_COLOR", "never");
    set("RUSTC", "@{tools}/bin/rustc");
    // What settings of the project name here is a program of the machine.
    set("RUSTC_WRAPPER", "");
    set("RUSTC_WORKSPACE_WRAPPER", "");
    variables.extend(cargo.env.clone());

    let triple = &cross.target.triple;
    let profile_folder = if cargo.profile == "dev" { "debug" } else { cargo.profile };
    let built = format!("@{{build}}/target/{triple}/{profile_folder}");
    let below = |start: &str, folder: &str| match folder {
        "" => start.to_owned(),
        folder => format!("{start}/{folder}"),
    };
    let source = below("@{src}", &cargo.top);
    // A lock file of our own needs a copy, and so does a source that is no snapshot: times in
    // the store say nothing.
    let copied = cargo.sources.is_none() || cargo.lock.is_some();
    let top = if copied { "@{build}/source".to_owned() } else { source.clone() };
    let folder = below(&top, &cargo.folder);
    let mut prepare = String::from("mkdir -p \"$CARGO_HOME\" \"$HOME\"\n");
    prepare.push_str(if cargo.vendored {
        "sed 's#@VENDOR@#@{vendor}#g' '@{vendor}/config.toml' > \"$CARGO_HOME/config.toml\"\n"
    } else {
        ": > \"$CARGO_HOME/config.toml\"\n"
    });
    // cargo does not know what libraries and compilers are mounted: where they changed,
    // build scripts run again with what stands on them, and so do packages that no registry
    // has, which may name libraries themselves.
    prepare.push_str(&format!(
        "stamp='{built}/xstitch-inputs'\n\
         if test -d '{built}' && test \"$(cat \"$stamp\" 2>/dev/null)\" != '@{{inputs}}'; then\n  \
         rm -rf '{built}'/.fingerprint/*/run-build-script-*\n  \
         for unit in '{built}'/.fingerprint/*; do\n    \
         name=$(basename \"${{unit%-*}}\")\n    set -- '{crates}/'\"$name\"-[0-9]*\n    \
         if test ! -d \"$1\"; then rm -rf \"$unit\"; fi\n  done\nfi\n\
         mkdir -p '{built}'\necho '@{{inputs}}' > \"$stamp\"\n",
        crates = if cargo.vendored { "@{vendor}/crates" } else { "/nonexistent" },
    ));
    if copied {
        prepare.push_str(&format!(
            "rm -rf '{top}'\nmkdir -p '{top}'\ncp -R {}/. '{top}'\nchmod -R u+w '{top}'\n",
            quoted(&source)
        ));
    }
    if let Some(lock) = cargo.lock {
        environment.tools.insert("Cargo.lock".into(), lock.to_owned());
        // Beside the manifest of the workspace, which may be above.
        prepare.push_str(&format!(
            "cd {}\nroot=$(cargo locate-project --workspace --message-format plain)\n\
             cp '@{{tools}}/Cargo.lock' \"$(dirname \"$root\")/Cargo.lock\"\n",
            quoted(&folder)
        ));
    }

    let verb = match cargo.result {
        Crate::Program { .. } => "build",
        Crate::Library { .. } => "rustc",
    };
    let mut command: Vec<String> =
        ["cargo", verb, "--locked", "--offline"].map(String::from).into();
    command.extend(["--profile".into(), cargo.profile.into()]);
    if let Some(package) = cargo.package {
        command.extend(["--package".into(), package.into()]);
    }
    command.extend(["--target".into(), triple.clone()]);
    if !cargo.default_features {
        command.push("--no-default-features".into());
    }
    if !cargo.features.is_empty() {
        command.extend(["--features".into(), cargo.features.join(",")]);
    }
    command.extend(cargo.options.iter().cloned());
    let mut commands = vec![shell(&prepare)];
    match &cargo.result {
        Crate::Program { program, strip } => {
            command.extend(["--bin".into(), (*program).into()]);
            commands.push(in_folder(&folder, command));
            let strip = match strip {
                None | Some(Strip::None) => String::new(),
                Some(Strip::Debug) => format!(" && strip --strip-debug '@{{out}}/bin/{program}'"),
                Some(Strip::All) => format!(" && strip '@{{out}}/bin/{program}'"),
            };
            commands.push(shell(&format!(
                "mkdir -p '@{{out}}/bin' && cp '{built}/{program}' '@{{out}}/bin/{program}'{strip}"
            )));
        }
        Crate::Library { product, link, strip, include, soname } => {
            let name = product.libraries.first().map_or("", String::as_str);
            let own = format!("lib{name}.so");
            let soname = soname.unwrap_or(&own);
            let forms = [(product.shared, "cdylib"), (product.archives, "staticlib")];
            let forms: Vec<&str> =
                forms.iter().filter(|(wanted, _)| *wanted).map(|(_, form)| *form).collect();
            command.extend(["--lib".into(), "--crate-type".into(), forms.join(",")]);
            command.extend(["--".into(), format!("-Clink-arg=-Wl,-soname,{soname}")]);
            commands.push(in_folder(&folder, command));
            commands.push(shell(&install(cross, product, &built, name, soname)));
            let headers = super::cc::install_headers(include);
            commands.push(shell(&format!("cd {}\n{headers}", quoted(&folder))));
            let needs: Vec<String> = STATIC_NEEDS.iter().map(|need| (*need).into()).collect();
            commands.push(shell(&super::cc::package_file(cross, name, &needs)));
            let script = include_str!("../../templates/library/finish.sh");
            environment.tools.insert("finish.sh".into(), script.into());
            commands.push(shell(&finish(cross, *link, *strip)));
        }
    }
    ProcessAction {
        commands,
        environment: environment.variables,
        folder: "@{build}".into(),
        mounts,
        tools: environment.tools,
        sources: cargo.sources.clone(),
        state: cargo.state.clone(),
        jobs: JobStyle::Jobserver,
        probes: true,
        product: match &cargo.result {
            Crate::Program { .. } => None,
            Crate::Library { product, .. } => Some((*product).clone()),
        },
    }
}

/// A command started in another folder than the action's.
fn in_folder(folder: &str, command: Vec<String>) -> Vec<String> {
    let mut line = shell("cd \"$1\"; shift; exec \"$@\"");
    line.extend(["sh".into(), folder.to_owned()]);
    line.extend(command);
    line
}

/// A script that puts what cargo left below the stage.
fn install(
    cross: &Cross<'_>,
    product: &LibraryProduct,
    built: &str,
    name: &str,
    soname: &str,
) -> String {
    let stage = format!("@{{build}}/stage/{}", library_folder(cross.target));
    let mut script = format!("rm -rf '@{{build}}/stage'\nmkdir -p '{stage}'\n");
    let forms = [(product.shared, "so", soname), (product.archives, "a", "")];
    for (_, ending, as_name) in forms.iter().filter(|(wanted, ..)| *wanted) {
        let file = format!("lib{name}.{ending}");
        let to = if as_name.is_empty() { &file } else { *as_name };
        script.push_str(&format!(
            "if test ! -f '{built}/{file}'; then\n  echo 'the crate left no {file}; it left:'\n  \
             ls '{built}' | grep -E '^lib.*\\.(so|a)$' || true\n  \
             echo 'another name is said by `libraries`'\n  exit 1\nfi\ncp '{built}/{file}' '{stage}/{to}'\n"
        ));
        if *to != file {
            script.push_str(&format!("ln -s '{to}' '{stage}/{file}'\n"));
        }
    }
    script
}

/// cargo and rustc below `@{tools}`.
pub fn rust_tools(cross: &Cross<'_>, rustup: bool, tools: &mut BTreeMap<String, String>) {
    let root = if rustup { "@{rust}" } else { "@{rust}/usr" };
    let libraries =
        format!("{root}/lib:@{{rust}}/usr/lib/{0}:@{{llvm}}/usr/lib/{0}", cross.host.gnu_triple);
    let maps = prefix_maps("--remap-path-prefix=", cross.mounts);
    let maps: String = maps.iter().map(|flag| format!(" '{flag}'")).collect();
    let tool = |program: &str, before: &str, arguments: &str| {
        format!(
            "#!/bin/sh\n{before}LD_LIBRARY_PATH='{libraries}'${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} \
             exec '{root}/bin/{program}'{arguments} \"$@\"\n"
        )
    };
    // Where archives for the target are; what is for the host names no target.
    let archives = format!(
        "case \" $* \" in *' --target '*|*' --target='*) set -- \"$@\" \
         '-Lnative=@{{sysroot}}/{}' ;; esac\n",
        library_folder(cross.target)
    );
    tools.insert("bin/cargo".into(), tool("cargo", "", ""));
    tools.insert("bin/rustc".into(), tool("rustc", &archives, &maps));
    tools.insert("bin/rustdoc".into(), tool("rustdoc", "", ""));
}

/// A command line for the userland's shell.
pub fn shell(script: &str) -> Vec<String> {
    vec!["/bin/sh".into(), "-euc".into(), script.into()]
}
