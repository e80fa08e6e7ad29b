//! Actions: what a unit does, as plain data that can be hashed, shown and sent elsewhere.
//!
//! Texts in a [`ProcessAction`] name folders as `@{name}`, so that the same action has
//! the same key wherever its folders are. Where the sandbox gives constant paths,
//! `@{name}` becomes `/xs/name`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::base::{BaseLayer, BaseOrigin, Inherited};
use super::capability::Capabilities;
use super::package::Package;
use super::{Digest, Origin, Platform};

/// The constant folder below which a sandbox mounts what an action names.
pub const VIRTUAL_ROOT: &str = "/xs";

/// What a unit does. Its JSON form enters the unit's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Action {
    /// Download (where missing) and unpack distribution packages into one tree.
    UnpackPackages(UnpackAction),
    /// Collect the sources of a library. May use the network.
    FetchSource {
        /// Where they come from; never a folder of the project, which is a listing.
        origin: Origin,
        /// Digest of the `.crate` file, where they come from a crate.
        checksum: Option<Digest>,
    },
    /// Collect the crates of a lock file into a folder source. May use the network.
    VendorCrates {
        /// Where the manifests are.
        sources: VendorSources,
        /// Digest of the manifests and the lock file, where the needs do not stand for them.
        digest: Digest,
        /// Text of the lock file, where the manifests come without one or with another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lock: Option<String>,
    },
    /// Fill a Go module cache from `go.mod` and `go.sum`. May use the network.
    DownloadModules {
        /// Name of the source listing that holds the module.
        sources: String,
        /// Folder of the module in the project.
        folder: String,
        /// Digest of `go.mod` and `go.sum`.
        digest: Digest,
        /// Version of the Go that downloads.
        go: String,
    },
    /// Run commands in a sandbox.
    Process(Box<ProcessAction>),
    /// Join the trees of the needs into one: a sysroot of packages and built libraries.
    /// What two of them have must be the same.
    JoinTrees {
        /// Names of the needs, for people.
        names: Vec<String>,
        /// Positions of needs that hold packages of the first: of their libraries that have an
        /// archive, the first keeps that alone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        archives: Vec<usize>,
    },
    /// Check files that somebody else built, and put them where libraries belong.
    InstallFiles {
        /// The files: `to` is a path in the output.
        files: Vec<ProjectFile>,
        /// What must result.
        product: LibraryProduct,
    },
    /// Make a layer.
    PackLayer(Box<LayerAction>),
    /// Take a layer of a base image as it is, and summarise it. May use the network.
    ImportLayer(Box<ImportAction>),
    /// Check the layers of a base image against its platform, and join their summaries.
    CheckBase {
        /// Name of the base, for findings.
        name: String,
        /// What its files must be for.
        platform: Platform,
    },
    /// Look where folders are on the base image that the only need joined.
    PlaceFolders {
        /// The folders, without leading slash. Sorted.
        folders: Vec<String>,
        /// Whether the files that packages add lines to, as users, are asked for as well.
        texts: bool,
    },
    /// Check the ELF files of an image against its platform and one another.
    CheckPlatform {
        /// Image name, for findings.
        image: String,
        /// What the files must be for.
        platform: Platform,
    },
    /// Write the configuration and manifest of one image for one platform.
    Manifest(Box<ManifestAction>),
    /// Join manifests to an image index.
    Index {
        /// Image name.
        image: String,
        /// Platforms, in the order of the needed manifests.
        platforms: Vec<Platform>,
        /// Annotations of the index.
        annotations: BTreeMap<String, String>,
    },
}

/// Where the manifests are whose crates are collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "in")]
pub enum VendorSources {
    /// In a source listing.
    Listing {
        /// Its name.
        name: String,
        /// Folder of the workspace in the project.
        folder: String,
    },
    /// In a folder of the tree of the only need.
    Need {
        /// The folder, empty for the top.
        folder: String,
    },
}

/// How unpacked packages are going to be used, which decides what is changed about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A toolchain or sysroot: links are relative, documentation is left out.
    Toolchain,
    /// The root of an image: records for scanners are added, copyright files kept.
    Root,
}

/// Packages to unpack into one tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackAction {
    /// What to unpack, in this order.
    pub packages: Vec<Package>,
    /// For what.
    pub shape: Shape,
    /// What becomes of the packages of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootOptions>,
}

/// What is left out of the root of an image, and which maintainer scripts are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootOptions {
    /// Patterns of paths that are left out, but for what licences ask for.
    pub sets: Vec<String>,
    /// Patterns of paths that are left out.
    pub patterns: Vec<String>,
    /// Packages whose scripts are ignored. Sorted.
    pub ignored_scripts: Vec<String>,
    /// Version of the table of known scripts.
    pub scripts: Digest,
}

/// How a tool shares the machine's cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStyle {
    /// One thread.
    Single,
    /// A client of the make jobserver (cargo, rustc, make).
    Jobserver,
    /// Takes `@{jobs}` as a number (go, ninja).
    Lease,
}

/// Commands to run, with everything they may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessAction {
    /// Command lines, run one after the other; the first failure ends the action.
    pub commands: Vec<Vec<String>>,
    /// The complete environment.
    pub environment: BTreeMap<String, String>,
    /// Working folder.
    pub folder: String,
    /// Folder name to where it comes from; mounted read-only.
    pub mounts: BTreeMap<String, Mount>,
    /// Small files written below `@{tools}`, by path; all executable.
    pub tools: BTreeMap<String, String>,
    /// Sources of the project, seen as `@{src}`. Without, a need is mounted there.
    pub sources: Option<SourceReference>,
    /// Name of the folder `@{build}` that compilers may keep state in. Units that share it
    /// never run at the same time.
    pub state: String,
    /// How the commands share cores.
    pub jobs: JobStyle,
    /// Whether build systems leave answers of probes in `@{build}`.
    pub probes: bool,
    /// What the output has to hold, where it is a library.
    pub product: Option<LibraryProduct>,
}

/// What the output of a library's recipe has to hold, all of it for one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryProduct {
    /// What the files are for.
    pub platform: Platform,
    /// Folder of libraries in the output, such as `usr/lib/aarch64-linux-gnu`.
    pub folder: String,
    /// Names that programs link with: `lib<name>.so` or `lib<name>.a` there.
    pub libraries: Vec<String>,
    /// Whether shared libraries are kept, and must be there.
    pub shared: bool,
    /// Whether archives are kept, and must be there.
    pub archives: bool,
    /// Further paths in the output, such as headers.
    pub paths: Vec<String>,
}

/// Sources of an action: the name finds the folder, the digest stands for its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReference {
    /// Name of the listing in the plan.
    pub name: String,
    /// Digest of the listing of the files that this action depends on.
    pub digest: Digest,
}

/// Where a mounted folder comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum Mount {
    /// The output of a needed unit: its place among the unit's needs.
    Need {
        /// Place among the needs, from 0.
        need: usize,
    },
    /// A folder of the machine, known by its content.
    Machine {
        /// Name in the plan's table of machine folders.
        name: String,
        /// Digest of its content.
        digest: Digest,
    },
}

/// A layer of a base image to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportAction {
    /// The layer. It is the same wherever it comes from.
    pub layer: BaseLayer,
    /// `gzip` or `zstd`, where it is not compressed and is to be.
    pub compression: Option<String>,
    /// Where to look for it.
    #[serde(skip)]
    pub origin: Option<BaseOrigin>,
}

/// Members of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerAction {
    /// What it holds, in the history of the image.
    pub title: String,
    /// Where members come from.
    pub content: LayerContent,
    /// `gzip` or `zstd`.
    pub compression: String,
    /// Time of every member, in seconds since 1970.
    pub epoch_secs: u64,
    /// Whether the last need says where folders are on the base.
    #[serde(default, skip_serializing_if = "is_false")]
    pub placed: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What goes into a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "content")]
pub enum LayerContent {
    /// Trees of packages, each a need, made into the root of an image.
    Root {
        /// Whether the files that every image needs (users, name service) are added.
        furnish: bool,
        /// Numbers of trees of each stage that the root grew in; those of the layer last. A
        /// layer without a stage has the only tree as it is, for one that settles it.
        stages: Vec<usize>,
        /// How many of the last stage's trees, its first, have a layer of their own.
        apart: usize,
    },
    /// Files of the tree of the first need: path there, path in the image.
    Outputs {
        /// `(path in the tree, absolute path in the image)`
        files: Vec<(String, String)>,
    },
    /// The shared libraries of the tree of the first need that lie in `folder`: each file
    /// that has a SONAME, and the link of that name.
    SharedLibraries {
        /// Folder in the tree, and in the image.
        folder: String,
    },
    /// Files of the project, links and folders.
    Files {
        /// The members, parents before what is in them.
        members: Vec<LayerMember>,
    },
}

/// A member of a layer that the configuration asks for by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMember {
    /// Absolute path in the image.
    pub to: String,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits.
    pub mode: u32,
    /// Numbers of its user and group.
    pub owner: (u64, u64),
    /// Capabilities of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
}

/// What such a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum MemberKind {
    /// A file of the project.
    File {
        /// Path in the project.
        from: String,
        /// Digest of its bytes.
        digest: Digest,
    },
    /// A symbolic link.
    Link {
        /// Its text.
        target: String,
    },
    /// A folder.
    Folder,
}

/// A file of the project that becomes part of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectFile {
    /// Path in the project.
    pub from: String,
    /// Path in the output.
    pub to: String,
    /// Permission bits.
    pub mode: u32,
    /// Digest of its bytes.
    pub digest: Digest,
}

/// What a configuration and manifest say beside their layers (OCI image configuration).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestAction {
    /// Image name.
    pub image: String,
    /// Platform.
    pub platform: Platform,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env` by name.
    pub env: BTreeMap<String, String>,
    /// `ExposedPorts`.
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
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Reference of the base image, whose manifest is then the first need.
    pub base: Option<String>,
    /// What the base gives, where it is not of this configuration; what one of it gives is in
    /// its manifest. The base's layers are the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited: Option<Inherited>,
    /// `created`, in seconds since 1970.
    pub epoch_secs: u64,
}
