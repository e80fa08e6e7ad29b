//! Where libraries come from: workspaces without a lock file, archives with one, archives that
//! are others than declared, packages that exclude one another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{build, succeed, text, xstitch};
use crate::libraries::{digest, images, project, titles};

const HEAD: &str = "[project]\nname = \"sources\"\nplatforms = [\"linux/arm64\"]\n";

const IMAGE: &str = "from = { packages = [\"base-files\", \"libc6\", \"libgcc-s1\"] }\n";

/// A program that is linked with the library `x` of Rust.
const PROGRAM: &str = "[binary.program]\nc = { sources = [\"program/*.c\"], ldflags = [\"-lx\"] }\n\
                       libraries = [\"x\"]\n";

const MAIN: &str = "int x_answer(void);\nint main(void) { return x_answer(); }\n";

fn tables(library: &str) -> String {
    format!(
        "{HEAD}[library.x]\n{library}\n{PROGRAM}[image.sources]\n{IMAGE}binaries = [\"program\"]\n"
    )
}

#[test]
fn integration_a_member_of_a_workspace_without_a_lock_file() {
    let folder = tempfile::tempdir().unwrap();
    let project = project(
        folder.path(),
        "member",
        &[
            ("images.toml", &tables("cargo = { path = \"rust\", folder = \"crates/x\" }")),
            ("program/main.c", MAIN),
            ("rust/Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"2\"\n"),
            (
                "rust/crates/x/Cargo.toml",
                "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\n\
                 crate-type = [\"cdylib\"]\n[dependencies]\nbeside = { path = \"../beside\" }\n",
            ),
            (
                "rust/crates/x/src/lib.rs",
                "#[no_mangle]\npub extern \"C\" fn x_answer() -> i32 { beside::answer() }\n",
            ),
            (
                "rust/crates/beside/Cargo.toml",
                "[package]\nname = \"beside\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
            ),
            ("rust/crates/beside/src/lib.rs", "pub fn answer() -> i32 { 42 }\n"),
        ],
    );
    build(&mut xstitch(&project), &project);
    let image = images(&project).remove("sources").unwrap().remove("linux/arm64").unwrap();
    assert!(titles(&image).contains(&"library x"), "{:?}", titles(&image));
    let pinned = fs::read_to_string(project.join("images.lock")).unwrap();
    assert!(pinned.contains("\n[cargo.\"library x\"]\n"), "{pinned}");
    assert!(!project.join("rust/Cargo.lock").exists());
    // What lies outside the folder where cargo starts is a source like any other.
    let before = digest(&image, "library x").to_owned();
    fs::write(project.join("rust/crates/beside/src/lib.rs"), "pub fn answer() -> i32 { 43 }\n")
        .unwrap();
    build(xstitch(&project).arg("--locked"), &project);
    let image = images(&project).remove("sources").unwrap().remove("linux/arm64").unwrap();
    assert_ne!(digest(&image, "library x"), before);
}

/// Packs a folder, and returns the archive's hash.
fn pack(folder: &Path, archive: &Path) -> String {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "-cf"]);
    succeed(tar.arg(archive).arg("-C").arg(folder).arg("."));
    let output = succeed(Command::new("sha256sum").arg(archive));
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

/// A project whose library is in an archive beside it, and what `library` makes of the
/// archive's path and hash.
fn archived(
    folder: &Path,
    files: &[(&str, &str)],
    library: impl Fn(&str, &str) -> String,
) -> PathBuf {
    let source = folder.join("source");
    for (path, content) in files {
        let path = source.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let archive = folder.join("source.tar");
    let hash = pack(&source, &archive);
    let library = library(&archive.display().to_string(), &hash);
    project(folder, "archived", &[("images.toml", &tables(&library)), ("program/main.c", MAIN)])
}

#[test]
fn integration_an_archive_brings_its_lock_file() {
    // As nobody but its author would write it.
    let lock = "# By hand, and \"so\".\n\nversion = 3\n\n[[package]]\nname = \"x\"\n\
                version = \"0.1.0\"\n\n\n";
    let folder = tempfile::tempdir().unwrap();
    let files = [
        (
            "x-0.1.0/Cargo.toml",
            "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\n\
             crate-type = [\"cdylib\"]\n[workspace]\n",
        ),
        ("x-0.1.0/Cargo.lock", lock),
        ("x-0.1.0/src/lib.rs", "#[no_mangle]\npub extern \"C\" fn x_answer() -> i32 { 1 }\n"),
    ];
    let project = archived(folder.path(), &files, |archive, hash| {
        format!("cargo = {{ archive = \"file://{archive}\", sha256 = \"{hash}\" }}")
    });
    build(&mut xstitch(&project), &project);
    let pinned = fs::read_to_string(project.join("images.lock")).unwrap();
    let pinned = pinned.split("[cargo.\"library x\"]\n").nth(1).unwrap();
    assert!(pinned.contains(&format!("\nlock = '''\n{lock}'''\n")), "{pinned}");
    succeed(xstitch(&project).args(["plan", "--locked", "--offline"]));
}

#[test]
fn integration_an_archive_with_another_hash() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("x-1/x.c", "int x_answer(void);\n")];
    let project = archived(folder.path(), &files, |archive, _| {
        let other = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        format!("make = {{ archive = \"file://{archive}\", sha256 = \"{other}\" }}")
    });
    let output = xstitch(&project).arg("--quiet").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let archive = folder.path().join("source.tar");
    let found = String::from_utf8(succeed(Command::new("sha256sum").arg(archive)).stdout).unwrap();
    let said = text(&output)
        .replace(&folder.path().display().to_string(), "FOLDER")
        .replace(&found[..64], "FOUND");
    insta::assert_snapshot!("hash", said);
}

#[test]
fn integration_packages_that_exclude_one_another() {
    let tables = format!(
        "{HEAD}[library.openssl]\npackages = [\"libcurl4-openssl-dev\"]\n\
         [library.gnutls]\npackages = [\"libcurl4-gnutls-dev\"]\n\
         [binary.one]\nc = {{ sources = [\"program/*.c\"], ldflags = [\"-lcurl\"] }}\n\
         libraries = [\"openssl\"]\n\
         [binary.two]\nc = {{ sources = [\"program/*.c\"], ldflags = [\"-lcurl-gnutls\"] }}\n\
         libraries = [\"gnutls\"]\n\
         [image.one]\n{IMAGE}binaries = [\"one\"]\n[image.two]\n{IMAGE}binaries = [\"two\"]\n"
    );
    let main = "#include <curl/curl.h>\nint main(void) { return curl_version()[0] == 'x'; }\n";
    let folder = tempfile::tempdir().unwrap();
    let project =
        project(folder.path(), "two", &[("images.toml", &tables), ("program/main.c", main)]);
    build(&mut xstitch(&project), &project);
    for (name, title) in [("one", "packages of openssl"), ("two", "packages of gnutls")] {
        let image = images(&project).remove(name).unwrap().remove("linux/arm64").unwrap();
        assert!(titles(&image).contains(&title), "{:?}", titles(&image));
    }
    let pinned = fs::read_to_string(project.join("images.lock")).unwrap();
    for sysroot in ["libcurl4-openssl-dev", "libcurl4-gnutls-dev"] {
        assert!(pinned.contains(&format!("[packages.\"sysroot arm64 {sysroot}\"]")), "{sysroot}");
    }
}
