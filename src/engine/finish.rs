//! What a plan gives: its explanation, or results, a layout of them and a report.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::build::Prepared;
use super::explain::Explainer;
use super::history::History;
use super::report::{BuildError, ImageReport, Report, UnitReport};
use super::schedule::{self, Outcome, Purpose};
use super::{Engine, cache, compiler_state, pack, probe_report};
use crate::image::layer::PackedLayer;
use crate::image::manifest::{CONFIG, Descriptor, INDEX};
use crate::model::event::Event;
use crate::model::{Digest, Platform};
use crate::release::layout::{self, Entry};
use crate::store::{Record, StoreError, write_atomically};

/// What is known of layers, each read once: many images have the same.
struct Layers<'a> {
    engine: &'a Engine,
    known: RefCell<BTreeMap<Digest, PackedLayer>>,
}

impl<'a> Layers<'a> {
    fn new(engine: &'a Engine) -> Self {
        Self { engine, known: RefCell::default() }
    }

    fn packed(&self, record: &Record) -> Result<PackedLayer, String> {
        if let Some(packed) = self.known.borrow().get(&record.output) {
            return Ok(packed.clone());
        }
        let packed = pack::packed(self.engine, record)?;
        self.known.borrow_mut().insert(record.output, packed.clone());
        Ok(packed)
    }
}

impl Prepared {
    /// An error, where the plan lacks images whose bases cannot be had.
    pub fn whole(&self) -> Result<(), BuildError> {
        BuildError::unless_none(&self.set_aside, Vec::new())
    }

    /// Runs the plan and writes the layout.
    pub fn build(&self) -> Result<Report, BuildError> {
        let explainer = Explainer::new(&self.engine, &self.plan, &self.facts);
        let tell = |index: usize, outputs: &[Digest], key: &Digest| {
            let outputs: Vec<Option<Digest>> = outputs.iter().copied().map(Some).collect();
            explainer.reasons(index, &outputs, Some(key)).0
        };
        let is_proven = |outcome: &Outcome| self.is_proven(outcome);
        let layers = self.plan.images.iter().flat_map(|image| &image.platforms);
        let read: BTreeSet<usize> = layers
            .flat_map(|(_, manifest, layers)| layers.iter().chain([manifest]).copied())
            .collect();
        let reads = |unit: usize| read.contains(&unit);
        let purpose = Purpose { tell: &tell, reads: &reads, is_whole: &is_proven };
        let mut outcome = schedule::run_for(&self.engine, &self.plan, purpose);
        let history = History::new(&self.engine.project_state);
        if let Err(error) = history.keep(&self.plan, &self.facts, &outcome, self.is_whole) {
            let text = format!("`plan` will not know why units run: {error}");
            self.engine.tell(Event::Warning { text });
        }
        if outcome.interrupted {
            return Err(BuildError::Interrupted);
        }
        BuildError::unless_none(&self.set_aside, std::mem::take(&mut outcome.failures))?;
        let output = |error: String| {
            BuildError::Output(format!("cannot write {}: {error}", self.output.display()))
        };
        let probes = probe_report::collect(&self.engine, &self.plan, &outcome, &self.facts.project);
        probes.tell(&self.engine, &self.plan, &outcome);
        let attempts = probes.failures();
        if self.facts.project.strict && !attempts.is_empty() {
            return Err(BuildError::Units(attempts));
        }
        let mut blobs: BTreeMap<Digest, (u64, PathBuf)> = BTreeMap::new();
        let mut entries = Vec::new();
        let mut reports = Vec::new();
        let mut counted = BTreeSet::new();
        let packed = Layers::new(&self.engine);
        for image in self.plan.images.iter().filter(|image| image.publish) {
            let Some(index) = image.index else { continue };
            let mut total = 0;
            let first = reports.len();
            for (platform, manifest, layers) in &image.platforms {
                let layers = &of_content(&packed, &outcome, layers).map_err(output)?;
                let place = (image.name.as_str(), platform);
                let mut report = self
                    .collect(&outcome, place, *manifest, (layers, &packed), &mut blobs)
                    .map_err(output)?;
                let new = layers.iter().filter(|layer| outcome.ran.contains_key(layer));
                report.layers_new = new.filter(|layer| counted.insert(**layer)).count();
                report.layers_shared = layers.len() - report.layers_new;
                total += report.size_bytes;
                reports.push(report);
            }
            let file = self.file(&outcome, index, pack::INDEX_BLOB);
            let bytes = fs::read(&file).map_err(|error| output(error.to_string()))?;
            let descriptor = Descriptor::of(INDEX, &bytes);
            blobs.insert(descriptor.digest, (descriptor.size_bytes, file));
            let platforms = reports[first..].iter();
            let report = ImageReport {
                image: image.name.clone(),
                platform: None,
                digest: descriptor.digest,
                size_bytes: total,
                layers_new: platforms.clone().map(|report| report.layers_new).sum(),
                layers_shared: platforms.map(|report| report.layers_shared).sum(),
                time_ms: 0,
            };
            reports.push(report);
            for tag in self.facts.tags() {
                entries.push(Entry {
                    name: self.facts.reference(&image.name, &tag),
                    reference: format!("{}:{tag}", image.name),
                    index: descriptor.clone(),
                });
            }
        }
        let written = self.write(&entries, &blobs).map_err(|error| output(error.to_string()))?;
        self.settle(&outcome);
        let report_file = self.output.with_extension("probes.json");
        probes.write(&report_file).map_err(BuildError::Output)?;
        Ok(Report {
            version: 1,
            layout: self.output.clone(),
            images: reports,
            ran: self.ran(&outcome),
            units_run: outcome.ran.len(),
            units_cached: outcome.records.len() - outcome.ran.len(),
            remote: self.engine.remote.as_ref().map(|remote| remote.report(outcome.remote.len())),
            written,
            probes: report_file,
            probe_differences: probes.builds.values().map(|build| build.differences.len()).sum(),
            attempts: attempts.len(),
            elapsed_ms: milliseconds(self.started.elapsed()),
        })
    }

    /// Whether what goes into the layout is what its records say. Layers that the layout has
    /// already were looked at when it was written.
    fn is_proven(&self, outcome: &Outcome) -> Result<bool, StoreError> {
        let mut whole = true;
        let packed = Layers::new(&self.engine);
        let images = self.plan.images.iter().filter(|image| image.publish);
        let mut seen = BTreeSet::new();
        for (_, manifest, layers) in images.flat_map(|image| &image.platforms) {
            for &unit in layers.iter().chain([manifest]) {
                let Some(record) = outcome.records.get(&unit) else { continue };
                if !seen.insert(unit) {
                    continue;
                }
                let is_there = unit != *manifest
                    && packed.packed(record).is_ok_and(|packed| {
                        let file = self.file(outcome, unit, pack::LAYER_BLOB);
                        layout::has(&self.output, &packed.digest, &file)
                    });
                whole &= schedule::prove(&self.engine, &self.plan, unit, record, !is_there)?;
            }
        }
        Ok(whole)
    }

    /// Writes the layout. What is there was written before the machine was started again, if
    /// nothing says otherwise.
    fn write(
        &self,
        entries: &[Entry],
        blobs: &BTreeMap<Digest, (u64, PathBuf)>,
    ) -> std::io::Result<bool> {
        let memory = self.engine.project_state.join("layout");
        let stamp = format!("{}\n{}\n", self.engine.store.boot(), self.output.display());
        let trusted = fs::read_to_string(&memory).is_ok_and(|there| there == stamp);
        let written = layout::write(&self.output, entries, blobs, trusted)?;
        if !trusted {
            // Without, it is only read again.
            let _ = write_atomically(&memory, stamp.as_bytes());
        }
        Ok(written)
    }

    /// Counts the build for the project, and keeps what compilers keep.
    fn settle(&self, outcome: &Outcome) {
        cache::count(&self.engine, outcome);
        let states = outcome
            .ran
            .iter()
            .filter_map(|(&unit, elapsed)| Some((self.plan.units[unit].state()?, *elapsed)));
        compiler_state::settle(&self.engine, &states.collect::<Vec<_>>());
    }

    /// The units that ran, in the order of the plan.
    fn ran(&self, outcome: &Outcome) -> Vec<UnitReport> {
        let ran = outcome.ran.iter().map(|(index, time)| UnitReport {
            unit: self.plan.units[*index].name.clone(),
            time_ms: milliseconds(*time),
            reasons: outcome.reasons.get(index).cloned().unwrap_or_default(),
        });
        ran.collect()
    }

    fn file(&self, outcome: &Outcome, unit: usize, name: &str) -> PathBuf {
        self.engine.store.tree_path(&outcome.records[&unit].output).join(name)
    }

    /// Adds the blobs of one image on one platform, and reports it.
    fn collect(
        &self,
        outcome: &Outcome,
        (image, platform): (&str, &Platform),
        manifest: usize,
        (layers, packed): (&[usize], &Layers<'_>),
        blobs: &mut BTreeMap<Digest, (u64, PathBuf)>,
    ) -> Result<ImageReport, String> {
        let mut size_bytes = 0;
        for &layer in layers {
            let packed = packed.packed(&outcome.records[&layer])?;
            size_bytes += packed.size_bytes;
            let file = self.file(outcome, layer, pack::LAYER_BLOB);
            blobs.insert(packed.digest, (packed.size_bytes, file));
        }
        let mut digest = Digest::of(b"");
        for (name, media_type) in [(pack::CONFIG_BLOB, CONFIG), (pack::MANIFEST_BLOB, "")] {
            let file = self.file(outcome, manifest, name);
            let bytes = fs::read(&file).map_err(|error| error.to_string())?;
            let descriptor = Descriptor::of(media_type, &bytes);
            digest = descriptor.digest;
            blobs.insert(digest, (descriptor.size_bytes, file));
        }
        let time = self.time_below(outcome, manifest);
        Ok(ImageReport {
            image: image.to_owned(),
            platform: Some(platform.clone()),
            digest,
            size_bytes,
            layers_new: 0,
            layers_shared: layers.len(),
            time_ms: milliseconds(time),
        })
    }

    /// How long the units took that ran for a unit, with it.
    fn time_below(&self, outcome: &Outcome, unit: usize) -> Duration {
        let mut time = Duration::ZERO;
        if outcome.ran.is_empty() {
            return time;
        }
        let mut seen = BTreeSet::from([unit]);
        let mut open = vec![unit];
        while let Some(unit) = open.pop() {
            time += outcome.ran.get(&unit).copied().unwrap_or_default();
            let needs = self.plan.units[unit].needs.iter();
            open.extend(needs.filter(|need| seen.insert(**need)));
        }
        time
    }
}

/// The layers that an image has: those that hold something.
fn of_content(
    packed: &Layers<'_>,
    outcome: &Outcome,
    layers: &[usize],
) -> Result<Vec<usize>, String> {
    let mut kept = Vec::new();
    for &layer in layers {
        if !packed.packed(&outcome.records[&layer])?.is_empty() {
            kept.push(layer);
        }
    }
    Ok(kept)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
