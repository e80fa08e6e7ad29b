use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::engine::execute::UnitError;
use crate::engine::fetch::Manifests;
use crate::model::action::VendorSources;
use crate::model::{Digest, Origin};
use crate::store::describe;

/// An engine with a cache and a project of its own in `folder`, and what it tells.
pub fn engine(folder: &Path, offline: bool) -> (Engine, Receiver<Event>) {
    let (events, told) = channel();
    let mut environment = Environment::snapshot().unwrap();
    environment.variables.retain(|name, _| !name.to_uppercase().ends_with("_PROXY"));
    let home = folder.join("home");
    fs::create_dir_all(home.join("cargo")).unwrap();
    let place = |path: &Path| path.to_string_lossy().into_owned();
    // rustup's cargo finds its toolchains by it.
    if !environment.variables.contains_key("RUSTUP_HOME")
        && let Some(old) = environment.get("HOME")
    {
        let rustup = Path::new(old).join(".rustup");
        environment.variables.insert("RUSTUP_HOME".into(), place(&rustup));
    }
    environment.variables.insert("HOME".into(), place(&home));
    environment.variables.insert("CARGO_HOME".into(), place(&home.join("cargo")));
    let store = Store::open(&folder.join("cache")).unwrap();
    let engine = Engine {
        archives: Archives::new(
            &environment,
            &store,
            folder,
            &BTreeMap::new(),
            None,
            true,
            Arc::default(),
        ),
        vendor: None,
        cargo: environment.find_program("cargo"),
        environment,
        tier: Tier::None,
        jobs: 1,
        tokens: JobTokens::new(1).unwrap(),
        keep_going: false,
        offline,
        events,
        interrupted: Arc::default(),
        project_state: store.state("project"),
        compiler_cache: None,
        snapshots: super::snapshot::Snapshots::none(),
        network: Mutex::new(()),
        base_archives: Default::default(),
        registries: Default::default(),
        remote: None,
        project: folder.to_owned(),
        store,
    };
    (engine, told)
}

/// The URL of a server on loopback that gives the files of a folder; its thread ends with
/// the test program.
pub fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
            let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
            let (status, body) = match fs::read(folder.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    url
}

/// Fetches and lists the files.
pub fn fetch(
    engine: &Engine,
    origin: &Origin,
    checksum: Option<&Digest>,
) -> Result<Vec<String>, UnitError> {
    let scratch = engine.store.scratch().unwrap();
    let out = scratch.path().join("out");
    fs::create_dir(&out).unwrap();
    fetch_source::source(engine, "source of x", origin, checksum, scratch.path(), &out)?;
    let tree = describe(&out).unwrap();
    Ok(tree.entries.into_keys().collect())
}

/// An archive with `top/x.c` of that text.
fn archive(top: &str, text: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, format!("{top}/x.c"), text.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn an_archive_is_verified_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _told) = engine(folder.path(), true);
    let bytes = archive("x-1.0", "int x;");
    fs::write(folder.path().join("x.tar"), &bytes).unwrap();
    let wrong = Origin::Archive { at: "x.tar".into(), sha256: Digest::of(b"other") };
    let error = fetch(&engine, &wrong, None).unwrap_err();
    assert!(error.message.contains(&format!("expected sha256 {}", Digest::of(b"other").hex())));
    assert!(error.message.contains(&format!("write its sha256 `{}`", Digest::of(&bytes).hex())));
    assert!(!error.is_remote);
    let at = format!("file://{}/x.tar", folder.path().display());
    for at in ["x.tar".to_owned(), at] {
        let right = Origin::Archive { at, sha256: Digest::of(&bytes) };
        assert_eq!(fetch(&engine, &right, None).unwrap(), ["x.c"]);
        // From the store, the second time.
        let _ = fs::remove_file(folder.path().join("x.tar"));
    }
    let gone = Origin::Archive { at: "y.tar".into(), sha256: Digest::of(b"y") };
    let error = fetch(&engine, &gone, None).unwrap_err();
    assert!(error.message.contains("y.tar: No such file"), "{}", error.message);
}

#[test]
fn a_url_is_asked_once() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = archive("x-1.0", "int x;");
    let file = folder.path().join("x.tar");
    fs::write(&file, &bytes).unwrap();
    let at = serve(folder.path()).replace("//", "//me:s3cret@") + "/x.tar";
    let origin = Origin::Archive { at, sha256: Digest::of(&bytes) };
    let (offline, _) = engine(folder.path(), true);
    let error = fetch(&offline, &origin, None).unwrap_err();
    assert!(error.message.contains("--offline"), "{}", error.message);
    let (online, told) = engine(folder.path(), false);
    assert_eq!(fetch(&online, &origin, None).unwrap(), ["x.c"]);
    fs::remove_file(&file).unwrap();
    assert_eq!(fetch(&offline, &origin, None).unwrap(), ["x.c"]);
    let told: Vec<String> = told.try_iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&format!("size_bytes: Some({})", bytes.len())), "{told:?}");
    assert!(!told[0].contains("s3cret"), "{told:?}");
}

#[test]
fn a_crate_comes_from_the_cache_of_cargo() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _told) = engine(folder.path(), true);
    let bytes = archive("x-sys-1.0.0+x.3/x", "int x;");
    let cache = folder.path().join("home/cargo/registry/cache/mirror");
    fs::create_dir_all(&cache).unwrap();
    fs::write(cache.join("x-sys-1.0.0+x.3.crate"), &bytes).unwrap();
    fs::write(cache.join("x-sys-1.0.01.crate"), "other").unwrap();
    let origin = |inside: &str| Origin::Crate {
        name: "x-sys".into(),
        version: "1.0.0".into(),
        folder: inside.into(),
    };
    let right = Some(Digest::of(&bytes));
    let error = fetch(&engine, &origin(""), Some(&Digest::of(b"other"))).unwrap_err();
    assert!(error.message.contains("--offline"), "{}", error.message);
    assert_eq!(fetch(&engine, &origin("x"), right.as_ref()).unwrap(), ["x.c"]);
    fs::remove_dir_all(&cache).unwrap();
    assert_eq!(fetch(&engine, &origin(""), right.as_ref()).unwrap(), ["x", "x/x.c"]);
    let error = fetch(&engine, &origin("y"), right.as_ref()).unwrap_err();
    assert_eq!(
        error.message,
        "crate x-sys 1.0.0: it has no folder `y`; where `y` should be there is x"
    );
}

/// A mirror of the registry with one crate `dep`, in cargo's configuration; returns the
/// digest of the crate's file.
fn mirror(folder: &Path) -> Digest {
    let manifest = "[package]\nname = \"dep\"\nversion = \"1.2.3\"\nedition = \"2021\"\n";
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [("Cargo.toml", manifest), ("src/lib.rs", ""), ("c/dep.c", "int dep;")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("dep-1.2.3/{name}"), text.as_bytes()).unwrap();
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    let bytes = gzip.finish().unwrap();
    let digest = Digest::of(&bytes);
    let url = serve(&folder.join("mirror"));
    let index = format!(
        "{{\"name\":\"dep\",\"vers\":\"1.2.3\",\"deps\":[],\"cksum\":\"{}\",\"features\":{{}},\
         \"yanked\":false}}\n",
        digest.hex()
    );
    for (path, content) in [
        ("index/config.json", format!("{{\"dl\":\"{url}/files\"}}").as_bytes()),
        ("index/3/d/dep", index.as_bytes()),
        ("files/dep/1.2.3/download", &bytes),
    ] {
        let path = folder.join("mirror").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    // cargo's name for the registry that it knows by itself.
    let known = ["crates", "io"].join("-");
    let config = format!(
        "[source.{known}]\nreplace-with = \"mirror\"\n\
         [source.mirror]\nregistry = \"sparse+{url}/index/\"\n"
    );
    fs::write(folder.join("home/cargo/config.toml"), config).unwrap();
    digest
}

/// A workspace whose member `api` wants `dep`, and whose settings would break any cargo.
fn library(folder: &Path) {
    fs::create_dir_all(folder.join("api/src")).unwrap();
    fs::create_dir_all(folder.join(".cargo")).unwrap();
    fs::write(folder.join("Cargo.toml"), "[workspace]\nmembers = [\"api\"]\n").unwrap();
    let manifest = "[package]\nname = \"api\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                    [dependencies]\ndep = \"1\"\n";
    fs::write(folder.join("api/Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("api/src/lib.rs"), "").unwrap();
    fs::write(folder.join("Cargo.lock"), "not for us").unwrap();
    fs::write(folder.join(".cargo/config.toml"), "[build]\nrustc = \"/evil\"\n[broken").unwrap();
    fs::write(folder.join("rust-toolchain"), "evil").unwrap();
}

#[test]
fn a_lock_is_made_and_its_crates_collected() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _told) = engine(folder.path(), false);
    mirror(folder.path());
    let tree = folder.path().join("tree");
    library(&tree);
    for manifest in ["", "api"] {
        let lock = library_lock::generate_lock(&engine, &tree, manifest, None).unwrap();
        assert!(lock.contains("name = \"dep\"\nversion = \"1.2.3\""), "{lock}");
        let scratch = engine.store.scratch().unwrap();
        let out = scratch.path().join("out");
        fs::create_dir(&out).unwrap();
        let sources = VendorSources::Need { folder: manifest.into() };
        let from = Manifests { sources: &sources, lock: Some(&lock), tree: Some(tree.clone()) };
        let vendor = || super::fetch::crates(&engine, "crates of x", &from, scratch.path(), &out);
        vendor().map_err(|error| error.message).unwrap();
        assert!(out.join("crates/dep-1.2.3/src/lib.rs").is_file());
        let config = fs::read_to_string(out.join("config.toml")).unwrap();
        assert!(config.contains("directory = \"@VENDOR@/crates\""), "{config}");
    }
    assert_eq!(fs::read_to_string(tree.join("Cargo.lock")).unwrap(), "not for us");
    let error = library_lock::generate_lock(&engine, &tree, "src", None).unwrap_err();
    assert_eq!(error.to_string(), "the sources have no Cargo.toml in `src` [no-cargo-lock]");
    let offline = Engine { offline: true, ..engine };
    assert_eq!(library_lock::generate_lock(&offline, &tree, "", None).unwrap_err().code, "offline");
}

#[test]
fn a_crate_comes_from_the_registry_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let (online, told) = engine(folder.path(), false);
    let digest = mirror(folder.path());
    assert_eq!(crate_checksum(&online, "dep", "1.2.3"), Ok(digest));
    let finding = crate_checksum(&online, "dep", "1.2.4").unwrap_err();
    assert_eq!(finding.code, "no-crate", "{finding}");
    let finding = crate_checksum(&online, "dep\"", "1.2.4").unwrap_err();
    assert!(finding.message.contains("no name and version"), "{finding}");
    let origin = Origin::Crate { name: "dep".into(), version: "1.2.3".into(), folder: "c".into() };
    let error = fetch(&online, &origin, Some(&Digest::of(b"other"))).unwrap_err().message;
    assert!(error.contains(&format!("found    sha256 {}", digest.hex())), "{error}");
    let cache = folder.path().join("home/cargo/registry/cache");
    fs::remove_dir_all(&cache).unwrap();
    told.try_iter().count();
    assert_eq!(fetch(&online, &origin, Some(&digest)).unwrap(), ["dep.c"]);
    assert_eq!(told.try_iter().count(), 2);
    fs::remove_dir_all(&cache).unwrap();
    let (offline, _) = engine(folder.path(), true);
    assert_eq!(fetch(&offline, &origin, Some(&digest)).unwrap(), ["dep.c"]);
    assert_eq!(crate_checksum(&offline, "dep", "1.2.3").unwrap_err().code, "offline");
}
