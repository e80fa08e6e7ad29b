//! What a shared cache says about a key, and who says it.
//!
//! The signature covers the text of the statement, and with it the key and every byte of the
//! result: the digest of the tree's description has the digests of all files. Deliberately
//! absent: how a statement is kept, which is the business of each kind of cache.

use serde::{Deserialize, Serialize};

use super::signature::{PublicKey, SecretKey};
use crate::model::Digest;
use crate::store::Record;

/// Version of statements.
const VERSION: u32 = 1;

/// Some bytes in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Their digest.
    pub digest: Digest,
    /// Their number.
    pub size_bytes: u64,
}

/// Many small files in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// The pack itself.
    #[serde(flatten)]
    pub part: Part,
    /// It holds the files of the tree that are smaller.
    pub below_bytes: u64,
}

/// What a key gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Version of this format.
    pub version: u32,
    /// The key.
    pub key: Digest,
    /// Digest of the output tree, and of its description.
    pub output: Digest,
    /// Sum of the sizes of its files.
    pub size_bytes: u64,
    /// Length of the description. Without, the cache has only the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_bytes: Option<u64>,
    /// The small files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
    /// What was observed beside the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Part>,
    /// How long it took to make, in milliseconds.
    pub elapsed_ms: u64,
}

impl Statement {
    /// A statement about the digest of a result alone.
    pub fn new(key: &Digest, record: &Record, elapsed_ms: u64) -> Self {
        Self {
            version: VERSION,
            key: *key,
            output: record.output,
            size_bytes: record.size_bytes,
            tree_bytes: None,
            pack: None,
            observed: None,
            elapsed_ms,
        }
    }

    /// The result.
    pub fn record(&self) -> Record {
        Record {
            output: self.output,
            size_bytes: self.size_bytes,
            observed: self.observed.map(|observed| observed.digest),
        }
    }

    /// Signs it.
    pub fn sign(&self, key: &SecretKey) -> Signed {
        let text = serde_json::to_vec(self).expect("a statement has string keys only");
        Signed { signature: key.sign(&text).into(), key: key.public().to_bytes().into(), text }
    }
}

/// A statement as it is kept. Nothing in it is believed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The statement as JSON.
    pub text: Vec<u8>,
    /// Who signed it.
    pub key: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Why a statement is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disbelief {
    /// Its key is not trusted.
    Untrusted(String),
    /// It is not what its key signed, or it says something else.
    Wrong(String),
    /// A later version wrote it.
    Later,
}

impl Signed {
    /// The statement, if one of `trusted` says it about `key`.
    pub fn believe(&self, key: &Digest, trusted: &[PublicKey]) -> Result<Statement, Disbelief> {
        let wrong = |why: &str| Disbelief::Wrong(why.to_owned());
        let signer = PublicKey::from_bytes(&self.key).ok_or_else(|| wrong("it has no key"))?;
        if !trusted.contains(&signer) {
            return Err(Disbelief::Untrusted(signer.to_string()));
        }
        if !signer.signed(&self.text, &self.signature) {
            return Err(wrong("its signature is wrong"));
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let versioned: Option<Versioned> = serde_json::from_slice(&self.text).ok();
        if versioned.is_some_and(|versioned| versioned.version > VERSION) {
            return Err(Disbelief::Later);
        }
        let statement: Statement = serde_json::from_slice(&self.text)
            .map_err(|error| wrong(&format!("it cannot be read: {error}")))?;
        if statement.key != *key {
            return Err(wrong("it is about another key"));
        }
        Ok(statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        let part = Part { digest: Digest::of(b"p"), size_bytes: 1 };
        Statement {
            tree_bytes: Some(7),
            pack: Some(Pack { part, below_bytes: 100 }),
            observed: Some(part),
            ..Statement::new(
                &Digest::of(b"key"),
                &Record { output: Digest::of(b"tree"), size_bytes: 12, observed: None },
                5,
            )
        }
    }

    #[test]
    fn only_what_a_trusted_key_signed_is_believed() {
        let (own, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let trusted = [own.public()];
        let (statement, key) = (statement(), Digest::of(b"key"));
        let signed = statement.sign(&own);
        assert_eq!(signed.believe(&key, &trusted), Ok(statement.clone()));
        let untrusted = Disbelief::Untrusted(other.public().to_string());
        assert_eq!(statement.sign(&other).believe(&key, &trusted), Err(untrusted));
        assert!(matches!(signed.believe(&key, &[]), Err(Disbelief::Untrusted(_))));
        let wrong = |signed: Signed, key: &Digest| match signed.believe(key, &trusted) {
            Err(Disbelief::Wrong(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(wrong(signed.clone(), &Digest::of(b"other")), "it is about another key");
        // Any byte of the text, the signature or the key.
        for at in 0..signed.text.len() {
            let mut poisoned = signed.clone();
            poisoned.text[at] ^= 1;
            assert_eq!(wrong(poisoned, &key), "its signature is wrong");
        }
        for at in 0..signed.signature.len() {
            let mut poisoned = signed.clone();
            poisoned.signature[at] ^= 1;
            assert_eq!(wrong(poisoned, &key), "its signature is wrong");
        }
        let claimed = Signed { key: own.public().to_bytes().into(), ..statement.sign(&other) };
        assert_eq!(wrong(claimed, &key), "its signature is wrong");
        assert_eq!(wrong(Signed::default(), &key), "it has no key");
        let later = Statement { version: 2, ..statement }.sign(&own);
        assert_eq!(later.believe(&key, &trusted), Err(Disbelief::Later));
    }
}
