//! The environment of a target: every tool and variable that a compiler, a build script
//! or a `configure` asks for, computed in this one place and the same for all recipes.
//!
//! Tools are small scripts below `@{tools}/bin`, because a compiler for a target is
//! "clang with flags", and most build systems want a program without flags.

use std::collections::BTreeMap;

use crate::model::action::VIRTUAL_ROOT;
use crate::toolchain::description::Description;

/// Folders that compilers may write into their output, and that are therefore mapped to
/// the constant paths that a full sandbox has.
pub const MAPPED: [&str; 7] = ["src", "build", "sysroot", "vendor", "modules", "llvm", "rust"];

/// What the environment is for.
#[derive(Clone, Copy, Debug)]
pub struct Cross<'a> {
    /// The machine that runs the compilers.
    pub host: &'a Description,
    /// The machine that runs the result.
    pub target: &'a Description,
    /// Version in the name of the LLVM folder.
    pub llvm_version: &'a str,
    /// Names of the folders that the action mounts.
    pub mounts: &'a [&'a str],
}

/// The part of an action that every recipe shares.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Scripts below `@{tools}`.
    pub tools: BTreeMap<String, String>,
    /// Variables.
    pub variables: BTreeMap<String, String>,
}

/// `-ffile-prefix-map` (or another `flag`) for every folder that is mounted.
pub fn prefix_maps(flag: &str, mounts: &[&str]) -> Vec<String> {
    MAPPED
        .iter()
        .filter(|name| matches!(**name, "src" | "build") || mounts.contains(name))
        .map(|name| format!("{flag}@{{{name}}}={VIRTUAL_ROOT}/{name}"))
        .collect()
}

/// The environment for `cross`.
pub fn environment(cross: &Cross<'_>) -> Environment {
    let mut environment = Environment::default();
    let bin = format!("@{{llvm}}/usr/lib/llvm-{}/bin", cross.llvm_version);
    let libraries = format!("@{{llvm}}/usr/lib/{}", cross.host.gnu_triple);
    let wrapper = |program: &str, arguments: &str| {
        format!("#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {bin}/{program}{arguments} \"$@\"\n")
    };
    for (description, sysroot) in [(cross.host, "host"), (cross.target, "sysroot")] {
        if !cross.mounts.contains(&sysroot) {
            continue;
        }
        let mut flags = vec![
            String::new(),
            format!("--target={}", description.clang_triple),
            format!("--sysroot=@{{{sysroot}}}"),
            "-fuse-ld=lld".to_owned(),
            "-Wno-unused-command-line-argument".to_owned(),
        ];
        flags.extend(description.cflags.iter().cloned());
        flags.extend(prefix_maps("-ffile-prefix-map=", cross.mounts));
        let flags = flags.join(" ");
        let prefix =
            if sysroot == "host" { "host".to_owned() } else { description.gnu_triple.clone() };
        for (name, program) in [("cc", "clang"), ("c++", "clang++")] {
            let script = wrapper(program, &flags);
            environment.tools.insert(format!("bin/{prefix}-{name}"), script);
        }
    }
    for program in ["ar", "ranlib", "nm", "strip", "objdump", "objcopy", "readelf"] {
        let script = wrapper(&format!("llvm-{program}"), "");
        environment.tools.insert(format!("bin/{program}"), script);
    }
    environment.tools.insert("bin/pkg-config".into(), pkg_config());

    let triple = &cross.target.triple;
    let underscored = triple.replace('-', "_");
    let gnu = &cross.target.gnu_triple;
    let variables: [(String, String); 22] = [
        ("PATH".into(), "@{tools}/bin:/usr/bin:/bin".into()),
        ("HOME".into(), "@{build}/home".into()),
        ("TMPDIR".into(), "@{tmp}".into()),
        ("LC_ALL".into(), "C".into()),
        ("TZ".into(), "UTC".into()),
        ("SOURCE_DATE_EPOCH".into(), "0".into()),
        (format!("CC_{underscored}"), format!("@{{tools}}/bin/{gnu}-cc")),
        (format!("CXX_{underscored}"), format!("@{{tools}}/bin/{gnu}-c++")),
        (format!("AR_{underscored}"), "@{tools}/bin/ar".into()),
        (format!("RANLIB_{underscored}"), "@{tools}/bin/ranlib".into()),
        ("HOST_CC".into(), "@{tools}/bin/host-cc".into()),
        ("HOST_CXX".into(), "@{tools}/bin/host-c++".into()),
        ("HOST_AR".into(), "@{tools}/bin/ar".into()),
        ("PKG_CONFIG".into(), "@{tools}/bin/pkg-config".into()),
        ("PKG_CONFIG_ALLOW_CROSS".into(), "1".into()),
        ("PKG_CONFIG_PATH".into(), String::new()),
        ("PKG_CONFIG_SYSROOT_DIR".into(), "@{sysroot}".into()),
        (
            "PKG_CONFIG_LIBDIR".into(),
            format!("@{{sysroot}}/usr/lib/{gnu}/pkgconfig:@{{sysroot}}/usr/share/pkgconfig"),
        ),
        (
            format!("BINDGEN_EXTRA_CLANG_ARGS_{underscored}"),
            format!("--target={} --sysroot=@{{sysroot}}", cross.target.clang_triple),
        ),
        ("STRIP".into(), "@{tools}/bin/strip".into()),
        ("NM".into(), "@{tools}/bin/nm".into()),
        ("OBJDUMP".into(), "@{tools}/bin/objdump".into()),
    ];
    environment.variables.extend(variables);
    environment
}

/// The userland's pkg-config under its usual name: distributions split the program from it.
fn pkg_config() -> String {
    "#!/bin/sh\nif test -x /usr/bin/pkgconf; then exec /usr/bin/pkgconf \"$@\"; fi\n\
     exec /usr/bin/pkg-config \"$@\"\n"
        .to_owned()
}
