//! Units of bases that others made: their layers, what they leave together, and where the
//! layers on them go.

use std::collections::BTreeSet;

use super::images::Planner;
use crate::model::Platform;
use crate::model::action::{Action, ImportAction, LayerContent, MemberKind};
use crate::model::base::Inherited;

/// Folders that are links into `usr` on most systems, and were folders on old ones.
const LINKED_FOLDERS: [&str; 8] =
    ["bin", "lib", "lib32", "lib64", "libx32", "sbin", "var/lock", "var/run"];

/// What layers stand on.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The unit that checks and joins the base's layers.
    pub check: usize,
    /// What images on it inherit.
    pub inherited: Inherited,
}

impl Planner<'_> {
    /// The layers of the base of an image, lowest first.
    pub fn base(&mut self, image: &str, platform: &Platform) -> Vec<usize> {
        let base = &self.facts.bases[&(image.to_owned(), platform.clone())];
        let name = base.inherited.name.clone();
        let layers: Vec<usize> = base
            .layers
            .iter()
            .map(|(layer, is_compressed)| {
                let compression = &self.facts.project.compression;
                let action = ImportAction {
                    layer: layer.clone(),
                    compression: (!is_compressed).then(|| compression.clone()),
                    origin: Some(base.origin.clone()),
                };
                let unit = format!("layer {} of {name}", layer.digest.short());
                self.unit(unit, None, Action::ImportLayer(Box::new(action)), vec![])
            })
            .collect();
        let action = Action::CheckBase { name: name.clone(), platform: platform.clone() };
        let check = self.unit(format!("base {name} {platform}"), None, action, layers.clone());
        self.standing = Some(Standing { check, inherited: base.inherited.clone() });
        layers
    }

    /// The unit that says where the folders of a layer are on the base that it goes onto.
    pub fn places(&mut self, content: &LayerContent) -> Option<usize> {
        let check = self.standing.as_ref()?.check;
        let mut folders: BTreeSet<String> = LINKED_FOLDERS.map(str::to_owned).into();
        let mut parent = |path: &str| {
            let (folder, _) = path.trim_matches('/').rsplit_once('/').unwrap_or_default();
            folders.insert(folder.to_owned());
        };
        match content {
            LayerContent::Root { .. } => {}
            LayerContent::Outputs { files } => files.iter().for_each(|(_, to)| parent(to)),
            LayerContent::SharedLibraries { folder } => parent(&format!("{folder}/library")),
            LayerContent::Files { members } => members.iter().for_each(|member| {
                // A folder may be there as a link.
                let is_folder = matches!(member.kind, MemberKind::Folder);
                parent(&format!("{}{}", member.to, if is_folder { "/x" } else { "" }));
            }),
        }
        let texts = matches!(content, LayerContent::Root { .. });
        let action = Action::PlaceFolders { folders: folders.into_iter().collect(), texts };
        let name = format!("folders of {}", self.plan.units[check].name);
        Some(self.unit(name, None, action, vec![check]))
    }
}
