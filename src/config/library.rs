//! Native libraries: what `[library.*]` says. How it is read is in `library_keys`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::source::Origin;
use crate::model::{Digest, Place};

/// A native library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Library {
    /// How it comes to be.
    pub recipe: LibraryRecipe,
    /// Libraries that it is built against.
    pub needs: Vec<String>,
    /// Where those are named.
    pub needs_place: Place,
    /// What of it is kept.
    pub link: Link,
    /// Names that programs link with (`-lNAME`), each of which must result.
    pub libraries: Vec<String>,
    /// Paths below `usr/include` that must result.
    pub headers: Vec<String>,
    /// Patches to its source, files of the project, in the order of their application.
    pub patches: Vec<String>,
    /// Packages that its build needs beside the usual programs.
    pub tools: Vec<String>,
    /// Variables of its build.
    pub env: BTreeMap<String, String>,
    /// What its shared libraries lose.
    pub strip: Strip,
    /// Additions by platform or triple.
    pub targets: BTreeMap<String, LibraryTarget>,
    /// Reasons for differences between targets, by pattern of probe names.
    pub differences: BTreeMap<String, String>,
    /// Where its recipe stands.
    pub place: Place,
}

/// How a library comes to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(clippy::large_enum_variant, reason = "a project has a few of them")]
pub enum LibraryRecipe {
    /// From the distribution.
    Packages(Vec<String>),
    /// From sources.
    Built {
        /// Where those come from.
        origin: Origin,
        /// Folder in the source where the build starts.
        folder: String,
        /// By what.
        kind: Kind,
    },
    /// From files that somebody else built, by platform or triple.
    Prebuilt(BTreeMap<String, Vec<PrebuiltFile>>),
}

/// What builds a library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// cargo.
    Cargo {
        /// Package, where the source has several.
        package: Option<String>,
        /// Features to turn on.
        features: Vec<String>,
        /// Whether default features stay on.
        default_features: bool,
        /// Profile.
        profile: String,
        /// Further arguments of cargo.
        options: Vec<String>,
        /// Header files or folders of the source, installed to `usr/include`.
        include: Vec<String>,
        /// Name that programs remember the shared library by.
        soname: Option<String>,
    },
    /// `configure` and make.
    Autotools {
        /// Arguments of `configure`.
        options: Vec<String>,
    },
    /// CMake.
    Cmake {
        /// Arguments of `cmake`.
        options: Vec<String>,
    },
    /// Meson.
    Meson {
        /// Arguments of `meson setup`.
        options: Vec<String>,
    },
    /// make.
    Make {
        /// Arguments of each call, such as `VARIABLE=value`.
        options: Vec<String>,
        /// Goals that build.
        build: Vec<String>,
        /// Goals that install below `DESTDIR`.
        install: Vec<String>,
    },
    /// The compiler, file by file.
    Cc {
        /// Patterns of source files.
        sources: Vec<String>,
        /// Compiler flags.
        flags: Vec<String>,
        /// Linker flags.
        ldflags: Vec<String>,
        /// Folders for `-I`.
        include: Vec<String>,
        /// Header files or folders, installed to `usr/include`.
        install: Vec<String>,
        /// Name that programs remember the shared library by.
        soname: Option<String>,
    },
    /// Whatever a script does.
    Command {
        /// Script for the shell.
        run: String,
        /// Patterns of the files of the source that it depends on, all if empty.
        inputs: Vec<String>,
        /// Paths below `usr` that it has to leave.
        outputs: Vec<String>,
    },
}

/// A file that somebody else built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrebuiltFile {
    /// Path in the project.
    pub from: String,
    /// Path below `usr`; `lib/` stands for the target's folder of libraries.
    pub to: String,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Where it is named.
    pub place: Place,
}

/// Which forms of a library are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Shared libraries, which go into images.
    #[default]
    Shared,
    /// Archives, which become part of what links them.
    Static,
    /// Shared libraries and archives.
    Both,
}

impl Link {
    /// Whether shared libraries result.
    pub fn is_shared(self) -> bool {
        self != Self::Static
    }

    /// Whether archives result.
    pub fn is_static(self) -> bool {
        self != Self::Shared
    }
}

/// What is removed from a linked file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strip {
    /// Nothing.
    None,
    /// What debuggers need.
    Debug,
    /// All symbols that running does not need.
    All,
}

/// Additions of a library for one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LibraryTarget {
    /// Further options.
    pub options: Vec<String>,
    /// Further variables.
    pub env: BTreeMap<String, String>,
}
