//! Images of packages: what is refused, what is left out, and popular packages that run and
//! that a scanner sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{build, copy, publish, registry, set_platforms, succeed, text, xstitch};
use crate::layout::Layout;
use crate::scanner;
use crate::service::Root;
use crate::tools::has;

/// A project of one image with these lines.
fn project(folder: &Path, image: &str) -> PathBuf {
    let project = folder.join("project");
    fs::create_dir_all(&project).unwrap();
    let head =
        "[project]\nname = \"x\"\nplatforms = [\"linux/amd64\"]\ntags = [\"1\"]\nversion = \"1\"\n";
    fs::write(project.join("images.toml"), format!("{head}{image}")).unwrap();
    project
}

fn refused(image: &str, code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let project = project(folder.path(), image);
    let output = xstitch(&project).arg("--quiet").output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    let said = String::from_utf8(output.stderr).unwrap();
    said.replace(&project.display().to_string(), "PROJECT")
}

#[test]
fn integration_wrong_words_about_packages() {
    let wrong = "[image.x]\nfrom = { packages = [\"libc6\"], exclude = [\"dosc\", \"default\", \"a/b\"] }\n\
                 scripts = { libc7 = \"ignore\", libc6 = \"run\" }\n";
    insta::assert_snapshot!("wrong_words", refused(wrong, 2));
    let unknown =
        "[image.x]\nfrom = { packages = [\"libc6\"], scripts = { libc7 = \"ignore\" } }\n";
    insta::assert_snapshot!("unknown_package", refused(unknown, 2));
    let nothing =
        "[image.y]\nfrom = \"scratch\"\n[image.x]\nfrom = \"y\"\npackages = [\"libc6\"]\n";
    insta::assert_snapshot!("on_nothing", refused(nothing, 2));
}

#[test]
fn integration_unknown_scripts_are_refused_and_can_be_ignored() {
    let image = "[image.x]\nfrom = { packages = [\"docker-registry\"] }\n";
    let said = refused(image, 1);
    let start = "error: root x packages linux/amd64 failed: docker-registry: its postinst script \
                 is not known (the command `su -s /bin/sh docker-registry";
    assert!(said.starts_with(start), "{said}");
    assert!(said.contains("\n  | \t\tadduser --system \\\n"), "{said}");
    assert!(said.contains("write `scripts = { docker-registry = \"ignore\" }`"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let ignored = format!("{image}scripts = {{ docker-registry = \"ignore\" }}\n");
    let project = project(folder.path(), &ignored);
    build(&mut xstitch(&project), &project);
}

/// Members of a layer: path, mode, owner and text.
fn members(layout: &Path, digest: &str) -> BTreeMap<String, (u32, u64, String)> {
    let blob = fs::File::open(layout.join("blobs/sha256").join(&digest[7..])).unwrap();
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(blob));
    let mut members = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header = entry.header();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        members.insert(path, (header.mode().unwrap(), header.uid().unwrap(), text));
    }
    members
}

#[test]
fn integration_packages_on_a_base_that_others_made() {
    let folder = tempfile::tempdir().unwrap();
    let others = project(
        &folder.path().join("others"),
        "[image.base]\nfrom = { packages = [\"base-files\", \"base-passwd\", \"libc6\"] }\n\
         files = [{ from = \"passwd\", to = \"/etc/passwd\" }]\n",
    );
    let passwd = "root:*:0:0:Admin:/root:/bin/bash\ntheirs:x:101:101::/:/bin/false\n";
    fs::write(others.join("passwd"), passwd).unwrap();
    build(&mut xstitch(&others), &others);
    let own = project(
        &folder.path().join("own"),
        "[image.low]\nfrom = { layout = \"base\" }\npackages = [\"redis-server\", \"libc6\"]\n\
         [image.high]\nfrom = \"low\"\npackages = [\"memcached\", \"ca-certificates\"]\n",
    );
    succeed(Command::new("cp").arg("-r").arg(others.join("target/images")).arg(own.join("base")));
    build(&mut xstitch(&own), &own);
    let place = own.join("target/images");
    let layout = Layout::open(&place);
    let images = layout.images();
    let layers = |name: &str| {
        let mut platforms = layout.platforms(&layout.json(&images[name]));
        platforms.remove("linux/amd64").unwrap().layers
    };
    let titles = |name: &str| -> Vec<String> {
        layers(name).iter().map(|layer| layer.title.replace("xstitch: ", "")).collect()
    };
    let low = ["packages", "files", "added packages"];
    assert_eq!(titles("low:1"), low);
    let above = ["common added packages", "added packages"];
    assert_eq!(titles("high:1"), [&low[..], &above].concat());
    let high = layers("high:1");

    // What the base says of its users stays, and its packages do not come again.
    let added = members(&place, &layers("low:1").last().unwrap().digest);
    let (_, _, users) = &added["etc/passwd"];
    assert!(users.starts_with(passwd), "{users}");
    assert!(users.contains("\nredis:x:102:102:"), "{users}");
    assert_eq!(added["var/lib/redis/"].1, 102, "redis owns its folder");
    assert!(added.contains_key("usr/bin/redis-server"));
    assert!(!added.contains_key("var/lib/dpkg/status.d/libc6"));
    let added = members(&place, &high.last().unwrap().digest);
    let (_, _, users) = &added["etc/passwd"];
    assert!(users.contains("\nredis:x:102:102:") && users.contains("\nmemcache:x:103:"), "{users}");
    // Certificates are the same everywhere.
    let common = members(&place, &high[high.len() - 2].digest);
    assert!(common["etc/ssl/certs/ca-certificates.crt"].2.contains("BEGIN CERTIFICATE"));
}

/// What runs, by image: a command line, and what it says.
const TOOLS: [(&[&str], &str); 30] = [
    (&["/bin/bash", "-c", "echo shell $((6 * 7))"], "shell 42"),
    (&["/bin/sh", "-c", "echo shell $((6 * 7))"], "shell 42"),
    (&["/usr/bin/awk", "BEGIN { print 6 * 7 }"], "42"),
    (&["/bin/busybox", "echo", "busy"], "busy"),
    (&["/usr/bin/curl", "--version"], "curl 7"),
    (&["/usr/bin/diff", "--version"], "diff"),
    (&["/usr/bin/file", "-b", "/etc/passwd"], "ASCII text"),
    (&["/usr/bin/find", "/etc/passwd"], "/etc/passwd"),
    (&["/usr/bin/git", "--version"], "git version"),
    (&["/usr/bin/gpg", "--version"], "gpg (GnuPG)"),
    (&["/bin/grep", "^nonroot", "/etc/passwd"], "nonroot:x:65532"),
    (&["/bin/gzip", "--version"], "gzip"),
    (&["/bin/ip", "-V"], "iproute2"),
    (&["/bin/ping", "-V"], "ping from iputils"),
    (&["/usr/bin/jq", "-n", "6*7"], "42"),
    (&["/usr/bin/pager", "--version"], "less"),
    (&["/usr/bin/editor", "--version"], "GNU nano"),
    (&["/bin/nc", "-h"], "OpenBSD netcat"),
    (&["/usr/bin/ssh", "-V"], "OpenSSH"),
    (&["/usr/bin/openssl", "version"], "OpenSSL 3"),
    (&["/usr/bin/free", "-V"], "procps"),
    (&["/usr/bin/rsync", "--version"], "rsync"),
    (&["/bin/sed", "-n", "1p", "/etc/timezone"], "Etc/UTC"),
    (&["/usr/bin/socat", "-V"], "socat version"),
    (&["/usr/bin/sqlite3", ":memory:", "select 6*7"], "42"),
    (&["/bin/tar", "--version"], "tar (GNU tar)"),
    (&["/usr/bin/unzip", "-v"], "UnZip"),
    (&["/usr/bin/vi", "--version"], "VIM"),
    (&["/usr/bin/wget", "--version"], "GNU Wget"),
    (&["/usr/bin/unlzma", "--version"], "xz (XZ Utils)"),
];
const SERVERS: [(&[&str], &str); 8] = [
    (&["/usr/sbin/haproxy", "-v"], "HAProxy"),
    (&["/usr/bin/memcached", "--version"], "memcached"),
    (&["/usr/sbin/nginx", "-v"], "nginx version"),
    (&["/usr/lib/postgresql/15/bin/psql", "--version"], "psql (PostgreSQL)"),
    (&["/usr/bin/python3", "-c", "import ssl, json; print(6*7)"], "42"),
    (&["/usr/bin/redis-server", "--version"], "Redis server"),
    (&["/usr/bin/redis-cli", "--version"], "redis-cli"),
    (&["/usr/bin/tini", "--version"], "tini version"),
];

#[test]
fn system_popular_packages_run_and_are_seen() {
    if !["skopeo", "docker-registry", "umoci", "qemu-aarch64-static"].iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/popular", folder.path());
    build(&mut xstitch(&project), &project);
    let layout = project.join("target/images");
    let (_registry, registry) = registry(folder.path());
    for (image, commands) in [("tools", &TOOLS[..]), ("servers", &SERVERS[..])] {
        publish(&layout, &format!("{image}:1"), &registry);
        let (mut accounts, mut wrong) = (BTreeSet::new(), Vec::new());
        for (platform, emulator) in
            [("linux/amd64", None), ("linux/arm64", Some("qemu-aarch64-static"))]
        {
            let source = format!("docker://{registry}/{image}:1");
            let root = Root::unpack(&source, platform, emulator, folder.path());
            // Whoever starts a container mounts this.
            fs::write(root.folder.join("dev/null"), "").unwrap();
            for (words, wanted) in commands {
                let output = root.command(words[0]).args(&words[1..]).output().unwrap();
                let said = text(&output);
                if !said.contains(wanted) {
                    wrong.push(format!("{platform} {words:?}: {said}"));
                }
            }
            for name in ["passwd", "group"] {
                accounts.insert(fs::read_to_string(root.folder.join("etc").join(name)).unwrap());
            }
            let place = (layout.as_path(), format!("{image}:1"));
            let seen = scanner::check(&root.folder, place, platform, folder.path());
            assert!(seen.is_none_or(|seen| seen > 60), "{seen:?}");
            fs::remove_dir_all(&root.folder).unwrap();
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(accounts.len(), 2, "users differ between platforms: {accounts:?}");
    }
}

/// What runs of the next release, whose mirror is that of the machine's own packages.
const NEXT: [(&str, &[&str], &str); 12] = [
    ("tools", &["/bin/bash", "-c", "echo shell $((6 * 7))"], "shell 42"),
    ("tools", &["/bin/sh", "-c", "read x < /etc/debian_version; echo $x"], "13."),
    ("tools", &["/usr/bin/awk", "BEGIN { print 6 * 7 }"], "42"),
    ("tools", &["/bin/date", "+%Z"], "UTC"),
    ("tools", &["/usr/bin/git", "--version"], "git version"),
    ("tools", &["/bin/bash", "-c", "echo $(</etc/shells)"], "/usr/bin/bash"),
    ("tools", &["/usr/bin/openssl", "version"], "OpenSSL 3"),
    ("tools", &["/usr/bin/ssh", "-V"], "OpenSSH"),
    ("servers", &["/usr/sbin/nginx", "-v"], "nginx version"),
    ("servers", &["/usr/lib/postgresql/17/bin/psql", "--version"], "psql (PostgreSQL) 17"),
    ("servers", &["/usr/bin/python3", "-c", "import ssl, json; print(6*7)"], "42"),
    ("servers", &["/usr/bin/valkey-server", "--version"], "Valkey server"),
];

#[test]
fn system_packages_of_the_next_release_run() {
    let tools = ["apt-get", "skopeo", "docker-registry", "umoci", "qemu-aarch64-static"];
    if !tools.iter().all(|tool| has(tool)) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let project = project(
        folder.path(),
        "suite = \"trixie\"\n[image.base]\npublish = false\n\
         from = { packages = [\"base-files\", \"base-passwd\", \"bash\", \"ca-certificates\", \
         \"coreutils\", \"dash\", \"debianutils\", \"libc6\", \"tzdata\"] }\n\
         [image.tools]\nfrom = \"base\"\npackages = [\"curl\", \"gawk\", \"git\", \"iproute2\", \
         \"openssh-client\", \"openssl\", \"procps\", \"util-linux\"]\n\
         [image.servers]\nfrom = \"base\"\n\
         packages = [\"nginx-light\", \"postgresql-client\", \"python3\", \"valkey-server\"]\n",
    );
    set_platforms(&project, &["linux/amd64", "linux/arm64"]);
    let file = project.join("images.toml");
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let suite = format!("[suite.trixie]\nmirror = {:?}\nkeyring = {keyring:?}\n", mirror());
    fs::write(&file, fs::read_to_string(&file).unwrap() + &suite).unwrap();
    let output = xstitch(&project).output().unwrap();
    if output.status.code() == Some(3) && std::env::var_os("CI").is_none() {
        eprintln!("SKIPPED: the machine's mirror does not serve trixie: {}", text(&output));
        return;
    }
    assert!(output.status.success(), "{}", text(&output));
    let layout = project.join("target/images");
    let (_registry, registry) = registry(folder.path());
    let mut wrong = Vec::new();
    for image in ["tools", "servers"] {
        publish(&layout, &format!("{image}:1"), &registry);
        for (platform, emulator) in
            [("linux/amd64", None), ("linux/arm64", Some("qemu-aarch64-static"))]
        {
            let source = format!("docker://{registry}/{image}:1");
            let root = Root::unpack(&source, platform, emulator, folder.path());
            fs::write(root.folder.join("dev/null"), "").unwrap();
            for (_, words, wanted) in NEXT.iter().filter(|(of, ..)| *of == image) {
                let output = root.command(words[0]).args(&words[1..]).output().unwrap();
                let said = text(&output);
                if !said.contains(wanted) {
                    wrong.push(format!("{platform} {words:?}: {said}"));
                }
            }
            fs::remove_dir_all(&root.folder).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The mirror that the machine's packages come from.
fn mirror() -> String {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]);
    let output = String::from_utf8(succeed(&mut apt).stdout).unwrap();
    let main = output.lines().filter_map(|line| line.split_once(' '));
    let mut main = main.filter(|(release, _)| !release.contains('-'));
    main.next().expect("apt has a source").1.trim_end_matches('/').to_owned()
}
