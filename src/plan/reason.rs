//! Reasons for which a unit runs.

use std::fmt;

use serde::Serialize;

/// How many reasons are shown where not all are asked for.
const SHOWN: usize = 3;

/// What sort of reason it is, the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It never ran for this project.
    FirstTime,
    /// It is as it was, but its result is gone.
    Removed,
    /// A file of the project.
    Source,
    /// A package of the distribution.
    Package,
    /// A tool or toolchain.
    Toolchain,
    /// A flag or another word of a command line.
    Flag,
    /// A variable of the environment.
    Variable,
    /// What it is built for, and how.
    Configuration,
    /// Something that the configuration file says.
    Option,
    /// A text that comes with this program, such as a compiler's wrapper.
    Template,
    /// This program, which does such work otherwise than before.
    Program,
    /// A unit that it needs.
    Need,
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reason {
    /// The sort.
    pub why: Why,
    /// What it is about: a path, a package, a variable, a unit.
    pub what: String,
    /// What it was, where there is a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The reason for people.
    pub text: String,
}

impl Reason {
    /// A reason without values.
    pub fn new(why: Why, what: &str, text: impl Into<String>) -> Self {
        Self { why, what: what.to_owned(), from: None, to: None, text: text.into() }
    }

    /// That a unit never ran.
    pub fn first_time() -> Self {
        Self::new(Why::FirstTime, "", "first time")
    }

    /// That the result of a unit is gone.
    pub fn removed() -> Self {
        Self::new(Why::Removed, "", "its result was removed from the cache")
    }

    /// That something is new, gone, or was changed without a value that could be shown.
    pub fn of_change(why: Why, noun: &str, what: &str, change: &str) -> Self {
        Self::new(why, what, format!("{noun} {what} {change}"))
    }

    /// That a value moved, such as a version.
    pub fn of_move(why: Why, noun: &str, what: &str, from: &str, to: &str) -> Self {
        let text = match what {
            "" => format!("{noun} {from} -> {to}"),
            what => format!("{noun} {what} {from} -> {to}"),
        };
        Self { from: Some(from.into()), to: Some(to.into()), ..Self::new(why, what, text) }
    }

    /// That a value is another than before. Long texts are shown by the words in which they
    /// differ.
    pub fn of_value(
        why: Why,
        noun: &str,
        what: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Self {
        let text = match (from, to) {
            (Some(from), Some(to)) => match words(from, to) {
                (gone, new) if gone.is_empty() => format!("{noun} {what} gained `{new}`"),
                (gone, new) if new.is_empty() => format!("{noun} {what} lost `{gone}`"),
                (gone, new) => format!("{noun} {what} changed from `{gone}` to `{new}`"),
            },
            (None, Some(to)) => format!("{noun} {what} is new: `{}`", short(to)),
            (Some(from), None) => format!("{noun} {what} is gone, was `{}`", short(from)),
            (None, None) => format!("{noun} {what} changed"),
        };
        let own = |text: Option<&str>| text.map(str::to_owned);
        Self { from: own(from), to: own(to), ..Self::new(why, what, text) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reasons on one line: all of them, or the first.
pub fn line(reasons: &[Reason], all: bool) -> String {
    let shown = if all { reasons.len() } else { SHOWN };
    let mut texts: Vec<&str> =
        reasons.iter().take(shown).map(|reason| reason.text.as_str()).collect();
    let more = format!("{} more", reasons.len().saturating_sub(shown));
    if reasons.len() > shown {
        texts.push(&more);
    }
    texts.join("; ")
}

/// What only the one and only the other text has, where they are lists of words; else the texts.
fn words(from: &str, to: &str) -> (String, String) {
    let only = |a: &str, b: &str| {
        let others: Vec<&str> = b.split_whitespace().collect();
        let left: Vec<&str> = a.split_whitespace().filter(|word| !others.contains(word)).collect();
        left.join(" ")
    };
    let is_list = |text: &str| text.split_whitespace().nth(1).is_some();
    let (gone, new) = (only(from, to), only(to, from));
    if !(is_list(from) && is_list(to)) || (gone.is_empty() && new.is_empty()) {
        return (some(short(from)), some(short(to)));
    }
    (short(&gone), short(&new))
}

/// Texts that are empty are no words that were lost or gained.
fn some(text: String) -> String {
    if text.is_empty() { "\"\"".to_owned() } else { text }
}

/// The start of a text, on one line.
pub fn short(text: &str) -> String {
    const LENGTH: usize = 72;
    let line = text.split('\n').next().unwrap_or_default();
    match line.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None if line.len() < text.len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check = |from: Option<&str>, to: Option<&str>, text: &str| {
            assert_eq!(Reason::of_value(Why::Variable, "variable", "X", from, to).text, text);
        };
        check(Some("a"), Some("b"), "variable X changed from `a` to `b`");
        check(Some(""), Some("b"), "variable X changed from `\"\"` to `b`");
        check(None, Some("b"), "variable X is new: `b`");
        check(Some("a"), None, "variable X is gone, was `a`");
        check(Some("-O2 -g -Wall"), Some("-O3 -g"), "variable X changed from `-O2 -Wall` to `-O3`");
        check(Some("-O2 -g"), Some("-O2 -g -Wall"), "variable X gained `-Wall`");
        check(Some("-O2 -g -Wall"), Some("-O2 -g"), "variable X lost `-Wall`");
        check(Some("a b"), Some("b a"), "variable X changed from `a b` to `b a`");
        let long = "x".repeat(100);
        let shown = format!("variable X is new: `{}…`", &long[..72]);
        check(None, Some(&long), &shown);
        check(None, Some("two\nlines"), "variable X is new: `two…`");
    }

    #[test]
    fn lines() {
        let reasons: Vec<Reason> =
            ["a", "b", "c", "d", "e"].map(|what| Reason::new(Why::Source, what, what)).into();
        assert_eq!(line(&reasons[..3], false), "a; b; c");
        assert_eq!(line(&reasons, false), "a; b; c; 2 more");
        assert_eq!(line(&reasons, true), "a; b; c; d; e");
    }
}
