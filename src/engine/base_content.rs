//! The content of bases that others made, wherever it is: a layout, an archive, a registry.
//! Each document and blob is what its digest says, or is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::execute::UnitError;
use super::{Engine, vendor};
use crate::archive::compression::extension;
use crate::archive::images::ImageArchive;
use crate::image::document::{DOCKER_LAYER, Document, parse, parse_configuration};
use crate::image::layer::PackedLayer;
use crate::image::manifest::{self, CONFIG, Descriptor, MANIFEST};
use crate::machine::network::Watch;
use crate::model::base::BaseOrigin;
use crate::model::event::Event;
use crate::model::finding::REMOTE_FAILED;
use crate::model::{Digest, Finding, Hasher, Reference};
use crate::registry::client::{Client, MANIFEST_BYTES_AT_MOST, RegistryError};

/// Bytes of a configuration; registries limit it like a manifest.
const DOCUMENT_BYTES_AT_MOST: u64 = MANIFEST_BYTES_AT_MOST;

/// An opened origin.
pub struct BaseContent<'a> {
    engine: &'a Engine,
    origin: &'a BaseOrigin,
    place: Place,
}

enum Place {
    Layout(PathBuf),
    /// A layout in an archive.
    Archive(ImageArchive),
    /// Docker's own format, with what a layout would have.
    Docker(ImageArchive, Docker),
    Registry(Reference),
}

/// What stands for an archive of Docker's own format.
#[derive(Default)]
struct Docker {
    /// Manifests that were made up, and configurations, by digest.
    documents: BTreeMap<Digest, Vec<u8>>,
    /// Layers by digest: their member.
    layers: BTreeMap<Digest, String>,
    /// What the reference means.
    root: Vec<u8>,
}

/// An image in `manifest.json` of Docker's own format.
#[derive(Deserialize)]
struct DockerImage {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

impl From<Finding> for UnitError {
    fn from(finding: Finding) -> Self {
        let help = finding.help.map_or_else(String::new, |help| format!("\n  help: {help}"));
        let is_remote = finding.code == REMOTE_FAILED;
        Self { message: format!("{}{help}", finding.message), is_remote }
    }
}

impl<'a> BaseContent<'a> {
    /// Opens an origin. A registry is not asked yet.
    pub fn open(engine: &'a Engine, origin: &'a BaseOrigin) -> Result<Self, Finding> {
        let place = match origin {
            BaseOrigin::Layout { folder, .. } => Place::Layout(engine.project.join(folder)),
            BaseOrigin::Archive { file, .. } => {
                let unreadable = |error: io::Error| {
                    let message = format!("cannot read the archive {file}: {error}");
                    Finding::new("base-unreadable", message)
                };
                let archive = ImageArchive::open(&engine.project.join(file)).map_err(unreadable)?;
                Place::Archive(archive)
            }
            BaseOrigin::Registry { reference } => Place::Registry(reference.clone()),
        };
        let mut content = Self { engine, origin, place };
        if let (Place::Archive(archive), BaseOrigin::Archive { reference, .. }) =
            (&content.place, origin)
            && archive.size_bytes("index.json").is_none()
        {
            let docker = content.docker(archive, reference.as_deref())?;
            let Place::Archive(archive) = content.place else { unreachable!("it was one") };
            content.place = Place::Docker(archive, docker);
        }
        Ok(content)
    }

    fn refused(&self, why: impl std::fmt::Display) -> Finding {
        Finding::new("base-refused", format!("the base {}: {why}", self.origin))
    }

    /// The index or manifest that the origin means now.
    pub fn root(&self) -> Result<Vec<u8>, Finding> {
        match (&self.place, self.origin) {
            (Place::Docker(_, docker), _) => Ok(docker.root.clone()),
            (Place::Registry(reference), _) => self.ask(reference),
            (_, BaseOrigin::Layout { reference, .. } | BaseOrigin::Archive { reference, .. }) => {
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
        let fits = |entry: &&Descriptor| match reference {
            Some(wanted) => {
                wanted == entry.digest.to_string()
                    || names(entry).iter().any(|name| same_name(name, wanted))
            }
            None => true,
        };
        let found: Vec<&Descriptor> = entries.iter().filter(fits).collect();
        match found.as_slice() {
            [] => Err(self.no_such(reference, entries.iter().flat_map(names).collect())),
            [one] => self.document(&one.digest, Some(one.size_bytes)),
            // One image for each platform, without an index of their own.
            several if several.iter().all(|entry| entry.platform.is_some()) => {
                if several.len() == entries.len() {
                    return Ok(index);
                }
                let several: Vec<Descriptor> = several.iter().map(|&entry| entry.clone()).collect();
                Ok(manifest::index(&several, &BTreeMap::new()))
            }
            _ => Err(self.no_such(reference, entries.iter().flat_map(names).collect())),
        }
    }

    fn no_such(&self, reference: Option<&str>, mut names: Vec<String>) -> Finding {
        names.sort();
        names.dedup();
        let message = match reference {
            Some(reference) => format!("the base {} has no `{reference}`", self.origin),
            None => format!("the base {} has several images", self.origin),
        };
        let finding = Finding::new("base-missing", message);
        match names.as_slice() {
            [] => finding.help("name one by its digest: `ref = \"sha256:…\"`"),
            names => finding.help(format!("it has {}; name one as `ref`", names.join(", "))),
        }
    }

    /// A document by its digest: from the store, or from where the base is.
    pub fn document(&self, digest: &Digest, size_bytes: Option<u64>) -> Result<Vec<u8>, Finding> {
        let kept = || {
            let bytes = fs::read(self.engine.store.blob_path(digest)).ok();
            bytes.filter(|bytes| Digest::of(bytes) == *digest)
        };
        if let Some(bytes) = kept() {
            return Ok(bytes);
        }
        if self.engine.vendor.is_some() {
            let scratch = self.scratch()?;
            vendor::take_files(self.engine, std::iter::once(digest), scratch.path())
                .map_err(|error| self.refused(error.message))?;
            if let Some(bytes) = kept() {
                return Ok(bytes);
            }
        }
        if size_bytes.is_some_and(|size_bytes| size_bytes > DOCUMENT_BYTES_AT_MOST) {
            let why = format!("{digest} is larger than any manifest or configuration");
            return Err(self.refused(why));
        }
        let bytes = match (&self.place, size_bytes) {
            (Place::Docker(_, docker), _) => docker
                .documents
                .get(digest)
                .cloned()
                .ok_or_else(|| self.refused(format!("it has no {digest}")))?,
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
            Place::Archive(archive) => {
                archive.read(&name, &mut |reader| copy(reader, size_bytes, to))
            }
            Place::Docker(archive, docker) => {
                let missing = || self.refused(format!("it has no {digest}"));
                let member = docker.layers.get(digest).ok_or_else(missing)?;
                archive.read(member, &mut |reader| copy(reader, size_bytes, to))
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
        let mut take = |reader: &mut dyn Read| {
            let mut bytes = Vec::new();
            reader.take(bytes_at_most + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > bytes_at_most {
                return Err(io::Error::other("it is larger than any manifest"));
            }
            Ok(bytes)
        };
        let read = match &self.place {
            Place::Layout(folder) => open(&folder.join(name)).and_then(|mut file| take(&mut file)),
            Place::Archive(archive) | Place::Docker(archive, _) => archive.read(name, &mut take),
            Place::Registry(_) => Err(io::Error::other("it is no layout")),
        };
        read.map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let finding = Finding::new(
                "base-unreadable",
                format!("the base {}: cannot read {name}: {error}", self.origin),
            );
            match missing && name == "index.json" {
                true => finding.help(
                    "name the folder of an OCI layout: it has the files `oci-layout` and `index.json`",
                ),
                false => finding,
            }
        })
    }

    /// What a layout would have for an archive of Docker's own format.
    fn docker(&self, archive: &ImageArchive, reference: Option<&str>) -> Result<Docker, Finding> {
        let bytes = self.read("manifest.json", DOCUMENT_BYTES_AT_MOST).map_err(|finding| {
            finding.help("name a file that `docker save`, `podman save` or `skopeo copy` wrote")
        })?;
        let images: Vec<DockerImage> = serde_json::from_slice(&bytes)
            .map_err(|error| self.refused(format!("manifest.json: {error}")))?;
        let names = images.iter().flat_map(|image| image.tags.iter().flatten().cloned()).collect();
        let mut docker = Docker::default();
        let mut entries = Vec::new();
        for image in &images {
            let config = self.read(&image.config, DOCUMENT_BYTES_AT_MOST)?;
            let descriptor = Descriptor::of(CONFIG, &config);
            let tags = image.tags.iter().flatten();
            let fits = |wanted: &str| {
                wanted == descriptor.digest.to_string()
                    || tags.clone().any(|tag| same_name(tag, wanted))
            };
            if !reference.is_none_or(fits) {
                continue;
            }
            let parsed = parse_configuration(&config).map_err(|why| self.refused(why))?;
            if parsed.diff_ids.len() != image.layers.len() {
                let (layers, ids) = (image.layers.len(), parsed.diff_ids.len());
                let why = format!("it has {layers} layers, its configuration lists {ids}");
                return Err(self.refused(why));
            }
            let mut layers = Vec::new();
            for (member, diff_id) in image.layers.iter().zip(&parsed.diff_ids) {
                let layer = self.docker_layer(archive, member, diff_id)?;
                docker.layers.insert(layer.digest, member.clone());
                layers.push(layer);
            }
            let made = manifest::manifest(&descriptor, &layers, &BTreeMap::new());
            let mut entry = Descriptor::of(MANIFEST, &made);
            entry.platform = Some(parsed.platform);
            docker.documents.insert(descriptor.digest, config);
            docker.documents.insert(entry.digest, made);
            entries.push(entry);
        }
        docker.root = match entries.as_slice() {
            [] => return Err(self.no_such(reference, names)),
            [one] => docker.documents[&one.digest].clone(),
            _ if reference.is_none() => return Err(self.no_such(None, names)),
            several => manifest::index(several, &BTreeMap::new()),
        };
        Ok(docker)
    }

    fn docker_layer(
        &self,
        archive: &ImageArchive,
        member: &str,
        diff_id: &Digest,
    ) -> Result<PackedLayer, Finding> {
        let failed =
            |error: io::Error| self.refused(format!("member `{}`: {error}", member.escape_debug()));
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it is not there");
        let mut size_bytes = archive.size_bytes(member).ok_or_else(|| failed(missing()))?;
        let mut start = |reader: &mut dyn Read| {
            let mut start = Vec::new();
            reader.take(6).read_to_end(&mut start)?;
            Ok(start)
        };
        let start = archive.read(member, &mut start).map_err(failed)?;
        let end = match extension(&start) {
            ".gz" => ".gzip",
            ".zst" => ".zstd",
            _ => "",
        };
        let mut digest = *diff_id;
        if !end.is_empty() {
            let mut hash = |reader: &mut dyn Read| {
                let mut hasher = Hasher::new();
                io::copy(reader, &mut hasher)?;
                Ok(hasher.finish())
            };
            (digest, size_bytes) = archive.read(member, &mut hash).map_err(failed)?;
        }
        Ok(PackedLayer {
            digest,
            diff_id: *diff_id,
            size_bytes,
            media_type: format!("{DOCKER_LAYER}{end}"),
            title: String::new(),
            imported: true,
        })
    }
}

/// Whether two names mean the same image.
fn same_name(one: &str, other: &str) -> bool {
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
