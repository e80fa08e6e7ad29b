//! Which units files touch that changed: what they enter, and all that needs that.
//!
//! Where it cannot be told for sure, a unit counts as touched: to build too much is slow, to
//! build too little is wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::graph::{Plan, PlannedImage, Unit};
use crate::config::{Base, FileContent, FileSource, library_closure};
use crate::model::Origin;
use crate::model::action::{Action, LayerContent, MemberKind, Mount};
use crate::model::base::BaseOrigin;
use crate::model::package::Package;

/// What is not as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files and folders by path in the project, and whether they are there now.
    pub files: BTreeMap<String, bool>,
    /// Tables of the configuration, such as `image.auth`, with their keys that differ.
    pub tables: BTreeMap<String, BTreeSet<String>>,
    /// Packages that sets of the lock got, and sets that only lost some.
    pub packages: BTreeSet<Package>,
    /// What is left of sets that only lost packages.
    pub shrunk: Vec<BTreeSet<Package>>,
    /// Toolchains of the machine that the lock pins otherwise.
    pub toolchains: BTreeSet<String>,
    /// Libraries and binaries whose sources or crates the lock pins otherwise.
    pub pins: BTreeSet<String>,
    /// Bases that the lock pins otherwise.
    pub bases: BTreeSet<String>,
    /// Why everything counts as changed.
    pub everything: Option<String>,
}

/// Why units are touched, by their index: paths of files, tables, pins.
pub type Touched = BTreeMap<usize, BTreeSet<String>>;

/// The units that changes touch.
pub fn touched(plan: &Plan, facts: &Facts, changes: &Changes) -> Touched {
    let mut touched = Touched::new();
    let of_images = of_images(plan, facts, changes);
    for (index, unit) in plan.units.iter().enumerate() {
        let mut because = of_files(facts, unit, changes);
        of_tables(facts, unit, changes, &mut because);
        of_lock(unit, changes, &mut because);
        because.extend(of_images.get(&index).into_iter().flatten().cloned());
        because.extend(changes.everything.clone());
        for need in &unit.needs {
            because.extend(touched.get(need).into_iter().flatten().cloned());
        }
        if !because.is_empty() {
            touched.insert(index, because);
        }
    }
    touched
}

/// Whether a changed path is that file, or a folder that it is in.
fn is_at(changed: &str, file: &str) -> bool {
    file.strip_prefix(changed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn of_files(facts: &Facts, unit: &Unit, changes: &Changes) -> BTreeSet<String> {
    let mut because = BTreeSet::new();
    if let Some(selected) = facts.selected(&unit.action) {
        let listing = selected.listing;
        let prefix = listing.path("");
        for (path, exists) in &changes.files {
            let inside = path.strip_prefix(prefix.as_str());
            let is_there = |inside: &str| listing.files.contains_key(inside);
            let is_own = match inside {
                // What is there and not listed is ignored.
                Some(inside) => {
                    (!exists || is_there(inside))
                        && selected.selection.accepts(&listing.folder, inside)
                }
                None => false,
            };
            // A submodule is told as its folder.
            let is_folder = *exists && !inside.is_some_and(is_there);
            if is_own || (is_folder && selected.files().keys().any(|file| is_at(path, file))) {
                because.insert(path.clone());
            }
        }
    }
    let mut from: Vec<&str> = Vec::new();
    match &unit.action {
        Action::PackLayer(layer) => {
            if let LayerContent::Files { members } = &layer.content {
                from.extend(members.iter().filter_map(|member| match &member.kind {
                    MemberKind::File { from, .. } => Some(from.as_str()),
                    _ => None,
                }));
            }
        }
        Action::InstallFiles { files, .. } => {
            from.extend(files.iter().map(|file| file.from.as_str()));
        }
        Action::FetchSource { origin: Origin::Archive { at, .. }, .. } => from.push(at),
        _ => {}
    }
    for (what, sources) in &facts.natives {
        if is_of(unit, what) {
            from.extend(sources.patches.iter().map(|(name, _)| name.as_str()));
        }
    }
    for path in changes.files.keys() {
        if from.iter().any(|file| is_at(path, file.trim_start_matches("./"))) {
            because.insert(path.clone());
        }
    }
    because
}

/// Whether a unit makes, fetches or patches that library or binary.
fn is_of(unit: &Unit, what: &str) -> bool {
    unit.name.match_indices(what).any(|(at, _)| {
        let (before, after) = (&unit.name[..at], &unit.name[at + what.len()..]);
        (before.is_empty() || before.ends_with(' ')) && (after.is_empty() || after.starts_with(' '))
    })
}

fn of_tables(facts: &Facts, unit: &Unit, changes: &Changes, because: &mut BTreeSet<String>) {
    let uses = |library: &str| {
        facts.project.binaries.iter().any(|(name, binary)| {
            is_of(unit, &format!("binary {name}"))
                && library_closure(&facts.project, &binary.libraries)
                    .iter()
                    .any(|known| known == library)
        })
    };
    for table in changes.tables.keys() {
        let is_own = match table.split_once('.') {
            Some(("binary", name)) => is_of(unit, &format!("binary {name}")),
            Some(("library", name)) => {
                is_of(unit, &format!("library {name}"))
                    || is_of(unit, &format!("archives of {name}"))
                    || uses(name)
            }
            Some(("target", triple)) => {
                unit.configuration.as_ref().is_some_and(|found| found.target == triple)
            }
            // Told by their units.
            Some(("image", _)) => false,
            _ => true,
        };
        if is_own {
            because.insert(format!("images.toml [{table}]"));
        }
    }
}

fn of_lock(unit: &Unit, changes: &Changes, because: &mut BTreeSet<String>) {
    match &unit.action {
        Action::UnpackPackages(unpack) => {
            let own: BTreeSet<&Package> = unpack.packages.iter().collect();
            let moved = changes.packages.iter().find(|package| own.contains(package));
            because.extend(moved.map(|package| format!("images.lock: {package}")));
            let lost = |left: &&BTreeSet<Package>| {
                !own.is_empty() && own.iter().all(|package| left.contains(package))
            };
            if changes.shrunk.iter().any(|left| lost(&left)) {
                because.insert("images.lock: packages that are gone".to_owned());
            }
        }
        Action::Process(process) => {
            for mount in process.mounts.values() {
                let Mount::Machine { name, .. } = mount else { continue };
                let pin = changes.toolchains.iter().find(|pin| name.starts_with(pin.as_str()));
                because.extend(pin.map(|pin| format!("images.lock: {pin}")));
            }
        }
        _ => {}
    }
    for pin in &changes.pins {
        let kinds = ["library", "binary"].map(|kind| format!("{kind} {pin}"));
        if is_of(unit, pin) || kinds.iter().any(|what| is_of(unit, what)) {
            because.insert(format!("images.lock: {pin}"));
        }
    }
}

/// Why units of single images are touched.
fn of_images(plan: &Plan, facts: &Facts, changes: &Changes) -> Touched {
    let mut touched = Touched::new();
    for image in &plan.images {
        let Some(configured) = facts.project.images.get(&image.name) else { continue };
        let mut mark = |units: BTreeSet<usize>, why: &str| {
            for unit in units {
                touched.entry(unit).or_default().insert(why.to_owned());
            }
        };
        if let Some(keys) = changes.tables.get(&format!("image.{}", image.name)) {
            let why = format!("images.toml [image.{}]", image.name);
            let is_plain = |key: &String| CONFIGURATION.contains(&key.as_str());
            let is_files = |key: &String| is_plain(key) || key == "files";
            let units = match (keys.iter().all(is_plain), keys.iter().all(is_files)) {
                (true, _) => units_of(plan, image, |_| false),
                (_, true) => units_of(plan, image, is_of_files),
                _ => units_of(plan, image, |_| true),
            };
            mark(units, &why);
        }
        if let Base::External(origin) = &configured.from
            && let Some(base) = changes.bases.get(&origin.to_string())
        {
            mark(units_of(plan, image, |_| true), &format!("images.lock: {base}"));
        }
        let place = match &configured.from {
            Base::External(BaseOrigin::Layout { folder: place, .. })
            | Base::External(BaseOrigin::Archive { file: place, .. }) => Some(place.as_str()),
            _ => None,
        };
        for path in changes.files.keys() {
            if place.is_some_and(|place| is_at(place, path) || is_at(path, place)) {
                mark(units_of(plan, image, |_| true), path);
            }
        }
        // What is gone is in no layer any more.
        let gone = changes.files.iter().filter(|(_, exists)| !**exists).map(|(path, _)| path);
        for path in gone {
            let sources = configured.files.iter().flat_map(|entry| match &entry.content {
                FileContent::Copy(FileSource::One(from)) => vec![from],
                FileContent::Copy(FileSource::Each(all)) => all.values().collect(),
                _ => Vec::new(),
            });
            let mut fixed = sources.map(|from| {
                let end = from.find(['*', '?', '[', '{']).unwrap_or(from.len());
                let is_pattern = end < from.len();
                let from = if is_pattern { &from[..end] } else { from.trim_end_matches('/') };
                (from.trim_start_matches("./").to_owned(), is_pattern)
            });
            if fixed.any(|(from, is_pattern)| match is_pattern || from.is_empty() {
                true => path.starts_with(&from),
                false => is_at(&from, path),
            }) {
                mark(units_of(plan, image, is_of_files), path);
            }
        }
    }
    touched
}

/// Keys of an image that change nothing but its configuration.
const CONFIGURATION: [&str; 11] = [
    "cmd",
    "entrypoint",
    "env",
    "expose",
    "labels",
    "publish",
    "stop-signal",
    "title",
    "user",
    "volumes",
    "workdir",
];

/// Manifests and index of an image, and its own units that `is_wanted` accepts: those that no
/// other image has, unless it stands on this one.
fn units_of(
    plan: &Plan,
    image: &PlannedImage,
    is_wanted: impl Fn(&Action) -> bool,
) -> BTreeSet<usize> {
    let ends = |image: &PlannedImage| -> BTreeSet<usize> {
        let manifests = image.platforms.iter().map(|(_, manifest, _)| *manifest);
        manifests.chain(image.index).collect()
    };
    let below = |image: &PlannedImage| {
        let mut units = ends(image);
        for at in (0..plan.units.len()).rev() {
            if units.contains(&at) {
                units.extend(&plan.units[at].needs);
            }
        }
        units
    };
    let own = ends(image);
    let others: BTreeSet<usize> = plan
        .images
        .iter()
        .filter(|other| other.name != image.name)
        .map(below)
        .filter(|units| units.is_disjoint(&own))
        .flatten()
        .collect();
    let wanted = below(image).into_iter();
    let wanted = wanted.filter(|at| !others.contains(at) && is_wanted(&plan.units[*at].action));
    wanted.chain(own.iter().copied()).collect()
}

/// Whether a unit follows from the `files` of an image.
fn is_of_files(action: &Action) -> bool {
    match action {
        Action::PackLayer(layer) => matches!(layer.content, LayerContent::Files { .. }),
        Action::CheckPlatform { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert!(
            is_at("a/b", "a/b") && is_at("a", "a/b") && !is_at("a", "ab") && !is_at("a/b", "a")
        );
    }

    #[test]
    fn names() {
        let check = |name: &str, what: &str| {
            let action = Action::JoinTrees { names: vec![], archives: vec![] };
            is_of(&Unit { name: name.into(), configuration: None, action, needs: vec![] }, what)
        };
        assert!(check("binary auth linux/arm64", "binary auth"));
        assert!(check("patched source of library x", "library x"));
        assert!(!check("binary auth2 linux/arm64", "binary auth"));
        assert!(!check("mylibrary x", "library x"));
    }
}
