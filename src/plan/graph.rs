//! Units and what they need.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::action::{Action, JobStyle};
use crate::model::{Configuration, Digest, Platform};

/// One thing in one configuration.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Unique name, such as `binary auth linux/arm64`.
    pub name: String,
    /// The circumstances, where they matter.
    pub configuration: Option<Configuration>,
    /// What it does.
    pub action: Action,
    /// Units that it needs, as indices into [`Plan::units`]; always smaller than its own.
    pub needs: Vec<usize>,
}

impl Unit {
    /// The folder of compiler state that no two units may use at once.
    pub fn state(&self) -> Option<&str> {
        match &self.action {
            Action::Process(process) => Some(&process.state),
            _ => None,
        }
    }

    /// Whether the unit looks at a base image.
    pub fn is_base(&self) -> bool {
        matches!(self.action, Action::ImportLayer(_) | Action::CheckBase { .. })
    }

    /// How the unit shares cores.
    pub fn jobs(&self) -> JobStyle {
        match &self.action {
            Action::Process(process) => process.jobs,
            Action::PackLayer(_) | Action::ImportLayer(_) => JobStyle::Lease,
            _ => JobStyle::Single,
        }
    }

    /// What the unit is, in one word.
    pub fn kind(&self) -> &'static str {
        match &self.action {
            Action::UnpackPackages(_) => "packages",
            Action::FetchSource { .. } => "source",
            Action::VendorCrates { .. } => "crates",
            Action::DownloadModules { .. } => "modules",
            Action::Process(_) => "compile",
            Action::JoinTrees { .. } => "sysroot",
            Action::InstallFiles { .. } => "files",
            Action::PackLayer(_) => "layer",
            Action::ImportLayer(_) => "base layer",
            Action::CheckBase { .. } | Action::PlaceFolders { .. } => "base",
            Action::CheckPlatform { .. } => "check",
            Action::Manifest(_) => "manifest",
            Action::Index { .. } => "index",
        }
    }
}

/// A finished image in the plan.
#[derive(Clone, Debug)]
pub struct PlannedImage {
    /// Image name.
    pub name: String,
    /// Whether it goes into the layout.
    pub publish: bool,
    /// Manifest unit and layer units by platform, in the order of the index.
    pub platforms: Vec<(Platform, usize, Vec<usize>)>,
    /// Index unit, where the image is published.
    pub index: Option<usize>,
}

/// Units in an order in which each comes after what it needs, and the images they make.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The units.
    pub units: Vec<Unit>,
    /// The images.
    pub images: Vec<PlannedImage>,
    /// Folders of the machine that actions mount, by name.
    pub machine_folders: BTreeMap<String, PathBuf>,
    /// Units that were added, by what they need: few of those do the same.
    by_needs: BTreeMap<Vec<usize>, Vec<usize>>,
}

impl Plan {
    /// Adds a unit, or finds the one that does the same with the same needs.
    pub fn add(&mut self, unit: Unit) -> usize {
        let alike = self.by_needs.entry(unit.needs.clone()).or_default();
        let same = alike.iter().find(|known| self.units[**known].action == unit.action);
        same.copied().unwrap_or_else(|| {
            alike.push(self.units.len());
            self.units.push(unit);
            self.units.len() - 1
        })
    }

    /// The units that `wanted` accepts with all that they need, and no images.
    pub fn part(&self, wanted: impl Fn(&Unit) -> bool) -> Self {
        let mut kept: Vec<bool> = self.units.iter().map(wanted).collect();
        for index in (0..self.units.len()).rev() {
            if kept[index] {
                self.units[index].needs.iter().for_each(|&need| kept[need] = true);
            }
        }
        let mut places = BTreeMap::new();
        let mut units = Vec::new();
        for (index, unit) in self.units.iter().enumerate().filter(|(index, _)| kept[*index]) {
            places.insert(index, units.len());
            let needs = unit.needs.iter().map(|need| places[need]).collect();
            units.push(Unit { needs, ..unit.clone() });
        }
        Self { units, machine_folders: self.machine_folders.clone(), ..Self::default() }
    }

    /// For each unit, the length of the longest chain from its start to the plan's end, where
    /// each unit has a `length` of its own.
    pub fn chain_lengths(&self, length: impl Fn(usize) -> u64) -> Vec<u64> {
        let mut after = vec![0; self.units.len()];
        for (index, unit) in self.units.iter().enumerate().rev() {
            after[index] += length(index);
            for &need in &unit.needs {
                after[need] = after[need].max(after[index]);
            }
        }
        after
    }

    /// The key of a unit whose needs have these outputs, in the order of its needs.
    pub fn key(&self, index: usize, outputs: &[Digest]) -> Digest {
        super::key::key(&self.units[index], outputs)
    }
}
