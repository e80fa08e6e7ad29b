//! The content of bases that others made, wherever it is: a layout, an archive, a registry.
//! Each document and blob is what its digest says, or is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use super::execute::UnitError;
use super::{Engine, vendor};
use crate::image::document::{Document, parse};
use crate::image::manifest::{self, Descriptor};
use crate::machine::network::Watch;
use crate::model::base::BaseOrigin;
use crate::model::event::Event;
use crate::model::finding::REMOTE_FAILED;
use crate::model::{Digest, Finding, Hasher, Reference};
use crate::registry::client::{Client, MANIFEST_BYTES_AT_MOST, RegistryError};
use crate::store::StatIndex;

/// Bytes of a configuration; registries limit it like a manifest.
pub(super) const DOCUMENT_BYTES_AT_MOST: u64 = MANIFEST_BYTES_AT_MOST;

/// Raised when archives are read otherwise, so that another index or manifest stands for what
/// one holds.
const ROOT_VERSION: u32 = 1;

const LAYOUT_HELP: &str =
    "name the folder of an OCI layout: it has the files `oci-layout` and `index.json`";
/// Names of images that are told where another was meant.
const NAMED_AT_MOST: usize = 10;

/// The content of an origin.
pub struct BaseContent<'a> {
    pub(super) engine: &'a Engine,
    pub(super) origin: &'a BaseOrigin,
    place: Place,
}

enum Place {
    Layout(PathBuf),
    /// A file that is read only when it has to be.
    Archive(PathBuf),
    Registry(Reference),
}

impl From<Finding> for UnitError {
    fn from(finding: Finding) -> Self {
        let help = finding.help.map_or_else(String::new, |help| format!("\n  help: {help}"));
        let is_remote = finding.code == REMOTE_FAILED;
        Self { message: format!("{}{help}", finding.message), is_remote }
    }
}

impl<'a> BaseContent<'a> {
    /// Content of an origin, of which nothing is read and nobody is asked yet.
    pub fn new(engine: &'a Engine, origin: &'a BaseOrigin) -> Self {
        let place = match origin {
            BaseOrigin::Layout { folder, .. } => Place::Layout(engine.project.join(folder)),
            BaseOrigin::Archive { file, .. } => Place::Archive(engine.project.join(file)),
            BaseOrigin::Registry { reference } => Place::Registry(reference.clone()),
        };
        Self { engine, origin, place }
    }

    pub(super) fn refused(&self, why: impl std::fmt::Display) -> Finding {
        Finding::new("base-refused", format!("the base {}: {why}", self.origin))
    }

    /// The index or manifest that the origin means now. An archive that looks as it did when
    /// it was read last is not read again.
    pub fn root(&self, index: &mut StatIndex) -> Result<Vec<u8>, Finding> {
        let (Place::Archive(file), BaseOrigin::Archive { reference, .. }) =
            (&self.place, self.origin)
        else {
            return self.root_now();
        };
        let what = format!("root {ROOT_VERSION} {}", reference.as_deref().unwrap_or_default());
        let mut read = None;
        let is_kept = |digest: &Digest| self.kept(digest).is_some();
        let digest = index.learned(file, &what, is_kept, || {
            let bytes = self.root_now()?;
            let digest = Digest::of(&bytes);
            self.keep(&digest, &bytes)?;
            read = Some(bytes);
            Ok(digest)
        })?;
        let bytes = read.or_else(|| self.kept(&digest));
        bytes.ok_or_else(|| self.refused(format!("{digest} is not in the cache any more")))
    }

    fn root_now(&self) -> Result<Vec<u8>, Finding> {
        match (&self.place, self.origin) {
            (Place::Registry(reference), _) => self.ask(reference),
            (_, BaseOrigin::Layout { reference, .. } | BaseOrigin::Archive { reference, .. }) => {
                if let Place::Archive(file) = &self.place
                    && let Some(docker) = &self.opened(file)?.docker
                {
                    return Ok(docker.root.clone());
                }
                let index = self.read("index.json", DOCUMENT_BYTES_AT_MOST)?;
                let document =
                    parse(&index).map_err(|why| self.refused(format!("index.json: {why}")))?;
                let Document::Index(entries) = document else {
                    return Err(self.refused("its index.json is no index"));
                };
                self.choose(&entries, reference.as_deref(), index)
            }
            _ => unreachable!("a place is of its origin's kind"),
        }
    }

    /// Of the entries of a layout, what a reference means.
    fn choose(
        &self,
        entries: &[Descriptor],
        reference: Option<&str>,
        index: Vec<u8>,
    ) -> Result<Vec<u8>, Finding> {
        let names = |entry: &Descriptor| -> Vec<String> {
            ["org.opencontainers.image.ref.name", "io.containerd.image.name"]
                .iter()
                .filter_map(|key| entry.annotations.get(*key).cloned())
                .collect()
        };
        // What has no name is named by its digest.
        let known = |entries: &[Descriptor]| {
            let known = entries.iter().flat_map(|entry| match names(entry) {
                none if none.is_empty() => vec![entry.digest.to_string()],
                names => names,
            });
            known.collect::<Vec<String>>()
        };
        let fits = |entry: &&Descriptor| match reference {
            Some(wanted) => {
                wanted == entry.digest.to_string()
                    || names(entry).iter().any(|name| same_name(name, wanted))
            }
            None => true,
        };
        let found: Vec<&Descriptor> = entries.iter().filter(fits).collect();
        match found.as_slice() {
            [] => Err(self.no_such(reference, known(entries))),
            [one] => self.document(&one.digest, Some(one.size_bytes)),
            // One image for each platform, without an index of their own.
            several if several.iter().all(|entry| entry.platform.is_some()) => {
                if several.len() == entries.len() {
                    return Ok(index);
                }
                let several: Vec<Descriptor> = several.iter().map(|&entry| entry.clone()).collect();
                Ok(manifest::index(&several, &BTreeMap::new()))
            }
            _ => Err(self.no_such(reference, known(entries))),
        }
    }

    /// A finding where `names` are there, and not what was meant.
    pub(super) fn no_such(&self, reference: Option<&str>, mut names: Vec<String>) -> Finding {
        names.sort();
        names.dedup();
        let place = match self.origin {
            BaseOrigin::Layout { folder: place, .. } | BaseOrigin::Archive { file: place, .. } => {
                place.clone()
            }
            BaseOrigin::Registry { reference } => reference.to_string(),
        };
        let message = match reference {
            Some(reference) => format!("the base {place} has no image `{reference}`"),
            None => format!("the base {place} has several images, and no `ref` says which"),
        };
        let finding = Finding::new("base-missing", message);
        match names.as_slice() {
            [] => finding.help("it has no image at all"),
            [first, ..] => {
                let rest = names.len().saturating_sub(NAMED_AT_MOST);
                let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
                let named = &names[..names.len() - rest];
                let named = named.join(", ");
                let help = format!("it has {named}{more}: name one, as in `ref = {first:?}`");
                finding.help(help)
            }
        }
    }

    /// A document by its digest: from the store, or from where the base is.
    pub fn document(&self, digest: &Digest, size_bytes: Option<u64>) -> Result<Vec<u8>, Finding> {
        if let Some(bytes) = self.kept(digest) {
            return Ok(bytes);
        }
        if self.engine.vendor.is_some() {
            let scratch = self.scratch()?;
            vendor::take_files(self.engine, std::iter::once(digest), scratch.path())
                .map_err(|error| self.refused(error.message))?;
            if let Some(bytes) = self.kept(digest) {
                return Ok(bytes);
            }
        }
        if size_bytes.is_some_and(|size_bytes| size_bytes > DOCUMENT_BYTES_AT_MOST) {
            let why = format!("{digest} is larger than any manifest or configuration");
            return Err(self.refused(why));
        }
        let opened = match &self.place {
            Place::Archive(file) => Some(self.opened(file)?),
            _ => None,
        };
        let docker = opened.as_ref().and_then(|opened| opened.docker.as_ref());
        let bytes = match (&self.place, size_bytes) {
            _ if docker.is_some() => {
                let found = docker.and_then(|docker| docker.documents.get(digest));
                found.cloned().ok_or_else(|| self.refused(format!("it has no {digest}")))?
            }
            (Place::Registry(reference), None) => self.ask(&reference.by_digest(*digest))?,
            (Place::Registry(_), Some(size_bytes)) => {
                let scratch = self.scratch()?;
                let file = scratch.path().join("document");
                self.blob((digest, size_bytes), &file)?;
                fs::read(file).map_err(|error| self.refused(error))?
            }
            _ => self.read(&format!("blobs/sha256/{}", digest.hex()), DOCUMENT_BYTES_AT_MOST)?,
        };
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(self.refused(format!("{digest} is there with other bytes ({found})")));
        }
        if let Some(said) = size_bytes.filter(|said| *said != bytes.len() as u64) {
            let why = format!("{digest} has {} bytes, its descriptor says {said}", bytes.len());
            return Err(self.refused(why));
        }
        self.keep(digest, &bytes)?;
        Ok(bytes)
    }

    /// A document that is in the store.
    fn kept(&self, digest: &Digest) -> Option<Vec<u8>> {
        fs::read(self.engine.blob(digest)?).ok()
    }

    /// Puts a document into the store.
    pub fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Finding> {
        if fs::read(self.engine.store.blob_path(digest)).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let scratch = self.scratch()?;
        let file = scratch.path().join("document");
        fs::write(&file, bytes).map_err(|error| self.refused(error))?;
        self.engine.store.adopt_blob(&file, digest).map_err(|error| self.refused(error))?;
        Ok(())
    }

    /// A manifest or index of a registry.
    fn ask(&self, reference: &Reference) -> Result<Vec<u8>, Finding> {
        self.stop_if_offline()?;
        let scratch = self.scratch()?;
        self.engine.tell(Event::Note { text: format!("asking for {reference}") });
        let mut watch = Watch { stop: &|| self.engine.is_interrupted(), progress: &mut |_, _| {} };
        let client = Client::new(&self.engine.environment, &self.engine.registries);
        let manifest =
            client.manifest(reference, scratch.path(), &mut watch).map_err(|e| registry(&e))?;
        Ok(manifest.bytes)
    }

    /// Copies a blob to the new file `to`.
    pub fn blob(&self, blob: (&Digest, u64), to: &Path) -> Result<(), Finding> {
        let (digest, size_bytes) = blob;
        let name = format!("blobs/sha256/{}", digest.hex());
        let copied = match &self.place {
            Place::Registry(reference) => return self.download(reference, blob, to),
            Place::Layout(folder) => {
                open(&folder.join(&name)).and_then(|mut file| copy(&mut file, size_bytes, to))
            }
            Place::Archive(file) => {
                let opened = self.opened(file)?;
                let member = match &opened.docker {
                    Some(docker) => docker.layers.get(digest),
                    None => Some(&name),
                };
                let member = member.ok_or_else(|| self.refused(format!("it has no {digest}")))?;
                opened.archive.read(member, &mut |reader| copy(reader, size_bytes, to))
            }
        };
        let found = copied.map_err(|error| self.refused(format!("{digest}: {error}")))?;
        if found != (*digest, size_bytes) {
            let (other, bytes) = found;
            let why = format!(
                "the blob {digest} of {size_bytes} bytes is there with other ones: {other}, {} bytes",
                if bytes > size_bytes {
                    format!("more than {size_bytes}")
                } else {
                    bytes.to_string()
                }
            );
            return Err(self.refused(why));
        }
        Ok(())
    }

    fn download(
        &self,
        reference: &Reference,
        blob: (&Digest, u64),
        to: &Path,
    ) -> Result<(), Finding> {
        self.stop_if_offline()?;
        let what = format!("{} of {reference}", blob.0.short());
        let place = self.engine.store.root().join("trees").display().to_string();
        self.engine.tell(Event::Download { what, size_bytes: Some(blob.1), to: place });
        let mut watch = Watch { stop: &|| self.engine.is_interrupted(), progress: &mut |_, _| {} };
        let client = Client::new(&self.engine.environment, &self.engine.registries);
        client.blob(reference, blob, to, &mut watch).map_err(|error| registry(&error))
    }

    fn stop_if_offline(&self) -> Result<(), Finding> {
        if !self.engine.offline {
            return Ok(());
        }
        let message =
            format!("the base {} is not in the cache, and `--offline` was given", self.origin);
        Err(Finding::new("offline", message).help("run once without it"))
    }

    fn scratch(&self) -> Result<tempfile::TempDir, Finding> {
        self.engine.store.scratch().map_err(|error| self.refused(error))
    }

    /// A file of a layout.
    fn read(&self, name: &str, bytes_at_most: u64) -> Result<Vec<u8>, Finding> {
        let read = match &self.place {
            Place::Layout(folder) => {
                open(&folder.join(name)).and_then(|mut file| take(&mut file, bytes_at_most))
            }
            Place::Archive(file) => {
                let opened = self.opened(file)?;
                opened.archive.read(name, &mut |reader| take(reader, bytes_at_most))
            }
            Place::Registry(_) => Err(io::Error::other("it is no layout")),
        };
        read.map_err(|error| self.unread(name, &error))
    }

    /// Why a file of a layout cannot be read, as far as people can see it.
    fn unread(&self, name: &str, error: &io::Error) -> Finding {
        let (why, help) = match &self.place {
            Place::Layout(folder) if folder.is_file() => (
                "it is a file, and no folder".to_owned(),
                Some("an archive is named by `archive = \"FILE\"`"),
            ),
            Place::Layout(folder) if !folder.is_dir() => {
                ("there is no such folder in the project".to_owned(), Some(LAYOUT_HELP))
            }
            Place::Layout(_) if name == "index.json" && error.kind() == io::ErrorKind::NotFound => {
                (
                    "the folder is no OCI layout, it has no `index.json`".to_owned(),
                    Some(LAYOUT_HELP),
                )
            }
            _ if error.kind() == io::ErrorKind::NotFound => (format!("it lacks `{name}`"), None),
            _ => (format!("cannot read {name}: {error}"), None),
        };
        let finding = Finding::new("base-unreadable", format!("the base {}: {why}", self.origin));
        match help {
            Some(help) => finding.help(help),
            None => finding,
        }
    }
}

/// Whether two names mean the same image.
pub(super) fn same_name(one: &str, other: &str) -> bool {
    let parsed = |text: &str| text.parse::<Reference>().ok();
    one == other || parsed(one).is_some_and(|one| Some(one) == parsed(other))
}

fn registry(error: &RegistryError) -> Finding {
    let code = if error.is_remote() { REMOTE_FAILED } else { "base-unreadable" };
    let mut finding = Finding::new(code, error.to_string());
    finding.help = error.help();
    finding
}

/// A file that is one: anything else might never end.
fn open(path: &Path) -> io::Result<fs::File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    fs::File::open(path)
}

/// All of a document.
pub(super) fn take(reader: &mut dyn Read, bytes_at_most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(bytes_at_most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_at_most {
        return Err(io::Error::other("it is larger than any manifest"));
    }
    Ok(bytes)
}

/// Copies at most a byte more than `size_bytes`, and returns what was copied.
fn copy(reader: &mut dyn Read, size_bytes: u64, to: &Path) -> io::Result<(Digest, u64)> {
    let mut reader = reader.take(size_bytes.saturating_add(1));
    let mut file = fs::File::create(to)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                file.write_all(&buffer[..length])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
