//! What an image takes over from the image below it, over three levels: a base that others
//! made, an image of the configuration on it, and images on that one.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bases::{copy_to, digests};
use crate::fixture::{build, xstitch};
use crate::layout::Layout;

const LOW: &str = r#"
[project]
platforms = ["linux/arm64"]
version = "1"

[image.low]
from = "scratch"
files = [{ from = "note", to = "/low" }]
env = { PATH = "/low/bin", A = "low", B = "low", C = "low" }
labels = { a = "low", b = "low" }
expose = [80]
volumes = ["/low"]
user = "nonroot"
workdir = "/low"
entrypoint = ["/low"]
cmd = ["--low"]
stop-signal = "SIGUSR1"
"#;

const CONFIGURATION: &str = r#"
[project]
platforms = ["linux/arm64"]
version = "1"

[image.middle]
from = { layout = "vendor" }
files = [{ from = "note", to = "/middle" }]
env = { B = "middle", C = "middle", D = "middle" }
labels = { b = "middle", c = "middle" }
expose = [81]
volumes = ["/middle"]
workdir = "/middle"

[image.same]
from = "middle"

[image.top]
from = "middle"
files = [{ from = "note", to = "/top" }]
env = { C = "top" }
labels = { c = "top" }
expose = ["82/udp"]
volumes = ["/top"]
user = "root"
cmd = ["--top"]
stop-signal = "SIGTERM"

[image.own]
from = "top"
entrypoint = ["/own"]
publish = false

[image.last]
from = "own"
env = { PATH = "/last/bin" }
workdir = "/"
"#;

fn project(folder: &Path, name: &str, configuration: &str) -> std::path::PathBuf {
    let project = folder.join(name);
    fs::create_dir(&project).unwrap();
    fs::write(project.join("note"), name).unwrap();
    fs::write(project.join("images.toml"), configuration).unwrap();
    project
}

#[test]
fn integration_images_take_over_what_the_one_below_has() {
    let folder = tempfile::tempdir().unwrap();
    let low = project(folder.path(), "low", LOW);
    build(&mut xstitch(&low), &low);
    let project = project(folder.path(), "project", CONFIGURATION);
    copy_to(&low.join("target/images"), &project.join("vendor"));
    build(&mut xstitch(&project), &project);
    let blobs = project.join("target/images/blobs/sha256");
    let json = |digest: &Value| -> Value {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
        serde_json::from_slice(&fs::read(blobs.join(hex)).unwrap()).unwrap()
    };
    let layout = Layout::open(&project.join("target/images"));
    let mut said = String::new();
    let mut layers: Vec<(String, Vec<String>)> = Vec::new();
    for (name, index) in layout.images() {
        let name = name.split(':').next().unwrap().to_owned();
        let index = layout.json(&index);
        let manifest = json(&index["manifests"][0]["digest"]);
        let config = json(&manifest["config"]["digest"]);
        let all = digests(&manifest);
        let history = config["history"].as_array().unwrap();
        assert_eq!(history.len(), all.len(), "{name}");
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), all.len(), "{name}");
        let base = &manifest["annotations"]["org.opencontainers.image.base.name"];
        let config = serde_json::to_string_pretty(&config["config"]).unwrap();
        said += &format!("{name} on {base}, {} layers\n{config}\n\n", all.len());
        layers.push((name, all));
    }
    insta::assert_snapshot!(said);
    let of = |name: &str| &layers.iter().find(|(found, _)| found == name).unwrap().1;
    assert_eq!(of("middle"), of("same"));
    assert!(of("top").starts_with(of("middle")) && of("last") == of("top"));
    // A key of the lowest one reaches the highest.
    fs::remove_dir_all(project.join("vendor")).unwrap();
    fs::write(low.join("images.toml"), LOW.replace("nonroot", "7")).unwrap();
    build(&mut xstitch(&low), &low);
    copy_to(&low.join("target/images"), &project.join("vendor"));
    build(&mut xstitch(&project), &project);
    let layout = Layout::open(&project.join("target/images"));
    let (_, index) =
        layout.images().into_iter().find(|(name, _)| name.starts_with("same")).unwrap();
    let manifest = json(&layout.json(&index)["manifests"][0]["digest"]);
    assert_eq!(json(&manifest["config"]["digest"])["config"]["User"], "7");
}
