//! The example, for real: built once, read by other tools, published, unpacked and run on
//! both platforms.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fixture::{
    build, cache, copy, publish, registry, repository, set_platforms, succeed, text, xstitch,
};
use crate::layout::{Image, Layout, sha256};
use crate::scanner;
use crate::service::{Root, Service};
use crate::targets::{Archive, without_rust_version};
use crate::tools::{has, tool};

const SERVICES: [&str; 3] = ["agent", "auth", "vault"];
const PLATFORMS: [(&str, Option<&str>); 2] =
    [("linux/amd64", None), ("linux/arm64", Some("qemu-aarch64-static"))];
/// Where the image has the ledger's genesis transactions.
const GENESIS: &str = "/etc/agency/genesis.txn";
const CRANE: &str = "github.com/google/go-containerregistry/cmd/crane@v0.20.7";

#[test]
fn system_the_agency_is_built_published_and_run() {
    let tools = ["skopeo", "docker-registry", "umoci", "qemu-aarch64-static", "go"];
    if !tools.iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = copy("examples/agency", folder.path());
    let version = fs::read_to_string(project.join("VERSION")).unwrap().trim().to_owned();
    build(&mut xstitch(&project), &project);
    let layout = project.join("target/images");
    assert_eq!(zmq_answers(&project, "linux/amd64"), zmq_answers(&project, "linux/arm64"));

    check_layout(&Layout::open(&layout), &version);
    let (_registry, registry) = registry(folder.path());
    let crane = crane();
    for service in SERVICES {
        let name = format!("{service}:{version}");
        check_published(&layout, &name, &registry, crane.as_deref());
        for (platform, emulator) in PLATFORMS {
            let source = format!("docker://{registry}/{name}");
            let root = Root::unpack(&source, platform, emulator, folder.path());
            check_service(&root, service, &version, &project);
            check_packages(&root, &layout, &name, platform, folder.path());
            fs::remove_dir_all(&root.folder).unwrap();
        }
    }
}

#[test]
fn system_the_agency_runs_on_arm_v7() {
    if !["skopeo", "docker-registry", "umoci", "qemu-arm-static", "go"].iter().all(|tool| has(tool))
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = copy("examples/agency", folder.path());
    let version = fs::read_to_string(project.join("VERSION")).unwrap().trim().to_owned();
    set_platforms(&project, &["linux/arm/v7"]);
    let manifests = ["Cargo.toml", "services/auth/Cargo.toml", "tools/ledger/Cargo.toml"];
    without_rust_version(&project, &manifests);
    let output = Archive::new(folder.path()).build(&project, "linux/arm/v7", "armhf");
    assert!(output.status.success(), "{}", text(&output));
    let layout = project.join("target/images");
    let (_registry, registry) = registry(folder.path());
    for service in SERVICES {
        let name = format!("{service}:{version}");
        publish(&layout, &name, &registry);
        let source = format!("docker://{registry}/{name}");
        let root = Root::unpack(&source, "linux/arm/v7", Some("qemu-arm-static"), folder.path());
        check_service(&root, service, &version, &project);
        check_packages(&root, &layout, &name, "linux/arm/v7", folder.path());
        fs::remove_dir_all(&root.folder).unwrap();
    }
    // What libzmq found out is what it finds out elsewhere.
    let answers = zmq_answers(&project, "linux/arm/v7");
    assert!(answers.len() > 10, "{answers:?}");
    assert_eq!(answers["ZMQ_HAVE_SO_KEEPALIVE"], "yes");
}

/// A scanner sees the packages of the base, and what `auth` brings on top.
fn check_packages(root: &Root, layout: &Path, name: &str, platform: &str, place: &Path) {
    let seen = scanner::check(&root.folder, (layout, name.to_owned()), platform, place);
    let wanted = if name.starts_with("auth") { 11 } else { 10 };
    assert!(seen.is_none_or(|seen| seen == wanted), "{name} {platform}: {seen:?}");
}

/// What the report of probes says of libzmq's own questions on a platform.
fn zmq_answers(project: &Path, platform: &str) -> serde_json::Map<String, Value> {
    let report = fs::read(project.join("target/images.probes.json")).unwrap();
    let mut report: Value = serde_json::from_slice(&report).unwrap();
    for (what, build) in report["builds"].as_object().unwrap() {
        assert_eq!(build["differences"], serde_json::json!([]), "{what}");
    }
    let build = &mut report["builds"]["library zmq"];
    let answers = build["platforms"][platform]["probes"].take();
    let Value::Object(answers) = answers else { panic!("no answers: {report}") };
    answers.into_iter().filter(|(name, _)| name.starts_with("ZMQ_HAVE_")).collect()
}

/// Three images of two platforms, each whole, made of layers that are shared where they can
/// be, and annotated with what is known and nothing else.
fn check_layout(layout: &Layout, version: &str) {
    layout.check_nothing_is_left_over();
    let images = layout.images();
    let wanted = SERVICES.map(|service| format!("{service}:{version}"));
    assert_eq!(images.keys().cloned().collect::<Vec<_>>(), wanted);
    let key = |name: &str| format!("org.opencontainers.image.{name}");
    let mut bases = Vec::new();
    for (service, descriptor) in SERVICES.iter().zip(images.values()) {
        let index = layout.json(descriptor);
        let annotations = serde_json::json!({key("title"): service, key("version"): version});
        assert_eq!(index["annotations"], annotations);
        let platforms = layout.platforms(&index);
        let names: Vec<&str> = platforms.keys().map(String::as_str).collect();
        assert_eq!(names, PLATFORMS.map(|(platform, _)| platform));
        for image in platforms.values() {
            let digest = image.manifest["annotations"][key("base.digest")].as_str().unwrap();
            let mut annotations = annotations.clone();
            annotations[key("base.name")] = "agency-base".into();
            annotations[key("base.digest")] = digest.into();
            assert_eq!(image.manifest["annotations"], annotations);
            assert_eq!(image.config["created"], "1970-01-01T00:00:00Z");
            check_base(layout, image, digest, own_layers(service).len());
        }
        bases.push(platforms.values().map(base_digest).collect::<Vec<_>>());
        check_sharing(service, &platforms["linux/amd64"], &platforms["linux/arm64"]);
    }
    assert_ne!(bases[0][0], bases[0][1], "both platforms name one base");
    assert!(bases.iter().all(|base| *base == bases[0]), "{bases:?}");
}

fn base_digest(image: &Image) -> Value {
    image.manifest["annotations"]["org.opencontainers.image.base.digest"].clone()
}

/// The base is not published, so its manifest is in the cache only. The image's layers
/// begin with those of its base, which is what the annotation promises.
fn check_base(layout: &Layout, image: &Image, digest: &str, own: usize) {
    let manifest = fs::read_dir(cache().join("v1/trees"))
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("manifest.json")).ok())
        .find(|bytes| sha256(bytes) == digest);
    let manifest = manifest.expect("the base's manifest is in the cache");
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let base = manifest["layers"].as_array().unwrap();
    let all = image.manifest["layers"].as_array().unwrap();
    assert_eq!(base.len() + own, all.len());
    assert_eq!(base[..], all[..base.len()]);
    for layer in base {
        layout.bytes(layer);
    }
}

/// What does not depend on the architecture is one layer for both platforms.
fn check_sharing(service: &str, amd64: &Image, arm64: &Image) {
    let layers: Vec<(&str, bool)> = amd64
        .layers
        .iter()
        .zip(&arm64.layers)
        .map(|(one, other)| {
            assert_eq!(one.title, other.title);
            (one.title.strip_prefix("xstitch: ").unwrap(), one.digest == other.digest)
        })
        .collect();
    let base = [("common packages", true), ("packages", false), ("binary healthcheck", false)];
    let wanted: Vec<_> = base.into_iter().chain(own_layers(service)).collect();
    assert_eq!(layers, wanted);
}

/// What each image has above the base, and whether both platforms share it. Libraries come
/// before what needs them.
fn own_layers(service: &str) -> Vec<(&'static str, bool)> {
    match service {
        "agent" => vec![
            ("library sodium", false),
            ("library zmq", false),
            ("library indy", false),
            ("files", true),
            ("binary agent", false),
            ("binary ledger", false),
        ],
        "auth" => vec![("packages of openssl", false), ("files", true), ("binary auth", false)],
        _ => vec![("files", true), ("binary vault", false)],
    }
}

/// Other tools find the image by its tag, and a registry gives back the same bytes.
fn check_published(layout: &Path, name: &str, registry: &str, crane: Option<&Path>) {
    let descriptor = Layout::open(layout).images().remove(name).unwrap();
    let place = format!("oci:{}:{name}", layout.display());
    let inspected = succeed(tool("skopeo").args(["inspect", &place]));
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["Digest"], descriptor["digest"]);
    assert_eq!(inspected["Os"], "linux");
    publish(layout, name, registry);
    let raw = succeed(
        tool("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{registry}/{name}")),
    );
    assert_eq!(sha256(&raw.stdout), descriptor["digest"]);
    if let Some(crane) = crane {
        let mut crane = Command::new(crane);
        let output = succeed(crane.args(["validate", "--remote", &format!("{registry}/{name}")]));
        assert!(text(&output).contains("PASS"), "{}", text(&output));
    }
}

/// The crane command, compiled once for all runs. CI has to have it.
fn crane() -> Option<PathBuf> {
    let (_, version) = CRANE.split_once('@').unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crane-{version}"));
    let program = folder.join("crane");
    if !program.is_file() {
        let mut go = Command::new("go");
        go.args(["install", CRANE]).env("GOBIN", &folder).current_dir(repository());
        let output = go.output().unwrap();
        if !output.status.success() {
            assert!(std::env::var_os("CI").is_none(), "CI needs crane: {}", text(&output));
            eprintln!("SKIPPED: there is no crane to validate with: {}", text(&output));
            return None;
        }
    }
    Some(program)
}

/// The image's own start script and program, from `--version` to SIGTERM.
fn check_service(root: &Root, service: &str, version: &str, project: &Path) {
    let run = &root.config["config"];
    assert_eq!(run["User"], "65532:65532");
    let script = format!("usr/local/bin/start-{service}");
    assert_eq!(run["Entrypoint"], serde_json::json!([format!("/{script}")]));
    let text = fs::read_to_string(root.folder.join(&script)).unwrap();
    let original = project.join(format!("deploy/start-{service}.sh"));
    assert_eq!(text, fs::read_to_string(original).unwrap());
    let interpreter = text.lines().next().unwrap().strip_prefix("#!").unwrap();
    // The kernel runs no script for an emulator, so there the image's shell reads it, and
    // then the program is started as the script would.
    let program = if root.is_emulated() {
        succeed(root.command(interpreter).args(["-n", root.entrypoint()]));
        format!("/usr/local/bin/{service}")
    } else {
        root.entrypoint().to_owned()
    };
    let output = succeed(root.command(&program).arg("--version"));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown.lines().next(), Some(format!("{service} {version}").as_str()));
    let libraries: &[&str] = match service {
        "auth" => &["OpenSSL 3.", "SQLite 3."],
        "agent" => &["libsodium 1.0.18", "libzmq 4.3.5", "libindy_vdr 0.4.3"],
        _ => &["golang.org/x/crypto v"],
    };
    for library in libraries {
        assert!(shown.lines().any(|line| line.starts_with(library)), "{library}: {shown}");
    }

    let log = root.folder.join("log");
    let running = Service::start(root.command(&program), log);
    let health = running.json(200, "GET", "/health", "");
    assert_eq!((&health["status"], &health["version"]), (&"ok".into(), &version.into()));
    match service {
        "auth" => use_auth(&running),
        "vault" => use_vault(&running),
        _ => {
            use_agent(&running);
            use_ledger(root, version);
        }
    }
    let port = running.port.to_string();
    let healthcheck = |expected: i32| {
        let mut command = root.command("/usr/local/bin/healthcheck");
        let output = command.env("PORT", &port).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{}", crate::fixture::text(&output));
    };
    healthcheck(0);
    let (status, log) = running.terminate();
    assert_eq!(status.code(), Some(0), "{status}: {log:?}");
    let messages: Vec<&str> = log.iter().filter_map(|line| line["msg"].as_str()).collect();
    assert_eq!(messages.first(), Some(&"listening"), "{messages:?}");
    assert_eq!(messages[messages.len() - 2..], ["shutting down", "stopped"], "{messages:?}");
    assert!(log.iter().all(|line| line["service"] == service && line["time"].is_string()));
    healthcheck(1);
}

fn use_auth(service: &Service) {
    let issued = service.json(201, "POST", "/tokens", r#"{"subject":"alice"}"#);
    let token = issued["token"].as_str().unwrap();
    let verified = service.json(200, "GET", &format!("/tokens/{token}"), "");
    assert_eq!(verified["subject"], "alice");
    service.expect(404, "GET", "/tokens/no-such-token", "");
    assert_eq!(service.json(200, "GET", "/health", "")["tokens"], 1);
}

fn use_vault(service: &Service) {
    service.expect(404, "GET", "/secrets/db", "");
    service.expect(201, "PUT", "/secrets/db", "hunter2");
    assert_eq!(service.expect(200, "GET", "/secrets/db", ""), "hunter2");
}

fn use_agent(service: &Service) {
    let sealed = service.json(200, "POST", "/seal", "a message");
    let sealed = sealed["sealed"].as_str().unwrap();
    assert_eq!(service.expect(200, "POST", "/open", sealed), "a message");
    let flipped = sealed.replacen(&sealed[..1], if &sealed[..1] == "A" { "B" } else { "A" }, 1);
    service.expect(422, "POST", "/open", &flipped);
    assert_eq!(service.json(200, "GET", "/peers", "")["peers"][0]["reply"], "ping");
    // The ledger of the example has no nodes, which takes the library seconds to find out.
    let told = service.json(503, "GET", "/ledger", "");
    assert_eq!(told, serde_json::json!({"code": 32, "error": "Pool timeout"}));
}

/// The other program of the image, without a ledger to ask.
fn use_ledger(root: &Root, version: &str) {
    let program = "/usr/local/bin/ledger";
    let output = succeed(root.command(program).arg("--version"));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown, format!("ledger {version}\nlibindy_vdr 0.4.3\n"));
    let output = root.command(program).args(["status", GENESIS]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "ledger: Pool timeout (libindy_vdr error 32)\n");
}
