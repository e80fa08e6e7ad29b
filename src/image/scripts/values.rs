//! Values that words of a script stand for. What only the machine knows is a value too, so
//! that it is told from what is known wherever it goes.

use std::collections::BTreeMap;

use super::Subject;
use super::commands::only_reads;
use super::shell::{AndOr, Command, parse, substitution};

/// Stands for the path of a program where a script asks for it.
pub const PROGRAM: char = '\u{1}';

/// Stands for what only the machine knows.
pub const UNKNOWN: char = '\u{2}';

/// Between the words that one becomes.
const SEPARATOR: char = '\u{3}';

/// Variables and arguments.
#[derive(Clone, Debug)]
pub struct Values {
    /// Variables by name. Others are whatever the environment has.
    pub variables: BTreeMap<String, String>,
    /// Arguments of the script, or of the function that runs.
    pub arguments: Vec<String>,
}

impl Values {
    /// Those that a script begins with, which is called with `argument` and no version.
    pub fn new(subject: Subject<'_>, script: &str, argument: &str) -> Self {
        let variables = [
            ("DPKG_ROOT", ""),
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("DPKG_MAINTSCRIPT_PACKAGE", subject.package),
            ("DPKG_MAINTSCRIPT_NAME", script),
            ("DPKG_MAINTSCRIPT_ARCH", subject.architecture),
        ];
        // dpkg(1) says no version to a `preinst`, and an empty one to a `postinst`.
        let no_version = (script == "postinst").then(String::new);
        Self {
            variables: variables.map(|(name, value)| (name.into(), value.into())).into(),
            arguments: [argument.to_owned()].into_iter().chain(no_version).collect(),
        }
    }

    /// The one word that a word stands for.
    pub fn expand(&self, word: &str) -> Result<String, String> {
        Ok(self.replaced(word)?.replace(SEPARATOR, " "))
    }

    /// The words that a word stands for.
    pub fn expand_all(&self, word: &str) -> Result<Vec<String>, String> {
        if word == "\"$@\"" {
            return Ok(self.arguments.clone());
        }
        Ok(self.replaced(word)?.split(SEPARATOR).map(str::to_owned).collect())
    }

    /// A word without its quotes, its variables replaced.
    fn replaced(&self, word: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = word;
        let mut double = false;
        while let Some(next) = rest.chars().next() {
            match next {
                '\'' if !double => {
                    let end = rest[1..].find('\'').ok_or("no closing '")? + 1;
                    out.push_str(&rest[1..end]);
                    rest = &rest[end + 1..];
                }
                '"' => {
                    double = !double;
                    rest = &rest[1..];
                }
                '\\' => {
                    let escaped = rest[1..].chars().next().unwrap_or('\\');
                    if double && !"$`\"\\\n".contains(escaped) {
                        out.push('\\');
                    }
                    if escaped != '\n' {
                        out.push(escaped);
                    }
                    rest = &rest[(1 + escaped.len_utf8()).min(rest.len())..];
                }
                '$' | '`' => {
                    let (value, length) = self.value(rest)?;
                    if double {
                        out.push_str(&value);
                    } else {
                        let words: Vec<&str> = value.split_whitespace().collect();
                        out.push_str(&words.join(&SEPARATOR.to_string()));
                    }
                    rest = &rest[length..];
                }
                next => {
                    out.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        Ok(out)
    }

    /// The value that `text` begins with, and the length of what stands for it.
    fn value(&self, text: &str) -> Result<(String, usize), String> {
        if let Some(inside) = text.strip_prefix('`') {
            let end = inside.find('`').ok_or("no closing `")?;
            return Ok((self.said(&inside[..end])?, end + 2));
        }
        if text.starts_with("$(") {
            let length = substitution(text)?;
            return Ok((self.said(&text[2..length - 1])?, length));
        }
        if let Some(inside) = text.strip_prefix("${") {
            let end = inside.find('}').ok_or("no closing }")?;
            return Ok((self.parameter(&inside[..end])?, end + 3));
        }
        let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let name: String = match text[1..].chars().next() {
            Some(c) if c.is_ascii_digit() || "@*#?$!-".contains(c) => c.to_string(),
            _ => text[1..].chars().take_while(is_name).collect(),
        };
        if name.is_empty() {
            return Ok(("$".into(), 1));
        }
        Ok((self.named(&name), 1 + name.len()))
    }

    /// `${…}`.
    fn parameter(&self, inside: &str) -> Result<String, String> {
        let (name, rest) = inside
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or((inside, ""), |at| inside.split_at(at));
        let value = self.named(name);
        if rest.is_empty() {
            return Ok(value);
        }
        let is_argument = name.starts_with(|c: char| c.is_ascii_digit());
        let is_set = is_argument || self.variables.contains_key(name);
        let literal =
            |text: &str| !text.is_empty() && !text.contains(['*', '?', '[', '$', '`', '"', '\'']);
        if let Some(default) = rest.strip_prefix(":-").or(rest.strip_prefix('-')) {
            let keeps_empty = rest.starts_with('-') && is_set;
            return match is_set && (keeps_empty || !value.is_empty()) {
                true => Ok(value),
                false => self.expand(default),
            };
        }
        if let Some(other) = rest.strip_prefix(":+") {
            return match value.as_str() {
                "" => Ok(value),
                known if !known.contains(UNKNOWN) => self.expand(other),
                _ => Ok(UNKNOWN.into()),
            };
        }
        let pattern = rest.trim_start_matches(['%', '#']);
        match rest.chars().next() {
            Some('%') if literal(pattern) => {
                Ok(value.strip_suffix(pattern).unwrap_or(&value).to_owned())
            }
            Some('#') if literal(pattern) && !name.is_empty() => {
                Ok(value.strip_prefix(pattern).unwrap_or(&value).to_owned())
            }
            Some('%' | '#') => Ok(UNKNOWN.into()),
            _ => Err(format!("`${{{inside}}}`")),
        }
    }

    fn named(&self, name: &str) -> String {
        match name {
            "@" | "*" => self.arguments.join(" "),
            "#" => self.arguments.len().to_string(),
            _ => match name.parse::<usize>() {
                Ok(number @ 1..) => self.arguments.get(number - 1).cloned().unwrap_or_default(),
                _ => self.variables.get(name).cloned().unwrap_or_else(|| UNKNOWN.into()),
            },
        }
    }

    /// What a command says.
    fn said(&self, text: &str) -> Result<String, String> {
        let refused = || format!("`$({})`", text.trim());
        let list = parse(text).map_err(|_| refused())?;
        if let [AndOr { first: Command::Simple(words), rest }] = list.as_slice() {
            let words: Vec<String> =
                words.iter().map(|word| self.expand(word)).collect::<Result<_, _>>()?;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let alone = rest.is_empty();
            match words.as_slice() {
                // Otherwise nothing is said, as by a program that is not there.
                ["command", "-v", name] | ["which", name]
                    if rest.iter().all(|(and, command)| !and && *command == harmless()) =>
                {
                    return Ok(format!("{PROGRAM}{name}"));
                }
                // Nothing has been moved aside in an empty root.
                ["dpkg-divert", "--listpackage", _] if alone => return Ok(String::new()),
                ["dpkg-divert", "--truename", path] if alone => return Ok((*path).to_owned()),
                ["echo", words @ ..]
                    if alone && words.iter().all(|word| !word.starts_with('-')) =>
                {
                    return Ok(words.join(" "));
                }
                _ => {}
            }
        }
        if only_reads(&list) { Ok(UNKNOWN.into()) } else { Err(refused()) }
    }
}

fn harmless() -> Command {
    Command::Simple(vec!["true".into()])
}

/// `NAME=value` in two.
pub fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some((name, value))
}

/// Whether a word holds a command.
pub fn asks(word: &str) -> bool {
    word.contains("$(") || word.contains('`')
}

/// Whether a word fits a pattern of `*` and `?`; nothing if it has more than those.
pub fn fits(pattern: &str, word: &str) -> Option<bool> {
    if pattern.contains(['[', UNKNOWN]) || word.contains(UNKNOWN) {
        return None;
    }
    let Some(next) = pattern.chars().next() else { return Some(word.is_empty()) };
    let rest = &pattern[next.len_utf8()..];
    match next {
        '*' => {
            let ends = word.char_indices().map(|(at, _)| at).chain([word.len()]);
            Some(ends.filter_map(|at| fits(rest, &word[at..])).any(|fits| fits))
        }
        _ => match word.chars().next() {
            Some(c) if next == '?' || next == c => fits(rest, &word[c.len_utf8()..]),
            _ => Some(false),
        },
    }
}
