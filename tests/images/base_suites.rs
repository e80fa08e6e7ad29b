//! What is compiled follows the suite of the base, and nothing else of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use xstitch::machine::environment::Environment;
use xstitch::source::archives::Archives;
use xstitch::store::Store;
use xstitch::toolchain::parts;

use crate::bases::{base, base_with, copy_to};
use crate::fixture::{build, cache, succeed, text, xstitch};
use crate::signed_archive::{add_to_pool, key, write_keyring, write_suite};

const CONFIGURATION: &str = r#"[project]
platforms = ["linux/arm64"]
version = "1"

[library.answer]
cc = { path = "answer", sources = ["*.c"], include = ["."], install = ["answer.h"] }
link = "static"

[binary.hello]
c = { sources = ["src/*.c"], ldflags = ["-lanswer"] }
libraries = ["answer"]

[image.hello]
from = { layout = "vendor" }
binaries = ["hello"]
"#;

/// A program and a library of the project's own on the base that is copied to `vendor`.
fn project(folder: &Path) -> PathBuf {
    let project = folder.join("project");
    for (name, content) in [
        ("images.toml", CONFIGURATION),
        ("answer/answer.h", "int answer(void);\n"),
        ("answer/answer.c", "#include \"answer.h\"\nint answer(void) { return 42; }\n"),
        ("src/main.c", "#include <answer.h>\nint main(void) { return answer() - 42; }\n"),
    ] {
        let path = project.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    project
}

fn stand_on(project: &Path, layout: &Path) {
    let _ = fs::remove_dir_all(project.join("vendor"));
    copy_to(layout, &project.join("vendor"));
}

/// Names of the compile units that a build would start now.
fn compiles(project: &Path) -> Vec<String> {
    let plan = succeed(xstitch(project).args(["plan", "--format", "json"]));
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let units = plan["units"].as_array().unwrap();
    let compiles: Vec<&Value> = units.iter().filter(|unit| unit["kind"] == "compile").collect();
    assert_eq!(compiles.len(), 2, "{plan}");
    let starts = compiles.iter().filter(|unit| unit["state"] != "cached");
    starts.map(|unit| unit["unit"].as_str().unwrap().to_owned()).collect()
}

/// A folder with a suite that has what a sysroot for arm64 is made of, of which one package
/// differs from the machine's own.
fn other_archive(folder: &Path, suite: &str) -> PathBuf {
    let store = Store::open(&cache()).unwrap();
    let environment = Environment::snapshot().unwrap();
    let none = BTreeMap::new();
    let apt = Archives::new(&environment, &store, folder, &none, None, false, Arc::default());
    let request = &parts::requests("sysroot", "arm64", &[])[0];
    let set = apt.resolve(request, &mut drop).unwrap();
    let debs = folder.join("debs");
    fs::create_dir(&debs).unwrap();
    let files = apt.fetch("arm64", &set.packages, &debs).unwrap();
    let archive = folder.join("archive");
    let mut stanzas = String::new();
    for (package, file) in set.packages.iter().zip(files) {
        let mut file = file;
        if package.name == "linux-libc-dev" {
            let unpacked = folder.join("unpacked");
            succeed(Command::new("dpkg-deb").arg("-R").arg(&file).arg(&unpacked));
            let control = unpacked.join("DEBIAN/control");
            let old = fs::read_to_string(&control).unwrap();
            let version = format!("Version: {}", package.version);
            fs::write(&control, old.replace(&version, &format!("{version}+other"))).unwrap();
            fs::write(unpacked.join("usr/include/other.h"), "#define OTHER 1\n").unwrap();
            file = folder.join("other.deb");
            succeed(Command::new("dpkg-deb").arg("-Zgzip").arg("-b").arg(&unpacked).arg(&file));
        }
        stanzas += &add_to_pool(&archive, &file);
    }
    let key = key();
    write_keyring(&key, &folder.join("archive.asc"));
    write_suite(&archive, suite, &[("arm64", stanzas)], &key, |text| text);
    archive
}

#[test]
fn integration_compilers_start_where_the_suite_of_the_base_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (base(folder.path(), "one"), base(folder.path(), "two"));
    let release = "PRETTY_NAME=\"Other\"\nID=debian\nVERSION_CODENAME=other\n";
    let files = [("os-release", "/usr/lib/os-release", release)];
    let other = base_with(folder.path(), "other", &files);
    let project = project(folder.path());
    stand_on(&project, &one);
    let first = build(&mut xstitch(&project), &project);

    // Another file in it.
    stand_on(&project, &two);
    assert_eq!(compiles(&project), [""; 0]);
    assert_ne!(build(&mut xstitch(&project), &project), first);

    // Another suite, of which nothing is known: the base is to blame, not what is compiled.
    stand_on(&project, &other);
    let output = xstitch(&project).arg("--quiet").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    let (start, end) = said.split_once("apt's sources have ").unwrap();
    let (_, end) = end.split_once('\n').unwrap();
    insta::assert_snapshot!("unknown_suite", format!("{start}apt's sources have …\n{end}"));
    // The lock still says what it said, so that the old base needs nothing.
    stand_on(&project, &two);
    assert_eq!(compiles(&project), [""; 0]);

    // Configured as the error says.
    let archive = other_archive(folder.path(), "other");
    let file = project.join("images.toml");
    let suite = format!(
        "\n[suite.other]\nmirror = {archive:?}\nkeyring = {:?}\n",
        folder.path().join("archive.asc")
    );
    fs::write(&file, format!("{CONFIGURATION}{suite}")).unwrap();
    assert_eq!(compiles(&project), [""; 0], "only what stands on it is of the other suite");
    stand_on(&project, &other);
    let expected = ["library answer linux/arm64 of other", "binary hello linux/arm64 of other"];
    assert_eq!(compiles(&project), expected);
    build(&mut xstitch(&project), &project);
    assert_eq!(compiles(&project), [""; 0]);

    // And back.
    stand_on(&project, &one);
    assert_eq!(compiles(&project), [""; 0]);
    fs::write(&file, CONFIGURATION).unwrap();
    assert_eq!(build(&mut xstitch(&project), &project), first);
}
