//! Peak memory of the program itself, without its children.

use std::fs;
use std::io;
use std::path::Path;

use crate::measure::{Run, Sample, run};
use crate::no_op;
use crate::project::{elf_files, folder, of_files, remove, reported, xstitch};
use crate::table::{Row, Target};

const RUNS: usize = 5;
const LARGE_FILE_BYTES: u64 = 640 << 20;
/// Of a layer that a base has. One run, because memory does not vary as time does.
const LARGE_BASE_BYTES: u64 = 2 << 30;
const TARGET: Target = Target::AtMost(150.0);

fn row(measure: &str, runs: &[Run]) -> Row {
    Row::new(measure, Sample::of(runs.iter().map(|run| run.peak_bytes as f64 / 1e6)), "MB")
        .held_to(TARGET)
}

/// With nothing to do, and with a layer to pack that holds one large ELF file.
pub fn measure() -> Vec<Row> {
    let (project, _) = no_op::built();
    let mut rows = Vec::new();
    let runs: Vec<Run> = (0..RUNS).map(|_| no_op::again(&project)).collect();
    rows.push(row("example, nothing to do", &runs));

    let project = folder("large-file");
    remove(&project);
    fs::create_dir_all(&project).unwrap();
    write_large_file(&project.join("large.elf"), LARGE_FILE_BYTES);
    let megabytes = LARGE_FILE_BYTES >> 20;
    for compression in ["gzip", "zstd"] {
        of_files(&project, compression, &[("large.elf".into(), "/large.elf".into())]);
        let runs: Vec<Run> = (0..RUNS).map(|_| pack(&project)).collect();
        let wall = Sample::of(runs.iter().map(|run| run.wall_secs)).median;
        rows.push(
            row(&format!("layer of one {megabytes} MiB file, {compression}"), &runs)
                .note(format!("{wall:.1} s")),
        );
    }
    remove(&project);
    rows.extend(large_base());
    rows
}

/// A layer of 2 GiB, packed, and taken over from a base.
fn large_base() -> Vec<Row> {
    let (below, above) = (folder("large-base"), folder("large-on-base"));
    for folder in [&below, &above] {
        remove(folder);
        fs::create_dir_all(folder).unwrap();
    }
    write_large_file(&below.join("large.elf"), LARGE_BASE_BYTES);
    of_files(&below, "zstd", &[("large.elf".into(), "/large.elf".into())]);
    let packed = pack(&below);
    fs::rename(below.join("target/images"), above.join("base")).unwrap();
    remove(&below);
    fs::write(above.join("x"), "x").unwrap();
    of_files(&above, "zstd", &[("x".into(), "/x".into())]);
    let file = above.join("images.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("\"scratch\"", "{ layout = \"base\" }")).unwrap();
    let taken = pack(&above);
    remove(&above);
    let gibibytes = LARGE_BASE_BYTES >> 30;
    [("packed, zstd", packed), ("of a base, taken over", taken)]
        .into_iter()
        .map(|(what, run)| {
            let seconds = format!("{:.1} s", run.wall_secs);
            row(&format!("layer of {gibibytes} GiB {what}"), &[run]).note(seconds)
        })
        .collect()
}

/// A build with an empty cache, so that the layer is packed.
fn pack(project: &Path) -> Run {
    let cache = folder("large-file-cache");
    remove(&cache);
    remove(&project.join("target"));
    let run = run(xstitch(project).env("XSTITCH_CACHE", &cache));
    assert_ne!(reported(&run.stdout, "units_run"), 0, "nothing was packed");
    remove(&cache);
    run
}

/// ELF files one after the other: an ELF file by its header, and as compressible.
fn write_large_file(path: &Path, bytes: u64) {
    let files = elf_files(LARGE_FILE_BYTES / 4);
    let mut to = fs::File::create(path).unwrap();
    let mut left = bytes;
    for (_, file, _) in files.iter().cycle() {
        let mut from = io::Read::take(fs::File::open(file).unwrap(), left);
        left -= io::copy(&mut from, &mut to).unwrap();
        if left == 0 {
            return;
        }
    }
}
