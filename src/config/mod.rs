//! Configuration: `images.toml`, from text to checked values, every problem at once.
//!
//! [`raw`] walks the TOML with its places, [`valid`] and the modules for keys make values of it, [`references`]
//! checks names against one another. Pure but for [`discovery`], which runs cargo.

mod cache_keys;
pub mod cargo_files;
pub mod discovery;
mod file_entry;
mod file_keys;
mod image_keys;
mod library;
mod library_keys;
mod package_keys;
pub mod pre_build;
mod raw;
mod references;
pub mod suite_keys;
mod valid;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::base::BaseOrigin;
use crate::model::source::Origin;
use crate::model::{Finding, Place, Platform};

pub use cache_keys::{CachePlace, SharedCache};
pub use file_entry::{FileContent, FileEntry, FileSource};
pub use file_keys::check_link;
pub use library::{Kind, Library, LibraryRecipe, LibraryTarget, Link, PrebuiltFile, Strip};
pub use package_keys::PackageKeys;
pub use raw::suggest;
pub use references::{image_order, library_closure};

/// Name of the configuration file.
pub const FILE_NAME: &str = "images.toml";

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Project {
    /// Name of the product.
    pub name: Option<String>,
    /// Platforms that images are built for.
    pub platforms: Vec<Platform>,
    /// Where the version comes from.
    pub version: Version,
    /// Tags of published images.
    pub tags: Vec<String>,
    /// Prefix of published references.
    pub registry: Option<String>,
    /// The cache that several machines share.
    pub cache: Option<SharedCache>,
    /// Value of the `org.opencontainers.image.source` annotation.
    pub source: Option<String>,
    /// Value of the `org.opencontainers.image.revision` annotation; [`Version::Git`] is the
    /// commit's hash.
    pub revision: Option<Version>,
    /// `gzip` or `zstd`.
    pub compression: String,
    /// Whether compilers ask sccache, where the user has it.
    pub sccache: bool,
    /// Folder of the project that keeps what the lock pins.
    pub vendor: Option<String>,
    /// Whether an attempt to start a foreign program fails the build.
    pub strict: bool,
    /// Native libraries by name.
    pub libraries: BTreeMap<String, Library>,
    /// Binaries by name.
    pub binaries: BTreeMap<String, Binary>,
    /// Images by name.
    pub images: BTreeMap<String, Image>,
    /// Overrides of toolchains by triple.
    pub targets: BTreeMap<String, Target>,
    /// Suite of everything that names none, if not what the machine's apt serves.
    pub suite: Option<String>,
    /// Suites of packages by name.
    pub suites: BTreeMap<String, suite_keys::Suite>,
}

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Version {
    /// The text itself.
    Text(String),
    /// The first line of a file.
    File(String),
    /// The version of a Cargo package.
    Cargo(String),
    /// What git says of the commit: `git describe --tags --always`, without a leading `v`.
    Git,
}

/// Something compiled to an executable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Binary {
    /// How.
    pub recipe: Recipe,
    /// Libraries that it is linked with.
    pub libraries: Vec<String>,
    /// Where those are named.
    pub libraries_place: Place,
    /// Packages that its build needs beside the usual programs.
    pub tools: Vec<String>,
    /// Patterns of further files of the project that its build reads.
    pub inputs: Vec<String>,
    /// What it loses, if not what its recipe takes by itself.
    pub strip: Option<Strip>,
    /// Reasons for differences between targets, by pattern of probe names.
    pub differences: BTreeMap<String, String>,
    /// Where its recipe is.
    pub place: Place,
}

/// How a binary is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Recipe {
    /// By cargo.
    Rust {
        /// Package.
        package: String,
        /// Binary target, if not named like the package.
        binary: Option<String>,
        /// Features to turn on.
        features: Vec<String>,
        /// Whether default features stay on.
        default_features: bool,
        /// Profile.
        profile: String,
        /// Folder of the workspace.
        manifest: String,
    },
    /// By go.
    Go {
        /// Folder of the module.
        path: String,
        /// Package in the module.
        package: String,
        /// Build tags.
        tags: Vec<String>,
        /// Linker flags.
        ldflags: Vec<String>,
        /// Whether C is compiled too.
        cgo: bool,
    },
    /// By clang.
    C {
        /// Whether it is C++.
        cxx: bool,
        /// Patterns of source files.
        sources: Vec<String>,
        /// Compiler flags.
        flags: Vec<String>,
        /// Linker flags.
        ldflags: Vec<String>,
        /// Folders for `-I`.
        include: Vec<String>,
    },
    /// By another build system, which installs it.
    Built {
        /// Where its sources come from.
        origin: Origin,
        /// Folder in them where the build starts.
        folder: String,
        /// Which system.
        kind: Kind,
        /// Name that it is installed by, if not the binary's.
        program: Option<String>,
    },
}

/// What an image stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// Another image of the configuration.
    Image(String),
    /// Packages of a suite.
    Packages {
        /// Name of the suite, if it is asked for by name.
        suite: Option<String>,
        /// The packages.
        packages: Vec<String>,
    },
    /// An image that is not of the configuration.
    External(BaseOrigin),
}

/// A base plus layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Base.
    pub from: Base,
    /// Where that is named.
    pub from_place: Place,
    /// What it says about packages.
    pub packages: PackageKeys,
    /// Binaries, installed to `/usr/local/bin`.
    pub binaries: Vec<String>,
    /// Where those are named.
    pub binaries_place: Place,
    /// Files of the project, links and folders.
    pub files: Vec<FileEntry>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`.
    pub env: BTreeMap<String, String>,
    /// `ExposedPorts`, as `port/protocol`.
    pub expose: Vec<String>,
    /// `User`.
    pub user: Option<String>,
    /// `WorkingDir`.
    pub workdir: Option<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `Volumes`.
    pub volumes: Vec<String>,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// Whether it goes into the layout.
    pub publish: bool,
    /// Value of the title annotation, if not the name.
    pub title: Option<String>,
    /// Where it is declared.
    pub place: Place,
}

/// Overrides of one toolchain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Flags for rustc.
    pub rustflags: Vec<String>,
    /// Flags for C and C++ compilers.
    pub cflags: Vec<String>,
    /// What is to be done before anything is built, as in cross.
    pub pre_build: Vec<String>,
    /// What runs programs of the target for `cargo run` and `cargo test`; never for a build.
    pub runner: Option<String>,
    /// Variables of the user that builds get.
    pub passthrough: Vec<String>,
    /// Variables that builds get.
    pub env: BTreeMap<String, String>,
}

/// Reads a configuration. `file_name` is for the places of findings.
pub fn parse(file_name: &str, text: &str) -> Result<Project, Vec<Finding>> {
    let mut reader = raw::Reader::new(file_name, text);
    let project = match reader.document() {
        Some(table) => valid::project(&mut reader, table),
        None => return Err(reader.findings),
    };
    references::check(&project, file_name, &mut reader.findings);
    if reader.findings.is_empty() {
        Ok(project)
    } else {
        reader.findings.sort_by(|a, b| a.place.cmp(&b.place));
        Err(reader.findings)
    }
}

#[cfg(test)]
mod tests;
