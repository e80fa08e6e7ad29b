//! Pushing: blobs in one piece and manifests (OCI distribution specification 1.1, "Pushing").
//!
//! Deliberately absent: which images and tags are pushed, and blobs in chunks.

use std::path::Path;

use super::client::{Ask, Client, RegistryError, RegistryProblem};
use crate::machine::network::{Answer, Content, Method, Watch};
use crate::model::{Digest, Reference};

/// A blob to push: its digest and its bytes.
#[derive(Clone, Copy)]
pub struct Blob<'a> {
    /// Digest of the bytes.
    pub digest: &'a Digest,
    /// The bytes, or a file with them.
    pub content: Content<'a>,
}

impl Client<'_> {
    /// Whether the repository of `reference` has a blob. `scratch` is a folder for answers.
    pub fn has_blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        scratch: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<bool, RegistryError> {
        let path = format!("blobs/{digest}");
        match self.ask(reference, &Ask::of(Method::Head, &path, scratch), watch) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.problem, RegistryProblem::MissingBlob(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Pushes a blob to the repository of `reference`, unless it is there. Returns whether it
    /// was sent.
    pub fn push_blob(
        &self,
        reference: &Reference,
        blob: Blob<'_>,
        scratch: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<bool, RegistryError> {
        if self.has_blob(reference, blob.digest, scratch, watch)? {
            return Ok(false);
        }
        let start = Ask {
            content: Some(("application/octet-stream", Content::Bytes(&[]))),
            ..Ask::of(Method::Post, "blobs/uploads/", scratch)
        };
        let answer = self.ask(reference, &start, watch)?;
        let place = location(reference, &answer)?;
        let mark = if place.contains('?') { '&' } else { '?' };
        let place = format!("{place}{mark}digest={}", blob.digest);
        let send = Ask {
            content: Some(("application/octet-stream", blob.content)),
            ..Ask::of(Method::Put, &place, scratch)
        };
        self.ask(reference, &send, watch)?;
        Ok(true)
    }

    /// Pushes a manifest or index under the tag or digest of `reference`. What it names has to
    /// be there.
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
        scratch: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<(), RegistryError> {
        let path = format!("manifests/{}", reference.identifier());
        let send = Ask {
            content: Some((media_type, Content::Bytes(bytes))),
            ..Ask::of(Method::Put, &path, scratch)
        };
        self.ask(reference, &send, watch).map(drop)
    }
}

/// Where a registry wants the bytes of a blob.
fn location(reference: &Reference, answer: &Answer) -> Result<String, RegistryError> {
    let wrong = |why: &str| RegistryError {
        reference: reference.clone().into(),
        problem: RegistryProblem::Wrong(why.to_owned()),
    };
    let place = answer
        .header("location")
        .ok_or_else(|| wrong("the registry does not say where an upload goes"))?;
    let is_path = place.starts_with('/') && !place.starts_with("//");
    let is_url =
        place.starts_with("https://") || place.starts_with("http://") && reference.is_loopback();
    if !is_path && !is_url || place.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong("the registry wants an upload at a place that is no https URL"));
    }
    Ok(place.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::machine::environment::Environment;
    use crate::registry::sessions::Sessions;

    /// Heads and bodies.
    type Requests = Arc<Mutex<Vec<(String, String)>>>;

    /// A registry that answers by what `answer` makes of its own place, and of each request's
    /// head and body. Keeps both.
    fn serve(answer: impl Fn(&str, &str, &str) -> String + Send + 'static) -> (String, Requests) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (known, own) = (Arc::clone(&requests), place.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap_or(0) > 2 {}
                let lower = head.to_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length = length.map_or(0, |length| length.trim().parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let body = String::from_utf8(body).unwrap();
                let _ = stream.write_all(answer(&own, &head, &body).as_bytes());
                known.lock().unwrap().push((head, body));
            }
        });
        (place, requests)
    }

    fn status(line: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {line}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
        )
    }

    fn push(place: &str, folder: &Path) -> Result<bool, String> {
        let config =
            format!(r#"{{"auths": {{"{place}": {{"username": "me", "password": "x"}}}}}}"#);
        fs::write(folder.join("config.json"), config).unwrap();
        let docker = ("DOCKER_CONFIG".to_owned(), folder.display().to_string());
        let environment = Environment { variables: BTreeMap::from([docker]), folder: "/".into() };
        let sessions = Sessions::default();
        let client = Client::new(&environment, &sessions);
        let reference: Reference = format!("{place}/team/x:1").parse().unwrap();
        let mut watch = Watch { stop: &|| false, progress: &mut |_, _| {} };
        let blob = Blob { digest: &Digest::of(b"blob"), content: Content::Bytes(b"blob") };
        let sent = client
            .push_blob(&reference, blob, folder, &mut watch)
            .map_err(|error| error.to_string())?;
        client
            .push_manifest(&reference, "application/x", b"{}", folder, &mut watch)
            .map_err(|error| error.to_string())?;
        Ok(sent)
    }

    #[test]
    fn a_blob_goes_where_the_registry_says_with_the_right_to_push() {
        let folder = tempfile::tempdir().unwrap();
        let (place, requests) = serve(|own, head, _| {
            let may = |scope: &str| head.to_lowercase().contains(&format!("bearer {scope}"));
            let wants = |scope: &str| {
                let challenge = format!(
                    "WWW-Authenticate: Bearer realm=\"http://{own}/token\",scope=\"repository:team/x:{scope}\"\r\n"
                );
                status("401 Unauthorized", &challenge, "")
            };
            match head.split(' ').next().unwrap() {
                "GET" if head.contains("pull,push") => status("200 OK", "", r#"{"token": "all"}"#),
                "GET" => status("200 OK", "", r#"{"token": "some"}"#),
                "HEAD" if may("some") || may("all") => status("404 Not Found", "", ""),
                "HEAD" => wants("pull"),
                _ if !may("all") => wants("pull,push"),
                "POST" => status("202 Accepted", "Location: /v2/up/1?state=s\r\n", ""),
                _ => status("201 Created", "", ""),
            }
        });
        assert_eq!(push(&place, folder.path()), Ok(true));
        let requests = requests.lock().unwrap();
        let lines: Vec<&str> =
            requests.iter().map(|(head, _)| head.lines().next().unwrap()).collect();
        let digest = Digest::of(b"blob");
        let put = format!("PUT /v2/up/1?state=s&digest={digest} HTTP/1.1");
        let at = lines.iter().position(|line| **line == put).unwrap();
        assert_eq!(requests[at].1, "blob");
        let (last, body) = requests.last().unwrap();
        assert!(last.starts_with("PUT /v2/team/x/manifests/1 "), "{last}");
        assert!(last.to_lowercase().contains("content-type: application/x"), "{last}");
        assert_eq!(body, "{}");
        // Two tokens were asked for, the second with the right to push.
        assert_eq!(lines.iter().filter(|line| line.contains("/token")).count(), 2, "{lines:?}");
    }

    #[test]
    fn what_is_there_is_not_sent_and_bad_places_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (place, requests) = serve(|_, head, _| match head.starts_with("HEAD") {
            true => status("200 OK", "", ""),
            false => status("201 Created", "", ""),
        });
        assert_eq!(push(&place, folder.path()), Ok(false));
        assert_eq!(requests.lock().unwrap().len(), 2);
        for location in ["", "Location: ftp://x/\r\n", "Location: //evil.example/x\r\n"] {
            let (place, _) = serve(move |_, head, _| match head.starts_with("HEAD") {
                true => status("404 Not Found", "", ""),
                false => status("202 Accepted", location, ""),
            });
            let error = push(&place, folder.path()).unwrap_err();
            assert!(error.contains("upload"), "{error}");
        }
        let (place, _) = serve(|_, _, _| status("403 Forbidden", "", ""));
        assert!(push(&place, folder.path()).unwrap_err().ends_with("denies access"));
    }
}
