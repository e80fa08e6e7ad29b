//! What a build leaves to be told: the report, or why there is none.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::Failure;
use super::remote::RemoteReport;
use crate::model::finding::REMOTE_FAILED;
use crate::model::{Digest, Finding, Platform};
use crate::plan::reason::Reason;
use crate::store::StoreError;

/// Why nothing, or not everything, was built.
#[derive(Debug)]
pub enum BuildError {
    /// The configuration or the inputs are wrong (exit code 2).
    Findings(Vec<Finding>),
    /// Units failed (exit code 1).
    Units(Vec<Failure>),
    /// Some images could not be planned, and units of the others failed (exit code 1).
    Both(Vec<Finding>, Vec<Failure>),
    /// The cache cannot be used (exit code 1).
    Store(StoreError),
    /// The output cannot be written (exit code 1).
    Output(String),
    /// The user stopped it (exit code 130).
    Interrupted,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Findings(findings) => f.write_str(&texts(findings).join("\n")),
            Self::Units(failures) => f.write_str(&texts(failures).join("\n\n")),
            Self::Both(findings, failures) => {
                let (findings, failures) = (texts(findings), texts(failures));
                write!(f, "{}\n\n{}", findings.join("\n"), failures.join("\n\n"))
            }
            Self::Store(error) => error.fmt(f),
            Self::Output(text) => f.write_str(text),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

fn texts(all: &[impl fmt::Display]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

impl std::error::Error for BuildError {}

impl BuildError {
    /// An error, unless there is neither a finding nor a failure.
    pub fn unless_none(findings: &[Finding], failures: Vec<Failure>) -> Result<(), Self> {
        match (findings.is_empty(), failures.is_empty()) {
            (true, true) => Ok(()),
            (false, true) => Err(Self::Findings(findings.to_vec())),
            (true, false) => Err(Self::Units(failures)),
            (false, false) => Err(Self::Both(findings.to_vec(), failures)),
        }
    }

    /// 1 the build failed, 2 the command line or configuration is wrong, 3 a remote side
    /// failed, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Findings(all) if all.iter().any(|finding| finding.code == REMOTE_FAILED) => 3,
            Self::Findings(_) => 2,
            Self::Units(all) if all.iter().all(|failure| failure.is_remote) => 3,
            Self::Units(_) | Self::Both(..) | Self::Store(_) | Self::Output(_) => 1,
            Self::Interrupted => 130,
        }
    }

    /// The error for programs.
    pub fn report(&self) -> ErrorReport<'_> {
        let (findings, failures): (&[Finding], &[Failure]) = match self {
            Self::Findings(findings) => (findings, &[]),
            Self::Units(failures) => (&[], failures),
            Self::Both(findings, failures) => (findings, failures),
            _ => (&[], &[]),
        };
        let (error, exit_code) = (self.to_string(), self.exit_code());
        ErrorReport { version: 1, exit_code, error, findings, failures }
    }
}

/// An error as data.
#[derive(Debug, Serialize)]
pub struct ErrorReport<'a> {
    /// Version of this format.
    pub version: u32,
    /// Exit code of the program.
    pub exit_code: u8,
    /// The whole message.
    pub error: String,
    /// Problems of the configuration and the inputs.
    pub findings: &'a [Finding],
    /// Units that failed.
    pub failures: &'a [Failure],
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// One line of the summary.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// Image name.
    pub image: String,
    /// Platform, or nothing for the index.
    pub platform: Option<Platform>,
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// Compressed size of the layers, of all platforms for an index.
    pub size_bytes: u64,
    /// Layers made by this build, each counted for the first image that has it.
    pub layers_new: usize,
    /// Layers that were there, or that an image listed before has too.
    pub layers_shared: usize,
    /// Time of the units that ran for it, added up, in milliseconds.
    pub time_ms: u64,
}

/// A unit that ran.
#[derive(Clone, Debug, Serialize)]
pub struct UnitReport {
    /// Unit name.
    pub unit: String,
    /// Time that it took, in milliseconds.
    pub time_ms: u64,
    /// Why it ran, the most telling first.
    pub reasons: Vec<Reason>,
}

/// What was built.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    pub version: u32,
    /// The layout.
    pub layout: PathBuf,
    /// Images and platforms.
    pub images: Vec<ImageReport>,
    /// Units that ran, and why.
    pub ran: Vec<UnitReport>,
    /// Number of units that ran.
    pub units_run: usize,
    /// Units whose result was there.
    pub units_cached: usize,
    /// What the shared cache did, where one is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteReport>,
    /// Whether the layout was written.
    pub written: bool,
    /// What probes found, by build and platform.
    pub probes: PathBuf,
    /// Number of probes that were answered differently, for no known reason.
    pub probe_differences: usize,
    /// Number of units that tried to start foreign programs.
    pub attempts: usize,
    /// Wall time in milliseconds.
    pub elapsed_ms: u64,
}
