//! Sources: where a library's files come from, pinned by content.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Digest;

/// Where the sources of a library come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Origin {
    /// A folder of the project.
    Path {
        /// Path in the project.
        path: String,
    },
    /// An archive: a file of the project, or a URL.
    Archive {
        /// Path in the project, or URL.
        at: String,
        /// Digest of its bytes.
        sha256: Digest,
    },
    /// A commit of a repository.
    Git {
        /// Whatever git takes.
        url: String,
        /// The whole hash.
        commit: String,
    },
    /// A folder inside a crate of the registry.
    Crate {
        /// Name of the crate.
        name: String,
        /// Its exact version.
        version: String,
        /// Folder in it, empty for all of it.
        folder: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path } => write!(f, "folder {path}"),
            Self::Archive { at, .. } => write!(f, "archive {at}"),
            Self::Git { url, commit } => write!(f, "commit {commit} of {url}"),
            Self::Crate { name, version, .. } => write!(f, "crate {name} {version}"),
        }
    }
}
