//! Where the sources of a native library come from, as plain data.
//!
//! Credentials in a URL are used to fetch and nowhere else: neither the text for people nor
//! the serialised form, which enters keys, has them.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::Digest;

/// Where the sources of a library come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Origin {
    /// A folder of the project.
    Path {
        /// The folder, relative to the project's.
        path: String,
    },
    /// An archive: a file of the project, or a URL (`http`, `https`, `file`).
    Archive {
        /// Path or URL.
        #[serde(serialize_with = "without_secrets")]
        at: String,
        /// Digest of the archive's bytes.
        sha256: Digest,
    },
    /// A commit of a repository.
    Git {
        /// Any URL that git takes, or an absolute path.
        #[serde(serialize_with = "without_secrets")]
        url: String,
        /// The commit's whole name, in hexadecimal digits.
        commit: String,
    },
    /// A folder inside a crate of the registry.
    Crate {
        /// The crate.
        name: String,
        /// Its exact version.
        version: String,
        /// Folder in the crate; empty for all of it.
        folder: String,
    },
}

impl Origin {
    /// Whether it is beyond this machine, as far as its text says.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Path { .. } => false,
            Self::Archive { at, .. } => is_web(at),
            Self::Git { url, .. } => local_repository(url).is_none(),
            Self::Crate { .. } => true,
        }
    }
}

impl fmt::Display for Origin {
    /// The place for people. For a crate without its folder: what a checksum is pinned for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path } => f.write_str(path),
            Self::Archive { at, .. } => f.write_str(&redacted(at)),
            Self::Git { url, commit } => {
                let short = commit.get(..12).unwrap_or(commit);
                write!(f, "{} at {short}", redacted(url))
            }
            Self::Crate { name, version, .. } => write!(f, "crate {name} {version}"),
        }
    }
}

/// Whether a text is an `http` or `https` URL.
pub fn is_web(text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// The path in a `file` URL (RFC 8089) on this machine, percent signs decoded.
pub fn file_url_path(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("file") {
        return None;
    }
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    path.starts_with('/').then(|| percent_decoded(path))
}

/// The path of a repository of this machine, from what git takes as its URL.
pub fn local_repository(url: &str) -> Option<String> {
    if url.starts_with('/') { Some(url.to_owned()) } else { file_url_path(url) }
}

/// A URL without user, password, query and fragment, any of which may be a secret; other
/// texts as they are.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let more = if path.len() < rest.len() { "?…" } else { "" };
    format!("{scheme}://{host}{path}{more}")
}

/// User and password of a URL, with percent signs decoded.
pub fn credentials(url: &str) -> Option<(String, String)> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user_info, _) = authority.rsplit_once('@')?;
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    Some((percent_decoded(user), percent_decoded(password)))
}

/// `%41` as `A` (RFC 3986, 2.1).
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).expect("two digits make a byte"));
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn without_secrets<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redacted(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_texts_and_keys() {
        let url = "https://me:s3cret@host.example:8443/a/b.tar.gz?token=s3cret#s3cret";
        assert_eq!(redacted(url), "https://host.example:8443/a/b.tar.gz?…");
        assert_eq!(redacted("https://t0ken@host.example/a@b"), "https://host.example/a@b");
        assert_eq!(redacted("git@host.example:a/b.git"), "git@host.example:a/b.git");
        assert_eq!(redacted("vendor/x.tar.gz"), "vendor/x.tar.gz");
        let origin = Origin::Archive { at: url.into(), sha256: Digest::of(b"x") };
        let json = serde_json::to_string(&origin).unwrap();
        assert!(
            json.starts_with(r#"{"from":"archive","at":"https://host.example:8443/"#),
            "{json}"
        );
        assert!(!format!("{json}{origin}").contains("s3cret"));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let origin = Origin::Git { url: "https://t0ken@host/x".into(), commit: commit.into() };
        assert_eq!(origin.to_string(), "https://host/x at 0123456789ab");
        assert!(!serde_json::to_string(&origin).unwrap().contains("t0ken"));
    }

    #[test]
    fn credentials_are_decoded() {
        let check =
            |url: &str| credentials(url).map(|(user, password)| format!("{user} {password}"));
        assert_eq!(check("https://me:s%40fe%2f:@host/x").as_deref(), Some("me s@fe/:"));
        assert_eq!(check("https://token@host").as_deref(), Some("token "));
        assert_eq!(check("https://host/a@b"), None);
        assert_eq!(check("a@b"), None);
    }

    #[test]
    fn remote_is_what_the_network_has() {
        let archive = |at: &str| Origin::Archive { at: at.into(), sha256: Digest::of(b"") };
        let git = |url: &str| Origin::Git { url: url.into(), commit: String::new() };
        for remote in [archive("HTTPS://h/x"), git("git@h:x"), git("ssh://h/x"), git("https://h/x")]
        {
            assert!(remote.is_remote(), "{remote}");
        }
        for local in [archive("x.zip"), archive("file:///x"), git("/srv/x"), git("file:///srv/x")] {
            assert!(!local.is_remote(), "{local}");
        }
        assert_eq!(file_url_path("file:///a%20b").as_deref(), Some("/a b"));
        assert_eq!(file_url_path("file://localhost/a").as_deref(), Some("/a"));
        assert_eq!(file_url_path("file://other/a"), None);
    }
}
