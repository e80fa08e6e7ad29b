//! A walk over TOML that knows places, collects problems, and notices keys that nobody
//! asked for. What keys mean is in `valid`.

use std::collections::BTreeMap;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::{Finding, Place};

/// A value with its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// The text, and what is wrong with it.
pub struct Reader<'a> {
    file_name: &'a str,
    text: &'a str,
    /// Problems so far.
    pub findings: Vec<Finding>,
}

/// A table whose keys are taken out one by one.
pub struct Keys<'a> {
    what: String,
    place: Place,
    values: BTreeMap<String, (Place, Value<'a>)>,
    known: Vec<&'static str>,
}

impl Keys<'_> {
    /// Where the table starts.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Whether a key that is not yet taken is there.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Where a key that is not yet taken stands, or else where the table starts.
    pub fn place_of(&self, name: &str) -> Place {
        self.values.get(name).map_or_else(|| self.place(), |(place, _)| place.clone())
    }
}

impl<'a> Reader<'a> {
    /// A reader of `text`.
    pub fn new(file_name: &'a str, text: &'a str) -> Self {
        Self { file_name, text, findings: Vec::new() }
    }

    /// The whole document, unless it is not TOML.
    pub fn document(&mut self) -> Option<Keys<'a>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(self.keys("the file", 0, table.into_inner())),
            Err(error) => {
                let place = self.place(error.span().map_or(0, |span| span.start));
                let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
                let finding = if message.contains("duplicate key") {
                    let line = self.text.lines().nth(place.line - 1).unwrap_or_default();
                    let name = line.split('=').next().unwrap_or_default().trim();
                    Finding::new("duplicate-name", format!("`{name}` stands here a second time"))
                        .help("rename or remove one of the two")
                } else {
                    Finding::new("invalid-toml", message)
                };
                self.findings.push(finding.at(place));
                None
            }
        }
    }

    /// The place of a byte offset.
    pub fn place(&self, offset: usize) -> Place {
        let before = &self.text[..offset.min(self.text.len())];
        Place {
            file: self.file_name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
        }
    }

    fn keys(&self, what: &str, offset: usize, table: DeTable<'a>) -> Keys<'a> {
        let values = table
            .into_iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start);
                (key.into_inner().into_owned(), (place, value))
            })
            .collect();
        Keys { what: what.to_owned(), place: self.place(offset), values, known: Vec::new() }
    }

    /// Reports a problem.
    pub fn problem(&mut self, code: &'static str, place: Place, message: String) {
        self.findings.push(Finding::new(code, message).at(place));
    }

    fn wrong_type(&mut self, place: Place, key: &str, expected: &str, found: &str) {
        // Some are called by a phrase that quotes itself.
        let key = if key.contains(['`', '[']) { key.to_owned() } else { format!("`{key}`") };
        self.problem("wrong-type", place, format!("{key} must be {expected}, this is {found}"));
    }

    /// Takes a value out.
    pub fn take(&mut self, keys: &mut Keys<'a>, name: &'static str) -> Option<(Place, Value<'a>)> {
        keys.known.push(name);
        keys.values.remove(name)
    }

    /// Reports the keys that are left. To be called when all known ones were taken.
    pub fn finish(&mut self, keys: Keys<'a>) {
        for (name, (place, _)) in keys.values {
            let finding = Finding::new("unknown-key", format!("{} has no key `{name}`", keys.what));
            self.findings.push(suggest(finding, &name, &keys.known).at(place));
        }
    }

    /// A value as a table.
    pub fn table(&mut self, what: &str, place: &Place, value: Value<'a>) -> Option<Keys<'a>> {
        let offset = value.span().start;
        match value.into_inner() {
            DeValue::Table(table) => {
                let mut keys = self.keys(what, offset, table);
                keys.place = place.clone();
                Some(keys)
            }
            other => {
                self.wrong_type(place.clone(), what, "a table", &kind(&other));
                None
            }
        }
    }

    /// A table of tables by name, such as `[binary.*]`.
    pub fn named(
        &mut self,
        keys: &mut Keys<'a>,
        name: &'static str,
    ) -> Vec<(String, Place, Value<'a>)> {
        let Some((place, value)) = self.take(keys, name) else { return Vec::new() };
        match self.table(name, &place, value) {
            Some(table) => table
                .values
                .into_iter()
                .map(|(name, (place, value))| (name, place, value))
                .collect(),
            None => Vec::new(),
        }
    }

    /// Tables by names that are the user's own: all keys that are left.
    pub fn rest(&mut self, keys: &mut Keys<'a>) -> Vec<(String, Place, Value<'a>)> {
        let left = std::mem::take(&mut keys.values).into_iter();
        left.map(|(name, (place, value))| (name, place, value)).collect()
    }

    /// A text.
    pub fn text(&mut self, keys: &mut Keys<'a>, name: &'static str) -> Option<String> {
        let (place, value) = self.take(keys, name)?;
        self.as_text(name, &place, value)
    }

    /// A value as a text.
    pub fn as_text(&mut self, name: &str, place: &Place, value: Value<'a>) -> Option<String> {
        match value.into_inner() {
            DeValue::String(text) => Some(text.into_owned()),
            other => {
                self.wrong_type(place.clone(), name, "a text in quotes", &kind(&other));
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, keys: &mut Keys<'a>, name: &'static str, default: bool) -> bool {
        let Some((place, value)) = self.take(keys, name) else { return default };
        match value.into_inner() {
            DeValue::Boolean(boolean) => boolean,
            other => {
                self.wrong_type(place, name, "true or false", &kind(&other));
                default
            }
        }
    }

    /// A list of texts; with `single`, one text counts as a list of it.
    pub fn texts(&mut self, keys: &mut Keys<'a>, name: &'static str, single: bool) -> Vec<String> {
        self.placed_texts(keys, name, single).into_iter().map(|(_, text)| text).collect()
    }

    /// Like [`Reader::texts`], with places; integers count as texts.
    pub fn placed_texts(
        &mut self,
        keys: &mut Keys<'a>,
        name: &'static str,
        single: bool,
    ) -> Vec<(Place, String)> {
        let Some((place, value)) = self.take(keys, name) else { return Vec::new() };
        match value.into_inner() {
            DeValue::String(text) if single => vec![(place, text.into_owned())],
            DeValue::Array(items) => items
                .into_iter()
                .filter_map(|item| {
                    let place = self.place(item.span().start);
                    match item.into_inner() {
                        DeValue::Integer(number) if name == "expose" => {
                            Some((place, number.to_string()))
                        }
                        DeValue::String(text) => Some((place, text.into_owned())),
                        other => {
                            self.wrong_type(
                                place,
                                name,
                                "a list of texts",
                                &format!("a list with {}", kind(&other)),
                            );
                            None
                        }
                    }
                })
                .collect(),
            other => {
                self.wrong_type(place, name, "a list of texts", &kind(&other));
                Vec::new()
            }
        }
    }

    /// Tables of a list.
    pub fn tables(&mut self, keys: &mut Keys<'a>, name: &'static str, what: &str) -> Vec<Keys<'a>> {
        let Some((place, value)) = self.take(keys, name) else { return Vec::new() };
        self.as_tables(what, &place, value)
    }

    /// A value as a list of tables.
    pub fn as_tables(&mut self, what: &str, place: &Place, value: Value<'a>) -> Vec<Keys<'a>> {
        match value.into_inner() {
            DeValue::Array(items) => items
                .into_iter()
                .filter_map(|item| {
                    let place = self.place(item.span().start);
                    self.table(what, &place, item)
                })
                .collect(),
            other => {
                self.wrong_type(place.clone(), what, "a list of tables", &kind(&other));
                Vec::new()
            }
        }
    }

    /// A table of texts.
    pub fn map(&mut self, keys: &mut Keys<'a>, name: &'static str) -> BTreeMap<String, String> {
        self.named(keys, name)
            .into_iter()
            .filter_map(|(key, place, value)| {
                Some((key.clone(), self.as_text(&key, &place, value)?))
            })
            .collect()
    }
}

/// Adds the nearest of `known` to a finding, or all of them.
pub fn suggest<S: AsRef<str>>(finding: Finding, name: &str, known: &[S]) -> Finding {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate.as_ref()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 1 + name.len() / 3);
    match nearest {
        Some((_, nearest)) => finding.help(format!("did you mean `{}`?", nearest.as_ref())),
        None if known.is_empty() => finding,
        None => {
            let known: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
            finding.help(format!("known here: {}", known.join(", ")))
        }
    }
}

fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{text}\""),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(_) => "a fraction".to_owned(),
        DeValue::Boolean(boolean) => format!("`{boolean}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
