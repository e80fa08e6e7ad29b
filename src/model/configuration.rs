//! Configurations: everything about *how* a thing is built that is not about *what* it is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The circumstances one unit is built in. Two units that differ in any field are two
/// units, with two keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Configuration {
    /// Triple of the machine that runs the compilers.
    pub execution: String,
    /// Triple of the machine that runs the result.
    pub target: String,
    /// Suite whose packages make the sysroot (`bookworm`), which also sets the glibc floor.
    pub suite: String,
    /// CPU baseline of the target, as its toolchain description names it.
    pub cpu: String,
    /// Build profile, such as `release`.
    pub profile: String,
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.target, self.suite, self.profile)?;
        if self.execution != self.target {
            write!(f, " on {}", self.execution)?;
        }
        Ok(())
    }
}
