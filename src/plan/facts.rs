//! What resolving learned: everything that planning may know about the world.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Project;
use crate::model::action::ProjectFile;
use crate::model::package::PackageSet;
use crate::model::{Digest, Platform};
use crate::toolchain::description::Description;

/// One source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// Files of a folder by their path in it.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The folder.
    pub root: PathBuf,
    /// The files.
    pub files: BTreeMap<String, SourceFile>,
}

impl Listing {
    /// Digest of the files whose path `wanted` accepts.
    pub fn digest(&self, wanted: impl Fn(&str) -> bool) -> Digest {
        let files: BTreeMap<&str, &SourceFile> = self
            .files
            .iter()
            .filter(|(path, _)| wanted(path))
            .map(|(path, file)| (path.as_str(), file))
            .collect();
        Digest::of(&serde_json::to_vec(&files).expect("a listing has string keys only"))
    }
}

/// Where Rust comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RustProvider {
    /// Packages of the distribution.
    Packages {
        /// Compiler, cargo and the host's standard library.
        host: PackageSet,
        /// Standard libraries of the other targets.
        targets: PackageSet,
    },
    /// A rustup toolchain of the machine.
    Rustup {
        /// Folder with the parts that compile, and nothing else.
        root: PathBuf,
        /// By triple, the digest of what compiles for it.
        digests: BTreeMap<String, Digest>,
    },
}

/// A Go toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoToolchain {
    /// Version without `go`.
    pub version: String,
    /// Digest of its content.
    pub digest: Digest,
    /// `GOROOT`.
    pub root: PathBuf,
}

/// What a binary's recipe compiles.
#[derive(Clone, Debug)]
pub struct BinarySources {
    /// Name of its listing in [`Facts::listings`].
    pub listing: String,
    /// Digest of those files of the listing that it depends on.
    pub digest: Digest,
    /// Folder of the project where the tool is started.
    pub folder: String,
    /// Lock files (`Cargo.lock` and manifests, `go.mod` and `go.sum`) by digest.
    pub lock_digest: Digest,
    /// Whether there is anything to fetch before compiling.
    pub has_dependencies: bool,
    /// C sources, relative to the project, sorted.
    pub files: Vec<String>,
    /// The Go toolchain, for Go.
    pub go: Option<GoToolchain>,
    /// Name of the program that the recipe makes.
    pub program: String,
}

/// Everything that was learned.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The configuration.
    pub project: Project,
    /// The project's version.
    pub version: String,
    /// Value of `org.opencontainers.image.revision`, where asked for.
    pub revision: Option<String>,
    /// The machine that runs the compilers.
    pub host: &'static Description,
    /// What is built for.
    pub targets: Vec<&'static Description>,
    /// Suite of the packages.
    pub suite: String,
    /// Names of the LLVM tools' folder, such as `22`.
    pub llvm_version: String,
    /// Flags that C is compiled with by default, by triple.
    pub c_flags: BTreeMap<String, Vec<String>>,
    /// `clang`, `lld` and the LLVM tools.
    pub llvm: PackageSet,
    /// Shell, core tools, `make`, `pkg-config`.
    pub userland: PackageSet,
    /// Rust, if anything needs it.
    pub rust: Option<RustProvider>,
    /// Sysroot packages by Debian architecture and sorted development packages.
    pub sysroots: BTreeMap<(String, Vec<String>), PackageSet>,
    /// Root packages of images by image name and platform.
    pub roots: BTreeMap<(String, Platform), PackageSet>,
    /// Sources by binary name.
    pub binaries: BTreeMap<String, BinarySources>,
    /// Listings by name.
    pub listings: BTreeMap<String, Listing>,
    /// Files of images by image name.
    pub files: BTreeMap<String, Vec<ProjectFile>>,
}

impl Facts {
    /// The tags of published images.
    pub fn tags(&self) -> impl Iterator<Item = String> + '_ {
        self.project.tags.iter().map(|tag| tag.replace("{version}", &self.version))
    }

    /// The full reference of an image with a tag: registry, name and tag.
    pub fn reference(&self, image: &str, tag: &str) -> String {
        match &self.project.registry {
            Some(registry) => format!("{registry}/{image}:{tag}"),
            None => format!("{image}:{tag}"),
        }
    }
}

/// Whether a text can be a tag (distribution specification, "Pulling manifests").
pub fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for good in ["1.2.3", "latest", "_x", "v1.0-rc.1"] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", "1.0+build", ".x", "-x", "a/b", "a b", &"x".repeat(129)] {
            assert!(!is_tag(bad), "{bad}");
        }
    }
}
