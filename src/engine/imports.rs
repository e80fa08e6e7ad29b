//! Units of bases that others made: a layer taken and summarised, the whole checked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::Path;

use super::Engine;
use super::base_content::BaseContent;
use super::execute::{UnitError, text};
use super::pack::{LAYER_BLOB, LAYER_FACTS, LAYER_SUMMARY, read, tree, write};
use crate::archive::compression::{Compression, Encoder, decoder, extension};
use crate::gate;
use crate::image::document::layer_type;
use crate::image::imported::{Joined, Paths, import};
use crate::image::layer::PackedLayer;
use crate::image::places::Places;
use crate::image::summary::LayerSummary;
use crate::model::action::ImportAction;
use crate::model::base::BaseLayer;
use crate::model::{Hasher, Platform};
use crate::store::{Record, hash_file};
use crate::toolchain::description::by_platform;

const PATHS: &str = "paths.json";
const TITLE: &str = "title";
const PLACES: &str = "places.json";

/// Passes bytes on and hashes them.
struct Hashing<R> {
    reader: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

/// Leaves the layer's blob and what it holds in `out`. Memory does not grow with it.
pub fn layer(
    engine: &Engine,
    action: &ImportAction,
    threads: usize,
    scratch: &Path,
    out: &Path,
) -> Result<(), UnitError> {
    let BaseLayer { digest, size_bytes, media_type, diff_id } = &action.layer;
    let origin = action.origin.as_ref().ok_or("the layer comes from nowhere")?;
    let blob = out.join(LAYER_BLOB);
    let content = BaseContent::new(engine, origin);
    content.blob((digest, *size_bytes), &blob)?;
    let blame = |why: String| format!("layer {digest} of {origin}: {why}");
    let (media_type, compression) = layer_type(media_type).map_err(blame)?;
    let mut start = Vec::new();
    fs::File::open(&blob).map_err(text)?.take(6).read_to_end(&mut start).map_err(text)?;
    if extension(&start) != compression {
        let why = format!("its media type says `{media_type}`, its bytes are something else");
        return Err(blame(why).into());
    }
    let file = io::BufReader::with_capacity(1 << 18, fs::File::open(&blob).map_err(text)?);
    let reader = decoder(compression, file).map_err(|error| blame(error.to_string()))?;
    let mut reader = Hashing { reader, hasher: Hasher::new() };
    let (summary, paths) =
        import(&mut reader, *size_bytes, scratch).map_err(|error| blame(error.to_string()))?;
    let (found, _) = reader.hasher.finish();
    if found != *diff_id {
        let why = format!("its archive has the digest {found}, the configuration says {diff_id}");
        return Err(blame(why).into());
    }
    let mut packed = PackedLayer {
        digest: *digest,
        diff_id: *diff_id,
        size_bytes: *size_bytes,
        media_type,
        title: format!("base layer {}", digest.short()),
        imported: true,
    };
    if let Some(compression) = &action.compression {
        let compression: Compression = compression.parse()?;
        compress(&blob, compression, threads)
            .map_err(|error| format!("cannot compress the layer: {error}"))?;
        (packed.digest, packed.size_bytes) = hash_file(&blob).map_err(text)?;
        packed.media_type = format!("{}+{compression}", packed.media_type);
    }
    write(&out.join(LAYER_FACTS), &serde_json::to_vec(&packed).map_err(text)?)?;
    write(&out.join(LAYER_SUMMARY), &serde_json::to_vec(&summary).map_err(text)?)?;
    write(&out.join(PATHS), &serde_json::to_vec(&paths).map_err(text)?)?;
    Ok(())
}

fn compress(blob: &Path, compression: Compression, threads: usize) -> io::Result<()> {
    let plain = blob.with_extension("tar");
    fs::rename(blob, &plain)?;
    let out = io::BufWriter::with_capacity(1 << 20, fs::File::create(blob)?);
    let mut encoder = Encoder::new(out, compression, threads);
    io::copy(&mut fs::File::open(&plain)?, &mut encoder)?;
    encoder.finish()?.flush()?;
    fs::remove_file(plain)
}

/// What the layers of a base leave once each lies on the ones below.
pub fn joined(engine: &Engine, layers: &[Record]) -> Result<Joined, String> {
    let mut joined = Joined::default();
    for record in layers {
        let place = tree(engine, record);
        let summary: LayerSummary = read(&place.join(LAYER_SUMMARY))?;
        let paths: Paths = read(&place.join(PATHS))?;
        joined.add(&summary, &paths);
    }
    Ok(joined)
}

/// Checks a base and leaves what its layers have together.
pub fn check(
    engine: &Engine,
    name: &str,
    platform: &Platform,
    needs: &[Record],
    out: &Path,
) -> Result<(), String> {
    let target = by_platform(platform).ok_or_else(|| format!("no target for {platform}"))?;
    let joined = joined(engine, needs)?;
    let findings = gate::base::check(name, &joined.summary, &joined.broken, target);
    if !findings.is_empty() {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        return Err(findings.join("\n"));
    }
    write(&out.join(LAYER_SUMMARY), &serde_json::to_vec(&joined.summary).map_err(text)?)?;
    let paths = Paths { texts: joined.growing(), ..joined.all };
    write(&out.join(PATHS), &serde_json::to_vec(&paths).map_err(text)?)?;
    write(&out.join(TITLE), format!("base {name}").as_bytes())
}

/// The title of what [`check`] left; `None` for a layer.
pub fn base_title(engine: &Engine, record: &Record) -> Option<String> {
    fs::read_to_string(tree(engine, record).join(TITLE)).ok()
}

/// Leaves where folders are on the base that the only need joined, and the files that
/// packages add lines to where they are asked for.
pub fn places(
    engine: &Engine,
    (folders, texts): (&[String], bool),
    needs: &[Record],
    out: &Path,
) -> Result<(), String> {
    let place = needs.first().map(|need| tree(engine, need)).ok_or("there is no base")?;
    let summary = read(&place.join(LAYER_SUMMARY))?;
    let all: Paths = read(&place.join(PATHS))?;
    let texts = if texts { all.texts.clone() } else { BTreeMap::new() };
    let joined = Joined { summary, all, broken: Vec::new() };
    let places = Places { texts, ..Places::of(&joined, folders) };
    write(&out.join(PLACES), &serde_json::to_vec(&places).map_err(text)?)
}

/// What [`places`] left.
pub fn read_places(engine: &Engine, record: &Record) -> Result<Places, String> {
    read(&tree(engine, record).join(PLACES))
}
