//! An index of package lists (Debian policy 5.3; one stanza a package), made to be asked by
//! name. Of each stanza only the fields that are asked for stay in memory.
//!
//! Deliberately absent: where lists come from, and choosing among packages.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, Read as _};

use super::relation::{Operator, groups};
use super::version::compare;
use crate::model::Digest;
use crate::model::package::Package;

const FIELDS: [&str; 13] = [
    "Architecture",
    "Breaks",
    "Conflicts",
    "Depends",
    "Filename",
    "Multi-Arch",
    "Package",
    "Pre-Depends",
    "Priority",
    "Provides",
    "SHA256",
    "Size",
    "Version",
];

/// A stanza longer than this is an attack.
const STANZA_BYTES_AT_MOST: usize = 4 << 20;

/// A package of an [`Index`].
pub type Id = u32;

/// Package lists of one architecture, as one.
#[derive(Debug, Default)]
pub struct Index {
    /// Kept fields of all stanzas.
    text: String,
    entries: Vec<Entry>,
    by_name: HashMap<Box<str>, Vec<Id>>,
    providers: HashMap<Box<str>, Vec<Id>>,
}

#[derive(Clone, Debug)]
struct Entry {
    stanza: std::ops::Range<usize>,
    name: std::ops::Range<usize>,
    version: std::ops::Range<usize>,
    list: usize,
    is_backup: bool,
}

/// Where a list comes from, as its packages are ranked by it.
#[derive(Clone, Copy, Debug)]
pub struct ListOrigin {
    /// Number of the list, for [`Index::list`]; of equal versions the first list's is taken.
    pub list: usize,
    /// Whether its packages are taken only where no other list has any (`NotAutomatic`).
    pub is_backup: bool,
}

impl Index {
    /// Adds the packages of a list that are for `architecture` or for all. [`Index::finish`]
    /// is to be called after the last.
    pub fn add(
        &mut self,
        mut list: impl BufRead,
        origin: ListOrigin,
        architecture: &str,
    ) -> io::Result<()> {
        let mut line = Vec::new();
        let mut start = self.text.len();
        let mut is_kept = false;
        loop {
            line.clear();
            let at_most = STANZA_BYTES_AT_MOST as u64 + 1;
            let length = list.by_ref().take(at_most).read_until(b'\n', &mut line)?;
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.is_empty() {
                self.end_stanza(start, origin, architecture)?;
                start = self.text.len();
                is_kept = false;
                if length == 0 {
                    return Ok(());
                }
                continue;
            }
            if !text.starts_with(b" ") && !text.starts_with(b"\t") {
                let colon = text.iter().position(|byte| *byte == b':').unwrap_or(0);
                is_kept = FIELDS.iter().any(|field| text[..colon] == *field.as_bytes());
            }
            if is_kept {
                let text = std::str::from_utf8(text).map_err(io::Error::other)?;
                self.text.push_str(text);
                self.text.push('\n');
            }
            if self.text.len() - start > STANZA_BYTES_AT_MOST || line.len() > STANZA_BYTES_AT_MOST {
                return Err(io::Error::other("a package list has an endless stanza"));
            }
        }
    }

    fn end_stanza(
        &mut self,
        start: usize,
        origin: ListOrigin,
        architecture: &str,
    ) -> io::Result<()> {
        let stanza = &self.text[start..];
        if stanza.is_empty() {
            return Ok(());
        }
        let range = |name: &str| {
            let value = field(stanza, name)?;
            let at = start + (value.as_ptr() as usize - stanza.as_ptr() as usize);
            Some(at..at + value.len())
        };
        let (Some(name), Some(version)) = (range("Package"), range("Version")) else {
            return Err(io::Error::other("a package list has a stanza without name or version"));
        };
        let (is_name, is_version) =
            (is_name(&self.text[name.clone()]), is_version(&self.text[version.clone()]));
        if !is_name || !is_version {
            let (what, wrong) = if is_name { ("version", version) } else { ("name", name) };
            let wrong: String = self.text[wrong].chars().take(100).collect();
            let wrong = wrong.escape_debug();
            let why = format!("a package list has a package with the {what} `{wrong}`");
            return Err(io::Error::other(why));
        }
        let is_for = field(stanza, "Architecture");
        if !is_for.is_some_and(|is_for| is_for == architecture || is_for == "all") {
            self.text.truncate(start);
            return Ok(());
        }
        self.entries.push(Entry {
            stanza: start..self.text.len(),
            name,
            version,
            list: origin.list,
            is_backup: origin.is_backup,
        });
        Ok(())
    }

    /// Sorts what was added: the versions of a package best first.
    pub fn finish(&mut self) {
        let mut by_name: HashMap<Box<str>, Vec<Id>> = HashMap::new();
        let mut providers: HashMap<Box<str>, Vec<Id>> = HashMap::new();
        for id in (0..).take(self.entries.len()) {
            by_name.entry(self.name(id).into()).or_default().push(id);
            for group in self.relations(id, "Provides") {
                for relation in group {
                    let ids = providers.entry(relation.name.into()).or_default();
                    if ids.last() != Some(&id) {
                        ids.push(id);
                    }
                }
            }
        }
        for ids in by_name.values_mut() {
            ids.sort_by(|a, b| self.best_first(*a, *b));
            ids.dedup_by(|a, b| self.version(*a) == self.version(*b));
        }
        let best: HashSet<Id> = by_name.values().flatten().copied().collect();
        for ids in providers.values_mut() {
            ids.retain(|id| best.contains(id));
            ids.sort_by(|a, b| {
                let rank = |id: &Id| (self.is_backup(*id), self.priority(*id));
                rank(a)
                    .cmp(&rank(b))
                    .then_with(|| self.name(*a).cmp(self.name(*b)))
                    .then_with(|| self.best_first(*a, *b))
            });
        }
        (self.by_name, self.providers) = (by_name, providers);
    }

    fn best_first(&self, a: Id, b: Id) -> std::cmp::Ordering {
        self.is_backup(a)
            .cmp(&self.is_backup(b))
            .then_with(|| compare(self.version(b), self.version(a)))
            .then_with(|| self.list(a).cmp(&self.list(b)))
            .then_with(|| a.cmp(&b))
    }

    fn entry(&self, id: Id) -> &Entry {
        &self.entries[id as usize]
    }

    /// Number of packages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no packages.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The versions of a package, best first.
    pub fn versions(&self, name: &str) -> &[Id] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The packages that provide `name` besides those that have it, best first.
    pub fn providers(&self, name: &str) -> &[Id] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Name of a package.
    pub fn name(&self, id: Id) -> &str {
        &self.text[self.entry(id).name.clone()]
    }

    /// Version of a package.
    pub fn version(&self, id: Id) -> &str {
        &self.text[self.entry(id).version.clone()]
    }

    /// Number of the list that a package is from.
    pub fn list(&self, id: Id) -> usize {
        self.entry(id).list
    }

    fn is_backup(&self, id: Id) -> bool {
        self.entry(id).is_backup
    }

    /// Place of the archive's word for how much a package is needed (Debian policy 2.5).
    fn priority(&self, id: Id) -> usize {
        const PRIORITIES: [&str; 5] = ["required", "important", "standard", "optional", "extra"];
        let priority = self.field(id, "Priority").unwrap_or_default();
        PRIORITIES.iter().position(|known| *known == priority).unwrap_or(PRIORITIES.len())
    }

    /// A field of a package, if it is one of those that are kept.
    pub fn field(&self, id: Id, name: &str) -> Option<&str> {
        field(&self.text[self.entry(id).stanza.clone()], name)
    }

    /// The relations that a field of a package holds.
    pub fn relations(
        &self,
        id: Id,
        name: &str,
    ) -> impl Iterator<Item = Vec<super::relation::Relation<'_>>> {
        groups(self.field(id, name).unwrap_or_default())
    }

    /// The version in which a package provides `name`, if it does; none is every version
    /// that is not asked for.
    pub fn provides(&self, id: Id, name: &str) -> Option<Option<&str>> {
        let mut provided = self.relations(id, "Provides").flatten();
        let found = provided.find(|provided| provided.name == name)?;
        Some(found.version.filter(|(operator, _)| *operator == Operator::Equal).map(|(_, v)| v))
    }

    /// The package as it is pinned; none where the list does not say its size and hash.
    pub fn package(&self, id: Id) -> Option<Package> {
        Some(Package {
            name: self.name(id).to_owned(),
            version: self.version(id).to_owned(),
            architecture: self.field(id, "Architecture")?.to_owned(),
            sha256: Digest::from_hex(self.field(id, "SHA256")?).ok()?,
            size_bytes: self.field(id, "Size")?.parse().ok()?,
        })
    }
}

/// Whether a text can be the name of a package (Debian policy 5.6.7), also one that archives
/// take which are not so strict. Names become those of files.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
}

/// Whether a text can be a version (Debian policy 5.6.12).
fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '~')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-._~:".contains(c))
}

/// The value of a field of a stanza, with its further lines.
pub fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = stanza;
    loop {
        let is_found = rest.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let Some(value) = is_found else {
            if end == rest.len() {
                return None;
            }
            rest = &rest[end..];
            continue;
        };
        let mut end = value.find('\n').unwrap_or(value.len());
        while value[end..].starts_with("\n ") || value[end..].starts_with("\n\t") {
            end += 1 + value[end + 1..].find('\n').unwrap_or(value.len() - end - 1);
        }
        return Some(value[..end].trim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "Package: b\nArchitecture: all\nVersion: 1\nProvides: v (= 3), w\nTag: x,\n y\n\n\
                        Package: a\nVersion: 1\nArchitecture: arm64\nDepends: b,\n c (>= 1)\nDescription: d\n\n\n\
                        Package: a\nVersion: 2\nArchitecture: amd64\n\n\
                        Package: a\nVersion: 1.1\nArchitecture: arm64";

    fn index(lists: &[(&str, bool)]) -> Index {
        let mut index = Index::default();
        for (list, (text, is_backup)) in lists.iter().enumerate() {
            let origin = ListOrigin { list, is_backup: *is_backup };
            index.add(text.as_bytes(), origin, "arm64").unwrap();
        }
        index.finish();
        index
    }

    #[test]
    fn packages_are_found_by_name() {
        let index = index(&[(LIST, false)]);
        let versions = |name| -> Vec<&str> {
            index.versions(name).iter().map(|id| index.version(*id)).collect()
        };
        assert_eq!(versions("a"), ["1.1", "1"]);
        assert_eq!(versions("b"), ["1"]);
        assert_eq!(versions("v"), [] as [&str; 0]);
        let [provider] = index.providers("v") else { panic!() };
        assert_eq!(index.provides(*provider, "v"), Some(Some("3")));
        assert_eq!(index.provides(*provider, "w"), Some(None));
        assert_eq!(index.provides(*provider, "u"), None);
        let first = index.versions("a")[1];
        let depends: Vec<_> = index.relations(first, "Depends").collect();
        assert_eq!(depends.len(), 2);
        assert_eq!(depends[1][0].to_string(), "c (>= 1)");
        assert_eq!(index.field(first, "Description"), None);
        assert_eq!(index.package(first), None);
    }

    #[test]
    fn backups_come_last_and_equal_versions_once() {
        let backup = "Package: a\nVersion: 9\nArchitecture: all\n";
        let index = index(&[(backup, true), (LIST, false), (LIST, false)]);
        let found: Vec<_> =
            index.versions("a").iter().map(|id| (index.version(*id), index.list(*id))).collect();
        assert_eq!(found, [("1.1", 1), ("1", 1), ("9", 0)]);
    }

    #[test]
    fn damaged_lists_are_refused() {
        let origin = ListOrigin { list: 0, is_backup: false };
        for bad in ["Package: a\n", "Version: 1\nArchitecture: all\n\n", "<html>\n"] {
            let added = Index::default().add(bad.as_bytes(), origin, "arm64");
            assert!(added.is_err() || bad.starts_with('<'), "{bad}");
        }
        assert!(Index::default().add(&b"Package: \xff\nVersion: 1\n"[..], origin, "x").is_err());
        let endless = format!("Depends: {}", "a,".repeat(STANZA_BYTES_AT_MOST));
        assert!(Index::default().add(endless.as_bytes(), origin, "x").is_err());
        // A line without an end does not come into memory.
        let mut zeros = io::BufReader::new(io::repeat(0).take(u64::MAX));
        assert!(Index::default().add(&mut zeros, origin, "x").is_err());
    }

    #[test]
    fn names_that_would_be_paths_are_refused() {
        let origin = ListOrigin { list: 0, is_backup: false };
        for (name, version, why) in [
            ("../x", "1", "the name `../x`"),
            (".", "1", "the name `.`"),
            ("a b", "1", "the name `a b`"),
            ("", "1", "the name ``"),
            ("a", "1/2", "the version `1/2`"),
            ("a", "-1", "the version `-1`"),
        ] {
            let list = format!("Package: {name}\nVersion: {version}\nArchitecture: all\n");
            let problem = Index::default().add(list.as_bytes(), origin, "x").unwrap_err();
            assert_eq!(problem.to_string(), format!("a package list has a package with {why}"));
        }
    }
}
