use super::*;

fn check(text: &str) -> String {
    match parse(FILE_NAME, text) {
        Ok(project) => format!("ok: {:?}", image_order(&project)),
        Err(findings) => findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

const GOOD: &str = r#"
[project]
platforms = ["linux/arm64", "linux/amd64"]
version = { file = "VERSION" }
[library.zmq]
packages = ["libzmq3-dev"]
[binary.agent]
go = { path = "services/agent", cgo = true }
libraries = ["zmq"]
[image.base]
from = { packages = ["libc6"] }
publish = false
[image.agent]
from = "base"
binaries = ["agent"]
files = [{ from = "deploy/x.sh", to = "/x.sh", mode = "0755" }]
expose = [8080, "53/udp"]
[image.metrics]
from = "scratch"
rust = "metrics"
"#;

#[test]
fn a_good_configuration() {
    assert_eq!(check(GOOD), r#"ok: ["base", "metrics", "agent"]"#);
    let project = parse(FILE_NAME, GOOD).unwrap();
    assert_eq!(project.platforms[0].to_string(), "linux/amd64");
    assert_eq!(project.images["agent"].expose, ["8080/tcp", "53/udp"]);
    assert_eq!(project.images["metrics"].binaries, ["metrics"]);
}

#[test]
fn binaries_of_images_are_named_by_their_folder() {
    let binary = |path: &str| {
        let text = format!("[image.web]\nfrom = \"scratch\"\ngo = \"{path}\"\n");
        let project = parse(FILE_NAME, &text).map_err(|findings| findings[0].to_string())?;
        Ok::<_, String>(project.images["web"].binaries[0].clone())
    };
    assert_eq!(binary("services/vault/").as_deref(), Ok("vault"));
    assert_eq!(binary(".").as_deref(), Ok("web"));
    let refused = binary("../x").unwrap_err();
    assert!(refused.contains("`go` must stay in the project, this is `../x`"), "{refused}");
}

#[test]
fn not_toml() {
    insta::assert_snapshot!(check("[image.x\nfrom = 1"));
}

#[test]
fn every_problem_at_once() {
    let text = r#"
[project]
platform = ["linux/amd64"]
platforms = ["linux/amd46"]
[binary.auth]
rust = { package = "auth", feature = ["x"] }
libraries = ["opensll"]
[library.openssl]
packages = "libssl-dev"
[image.auth]
from = { packages = ["libc6"] }
binaries = ["auht"]
publish = "no"
expose = [80800]
"#;
    insta::assert_snapshot!(check(text));
}

#[test]
fn two_images_of_one_name() {
    insta::assert_snapshot!(check(
        "[image.x]\nfrom = \"scratch\"\n[image.x]\nfrom = \"scratch\"\n"
    ));
}

#[test]
fn images_in_a_circle() {
    let text = "[image.a]\nfrom = \"b\"\n[image.b]\nfrom = \"c\"\n[image.c]\nfrom = \"a\"\n";
    insta::assert_snapshot!(check(text));
}

#[test]
fn unknown_names_and_values() {
    let text = r#"
[library.indy]
cargo = { crate = "indy-vdr" }
[binary.Bad]
c = { sources = [] }
[binary.two]
go = "x"
rust = "y"
[image.a]
from = "bsae"
files = [{ from = "../x", to = "x", mode = "999" }, { from = "x" }]
[image.base]
from = "debian:12"
[target.aarch64-linux-gnu]
rustflags = []
"#;
    insta::assert_snapshot!(check(text));
}

#[test]
fn nothing_to_build() {
    insta::assert_snapshot!(check(""));
}

#[test]
fn every_problem_of_libraries() {
    let text = r#"
[project]
platforms = ["linux/amd64", "linux/arm64"]

[library.several]
cmake = { path = "c" }
make = { path = "c" }
sonames = ["x"]
link = "dynamic"
strip = "some"
needs = ["circle", "none"]

[library.circle]
autotolls = { path = "b" }
needs = ["several"]

[library.itself]
cargo = { crate = "f" }
needs = ["itself"]

[library.archive]
meson = { archive = "https://example.org/d.tar.gz" }

[library.file]
cmake = { archive = "/tmp/q.tar.gz", sha256 = "zz" }

[library.branch]
make = { git = "https://example.org/e.git", commit = "main" }

[library.repository]
make = { git = "https://example.org/e.git" }

[library.sources]
cmake = { path = "j", git = "x", commit = "1234567890123456789012345678901234567890" }

[library.no-source]
cmake = {}

[library.not-a-table]
cmake = "path"

[library.prebuilt]
prebuilt = { "linux/arm64" = { from = "g.so" }, "linux/arm46" = [{ from = "g.so", to = "lib/g.so" }] }

[library.one-platform.prebuilt]
x86_64-unknown-linux-gnu = [{ from = "g.so", to = "lib/g.so", sha256 = "1234567890123456789012345678901234567890123456789012345678901234" }]

[library.script]
command = { path = "h" }
target = { "linux/mips" = { option = ["x"] }, "linux/arm64" = { env = ["A=b"] } }

[library.script-outputs]
command = { path = "h", run = "true", outputs = ["/usr/lib/libh.so"] }

[library.script-archive]
command = { path = "h", run = "true", outputs = ["include/h.h", "lib/libh.a"] }

[library.plain]
cc = { path = "../i", sources = [], soname = "libi" }
patches = ["/etc/passwd", "../x.patch"]
headers = ["/usr/include/plain.h"]
tools = "nasm"
env = { A = 1 }

[library.packages]
packages = ["zlib1g-dev"]
patches = ["a.patch"]
tools = ["nasm"]

[library.empty]
packages = []

[image.x]
from = "scratch"
"#;
    insta::assert_snapshot!(check(text));
}

#[test]
fn entries_of_files() {
    let text = r#"
[project]
platforms = ["linux/amd64", "linux/arm/v7"]
[image.a]
from = "scratch"
files = [
  { from = "./static//**", to = "/srv", exclude = "*.map", folder-mode = "0750" },
  { from = { "linux/amd64" = "a", "armv7-unknown-linux-gnueabihf" = "b" }, to = "/x" },
  { from = "bin/{arch}{variant}", to = "/y/", owner = 65532, capabilities = ["cap_net_raw+p"] },
  { link = "../y", to = "/z/{version}" },
  { folder = "/var/lib/x", mode = "1777", owner = "1:2" },
]
"#;
    let project = parse(FILE_NAME, text).unwrap();
    let files = &project.images["a"].files;
    assert_eq!(files[0].content, FileContent::Copy(FileSource::One("static/**".into())));
    assert_eq!(files[2].owner, Some((65532, 65532)));
    assert_eq!(files[4].owner, Some((1, 2)));
    let of_platform: Vec<bool> = files.iter().map(FileEntry::is_of_platform).collect();
    assert_eq!(of_platform, [false, true, true, false, false]);
}

#[test]
fn wrong_entries_of_files() {
    let text = r#"
[project]
platforms = ["linux/amd64", "linux/arm64"]
[image.a]
from = "scratch"
files = [
  { from = "a", link = "b", to = "/x" },
  { to = "/x" },
  { from = "a" },
  { from = "/a", to = "/x/../y" },
  { from = { "linux/amd46" = "a", "linux/amd64" = "b" }, to = "/x" },
  { from = "a{arhc}", to = "/{x,y}/{Version}" },
  { from = "a", to = "/x", mode = "0999", folder-mode = "rwx" },
  { from = "a", to = "/x", owner = "app:app" },
  { from = "a", to = "/x", owner = 4294967295 },
  { from = "a", to = "/x", capabilities = ["NET_BIND_SERVICE"] },
  { from = "a", to = "/x", capabilities = ["cap_chown-ep"] },
  { from = "a", to = "/x", capabilities = ["cap_chown+ep", "cap_kill+p"] },
  { link = "../../etc", to = "/x/y", mode = "0777", exclude = ["*"] },
  { link = "", to = "/x" },
  { folder = "/", to = "/x", capabilities = [] },
  { folder = "data" },
  { from = "a", to = "/x", folder_mode = "0700", allow-secrets = ["../b"] },
]
"#;
    insta::assert_snapshot!(check(text));
}
