//! Native libraries of every kind: what they bring into images, what a change builds again,
//! their forms, and what is stripped of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::fixture::{build, copy, publish, registry, succeed, text, xstitch};
use crate::layout::{Image, Layout};
use crate::service::Root;
use crate::tools::has;

/// A second image with one of the libraries, and files of the project in the first.
const MORE: &str = r#"
[image.other]
from = { packages = ["base-files", "libc6", "libgcc-s1", "libstdc++6"] }
binaries = ["tool"]
"#;

/// What is pinned, asked for once for all tests.
static LOCK: LazyLock<String> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/libraries", folder.path());
    add(&project, MORE);
    succeed(xstitch(&project).args(["plan", "--quiet"]));
    fs::read_to_string(project.join("images.lock")).unwrap()
});

/// Platforms, triples of their folders and emulators.
pub const PLATFORMS: [(&str, &str, Option<&str>); 2] = [
    ("linux/amd64", "x86_64-linux-gnu", None),
    ("linux/arm64", "aarch64-linux-gnu", Some("qemu-aarch64-static")),
];

/// A copy of the project.
pub fn libraries(folder: &Path) -> PathBuf {
    let project = copy("tests/projects/libraries", folder);
    fs::write(project.join("images.lock"), &*LOCK).unwrap();
    project
}

/// A project of these files, for which packages are pinned as for the others.
pub fn project(folder: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let project = folder.join(name);
    for (path, content) in files {
        let path = project.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(project.join("images.lock"), &*LOCK).unwrap();
    project
}

/// Adds to the configuration.
pub fn add(project: &Path, tables: &str) {
    let file = project.join("images.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, text + tables).unwrap();
}

/// Replaces what is there once.
pub fn edit(project: &Path, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(project.join(name)).unwrap();
    assert_eq!(text.matches(from).count(), 1, "`{from}` in {name}");
    fs::write(project.join(name), text.replace(from, to)).unwrap();
}

/// What `env` shows and runs.
pub fn env(project: &Path, target: &str, command: &[&str]) -> Command {
    let mut env = xstitch(project);
    env.args(["env", "--quiet", target]);
    if !command.is_empty() {
        env.arg("--").args(command);
    }
    env.current_dir(project);
    env
}

/// The images of a layout by name without tag, and platform.
pub fn images(project: &Path) -> BTreeMap<String, BTreeMap<String, Image>> {
    let layout = Layout::open(&project.join("target/images"));
    let images = layout.images();
    let named = images.iter().map(|(name, index)| {
        let name = name.split(':').next().unwrap().to_owned();
        (name, layout.platforms(&layout.json(index)))
    });
    named.collect()
}

/// Layers by title, in their order.
pub fn titles(image: &Image) -> Vec<&str> {
    image.layers.iter().map(|layer| layer.title.strip_prefix("xstitch: ").unwrap()).collect()
}

/// The digest of a layer.
pub fn digest<'a>(image: &'a Image, title: &str) -> &'a str {
    let at = titles(image).iter().position(|found| *found == title);
    &image.layers[at.unwrap_or_else(|| panic!("no layer `{title}`"))].digest
}

/// A file of a layer, in a folder of its own.
pub fn extract(project: &Path, image: &Image, title: &str, file: &str) -> PathBuf {
    let hex = digest(image, title).replace("sha256:", "");
    let blob = project.join("target/images/blobs/sha256").join(&hex);
    let place = project.join("extracted").join(hex);
    fs::create_dir_all(&place).unwrap();
    succeed(Command::new("tar").arg("-xzf").arg(blob).arg("-C").arg(&place).arg(file));
    place.join(file)
}

/// What a program of an image prints on a platform of [`PLATFORMS`], straight from the layout.
pub fn run(project: &Path, image: &str, platform: usize, program: &str) -> String {
    let (platform, _, emulator) = PLATFORMS[platform];
    let layout = project.join("target/images");
    let names: Vec<String> = Layout::open(&layout).images().into_keys().collect();
    let name = names.iter().find(|name| name.split(':').next() == Some(image)).unwrap();
    let source = format!("oci:{}:{name}", layout.display());
    let place = tempfile::tempdir_in(project).unwrap();
    let root = Root::unpack(&source, platform, emulator, place.path());
    text(&succeed(&mut root.command(&format!("/usr/local/bin/{program}"))))
}

/// Paths below a folder.
pub fn paths(folder: &Path) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            let path = entry.path().strip_prefix(folder).unwrap().to_owned();
            paths.insert(path.to_string_lossy().into_owned());
        }
    }
    paths
}

fn link(path: &Path) -> String {
    fs::read_link(path).unwrap().to_string_lossy().into_owned()
}

#[test]
fn system_libraries_run_where_they_are_needed() {
    if !["skopeo", "docker-registry", "umoci", "qemu-aarch64-static"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = libraries(folder.path());
    edit(&project, "images.toml", "\nbinaries = [\"program\", \"tool\"]\n", FILES);
    add(&project, MORE);
    build(&mut xstitch(&project), &project);
    let images = images(&project);
    let (_registry, registry) = registry(folder.path());
    publish(&project.join("target/images"), "libraries:0.1.0", &registry);
    let source = format!("docker://{registry}/libraries:0.1.0");
    for (platform, triple, emulator) in PLATFORMS {
        let image = &images["libraries"][platform];
        check_layers(image, &images["other"][platform]);
        let root = Root::unpack(&source, platform, emulator, folder.path());
        check_files(&root.folder, triple);
        let zlib = zlib_version(&root.folder);
        let name = if triple.starts_with('a') { "cmaked-on-arm64" } else { "cmaked" };
        for (program, wanted) in
            [("program", format!("{name} 654224 zlib {zlib}\n")), ("tool", format!("{name} 200\n"))]
        {
            let output = succeed(&mut root.command(&format!("/usr/local/bin/{program}")));
            assert_eq!(text(&output), wanted, "{platform}");
        }
    }
}

const FILES: &str = r#"
binaries = ["program", "tool"]
files = [{ from = "scripted/notes.txt", to = "/notes.txt" }]
"#;

/// A layer for each library, before all else but the base, each after those that it needs;
/// the other image has the same ones.
fn check_layers(image: &Image, other: &Image) {
    let libraries = ["plain", "made", "cmaked", "crated", "ffi", "mesoned"];
    let mut wanted = vec!["packages".to_owned()];
    wanted.extend(libraries.iter().map(|name| format!("library {name}")));
    wanted.extend(["packages of zlib", "files", "binary program", "binary tool"].map(Into::into));
    assert_eq!(titles(image), wanted);
    assert_eq!(
        titles(other),
        ["packages", "library plain", "library made", "library cmaked", "binary tool"]
    );
    for title in titles(other) {
        assert_eq!(digest(image, title), digest(other, title), "{title}");
    }
}

/// What programs load is there by the names that they ask for, and nothing that only
/// compilers want.
fn check_files(root: &Path, triple: &str) {
    let folder = root.join("usr/lib").join(triple);
    for (name, to) in [
        ("libmade.so.3", "libmade.so.3.1"),
        ("libcmaked.so.2", "libcmaked.so.2.5.0"),
        ("libmesoned.so.1", "libmesoned.so.1.0.0"),
    ] {
        assert_eq!(link(&folder.join(name)), to);
        assert!(folder.join(to).is_file(), "{to}");
    }
    for name in ["libplain.so.1", "libcrated.so.0"] {
        assert!(fs::symlink_metadata(folder.join(name)).unwrap().is_file(), "{name}");
    }
    assert!(root.join("var/lib/dpkg/status.d/zlib1g").is_file());
    let links = ["plain", "made", "cmaked", "mesoned", "crated", "ffi", "z"];
    let links = links.map(|name| format!("lib{name}.so"));
    for path in paths(root) {
        let name = path.rsplit('/').next().unwrap();
        let is_development = [".a", ".h", ".pc", ".cmake"].iter().any(|end| name.ends_with(end))
            || links.iter().any(|link| link == name);
        assert!(!is_development && !name.starts_with("libscripted"), "{path} is in the image");
    }
}

/// What the package says of itself.
fn zlib_version(root: &Path) -> String {
    let status = fs::read_to_string(root.join("var/lib/dpkg/status.d/zlib1g")).unwrap();
    let version = status.lines().find_map(|line| line.strip_prefix("Version: ")).unwrap();
    let version = version.rsplit(':').next().unwrap().split('-').next().unwrap();
    version.split(".dfsg").next().unwrap().to_owned()
}

/// The units that ran, as the program told.
fn ran(project: &Path) -> BTreeSet<String> {
    let output = succeed(&mut xstitch(project));
    let said = String::from_utf8(output.stderr).unwrap();
    let time = |line: &str| line.ends_with(" s)");
    let units = said.lines().filter(|line| time(line)).map(|line| {
        let (unit, _) = line.trim().rsplit_once(" (").unwrap();
        unit.to_owned()
    });
    units.collect()
}

/// The units that `plan` says would run, or may.
pub fn would_run(command: &mut Command) -> BTreeSet<String> {
    let output = succeed(command.args(["plan", "--format", "json"]));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let units = plan["units"].as_array().unwrap().iter();
    let units = units.filter(|unit| unit["state"] != "cached");
    units.map(|unit| unit["unit"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn integration_a_change_builds_what_stands_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let project = libraries(folder.path());
    let first = build(&mut xstitch(&project), &project);
    assert_eq!(would_run(&mut xstitch(&project)), BTreeSet::new());
    // Not one of the inputs that the library declares.
    fs::write(project.join("scripted/notes.txt"), "changed\n").unwrap();
    assert_eq!(would_run(&mut xstitch(&project)), BTreeSet::new());

    let source = fs::read_to_string(project.join("made/made.c")).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    // New to the store in each run of this test: a comment first, then content.
    fs::write(project.join("made/made.c"), format!("{source}/* {now} */\n")).unwrap();
    let on = |units: &[&str]| -> BTreeSet<String> {
        let platforms = ["linux/amd64", "linux/arm64"];
        units
            .iter()
            .flat_map(|unit| platforms.map(|platform| unit.replace("PLATFORM", platform)))
            .collect()
    };
    let may = on(&[
        "library made PLATFORM",
        "layer library made PLATFORM",
        "sysroot PLATFORM with plain made",
        "library cmaked PLATFORM",
        "layer library cmaked PLATFORM",
        "sysroot PLATFORM with plain made cmaked",
        "sysroot PLATFORM with plain made cmaked crated ffi given mesoned scripted",
        "binary program PLATFORM",
        "layer binary program PLATFORM",
        "binary tool PLATFORM",
        "layer binary tool PLATFORM",
        "check libraries PLATFORM",
        "manifest libraries PLATFORM",
        "index libraries",
    ]);
    assert_eq!(would_run(&mut xstitch(&project)), may);
    // The library is the same, so nothing that stands on it is looked at.
    assert_eq!(ran(&project), on(&["library made PLATFORM"]));

    let more = format!("{source}const char *made_at(void) {{ return \"{now}\"; }}\n");
    fs::write(project.join("made/made.c"), more).unwrap();
    assert_eq!(would_run(&mut xstitch(&project)), may);
    // What links it is made again, and the same as before: those layers are there.
    let same = on(&[
        "layer library cmaked PLATFORM",
        "layer binary program PLATFORM",
        "layer binary tool PLATFORM",
    ]);
    assert_eq!(ran(&project), &may - &same);
    assert_ne!(fs::read_to_string(project.join("target/images/index.json")).unwrap(), first);
    fs::write(project.join("made/made.c"), source).unwrap();
    assert_eq!(would_run(&mut xstitch(&project)), BTreeSet::new());
    assert_eq!(build(&mut xstitch(&project), &project), first);
}

#[test]
fn integration_a_library_is_the_same_in_every_tier() {
    let folder = tempfile::tempdir().unwrap();
    let project = libraries(folder.path());
    let first = build(&mut xstitch(&project), &project);
    let tables = fs::read_to_string(project.join("images.toml")).unwrap();
    for tier in ["landlock", "none"] {
        // Nothing reads the variable, but the store has no result with it.
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let table = "[library.scripted]\n";
        let with = tables.replace(table, &format!("{table}env = {{ NOW = \"{now}\" }}\n"));
        fs::write(project.join("images.toml"), with).unwrap();
        let library = "library scripted linux/arm64".to_owned();
        assert!(would_run(&mut xstitch(&project)).contains(&library));
        assert_eq!(build(xstitch(&project).args(["--sandbox", tier]), &project), first, "{tier}");
    }
}

/// Gives every library one form.
fn set_link(project: &Path, form: &str) {
    let file = project.join("images.toml");
    let text = fs::read_to_string(&file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("link = ")).map(|line| {
        let is_library = line.starts_with("[library.") && line.matches('.').count() == 1;
        if is_library { format!("{line}\nlink = \"{form}\"\n") } else { format!("{line}\n") }
    });
    fs::write(file, lines.collect::<String>()).unwrap();
}

/// What a program says that it needs.
fn needed(project: &Path, program: &Path) -> BTreeSet<String> {
    let program = program.to_str().unwrap();
    let output = succeed(&mut env(project, "linux/arm64", &["readelf", "-d", program]));
    let said = String::from_utf8(output.stdout).unwrap();
    let lines = said.lines().filter(|line| line.contains("(NEEDED)"));
    lines.map(|line| line.split(['[', ']']).nth(1).unwrap().to_owned()).collect()
}

#[test]
fn system_libraries_are_linked_as_they_are_asked_for() {
    if !["skopeo", "umoci", "qemu-aarch64-static"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = libraries(folder.path());
    let shared =
        ["libmade.so.3", "libplain.so.1", "libmesoned.so.1", "libcrated.so.0", "libz.so.1"];
    let program = |forms: &str| {
        set_link(&project, forms);
        build(xstitch(&project).args(["--platform", "linux/arm64"]), &project);
        let image = images(&project).remove("libraries").unwrap().remove("linux/arm64").unwrap();
        let program = extract(&project, &image, "binary program", "usr/local/bin/program");
        (
            titles(&image).iter().map(ToString::to_string).collect::<Vec<_>>(),
            needed(&project, &program),
        )
    };
    let (titles, needs) = program("both");
    // A script that leaves an archive alone has nothing for an image.
    assert!(!titles.contains(&"library scripted".to_owned()), "{titles:?}");
    assert_eq!(titles.iter().filter(|title| title.starts_with("library ")).count(), 6);
    for name in shared {
        assert!(needs.contains(name), "{name} in {needs:?}");
    }
    let folders = "ls \"$PKG_CONFIG_SYSROOT_DIR$XSTITCH_LIBDIR\"";
    let output = succeed(&mut env(&project, "linux/arm64", &["sh", "-c", folders]));
    let there = String::from_utf8(output.stdout).unwrap();
    let there: BTreeSet<&str> = there.lines().collect();
    for name in ["made", "plain", "cmaked", "mesoned", "crated", "ffi"] {
        assert!(there.contains(&*format!("lib{name}.so")), "{name}");
        assert!(there.contains(&*format!("lib{name}.a")), "{name}");
    }

    // What an archive needs is the business of what links it.
    edit(&project, "images.toml", "\"-lz\"]", "\"-lz\", \"-lgcc_s\", \"-lstdc++\"]");
    let options = "options = [\"-DCMAKE_EXE_LINKER_FLAGS=-lmade -lplain\"]";
    edit(&project, "images.toml", "\"tool\" }", &format!("\"tool\", {options} }}"));
    let (titles, needs) = program("static");
    assert_eq!(titles, ["packages", "binary program", "binary tool"]);
    for name in shared.iter().chain(&["libcmaked.so.2"]) {
        assert!(!needs.contains(*name), "{name} in {needs:?}");
    }
    let said = run(&project, "libraries", 1, "program");
    assert!(said.starts_with("cmaked-on-arm64 654224 zlib "), "{said}");
    assert_eq!(run(&project, "libraries", 1, "tool"), "cmaked-on-arm64 200\n");
}

/// A library, and a program in each language.
const STRIPPED: [(&str, &str); 8] = [
    (
        "images.toml",
        r#"
[project]
name = "stripped"
platforms = ["linux/arm64"]
[library.answer]
cc = { path = "lib", sources = ["*.c"] }
[binary.c]
c = { sources = ["c/*.c"], ldflags = ["-lanswer"] }
libraries = ["answer"]
[binary.go]
go = { path = "go", package = "." }
[binary.rust]
rust = { package = "stripped", binary = "stripped", manifest = "rust" }
[image.stripped]
from = { packages = ["base-files", "libc6", "libgcc-s1", "libstdc++6"] }
binaries = ["c", "go", "rust"]
"#,
    ),
    ("lib/answer.c", "int answer(void) { return 42; }\n"),
    ("c/main.c", "int answer(void);\nint main(void) { return answer(); }\n"),
    ("go/go.mod", "module example.org/go\n\ngo 1.20\n"),
    ("go/main.go", "package main\n\nfunc main() { println(\"go\") }\n"),
    (
        "rust/Cargo.toml",
        "[package]\nname = \"stripped\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [profile.release]\ndebug = 1\n[workspace]\n",
    ),
    ("rust/Cargo.lock", "version = 3\n\n[[package]]\nname = \"stripped\"\nversion = \"0.1.0\"\n"),
    ("rust/src/main.rs", "fn main() { println!(\"rust\") }\n"),
];

#[test]
fn integration_symbols_are_removed_or_kept() {
    if !has("go") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path(), "stripped", &STRIPPED);
    let (all, debug, none) = ([false, false], [true, false], [true, true]);
    // A profile of cargo says itself what is kept, unless the binary does.
    for (strip, wanted, of_rust) in [
        ("", all, none),
        ("\nstrip = true", all, all),
        ("\nstrip = \"debug\"", debug, debug),
        ("\nstrip = false", none, none),
    ] {
        let lines = STRIPPED[0].1.lines().map(|line| {
            let recipe = line.split(" = ").next().unwrap();
            let strip = if ["cc", "c", "go", "rust"].contains(&recipe) { strip } else { "" };
            format!("{line}{strip}\n")
        });
        fs::write(project.join("images.toml"), lines.collect::<String>()).unwrap();
        build(&mut xstitch(&project), &project);
        let image = images(&project).remove("stripped").unwrap().remove("linux/arm64").unwrap();
        for (title, file, wanted) in [
            ("library answer", "usr/lib/aarch64-linux-gnu/libanswer.so", wanted),
            ("binary c", "usr/local/bin/c", wanted),
            ("binary go", "usr/local/bin/go", wanted),
            ("binary rust", "usr/local/bin/rust", of_rust),
        ] {
            let file = extract(&project, &image, title, file);
            let sections = ["readelf", "-S", "-W", file.to_str().unwrap()];
            let sections = text(&succeed(&mut env(&project, "linux/arm64", &sections)));
            let found = [".symtab", ".debug_info"].map(|name| sections.contains(name));
            assert_eq!(found, wanted, "{title} with `{strip}`:\n{sections}");
        }
    }
}
