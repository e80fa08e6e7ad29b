//! Base images: where they come from, what they were resolved to, and what is known of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Platform, Reference};

/// Where a base image comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "in")]
pub enum BaseOrigin {
    /// A folder of the project that is an OCI layout (image specification, "Image Layout").
    Layout {
        /// Path in the project.
        folder: String,
        /// `org.opencontainers.image.ref.name` or digest, where the layout has several.
        reference: Option<String>,
    },
    /// A file of the project that `docker save` or another tool wrote: an OCI layout as a tar
    /// archive, or Docker's own format.
    Archive {
        /// Path in the project.
        file: String,
        /// Name or digest, where the archive has several.
        reference: Option<String>,
    },
    /// An image in a registry.
    Registry {
        /// Its reference.
        reference: Reference,
    },
}

impl BaseOrigin {
    /// Whether getting it needs the network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Registry { .. })
    }
}

/// The origin as people and the lock name it: `layout vendor/base latest`.
impl fmt::Display for BaseOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, place, reference) = match self {
            Self::Layout { folder, reference } => ("layout", folder, reference),
            Self::Archive { file, reference } => ("archive", file, reference),
            Self::Registry { reference } => return reference.fmt(f),
        };
        write!(f, "{kind} {place}")?;
        match reference {
            Some(reference) => write!(f, " {reference}"),
            None => Ok(()),
        }
    }
}

/// One layer of a base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseLayer {
    /// Digest of its blob.
    pub digest: Digest,
    /// Size of its blob.
    pub size_bytes: u64,
    /// Media type of its blob, one of the OCI image specification.
    pub media_type: String,
    /// Digest of its tar archive.
    pub diff_id: Digest,
}

/// A base image on one platform, as its manifest and configuration say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// Where it comes from.
    pub origin: BaseOrigin,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// What images on it inherit.
    pub inherited: Inherited,
    /// Its layers, lowest first, and whether they stay as they are. Others are compressed as
    /// the project's layers are.
    pub layers: Vec<(BaseLayer, bool)>,
    /// What was learned of its content when it was pinned.
    pub system: BaseSystem,
}

/// What an image takes over from the base it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// Reference of the base, or its folder or file.
    pub name: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// The `config` object of its configuration.
    pub config: serde_json::Value,
    /// The `history` of its configuration.
    pub history: Vec<serde_json::Value>,
    /// Its number of layers.
    pub layers: usize,
}

impl Inherited {
    /// Whether it sets a variable.
    pub fn sets(&self, variable: &str) -> bool {
        let env = self.config.get("Env").and_then(serde_json::Value::as_array);
        env.into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_str)
            .any(|pair| pair.split_once('=').map_or(pair, |(name, _)| name) == variable)
    }
}

/// What a base says about its distribution (os-release(5)). Both are missing where a base has
/// no such file, such as one with a single static program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseSystem {
    /// `ID`, such as `debian`.
    pub id: Option<String>,
    /// `VERSION_CODENAME`, else `VERSION_ID`: `bookworm`, `3.22`.
    pub suite: Option<String>,
}

impl BaseSystem {
    /// Whether its distribution has packages of Debian's format.
    pub fn has_packages(&self) -> bool {
        matches!(self.id.as_deref(), Some("debian" | "ubuntu"))
    }

    /// What the text of an os-release file says.
    pub fn parse(text: &str) -> Self {
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let value = line.strip_prefix(name)?.strip_prefix('=')?.trim();
                let value = value.trim_matches(['"', '\'']);
                let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                (!value.is_empty() && value.chars().all(plain)).then(|| value.to_owned())
            })
        };
        Self { id: field("ID"), suite: field("VERSION_CODENAME").or_else(|| field("VERSION_ID")) }
    }
}

/// What the content of a base says, once its layers are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseFacts {
    /// Distribution and suite.
    pub system: BaseSystem,
    /// Installed packages by name with their version, from dpkg's status or `status.d`.
    pub packages: BTreeMap<String, String>,
    /// Names of users by number.
    pub users: BTreeMap<u64, String>,
    /// Links that lead to folders, with their text.
    pub links: BTreeMap<String, String>,
}

impl BaseFacts {
    /// Installed packages as entries of [`super::package::PackageRequest::provided`].
    pub fn provided(&self) -> Vec<String> {
        self.packages.iter().map(|(name, version)| format!("{name}={version}")).collect()
    }

    /// Upstream version of the C library, such as `2.36`.
    pub fn glibc(&self) -> Option<&str> {
        let version = self.packages.get("libc6")?.rsplit(':').next()?;
        version.split(['-', '+', '~']).next()
    }
}

/// Digests that a base is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedBase {
    /// Digest of the index, or of the manifest where there is no index.
    pub digest: Digest,
    /// Digests of the manifests by platform.
    pub manifests: BTreeMap<Platform, Digest>,
    /// Its distribution and suite.
    pub system: BaseSystem,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems() {
        let check = |text: &str| {
            let BaseSystem { id, suite } = BaseSystem::parse(text);
            (id.unwrap_or_default(), suite.unwrap_or_default())
        };
        let pair = |id: &str, suite: &str| (id.to_owned(), suite.to_owned());
        assert_eq!(
            check("NAME=x\nID=debian\nVERSION_CODENAME=\"noble\"\n"),
            pair("debian", "noble")
        );
        assert_eq!(check("ID='alpine'\nVERSION_ID=3.22.1\n"), pair("alpine", "3.22.1"));
        assert_eq!(check("ID_LIKE=debian\nVERSION_CODENAME=$(x)\n"), pair("", ""));
    }

    #[test]
    fn origins_have_names() {
        let layout = BaseOrigin::Layout { folder: "a".into(), reference: Some("b:1".into()) };
        assert_eq!(layout.to_string(), "layout a b:1");
        let reference = "x.example/y:1".parse().expect("it is a reference");
        assert_eq!(BaseOrigin::Registry { reference }.to_string(), "x.example/y:1");
    }
}
