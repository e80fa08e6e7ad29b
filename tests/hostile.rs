//! Hostile bytes on stable Rust: what `fuzz/` lets a fuzzer look for, with seeded damage to good
//! archives; and properties of layers with hostile members.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end")]

#[path = "../fuzz/entries.rs"]
mod entries;

use std::io::Write as _;

use proptest::prelude::*;
use xstitch::archive::compression::{Compression, Encoder};

/// Damaged inputs for each reader. Raise it for a longer look: `HOSTILE_ROUNDS=100000`.
fn rounds() -> usize {
    option_env!("HOSTILE_ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(400)
}

fn member(
    builder: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    content: &[u8],
    link: &str,
) {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

/// A tar archive with one of each kind of member.
fn archive() -> Vec<u8> {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("SCHILY.xattr.user.x", b"y".as_slice())]).unwrap();
    member(&mut builder, "usr/", Directory, b"", "");
    member(&mut builder, "usr/bin/x", Regular, b"#!/bin/sh\necho x\n", "");
    member(&mut builder, "usr/bin/y", Link, b"", "usr/bin/x");
    member(&mut builder, "bin", Symlink, b"", "usr/bin");
    member(
        &mut builder,
        "usr/bin/elf",
        Regular,
        &std::fs::read("/proc/self/exe").unwrap()[..2000],
        "",
    );
    member(&mut builder, "etc/.wh.gone", Regular, b"", "");
    member(&mut builder, "opt/.wh..wh..opq", Regular, b"", "");
    member(&mut builder, "etc/os-release", Regular, b"ID=debian\n", "");
    member(&mut builder, "manifest.json", Regular, b"[]", "");
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    let long = "long/".repeat(60) + "name";
    builder.append_data(&mut header, long, b"abc".as_slice()).unwrap();
    builder.into_inner().unwrap()
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), compression, 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A Debian package with `data`, a tar archive.
fn package(data: &[u8]) -> Vec<u8> {
    let mut control = tar::Builder::new(Vec::new());
    member(&mut control, "./control", tar::EntryType::Regular, b"Package: x\nVersion: 1\n", "");
    let control = control.into_inner().unwrap();
    let mut bytes = b"!<arch>\n".to_vec();
    let data_gz = compressed(data, Compression::Gzip);
    for (name, content) in [
        ("debian-binary", b"2.0\n".as_slice()),
        ("control.tar", &control),
        ("data.tar.gz", &data_gz),
    ] {
        bytes.extend(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len())
                .bytes(),
        );
        bytes.extend(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Numbers that are the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % most.max(1)
    }
}

/// Damages copies of `good` in all the ways of disks and enemies.
fn damage(good: &[u8], look: fn(&[u8])) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    look(good);
    for _ in 0..rounds() {
        let mut bad = good.to_vec();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(bad.len());
            match numbers.below(6) {
                0 => bad.truncate(at),
                1 if !bad.is_empty() => bad[at] ^= 1 << numbers.below(8),
                2 if !bad.is_empty() => {
                    bad[at] = [0, 0xff, b'7', b'/', b'.', b'L'][numbers.below(6)]
                }
                3 => {
                    let end = (at + 512 * numbers.below(3)).min(bad.len());
                    let block = bad[at..end].to_vec();
                    let to = numbers.below(bad.len());
                    bad.splice(to..to, block);
                }
                4 => {
                    let end = (at + numbers.below(600)).min(bad.len());
                    bad.drain(at..end);
                }
                _ => {
                    let end = (at + numbers.below(16)).min(bad.len());
                    bad[at..end].fill(b'7');
                }
            }
        }
        look(&bad);
    }
}

#[test]
fn unit_damaged_layers() {
    let plain = archive();
    for bytes in [
        plain.clone(),
        compressed(&plain, Compression::Gzip),
        compressed(&plain, Compression::Zstd),
    ] {
        damage(&bytes, entries::layer);
        damage(&bytes, entries::base);
    }
}

#[test]
fn unit_damaged_archives_of_images() {
    damage(&archive(), entries::images);
    damage(&compressed(&archive(), Compression::Gzip), entries::images);
}

#[test]
fn unit_damaged_packages() {
    damage(&package(&archive()), entries::deb);
}

#[test]
fn unit_damaged_documents() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{digest}","size":1,"platform":{{"architecture":"arm","os":"linux","variant":"v7"}}}}]}}"#
    );
    damage(index.as_bytes(), entries::documents);
    let config = format!(
        r#"{{"architecture":"arm","os":"linux","config":{{"Env":["A=b"]}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    damage(config.as_bytes(), entries::documents);
    damage(format!("registry.example.org:5000/a/b:1@{digest}").as_bytes(), entries::documents);
}

/// A path made of parts that are good and bad.
fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("a"),
        Just("b"),
        Just("usr"),
        Just(".."),
        Just("."),
        Just(""),
        Just(".wh.a"),
        Just(".wh."),
        Just(".wh..wh..opq"),
        Just("dev"),
        Just("lib"),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn unit_no_combination_of_members_leaves_the_image(
        members in prop::collection::vec((path(), 0..7_usize, path()), 0..8)
    ) {
        use tar::EntryType::{Block, Char, Directory, Fifo, Link, Regular, Symlink};
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, link) in &members {
            let kind = [Regular, Directory, Symlink, Link, Char, Block, Fifo][*kind];
            let content: &[u8] = if kind == Regular { b"x" } else { b"" };
            member(&mut builder, name, kind, content, link);
        }
        let bytes = builder.into_inner().unwrap();
        entries::layer(&bytes);
        entries::base(&bytes);
        entries::images(&bytes);
        entries::deb(&package(&bytes));
    }

    #[test]
    fn unit_references_are_refused_or_come_back(text in "[a-zA-Z0-9._:/@-]{0,40}") {
        entries::documents(text.as_bytes());
    }
}
