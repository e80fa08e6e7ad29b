//! Where a shared cache is: a server that speaks the Bazel remote cache protocol over HTTP
//! (`/ac/` and `/cas/`), or a repository of a registry.
//!
//! In a registry each key is a tag, whose manifest is an artifact (OCI image specification 1.1):
//! its layers are the parts, its annotations the statement and the signature. Deliberately
//! absent: what is believed of what comes from there.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::action_result;
use super::signature::PublicKey;
use super::statement::{Part, Signed};
use crate::machine::environment::Environment;
use crate::machine::network::{
    Answer, Connections, Content, Method, NetworkError, NetworkProblem, Request, Watch, base64,
    from_base64,
};
use crate::model::source::redacted;
use crate::model::{Digest, Reference};
use crate::registry::client::{Client, RegistryError, RegistryProblem};
use crate::registry::sessions::Sessions;
use crate::registry::upload::Blob;
use crate::store::hash_file;

/// Bytes of an answer about a key.
const RESULT_BYTES_AT_MOST: u64 = 4 << 20;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const RESULT: &str = "application/vnd.xstitch.cache.result.v1";
const PART: &str = "application/vnd.xstitch.cache.part.v1";
const STATEMENT: &str = "xstitch.cache.statement";
const SIGNATURE: &str = "xstitch.cache.signature";

/// A place that keeps results.
pub enum Backend {
    /// A server, by the URL in front of `/ac/` and `/cas/`, with a bearer token.
    Http {
        /// The URL, without a slash at its end. May have credentials.
        url: String,
        /// The whole `Authorization` header.
        authorization: Option<String>,
    },
    /// A repository; its tag is not used.
    Registry(Reference),
}

/// Why something was not had or kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not there.
    Missing,
    /// It is there, and is not what it should be.
    Wrong(String),
    /// It is larger than the server takes.
    TooLarge,
    /// The server cannot be used, or not for this.
    Unusable(String),
    /// The same, and the next attempt may go better.
    Passing(String),
    /// It took too long, or the user asked to stop.
    Stopped,
    /// The disk failed.
    Disk(String),
}

/// What a request needs.
pub struct Asking<'a> {
    /// The machine's environment.
    pub environment: &'a Environment,
    /// What registries told.
    pub sessions: &'a Sessions,
    /// Connections that are kept.
    pub connections: &'a Connections,
    /// A folder for answers, of one thread alone.
    pub scratch: &'a Path,
}

impl Backend {
    /// What it is, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Http { url, .. } => redacted(url),
            Self::Registry(reference) => {
                format!("{}/{}", reference.registry, reference.repository)
            }
        }
    }

    /// What is kept for a key.
    pub fn result(
        &self,
        key: &Digest,
        asking: &Asking<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Signed, Refusal> {
        let read = |file: &Path| fs::read(file).map_err(|error| Refusal::Disk(error.to_string()));
        match self {
            Self::Http { url, .. } => {
                let file = asking.scratch.join("result");
                let url = format!("{url}/ac/{}", key.hex());
                let request =
                    Request { bytes_at_most: RESULT_BYTES_AT_MOST, ..Request::get(&url, &file) };
                self.ask(request, asking, watch)?;
                action_result::decode(&read(&file)?).map_err(Refusal::Wrong)
            }
            Self::Registry(reference) => {
                let tagged = tagged(reference, key);
                let manifest = client(asking)
                    .manifest(&tagged, asking.scratch, watch)
                    .map_err(|error| refusal(&error))?;
                from_manifest(&manifest.bytes).map_err(Refusal::Wrong)
            }
        }
    }

    /// Keeps a statement for a key, whose parts are there.
    pub fn put_result(
        &self,
        key: &Digest,
        signed: &Signed,
        parts: &[(String, Part)],
        asking: &Asking<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Http { url, .. } => {
                let bytes = action_result::encode(signed, parts);
                let url = format!("{url}/ac/{}", key.hex());
                self.ask(put(&url, Content::Bytes(&bytes)), asking, watch).map(drop)
            }
            Self::Registry(reference) => {
                let client = client(asking);
                let tagged = tagged(reference, key);
                let empty = Blob { digest: &Digest::of(b"{}"), content: Content::Bytes(b"{}") };
                client
                    .push_blob(&tagged, empty, asking.scratch, watch)
                    .map_err(|error| refusal(&error))?;
                let bytes = to_manifest(signed, parts);
                client
                    .push_manifest(&tagged, MANIFEST, &bytes, asking.scratch, watch)
                    .map_err(|error| refusal(&error))
            }
        }
    }

    /// Downloads a part to the file `to`, whole and with its digest.
    pub fn part(
        &self,
        part: &Part,
        to: &Path,
        asking: &Asking<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Http { url, .. } => {
                let url = format!("{url}/cas/{}", part.digest.hex());
                let request = Request { bytes_at_most: part.size_bytes, ..Request::get(&url, to) };
                self.ask(request, asking, watch)?;
                let found = hash_file(to).map_err(|error| Refusal::Disk(error.to_string()))?;
                if found != (part.digest, part.size_bytes) {
                    let why = format!("it sent {} bytes with the digest {}", found.1, found.0);
                    return Err(Refusal::Wrong(why));
                }
                Ok(())
            }
            Self::Registry(reference) => client(asking)
                .blob(reference, (&part.digest, part.size_bytes), to, watch)
                .map_err(|error| refusal(&error)),
        }
    }

    /// Keeps a part. What is there already is not sent, unless it may be `damaged`.
    /// Returns whether it was sent.
    pub fn put_part(
        &self,
        part: &Part,
        content: Content<'_>,
        damaged: bool,
        asking: &Asking<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<bool, Refusal> {
        match self {
            Self::Http { url, .. } => {
                let url = format!("{url}/cas/{}", part.digest.hex());
                if !damaged {
                    match self.ask(Request::of(Method::Head, &url), asking, watch) {
                        Ok(_) => return Ok(false),
                        Err(Refusal::Missing) => {}
                        Err(refusal) => return Err(refusal),
                    }
                }
                self.ask(put(&url, content), asking, watch)?;
                Ok(true)
            }
            // Registries look at what they are sent.
            Self::Registry(reference) => {
                let blob = Blob { digest: &part.digest, content };
                client(asking)
                    .push_blob(reference, blob, asking.scratch, watch)
                    .map_err(|error| refusal(&error))
            }
        }
    }

    fn ask(
        &self,
        request: Request<'_>,
        asking: &Asking<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Answer, Refusal> {
        let authorization = match self {
            Self::Http { authorization, .. } => authorization.as_deref(),
            Self::Registry(_) => None,
        };
        let request = Request { authorization, ..request };
        let answer = asking.connections.exchange(&request, asking.environment, watch);
        let answer = answer.map_err(|error| failed(&error))?;
        match answer.status {
            200..=299 => Ok(answer),
            status => Err(judged(status, &answer.host)),
        }
    }
}

fn put<'a>(url: &'a str, content: Content<'a>) -> Request<'a> {
    let content = Some(("application/octet-stream", content));
    Request { content, ..Request::of(Method::Put, url) }
}

fn judged(status: u16, host: &str) -> Refusal {
    let why = format!("{host} answers with status {status}");
    match status {
        404 | 410 => Refusal::Missing,
        413 => Refusal::TooLarge,
        429 | 500.. => Refusal::Passing(why),
        401 | 403 => Refusal::Unusable(format!("{why}: it wants other credentials")),
        _ => Refusal::Unusable(why),
    }
}

fn failed(error: &NetworkError) -> Refusal {
    match &error.problem {
        NetworkProblem::Interrupted => Refusal::Stopped,
        NetworkProblem::File { .. } => Refusal::Disk(error.to_string()),
        NetworkProblem::Invalid(why) => Refusal::Wrong(why.clone()),
        NetworkProblem::Status { host, status } => judged(*status, host),
        NetworkProblem::Connection { host, why, .. } => Refusal::Unusable(format!("{host}: {why}")),
    }
}

fn client<'a>(asking: &Asking<'a>) -> Client<'a> {
    Client::new(asking.environment, asking.sessions).hasty(asking.connections)
}

fn tagged(reference: &Reference, key: &Digest) -> Reference {
    Reference { tag: Some(key.hex()), digest: None, ..reference.clone() }
}

fn refusal(error: &RegistryError) -> Refusal {
    match &error.problem {
        RegistryProblem::Missing | RegistryProblem::MissingBlob(_) => Refusal::Missing,
        RegistryProblem::Wrong(why) => Refusal::Wrong(why.clone()),
        RegistryProblem::Denied { .. } => Refusal::Unusable(error.to_string()),
        RegistryProblem::Network(error) => failed(error),
        RegistryProblem::Io(error) => Refusal::Disk(error.to_string()),
    }
}

/// The manifest of a result. Parts that several paths have are named once.
fn to_manifest(signed: &Signed, parts: &[(String, Part)]) -> Vec<u8> {
    let empty = json!({
        "mediaType": EMPTY, "digest": Digest::of(b"{}"), "size": 2, "data": base64(b"{}"),
    });
    let layers: Vec<_> = parts
        .iter()
        .map(|(path, part)| {
            json!({
                "mediaType": PART, "digest": part.digest, "size": part.size_bytes,
                "annotations": {"org.opencontainers.image.title": path},
            })
        })
        .collect();
    let key = PublicKey::from_bytes(&signed.key).map(|key| key.to_string()).unwrap_or_default();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": RESULT,
        "config": empty,
        "layers": if layers.is_empty() { vec![empty.clone()] } else { layers },
        "annotations": {
            STATEMENT: String::from_utf8_lossy(&signed.text),
            SIGNATURE: format!("{key} {}", base64(&signed.signature)),
        },
    });
    serde_json::to_vec(&manifest).expect("a manifest has string keys only")
}

fn from_manifest(bytes: &[u8]) -> Result<Signed, String> {
    let manifest: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest ({error})"))?;
    let text = |name: &str| manifest["annotations"][name].as_str().ok_or("it is not signed");
    let (key, signature) = text(SIGNATURE)?.split_once(' ').ok_or("it is not signed")?;
    let key = key.parse::<PublicKey>().map(|key| key.to_bytes().into()).unwrap_or_default();
    let signature = from_base64(signature).unwrap_or_default();
    Ok(Signed { text: text(STATEMENT)?.as_bytes().into(), key, signature })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::remote::signature::SecretKey;

    #[test]
    fn manifests_keep_statements() {
        let key = SecretKey::generate().unwrap();
        let text = b"{\"version\":1,\"unit\":\"\\u00e4\"}".to_vec();
        let signed =
            Signed { key: key.public().to_bytes().into(), signature: key.sign(&text).into(), text };
        let part = Part { digest: Digest::of(b"x"), size_bytes: 1 };
        for parts in [&[][..], &[("tree".to_owned(), part)]] {
            assert_eq!(from_manifest(&to_manifest(&signed, parts)), Ok(signed.clone()));
        }
        for other in
            ["", "<html>", "{}", "[]", r#"{"annotations": {"xstitch.cache.signature": 1}}"#]
        {
            assert!(from_manifest(other.as_bytes()).is_err(), "{other}");
        }
    }

    #[test]
    fn statuses_mean_what_servers_mean() {
        let host = "h";
        assert_eq!(judged(404, host), Refusal::Missing);
        assert!(matches!(judged(503, host), Refusal::Passing(_)));
        assert!(matches!(judged(403, host), Refusal::Unusable(_)));
        assert!(matches!(judged(302, host), Refusal::Unusable(_)));
        assert_eq!(judged(413, host), Refusal::TooLarge);
    }
}
