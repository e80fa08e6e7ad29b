//! Until when suites get security updates, as data in `toolchains/end-of-life.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

type Table = BTreeMap<String, BTreeMap<String, String>>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    toml::from_str(include_str!("../../toolchains/end-of-life.toml"))
        .expect("a test parses the table")
});

/// The day of the last updates of a suite, as `2028-06-30`. A version with three parts, such
/// as `3.22.1`, is of the suite with two.
pub fn end_of_life(id: &str, suite: &str) -> Option<String> {
    let suites = TABLE.get(id)?;
    let short = suite.rsplit_once('.').map_or(suite, |(short, _)| short);
    suites.get(suite).or_else(|| suites.get(short)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        let is_day = |text: &String| {
            text.len() == 10
                && text
                    .char_indices()
                    .all(|(at, c)| if at == 4 || at == 7 { c == '-' } else { c.is_ascii_digit() })
        };
        assert!(TABLE.values().flat_map(BTreeMap::values).all(is_day));
        assert_eq!(end_of_life("debian", "bookworm").as_deref(), Some("2028-06-30"));
        assert_eq!(end_of_life("alpine", "3.22.1").as_deref(), Some("2027-05-01"));
        assert_eq!(end_of_life("debian", "sid"), None);
    }
}
