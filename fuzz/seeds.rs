//! What fuzzing starts from: small good inputs for each reader. `cargo xtask fuzz` writes
//! them where a fuzzer looks for them, `tests/hostile.rs` damages them.

use std::io::Write as _;

use xstitch::archive::compression::{Compression, Encoder};

/// Inputs for the reader of that name in `entries.rs`.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let plain = archive();
    let both = [Compression::Gzip, Compression::Zstd].map(|kind| compressed(&plain, kind));
    let [gzip, zstd] = both;
    match target {
        "layer" | "base" | "images" => vec![plain, gzip, zstd],
        "source" => sources(),
        "deb" => vec![package(&plain)],
        "documents" => documents(),
        "packages" => packages(),
        other => unreachable!("`{other}` is in entries.rs"),
    }
}

/// Adds a member with any name, also one that no builder would take.
pub fn member(
    builder: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    content: &[u8],
    link: &str,
) {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().expect("it was made so");
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    builder.append(&header, content).expect("memory takes it");
}

/// Archives of a source, as tar and as zip.
fn sources() -> Vec<Vec<u8>> {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content, link) in [
        ("x-1/", Directory, b"".as_slice(), ""),
        ("x-1/src/a.c", Regular, b"int a;", ""),
        ("x-1/src/b.c", Link, b"", "x-1/src/a.c"),
        ("x-1/include", Symlink, b"", "src/../src"),
    ] {
        member(&mut builder, name, kind, content, link);
    }
    let plain = builder.into_inner().expect("memory takes it");
    let gzip = compressed(&plain, Compression::Gzip);
    vec![plain, gzip, zip("x-1/a.c", b"int a;", 0o100_755), zip("l", b"../x", 0o120_777)]
}

/// A zip archive with one member (APPNOTE, 4.3), as it is kept without compression.
fn zip(name: &str, content: &[u8], mode: u32) -> Vec<u8> {
    let mut sum = !0_u32;
    for byte in content {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).expect("it is small").to_le_bytes();
    let name_size = &size(name.as_bytes())[..2];
    let both = [[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0].as_slice(), &(!sum).to_le_bytes()].concat();
    let both = [&both, size(content).as_slice(), &size(content), name_size, &[0, 0]].concat();
    let mut bytes = [b"PK\x03\x04", both.as_slice(), name.as_bytes(), content].concat();
    let mode = (mode << 16).to_le_bytes();
    let rest = [[0; 6].as_slice(), &mode, &[0; 4], name.as_bytes()].concat();
    let central = [b"PK\x01\x02\x14\x03", both.as_slice(), &rest].concat();
    let place = [size(&central), size(&bytes)].concat();
    bytes.extend(&central);
    bytes.extend([b"PK\x05\x06\0\0\0\0\x01\0\x01\0".as_slice(), &place, &[0, 0]].concat());
    bytes
}

/// A tar archive with one of each kind of member.
fn archive() -> Vec<u8> {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let mut builder = tar::Builder::new(Vec::new());
    let attributes = [("SCHILY.xattr.user.x", b"y".as_slice())];
    builder.append_pax_extensions(attributes).expect("memory takes it");
    for (name, kind, content, link) in [
        ("usr/", Directory, b"".as_slice(), ""),
        ("usr/bin/x", Regular, b"#!/bin/sh\necho x\n", ""),
        ("usr/bin/y", Link, b"", "usr/bin/x"),
        ("bin", Symlink, b"", "usr/bin"),
        ("usr/bin/elf", Regular, &elf(), ""),
        ("etc/.wh.gone", Regular, b"", ""),
        ("opt/.wh..wh..opq", Regular, b"", ""),
        ("etc/os-release", Regular, b"ID=debian\n", ""),
        ("manifest.json", Regular, b"[]", ""),
    ] {
        member(&mut builder, name, kind, content, link);
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    let long = "long/".repeat(60) + "name";
    builder.append_data(&mut header, long, b"abc".as_slice()).expect("memory takes it");
    builder.into_inner().expect("memory takes it")
}

/// An ELF file of 64 bits that needs a library in a version (System V gABI, chapters 4 and 5).
fn elf() -> Vec<u8> {
    const TEXTS: &[u8] = b"\0libc.so.6\0GLIBC_2.36\0/lib/ld.so\0";
    const SIZE: u64 = 0x200;
    const HEADERS: [[u64; 4]; 3] = [
        // Kind, offset, address, size.
        [1, 0, 0, SIZE],
        [2, 0x100, 0x100, 0x50],
        [3, 0x1c0 + 22, 0, 11],
    ];
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    bytes.resize(16, 0);
    bytes.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([0_u64, 64, 0].map(u64::to_le_bytes).as_flattened());
    bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    for [kind, offset, address, size] in HEADERS {
        let numbers = [kind, offset, address, address, size, size, 8];
        bytes.extend(numbers.map(u64::to_le_bytes).as_flattened());
    }
    bytes.resize(0x100, 0);
    // DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_VERNEED.
    for (tag, value) in
        [(1_u64, 1), (5, 0x1c0), (10, TEXTS.len() as u64), (0x6fff_fffe, 0x180), (0, 0)]
    {
        bytes.extend([tag, value].map(u64::to_le_bytes).as_flattened());
    }
    bytes.resize(0x180, 0);
    bytes.extend([1, 0, 1, 0, 1, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, 0, 0, 0, 0, 2, 0, 11, 0, 0, 0, 0, 0, 0, 0]);
    bytes.resize(0x1c0, 0);
    bytes.extend(TEXTS);
    bytes.resize(0x200, 0);
    bytes
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), compression, 1);
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// A Debian package with `data`, a tar archive.
pub fn package(data: &[u8]) -> Vec<u8> {
    let mut control = tar::Builder::new(Vec::new());
    let stanza = b"Package: x\nVersion: 1\n";
    member(&mut control, "./control", tar::EntryType::Regular, stanza, "");
    let control = control.into_inner().expect("memory takes it");
    let mut bytes = b"!<arch>\n".to_vec();
    let data = compressed(data, Compression::Gzip);
    for (name, content) in
        [("debian-binary", b"2.0\n".as_slice()), ("control.tar", &control), ("data.tar.gz", &data)]
    {
        let length = content.len();
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{length:<10}`\n", 0, 0, 0, 100_644);
        bytes.extend(header.bytes());
        bytes.extend(content);
        if length % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn documents() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "0".repeat(64));
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{digest}","size":1,"platform":{{"architecture":"arm","os":"linux","variant":"v7"}}}}]}}"#
    );
    let config = format!(
        r#"{{"architecture":"arm","os":"linux","config":{{"Env":["A=b"]}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    let reference = format!("registry.example.org:5000/a/b:1@{digest}");
    vec![index.into(), config.into(), reference.into()]
}

fn packages() -> Vec<Vec<u8>> {
    let list = include_bytes!("seeds/Packages");
    let mut seeds: Vec<Vec<u8>> = [
        list.as_slice(),
        include_bytes!("seeds/Packages.xz"),
        include_bytes!("seeds/InRelease"),
        include_bytes!("seeds/keyring.asc"),
        b"1:2.0~rc1-3+b1 2.36-9+deb12u10 0:1.01-0",
        b"libc6 (>= 2.36), base-x | base-y (<< 3), helper:any [arm64] <!nocheck>",
    ]
    .map(<[u8]>::to_vec)
    .into();
    seeds.extend([Compression::Gzip, Compression::Zstd].map(|kind| compressed(list, kind)));
    seeds
}
