//! The environment of a target: every tool and variable that a compiler, a build script
//! or a `configure` asks for, computed in this one place and the same for all recipes.
//!
//! Tools are small scripts below `@{tools}/bin`, because a compiler for a target is
//! "clang with flags", and most build systems want a program without flags. A name with a
//! triple in front is for the target; `cc` and `c++` alone, and `host-cc`, are for the
//! machine that builds.

use std::collections::BTreeMap;

use crate::config::Target;
use crate::model::action::VIRTUAL_ROOT;
use crate::toolchain::answers::answers;
use crate::toolchain::description::{Description, Endianness};

/// Folders that compilers may write into their output, and that are therefore mapped to
/// the constant paths that a full sandbox has.
pub const MAPPED: [&str; 8] =
    ["src", "build", "sysroot", "host", "vendor", "modules", "llvm", "rust"];

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
    /// The user's overrides for the target.
    pub overrides: &'a Target,
}

/// The part of an action that every recipe shares.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Scripts and files below `@{tools}`.
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

/// The triple of the machine that builds, as `configure` is told it: never the target's,
/// so that nothing is found out by running it.
pub fn build_triple(host: &Description) -> String {
    let (processor, rest) =
        host.gnu_triple.split_once('-').unwrap_or((&host.gnu_triple, "linux-gnu"));
    format!("{processor}-build-{rest}")
}

/// The folder of the target's libraries below a root: the distribution's multiarch one.
pub fn library_folder(target: &Description) -> String {
    format!("usr/lib/{}", target.gnu_triple)
}

/// The environment for `cross`.
pub fn environment(cross: &Cross<'_>) -> Environment {
    Environment { tools: tools(cross), variables: variables(cross) }
}

fn tools(cross: &Cross<'_>) -> BTreeMap<String, String> {
    let mut tools = BTreeMap::new();
    let mut add = |name: String, script: String| drop(tools.insert(format!("bin/{name}"), script));
    let bin = format!("@{{llvm}}/usr/lib/llvm-{}/bin", cross.llvm_version);
    let libraries = format!("@{{llvm}}/usr/lib/{}", cross.host.gnu_triple);
    let wrapper = |program: &str, arguments: &str| {
        format!(
            "#!/bin/sh\nLD_LIBRARY_PATH='{libraries}' exec '{bin}/{program}'{arguments} \"$@\"\n"
        )
    };
    let gnu = &cross.target.gnu_triple;
    for (description, sysroot) in [(cross.host, "host"), (cross.target, "sysroot")] {
        if !cross.mounts.contains(&sysroot) {
            continue;
        }
        let mut flags = vec![
            format!("--target={}", description.clang_triple),
            format!("--sysroot=@{{{sysroot}}}"),
            // Unused where nothing is linked, which probes may take for an error.
            "--start-no-unused-arguments".to_owned(),
            "-fuse-ld=lld".to_owned(),
            "--end-no-unused-arguments".to_owned(),
        ];
        flags.extend(description.cflags.iter().cloned());
        flags.extend(prefix_maps("-ffile-prefix-map=", cross.mounts));
        let flags: String = flags.iter().map(|flag| format!(" '{flag}'")).collect();
        let (c, cxx) = (wrapper("clang", &flags), wrapper("clang++", &flags));
        let names: Vec<(String, String)> = if sysroot == "host" {
            let pairs = [("host-cc", "host-c++"), ("cc", "c++"), ("gcc", "g++")];
            pairs.map(|(c, cxx)| (c.to_owned(), cxx.to_owned())).into()
        } else {
            let pairs = [("cc", "c++"), ("gcc", "g++"), ("clang", "clang++")];
            pairs.map(|(c, cxx)| (format!("{gnu}-{c}"), format!("{gnu}-{cxx}"))).into()
        };
        for (c_name, cxx_name) in names {
            add(c_name, c.clone());
            add(cxx_name, cxx.clone());
        }
    }
    for program in ["ar", "ranlib", "nm", "strip", "objdump", "objcopy", "readelf"] {
        let script = wrapper(&format!("llvm-{program}"), "");
        add(format!("{gnu}-{program}"), script.clone());
        add(program.to_owned(), script);
    }
    for name in ["ld".to_owned(), "ld.lld".to_owned(), format!("{gnu}-ld")] {
        add(name, wrapper("ld.lld", ""));
    }
    // By their own loader, so that they run where another libc is.
    for program in ["make", "patch"] {
        add(program.to_owned(), userland(cross.host, program, ""));
    }
    let pkg_config = "if test -x '@{userland}/usr/bin/pkgconf'; then program=pkgconf; else \
                      program=pkg-config; fi\n";
    let script = userland(cross.host, "$program", pkg_config);
    add(format!("{gnu}-pkg-config"), script.clone());
    add("pkg-config".to_owned(), script.clone());
    let paths = pkg_config_folders("host", cross.host);
    let settings = format!(
        "export PKG_CONFIG_SYSROOT_DIR='@{{host}}' PKG_CONFIG_LIBDIR='{paths}'\n{pkg_config}"
    );
    add("host-pkg-config".to_owned(), userland(cross.host, "$program", &settings));
    // Builds take the cache line of the machine for the target's.
    let getconf = "case \"$1\" in LEVEL1_DCACHE_LINESIZE) echo 64 ;; *) exec /usr/bin/getconf \
                   \"$@\" ;; esac\n";
    add("getconf".to_owned(), format!("#!/bin/sh\n{getconf}"));
    if cross.mounts.contains(&"cmake") {
        add("cmake".to_owned(), part(cross.host, "cmake", "cmake"));
    }
    if cross.mounts.contains(&"meson") {
        add("ninja".to_owned(), part(cross.host, "meson", "ninja"));
        add("python3".to_owned(), part(cross.host, "meson", "python3"));
        add("meson".to_owned(), meson(cross.host));
    }
    for (path, template) in [
        ("cmake/toolchain.cmake", include_str!("../../templates/cmake/toolchain.cmake")),
        ("meson/cross.ini", include_str!("../../templates/meson/cross.ini")),
        ("meson/native.ini", include_str!("../../templates/meson/native.ini")),
    ] {
        tools.insert(path.to_owned(), filled(template, cross));
    }
    let answers = answers().autoconf.iter();
    let site = answers.map(|(name, answer)| format!("{name}=${{{name}={answer}}}\n")).collect();
    tools.insert("autoconf/config.site".to_owned(), site);
    tools
}

/// A program of the userland, started by the userland's loader.
fn userland(host: &Description, program: &str, before: &str) -> String {
    format!(
        "#!/bin/sh\n{before}exec '@{{userland}}{}' --library-path '@{{userland}}/usr/lib/{}' \
         --argv0 {program} '@{{userland}}/usr/bin/'{program} \"$@\"\n",
        host.dynamic_loader, host.gnu_triple
    )
}

/// A program of a part of its own, with the libraries that came along.
fn part(host: &Description, part: &str, program: &str) -> String {
    format!(
        "#!/bin/sh\nexport LD_LIBRARY_PATH='@{{{part}}}/usr/lib/{}'\n\
         exec '@{{{part}}}/usr/bin/{program}' \"$@\"\n",
        host.gnu_triple
    )
}

/// Meson, which is told the target wherever it sets up a build.
fn meson(host: &Description) -> String {
    format!(
        "#!/bin/sh\nexport LD_LIBRARY_PATH='@{{meson}}/usr/lib/{}' PYTHONDONTWRITEBYTECODE=1\n\
         if test \"${{1:-}}\" = setup; then\n  shift\n  set -- setup --cross-file \
         '@{{tools}}/meson/cross.ini' --native-file '@{{tools}}/meson/native.ini' \"$@\"\nfi\n\
         exec '@{{meson}}/usr/bin/python3' '@{{meson}}/usr/bin/meson' \"$@\"\n",
        host.gnu_triple
    )
}

/// A template with what is the target's.
fn filled(template: &str, cross: &Cross<'_>) -> String {
    let target = cross.target;
    // Where there is none, Meson wonders at length.
    let cmake = if cross.mounts.contains(&"cmake") { "cmake = '@{tools}/bin/cmake'" } else { "" };
    let endian = match target.elf.endianness {
        Endianness::Little => "little",
        Endianness::Big => "big",
    };
    let answers: Vec<String> = answers()
        .cmake
        .iter()
        .map(|(name, answer)| format!("set({name} \"{answer}\" CACHE STRING \"\")"))
        .collect();
    [
        ("%gnu%", target.gnu_triple.as_str()),
        ("%cmake%", cmake),
        ("%machine%", &target.machine),
        ("%cpu_family%", &target.cpu_family),
        ("%endian%", endian),
        ("%pkg_config_libdir%", &pkg_config_folders("sysroot", target)),
        ("%answers%", &answers.join("\n")),
    ]
    .iter()
    .fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn pkg_config_folders(sysroot: &str, target: &Description) -> String {
    let root = format!("@{{{sysroot}}}");
    format!("{root}/{}/pkgconfig:{root}/usr/share/pkgconfig", library_folder(target))
}

fn variables(cross: &Cross<'_>) -> BTreeMap<String, String> {
    let (triple, gnu) = (&cross.target.triple, &cross.target.gnu_triple);
    let underscored = triple.replace('-', "_");
    let tool = |name: &str| format!("@{{tools}}/bin/{name}");
    let (cc, cxx) = (tool(&format!("{gnu}-cc")), tool(&format!("{gnu}-c++")));
    let c_flags: Vec<&str> = cross.overrides.cflags.iter().map(String::as_str).collect();
    let bindgen = format!("--target={} --sysroot=@{{sysroot}}", cross.target.clang_triple);
    let toolchain = "@{tools}/cmake/toolchain.cmake";
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        variables.insert(name.to_owned(), value.to_owned());
    };
    set("PATH", "@{tools}/bin:@{programs}:/usr/bin:/bin:@{userland}/usr/bin");
    set("HOME", "@{build}/home");
    set("TMPDIR", "@{tmp}");
    set("LC_ALL", "C");
    set("TZ", "UTC");
    set("SOURCE_DATE_EPOCH", "0");
    set("CROSS_DEB_ARCH", &cross.target.debian_architecture);
    set("XSTITCH_TARGET", triple);
    set("XSTITCH_PLATFORM", &cross.target.platform.to_string());
    set("XSTITCH_HOST_TRIPLE", gnu);
    set("XSTITCH_BUILD_TRIPLE", &build_triple(cross.host));
    set("XSTITCH_LIBDIR", &format!("/{}", library_folder(cross.target)));

    set("CC", &cc);
    set("CXX", &cxx);
    set("CPP", &format!("{cc} -E"));
    set("LD", &tool("ld"));
    for name in ["AR", "RANLIB", "NM", "STRIP", "OBJDUMP", "OBJCOPY", "READELF"] {
        set(name, &tool(&name.to_lowercase()));
    }
    set("CC_FOR_BUILD", &tool("host-cc"));
    set("CXX_FOR_BUILD", &tool("host-c++"));
    set("BUILD_CC", &tool("host-cc"));
    set("BUILD_CXX", &tool("host-c++"));
    set("CONFIG_SITE", "@{tools}/autoconf/config.site");
    set("CMAKE_TOOLCHAIN_FILE", toolchain);
    set(&format!("CMAKE_TOOLCHAIN_FILE_{underscored}"), toolchain);
    set("CMAKE_GENERATOR", "Unix Makefiles");
    set("MESON_CROSS_FILE", "@{tools}/meson/cross.ini");
    set("MESON_NATIVE_FILE", "@{tools}/meson/native.ini");

    set("PKG_CONFIG", &tool("pkg-config"));
    // Of a target that is the host too, crates ask for the host's unless it has its own.
    set(&format!("PKG_CONFIG_{underscored}"), &tool("pkg-config"));
    set("PKG_CONFIG_ALLOW_CROSS", "1");
    set("PKG_CONFIG_PATH", "");
    set("PKG_CONFIG_SYSROOT_DIR", "@{sysroot}");
    set("PKG_CONFIG_LIBDIR", &pkg_config_folders("sysroot", cross.target));
    set("PKG_CONFIG_FOR_BUILD", &tool("host-pkg-config"));
    set("HOST_PKG_CONFIG", &tool("host-pkg-config"));

    set(&format!("CC_{underscored}"), &cc);
    set(&format!("CXX_{underscored}"), &cxx);
    set(&format!("AR_{underscored}"), &tool("ar"));
    set(&format!("RANLIB_{underscored}"), &tool("ranlib"));
    if !c_flags.is_empty() {
        set(&format!("CFLAGS_{underscored}"), &c_flags.join(" "));
        set(&format!("CXXFLAGS_{underscored}"), &c_flags.join(" "));
    }
    set("HOST_CC", &tool("host-cc"));
    set("HOST_CXX", &tool("host-c++"));
    set("HOST_AR", &tool("ar"));
    set(&format!("BINDGEN_EXTRA_CLANG_ARGS_{underscored}"), &bindgen);
    set("BINDGEN_EXTRA_CLANG_ARGS", &bindgen);
    set("LIBCLANG_PATH", &format!("@{{llvm}}/usr/lib/llvm-{}/lib", cross.llvm_version));
    let cargo = |triple: &str, key: &str| {
        format!("CARGO_TARGET_{}_{key}", triple.replace('-', "_").to_uppercase())
    };
    // Build scripts and macros run here: they are linked against the locked suite too.
    set(&cargo(&cross.host.triple, "LINKER"), &tool("host-cc"));
    set(&cargo(triple, "LINKER"), &cc);
    if !cross.overrides.rustflags.is_empty() {
        set(&cargo(triple, "RUSTFLAGS"), &cross.overrides.rustflags.join(" "));
    }

    set("GOOS", "linux");
    set("GOARCH", &cross.target.goarch);
    for (name, value) in &cross.target.go {
        set(name, value);
    }
    set("CGO_ENABLED", "1");
    for (name, value) in &cross.overrides.env {
        set(name, value);
    }
    variables
}
