//! The only client of the network that is part of this program: files by HTTP.
//!
//! Trusts what the machine trusts, goes through the proxies that the environment names, and
//! sends credentials to the host only whose URL has them. Deliberately absent: what is
//! downloaded, and whether it is what was wanted.

mod place;

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use self::place::Place;
use super::environment::Environment;
use crate::model::source::{credentials, redacted};

pub use self::place::base64;

const REDIRECTS_AT_MOST: usize = 10;
const BUFFER_BYTES: usize = 1 << 18;
/// How often it is looked whether the user asked to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// How patient a download is.
struct Patience {
    /// For a connection, and for the next bytes.
    wait: Duration,
    /// Before each further attempt.
    pauses: &'static [Duration],
}

const PATIENCE: Patience = Patience {
    wait: Duration::from_secs(30),
    pauses: &[Duration::from_secs(1), Duration::from_secs(4)],
};

/// A download that failed.
#[derive(Debug)]
pub struct NetworkError {
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
    fn is_passing(&self) -> bool {
        match self.problem {
            NetworkProblem::Status { status, .. } => is_passing_status(status),
            NetworkProblem::Connection { trust, .. } => !trust,
            _ => false,
        }
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot download {}: ", self.url)?;
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

/// Who watches a download.
pub struct Watch<'a> {
    /// Whether the user asked to stop; asked often, and by another thread while nothing comes.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Told the bytes so far, and of how many where known: with 0 when the answer begins,
    /// then after each piece.
    pub progress: &'a mut dyn FnMut(u64, Option<u64>),
}

/// Downloads `url` (`http` or `https`) to the file `to`, which is replaced, and returns its
/// size in bytes. What passes by itself is tried again. The bytes are what the server has:
/// no encoding is asked for or undone.
pub fn download(
    url: &str,
    to: &Path,
    environment: &Environment,
    watch: &mut Watch<'_>,
) -> Result<u64, NetworkError> {
    download_with(&PATIENCE, url, to, environment, watch)
}

fn download_with(
    patience: &Patience,
    url: &str,
    to: &Path,
    environment: &Environment,
    watch: &mut Watch<'_>,
) -> Result<u64, NetworkError> {
    let request = Request { url, accept: &[], authorization: None, to, bytes_at_most: u64::MAX };
    let whole = |answer: Answer| match answer.status {
        200 => Ok(answer.size_bytes),
        status => Err(NetworkProblem::Status { host: answer.host, status }),
    };
    repeat(patience, &request, environment, watch, &whole)
}

/// A request for a file.
pub struct Request<'a> {
    /// Where it is: `http` or `https`.
    pub url: &'a str,
    /// Media types that are understood.
    pub accept: &'a [&'a str],
    /// `Authorization`, sent to the URL's own host only. Without, what the URL has.
    pub authorization: Option<&'a str>,
    /// The file that it becomes, which is replaced.
    pub to: &'a Path,
    /// Bytes that it may have.
    pub bytes_at_most: u64,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The server, or where it redirected to.
    pub host: String,
    /// The status code (RFC 9110, 15).
    pub status: u16,
    /// Headers by name in small letters.
    pub headers: Vec<(String, String)>,
    /// Bytes that were written; 0 unless the status is 200.
    pub size_bytes: u64,
}

impl Answer {
    /// The first header of that name, which is in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Asks for a file. Answers that may be better soon are errors once they were tried again;
/// all others are returned, and those other than 200 leave no file.
pub fn fetch(
    request: &Request<'_>,
    environment: &Environment,
    watch: &mut Watch<'_>,
) -> Result<Answer, NetworkError> {
    repeat(&PATIENCE, request, environment, watch, &|answer| {
        if is_passing_status(answer.status) {
            return Err(NetworkProblem::Status { host: answer.host, status: answer.status });
        }
        Ok(answer)
    })
}

fn is_passing_status(status: u16) -> bool {
    status == 429 || status >= 500
}

/// Tries again what passes by itself.
fn repeat<T>(
    patience: &Patience,
    request: &Request<'_>,
    environment: &Environment,
    watch: &mut Watch<'_>,
    judge: &dyn Fn(Answer) -> Result<T, NetworkProblem>,
) -> Result<T, NetworkError> {
    let mut pauses = patience.pauses.iter();
    loop {
        let answer = attempt(patience, request, environment, watch);
        let problem = match answer.and_then(judge) {
            Ok(result) => return Ok(result),
            Err(_) if (watch.stop)() => NetworkProblem::Interrupted,
            Err(problem) => problem,
        };
        let error = NetworkError { url: redacted(request.url), problem };
        let Some(&pause) = pauses.next().filter(|_| error.is_passing()) else { return Err(error) };
        let mut waited = Duration::ZERO;
        while waited < pause && !(watch.stop)() {
            std::thread::sleep(GLANCE);
            waited += GLANCE;
        }
    }
}

/// One attempt, with another thread that ends its connections when the user asks to stop.
fn attempt(
    patience: &Patience,
    request: &Request<'_>,
    environment: &Environment,
    watch: &mut Watch<'_>,
) -> Result<Answer, NetworkProblem> {
    let wait = Some(patience.wait);
    let tls =
        ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("xstitch/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(wait)
        .timeout_connect(wait)
        .timeout_per_read(wait)
        .timeout_per_write(wait)
        .tls_config(tls)
        .build()
        .new_agent();
    let (done, ended) = channel::<()>();
    let stop = watch.stop;
    std::thread::scope(|scope| {
        let other = agent.clone();
        scope.spawn(move || {
            while ended.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
                if stop() {
                    return other.shutdown();
                }
            }
        });
        let result = follow(&agent, request, environment, watch);
        drop(done);
        result
    })
}

/// Asks for the URL, then for what the answer redirects to, and writes the file.
fn follow(
    agent: &ureq::Agent,
    wanted: &Request<'_>,
    environment: &Environment,
    watch: &mut Watch<'_>,
) -> Result<Answer, NetworkProblem> {
    let basic = |url: &str| {
        let (user, password) = credentials(url)?;
        Some(format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))
    };
    let mut place = Place::parse(wanted.url)?;
    let mut secret = wanted.authorization.map(str::to_owned).or_else(|| basic(wanted.url));
    for _ in 0..=REDIRECTS_AT_MOST {
        let host = place.authority.clone();
        let failed = |error: ureq::Error| connection(&host, error);
        let mut request =
            agent.get(place.to_string()).config().proxy(proxy(&place, environment)?).build();
        if let Some(secret) = &secret {
            request = request.header("Authorization", secret);
        }
        for media_type in wanted.accept {
            request = request.header("Accept", *media_type);
        }
        let mut answer = request.call().map_err(failed)?;
        let status = answer.status();
        let text = |value: &ureq::http::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        match answer.headers().get("Location").map(text) {
            Some(location) if status.is_redirection() => {
                let next = place.join(&location)?;
                if (&next.scheme, &next.authority) != (&place.scheme, &place.authority) {
                    secret = None;
                }
                secret = basic(&location).or(secret);
                place = next;
            }
            _ => {
                let headers = answer.headers().iter();
                let headers =
                    headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
                let status = status.as_u16();
                let mut said = Answer { host, status, headers, size_bytes: 0 };
                if status == 200 {
                    let size_bytes = answer.body().content_length();
                    let mut reader = answer.body_mut().as_reader();
                    let read = |buffer: &mut [u8]| {
                        reader.read(buffer).map_err(|error| connection(&said.host, error.into()))
                    };
                    said.size_bytes = write(read, size_bytes, &said.host, wanted, watch)?;
                }
                return Ok(said);
            }
        }
    }
    Err(NetworkProblem::Connection {
        host: place.authority,
        why: format!("more than {REDIRECTS_AT_MOST} redirects"),
        trust: false,
    })
}

/// Writes what `read` gives until it gives nothing.
fn write(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, NetworkProblem>,
    size_bytes: Option<u64>,
    host: &str,
    wanted: &Request<'_>,
    watch: &mut Watch<'_>,
) -> Result<u64, NetworkProblem> {
    let to = wanted.to;
    let failed = |source| NetworkProblem::File { path: to.to_owned(), source };
    let mut file = fs::File::create(to).map_err(failed)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = 0;
    (watch.progress)(0, size_bytes);
    loop {
        if (watch.stop)() {
            return Err(NetworkProblem::Interrupted);
        }
        let length = read(&mut buffer)?;
        if length == 0 {
            break;
        }
        done += length as u64;
        if done > wanted.bytes_at_most {
            let most = wanted.bytes_at_most;
            let why = format!("it sends more than the {most} bytes that this may have");
            return Err(NetworkProblem::Invalid(why));
        }
        file.write_all(&buffer[..length]).map_err(failed)?;
        (watch.progress)(done, size_bytes);
    }
    match size_bytes {
        Some(said) if said != done => Err(NetworkProblem::Connection {
            host: host.to_owned(),
            why: format!("it sent {done} bytes of {said}"),
            trust: false,
        }),
        _ => Ok(done),
    }
}

/// What an error of the client means for the user.
fn connection(host: &str, error: ureq::Error) -> NetworkProblem {
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

/// The proxy on the way to `place`, as curl reads the environment: both cases, the small
/// letters first.
fn proxy(place: &Place, environment: &Environment) -> Result<Option<ureq::Proxy>, NetworkProblem> {
    let get = |name: &str| environment.get(name).or(environment.get(&name.to_uppercase()));
    if get("no_proxy").is_some_and(|list| bypasses(list, place.host())) {
        return Ok(None);
    }
    let name = format!("{}_proxy", place.scheme);
    let Some(proxy) = get(&name).or(get("all_proxy")) else { return Ok(None) };
    let unusable = |_| NetworkProblem::Invalid(format!("{name} or all_proxy is no URL of a proxy"));
    ureq::Proxy::new(proxy).map(Some).map_err(unusable)
}

/// Whether a `no_proxy` list names the host or a domain that it is in.
fn bypasses(list: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        let entry = entry.split_once(':').map_or(entry.as_str(), |(host, _)| host);
        let domain = || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'));
        entry == "*" || (!entry.is_empty() && (host == entry || domain()))
    })
}

#[cfg(test)]
mod tests;
