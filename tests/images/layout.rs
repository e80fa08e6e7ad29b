//! Reading OCI layouts for checks: everything is taken from the bytes, nothing from the
//! program that wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

pub struct Layout {
    folder: PathBuf,
}

/// One image on one platform.
pub struct Image {
    pub manifest: Value,
    pub config: Value,
    pub layers: Vec<Layer>,
}

pub struct Layer {
    /// What the history says of it.
    pub title: String,
    pub digest: String,
}

impl Layout {
    /// Opens a layout, and checks each blob's name against its bytes.
    pub fn open(folder: &Path) -> Self {
        let version: Value =
            serde_json::from_slice(&fs::read(folder.join("oci-layout")).unwrap()).unwrap();
        assert_eq!(version, serde_json::json!({"imageLayoutVersion": "1.0.0"}));
        for entry in fs::read_dir(folder.join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(sha256(&fs::read(&path).unwrap()), format!("sha256:{name}"));
        }
        Self { folder: folder.to_owned() }
    }

    /// The image indexes of `index.json`, by reference.
    pub fn images(&self) -> BTreeMap<String, Value> {
        let index: Value =
            serde_json::from_slice(&fs::read(self.folder.join("index.json")).unwrap()).unwrap();
        assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&2.into(), &INDEX.into()));
        let manifests = index["manifests"].as_array().unwrap();
        let images: BTreeMap<String, Value> = manifests
            .iter()
            .map(|descriptor| {
                assert_eq!(descriptor["mediaType"], INDEX);
                let name = &descriptor["annotations"]["org.opencontainers.image.ref.name"];
                (name.as_str().unwrap().to_owned(), descriptor.clone())
            })
            .collect();
        assert_eq!(images.len(), manifests.len(), "two entries have one name");
        images
    }

    /// The bytes that a descriptor points to; its digest and size have to fit.
    pub fn bytes(&self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let name = digest.strip_prefix("sha256:").unwrap();
        let bytes = fs::read(self.folder.join("blobs/sha256").join(name)).unwrap();
        assert_eq!(descriptor["size"], bytes.len(), "{digest}");
        bytes
    }

    pub fn json(&self, descriptor: &Value) -> Value {
        serde_json::from_slice(&self.bytes(descriptor)).unwrap()
    }

    /// The images of an index by platform (`linux/arm/v7`), each checked inside.
    pub fn platforms(&self, index: &Value) -> BTreeMap<String, Image> {
        let manifests = index["manifests"].as_array().unwrap();
        let images: BTreeMap<String, Image> = manifests
            .iter()
            .map(|descriptor| {
                assert_eq!(descriptor["mediaType"], MANIFEST);
                let image = self.image(descriptor);
                let platform = platform(&descriptor["platform"]);
                assert_eq!(platform, self::platform(&image.config));
                (platform, image)
            })
            .collect();
        assert_eq!(images.len(), manifests.len(), "two manifests have one platform");
        images
    }

    fn image(&self, descriptor: &Value) -> Image {
        let manifest = self.json(descriptor);
        assert_eq!(
            (&manifest["schemaVersion"], &manifest["mediaType"]),
            (&2.into(), &MANIFEST.into())
        );
        assert_eq!(manifest["config"]["mediaType"], CONFIG);
        let config = self.json(&manifest["config"]);
        assert_eq!(config["rootfs"]["type"], "layers");
        let list = |value: &Value| value.as_array().unwrap().clone();
        let descriptors = list(&manifest["layers"]);
        let (history, diff_ids) = (list(&config["history"]), list(&config["rootfs"]["diff_ids"]));
        assert_eq!((history.len(), diff_ids.len()), (descriptors.len(), descriptors.len()));
        let layers = descriptors.iter().zip(history).zip(diff_ids).map(
            |((descriptor, history), diff_id)| {
                assert_eq!(descriptor["mediaType"], LAYER);
                assert!(history["empty_layer"].is_null(), "{history}");
                let title = history["created_by"].as_str().unwrap().to_owned();
                assert!(!title.is_empty());
                let mut tar = Vec::new();
                let bytes = self.bytes(descriptor);
                flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut tar).unwrap();
                assert_eq!(sha256(&tar), diff_id, "diff ID of `{title}`");
                check_members(&title, &tar);
                Layer { title, digest: descriptor["digest"].as_str().unwrap().to_owned() }
            },
        );
        let layers = layers.collect();
        Image { manifest, config, layers }
    }

    /// Every blob is there for something that `index.json` reaches.
    pub fn check_nothing_is_left_over(&self) {
        let mut reached = BTreeSet::new();
        let mut reach = |descriptor: &Value| {
            reached.insert(descriptor["digest"].as_str().unwrap().replace("sha256:", ""));
        };
        for descriptor in self.images().values() {
            reach(descriptor);
            for descriptor in self.json(descriptor)["manifests"].as_array().unwrap() {
                reach(descriptor);
                let manifest = self.json(descriptor);
                reach(&manifest["config"]);
                manifest["layers"].as_array().unwrap().iter().for_each(&mut reach);
            }
        }
        let there: BTreeSet<String> = fs::read_dir(self.folder.join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(there, reached);
    }
}

/// An index's or configuration's platform as it is written on a command line.
fn platform(value: &Value) -> String {
    ["os", "architecture", "variant"]
        .iter()
        .filter_map(|key| value[key].as_str())
        .collect::<Vec<_>>()
        .join("/")
}

/// Members are sorted, of nobody's machine and of no time.
fn check_members(title: &str, tar: &[u8]) {
    let mut archive = tar::Archive::new(tar);
    let mut last: Option<Vec<u8>> = None;
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path_bytes().into_owned();
        let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
        let shown = format!("/{} in `{title}`", String::from_utf8_lossy(&path));
        assert!(!path.starts_with(b"/") && !path.starts_with(b"./"), "{shown}");
        assert!(last.is_none_or(|last| last < path), "{shown} is not in order");
        let header = entry.header();
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        let names = (header.username().unwrap(), header.groupname().unwrap());
        // Files of the project may have other owners; those of packages are users that every
        // image has, that the distribution numbers, or that are numbered for one.
        let is_known = |number: u64| number < 1000 || number == 65532;
        let known = is_known(owner.0) && is_known(owner.1);
        assert!(known || title.starts_with("xstitch: files"), "{shown}: {owner:?}");
        assert!(matches!(names, (None | Some(""), None | Some(""))), "{shown}: {names:?}");
        assert_eq!(header.mtime().unwrap(), 0, "{shown}");
        last = Some(path);
    }
    assert!(last.is_some(), "`{title}` is empty");
}
