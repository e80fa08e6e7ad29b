//! Layers of distribution packages: the root that an image stands on, what is added to it,
//! and what libraries need at run time. Each is a stage in which the root grows.

use super::images::Planner;
use crate::archive::exclude::Exclude;
use crate::config::{Base, Image};
use crate::image::scripts::table;
use crate::model::Platform;
use crate::model::action::{Action, LayerContent, RootOptions, Shape, UnpackAction};
use crate::model::package::{Package, PackageSet};

/// Units of trees of one stage.
pub type Stage = Vec<usize>;

impl Planner<'_> {
    /// Layers of the packages of an image: the root, and what is added to it.
    pub fn package_layers(&mut self, name: &str, image: &Image, platform: &Platform) -> Vec<usize> {
        let facts = self.facts;
        let key = (name.to_owned(), platform.clone());
        let inherited = match &image.from {
            Base::Image(base) => self.stages.get(&(base.clone(), platform.clone())).cloned(),
            _ => None,
        };
        self.stages.insert(key.clone(), inherited.unwrap_or_default());
        let mut layers = Vec::new();
        if let Some(set) = facts.roots.get(&key) {
            layers.extend(self.stage_layers(name, platform, set, ""));
        }
        if let Some(set) = facts.additions.get(&key).filter(|set| !set.packages.is_empty()) {
            layers.extend(self.stage_layers(name, platform, set, "added "));
        }
        layers
    }

    /// The layers of one stage: what is the same everywhere, then the rest.
    fn stage_layers(
        &mut self,
        image: &str,
        platform: &Platform,
        set: &PackageSet,
        which: &str,
    ) -> Vec<usize> {
        let (common, own): (Vec<_>, Vec<_>) =
            set.packages.iter().cloned().partition(|package| package.architecture == "all");
        let mut layers = Vec::new();
        let mut trees = Vec::new();
        if !common.is_empty() {
            let title = format!("common {which}packages");
            let tree = self.root_tree(image, &format!("root {image} {title}"), common);
            let content = LayerContent::Root { furnish: false, stages: vec![], apart: 0 };
            let name = format!("layer {image} {title}");
            layers.push(self.layer(name, &title, content, vec![tree]));
            trees.push(tree);
        }
        let title = format!("{which}packages");
        let tree = self.root_tree(image, &format!("root {image} {title} {platform}"), own);
        let apart = trees.len();
        trees.push(tree);
        let name = format!("layer {image} {title} {platform}");
        layers.push(self.settled_layer((image, platform), name, &title, trees, apart));
        layers
    }

    /// The layer of the run-time packages of a library, as far as the image's base lacks them.
    pub fn runtime_layer(&mut self, image: &str, name: &str, platform: &Platform) -> Option<usize> {
        let facts = self.facts;
        let key = (image.to_owned(), name.to_owned(), platform.clone());
        let set = facts.runtimes.get(&key).filter(|set| !set.packages.is_empty())?;
        let unit = format!("root {image} packages of {name} {platform}");
        let tree = self.root_tree(image, &unit, set.packages.clone());
        let title = format!("packages of {name}");
        let layer = format!("layer {image} {title} {platform}");
        Some(self.settled_layer((image, platform), layer, &title, vec![tree], 0))
    }

    /// The layer of a further stage of the root of an image.
    fn settled_layer(
        &mut self,
        (image, platform): (&str, &Platform),
        name: String,
        title: &str,
        trees: Stage,
        apart: usize,
    ) -> usize {
        let stages = self.stages.entry((image.to_owned(), platform.clone())).or_default();
        if !stages.contains(&trees) {
            stages.push(trees);
        }
        let content = LayerContent::Root {
            furnish: stands_on_packages(self.facts, image),
            stages: stages.iter().map(Vec::len).collect(),
            apart,
        };
        let needs = stages.concat();
        self.layer(name, title, content, needs)
    }

    fn root_tree(&mut self, image: &str, unit: &str, packages: Vec<Package>) -> usize {
        let options = self.facts.project.images.get(image).map(|image| {
            let Exclude { sets, patterns } = Exclude::new(&image.packages.exclude);
            RootOptions {
                sets,
                patterns,
                ignored_scripts: image.packages.ignored_scripts.keys().cloned().collect(),
                scripts: table::version(),
            }
        });
        let action = UnpackAction { packages, shape: Shape::Root, root: options };
        self.unit(unit.to_owned(), None, Action::UnpackPackages(action), vec![])
    }
}

/// Whether the root of an image is made of packages from the start.
fn stands_on_packages(facts: &super::facts::Facts, image: &str) -> bool {
    let mut at = image;
    loop {
        match facts.project.images.get(at).map(|image| &image.from) {
            Some(Base::Packages { .. }) => return true,
            Some(Base::Image(base)) => at = base,
            _ => return false,
        }
    }
}
