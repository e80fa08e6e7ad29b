//! A rustup toolchain of the machine, where it has or can get every target.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::machine::environment::Environment;
use crate::machine::process::Process;
use crate::model::Digest;

/// The parts of a rustup toolchain that compile for `triples`, as paths in it. Others, such
/// as documentation, differ from machine to machine; with the sources of the standard
/// library, even the compiler's output differs.
pub fn parts(root: &Path, triples: &[String]) -> std::io::Result<Vec<String>> {
    let mut parts = vec!["bin/cargo".to_owned(), "bin/rustc".to_owned()];
    for entry in std::fs::read_dir(root.join("lib"))? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            parts.push(format!("lib/{}", entry.file_name().to_string_lossy()));
        }
    }
    parts.extend(triples.iter().map(|triple| standard_library(triple)));
    parts.sort();
    parts.dedup();
    Ok(parts)
}

/// The folder of a target's standard library in a toolchain.
pub fn standard_library(triple: &str) -> String {
    format!("lib/rustlib/{triple}")
}

/// What decides which toolchain rustup says is active in a folder. While it is the same, rustup
/// need not be asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guards {
    folder: PathBuf,
    /// Those of the variables that rustup is given which it looks at.
    variables: BTreeMap<String, String>,
    /// Names of the toolchains that it has, with what they link to.
    toolchains: Vec<(PathBuf, Option<PathBuf>)>,
    /// The program, its settings with overrides and default, and the files that folders of a
    /// project may have; with their digests where they are there.
    files: Vec<(PathBuf, Option<Digest>)>,
}

impl Guards {
    /// Those of now. `digest` gives the digest of a file that is there. Nothing, where rustup
    /// or its folder are not found.
    pub fn of(
        environment: &Environment,
        folder: &Path,
        mut digest: impl FnMut(&Path) -> Option<Digest>,
    ) -> Option<Self> {
        let program = environment.find_program("rustup")?;
        let mut variables = environment.for_downloads();
        variables.retain(|name, _| {
            matches!(name.as_str(), "CARGO_HOME" | "HOME" | "RUSTUP_HOME" | "RUSTUP_TOOLCHAIN")
        });
        let own = match variables.get("RUSTUP_HOME").filter(|place| !place.is_empty()) {
            Some(place) => folder.join(place),
            None => Path::new(variables.get("HOME")?).join(".rustup"),
        };
        let toolchains = std::fs::read_dir(own.join("toolchains")).ok()?;
        let mut toolchains: Vec<(PathBuf, Option<PathBuf>)> = toolchains
            .map(|entry| entry.map(|entry| entry.path()))
            .map(|path| path.map(|path| (path.clone(), std::fs::read_link(path).ok())))
            .collect::<Result<_, _>>()
            .ok()?;
        toolchains.sort();
        let overrides = folder.ancestors().flat_map(|folder| {
            ["rust-toolchain", "rust-toolchain.toml"].map(|name| folder.join(name))
        });
        let settings = [own.join("settings.toml"), "/etc/rustup/settings.toml".into()];
        let files = std::iter::once(program).chain(settings).chain(overrides);
        let files = files.map(|path| (path.clone(), digest(&path))).collect();
        Some(Self { folder: folder.to_owned(), variables, toolchains, files })
    }
}

/// A rustup of the machine.
pub struct Rustup<'a> {
    environment: &'a Environment,
    folder: &'a Path,
    program: PathBuf,
}

impl<'a> Rustup<'a> {
    /// The one on `PATH`, for a project in `folder`. The error is one line for people.
    pub fn find(environment: &'a Environment, folder: &'a Path) -> Result<Self, String> {
        let program = environment.find_program("rustup").ok_or("there is no rustup on PATH")?;
        Ok(Self { environment, folder, program })
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut process = Process::new(&self.program).args(arguments.iter().copied());
        process.environment = self.environment.for_downloads();
        let output = process.folder(self.folder).output().map_err(|error| error.to_string())?;
        if output.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            let text = output.text();
            let line = text.lines().find(|line| line.starts_with("error")).or(text.lines().next());
            Err(format!("`rustup {}`: {}", arguments.join(" "), line.unwrap_or("failed")))
        }
    }

    /// Asks which toolchain is active in the folder.
    pub fn active(&self) -> Result<PathBuf, String> {
        let rustc = PathBuf::from(self.run(&["which", "rustc"])?);
        let root = rustc.parent().and_then(Path::parent);
        Ok(root.ok_or("rustup names no toolchain folder")?.to_owned())
    }

    /// Gives the toolchain in `root` those of `triples` that it lacks, unless `offline`;
    /// `announce` is told which and where they go.
    pub fn complete(
        &self,
        root: &Path,
        triples: &[String],
        offline: bool,
        announce: &mut dyn FnMut(&[&String], &Path),
    ) -> Result<(), String> {
        let missing = || -> Vec<&String> {
            let has = |triple: &str| root.join("lib/rustlib").join(triple).join("lib").is_dir();
            triples.iter().filter(|triple| !has(triple)).collect()
        };
        let wanted = missing();
        if wanted.is_empty() {
            return Ok(());
        }
        if offline {
            return Err("the rustup toolchain lacks targets, and `--offline` was given".into());
        }
        announce(&wanted, root);
        let mut arguments = vec!["target", "add"];
        arguments.extend(wanted.iter().map(|triple| triple.as_str()));
        self.run(&arguments)?;
        match missing().first() {
            Some(triple) => Err(format!("rustup added no standard library for {triple}")),
            None => Ok(()),
        }
    }
}

/// What `rustc --version` prints, of the toolchain in `root`.
pub fn version(environment: &Environment, root: &Path) -> Result<String, String> {
    if let Some(version) = installed_version(root) {
        return Ok(version);
    }
    let mut process = Process::new(root.join("bin/rustc")).arg("--version");
    process.environment = environment.for_downloads();
    let output = process.output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What `rustc --version` would print, as rustup wrote it down when it installed the
/// toolchain. Linked toolchains have none.
fn installed_version(root: &Path) -> Option<String> {
    let manifest = root.join("lib/rustlib/multirust-channel-manifest.toml");
    let text = std::fs::read_to_string(manifest).ok()?;
    let (_, rest) = text.split_once("\n[pkg.rustc]\nversion = \"")?;
    Some(format!("rustc {}", rest.split('"').next()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn environment(folder: &Path) -> Environment {
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let home = folder.display().to_string();
        Environment {
            variables: BTreeMap::from([("PATH".into(), path), ("HOME".into(), home)]),
            folder: folder.to_owned(),
        }
    }

    /// What is found with a rustup that adds a target by the script `add`.
    fn check(add: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("toolchain");
        std::fs::create_dir_all(root.join("lib/rustlib/x/lib")).unwrap();
        script(&root.join("bin/rustc"), "#!/bin/sh\necho rustc 9.9.9\n");
        let root_text = root.display().to_string();
        let text = format!(
            "#!/bin/sh\ncase \"$1\" in\nwhich) echo {root_text}/bin/rustc ;;\n\
             target) shift 2; for t; do {add}; done ;;\nesac\n"
        );
        script(&folder.path().join("rustup"), &text.replace("ROOT", &root_text));
        let environment = environment(folder.path());
        let mut announced = Vec::new();
        let rustup = Rustup::find(&environment, folder.path()).unwrap();
        assert_eq!(rustup.active().unwrap(), root);
        let triples = ["x".to_owned(), "y".to_owned()];
        let done = rustup.complete(&root, &triples, false, &mut |wanted, to| {
            announced.extend(wanted.iter().map(|triple| triple.to_string()));
            assert_eq!(to, root);
        });
        assert_eq!(announced, ["y"]);
        done.and_then(|()| version(&environment, &root))
    }

    #[test]
    fn missing_targets_are_added() {
        assert_eq!(check("mkdir -p ROOT/lib/rustlib/$t/lib").unwrap(), "rustc 9.9.9");
    }

    #[test]
    fn whatever_rustup_reads_is_a_guard() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("work/project");
        std::fs::create_dir_all(&project).unwrap();
        let own = folder.path().join(".rustup");
        let mut environment = environment(folder.path());
        let of = |environment: &Environment| {
            let digest = |path: &Path| Some(Digest::of(&std::fs::read(path).ok()?));
            Guards::of(environment, &project, digest)
        };
        assert_eq!(of(&environment), None);
        script(&folder.path().join("rustup"), "#!/bin/sh\n");
        std::fs::create_dir_all(own.join("toolchains/a")).unwrap();
        let mut seen = vec![of(&environment).unwrap()];
        assert_eq!(of(&environment).as_ref(), seen.last());
        let mut differs = |environment: &Environment, what: &str| {
            let now = of(environment).unwrap();
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        let texts = ["[overrides]\n", "default_toolchain = \"a\"\n"];
        for text in texts {
            std::fs::write(own.join("settings.toml"), text).unwrap();
            differs(&environment, text);
        }
        for place in ["work/project/rust-toolchain", "work/rust-toolchain.toml"] {
            std::fs::write(folder.path().join(place), "[toolchain]\n").unwrap();
            differs(&environment, place);
        }
        for target in ["a", "/b"] {
            let link = own.join("toolchains/linked");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(target, link).unwrap();
            differs(&environment, target);
        }
        std::fs::remove_dir(own.join("toolchains/a")).unwrap();
        differs(&environment, "a toolchain is gone");
        script(&folder.path().join("rustup"), "#!/bin/sh\n:\n");
        differs(&environment, "another rustup");
        environment.variables.insert("RUSTUP_TOOLCHAIN".into(), "b".into());
        differs(&environment, "RUSTUP_TOOLCHAIN");
        std::fs::create_dir_all(folder.path().join("home/toolchains")).unwrap();
        let home = folder.path().join("home").display().to_string();
        environment.variables.insert("RUSTUP_HOME".into(), home);
        differs(&environment, "RUSTUP_HOME");
    }

    #[test]
    fn versions_are_those_that_rustup_wrote_down() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(installed_version(root.path()), None);
        let folder = root.path().join("lib/rustlib");
        std::fs::create_dir_all(&folder).unwrap();
        let text = "[pkg.cargo]\nversion = \"1\"\n\n[pkg.rustc]\nversion = \"9.9 (a 2)\"\n\n";
        std::fs::write(folder.join("multirust-channel-manifest.toml"), text).unwrap();
        assert_eq!(installed_version(root.path()).as_deref(), Some("rustc 9.9 (a 2)"));
    }

    #[test]
    fn a_rustup_that_cannot_add_says_why() {
        let error = check("echo 'error: could not download' >&2; exit 1").unwrap_err();
        assert_eq!(error, "`rustup target add y`: error: could not download");
        let error = check("true").unwrap_err();
        assert_eq!(error, "rustup added no standard library for y");
    }
}
