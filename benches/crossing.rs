//! Building libsodium and a service for another machine, beside building them for this one,
//! in CPU seconds of all that runs.
//!
//! Ours is one image by the release program with all in the cache that is not made of these
//! two: what compilers mount and crates. The peer is what its user would type instead,
//! `./configure && make` and `cargo build`, of the same sources with the same compilers,
//! which it starts without wrappers, sandbox or supervisor.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xstitch::plan::facts::RustProvider;

use crate::measure::{Load, Sample, children_cpu_secs, cores, run};
use crate::project::{
    Planned, copy, example, folder, forget_compilers, remove, reported, state, xstitch,
};
use crate::table::{Row, Target};

/// Each takes minutes.
const ROUNDS: usize = 1;
const TARGET: Target = Target::AtMost(1.15);

/// What the example says of libsodium, with the service and nothing else.
const CONFIGURATION: &str = r#"[project]
name = "crossing"
platforms = ["linux/amd64", "linux/arm64"]
version = "1"

[library.openssl]
packages = ["libssl-dev"]

[library.sodium]
autotools = { crate = "libsodium-sys", version = "0.2.7", folder = "libsodium", options = ["--disable-static"] }
headers = ["sodium.h"]

[binary.auth]
rust = { package = "auth" }
libraries = ["openssl", "sodium"]

[image.auth]
from = { packages = ["base-files", "libc6", "libgcc-s1"] }
binaries = ["auth"]
"#;

/// The platform of this machine, and the one that is crossed to.
pub const PLATFORMS: [&str; 2] = if cfg!(target_arch = "aarch64") {
    ["linux/arm64", "linux/amd64"]
} else {
    ["linux/amd64", "linux/arm64"]
};

/// The project, and what it made of the cache.
pub struct Crossing {
    project: PathBuf,
    /// Compiler state of the project.
    state: PathBuf,
    /// Outputs of units, by unit.
    pub trees: BTreeMap<String, PathBuf>,
    /// Folder of the Rust toolchain, and its version, where it is rustup's.
    pub rust: Option<(PathBuf, String)>,
    llvm_version: String,
}

impl Crossing {
    /// Builds all of it once, where that was not done yet.
    pub fn new() -> Self {
        let project = folder("crossing");
        write_project(&project);
        eprintln!("  first build; minutes and hundreds of MB where the cache is cold");
        run(&mut xstitch(&project));
        let planned = Planned::of(&project);
        let rust = match &planned.facts.rust {
            Some(RustProvider::Rustup { root, .. }) => Some((root.clone(), version(root))),
            _ => None,
        };
        let state = state(&project);
        let llvm_version = planned.facts.llvm_version.clone();
        let trees = planned.trees;
        Self { project, state, trees, rust, llvm_version }
    }

    /// CPU seconds of a build from empty compiler state, all of the program's included.
    pub fn ours(&self, platform: &str) -> f64 {
        forget_compilers(&self.state);
        // A variable that no build looks at makes other keys, and so other results.
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let triple = if platform.ends_with("arm64") { "aarch64" } else { "x86_64" };
        let text = format!(
            "{CONFIGURATION}\n[target.{triple}-unknown-linux-gnu]\n\
             env = {{ set = {{ BENCHMARK_RUN = \"{now}\" }} }}\n"
        );
        fs::write(self.project.join("images.toml"), text).unwrap();
        let before = children_cpu_secs();
        let run = run(xstitch(&self.project).args(["--platform", platform, "--offline"]));
        let secs = children_cpu_secs() - before;
        let units = reported(&run.stdout, "units_run").as_u64().unwrap();
        assert!((2..=12).contains(&units), "{units} units ran");
        fs::write(self.project.join("images.toml"), CONFIGURATION).unwrap();
        secs
    }

    /// A copy of the sources of libsodium, of the workspace, and cargo's settings for them.
    pub fn sources(&self, to: &Path, vendor: &Path) {
        remove(to);
        fs::create_dir_all(to).unwrap();
        let sodium = &self.trees["source of library sodium"];
        // With the files' times: newer sources make automake write `configure` again.
        run(Command::new("cp").arg("-a").arg(sodium).arg(to.join("sodium")));
        run(Command::new("chmod").args(["-R", "u+w"]).arg(to.join("sodium")));
        write_project(&to.join("auth"));
        fs::create_dir_all(to.join("cargo")).unwrap();
        let crates = &self.trees["crates of Cargo.lock"];
        let config = fs::read_to_string(crates.join("config.toml")).unwrap();
        let config = config.replace("@VENDOR@", &vendor.to_string_lossy());
        fs::write(to.join("cargo/config.toml"), config).unwrap();
    }

    /// CPU seconds of libsodium and of the service, without us.
    fn native(&self) -> Option<(f64, f64)> {
        let (rust, _) = self.rust.as_ref()?;
        let place = folder("crossing-native");
        self.sources(&place, &self.trees["crates of Cargo.lock"]);
        let (architecture, gnu) = if cfg!(target_arch = "aarch64") {
            ("arm64", "aarch64-linux-gnu")
        } else {
            ("amd64", "x86_64-linux-gnu")
        };
        let llvm = self.trees["toolchain llvm"].join("usr/lib");
        let bin = llvm.join(format!("llvm-{}/bin", self.llvm_version));
        let sysroot = &self.trees[&format!("sysroot {architecture} libssl-dev")];
        let (bin, sysroot) = (bin.display(), sysroot.display());
        let flags = format!("--sysroot={sysroot} -fuse-ld=lld");
        let rust_flags: Vec<String> =
            flags.split(' ').map(|flag| format!("-Clink-arg={flag}")).collect();
        let upper = format!("{}_UNKNOWN_LINUX_GNU", std::env::consts::ARCH.to_uppercase());
        let environment = |command: &mut Command| {
            command
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("LC_ALL", "C")
                .env("HOME", &place)
                .env("LD_LIBRARY_PATH", llvm.join(gnu))
                .env("CC", format!("{bin}/clang {flags} -Qunused-arguments"))
                .env("AR", format!("{bin}/llvm-ar"))
                .env("RANLIB", format!("{bin}/llvm-ranlib"));
        };
        let timed = |folder: &str, commands: &[&[&str]], more: &dyn Fn(&mut Command)| {
            let before = children_cpu_secs();
            for line in commands {
                let mut command = Command::new(line[0]);
                environment(&mut command);
                more(&mut command);
                run(command.args(&line[1..]).current_dir(place.join(folder)));
            }
            children_cpu_secs() - before
        };
        let jobs = format!("-j{}", cores());
        let destination = format!("DESTDIR={}", place.join("installed").display());
        let sodium = timed(
            "sodium",
            &[
                &["sh", "configure", "--prefix=/usr", "--disable-static"],
                &["make", &jobs],
                &["make", "install", &destination],
            ],
            &|command| {
                command.env("CFLAGS", "-O2");
            },
        );
        let cargo = rust.join("bin/cargo");
        let build = ["build", "--release", "--offline", "--locked", "--package", "auth", &jobs];
        let line: Vec<&str> = std::iter::once(cargo.to_str().unwrap()).chain(build).collect();
        let auth = timed("auth", &[&line], &|command| {
            let paths = ["usr/lib", "usr/share"].map(|folder| {
                let triple = if folder == "usr/lib" { format!("/{gnu}") } else { String::new() };
                format!("{sysroot}/{folder}{triple}/pkgconfig")
            });
            command
                .env("CARGO_HOME", place.join("cargo"))
                .env("CARGO_INCREMENTAL", "0")
                .env("RUSTC", rust.join("bin/rustc"))
                .env(format!("CARGO_TARGET_{upper}_LINKER"), format!("{bin}/clang"))
                .env(format!("CARGO_TARGET_{upper}_RUSTFLAGS"), rust_flags.join(" "))
                .env("PKG_CONFIG_SYSROOT_DIR", sysroot.to_string())
                .env("PKG_CONFIG_LIBDIR", paths.join(":"));
        });
        remove(&place);
        Some((sodium, auth))
    }
}

/// What `rustc --version` calls its version.
fn version(root: &Path) -> String {
    let printed = run(Command::new(root.join("bin/rustc")).arg("--version")).stdout;
    printed.split(' ').nth(1).unwrap().to_owned()
}

/// The service's workspace, without the other package, and the configuration.
fn write_project(to: &Path) {
    remove(to);
    copy(&example().join("services/auth"), &to.join("services/auth"));
    let read = |name: &str| fs::read_to_string(example().join(name)).unwrap();
    let write = |name: &str, text: &str| fs::write(to.join(name), text).unwrap();
    let manifest = read("Cargo.toml");
    let other = ", \"tools/ledger\"";
    assert!(manifest.contains(other), "the workspace has other members");
    write("Cargo.toml", &manifest.replace(other, ""));
    let lock = read("Cargo.lock");
    let packages = lock.split("\n[[package]]\n").filter(|text| !text.contains("\"ledger\""));
    write("Cargo.lock", &packages.collect::<Vec<_>>().join("\n[[package]]\n"));
    write("images.toml", CONFIGURATION);
}

/// CPU seconds, and their ratios.
pub fn measure() -> Vec<Row> {
    let crossing = Crossing::new();
    let [here, there] = PLATFORMS;
    let (mut crossed, mut stitched, mut native, mut others) = (vec![], vec![], vec![], vec![]);
    for round in 1..=ROUNDS {
        eprintln!("  round {round} of {ROUNDS}");
        let load = Load::start();
        crossed.push(crossing.ours(there));
        native.extend(crossing.native());
        stitched.push(crossing.ours(here));
        others.push(load.others() * 100.0);
    }
    let secs =
        |measure: &str, values: &[f64]| Row::new(measure, Sample::of(values.iter().copied()), "s");
    let others = Sample::of(others).median;
    let mut rows = vec![
        secs(&format!("crossed to {there}, CPU"), &crossed).note(format!("others {others:.0} %")),
        secs(&format!("the same for {here}, CPU"), &stitched),
    ];
    let ratio = format!("crossed to {there} / native {here}");
    if native.is_empty() {
        rows.push(Row::skipped(ratio, "there is no rustup toolchain for the peer"));
        return rows;
    }
    let all: Vec<f64> = native.iter().map(|(sodium, auth)| sodium + auth).collect();
    let part = |of: fn(&(f64, f64)) -> f64| Sample::of(native.iter().map(of)).median;
    let note = format!("libsodium {:.1} s, auth {:.1} s", part(|p| p.0), part(|p| p.1));
    rows.push(secs(&format!("native {here}, without us, CPU"), &all).note(note));
    let ratios = |ours: &[f64]| Sample::of(ours.iter().zip(&all).map(|(ours, peer)| ours / peer));
    rows.push(Row::new(ratio, ratios(&crossed), "x").held_to(TARGET));
    rows.push(Row::new(format!("the same for {here} / native {here}"), ratios(&stitched), "x"));
    rows
}
