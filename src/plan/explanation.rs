//! What `plan` says of each unit: cached, will run, or may run.

use serde::Serialize;

/// What would happen to a unit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its result is there.
    Cached,
    /// It has no result for its present key.
    WillRun,
    /// Something that it needs runs first, so its key is not known yet.
    MayRun,
}

/// A unit and what would happen to it.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Unit name.
    pub unit: String,
    /// Kind of unit.
    pub kind: &'static str,
    /// What would happen.
    pub state: State,
    /// Names of the units that it needs.
    pub needs: Vec<String>,
}
