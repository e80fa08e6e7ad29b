//! The files of a tree as parts of a shared cache.
//!
//! Large files are parts by themselves, so that results share them. Small ones are in one part,
//! a pack: their bytes one after the other in the order of the tree's paths, each content once,
//! compressed as a whole. The description says how long each is and what digest it has, so that
//! a pack needs no names, and none can leave the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use super::statement::{Pack, Part};
use crate::archive::compression::{Compression, Encoder, decoder};
use crate::model::{Digest, Entry, Hasher, Tree};
use crate::store::WantedFile;

/// Files that are smaller are packed.
const BELOW_BYTES: u64 = 128 << 10;
/// From so many of them on.
const FILES_AT_LEAST: usize = 4;

/// Files of a tree that are parts by themselves, and how the others are packed.
pub struct Parts {
    /// A path in the tree for each large content.
    pub large: BTreeMap<Digest, (String, u64)>,
    /// Paths of the small ones, in the order of a pack. Empty if there is none.
    pub small: Vec<String>,
    /// What small means.
    pub below_bytes: u64,
}

impl Parts {
    /// The parts of a tree that is going to be kept.
    pub fn of(tree: &Tree) -> Self {
        let small = contents(tree, |size_bytes| size_bytes < BELOW_BYTES);
        let below_bytes = if small.len() < FILES_AT_LEAST { 0 } else { BELOW_BYTES };
        let mut large = BTreeMap::new();
        for (path, digest, size_bytes) in contents(tree, |size_bytes| size_bytes >= below_bytes) {
            // What has no bytes is nowhere.
            if size_bytes > 0 {
                large.insert(digest, (path.to_owned(), size_bytes));
            }
        }
        let small = if below_bytes == 0 { Vec::new() } else { small };
        let small = small.into_iter().map(|(path, ..)| path.to_owned()).collect();
        Self { large, small, below_bytes }
    }

    /// Writes the pack of the tree in `folder` to `to`, if there is one.
    pub fn pack(&self, folder: &Path, to: &Path) -> io::Result<Option<Pack>> {
        if self.small.is_empty() {
            return Ok(None);
        }
        let file = Hashed { file: fs::File::create_new(to)?, hasher: Hasher::new() };
        let mut encoder = Encoder::new(file, Compression::Zstd, 1);
        for path in &self.small {
            encoder.write_all(&fs::read(folder.join(path))?)?;
        }
        let (digest, size_bytes) = encoder.finish()?.hasher.finish();
        Ok(Some(Pack { part: Part { digest, size_bytes }, below_bytes: self.below_bytes }))
    }
}

/// The contents whose size `is_wanted`, each with its first path.
fn contents(tree: &Tree, is_wanted: impl Fn(u64) -> bool) -> Vec<(&str, Digest, u64)> {
    let mut seen = BTreeSet::new();
    let files = tree.entries.iter().filter_map(|(path, entry)| match entry {
        Entry::File { digest, size_bytes, .. } => Some((path.as_str(), *digest, *size_bytes)),
        _ => None,
    });
    files.filter(|(_, digest, size)| is_wanted(*size) && seen.insert(*digest)).collect()
}

struct Hashed {
    file: fs::File,
    hasher: Hasher,
}

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A pack that is read along with the description of its tree.
pub struct Unpacker<'a> {
    reader: Option<(Box<dyn Read + 'a>, u64)>,
    /// Where contents were written.
    written: BTreeMap<Digest, PathBuf>,
}

impl<'a> Unpacker<'a> {
    /// Reads the pack of that name, whose digest was looked at; without, there are only files
    /// that are parts, and those without bytes.
    pub fn open(pack: Option<(&'a Path, &Pack)>) -> io::Result<Self> {
        let reader = match pack {
            Some((path, pack)) => {
                let reader = io::BufReader::new(fs::File::open(path)?);
                Some((decoder(".zst", reader)?, pack.below_bytes))
            }
            None => None,
        };
        Ok(Self { reader, written: BTreeMap::new() })
    }

    /// Writes a file of the tree, whose files have to come in their order. False, if it is a
    /// part by itself.
    pub fn write(&mut self, file: WantedFile<'_>, to: &Path) -> io::Result<bool> {
        if let Some(same) = self.written.get(file.digest) {
            fs::copy(same, to)?;
            return Ok(true);
        }
        let wrong = |why: &str| io::Error::other(format!("`{}` {why}", file.path));
        if file.size_bytes == 0 {
            if *file.digest != Digest::of(b"") {
                return Err(wrong("has no bytes, but the digest of some"));
            }
            fs::File::create_new(to)?;
            return Ok(true);
        }
        let Some((reader, below_bytes)) = &mut self.reader else { return Ok(false) };
        if file.size_bytes >= *below_bytes {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        reader.take(file.size_bytes).read_to_end(&mut bytes)?;
        if Digest::of(&bytes) != *file.digest || bytes.len() as u64 != file.size_bytes {
            return Err(wrong("is not in the pack"));
        }
        fs::File::create_new(to)?.write_all(&bytes)?;
        self.written.insert(*file.digest, to.to_owned());
        Ok(true)
    }

    /// Remembers a part that was written, for files with the same content.
    pub fn wrote(&mut self, digest: &Digest, at: &Path) {
        self.written.insert(*digest, at.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreError, Unfit, describe, normalise};

    #[derive(Debug)]
    struct Problem;

    impl From<StoreError> for Problem {
        fn from(_: StoreError) -> Self {
            Self
        }
    }

    /// Unpacks the description and the pack into another store.
    fn unpack(place: &Path, tree: &Tree, pack: Option<(&Path, &Pack)>, large: &[u8]) -> bool {
        let store = Store::open(&place.join("store")).unwrap();
        let mut unpacker = Unpacker::open(pack).unwrap();
        let output = tree.digest();
        let mut write = |file: WantedFile<'_>, to: &Path| match unpacker.write(file, to) {
            Ok(true) => Ok(()),
            Ok(false) => {
                assert_eq!(Digest::of(large), *file.digest, "{}", file.path);
                fs::write(to, large).unwrap();
                unpacker.wrote(file.digest, to);
                Ok(())
            }
            Err(_) => Err(Problem),
        };
        match store.assemble(tree, &output, &mut write) {
            Ok(()) => describe(&store.tree_path(&output)).unwrap().digest() == output,
            Err(Unfit::Content(Problem) | Unfit::Name(_)) => false,
        }
    }

    #[test]
    fn a_tree_goes_and_comes_back() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        for number in 0..20 {
            fs::write(from.join(format!("a/{number}")), format!("{}\n", number % 15)).unwrap();
        }
        let large = vec![7_u8; usize::try_from(BELOW_BYTES).unwrap()];
        for name in ["large", "a/b/large"] {
            fs::write(from.join(name), &large).unwrap();
        }
        fs::write(from.join("a/empty"), "").unwrap();
        std::os::unix::fs::symlink("../large", from.join("a/link")).unwrap();
        normalise(&from).unwrap();
        let tree = describe(&from).unwrap();
        let parts = Parts::of(&tree);
        assert_eq!((parts.large.len(), parts.small.len()), (1, 16));
        let file = place.path().join("pack");
        let pack = parts.pack(&from, &file).unwrap().unwrap();
        assert_eq!(Digest::of(&fs::read(&file).unwrap()), pack.part.digest);
        assert!(unpack(place.path(), &tree, Some((&file, &pack)), &large));
        // Truncated, of something else, missing.
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert!(!unpack(&place.path().join("1"), &tree, Some((&file, &pack)), &large));
        fs::write(&file, zstd_of(b"something else")).unwrap();
        assert!(!unpack(&place.path().join("2"), &tree, Some((&file, &pack)), &large));
        fs::write(&file, "no archive").unwrap();
        assert!(!unpack(&place.path().join("3"), &tree, Some((&file, &pack)), &large));
        // A description that leaves its tree.
        for name in ["../x", "/x", "a/../../x", "large/x", ""] {
            let mut tree = Tree::default();
            tree.entries.insert(name.to_owned(), Entry::Folder { mode: 0o755 });
            assert!(!unpack(&place.path().join("4"), &tree, None, &large), "{name}");
        }
    }

    fn zstd_of(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), Compression::Zstd, 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn few_files_need_no_pack() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        fs::create_dir(&from).unwrap();
        fs::write(from.join("program"), "program").unwrap();
        fs::write(from.join("empty"), "").unwrap();
        let tree = describe(&from).unwrap();
        let parts = Parts::of(&tree);
        assert_eq!((parts.large.len(), parts.small.len()), (1, 0));
        assert_eq!(parts.pack(&from, &place.path().join("pack")).unwrap(), None);
        assert!(unpack(place.path(), &tree, None, b"program"));
    }
}
