//! What resolving learned: everything that planning may know about the world.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::selection::Selection;
use crate::config::{Project, Target};
use crate::model::action::{LayerMember, SourceReference};
use crate::model::base::BaseImage;
use crate::model::package::PackageSet;
use crate::model::source::Origin;
use crate::model::{Digest, Platform};
use crate::recipe::environment::Cross;
use crate::toolchain::description::Description;

/// Tools that have a part of their own, instead of being added to the userland.
pub const BUILD_SYSTEMS: [&str; 2] = ["cmake", "meson"];

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
    /// Its path in the project.
    pub folder: String,
    /// The files.
    pub files: BTreeMap<String, SourceFile>,
}

impl Listing {
    /// The path in the project of one of the files.
    pub fn path(&self, file: &str) -> String {
        match self.folder.trim_end_matches('/') {
            "" | "." => file.to_owned(),
            folder => format!("{folder}/{file}"),
        }
    }

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
        /// What `rustc --version` prints.
        version: String,
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

/// Sources of what another build system makes.
#[derive(Clone, Debug)]
pub struct NativeSources {
    /// Where they come from.
    pub origin: Origin,
    /// Digest of the archive of a crate.
    pub checksum: Option<Digest>,
    /// The snapshot, where they are a folder of the project.
    pub reference: Option<SourceReference>,
    /// That folder.
    pub start: String,
    /// Folder in the sources where the build starts.
    pub folder: String,
    /// Names and texts of the patches, in order.
    pub patches: Vec<(String, String)>,
    /// Whether cargo needs a lock file that the sources do not have.
    pub needs_lock: bool,
    /// That lock file, once it is known.
    pub lock: Option<String>,
    /// Manifests and lock file for cargo, by digest.
    pub lock_digest: Digest,
    /// Whether there are crates to fetch before compiling.
    pub has_dependencies: bool,
}

impl NativeSources {
    /// Whether patches may ask for other crates than the sources' own lock file has.
    pub fn changes_manifests(&self) -> bool {
        let touches = |name: &str| self.patches.iter().any(|(_, text)| text.contains(name));
        touches("Cargo.toml") && !touches("Cargo.lock")
    }
}

/// A target and the suite of the sysroot that things are compiled against for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The target.
    pub target: &'static Description,
    /// The suite, if not the default one.
    pub suite: Option<String>,
}

impl Setting {
    /// The platform, and the suite if it is not the default one, for names of units.
    pub fn name(&self) -> String {
        of_suite(&self.target.platform.to_string(), self.suite.as_deref())
    }

    /// The same as a file name.
    pub fn slug(&self) -> String {
        let suite = self.suite.iter().map(|suite| format!("-{suite}")).collect::<String>();
        format!("{}{suite}", self.target.platform.slug())
    }
}

/// A name of something that there may be for several suites.
pub fn of_suite(name: &str, suite: Option<&str>) -> String {
    match suite {
        Some(suite) => format!("{name} of {suite}"),
        None => name.to_owned(),
    }
}

/// What packages of a sysroot are known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SysrootKey {
    /// The suite, if not the default one.
    pub suite: Option<String>,
    /// Debian architecture.
    pub architecture: String,
    /// Development packages, sorted.
    pub packages: Vec<String>,
}

/// Files of the project, links and folders of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFiles {
    /// What all platforms have.
    pub common: Vec<LayerMember>,
    /// What a platform has beside that, where there is something.
    pub own: BTreeMap<Platform, Vec<LayerMember>>,
}

/// What is done for a target before anything is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreBuild {
    /// Packages for the sysroot.
    pub packages: Vec<String>,
    /// Packages for the userland.
    pub tools: Vec<String>,
    /// Scripts that run at the start of each compile unit.
    pub scripts: Vec<String>,
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
    /// Name of the default suite.
    pub suite: String,
    /// Suites of images by name, where they are not the default one.
    pub suites: BTreeMap<String, String>,
    /// Names of the LLVM tools' folder, such as `22`.
    pub llvm_version: String,
    /// `clang`, `lld` and the LLVM tools.
    pub llvm: PackageSet,
    /// Shell, core tools, `make`, `pkg-config`, by what is added to them.
    pub userlands: BTreeMap<Vec<String>, PackageSet>,
    /// `cmake` and `meson`, where something is built with them.
    pub build_systems: BTreeMap<String, PackageSet>,
    /// Rust, if anything needs it.
    pub rust: Option<RustProvider>,
    /// Packages of sysroots.
    pub sysroots: BTreeMap<SysrootKey, PackageSet>,
    /// Root packages of images by image name and platform.
    pub roots: BTreeMap<(String, Platform), PackageSet>,
    /// Bases that are not of the configuration, by image name and platform.
    pub bases: BTreeMap<(String, Platform), BaseImage>,
    /// Packages that images add to their base, by image name and platform.
    pub additions: BTreeMap<(String, Platform), PackageSet>,
    /// Run-time packages of libraries that a base lacks, by image, library and platform.
    pub runtimes: BTreeMap<(String, String, Platform), PackageSet>,
    /// Sources by `library NAME` or `binary NAME`.
    pub natives: BTreeMap<String, NativeSources>,
    /// What is done before builds, by triple.
    pub pre_builds: BTreeMap<String, PreBuild>,
    /// Sources by binary name.
    pub binaries: BTreeMap<String, BinarySources>,
    /// Listings by name.
    pub listings: BTreeMap<String, Listing>,
    /// What of them is depended on, by the listing's name and the digest that enters keys.
    pub selections: BTreeMap<(String, Digest), Selection>,
    /// Files of images by image name.
    pub files: BTreeMap<String, ImageFiles>,
}

/// Overrides of a target that has none.
static NO_OVERRIDES: LazyLock<Target> = LazyLock::new(Target::default);

impl Facts {
    /// The user's overrides for a target.
    pub fn overrides(&self, target: &Description) -> &Target {
        self.project.targets.get(&target.triple).unwrap_or(&NO_OVERRIDES)
    }

    /// What the environment of a unit is made of that mounts folders of those names.
    pub fn cross<'a>(&'a self, target: &'a Description, mounts: &'a [&'a str]) -> Cross<'a> {
        Cross {
            host: self.host,
            target,
            llvm_version: &self.llvm_version,
            mounts,
            overrides: self.overrides(target),
        }
    }

    /// What is added to the userland for a build that asks for `tools`.
    pub fn userland_tools(&self, tools: &[String], target: &Description) -> Vec<String> {
        userland_tools(tools, self.pre_builds.get(&target.triple))
    }

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

/// What is added to the userland for a build that asks for `tools`.
pub fn userland_tools(tools: &[String], pre_build: Option<&PreBuild>) -> Vec<String> {
    let own = tools.iter().filter(|name| !BUILD_SYSTEMS.contains(&name.as_str()));
    let mut all: Vec<String> =
        own.chain(pre_build.iter().flat_map(|found| &found.tools)).cloned().collect();
    all.sort();
    all.dedup();
    all
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
