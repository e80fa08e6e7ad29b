//! Hostile bytes on stable Rust: what `fuzz/` lets a fuzzer look for, with seeded damage to good
//! archives; and properties of layers with hostile members.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end")]

#[path = "../fuzz/entries.rs"]
mod entries;
#[path = "../fuzz/seeds.rs"]
mod seeds;

use proptest::prelude::*;
use seeds::{member, package, seeds};

/// Damaged inputs for each reader. Raise it for a longer look: `HOSTILE_ROUNDS=100000`.
fn rounds() -> usize {
    option_env!("HOSTILE_ROUNDS").and_then(|text| text.parse().ok()).unwrap_or(400)
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

fn damaged(target: &str, look: fn(&[u8])) {
    for seed in seeds(target) {
        damage(&seed, look);
    }
}

#[test]
fn unit_damaged_layers() {
    damaged("layer", entries::layer);
}

#[test]
fn unit_damaged_bases() {
    damaged("base", entries::base);
}

#[test]
fn unit_damaged_archives_of_images() {
    damaged("images", entries::images);
}

#[test]
fn unit_damaged_packages() {
    damaged("deb", entries::deb);
}

#[test]
fn unit_damaged_sources() {
    damaged("source", entries::source);
}

#[test]
fn unit_damaged_documents() {
    damaged("documents", entries::documents);
}

#[test]
fn unit_damaged_package_archives() {
    damaged("packages", entries::packages);
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
