//! What is fuzzed: each reader of hostile bytes as a function of bytes, with what must hold
//! of whatever it accepts. The fuzzer and a bounded test on stable Rust share them.

use std::fs;
use std::io::Read as _;

use xstitch::archive::compression::{decoder, extension};
use xstitch::archive::deb::{UnpackOptions, unpack_deb};
use xstitch::archive::images::ImageArchive;
use xstitch::archive::layer::{LayerKind, read_layer};
use xstitch::image::document::{parse, parse_configuration};
use xstitch::image::imported::{Joined, import};
use xstitch::model::Reference;

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

/// Documents of registries and references.
pub fn documents(data: &[u8]) {
    let _ = (parse(data), parse_configuration(data));
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(reference) = text.parse::<Reference>()
    {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
}
