//! A rustup toolchain of the machine, where it has or can get every target.

use std::path::{Path, PathBuf};

use crate::machine::environment::Environment;
use crate::machine::process::Process;

/// A rustup toolchain with a standard library for every target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RustupChoice {
    /// Its folder, which holds `bin` and `lib`.
    pub root: PathBuf,
    /// What `rustc --version` prints.
    pub version: String,
}

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

/// The rustup toolchain that is active in `folder`, with every one of `triples`, asking rustup for those that
/// are missing unless `offline`; `announce` is told which and where they go. The error is
/// one line for people: why not.
pub fn choose(
    environment: &Environment,
    folder: &Path,
    triples: &[String],
    offline: bool,
    announce: &mut dyn FnMut(&[&String], &Path),
) -> Result<RustupChoice, String> {
    let rustup = environment.find_program("rustup").ok_or("there is no rustup on PATH")?;
    let run = |arguments: &[&str]| {
        let mut process = Process::new(&rustup).args(arguments.iter().copied());
        process.environment = environment.for_downloads();
        let process = process.folder(folder);
        let output = process.output().map_err(|error| error.to_string())?;
        if output.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            let text = output.text();
            let line = text.lines().find(|line| line.starts_with("error")).or(text.lines().next());
            Err(format!("`rustup {}`: {}", arguments.join(" "), line.unwrap_or("failed")))
        }
    };
    let rustc = PathBuf::from(run(&["which", "rustc"])?);
    let root =
        rustc.parent().and_then(Path::parent).ok_or("rustup names no toolchain folder")?.to_owned();
    let missing = || -> Vec<&String> {
        let has = |triple: &str| root.join("lib/rustlib").join(triple).join("lib").is_dir();
        triples.iter().filter(|triple| !has(triple)).collect()
    };
    let wanted = missing();
    if !wanted.is_empty() {
        if offline {
            return Err("the rustup toolchain lacks targets, and `--offline` was given".into());
        }
        announce(&wanted, &root);
        let mut arguments = vec!["target", "add"];
        arguments.extend(wanted.iter().map(|triple| triple.as_str()));
        run(&arguments)?;
        if let Some(triple) = missing().first() {
            return Err(format!("rustup added no standard library for {triple}"));
        }
    }
    if let Some(version) = installed_version(&root) {
        return Ok(RustupChoice { root, version });
    }
    let mut process = Process::new(&rustc).arg("--version");
    process.environment = environment.for_downloads();
    let output = process.output().map_err(|error| error.to_string())?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(RustupChoice { root, version })
}

/// What `rustc --version` would print, as rustup wrote it down when it installed the
/// toolchain: a build with nothing to do starts no compiler. Linked toolchains have none.
fn installed_version(root: &Path) -> Option<String> {
    let manifest = root.join("lib/rustlib/multirust-channel-manifest.toml");
    let text = std::fs::read_to_string(manifest).ok()?;
    let (_, rest) = text.split_once("\n[pkg.rustc]\nversion = \"")?;
    Some(format!("rustc {}", rest.split('"').next()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn check(add: &str) -> Result<RustupChoice, String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("toolchain");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::create_dir_all(root.join("lib/rustlib/x/lib")).unwrap();
        let script = |path: &Path, text: String| {
            std::fs::write(path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        script(&root.join("bin/rustc"), "#!/bin/sh\necho rustc 9.9.9\n".into());
        let root_text = root.display();
        script(
            &folder.path().join("rustup"),
            format!(
                "#!/bin/sh\ncase \"$1\" in\nwhich) echo {root_text}/bin/rustc ;;\n\
                 target) shift 2; for t; do {add}; done ;;\nesac\n"
            )
            .replace("ROOT", &root_text.to_string()),
        );
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let environment = Environment {
            variables: BTreeMap::from([("PATH".into(), path)]),
            folder: folder.path().to_owned(),
        };
        let mut announced = Vec::new();
        let choice = choose(
            &environment,
            folder.path(),
            &["x".into(), "y".into()],
            false,
            &mut |wanted, to| {
                announced.extend(wanted.iter().map(|triple| triple.to_string()));
                assert_eq!(to, root);
            },
        );
        assert_eq!(announced, ["y"]);
        choice
    }

    #[test]
    fn missing_targets_are_added() {
        let choice = check("mkdir -p ROOT/lib/rustlib/$t/lib").unwrap();
        assert_eq!(choice.version, "rustc 9.9.9");
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
