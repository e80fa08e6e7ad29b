//! A base of packages for two platforms, from packages that are in the cache, beside
//! buildah doing the same job: unpack, leave out documentation, commit, write a layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xstitch::machine::environment::Environment;
use xstitch::source::lock::Lock;
use xstitch::store::Store;

use crate::measure::{Sample, run};
use crate::project::{example, folder, remove, reported, xstitch};
use crate::table::{Row, Target};

const RUNS: usize = 7;
/// Of the example's base.
const WALL_SECS: f64 = 1.0;
const PEAK_MEGABYTES: f64 = 150.0;
/// What a small base has, without documentation, and the most that a platform may be.
const SMALL: &str = r#"["ca-certificates", "libc6", "libssl3", "libstdc++6", "tzdata"]"#;
const SIZES: [(&str, f64); 2] = [("gzip", 6.0), ("zstd", 5.5)];
const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// What buildah does; `vfs` is the faster of its two ways to store.
const JOB: &str = r#"set -e
b="buildah --root $1/root --runroot $1/run --storage-driver vfs"
for architecture in amd64 arm64; do
    container=$($b from --arch $architecture scratch)
    root=$($b mount $container)
    for deb in "$2/$architecture"/*.deb; do dpkg-deb -x "$deb" "$root"; done
    rm -rf "$root"/usr/share/info "$root"/usr/share/lintian "$root"/usr/share/locale "$root"/usr/share/man
    $b commit -q --rm --manifest list "$container" >/dev/null
done
$b manifest push -q --all list "oci:$1/out:list" >/dev/null
"#;

/// Wall time and memory, and the ratio to the peer.
pub fn measure() -> Vec<Row> {
    let project = base();
    eprintln!("  first build of the base, which downloads its packages");
    run(&mut xstitch(&project));
    let blobs = packages(&project);
    let debs = folder("base-debs");
    for (architecture, name, blob) in &blobs {
        fs::create_dir_all(debs.join(architecture)).unwrap();
        fs::copy(blob, debs.join(architecture).join(name)).unwrap();
    }
    let has_peer = ["buildah", "dpkg-deb"].iter().all(|program| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    let (mut walls, mut peaks, mut peers, mut ratios) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let own = assemble(&project, &blobs);
        walls.push(own.0);
        peaks.push(own.1 as f64 / 1e6);
        if has_peer {
            let peer = buildah(&debs);
            peers.push(peer);
            ratios.push(peer / own.0);
        }
    }
    let mut rows = vec![
        Row::new("base of two platforms, packages cached, wall", Sample::of(walls), "s")
            .held_to(Target::AtMost(WALL_SECS)),
        Row::new("the same, peak memory", Sample::of(peaks), "MB")
            .held_to(Target::AtMost(PEAK_MEGABYTES)),
    ];
    if has_peer {
        rows.push(Row::new("the same by buildah, wall", Sample::of(peers), "s"));
        rows.push(Row::new("buildah / xstitch", Sample::of(ratios), "x"));
    } else {
        rows.push(Row::skipped("the same by buildah", "buildah or dpkg-deb is missing"));
    }
    rows.extend(sizes());
    rows
}

/// Compressed sizes of a small base.
fn sizes() -> Vec<Row> {
    let mut rows = Vec::new();
    for (compression, megabytes_at_most) in SIZES {
        let project = write_base(&format!("from = {{ packages = {SMALL} }}\n"), compression);
        run(&mut xstitch(&project));
        let layout = project.join("target/images");
        let json = |path: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
        };
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            json(&layout.join("blobs/sha256").join(digest.replace("sha256:", "")))
        };
        let index = blob(&json(&layout.join("index.json"))["manifests"][0]);
        for (platform, descriptor) in PLATFORMS.iter().zip(index["manifests"].as_array().unwrap()) {
            let manifest = blob(descriptor);
            let layers = manifest["layers"].as_array().unwrap();
            let bytes: f64 = layers.iter().map(|layer| layer["size"].as_f64().unwrap()).sum();
            let measure = format!("small base {platform}, {compression}, size");
            let row = Row::new(&measure, Sample::of([bytes / 1e6]), "MB");
            rows.push(row.held_to(Target::AtMost(megabytes_at_most)));
        }
    }
    rows
}

/// The example's base alone, as a project.
fn base() -> PathBuf {
    let text = fs::read_to_string(example().join("images.toml")).unwrap();
    let start = text.find("from = { packages = [").unwrap();
    let from = &text[start..start + text[start..].find("] }").unwrap() + 3];
    write_base(&format!("{from}\n"), "gzip")
}

/// A project of one image.
fn write_base(image: &str, compression: &str) -> PathBuf {
    let place = folder("base");
    remove(&place);
    fs::create_dir_all(&place).unwrap();
    let head = format!(
        "[project]\nname = \"base\"\nplatforms = {PLATFORMS:?}\nversion = \"1\"\n\
         compression = \"{compression}\"\n\n[image.base]\n"
    );
    fs::write(place.join("images.toml"), format!("{head}{image}")).unwrap();
    place
}

/// The packages that the lock pins: architecture, name of the file, place in the cache.
fn packages(project: &Path) -> Vec<(&'static str, String, PathBuf)> {
    let environment = Environment::snapshot().unwrap();
    let store = Store::open(&environment.cache_folder().unwrap()).unwrap();
    let text = fs::read_to_string(project.join("images.lock")).unwrap();
    let lock = Lock::parse("images.lock", &text).unwrap();
    let mut all = Vec::new();
    for set in lock.packages.values() {
        let architecture = match set.request.architecture.as_str() {
            "amd64" => "amd64",
            _ => "arm64",
        };
        for package in &set.set.packages {
            let blob = store.blob_path(&package.sha256);
            all.push((architecture, format!("{}.deb", package.name), blob));
        }
    }
    all
}

/// One build with a cache that holds nothing but the packages: wall seconds, peak bytes.
fn assemble(project: &Path, blobs: &[(&str, String, PathBuf)]) -> (f64, u64) {
    let cache = folder("base-cache");
    remove(&cache);
    remove(&project.join("target"));
    let store = Store::open(&cache).unwrap();
    for (_, _, blob) in blobs {
        let to = store.root().join("blobs").join(blob.file_name().unwrap());
        if !to.exists() {
            fs::copy(blob, to).unwrap();
        }
    }
    let mut build = xstitch(project);
    build.args(["--offline", "--locked"]).env("XSTITCH_CACHE", &cache);
    let run = run(&mut build);
    assert_ne!(reported(&run.stdout, "units_run"), 0, "nothing was assembled");
    (run.wall_secs, run.peak_bytes)
}

fn buildah(debs: &Path) -> f64 {
    let place = folder("base-buildah");
    remove(&place);
    fs::create_dir_all(&place).unwrap();
    let mut job = Command::new("sh");
    job.args(["-c", JOB, "sh"]).arg(&place).arg(debs);
    run(&mut job).wall_secs
}
