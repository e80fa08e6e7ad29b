//! Archives as bases: what one holds is read once, and not again while it looks the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::inotify;
use serde_json::{Value, json};

use crate::bases::{blob, image};
use crate::fixture::{build, succeed, text, xstitch};

const LOW: &str = "[project]\nplatforms = [\"linux/amd64\"]\nversion = \"1\"\n\
    [image.low]\nfrom = \"scratch\"\nfiles = [{ from = \"note\", to = \"/note\" }]\n\
    env = { LOW = \"yes\" }\n";

const CONFIGURATION: &str = "[project]\nplatforms = [\"linux/amd64\"]\nversion = \"1\"\n\
    [image.x]\nfrom = { archive = \"base.tar\", ref = \"low:1\" }\n\
    files = [{ from = \"x\", to = \"/x\" }]\n";

/// A layout of one image whose layer has this in it.
fn low(folder: &Path, note: &str) -> PathBuf {
    let project = folder.join(format!("low-{note}"));
    fs::create_dir(&project).unwrap();
    fs::write(project.join("note"), note).unwrap();
    fs::write(project.join("images.toml"), LOW).unwrap();
    build(&mut xstitch(&project), &project);
    project.join("target/images")
}

/// The image of a layout as `docker save` would write it, with its layer compressed.
fn save(layout: &Path, to: &Path) {
    let (manifest, _) = image(layout, "amd64");
    let folder = tempfile::tempdir().unwrap();
    let take = |digest: &Value, name: &str| {
        fs::copy(blob(layout, digest), folder.path().join(name)).unwrap();
    };
    take(&manifest["config"]["digest"], "config.json");
    let mut layers = Vec::new();
    for (at, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
        layers.push(format!("layer-{at}.tar.gz"));
        take(&layer["digest"], &layers[at]);
    }
    let list = json!([{ "Config": "config.json", "RepoTags": ["low:1"], "Layers": layers }]);
    fs::write(folder.path().join("manifest.json"), list.to_string()).unwrap();
    archive(folder.path(), to);
}

fn archive(folder: &Path, to: &Path) {
    succeed(Command::new("tar").arg("-cf").arg(to).arg("-C").arg(folder).arg("."));
}

/// Whether somebody opened the file while `act` ran; the kernel tells.
fn is_opened(file: &Path, act: impl FnOnce()) -> bool {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let what = inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS;
    inotify::add_watch(&watch, file, what).unwrap();
    act();
    rustix::io::read(&watch, &mut [0; 4096]).is_ok_and(|bytes| bytes > 0)
}

/// What is younger than the clock's tick is not trusted.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(100));
}

#[test]
fn integration_an_archive_that_is_the_same_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (low(folder.path(), "one"), low(folder.path(), "two"));
    for kind in ["docker", "layout"] {
        let project = folder.path().join(kind);
        fs::create_dir(&project).unwrap();
        fs::write(project.join("x"), "x").unwrap();
        fs::write(project.join("images.toml"), CONFIGURATION).unwrap();
        let file = project.join("base.tar");
        let write = |layout: &Path| match kind {
            "docker" => save(layout, &file),
            _ => archive(layout, &file),
        };
        write(&one);
        settle();
        let mut index = String::new();
        assert!(is_opened(&file, || index = build(&mut xstitch(&project), &project)));
        let again = || assert_eq!(build(&mut xstitch(&project), &project), index, "{kind}");
        assert!(!is_opened(&file, again), "{kind}");
        let plan = || drop(succeed(xstitch(&project).arg("plan")));
        assert!(!is_opened(&file, plan), "{kind}");
        // It looks different, and is the same.
        succeed(Command::new("touch").arg("-d").arg("2001-01-01").arg(&file));
        settle();
        assert!(is_opened(&file, again), "{kind}");
        assert!(!is_opened(&file, again), "{kind}");
        // Another image is asked for.
        let config = CONFIGURATION.replace("low:1", "none:1");
        fs::write(project.join("images.toml"), config).unwrap();
        let output = xstitch(&project).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        fs::write(project.join("images.toml"), CONFIGURATION).unwrap();
        // It is another one, of the same size and age.
        write(&two);
        succeed(Command::new("touch").arg("-d").arg("2001-01-01").arg(&file));
        assert_ne!(build(&mut xstitch(&project), &project), index, "{kind}");
        // The cache lost what was learned, the index did not.
        let cache = folder.path().join(format!("cache-{kind}"));
        let clean = || {
            let mut command = xstitch(&project);
            command.env("XSTITCH_CACHE", &cache);
            build(&mut command, &project)
        };
        let with_own_cache = clean();
        clean();
        fs::remove_dir_all(cache.join("v1/blobs")).unwrap();
        assert_eq!(clean(), with_own_cache, "{kind}");
    }
}
