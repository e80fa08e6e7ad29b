//! Package archives that the configuration names: by HTTP and from a folder, without apt,
//! and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use xstitch::machine::environment::Environment;
use xstitch::model::package::{PackageRequest, PackageSet};
use xstitch::source::archives::Archives;
use xstitch::source::openpgp::Keyring;
use xstitch::store::Store;
use xstitch::toolchain::parts::root_request;

use crate::fixture::{build, cache, text, xstitch};
use crate::signed_archive::{add_to_pool, date, key, serve, sign, write_keyring, write_suite};

const PACKAGES: [&str; 2] = ["libc6", "tzdata"];

/// Archives of a configuration in `folder`, with a store of their own.
fn archives(folder: &Path, configuration: &str) -> Archives {
    let store = Store::open(&folder.join("cache")).unwrap();
    let environment = Environment::snapshot().unwrap();
    let project = xstitch::config::parse("images.toml", configuration).unwrap();
    Archives::new(&environment, &store, folder, &project.suites, None, false, Arc::default())
}

/// An archive with real packages for two architectures, which apt fetched.
fn real_archive(folder: &Path) -> PathBuf {
    let store = Store::open(&cache()).unwrap();
    let environment = Environment::snapshot().unwrap();
    let none = BTreeMap::new();
    let apt = Archives::new(&environment, &store, folder, &none, None, false, Arc::default());
    let archive = folder.join("archive");
    let names = PACKAGES.map(ToOwned::to_owned);
    let mut lists = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let request = root_request(architecture, &names);
        let set = apt.resolve(&request, &mut drop).unwrap();
        let debs = folder.join("debs").join(architecture);
        fs::create_dir_all(&debs).unwrap();
        let files = apt.fetch(architecture, &set.packages, &debs).unwrap();
        let stanzas = files.iter().map(|file| add_to_pool(&archive, file)).collect::<String>();
        lists.push((architecture, stanzas));
    }
    let key = key();
    write_keyring(&key, &folder.join("archive.asc"));
    write_suite(&archive, "bookworm", &lists, &key, |text| text);
    archive
}

/// A project with an image of packages, from what `suite` says.
fn project(folder: &Path, name: &str, suite: &str) -> PathBuf {
    let project = folder.join(name);
    fs::create_dir_all(&project).unwrap();
    let text = format!(
        "[project]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n{suite}\n\
         [image.base]\nfrom = {{ suite = \"bookworm\", packages = {PACKAGES:?} }}\n"
    );
    fs::write(project.join("images.toml"), text).unwrap();
    project
}

#[test]
fn integration_mirrors_give_what_apt_gives() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let archive = real_archive(folder);
    let by_apt = project(folder, "apt", "");
    let expected = build(&mut xstitch(&by_apt), &by_apt);
    let keyring = folder.join("archive.asc");
    let empty = folder.join("empty");
    fs::create_dir(&empty).unwrap();
    let (url, path) = (serve(&archive), archive.to_string_lossy().into_owned());
    let table = format!("{{ arm64 = {path:?}, default = {url:?} }}");
    for (name, mirror) in
        [("http", format!("{url:?}")), ("both", table), ("folder", format!("{path:?}"))]
    {
        let suite = format!("[suite.bookworm]\nmirror = {mirror}\nkeyring = {keyring:?}\n");
        let project = project(folder, name, &suite);
        let command = || {
            let mut command = xstitch(&project);
            command.env("PATH", &empty).env("XSTITCH_CACHE", folder.join(name).join("cache"));
            command
        };
        assert_eq!(build(&mut command(), &project), expected, "{name}");
        let lock = fs::read_to_string(project.join("images.lock")).unwrap();
        assert!(lock.contains("suite = \"bookworm\""), "{lock}");
        // Locked, on another machine.
        fs::remove_dir_all(project.join("cache")).unwrap();
        fs::remove_dir_all(project.join("target")).unwrap();
        assert_eq!(build(command().arg("--locked"), &project), expected, "{name}");
        assert_eq!(build(command().args(["--locked", "--offline"]), &project), expected, "{name}");
        if name == "folder" {
            // What the lock pins is gone.
            fs::remove_dir_all(project.join("cache")).unwrap();
            fs::remove_dir_all(archive.join("pool")).unwrap();
            let output = command().arg("--locked").output().unwrap();
            let said = text(&output);
            assert!(said.contains("the package archive no longer has"), "{said}");
        }
    }
}

#[test]
fn integration_suites_are_named_when_there_are_none() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let project = project(folder, "none", "");
    let file = project.join("images.toml");
    let text_of = fs::read_to_string(&file).unwrap();
    fs::write(&file, text_of.replace("bookworm", "plucky")).unwrap();
    let output = xstitch(&project).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("there is no suite `plucky`"), "{said}");
    assert!(said.contains("[suite.plucky]\n    mirror ="), "{said}");
}

#[test]
fn integration_release_files_of_debian_are_believed() {
    let keyring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    let states = fs::read_dir(cache().join("v1/state/apt")).unwrap().flatten();
    let files: Vec<PathBuf> = states
        .filter_map(|state| fs::read_dir(state.path().join("state/lists")).ok())
        .flat_map(|files| files.flatten().map(|file| file.path()))
        .filter(|path| path.to_string_lossy().contains("bookworm") && path.ends_with_in_release())
        .filter(|path| !path.to_string_lossy().contains("sdk"))
        .collect();
    if files.is_empty() || !keyring.is_file() {
        assert!(std::env::var_os("CI").is_none(), "CI has Debian's lists and keys");
        eprintln!("SKIPPED: there are no lists or keys of Debian's");
        return;
    }
    let keyring = Keyring::parse(&fs::read(keyring).unwrap()).unwrap();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let signed = keyring.signed_text(&text, Some(now()));
        assert!(signed.unwrap().contains("\nSHA256:\n"), "{}", file.display());
        let tampered = text.replacen("main/", "nain/", 1);
        assert!(keyring.signed_text(&tampered, Some(now())).is_err());
    }
}

trait InRelease {
    fn ends_with_in_release(&self) -> bool;
}

impl InRelease for PathBuf {
    fn ends_with_in_release(&self) -> bool {
        self.to_string_lossy().ends_with("_InRelease")
    }
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn request(name: &str) -> PackageRequest {
    PackageRequest {
        suite: Some("s".into()),
        architecture: "arm64".into(),
        packages: vec![name.into()],
        provided: Vec::new(),
        closure: true,
    }
}

/// An archive of stanzas by hand, what is asked of it, and what is said to that.
struct Hostile {
    folder: tempfile::TempDir,
    key: pgp::composed::SignedSecretKey,
}

impl Hostile {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = key();
        write_keyring(&key, &folder.path().join("k.asc"));
        Self { folder, key }
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("m")
    }

    fn write(&self, edit: impl Fn(String) -> String) {
        let hash = "d7dd1d1411fedf27f5e27650a6eff20ef294077b568f4c8c5e51466dc7c08ce4";
        let list = format!(
            "Package: a\nVersion: 1\nArchitecture: arm64\nFilename: pool/a.deb\nSize: 3\n\
             SHA256: {hash}\n\nPackage: out\nVersion: 1\nArchitecture: arm64\n\
             Filename: ../k.asc\nSize: 3\nSHA256: {hash}\n\nPackage: bare\nVersion: 1\n\
             Architecture: all\n\n"
        );
        write_suite(&self.archive(), "s", &[("arm64", list)], &self.key, edit);
    }

    fn ask(&self, name: &str, more: &str) -> Result<PackageSet, String> {
        let configuration = format!(
            "[suite.s]\nmirror = \"m\"\nkeyring = \"k.asc\"\n{more}\n\
             [image.x]\nfrom = \"scratch\"\n"
        );
        let archives = archives(self.folder.path(), &configuration);
        let result = archives.resolve(&request(name), &mut drop);
        let result = result.and_then(|set| {
            archives.fetch("arm64", &set.packages, self.folder.path())?;
            Ok(set)
        });
        result.map_err(|error| {
            let help = error.help().map(|help| format!("\n  help: {help}"));
            let text = format!("{error}{}", help.unwrap_or_default());
            text.replace(&self.folder.path().display().to_string(), "…")
        })
    }

    fn file(&self, end: &str) -> PathBuf {
        let files = Command::new("find").arg(self.archive()).args(["-type", "f"]).output();
        let files = String::from_utf8(files.unwrap().stdout).unwrap();
        files.lines().find(|line| line.contains(end)).unwrap().into()
    }
}

/// Without hashes and times, which change from run to run.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let length = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len();
        let digits = |from: char| from.is_ascii_hexdigit();
        match &word[..length] {
            hash if hash.len() >= 40 && hash.chars().all(digits) => steady.push('H'),
            number if number.len() >= 2 && number.chars().all(|c| c.is_ascii_digit()) => {
                steady.push('N');
            }
            other => steady.push_str(other),
        }
        steady.push_str(&word[length..]);
    }
    steady
}

#[test]
fn unit_hostile_archives_are_refused() {
    let mut said = Vec::new();
    let mut check = |what: &str, result: Result<PackageSet, String>| {
        said.push(format!("{what}: {}", steady(&result.unwrap_err())));
    };
    let hostile = Hostile::new();
    hostile.write(|text| text);
    check("no such package", hostile.ask("x", ""));
    check("no hash", hostile.ask("bare", ""));
    check("outside", hostile.ask("out", ""));
    check("gone", hostile.ask("a", ""));
    fs::create_dir(hostile.archive().join("pool")).unwrap();
    fs::write(hostile.archive().join("pool/a.deb"), "abc").unwrap();
    check("other bytes", hostile.ask("a", ""));
    fs::write(hostile.archive().join("pool/a.deb"), "abcd").unwrap();
    check("too long", hostile.ask("a", ""));
    check("component", hostile.ask("a", "components = [\"universe\"]"));
    check("not a suite", hostile.ask("a", "suites = [\"t\"]"));

    hostile.write(|text| text.replace("Date: ", &format!("Date: {}\nX: ", date(-10))));
    assert!(hostile.ask("x", "").unwrap_err().contains("no package `x`"));
    hostile.write(|text| text);
    check("replayed", hostile.ask("a", ""));

    let fresh = || {
        let hostile = Hostile::new();
        hostile.write(|text| text);
        hostile
    };
    let hostile = fresh();
    hostile.write(|text| text.replace("Valid-Until: ", &format!("Valid-Until: {}\nX: ", date(-5))));
    check("expired", hostile.ask("a", ""));
    assert!(hostile.ask("x", "valid-until = false").unwrap_err().contains("no package `x`"));
    hostile.write(|text| text.replace("Date: ", &format!("Date: {}\nX: ", date(90_000))));
    check("future", hostile.ask("a", ""));
    hostile.write(|text| text.replace("Codename: s", "Codename: t"));
    check("wrong suite", hostile.ask("a", ""));
    hostile.write(|text| text.replace("Architectures: arm64", "Architectures: amd64"));
    check("wrong architecture", hostile.ask("a", ""));

    let hostile = fresh();
    let release = hostile.archive().join("dists/s/InRelease");
    let signed = fs::read_to_string(&release).unwrap();
    fs::write(&release, signed.replace("stable", "tables")).unwrap();
    check("tampered", hostile.ask("a", ""));
    fs::write(&release, signed.split("-----BEGIN PGP SIGNATURE").next().unwrap()).unwrap();
    check("cut", hostile.ask("a", ""));
    let inside = signed.split("\n\n").nth(1).unwrap().split("-----").next().unwrap();
    fs::write(&release, inside).unwrap();
    check("unsigned", hostile.ask("a", ""));
    fs::write(&release, sign(inside, &key())).unwrap();
    check("wrong key", hostile.ask("a", ""));
    fs::remove_file(&release).unwrap();
    fs::write(hostile.archive().join("dists/s/Release"), inside).unwrap();
    check("no signature", hostile.ask("a", ""));
    fs::write(hostile.folder.path().join("k.asc"), "not a key").unwrap();
    check("no keyring", hostile.ask("a", ""));

    let hostile = fresh();
    let list = hostile.file("by-hash");
    let bytes = fs::read(&list).unwrap();
    fs::write(&list, &bytes[..bytes.len() - 8]).unwrap();
    check("truncated list", hostile.ask("a", ""));
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    fs::write(&list, flipped).unwrap();
    check("flipped list", hostile.ask("a", ""));
    fs::write(&list, bytes.repeat(2)).unwrap();
    check("longer list", hostile.ask("a", ""));
    fs::remove_file(&list).unwrap();
    check("no list", hostile.ask("a", ""));
    // A list that unpacks to more than it should.
    let hostile = fresh();
    hostile.write(|text| {
        let plain = text.lines().find(|line| line.ends_with("Packages")).unwrap().to_owned();
        let size = plain.split(' ').nth(2).unwrap();
        text.replace(&plain, &plain.replace(&format!(" {size} "), " 100 "))
    });
    check("bomb", hostile.ask("a", ""));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn unit_detached_signatures_serve() {
    let hostile = Hostile::new();
    hostile.write(|text| text);
    let place = hostile.archive().join("dists/s");
    let signed = fs::read_to_string(place.join("InRelease")).unwrap();
    let inside = signed.split("\n\n").nth(1).unwrap().split("-----").next().unwrap();
    fs::remove_file(place.join("InRelease")).unwrap();
    fs::write(place.join("Release"), inside).unwrap();
    let signature = pgp::composed::DetachedSignature::sign_binary_data(
        rand::thread_rng(),
        &hostile.key.primary_key,
        &pgp::types::Password::empty(),
        pgp::crypto::hash::HashAlgorithm::Sha256,
        inside.as_bytes(),
    );
    let armored = signature.unwrap().to_armored_bytes(Default::default()).unwrap();
    fs::write(place.join("Release.gpg"), armored).unwrap();
    assert!(hostile.ask("x", "").unwrap_err().contains("no package `x`"));
    fs::write(place.join("Release"), inside.replace("stable", "tables")).unwrap();
    assert!(hostile.ask("x", "").unwrap_err().contains("it is not what the key"));
}
