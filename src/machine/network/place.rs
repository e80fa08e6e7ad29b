//! URLs in their parts, and the encodings that HTTP needs.

use std::fmt;

use super::NetworkProblem;
use crate::model::source::is_web;

/// A URL in the parts that redirects change, without credentials and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub scheme: String,
    /// Host and port.
    pub authority: String,
    /// Path and query.
    path: String,
}

impl Place {
    pub fn parse(url: &str) -> Result<Self, NetworkProblem> {
        let invalid = || NetworkProblem::Invalid("it is no http or https URL".to_owned());
        let (scheme, rest) = url.split_once("://").filter(|_| is_web(url)).ok_or_else(invalid)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if authority.is_empty() {
            return Err(invalid());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            authority: authority.to_ascii_lowercase(),
            path: format!("{slash}{}", encoded(path)),
        })
    }

    /// Where a reference found here leads (RFC 3986, 5.2).
    pub fn join(&self, reference: &str) -> Result<Self, NetworkProblem> {
        let Self { scheme, authority, path } = self;
        let path = path.split('?').next().unwrap_or_default();
        let is_absolute = reference.split_once(':').is_some_and(|(start, _)| {
            start.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        if is_absolute {
            return Self::parse(reference);
        }
        let rest = if let Some(other) = reference.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{other}"));
        } else if reference.starts_with('/') {
            reference.to_owned()
        } else if reference.starts_with(['?', '#']) || reference.is_empty() {
            format!("{path}{reference}")
        } else {
            let (folder, _) = path.rsplit_once('/').unwrap_or_default();
            let (mut parts, mut rest) = (folder.split('/').collect::<Vec<_>>(), reference);
            loop {
                if let Some(after) = rest.strip_prefix("./") {
                    rest = after;
                } else if let Some(after) = rest.strip_prefix("../") {
                    rest = after;
                    parts.truncate(parts.len().saturating_sub(1).max(1));
                } else {
                    break;
                }
            }
            format!("{}/{rest}", parts.join("/"))
        };
        Self::parse(&format!("{scheme}://{authority}{rest}"))
    }

    pub fn host(&self) -> &str {
        if self.authority.starts_with('[') {
            return self.authority.split_inclusive(']').next().unwrap_or_default();
        }
        self.authority.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// A path with what no URL may have percent-encoded; what is encoded already stays.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            0..=b' ' | 0x7f.. | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                text.push_str(&format!("%{byte:02X}"));
            }
            _ => text.push(char::from(byte)),
        }
    }
    text
}

/// Base 64 with padding (RFC 4648, 4).
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

/// The bytes of base 64 (RFC 4648, 4), with or without padding.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim().trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 255).expect("eight bits"));
        }
    }
    Some(bytes)
}
