//! Where the paths of layers belong on a base: through its links, in its folders.
//!
//! A layer that brings `lib/x` must not make a folder of the link `lib` that a base has, nor
//! give `tmp` another mode because it brings a file there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::filesystem::{Filesystem, Kind, Node};
use super::imported::{Joined, PathKind};

/// What some folders are on a base. Only what differs from the usual is said, so that the
/// bytes stay when a base moves that keeps these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Folders that are reached by links, with where they lead.
    pub moved: BTreeMap<String, String>,
    /// Folders of the base on the way that are not root's with mode 755: mode and owner.
    pub folders: BTreeMap<String, (u32, u64, u64)>,
    /// Files of the base that packages on it add lines to, where they are asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub texts: BTreeMap<String, String>,
}

impl Places {
    /// What `folders`, paths without leading slash, and all folders above them are on `base`.
    pub fn of(base: &Joined, folders: &[String]) -> Self {
        let mut places = Self::default();
        let mut asked: BTreeSet<&str> = BTreeSet::new();
        for folder in folders {
            asked.extend(folder.match_indices('/').map(|(at, _)| &folder[..at]));
            asked.insert(folder);
        }
        for folder in asked.into_iter().filter(|folder| !folder.is_empty()) {
            let real = base.real(&format!("{folder}/."));
            if real.is_empty() {
                continue;
            }
            for (at, _) in real.match_indices('/').chain([(real.len(), "")]) {
                let part = &real[..at];
                let Some(found) = base.all.paths.get(part) else { continue };
                let usual = found.mode == 0o755 && found.owner == (0, 0);
                if found.kind == PathKind::Folder && !usual {
                    let (user, group) = found.owner;
                    places.folders.insert(part.to_owned(), (found.mode, user, group));
                }
            }
            if real != folder {
                places.moved.insert(folder.to_owned(), real);
            }
        }
        places
    }

    /// Moves the members of `files` where they belong. Folders that `files` names itself keep
    /// what it says; those that are only on the way are as the base has them.
    pub fn settle(&self, files: &mut Filesystem) {
        let nodes = std::mem::take(&mut files.nodes);
        for (path, node) in nodes {
            // A folder that is a link on the base is there already.
            if matches!(node.kind, Kind::Folder) && self.moved.contains_key(&path) {
                continue;
            }
            let place = match path.rsplit_once('/') {
                Some((folder, name)) => match self.moved.get(folder) {
                    Some(real) => format!("{real}/{name}"),
                    None => path,
                },
                None => path,
            };
            files.nodes.insert(place, node);
        }
        let named: BTreeSet<String> = files.nodes.keys().cloned().collect();
        files.add_parents();
        for (path, (mode, user, group)) in &self.folders {
            if let Some(node) = files.nodes.get_mut(path).filter(|_| !named.contains(path)) {
                *node = Node { owner: (*user, *group), ..Node::new(Kind::Folder, *mode) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::imported::{PathFacts, Paths};
    use crate::image::summary::LayerSummary;

    fn base() -> Joined {
        let mut joined = Joined::default();
        let folder = |mode, owner| PathFacts { kind: PathKind::Folder, mode, owner };
        let link = PathFacts { kind: PathKind::Link, mode: 0o777, owner: (0, 0) };
        let paths = [
            ("lib", link),
            ("tmp", folder(0o1777, (0, 0))),
            ("home/app", folder(0o700, (1000, 1000))),
            ("usr/lib", folder(0o755, (0, 0))),
        ];
        let all = Paths {
            paths: paths.map(|(path, facts)| (path.to_owned(), facts)).into(),
            ..Paths::default()
        };
        let links = BTreeMap::from([("lib".to_owned(), "usr/lib".to_owned())]);
        joined.add(&LayerSummary { links, ..LayerSummary::default() }, &all);
        joined
    }

    #[test]
    fn members_follow_the_base() {
        let mut files = Filesystem::default();
        for path in ["lib/x/y", "lib/z", "tmp/t", "home/app/f", "usr/local/bin/p"] {
            files.add_bytes(path, "", 0o644);
        }
        files.add_folder("lib", 0o755);
        let folders = ["lib/x", "lib", "tmp", "home/app", "usr/local/bin"].map(str::to_owned);
        let places = Places::of(&base(), &folders);
        places.settle(&mut files);
        let paths: Vec<&str> = files.nodes.keys().map(String::as_str).collect();
        let expected = [
            "home",
            "home/app",
            "home/app/f",
            "tmp",
            "tmp/t",
            "usr",
            "usr/lib",
            "usr/lib/x",
            "usr/lib/x/y",
            "usr/lib/z",
            "usr/local",
            "usr/local/bin",
            "usr/local/bin/p",
        ];
        assert_eq!(paths, expected);
        assert_eq!(files.nodes["tmp"].mode, 0o1777);
        assert_eq!(
            (files.nodes["home/app"].mode, files.nodes["home/app"].owner),
            (0o700, (1000, 1000))
        );
        assert_eq!(files.nodes["usr/lib"].mode, 0o755);
        // What is usual is not said.
        assert_eq!(Places::of(&base(), &["usr/local/bin".to_owned()]), Places::default());
    }

    #[test]
    fn named_folders_keep_their_modes() {
        let mut files = Filesystem::default();
        files.add_folder("tmp", 0o700);
        Places::of(&base(), &["tmp".to_owned()]).settle(&mut files);
        assert_eq!(files.nodes["tmp"].mode, 0o700);
    }
}
