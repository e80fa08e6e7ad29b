use pgp::composed::{ArmorOptions, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::composed::{EncryptionCaps, SubkeyParamsBuilder};
use pgp::ser::Serialize as _;
use pgp::types::Password;
use rand::thread_rng;

use super::*;

/// A key that signs by itself, or by a subkey.
fn key(with_subkey: bool) -> SignedSecretKey {
    let mut params = SecretKeyParamsBuilder::default();
    params
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(!with_subkey)
        .can_encrypt(EncryptionCaps::None)
        .primary_user_id("Test <test@example.org>".into());
    if with_subkey {
        let mut subkey = SubkeyParamsBuilder::default();
        subkey
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .can_encrypt(EncryptionCaps::None)
            .can_authenticate(false);
        params.subkeys(vec![subkey.build().unwrap()]);
    }
    params.build().unwrap().generate(thread_rng()).unwrap()
}

fn keyring(keys: &[&SignedSecretKey]) -> Keyring {
    let armored: Vec<String> = keys
        .iter()
        .map(|key| key.to_public_key().to_armored_string(ArmorOptions::default()).unwrap())
        .collect();
    Keyring::parse(armored.join("\n").as_bytes()).unwrap()
}

fn sign(text: &str, key: &SignedSecretKey) -> String {
    let password = Password::empty();
    let message = match key.secret_subkeys.first() {
        Some(subkey) => CleartextSignedMessage::sign(thread_rng(), text, &subkey.key, &password),
        None => CleartextSignedMessage::sign(thread_rng(), text, &key.primary_key, &password),
    };
    message.unwrap().to_armored_string(ArmorOptions::default()).unwrap()
}

const TEXT: &str = "Suite: x\nDate: y\n- z\n";

#[test]
fn signed_texts_are_read() {
    for with_subkey in [false, true] {
        let (own, other) = (key(with_subkey), key(false));
        let signed = sign(TEXT, &own);
        let keys = keyring(&[&other, &own]);
        assert_eq!(keys.signed_text(&signed, None).unwrap().trim_end(), TEXT.trim_end());
        let after = format!("{signed}\nSuite: another\n");
        assert!(!matches!(keys.signed_text(&after, None), Ok(text) if text.contains("another")));
        let problem = keyring(&[&other]).signed_text(&signed, None).unwrap_err();
        assert!(matches!(problem, SignatureProblem::UnknownKey(_)), "{problem}");
        let tampered = signed.replace("Suite: x", "Suite: y");
        let problem = keys.signed_text(&tampered, None).unwrap_err();
        assert!(matches!(problem, SignatureProblem::Wrong(_)), "{problem}");
    }
}

#[test]
fn what_is_no_signature_is_none() {
    let own = key(false);
    let keys = keyring(&[&own]);
    assert_eq!(keys.signed_text(TEXT, None), Err(SignatureProblem::Unsigned));
    let signed = sign(TEXT, &own);
    for length in [40, signed.len() / 2, signed.len() - 60] {
        assert!(keys.signed_text(&signed[..length], None).is_err(), "{length}");
    }
    let before = format!("Suite: another\n{signed}");
    assert_eq!(keys.signed_text(&before, None), Err(SignatureProblem::Unsigned));
    assert!(Keyring::parse(b"").is_err());
    assert!(Keyring::parse(b"no key").is_err());
}

#[test]
fn detached_signatures_are_checked() {
    let own = key(false);
    let sign = |hash| {
        let signed = DetachedSignature::sign_binary_data(
            thread_rng(),
            &own.primary_key,
            &Password::empty(),
            hash,
            TEXT.as_bytes(),
        );
        signed.unwrap()
    };
    let binary = Keyring::parse(&own.to_public_key().to_bytes().unwrap()).unwrap();
    let signature = sign(HashAlgorithm::Sha512);
    let armored = signature.to_armored_bytes(ArmorOptions::default()).unwrap();
    for signature in [armored, signature.to_bytes().unwrap()] {
        assert_eq!(binary.check_detached(TEXT.as_bytes(), &signature, None), Ok(()));
        let problem = binary.check_detached(b"other", &signature, None).unwrap_err();
        assert!(matches!(problem, SignatureProblem::Wrong(_)), "{problem}");
    }
    assert!(binary.check_detached(TEXT.as_bytes(), b"", None).is_err());
}
