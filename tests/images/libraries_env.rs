//! The environment of a target for any command, what targets are prepared with before
//! builds, libraries that somebody else built, and programs of other build systems.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{build, succeed, text, xstitch};
use crate::layout::sha256;
use crate::libraries::{
    PLATFORMS, add, edit, env, extract, images, libraries, project, run, titles, would_run,
};
use crate::tools::has;

/// Machine numbers of ELF headers.
const AARCH64: [u8; 2] = [183, 0];
const X86_64: [u8; 2] = [62, 0];

fn machine(file: &Path) -> [u8; 2] {
    let bytes = fs::read(file).unwrap();
    assert_eq!(&bytes[..4], b"\x7fELF", "{}", file.display());
    bytes[18..20].try_into().unwrap()
}

/// A `configure` that asks what those of autoconf ask, in their way.
const CONFIGURE: &str = r#"#!/bin/sh
set -eu
prefix=/usr/local
for option in "$@"; do
    case $option in
    --build=*) build=${option#*=} ;;
    --host=*) host=${option#*=} ;;
    --prefix=*) prefix=${option#*=} ;;
    esac
done
test "$build" != "$host" || { echo "not a cross build"; exit 1; }
. "$CONFIG_SITE"
test "$ac_cv_func_malloc_0_nonnull" = yes
CC=${CC-$host-gcc}
"$CC" -dumpmachine > /dev/null
sed "s#@CC@#$CC#; s#@PREFIX@#$prefix#" Makefile.in > Makefile
"#;

const MAKEFILE_IN: &str = "configured: main.c\n\t@CC@ $(CFLAGS) main.c -o $@\n\ninstall:\n\t\
     mkdir -p $(DESTDIR)@PREFIX@/bin\n\tcp configured $(DESTDIR)@PREFIX@/bin\n";

/// What a command line leaves, and for which machine it has to be.
const STEPS: [(&str, &str, [u8; 2]); 7] = [
    ("$CC a.c -o a $(pkg-config --cflags --libs crated)", "a", AARCH64),
    (
        "aarch64-linux-gnu-gcc -c a.c -o a.o && \"$AR\" rcs liba.a a.o && \"$LD\" -r a.o -o b.o",
        "b.o",
        AARCH64,
    ),
    ("cc host.c -o host && ./host && $CC_FOR_BUILD host.c -o host", "host", X86_64),
    ("cmake -S ../tool -B tool && cmake --build tool", "tool/tool", AARCH64),
    ("meson setup mesoned ../mesoned && ninja -C mesoned", "mesoned/libmesoned.so.1.0.0", AARCH64),
    (
        "cd ../configured && env -u CC ./configure --build=\"$XSTITCH_BUILD_TRIPLE\" \
         --host=\"$XSTITCH_HOST_TRIPLE\" && make",
        "../configured/configured",
        AARCH64,
    ),
    (
        "cd ../crate && cargo build --offline",
        "../crate/target/aarch64-unknown-linux-gnu/debug/small",
        AARCH64,
    ),
];

#[test]
fn integration_every_build_system_works_in_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let libraries = libraries(folder.path());
    let files = [
        ("a.c", "#include <crated.h>\nint main(void) { return crated_answer() != 600002; }\n"),
        ("host.c", "int main(void) { return 0; }\n"),
        ("../configured/configure", CONFIGURE),
        ("../configured/Makefile.in", MAKEFILE_IN),
        ("../configured/main.c", "int main(void) { return 0; }\n"),
        ("../crate/Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\n[workspace]\n"),
        ("../crate/src/main.rs", "fn main() {}\n"),
    ];
    let work = libraries.join("work");
    for (path, content) in files {
        fs::create_dir_all(work.join(path).parent().unwrap()).unwrap();
        fs::create_dir_all(&work).unwrap();
        fs::write(work.join(path), content).unwrap();
    }
    succeed(std::process::Command::new("chmod").arg("+x").arg(work.join(files[2].0)));
    for (script, left, wanted) in STEPS {
        let mut command = env(&libraries, "linux/arm64", &["sh", "-euc", script]);
        // Of the user, and none of the target's business.
        command.env("CARGO_TARGET_DIR", "target").env("CFLAGS", "");
        succeed(command.current_dir(&work));
        if std::env::consts::ARCH == "x86_64" || wanted == AARCH64 {
            assert_eq!(machine(&work.join(left)), wanted, "{script}");
        }
    }
    // By triple, for the machine's own architecture: still a cross build.
    let script = "$CC host.c -o own && ./own && \"$READELF\" -h own";
    let own = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    succeed(env(&libraries, &own, &["sh", "-euc", script]).current_dir(&work));
}

#[test]
fn integration_the_environment_is_shown_and_handed_through() {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path(), "shown", &PREPARED);
    let exit = |command: &[&str]| {
        let output = env(&project, "linux/arm64", command).output().unwrap();
        (output.status.code(), text(&output))
    };
    assert_eq!(exit(&["sh", "-c", "exit 7"]), (Some(7), String::new()));
    let (code, said) = exit(&["no-such-program"]);
    assert_eq!((code, said.contains("no program `no-such-program`")), (Some(1), true), "{said}");

    let mut shown = env(&project, "linux/arm64", &[]);
    let shown = String::from_utf8(succeed(shown.env("SECRET", "hidden")).stdout).unwrap();
    assert!(shown.lines().all(|line| line.starts_with("export ")), "{shown}");
    // The user's own variables are nobody's business.
    assert!(!shown.contains("hidden") && !shown.contains("export HOME="), "{shown}");
    let script = format!("{shown}\necho 'int x;' | $CC -x c -c - -o x.o\n");
    let place = folder.path().join("x.o");
    let mut shell = std::process::Command::new("sh");
    succeed(shell.args(["-euc", &script]).current_dir(folder.path()));
    assert_eq!(machine(&place), AARCH64);

    let json = succeed(env(&project, "linux/arm64", &[]).args(["--format", "json"]));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["version"], 1);
    let variables: BTreeMap<String, String> =
        serde_json::from_value(json["variables"].clone()).unwrap();
    let lines = variables.iter().map(|(name, value)| format!("export {name}='{value}'\n"));
    assert_eq!(lines.collect::<String>(), shown);
    for (name, wanted) in [
        ("CARGO_BUILD_TARGET", "aarch64-unknown-linux-gnu"),
        ("CROSS_DEB_ARCH", "arm64"),
        ("FLAVOUR", "vanilla"),
        ("GOARCH", "arm64"),
        ("XSTITCH_HOST_TRIPLE", "aarch64-linux-gnu"),
        ("XSTITCH_PLATFORM", "linux/arm64"),
    ] {
        assert_eq!(variables[name], wanted);
    }

    for (target, wanted) in [
        ("linux/arm", "there is no target `linux/arm`"),
        ("linux/s390x", "the project does not build for `linux/s390x`"),
    ] {
        let output = env(&project, target, &["true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let said = text(&output);
        for words in [wanted, "[unknown-target]", "known here: aarch64-unknown-linux-gnu"] {
            assert!(said.contains(words), "expected `{words}` in:\n{said}");
        }
    }
    fs::write(project.join("images.toml"), WITHOUT_COMPILERS).unwrap();
    let (code, said) = exit(&["true"]);
    assert_eq!((code, said.contains("[no-environment]")), (Some(2), true), "{said}");
}

const WITHOUT_COMPILERS: &str = r#"
[project]
platforms = ["linux/arm64"]
[image.libraries]
from = "scratch"
files = [{ from = "main.c", to = "/main.c" }]
"#;

/// A program that needs what its target is prepared with.
const PREPARED: [(&str, &str); 4] = [
    (
        "images.toml",
        r#"
[project]
name = "prepared"
platforms = ["linux/arm64"]
[target.aarch64-unknown-linux-gnu]
pre-build = [
    "dpkg --add-architecture $CROSS_DEB_ARCH",
    "apt-get update && apt-get --assume-yes install libbz2-dev:$CROSS_DEB_ARCH xxd",
    "printf '#define MARK \"marked\"' > \"$TMPDIR/mark.h\"",
]
runner = "/no/runner"
env = { set = { FLAVOUR = "vanilla" }, passthrough = ["TOPPING"] }
[binary.prepared]
make = { path = "." }
[image.libraries]
from = { packages = ["base-files", "libc6", "libgcc-s1", "libstdc++6"] }
binaries = ["prepared"]
"#,
    ),
    ("banner.txt", "a banner"),
    (
        "Makefile",
        "prepared: main.c\n\txxd -i banner.txt > banner.h\n\t\
         $(CC) $(CFLAGS) -include $(TMPDIR)/mark.h -DFLAVOUR='\"$(FLAVOUR)\"' \
         -DTOPPING='\"$(TOPPING)\"' -DSECRET='\"$(SECRET)\"' main.c -l:libbz2.a -o $@\n\n\
         install:\n\tmkdir -p $(DESTDIR)/usr/bin\n\tcp prepared $(DESTDIR)/usr/bin\n",
    ),
    (
        "main.c",
        "#include <bzlib.h>\n#include <stdio.h>\n#include \"banner.h\"\nint main(void)\n{\n\t\
         printf(\"%s %s %s [%s] %s %.*s\\n\", MARK, FLAVOUR, TOPPING, SECRET, BZ2_bzlibVersion(), \
         (int)banner_txt_len, banner_txt);\n\treturn 0;\n}\n",
    ),
];

#[test]
fn system_targets_are_prepared_as_they_say() {
    if !["skopeo", "umoci", "qemu-aarch64-static"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path(), "prepared", &PREPARED);
    let mut command = xstitch(&project);
    command.args(["--verbose"]).env("TOPPING", "sprinkles").env("SECRET", "hidden");
    let output = succeed(&mut command);
    assert!(!text(&output).contains("/no/runner"), "{}", text(&output));
    let said = run(&project, "libraries", 1, "prepared");
    assert!(said.starts_with("marked vanilla sprinkles [] 1."), "{said}");
    assert!(said.ends_with(" a banner\n"), "{said}");

    let built = |topping: &str| {
        let mut plan = xstitch(&project);
        would_run(plan.env("TOPPING", topping).env("SECRET", "other"))
    };
    assert!(built("sprinkles").is_empty());
    assert!(built("cherries").contains("binary prepared linux/arm64"));
    // Only what runs programs is asked to use one.
    edit(&project, "images.toml", "/no/runner", "echo");
    assert!(built("sprinkles").is_empty());
    let runner = "echo $CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER";
    let said = text(&succeed(&mut env(&project, "linux/arm64", &["sh", "-c", runner])));
    assert_eq!(said, "echo\n");
    edit(&project, "images.toml", "vanilla", "mint");
    assert!(built("sprinkles").contains("binary prepared linux/arm64"));
}

/// Compiles a shared library for each platform by hand, and returns a `prebuilt` table.
fn prebuild(project: &Path, script: &str) -> String {
    let files =
        [("pre.c", "int pre_answer(void) { return 7; }\n"), ("pre.h", "int pre_answer(void);\n")];
    for (name, content) in files {
        fs::write(project.join(name), content).unwrap();
    }
    let hash = |path: &str| sha256(&fs::read(project.join(path)).unwrap()).replace("sha256:", "");
    let mut table = String::new();
    for (platform, ..) in PLATFORMS {
        let from = format!("{}/libpre.so.1.0", platform.replace('/', "-"));
        let script = format!("mkdir -p \"$(dirname {from})\"\n{script} -o {from}\n");
        succeed(&mut env(project, platform, &["sh", "-euc", &script]));
        table.push_str(&format!(
            "{platform:?} = [\n    {{ from = {from:?}, to = \"lib/libpre.so.1.0\", sha256 = {:?} }},\n    \
             {{ from = \"pre.h\", to = \"include/pre.h\", sha256 = {:?} }},\n]\n",
            hash(&from),
            hash("pre.h")
        ));
    }
    table
}

/// A program that is to be linked with such a library.
const USER: [(&str, &str); 2] = [
    (
        "images.toml",
        r#"
[project]
name = "user"
platforms = ["linux/amd64", "linux/arm64"]
version = "0.1.0"
[binary.user]
c = { sources = ["user/*.c"] }
[image.libraries]
from = { packages = ["base-files", "libc6", "libgcc-s1", "libstdc++6"] }
binaries = ["user"]
"#,
    ),
    (
        "user/main.c",
        "#include <stdio.h>\n#ifdef PRE\n#include <pre.h>\n#else\n#define pre_answer() 0\n#endif\n\
         int main(void)\n{\n\tprintf(\"answer %d\\n\", pre_answer());\n\treturn 0;\n}\n",
    ),
];

fn use_prebuilt(project: &Path, table: &str) {
    let from = "sources = [\"user/*.c\"] }";
    let to = "sources = [\"user/*.c\"], flags = [\"-DPRE\"], ldflags = [\"-lpre\"] }\nlibraries = [\"pre\"]";
    edit(project, "images.toml", from, to);
    add(project, &format!("[library.pre]\nheaders = [\"pre.h\"]\n[library.pre.prebuilt]\n{table}"));
}

/// What a build that is refused says, before anything is compiled.
fn refused(project: &Path) -> String {
    let output = xstitch(project).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("binary user"), "{said}");
    said
}

#[test]
fn system_prebuilt_libraries_are_used_as_they_are() {
    if !["skopeo", "umoci", "qemu-aarch64-static"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path(), "user", &USER);
    let table = prebuild(&project, "$CC -O2 -fPIC -shared -Wl,-soname,libpre.so.1 pre.c");
    use_prebuilt(&project, &table);
    build(&mut xstitch(&project), &project);
    for (index, (platform, triple, _)) in PLATFORMS.iter().enumerate() {
        let image = &images(&project)["libraries"][*platform];
        assert_eq!(titles(image), ["packages", "library pre", "binary user"]);
        let name = format!("usr/lib/{triple}/libpre.so.1.0");
        let from = project.join(platform.replace('/', "-")).join("libpre.so.1.0");
        let file = extract(&project, image, "library pre", &name);
        assert_eq!(fs::read(file).unwrap(), fs::read(from).unwrap());
        assert_eq!(run(&project, "libraries", index, "user"), "answer 7\n");
    }

    let good = fs::read_to_string(project.join("images.toml")).unwrap();
    fs::write(project.join("linux-arm64/libpre.so.1.0"), "other").unwrap();
    let said = refused(&project);
    for words in [
        "library pre: `linux-arm64/libpre.so.1.0` has the hash ",
        &sha256(b"other").replace("sha256:", ""),
        "[wrong-hash]",
        "if the new file is right, write its hash",
    ] {
        assert!(said.contains(words), "expected `{words}` in:\n{said}");
    }
    let at = good.find("\"linux/arm64\" = [").unwrap();
    fs::write(project.join("images.toml"), &good[..at]).unwrap();
    let said = refused(&project);
    let words = "[library.pre] has no `prebuilt` for linux/arm64 [missing-platform]";
    assert!(said.contains(words), "{said}");
}

/// A library that needs a symbol of a glibc that is not there yet: it is linked with
/// something that says it was that one.
const FROM_THE_FUTURE: &str = "echo 'GLIBC_2.99 { global: future; };' > map\n\
     echo 'int future(void) { return 1; }' | $CC -x c -fPIC -shared -nostdlib \
     -Wl,-soname,libc.so.6 -Wl,--version-script=map - -o libc.so.6\n\
     echo 'int future(void); int pre_now(void) { return future(); }' > now.c\n\
     $CC -fPIC -shared -nostdlib -Wl,-soname,libpre.so.1 pre.c now.c ./libc.so.6";

#[test]
fn integration_a_library_for_a_newer_glibc_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path(), "user", &USER);
    let table = prebuild(&project, FROM_THE_FUTURE);
    use_prebuilt(&project, &table);
    let said = refused(&project);
    for (platform, ..) in PLATFORMS {
        let file = format!("{}/libpre.so.1.0", platform.replace('/', "-"));
        let words = format!(
            "library pre: `{file}` needs glibc 2.99, [image.libraries] on {platform} has glibc 2."
        );
        assert!(said.contains(&words), "expected `{words}` in:\n{said}");
    }
    assert_eq!(said.matches("[glibc-floor]").count(), 2, "{said}");
    assert!(said.contains("build the library against an older glibc"), "{said}");
}

/// Programs of three build systems.
const PROGRAMS: [(&str, &str); 8] = [
    (
        "images.toml",
        r#"
[project]
name = "programs"
platforms = ["linux/amd64", "linux/arm64"]
version = "0.1.0"
[binary.made]
make = { path = "made", program = "made-program" }
[binary.mesoned]
meson = { path = "mesoned" }
[binary.configured]
autotools = { path = "configured" }
[image.libraries]
from = { packages = ["base-files", "libc6", "libgcc-s1", "libstdc++6"] }
binaries = ["made", "mesoned", "configured"]
"#,
    ),
    (
        "made/Makefile",
        "made-program: main.c\n\t$(CC) $(CFLAGS) $< -o $@\n\ninstall: made-program\n\t\
         mkdir -p $(DESTDIR)$(PREFIX)/sbin\n\tcp $< $(DESTDIR)$(PREFIX)/sbin\n",
    ),
    ("made/main.c", "#include <stdio.h>\nint main(void) { return puts(\"made\") < 0; }\n"),
    (
        "mesoned/meson.build",
        "project('mesoned', 'cpp', default_options: ['cpp_std=c++17'])\n\
         executable('mesoned', 'main.cc', install: true)\n",
    ),
    (
        "mesoned/main.cc",
        "#include <iostream>\n#include <string_view>\nint main()\n{\n\t\
         std::cout << std::string_view{\"mesoned\"} << std::endl;\n}\n",
    ),
    ("configured/configure", CONFIGURE),
    ("configured/Makefile.in", MAKEFILE_IN),
    (
        "configured/main.c",
        "#include <stdio.h>\nint main(void) { return puts(\"configured\") < 0; }\n",
    ),
];

#[test]
fn system_programs_of_other_build_systems_run() {
    if !["skopeo", "umoci", "qemu-aarch64-static"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path(), "programs", &PROGRAMS);
    build(&mut xstitch(&project), &project);
    for (index, (platform, ..)) in PLATFORMS.iter().enumerate() {
        let image = &images(&project)["libraries"][*platform];
        let programs = ["made", "mesoned", "configured"];
        let wanted = programs.map(|name| format!("binary {name}"));
        assert_eq!(titles(image)[1..], wanted);
        for program in programs {
            assert_eq!(run(&project, "libraries", index, program), format!("{program}\n"));
        }
    }
}
