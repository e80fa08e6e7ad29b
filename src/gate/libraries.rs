//! No two layers of an image bring the same library.
//!
//! A loader takes one of them for every program, which may have been linked with the other.
//! Deliberately absent: private folders, whose libraries are found by those only that name
//! the folder, and what one layer holds twice, which is its maker's choice.

use std::collections::BTreeMap;

use crate::image::elf::ElfFacts;
use crate::image::summary::LayerSummary;
use crate::model::Finding;
use crate::toolchain::description::Description;

/// Folders in which a loader looks for every program; also below, that of the target's
/// multiarch triple.
const FOLDERS: [&str; 3] = ["lib", "usr/lib", "usr/local/lib"];

/// Links that are followed for one path, as Linux does.
const LINKS_AT_MOST: usize = 40;

/// A library in a layer: `layer` counts from the lowest.
struct Library<'a> {
    path: String,
    layer: usize,
    title: &'a str,
}

/// A finding `duplicate-soname` for each library of which an earlier layer has another: one
/// of the same SONAME at another path, or at the same path if both layers are of libraries.
/// `layers` are all of the image's with their titles, the lowest first.
pub fn check(layers: &[(&LayerSummary, &str)], target: &Description) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (soname, libraries) in libraries(layers, target) {
        for (index, library) in libraries.iter().enumerate() {
            let mut earlier = libraries[..index].iter();
            let Some(other) = earlier.find(|other| other.layer != library.layer) else { continue };
            findings.push(finding(soname, other, library));
        }
    }
    findings
}

fn finding(soname: &str, one: &Library<'_>, other: &Library<'_>) -> Finding {
    let message = format!(
        "/{} in layer `{}` and /{} in layer `{}` are both {soname}",
        one.path, one.title, other.path, other.title
    );
    Finding::new("duplicate-soname", message).help(format!(
        "programs load one of them and may need the other: leave out {} or {}",
        source(one),
        source(other)
    ))
}

/// What a user can leave out.
fn source(library: &Library<'_>) -> String {
    let Library { path, title, .. } = library;
    match kind(title) {
        Some("library") => format!("`{title}`"),
        Some(_) if title.starts_with("packages of ") => {
            format!("`library {}`", &title["packages of ".len()..])
        }
        Some(_) => format!("the package with /{path}"),
        None => format!("/{path} of `{title}`"),
    }
}

/// `library` or `packages` for a layer of libraries, by its title.
fn kind(title: &str) -> Option<&str> {
    let title = title.strip_prefix("common ").unwrap_or(title);
    let first = title.split(' ').next()?;
    ["library", "packages"].contains(&first).then_some(first)
}

/// Libraries in the loader's folders by SONAME, with those that another replaces.
fn libraries<'a>(
    layers: &[(&'a LayerSummary, &'a str)],
    target: &Description,
) -> BTreeMap<&'a str, Vec<Library<'a>>> {
    let mut links = BTreeMap::new();
    for (summary, _) in layers {
        links.retain(|path, _| !summary.elf.contains_key(*path));
        links.extend(summary.links.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    }
    // By path, the file and what it replaces.
    let mut files: BTreeMap<String, Vec<(usize, &str, &ElfFacts)>> = BTreeMap::new();
    for (layer, (summary, title)) in layers.iter().enumerate() {
        // Whoever brings a link to another library of the same name did not mean to replace one.
        let replaces = |there: &[(usize, &str, &ElfFacts)]| {
            let mut old = there.iter().map(|(_, old, _)| *old);
            kind(title).is_none() || old.any(|old| kind(old).is_none() || old == *title)
        };
        for path in summary.links.keys().map(|path| resolve(path, &links)) {
            if files.get(&path).is_some_and(|there| replaces(there)) {
                files.remove(&path);
            }
        }
        let found = summary.elf.iter().map(|(path, facts)| (resolve(path, &links), facts));
        for (path, facts) in found.filter(|(path, _)| is_searched(path, target)) {
            let there = files.entry(path).or_default();
            if replaces(there) {
                there.clear();
            }
            there.push((layer, title, facts));
        }
    }
    let mut libraries: BTreeMap<&str, Vec<Library<'_>>> = BTreeMap::new();
    for (path, files) in files {
        for (layer, title, facts) in files {
            let Some(soname) = &facts.soname else { continue };
            let library = Library { path: path.clone(), layer, title };
            libraries.entry(soname).or_default().push(library);
        }
    }
    libraries.values_mut().for_each(|found| found.sort_by_key(|library| library.layer));
    libraries
}

fn is_searched(path: &str, target: &Description) -> bool {
    let Some((folder, _)) = path.rsplit_once('/') else { return false };
    let folder = folder.strip_suffix(&format!("/{}", target.gnu_triple)).unwrap_or(folder);
    FOLDERS.contains(&folder)
}

/// `path` without links in the folders on the way to it. Where they go round in a circle,
/// the path as it is.
fn resolve(path: &str, links: &BTreeMap<&str, &str>) -> String {
    let mut done: Vec<&str> = Vec::new();
    let mut left: Vec<&str> = path.rsplit('/').collect();
    let mut followed = 0;
    while let Some(part) = left.pop() {
        match part {
            "" | "." => continue,
            ".." => done.truncate(done.len().saturating_sub(1)),
            part => done.push(part),
        }
        // The last part is the file itself.
        let Some(text) = links.get(done.join("/").as_str()).filter(|_| !left.is_empty()) else {
            continue;
        };
        followed += 1;
        if followed > LINKS_AT_MOST {
            return path.to_owned();
        }
        done.truncate(if text.starts_with('/') { 0 } else { done.len() - 1 });
        left.extend(text.rsplit('/'));
    }
    done.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::description::by_triple;

    const FOLDER: &str = "usr/lib/aarch64-linux-gnu";

    /// A layer with files, as `path SONAME`, and links, as `path -> text`.
    fn layer(lines: &[&str]) -> LayerSummary {
        let mut summary = LayerSummary::default();
        for line in lines {
            if let Some((path, text)) = line.split_once(" -> ") {
                summary.links.insert(path.into(), text.into());
                continue;
            }
            let (path, soname) = line.split_once(' ').unwrap_or((line, ""));
            let soname = Some(soname.to_owned()).filter(|soname| !soname.is_empty());
            summary.elf.insert(path.into(), ElfFacts { soname, ..ElfFacts::default() });
        }
        summary
    }

    fn check(layers: &[(&str, &[&str])]) -> Vec<Finding> {
        let summaries: Vec<_> = layers.iter().map(|(title, lines)| (layer(lines), title)).collect();
        let layers: Vec<_> = summaries.iter().map(|(summary, title)| (summary, **title)).collect();
        super::check(&layers, by_triple("aarch64-unknown-linux-gnu").unwrap())
    }

    #[test]
    fn one_name_at_two_paths_is_found() {
        let packaged = format!("{FOLDER}/libz.so.1.2.13 libz.so.1");
        let findings = check(&[
            ("packages", &[&packaged, "usr/bin/x"]),
            ("library z", &["usr/local/lib/libz.so.1.3 libz.so.1"]),
        ]);
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].to_string(),
            "/usr/lib/aarch64-linux-gnu/libz.so.1.2.13 in layer `packages` and \
             /usr/local/lib/libz.so.1.3 in layer `library z` are both libz.so.1 \
             [duplicate-soname]\n  help: programs load one of them and may need the other: leave \
             out the package with /usr/lib/aarch64-linux-gnu/libz.so.1.2.13 or `library z`"
        );
        let files: &[&str] = &["usr/lib/libz.so.1 libz.so.1"];
        let findings = check(&[("library z", &["lib/libz.so.1.3 libz.so.1"]), ("files", files)]);
        let help = findings[0].help.as_deref().unwrap();
        assert!(help.ends_with("`library z` or /usr/lib/libz.so.1 of `files`"), "{help}");
    }

    #[test]
    fn each_further_layer_is_told_once() {
        let findings = check(&[
            ("packages", &["usr/lib/a.so a", "usr/lib/b.so a"]),
            ("library x", &["usr/lib/c.so a", "usr/lib/other.so other"]),
            ("library y", &["usr/lib/d.so a"]),
        ]);
        let told: Vec<_> =
            findings.iter().map(|f| f.message.split_once(" and ").unwrap().1).collect();
        assert_eq!(
            told,
            [
                "/usr/lib/c.so in layer `library x` are both a",
                "/usr/lib/d.so in layer `library y` are both a"
            ]
        );
    }

    #[test]
    fn a_library_that_replaces_another_is_found() {
        let path: &[&str] = &["usr/lib/libz.so.1 libz.so.1"];
        let count = |layers: &[(&str, &[&str])]| check(layers).len();
        assert_eq!(count(&[("packages", path), ("library z", path)]), 1);
        assert_eq!(count(&[("library y", path), ("library z", path)]), 1);
        // The same library of a base, and what a user puts there by hand.
        assert_eq!(count(&[("library z", path), ("library z", path)]), 0);
        assert_eq!(count(&[("packages", path), ("files", path)]), 0);
        assert_eq!(count(&[("files", path), ("library z", path)]), 0);
        // By a link to another library of that name.
        let linked: &[&str] =
            &["usr/lib/libz.so.1.2 libz.so.1", "usr/lib/libz.so.1 -> libz.so.1.2"];
        assert_eq!(count(&[("library z", path), ("packages of zlib", linked)]), 1);
        assert_eq!(count(&[("packages of zlib", linked), ("library z", path)]), 1);
        assert_eq!(count(&[("library z", path), ("files", linked)]), 0);
        // Replaced by something else.
        let other: &[&str] = &["usr/lib/libz.so.1 libother.so.1"];
        assert_eq!(count(&[("packages", path), ("library z", other)]), 0);
        let link: &[&str] = &["usr/lib/libz.so.1 -> libother.so.1"];
        assert_eq!(count(&[("packages", path), ("files", link), ("library z", path)]), 0);
    }

    #[test]
    fn private_folders_are_left_alone() {
        let shared: (&str, &[&str]) = ("packages", &["usr/lib/libz.so.1 libz.so.1"]);
        for folder in
            ["opt/agent/lib", "usr/lib/agent", "usr/lib/x86_64-linux-gnu", "usr/lib64", "library"]
        {
            let line = format!("{folder}/libz.so.1 libz.so.1");
            assert_eq!(check(&[shared, ("library z", &[&line])]), [], "{folder}");
        }
        // Two of one layer, and files without a name.
        assert_eq!(check(&[("packages", &["usr/lib/a.so a", "usr/local/lib/a.so a"])]), []);
        assert_eq!(check(&[("packages", &["usr/lib/a.so"]), ("x", &["usr/lib/b.so"])]), []);
    }

    #[test]
    fn links_are_resolved() {
        let packaged = format!("{FOLDER}/libz.so.1 libz.so.1");
        let root: &[&str] =
            &["lib -> usr/lib", "usr/local/lib -> ../lib", "opt/z -> /usr/local/lib/./", &packaged];
        for path in [
            "lib/aarch64-linux-gnu/libz.so.1",
            "usr/local/lib/aarch64-linux-gnu/libz.so.1",
            "opt/z/aarch64-linux-gnu/libz.so.1",
        ] {
            let line = format!("{path} libz.so.1");
            assert_eq!(check(&[("packages", root), ("library z", &[&line])]).len(), 1, "{path}");
            assert_eq!(check(&[("packages", root), ("files", &[&line])]), [], "{path}");
        }
        let circle = layer(&["a -> b/c", "b -> a", "up -> ../../../x"]);
        let links = circle.links.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        let links = links.collect();
        assert_eq!(resolve("a/x", &links), "a/x");
        assert_eq!(resolve("up/y", &links), "x/y");
        assert_eq!(resolve("a", &links), "a");
    }
}
