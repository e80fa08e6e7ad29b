//! Layer summaries: what checks need to know of a layer, taken once while it is packed.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::elf::{ElfFacts, facts};
use super::filesystem::{Filesystem, Kind};

/// What a layer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// ELF files by path.
    pub elf: BTreeMap<String, ElfFacts>,
    /// First lines of scripts (`#!…`) by path.
    pub scripts: BTreeMap<String, String>,
    /// Links by path, with their text.
    pub links: BTreeMap<String, String>,
    /// Number of members.
    pub members: usize,
}

/// Summarises `files`.
pub fn summarise(files: &Filesystem) -> io::Result<LayerSummary> {
    let mut summary = LayerSummary { members: files.nodes.len(), ..LayerSummary::default() };
    for (path, node) in &files.nodes {
        match &node.kind {
            Kind::Link(target) => drop(summary.links.insert(path.clone(), target.clone())),
            Kind::File(_) => {
                let Some(bytes) = files.bytes(path) else { continue };
                let bytes = bytes?;
                if let Some(facts) = facts(&bytes) {
                    summary.elf.insert(path.clone(), facts);
                } else if bytes.starts_with(b"#!") {
                    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
                    let line = String::from_utf8_lossy(line).into_owned();
                    summary.scripts.insert(path.clone(), line);
                }
            }
            Kind::Folder => {}
        }
    }
    Ok(summary)
}
