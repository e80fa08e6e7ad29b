//! The root of an image: what maintainer scripts would have done, done as data.
//!
//! Deliberately absent: running anything. What is added is alike on all platforms.

use std::io;

use super::filesystem::{Filesystem, Kind, Node};

/// Top-level names that are links into `usr` on a merged-usr system.
const MERGED_LINKS: [&str; 3] = ["bin", "lib", "sbin"];

/// Folders that programs expect, with their modes.
const FOLDERS: [(&str, u32); 12] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/nonroot", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

/// Adds what every image needs: merged-usr links, folders, name service. Users are
/// [`super::accounts`].
pub fn furnish(files: &mut Filesystem) {
    for name in MERGED_LINKS {
        files.add_link(name, &format!("usr/{name}"));
        files.nodes.entry(format!("usr/{name}")).or_insert_with(folder);
    }
    for name in ["lib32", "lib64", "libx32"] {
        if files.nodes.contains_key(&format!("usr/{name}")) {
            files.add_link(name, &format!("usr/{name}"));
        }
    }
    for (path, mode) in FOLDERS {
        files.add_folder(path, mode);
    }
    if let Some(home) = files.nodes.get_mut("home/nonroot") {
        home.owner = (65532, 65532);
    }
    files.nodes.retain(|path, _| !path.starts_with("var/run/") && !path.starts_with("var/lock/"));
    files.add_link("var/run", "/run");
    files.add_link("var/lock", "/run/lock");
    files.add_folder("run/lock", 0o1777);
    if files.nodes.contains_key("usr/lib/os-release") {
        files.nodes.entry("etc/os-release".into()).or_insert_with(|| link("../usr/lib/os-release"));
    }
    files.add_bytes("etc/nsswitch.conf", include_str!("../../templates/root/nsswitch.conf"), 0o644);
    files.add_parents();
}

fn folder() -> Node {
    Node::new(Kind::Folder, 0o755)
}

fn link(target: &str) -> Node {
    Node::new(Kind::Link(target.to_owned()), 0o777)
}

/// Joins the certificates of the `ca-certificates` package into the bundle that TLS
/// libraries read, where the package is there.
pub fn trust(files: &mut Filesystem) -> io::Result<()> {
    let certificates: Vec<String> = files
        .nodes
        .keys()
        .filter(|path| path.starts_with("usr/share/ca-certificates/") && path.ends_with(".crt"))
        .cloned()
        .collect();
    if certificates.is_empty() {
        return Ok(());
    }
    let mut bundle = Vec::new();
    for path in &certificates {
        if let Some(bytes) = files.bytes(path) {
            bundle.extend_from_slice(&bytes?);
            if !bundle.ends_with(b"\n") {
                bundle.push(b'\n');
            }
        }
    }
    files.add_bytes("etc/ssl/certs/ca-certificates.crt", bundle, 0o644);
    files.add_link("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt");
    files.add_link("usr/lib/ssl/certs", "/etc/ssl/certs");
    files.add_parents();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_furnished() {
        let mut files = Filesystem::default();
        files.add_bytes("usr/lib64/ld-linux-x86-64.so.2", "", 0o755);
        files.add_bytes("usr/share/ca-certificates/mozilla/b.crt", "b", 0o644);
        files.add_bytes("usr/share/ca-certificates/mozilla/a.crt", "a\n", 0o644);
        trust(&mut files).unwrap();
        furnish(&mut files);
        let bundle = files.bytes("etc/ssl/certs/ca-certificates.crt").unwrap().unwrap();
        assert_eq!(bundle, b"a\nb\n");
        assert_eq!(files.nodes["lib64"].kind, Kind::Link("usr/lib64".into()));
        assert_eq!(files.nodes["tmp"].mode, 0o1777);
    }
}
