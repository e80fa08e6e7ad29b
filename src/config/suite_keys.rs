//! What the keys of `[suite.*]` mean: package archives that are not the machine's own.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::raw::{Keys, Reader, Value};
use crate::model::source::{file_url_path, is_web, redacted};
use crate::model::{Finding, Place};

/// Stands in [`Archive::mirrors`] for every architecture that is not named.
pub const ANY_ARCHITECTURE: &str = "default";

/// A suite of packages: archives whose packages are chosen from together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suite {
    /// The archives.
    pub archives: Vec<Archive>,
    /// Where it is declared.
    pub place: Place,
}

/// A Debian-style package archive, signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Archive {
    /// Where its files are, by Debian architecture; `default` for those that are not named.
    pub mirrors: BTreeMap<String, Mirror>,
    /// File with the keys that it may be signed with: in the project, or absolute.
    pub keyring: String,
    /// Its suites, by the names of their folders in `dists`.
    pub suites: Vec<String>,
    /// Components of each.
    pub components: Vec<String>,
    /// Whether a release file whose `Valid-Until` is over is refused.
    pub valid_until: bool,
    /// Where it is declared.
    pub place: Place,
}

/// Where the files of an archive are. Credentials in a URL are shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub enum Mirror {
    /// An `http` or `https` URL, without a slash at its end.
    Web(String),
    /// A folder: in the project, or absolute.
    Folder(String),
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => f.write_str(&redacted(url)),
            Self::Folder(path) => f.write_str(path),
        }
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mirror {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an archive has that does not say it itself.
struct Defaults {
    keyring: Option<String>,
    suites: Vec<String>,
    components: Vec<String>,
    valid_until: bool,
}

/// The keys of a suite.
pub fn suite<'a>(reader: &mut Reader<'a>, name: &str, mut keys: Keys<'a>) -> Suite {
    let what = format!("[suite.{name}]");
    let place = keys.place();
    let further = reader.tables(&mut keys, "archives", &format!("`archives` of {what}"));
    let mut defaults = Defaults {
        keyring: None,
        suites: vec![name.to_owned()],
        components: vec!["main".to_owned()],
        valid_until: true,
    };
    let mut archives = Vec::new();
    let first = archive(reader, &what, keys, &defaults);
    if let Some(first) = &first {
        defaults.keyring = Some(first.keyring.clone());
        defaults.components.clone_from(&first.components);
        defaults.valid_until = first.valid_until;
    }
    archives.extend(first);
    for keys in further {
        archives.extend(archive(reader, &format!("`archives` of {what}"), keys, &defaults));
    }
    Suite { archives, place }
}

fn archive<'a>(
    reader: &mut Reader<'a>,
    what: &str,
    mut keys: Keys<'a>,
    defaults: &Defaults,
) -> Option<Archive> {
    let place = keys.place();
    let mirrors = reader.take(&mut keys, "mirror");
    let has_mirror = mirrors.is_some();
    let mirrors = mirrors.and_then(|(place, value)| parse_mirrors(reader, what, &place, value));
    let keyring_place = keys.place_of("keyring");
    let has_keyring = keys.has("keyring");
    let keyring = reader.text(&mut keys, "keyring");
    let suites = reader.placed_texts(&mut keys, "suites", true);
    let components = reader.placed_texts(&mut keys, "components", true);
    for (place, text) in suites.iter().chain(&components) {
        if !is_folder_name(text) {
            let message = format!(
                "`{text}` is no name of a folder in `dists`: letters, digits, `.`, `_`, `+`, `-`, `/`"
            );
            reader.problem("invalid-value", place.clone(), message);
        }
    }
    let names = |found: Vec<(Place, String)>, other: &[String]| {
        let names: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
        if names.is_empty() { other.to_vec() } else { names }
    };
    let suites = names(suites, &defaults.suites);
    let components = names(components, &defaults.components);
    let valid_until = reader.boolean(&mut keys, "valid-until", defaults.valid_until);
    reader.finish(keys);
    if !has_mirror {
        let finding = Finding::new("missing-key", format!("{what} needs `mirror`"))
            .help("`mirror = \"https://HOST/debian\"`, or a folder with `dists` and `pool` in it");
        reader.findings.push(finding.at(place.clone()));
    }
    if keyring.is_none() && !has_keyring && defaults.keyring.is_none() {
        let finding = Finding::new("missing-key", format!("{what} needs `keyring`"))
            .help("name the file with the keys that sign the archive, such as \"/usr/share/keyrings/debian-archive-keyring.gpg\", or a copy in the project");
        reader.findings.push(finding.at(place.clone()));
    }
    let keyring = keyring.or_else(|| defaults.keyring.clone())?;
    if !is_place(&keyring) {
        let message = format!(
            "`keyring` must be a file of the project or an absolute path, this is `{keyring}`"
        );
        reader.problem("invalid-value", keyring_place, message);
    }
    Some(Archive { mirrors: mirrors?, keyring, suites, components, valid_until, place })
}

/// A mirror, or a table of mirrors by architecture.
fn parse_mirrors<'a>(
    reader: &mut Reader<'a>,
    what: &str,
    place: &Place,
    value: Value<'a>,
) -> Option<BTreeMap<String, Mirror>> {
    let entries = if value.get_ref().is_table() {
        let mut keys = reader.table(&format!("`mirror` of {what}"), place, value)?;
        reader.rest(&mut keys)
    } else {
        vec![(ANY_ARCHITECTURE.to_owned(), place.clone(), value)]
    };
    let mut mirrors = BTreeMap::new();
    for (architecture, place, value) in entries {
        let Some(text) = reader.as_text("mirror", &place, value) else { continue };
        if let Some(mirror) = parse_mirror(&text) {
            mirrors.insert(architecture, mirror);
            continue;
        }
        let shown = redacted(&text);
        let message = format!(
            "`mirror` must be an http or https URL, a folder of the project or an absolute one, \
             this is `{shown}`"
        );
        reader.problem("invalid-value", place, message);
    }
    Some(mirrors)
}

fn parse_mirror(text: &str) -> Option<Mirror> {
    if is_web(text) {
        let host = text.split("://").nth(1).unwrap_or_default().split('/').next();
        let has_host = host.is_some_and(|host| !host.rsplit('@').next().unwrap_or("").is_empty());
        return (has_host && !text.contains(char::is_whitespace))
            .then(|| Mirror::Web(text.trim_end_matches('/').to_owned()));
    }
    let path = file_url_path(text).unwrap_or_else(|| text.to_owned());
    (is_place(&path) && !path.contains("://")).then_some(Mirror::Folder(path))
}

/// Whether a path is absolute, or stays in the project.
fn is_place(path: &str) -> bool {
    !path.is_empty() && (path.starts_with('/') || path.split('/').all(|part| part != ".."))
}

fn is_folder_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._+-/~".contains(c);
    text.chars().all(good) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn suites_have_defaults_and_further_archives() {
        let text = "[image.x]\nfrom = \"scratch\"\n[suite.bookworm]\nmirror = \"https://me:secret@h.example/debian/\"\n\
                    keyring = \"keys/a.asc\"\n[[suite.bookworm.archives]]\n\
                    mirror = { amd64 = \"file:///srv/security\", default = \"https://p.example/\" }\nsuites = \"bookworm-security\"\n\
                    [suite.frozen]\nmirror = \"mirror\"\nkeyring = \"/k.gpg\"\n\
                    suites = [\"x/updates\"]\ncomponents = [\"main\", \"universe\"]\n\
                    valid-until = false\n";
        let project = parse("images.toml", text).unwrap();
        let shown = project.suites.values().flat_map(|suite| &suite.archives).map(|archive| {
            let (suites, components) = (archive.suites.join(" "), archive.components.join(" "));
            let (mirrors, keyring, until) =
                (&archive.mirrors, &archive.keyring, archive.valid_until);
            format!("{mirrors:?} {keyring} [{suites}] [{components}] {until}")
        });
        insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"), @r#"
        {"default": https://h.example/debian} keys/a.asc [bookworm] [main] true
        {"amd64": /srv/security, "default": https://p.example} keys/a.asc [bookworm-security] [main] true
        {"default": mirror} /k.gpg [x/updates] [main universe] false
        "#);
        assert!(!serde_json::to_string(&project).unwrap().contains("secret"));
        assert!(!format!("{project:?}").contains("secret"));
    }

    #[test]
    fn bad_suites_are_refused_all_at_once() {
        let text = "[image.x]\nfrom = \"scratch\"\n[suite.a]\n[suite.b]\nmirror = \"ftp://me:secret@h/x\"\nkeyring = \"../k\"\n\
                    mirrors = 1\n[suite.c]\nmirror = \"https://\"\nkeyring = \"k\"\nsuites = [\"../x\", \"./\"]\n\
                    components = 3\nvalid-until = \"no\"\n[suite.d]\nmirror = \"a/../../b\"\n\
                    [[suite.d.archives]]\nkeyring = 1\n[suite.E]\nmirror = \"x\"\nkeyring = \"y\"\n";
        let findings = parse("images.toml", text).unwrap_err();
        let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        images.toml:3:8: [suite.a] needs `mirror` [missing-key]
          help: `mirror = "https://HOST/debian"`, or a folder with `dists` and `pool` in it
        images.toml:3:8: [suite.a] needs `keyring` [missing-key]
          help: name the file with the keys that sign the archive, such as "/usr/share/keyrings/debian-archive-keyring.gpg", or a copy in the project
        images.toml:5:1: `mirror` must be an http or https URL, a folder of the project or an absolute one, this is `ftp://h/x` [invalid-value]
        images.toml:6:1: `keyring` must be a file of the project or an absolute path, this is `../k` [invalid-value]
        images.toml:7:1: [suite.b] has no key `mirrors` [unknown-key]
          help: did you mean `mirror`?
        images.toml:9:1: `mirror` must be an http or https URL, a folder of the project or an absolute one, this is `https://` [invalid-value]
        images.toml:11:11: `../x` is no name of a folder in `dists`: letters, digits, `.`, `_`, `+`, `-`, `/` [invalid-value]
        images.toml:11:19: `./` is no name of a folder in `dists`: letters, digits, `.`, `_`, `+`, `-`, `/` [invalid-value]
        images.toml:12:1: `components` must be a list of texts, this is the number 3 [wrong-type]
        images.toml:13:1: `valid-until` must be true or false, this is the text "no" [wrong-type]
        images.toml:14:8: [suite.d] needs `keyring` [missing-key]
          help: name the file with the keys that sign the archive, such as "/usr/share/keyrings/debian-archive-keyring.gpg", or a copy in the project
        images.toml:15:1: `mirror` must be an http or https URL, a folder of the project or an absolute one, this is `a/../../b` [invalid-value]
        images.toml:16:1: `archives` of [suite.d] needs `mirror` [missing-key]
          help: `mirror = "https://HOST/debian"`, or a folder with `dists` and `pool` in it
        images.toml:17:1: `keyring` must be a text in quotes, this is the number 1 [wrong-type]
        images.toml:18:8: `E` is no name of a suite: lower-case letters, digits, `.`, `_`, `-` [invalid-name]
        "#);
    }
}
