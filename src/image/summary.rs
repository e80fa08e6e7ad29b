//! Layer summaries: what checks need to know of a layer, taken once while it is packed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Cursor, Read, Seek};

use serde::{Deserialize, Serialize};

use super::elf::{ElfFacts, facts};
use super::filesystem::{Filesystem, Kind, Source};

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

/// Longest first line of a script that is kept; kernels read less.
const SCRIPT_LINE_BYTES_AT_MOST: u64 = 4096;

/// Summarises `files`, reading of each only what is looked at.
pub fn summarise(files: &Filesystem) -> io::Result<LayerSummary> {
    let mut summary = LayerSummary { members: files.nodes.len(), ..LayerSummary::default() };
    for (path, node) in &files.nodes {
        match &node.kind {
            Kind::Link(target) => drop(summary.links.insert(path.clone(), target.clone())),
            Kind::File(Source::Bytes(bytes)) => summary.file(path, Cursor::new(bytes))?,
            Kind::File(Source::Path(file)) => summary.file(path, fs::File::open(file)?)?,
            Kind::Folder => {}
        }
    }
    Ok(summary)
}

impl LayerSummary {
    /// Adds what a file's start says.
    pub(super) fn file(&mut self, path: &str, mut file: impl Read + Seek) -> io::Result<()> {
        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic)?;
        if magic == b"\x7fELF" {
            if let Some(facts) = facts(file) {
                self.elf.insert(path.to_owned(), facts);
            }
        } else if magic.starts_with(b"#!") {
            file.rewind()?;
            let mut line = Vec::new();
            BufReader::new(file.take(SCRIPT_LINE_BYTES_AT_MOST)).read_until(b'\n', &mut line)?;
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            self.scripts.insert(path.to_owned(), String::from_utf8_lossy(line).into_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_give_their_first_line_and_programs_their_header() {
        let mut files = Filesystem::default();
        files.add_bytes("script", "#!/bin/sh -e\r\necho\n", 0o755);
        files.add_bytes("short", "#!", 0o755);
        files.add_bytes("long", format!("#!/{}", "x".repeat(100_000)), 0o755);
        files.add_bytes("text", "\x7fEL", 0o644);
        files.add_bytes("empty", "", 0o644);
        files.add_file("program", "/proc/self/exe".into(), 0o755);
        files.add_link("link", "script");
        let summary = summarise(&files).unwrap();
        assert_eq!(summary.elf.keys().collect::<Vec<_>>(), ["program"]);
        assert_eq!(summary.scripts["script"], "#!/bin/sh -e\r");
        assert_eq!(summary.scripts["short"], "#!");
        assert_eq!(summary.scripts["long"].len() as u64, SCRIPT_LINE_BYTES_AT_MOST);
        assert_eq!(summary.scripts.len(), 3);
        assert_eq!((summary.links.len(), summary.members), (1, 7));
    }
}
