//! The cache that machines share, on servers of this machine: nginx as a plain store of files,
//! a registry, and servers that are dead, slow, or say something else.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::first::First;
use crate::fixture::{Server, free_port, registry, succeed, text, xstitch};
use crate::tools::{has, tool};

/// A project that was built once with a cache of its own, a key, and a folder for what is tried.
struct Shared<'a> {
    first: &'a First,
    folder: PathBuf,
    /// A cache that has what compilers need, and nothing that they made.
    warm: PathBuf,
    key: PathBuf,
    public: String,
}

/// A build as it ended.
struct Built {
    report: serde_json::Value,
    said: String,
    index: String,
    elapsed: Duration,
}

impl Built {
    /// Names of the units that ran, of those that a shared cache could have told.
    fn ran(&self) -> Vec<String> {
        let units = self.report["ran"].as_array().unwrap().iter();
        let names = units.map(|unit| unit["unit"].as_str().unwrap().to_owned());
        names
            .filter(|name| !["check", "manifest", "index"].iter().any(|it| name.starts_with(it)))
            .collect()
    }

    fn remote(&self, name: &str) -> u64 {
        self.report["remote"][name].as_u64().unwrap()
    }

    fn warnings(&self) -> usize {
        self.said.matches("warning: ").count()
    }
}

impl<'a> Shared<'a> {
    fn new(first: &'a First) -> Self {
        let folder = first.folder.path().to_owned();
        let key = folder.join("key");
        let made = succeed(xstitch(&folder).args(["cache", "key"]).arg(&key));
        let public = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let warm = first.cache("warm");
        let shared = Self { first, folder, warm, key, public };
        let project = shared.project("warm-project", "");
        shared.run(&project, &shared.warm, |command| command);
        shared.forget(&shared.warm);
        shared
    }

    /// The same with another folder.
    fn part(&self, name: &str) -> Self {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).unwrap();
        let (warm, key, public) = (self.warm.clone(), self.key.clone(), self.public.clone());
        Self { first: self.first, folder, warm, key, public }
    }

    /// Removes what compilers made, and what they kept.
    fn forget(&self, cache: &Path) {
        for entry in fs::read_dir(cache.join("v1/records")).unwrap().flatten() {
            let json: serde_json::Value =
                serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
            if !matches!(json["about"]["kind"].as_str().unwrap(), "packages" | "sysroot") {
                fs::remove_file(entry.path()).unwrap();
                let tree = json["output"].as_str().unwrap().replace("sha256:", "");
                let _ = fs::remove_dir_all(cache.join("v1/trees").join(tree));
            }
        }
        let _ = fs::remove_dir_all(cache.join("v1/state/projects"));
    }

    /// A copy of the project that has this line in `[project]`.
    fn project(&self, name: &str, line: &str) -> PathBuf {
        let project = self.first.copy(&self.folder.join(name));
        let file = project.join("images.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replacen("[project]\n", &format!("[project]\n{line}\n"), 1)).unwrap();
        project
    }

    /// The project of somebody who believes the key.
    fn reader(&self, name: &str, at: &str) -> PathBuf {
        let line = format!("cache = {{ at = \"{at}\", trust = [\"{}\"] }}", self.public);
        self.project(name, &line)
    }

    /// A copy of the warm cache.
    fn copy_of_warm(&self, name: &str) -> PathBuf {
        let cache = self.folder.join(name);
        succeed(Command::new("cp").arg("-al").arg(&self.warm).arg(&cache));
        cache
    }

    fn run(
        &self,
        project: &Path,
        cache: &Path,
        change: impl Fn(&mut Command) -> &mut Command,
    ) -> Built {
        let mut command = self.first.xstitch(project, cache);
        command.args(["--format", "json"]);
        let started = Instant::now();
        let output: Output = change(&mut command).output().unwrap();
        let elapsed = started.elapsed();
        assert!(output.status.success(), "{}", text(&output));
        let index = fs::read_to_string(project.join("target/images/index.json")).unwrap();
        let report = serde_json::from_slice(&output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Built { report, said, index, elapsed }
    }

    /// Builds with the key, from the warm cache.
    fn write(&self, name: &str, at: &str) -> Built {
        let project = self.project(name, "");
        let cache = self.copy_of_warm(&format!("{name}-cache"));
        self.run(&project, &cache, |command| {
            command.env("XSTITCH_CACHE_REMOTE", at).env("XSTITCH_CACHE_KEY", &self.key)
        })
    }

    /// Builds without a key, from the warm cache.
    fn read(&self, name: &str, at: &str) -> Built {
        let (project, cache) = (self.reader(name, at), self.copy_of_warm(&format!("{name}-cache")));
        let built = self.run(&project, &cache, |command| command);
        assert_eq!(built.index, self.first.index, "{name}: {}", built.said);
        assert_eq!(built.remote("uploads"), 0, "{name}");
        built
    }
}

/// nginx as servers of this kind are set up: a folder that takes files.
fn nginx(folder: &Path) -> (Server, String, PathBuf) {
    let (port, store) = (free_port(), folder.join("store"));
    fs::create_dir_all(&store).unwrap();
    let config = folder.join("nginx.conf");
    let here = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {here}/nginx.pid; error_log {here}/nginx.log;\n\
         events {{}}\n\
         http {{\n  access_log {here}/access.log; client_body_temp_path {here}/body;\n  \
         proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;\n  \
         uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n  \
         server {{\n    listen 127.0.0.1:{port}; client_max_body_size 0;\n    \
         location /team/ {{ alias {}/; dav_methods PUT; create_full_put_path on; }}\n  }}\n}}\n",
        store.display()
    );
    fs::write(&config, text).unwrap();
    let mut server = tool("nginx");
    server.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(server.spawn().unwrap());
    let up = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    assert!(up, "nginx does not start: {:?}", fs::read_to_string(folder.join("nginx.log")));
    (server, format!("http://127.0.0.1:{port}/team"), store)
}

/// A server that does the same with every connection.
fn server(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap());
        }
    });
    format!("http://{place}")
}

/// A server that answers every request with the same.
fn saying(status: &'static str, body: &'static str) -> String {
    server(move |mut stream| {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let _ = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let _ = stream.write_all(answer.as_bytes());
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let found = succeed(Command::new("find").arg(folder).args(["-type", "f"]));
    String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// The key of a unit in a project, from the plan.
fn key(shared: &Shared, project: &Path, cache: &Path, unit: &str) -> String {
    let mut command = shared.first.xstitch(project, cache);
    let output = succeed(command.args(["plan", "--format", "json"]));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let units = plan["units"].as_array().unwrap();
    let unit = units.iter().find(|known| known["unit"] == unit).unwrap();
    unit["key"].as_str().unwrap().replace("sha256:", "")
}

#[test]
fn integration_a_cache_that_machines_share() {
    let first = First::build("tests/projects/small");
    let shared = Shared::new(&first);
    a_second_machine_takes_what_the_first_made(&shared.part("second"));
    what_is_wrong_is_a_miss(&shared.part("wrong"));
    a_bad_server_costs_time_only(&shared.part("bad"));
    a_registry_is_a_cache_too(&shared.part("registry"));
}

fn a_second_machine_takes_what_the_first_made(shared: &Shared<'_>) {
    let folder = &shared.folder;
    let (_nginx, url, store) = nginx(folder);
    let written = shared.write("writer", &url);
    assert_eq!(written.index, shared.first.index);
    assert!(written.remote("uploads") > 8, "{}", written.said);
    assert_eq!(written.warnings(), 0, "{}", written.said);
    let there = files(&store).len();
    assert!(there < 60, "{there} files");
    // With nothing at all, and no packages: nothing runs and nothing else is downloaded.
    let (project, cache) = (shared.reader("reader", &url), folder.join("empty-cache"));
    let built = shared.run(&project, &cache, |command| command);
    assert_eq!(built.index, shared.first.index);
    assert_eq!(built.ran(), [""; 0], "{}", built.said);
    assert_eq!((built.warnings(), built.remote("uploads")), (0, 0), "{}", built.said);
    assert!(built.remote("hits") > 8 && built.remote("downloaded_bytes") > 0);
    assert_eq!(fs::read_dir(cache.join("v1/blobs")).unwrap().count(), 0, "{}", built.said);
    assert_eq!(files(&store).len(), there, "it only reads");
    // What is known stays known, without the network too.
    let again = shared.run(&project, &cache, |command| command.arg("--offline"));
    assert_eq!(again.report["units_run"], 0);
    assert!(again.report["remote"].is_null());
    let plan = succeed(shared.first.xstitch(&project, &cache).args(["plan", "--offline"]));
    assert!(text(&plan).contains("0 units will run"), "{}", text(&plan));
    // A change: what is only known is made of packages where it is needed.
    let change = |project: &Path| {
        let source = project.join("src/hello.c");
        let code = fs::read_to_string(&source).unwrap();
        fs::write(source, format!("{code}\nint more(void) {{ return 7; }}\n")).unwrap();
    };
    let packages = shared.warm.join("v1/blobs");
    for entry in fs::read_dir(packages).unwrap().flatten() {
        let _ = fs::copy(entry.path(), cache.join("v1/blobs").join(entry.file_name()));
    }
    change(&project);
    let changed = shared.run(&project, &cache, |command| command);
    let other = shared.project("changed", "");
    change(&other);
    let wanted = shared.run(&other, &shared.copy_of_warm("changed-cache"), |command| command);
    assert_eq!(changed.index, wanted.index);
    assert!(changed.ran().contains(&"binary hello linux/arm64".to_owned()), "{:?}", changed.ran());
    assert_eq!(changed.warnings(), 0, "{}", changed.said);
    // The writer: with what its compiler had kept, it adds the layers only.
    let (project, cache) = (folder.join("writer/small"), folder.join("writer-cache"));
    change(&project);
    let unclean = shared.run(&project, &cache, |command| {
        command.env("XSTITCH_CACHE_REMOTE", &url).env("XSTITCH_CACHE_KEY", &shared.key)
    });
    assert_eq!(unclean.index, wanted.index);
    let binary = key(shared, &project, &cache, "binary hello linux/arm64");
    assert!(!store.join("ac").join(&binary).exists(), "{}", unclean.said);
    assert!(unclean.remote("uploads") > 0, "{}", unclean.said);
}

fn what_is_wrong_is_a_miss(shared: &Shared<'_>) {
    let (_nginx, url, store) = nginx(&shared.folder);
    shared.write("writer", &url);
    let binary = "binary hello linux/arm64".to_owned();
    let taken = shared.read("good", &url);
    assert_eq!((taken.ran(), taken.warnings()), (vec![], 0), "{}", taken.said);
    // Somebody whom nobody trusts.
    let line = "cache = { at = \"URL\", trust = [\"ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=\"] }";
    let project = shared.project("stranger", &line.replace("URL", &url));
    let cache = shared.copy_of_warm("stranger-cache");
    let built = shared.run(&project, &cache, |command| command);
    assert!(built.ran().contains(&binary), "{:?}", built.ran());
    assert_eq!(built.warnings(), 1, "{}", built.said);
    let wanted = format!("warning: {} signed the result of ", shared.public);
    assert!(built.said.contains(&wanted), "{}", built.said);
    assert_eq!(built.index, shared.first.index);
    // Parts with other bytes, and shorter ones. Who has the key puts them right again.
    let parts = files(&store.join("cas"));
    for (number, part) in parts.iter().enumerate() {
        let mut bytes = fs::read(part).unwrap();
        match number % 2 {
            0 => bytes[0] ^= 1,
            _ => bytes.truncate(bytes.len() / 2),
        }
        fs::write(part, bytes).unwrap();
    }
    let built = shared.read("damaged", &url);
    assert!(built.ran().contains(&binary), "{:?}", built.ran());
    let wanted = "in the shared cache URL is not used, and made here: its part sha256:";
    assert!(built.said.contains(&wanted.replace("URL", &url)), "{}", built.said);
    assert!(shared.write("again", &url).remote("uploads") > 0);
    let taken = shared.read("repaired", &url);
    assert_eq!((taken.ran(), taken.warnings()), (vec![], 0), "{}", taken.said);
    // What was signed for another key, and what is no result.
    let results = files(&store.join("ac"));
    let kept: Vec<Vec<u8>> = results.iter().map(|file| fs::read(file).unwrap()).collect();
    for (number, file) in results.iter().enumerate() {
        fs::write(file, &kept[(number + 1) % kept.len()]).unwrap();
    }
    let built = shared.read("exchanged", &url);
    assert!(built.ran().contains(&binary), "{:?}", built.ran());
    assert!(built.said.contains("it is about another key"), "{}", built.said);
    for file in &results {
        fs::write(file, "<!DOCTYPE html>\n<title>Sign in</title>").unwrap();
    }
    let built = shared.read("html", &url);
    assert!(built.ran().contains(&binary), "{:?}", built.ran());
    assert!(built.said.contains("it is no ActionResult"), "{}", built.said);
}

fn a_bad_server_costs_time_only(shared: &Shared<'_>) {
    let dead = format!("http://127.0.0.1:{}", free_port());
    let silent = server(|stream| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(60));
            drop(stream);
        });
    });
    let ends = server(drop);
    let servers = [
        ("dead", dead, 4),
        ("silent", silent, 15),
        ("ends", ends, 4),
        ("failing", saying("500 Internal Server Error", "<h1>oh no</h1>"), 4),
        ("refusing", saying("403 Forbidden", ""), 4),
        ("html", saying("200 OK", "<!DOCTYPE html><title>Sign in</title>"), 4),
    ];
    let usual = shared.read("missing", &saying("404 Not Found", ""));
    assert_eq!((usual.warnings(), usual.remote("hits")), (0, 0), "{}", usual.said);
    for (name, url, secs) in servers {
        let built = shared.read(name, &url);
        let said = &built.said;
        assert!(said.contains("is not asked any more by this build: "), "{name}: {said}");
        assert!(name == "html" || built.warnings() == 1, "{name}: {said}");
        let most = usual.elapsed * 2 + Duration::from_secs(secs);
        assert!(built.elapsed < most, "{name}: {:?}, not {most:?}", built.elapsed);
        let written = shared.write(&format!("{name}-writer"), &url);
        assert_eq!(written.index, shared.first.index);
        // One says that it keeps everything.
        assert!(name == "html" || written.remote("uploads") == 0, "{name}");
        assert!(written.elapsed < most + Duration::from_secs(secs), "{name}");
    }
    let off = shared.project("off", "");
    let cache = shared.copy_of_warm("off-cache");
    let built = shared.run(&off, &cache, |command| {
        command.args(["--remote-cache", "off"]).env("XSTITCH_CACHE_REMOTE", "http://127.0.0.1:1")
    });
    assert!(built.report["remote"].is_null());
}

fn a_registry_is_a_cache_too(shared: &Shared<'_>) {
    if !has("docker-registry") {
        return;
    }
    let folder = &shared.folder;
    let (_registry, place) = registry(folder);
    let line = |trust: &str| {
        format!("registry = \"{place}/team\"\ncache = {{ at = \"registry\", trust = [{trust}] }}")
    };
    let writer = shared.project("writer", &line(""));
    let cache = shared.copy_of_warm("writer-cache");
    let written =
        shared.run(&writer, &cache, |command| command.env("XSTITCH_CACHE_KEY", &shared.key));
    assert!(written.remote("uploads") > 8, "{}", written.said);
    assert_eq!(written.report["remote"]["at"], format!("{place}/team/xstitch-cache"));
    let reader = shared.project("reader", &line(&format!("\"{}\"", shared.public)));
    let built = shared.run(&reader, &folder.join("empty-cache"), |command| command);
    assert_eq!(built.index, written.index);
    assert_eq!((built.ran(), built.warnings()), (vec![], 0), "{}", built.said);
    let tag = key(shared, &reader, &folder.join("empty-cache"), "binary hello linux/arm64");
    let mut skopeo = tool("skopeo");
    skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
    let manifest = succeed(skopeo.arg(format!("docker://{place}/team/xstitch-cache:{tag}")));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.stdout).unwrap();
    assert_eq!(manifest["artifactType"], "application/vnd.xstitch.cache.result.v1");
    // Every blob is something else now.
    for blob in files(&folder.join("registry/docker/registry/v2/blobs")) {
        let size = fs::metadata(&blob).unwrap().len();
        if size > 2 {
            fs::write(blob, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
        }
    }
    let project = shared.project("damaged", &line(&format!("\"{}\"", shared.public)));
    let built = shared.run(&project, &shared.copy_of_warm("damaged-cache"), |command| command);
    assert_eq!(built.index.len(), written.index.len());
    assert!(built.ran().contains(&"binary hello linux/arm64".to_owned()), "{}", built.said);
    assert!(built.warnings() > 0, "{}", built.said);
}
