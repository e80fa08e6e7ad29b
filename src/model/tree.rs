//! Trees: the content of a folder as a value, without times, owners or inode facts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;

/// One member of a [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Entry {
    /// A regular file.
    File {
        /// Digest of its bytes.
        digest: Digest,
        /// Its length.
        size_bytes: u64,
        /// Permission bits (`0o7777`), as they go into a layer.
        mode: u32,
    },
    /// A symbolic link and the text it holds.
    Link {
        /// The text of the link, as `readlink` gives it.
        target: String,
    },
    /// A folder.
    Folder {
        /// Permission bits (`0o7777`).
        mode: u32,
    },
}

/// Paths, relative and `/`-separated without a leading slash, to what is there; sorted by bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tree {
    /// The members by path. The root itself is not a member.
    pub entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// The digest of the tree's one JSON form.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_json())
    }

    /// The JSON form that [`Tree::digest`] is taken of.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a tree has string keys only")
    }

    /// The sum of the sizes of all files, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| match entry {
                Entry::File { size_bytes, .. } => *size_bytes,
                _ => 0,
            })
            .sum()
    }
}
