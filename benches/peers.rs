//! A small job that every tool can do, three layers of files for each of two platforms: built
//! from nothing beside buildah, and built again with nothing changed beside all that are there.
//! And a program of Go for two platforms, beside ko.
//!
//! Peers start from what they keep themselves, with their own settings. What each leaves is in
//! the notes: some write no layout, and one does not compress.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::measure::{Run, Sample, run};
use crate::no_op::again;
use crate::project::{elf_files, folder, remove, reported, xstitch};
use crate::table::{Row, Target};

const ROUNDS: usize = 5;
const LAYERS: [&str; 3] = ["first", "second", "third"];
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];
const JOB_BYTES: u64 = 285_000_000;
const GZIP: Target = Target::AtLeast(4.0);
const ZSTD: Target = Target::AtLeast(8.0);
const MEGABYTES: Target = Target::AtMost(150.0);

/// What buildah and docker build.
const DOCKERFILE: &str = "FROM scratch\nARG TARGETARCH\nCOPY first/$TARGETARCH /opt/first\n\
     COPY second/$TARGETARCH /opt/second\nCOPY third/$TARGETARCH /opt/third\n";

/// To a layout, as ours. Arguments: its folder, the context.
const BUILDAH: &str = r#"set -e
b="buildah --root $1/root --runroot $1/run --storage-driver $3"
$b manifest rm job >/dev/null 2>&1 || true
for architecture in amd64 arm64; do
    $b bud -q --layers --isolation chroot --platform linux/$architecture \
        --build-arg TARGETARCH=$architecture -t job-$architecture -f "$2/Dockerfile" "$2" >/dev/null
done
$b manifest create job job-amd64 job-arm64 >/dev/null
rm -rf "$1/out"
$b manifest push -q --all job "oci:$1/out:job" >/dev/null
"#;

/// A tool that builds again what it has built.
struct Peer {
    name: &'static str,
    note: &'static str,
    job: Box<dyn Fn() -> f64>,
    times: Vec<f64>,
}

impl Peer {
    fn new(name: &'static str, note: &'static str, job: impl Fn() -> f64 + 'static) -> Self {
        Self { name, note, job: Box::new(job), times: Vec::new() }
    }
}

fn secs(measure: impl Into<String>, values: &[f64]) -> Row {
    Row::new(measure, Sample::of(values.iter().copied()), "s")
}

/// `peer / ours`, of neighbours.
fn ratio(measure: String, ours: &[f64], peer: &[f64]) -> Row {
    Row::new(measure, Sample::of(ours.iter().zip(peer).map(|(ours, peer)| peer / ours)), "x")
}

/// Times and ratios.
pub fn measure() -> Vec<Row> {
    let place = folder("peers");
    remove(&place);
    let layers = place.join("layers");
    write_layers(&layers);
    let mut rows = Vec::new();
    let driver = has("buildah").then(|| fastest_driver(&place, &layers));
    rows.extend(from_nothing(&place, &layers, driver));
    let server = Docker::start(&place.join("docker"));
    rows.extend(nothing_changed(&place, &layers, driver, server.as_ref()));
    drop(server);
    rows.extend(go_program(&place));
    remove(&place);
    rows
}

/// Packing everything.
fn from_nothing(place: &Path, layers: &Path, driver: Option<&str>) -> Vec<Row> {
    let [gzip, zstd] = ["gzip", "zstd"].map(|compression| project(place, layers, compression));
    let (mut ours, mut smaller, mut peaks, mut peers) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        for (project, walls) in [(&gzip, &mut ours), (&zstd, &mut smaller)] {
            let run = pack(project, &place.join("cache"));
            walls.push(run.wall_secs);
            peaks.push(run.peak_bytes as f64 / 1e6);
        }
        if let Some(driver) = driver {
            let folder = place.join("buildah");
            remove(&folder);
            peers.push(buildah(&folder, layers, driver));
        }
    }
    let mut rows = vec![
        secs("3 layers x 2 platforms, 285 MB, gzip, wall", &ours),
        secs("the same, zstd, wall", &smaller),
        Row::new("the same, peak memory", Sample::of(peaks), "MB").held_to(MEGABYTES),
    ];
    let Some(driver) = driver else {
        rows.push(Row::skipped("the same by buildah, gzip", "buildah is missing"));
        return rows;
    };
    rows.push(secs("the same by buildah, gzip, wall", &peers).note(format!("storage {driver}")));
    rows.push(ratio("buildah / xstitch, gzip".into(), &ours, &peers).held_to(GZIP));
    let title = "buildah, gzip / xstitch, zstd";
    rows.push(ratio(title.into(), &smaller, &peers).held_to(ZSTD));
    rows
}

/// Building again what is built.
fn nothing_changed(
    place: &Path,
    layers: &Path,
    driver: Option<&'static str>,
    docker: Option<&Docker>,
) -> Vec<Row> {
    let project = project(place, layers, "gzip");
    run(&mut xstitch(&project));
    let mut rows = Vec::new();
    let mut peers = Vec::new();
    if let Some(driver) = driver {
        let (folder, layers) = (place.join("buildah"), layers.to_owned());
        peers.push(Peer::new("buildah", "compresses anew, to a layout", move || {
            buildah(&folder, &layers, driver)
        }));
    } else {
        rows.push(Row::skipped("buildah, nothing changed", "it is missing"));
    }
    match docker {
        Some(docker) => {
            let of = |arguments: &'static [&str], kit, architectures: &'static [&str]| {
                let (socket, layers) = (docker.socket.clone(), layers.to_owned());
                move || docker_build(&socket, &layers, arguments, kit, architectures)
            };
            let note = "one platform: its classic builder makes no other; writes no layout";
            peers.push(Peer::new("docker", note, of(&["build"], "0", &ARCHITECTURES[..1])));
            let note = "two builds of one platform; write no layout";
            peers.push(Peer::new("docker, BuildKit", note, of(&["build"], "1", &ARCHITECTURES)));
            if docker.has_buildx {
                let build = of(&["buildx", "build"], "1", &ARCHITECTURES);
                peers.push(Peer::new("buildx", note, build));
            } else {
                let why = "docker's client has no such plugin";
                rows.push(Row::skipped("buildx, nothing changed", why));
            }
        }
        None => {
            for name in ["docker", "docker, BuildKit", "buildx"] {
                let title = format!("{name}, nothing changed");
                rows.push(Row::skipped(title, "dockerd or docker is missing, or does not start"));
            }
        }
    }
    if has("crane") {
        let (layers, out) = (layers.to_owned(), place.join("crane.tar"));
        let note = "keeps nothing: packs each time, to an archive for each platform";
        let archives = place.join("archives");
        write_archives(&layers, &archives);
        peers.push(Peer::new("crane append", note, move || crane(&archives, &out)));
    } else {
        rows.push(Row::skipped("crane, nothing changed", "it is not on PATH"));
    }
    let mut ours = Vec::new();
    // The first round fills what they keep.
    for round in 0..=ROUNDS {
        let own = again(&project).wall_secs;
        ours.extend((round > 0).then_some(own));
        for peer in &mut peers {
            let time = (peer.job)();
            peer.times.extend((round > 0).then_some(time));
        }
    }
    let mut all = vec![secs("3 layers x 2 platforms, nothing changed, wall", &ours)];
    for peer in &peers {
        all.push(
            secs(format!("{}, nothing changed, wall", peer.name), &peer.times).note(peer.note),
        );
        all.push(ratio(format!("{} / xstitch, nothing changed", peer.name), &ours, &peer.times));
    }
    all.extend(rows);
    all
}

/// A program of Go on a base of one file, built again.
fn go_program(place: &Path) -> Vec<Row> {
    let project = place.join("program");
    fs::create_dir_all(&project).unwrap();
    let write = |name: &str, text: &str| fs::write(project.join(name), text).unwrap();
    let text = "package main\n\nimport \"net/http\"\n\nfunc main() {\n\
                \thttp.ListenAndServe(\":8080\", http.NotFoundHandler())\n}\n";
    write("main.go", text);
    write("go.mod", "module example.org/program\n\ngo 1.21\n");
    write("base.txt", "a base\n");
    let text = "[project]\nname = \"program\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
                version = \"1\"\n\n[image.base]\nfrom = \"scratch\"\n\
                files = [{ from = \"base.txt\", to = \"/etc/base\" }]\n\n\
                [binary.program]\ngo = \".\"\n\n\
                [image.program]\nfrom = \"base\"\nbinaries = [\"program\"]\n";
    write("images.toml", text);
    run(&mut xstitch(&project));
    let title = "program of Go x 2 platforms, nothing changed, wall";
    if !["ko", "go", "crane"].into_iter().all(has) {
        let ours: Vec<f64> = (0..=ROUNDS).map(|_| again(&project).wall_secs).collect();
        let why = "ko, go or crane is not on PATH";
        return vec![secs(title, &ours), Row::skipped("ko, nothing changed", why)];
    }
    let registry = Registry::start(&project, place);
    let (mut ours, mut peers) = (vec![], vec![]);
    for round in 0..=ROUNDS {
        let own = again(&project).wall_secs;
        let mut ko = Command::new("ko");
        ko.args(["build", "--push=false", "--sbom=none", "--oci-layout-path"])
            .arg(place.join("ko"))
            .args(["--platform=linux/amd64,linux/arm64", "."])
            .current_dir(&project)
            .env("KO_DEFAULTBASEIMAGE", format!("{}/base:1", registry.address))
            .env("KO_DOCKER_REPO", format!("{}/program", registry.address))
            .env("KOCACHE", place.join("ko-cache"));
        let ko = run(&mut ko).wall_secs;
        if round > 0 {
            ours.push(own);
            peers.push(ko);
        }
    }
    vec![
        secs(title, &ours),
        secs("ko, nothing changed, wall", &peers)
            .note("to a layout, from its cache and go's; asks a registry on loopback for the base"),
        ratio("ko / xstitch, nothing changed".into(), &ours, &peers),
    ]
}

/// A registry with the base of a project.
struct Registry {
    server: Child,
    address: String,
}

impl Registry {
    fn start(project: &Path, place: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let server = Command::new("crane")
            .args(["registry", "serve", "--address", &address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { server, address };
        let answers = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(&registry.address).is_ok()
        });
        assert!(answers, "crane's registry does not start");
        // Pushed as it is, a layout becomes an index of indexes: its only image is its index.
        let layout = place.join("base");
        run(xstitch(project).arg("base").arg("--output").arg(&layout));
        let index = fs::read(layout.join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        let blob = layout.join("blobs/sha256").join(digest.replace("sha256:", ""));
        fs::copy(blob, layout.join("index.json")).unwrap();
        let mut push = Command::new("crane");
        push.args(["push", "--index"]).arg(&layout);
        run(push.arg(format!("{}/base:1", registry.address)));
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn has(program: &str) -> bool {
    let silent = |argument| {
        let mut command = Command::new(program);
        command.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    silent("version") || silent("--version")
}

/// Files of both platforms, as compressible as programs, and none of them one.
fn write_layers(to: &Path) {
    let files = elf_files(JOB_BYTES);
    let bytes: Vec<u8> = files.iter().flat_map(|(_, file, _)| fs::read(file).unwrap()).collect();
    let parts = LAYERS.len() * ARCHITECTURES.len() * 5;
    let mut parts = bytes[..JOB_BYTES as usize].chunks(JOB_BYTES as usize / parts);
    for architecture in ARCHITECTURES {
        for layer in LAYERS {
            let place = to.join(layer).join(architecture);
            fs::create_dir_all(&place).unwrap();
            for name in 0..5 {
                let mut part = parts.next().unwrap().to_owned();
                part[0] = b' ';
                fs::write(place.join(format!("file{name}")), part).unwrap();
            }
        }
    }
    fs::write(to.join("Dockerfile"), DOCKERFILE).unwrap();
}

/// Three images, each on the one before.
fn project(place: &Path, layers: &Path, compression: &str) -> PathBuf {
    let project = place.join(format!("project-{compression}"));
    fs::create_dir_all(&project).unwrap();
    let link = project.join("layers");
    if !link.exists() {
        run(Command::new("cp").arg("-a").arg(layers).arg(&link));
    }
    let mut text = format!(
        "[project]\nname = \"job\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
         version = \"1\"\ncompression = \"{compression}\"\n"
    );
    let mut base = "scratch";
    for layer in LAYERS {
        let publish = layer == LAYERS[2];
        text.push_str(&format!(
            "\n[image.{layer}]\nfrom = \"{base}\"\npublish = {publish}\n\
             files = [{{ from = \"layers/{layer}/{{arch}}\", to = \"/opt/{layer}\" }}]\n"
        ));
        base = layer;
    }
    fs::write(project.join("images.toml"), text).unwrap();
    project
}

/// A build with an empty cache.
fn pack(project: &Path, cache: &Path) -> Run {
    remove(cache);
    remove(&project.join("target"));
    let run = run(xstitch(project).env("XSTITCH_CACHE", cache));
    assert_ne!(reported(&run.stdout, "units_run"), 0, "nothing was packed");
    run
}

fn buildah(place: &Path, layers: &Path, driver: &str) -> f64 {
    fs::create_dir_all(place).unwrap();
    let mut job = Command::new("sh");
    job.args(["-c", BUILDAH, "sh"]).arg(place).arg(layers).arg(driver);
    run(&mut job).wall_secs
}

/// The faster of buildah's two ways to store.
fn fastest_driver(place: &Path, layers: &Path) -> &'static str {
    let of = |driver: &'static str| {
        let folder = place.join("buildah");
        remove(&folder);
        (buildah(&folder, layers, driver), driver)
    };
    let (vfs, overlay) = (of("vfs"), of("overlay"));
    if vfs.0 < overlay.0 { vfs.1 } else { overlay.1 }
}

fn docker_build(
    socket: &Path,
    layers: &Path,
    arguments: &[&str],
    kit: &str,
    architectures: &[&str],
) -> f64 {
    let of = |architecture: &&str| {
        let mut command = client();
        command.arg("-H").arg(format!("unix://{}", socket.display())).args(arguments);
        command.args(["-q", "--platform", &format!("linux/{architecture}")]);
        command.args(["--build-arg", &format!("TARGETARCH={architecture}")]);
        command.args(["-t", &format!("job-{kit}-{architecture}")]).arg(layers);
        run(command.env("DOCKER_BUILDKIT", kit)).wall_secs
    };
    architectures.iter().map(of).sum()
}

/// The distribution's client before any other: it fits the distribution's daemon.
fn client() -> Command {
    let own = Path::new("/usr/bin/docker");
    Command::new(if own.is_file() { own } else { Path::new("docker") })
}

/// A daemon of our own.
struct Docker {
    daemon: Child,
    socket: PathBuf,
    has_buildx: bool,
}

impl Docker {
    /// Nothing where there is none, or it does not start.
    fn start(place: &Path) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let socket = place.join("docker.sock");
        let log = fs::File::create(place.join("log")).unwrap();
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(place.join("root"))
            .arg("--exec-root")
            .arg(place.join("exec"))
            .arg("-p")
            .arg(place.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .ok()?;
        let has_buildx = client().args(["buildx", "version"]).output();
        let has_buildx = has_buildx.is_ok_and(|output| output.status.success());
        let docker = Self { daemon, socket, has_buildx };
        let answers = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(200));
            let mut command = client();
            command.arg("-H").arg(format!("unix://{}", docker.socket.display())).arg("version");
            command.output().is_ok_and(|output| output.status.success())
        });
        answers.then_some(docker)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Not killed: it has a daemon below it to end, and mounts to undo.
        let id = self.daemon.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let _ = self.daemon.wait();
    }
}

/// The layers as crane takes them: archives.
fn write_archives(layers: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for architecture in ARCHITECTURES {
        for layer in LAYERS {
            let mut tar = Command::new("tar");
            tar.arg("-C").arg(layers.join(layer).join(architecture));
            run(tar.arg("-cf").arg(to.join(format!("{layer}-{architecture}.tar"))).arg("."));
        }
    }
}

fn crane(archives: &Path, out: &Path) -> f64 {
    let of = |architecture: &str| {
        let mut command = Command::new("crane");
        command.arg("append");
        for layer in LAYERS {
            command.arg("-f").arg(archives.join(format!("{layer}-{architecture}.tar")));
        }
        run(command.args(["-t", "job:1", "-o"]).arg(out)).wall_secs
    };
    ARCHITECTURES.into_iter().map(of).sum()
}
