#![allow(clippy::disallowed_macros, reason = "what is skipped is said on the screen")]

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::engine::tests::{engine, fetch, serve};
use crate::machine::environment::Environment;
use crate::model::Origin;

/// A repository of the test's own, in a folder with a `home` whose settings would change
/// every file.
struct Fixture {
    folder: tempfile::TempDir,
    git: PathBuf,
}

impl Fixture {
    /// Nothing, and a loud word about it, where there is no git. CI has one.
    fn new() -> Option<Self> {
        let environment = Environment::snapshot().unwrap();
        let Some(git) = environment.find_program("git") else {
            assert!(environment.get("CI").is_none(), "CI has to have git");
            eprintln!("SKIPPED: there is no git");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        let hooks = folder.path().join("home/hooks");
        fs::create_dir(&hooks).unwrap();
        fs::write(hooks.join("post-checkout"), "#!/bin/sh\ntouch hooked\n").unwrap();
        fs::set_permissions(hooks.join("post-checkout"), fs::Permissions::from_mode(0o755))
            .unwrap();
        let place = folder.path().join("home").display().to_string();
        let config = format!(
            "[core]\nautocrlf = true\nhooksPath = {place}/hooks\nattributesFile = {place}/attributes\n\
             [init]\ntemplateDir = {place}\n[filter \"lfs\"]\nsmudge = false\nrequired = true\n\
             [user]\nname = n\nemail = e\n[protocol \"file\"]\nallow = always\n"
        );
        fs::write(folder.path().join("home/.gitconfig"), config).unwrap();
        fs::write(folder.path().join("home/attributes"), "* eol=crlf ident\n").unwrap();
        Some(Self { folder, git })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, folder: &Path, arguments: &[&str]) -> String {
        let plain = ["core.autocrlf=false", "core.hooksPath=/dev/null", "filter.lfs.clean=cat"];
        let settings: Vec<&str> = plain.iter().flat_map(|setting| ["-c", setting]).collect();
        let output = Process::new(&self.git)
            .args(settings.iter().chain(arguments).copied())
            .env("HOME", self.path("home").to_string_lossy())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .folder(folder)
            .output()
            .unwrap();
        assert!(output.success(), "git {arguments:?}: {}", output.text());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A new repository with those files, and the name of its commit.
    fn repository(&self, name: &str, files: &[(&str, &str)]) -> (PathBuf, String) {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        self.run(&folder, &["init", "--quiet", "--initial-branch=main", "--template="]);
        (folder.clone(), self.commit(&folder, files))
    }

    fn commit(&self, folder: &Path, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            fs::write(folder.join(path), text).unwrap();
        }
        self.run(folder, &["add", "--all"]);
        self.run(folder, &["commit", "--quiet", "--message=x"]);
        self.run(folder, &["rev-parse", "HEAD"])
    }

    fn fetch(&self, url: impl Into<String>, commit: &str) -> Result<Vec<String>, UnitError> {
        let (engine, _told) = engine(self.folder.path(), true);
        fetch(&engine, &Origin::Git { url: url.into(), commit: commit.into() }, None)
    }
}

#[test]
fn a_commit_gives_the_same_tree_everywhere() {
    let Some(fixture) = Fixture::new() else { return };
    let files = [
        ("a.c", "int a;\n/* $Id$ */\n"),
        ("src/b.c", "$Format:%H$\n"),
        ("big.bin", "pointer\n"),
        (".gitattributes", "src/b.c export-subst\n*.bin filter=lfs\n"),
    ];
    let (folder, _) = fixture.repository("x", &files);
    fs::write(folder.join("run.sh"), "").unwrap();
    fs::set_permissions(folder.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a.c", folder.join("link.c")).unwrap();
    let first = fixture.commit(&folder, &[]);
    let second = fixture.commit(&folder, &[("later.c", "")]);
    let (engine, told) = engine(fixture.folder.path(), true);
    let get = |url: String, commit: &str| {
        let scratch = engine.store.scratch().unwrap();
        let out = scratch.path().join("out");
        fs::create_dir(&out).unwrap();
        let got = super::commit(&engine, "source of x", (&url, commit), scratch.path(), &out);
        got.map_err(|error| error.message).unwrap();
        for (path, text) in files {
            assert_eq!(fs::read_to_string(out.join(path)).unwrap(), text, "{path}");
        }
        let mode = fs::metadata(out.join("run.sh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        crate::store::describe(&out).unwrap().entries.into_keys().collect::<Vec<_>>()
    };
    let mut expected =
        vec![".gitattributes", "a.c", "big.bin", "link.c", "run.sh", "src", "src/b.c"];
    let url = folder.display().to_string();
    assert_eq!(get(format!("file://{url}"), &first), expected);
    assert_eq!(get(url.clone(), &first), expected);
    expected.insert(3, "later.c");
    expected.sort_unstable();
    assert_eq!(get(url, &second), expected);
    let told: Vec<String> = told.try_iter().map(|event| format!("{event:?}")).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("keeps files in Git LFS"), "{told:?}");
}

#[test]
fn submodules_come_along() {
    let Some(fixture) = Fixture::new() else { return };
    let (_, _) = fixture.repository("deep", &[("deep.c", "")]);
    let (inner, _) = fixture.repository("inner", &[("inner.c", "")]);
    fixture.run(&inner, &["submodule", "--quiet", "add", "../deep", "third/deep"]);
    fixture.commit(&inner, &[]);
    let (outer, _) = fixture.repository("outer", &[("outer.c", "")]);
    let place = inner.display().to_string();
    fixture.run(&outer, &["submodule", "--quiet", "add", &place, "inner"]);
    fixture.run(&outer, &["submodule", "--quiet", "add", "../deep", "unused"]);
    fixture.run(&outer, &["config", "--file", ".gitmodules", "submodule.unused.update", "none"]);
    let commit = fixture.commit(&outer, &[]);
    fixture.commit(&inner, &[("too-new.c", "")]);
    let files = fixture.fetch(outer.display().to_string(), &commit).map_err(|error| error.message);
    let expected = [
        ".gitmodules",
        "inner",
        "inner/.gitmodules",
        "inner/inner.c",
        "inner/third",
        "inner/third/deep",
        "inner/third/deep/deep.c",
        "outer.c",
        "unused",
    ];
    assert_eq!(files.unwrap(), expected);
}

#[test]
fn failures_say_what_is_missing() {
    let Some(fixture) = Fixture::new() else { return };
    let (folder, commit) = fixture.repository("x", &[("a.c", "")]);
    let url = folder.display().to_string();
    let check = |url: &str, commit: &str| fixture.fetch(url, commit).unwrap_err().message;
    let none = "0123456789012345678901234567890123456789";
    let error = check(&url, none);
    assert!(error.starts_with(&format!("{url} has no commit {none} in its branches")), "{error}");
    let tree = fixture.run(&folder, &["rev-parse", "HEAD^{tree}"]);
    assert!(fixture.fetch(&*url, &tree).is_err());
    fixture.run(&folder, &["tag", "--annotate", "--message=x", "v1"]);
    let tag = fixture.run(&folder, &["rev-parse", "v1"]);
    let error = check(&url, &tag);
    assert!(error.ends_with(&format!("`{tag}` is no commit, it leads to {commit}")), "{error}");
    assert!(check(&url, "v1").contains("no whole name of a commit"));
    assert!(check("--upload-pack=/evil", &commit).contains("no URL of a repository"));
    let error = check("https://me:s3cret@host.invalid/x.git", &commit);
    assert!(error.contains("--offline"), "{error}");
    let missing = fixture.fetch("/no/such/repository", &commit).unwrap_err();
    assert!(!missing.is_remote, "{}", missing.message);
    let (engine, _told) = engine(fixture.folder.path(), false);
    let url = "http://me:s3cret@127.0.0.1:1/x.git".to_owned();
    let error = fetch(&engine, &Origin::Git { url, commit }, None).unwrap_err();
    assert!(error.is_remote, "{}", error.message);
    assert!(!error.message.contains("s3cret"), "{}", error.message);
    symlink("/etc/passwd", folder.join("out")).unwrap();
    let commit = fixture.commit(&folder, &[]);
    let error = check(&folder.display().to_string(), &commit);
    assert!(error.contains("the link `out` leads out of the sources"), "{error}");
}

#[test]
fn a_server_that_gives_only_what_has_a_name_serves_too() {
    let Some(fixture) = Fixture::new() else { return };
    let (folder, first) = fixture.repository("x", &[("a.c", "")]);
    let (secret, _) = fixture.repository("secret", &[("s.c", "")]);
    let place = secret.display().to_string();
    fixture.run(&folder, &["submodule", "--quiet", "add", &place, "secret"]);
    let second = fixture.commit(&folder, &[]);
    fixture.run(&folder, &["update-server-info"]);
    // Plain files, as a web server without git gives them.
    let url = format!("{}/.git", serve(&folder));
    let (engine, told) = engine(fixture.folder.path(), false);
    let get = |commit| fetch(&engine, &Origin::Git { url: url.clone(), commit }, None);
    assert_eq!(get(first).map_err(|error| error.message).unwrap(), ["a.c"]);
    assert_eq!(told.try_iter().count(), 2);
    // A repository from elsewhere may not name one of this machine.
    let error = get(second).unwrap_err().message;
    assert!(error.contains("transport 'file' not allowed"), "{error}");
}

#[test]
fn relative_urls_of_submodules() {
    for (base, url, expected) in [
        ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
        ("https://h/a/b.git/", "./c.git", "https://h/a/b.git/c.git"),
        ("https://h/a/b.git", "../../c/d.git", "https://h/c/d.git"),
        ("git@h:a/b.git", "../c.git", "git@h:a/c.git"),
        ("git@h:b.git", "../c.git", "git@h:c.git"),
        ("/srv/a", "../b", "/srv/b"),
        ("/srv/a", "https://h/b", "https://h/b"),
    ] {
        assert_eq!(relative_url(base, url), expected);
    }
}

#[test]
fn modules_are_read_as_git_says_them() {
    let listed = "submodule.a.b.path\nthird/a\0submodule.a.b.url\n../a\0submodule.c.url\n../c\0\
                  submodule.d.path\nd\0submodule.d.url\n../d\0submodule.d.update\nnone\0";
    let modules = parse_modules(listed);
    assert_eq!(modules, BTreeMap::from([("third/a".to_owned(), "../a".to_owned())]));
}
