//! Keys of shared caches (Ed25519, RFC 8032) and the texts that they are written as.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::engine::report::BuildError;
use crate::machine::environment::random_bytes;
use crate::machine::network::{base64, from_base64};
use crate::model::Finding;

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";

/// Keeps signatures of results apart from any others that a key may make.
const DOMAIN: &[u8] = b"xstitch cache result v1\0";

/// A key that results are believed by. Written as `ed25519:` and base 64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A key that results are signed with. Written as `ed25519-secret:` and base 64. Never shown.
pub struct SecretKey(SigningKey);

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoKey;

impl PublicKey {
    /// The key of these bytes, if they are one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes.try_into().ok()?).ok().map(Self)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Whether its owner signed `text`.
    pub fn signed(&self, text: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        self.0.verify_strict(&[DOMAIN, text].concat(), &signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let bytes = text.trim().strip_prefix(PUBLIC).and_then(from_base64);
        bytes.and_then(|bytes| Self::from_bytes(&bytes)).ok_or(NoKey)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", base64(self.0.as_bytes()))
    }
}

impl SecretKey {
    /// A new key.
    pub fn generate() -> std::io::Result<Self> {
        Ok(Self(SigningKey::from_bytes(&random_bytes()?)))
    }

    /// The key that a text is. Not `FromStr`, so that no error ever holds the text.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = from_base64(text.trim().strip_prefix(SECRET)?)?;
        Some(Self(SigningKey::from_bytes(bytes.as_slice().try_into().ok()?)))
    }

    /// Whether a text is meant to be such a key.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().starts_with(SECRET)
    }

    /// The text to keep.
    pub fn to_text(&self) -> String {
        format!("{SECRET}{}", base64(self.0.as_bytes()))
    }

    /// The key that others believe it by.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `text`.
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.0.sign(&[DOMAIN, text].concat()).to_bytes()
    }
}

/// A key for people: the public part, and the secret one where no file has it. Without a file,
/// or where there is none of that name, it is a new one.
pub fn key(file: Option<&Path>) -> Result<(String, Option<String>), BuildError> {
    let random = |error| BuildError::Output(format!("there are no random numbers: {error}"));
    let Some(file) = file else {
        let key = SecretKey::generate().map_err(random)?;
        return Ok((key.public().to_string(), Some(key.to_text())));
    };
    if let Ok(text) = fs::read_to_string(file) {
        let key = SecretKey::parse(&text).ok_or_else(|| {
            let message = format!("{} is there and holds no secret key", file.display());
            BuildError::Findings(vec![Finding::new("invalid-key", message).help("name a new file")])
        })?;
        return Ok((key.public().to_string(), None));
    }
    let key = SecretKey::generate().map_err(random)?;
    let write = || {
        let mut options = fs::File::options();
        let mut to = options.write(true).create_new(true).mode(0o600).open(file)?;
        to.write_all(key.to_text().as_bytes())?;
        to.write_all(b"\n")
    };
    write().map_err(|error: std::io::Error| {
        BuildError::Output(format!("cannot write {}: {error}", file.display()))
    })?;
    Ok((key.public().to_string(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read() {
        let key = SecretKey::generate().unwrap();
        let again = SecretKey::parse(&(key.to_text() + "\n")).unwrap();
        assert_eq!(again.public().to_string(), key.public().to_string());
        let public: PublicKey = key.public().to_string().parse().unwrap();
        let signature = again.sign(b"text");
        assert!(public.signed(b"text", &signature));
        assert!(!public.signed(b"tex", &signature));
        assert!(!public.signed(b"text", &signature[1..]));
        assert!(!SecretKey::generate().unwrap().public().signed(b"text", &signature));
        for text in ["", "ed25519:", "ed25519:AAAA", "ssh-ed25519 AAAA", "ed25519:%"] {
            assert_eq!(text.parse::<PublicKey>().err(), Some(NoKey), "{text}");
        }
        assert!(SecretKey::parse(&public.to_string()).is_none());
    }

    #[test]
    fn a_signature_is_for_results_only() {
        // RFC 8032, 7.1, test 2, signs the text without the words in front.
        let hex = |text: &str| -> Vec<u8> {
            text.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let key = PublicKey::from_bytes(&hex(
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        ));
        let signature = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
        assert!(!key.unwrap().signed(&[0x72], &signature));
    }
}
