//! Indexes, manifests and configurations that others wrote (OCI image specification 1.1, and
//! the media types of Docker's schema 2). Hostile bytes.

use serde::Deserialize;
use serde_json::Value;

use super::manifest::{Descriptor, INDEX, MANIFEST};
use crate::model::{Digest, Platform};

/// Manifests of one index; the largest list some dozens, with what signs them.
const MANIFESTS_AT_MOST: usize = 1000;
/// Layers of one image. Runtimes stop at 127.
const LAYERS_AT_MOST: usize = 500;

/// Docker's names for what the OCI specification took over.
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A layer as `docker save` writes it.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// What a digest stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One manifest for each platform.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest {
        /// Its configuration.
        config: Descriptor,
        /// Its layers, lowest first.
        layers: Vec<Descriptor>,
    },
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "schemaVersion")]
    version: u64,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// Parses an index or a manifest. What could be read as both is refused.
pub fn parse(bytes: &[u8]) -> Result<Document, String> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is no manifest or index: {error}"))?;
    if raw.version != 2 {
        return Err(format!("it has the schema version {}, only 2 is understood", raw.version));
    }
    let document = match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) => Document::Index(manifests),
        (None, Some(config), Some(layers)) => Document::Manifest { config, layers },
        _ => return Err("it is neither a manifest nor an index".to_owned()),
    };
    let expected = match &document {
        Document::Index(manifests) if manifests.len() > MANIFESTS_AT_MOST => {
            return Err(format!("it lists {} manifests", manifests.len()));
        }
        Document::Manifest { layers, .. } if layers.len() > LAYERS_AT_MOST => {
            return Err(format!("it lists {} layers", layers.len()));
        }
        Document::Index(_) => [INDEX, DOCKER_INDEX],
        Document::Manifest { .. } => [MANIFEST, DOCKER_MANIFEST],
    };
    match raw.media_type {
        Some(said) if !expected.contains(&said.as_str()) => {
            Err(format!("it says that it is of the media type `{}`", said.escape_debug()))
        }
        _ => Ok(document),
    }
}

/// Whether a media type is that of an image's manifest.
pub fn is_manifest(media_type: &str) -> bool {
    [MANIFEST, DOCKER_MANIFEST].contains(&media_type)
}

/// The configuration of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// What it says it is for.
    pub platform: Platform,
    /// `config`.
    pub config: Value,
    /// `history`.
    pub history: Vec<Value>,
    /// Digests of the layers' tar archives, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Parses a configuration.
pub fn parse_configuration(bytes: &[u8]) -> Result<Configuration, String> {
    #[derive(Deserialize)]
    struct Layers {
        diff_ids: Vec<Digest>,
    }
    #[derive(Deserialize)]
    struct Raw {
        architecture: String,
        os: String,
        variant: Option<String>,
        #[serde(default)]
        config: Option<Value>,
        #[serde(default)]
        history: Option<Vec<Value>>,
        rootfs: Layers,
    }
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|error| format!("it is no image configuration: {error}"))?;
    Ok(Configuration {
        platform: Platform {
            os: raw.os,
            architecture: raw.architecture,
            variant: raw.variant.filter(|variant| !variant.is_empty()),
        },
        config: raw.config.unwrap_or_default(),
        history: raw.history.unwrap_or_default(),
        diff_ids: raw.rootfs.diff_ids,
    })
}

/// The OCI media type of a layer, and the extension of its compression, or why the layer
/// cannot be had.
pub fn layer_type(media_type: &str) -> Result<(String, &'static str), String> {
    const OCI: &str = "application/vnd.oci.image.layer.v1.tar";
    let foreign = media_type.contains(".foreign.") || media_type.contains(".nondistributable.");
    let rest = media_type
        .strip_prefix(OCI)
        .or_else(|| media_type.strip_prefix(DOCKER_LAYER))
        .map(|rest| rest.replace('.', "+"));
    let (end, extension) = match rest.as_deref() {
        Some("") => ("", ""),
        Some("+gzip") => ("+gzip", ".gz"),
        Some("+zstd") => ("+zstd", ".zst"),
        _ if foreign => {
            let why = "it is kept elsewhere than the image and may not be passed on";
            return Err(format!("the media type `{}` says that {why}", media_type.escape_debug()));
        }
        _ => return Err(format!("its media type `{}` is unknown", media_type.escape_debug())),
    };
    Ok((format!("{OCI}{end}"), extension))
}

/// A platform with the variant that is meant where none is said, and without one that says
/// nothing (image specification, "Platform Variants").
pub fn normal(platform: &Platform) -> Platform {
    let variant = match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("arm", None) => Some("v7"),
        ("arm64", Some("v8")) | ("amd64", Some("v1")) => None,
        (_, variant) => variant,
    };
    Platform { variant: variant.map(str::to_owned), ..platform.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let digest = Digest::of(b"x");
        let blob = format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#);
        let check = |text: String| match parse(text.as_bytes()) {
            Ok(Document::Index(manifests)) => format!("index of {}", manifests.len()),
            Ok(Document::Manifest { layers, .. }) => format!("image of {}", layers.len()),
            Err(error) => error,
        };
        let manifest = format!(r#""config":{blob},"layers":[{blob},{blob}]"#);
        assert_eq!(check(format!(r#"{{"schemaVersion":2,{manifest}}}"#)), "image of 2");
        let docker =
            format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_INDEX}","manifests":[{blob}]}}"#);
        assert_eq!(check(docker.clone()), "index of 1");
        assert!(check(docker.replace(DOCKER_INDEX, MANIFEST)).starts_with("it says that it is of"));
        let both = format!(r#"{{"schemaVersion":2,{manifest},"manifests":[{blob}]}}"#);
        assert_eq!(check(both), "it is neither a manifest nor an index");
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert_eq!(check(old.into()), "it has the schema version 1, only 2 is understood");
        let many = vec![blob.as_str(); 501].join(",");
        let huge = format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{many}]}}"#);
        assert_eq!(check(huge), "it lists 501 layers");
        for text in ["", "[]", "{}", "{\"schemaVersion\":2}", "<html>"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn layer_types() {
        let check = |end: &str| {
            layer_type(&format!("application/vnd.{end}"))
                .map(|(name, extension)| format!("{} {extension}", &name[16..]))
                .map_err(|error| error.split('`').next_back().unwrap_or_default().to_owned())
        };
        let gzip = "oci.image.layer.v1.tar+gzip .gz";
        assert_eq!(check("oci.image.layer.v1.tar+gzip").as_deref(), Ok(gzip));
        assert_eq!(check("docker.image.rootfs.diff.tar.gzip").as_deref(), Ok(gzip));
        assert_eq!(check("oci.image.layer.v1.tar").as_deref(), Ok("oci.image.layer.v1.tar "));
        assert_eq!(
            check("docker.image.rootfs.diff.tar.zstd").as_deref(),
            Ok("oci.image.layer.v1.tar+zstd .zst")
        );
        assert_eq!(check("oci.image.layer.v1.tar+xz"), Err(" is unknown".to_owned()));
        let foreign = check("docker.image.rootfs.foreign.diff.tar.gzip").unwrap_err();
        assert!(foreign.ends_with("may not be passed on"), "{foreign}");
    }

    #[test]
    fn platforms_are_normal() {
        let check = |text: &str| normal(&text.parse().unwrap()).to_string();
        assert_eq!(check("linux/arm64/v8"), "linux/arm64");
        assert_eq!(check("linux/arm"), "linux/arm/v7");
        assert_eq!(check("linux/arm/v6"), "linux/arm/v6");
        assert_eq!(check("linux/amd64/v3"), "linux/amd64/v3");
    }
}
