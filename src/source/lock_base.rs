//! `[base.*]` of the lock file: which image a reference meant when it was pinned.

use std::fmt::Write as _;

use serde::Deserialize;

use super::lock::quoted;
use crate::model::base::{BaseSystem, PinnedBase};

/// A pinned base, as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileBase {
    digest: String,
    distribution: Option<String>,
    suite: Option<String>,
    manifests: Vec<String>,
}

impl FileBase {
    /// The value, or the text that is wrong.
    pub fn parse(self) -> Result<PinnedBase, String> {
        let manifests = self.manifests.into_iter().map(|line| {
            let pair = line.split_once(' ').and_then(|(platform, digest)| {
                Some((platform.parse().ok()?, digest.parse().ok()?))
            });
            pair.ok_or(line)
        });
        Ok(PinnedBase {
            manifests: manifests.collect::<Result<_, _>>()?,
            digest: self.digest.parse().map_err(|_| self.digest)?,
            system: BaseSystem { id: self.distribution, suite: self.suite },
        })
    }
}

/// The table of a base.
pub fn render(name: &str, base: &PinnedBase) -> String {
    let PinnedBase { digest, manifests, system } = base;
    let mut text = format!("\n[base.{}]\ndigest = \"{digest}\"\n", quoted(name));
    for (key, value) in [("distribution", &system.id), ("suite", &system.suite)] {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} = {}", quoted(value));
        }
    }
    text.push_str("manifests = [\n");
    for (platform, digest) in manifests {
        let _ = writeln!(text, "    \"{platform} {digest}\",");
    }
    text.push_str("]\n");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Digest;
    use crate::source::lock::Lock;

    #[test]
    fn bases_round_trip() {
        let base = PinnedBase {
            digest: Digest::of(b"index"),
            manifests: ["linux/amd64", "linux/arm/v7"]
                .map(|name| (name.parse().unwrap(), Digest::of(name.as_bytes())))
                .into(),
            system: BaseSystem { id: Some("debian".into()), suite: None },
        };
        let lock =
            Lock { bases: BTreeMap::from([("x.example/y:1".into(), base)]), ..Lock::default() };
        let text = lock.render();
        assert_eq!(Lock::parse("images.lock", &text), Ok(lock), "{text}");
        let damaged = text.replace("linux/arm/v7 sha256:", "linux/arm/v7 sha512:");
        let finding = Lock::parse("images.lock", &damaged).unwrap_err();
        assert!(finding.message.starts_with("`linux/arm/v7 sha512:"), "{}", finding.message);
        assert_eq!(finding.place.unwrap().line, 9);
    }
}
