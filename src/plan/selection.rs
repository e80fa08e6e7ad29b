//! Which files of a listing something depends on, as data: for the digest that enters a key,
//! for the names of files that changed, and for files that are gone.

use std::collections::BTreeMap;
use std::path::Path;

use super::facts::{Facts, Listing, SourceFile};
use super::patterns::Patterns;
use crate::model::Digest;
use crate::model::action::{Action, VendorSources};

/// Some of the files of a listing. Folders and files are named by their path in the project.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// All.
    All,
    /// A folder.
    Folder(String),
    /// Go modules in these folders.
    Modules(Vec<String>),
    /// `go.mod` and `go.sum` of modules in these folders.
    ModulePins(Vec<String>),
    /// A workspace of cargo's: its manifests, lock file, cargo's configuration and the
    /// packages that it stands on.
    Workspace(Workspace),
    /// Manifests in these folders, and this lock file.
    Manifests(Vec<String>, Option<String>),
    /// Those, and further files that the configuration names.
    With(Box<Selection>, Patterns),
}

/// Where the files of a workspace of cargo's are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workspace {
    /// Its folder.
    pub folder: String,
    /// Folders of its packages, of those that they name by path, and of vendored ones.
    pub packages: Vec<String>,
    /// Cargo's configuration files above it.
    pub settings: Vec<String>,
}

impl Workspace {
    fn accepts(&self, path: &str) -> bool {
        let inside = Path::new(path).strip_prefix(&self.folder).ok().and_then(Path::to_str);
        let is_own = inside.is_some_and(|inside| {
            inside == "Cargo.lock"
                || inside.starts_with(".cargo/")
                || inside.starts_with("rust-toolchain")
                || inside == "Cargo.toml"
                || inside.ends_with("/Cargo.toml")
        });
        is_own || is_in(path, &self.packages) || self.settings.iter().any(|file| file == path)
    }
}

/// Whether a path is in one of the folders.
fn is_in(path: &str, folders: &[String]) -> bool {
    folders.iter().any(|folder| Path::new(path).starts_with(folder))
}

impl Selection {
    /// Whether a file of the listing of `folder` is one of them.
    pub fn accepts(&self, folder: &str, path: &str) -> bool {
        match folder.trim_end_matches('/') {
            "" | "." => self.accepts_path(path),
            folder => self.accepts_path(&format!("{folder}/{path}")),
        }
    }

    /// Whether a file of the project is one of them, if it is in the listing.
    pub fn accepts_path(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        match self {
            Self::All => true,
            Self::Folder(folder) => Path::new(path).starts_with(folder),
            Self::Modules(modules) => is_in(path, modules),
            Self::ModulePins(modules) => {
                matches!(name, "go.mod" | "go.sum") && is_in(path, modules)
            }
            Self::Workspace(workspace) => workspace.accepts(path),
            Self::Manifests(folders, lock) => {
                (name == "Cargo.toml" && is_in(path, folders)) || lock.as_deref() == Some(path)
            }
            Self::With(others, inputs) => others.accepts_path(path) || inputs.matches(path),
        }
    }

    /// Whether what compilers make of these files depends on where they see them: cargo hashes
    /// the whole paths of packages that are not below the workspace's folder.
    pub fn is_placed(&self) -> bool {
        match self {
            Self::Workspace(workspace) => !workspace
                .packages
                .iter()
                .all(|folder| Path::new(folder).starts_with(&workspace.folder)),
            Self::With(others, _) => others.is_placed(),
            _ => false,
        }
    }

    /// Digest of the files of a listing that are selected.
    pub fn digest(&self, listing: &Listing) -> Digest {
        listing.digest(|path| self.accepts(&listing.folder, path))
    }
}

/// What an action depends on of the project's sources.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'a> {
    /// Their digest, which is in the action.
    pub digest: Digest,
    /// The listing that they are in.
    pub listing: &'a Listing,
    /// Which of its files.
    pub selection: &'a Selection,
}

impl Selected<'_> {
    /// The files, by path in the project.
    pub fn files(&self) -> BTreeMap<String, SourceFile> {
        let files = self.listing.files.iter();
        files
            .filter(|(path, _)| self.selection.accepts(&self.listing.folder, path))
            .map(|(path, file)| (self.listing.path(path), file.clone()))
            .collect()
    }
}

impl Facts {
    /// The sources that an action depends on, where it does.
    pub fn selected(&self, action: &Action) -> Option<Selected<'_>> {
        let (name, digest) = match action {
            Action::Process(process) => {
                let sources = process.sources.as_ref()?;
                (&sources.name, sources.digest)
            }
            Action::VendorCrates {
                sources: VendorSources::Listing { name, .. }, digest, ..
            } => (name, *digest),
            Action::DownloadModules { sources, digest, .. } => (sources, *digest),
            _ => return None,
        };
        let selection = self.selections.get(&(name.clone(), digest))?;
        Some(Selected { digest, listing: self.listings.get(name)?, selection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_selected() {
        let check = |selection: Selection, folder: &str, accepted: &[&str], others: &[&str]| {
            for path in accepted {
                assert!(selection.accepts(folder, path), "{path}");
            }
            for path in others {
                assert!(!selection.accepts(folder, path), "{path}");
            }
        };
        let own = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let modules = own(&["go/x", "go/lib"]);
        let paths = ["x/main.go", "lib/a/b.go"];
        check(Selection::Modules(modules.clone()), "go", &paths, &["y/z.go", "xx/main.go"]);
        let with = Selection::With(
            Box::new(Selection::Modules(modules.clone())),
            Patterns::new(&["go/y/*.go", "proto/**"]).unwrap(),
        );
        check(with, "", &["go/x/main.go", "go/y/z.go", "proto/a/b"], &["go/y/z/a.go", "x"]);
        let pins = Selection::ModulePins(modules);
        check(pins, "go", &["x/go.mod", "lib/go.sum"], &["x/main.go", "y/go.mod"]);
        let workspace = |folder: &str, packages: &[&str], settings: &[&str]| {
            let (folder, packages, settings) = (folder.into(), own(packages), own(settings));
            Selection::Workspace(Workspace { folder, packages, settings })
        };
        let files = ["Cargo.toml", "Cargo.lock", "a/Cargo.toml", "b/src/x.rs", ".cargo/config"];
        let others = ["a/src/x.rs", "a/Cargo.lock", "notes"];
        check(workspace("", &["b"], &[]), "", &files, &others);
        check(workspace("r", &["r/b"], &[]), "r", &files, &others);
        check(Selection::Folder("r".into()), "", &["r/x"], &["rx"]);
        let lower = workspace("r", &["r", "lib"], &[".cargo/config.toml"]);
        let files = ["r/src/x.rs", "lib/src/x.rs", "lib/Cargo.toml", ".cargo/config.toml"];
        assert!(lower.is_placed() && !workspace("r", &["r/b"], &[]).is_placed());
        check(lower, "", &files, &["Cargo.toml", "Cargo.lock", ".cargo/x", "libs/x.rs"]);
        let manifests = Selection::Manifests(own(&["a"]), Some("b/Cargo.lock".into()));
        let others = ["Cargo.lock", "b/Cargo.toml", "b/x.rs"];
        check(manifests, "", &["a/Cargo.toml", "b/Cargo.lock"], &others);
    }
}
