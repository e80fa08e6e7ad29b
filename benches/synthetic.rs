//! A large project with nothing to do, and planned from scratch: images on one base for six
//! platforms, each with files of its own, a few of them with a program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::measure::{Run, Sample, children_cpu_secs, run};
use crate::no_op::again;
use crate::project::{folder, remove, reported, state, xstitch};
use crate::table::{Row, Target};

const RUNS: usize = 9;
/// Numbers of images whose costs are compared.
const IMAGES: [usize; 2] = [20, 200];
/// Those that Go's own standard library serves: nothing is downloaded for them.
const PLATFORMS: [&str; 6] =
    ["linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/riscv64", "linux/s390x"];
/// With 200 images that makes 10,000: 9,400 of images, 500 of programs, 100 of the base.
const FILES_PER_IMAGE: usize = 47;
const FILES_PER_PROGRAM: usize = 250;
const FILES_OF_BASE: usize = 100;
const IMAGES_PER_PROGRAM: usize = 100;

const NO_OP: Target = Target::AtMost(0.5);
const PLANNING: Target = Target::AtMost(1.0);
const MEGABYTES: Target = Target::AtMost(300.0);

/// What is known of one size.
struct Figures {
    no_op: Sample,
    no_op_cpu: f64,
    no_op_peak: Sample,
    planning: Sample,
    planning_peak: Sample,
}

/// Wall time and memory of both sizes, and how they compare.
pub fn measure() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut walls = Vec::new();
    for count in IMAGES {
        let project = write(count);
        eprintln!("  first build of {count} images; minutes where the cache is cold");
        let first = run(&mut xstitch(&project));
        let units = reported(&first.stdout, "units_run");
        let note = format!("{units} units ran in {:.1} s", first.wall_secs);
        let of = figures(&project);
        walls.push((of.no_op.median, of.planning.median));
        let held = |row: Row, target| if count == IMAGES[1] { row.held_to(target) } else { row };
        let title = |what: &str| format!("{count} images, {what}");
        rows.extend([
            held(Row::new(title("nothing changed, wall"), of.no_op, "s").note(note), NO_OP),
            Row::new(title("nothing changed, CPU"), Sample::of([of.no_op_cpu]), "s")
                .note(format!("mean of {RUNS} runs, with children")),
            held(Row::new(title("nothing changed, peak memory"), of.no_op_peak, "MB"), MEGABYTES),
            held(Row::new(title("planning from scratch, wall"), of.planning, "s"), PLANNING),
            held(Row::new(title("planning, peak memory"), of.planning_peak, "MB"), MEGABYTES),
        ]);
    }
    let [small, large] = walls[..] else { return rows };
    let linear = Target::AtMost(IMAGES[1] as f64 / IMAGES[0] as f64);
    for (what, ratio) in
        [("nothing changed", large.0 / small.0), ("planning from scratch", large.1 / small.1)]
    {
        let title = format!("{} images / {} images, {what}", IMAGES[1], IMAGES[0]);
        rows.push(Row::new(title, Sample::of([ratio]), "x").held_to(linear));
    }
    rows
}

fn figures(project: &Path) -> Figures {
    again(project);
    let before = children_cpu_secs();
    let runs: Vec<Run> = (0..RUNS).map(|_| again(project)).collect();
    let no_op_cpu = (children_cpu_secs() - before) / RUNS as f64;
    let plans: Vec<Run> = (0..RUNS).map(|_| plan_from_scratch(project)).collect();
    let walls = |runs: &[Run]| Sample::of(runs.iter().map(|run| run.wall_secs));
    let peaks = |runs: &[Run]| Sample::of(runs.iter().map(|run| run.peak_bytes as f64 / 1e6));
    Figures {
        no_op: walls(&runs),
        no_op_cpu,
        no_op_peak: peaks(&runs),
        planning: walls(&plans),
        planning_peak: peaks(&plans),
    }
}

/// `plan` after all that was remembered of the project is removed: every source is read. The
/// lock file is there.
fn plan_from_scratch(project: &Path) -> Run {
    remove(&state(project));
    run(xstitch(project).args(["plan", "--offline", "--locked"]))
}

/// Writes the project, always at the same place, with the same content.
fn write(count: usize) -> PathBuf {
    let project = folder(&format!("synthetic-{count}"));
    if project.join("images.toml").is_file() {
        return project;
    }
    remove(&project);
    let platforms: Vec<String> = PLATFORMS.iter().map(|name| format!("\"{name}\"")).collect();
    let mut text = format!(
        "[project]\nname = \"synthetic\"\nplatforms = [{}]\nversion = \"1\"\n\n\
         [image.base]\nfrom = \"scratch\"\nfiles = [{{ from = \"base\", to = \"/usr/share/base\" }}]\n\
         publish = false\n",
        platforms.join(", ")
    );
    files(&project.join("base"), FILES_OF_BASE, "txt");
    for image in 0..count {
        let own = project.join(format!("content/{image}"));
        files(&own, FILES_PER_IMAGE, "txt");
        text.push_str(&format!(
            "\n[image.image-{image}]\nfrom = \"base\"\n\
             files = [{{ from = \"content/{image}\", to = \"/srv/{image}\" }}]\n"
        ));
        if image % IMAGES_PER_PROGRAM == 0 {
            program(&project.join(format!("programs/{image}")), image);
            text.push_str(&format!("go = \"programs/{image}\"\n"));
        }
    }
    fs::write(project.join("images.toml"), text).unwrap();
    project
}

fn files(folder: &Path, count: usize, extension: &str) {
    for file in 0..count {
        let place = folder.join(format!("part-{}", file % 5));
        fs::create_dir_all(&place).unwrap();
        let line = format!("{} {file}\n", folder.file_name().unwrap().display());
        fs::write(place.join(format!("file-{file}.{extension}")), line.repeat(64)).unwrap();
    }
}

/// A module of many files that needs nothing but the run time.
fn program(folder: &Path, image: usize) {
    fs::create_dir_all(folder).unwrap();
    let module = format!("module example.org/program-{image}\n\ngo 1.21\n");
    fs::write(folder.join("go.mod"), module).unwrap();
    fs::write(folder.join("main.go"), "package main\n\nfunc main() { println(file2()) }\n")
        .unwrap();
    for file in 2..FILES_PER_PROGRAM {
        let text = format!("package main\n\nfunc file{file}() int {{ return {image} + {file} }}\n");
        fs::write(folder.join(format!("file{file}.go")), text).unwrap();
    }
}
