//! One line of the example's Go service changed, to a finished index of both platforms; beside
//! what cannot be saved: `go build` for each platform from a warm cache, and packing the two
//! programs.

use std::fs;
use std::path::Path;
use std::process::Command;

use xstitch::archive::compression::Compression;
use xstitch::image::filesystem::Filesystem;
use xstitch::image::layer;

use crate::measure::{Load, Run, Sample, cores, run, time};
use crate::no_op;
use crate::project::{Planned, copy, folder, remove, reported, xstitch};
use crate::table::{Row, Target};

const ROUNDS: usize = 7;
/// More than go's own time and that of packing.
const MORE: Target = Target::AtMost(0.15);
const MEGABYTES: Target = Target::AtMost(150.0);
const SERVICE: &str = "services/vault";
const LINE: &str = "const shutdownTimeout = 10 * time.Second\n";

/// Wall times, and what is left of ours without the peer's.
pub fn measure() -> Vec<Row> {
    let (project, _) = no_op::built();
    let planned = Planned::of(&project);
    let go = planned.facts.binaries["vault"].go.as_ref().unwrap().root.join("bin/go");
    let modules = &planned.trees[&format!("modules of {SERVICE}/go.mod")];
    let place = folder("changed");
    remove(&place);
    fs::create_dir_all(&place).unwrap();
    // Nobody but the store writes in its trees.
    run(Command::new("cp").arg("-a").arg(modules).arg(place.join("modules")));
    let peer = place.join("vault");
    copy(&project.join(SERVICE), &peer);
    let build = |architecture: &str| {
        let mut command = Command::new(&go);
        command
            .args(["build", "-trimpath", "-buildvcs=false"])
            .args(["-ldflags", "-buildid= -s -w -X main.version=1.0.0", "-o"])
            .arg(place.join(architecture))
            .arg(".")
            .current_dir(&peer)
            .env_clear()
            .envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C"), ("CGO_ENABLED", "0")])
            .envs([("GOENV", "off"), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")])
            .envs([("GOTELEMETRY", "off"), ("GOWORK", "off"), ("GOFLAGS", "")])
            .env("GOARCH", architecture)
            .env("GOMODCACHE", place.join("modules"))
            .env("HOME", &place)
            .env("GOCACHE", place.join("cache"))
            .env("GOPATH", place.join("path"));
        run(&mut command).wall_secs
    };
    let pack = |architecture: &str| {
        let mut files = Filesystem::default();
        files.add_file("usr/local/bin/vault", place.join(architecture), 0o755);
        files.add_parents();
        let out = fs::File::create(place.join("layer")).unwrap();
        layer::pack(&files, "layer", Compression::Gzip, cores(), 0, out).unwrap();
    };
    let (mut ours, mut compiled, mut packed, mut more, mut others) =
        (vec![], vec![], vec![], vec![], vec![]);
    // The first round warms caches.
    for round in 0..=ROUNDS {
        edit(&project.join(SERVICE), round);
        edit(&peer, round);
        let load = Load::start();
        let own = run(&mut xstitch(&project));
        let ran = reported(&own.stdout, "units_run").as_u64().unwrap();
        let peer_secs = build("amd64") + build("arm64");
        let packing = time(|| ["amd64", "arm64"].into_iter().for_each(pack)).wall_secs;
        if round > 0 {
            // Two programs, their layers, checks and manifests, one index.
            assert!((7..=9).contains(&ran), "{ran} units ran");
            others.push(load.others() * 100.0);
            more.push(own.wall_secs - peer_secs - packing);
            compiled.push(peer_secs);
            packed.push(packing);
            ours.push(own);
        }
    }
    remove(&place);
    let secs =
        |measure: &str, values: &[f64]| Row::new(measure, Sample::of(values.iter().copied()), "s");
    let of = |of: fn(&Run) -> f64| ours.iter().map(of).collect::<Vec<f64>>();
    let others = format!("others {:.0} %", Sample::of(others).median);
    vec![
        secs("one line of vault changed, to the index, wall", &of(|run| run.wall_secs))
            .note(others),
        secs("`go build` for both platforms, without us, wall", &compiled),
        secs("packing both programs, wall", &packed),
        secs("what is left of ours", &more).held_to(MORE),
        Row::new("peak memory", Sample::of(of(|run| run.peak_bytes as f64 / 1e6)), "MB")
            .held_to(MEGABYTES),
    ]
}

/// Makes a line another than it was, so that the program is another too.
fn edit(service: &Path, round: usize) {
    let file = service.join("main.go");
    let text = fs::read_to_string(&file).unwrap();
    let (now, line) = (std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos(), LINE.trim_end());
    let start = line.split('=').next().unwrap();
    let lines = text.lines().map(|old| match old.starts_with(start) {
        true => format!("{start}= {} * time.Nanosecond", now + round as u128),
        false => old.to_owned(),
    });
    let text: Vec<String> = lines.collect();
    fs::write(file, text.join("\n") + "\n").unwrap();
}
