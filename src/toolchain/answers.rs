//! Answers to questions that only a program of a target could answer by running: the table
//! in `toolchains/answers.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// Cache variables by build system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Cache variables of CMake projects.
    pub cmake: BTreeMap<String, String>,
    /// Cache variables of autoconf.
    pub autoconf: BTreeMap<String, String>,
}

static ANSWERS: LazyLock<Answers> = LazyLock::new(|| {
    toml::from_str(include_str!("../../toolchains/answers.toml")).expect("a test parses the table")
});

/// The answers, which hold for every target.
pub fn answers() -> &'static Answers {
    &ANSWERS
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_read() {
        assert!(!super::answers().cmake.is_empty());
        assert!(super::answers().autoconf.values().all(|answer| answer == "yes" || answer == "no"));
    }
}
