//! OCI layouts (image specification, "Image Layout"): written beside the last one and
//! swapped in, so that the last good output is there until the new one is whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::image::manifest::Descriptor;
use crate::machine::disk;
use crate::model::Digest;
use crate::store::{hash_file, sweep_beside};

/// What the folders beside a layout are called until it is whole, before the number of the
/// process that writes it.
const NEW: &str = ".new-images-";
const OLD: &str = ".old-images-";

/// An image's index and its name in the layout.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Full reference for `io.containerd.image.name`, such as `agent:1.2`.
    pub name: String,
    /// What tools select by, in `org.opencontainers.image.ref.name`.
    pub reference: String,
    /// The image index.
    pub index: Descriptor,
}

/// Writes a layout of `entries` with `blobs` (digest, size, file) to `folder`. One that
/// is the same already is left alone, after hashing its blobs if it is not `trusted`; returns
/// whether anything was written.
pub fn write(
    folder: &Path,
    entries: &[Entry],
    blobs: &BTreeMap<Digest, (u64, PathBuf)>,
    trusted: bool,
) -> io::Result<bool> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    sweep_beside(parent, &[NEW, OLD]);
    let manifests: Vec<Descriptor> = entries
        .iter()
        .map(|entry| {
            let mut descriptor = entry.index.clone();
            let annotations = [
                ("io.containerd.image.name", &entry.name),
                ("org.opencontainers.image.ref.name", &entry.reference),
            ];
            for (key, value) in annotations {
                descriptor.annotations.insert(key.to_owned(), value.clone());
            }
            descriptor
        })
        .collect();
    let index = crate::image::manifest::index(&manifests, &BTreeMap::new());
    if is_current(folder, &index, blobs, trusted) {
        return Ok(false);
    }
    fs::create_dir_all(parent)?;
    let prefix = format!("{NEW}{}-", std::process::id());
    let scratch = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?;
    let place = scratch.path().join("blobs/sha256");
    fs::create_dir_all(&place)?;
    for (digest, (_, file)) in blobs {
        let blob = place.join(digest.hex());
        if fs::hard_link(file, &blob).is_err() {
            fs::copy(file, &blob)?;
        }
    }
    fs::write(scratch.path().join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(scratch.path().join("index.json"), &index)?;
    set_readable(scratch.path())?;
    if folder.is_dir() && disk::exchange(scratch.path(), folder).is_ok() {
        return scratch.close().map(|()| true);
    }
    // Where the file system cannot swap, there is an instant without a layout.
    let old = parent.join(format!("{OLD}{}", std::process::id()));
    let had_old = fs::rename(folder, &old).is_ok();
    let new = scratch.keep();
    if let Err(error) = fs::rename(&new, folder) {
        if had_old {
            fs::rename(&old, folder)?;
        }
        fs::remove_dir_all(&new)?;
        return Err(error);
    }
    if had_old {
        fs::remove_dir_all(&old)?;
    }
    Ok(true)
}

/// Scratch folders are private; a layout is not.
fn set_readable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for path in [folder.to_owned(), folder.join("blobs"), folder.join("blobs/sha256")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    for name in ["oci-layout", "index.json"] {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Whether the layout has that file of the store itself as a blob, not a copy.
pub fn has(folder: &Path, digest: &Digest, file: &Path) -> bool {
    is_same(&folder.join("blobs/sha256").join(digest.hex()), file)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| fs::metadata(path).map(|status| (status.dev(), status.ino())).ok();
    place(one).is_some_and(|one| Some(one) == place(other))
}

fn is_current(
    folder: &Path,
    index: &[u8],
    blobs: &BTreeMap<Digest, (u64, PathBuf)>,
    trusted: bool,
) -> bool {
    let place = folder.join("blobs/sha256");
    fs::read(folder.join("index.json")).is_ok_and(|bytes| bytes == index)
        && folder.join("oci-layout").is_file()
        && blobs.iter().all(|(digest, (size, file))| {
            let blob = place.join(digest.hex());
            fs::metadata(&blob).is_ok_and(|status| status.len() == *size)
                && (trusted
                    || is_same(&blob, file)
                    || hash_file(&blob).is_ok_and(|(found, _)| found == *digest))
        })
        && fs::read_dir(&place).is_ok_and(|entries| entries.count() == blobs.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_swapped_in_whole() {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("images");
        let file = folder.path().join("blob");
        fs::write(&file, "{}").unwrap();
        let blobs = BTreeMap::from([(Digest::of(b"{}"), (2, file))]);
        let index = Descriptor::of(crate::image::manifest::INDEX, b"{}");
        let entry =
            |name: &str| Entry { name: name.into(), reference: name.into(), index: index.clone() };
        assert!(write(&layout, &[entry("a:1")], &blobs, true).unwrap());
        assert!(!write(&layout, &[entry("a:1")], &blobs, true).unwrap());
        assert!(write(&layout, &[entry("a:2")], &blobs, true).unwrap());
        assert!(fs::read_to_string(layout.join("index.json")).unwrap().contains("a:2"));
        let missing = BTreeMap::from([(Digest::of(b"x"), (1, folder.path().join("none")))]);
        assert!(write(&layout, &[entry("a:3")], &missing, true).is_err());
        assert!(fs::read_to_string(layout.join("index.json")).unwrap().contains("a:2"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        // What was killed before, and bytes that a machine lost.
        fs::create_dir(folder.path().join(".new-images-4194999-x")).unwrap();
        fs::create_dir(folder.path().join(".old-images-4194999")).unwrap();
        let blob = layout.join("blobs/sha256").join(Digest::of(b"{}").hex());
        fs::remove_file(&blob).unwrap();
        fs::write(&blob, "xx").unwrap();
        assert!(!write(&layout, &[entry("a:2")], &blobs, true).unwrap());
        assert!(write(&layout, &[entry("a:2")], &blobs, false).unwrap());
        assert_eq!(fs::read_to_string(&blob).unwrap(), "{}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
