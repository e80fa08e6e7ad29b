//! References to images in registries: `host[:port]/repository[:tag][@digest]` (OCI
//! distribution specification 1.1, "Pulling manifests"), in the short forms that people type.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Digest;

/// The registry of references that name none, by the custom of all tools.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Longest name of registry and repository together that every registry takes.
const NAME_BYTES_AT_MOST: usize = 255;
/// Longest tag.
const TAG_BYTES_AT_MOST: usize = 128;

/// An image in a registry. Shown with its registry and with its tag, also where neither was
/// typed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host, and port where it is not the usual one.
    pub registry: String,
    /// Name of the repository, without the registry.
    pub repository: String,
    /// Tag; `latest` where neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest of the manifest or index; it decides where both are given.
    pub digest: Option<Digest>,
}

impl Reference {
    /// What manifests are asked for by: the digest, else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same image by another digest.
    #[must_use]
    pub fn by_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Whether the registry is on this machine: the only kind that may be spoken to without
    /// encryption.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.registry)
    }
}

/// Whether `host[:port]` is this machine.
pub fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &'static str| ParseReferenceError { text: text.to_owned(), why };
        if text.contains("://") {
            return Err(wrong("it has a scheme; registries are named without one"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| wrong("its digest is not sha256: and 64 hexadecimal digits"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last..].find(':') {
            Some(at) => (&rest[..last + at], Some(&rest[last + at + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag has letters, digits, `_`, `.`, `-`, at most 128"));
        }
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (registry, repository) = match name.split_once('/') {
            Some((host, repository)) if is_host(host) => (host, repository.to_owned()),
            _ => (DEFAULT_REGISTRY, name.to_owned()),
        };
        if !is_authority(registry) {
            return Err(wrong("its registry is not `host` or `host:port`"));
        }
        let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
        let repository = if official { format!("library/{repository}") } else { repository };
        if !repository.split('/').all(is_component) {
            return Err(wrong(
                "a repository has parts of small letters and digits, parted by `/`, each with \
                 single `.`, `_`, `__` or `-` inside",
            ));
        }
        if registry.len() + 1 + repository.len() > NAME_BYTES_AT_MOST {
            return Err(wrong("its name is longer than 255 characters"));
        }
        let latest = || digest.is_none().then(|| "latest".to_owned());
        Ok(Self {
            registry: registry.to_ascii_lowercase(),
            repository,
            tag: tag.map(str::to_owned).or_else(latest),
            digest,
        })
    }
}

/// Whether a text is a tag (distribution specification: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`).
pub fn is_tag(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    text.chars().all(inside)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= TAG_BYTES_AT_MOST
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(word).filter(|between| !between.is_empty());
    part.starts_with(word)
        && part.ends_with(word)
        && separators.into_iter().all(|between| {
            matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        })
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (None, port),
            _ => return false,
        },
        None => match text.find(':') {
            Some(at) => (Some(&text[..at]), &text[at..]),
            None => (Some(text), ""),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let port_fits = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port != 0),
        None => port.is_empty(),
    };
    port_fits && host.is_none_or(|host| host.split('.').all(label))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseReferenceError {
    text: String,
    why: &'static str,
}

impl fmt::Display for ParseReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no reference to an image: {}", self.text, self.why)
    }
}

impl std::error::Error for ParseReferenceError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_completed() {
        let check = |text: &str| text.parse::<Reference>().map(|found| found.to_string());
        let digest = Digest::of(b"x");
        for (text, whole) in [
            ("debian:12", "docker.io/library/debian:12"),
            ("debian", "docker.io/library/debian:latest"),
            ("x/y:1", "docker.io/x/y:1"),
            ("ghcr.io/x/y:1", "ghcr.io/x/y:1"),
            ("127.0.0.1:5000/x:tag", "127.0.0.1:5000/x:tag"),
            ("localhost/x", "localhost/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("Example.org/a/b__c/d--e", "example.org/a/b__c/d--e:latest"),
        ] {
            assert_eq!(check(text).as_deref(), Ok(whole));
            assert_eq!(check(whole).as_deref(), Ok(whole));
        }
        let pinned = format!("ghcr.io/x/y@{digest}");
        assert_eq!(check(&pinned), Ok(pinned.clone()));
        let both = format!("ghcr.io/x/y:1@{digest}");
        assert_eq!(check(&both), Ok(both.clone()));
        assert_eq!(
            both.parse::<Reference>().map(|found| found.identifier()),
            Ok(digest.to_string())
        );
    }

    #[test]
    fn malformed_ones_are_refused() {
        for text in [
            "",
            ":",
            "x:",
            "x@sha256:12",
            "x@md5:00",
            "https://ghcr.io/x",
            "ghcr.io/",
            "ghcr.io/X",
            "ghcr.io/x//y",
            "ghcr.io/x/",
            "ghcr.io/../x",
            "ghcr.io/a..b",
            "ghcr.io/a___b",
            "-x",
            "x:-tag",
            "x:a b",
            "gh_cr.io/x",
            "ghcr.io:0/x",
            "ghcr.io:x/y",
            "ghcr.io:70000/y",
            "[::1/x",
            "a b",
            "x\n",
            "ü/x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        let long = format!("ghcr.io/{}", "a/".repeat(130) + "a");
        assert!(long.parse::<Reference>().is_err());
        assert!(format!("x:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }

    #[test]
    fn this_machine() {
        for text in ["127.0.0.1:5000", "127.9.0.1", "localhost:1", "[::1]:5000", "localhost"] {
            assert!(is_loopback(text), "{text}");
        }
        for text in ["127.0.0.1.example.org", "localhost.example.org", "10.0.0.1", "[::2]"] {
            assert!(!is_loopback(text), "{text}");
        }
    }
}
