//! Events: the only interface between the engine and the screen.

use std::time::Duration;

/// Something that happened, told as it happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A plan of so many units is about to run.
    Planned {
        /// Number of units.
        units: usize,
    },
    /// Something is going to be downloaded.
    Download {
        /// What, for people.
        what: String,
        /// How much, where known.
        size_bytes: Option<u64>,
        /// Where it goes.
        to: String,
    },
    /// Something is downloaded whose size was not known before.
    Downloaded {
        /// What, for people.
        what: String,
        /// How much, as it is kept.
        size_bytes: u64,
    },
    /// A phase before the plan, such as asking the package archive.
    Note {
        /// What is being done.
        text: String,
    },
    /// Something that the user should know.
    Warning {
        /// What.
        text: String,
    },
    /// A unit's result was there already.
    Cached {
        /// Unit name.
        unit: String,
    },
    /// A unit starts.
    Started {
        /// Unit name.
        unit: String,
        /// Why it runs, ready to be read; may be empty.
        why: String,
    },
    /// A command line of a unit, with its environment.
    Command {
        /// Unit name.
        unit: String,
        /// The command, ready to be read.
        line: String,
    },
    /// What a command of a unit printed before it ended well.
    Output {
        /// Unit name.
        unit: String,
        /// Standard output and then standard error.
        text: String,
    },
    /// A unit is done.
    Finished {
        /// Unit name.
        unit: String,
        /// Time that it took.
        elapsed: Duration,
    },
    /// A unit failed.
    Failed {
        /// Unit name.
        unit: String,
        /// What went wrong, whole.
        message: String,
    },
}
