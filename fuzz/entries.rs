//! What is fuzzed: each reader of hostile bytes as a function of bytes, with what must hold
//! of whatever it accepts. The fuzzer and a bounded test on stable Rust share them.

use std::fs;
use std::io::Read as _;
use std::sync::{Arc, LazyLock};

use xstitch::archive::compression::{decoder, extension};
use xstitch::archive::deb::{UnpackOptions, unpack_deb};
use xstitch::archive::images::ImageArchive;
use xstitch::archive::layer::{LayerKind, read_layer};
use xstitch::archive::source::{leaving_link, unpack_source};
use xstitch::image::document::{parse, parse_configuration};
use xstitch::image::imported::{Joined, import};
use xstitch::model::{Digest, Reference};
use xstitch::source::closure::closure;
use xstitch::source::index::{Index, ListOrigin};
use xstitch::source::list_file::ListFile;
use xstitch::source::openpgp::Keyring;
use xstitch::source::relation::{Relation, groups};
use xstitch::source::release_file::{Expected, Release, without_armor};
use xstitch::source::version::{compare, upstream};

/// A layer: no path that is accepted is outside the image, whatever was compressed.
pub fn layer(data: &[u8]) {
    let Ok(reader) = decoder(extension(data), data) else { return };
    let is_inside = |path: &str| {
        !path.starts_with('/') && path.split('/').all(|part| !matches!(part, ".." | "."))
    };
    let _ = read_layer(reader, data.len() as u64, &mut |member, content| {
        assert!(is_inside(&member.path), "{:?}", member.path);
        if let LayerKind::HardLink(target) = &member.kind {
            assert!(is_inside(target), "{target:?}");
        }
        let mut start = Vec::new();
        content.take(64).read_to_end(&mut start)?;
        Ok(())
    });
}

/// A layer on itself: what is joined has folders above everything, and links lead nowhere
/// outside.
pub fn base(data: &[u8]) {
    let scratch = tempfile::tempdir().expect("there is room");
    let Ok(reader) = decoder(extension(data), data) else { return };
    let Ok((summary, paths)) = import(reader, data.len() as u64, scratch.path()) else { return };
    let mut joined = Joined::default();
    joined.add(&summary, &paths);
    joined.add(&summary, &paths);
    for path in joined.all.paths.keys().take(200) {
        assert!(
            joined.all.paths.contains_key(path.rsplit_once('/').map_or(path.as_str(), |p| p.0))
        );
        let real = joined.real(path);
        assert!(!real.starts_with('/') && real.split('/').all(|part| part != ".."), "{real:?}");
    }
    let _ = joined.facts();
}

/// An archive of images: all that is found can be read or is an error.
pub fn images(data: &[u8]) {
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("images.tar");
    fs::write(&file, data).expect("there is room");
    let Ok(archive) = ImageArchive::open(&file) else { return };
    for name in ["manifest.json", "index.json"] {
        let _ = archive.read(name, &mut |reader| {
            let mut bytes = Vec::new();
            reader.take(1 << 20).read_to_end(&mut bytes)
        });
    }
}

/// A Debian package: nothing is written outside its folder.
pub fn deb(data: &[u8]) {
    let folder = tempfile::tempdir().expect("there is room");
    let (file, root) = (folder.path().join("x.deb"), folder.path().join("root"));
    fs::write(&file, data).expect("there is room");
    fs::create_dir(&root).expect("there is room");
    let _ = unpack_deb(&file, &root, &UnpackOptions::default());
    let there = fs::read_dir(folder.path()).expect("it is there").count();
    assert_eq!(there, 2, "something was written outside");
}

/// An archive of a source: what is unpacked is inside, and no larger than real files are.
pub fn source(data: &[u8]) {
    let folder = tempfile::tempdir().expect("there is room");
    let (file, out) = (folder.path().join("x"), folder.path().join("out"));
    fs::write(&file, data).expect("there is room");
    fs::create_dir(&out).expect("there is room");
    let unpacked = unpack_source(&file, &folder.path().join("scratch"), &out);
    assert!(fs::read_dir(folder.path()).expect("it is there").count() <= 3);
    if unpacked.is_ok() {
        assert_eq!(leaving_link(&out).expect("it is there"), None);
    }
}

/// Documents of registries and references.
pub fn documents(data: &[u8]) {
    let _ = (parse(data), parse_configuration(data));
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(reference) = text.parse::<Reference>()
    {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
}

/// What an archive of packages publishes: signed texts, release files, lists and what is in
/// their fields.
pub fn packages(data: &[u8]) {
    list(data);
    signed(data);
    if let Ok(text) = std::str::from_utf8(data) {
        release(without_armor(text));
        relations(text);
        versions(text);
    }
}

/// A list: no more of it is read than its release file says, all of it is checked, names make
/// no paths, and what is chosen has what it needs.
fn list(data: &[u8]) {
    const BYTES_AT_MOST: u64 = 1 << 20;
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("list");
    fs::write(&path, data).expect("there is room");
    let list = ListFile {
        path,
        release: Arc::default(),
        shown: String::new(),
        file: String::new(),
        extension: extension(data),
        packed: (Digest::of(data), data.len() as u64),
        plain: Some((Digest::of(b"something else"), BYTES_AT_MOST)),
    };
    assert!(list.check().is_ok());
    let (mut index, mut added) = (Index::default(), false);
    let believed = list.read(|reader| {
        let mut limited = reader.take(BYTES_AT_MOST + 1);
        let origin = ListOrigin { list: 0, is_backup: false };
        let result = index.add(&mut limited, origin, "arm64");
        assert!(limited.limit() > 0, "more was read than there should be");
        added = result.is_ok();
        result
    });
    assert!(believed.is_err(), "it is not what its release file says");
    if !added {
        return;
    }
    index.finish();
    for id in (0..).take(index.len().min(50)) {
        let (name, version) = (index.name(id), index.version(id));
        for text in [name, version] {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._~:".contains(&byte);
            assert!(!text.is_empty() && text.bytes().all(fits), "{text:?}");
            assert!(!text.starts_with(['.', '-']), "{text:?}");
        }
        let ids = index.versions(name);
        assert!(ids.iter().any(|other| index.version(*other) == version));
        for pair in ids.windows(2) {
            assert!(compare(index.version(pair[0]), index.version(pair[1])).is_ge());
        }
        if let Some(package) = index.package(id) {
            assert!(["arm64", "all"].contains(&package.architecture.as_str()));
        }
        if let Ok(chosen) = closure(&index, "arm64", &[name.to_owned()], &[]) {
            assert_closed(&index, &chosen);
        }
    }
}

/// Each package's needs are among the packages.
fn assert_closed(index: &Index, chosen: &[u32]) {
    for id in chosen {
        for group in index.relations(*id, "Depends").chain(index.relations(*id, "Pre-Depends")) {
            let serves = |relation: &Relation<'_>, id: u32| {
                (index.name(id) == relation.name && relation.takes(index.version(id)))
                    || index.provides(id, relation.name).is_some()
            };
            let is_there = |relation| chosen.iter().any(|id| serves(relation, *id));
            assert!(group.iter().any(is_there), "{} {group:?}", index.name(*id));
        }
    }
}

/// The only text that the key of `seeds/keyring.asc` has signed.
const SIGNED: &str = include_str!("seeds/InRelease");

/// A signed text, or a signature: only what was signed is believed.
fn signed(data: &[u8]) {
    static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
        Keyring::parse(include_bytes!("seeds/keyring.asc")).expect("it is a keyring")
    });
    let _ = Keyring::parse(data);
    assert!(KEYRING.check_detached(b"something else", data, None).is_err());
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(text) = KEYRING.signed_text(text, None)
    {
        // The signature does not cover what ends a line.
        let lines = |text: &str| -> Vec<String> {
            text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
        };
        assert_eq!(lines(&text), lines(without_armor(SIGNED)));
    }
}

/// A release file: it is believed in its time, and only then.
fn release(text: &str) {
    let Ok(release) = Release::parse(text) else { return };
    let Some(suite) = [&release.suite, &release.codename].into_iter().find(|name| !name.is_empty())
    else {
        return;
    };
    let at = Expected {
        suite,
        now_secs: release.date_secs,
        valid_until: false,
        seen_secs: Some(release.date_secs),
    };
    assert_eq!(release.check(&at), Ok(()));
    let is_refused = |expected: Expected<'_>| release.check(&expected).is_err();
    assert!(is_refused(Expected { seen_secs: Some(release.date_secs + 1), ..at }));
    assert!(is_refused(Expected { suite: "another one", ..at }));
    assert!(release.date_secs < 86_400 || is_refused(Expected { now_secs: 0, ..at }));
    if let Some(until) = release.valid_until_secs {
        let late = Expected { now_secs: until.max(release.date_secs) + 1, valid_until: true, ..at };
        assert!(is_refused(late));
    }
}

/// Relations mean what they say when they are written.
fn relations(text: &str) {
    for relation in groups(text).take(100).flatten() {
        let written = relation.to_string();
        assert!(!relation.name.is_empty() && !relation.name.contains(char::is_whitespace));
        let again: Vec<_> = groups(&written).flatten().collect();
        assert_eq!(again, [relation], "{written:?}");
    }
}

/// Versions have one order.
fn versions(text: &str) {
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    for a in &words {
        assert!(a.contains(upstream(a)));
        for b in &words {
            assert_eq!(compare(a, b), compare(b, a).reverse(), "{a:?} {b:?}");
            assert!(a != b || compare(a, b).is_eq(), "{a:?}");
            for c in &words {
                let ascends = compare(a, b).is_le() && compare(b, c).is_le();
                assert!(!ascends || compare(a, c).is_le(), "{a:?} {b:?} {c:?}");
            }
        }
    }
}
