//! What would happen to each unit, and why: the plan beside the history and the store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::Engine;
use super::build::Prepared;
use super::history::{History, Kept};
use crate::model::Digest;
use crate::model::action::{Action, LayerContent};
use crate::plan::Plan;
use crate::plan::difference::{Sources, differences, packages};
use crate::plan::explanation::{Explained, State};
use crate::plan::facts::Facts;
use crate::plan::parts::{Files, Parts};
use crate::plan::reason::{Reason, Why};

/// Compares units with those of the last build. What it reads it keeps, because many units
/// share sources and needs.
pub struct Explainer<'a> {
    plan: &'a Plan,
    facts: &'a Facts,
    history: History,
    kept: RefCell<BTreeMap<usize, Option<Rc<Kept>>>>,
    old_files: RefCell<BTreeMap<Digest, Option<Rc<Files>>>>,
    new_files: RefCell<BTreeMap<(String, Digest), Rc<Files>>>,
}

impl<'a> Explainer<'a> {
    /// For a plan. Reads nothing yet.
    pub fn new(engine: &Engine, plan: &'a Plan, facts: &'a Facts) -> Self {
        Self {
            plan,
            facts,
            history: History::new(&engine.project_state),
            kept: RefCell::default(),
            old_files: RefCell::default(),
            new_files: RefCell::default(),
        }
    }

    /// Why a unit runs whose needs gave `outputs`, as far as that is known, and whether that
    /// is so whatever the others will give.
    pub fn reasons(
        &self,
        index: usize,
        outputs: &[Option<Digest>],
        key: Option<&Digest>,
    ) -> (Vec<Reason>, bool) {
        let Some(kept) = self.kept(index) else { return (vec![Reason::first_time()], true) };
        if key.is_some_and(|key| *key == kept.key) {
            return (vec![Reason::removed()], true);
        }
        let mut reasons = self.differences(index, &kept, outputs);
        let mut certain = !reasons.is_empty() || key.is_some();
        reasons.extend(self.root_packages(index, &kept));
        let unit = &self.plan.units[index];
        let then = &kept.parts.needs;
        for (at, (&need, output)) in unit.needs.iter().zip(outputs).enumerate() {
            let before = match then.len() == unit.needs.len() {
                true => then[at].1,
                // Places moved: the name tells which it was.
                false => {
                    let name = &self.plan.units[need].name;
                    let Some((_, before)) = then.iter().find(|(known, _)| known == name) else {
                        continue;
                    };
                    *before
                }
            };
            if output.is_some() && *output == before {
                continue;
            }
            certain |= output.is_some();
            let background = self.background(need);
            if background.is_empty() {
                let name = &self.plan.units[need].name;
                reasons.push(Reason::new(Why::Need, name, format!("needs {name}")));
            } else {
                reasons.extend(background);
            }
        }
        if reasons.is_empty() {
            let text = "what it is made of changed";
            reasons.push(Reason::new(Why::Option, "key", text));
        }
        reasons.sort();
        reasons.dedup();
        (reasons, certain)
    }

    /// What moved in the packages of a layer, whose trees may be others than before.
    fn root_packages(&self, index: usize, kept: &Kept) -> Vec<Reason> {
        let unit = &self.plan.units[index];
        let Action::PackLayer(layer) = &unit.action else { return Vec::new() };
        let LayerContent::Root { .. } = layer.content else { return Vec::new() };
        let then = kept.parts.needs.iter().filter_map(|(name, _)| self.history.of(name));
        let then = then.flat_map(|kept| kept.parts.action["packages"].as_array().cloned());
        let now = unit.needs.iter().flat_map(|&need| match &self.plan.units[need].action {
            Action::UnpackPackages(unpack) => unpack.packages.as_slice(),
            _ => &[],
        });
        let now = now.filter_map(|package| serde_json::to_value(package).ok());
        let (then, now): (Vec<Value>, Vec<Value>) = (then.flatten().collect(), now.collect());
        let mut reasons = Vec::new();
        packages(&unit.name, &then.into(), &now.into(), &mut reasons);
        reasons.retain(|reason| reason.what != "packages");
        reasons
    }

    /// What moved in the packages that a needed unit is made of.
    fn background(&self, index: usize) -> Vec<Reason> {
        let unit = &self.plan.units[index];
        match unit.action {
            Action::UnpackPackages(_) => {
                let Some(kept) = self.kept(index) else { return Vec::new() };
                let mut reasons = self.differences(index, &kept, &[]);
                reasons.retain(|reason| matches!(reason.why, Why::Package | Why::Toolchain));
                reasons
            }
            Action::PackLayer(_) => {
                self.kept(index).map_or_else(Vec::new, |kept| self.root_packages(index, &kept))
            }
            Action::JoinTrees { .. } => {
                unit.needs.iter().flat_map(|&need| self.background(need)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn differences(&self, index: usize, kept: &Kept, outputs: &[Option<Digest>]) -> Vec<Reason> {
        let unit = &self.plan.units[index];
        let parts = Parts::of(self.plan, self.facts, unit, outputs);
        let mut then = kept.parts.clone();
        if outputs.is_empty() {
            then.needs.clear();
        }
        let new = self.facts.selected(&unit.action).map(|selected| {
            let id = (selected.listing.folder.clone(), selected.digest);
            let mut known = self.new_files.borrow_mut();
            Rc::clone(known.entry(id).or_insert_with(|| Rc::new(selected.files())))
        });
        let old = kept.sources.and_then(|digest| {
            let mut known = self.old_files.borrow_mut();
            known.entry(digest).or_insert_with(|| self.history.files(&digest).map(Rc::new)).clone()
        });
        let sources = Sources { old: old.as_deref(), new: new.as_deref() };
        differences(&unit.name, &then, &parts, sources)
    }

    fn kept(&self, index: usize) -> Option<Rc<Kept>> {
        let mut known = self.kept.borrow_mut();
        let name = &self.plan.units[index].name;
        known.entry(index).or_insert_with(|| self.history.of(name).map(Rc::new)).clone()
    }
}

impl Prepared {
    /// What would happen to each unit.
    pub fn explain(&self) -> Vec<Explained> {
        let explainer = Explainer::new(&self.engine, &self.plan, &self.facts);
        let mut results: BTreeMap<usize, Digest> = BTreeMap::new();
        let mut explained = Vec::new();
        for (index, unit) in self.plan.units.iter().enumerate() {
            let outputs: Vec<Option<Digest>> =
                unit.needs.iter().map(|need| results.get(need).copied()).collect();
            let known: Option<Vec<Digest>> = outputs.iter().copied().collect();
            let key = known.map(|outputs| self.plan.key(index, &outputs));
            // What is only known runs if somebody needs its files.
            let store = &self.engine.store;
            let record = key.and_then(|key| store.record(&key).or_else(|| store.promise(&key)));
            let (state, reasons) = match record {
                Some(record) => {
                    results.insert(index, record.output);
                    (State::Cached, Vec::new())
                }
                None => {
                    let (reasons, certain) = explainer.reasons(index, &outputs, key.as_ref());
                    (if certain { State::WillRun } else { State::MayRun }, reasons)
                }
            };
            explained.push(Explained {
                unit: unit.name.clone(),
                kind: unit.kind(),
                state,
                key,
                reasons,
                needs: unit.needs.iter().map(|&need| self.plan.units[need].name.clone()).collect(),
            });
        }
        explained
    }
}
