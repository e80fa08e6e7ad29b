//! No file of an image needs a newer glibc than the image has.
//!
//! Deliberately absent: images without glibc. What loads their programs is another check's.

use std::fmt;
use std::str::FromStr;

use crate::image::elf::ElfFacts;
use crate::image::summary::LayerSummary;
use crate::model::Finding;

const SONAME: &str = "libc.so.6";
/// Of symbol versions that are releases.
const RELEASE: &str = "GLIBC_";
/// Of symbol versions that are features of the loader, such as `GLIBC_ABI_DT_RELR`.
const FEATURE: &str = "GLIBC_ABI_";

/// A release of glibc, such as 2.36 or 2.2.5. Ordered by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GlibcVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third, 0 where there is none.
    pub patch: u32,
}

impl GlibcVersion {
    /// The release that a symbol version names: `GLIBC_2.36` is 2.36. `None` for what names
    /// none, such as `GLIBC_PRIVATE` and `GCC_3.0`.
    pub fn of_symbol_version(version: &str) -> Option<Self> {
        version.strip_prefix(RELEASE)?.parse().ok()
    }
}

impl FromStr for GlibcVersion {
    type Err = String;

    /// Parses two or three numbers with dots between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse::<u32>().ok() } else { None }
        };
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        match numbers.as_deref() {
            Some(&[major, minor]) => Ok(Self { major, minor, patch: 0 }),
            Some(&[major, minor, patch]) => Ok(Self { major, minor, patch }),
            _ => Err(format!("`{text}` is no version of glibc, such as 2.36")),
        }
    }
}

impl fmt::Display for GlibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch == 0 { Ok(()) } else { write!(f, ".{}", self.patch) }
    }
}

/// The highest release that one of the symbol versions names.
pub fn highest(versions: impl IntoIterator<Item = impl AsRef<str>>) -> Option<GlibcVersion> {
    versions
        .into_iter()
        .filter_map(|version| GlibcVersion::of_symbol_version(version.as_ref()))
        .max()
}

/// The oldest glibc that a file can be loaded with: the highest release that it needs of any
/// library, as glibc is several. `None` if it needs none, as what is linked statically.
pub fn required(facts: &ElfFacts) -> Option<GlibcVersion> {
    highest(facts.requires.values().flatten())
}

/// A finding `glibc-too-new` for each ELF file that needs a higher release than any
/// `libc.so.6` of the image has, or a feature of the loader that none has. `layers` are all
/// of the image's with their titles, the lowest first; files that a later one replaces are
/// not looked at.
pub fn check(layers: &[(&LayerSummary, &str)]) -> Vec<Finding> {
    let is_replaced = |path: &String, layer: usize| {
        let mut above = layers[layer + 1..].iter();
        above.any(|(summary, _)| summary.elf.contains_key(path) || summary.links.contains_key(path))
    };
    let files: Vec<(&String, &ElfFacts, &str)> = layers
        .iter()
        .enumerate()
        .flat_map(|(layer, (summary, title))| {
            summary.elf.iter().map(move |(path, facts)| (layer, path, facts, *title))
        })
        .filter(|(layer, path, ..)| !is_replaced(path, *layer))
        .map(|(_, path, facts, title)| (path, facts, title))
        .collect();
    let defined: Vec<&String> = files
        .iter()
        .filter(|(_, facts, _)| facts.soname.as_deref() == Some(SONAME))
        .flat_map(|(_, facts, _)| &facts.defines)
        .collect();
    let Some(floor) = highest(&defined) else { return Vec::new() };
    let too_new = |facts: &ElfFacts| {
        if let Some(needed) = required(facts).filter(|needed| *needed > floor) {
            return Some(format!("{RELEASE}{needed}"));
        }
        let mut features = facts.requires.get(SONAME)?.iter();
        features.find(|name| name.starts_with(FEATURE) && !defined.contains(name)).cloned()
    };
    files
        .iter()
        .filter_map(|(path, facts, title)| {
            let needed = too_new(facts)?;
            let message = format!(
                "/{path} in layer `{title}` needs {needed}, the image's {SONAME} has at most \
                 {RELEASE}{floor}"
            );
            Some(Finding::new("glibc-too-new", message).help(
                "it cannot be loaded there: compile it against the image's own suite, take a \
                 build of it for an older glibc, or base the image on a newer suite",
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libc(defines: &[&str]) -> ElfFacts {
        ElfFacts {
            soname: Some(SONAME.into()),
            defines: defines.iter().map(ToString::to_string).collect(),
            ..ElfFacts::default()
        }
    }

    fn program(requires: &[(&str, &[&str])]) -> ElfFacts {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let requires = requires.iter().map(|(file, names)| (file.to_string(), texts(names)));
        ElfFacts { requires: requires.collect(), ..ElfFacts::default() }
    }

    fn layer(files: &[(&str, ElfFacts)]) -> LayerSummary {
        let elf = files.iter().map(|(path, facts)| (path.to_string(), facts.clone())).collect();
        LayerSummary { elf, ..LayerSummary::default() }
    }

    fn root() -> LayerSummary {
        let defines = ["GLIBC_2.2.5", "GLIBC_2.36", "GLIBC_2.4", "GLIBC_PRIVATE"];
        layer(&[("usr/lib/x86_64-linux-gnu/libc.so.6", libc(&defines))])
    }

    fn messages(layers: &[(&LayerSummary, &str)]) -> Vec<String> {
        check(layers).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn versions_are_numbers() {
        let version = |text: &str| text.parse::<GlibcVersion>();
        assert!(version("2.4") < version("2.36"));
        assert!(version("2.2.5") < version("2.3"));
        assert!(version("2.2.5") > version("2.2"));
        for text in ["2.36", "2.2.5"] {
            assert_eq!(version(text).map(|version| version.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "2", "2.", "2.+3", "2.3.4.5", "2.99999999999", "PRIVATE", "ABI_DT_RELR"] {
            assert!(version(text).is_err(), "{text}");
        }
        assert_eq!(highest(["GLIBC_PRIVATE", "GCC_14.0", "GLIBCXX_3.4.30"]), None);
        assert_eq!(highest(["GLIBC_2.9", "GLIBC_2.17", "GLIBC_2.2.5"]), version("2.17").ok());
    }

    #[test]
    fn files_that_need_a_newer_glibc_are_found() {
        let binaries = layer(&[
            ("usr/local/bin/agent", program(&[("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.38"])])),
            ("usr/local/bin/floor", program(&[("libc.so.6", &["GLIBC_2.36", "GLIBC_2.9"])])),
            ("usr/local/bin/maths", program(&[("libm.so.6", &["GLIBC_2.37"])])),
            ("usr/local/bin/other", program(&[("libgcc_s.so.1", &["GCC_14.0.0"])])),
            ("usr/local/bin/static", program(&[])),
        ]);
        let findings = check(&[(&root(), "packages"), (&binaries, "binary agent")]);
        assert_eq!(findings.len(), 2);
        assert_eq!(findings[0].code, "glibc-too-new");
        assert_eq!(
            findings[0].message,
            "/usr/local/bin/agent in layer `binary agent` needs GLIBC_2.38, the image's \
             libc.so.6 has at most GLIBC_2.36"
        );
        assert!(findings[1].message.starts_with("/usr/local/bin/maths"), "{findings:?}");
    }

    #[test]
    fn features_of_the_loader_count() {
        let relr = program(&[("libc.so.6", &["GLIBC_2.2.5", "GLIBC_ABI_DT_RELR"])]);
        let binaries = layer(&[("x", relr)]);
        let found = messages(&[(&root(), "packages"), (&binaries, "binary x")]);
        assert_eq!(
            found,
            ["/x in layer `binary x` needs GLIBC_ABI_DT_RELR, the image's libc.so.6 has at most \
              GLIBC_2.36"]
        );
        let newer = layer(&[("libc.so.6", libc(&["GLIBC_2.36", "GLIBC_ABI_DT_RELR"]))]);
        assert_eq!(messages(&[(&newer, "packages"), (&binaries, "binary x")]), [""; 0]);
    }

    #[test]
    fn what_is_replaced_does_not_count() {
        let new = layer(&[("x", program(&[("libc.so.6", &["GLIBC_2.41"])]))]);
        let old = layer(&[("x", program(&[("libc.so.6", &["GLIBC_2.17"])]))]);
        let mut link = LayerSummary::default();
        link.links.insert("x".into(), "y".into());
        let root = root();
        let check = |above| messages(&[(&root, "packages"), (&new, "files"), (above, "x")]);
        assert_eq!(check(&old), [""; 0]);
        assert_eq!(check(&link), [""; 0]);
        assert_eq!(check(&LayerSummary::default()).len(), 1);
    }

    #[test]
    fn images_without_glibc_are_not_this_checks() {
        let binaries = layer(&[("x", program(&[("libc.so.6", &["GLIBC_2.38"])]))]);
        assert_eq!(messages(&[(&binaries, "binary x")]), [""; 0]);
        let damaged = layer(&[("usr/lib/libc.so.6", libc(&[]))]);
        assert_eq!(messages(&[(&damaged, "packages"), (&binaries, "binary x")]), [""; 0]);
    }
}
