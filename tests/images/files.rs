//! `files` of images: what entries come to, how layers hold it, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{build, is_root, succeed, text, xstitch};
use crate::layout::Image;
use crate::libraries::{digest, images, titles};
use crate::tools::{has, tool};

const PROJECT: &str = r#"
[project]
name = "files"
version = "1.2"
platforms = ["linux/amd64", "linux/arm64", "linux/arm/v7"]

[image.files]
from = "scratch"
files = [
  { from = "static", to = "/srv/www", exclude = ["*.map"], owner = "33:33", mode = "0640", folder-mode = "0750" },
  { from = "conf/app.{arch}{variant}.toml", to = "/etc/app/app.toml" },
  { from = "deploy/**/*.sh", to = "/opt/{version}/bin" },
  { from = "deploy/helper", to = "/usr/local/bin/", mode = "4755" },
  { from = "deploy/[id].js", to = "/opt/{version}/" },
  { from = "deploy/latest", to = "/tmp/helper" },
  { link = "/opt/{version}/bin/start.sh", to = "/usr/local/bin/start" },
  { folder = "/var/lib/app", mode = "0700", owner = "65532:65532" },
  { folder = "/srv/www/cache", mode = "1777" },
  { from = "conf/app.{arch}{variant}.toml", to = "/srv/www/cache/{platform}" },
  { to = "/usr/local/bin/tool", from = { "linux/amd64" = "bin/one", "linux/arm64" = "bin/two", "armv7-unknown-linux-gnueabihf" = "bin/two" } },
]
"#;

/// A project of these files; those with a shebang can be started.
struct Files {
    _folder: tempfile::TempDir,
    project: PathBuf,
}

impl Files {
    fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = fs::canonicalize(folder.path()).unwrap().join("project");
        let files = Self { _folder: folder, project };
        files.write("images.toml", configuration.trim_start());
        files
    }

    /// An image of these entries.
    fn entries(entries: &str) -> Self {
        let files = Self::new("");
        files.set(entries);
        files
    }

    fn set(&self, entries: &str) {
        let head = "[project]\nname = \"files\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
                    [image.files]\nfrom = \"scratch\"\nfiles = [\n";
        self.write("images.toml", &format!("{head}{entries}]\n"));
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.project.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        if content.starts_with("#!") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn link(&self, target: &str, path: &str) {
        let path = self.project.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn says(&self) -> String {
        let output = xstitch(&self.project).args(["plan", "--quiet"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output).replace(&self.project.display().to_string(), "PROJECT")
    }

    fn image(&self, platform: &str) -> Image {
        images(&self.project).remove("files").unwrap().remove(platform).unwrap()
    }

    /// The members of a layer as tar lists them: mode, owner, path.
    fn listing(&self, image: &Image, title: &str) -> String {
        let blob = self.blob(image, title);
        let output = succeed(Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(blob));
        let said = String::from_utf8(output.stdout).unwrap();
        let lines = said.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}\n", words[0], words[1], words[5..].join(" "))
        });
        lines.collect()
    }

    fn blob(&self, image: &Image, title: &str) -> PathBuf {
        let hex = digest(image, title).replace("sha256:", "");
        self.project.join("target/images/blobs/sha256").join(hex)
    }
}

fn project() -> Files {
    let files = Files::new(PROJECT);
    for (path, content) in [
        ("static/index.html", "<p>"),
        ("static/css/site.css", "p {}"),
        ("static/css/site.css.map", "{}"),
        ("static/notes.bak", "old"),
        ("conf/app.amd64.toml", "a = 1"),
        ("conf/app.arm64.toml", "a = 2"),
        ("conf/app.armv7.toml", "a = 3"),
        ("deploy/start.sh", "#!/bin/sh\n"),
        ("deploy/more/stop.sh", "echo"),
        ("deploy/helper", "#!/bin/sh\n"),
        ("deploy/[id].js", "0"),
        ("bin/one", "#!/one"),
        ("bin/two", "#!/two"),
        (".imagesignore", "*.bak\n"),
        // Git's rules are not those of images.
        (".gitignore", "static\n"),
    ] {
        files.write(path, content);
    }
    fs::create_dir(files.project.join("static/empty")).unwrap();
    files.link("css/site.css", "static/site.css");
    files.link("helper", "deploy/latest");
    files
}

#[test]
fn integration_files_of_every_kind() {
    let files = project();
    let first = build(&mut xstitch(&files.project), &files.project);
    let [amd64, arm64, armv7] =
        ["linux/amd64", "linux/arm64", "linux/arm/v7"].map(|platform| files.image(platform));
    insta::assert_snapshot!("common", files.listing(&amd64, "files"));
    insta::assert_snapshot!("own", files.listing(&armv7, "files linux/arm/v7"));
    for other in [&arm64, &armv7] {
        assert_eq!(digest(other, "files"), digest(&amd64, "files"));
    }
    assert_eq!(titles(&arm64), ["files", "files linux/arm64"]);
    let own = |image: &Image| image.layers[1].digest.clone();
    let all: BTreeSet<String> = [&amd64, &arm64, &armv7].map(own).into();
    assert_eq!(all.len(), 3);
    // A change of one platform's file changes one layer.
    files.write("conf/app.arm64.toml", "a = 4");
    let output = succeed(xstitch(&files.project).args(["plan", "--format", "json"]));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let units = plan["units"].as_array().unwrap().iter();
    let run: Vec<_> = units.filter(|unit| unit["state"] == "will-run").collect();
    assert_eq!(run.len(), 1, "{run:?}");
    assert_eq!(run[0]["unit"], "layer files files linux/arm64");
    files.write("conf/app.arm64.toml", "a = 2");
    assert_eq!(build(&mut xstitch(&files.project), &files.project), first);
}

#[test]
fn integration_the_links_of_bases_stay_links() {
    let files = Files::new(
        "[project]\nname = \"files\"\nplatforms = [\"linux/arm64\"]\n[image.base]\n\
         from = { packages = [\"base-files\"] }\npublish = false\n[image.files]\nfrom = \"base\"\n\
         files = [{ from = \"x\", to = \"/bin/x\" }, { link = \"x\", to = \"/sbin/y\" }]\n",
    );
    files.write("x", "#!/bin/sh\n");
    build(&mut xstitch(&files.project), &files.project);
    let image = files.image("linux/arm64");
    insta::assert_snapshot!("merged", files.listing(&image, "files"));
}

/// A file with capabilities at a short path and at a long one.
fn capable() -> (Files, String) {
    let long = format!("opt/{}/tool", "folder/".repeat(18) + &"name".repeat(10));
    let files = Files::entries(&format!(
        "{{ from = \"tool\", to = \"/usr/local/bin/tool\", capabilities = [\"cap_net_bind_service\"] }},\n\
         {{ from = \"tool\", to = \"/{long}\", owner = \"65532:3000000\", capabilities = \
         [\"cap_net_raw,cap_net_admin+eip\"] }},\n"
    ));
    files.write("tool", "#!/bin/sh\n");
    (files, long)
}

/// What getcap says of the two, in a root.
fn check_capabilities(root: &Path, long: &str) {
    for (path, wanted) in
        [("usr/local/bin/tool", "cap_net_bind_service=ep"), (long, "cap_net_admin,cap_net_raw=eip")]
    {
        let path = root.join(path);
        let said = text(&succeed(Command::new("getcap").arg(&path)));
        assert_eq!(said.trim_end(), format!("{} {wanted}", path.display()));
    }
}

#[test]
fn integration_capabilities_are_attributes() {
    let (files, long) = capable();
    build(&mut xstitch(&files.project), &files.project);
    let image = files.image("linux/arm64");
    let listing = files.listing(&image, "files");
    assert!(listing.contains("-rwxr-xr-x 0/0 usr/local/bin/tool\n"), "{listing}");
    assert!(listing.contains(&format!("-rwxr-xr-x 65532/3000000 {long}\n")), "{listing}");
    let tar = fs::read(files.blob(&image, "files")).unwrap();
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(tar.as_slice()), &mut plain)
        .unwrap();
    // The length of the record, its key, and what setcap would have written.
    let record =
        b"57 SCHILY.xattr.security.capability=\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n";
    assert!(plain.windows(record.len()).any(|bytes| bytes == record));
    if !has("getcap") || !is_root() {
        eprintln!("SKIPPED: getcap and root, to unpack attributes");
        return;
    }
    let root = files.project.join("root");
    fs::create_dir(&root).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xzf"]);
    succeed(tar.arg(files.blob(&image, "files")).arg("-C").arg(&root));
    check_capabilities(&root, &long);
}

#[test]
fn system_capabilities_travel() {
    if !["skopeo", "umoci", "getcap"].iter().all(|tool| has(tool)) {
        return;
    }
    if !is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI has to run this as root");
        eprintln!("SKIPPED: only root can unpack capabilities");
        return;
    }
    let (files, long) = capable();
    build(&mut xstitch(&files.project), &files.project);
    let (copy, bundle) = (files.project.join("copy"), files.project.join("bundle"));
    let layout = files.project.join("target/images");
    let mut skopeo = tool("skopeo");
    skopeo.args(["--override-arch", "arm64", "copy"]);
    skopeo.arg(format!("oci:{}:files:0.0.0", layout.display()));
    succeed(skopeo.arg(format!("oci:{}:files", copy.display())));
    let mut umoci = tool("umoci");
    umoci.args(["unpack", "--image"]).arg(format!("{}:files", copy.display()));
    succeed(umoci.arg(&bundle));
    check_capabilities(&bundle.join("rootfs"), &long);
}

#[test]
fn integration_files_that_are_not_right() {
    let files = Files::entries(
        r#"  { from = "nothing.txt", to = "/a" },
  { from = "none/*.txt", to = "/b" },
  { from = "conf/*.txt", to = "/c" },
  { from = "bak/*", to = "/d" },
  { from = "conf/*.toml", to = "/e", exclude = ["a.toml"] },
  { from = "outside", to = "/f" },
  { from = "links", to = "/g" },
  { from = "pipes", to = "/h" },
  { from = "pipes/pipe", to = "/i" },
  { from = "through/hosts", to = "/j" },
  { from = "conf/a.toml", to = "/k" },
  { from = "conf", to = "/k" },
  { from = "conf/{arch}.d/**", to = "/l" },
  { from = "conf/a.toml", to = "/m" },
  { link = "x", to = "/m" },
  { folder = "/m/x" },
  { folder = "/n" },
  { folder = "/n" },
  { from = "conf/[", to = "/o" },
  { from = "conf/a.toml", to = "/p", allow-secrets = ["conf/b.toml"] },
  { from = "deep", to = "/" },
"#,
    );
    for path in ["conf/a.toml", "bak/x.bak", "bak/y.bak", "pipes/x", "deep/x", "links/x"] {
        files.write(path, "x");
    }
    files.write(".dockerignore", "# old files\n**/*.bak\n");
    files.link("/etc/passwd", "outside");
    files.link("/etc", "through");
    files.link("/etc/hosts", "links/absolute");
    files.link("../../x", "links/above");
    files.link("../through/hosts", "links/indirect");
    files.link("no-such-file", "links/dangling");
    files.link("../links", "deep/link");
    succeed(Command::new("mkfifo").arg(files.project.join("pipes/pipe")));
    insta::assert_snapshot!("not_right", files.says());
}

#[test]
fn integration_files_where_a_binary_goes() {
    let files = Files::new(
        "[project]\nname = \"files\"\nplatforms = [\"linux/arm64\"]\n[binary.tool]\n\
         c = { sources = [\"*.c\"] }\n[image.files]\nfrom = \"scratch\"\nbinaries = [\"tool\"]\n\
         files = [{ from = \"x.c\", to = \"/usr/local/bin/tool\" }]\n",
    );
    files.write("x.c", "int main(void) { return 0; }\n");
    insta::assert_snapshot!("binary", files.says());
}

/// Armour of a key that is none, in pieces for those who look for keys here.
fn key(label: &str) -> String {
    let (begin, line) = (["-----BEGIN", label].join(" "), "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC");
    format!("{begin} PRIVATE KEY-----\n{line}\n-----END {label} PRIVATE KEY-----\n")
}

#[test]
fn integration_secrets_are_refused() {
    let files = Files::entries("  { from = \"app\", to = \"/app\" },\n");
    for (path, content) in [
        ("app/.env", ""),
        ("app/.env.production", ""),
        ("app/.env.example", ""),
        ("app/home/.aws/credentials", ""),
        ("app/home/.docker/config.json", "{\"auths\": {\"host\": {\"auth\": \"dXNlcjpw\"}}}"),
        ("app/home/.git-credentials", ""),
        ("app/home/.netrc", ""),
        ("app/home/.npmrc", "//host/:_authToken=npm_0123\n"),
        ("app/home/.pypirc", ""),
        ("app/home/.ssh/id_ed25519", ""),
        ("app/infrastructure/terraform.tfstate", ""),
        ("app/key.p12", ""),
        ("app/kubeconfig", ""),
        ("app/cluster.yaml", "user:\n  client-key-data: LS0tLS1CRUdJTg==\n"),
        ("app/tls/server.crt", "-----BEGIN CERTIFICATE-----\nMIIE\n"),
        ("app/putty", "PuTTY-User-Key-File-2: ssh-rsa\n"),
    ] {
        files.write(path, content);
    }
    files.write("app/tls/server.key", &key("RSA"));
    files.write("app/tls/old.txt", &format!("text\n{}", key("OPENSSH")));
    let account = format!("{{\"private_key\": {:?}}}", key("").replace("  ", " "));
    files.write("app/account.json", &account);
    let said = files.says();
    assert!(!said.contains("MIIE") && !said.contains("npm_"), "{said}");
    insta::assert_snapshot!("secrets", said);
    // Found again without being read again.
    assert_eq!(files.says(), said);
    // By name, and only by name.
    let names: Vec<&str> = said.lines().filter_map(|line| line.split('`').nth(1)).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.contains("exclude")).collect();
    files.set(&format!("  {{ from = \"app\", to = \"/app\", allow-secrets = {names:?} }},\n"));
    build(&mut xstitch(&files.project), &files.project);
    let listing = files.listing(&files.image("linux/amd64"), "files");
    assert!(listing.contains("app/tls/server.key\n"), "{listing}");
    files.set("  { from = \"app/t*/**\", to = \"/app\", exclude = [\"*.key\"] },\n");
    let said = files.says();
    assert_eq!(said.matches("looks like").count(), 1, "{said}");
}
