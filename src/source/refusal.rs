//! Why packages could not be had, and what the user can do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::machine::process::ProcessError;
use crate::model::Digest;
use crate::model::package::Package;
use crate::store::NO_SPACE_HELP;

/// Why packages could not be had.
#[derive(Debug)]
pub enum AptError {
    /// There is no `apt-get` on `PATH`.
    NoApt,
    /// The network would be needed, and `--offline` was given.
    Offline {
        /// For what.
        what: String,
    },
    /// apt refuses the lists of an architecture: a source cannot be reached, is stale, or
    /// is not signed.
    Lists {
        /// Debian architecture.
        architecture: String,
        /// apt's words.
        text: String,
    },
    /// No source has packages for an architecture.
    NoArchitecture {
        /// Debian architecture.
        architecture: String,
    },
    /// The archive has no package of that name.
    NoSuchPackage {
        /// Package name.
        name: String,
        /// Debian architecture.
        architecture: String,
    },
    /// The archive has the package, but no longer this version of it.
    NoSuchVersion {
        /// The pinned package.
        package: Box<Package>,
    },
    /// A downloaded file is not what is pinned.
    WrongHash {
        /// The pinned package.
        package: Box<Package>,
        /// Digest of what came.
        found: Digest,
    },
    /// The archive could not be reached, or did not deliver.
    Remote {
        /// What was asked of it.
        doing: String,
        /// apt's words.
        text: String,
    },
    /// The disk is full.
    DiskFull {
        /// What was being done.
        doing: String,
        /// Where.
        folder: PathBuf,
    },
    /// apt says no.
    Apt {
        /// What it was asked.
        doing: String,
        /// Its words.
        text: String,
    },
    /// Something that apt printed cannot be understood.
    Unparsable {
        /// The line.
        line: String,
    },
    /// apt could not be started.
    Process(ProcessError),
    /// A file of apt's state could not be written or read.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for AptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApt => f.write_str("no `apt-get` on PATH"),
            Self::Offline { what } => {
                write!(f, "{what} would need the network, and `--offline` was given")
            }
            Self::Lists { architecture, text } => write!(
                f,
                "apt could not download the package lists for {architecture}:\n{}",
                text.trim_end()
            ),
            Self::NoArchitecture { architecture } => {
                write!(f, "no apt source of this machine has packages for {architecture}")
            }
            Self::NoSuchPackage { name, architecture } => {
                write!(f, "the package archive has no package `{name}` for {architecture}")
            }
            Self::NoSuchVersion { package } => {
                write!(f, "the package archive no longer has {package}, which images.lock pins")
            }
            Self::WrongHash { package, found } => {
                write!(f, "{package} has the hash {found}, images.lock pins {}", package.sha256)
            }
            Self::Remote { doing, text } | Self::Apt { doing, text } => {
                write!(f, "apt could not {doing}:\n{}", text.trim_end())
            }
            Self::DiskFull { doing, folder } => {
                write!(f, "cannot {doing}: no space left on device in {}", folder.display())
            }
            Self::Unparsable { line } => {
                write!(f, "apt printed a line that is not understood: {line}")
            }
            Self::Process(error) => error.fmt(f),
            Self::File { path, source } => write!(f, "cannot use {}: {source}", path.display()),
        }
    }
}

impl AptError {
    /// Whether the other side is to blame, not the request.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote { .. } | Self::Lists { .. })
    }

    /// What the user can do.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoApt => {
                "packages come through apt: run this on Debian or Ubuntu, or in a container of one"
                    .to_owned()
            }
            Self::Offline { .. } => "run once without `--offline`".to_owned(),
            Self::Lists { architecture, .. } => format!(
                "check the network, proxies and the mirrors in apt's configuration; a mirror that \
                 is being updated is whole again later; to do without a source for \
                 {architecture}, say in apt's sources which architectures it is for \
                 (`Architectures:`), or let APT_CONFIG name a configuration with other sources"
            ),
            Self::NoArchitecture { architecture } => format!(
                "leave the platform out of `platforms`, build on a release that has \
                 {architecture}, or add a source that has it to apt's \
                 (`Architectures: {architecture}`)"
            ),
            Self::NoSuchPackage { name, architecture } => format!(
                "check the name with `apt-cache policy {name}`, and that apt's sources list \
                 {architecture}"
            ),
            Self::NoSuchVersion { .. } => {
                "remove images.lock to pin what the archive has now".to_owned()
            }
            Self::WrongHash { package, .. } => format!(
                "the file was damaged on its way, images.lock was edited, or the archive changed \
                 a published version; compare with `apt-cache show {}={}`",
                package.name, package.version
            ),
            Self::Remote { .. } => "check the network, proxies and the mirrors in apt's \
                 configuration; what is downloaded already serves with `--offline`"
                .to_owned(),
            Self::DiskFull { .. } => NO_SPACE_HELP.to_owned(),
            _ => return None,
        })
    }
}

impl std::error::Error for AptError {}

impl From<ProcessError> for AptError {
    fn from(error: ProcessError) -> Self {
        Self::Process(error)
    }
}
