//! Go binaries, with cgo and without.

use std::collections::BTreeMap;

use super::cargo::shell;
use super::environment::{Cross, environment, prefix_maps};
use crate::config::Strip;
use crate::model::action::{JobStyle, Mount, ProcessAction, SourceReference};

/// What is compiled.
#[derive(Clone, Debug)]
pub struct Go<'a> {
    /// Package path, relative to the module.
    pub package: &'a str,
    /// Name of the program.
    pub program: &'a str,
    /// Build tags.
    pub tags: &'a [String],
    /// Linker flags.
    pub ldflags: &'a [String],
    /// Whether C is compiled.
    pub cgo: bool,
    /// What is removed from the program.
    pub strip: Strip,
    /// Sources.
    pub sources: SourceReference,
    /// Folder of the module in the sources.
    pub folder: String,
    /// Name of the compiler state.
    pub state: String,
}

/// The action that leaves `bin/<program>`.
pub fn build(cross: &Cross<'_>, go: &Go<'_>, mounts: BTreeMap<String, Mount>) -> ProcessAction {
    let mut environment =
        if go.cgo { environment(cross) } else { super::environment::Environment::default() };
    let variables = &mut environment.variables;
    let mut set = |name: &str, value: String| drop(variables.insert(name.to_owned(), value));
    set("PATH", "@{tools}/bin:@{go}/bin:@{programs}:/usr/bin:/bin".into());
    set("HOME", "@{build}/home".into());
    set("TMPDIR", "@{tmp}".into());
    set("LC_ALL", "C".into());
    set("TZ", "UTC".into());
    set("SOURCE_DATE_EPOCH", "0".into());
    set("GOROOT", "@{go}".into());
    set("GOCACHE", "@{build}/cache".into());
    set("GOPATH", "@{build}/path".into());
    set("GOENV", "off".into());
    set("GOPROXY", "off".into());
    set("GOSUMDB", "off".into());
    set("GOTOOLCHAIN", "local".into());
    set("GOTELEMETRY", "off".into());
    set("GOWORK", "off".into());
    set("GOFLAGS", String::new());
    set("GOMAXPROCS", "@{jobs}".into());
    if mounts.contains_key("modules") {
        set("GOMODCACHE", "@{modules}".into());
    }
    set("GOOS", "linux".into());
    set("GOARCH", cross.target.goarch.clone());
    for (name, value) in &cross.target.go {
        set(name, value.clone());
    }
    set("CGO_ENABLED", if go.cgo { "1" } else { "0" }.into());
    if go.cgo {
        // A name on PATH, not a path: the name enters what Go hashes.
        set("CC", format!("{}-cc", cross.target.gnu_triple));
        set("CXX", format!("{}-c++", cross.target.gnu_triple));
        set("AR", "ar".into());
        // Go does not know what is mounted: a name that stands for it enters what Go hashes.
        let mut flags = vec!["-O2".to_owned(), "-g".into(), "-DXSTITCH_INPUTS=@{inputs}".into()];
        flags.extend(prefix_maps("-ffile-prefix-map=", cross.mounts));
        flags.extend(cross.overrides.cflags.iter().cloned());
        let flags = flags.join(" ");
        set("CGO_CFLAGS", flags.clone());
        set("CGO_CXXFLAGS", flags);
        set("CGO_LDFLAGS", "-O2 -g".into());
        set("PKG_CONFIG", "@{tools}/bin/pkg-config".into());
    }
    let mut ldflags = vec!["-buildid=".to_owned()];
    let strip: &[&str] = match go.strip {
        Strip::All => &["-s", "-w"],
        Strip::Debug => &["-w"],
        Strip::None => &[],
    };
    ldflags.extend(strip.iter().map(|flag| (*flag).to_owned()));
    ldflags.extend(go.ldflags.iter().cloned());
    let mut command: Vec<String> =
        ["go", "build", "-trimpath", "-buildvcs=false", "-p", "@{jobs}"].map(String::from).into();
    command.extend(["-ldflags".into(), ldflags.join(" ")]);
    if !go.tags.is_empty() {
        command.extend(["-tags".into(), go.tags.join(",")]);
    }
    command.extend(["-o".into(), format!("@{{out}}/bin/{}", go.program)]);
    command.push(match go.package {
        "." => ".".to_owned(),
        package => format!("./{}", package.trim_start_matches("./")),
    });
    ProcessAction {
        commands: vec![shell("mkdir -p '@{build}/home' '@{out}/bin'"), command],
        environment: environment.variables,
        probes: false,
        product: None,
        folder: if go.folder.is_empty() {
            "@{src}".into()
        } else {
            format!("@{{src}}/{}", go.folder)
        },
        mounts,
        tools: environment.tools,
        sources: Some(go.sources.clone()),
        state: go.state.clone(),
        jobs: JobStyle::Lease,
    }
}
