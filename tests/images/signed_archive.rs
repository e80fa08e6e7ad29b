//! A signed package archive in a folder, and a server of folders on loopback.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use liblzma::write::XzEncoder;
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder,
    SignedSecretKey,
};
use pgp::types::Password;
use rand::thread_rng;
use xstitch::model::Digest;

use crate::fixture::succeed;

/// A key that archives are signed with.
pub fn key() -> SignedSecretKey {
    let mut params = SecretKeyParamsBuilder::default();
    params
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(true)
        .can_encrypt(EncryptionCaps::None)
        .primary_user_id("Archive <archive@example.org>".into());
    params.build().unwrap().generate(thread_rng()).unwrap()
}

/// Writes what a keyring file holds.
pub fn write_keyring(key: &SignedSecretKey, path: &Path) {
    let armored = key.to_public_key().to_armored_bytes(ArmorOptions::default()).unwrap();
    fs::write(path, armored).unwrap();
}

/// The stanza of a package that is in the pool.
pub fn add_to_pool(archive: &Path, deb: &Path) -> String {
    let bytes = fs::read(deb).unwrap();
    let control = succeed(Command::new("dpkg-deb").arg("-f").arg(deb));
    let control = String::from_utf8(control.stdout).unwrap();
    let digest = Digest::of(&bytes);
    let name = format!("pool/main/{}.deb", digest.hex());
    fs::create_dir_all(archive.join("pool/main")).unwrap();
    fs::write(archive.join(&name), &bytes).unwrap();
    format!(
        "{}\nFilename: {name}\nSize: {}\nSHA256: {}\n\n",
        control.trim_end(),
        bytes.len(),
        digest.hex()
    )
}

/// Writes the lists of a suite, by architecture, and its signed release file, after `edit`
/// had its way with the text.
pub fn write_suite(
    archive: &Path,
    suite: &str,
    lists: &[(&str, String)],
    key: &SignedSecretKey,
    edit: impl Fn(String) -> String,
) {
    let place = archive.join("dists").join(suite);
    let mut files = String::new();
    let architectures: Vec<&str> = lists.iter().map(|(architecture, _)| *architecture).collect();
    for (architecture, text) in lists {
        let name = format!("main/binary-{architecture}/Packages");
        let folder = place.join(&name).parent().unwrap().to_owned();
        let mut encoder = XzEncoder::new(Vec::new(), 1);
        encoder.write_all(text.as_bytes()).unwrap();
        let packed = encoder.finish().unwrap();
        let digest = Digest::of(&packed).hex();
        fs::create_dir_all(folder.join("by-hash/SHA256")).unwrap();
        fs::write(folder.join("by-hash/SHA256").join(&digest), &packed).unwrap();
        files += &format!(" {} {} {name}\n", Digest::of(text.as_bytes()).hex(), text.len());
        files += &format!(" {digest} {} {name}.xz\n", packed.len());
    }
    let text = edit(format!(
        "Origin: Debian\nSuite: stable\nCodename: {suite}\nVersion: 12.1\nDate: {}\n\
         Valid-Until: {}\nAcquire-By-Hash: yes\nArchitectures: {}\nSHA256:\n{files}",
        date(-3600),
        date(86_400),
        architectures.join(" ")
    ));
    fs::write(place.join("InRelease"), sign(&text, key)).unwrap();
}

/// A clear-signed text.
pub fn sign(text: &str, key: &SignedSecretKey) -> String {
    let password = Password::empty();
    CleartextSignedMessage::sign(thread_rng(), text, &key.primary_key, &password)
        .unwrap()
        .to_armored_string(ArmorOptions::default())
        .unwrap()
}

/// A date so many seconds from now, as release files have it.
pub fn date(from_now_secs: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = now.as_secs().checked_add_signed(from_now_secs).unwrap();
    let output = succeed(
        Command::new("date")
            .args(["-u", "-d", &format!("@{at}"), "+%a, %d %b %Y %H:%M:%S UTC"])
            .env("LC_ALL", "C"),
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The URL of a server on loopback that gives the files of a folder; its thread ends with
/// the test program.
pub fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder: PathBuf = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let folder = folder.clone();
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(request)) = lines.next() else { return };
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let path = request.split(' ').nth(1).unwrap_or_default();
                let path = path.trim_start_matches('/');
                let (status, body) = match fs::read(folder.join(path)) {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            });
        }
    });
    url
}
