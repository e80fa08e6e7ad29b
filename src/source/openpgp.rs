//! OpenPGP signatures (RFC 9580): whether a text is signed by one of the keys of a keyring.
//!
//! A key counts while it is bound, not revoked and not expired; weak digests do not count.
//! Deliberately absent: the web of trust, and what the text means.

use std::fmt;

use pgp::composed::{
    CleartextSignedMessage, Deserializable as _, DetachedSignature, SignedPublicKey,
    SignedPublicSubKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{Fingerprint, KeyDetails, Tag};

const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Public keys that are trusted to sign something.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

/// Why a text does not count as signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureProblem {
    /// There is no signature.
    Unsigned,
    /// The text or its signature is not OpenPGP.
    Damaged(String),
    /// It is signed with keys that the keyring does not have.
    UnknownKey(Vec<String>),
    /// The text is not what the key signed.
    Wrong(String),
    /// The key, or the signature, is over.
    Expired(String),
    /// The key was revoked, or may not sign.
    Unusable(String),
    /// The digest can be forged.
    Weak(String),
}

impl fmt::Display for SignatureProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("it is not signed"),
            Self::Damaged(why) => write!(f, "its signature cannot be read: {why}"),
            Self::UnknownKey(keys) => write!(
                f,
                "it is signed with {}, which the keyring does not have",
                keys.iter().map(|key| format!("the key {key}")).collect::<Vec<_>>().join(" and ")
            ),
            Self::Wrong(key) => write!(f, "it is not what the key {key} signed"),
            Self::Expired(key) => write!(f, "the key {key} that signed it is expired"),
            Self::Unusable(key) => {
                write!(f, "the key {key} that signed it is revoked or may not sign")
            }
            Self::Weak(digest) => write!(f, "it is signed over a {digest} digest, which is weak"),
        }
    }
}

impl Keyring {
    /// Keys from a file's bytes: armored, also several blocks one after the other, or binary.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.contains(ARMOR));
        let mut keys = Vec::new();
        let mut read = |bytes: &[u8]| -> Result<(), String> {
            let (found, _) =
                SignedPublicKey::from_reader_many(bytes).map_err(|error| error.to_string())?;
            for key in found {
                keys.push(key.map_err(|error| error.to_string())?);
            }
            Ok(())
        };
        match text {
            Some(text) => {
                for block in text.split(ARMOR).skip(1) {
                    read(format!("{ARMOR}{block}").as_bytes())?;
                }
            }
            None => read(bytes)?,
        }
        if keys.is_empty() { Err("it has no public keys".to_owned()) } else { Ok(Self { keys }) }
    }

    /// The text inside a clear-signed one (RFC 9580, 7), without what the signature does not
    /// cover. `now_secs` is when the keys are to be good, since 1970; without, when they signed.
    pub fn signed_text(
        &self,
        text: &str,
        now_secs: Option<u64>,
    ) -> Result<String, SignatureProblem> {
        if !text.trim_start().starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
            return Err(SignatureProblem::Unsigned);
        }
        let (message, _) = CleartextSignedMessage::from_string(text.trim_start())
            .map_err(|error| SignatureProblem::Damaged(error.to_string()))?;
        let signed = message.signed_text();
        self.check(message.signatures(), signed.as_bytes(), now_secs)?;
        Ok(signed.replace("\r\n", "\n"))
    }

    /// Checks a signature that is beside what it signs. Armored or binary.
    pub fn check_detached(
        &self,
        bytes: &[u8],
        signature: &[u8],
        now_secs: Option<u64>,
    ) -> Result<(), SignatureProblem> {
        let damaged = |error: pgp::errors::Error| SignatureProblem::Damaged(error.to_string());
        let (found, _) = DetachedSignature::from_reader_many(signature).map_err(damaged)?;
        let signatures = found
            .map(|found| found.map(|found| found.signature).map_err(damaged))
            .collect::<Result<Vec<_>, _>>()?;
        self.check(&signatures, bytes, now_secs)
    }

    /// Whether one of the signatures is good; otherwise what is wrong with the one that came
    /// nearest.
    fn check(
        &self,
        signatures: &[Signature],
        bytes: &[u8],
        now_secs: Option<u64>,
    ) -> Result<(), SignatureProblem> {
        let mut unknown = Vec::new();
        let mut known = None;
        for signature in signatures {
            match self.check_one(signature, bytes, now_secs) {
                Ok(()) => return Ok(()),
                Err(SignatureProblem::UnknownKey(keys)) => unknown.extend(keys),
                Err(problem) => drop(known.get_or_insert(problem)),
            }
        }
        Err(match known {
            Some(problem) => problem,
            None if unknown.is_empty() => SignatureProblem::Unsigned,
            None => SignatureProblem::UnknownKey(unknown),
        })
    }

    fn check_one(
        &self,
        signature: &Signature,
        bytes: &[u8],
        now_secs: Option<u64>,
    ) -> Result<(), SignatureProblem> {
        match signature.hash_alg() {
            Some(
                HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512,
            ) => {}
            Some(other) => return Err(SignatureProblem::Weak(other.to_string())),
            None => return Err(SignatureProblem::Damaged("unknown version".to_owned())),
        }
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err(SignatureProblem::Damaged("it is of another type".to_owned()));
        }
        let made = signature.created().map_or(0, |time| u64::from(time.as_secs()));
        let at_secs = now_secs.unwrap_or(made);
        for key in &self.keys {
            if is_by(signature, key) {
                let name = name(&key.fingerprint());
                let result = signature.verify(key, bytes);
                result.map_err(|_| SignatureProblem::Wrong(name.clone()))?;
                return usable(key, None, signature, at_secs, name);
            }
            for subkey in &key.public_subkeys {
                if is_by(signature, subkey) {
                    let name = name(&subkey.fingerprint());
                    let result = signature.verify(subkey, bytes);
                    result.map_err(|_| SignatureProblem::Wrong(name.clone()))?;
                    return usable(key, Some(subkey), signature, at_secs, name);
                }
            }
        }
        let fingerprints = signature.issuer_fingerprint().into_iter().map(name);
        let ids = signature.issuer_key_id().into_iter().map(|id| id.to_string().to_uppercase());
        Err(SignatureProblem::UnknownKey(fingerprints.chain(ids).take(1).collect()))
    }
}

fn name(fingerprint: &Fingerprint) -> String {
    format!("{fingerprint:X}")
}

fn is_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        return signature.issuer_key_id().into_iter().any(|id| *id == key.legacy_key_id());
    }
    fingerprints.into_iter().any(|fingerprint| *fingerprint == key.fingerprint())
}

/// Whether a key may have signed, at a time.
fn usable(
    key: &SignedPublicKey,
    subkey: Option<&SignedPublicSubKey>,
    signature: &Signature,
    at_secs: u64,
    name: String,
) -> Result<(), SignatureProblem> {
    let primary = &key.primary_key;
    let revoked = key.details.revocation_signatures.iter();
    if revoked.clone().any(|revocation| revocation.verify_key(primary).is_ok()) {
        return Err(SignatureProblem::Unusable(name));
    }
    let certified = key.details.users.iter().flat_map(|user| {
        let own = user.signatures.iter().filter(|own| own.is_certification());
        own.filter(|own| own.verify_certification(primary, Tag::UserId, &user.id).is_ok())
    });
    let direct = key.details.direct_signatures.iter().filter(|own| own.verify_key(primary).is_ok());
    let newest = certified.chain(direct).max_by_key(|own| created(own));
    let Some(newest) = newest else { return Err(SignatureProblem::Unusable(name)) };
    let over = |since: u64, period: Option<pgp::types::Duration>| {
        let period = period.map_or(0, |period| u64::from(period.as_secs()));
        period != 0 && since + period <= at_secs
    };
    let made = u64::from(key.created_at().as_secs());
    if over(made, newest.key_expiration_time())
        || over(created(signature), signature.signature_expiration_time())
    {
        return Err(SignatureProblem::Expired(name));
    }
    let Some(subkey) = subkey else {
        let flags = newest.key_flags();
        let may_sign = flags.sign() || !(flags.certify() || flags.encrypt_comms());
        return if may_sign { Ok(()) } else { Err(SignatureProblem::Unusable(name)) };
    };
    let binds = |binding: &&Signature| {
        let bound = binding.verify_subkey_binding(primary, &subkey.key).is_ok();
        bound && binding.typ() == Some(SignatureType::SubkeyBinding)
    };
    let is_revoked =
        subkey.signatures.iter().any(|other| other.typ() == Some(SignatureType::SubkeyRevocation));
    let binding = subkey.signatures.iter().filter(binds).max_by_key(|binding| created(binding));
    let Some(binding) = binding.filter(|_| !is_revoked) else {
        return Err(SignatureProblem::Unusable(name));
    };
    let back = binding.embedded_signature();
    let agrees =
        back.is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !binding.key_flags().sign() || !agrees {
        return Err(SignatureProblem::Unusable(name));
    }
    if over(u64::from(subkey.key.created_at().as_secs()), binding.key_expiration_time()) {
        return Err(SignatureProblem::Expired(name));
    }
    Ok(())
}

fn created(signature: &Signature) -> u64 {
    signature.created().map_or(0, |time| u64::from(time.as_secs()))
}

#[cfg(test)]
mod tests;
