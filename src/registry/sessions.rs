//! What registries told in one run: tokens until they expire, and what each repository wants to
//! see. In memory alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::challenge::Challenge;
use crate::model::Reference;

/// How long a token lives that does not say so (distribution, "Token Authentication
/// Specification").
const SECONDS_UNSAID: u64 = 60;
/// No token is shown longer than this, whatever it says.
const SECONDS_AT_MOST: u64 = 24 * 3600;

/// What was learned of registries, for all clients of a run.
#[derive(Default)]
pub struct Sessions {
    known: Mutex<Known>,
    asking: Mutex<()>,
}

#[derive(Default)]
struct Known {
    /// Registries on this machine that expect encryption.
    encrypted: BTreeSet<String>,
    /// By registry and by the URL that gives them, which has their scope. Another registry is
    /// never shown them, even where it names the same URL.
    tokens: BTreeMap<(String, String), Secret>,
    /// By registry and repository.
    wanted: BTreeMap<(String, String), Wanted>,
}

/// What a repository wants to see.
enum Wanted {
    Header(Secret),
    /// The token that this URL gives.
    Token(String),
}

/// A header that shows who asks. It is never printed.
#[derive(Clone)]
pub(super) struct Secret {
    pub header: String,
    until: Option<Instant>,
}

impl Secret {
    /// One that counts as long as the program runs.
    pub fn lasting(header: String) -> Self {
        Self { header, until: None }
    }

    /// A token that was asked for at some moment and said how many seconds it lives.
    pub fn token(token: &str, asked: Instant, seconds: Option<u64>) -> Self {
        let seconds = seconds.unwrap_or(SECONDS_UNSAID).min(SECONDS_AT_MOST);
        // A part is kept back for the way to the registry.
        let lives = Duration::from_secs(seconds) * 9 / 10;
        Self { header: format!("Bearer {token}"), until: asked.checked_add(lives) }
    }

    fn counts(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Sessions {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while somebody asks for a token.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_encrypted(&self, reference: &Reference) -> bool {
        self.known().encrypted.contains(&reference.registry)
    }

    pub(super) fn encrypt(&self, reference: &Reference) {
        self.known().encrypted.insert(reference.registry.clone());
    }

    /// The header for a repository, as far as it is known what it wants.
    pub(super) fn secret(&self, reference: &Reference) -> Option<String> {
        let known = self.known();
        let name = (reference.registry.clone(), reference.repository.clone());
        let secret = match known.wanted.get(&name)? {
            Wanted::Header(secret) => Some(secret),
            Wanted::Token(url) => known.tokens.get(&(reference.registry.clone(), url.clone())),
        };
        secret.filter(|secret| secret.counts()).map(|secret| secret.header.clone())
    }

    /// The token that `url` gave, unless it is the one that was just refused.
    pub(super) fn token(
        &self,
        reference: &Reference,
        url: &str,
        refused: Option<&str>,
    ) -> Option<Secret> {
        let known = self.known();
        let secret = known.tokens.get(&(reference.registry.clone(), url.to_owned()))?;
        let is_good = secret.counts() && refused != Some(&secret.header);
        is_good.then(|| secret.clone())
    }

    /// Remembers what answers a challenge.
    pub(super) fn learn(&self, reference: &Reference, challenge: &Challenge, secret: Secret) {
        let mut known = self.known();
        let wanted = match challenge {
            Challenge::Basic => Wanted::Header(secret),
            Challenge::Bearer { url } => {
                known.tokens.insert((reference.registry.clone(), url.clone()), secret);
                Wanted::Token(url.clone())
            }
        };
        let name = (reference.registry.clone(), reference.repository.clone());
        known.wanted.insert(name, wanted);
    }
}
