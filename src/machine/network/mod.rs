//! The only client of the network that is part of this program: files by HTTP, to here and
//! from here.
//!
//! Trusts what the machine trusts, goes through the proxies that the environment names, and
//! sends credentials to the host only whose URL has them. Deliberately absent: what is
//! downloaded, and whether it is what was wanted.

mod connections;
mod error;
mod place;
mod proxy;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use self::error::{connection, is_passing_status};
use self::place::Place;
use self::proxy::proxy;
use super::environment::Environment;
use crate::model::source::{credentials, redacted};

pub use self::connections::Connections;
pub use self::error::{NetworkError, NetworkProblem};
pub use self::place::{base64, from_base64};

const REDIRECTS_AT_MOST: usize = 10;
const BUFFER_BYTES: usize = 1 << 18;
/// Bytes of an answer that nobody wants, which are read to keep the connection.
const SPARED_BYTES: u64 = 1 << 16;
/// How often it is looked whether the user asked to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// How patient a download is.
struct Patience {
    /// For a connection.
    connect: Duration,
    /// For the next bytes.
    wait: Duration,
    /// Before each further attempt.
    pauses: &'static [Duration],
}

const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(30),
    wait: Duration::from_secs(30),
    pauses: &[Duration::from_secs(1), Duration::from_secs(4)],
};

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
    let request = Request::get(url, to);
    let whole = |answer: Answer| match answer.status {
        200 => Ok(answer.size_bytes),
        status => Err(NetworkProblem::Status { host: answer.host, status }),
    };
    repeat(patience, &request, environment, watch, &whole)
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The file.
    Get,
    /// Whether it is there.
    Head,
    /// To take something, and say where it is.
    Post,
    /// To keep something there.
    Put,
}

impl Method {
    /// In words, with the place behind them.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Get => "download",
            Self::Head => "ask for",
            Self::Post | Self::Put => "upload to",
        }
    }
}

/// What is sent to a server.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// A file, which is read as it is sent.
    File(&'a Path),
}

/// A request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What is asked.
    pub method: Method,
    /// Of what: `http` or `https`.
    pub url: &'a str,
    /// Media types that are understood.
    pub accept: &'a [&'a str],
    /// `Authorization`, sent to the URL's own host only. Without, what the URL has.
    pub authorization: Option<&'a str>,
    /// What is sent, with its media type.
    pub content: Option<(&'a str, Content<'a>)>,
    /// The file that the answer becomes, which is replaced. Without, it is not kept.
    pub to: Option<&'a Path>,
    /// Bytes that it may have.
    pub bytes_at_most: u64,
}

impl<'a> Request<'a> {
    /// A request for a file of any size.
    pub fn get(url: &'a str, to: &'a Path) -> Self {
        let method = Method::Get;
        Self { to: Some(to), bytes_at_most: u64::MAX, ..Self::of(method, url) }
    }

    /// A request whose answer is not kept.
    pub fn of(method: Method, url: &'a str) -> Self {
        let (accept, authorization, content) = (&[][..], None, None);
        Self { method, url, accept, authorization, content, to: None, bytes_at_most: 0 }
    }
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
        let error = NetworkError { doing: "download", url: redacted(request.url), problem };
        let Some(&pause) = pauses.next().filter(|_| error.is_passing()) else { return Err(error) };
        let mut waited = Duration::ZERO;
        while waited < pause && !(watch.stop)() {
            std::thread::sleep(GLANCE);
            waited += GLANCE;
        }
    }
}

/// One attempt with connections of its own.
fn attempt(
    patience: &Patience,
    request: &Request<'_>,
    environment: &Environment,
    watch: &mut Watch<'_>,
) -> Result<Answer, NetworkProblem> {
    watched(&agent(patience), request, environment, watch)
}

fn agent(patience: &Patience) -> ureq::Agent {
    let (connect, wait) = (Some(patience.connect), Some(patience.wait));
    let tls =
        ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
    ureq::Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("xstitch/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(connect)
        .timeout_connect(connect)
        .timeout_per_read(wait)
        .timeout_per_write(wait)
        .tls_config(tls)
        .build()
        .new_agent()
}

/// One attempt, with another thread that ends its connections when the user asks to stop.
fn watched(
    agent: &ureq::Agent,
    request: &Request<'_>,
    environment: &Environment,
    watch: &mut Watch<'_>,
) -> Result<Answer, NetworkProblem> {
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
        let result = follow(agent, request, environment, watch);
        drop(done);
        result
    })
}

/// Asks for the URL, then for what the answer redirects to, and writes the file. What is sent is
/// sent again only where the server says that the same is meant (RFC 9110, 15.4).
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
        let proxy = proxy(&place, environment)?;
        let mut answer = send(agent, wanted, &place, secret.as_deref(), proxy, &failed)?;
        let status = answer.status();
        let text = |value: &ureq::http::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        match answer.headers().get("Location").map(text) {
            Some(location)
                if status.is_redirection()
                    && (wanted.content.is_none() || matches!(status.as_u16(), 307 | 308)) =>
            {
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
                let size_bytes = answer.body().content_length();
                let mut reader = answer.body_mut().as_reader();
                if let Some(to) = wanted.to.filter(|_| status == 200) {
                    let read = |buffer: &mut [u8]| {
                        reader.read(buffer).map_err(|error| connection(&said.host, error.into()))
                    };
                    let most = wanted.bytes_at_most;
                    said.size_bytes = write(read, size_bytes, &said.host, (to, most), watch)?;
                } else if size_bytes.is_some_and(|size_bytes| size_bytes <= SPARED_BYTES) {
                    // A connection whose answer was read can be used again.
                    let _ = io::copy(&mut reader, &mut io::sink());
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

/// Sends one request.
fn send(
    agent: &ureq::Agent,
    wanted: &Request<'_>,
    place: &Place,
    secret: Option<&str>,
    proxy: Option<ureq::Proxy>,
    failed: &dyn Fn(ureq::Error) -> NetworkProblem,
) -> Result<ureq::http::Response<ureq::Body>, NetworkProblem> {
    let method = match wanted.method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
    };
    let mut request = ureq::http::Request::builder().method(method).uri(place.to_string());
    if let Some(secret) = secret {
        request = request.header("Authorization", secret);
    }
    for media_type in wanted.accept {
        request = request.header("Accept", *media_type);
    }
    if let Some((media_type, _)) = wanted.content {
        request = request.header("Content-Type", media_type);
    }
    let invalid = |error: ureq::http::Error| failed(error.into());
    let answer = match wanted.content {
        Some((_, Content::File(path))) => {
            let error = |source| NetworkProblem::File { path: path.to_owned(), source };
            let request = request.body(fs::File::open(path).map_err(error)?).map_err(invalid)?;
            agent.run(agent.configure_request(request).proxy(proxy).build())
        }
        Some((_, Content::Bytes(bytes))) => {
            let request = request.body(bytes).map_err(invalid)?;
            agent.run(agent.configure_request(request).proxy(proxy).build())
        }
        None => {
            let request = request.body(()).map_err(invalid)?;
            agent.run(agent.configure_request(request).proxy(proxy).build())
        }
    };
    answer.map_err(failed)
}

/// Writes what `read` gives until it gives nothing.
fn write(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, NetworkProblem>,
    size_bytes: Option<u64>,
    host: &str,
    to: (&Path, u64),
    watch: &mut Watch<'_>,
) -> Result<u64, NetworkProblem> {
    let (to, most) = to;
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
        if done > most {
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

#[cfg(test)]
mod tests;
