//! What the keys that are about packages mean, of `[image.*]` and of its `from`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::raw::{Keys, Reader, suggest};
use crate::archive::exclude;
use crate::model::{Finding, Place};

/// What an image says about distribution packages, those of its base included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackageKeys {
    /// Packages that are added to the base.
    pub added: Vec<String>,
    /// Where those are named.
    pub place: Place,
    /// What is left out of packages: names of sets, and patterns.
    pub exclude: Vec<String>,
    /// Packages whose maintainer scripts are ignored, and where that is said.
    pub ignored_scripts: BTreeMap<String, Place>,
}

/// `exclude` and `scripts`, as far as they are there: for `from` and for the image.
#[derive(Default)]
pub struct Treatment {
    exclude: Option<Vec<String>>,
    ignored_scripts: BTreeMap<String, Place>,
}

/// Takes `exclude` and `scripts` out of `keys`.
pub fn treatment<'a>(reader: &mut Reader<'a>, keys: &mut Keys<'a>) -> Treatment {
    let mut treatment = Treatment::default();
    if keys.has("exclude") {
        let items = reader.placed_texts(keys, "exclude", false);
        for (place, item) in &items {
            if !exclude::is_pattern(item) && !exclude::names().contains(&item.as_str()) {
                let message = format!("`exclude` knows no set `{item}`");
                let finding = Finding::new("unknown-set", message).at(place.clone());
                let mut finding = suggest(finding, item, &exclude::names());
                if let Some(help) = &mut finding.help {
                    help.push_str("; a path or pattern has a `/` or `*`");
                }
                reader.findings.push(finding);
            }
        }
        treatment.exclude = Some(items.into_iter().map(|(_, item)| item).collect());
    } else {
        // Known, though it is not there.
        reader.take(keys, "exclude");
    }
    for (package, place, value) in reader.named(keys, "scripts") {
        let Some(word) = reader.as_text(&package, &place, value) else { continue };
        if word == "ignore" {
            treatment.ignored_scripts.insert(package, place);
        } else {
            let message = format!("`scripts` of `{package}` is \"{word}\", it can be \"ignore\"");
            reader.problem("invalid-value", place, message);
        }
    }
    treatment
}

/// What an image says about packages, with what its `from` said.
pub fn package_keys<'a>(
    reader: &mut Reader<'a>,
    keys: &mut Keys<'a>,
    mut base: Treatment,
) -> PackageKeys {
    let place = keys.place_of("packages");
    let added = reader.texts(keys, "packages", false);
    let own = treatment(reader, keys);
    base.ignored_scripts.extend(own.ignored_scripts);
    let exclude = own.exclude.or(base.exclude);
    PackageKeys {
        added,
        place,
        exclude: exclude.unwrap_or_else(|| vec![exclude::DEFAULT.to_owned()]),
        ignored_scripts: base.ignored_scripts,
    }
}
