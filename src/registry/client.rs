//! The client: requests to one repository with what it wants to see, and what is pulled, each
//! checked before it is believed. What is pushed is in [`super::upload`].

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::challenge::{self, Challenge};
use super::credentials::{self, Credentials};
use super::sessions::{Secret, Sessions};
use crate::machine::environment::Environment;
use crate::machine::network::{
    self, Answer, Connections, Content, Method, NetworkError, NetworkProblem, Request, Watch,
};
use crate::model::{Digest, Reference};
use crate::store::hash_file;

/// Media types of what can stand behind a reference.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Bytes of a manifest or index, as registries limit them.
pub const MANIFEST_BYTES_AT_MOST: u64 = 4 << 20;
/// Bytes of the answer with a token.
const TOKEN_BYTES_AT_MOST: u64 = 1 << 20;
/// Where references without a registry are served.
const DEFAULT_HOST: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A failure of a registry, or of the way to it.
#[derive(Debug)]
pub struct RegistryError {
    /// The image.
    pub reference: Box<Reference>,
    /// What happened.
    pub problem: RegistryProblem,
}

/// What happened.
#[derive(Debug)]
pub enum RegistryProblem {
    /// There is no such image, or nobody may know of it.
    Missing,
    /// There is no such part of an image that is there.
    MissingBlob(String),
    /// The credentials are missing or wrong.
    Denied {
        /// Whether some were there.
        had_credentials: bool,
    },
    /// It answers with something else than what was asked for.
    Wrong(String),
    /// The network failed.
    Network(NetworkError),
    /// The disk failed.
    Io(io::Error),
}

impl RegistryError {
    /// Whether the other side, or the way to it, is to blame.
    pub fn is_remote(&self) -> bool {
        match &self.problem {
            RegistryProblem::Network(error) => error.is_remote(),
            RegistryProblem::Io(_) => false,
            _ => true,
        }
    }

    /// What the user can do.
    pub fn help(&self) -> Option<String> {
        let registry = &self.reference.registry;
        match &self.problem {
            RegistryProblem::Denied { had_credentials: true } => {
                Some(format!("check the credentials for {registry}"))
            }
            RegistryProblem::Denied { .. } => Some(format!(
                "write the credentials with `docker login {registry}` or `podman login {registry}`"
            )),
            RegistryProblem::Missing if self.reference.digest.is_some() => Some(
                "check the name and the digest; a registry may delete what no tag means any \
                 more: where images.lock pins it, `xstitch lock --update IMAGE` pins what the \
                 tag means now"
                    .to_owned(),
            ),
            RegistryProblem::Missing => Some("check the name and the tag".to_owned()),
            RegistryProblem::MissingBlob(_) => Some(
                "the registry lost it, or the image was pushed in part: push it again".to_owned(),
            ),
            RegistryProblem::Network(NetworkError {
                problem: NetworkProblem::Connection { trust: false, .. },
                ..
            }) if self.reference.is_loopback() => {
                Some(format!("start the registry at {registry}, or check its port"))
            }
            RegistryProblem::Network(error) => error.help().map(str::to_owned),
            _ => None,
        }
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.reference)?;
        match &self.problem {
            RegistryProblem::Missing => f.write_str("the registry has no such image"),
            RegistryProblem::MissingBlob(digest) => {
                write!(f, "the registry has the image, but not its blob {digest}")
            }
            RegistryProblem::Denied { .. } => f.write_str("the registry denies access"),
            RegistryProblem::Wrong(why) => f.write_str(why),
            RegistryProblem::Network(error) => error.fmt(f),
            RegistryProblem::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            RegistryProblem::Network(error) => Some(error),
            RegistryProblem::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A client for what one run asks of registries.
pub struct Client<'a> {
    environment: &'a Environment,
    sessions: &'a Sessions,
    /// For what is asked once and not for long.
    connections: Option<&'a Connections>,
}

/// A manifest or index as it came.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
}

impl<'a> Client<'a> {
    /// A client that shows what `sessions` has, and adds to it.
    pub fn new(environment: &'a Environment, sessions: &'a Sessions) -> Self {
        Self { environment, sessions, connections: None }
    }

    /// One that asks once and not for long, and keeps connections.
    #[must_use]
    pub fn hasty(self, connections: &'a Connections) -> Self {
        Self { connections: Some(connections), ..self }
    }

    fn fetch(
        &self,
        request: &Request<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Answer, RegistryProblem> {
        match self.connections {
            Some(connections) => connections.exchange(request, self.environment, watch),
            None => network::fetch(request, self.environment, watch),
        }
        .map_err(RegistryProblem::Network)
    }

    /// The manifest or index behind a reference. `scratch` is a folder for it.
    pub fn manifest(
        &self,
        reference: &Reference,
        scratch: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<Manifest, RegistryError> {
        let blame = |problem| RegistryError { reference: reference.clone().into(), problem };
        let to = scratch.join("manifest");
        let path = format!("manifests/{}", reference.identifier());
        let ask = Ask {
            accept: &MANIFESTS,
            to: Some(&to),
            bytes_at_most: MANIFEST_BYTES_AT_MOST,
            ..Ask::of(Method::Get, &path, scratch)
        };
        let answer = self.ask(reference, &ask, watch)?;
        let bytes = fs::read(&to).map_err(|error| blame(RegistryProblem::Io(error)))?;
        let digest = Digest::of(&bytes);
        let said = answer.header("docker-content-digest").and_then(|text| text.parse().ok());
        if let Some(wanted) = reference.digest.or(said).filter(|wanted| *wanted != digest) {
            let why =
                format!("the registry sent a manifest with the digest {digest}, not {wanted}");
            return Err(blame(RegistryProblem::Wrong(why)));
        }
        Ok(Manifest { bytes, digest })
    }

    /// Downloads a blob to the file `to`, which is replaced.
    pub fn blob(
        &self,
        reference: &Reference,
        blob: (&Digest, u64),
        to: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<(), RegistryError> {
        let (digest, size_bytes) = blob;
        let blame = |problem| RegistryError { reference: reference.clone().into(), problem };
        let path = format!("blobs/{digest}");
        let folder = to.parent().unwrap_or(to);
        let ask =
            Ask { to: Some(to), bytes_at_most: size_bytes, ..Ask::of(Method::Get, &path, folder) };
        self.ask(reference, &ask, watch)?;
        let found = hash_file(to).map_err(|error| blame(RegistryProblem::Io(error)))?;
        if found != (*digest, size_bytes) {
            let (other, bytes) = found;
            let why = format!(
                "the registry sent {bytes} bytes with the digest {other} for the blob {digest} of \
                 {size_bytes} bytes"
            );
            return Err(blame(RegistryProblem::Wrong(why)));
        }
        Ok(())
    }

    /// Asks, and shows what is wanted for it. Answers other than success are errors.
    pub(super) fn ask(
        &self,
        reference: &Reference,
        ask: &Ask<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Answer, RegistryError> {
        let blame = |problem| RegistryError { reference: reference.clone().into(), problem };
        let host = match &reference.registry {
            name if name == DEFAULT_HOST.0 => DEFAULT_HOST.1,
            name => name,
        };
        let mut secret = self.sessions.secret(reference);
        // One answer may tell that the other scheme is meant, one what to show.
        let mut shown = false;
        for _ in 0..4 {
            let plain = reference.is_loopback() && !self.sessions.is_encrypted(reference);
            let scheme = if plain { "http" } else { "https" };
            let path = format!("/v2/{}/{}", reference.repository, ask.path);
            let url = match ask.location(&format!("{scheme}://{host}")) {
                Some(location) => location,
                None => format!("{scheme}://{host}{path}"),
            };
            let is_own = url.starts_with(&format!("{scheme}://{host}/"));
            let request = Request {
                method: ask.method,
                url: &url,
                accept: ask.accept,
                authorization: secret.as_deref().filter(|_| is_own),
                content: ask.content,
                to: ask.to,
                bytes_at_most: ask.bytes_at_most,
            };
            let answer = self.fetch(&request, watch).map_err(&blame)?;
            match answer.status {
                200..=299 => return Ok(answer),
                // Servers say so who expect encryption.
                400 if plain => self.sessions.encrypt(reference),
                401 if !shown => {
                    shown = true;
                    let header = answer.header("www-authenticate").unwrap_or_default();
                    let challenge =
                        challenge::parse(header, &reference.repository).map_err(|why| {
                            blame(RegistryProblem::Wrong(format!(
                                "the registry cannot be used: {why}"
                            )))
                        })?;
                    let own = self.credentials(reference);
                    let new = match &challenge {
                        Challenge::Basic => own.map(|own| Secret::lasting(own.basic())),
                        Challenge::Bearer { url } => {
                            let to = ask.folder.join(format!("token-{}", own_number()));
                            // Whoever needs the same token meanwhile waits for it.
                            let _alone = self.sessions.alone();
                            match self.sessions.token(reference, url, secret.as_deref()) {
                                Some(token) => Some(token),
                                None => {
                                    let token = self.token(url, own.as_ref(), &to, watch);
                                    Some(token.map_err(blame)?)
                                }
                            }
                        }
                    };
                    let Some(new) = new else {
                        return Err(blame(RegistryProblem::Denied { had_credentials: false }));
                    };
                    secret = Some(new.header.clone());
                    self.sessions.learn(reference, &challenge, new);
                }
                401 | 403 => {
                    let had_credentials = self.credentials(reference).is_some();
                    return Err(blame(RegistryProblem::Denied { had_credentials }));
                }
                404 => {
                    return Err(blame(match ask.path.strip_prefix("blobs/") {
                        Some(digest) if digest.parse::<Digest>().is_ok() => {
                            RegistryProblem::MissingBlob(digest.to_owned())
                        }
                        _ => RegistryProblem::Missing,
                    }));
                }
                status => {
                    let url = crate::model::source::redacted(&url);
                    let problem = NetworkProblem::Status { host: answer.host, status };
                    return Err(blame(RegistryProblem::Network(NetworkError {
                        doing: ask.method.doing(),
                        url,
                        problem,
                    })));
                }
            }
        }
        Err(blame(RegistryProblem::Denied { had_credentials: secret.is_some() }))
    }

    fn credentials(&self, reference: &Reference) -> Option<Credentials> {
        credentials::find(self.environment, &reference.registry, &reference.repository)
    }

    /// Asks for a token.
    fn token(
        &self,
        url: &str,
        own: Option<&Credentials>,
        to: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<Secret, RegistryProblem> {
        let asked = Instant::now();
        let authorization = own.map(Credentials::basic);
        let request = Request {
            authorization: authorization.as_deref(),
            bytes_at_most: TOKEN_BYTES_AT_MOST,
            ..Request::get(url, to)
        };
        let answer = self.fetch(&request, watch)?;
        if answer.status != 200 {
            return match answer.status {
                401 | 403 => Err(RegistryProblem::Denied { had_credentials: own.is_some() }),
                status => {
                    let url = crate::model::source::redacted(url);
                    let problem = NetworkProblem::Status { host: answer.host, status };
                    Err(RegistryProblem::Network(NetworkError { doing: "download", url, problem }))
                }
            };
        }
        let bytes = fs::read(to).map_err(RegistryProblem::Io)?;
        fs::remove_file(to).map_err(RegistryProblem::Io)?;
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let token = ["token", "access_token"].iter().find_map(|key| document.get(key)?.as_str());
        let is_word =
            |token: &&str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        match token.filter(is_word) {
            Some(token) => {
                let seconds = document.get("expires_in").and_then(serde_json::Value::as_u64);
                Ok(Secret::token(token, asked, seconds))
            }
            None => Err(RegistryProblem::Wrong(format!("{} gave no token", answer.host))),
        }
    }
}

/// What to ask of a repository.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// Path below the repository, or the URL that an answer named: absolute, or with a slash
    /// in front.
    pub path: &'a str,
    pub accept: &'a [&'a str],
    pub content: Option<(&'a str, Content<'a>)>,
    pub to: Option<&'a Path>,
    pub bytes_at_most: u64,
    /// For files in between.
    pub folder: &'a Path,
}

impl<'a> Ask<'a> {
    pub fn of(method: Method, path: &'a str, folder: &'a Path) -> Self {
        let (accept, content, to) = (&[][..], None, None);
        Self { method, path, accept, content, to, bytes_at_most: 0, folder }
    }

    /// The URL, if this is one that an answer named.
    fn location(&self, server: &str) -> Option<String> {
        match self.path {
            path if path.contains("://") => Some(path.to_owned()),
            path if path.starts_with('/') => Some(format!("{server}{path}")),
            _ => None,
        }
    }
}

/// A number that nothing else in this process has.
fn own_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
