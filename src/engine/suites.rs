//! Which suite images, binaries and libraries belong to: what is compiled for an image is
//! compiled against the suite of its base.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Base, Project, library_closure};
use crate::model::base::BaseImage;
use crate::model::{Place, Platform};

/// Suites by `None` for the default one.
pub type Suites = BTreeSet<Option<String>>;

/// The suites of images that do not stand on packages of the default one, by name.
/// `default` is its name; where the configuration says where that is, it is one of its
/// own, unless `suite` of `[project]` makes it everything's. `bases` are those that others
/// made, by image and platform.
pub fn of_images(
    project: &Project,
    default: &str,
    bases: &BTreeMap<(String, Platform), BaseImage>,
) -> BTreeMap<String, String> {
    let suite = |name: &String| {
        let mut at = name;
        let is_own = |suite: &String| {
            let is_default = project.suite.as_ref() == Some(suite);
            !is_default && (suite != default || project.suites.contains_key(suite))
        };
        // A circle is an error of the configuration, found before.
        for _ in 0..=project.images.len() {
            match &project.images.get(at)?.from {
                Base::Image(base) => at = base,
                Base::Packages { suite, .. } => {
                    return suite.clone().filter(is_own);
                }
                Base::External(_) => {
                    let base = bases.iter().find(|((image, _), _)| image == at)?.1;
                    let suite = base.system.suite.clone().filter(is_own)?;
                    // Of other distributions there are no packages to compile against.
                    let is_known =
                        base.system.has_packages() || project.suites.contains_key(&suite);
                    return is_known.then_some(suite);
                }
                Base::Scratch => return None,
            }
        }
        None
    };
    let images = project.images.keys();
    images.filter_map(|name| Some((name.clone(), suite(name)?))).collect()
}

/// What makes a suite be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuiteAsked {
    /// Where the configuration names it, or the base that is of it.
    pub place: Place,
    /// Why it is asked for, where the configuration does not say so itself.
    pub why: Option<String>,
}

/// What asks for each of the suites that [`of_images`] found: the first image whose own
/// `from` does.
pub fn asked_by(
    project: &Project,
    suites: &BTreeMap<String, String>,
    bases: &BTreeMap<(String, Platform), BaseImage>,
) -> BTreeMap<String, SuiteAsked> {
    let mut all = BTreeMap::new();
    for (name, suite) in suites {
        let Some(image) = project.images.get(name) else { continue };
        let why = match &image.from {
            Base::External(origin) => {
                let base = bases.iter().find(|((image, _), _)| image == name);
                let id = base.and_then(|(_, base)| base.system.id.as_deref()).unwrap_or_default();
                Some(format!(
                    "[image.{name}] stands on {origin}, which is of {id} {suite}, as its programs \
                     and packages have to be"
                ))
            }
            Base::Packages { .. } => None,
            Base::Image(_) | Base::Scratch => continue,
        };
        let asked = SuiteAsked { place: image.from_place.clone(), why };
        all.entry(suite.clone()).or_insert(asked);
    }
    all
}

/// What things are compiled in.
#[derive(Debug)]
pub struct Uses {
    binaries: BTreeMap<String, Suites>,
    libraries: BTreeMap<String, Suites>,
}

impl Uses {
    /// Who uses what, given the suites of images.
    pub fn new(project: &Project, suites: &BTreeMap<String, String>) -> Self {
        let mut uses = Self { binaries: BTreeMap::new(), libraries: BTreeMap::new() };
        for (name, image) in &project.images {
            let suite = suites.get(name);
            for binary in &image.binaries {
                uses.binaries.entry(binary.clone()).or_default().insert(suite.cloned());
                let Some(binary) = project.binaries.get(binary) else { continue };
                for library in library_closure(project, &binary.libraries) {
                    uses.libraries.entry(library).or_default().insert(suite.cloned());
                }
            }
        }
        uses
    }

    /// The suites in which `library NAME` or `binary NAME` is compiled: the default one for
    /// what no image needs.
    pub fn of(&self, what: &str) -> Suites {
        let found = match what.split_once(' ') {
            Some(("library", name)) => self.libraries.get(name),
            Some((_, name)) => self.binaries.get(name),
            None => None,
        };
        found.cloned().unwrap_or_else(|| Suites::from([None]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_follows_the_base() {
        let text = r#"
            [library.a]
            packages = ["liba-dev"]
            [library.b]
            make = { path = "b" }
            needs = ["a"]
            libraries = ["b"]
            [library.unused]
            packages = ["libc-dev"]
            [binary.x]
            rust = { package = "x" }
            libraries = ["b"]
            [image.old]
            from = { suite = "bookworm", packages = ["libc6"] }
            [image.new]
            from = { suite = "trixie", packages = ["libc6"] }
            [image.on-new]
            from = "new"
            binaries = ["x"]
            [image.on-old]
            from = "old"
            binaries = ["x"]
            [image.bare]
            from = "scratch"
        "#;
        let project = crate::config::parse("images.toml", text).unwrap();
        let suites = of_images(&project, "bookworm", &BTreeMap::new());
        let expected = [("new", "trixie"), ("on-new", "trixie")];
        assert_eq!(suites, expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        let uses = Uses::new(&project, &suites);
        let both = Suites::from([None, Some("trixie".to_owned())]);
        let text = format!(
            "[project]\nsuite = \"trixie\"\n{text}\n[suite.trixie]\nmirror = \"m\"\nkeyring = \"k\""
        );
        let project = crate::config::parse("images.toml", &text).unwrap();
        let others = [("old", "bookworm"), ("on-old", "bookworm")];
        let others = others.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_eq!(of_images(&project, "trixie", &BTreeMap::new()), others);
        for what in ["binary x", "library a", "library b"] {
            assert_eq!(uses.of(what), both, "{what}");
        }
        assert_eq!(uses.of("library unused"), Suites::from([None]));
    }
}
