//! The cache: killed at any instant, shared by two builds, damaged, carried elsewhere, emptied.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rand::{Rng as _, SeedableRng as _};
use xstitch::model::Digest;
use xstitch::store::{Store, describe};

use crate::first::First;
use crate::fixture::{build, is_root, succeed, text, xstitch};

/// A project of two programs of C and some files, and a cache that holds its packages only.
struct Small {
    first: First,
    project: PathBuf,
    cache: PathBuf,
}

impl Small {
    fn new() -> Self {
        let first = First::build("tests/projects/small");
        let cache = first.cache("own-cache");
        let project = Self::copy(&first, "own");
        Self { first, project, cache }
    }

    /// The project in another folder.
    fn copy(first: &First, name: &str) -> PathBuf {
        let project = first.copy(&first.folder.path().join(name));
        fs::create_dir(project.join("etc")).unwrap();
        for name in 0..20 {
            fs::write(project.join(format!("etc/{name}")), format!("{name}\n").repeat(5000))
                .unwrap();
        }
        let file = project.join("images.toml");
        let text = fs::read_to_string(&file).unwrap();
        let files = "files = [{ from = \"etc\", to = \"/etc/small\" }]\n\
                     [binary.second]\nc = { sources = [\"src/*.c\"], flags = [\"-DSECOND\"] }\n\
                     [image.second]\nfrom = \"scratch\"\nbinaries = [\"second\"]\n";
        fs::write(file, format!("{text}{files}")).unwrap();
        project
    }

    fn xstitch(&self, project: &Path) -> Command {
        let mut command = self.first.xstitch(project, &self.cache);
        command.arg("--offline");
        command
    }

    fn build(&self) -> String {
        build(&mut self.xstitch(&self.project), &self.project)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.cache.join("v1").join(name)
    }

    /// Records as they are written, of units that `wanted` accepts by kind and name.
    fn records(&self, wanted: impl Fn(&str, &str) -> bool) -> Vec<(PathBuf, serde_json::Value)> {
        let entries = fs::read_dir(self.place("records")).unwrap().flatten();
        let records = entries.filter_map(|entry| {
            let json = fs::read(entry.path()).ok()?;
            Some((entry.path(), serde_json::from_slice::<serde_json::Value>(&json).ok()?))
        });
        let about = |record: &serde_json::Value, name: &str| {
            record["about"][name].as_str().unwrap_or_default().to_owned()
        };
        records
            .filter(|(_, record)| wanted(&about(record, "kind"), &about(record, "unit")))
            .collect()
    }

    /// The tree of the only unit of that name.
    fn tree(&self, unit: &str) -> PathBuf {
        let records = self.records(|_, name| name == unit);
        assert_eq!(records.len(), 1, "{unit}");
        let output = records[0].1["output"].as_str().unwrap().replace("sha256:", "");
        self.place("trees").join(output)
    }

    fn forget(&self, wanted: impl Fn(&str, &str) -> bool) {
        for (path, _) in self.records(wanted) {
            fs::remove_file(path).unwrap();
        }
    }
}

fn report(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Overwrites the largest file below a folder, or a file, with as many other bytes.
fn damage(place: &Path) {
    let found =
        succeed(Command::new("find").arg(place).args(["-type", "f", "-printf", "%s %p\\n"]));
    let found = String::from_utf8(found.stdout).unwrap();
    let files = found.lines().map(|line| line.split_once(' ').unwrap());
    let (size, file) = files.max_by_key(|(size, _)| size.parse::<usize>().unwrap()).unwrap();
    let mode = fs::metadata(file).unwrap().permissions();
    // Another file of that name: what shares the old one stays whole.
    fs::remove_file(file).unwrap();
    fs::write(file, vec![0; size.parse().unwrap()]).unwrap();
    fs::set_permissions(file, mode).unwrap();
}

/// Kills builds at random instants. `XSTITCH_KILLS` says how many, if it is set.
#[test]
fn integration_killed_at_any_instant() {
    let kills: u32 = std::env::var("XSTITCH_KILLS").map_or(40, |text| text.parse().unwrap());
    let small = Small::new();
    let started = Instant::now();
    let index = small.build();
    let whole = started.elapsed();
    let reset = |everything: bool, state: bool| {
        small.forget(|kind, _| everything || kind != "packages");
        if state {
            let _ = fs::remove_dir_all(small.project.join("target"));
            let _ = fs::remove_dir_all(small.place("state/projects"));
        }
    };
    reset(false, true);
    let started = Instant::now();
    assert_eq!(small.build(), index);
    let short = started.elapsed();
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut unfinished = 0;
    for kill in 0..kills {
        // From nothing but the packages now and then, else with the compilers unpacked; with
        // and without what compilers kept and a layout.
        let everything = kill % 20 == 7;
        let time = if everything { whole } else { short };
        reset(everything, kill % 3 != 0);
        if everything {
            fs::remove_dir_all(small.place("trees")).unwrap();
        }
        let mut command = small.xstitch(&small.project);
        let mut child =
            command.process_group(0).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(time.mul_f64(random.gen_range(0.0..1.0)));
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        unfinished += u32::from(!child.wait().unwrap().success());
        assert_eq!(small.build(), index, "after kill {kill}");
    }
    eprintln!("{unfinished} of {kills} builds did not end; one takes {short:?}, or {whole:?}");
    assert!(unfinished * 3 > kills, "{unfinished} of {kills}");
    // Nothing that is named is anything else, and nothing is left over.
    for (path, record) in small.records(|_, _| true) {
        let output = record["output"].as_str().unwrap().replace("sha256:", "");
        let tree = describe(&small.place("trees").join(&output)).unwrap();
        assert_eq!(tree.digest().hex(), output, "{}", path.display());
    }
    assert_eq!(fs::read_dir(small.place("scratch")).unwrap().count(), 0);
    for folder in [small.project.clone(), small.project.join("target")] {
        let names = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
        let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn integration_two_builds_share_the_work() {
    let small = Small::new();
    let other = Small::copy(&small.first, "other");
    let start = |project: &Path| {
        let mut command = small.xstitch(project);
        command.args(["--format", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let children = [start(&small.project), start(&other), start(&small.project)];
    let outputs = children.map(|child| child.wait_with_output().unwrap());
    let reports: Vec<_> = outputs.iter().map(report).collect();
    let number = |report: &serde_json::Value, name: &str| report[name].as_u64().unwrap();
    let ran: u64 = reports.iter().map(|report| number(report, "units_run")).sum();
    let units = number(&reports[0], "units_run") + number(&reports[0], "units_cached");
    assert_eq!(ran, units, "each unit runs once");
    let said: String = outputs.iter().map(text).collect();
    assert!(said.contains(", which another build makes"), "{said}");
    assert!(said.contains("waiting for another build of this project"), "{said}");
    let digest = |report: &serde_json::Value| report["images"][0]["digest"].clone();
    assert_eq!(digest(&reports[0]), digest(&reports[1]));
    assert_eq!(fs::read_dir(small.place("locks")).unwrap().count(), 1, "claims are given back");
}

#[test]
fn integration_damaged_results_are_made_again() {
    let small = Small::new();
    let index = small.build();
    let check = |unit: &str, again: &str| {
        let output = small.xstitch(&small.project).output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let wanted = format!("warning: the result of {unit} in the cache is damaged: ");
        assert!(said.contains(&wanted), "{said}");
        assert!(said.contains(again), "{said}");
        let layout = small.project.join("target/images/index.json");
        assert_eq!(fs::read_to_string(layout).unwrap(), index);
    };
    // Found where all of it is read: packed into a layer, put into a layout.
    let binary = "binary hello linux/arm64";
    damage(&small.tree(binary));
    small.forget(|kind, _| kind == "layer");
    check(binary, &format!("  {binary} ("));
    let layer = small.records(|kind, unit| kind == "layer" && unit.contains("second"));
    let layer = layer[0].1["about"]["unit"].as_str().unwrap().to_owned();
    damage(&small.tree(&layer));
    fs::remove_dir_all(small.project.join("target")).unwrap();
    check(&layer, &format!("  {layer} ("));
    // Kept before the machine was started last: compilers are looked at before they run.
    let compiler = "toolchain llvm";
    for (path, record) in small.records(|_, _| true) {
        let mut record = record;
        record["boot"] = "another".into();
        fs::write(path, record.to_string()).unwrap();
    }
    damage(&small.tree(compiler));
    assert_eq!(small.build(), index, "nothing needs it");
    small.forget(|_, unit| unit == binary);
    check(compiler, &format!("  {binary} ("));
    // A damaged package is as good as none.
    small.forget(|kind, _| kind == "packages");
    let lock = fs::read_to_string(small.project.join("images.lock")).unwrap();
    let package = lock
        .split([' ', '"', '\n'])
        .find(|word| word.len() == 64 && small.place("blobs").join(word).is_file());
    damage(&small.place("blobs").join(package.unwrap()));
    let output = small.xstitch(&small.project).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{} is damaged: it is not", package.unwrap())), "{said}");
    assert!(said.contains("`--offline`"), "{said}");
}

#[test]
fn integration_a_cache_travels_and_is_emptied() {
    let small = Small::new();
    let index = small.build();
    let folder = small.first.folder.path().join("exported");
    let export = || {
        let mut command = small.xstitch(&small.project);
        command.args(["cache", "export", "--format", "json"]).arg(&folder);
        report(&command.output().unwrap())
    };
    let exported = export();
    assert_eq!((&exported["missing"], &exported["unclean"]), (&0.into(), &0.into()));
    assert_eq!(export()["files_new"], 0);
    // To another folder, an empty cache and, where that is possible, another user.
    let there = Small::copy(&small.first, "there");
    let place = small.first.folder.path().join("else where");
    fs::create_dir(&place).unwrap();
    let program = small.first.folder.path().join("xstitch");
    fs::copy(env!("CARGO_BIN_EXE_xstitch"), &program).unwrap();
    let mut start = vec!["env"];
    if is_root() {
        start = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env"];
        let open = "chmod 755 \"$1\" && chown -R 65534:65534 \"$2\" \"$3\"";
        let mut command = Command::new("sh");
        command.args(["-c", open, "sh"]).arg(small.first.folder.path()).arg(&there).arg(&place);
        succeed(&mut command);
    } else {
        eprintln!("SKIPPED: only root can build as another user");
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new(start[0]);
        command.args(&start[1..]).arg(format!("XSTITCH_CACHE={}", place.display()));
        command.arg(format!("HOME={}", place.display())).arg(&program);
        command.arg("--project").arg(&there).args(["--format", "json"]).args(arguments);
        command.output().unwrap()
    };
    let imported = report(&run(&["cache", "import", folder.to_str().unwrap()]));
    assert_eq!(imported["results_new"], exported["results"]);
    let built = report(&run(&["--offline", "--locked"]));
    assert_eq!(built["units_run"], 0);
    assert_eq!(fs::read_to_string(there.join("target/images/index.json")).unwrap(), index);
    // What it holds, and what goes.
    let info = report(&run(&["cache", "info"]));
    assert_eq!(info["hits"], built["units_cached"]);
    assert_eq!(info["projects"][0]["folder"], there.to_str().unwrap());
    assert!(info["kinds"].as_array().unwrap().iter().any(|kind| kind["kind"] == "layer"));
    let nothing = report(&run(&["cache", "gc", "--unused", "1d"]));
    assert_eq!((&nothing["results"], &nothing["removed_bytes"]), (&0.into(), &0.into()));
    let would = report(&run(&["cache", "gc", "--keep", "0B", "--dry-run"]));
    assert_eq!(would["results"], exported["results"]);
    let removed = report(&run(&["cache", "gc", "--keep", "0B"]));
    assert_eq!(removed["removed_bytes"], would["removed_bytes"]);
    assert_eq!(fs::read_dir(place.join("v1/trees")).unwrap().count(), 0);
    // And back again.
    report(&run(&["cache", "import", folder.to_str().unwrap()]));
    assert_eq!(report(&run(&["--offline", "--locked"]))["units_run"], 0);
}

#[test]
fn integration_gc_waits_for_builds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let hold = store.hold(&mut || false).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = xstitch(folder.path());
        command.arg("cache").args(arguments).env("XSTITCH_CACHE", folder.path());
        command
    };
    let mut gc = command(&["gc"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(gc.stderr.take().unwrap());
    lines.read_line(&mut said).unwrap();
    succeed(&mut command(&["gc", "--dry-run"]));
    assert_eq!(gc.try_wait().unwrap(), None, "it waits");
    drop(hold);
    let output = gc.wait_with_output().unwrap();
    assert!(output.status.success());
    insta::assert_snapshot!("gc_waits", said + &text(&output));
}

#[test]
fn integration_wrong_words_about_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let says = |arguments: &[&str]| {
        let mut command = xstitch(folder.path());
        command.arg("cache").args(arguments).env("XSTITCH_CACHE", folder.path().join("cache"));
        let output = command.current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output).replace(&folder.path().display().to_string(), "FOLDER")
    };
    insta::assert_snapshot!("unknown_unit", says(&["gc", "--keep", "20XB", "--unused", "two"]));
    fs::create_dir(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("photos/one.jpg"), "").unwrap();
    insta::assert_snapshot!("import_foreign", says(&["import", "photos"]));
    insta::assert_snapshot!("import_nothing", says(&["import", "nowhere"]));
    insta::assert_snapshot!("export_no_project", says(&["export", "photos"]));
    // An export that was killed, and one that lost a file.
    let marker = |complete: bool| {
        let text = format!(
            "{{\"format\":\"xstitch-cache\",\"version\":1,\"complete\":{complete},\"blobs\":[\"{}\"]}}",
            Digest::of(b"x")
        );
        fs::write(folder.path().join("photos/xstitch-cache.json"), text).unwrap();
    };
    marker(false);
    insta::assert_snapshot!("import_unfinished", says(&["import", "photos"]));
    marker(true);
    insta::assert_snapshot!("import_damaged", says(&["import", "photos"]));
    let path = succeed(xstitch(folder.path()).args(["cache", "path"]).env("XSTITCH_CACHE", "/x"));
    assert_eq!(text(&path), "/x\n");
}
