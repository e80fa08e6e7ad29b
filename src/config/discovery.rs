//! Cargo workspaces, as `cargo metadata` describes them. The one place that knows
//! `cargo_metadata`.

use std::path::{Path, PathBuf};

use cargo_metadata::Metadata;

use crate::machine::process::Process;

/// A package of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// Its folder, relative to the workspace.
    pub folder: String,
    /// Names of its binary targets.
    pub binaries: Vec<String>,
    /// Folders of its sources that are not in its own, relative to the workspace.
    pub elsewhere: Vec<String>,
}

/// A Cargo workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its folder.
    pub root: PathBuf,
    /// Its packages.
    pub members: Vec<Member>,
}

/// The `cargo metadata` command for the workspace in `folder`, without dependencies.
pub fn command(cargo: &Path, folder: &Path) -> Process {
    Process::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .folder(folder)
}

/// Reads the output of [`command`].
pub fn parse(json: &str) -> Result<Workspace, String> {
    let metadata: Metadata = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let root = metadata.workspace_root.as_std_path().to_owned();
    let members = metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let folder = package.manifest_path.as_std_path().parent().unwrap_or(&root);
            let files = package.targets.iter().map(|target| target.src_path.as_std_path());
            let elsewhere = files
                .filter(|file| !file.starts_with(folder))
                .filter_map(|file| file.parent()?.strip_prefix(&root).ok()?.to_str());
            Member {
                name: package.name.to_string(),
                version: package.version.to_string(),
                folder: folder.strip_prefix(&root).unwrap_or(folder).to_string_lossy().into_owned(),
                binaries: package
                    .targets
                    .iter()
                    .filter(|target| target.is_bin())
                    .map(|target| target.name.clone())
                    .collect(),
                elsewhere: elsewhere.map(str::to_owned).collect(),
            }
        })
        .collect();
    Ok(Workspace { root, members })
}
