//! Which shared cache a run uses, whom it believes, and with which key it signs.
//!
//! Places and public keys are in the configuration, secrets in the environment alone: a change
//! that somebody proposes cannot bring or take any.

use std::fs;

use super::Remote;
use super::backend::Backend;
use super::signature::{PublicKey, SecretKey};
use crate::config::{CachePlace, Project};
use crate::machine::environment::Environment;
use crate::model::reference::is_loopback;
use crate::model::source::redacted;
use crate::model::{Finding, Reference};

/// Where the shared cache is, instead of what the configuration says; `off` for nowhere.
const PLACE: &str = "XSTITCH_CACHE_REMOTE";
/// The key that results are signed with, or the file that has it.
const KEY: &str = "XSTITCH_CACHE_KEY";
/// A bearer token for the server.
const TOKEN: &str = "XSTITCH_CACHE_TOKEN";
/// The repository below the project's registry.
const REPOSITORY: &str = "xstitch-cache";

/// How far a shared cache is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteMode {
    /// Not at all.
    Off,
    /// Results are taken.
    Read,
    /// Results are taken and added, or else it is an error.
    Write,
}

impl RemoteMode {
    /// The mode of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            _ => None,
        }
    }
}

/// The shared cache of a project, if it has one and anything can be done with it. `warn` is
/// told why nothing can.
pub fn open(
    project: &Project,
    environment: &Environment,
    mode: Option<RemoteMode>,
    warn: &dyn Fn(String),
) -> Result<Option<Remote>, Finding> {
    if mode == Some(RemoteMode::Off) {
        return Ok(None);
    }
    let place = match environment.get(PLACE) {
        Some("off") => None,
        Some(text) => Some(CachePlace::parse(text).ok_or_else(|| {
            let message = format!("{PLACE} is no place of a cache: `{}`", redacted(text));
            Finding::new("invalid-cache", message)
                .help("an http or https URL, `registry`, or `off`")
        })?),
        None => project.cache.as_ref().map(|cache| cache.at.clone()),
    };
    let Some(place) = place else {
        if mode == Some(RemoteMode::Write) {
            let message = "`--remote-cache write` needs a shared cache";
            return Err(Finding::new("no-shared-cache", message)
                .help(format!("say `cache = …` in [project], or set {PLACE}")));
        }
        return Ok(None);
    };
    let backend = backend(place, project, environment)?;
    let mut trusted = Vec::new();
    for text in project.cache.iter().flat_map(|cache| &cache.trust) {
        let key = text.parse::<PublicKey>().map_err(|_| {
            let message = format!("`{text}` in `trust` of `cache` is no public key");
            Finding::new("invalid-key", message)
        })?;
        trusted.push(key);
    }
    let own = key(environment)?;
    // Whoever has the key can make it say anything, and is at work here.
    trusted.extend(own.as_ref().map(SecretKey::public));
    let may_write = mode != Some(RemoteMode::Read)
        && (mode.is_some() || project.cache.as_ref().is_none_or(|cache| cache.write));
    let signer = own.filter(|_| may_write);
    if mode == Some(RemoteMode::Write) && signer.is_none() {
        let message = format!("`--remote-cache write` needs a key, and {KEY} is not set");
        return Err(
            Finding::new("no-cache-key", message).help("`xstitch cache key FILE` makes one")
        );
    }
    if trusted.is_empty() {
        warn(format!(
            "the shared cache {} is not used: no key is trusted, and there is none to sign with\n  \
             help: name public keys in `trust` of `cache`; `xstitch cache key FILE` makes a key",
            backend.name()
        ));
        return Ok(None);
    }
    Ok(Some(Remote::new(backend, trusted, signer)))
}

fn backend(
    place: CachePlace,
    project: &Project,
    environment: &Environment,
) -> Result<Backend, Finding> {
    match place {
        CachePlace::Url(url) => {
            let token = environment.get(TOKEN);
            if token.is_some() && !is_private(&url) {
                let message = format!(
                    "{TOKEN} is set, and {} is spoken to without encryption",
                    redacted(&url)
                );
                return Err(Finding::new("insecure-cache", message)
                    .help("use an https URL, or unset the token"));
            }
            let authorization = token.map(|token| format!("Bearer {}", token.trim()));
            Ok(Backend::Http { url, authorization })
        }
        CachePlace::Registry => {
            let registry = project.registry.as_deref().ok_or_else(|| {
                Finding::new("no-registry", "a cache in the registry needs `registry`")
                    .help("say it in [project]")
            })?;
            let text = format!("{}/{REPOSITORY}", registry.trim_end_matches('/'));
            let reference: Reference = text.parse().map_err(|error| {
                Finding::new("invalid-registry", format!("`{text}` is no repository: {error}"))
            })?;
            Ok(Backend::Registry(reference))
        }
    }
}

/// Whether nobody on the way can read what is said.
fn is_private(url: &str) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    scheme.eq_ignore_ascii_case("https") || is_loopback(host)
}

/// The key that results are signed with.
fn key(environment: &Environment) -> Result<Option<SecretKey>, Finding> {
    let Some(text) = environment.get(KEY) else { return Ok(None) };
    let help = "`xstitch cache key FILE` writes one; the variable holds its text or names the file";
    if SecretKey::is_meant(text) {
        let key = SecretKey::parse(text).ok_or_else(|| {
            Finding::new("invalid-key", format!("{KEY} is no secret key")).help(help)
        })?;
        return Ok(Some(key));
    }
    let file = environment.folder.join(text);
    // What is no file may be a mistyped key: it is not shown.
    let text = fs::read_to_string(&file).map_err(|error| {
        let message = format!("{KEY} is neither a secret key nor a file that can be read: {error}");
        Finding::new("no-cache-key", message).help(help)
    })?;
    let key = SecretKey::parse(&text).ok_or_else(|| {
        let message = format!("{} holds no secret key", file.display());
        Finding::new("invalid-key", message).help(help)
    })?;
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    fn check(cache: &str, variables: &[(&str, &str)], mode: Option<RemoteMode>) -> String {
        let text = format!(
            "[project]\nregistry = \"r.example/team\"\n{cache}\n[image.empty]\nfrom = \"scratch\"\n"
        );
        let project = crate::config::parse("images.toml", &text).unwrap();
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let variables: BTreeMap<_, _> = variables.iter().map(owned).collect();
        let environment = Environment { variables, folder: "/nowhere".into() };
        let warnings = RefCell::new(Vec::new());
        let warn = |text: String| warnings.borrow_mut().push(text);
        match open(&project, &environment, mode, &warn) {
            Ok(Some(remote)) => format!(
                "{} trusts {}, {}",
                remote.backend.name(),
                remote.trusted.len(),
                if remote.signer.is_some() { "writes" } else { "reads" }
            ),
            Ok(None) => warnings
                .into_inner()
                .first()
                .map_or("none".into(), |text| text.lines().next().unwrap_or_default().to_owned()),
            Err(finding) => finding.to_string(),
        }
    }

    #[test]
    fn what_is_used() {
        let key = SecretKey::generate().unwrap();
        let (secret, public) = (key.to_text(), SecretKey::generate().unwrap().public());
        let table =
            format!("cache = {{ at = \"https://u:p@c.example/x\", trust = [\"{public}\"] }}");
        let own = [(KEY, secret.as_str())];
        let read = Some(RemoteMode::Read);
        assert_eq!(check("", &[], None), "none");
        assert_eq!(check(&table, &[], None), "https://c.example/x trusts 1, reads");
        assert_eq!(check(&table, &own, None), "https://c.example/x trusts 2, writes");
        assert_eq!(check(&table, &own, read), "https://c.example/x trusts 2, reads");
        assert_eq!(check(&table, &own, Some(RemoteMode::Off)), "none");
        assert_eq!(check(&table, &[(PLACE, "off")], None), "none");
        let only = table.replace(", trust", ", write = false, trust");
        assert_eq!(check(&only, &own, None), "https://c.example/x trusts 2, reads");
        assert_eq!(
            check(&only, &own, Some(RemoteMode::Write)),
            "https://c.example/x trusts 2, writes"
        );
        let elsewhere = [(PLACE, "registry"), (KEY, &secret)];
        assert_eq!(
            check(&table, &elsewhere, None),
            "r.example/team/xstitch-cache trusts 2, writes"
        );
        assert_eq!(check("", &elsewhere, None), "r.example/team/xstitch-cache trusts 1, writes");
        let bare = check("cache = \"https://c.example\"", &[], None);
        assert!(
            bare.starts_with("the shared cache https://c.example is not used: no key"),
            "{bare}"
        );
    }

    #[test]
    fn what_is_wrong() {
        let cache = "cache = \"http://u:p@c.example\"";
        let errors = [
            check(cache, &[(PLACE, "ftp://u:p@c.example")], None),
            check(cache, &[(TOKEN, "t0ken")], None),
            check(cache, &[(KEY, "ed25519-secret:s3cret")], None),
            check(cache, &[(KEY, "no-such-file")], None),
            check(cache, &[], Some(RemoteMode::Write)),
            check("", &[], Some(RemoteMode::Write)),
        ]
        .join("\n");
        assert!(!errors.contains("t0ken") && !errors.contains("s3cret") && !errors.contains("u:p"));
        insta::assert_snapshot!(errors);
    }
}
