//! Bad input of native libraries: each problem is named with its unit, says what to do, and
//! where the whole log is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::fixture::{cache, text, xstitch};

const HEAD: &str = r#"
[project]
name = "bad"
platforms = ["linux/arm64"]

[binary.program]
c = { sources = ["program/*.c"] }
libraries = [LIBRARIES]

[image.bad]
from = { packages = ["base-files", "libc6"] }
binaries = ["program"]
"#;

/// What one project here pinned, for those after it: choosing packages takes longest.
static LOCK: Mutex<String> = Mutex::new(String::new());

/// A project with libraries, of whose source `x` each kind of build can be made.
struct Libraries {
    _folder: tempfile::TempDir,
    project: PathBuf,
}

impl Libraries {
    /// With these tables; the program is built with all of them.
    fn new(tables: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        let libraries = Self { _folder: folder, project };
        libraries.write("program/main.c", "int main(void) { return 0; }\n");
        libraries.write("x/x.c", "int x_answer(void)\n{\n\treturn 1;\n}\n");
        libraries.write("x/x.h", "int x_answer(void);\n");
        libraries.tables(tables);
        libraries
    }

    fn tables(&self, tables: &str) {
        let names: Vec<&str> = tables
            .lines()
            .filter_map(|line| line.strip_prefix("[library.")?.strip_suffix(']'))
            .collect();
        let names = format!("{names:?}");
        let head = HEAD.replace("[LIBRARIES]", &names);
        self.write("images.toml", format!("{}{tables}", head.trim_start()));
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.project.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = xstitch(&self.project);
        command.arg("--quiet").args(arguments);
        command
    }

    /// Runs to a failure and returns what was said, with the paths of this machine replaced.
    fn says(&self, arguments: &[&str], code: i32) -> String {
        let lock = self.project.join("images.lock");
        let mut pinned = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        if !lock.exists() && !pinned.is_empty() {
            fs::write(&lock, pinned.as_str()).unwrap();
        }
        let output = self.command(arguments).output().unwrap();
        if let Ok(text) = fs::read_to_string(&lock) {
            *pinned = text;
        }
        drop(pinned);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        String::from_utf8(output.stderr).unwrap()
    }

    fn builds(&self) {
        let output = self.command(&[]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// What was said on every machine.
fn same(said: &str, project: &Path) -> String {
    let said = said
        .replace(&project.display().to_string(), "PROJECT")
        .replace(&cache().display().to_string(), "CACHE");
    let mut parts = said.split("/projects/");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| format!("{all}/projects/ID{}", &part[16..]))
}

/// The failures, by their units: the schedule's order is another each time.
fn failures(said: &str) -> Vec<String> {
    let said = said.trim().trim_start_matches("error: ").trim_start_matches("library ");
    let mut failures: Vec<String> =
        said.split("\n\nlibrary ").map(|failure| format!("library {failure}")).collect();
    failures.sort_unstable();
    failures
}

/// The log that a failure names.
fn log(failure: &str) -> String {
    let path = failure.split("  log: ").nth(1).unwrap();
    fs::read_to_string(path.split(" (at its end").next().unwrap().trim()).unwrap()
}

/// The head of an ELF library for x86-64.
fn foreign_library() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    (bytes[16], bytes[18]) = (3, 62);
    bytes
}

#[test]
fn integration_library_outputs_are_checked() {
    let install = "mkdir -p $DESTDIR$XSTITCH_LIBDIR && cd $DESTDIR$XSTITCH_LIBDIR &&";
    let tables = format!(
        r#"
[library.no-library]
make = {{ path = "x" }}
[library.nothing]
command = {{ path = "x", run = "true", outputs = ["lib/libnothing.so", "share/nothing.txt"] }}
[library.no-header]
cc = {{ path = "x", sources = ["x.c"], install = ["x.h"] }}
headers = ["no-header.h", "x.h"]
[library.no-link]
command = {{ path = "x", run = "{install} echo > libno-link.so.1", outputs = ["lib/libno-link.so.1"] }}
libraries = ["no-link"]
[library.archive]
make = {{ path = "x", install = ["archive"] }}
[library.shared]
command = {{ path = "x", run = "{install} echo > libshared.so", outputs = ["lib/libshared.so"] }}
libraries = ["shared"]
link = "both"
[library.wrong-shared]
command = {{ path = "x", run = "gcc -shared -fPIC x.c -o y && {install} cp $OLDPWD/y libwrong-shared.so", outputs = ["lib/libwrong-shared.so"] }}
[library.wrong-archive]
command = {{ path = "x", run = "cc -c x.c && {install} ar rcs libwrong-archive.a $OLDPWD/x.o", outputs = ["lib/libwrong-archive.a"] }}
link = "static"
[library.other-crate]
cargo = {{ path = "crate" }}
[library.prebuilt-wrong]
prebuilt = {{ "linux/arm64" = [{{ from = "x/foreign.so", to = "lib/libprebuilt-wrong.so", sha256 = "FOREIGN" }}] }}
"#
    );
    let libraries = Libraries::new("");
    libraries.write("x/foreign.so", foreign_library());
    let foreign = Command::new("sha256sum").arg(libraries.project.join("x/foreign.so")).output();
    let foreign = String::from_utf8(foreign.unwrap().stdout).unwrap();
    libraries.tables(&tables.replace("FOREIGN", &foreign[..64]));
    libraries.write(
        "x/Makefile",
        "all:\ninstall:\n\tmkdir -p $(DESTDIR)/usr/local/lib\n\
         \t$(CC) -shared -fPIC x.c -o $(DESTDIR)/usr/local/lib/libother.so.1\narchive:\n\t$(CC) -c x.c\n\tmkdir -p $(DESTDIR)/usr/lib\n\t$(AR) rcs $(DESTDIR)/usr/lib/libarchive.a x.o\n",
    );
    libraries.write(
        "crate/Cargo.toml",
        "[package]\nname = \"other\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
    );
    libraries.write(
        "crate/Cargo.lock",
        "version = 3\n\n[[package]]\nname = \"other\"\nversion = \"0.1.0\"\n",
    );
    libraries.write("crate/src/lib.rs", "");
    let said = libraries.says(&["--keep-going"], 1);
    insta::assert_snapshot!("outputs", same(&failures(&said).join("\n\n"), &libraries.project));
    // What can be seen before anything is built.
    let prebuilt = |name: &str, file: &str| {
        format!(
            "[library.{name}]\nprebuilt = {{ \"linux/arm64\" = [{{ from = \"x/{file}\", to = \
             \"include/x.h\", sha256 = \"{}\" }}] }}\n",
            &foreign[..64]
        )
    };
    libraries.tables(&format!("\n{}{}", prebuilt("changed", "x.h"), prebuilt("gone", "y.h")));
    insta::assert_snapshot!("prebuilt", libraries.says(&[], 2));
}

#[test]
fn integration_library_builds_that_fail_say_why() {
    let libraries = Libraries::new(
        r#"
[library.no-program]
command = { path = "x", run = "nasm -v", outputs = ["lib/libx.so"] }
[library.outside]
command = { path = "x", run = "touch /usr/include/x.h", outputs = ["lib/libx.so"] }
[library.own-source]
command = { path = "x", run = "echo > @{src}/x/x.c", outputs = ["lib/libx.so"] }
[library.network]
command = { path = "x", run = "bash -c 'echo > /dev/tcp/192.0.2.1/80'", outputs = ["lib/libx.so"] }
[library.long]
command = { path = "x", run = "seq 100; echo wrong >&2; seq 100; exit 3", outputs = ["lib/libx.so"] }
[library.autotools]
autotools = { path = "autotools" }
[library.cmake]
cmake = { path = "cmake" }
[library.meson]
meson = { path = "meson" }
"#,
    );
    libraries.write(
        "autotools/configure",
        "echo 'checking for zlib... no'\necho 'conftest.c: no zlib.h' > config.log\n\
         echo 'configure: error: zlib is required' >&2\nexit 1\n",
    );
    libraries.write(
        "cmake/CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.16)\nproject(x C)\ninclude(CheckIncludeFile)\n\
         check_include_file(zlib.h HAVE_ZLIB)\nmessage(FATAL_ERROR \"zlib is required\")\n",
    );
    libraries.write("meson/meson.build", "project('x', 'c')\ndependency('zlib')\n");
    let said = libraries.says(&["--keep-going"], 1);
    let mut failures = failures(&said);
    // What these print is the affair of their versions; their own logs are in ours.
    for (name, message, record, content) in [
        ("meson", "Dependency \"zlib\" not found", "work/meson-logs/meson-log.txt", "zlib"),
        ("cmake", "at CMakeLists.txt:5", "work/on/CMakeFiles/CMake", "zlib.h"),
        ("autotools", "zlib is required", "work/config.log", "conftest.c: no zlib.h"),
    ] {
        let unit = format!("library {name} ");
        let at = failures.iter().position(|failure| failure.starts_with(&unit)).unwrap();
        let failure = failures.remove(at);
        assert!(failure.contains(message), "{failure}");
        let log = log(&failure);
        let (printed, kept) = log.split_once("\n--- ").unwrap();
        assert!(printed.contains(message), "{log}");
        assert!(kept.starts_with(record) && kept.contains(content), "{log}");
    }
    let long = failures.iter().find(|failure| failure.starts_with("library long ")).unwrap();
    let numbers: String = (1..=100).map(|number| format!("{number}\n")).collect();
    assert_eq!(log(long), format!("{numbers}wrong\n{numbers}"));
    insta::assert_snapshot!("builds", same(&failures.join("\n\n"), &libraries.project));
}

#[test]
fn integration_libraries_without_namespaces() {
    let libraries = Libraries::new(
        r#"
[library.outside]
command = { path = "x", run = "touch /usr/include/x.h", outputs = ["lib/libx.so"] }
[library.own-source]
command = { path = "x", run = "echo > @{src}/x/x.c", outputs = ["lib/libx.so"] }
[library.network]
command = { path = "x", run = "bash -c 'echo > /dev/tcp/192.0.2.1/80'", outputs = ["lib/libx.so"] }
"#,
    );
    let said = libraries.says(&["--keep-going", "--sandbox", "landlock"], 1);
    insta::assert_snapshot!("landlock", same(&failures(&said).join("\n\n"), &libraries.project));
    assert!(!Path::new("/usr/include/x.h").exists());
    // Without any sandbox, there is no network either.
    libraries.tables("\n[library.network]\ncommand = { path = \"x\", run = \"bash -c 'echo > /dev/tcp/192.0.2.1/80'\", outputs = [\"lib/libx.so\"] }\n");
    let said = libraries.says(&["--sandbox", "none"], 1);
    assert!(said.contains("Network is unreachable\n  help: builds have no network"), "{said}");
    // make cannot have a space in a path.
    let output = libraries
        .command(&["--sandbox", "none"])
        .env("XSTITCH_CACHE", libraries.project.join("a cache"))
        .output()
        .unwrap();
    insta::assert_snapshot!("cache", same(&text(&output), &libraries.project));
}

#[test]
fn integration_a_tool_of_a_package() {
    let table = "\n[library.x]\ncommand = { path = \"x\", run = \"nasm -v\\n$CC -shared x.c -o libx.so\\n\
                 mkdir -p $DESTDIR$XSTITCH_LIBDIR\\ncp libx.so $DESTDIR$XSTITCH_LIBDIR\", \
                 outputs = [\"lib/libx.so\"] }\n";
    let libraries = Libraries::new(table);
    let said = libraries.says(&[], 1);
    assert!(said.contains("help: there is no `nasm` in this build: add the package"), "{said}");
    libraries.tables(&format!("{table}tools = [\"no-such-tool\"]\n"));
    insta::assert_snapshot!("tool", libraries.says(&[], 2));
    libraries.tables(&format!("{table}tools = [\"nasm\"]\n"));
    libraries.builds();
}

#[test]
fn integration_patches_apply_in_their_order() {
    let table = |patches: &str| {
        format!(
            "\n[library.x]\ncc = {{ path = \"x\", sources = [\"*.c\"] }}\npatches = [{patches}]\n"
        )
    };
    let patch = |from: &str, to: &str| {
        format!(
            "--- a/x.c\n+++ b/x.c\n@@ -1,4 +1,4 @@\n int x_answer(void)\n {{\n-\treturn {from};\n\
             +\treturn {to};\n }}\n"
        )
    };
    // Only both in their order leave what compiles.
    let libraries = Libraries::new(&table("\"one.patch\", \"two.patch\""));
    libraries.write("x/x.c", "int x_answer(void)\n{\n\treturn one;\n}\n");
    libraries.write("one.patch", patch("one", "two"));
    libraries.write("two.patch", patch("two", "3"));
    libraries.says(&["nobody"], 2);
    libraries.builds();
    libraries.tables(&table("\"two.patch\", \"one.patch\""));
    let said = libraries.says(&[], 1);
    insta::assert_snapshot!("patch", same(&said, &libraries.project));
    libraries.tables(&table("\"one.patch\", \"three.patch\", \"four.patch\""));
    insta::assert_snapshot!("patch_missing", libraries.says(&[], 2));
    libraries.tables(&table("\"x/x.h\""));
    let said = libraries.says(&[], 1);
    insta::assert_snapshot!("no_patch", same(&said, &libraries.project));
}

#[test]
fn integration_libraries_that_are_two() {
    let cc = |name: &str, folder: &str, soname: &str| {
        format!(
            "[library.{name}]\ncc = {{ path = \"{folder}\", sources = [\"*.c\"], install = [\"x.h\"], \
             soname = \"{soname}\" }}\n"
        )
    };
    let libraries = Libraries::new("");
    libraries.write("y/x.c", "int y_answer(void)\n{\n\treturn 2;\n}\n");
    libraries.write("y/x.h", "int x_answer(void);\n");
    let check = |tables: &str| {
        libraries.tables(tables);
        libraries.says(&[], 1)
    };
    // One file with two contents in one sysroot.
    let one = cc("one", "x", "libone.so.1");
    libraries.write("y/x.h", "int y_answer(void);\n");
    let two = cc("two", "y", "libtwo.so.1");
    insta::assert_snapshot!("one_header", check(&format!("\n{one}{two}")));
    let zlib = "[library.zlib]\npackages = [\"zlib1g-dev\"]\n";
    libraries.write("y/zlib.h", "int y_answer(void);\n");
    let own = cc("own", "y", "libown.so.1").replace("x.h", "zlib.h");
    insta::assert_snapshot!("one_header_of_a_package", check(&format!("\n{zlib}{own}")));
    // One name for two libraries in one image.
    let same_name = |name: &str| {
        format!(
            "[library.{name}]\ncommand = {{ path = \"x\", run = \"mkdir -p $DESTDIR$XSTITCH_LIBDIR\\n\
             $CC -shared x.c -Wl,-soname,libsame.so.1 -o $DESTDIR$XSTITCH_LIBDIR/lib{name}.so\", \
             outputs = [\"lib/lib{name}.so\"] }}\n"
        )
    };
    let said = check(&format!("\n{}{}", same_name("one"), same_name("two")));
    insta::assert_snapshot!("one_name", said);
    // Built for one program, and from packages for another one of the image.
    libraries.tables(&format!("\n{}{zlib}", cc("z", "x", "libz.so.1").replace("\"x.h\"", "")));
    let file = libraries.project.join("images.toml");
    let other = "[binary.other]\nc = { sources = [\"program/*.c\"] }\nlibraries = [\"zlib\"]\n";
    let text = fs::read_to_string(&file).unwrap().replace("[\"z\", \"zlib\"]", "[\"z\"]");
    let text = text.replace("[\"program\"]", "[\"program\", \"other\"]");
    fs::write(&file, format!("{text}{other}")).unwrap();
    let said = libraries.says(&[], 1);
    let version = said.split("libz.so.1.").nth(1).unwrap().split(' ').next().unwrap();
    insta::assert_snapshot!("one_name_of_a_package", said.replace(version, "VERSION"));
}
