//! What can go wrong between here and a server, and what the user can do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A request that failed.
#[derive(Debug)]
pub struct NetworkError {
    /// What was wanted, in words: `download`.
    pub doing: &'static str,
    /// What was wanted, without secrets.
    pub url: String,
    /// What happened.
    pub problem: NetworkProblem,
}

/// Why a download failed.
#[derive(Debug)]
pub enum NetworkProblem {
    /// The text is no URL of this kind, or a variable names no proxy.
    Invalid(String),
    /// The server answered with something other than the file.
    Status {
        /// The server, or where it redirected to.
        host: String,
        /// The status code (RFC 9110, 15).
        status: u16,
    },
    /// No whole answer came.
    Connection {
        /// The server, or where it redirected to.
        host: String,
        /// Why.
        why: String,
        /// Whether the two did not trust each other.
        trust: bool,
    },
    /// The file cannot be written.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user asked to stop.
    Interrupted,
}

impl NetworkError {
    /// Whether the other side, or the way to it, is to blame.
    pub fn is_remote(&self) -> bool {
        matches!(self.problem, NetworkProblem::Status { .. } | NetworkProblem::Connection { .. })
    }

    /// What the user can do.
    pub fn help(&self) -> Option<&'static str> {
        match &self.problem {
            NetworkProblem::Status { status: 401 | 403, .. } => {
                Some("check the credentials: https://USER:PASSWORD@HOST/… is understood")
            }
            NetworkProblem::Status { status: 404 | 410, .. } => Some("check the URL"),
            NetworkProblem::Connection { trust: true, .. } => Some(
                "if a company's authority signs, add its certificate to the machine's trust \
                 store, or name its file in SSL_CERT_FILE",
            ),
            NetworkProblem::Status { .. } | NetworkProblem::Connection { .. } => {
                Some("check the network, and the proxy if https_proxy or http_proxy is set")
            }
            _ => None,
        }
    }

    /// Whether the next attempt may go better.
    pub(super) fn is_passing(&self) -> bool {
        match self.problem {
            NetworkProblem::Status { status, .. } => is_passing_status(status),
            NetworkProblem::Connection { trust, .. } => !trust,
            _ => false,
        }
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: ", self.doing, self.url)?;
        match &self.problem {
            NetworkProblem::Invalid(why) => f.write_str(why),
            NetworkProblem::Status { host, status } => {
                let reason = ureq::http::StatusCode::from_u16(*status).ok();
                let reason = reason.and_then(|status| status.canonical_reason()).unwrap_or("");
                write!(f, "{host} answered {}", format!("{status} {reason}").trim_end())
            }
            NetworkProblem::Connection { host, why, .. } => write!(f, "{host}: {why}"),
            NetworkProblem::File { path, source } => {
                write!(f, "cannot write {}: {source}", path.display())
            }
            NetworkProblem::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for NetworkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            NetworkProblem::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

pub(super) fn is_passing_status(status: u16) -> bool {
    status == 429 || status >= 500
}

/// What an error of the client means for the user.
pub(super) fn connection(host: &str, error: ureq::Error) -> NetworkProblem {
    let trust = match &error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        // How a failed handshake comes through the socket.
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    };
    let why = match error {
        // Its text is the URL.
        ureq::Error::BadUri(_) => return NetworkProblem::Invalid("it is no URL".to_owned()),
        ureq::Error::HostNotFound => "the host is not known".to_owned(),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::Rustls(error) => format!("no secure connection: {error}"),
        ureq::Error::ConnectProxyFailed(why) => format!("the proxy refused: {why}"),
        ureq::Error::Io(error) if trust => format!("no secure connection: {error}"),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    NetworkProblem::Connection { host: host.to_owned(), why, trust }
}
