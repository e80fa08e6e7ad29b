//! Package sets: what the resolver chooses, and how apt would.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use xstitch::machine::environment::Environment;
use xstitch::model::package::PackageRequest;
use xstitch::source::archives::Archives;
use xstitch::store::Store;
use xstitch::toolchain::parts::{requests, root_request};

/// The machine's apt, with a state below `cache`.
fn archives(cache: &Path) -> Archives {
    let store = Store::open(cache).unwrap();
    let environment = Environment::snapshot().unwrap();
    let none = Default::default();
    Archives::new(&environment, &store, Path::new("/"), &none, None, false, Arc::default())
}

/// What apt itself chooses, with lists that xstitch had it download.
fn apt_closure(request: &PackageRequest, scratch: &Path) -> Option<BTreeSet<String>> {
    let architecture = &request.architecture;
    let states = fs::read_dir(scratch.join("v1/state/apt")).unwrap().flatten();
    let states = states.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(&format!("{architecture}-")) && path.join("updated").is_file()
    });
    let time = |path: &PathBuf| fs::metadata(path.join("updated")).unwrap().modified().unwrap();
    let state = states.max_by_key(time).unwrap();
    let status = scratch.join("status");
    let stanzas = request.provided.iter().map(|name| {
        let provides = match name.as_str() {
            "debconf" => "Provides: debconf-2.0\n",
            "gcc" | "clang" => "Provides: c-compiler\n",
            "libc6-dev" => "Provides: libc-dev\n",
            _ => "",
        };
        format!(
            "Package: {name}\nStatus: install ok installed\nMaintainer: none\n\
             Architecture: {architecture}\nMulti-Arch: allowed\nVersion: 9999:9999\n\
             {provides}Description: provided otherwise\n\n"
        )
    });
    fs::write(&status, stanzas.collect::<String>()).unwrap();
    let options = [
        format!("Dir::State={}", state.join("state").display()),
        format!("Dir::State::status={}", status.display()),
        format!("Dir::Cache={}", state.join("cache").display()),
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures={architecture}"),
        "APT::Install-Recommends=0".into(),
        "APT::Sandbox::User=".into(),
        "Debug::NoLocking=1".into(),
        "Acquire::ForceHash=SHA256".into(),
    ];
    let mut command = Command::new("apt-get");
    for option in options {
        command.args(["-o", &option]);
    }
    let output = command
        .args(["-qq", "--print-uris", "install"])
        .args(&request.packages)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let files = text.lines().filter_map(|line| line.split_whitespace().nth(1));
    Some(files.map(|file| file.replace("%3a", ":")).collect())
}

#[test]
fn integration_closures_are_those_of_apt() {
    // Its own, where no other test's choice of sources is.
    let scratch = tempfile::tempdir().unwrap();
    let archives = archives(scratch.path());
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut wanted = Vec::new();
    for architecture in ["amd64", "arm64"] {
        for part in ["llvm", "rust", "userland", "cmake", "meson"] {
            wanted.extend(requests(part, architecture, &[]));
        }
        for extra in [
            &[][..],
            &["libssl-dev"],
            &["libpq-dev", "zlib1g-dev", "libzmq3-dev", "libsodium-dev"],
            &["libcurl4-openssl-dev", "libsqlite3-dev", "libboost-dev", "protobuf-compiler"],
        ] {
            wanted.extend(requests("sysroot", architecture, &names(extra)));
        }
        wanted.extend(requests("userland", architecture, &names(&["autoconf", "nasm"])));
        for packages in [
            &["ca-certificates", "tzdata", "libc6", "libssl3", "libstdc++6"][..],
            &["nginx-light"],
            &["redis-server"],
            &["postgresql-client"],
            &["python3-minimal"],
            &["curl", "git"],
            &["busybox", "libpq5"],
            &["openjdk-17-jre-headless"],
            &["nodejs", "php-fpm"],
        ] {
            let mut packages = names(packages);
            packages.sort();
            wanted.push(root_request(architecture, &packages));
        }
    }
    let (mut compared, mut wrong, mut refused) = (0, Vec::new(), Vec::new());
    for request in wanted {
        let own = archives.resolve(&request, &mut drop);
        let apt = apt_closure(&request, scratch.path());
        let own: Option<BTreeSet<String>> = own.as_ref().ok().map(|set| {
            let files = set.packages.iter().map(|package| {
                format!("{}_{}_{}.deb", package.name, package.version, package.architecture)
            });
            files.collect()
        });
        // apt wants what is there already in the very version that others are built with.
        if apt.is_none() && own.is_some() {
            refused.push(request.packages);
            continue;
        }
        compared += usize::from(own.is_some());
        if own != apt {
            let (own, apt) = (own.unwrap_or_default(), apt.unwrap_or_default());
            wrong.push(format!(
                "{} {:?}: only ours {:?}, only apt's {:?}",
                request.architecture,
                request.packages,
                own.difference(&apt).collect::<Vec<_>>(),
                apt.difference(&own).collect::<Vec<_>>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused.len() <= 2 && compared > 20, "{compared} {refused:?}");
}
