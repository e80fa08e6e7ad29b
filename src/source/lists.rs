//! What apt says of its package lists, and what they depend on.
//!
//! Deliberately absent: running apt, and any way round what it refuses.

use std::fs;
use std::path::PathBuf;

use super::relation::{Operator, groups};
use super::release_file::{Release, without_armor};
use crate::model::Digest;

/// Lines of an update that are news for a person: a source that has nothing for
/// `architecture` is no error, but its packages, such as security updates, are missing.
pub fn sources_without(text: &str, architecture: &str) -> Vec<String> {
    let list = format!("/binary-{architecture}/Packages'");
    text.lines()
        .filter(|line| line.starts_with("N: ") || line.starts_with("W: "))
        .filter(|line| line.contains("Skipping acquire") && line.contains(&list))
        .filter_map(|line| line.split("repository '").nth(1)?.split('\'').next())
        .map(|source| source.trim_end_matches(" InRelease").trim_end_matches(" Release"))
        .map(|source| format!("{source} has no packages for {architecture}"))
        .collect()
}

/// The files that say which sources there are, from what `apt-config shell` prints for
/// `LIST` and `PARTS`.
pub fn source_files(shell: &str) -> Vec<PathBuf> {
    let value = |name: &str| {
        shell.lines().find_map(|line| {
            let text = line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\'')?;
            Some(PathBuf::from(text.replace("'\\''", "'")))
        })
    };
    let mut files: Vec<PathBuf> = value("LIST").into_iter().collect();
    let parts = value("PARTS").and_then(|folder| fs::read_dir(folder).ok());
    files.extend(parts.into_iter().flatten().flatten().map(|entry| entry.path()));
    files.sort();
    files
}

/// The digest of those files; one that cannot be read counts as empty, as for apt.
pub fn digest_of_sources(files: &[PathBuf]) -> Digest {
    let texts: Vec<(&PathBuf, Vec<u8>)> =
        files.iter().map(|file| (file, fs::read(file).unwrap_or_default())).collect();
    Digest::of(&serde_json::to_vec(&texts).expect("paths from text and bytes can be written"))
}

/// What of apt's output a person needs: its errors, else its warnings, else everything.
pub fn problems(text: &str) -> String {
    let starting = |start: &[&str]| -> Vec<&str> {
        text.lines().filter(|line| start.iter().any(|start| line.starts_with(start))).collect()
    };
    let (errors, warnings) = (starting(&["E:"]), starting(&["W:", "Err:"]));
    match (errors.is_empty(), warnings.is_empty()) {
        (false, _) => errors.join("\n"),
        (true, false) => warnings.join("\n"),
        (true, true) => text.to_owned(),
    }
}

/// A package list of apt's.
#[derive(Clone, Debug)]
pub struct AptList {
    /// Where it is.
    pub path: PathBuf,
    /// What its suite says of itself, if that can be read.
    pub release: Release,
}

/// The lists that apt names, one a line: the file, and its name in the suite. The release
/// file, which apt has checked, is beside it under the start of its name.
pub fn targets(text: &str) -> Vec<AptList> {
    let mut lists = Vec::new();
    for line in text.lines() {
        let Some((path, key)) = line.split_once('\t') else { continue };
        let path = PathBuf::from(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let start = name.rfind(&format!("_{}", key.replace('/', "_"))).unwrap_or(0);
        let beside = ["InRelease", "Release"]
            .iter()
            .map(|end| path.with_file_name(format!("{}_{end}", &name[..start])));
        let release = beside
            .filter_map(|file| fs::read_to_string(file).ok())
            .find_map(|text| Release::parse(without_armor(&text)).ok())
            .unwrap_or_default();
        lists.push(AptList { path, release });
    }
    lists
}

/// Of a package: what it depends on in its own version and is no development package, and
/// the development packages that it depends on.
pub fn run_time_depends(depends: &str, version: &str) -> (Vec<String>, Vec<String>) {
    let (mut libraries, mut others) = (Vec::new(), Vec::new());
    for group in groups(depends) {
        let Some(first) = group.first() else { continue };
        if first.name.ends_with("-dev") {
            others.push(first.name.to_owned());
        } else if first.version == Some((Operator::Equal, version)) {
            libraries.push(first.name.to_owned());
        }
    }
    (libraries, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_lack_an_architecture_are_named() {
        let text = "N: Skipping acquire of configured file 'main/binary-s390x/Packages' as \
                    repository 'x://y/z bookworm-security InRelease' doesn't support \
                    architecture 's390x'\n\
                    W: Skipping acquire of configured file 'main/binary-s390x/Packages' as \
                    repository 'file:/r x InRelease' does not seem to provide it\n\
                    N: Ignoring file 'x' in directory 'y'\n";
        assert_eq!(
            sources_without(text, "s390x"),
            [
                "x://y/z bookworm-security has no packages for s390x",
                "file:/r x has no packages for s390x"
            ]
        );
        assert_eq!(sources_without(text, "arm64"), [] as [String; 0]);
    }

    #[test]
    fn lists_depend_on_every_source() {
        let folder = tempfile::tempdir().unwrap();
        let (list, parts) = (folder.path().join("sources.list"), folder.path().join("parts"));
        fs::create_dir(&parts).unwrap();
        fs::write(&list, "deb x y z\n").unwrap();
        let shell = format!("LIST='{}'\nPARTS='{}'\n", list.display(), parts.display());
        let digest = || digest_of_sources(&source_files(&shell));
        assert_eq!(source_files(&shell), std::slice::from_ref(&list));
        let first = digest();
        fs::write(parts.join("more.list"), "deb a b c\n").unwrap();
        let second = digest();
        assert_ne!(second, first);
        fs::write(&list, "deb x y main\n").unwrap();
        assert_ne!(digest(), second);
    }

    #[test]
    fn errors_are_told_without_progress() {
        let text = "Get:1 x\nE: Failed to fetch y\nW: z\n";
        assert_eq!(problems(text), "E: Failed to fetch y");
        assert_eq!(problems("Get:1 x\nW: z\n"), "W: z");
        assert_eq!(problems("apt: not found"), "apt: not found");
    }
}

#[cfg(test)]
mod run_time_tests {
    #[test]
    fn libraries_are_found_by_version() {
        let depends = "libzmq5 (= 4.3.4-6), libpgm-dev (>= 5), libkrb5-dev | heimdal-dev, \
                       libc6-dev, libx (= 4.3)";
        let (libraries, others) = super::run_time_depends(depends, "4.3.4-6");
        assert_eq!(libraries, ["libzmq5"]);
        assert_eq!(others, ["libpgm-dev", "libkrb5-dev", "libc6-dev"]);
    }
}
