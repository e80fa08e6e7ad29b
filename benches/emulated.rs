//! The same two builds in a root of the other machine's packages, whose programs an emulator
//! runs: what an image builder does without a cross compiler. Takes an hour of CPU time, so
//! only where it is asked for by name.
//!
//! The emulator is registered in a namespace that ends with the build: nothing of the
//! machine changes. Needs unprivileged user namespaces with a `binfmt_misc` of their own
//! (Linux 6.7).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::crossing::{Crossing, PLATFORMS};
use crate::measure::{Sample, children_cpu_secs, cores, run, tree_cpu_secs};
use crate::project::{folder, remove, reported, xstitch};
use crate::table::{Row, Target};

/// When to stop; `BENCHMARK_LIMIT_SECS` says another number.
const LIMIT_SECS: f64 = 1800.0;
const TICK: Duration = Duration::from_secs(1);
const TARGET: Target = Target::AtMost(0.1);

/// What an image to build C and Rust in holds.
const PACKAGES: [&str; 18] = [
    "base-files",
    "bash",
    "binutils",
    "coreutils",
    "dash",
    "diffutils",
    "file",
    "findutils",
    "gawk",
    "gcc",
    "grep",
    "libc6-dev",
    "libssl-dev",
    "make",
    "pkg-config",
    "sed",
    "tar",
    "util-linux",
];

/// Makes the namespace's own registration and enters the root. Its arguments are the root,
/// the emulator and the command.
const ENTER: &str = r#"
set -eu
root=$1 emulator=$2
shift 2
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
echo ":arm64:M::$magic:$mask:$emulator:F" > /proc/sys/fs/binfmt_misc/register
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" /usr/bin/env -i PATH=/opt/rust/bin:/usr/bin:/bin LC_ALL=C HOME=/build \
    CARGO_HOME=/build/cargo CARGO_INCREMENTAL=0 "$@"
"#;

/// What is built in the root.
const BUILD: &str = r"
set -eu
cd /build/sodium
sh configure --prefix=/usr --disable-static CFLAGS=-O2
make -j$1
make install DESTDIR=/build/installed
cd /build/auth
exec cargo build --release --offline --locked --package auth -j$1
";

/// CPU seconds, and how many times as much that is as crossing.
pub fn measure() -> Vec<Row> {
    let [here, there] = PLATFORMS;
    let measure = format!("emulated {there}, CPU");
    if here != "linux/amd64" {
        return vec![Row::skipped(measure, "its registration is for amd64 machines")];
    }
    let crossing = Crossing::new();
    let Some((_, version)) = &crossing.rust else {
        return vec![Row::skipped(measure, "there is no rustup toolchain to compare with")];
    };
    let limit = std::env::var("BENCHMARK_LIMIT_SECS");
    let limit = limit.ok().and_then(|text| text.parse().ok()).unwrap_or(LIMIT_SECS);
    let emulator = unpacked("emulator", here, &["qemu-user-static"]);
    let emulator = emulator.join("usr/bin/qemu-aarch64-static");
    let root = unpacked("emulated", there, &PACKAGES);
    furnish(&root, &crossing, version);
    let crossed = crossing.ours(there);

    let (secs, is_done) = build(&root, &emulator, limit);
    let words = if is_done { "to its end" } else { "not done: a lower bound" };
    let version = run(Command::new(&emulator).arg("--version")).stdout;
    let version = version.lines().next().unwrap_or_default();
    remove(&root);
    let mut ratio = Row::new("crossed / emulated", Sample::of([crossed / secs]), "x");
    // Of a build that was stopped, only what is met already is known.
    if is_done || TARGET.holds(crossed / secs) {
        ratio = ratio.held_to(TARGET);
    }
    vec![
        Row::new(measure, Sample::of([secs]), "s").note(format!("{words}; {version}")),
        Row::new(format!("crossed to {there}, CPU"), Sample::of([crossed]), "s"),
        ratio.note(if is_done { "" } else { "not done: at most this" }),
    ]
}

/// A fresh root file system of packages.
fn unpacked(name: &str, platform: &str, packages: &[&str]) -> PathBuf {
    let project = folder(&format!("{name}-project"));
    fs::create_dir_all(&project).unwrap();
    let text = format!(
        "[project]\nname = \"{name}\"\nplatforms = [\"{platform}\"]\nversion = \"1\"\n\n\
         [image.{name}]\nfrom = {{ packages = {packages:?} }}\n"
    );
    fs::write(project.join("images.toml"), text).unwrap();
    let report = run(&mut xstitch(&project)).stdout;
    let blobs = project.join("target/images/blobs");
    let blob = |digest: &serde_json::Value| {
        blobs.join(digest.as_str().unwrap().replace("sha256:", "sha256/"))
    };
    let manifest = fs::read(blob(&reported(&report, "images")[0]["digest"])).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let root = folder(name);
    remove(&root);
    fs::create_dir_all(&root).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        run(Command::new("tar").arg("-xzf").arg(blob(&layer["digest"])).arg("-C").arg(&root));
    }
    root
}

/// Adds sources, the same rustc, and what scripts of packages would have made.
fn furnish(root: &Path, crossing: &Crossing, version: &str) {
    for (name, to) in [("awk", "gawk"), ("cc", "gcc")] {
        let link = root.join("usr/bin").join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(to, link).unwrap();
        }
    }
    for name in ["proc", "dev", "tmp", "opt"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let rustup = folder("emulated-rustup");
    let toolchain = format!("{version}-aarch64-unknown-linux-gnu");
    run(Command::new("rustup")
        .env("RUSTUP_HOME", &rustup)
        .args(["toolchain", "install", &toolchain, "--profile", "minimal"])
        .args(["--force-non-host", "--no-self-update"]));
    let copy = |from: &Path, to: &str| {
        run(Command::new("cp").arg("-a").arg(from).arg(root.join(to)));
    };
    copy(&rustup.join("toolchains").join(toolchain), "opt/rust");
    crossing.sources(&root.join("build"), Path::new("/build/vendor"));
    copy(&crossing.trees["crates of Cargo.lock"], "build/vendor");
}

/// Builds, for at most `limit` seconds of CPU time. Returns how many it took, and whether it
/// came to its end.
fn build(root: &Path, emulator: &Path, limit: f64) -> (f64, bool) {
    let before = children_cpu_secs();
    let log = fs::File::create(folder("emulated.log")).unwrap();
    let mut child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["sh", "-c", ENTER, "sh"])
        .args([root, emulator])
        .args(["sh", "-c", BUILD, "sh", &cores().to_string()])
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let log = folder("emulated.log");
            assert!(status.success(), "the emulated build ended with {status}: {}", log.display());
            return (children_cpu_secs() - before, true);
        }
        let secs = tree_cpu_secs(child.id());
        if secs > limit {
            // All of the namespace ends with its first process, which ends with this one.
            child.kill().unwrap();
            child.wait().unwrap();
            return (secs, false);
        }
        std::thread::sleep(TICK);
    }
}
