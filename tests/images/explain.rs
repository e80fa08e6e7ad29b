//! Why units run: a tour of edits, each of which has a reason that `plan` says before the
//! build does just that; and what a change since a revision touches.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::fixture::{build, cache, copy, succeed, text, xstitch};

const PROJECT: &str = "tests/projects/tour";

struct Tour {
    _folder: tempfile::TempDir,
    project: PathBuf,
    /// What the texts of the tour were.
    said: String,
}

impl Tour {
    /// A copy whose results nothing else has, but for those of packages.
    fn new(own: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = copy(PROJECT, folder.path());
        let tour = Self { _folder: folder, project, said: String::new() };
        tour.edit("greet/greet.h", "hello", &format!("hello {own}"));
        tour.edit("ticker/words.txt", "tick", &format!("tick {own}"));
        tour.edit("counter/src/main.rs", "\"one\"", &format!("\"one {own}\""));
        tour.edit("conf/hello.toml", "hello", &format!("hello {own}"));
        tour
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.project.join(name)).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`");
        fs::write(self.project.join(name), text.replacen(from, to, 1)).unwrap();
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = succeed(xstitch(&self.project).args(arguments).args(["--format", "json"]));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Plans, checks that a build runs what that says, and returns the reasons.
    fn step(&mut self, title: &str) -> String {
        let plan = self.json(&["plan"]);
        let units = plan["units"].as_array().unwrap();
        let of_state = |state: &str| -> BTreeSet<String> {
            let units = units.iter().filter(|unit| unit["state"] == state);
            units.map(|unit| unit["unit"].as_str().unwrap().to_owned()).collect()
        };
        let (will, may) = (of_state("will-run"), of_state("may-run"));
        let mut told = String::new();
        for unit in units.iter().filter(|unit| unit["state"] != "cached") {
            let reasons: Vec<&str> = unit["reasons"]
                .as_array()
                .unwrap()
                .iter()
                .map(|reason| reason["text"].as_str().unwrap())
                .collect();
            assert!(!reasons.is_empty(), "{unit}");
            let (name, state) = (unit["unit"].as_str().unwrap(), unit["state"].as_str().unwrap());
            told.push_str(&format!("  {name}\n    {state}: {}\n", reasons.join("; ")));
        }
        let report = self.json(&["build"]);
        let mut ran = BTreeSet::new();
        for unit in report["ran"].as_array().unwrap() {
            assert!(!unit["reasons"].as_array().unwrap().is_empty(), "{title}: {unit}");
            ran.insert(unit["unit"].as_str().unwrap().to_owned());
        }
        assert!(will.is_subset(&ran), "{title}: {will:#?} should run, {ran:#?} did");
        let all = will.union(&may).cloned().collect();
        assert!(ran.is_subset(&all), "{title}: {ran:#?} ran, {told}");
        let again = self.json(&["build"]);
        assert_eq!(again["units_run"], 0, "{title}");
        let told = if told.is_empty() { "  everything is cached\n".to_owned() } else { told };
        self.said.push_str(&format!("{title}\n{told}"));
        told
    }
}

#[test]
fn integration_plan_explains_a_tour_of_twelve_edits() {
    // Results of packages are shared by all projects: they are there from now on.
    let warm = Tour::new("to all");
    warm.edit("images.toml", "\"base-files\", \"libc6\"", "\"base-files\", \"libc6\", \"tzdata\"");
    build(&mut xstitch(&warm.project), &warm.project);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let mut tour = Tour::new(&format!("to {now}"));
    let first = tour.json(&["plan"]);
    let is_first = |unit: &&Value| unit["reasons"][0]["why"] == "first-time";
    let named = |name: &str| first["units"].as_array().unwrap().iter().any(|u| u["unit"] == name);
    assert!(named("binary hello linux/arm64"), "{first}");
    let count = first["units"].as_array().unwrap().iter().filter(is_first).count();
    assert!(count > 5, "{first}");
    build(&mut xstitch(&tour.project), &tour.project);

    let main = fs::read_to_string(tour.project.join("hello/main.c")).unwrap();
    tour.edit("hello/main.c", "return 0", "return 1");
    tour.step("1. a source file");
    fs::write(tour.project.join("hello/main.c"), main).unwrap();
    assert_eq!(tour.step("2. the same, changed back"), "  everything is cached\n");
    fs::rename(tour.project.join("hello/extra.c"), tour.project.join("hello/more.c")).unwrap();
    tour.step("3. a source file that has another name");
    tour.edit("images.toml", "-Wall", "-Wextra");
    tour.step("4. a flag");
    tour.edit(
        "images.toml",
        "[library.greet]",
        "[target.aarch64-unknown-linux-gnu]\nenv = { set = { MOOD = \"good\" } }\n\n[library.greet]",
    );
    tour.step("5. a variable");
    tour.edit(
        "images.toml",
        "package = \"counter\"",
        "package = \"counter\", features = [\"loud\"]",
    );
    tour.step("6. a feature");
    tour.edit("greet/greet.h", "hello", "good day");
    tour.step("7. a header of a library");
    tour.edit("ticker/words.txt", "tick", "tock");
    tour.step("8. an embedded file");
    tour.edit(
        "images.toml",
        "binaries = [\"hello\"]",
        "binaries = [\"hello\"]\nlabels = { a = \"1\" }",
    );
    tour.step("9. a label");
    tour.edit("conf/hello.toml", "hello", "good day");
    tour.step("10. a file of an image");
    tour.edit("images.toml", "\"base-files\", \"libc6\"", "\"base-files\", \"libc6\", \"tzdata\"");
    tour.step("11. a package of an image");
    tour.edit("images.toml", "version = \"0.1.0\"", "version = \"0.2.0\"");
    tour.step("12. the version");
    insta::assert_snapshot!("tour", tour.said.replace(&now.to_string(), "NOW"));

    // A build says the same, in its text as well.
    tour.edit("hello/main.c", "return 0", "return 2");
    let output = succeed(xstitch(&tour.project).args(["plan"]));
    let tree = text(&output);
    let line = "binary hello linux/arm64  will run: source hello/main.c changed";
    assert!(tree.contains(line), "{tree}");
    let output = succeed(xstitch(&tour.project).arg("--verbose"));
    let line = "starting binary hello linux/arm64: source hello/main.c changed";
    assert!(text(&output).contains(line), "{}", text(&output));
    let tree = text(&succeed(xstitch(&tour.project).args(["plan", "--format", "tree"])));
    assert!(tree.contains("index hello  cached, as are the "), "{tree}");
    let dot = text(&succeed(xstitch(&tour.project).args(["plan", "--format", "dot"])));
    assert!(dot.contains("digraph plan {") && dot.contains("binary hello"), "{dot}");
    let mermaid = text(&succeed(xstitch(&tour.project).args(["plan", "--format", "mermaid"])));
    assert!(mermaid.contains("flowchart LR"), "{mermaid}");
    let refused = xstitch(&tour.project).args(["build", "--format", "dot"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));

    // Values that are passed on are nobody's business.
    tour.edit("images.toml", "env = { ", "env = { passthrough = [\"TOKEN\"], ");
    let with = |value: &str, arguments: &[&str]| {
        text(&succeed(xstitch(&tour.project).args(arguments).env("TOKEN", value)))
    };
    let said = with("s3cret-1", &["plan"]);
    assert!(said.contains("will run: variable TOKEN is new\n"), "{said}");
    with("s3cret-1", &["build"]);
    let said = with("s3cret-2", &["plan", "--verbose"]);
    assert!(said.contains("will run: variable TOKEN changed"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    with("s3cret-2", &["build"]);
    tour.edit("images.toml", "passthrough = [\"TOKEN\"], ", "");
    build(&mut xstitch(&tour.project), &tour.project);
    // A result that is gone is said to be gone.
    let plan = tour.json(&["plan"]);
    let units = plan["units"].as_array().unwrap();
    let unit = units.iter().find(|unit| unit["unit"] == "binary ticker linux/arm64").unwrap();
    let key = unit["key"].as_str().unwrap().replace("sha256:", "");
    fs::remove_file(cache().join("v1/records").join(key)).unwrap();
    let tree = text(&succeed(xstitch(&tour.project).args(["plan"])));
    let line = "binary ticker linux/arm64  will run: its result was removed from the cache";
    assert!(tree.contains(line), "{tree}");
}

fn git(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=x", "-c", "user.email=x@example.org"]);
    succeed(command.args(arguments));
}

#[test]
fn integration_plan_names_what_a_change_touches() {
    let tour = Tour::new("since");
    let project = &tour.project;
    let refused = |arguments: &[&str]| {
        let output = xstitch(project).arg("plan").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output)
    };
    let said = refused(&["--since", "HEAD"]);
    assert!(said.contains("`--since` asks git"), "{said}");
    git(project, &["init", "--quiet", "."]);
    fs::write(project.join(".gitignore"), "target/\nimages.lock\n").unwrap();
    git(project, &["add", "."]);
    git(project, &["commit", "--quiet", "--message", "first"]);
    let said = refused(&["--since", "nowhere"]);
    assert!(said.contains("git does not know the revision `nowhere`"), "{said}");
    let images = |arguments: &[&str]| -> Vec<String> {
        let output = succeed(xstitch(project).args(["plan", "--quiet"]).args(arguments));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(images(&["--since", "HEAD"]), none);
    let back = || git(project, &["checkout", "--quiet", "."]);
    // A source of a library that a program of one image is linked with.
    tour.edit("greet/greet.h", "hello", "good day");
    assert_eq!(images(&["--since", "HEAD"]), ["hello"]);
    let since = tour.json(&["plan", "--since", "HEAD"]);
    assert_eq!(since["files"], serde_json::json!(["greet/greet.h"]));
    assert_eq!(since["images"][0]["because"], serde_json::json!(["greet/greet.h"]));
    let units = since["units"].as_array().unwrap();
    let names: Vec<&str> = units.iter().map(|unit| unit["unit"].as_str().unwrap()).collect();
    assert!(names.contains(&"library greet linux/arm64"), "{names:?}");
    assert!(!names.contains(&"binary ticker linux/arm64"), "{names:?}");
    back();
    // Embedded, and not known to git.
    fs::write(project.join("ticker/other.go"), "package main\n").unwrap();
    assert_eq!(images(&["--since", "HEAD"]), ["tools"]);
    fs::remove_file(project.join("ticker/other.go")).unwrap();
    // Gone.
    fs::write(project.join("conf/more"), "x").unwrap();
    git(project, &["add", "."]);
    git(project, &["commit", "--quiet", "--message", "second"]);
    assert_eq!(images(&["--since", "HEAD"]), none);
    assert_eq!(images(&["--since", "HEAD~1"]), ["hello"]);
    fs::remove_file(project.join("conf/more")).unwrap();
    assert_eq!(images(&["--since", "HEAD"]), ["hello"]);
    back();
    // Nothing that an image is made of.
    fs::write(project.join("notes.md"), "x").unwrap();
    assert_eq!(images(&["--since", "HEAD"]), none);
    // Tables of the configuration.
    tour.edit(
        "images.toml",
        "package = \"counter\"",
        "package = \"counter\", features = [\"loud\"]",
    );
    assert_eq!(images(&["--since", "HEAD"]), ["tools"]);
    back();
    tour.edit(
        "images.toml",
        "binaries = [\"hello\"]",
        "binaries = [\"hello\"]\nlabels = { a = \"1\" }",
    );
    assert_eq!(images(&["--since", "HEAD"]), ["hello"]);
    back();
    tour.edit("images.toml", "version = \"0.1.0\"", "version = \"0.2.0\"");
    assert_eq!(images(&["--since", "HEAD"]), ["hello", "tools"]);
    back();
    let said = text(&succeed(xstitch(project).args(["plan", "--since", "HEAD~1"])));
    assert!(said.contains("image hello: conf/more"), "{said}");
    // A clone without its history.
    let clone = project.parent().unwrap().join("clone");
    let from = format!("file://{}", project.display());
    git(project, &["clone", "--quiet", "--depth=1", &from, &clone.display().to_string()]);
    let output = xstitch(&clone).args(["plan", "--since", "HEAD~1"]).output().unwrap();
    let said = text(&output);
    assert!(said.contains("this clone is shallow") && said.contains("--unshallow"), "{said}");
}
