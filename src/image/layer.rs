//! Layers: a file system as a tar archive (OCI image specification, "Image Layer
//! Filesystem Changeset"), compressed and digested in one pass.

use std::fs;
use std::io::{self, BufWriter, Write};

use serde::{Deserialize, Serialize};

use super::filesystem::{Filesystem, Kind, Source};
use crate::archive::compression::{Compression, Encoder};
use crate::model::{Digest, Hasher};

/// What is known of a layer once it is bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedLayer {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Digest of the tar archive.
    pub diff_id: Digest,
    /// Size of the compressed bytes.
    pub size_bytes: u64,
    /// Media type of the compressed bytes.
    pub media_type: String,
    /// What it holds, for the history of images.
    pub title: String,
    /// Whether it is a base's, and kept also if it holds nothing: the base's history counts it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
}

impl PackedLayer {
    /// Whether it holds nothing: its archive is the two blocks that end one.
    pub fn is_empty(&self) -> bool {
        !self.imported && self.diff_id == Digest::of(&[0; 1024])
    }
}

/// Writes to two places at once: the bytes go on, the hasher sees them.
struct Tee<W> {
    writer: W,
    hasher: Hasher,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Longest path that a header has room for, and the slash of a folder.
const NAME_BYTES_AT_MOST: usize = 99;

/// Packs `files` into `out`. Every member is dated `epoch_secs`; the bytes depend on nothing
/// else. Extended attributes are records of pax (`SCHILY.xattr.NAME`).
pub fn pack(
    files: &Filesystem,
    title: &str,
    compression: Compression,
    threads: usize,
    epoch_secs: u64,
    out: impl Write,
) -> io::Result<PackedLayer> {
    let compressed = Tee { writer: BufWriter::with_capacity(1 << 20, out), hasher: Hasher::new() };
    let encoder = Encoder::new(compressed, compression, threads);
    let plain = Tee { writer: BufWriter::with_capacity(1 << 16, encoder), hasher: Hasher::new() };
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 18, plain));
    for (path, node) in &files.nodes {
        let mut header = tar::Header::new_gnu();
        header.set_mode(node.mode);
        header.set_uid(node.owner.0);
        header.set_gid(node.owner.1);
        header.set_mtime(epoch_secs);
        header.set_size(0);
        let mut path = path.as_str();
        if !node.attributes.is_empty() {
            let mut records: Vec<(String, &[u8])> = node
                .attributes
                .iter()
                .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.as_slice()))
                .collect();
            // A record as well, rather than a header of GNU's between these and their member.
            if path.len() > NAME_BYTES_AT_MOST {
                records.insert(0, ("path".to_owned(), path.as_bytes()));
                path = &path[..path.floor_char_boundary(NAME_BYTES_AT_MOST)];
            }
            let records = records.iter().map(|(name, value)| (name.as_str(), *value));
            tar.append_pax_extensions(records)?;
        }
        match &node.kind {
            Kind::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target)?;
            }
            Kind::File(Source::Bytes(bytes)) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, path, bytes.as_slice())?;
            }
            Kind::File(Source::Path(file)) => {
                let file = fs::File::open(file)?;
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(file.metadata()?.len());
                tar.append_data(&mut header, path, file)?;
            }
        }
    }
    let plain = tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    let (diff_id, _) = plain.hasher.finish();
    let encoder = plain.writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    let mut compressed = encoder.finish()?;
    compressed.flush()?;
    let (digest, size_bytes) = compressed.hasher.finish();
    let media_type = format!("application/vnd.oci.image.layer.v1.tar+{compression}");
    Ok(PackedLayer {
        digest,
        diff_id,
        size_bytes,
        media_type,
        title: title.to_owned(),
        imported: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_depends_on_its_members_only() {
        let mut files = Filesystem::default();
        files.add_bytes("usr/bin/x", "hello", 0o755);
        files.add_link("bin", "usr/bin");
        files.add_bytes(&format!("usr/share/{}/file", "long".repeat(40)), "deep", 0o644);
        files.add_parents();
        let pack = |threads| {
            let mut out = Vec::new();
            let layer = pack(&files, "x", Compression::Gzip, threads, 0, &mut out).unwrap();
            assert_eq!(layer.digest, Digest::of(&out));
            assert_eq!(layer.size_bytes, out.len() as u64);
            (layer, out)
        };
        let (layer, out) = pack(1);
        assert_eq!(pack(3).0, layer);
        assert!(!layer.is_empty());
        let none = Filesystem::default();
        let none = super::pack(&none, "x", Compression::Zstd, 1, 0, io::sink()).unwrap();
        assert!(none.is_empty());
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(out.as_slice()));
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(entry.header().mtime().unwrap(), 0);
                entry.path().unwrap().to_string_lossy().into_owned()
            })
            .collect();
        assert_eq!(&names[..3], ["bin", "usr/", "usr/bin/"]);
    }

    #[test]
    fn attributes_and_long_paths_are_records() {
        let long = format!("{}/ü{}", "folder".repeat(15), "name".repeat(20));
        let mut files = Filesystem::default();
        for path in ["short", &long] {
            files.add_bytes(path, "x", 0o755);
            let node = files.nodes.get_mut(path).unwrap();
            node.attributes.insert("security.capability".into(), vec![1, 0, 0, 2]);
            node.owner = (65532, 3_000_000);
        }
        let mut out = Vec::new();
        pack(&files, "x", Compression::Gzip, 1, 0, &mut out).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(out.as_slice()));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(
                (entry.header().uid().unwrap(), entry.header().gid().unwrap()),
                (65532, 3_000_000)
            );
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let records = entry.pax_extensions().unwrap().unwrap();
            let records: Vec<_> = records
                .map(|record| record.unwrap())
                .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
                .collect();
            let (name, value) = records.last().unwrap();
            assert_eq!(
                (name.as_str(), value.as_slice()),
                ("SCHILY.xattr.security.capability", &[1, 0, 0, 2][..])
            );
            found.push((path, records.len()));
        }
        assert_eq!(found, [(long, 2), ("short".to_owned(), 1)]);
    }
}
