//! What a registry wants to see before it answers: `WWW-Authenticate` (RFC 9110, 11.6.1) and
//! the token protocol of registries (distribution, "Token Authentication Specification").

use std::collections::BTreeMap;

use crate::model::reference::is_loopback;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// The URL to ask, whole.
        url: String,
    },
}

/// Parses the header. Nobody is asked for a token without encryption, but on this machine.
pub fn parse(header: &str, repository: &str) -> Result<Challenge, String> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Ok(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(format!("it wants `{scheme}` authentication, which is not understood"));
    }
    let mut values = parameters(rest);
    let realm = values.remove("realm").ok_or("it wants a token and does not say from where")?;
    let (protocol, host) = realm.split_once("://").unwrap_or_default();
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@')
        || !(protocol == "https" || protocol == "http" && is_loopback(host))
        || realm.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(format!(
            "it wants a token from `{}`, which is no https URL",
            realm.escape_debug()
        ));
    }
    let scope = values.remove("scope").unwrap_or_else(|| format!("repository:{repository}:pull"));
    let mut url = realm.clone();
    url.push(if realm.contains('?') { '&' } else { '?' });
    url.push_str(&format!("scope={}", encoded(&scope)));
    if let Some(service) = values.remove("service") {
        url.push_str(&format!("&service={}", encoded(&service)));
    }
    Ok(Challenge::Bearer { url })
}

/// `a="b",c=d` by name.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        values.entry(name).or_insert_with(|| value.trim().to_owned());
        rest = next;
    }
    values
}

/// A value of a query (RFC 3986, 3.4).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b':'
            | b'/'
            | b',' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let check = |header: &str| match parse(header, "a/b") {
            Ok(Challenge::Basic) => "basic".to_owned(),
            Ok(Challenge::Bearer { url }) => url,
            Err(error) => error,
        };
        assert_eq!(check("Basic realm=\"x\""), "basic");
        assert_eq!(
            check(
                r#"Bearer realm="https://auth.example/token",service="a b",scope="repository:a/b:pull,push""#
            ),
            "https://auth.example/token?scope=repository:a/b:pull,push&service=a%20b"
        );
        assert_eq!(
            check("bearer realm=http://127.0.0.1:1/t?x=y"),
            "http://127.0.0.1:1/t?x=y&scope=repository:a/b:pull"
        );
        for header in [
            "Bearer realm=\"http://auth.example/token\"",
            "Bearer realm=\"https://me:secret@auth.example/token\"",
            "Bearer realm=\"file:///etc/passwd\"",
            "Bearer service=\"x\"",
            "Negotiate",
            "",
        ] {
            assert!(check(header).starts_with("it wants "), "{header}");
        }
    }
}
