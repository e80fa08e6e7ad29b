//! What `plan` says of each unit: cached, will run, or may run, and why.

use serde::Serialize;

use super::reason::{self, Reason};
use crate::model::Digest;

/// What would happen to a unit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its result is there.
    Cached,
    /// It has no result for its present key, or is itself made otherwise than last time.
    WillRun,
    /// Something that it needs runs first, so its key is not known yet; nothing else about it
    /// changed.
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
    /// Its key, where what it needs is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Digest>,
    /// Why, the most telling first; nothing where it is cached.
    pub reasons: Vec<Reason>,
    /// Names of the units that it needs.
    pub needs: Vec<String>,
}

impl Explained {
    /// What would happen and why, on one line: all reasons, or the first.
    pub fn text(&self, all: bool) -> String {
        let state = match self.state {
            State::Cached => return "cached".to_owned(),
            State::WillRun => "will run",
            State::MayRun => "may run",
        };
        format!("{state}: {}", reason::line(&self.reasons, all))
    }
}
