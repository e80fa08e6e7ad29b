//! Which files of a listing something depends on, as data: for the digest that enters a key,
//! for the names of files that changed, and for files that are gone.

use std::collections::BTreeMap;
use std::path::Path;

use super::facts::{Facts, Listing, SourceFile};
use crate::model::Digest;
use crate::model::action::{Action, VendorSources};

/// Some of the files of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// Go modules in these folders of the project.
    Modules(Vec<String>),
    /// `go.mod` and `go.sum` of modules in these folders of the project.
    ModulePins(Vec<String>),
    /// A workspace of cargo's: its manifests, lock file, cargo's configuration and the
    /// packages in these folders of it.
    Workspace(Vec<String>),
    /// Manifests, and this lock file.
    Manifests(Option<String>),
}

impl Selection {
    /// Whether a file of the listing of `folder` is one of them.
    pub fn accepts(&self, folder: &str, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let is_inside = |modules: &[String]| {
            modules.iter().any(|module| Path::new(folder).join(path).starts_with(module))
        };
        match self {
            Self::All => true,
            Self::Modules(modules) => is_inside(modules),
            Self::ModulePins(modules) => matches!(name, "go.mod" | "go.sum") && is_inside(modules),
            Self::Workspace(members) => {
                name == "Cargo.toml"
                    || path == "Cargo.lock"
                    || path.starts_with(".cargo/")
                    || path.starts_with("rust-toolchain")
                    || members.iter().any(|member| Path::new(path).starts_with(member))
            }
            Self::Manifests(lock) => name == "Cargo.toml" || lock.as_deref() == Some(path),
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
        let pins = Selection::ModulePins(modules);
        check(pins, "go", &["x/go.mod", "lib/go.sum"], &["x/main.go", "y/go.mod"]);
        let files = ["Cargo.toml", "Cargo.lock", "a/Cargo.toml", "b/src/x.rs", ".cargo/config"];
        let workspace = Selection::Workspace(own(&["b"]));
        check(workspace, "", &files, &["a/src/x.rs", "a/Cargo.lock", "notes"]);
        let manifests = Selection::Manifests(Some("b/Cargo.lock".into()));
        check(manifests, "", &["a/Cargo.toml", "b/Cargo.lock"], &["Cargo.lock", "b/x.rs"]);
    }
}
