//! Images on bases that others made: layouts, archives, registries, and what is wrong with some.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fixture::{build, copy, publish, registry, succeed, text, xstitch};
use crate::tools::{has, tool};

/// A project that makes the image `base:1`, built; its layout.
pub fn base(folder: &Path, note: &str) -> PathBuf {
    base_with(folder, note, &[])
}

/// The same with further files: their name, path and content.
pub fn base_with(folder: &Path, note: &str, more: &[(&str, &str, &str)]) -> PathBuf {
    let project = folder.join(format!("base-{note}"));
    fs::create_dir_all(&project).unwrap();
    let mut files = String::new();
    for (name, to, content) in [("note", "/etc/note", note)].iter().chain(more) {
        fs::write(project.join(name), content).unwrap();
        files += &format!("{{ from = {name:?}, to = {to:?} }}, ");
    }
    let config = format!(
        "[project]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nversion = \"1\"\n\
         [image.base]\nfrom = {{ packages = [\"base-files\", \"libc6\"] }}\n\
         files = [{files}]\nenv = {{ BASE = \"low\" }}\n\
         user = \"nonroot\"\ncmd = [\"--base\"]\nexpose = [80]\n"
    );
    fs::write(project.join("images.toml"), config).unwrap();
    build(&mut xstitch(&project), &project);
    project.join("target/images")
}

/// The project of one C program, on another base.
fn small(folder: &Path, from: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let project = copy("tests/projects/small", folder);
    stand(&project, from);
    project
}

fn stand(project: &Path, from: &str) {
    let file = project.join("images.toml");
    let config = fs::read_to_string(&file).unwrap();
    let line = config.lines().find(|line| line.starts_with("from = ")).unwrap();
    fs::write(&file, config.replace(line, &format!("from = {from}"))).unwrap();
}

/// A project with one file on a base, which needs no compiler.
fn plain(folder: &Path, from: &str) -> PathBuf {
    let project = folder.join("plain");
    fs::create_dir_all(&project).unwrap();
    fs::write(project.join("x"), "x").unwrap();
    let config = format!(
        "[project]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nversion = \"1\"\n\
         [image.x]\nfrom = {from}\nfiles = [{{ from = \"x\", to = \"/bin/x\" }}, {{ from = \"x\", to = \"/tmp/x\" }}]\n"
    );
    fs::write(project.join("images.toml"), config).unwrap();
    project
}

pub fn copy_to(from: &Path, to: &Path) {
    succeed(Command::new("cp").arg("-r").arg(from).arg(to));
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

pub fn blob(layout: &Path, digest: &Value) -> PathBuf {
    layout.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"))
}

/// Manifest and configuration of the first image of a layout for a platform.
pub fn image(layout: &Path, architecture: &str) -> (Value, Value) {
    let top = json(&layout.join("index.json"));
    let index = json(&blob(layout, &top["manifests"][0]["digest"]));
    let entries = index["manifests"].as_array().unwrap();
    let entry =
        entries.iter().find(|entry| entry["platform"]["architecture"] == architecture).unwrap();
    let manifest = json(&blob(layout, &entry["digest"]));
    let config = json(&blob(layout, &manifest["config"]["digest"]));
    (manifest, config)
}

pub fn digests(manifest: &Value) -> Vec<String> {
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

fn refused(project: &Path) -> String {
    let output = xstitch(project).output().unwrap();
    assert!(!output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn integration_a_service_on_a_layout_an_archive_and_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let layout = base(folder.path(), "one");
    let (low, low_config) = image(&layout, "arm64");
    let project = small(&folder.path().join("layout"), "{ layout = \"vendor\", ref = \"base:1\" }");
    copy_to(&layout, &project.join("vendor"));
    let first = build(&mut xstitch(&project), &project);
    let (manifest, config) = image(&project.join("target/images"), "arm64");
    let (below, all) = (digests(&low), digests(&manifest));
    assert_eq!(all[..below.len()], below);
    assert_eq!(all.len(), below.len() + 1);
    let run = &config["config"];
    assert!(run["Env"].as_array().unwrap().contains(&"BASE=low".into()), "{run}");
    assert_eq!(run["User"], "65532:65532");
    assert_eq!(run["Entrypoint"][0], "/usr/local/bin/hello");
    assert_eq!(run.get("Cmd"), None, "an entrypoint of its own ends the base's arguments");
    assert!(run["ExposedPorts"].get("80/tcp").is_some());
    assert_eq!(config["history"].as_array().unwrap().len(), all.len());
    assert_eq!(config["history"][0], low_config["history"][0]);
    assert_eq!(config["rootfs"]["diff_ids"][0], low_config["rootfs"]["diff_ids"][0]);
    let key = "org.opencontainers.image.base.name";
    assert_eq!(manifest["annotations"][key], "base:1");
    let lock = fs::read_to_string(project.join("images.lock")).unwrap();
    assert!(lock.contains("[base.\"layout vendor base:1\"]\ndigest = \"sha256:"), "{lock}");
    assert!(lock.contains("distribution = \"debian\"\nsuite = "), "{lock}");

    // The same as an archive, with the same name.
    let tar = Command::new("tar")
        .arg("-cf")
        .arg(project.join("base.tar"))
        .arg("-C")
        .arg(&layout)
        .arg(".")
        .status();
    assert!(tar.unwrap().success());
    stand(&project, "{ archive = \"base.tar\", ref = \"base:1\" }");
    assert_eq!(build(&mut xstitch(&project), &project), first);

    // A static program on nothing.
    let file = project.join("images.toml");
    let config = fs::read_to_string(&file).unwrap();
    let config = config.replace("[\"src/*.c\"] }", "[\"src/*.c\"], ldflags = [\"-static\"] }");
    fs::write(&file, config).unwrap();
    stand(&project, "\"scratch\"");
    build(&mut xstitch(&project), &project);
    let (manifest, _) = image(&project.join("target/images"), "arm64");
    assert_eq!(digests(&manifest).len(), 1);
}

#[test]
fn integration_a_base_that_moves_restacks_layers_only() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (base(folder.path(), "one"), base(folder.path(), "two"));
    let project = small(&folder.path().join("moved"), "{ layout = \"vendor\" }");
    copy_to(&one, &project.join("vendor"));
    let first = build(&mut xstitch(&project), &project);
    let (before, _) = image(&project.join("target/images"), "amd64");
    fs::remove_dir_all(project.join("vendor")).unwrap();
    copy_to(&two, &project.join("vendor"));
    let locked = xstitch(&project).arg("--locked").output().unwrap();
    assert!(text(&locked).contains("[not-locked]"), "{}", text(&locked));
    let plan = succeed(xstitch(&project).args(["plan", "--format", "json"]));
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let state = |name: &str| {
        let units = plan["units"].as_array().unwrap();
        let unit = units.iter().find(|unit| unit["unit"] == name);
        unit.unwrap_or_else(|| panic!("{name}: {plan}"))["state"].clone()
    };
    assert_eq!(state("binary hello linux/amd64"), "cached");
    assert_ne!(build(&mut xstitch(&project), &project), first);
    let (after, _) = image(&project.join("target/images"), "amd64");
    assert_eq!(digests(&before).last(), digests(&after).last());
    assert_ne!(digests(&before), digests(&after));
}

#[test]
fn integration_the_lock_gives_the_same_with_an_empty_cache() {
    let folder = tempfile::tempdir().unwrap();
    let layout = base(folder.path(), "one");
    let project = plain(folder.path(), "{ layout = \"vendor\" }");
    copy_to(&layout, &project.join("vendor"));
    let first = build(&mut xstitch(&project), &project);
    let other = folder.path().join("other");
    copy_to(&project, &other);
    fs::remove_dir_all(other.join("target")).unwrap();
    let mut command = xstitch(&other);
    command.args(["--locked", "--offline"]).env("XSTITCH_CACHE", folder.path().join("cache"));
    assert_eq!(build(&mut command, &other), first);
    // The base's links and folders are kept: `/bin` is a link, `/tmp` is everybody's.
    let (manifest, _) = image(&project.join("target/images"), "amd64");
    let layer = blob(
        &project.join("target/images"),
        &manifest["layers"].as_array().unwrap().last().unwrap()["digest"],
    );
    let list = succeed(Command::new("tar").arg("-tvzf").arg(layer));
    let list = text(&list);
    assert!(list.contains(" usr/bin/x\n") && !list.contains(" bin/"), "{list}");
    assert!(list.contains("drwxrwxrwt 0/0"), "{list}");
}

#[test]
fn integration_damaged_bases_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let layout = base(folder.path(), "one");
    let project = plain(folder.path(), "{ layout = \"vendor\" }");
    let cache = folder.path().join("cache");
    let check = |change: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(project.join("vendor"));
        copy_to(&layout, &project.join("vendor"));
        change(&project.join("vendor"));
        let _ = fs::remove_dir_all(&cache);
        let output = xstitch(&project).env("XSTITCH_CACHE", &cache).output().unwrap();
        assert!(!output.status.success(), "{}", text(&output));
        assert!(!project.join("target").exists() && !project.join("images.lock").exists());
        assert_eq!(fs::read_dir(cache.join("v1/scratch")).unwrap().count(), 0);
        text(&output)
    };
    let (manifest, _) = image(&layout, "amd64");
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let edit = |change: &dyn Fn(&mut Vec<u8>)| {
        let layer = layer.clone();
        check(&move |vendor: &Path| {
            let file = blob(vendor, &layer.clone().into());
            let mut bytes = fs::read(&file).unwrap();
            change(&mut bytes);
            fs::remove_file(&file).unwrap();
            fs::write(&file, bytes).unwrap();
        })
    };
    for damage in [
        edit(&|bytes| bytes[5000] ^= 1),
        edit(&|bytes| bytes.truncate(5000)),
        edit(&|bytes| bytes.push(0)),
        edit(&|bytes| bytes.clear()),
    ] {
        assert!(damage.contains(&layer) && damage.contains("[base-refused]"), "{damage}");
    }
    let missing = check(&|vendor| fs::remove_file(blob(vendor, &layer.clone().into())).unwrap());
    assert!(missing.contains(&layer), "{missing}");
    let none = check(&|vendor| fs::remove_file(vendor.join("index.json")).unwrap());
    assert!(none.contains("[base-unreadable]\n  help: name the folder of an OCI layout"), "{none}");
    let huge = check(&|vendor| fs::write(vendor.join("index.json"), vec![b' '; 5 << 20]).unwrap());
    assert!(huge.contains("larger than any manifest"), "{huge}");
}

#[test]
fn integration_bases_without_a_platform_are_refused_before_compiling() {
    let folder = tempfile::tempdir().unwrap();
    let layout = base(folder.path(), "one");
    let project = small(&folder.path().join("lint"), "{ layout = \"vendor\" }");
    copy_to(&layout, &project.join("vendor"));
    crate::fixture::set_platforms(&project, &["linux/amd64", "linux/arm/v7"]);
    let error = refused(&project);
    assert!(
        error.contains(
            "has nothing for linux/arm/v7; it has linux/amd64, linux/arm64 [base-lacks-platform]"
        ),
        "{error}"
    );
    // A manifest where an index has to be.
    crate::fixture::set_platforms(&project, &["linux/amd64", "linux/arm64"]);
    let index = json(&project.join("vendor/index.json"));
    let inner = json(&blob(&layout, &index["manifests"][0]["digest"]));
    let mut single = index.clone();
    single["manifests"] = Value::Array(vec![inner["manifests"][0].clone()]);
    fs::write(project.join("vendor/index.json"), single.to_string()).unwrap();
    let error = refused(&project);
    assert!(error.contains("[base-single-platform]"), "{error}");
    // An index whose entries are exchanged, and one whose files are for something else.
    let mut swapped = inner.clone();
    swapped["manifests"][0]["platform"] = inner["manifests"][1]["platform"].clone();
    swapped["manifests"][1]["platform"] = inner["manifests"][0]["platform"].clone();
    fs::write(project.join("vendor/index.json"), swapped.to_string()).unwrap();
    let error = refused(&project);
    assert!(error.contains("whose configuration says"), "{error}");
}

#[test]
fn system_a_service_on_a_registry_and_a_docker_archive() {
    if !["skopeo", "docker-registry"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (base(folder.path(), "one"), base(folder.path(), "two"));
    let (_server, host) = registry(folder.path());
    publish(&one, "base:1", &host);
    let project = small(&folder.path().join("registry"), &format!("\"{host}/base:1\""));
    let first = build(&mut xstitch(&project), &project);
    let (manifest, _) = image(&project.join("target/images"), "arm64");
    let (low, _) = image(&one, "arm64");
    assert_eq!(digests(&manifest)[..2], digests(&low)[..2]);
    // The tag moves; what is pinned does not, and nothing is asked.
    publish(&two, "base:1", &host);
    assert_eq!(build(xstitch(&project).args(["--locked", "--offline"]), &project), first);
    // Somebody else, who has the lock alone.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    let plain = plain(&other, &format!("\"{host}/base:1\""));
    fs::copy(project.join("images.lock"), plain.join("images.lock")).unwrap();
    let mut command = xstitch(&plain);
    build(command.arg("--locked").env("XSTITCH_CACHE", folder.path().join("cache")), &plain);
    let (manifest, _) = image(&plain.join("target/images"), "arm64");
    assert_eq!(digests(&manifest)[..digests(&low).len()], digests(&low));
    // Who asks is told, and moves by the name of the image.
    let lock = |arguments: &[&str], code| {
        let output = xstitch(&plain).arg("lock").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", crate::fixture::text(&output));
        crate::fixture::text(&output)
    };
    let moved = format!("base {host}/base:1 ");
    for (arguments, code) in [(["--check"].as_slice(), 1), (["--update", "x"].as_slice(), 0)] {
        let said = lock(arguments, code);
        assert!(said.contains(&moved) && said.contains(" → "), "{said}");
    }
    lock(&["--check"], 0);
    // What the project keeps suffices without registry and cache.
    let file = plain.join("images.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("version = \"1\"", "version = \"1\"\nvendor = \"kept\""))
        .unwrap();
    lock(&["--vendor"], 0);
    let index = build(&mut xstitch(&plain), &plain);
    let mut command = xstitch(&plain);
    command.args(["--locked", "--offline"]).env("XSTITCH_CACHE", folder.path().join("empty"));
    fs::remove_dir_all(plain.join("target")).unwrap();
    assert_eq!(build(&mut command, &plain), index);
    // Without the lock, the tag means what it means now.
    fs::remove_file(project.join("images.lock")).unwrap();
    assert_ne!(build(&mut xstitch(&project), &project), first);
    let missing = small(&folder.path().join("missing"), &format!("\"{host}/none:1\""));
    let error = refused(&missing);
    assert!(error.contains("none:1: the registry has no such image [remote-failed]"), "{error}");

    let project = small(&folder.path().join("docker"), "{ archive = \"base.tar\" }");
    crate::fixture::set_platforms(&project, &["linux/amd64"]);
    let mut skopeo = tool("skopeo");
    skopeo.args(["--override-os", "linux", "--override-arch", "amd64", "copy"]);
    skopeo.arg(format!("oci:{}:base:1", one.display()));
    succeed(skopeo.arg(format!("docker-archive:{}:base:1", project.join("base.tar").display())));
    build(&mut xstitch(&project), &project);
    let (manifest, config) = image(&project.join("target/images"), "amd64");
    let (_, low) = image(&one, "amd64");
    assert_eq!(config["rootfs"]["diff_ids"][0], low["rootfs"]["diff_ids"][0]);
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    assert!(manifest["layers"].as_array().unwrap().iter().all(|layer| layer["mediaType"] == gzip));
}
