//! Why packages could not be had, and what the user can do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::machine::process::ProcessError;
use crate::model::Digest;
use crate::model::package::Package;
use crate::store::NO_SPACE_HELP;

/// What is wrong with a file of an archive of the configuration.
#[derive(Debug)]
pub struct MirrorError {
    /// The archive: its URL without credentials, or its folder.
    pub archive: String,
    /// Path of the file in the archive.
    pub file: String,
    /// What is wrong.
    pub text: String,
    /// What the user can do.
    pub help: Option<String>,
    /// Whether the other side did not answer.
    pub is_remote: bool,
}

impl fmt::Display for MirrorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { archive, file, text, .. } = self;
        if self.is_remote {
            return f.write_str(text);
        }
        write!(f, "cannot use the package archive {archive}: {file}: {text}")
    }
}

/// Why packages could not be had.
#[derive(Debug)]
pub enum PackageError {
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
        /// The suite of the configuration that was asked; otherwise apt's sources.
        suite: Option<String>,
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
    /// What is needed cannot be had together.
    Unsatisfiable {
        /// Debian architecture.
        architecture: String,
        /// What needs what, up to what is missing.
        text: String,
    },
    /// There is no suite of that name.
    NoSuite {
        /// Name of the suite.
        name: String,
        /// Suites that apt's lists are of.
        served: Vec<String>,
    },
    /// The list names a package without size or hash.
    Unpinnable {
        /// The package.
        name: String,
    },
    /// An archive of the configuration is not to be believed, or does not answer.
    Mirror(Box<MirrorError>),
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

impl fmt::Display for PackageError {
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
            Self::NoArchitecture { architecture, suite: None } => {
                write!(f, "no apt source of this machine has packages for {architecture}")
            }
            Self::NoArchitecture { architecture, suite: Some(suite) } => {
                write!(f, "no archive of [suite.{suite}] has packages for {architecture}")
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
            Self::Unsatisfiable { architecture, text } => {
                write!(f, "no choice of packages for {architecture}: {text}")
            }
            Self::NoSuite { name, served } => {
                write!(f, "there is no suite `{name}`: the configuration has no [suite.{name}]")?;
                match served.as_slice() {
                    [] => f.write_str(" and there is no `apt-get` on PATH"),
                    served => write!(f, " and apt's sources have {}", served.join(", ")),
                }
            }
            Self::Unpinnable { name } => {
                write!(f, "the package list has `{name}` without a size or a SHA-256 hash")
            }
            Self::Mirror(error) => error.fmt(f),
            Self::Process(error) => error.fmt(f),
            Self::File { path, source } => write!(f, "cannot use {}: {source}", path.display()),
        }
    }
}

impl PackageError {
    /// Whether the other side is to blame, not the request.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Mirror(error) => error.is_remote,
            other => matches!(other, Self::Remote { .. } | Self::Lists { .. }),
        }
    }

    /// What the user can do.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoApt => {
                "say in [suite.NAME] of images.toml where packages come from: `mirror` and \
                 `keyring`; or run this on Debian or Ubuntu"
                    .to_owned()
            }
            Self::Offline { .. } => "run once without `--offline`".to_owned(),
            Self::Lists { architecture, .. } => format!(
                "check the network, proxies and the mirrors in apt's configuration; a mirror that \
                 is being updated is whole again later; to do without a source for \
                 {architecture}, say in apt's sources which architectures it is for \
                 (`Architectures:`), or let APT_CONFIG name a configuration with other sources"
            ),
            Self::NoArchitecture { architecture, suite: Some(suite) } => format!(
                "leave the platform out of `platforms`, or give [suite.{suite}] a mirror that \
                 has {architecture}"
            ),
            Self::NoArchitecture { architecture, suite: None } => format!(
                "leave the platform out of `platforms`, build on a release that has \
                 {architecture}, or add a source that has it to apt's \
                 (`Architectures: {architecture}`)"
            ),
            Self::NoSuchPackage { name, architecture } => format!(
                "check the name, with `apt-cache policy {name}` where apt is, and that the \
                 sources have {architecture}"
            ),
            Self::NoSuite { name, .. } => format!(
                "write where it is:\n    [suite.{name}]\n    mirror = \"https://HOST/debian\"\n    \
                 keyring = \"keys/archive.asc\""
            ),
            Self::Unsatisfiable { .. } => "check that the suite has all it should: updates and \
                 security come from suites of their own"
                .to_owned(),
            Self::Mirror(error) => return error.help.clone(),
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

impl std::error::Error for PackageError {}

impl From<ProcessError> for PackageError {
    fn from(error: ProcessError) -> Self {
        Self::Process(error)
    }
}
