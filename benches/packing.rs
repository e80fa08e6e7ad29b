//! Packing a layer on two threads, beside programs and libraries that use one.
//!
//! Packing is the whole job (reading files, tar, both digests, compression, writing); the
//! peers compress a tar archive that is there already.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xstitch::archive::compression::{Compression, decoder};
use xstitch::image::filesystem::Filesystem;
use xstitch::image::layer;

use crate::measure::{Sample, Timed, time};
use crate::project::{elf_files, folder, remove};
use crate::table::{Row, Target};

/// Runs that count, and how many are tried to find as many quiet ones.
const RUNS: usize = 5;
const ROUNDS_AT_MOST: usize = 12;
/// Share of the machine that others may use in a quiet run. Two threads can only be twice
/// as fast as one where there are two free cores.
const QUIET: f64 = 0.1;
const THREADS: usize = 2;
const INPUT_BYTES: u64 = 200_000_000;
const TARGET: Target = Target::AtLeast(1.8);

/// What takes part, by name, with a time for each round.
struct Contender {
    name: String,
    work: Box<dyn Fn()>,
    times: Vec<Timed>,
}

impl Contender {
    fn new(name: impl Into<String>, work: impl Fn() + 'static) -> Self {
        Self { name: name.into(), work: Box::new(work), times: Vec::new() }
    }

    fn rate(&self, bytes: u64) -> Row {
        let runs = quietest(self.times.iter().map(|time| (time.others, *time)));
        let sample = |of: &dyn Fn(&Timed) -> f64| Sample::of(runs.iter().map(of));
        let rates = sample(&|time| bytes as f64 / 1e6 / time.wall_secs);
        let cpu = sample(&|time| time.cpu_secs).median;
        let others = sample(&|time| time.others).median * 100.0;
        Row::new(&self.name, rates, "MB/s").note(format!("{cpu:.2} CPU s; others {others:.0} %"))
    }

    /// How many times as fast as `peer` this is, from runs of the same round.
    fn ratio(&self, peer: &Self) -> Row {
        let pairs = self.times.iter().zip(&peer.times);
        let pairs = quietest(pairs.map(|(own, peer)| (own.others.max(peer.others), (own, peer))));
        let sample =
            |of: &dyn Fn(&Timed, &Timed) -> f64| Sample::of(pairs.iter().map(|(a, b)| of(a, b)));
        let ratios = sample(&|own, peer| peer.wall_secs / own.wall_secs);
        let cpu = sample(&|own, peer| own.cpu_secs / peer.cpu_secs).median;
        let others = sample(&|own, peer| own.others.max(peer.others)).median * 100.0;
        Row::new(format!("{} / {}", self.name, peer.name), ratios, "x")
            .note(format!("{cpu:.2} times its CPU s; others {others:.0} %"))
    }
}

/// Those during which others used least. Chosen by that alone, never by the result.
fn quietest<T>(runs: impl Iterator<Item = (f64, T)>) -> Vec<T> {
    let mut runs: Vec<(f64, T)> = runs.collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs.into_iter().take(RUNS).map(|(_, run)| run).collect()
}

/// Rates and ratios.
pub fn measure() -> Vec<Row> {
    let place = folder("packing");
    remove(&place);
    fs::create_dir_all(&place).unwrap();
    let mut files = Filesystem::default();
    let mut bytes = 0;
    for (name, path, size) in elf_files(INPUT_BYTES) {
        bytes += size;
        files.add_file(&name, path, 0o755);
    }
    files.add_parents();
    let archive = place.join("layer.tar");
    write_archive(&files, &archive, &place);
    eprintln!("  {} ELF files, {} MB", files.nodes.len(), bytes / 1_000_000);

    let ours = |compression, threads| {
        let (files, out) = (files.clone(), place.join("packed"));
        let name = format!("layer, {compression}, {threads} threads");
        Contender::new(name, move || pack(&files, compression, threads, &out))
    };
    let mut contenders = vec![
        ours(Compression::Gzip, THREADS),
        library(&archive, &place),
        ours(Compression::Zstd, THREADS),
    ];
    let mut rows = Vec::new();
    for (name, arguments) in [("gzip", ["-6", "-c"].as_slice()), ("zstd", &["-3", "-T1", "-c"])] {
        let title = format!("{name} {}", arguments[0]);
        if Command::new(name).arg("--version").output().is_ok() {
            contenders.push(program(&title, name, arguments, &archive, &place));
        } else {
            rows.push(Row::skipped(title, "it is not installed"));
        }
    }
    compete(&mut contenders);
    rows.extend(contenders.iter().map(|contender| contender.rate(bytes)));
    let [gzip, library, zstd, programs @ ..] = &contenders[..] else { return rows };
    rows.push(gzip.ratio(library).held_to(TARGET));
    for peer in programs.iter().filter(|peer| peer.name.starts_with("gzip")) {
        rows.push(gzip.ratio(peer).held_to(TARGET));
        rows.push(zstd.ratio(peer).held_to(TARGET));
    }
    rows.push(zstd.ratio(library).held_to(TARGET));
    for peer in programs.iter().filter(|peer| peer.name.starts_with("zstd")) {
        rows.push(zstd.ratio(peer));
    }
    remove(&place);
    rows
}

/// Lets all take part in each round, until enough rounds were quiet for the first two.
fn compete(contenders: &mut [Contender]) {
    // The first round warms caches.
    contenders.iter().for_each(|contender| (contender.work)());
    let mut quiet = 0;
    for _ in 0..ROUNDS_AT_MOST {
        for contender in contenders.iter_mut() {
            let timed = time(&contender.work);
            contender.times.push(timed);
        }
        let of_round = contenders.iter().take(2).filter_map(|contender| contender.times.last());
        quiet += usize::from(of_round.clone().all(|timed| timed.others <= QUIET));
        if quiet >= RUNS {
            return;
        }
    }
}

fn pack(files: &Filesystem, compression: Compression, threads: usize, out: &Path) {
    let out = fs::File::create(out).unwrap();
    layer::pack(files, "layer", compression, threads, 0, out).unwrap();
}

/// The layer's archive, as the peers read it.
fn write_archive(files: &Filesystem, archive: &Path, place: &Path) {
    let packed = place.join("packed");
    pack(files, Compression::Zstd, THREADS, &packed);
    let mut reader = decoder(".zst", fs::File::open(&packed).unwrap()).unwrap();
    io::copy(&mut reader, &mut fs::File::create(archive).unwrap()).unwrap();
}

/// One stream through the library that layers use, on one thread.
fn library(archive: &Path, place: &Path) -> Contender {
    let (archive, out) = (archive.to_owned(), place.join("library"));
    Contender::new("flate2 and zlib-rs, level 6, one stream", move || {
        let out = BufWriter::with_capacity(1 << 20, fs::File::create(&out).unwrap());
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(6));
        let mut reader = io::BufReader::with_capacity(1 << 20, fs::File::open(&archive).unwrap());
        io::copy(&mut reader, &mut encoder).unwrap();
        encoder.finish().unwrap().flush().unwrap();
    })
}

/// A program that writes to standard output.
fn program(
    title: &str,
    name: &'static str,
    arguments: &'static [&'static str],
    archive: &Path,
    place: &Path,
) -> Contender {
    let (archive, out): (PathBuf, PathBuf) = (archive.to_owned(), place.join(name));
    Contender::new(title, move || {
        let out = fs::File::create(&out).unwrap();
        let mut command = Command::new(name);
        command.args(arguments).arg(&archive).stdin(Stdio::null()).stdout(out);
        assert!(command.status().unwrap().success(), "{command:?} failed");
    })
}
