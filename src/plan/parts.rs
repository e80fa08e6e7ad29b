//! What entered a key, part by part, so that a later plan can say what changed.
//!
//! Nothing here decides whether a result can be used again: that is the key's part alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::{Facts, SourceFile};
use super::key::version;
use super::{Plan, Unit};
use crate::model::{Configuration, Digest};

/// Files by path in the project.
pub type Files = BTreeMap<String, SourceFile>;

/// What entered the key of a unit. Files are kept apart, by the digest in the action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Version of such actions.
    pub version: u32,
    /// The action.
    pub action: Value,
    /// The circumstances.
    pub configuration: Option<Configuration>,
    /// Needed units by name, and what they gave, where that is known.
    pub needs: Vec<(String, Option<Digest>)>,
}

impl Parts {
    /// The parts of a unit whose needs gave `outputs`, as far as they are known. Of variables
    /// that users pass on, only digests are kept: their values may be nobody else's business.
    pub fn of(plan: &Plan, facts: &Facts, unit: &Unit, outputs: &[Option<Digest>]) -> Self {
        let mut action =
            serde_json::to_value(&unit.action).expect("an action has string keys only");
        if let Some(Value::Object(variables)) = action.get_mut("environment") {
            let targets = facts.project.targets.values();
            for name in targets.flat_map(|target| &target.passthrough) {
                if let Some(Value::String(value)) = variables.get_mut(name) {
                    *value = Digest::of(value.as_bytes()).to_string();
                }
            }
        }
        let names = unit.needs.iter().map(|&need| plan.units[need].name.clone());
        Self {
            version: version(&unit.action),
            action,
            configuration: unit.configuration.clone(),
            needs: names.zip(outputs.iter().copied()).collect(),
        }
    }
}
