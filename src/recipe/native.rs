//! Native libraries and programs by the build systems of C: what each is told, and how
//! what it installs becomes an output.
//!
//! Every build is a cross build, on the target's own architecture too, and starts from an
//! empty folder: `@{build}/work`, with what it installs in `@{build}/stage`.

use std::collections::BTreeMap;

use super::cargo::shell;
use super::environment::{Cross, build_triple, environment, library_folder};
use crate::config::{Kind, Link, Strip};
use crate::model::action::{JobStyle, LibraryProduct, Mount, ProcessAction, SourceReference};

/// What is built.
#[derive(Clone, Debug)]
pub struct Native<'a> {
    /// By what.
    pub kind: &'a Kind,
    /// Folder where the build starts.
    pub start: String,
    /// Options for the target alone.
    pub options: &'a [String],
    /// Variables of the build.
    pub env: BTreeMap<String, String>,
    /// Which forms of libraries are kept.
    pub link: Link,
    /// What is removed from what was linked.
    pub strip: Strip,
    /// Sources, unless a need is mounted as `src`.
    pub sources: Option<SourceReference>,
    /// Name of the compiler state.
    pub state: String,
    /// What results.
    pub result: Outcome<'a>,
}

/// What a build is for.
#[derive(Clone, Debug)]
pub enum Outcome<'a> {
    /// `usr/…`, as a sysroot has it.
    Library(&'a LibraryProduct),
    /// `bin/<program>`, of what was installed as `installed`.
    Program {
        /// Name in the output.
        program: &'a str,
        /// Name that the build gave it.
        installed: &'a str,
    },
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn words(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// The action that leaves what `native` is for.
pub fn build(
    cross: &Cross<'_>,
    native: &Native<'_>,
    mounts: BTreeMap<String, Mount>,
) -> ProcessAction {
    let mut environment = environment(cross);
    let folder = library_folder(cross.target);
    let gnu = &cross.target.gnu_triple;
    let mut options: Vec<String> = match native.kind {
        Kind::Autotools { options }
        | Kind::Cmake { options }
        | Kind::Meson { options }
        | Kind::Make { options, .. } => options.clone(),
        _ => Vec::new(),
    };
    options.extend(native.options.iter().cloned());
    let options = words(&options);
    let mut flags = cross.overrides.cflags.clone();
    if native.strip != Strip::All {
        flags.push("-g".into());
    }
    let start = quoted(&native.start);
    let copy = format!(
        "cp -R {start}/. '@{{build}}/work'\nchmod -R u+w '@{{build}}/work'\n\
         find '@{{build}}/work' -exec touch -h -d @0 {{}} +"
    );
    let mut jobs = JobStyle::Jobserver;
    let mut commands = Vec::new();
    let mut step = |script: String| commands.push(shell(&script));
    step(
        "rm -rf '@{build}/work' '@{build}/stage'\n\
         mkdir -p '@{build}/work' '@{build}/stage' \"$HOME\""
            .into(),
    );
    let inside = |script: &str| format!("cd '@{{build}}/work'\n{script}");
    match native.kind {
        Kind::Autotools { .. } => {
            flags.insert(0, "-O2".into());
            step(copy);
            step(inside("if test ! -f configure; then autoreconf -fi; fi"));
            let (shared, archives) = (native.link.is_shared(), native.link.is_static());
            let enable = |on: bool| if on { "enable" } else { "disable" };
            let forms = match native.result {
                Outcome::Library(_) => {
                    format!("--{}-shared --{}-static ", enable(shared), enable(archives))
                }
                Outcome::Program { .. } => String::new(),
            };
            step(inside(&format!(
                "sh ./configure --prefix=/usr --libdir=/{folder} --sysconfdir=/etc \
                 --localstatedir=/var --build={} --host={gnu} --disable-dependency-tracking \
                 {forms}{options}",
                build_triple(cross.host)
            )));
            step(inside("make"));
            step(inside("make install DESTDIR='@{build}/stage'"));
        }
        Kind::Cmake { .. } => {
            let forms: &[&str] = match native.link {
                Link::Shared => &["ON"],
                Link::Static => &["OFF"],
                Link::Both => &["OFF", "ON"],
            };
            for shared in forms {
                let work = format!("'@{{build}}/work/{}'", shared.to_lowercase());
                step(format!(
                    "cmake -S {start} -B {work} -DCMAKE_TOOLCHAIN_FILE='@{{tools}}/cmake/toolchain.cmake' \
                     -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR=lib/{gnu} \
                     -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS={shared} {options}"
                ));
                step(format!("cmake --build {work}"));
                step(format!("DESTDIR='@{{build}}/stage' cmake --install {work}"));
            }
        }
        Kind::Meson { .. } => {
            jobs = JobStyle::Lease;
            let form = match native.link {
                Link::Shared => "shared",
                Link::Static => "static",
                Link::Both => "both",
            };
            step(format!(
                "meson setup --prefix=/usr --libdir=lib/{gnu} --buildtype=release \
                 --default-library={form} --wrap-mode=nodownload {options} '@{{build}}/work' {start}"
            ));
            step("ninja -C '@{build}/work' -j @{jobs}".into());
            step("DESTDIR='@{build}/stage' meson install --no-rebuild -C '@{build}/work'".into());
        }
        Kind::Make { build, install, .. } => {
            flags.insert(0, "-O2".into());
            step(copy);
            let tools = "CC=\"$CC\" CXX=\"$CXX\" AR=\"$AR\" RANLIB=\"$RANLIB\" NM=\"$NM\" \
                         LD=\"$LD\" STRIP=\"$STRIP\" PKG_CONFIG=\"$PKG_CONFIG\"";
            let places = format!("PREFIX=/usr prefix=/usr LIBDIR=/{folder} libdir=/{folder}");
            step(inside(&format!("make {tools} {places} {options} {}", words(build))));
            step(inside(&format!(
                "make {tools} {places} {options} DESTDIR='@{{build}}/stage' {}",
                words(install)
            )));
        }
        Kind::Cc { .. } => {
            jobs = JobStyle::Lease;
            environment
                .tools
                .insert("compile".into(), super::cc::compiler(cross, native.kind, &flags));
            if let Outcome::Library(product) = native.result {
                for script in super::cc::steps(cross, native, product) {
                    step(script);
                }
            }
        }
        Kind::Command { run, .. } => {
            flags.insert(0, "-O2".into());
            step(copy);
            step(inside(run));
        }
        // Built by `cargo::build`.
        Kind::Cargo { .. } => {}
    }
    match native.result {
        Outcome::Library(_) => {
            let script = include_str!("../../templates/library/finish.sh");
            environment.tools.insert("finish.sh".into(), script.into());
            step(finish(cross, native.link, native.strip));
        }
        Outcome::Program { program, installed } => {
            step(install_program(program, installed, native.strip));
        }
    }
    let variables = &mut environment.variables;
    for name in ["CFLAGS", "CXXFLAGS"] {
        variables.insert(name.into(), flags.join(" "));
    }
    if matches!(native.kind, Kind::Command { .. }) {
        variables.insert("DESTDIR".into(), "@{build}/stage".into());
    }
    variables.extend(native.env.clone());
    ProcessAction {
        commands,
        environment: environment.variables,
        folder: "@{build}".into(),
        mounts,
        tools: environment.tools,
        sources: native.sources.clone(),
        state: native.state.clone(),
        jobs,
        probes: true,
        product: match native.result {
            Outcome::Library(product) => Some(product.clone()),
            Outcome::Program { .. } => None,
        },
    }
}

/// The script that makes an output of `@{build}/stage`.
pub fn finish(cross: &Cross<'_>, link: Link, strip: Strip) -> String {
    let link = match link {
        Link::Shared => "shared",
        Link::Static => "static",
        Link::Both => "both",
    };
    let (shared, archives) = match strip {
        Strip::None => ("", ""),
        Strip::Debug => ("--strip-debug", "--strip-debug"),
        Strip::All => ("--strip-unneeded", "--strip-debug"),
    };
    format!(
        "'@{{tools}}/finish.sh' '@{{build}}/stage' '@{{out}}' '@{{sysroot}}' {} {link} '{shared}' '{archives}'",
        cross.target.gnu_triple
    )
}

fn install_program(program: &str, installed: &str, strip: Strip) -> String {
    let (program, installed) = (quoted(program), quoted(installed));
    let strip = match strip {
        Strip::None => String::new(),
        Strip::Debug => format!("\nstrip --strip-debug '@{{out}}/bin/'{program}"),
        Strip::All => format!("\nstrip '@{{out}}/bin/'{program}"),
    };
    format!(
        "mkdir -p '@{{out}}/bin'\nfound=$(find '@{{build}}/stage' -name {installed} -type f -perm -u+x)\n\
         if test -z \"$found\"; then\n  echo 'the build installed no program '{installed}; it left:\n  \
         cd '@{{build}}/stage'\n  find . -type f | sort | head -n 50\n  exit 1\nfi\n\
         cp \"$(echo \"$found\" | head -n 1)\" '@{{out}}/bin/'{program}{strip}"
    )
}
