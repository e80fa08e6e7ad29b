//! Image configurations, manifests and indexes (OCI image specification 1.1), as bytes.
//!
//! Keys are sorted before they are written: the bytes are the digest.

use std::collections::{BTreeMap, HashMap};

use oci_spec::image as oci;
use serde::{Deserialize, Serialize};

use super::inherited::inherit;
use super::layer::PackedLayer;
use crate::model::action::ManifestAction;
use crate::model::{Digest, Platform};

/// Media type of image indexes.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of image manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of image configurations.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A pointer to content (image specification, "Content Descriptors").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the content is.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// The platform that it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "platform")]
    pub platform: Option<Platform>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size_bytes: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

mod platform {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::Platform;

    #[derive(Serialize, Deserialize)]
    struct Object {
        architecture: String,
        os: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variant: Option<String>,
    }

    pub fn serialize<S: Serializer>(platform: &Option<Platform>, s: S) -> Result<S::Ok, S::Error> {
        let object = platform.as_ref().map(|platform| Object {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
        });
        object.serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Platform>, D::Error> {
        let object = Option::<Object>::deserialize(d)?;
        Ok(object.map(|object| Platform {
            os: object.os,
            architecture: object.architecture,
            variant: object.variant,
        }))
    }
}

/// Sorted, compact JSON.
fn canonical(value: impl Serialize) -> Vec<u8> {
    let value = serde_json::to_value(value).expect("image documents have string keys only");
    serde_json::to_vec(&value).expect("a JSON value can be written")
}

/// `seconds` since 1970 as RFC 3339 in UTC.
pub fn rfc3339(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, days + 1)
}

/// The configuration of an image with these layers, lowest first.
pub fn config(action: &ManifestAction, layers: &[PackedLayer]) -> Vec<u8> {
    let created = rfc3339(action.epoch_secs);
    let below = action.inherited.as_ref().map_or(0, |base| base.layers.min(layers.len()));
    let (below, layers) = layers.split_at(below);
    let mut run = oci::ConfigBuilder::default();
    let env: Vec<String> =
        action.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    run = run.env(env);
    if !action.entrypoint.is_empty() {
        run = run.entrypoint(action.entrypoint.clone());
    }
    if !action.cmd.is_empty() {
        run = run.cmd(action.cmd.clone());
    }
    if !action.expose.is_empty() {
        run = run.exposed_ports(action.expose.clone());
    }
    if !action.volumes.is_empty() {
        run = run.volumes(action.volumes.clone());
    }
    if !action.labels.is_empty() {
        run = run.labels(action.labels.clone().into_iter().collect::<HashMap<_, _>>());
    }
    if let Some(user) = &action.user {
        run = run.user(user.clone());
    }
    if let Some(folder) = &action.workdir {
        run = run.working_dir(folder.clone());
    }
    if let Some(signal) = &action.stop_signal {
        run = run.stop_signal(signal.clone());
    }
    let run = run.build().expect("no field of a run configuration is required");
    let history: Vec<serde_json::Value> = layers
        .iter()
        .map(|layer| serde_json::json!({"created": created, "created_by": format!("xstitch: {}", layer.title)}))
        .collect();
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    let mut document = serde_json::json!({
        "architecture": action.platform.architecture,
        "os": action.platform.os,
        "created": created,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    });
    if let Some(variant) = &action.platform.variant {
        document["variant"] = serde_json::Value::from(variant.clone());
    }
    if let Some(base) = &action.inherited {
        let diff_ids = below.iter().map(|layer| layer.diff_id.to_string().into()).collect();
        inherit(&mut document, base, diff_ids);
    }
    canonical(document)
}

/// The manifest of an image.
pub fn manifest(
    config: &Descriptor,
    layers: &[PackedLayer],
    annotations: &BTreeMap<String, String>,
) -> Vec<u8> {
    let layers: Vec<Descriptor> = layers
        .iter()
        .map(|layer| Descriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest,
            size_bytes: layer.size_bytes,
            platform: None,
            annotations: BTreeMap::new(),
        })
        .collect();
    let mut document = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
    });
    if !annotations.is_empty() {
        document["annotations"] = serde_json::json!(annotations);
    }
    canonical(document)
}

/// An index of manifests.
pub fn index(manifests: &[Descriptor], annotations: &BTreeMap<String, String>) -> Vec<u8> {
    let mut document =
        serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    if !annotations.is_empty() {
        document["annotations"] = serde_json::json!(annotations);
    }
    canonical(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_800_000_000), "2027-01-15T08:00:00Z");
    }

    #[test]
    fn descriptors_round_trip() {
        let mut descriptor = Descriptor::of(MANIFEST, b"{}");
        descriptor.platform = Some("linux/arm/v7".parse().unwrap());
        let text = String::from_utf8(canonical(&descriptor)).unwrap();
        assert!(text.contains(r#""platform":{"architecture":"arm","os":"linux","variant":"v7"}"#));
        assert_eq!(serde_json::from_str::<Descriptor>(&text).unwrap(), descriptor);
        let parsed: oci::Descriptor = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed.size(), 2);
    }
}
