//! `cache` of `[project]`: the cache that several machines share. Keys and credentials are
//! never here.

use serde::{Serialize, Serializer};

use super::raw::{Keys, Reader};
use crate::machine::network::from_base64;
use crate::model::Place;
use crate::model::source::{is_web, redacted};

/// A shared cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedCache {
    /// Where it is.
    pub at: CachePlace,
    /// Whether results are added to it by those who have a key.
    pub write: bool,
    /// Public keys of those whose results are used.
    pub trust: Vec<String>,
}

/// Where a shared cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// A server that speaks the Bazel remote cache protocol over HTTP.
    Url(String),
    /// A repository below the project's registry.
    Registry,
}

impl CachePlace {
    /// The place that a text means.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "registry" => Some(Self::Registry),
            url if is_web(url) && !url.contains(['?', '#']) => {
                Some(Self::Url(url.trim_end_matches('/').to_owned()))
            }
            _ => None,
        }
    }
}

impl Serialize for CachePlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Url(url) => serializer.serialize_str(&redacted(url)),
            Self::Registry => serializer.serialize_str("registry"),
        }
    }
}

/// Takes `cache` out of `[project]`, whose registry is known.
pub fn cache<'a>(
    reader: &mut Reader<'a>,
    keys: &mut Keys<'a>,
    registry: Option<&str>,
) -> Option<SharedCache> {
    let (place, value) = reader.take(keys, "cache")?;
    let (mut write, mut trust) = (true, Vec::new());
    let at = if value.get_ref().is_table() {
        let mut table = reader.table("`cache`", &place, value)?;
        let at = reader.text(&mut table, "at");
        write = reader.boolean(&mut table, "write", true);
        for (place, key) in reader.placed_texts(&mut table, "trust", false) {
            check_key(reader, place, &key);
            trust.push(key);
        }
        reader.finish(table);
        if at.is_none() {
            let message = "`cache` needs `at`, a URL or \"registry\"".to_owned();
            reader.problem("missing-key", place.clone(), message);
        }
        at?
    } else {
        reader.as_text("cache", &place, value)?
    };
    let Some(at) = CachePlace::parse(&at) else {
        let message = format!(
            "`{}` is no place of a cache: an http or https URL, or \"registry\"",
            redacted(&at)
        );
        reader.problem("invalid-value", place, message);
        return None;
    };
    if at == CachePlace::Registry && registry.is_none() {
        let message = "`cache = \"registry\"` needs `registry`, below which it is".to_owned();
        reader.problem("missing-key", place, message);
    }
    Some(SharedCache { at, write, trust })
}

fn check_key(reader: &mut Reader<'_>, place: Place, key: &str) {
    let bytes = key.strip_prefix("ed25519:").and_then(from_base64);
    if bytes.is_none_or(|bytes| bytes.len() != 32) {
        // A secret that stands here by mistake is not shown.
        let shown = if key.contains("secret") { "a secret key".into() } else { format!("`{key}`") };
        let message = format!(
            "{shown} is no public key: `ed25519:` and base 64, as `xstitch cache key` prints it"
        );
        reader.problem("invalid-value", place, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn cache_of(lines: &str) -> Result<Option<SharedCache>, String> {
        let text = format!("[project]\n{lines}\n[image.empty]\nfrom = \"scratch\"\n");
        parse("images.toml", &text).map(|project| project.cache).map_err(|findings| {
            findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    }

    #[test]
    fn places_and_keys() {
        let key = format!("ed25519:{}", crate::machine::network::base64(&[7; 32]));
        let cache = cache_of("cache = \"https://me:secret@cache.example/x/\"").unwrap().unwrap();
        assert_eq!(cache.at, CachePlace::Url("https://me:secret@cache.example/x".into()));
        assert!(cache.write && cache.trust.is_empty());
        assert!(!serde_json::to_string(&cache).unwrap().contains("secret"));
        let lines = format!(
            "registry = \"r.example/team\"\ncache = {{ at = \"registry\", write = false, trust = [\"{key}\"] }}"
        );
        let cache = cache_of(&lines).unwrap().unwrap();
        assert_eq!(cache.at, CachePlace::Registry);
        assert!(!cache.write && cache.trust == [key]);
        assert_eq!(cache_of(""), Ok(None));
    }

    #[test]
    fn wrong_ones() {
        let errors: Vec<String> = [
            "cache = \"registry\"",
            "cache = \"ftp://cache.example\"",
            "cache = { write = false }",
            "cache = { at = \"https://cache.example\", trust = [\"ed25519:AAAA\", \"ed25519-secret:AAAA\"] }",
            "cache = { at = \"https://cache.example\", turst = [] }",
            "cache = true",
        ]
        .iter()
        .map(|lines| cache_of(lines).unwrap_err())
        .collect();
        insta::assert_snapshot!(errors.join("\n"));
    }
}
