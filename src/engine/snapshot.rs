//! Snapshots: the copies of the sources that compilers see.
//!
//! A file of a snapshot is written only when its content differs, so that times there
//! move with content and never with a checkout; a file that changed since it was listed
//! is an error, not a mixture. What an earlier run wrote is hashed where no list of the same
//! start of the machine says what it is: that run or the machine may have stopped half way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::model::Digest;
use crate::plan::facts::Listing;
use crate::store::{copy_file, hash_file, write_atomically};

/// What is in a snapshot: digests of files, and whether they may be executed.
type Files = BTreeMap<String, (Digest, bool)>;

/// A listing and where its copy goes.
pub struct Snapshot {
    /// What is copied.
    pub listing: Listing,
    /// Where the copy goes: files have the paths there that they have in the project.
    pub folder: PathBuf,
    /// Folder of the listing in the project.
    pub name: String,
    /// The result of the copy in this run.
    pub done: OnceLock<Result<(), String>>,
    /// This start of the machine.
    pub boot: String,
}

impl Snapshot {
    /// Copies what changed, once a run, and returns the folder of the copy.
    pub fn folder(&self) -> Result<&Path, String> {
        let result = self.done.get_or_init(|| {
            synchronise(&self.listing, &self.name, &self.folder, &self.boot)
                .map_err(|error| format!("copying sources to {}: {error}", self.folder.display()))
        });
        result.clone().map(|()| self.folder.as_path())
    }
}

/// Makes `folder` hold the listed files below `name`, and nothing else.
fn synchronise(listing: &Listing, name: &str, folder: &Path, boot: &str) -> io::Result<()> {
    let state = folder.with_extension("json");
    let known: Option<(String, Files)> =
        fs::read(&state).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let known = known.filter(|(of, _)| of == boot).map(|(_, known)| known);
    // While files move, the record of what is there is not true.
    let _ = fs::remove_file(&state);
    fs::create_dir_all(folder)?;
    let prefix = if name.is_empty() { String::new() } else { format!("{name}/") };
    let wanted: Files = listing
        .files
        .iter()
        .map(|(path, file)| (format!("{prefix}{path}"), (file.digest, file.executable)))
        .collect();
    remove_others(folder, folder, &wanted)?;
    for (path, file) in &wanted {
        let place = folder.join(path);
        let is_there = match &known {
            Some(known) => known.get(path) == Some(file) && place.is_file(),
            None => is_that(&place, file),
        };
        if is_there {
            continue;
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        let _ = fs::remove_file(&place);
        if copy_file(&listing.root.join(&path[prefix.len()..]), &place)? != file.0 {
            return Err(io::Error::other(format!(
                "{path} changed while the build started; run it again"
            )));
        }
        let mode = if file.1 { 0o755 } else { 0o644 };
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
    }
    write_atomically(&state, &serde_json::to_vec(&(boot, &wanted))?).map_err(io::Error::other)
}

/// Whether a file has that content and may be executed as that says.
fn is_that(place: &Path, (digest, executable): &(Digest, bool)) -> bool {
    let mode = if *executable { 0o755 } else { 0o644 };
    let has_mode =
        |status: fs::Metadata| status.is_file() && status.permissions().mode() & 0o777 == mode;
    fs::symlink_metadata(place).is_ok_and(has_mode)
        && hash_file(place).is_ok_and(|(found, _)| found == *digest)
}

fn remove_others<T>(root: &Path, folder: &Path, wanted: &BTreeMap<String, T>) -> io::Result<()> {
    let parents: BTreeSet<&str> =
        wanted.keys().flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at])).collect();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if parents.contains(name.as_str()) {
                remove_others(root, &path, wanted)?;
            } else {
                fs::remove_dir_all(&path)?;
            }
        } else if !wanted.contains_key(&name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
