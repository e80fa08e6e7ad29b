//! Distribution packages: what is asked for, and what it was resolved to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Digest;

/// A request for packages: resolving one gives a [`PackageSet`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackageRequest {
    /// Suite that they come from: a name of `[suite.*]` or what the machine's apt serves
    /// under that name. Without, all that the machine's apt serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Debian architecture that unqualified names mean (`amd64`, `arm64`, `armhf`, …).
    pub architecture: String,
    /// Package names whose dependency closure is wanted. Sorted, no duplicates.
    pub packages: Vec<String>,
    /// Packages that count as installed already, so that neither they nor what only they need
    /// is in the result: `name` in any version, or `name=version`. Sorted, no duplicates.
    pub provided: Vec<String>,
    /// Whether dependencies come along. Without, just `packages`.
    pub closure: bool,
}

/// One pinned package. The archive path and host are not part of it: they differ by mirror.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Binary package name.
    pub name: String,
    /// Full version with epoch, as in the package list (Debian policy 5.6.12).
    pub version: String,
    /// Architecture of the package: a Debian architecture or `all`.
    pub architecture: String,
    /// Digest of the `.deb`.
    pub sha256: Digest,
    /// Size of the `.deb`.
    pub size_bytes: u64,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.name, self.architecture, self.version)
    }
}

/// A resolved request: packages sorted by name, then architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSet {
    /// The pinned packages.
    pub packages: Vec<Package>,
}

impl PackageSet {
    /// Sum of the `.deb` sizes in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.packages.iter().map(|package| package.size_bytes).sum()
    }
}
