//! Snapshots: the copies of the sources that compilers see.
//!
//! A file is copied once for the project, and only when its content differs, so that its time
//! moves with content and never with a checkout; a file that changed since it was listed is an
//! error, not a mixture. A unit sees a folder with the files that it declared and no others:
//! links to those copies, so that units which share compiler state see one time of a file.
//!
//! What an earlier run wrote is hashed where no list of the same start of the machine says what
//! it is: that run or the machine may have stopped half way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::model::Digest;
use crate::model::action::SourceReference;
use crate::plan::facts::{Facts, Listing, SourceFile};
use crate::plan::selection::Selection;
use crate::store::{copy_file, hash_file, write_atomically};

/// Digests of files, and whether they may be executed, by path in the project.
type Files = BTreeMap<String, (Digest, bool)>;

/// The copies of a project's sources.
pub struct Snapshots {
    copies: Mutex<Copies>,
    views: BTreeMap<(String, Digest), View>,
    whole: BTreeMap<String, View>,
}

/// What a unit sees.
struct View {
    listing: Listing,
    selection: Selection,
    folder: PathBuf,
    /// The result of making it in this run.
    done: OnceLock<Result<(), String>>,
}

impl Snapshots {
    /// None, of no project.
    pub fn none() -> Self {
        let copies = Copies { folder: PathBuf::new(), boot: String::new(), known: None };
        let (views, whole) = (BTreeMap::new(), BTreeMap::new());
        Self { copies: Mutex::new(copies), views, whole }
    }

    /// Those of what facts select, below the project's folder of state. `boot` is this start
    /// of the machine.
    pub fn new(facts: &Facts, state: &Path, boot: &str) -> Self {
        let folder = state.join("sources");
        let view = |name: &str, listing: &Listing, selection: &Selection| View {
            listing: listing.clone(),
            selection: selection.clone(),
            folder: folder.join("seen").join(view_name(name, selection)),
            done: OnceLock::new(),
        };
        let views = facts.selections.iter().filter_map(|((name, digest), selection)| {
            let listing = facts.listings.get(name)?;
            Some(((name.clone(), *digest), view(name, listing, selection)))
        });
        let whole = facts
            .listings
            .iter()
            .map(|(name, listing)| (name.clone(), view(name, listing, &Selection::All)));
        let copies = Copies { folder: folder.join("files"), boot: boot.to_owned(), known: None };
        Self { views: views.collect(), whole: whole.collect(), copies: Mutex::new(copies) }
    }

    /// The folder that has the files of that digest of a listing, made once a run.
    pub fn folder(&self, listing: &str, digest: Digest) -> Result<&Path, String> {
        let view = self.views.get(&(listing.to_owned(), digest));
        self.make(view.ok_or_else(|| format!("there are no sources {listing}"))?)
    }

    /// The folder that has all files of a listing.
    pub fn whole(&self, listing: &str) -> Result<&Path, String> {
        let view = self.whole.get(listing);
        self.make(view.ok_or_else(|| format!("there are no sources {listing}"))?)
    }

    /// Copies all that units may ask for: what is edited from now on is for the next run. What
    /// goes wrong is told to who asks.
    pub fn take(&self) {
        for view in self.views.values() {
            let _ = self.make(view);
        }
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        let listings = || self.whole.values().map(|view| &view.listing);
        copies.forget(|path| {
            listings().any(|listing| {
                let inside = path.strip_prefix(listing.path("").as_str());
                inside.is_some_and(|inside| listing.files.contains_key(inside))
            })
        });
    }

    /// Whether a unit that sees those sources sees that file of the project.
    pub fn shows(&self, listing: &str, digest: Digest, path: &str) -> bool {
        self.views.get(&(listing.to_owned(), digest)).is_some_and(|view| {
            let prefix = view.listing.path("");
            let inside = path.strip_prefix(prefix.as_str()).unwrap_or(path);
            view.listing.files.contains_key(inside) && view.selection.accepts_path(path)
        })
    }

    /// Whether what a unit makes of those sources depends on the path that it sees them at.
    pub fn is_placed(&self, sources: &SourceReference) -> bool {
        let view = self.views.get(&(sources.name.clone(), sources.digest));
        view.is_some_and(|view| view.selection.is_placed())
    }

    fn make<'a>(&self, view: &'a View) -> Result<&'a Path, String> {
        let result = view.done.get_or_init(|| {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted: BTreeMap<String, &SourceFile> = view
                .listing
                .files
                .iter()
                .map(|(path, file)| (view.listing.path(path), file))
                .filter(|(path, _)| view.selection.accepts_path(path))
                .collect();
            copies
                .keep(&view.listing, &wanted)
                .and_then(|()| copies.show(&wanted, &view.folder))
                .map_err(|error| format!("copying sources to {}: {error}", view.folder.display()))
        });
        result.clone().map(|()| view.folder.as_path())
    }
}

/// A name that stays while files change: paths enter what compilers keep.
fn view_name(listing: &str, selection: &Selection) -> String {
    let slug = crate::plan::images::slug(listing);
    match selection {
        Selection::All => slug,
        selection => format!("{slug}-{}", Digest::of(format!("{selection:?}").as_bytes()).short()),
    }
}

/// A copy of each file that any unit asked for, named by its path.
struct Copies {
    folder: PathBuf,
    /// This start of the machine.
    boot: String,
    /// What is there, once it was looked at.
    known: Option<Files>,
}

impl Copies {
    fn place(&self, path: &str) -> PathBuf {
        self.folder.join(&Digest::of(path.as_bytes()).hex()[..32])
    }

    fn list(&self) -> PathBuf {
        self.folder.with_extension("json")
    }

    /// Makes copies of the wanted files be there.
    fn keep(
        &mut self,
        listing: &Listing,
        wanted: &BTreeMap<String, &SourceFile>,
    ) -> io::Result<()> {
        let mut known = match self.known.take() {
            Some(known) => known,
            None => self.look()?,
        };
        let prefix = listing.path("");
        let mut stale = Vec::new();
        for (path, file) in wanted {
            let file = (file.digest, file.executable);
            let place = self.place(path);
            if known.get(path) != Some(&file) || !place.is_file() {
                stale.push((path, file, place));
            }
        }
        if !stale.is_empty() {
            // While files move, the record of what is there is not true.
            let _ = fs::remove_file(self.list());
        }
        let mut result = Ok(());
        for (path, (digest, executable), place) in &stale {
            known.remove(*path);
            let inside = path.strip_prefix(prefix.as_str()).unwrap_or(path);
            result = copy(&listing.root.join(inside), place, *executable).and_then(|found| {
                if found == *digest {
                    return Ok(());
                }
                let why = format!("{path} changed while the build started; run it again");
                Err(io::Error::other(why))
            });
            if result.is_err() {
                let _ = fs::remove_file(place);
                break;
            }
            known.insert((*path).clone(), (*digest, *executable));
        }
        if !stale.is_empty() {
            let list = serde_json::to_vec(&(&self.boot, &known))?;
            write_atomically(&self.list(), &list).map_err(io::Error::other)?;
        }
        self.known = Some(known);
        result
    }

    /// Removes copies of files that are not wanted any more. One that stays is no harm.
    fn forget(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let Some(known) = &mut self.known else { return };
        let gone: Vec<String> = known.keys().filter(|path| !is_wanted(path)).cloned().collect();
        if gone.is_empty() {
            return;
        }
        for path in &gone {
            known.remove(path);
        }
        let Ok(list) = serde_json::to_vec(&(&self.boot, &known)) else { return };
        if write_atomically(&self.list(), &list).is_ok() {
            for path in &gone {
                let _ = fs::remove_file(self.place(path));
            }
        }
    }

    /// What is there. Without a list of this start of the machine, nothing is believed; files
    /// that have the content that a list of another start names are kept.
    fn look(&self) -> io::Result<Files> {
        fs::create_dir_all(&self.folder)?;
        let list: Option<(String, Files)> =
            fs::read(self.list()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match list {
            Some((boot, known)) if boot == self.boot => return Ok(known),
            Some((_, mut known)) => {
                known.retain(|path, file| is_that(&self.place(path), file));
                return Ok(known);
            }
            None => {}
        }
        fs::remove_dir_all(&self.folder)?;
        fs::create_dir_all(&self.folder)?;
        Ok(Files::new())
    }

    /// Makes `folder` show the wanted files, and nothing else.
    fn show(&self, wanted: &BTreeMap<String, &SourceFile>, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        remove_others(folder, folder, wanted)?;
        for path in wanted.keys() {
            let (copy, place) = (self.place(path), folder.join(path));
            let there = fs::symlink_metadata(&place).ok();
            let own = fs::symlink_metadata(&copy)?;
            if there.is_some_and(|there| (there.ino(), there.dev()) == (own.ino(), own.dev())) {
                continue;
            }
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            let _ = fs::remove_file(&place);
            if fs::hard_link(&copy, &place).is_err() {
                // A file system without links; the time has to be the copy's.
                fs::copy(&copy, &place)?;
                fs::File::open(&place)?.set_modified(own.modified()?)?;
            }
        }
        Ok(())
    }
}

/// Copies a file and returns the digest of what was copied.
fn copy(from: &Path, place: &Path, executable: bool) -> io::Result<Digest> {
    // Others link to what is there: it is not written into.
    let _ = fs::remove_file(place);
    let found = copy_file(from, place)?;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(place, fs::Permissions::from_mode(mode))?;
    Ok(found)
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
    remove_from(root, folder, wanted, &parents)
}

fn remove_from<T>(
    root: &Path,
    folder: &Path,
    wanted: &BTreeMap<String, T>,
    parents: &BTreeSet<&str>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if parents.contains(name.as_str()) {
                remove_from(root, &path, wanted, parents)?;
            } else {
                fs::remove_dir_all(&path)?;
            }
        } else if !wanted.contains_key(&name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::facts::SourceFile;

    fn listing(root: &Path) -> Listing {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            let (digest, _) = hash_file(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            files.insert(name, SourceFile { digest, executable: false });
        }
        Listing { root: root.to_owned(), folder: String::new(), files }
    }

    fn copies(folder: &Path) -> Copies {
        Copies { folder: folder.join("files"), boot: "b".into(), known: None }
    }

    fn show(copies: &mut Copies, listing: &Listing, names: &[&str], folder: &Path) {
        let wanted: BTreeMap<String, &SourceFile> =
            names.iter().map(|name| (name.to_string(), &listing.files[*name])).collect();
        copies.keep(listing, &wanted).unwrap();
        copies.show(&wanted, folder).unwrap();
    }

    /// Compilers that keep one state see the same time wherever they see a file, so that a
    /// file that is as it was before is newer than what was made of it in between.
    #[test]
    fn times_move_with_content_for_all_who_look() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("project");
        fs::create_dir(&root).unwrap();
        let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        write("a", "1");
        write("b", "1");
        let mut all = copies(folder.path());
        show(&mut all, &listing(&root), &["a", "b"], &one);
        show(&mut all, &listing(&root), &["a"], &other);
        let time = |place: &Path| fs::metadata(place.join("a")).unwrap().modified().unwrap();
        let first = time(&other);
        assert!(!other.join("b").exists() && first == time(&one));
        write("a", "2");
        show(&mut all, &listing(&root), &["a", "b"], &one);
        let second = time(&one);
        write("a", "1");
        let mut next = copies(folder.path());
        show(&mut next, &listing(&root), &["a"], &other);
        assert!(time(&other) > second && fs::read(other.join("a")).unwrap() == b"1");
        let third = time(&other);
        show(&mut next, &listing(&root), &["a"], &other);
        assert_eq!(time(&other), third);
    }

    #[test]
    fn what_changes_while_it_is_copied_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("project");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "1").unwrap();
        let listing = listing(&root);
        fs::write(root.join("a"), "2").unwrap();
        let mut all = copies(folder.path());
        let wanted: BTreeMap<String, &SourceFile> =
            listing.files.iter().map(|(name, file)| (name.clone(), file)).collect();
        let error = all.keep(&listing, &wanted).unwrap_err().to_string();
        assert_eq!(error, "a changed while the build started; run it again");
        fs::write(root.join("a"), "1").unwrap();
        all.keep(&listing, &wanted).unwrap();
    }
}
