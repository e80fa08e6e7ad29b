//! Archives that hold bases: each is opened once in a run, and Docker's own format gets what a
//! layout would have.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::base_content::{BaseContent, DOCUMENT_BYTES_AT_MOST, same_name, take};
use crate::archive::compression::extension;
use crate::archive::images::ImageArchive;
use crate::image::document::{DOCKER_LAYER, parse_configuration};
use crate::image::layer::PackedLayer;
use crate::image::manifest::{self, CONFIG, Descriptor, MANIFEST};
use crate::model::base::BaseOrigin;
use crate::model::event::Event;
use crate::model::{Digest, Finding, Hasher};

const ARCHIVE_HELP: &str = "name a file that `docker save`, `podman save` or `skopeo copy` wrote";

/// Archives that were opened in this run.
#[derive(Default)]
pub struct BaseArchives(Mutex<BTreeMap<BaseOrigin, Arc<Opened>>>);

/// An archive, and what stands for it where it has Docker's own format.
pub(super) struct Opened {
    pub archive: ImageArchive,
    pub docker: Option<Docker>,
}

/// What stands for an archive of Docker's own format.
#[derive(Default)]
pub(super) struct Docker {
    /// Manifests that were made up, and configurations, by digest.
    pub documents: BTreeMap<Digest, Vec<u8>>,
    /// Layers by digest: their member.
    pub layers: BTreeMap<Digest, String>,
    /// What the reference means.
    pub root: Vec<u8>,
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

impl BaseContent<'_> {
    /// The archive of the origin.
    pub(super) fn opened(&self, file: &Path) -> Result<Arc<Opened>, Finding> {
        // Whoever comes meanwhile waits for the same.
        let mut all = self.engine.base_archives.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = all.get(self.origin) {
            return Ok(Arc::clone(opened));
        }
        self.engine.tell(Event::Note { text: format!("reading the base {}", self.origin) });
        let archive = ImageArchive::open(file).map_err(|error| self.unopened(file, &error))?;
        let docker = match archive.size_bytes("index.json") {
            Some(_) => None,
            None => Some(self.docker(&archive)?),
        };
        let opened = Arc::new(Opened { archive, docker });
        all.insert(self.origin.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    /// Why the archive cannot be opened.
    fn unopened(&self, file: &Path, error: &io::Error) -> Finding {
        let name = file.strip_prefix(&self.engine.project).unwrap_or(file).display();
        let (why, help) = match error.kind() {
            io::ErrorKind::NotFound => {
                ("there is no such file in the project".to_owned(), ARCHIVE_HELP.to_owned())
            }
            io::ErrorKind::IsADirectory => (
                "it is a folder".to_owned(),
                format!("an OCI layout in a folder is named by `layout = \"{name}\"`"),
            ),
            _ => (format!("cannot read it: {error}"), ARCHIVE_HELP.to_owned()),
        };
        self.unreadable(&why).help(help)
    }

    fn unreadable(&self, why: &str) -> Finding {
        Finding::new("base-unreadable", format!("the base {}: {why}", self.origin))
    }

    /// What a layout would have for an archive of Docker's own format.
    fn docker(&self, archive: &ImageArchive) -> Result<Docker, Finding> {
        let reference = match self.origin {
            BaseOrigin::Archive { reference, .. } => reference.as_deref(),
            _ => None,
        };
        let read = |name: &str| {
            let read = archive.read(name, &mut |reader| take(reader, DOCUMENT_BYTES_AT_MOST));
            read.map_err(|error| {
                let why = format!("cannot read `{}`: {error}", name.escape_debug());
                self.unreadable(&why).help(ARCHIVE_HELP)
            })
        };
        if archive.size_bytes("manifest.json").is_none() {
            let why = "it holds no image: it has neither `index.json` nor `manifest.json`";
            return Err(self.unreadable(why).help(ARCHIVE_HELP));
        }
        let bytes = read("manifest.json")?;
        let images: Vec<DockerImage> = serde_json::from_slice(&bytes)
            .map_err(|error| self.refused(format!("manifest.json: {error}")))?;
        let names = images.iter().flat_map(|image| image.tags.iter().flatten().cloned()).collect();
        let mut docker = Docker::default();
        let mut entries = Vec::new();
        for image in &images {
            let config = read(&image.config)?;
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
