//! Files that look like secrets: by their names, and by what is in them, read once and in pieces.
//!
//! Deliberately absent: what was found. Neither a message nor what is remembered holds a byte of
//! a file.

use std::collections::BTreeSet;
use std::io::{self, Read};

use memchr::memmem::find_iter;
use serde::{Deserialize, Serialize};

/// Raised when the same bytes have other marks than before.
pub const VERSION: u32 = 1;

/// Bytes that are looked at together. No mark is longer than an overlap.
const WINDOW_BYTES: usize = 1 << 17;
const OVERLAP_BYTES: usize = 1 << 9;

/// What a file holds that may make it a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// `-----BEGIN … PRIVATE KEY-----` and more.
    PemKey,
    /// The same of OpenSSH.
    SshKey,
    /// The same of OpenPGP.
    PgpKey,
    /// A key file of PuTTY.
    PuttyKey,
    /// `"private_key"` of a service account, with a key.
    ServiceAccount,
    /// A token or password of a package registry.
    RegistryToken,
    /// `"auths"` with an `"auth"`.
    RegistryLogin,
    /// `client-key-data` of a cluster's configuration.
    ClusterKey,
}

impl Mark {
    /// What that is, for people. Some count in files of certain names alone.
    fn meaning(self) -> Option<&'static str> {
        match self {
            Self::PemKey => Some("a private key"),
            Self::SshKey => Some("a private key of OpenSSH"),
            Self::PgpKey => Some("a private key of OpenPGP"),
            Self::PuttyKey => Some("a private key of PuTTY"),
            Self::ServiceAccount => Some("the key of a service account"),
            Self::ClusterKey => Some("credentials of a Kubernetes cluster"),
            Self::RegistryToken | Self::RegistryLogin => None,
        }
    }
}

/// Names of files that are credentials whatever is in them, from their last parts.
const CREDENTIALS: [(&str, &str); 21] = [
    (".aws/credentials", "credentials of AWS"),
    (".azure/accessTokens.json", "credentials of Azure"),
    (".cargo/credentials", "credentials of cargo"),
    (".cargo/credentials.toml", "credentials of cargo"),
    (".config/gcloud/application_default_credentials.json", "credentials of Google Cloud"),
    (".config/gh/hosts.yml", "credentials of GitHub"),
    (".dockercfg", "credentials of a registry"),
    (".gem/credentials", "credentials of RubyGems"),
    (".git-credentials", "credentials of git"),
    (".kube/config", "credentials of a Kubernetes cluster"),
    (".netrc", "credentials of network hosts"),
    ("_netrc", "credentials of network hosts"),
    (".pgpass", "passwords of PostgreSQL"),
    (".pypirc", "credentials of a Python index"),
    (".terraform.d/credentials.tfrc.json", "credentials of Terraform"),
    (".terraformrc", "credentials of Terraform"),
    (".vault-token", "a token of Vault"),
    ("id_dsa", "a private key of OpenSSH"),
    ("id_ecdsa", "a private key of OpenSSH"),
    ("id_ed25519", "a private key of OpenSSH"),
    ("id_rsa", "a private key of OpenSSH"),
];

/// Ends of names of files that hold keys or credentials.
const ENDS: [(&str, &str); 11] = [
    (".jceks", "a key store of Java"),
    (".jks", "a key store of Java"),
    (".kdbx", "a store of passwords"),
    (".keystore", "a key store of Java"),
    (".keytab", "keys of Kerberos"),
    (".kubeconfig", "credentials of a Kubernetes cluster"),
    (".p12", "a store of keys (PKCS #12)"),
    (".pfx", "a store of keys (PKCS #12)"),
    (".ppk", "a private key of PuTTY"),
    (".tfstate", "a state of Terraform, which holds passwords in clear"),
    (".tfstate.backup", "a state of Terraform, which holds passwords in clear"),
];

/// Files of variables that are there to be shown.
const ENVIRONMENT_EXAMPLES: [&str; 5] =
    [".env.dist", ".env.example", ".env.sample", ".env.template", ".env.tmpl"];

/// What secret the file of that path with these marks looks like, for people.
pub fn secret(path: &str, marks: &BTreeSet<Mark>) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_at = |end: &str| path == end || path.ends_with(&format!("/{end}"));
    if (name == ".env" || name.starts_with(".env.")) && !ENVIRONMENT_EXAMPLES.contains(&name) {
        return Some("a file of variables, where passwords are kept");
    }
    if let Some((_, what)) = CREDENTIALS.iter().find(|(end, _)| is_at(end)) {
        return Some(what);
    }
    let lower = name.to_lowercase();
    if let Some((_, what)) = ENDS.iter().find(|(end, _)| lower.ends_with(end)) {
        return Some(what);
    }
    if lower == "kubeconfig" {
        return Some("credentials of a Kubernetes cluster");
    }
    let is_settings = [".npmrc", ".yarnrc", ".yarnrc.yml"].contains(&name);
    if is_settings && marks.contains(&Mark::RegistryToken) {
        return Some("a token of a package registry");
    }
    let is_login = is_at(".docker/config.json")
        || is_at("containers/auth.json")
        || name == ".dockerconfigjson";
    if is_login && marks.contains(&Mark::RegistryLogin) {
        return Some("credentials of a registry");
    }
    // That of a service account is told before the key that it holds.
    let all = [
        Mark::ServiceAccount,
        Mark::ClusterKey,
        Mark::SshKey,
        Mark::PgpKey,
        Mark::PuttyKey,
        Mark::PemKey,
    ];
    all.into_iter().find(|mark| marks.contains(mark)).and_then(Mark::meaning)
}

/// The marks of what `reader` gives. Memory does not depend on how much that is.
pub fn marks(mut reader: impl Read) -> io::Result<BTreeSet<Mark>> {
    let mut marks = BTreeSet::new();
    let mut window: Vec<u8> = Vec::with_capacity(WINDOW_BYTES);
    let mut starts = true;
    let mut seen = Seen::default();
    loop {
        let room = WINDOW_BYTES - window.len();
        let read = reader.by_ref().take(room as u64).read_to_end(&mut window)?;
        look(&window, starts, &mut seen, &mut marks);
        if read < room {
            break;
        }
        // Marks that the end cut are looked at again with what follows.
        window.drain(..window.len() - OVERLAP_BYTES);
        starts = false;
    }
    if seen.auths && seen.auth {
        marks.insert(Mark::RegistryLogin);
    }
    Ok(marks)
}

/// Parts of marks that may be far from one another.
#[derive(Default)]
struct Seen {
    auths: bool,
    auth: bool,
}

/// Finds marks in a piece; `starts` says that the file starts with it.
fn look(bytes: &[u8], starts: bool, seen: &mut Seen, marks: &mut BTreeSet<Mark>) {
    // What stands where, from there on, and what follows it as a value.
    let each = |word: &'static [u8]| {
        find_iter(bytes, word).map(move |at| (at, value(&bytes[at + word.len()..])))
    };
    // The name of a variable is no value.
    let given = |rest: &[u8]| {
        let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
        rest.first().is_some_and(u8::is_ascii_alphanumeric)
    };
    marks.extend(each(b"-----BEGIN ").filter_map(|(at, _)| armoured(bytes, at, starts)));
    marks.extend(each(b"PuTTY-User-Key-File-").filter_map(|(at, _)| putty(bytes, at, starts)));
    if each(b"\"private_key\"").any(|(_, rest)| rest.starts_with(b"\"-----BEGIN")) {
        marks.insert(Mark::ServiceAccount);
    }
    if each(b"client-key-data").any(|(_, rest)| given(rest)) {
        marks.insert(Mark::ClusterKey);
    }
    if TOKENS.iter().any(|token| each(token).any(|(_, rest)| given(rest))) {
        marks.insert(Mark::RegistryToken);
    }
    seen.auths |= each(b"\"auths\"").next().is_some();
    let login = [&b"\"auth\""[..], b"\"identitytoken\"", b"\"password\""];
    seen.auth |= login.iter().any(|word| each(word).any(|(_, rest)| given(rest)));
}

/// Keys of settings of package managers.
const TOKENS: [&[u8]; 5] =
    [b"_authToken", b"_auth", b"_password", b"npmAuthToken", b"npmAuthIdent"];

/// A key file of PuTTY starts there.
fn putty(bytes: &[u8], at: usize, starts: bool) -> Option<Mark> {
    let rest = bytes[at..].strip_prefix(b"PuTTY-User-Key-File-")?;
    let is_number = matches!(rest, [digit, b':', ..] if digit.is_ascii_digit());
    (is_number && is_line_start(bytes, at, starts)).then_some(Mark::PuttyKey)
}

/// What follows `:` or `=`.
fn value(bytes: &[u8]) -> &[u8] {
    match bytes.trim_ascii_start() {
        [b':' | b'=', rest @ ..] => rest.trim_ascii_start(),
        _ => b"",
    }
}

/// Whether a line starts there, or a text in quotes; programs that only read keys have the
/// words amid others.
fn is_line_start(bytes: &[u8], at: usize, starts: bool) -> bool {
    match bytes[..at].last() {
        None => starts,
        Some(b'\n' | b'\r' | b'"' | b'\'' | b'`' | b' ' | b'\t' | b'>' | b'|') => true,
        Some(b'n') => bytes[..at].ends_with(b"\\n"),
        // A byte order mark.
        Some(_) => starts && &bytes[..at] == b"\xef\xbb\xbf",
    }
}

/// The private key whose armour (RFC 7468, RFC 9580 6.2) starts there: the words on a line of
/// their own, and the start of a key.
fn armoured(bytes: &[u8], at: usize, starts: bool) -> Option<Mark> {
    let rest = bytes[at..].strip_prefix(b"-----BEGIN ")?;
    if !is_line_start(bytes, at, starts) {
        return None;
    }
    let end = rest.iter().take(64).position(|byte| *byte == b'-')?;
    let (label, rest) = rest.split_at(end);
    let rest = rest.strip_prefix(b"-----")?;
    let mark = if label == b"PGP PRIVATE KEY BLOCK" {
        Mark::PgpKey
    } else if label == b"OPENSSH PRIVATE KEY" {
        Mark::SshKey
    } else if label.ends_with(b"PRIVATE KEY") {
        Mark::PemKey
    } else {
        return None;
    };
    let mut rest = rest;
    let mut lines = 0;
    loop {
        rest = match rest {
            [b'\\', b'n' | b'r', rest @ ..] => {
                lines += 1;
                rest
            }
            [b'\n' | b'\r', rest @ ..] => {
                lines += 1;
                rest
            }
            [b' ' | b'\t', rest @ ..] => rest,
            [first, ..] if lines > 0 && first.is_ascii_alphanumeric() => return Some(mark),
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Option<&'static str> {
        secret(path, &marks(text.as_bytes()).unwrap())
    }

    /// A text that no scanner takes for what it stands for.
    fn armour(label: &str, line: &str) -> String {
        format!("-----BEGIN {label}-----{line}MIIEvQIBADANBgkq{line}-----END {label}-----{line}")
    }

    #[test]
    fn secrets_by_name() {
        for path in [
            ".env",
            "deploy/.env.production",
            ".netrc",
            "home/.aws/credentials",
            "id_rsa",
            "keys/id_ed25519",
            "tls/server.P12",
            "server.pfx",
            "store.jks",
            "kubeconfig",
            "home/.kube/config",
            "prod.kubeconfig",
            "terraform.tfstate",
            ".git-credentials",
            ".pypirc",
        ] {
            assert!(found(path, "").is_some(), "{path}");
        }
        for path in [
            ".env.example",
            "env",
            "x.env",
            "environment.js",
            "aws/credentials",
            "credentials",
            "id_rsa.pub",
            "jks",
            ".npmrc",
            "p12.txt",
            ".kube/other",
        ] {
            assert_eq!(found(path, "registry=x\n"), None, "{path}");
        }
    }

    #[test]
    fn keys_by_content() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            assert_eq!(found("x", &armour(label, "\n")), Some("a private key"), "{label}");
            assert_eq!(found("x", &armour(label, "\r\n")), Some("a private key"), "{label}");
        }
        let ssh = armour("OPENSSH PRIVATE KEY", "\n");
        assert_eq!(found("x", &ssh), Some("a private key of OpenSSH"));
        let pgp = "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\nlQ==\n";
        assert_eq!(found("x", pgp), Some("a private key of OpenPGP"));
        let putty = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n";
        assert_eq!(found("x", putty), Some("a private key of PuTTY"));
        let json = format!("{{\"private_key\": \"{}\"}}", armour("PRIVATE KEY", "\\n"));
        assert_eq!(found("x.json", &json), Some("the key of a service account"));
        let kube = "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTg==\n";
        assert_eq!(found("x.yaml", kube), Some("credentials of a Kubernetes cluster"));
        let yaml = format!("key: |\n  {}", armour("PRIVATE KEY", "\n  "));
        assert_eq!(found("x.yaml", &yaml), Some("a private key"));
        for public in [
            armour("CERTIFICATE", "\n"),
            armour("PUBLIC KEY", "\n"),
            "text on -----BEGIN PRIVATE KEY----- lines\n".into(),
            "\0-----BEGIN RSA PRIVATE KEY-----\nMII\0".into(),
            "\n-----BEGIN RSA PRIVATE KEY-----\0\0".into(),
            "\n-----BEGIN PRIVATE KEY-----".into(),
            "\"PuTTY-User-Key-File-\"".into(),
            "{\"private_key\": \"\"}".into(),
            "client-key-data: {{ .Values.key }}".into(),
        ] {
            assert_eq!(found("x", &public), None, "{public:?}");
        }
    }

    #[test]
    fn settings_with_tokens() {
        let token = "//host.example/:_authToken=npm_0123456789\n";
        assert_eq!(found("web/.npmrc", token), Some("a token of a package registry"));
        assert_eq!(found("web/.npmrc", "//host.example/:_authToken=${TOKEN}\n"), None);
        assert_eq!(found("web/readme", token), None);
        let login = "{\"auths\": {\"host.example\": {\"auth\": \"dXNlcjpw\"}}}";
        assert_eq!(found(".docker/config.json", login), Some("credentials of a registry"));
        assert_eq!(found(".docker/config.json", "{\"auths\": {\"host.example\": {}}}"), None);
        assert_eq!(found("config.json", login), None);
    }

    #[test]
    fn pieces_do_not_hide_what_they_cut() {
        let key = armour("PRIVATE KEY", "\n");
        for before in [0, 1, 300, WINDOW_BYTES - 20, WINDOW_BYTES - 600, WINDOW_BYTES, 1 << 20] {
            let mut text = "x".repeat(before);
            text.push('\n');
            text.push_str(&key);
            text.push_str(&"y".repeat(WINDOW_BYTES));
            assert_eq!(found("x", &text), Some("a private key"), "{before}");
        }
        let mut far = "{\"auths\": {\"host\": {".to_owned();
        far.push_str(&" ".repeat(3 * WINDOW_BYTES));
        far.push_str("\"auth\": \"dXNlcjpw\"}}}");
        assert_eq!(found(".docker/config.json", &far), Some("credentials of a registry"));
    }
}
