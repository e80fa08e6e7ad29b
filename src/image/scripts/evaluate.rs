//! What a script would do on a fresh root, without running it: conditions are decided where
//! that can be known, and what depends on anything else must do nothing.

use std::collections::BTreeMap;

use super::Operation;
use super::commands::{is_without_effect, operations};
use super::shell::{AndOr, Command, List, parse};

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unknown,
}

use Truth::{No, Unknown, Yes};

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Yes } else { No }
    }
}

impl Truth {
    fn opposite(self) -> Self {
        match self {
            Yes => No,
            No => Yes,
            Unknown => Unknown,
        }
    }
}

/// Programs whose effect is known as data, so that they count as installed.
const KNOWN: [&str; 6] = [
    "adduser",
    "addgroup",
    "setcap",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "update-alternatives",
];

/// Stands for the path of a program where a script asks for it.
const PROGRAM: char = '\u{1}';

/// Operations of a script that is called with `argument` and no earlier version, or what is
/// not understood.
pub fn evaluate(argument: &str, text: &str) -> Result<Vec<Operation>, String> {
    let list = parse(text)?;
    let variables = [("1", argument), ("2", ""), ("DPKG_ROOT", ""), ("DEBIAN_FRONTEND", "")];
    let mut evaluator = Evaluator {
        variables: variables.map(|(name, value)| (name.into(), value.into())).into(),
        operations: Vec::new(),
        exited: false,
        is_fresh: argument == "install",
    };
    evaluator.list(&list)?;
    Ok(evaluator.operations)
}

struct Evaluator {
    variables: BTreeMap<String, String>,
    operations: Vec<Operation>,
    exited: bool,
    /// Whether nothing of the package is there yet.
    is_fresh: bool,
}

impl Evaluator {
    fn list(&mut self, list: &List) -> Result<Truth, String> {
        let mut truth = Yes;
        for item in list {
            if self.exited {
                break;
            }
            truth = self.and_or(item)?;
        }
        Ok(truth)
    }

    fn and_or(&mut self, item: &AndOr) -> Result<Truth, String> {
        let mut truth = self.command(&item.first)?;
        for (and, command) in &item.rest {
            if self.exited {
                break;
            }
            truth = match (truth, and) {
                (Yes, true) | (No, false) => self.command(command)?,
                (Unknown, _) => {
                    self.perhaps(|this| this.command(command).map(drop))?;
                    Unknown
                }
                (truth, _) => truth,
            };
        }
        Ok(truth)
    }

    /// What may or may not run has to do nothing.
    fn perhaps(&mut self, run: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        let before = self.operations.len();
        let variables = self.variables.clone();
        run(self)?;
        if self.operations.len() > before || self.exited {
            return Err("a condition that depends on the machine".into());
        }
        self.variables.retain(|name, value| variables.get(name) == Some(value));
        Ok(())
    }

    fn command(&mut self, command: &Command) -> Result<Truth, String> {
        match command {
            Command::Not(command) => Ok(self.command(command)?.opposite()),
            Command::Group(list) => self.list(list),
            Command::If(branches, otherwise) => self.condition(branches, otherwise),
            Command::Case(word, arms) => {
                let word = self.expand(word)?;
                for (patterns, body) in arms {
                    for pattern in patterns {
                        let pattern = self.expand(pattern)?;
                        if pattern == "*" || pattern == word {
                            return self.list(body);
                        }
                        if pattern.contains(['*', '?', '[']) {
                            return Err(format!("the pattern `{pattern}`"));
                        }
                    }
                }
                Ok(Yes)
            }
            Command::Simple(words) => self.simple(words),
        }
    }

    fn condition(&mut self, branches: &[(List, List)], otherwise: &List) -> Result<Truth, String> {
        let mut unknown = false;
        for (condition, body) in branches {
            let truth = self.list(condition)?;
            if unknown || truth == Unknown {
                if truth != No {
                    unknown = true;
                    self.perhaps(|this| this.list(body).map(drop))?;
                }
                continue;
            }
            if truth == Yes {
                return self.list(body);
            }
        }
        if unknown {
            self.perhaps(|this| this.list(otherwise).map(drop))?;
            return Ok(Unknown);
        }
        self.list(otherwise)
    }

    fn simple(&mut self, words: &[String]) -> Result<Truth, String> {
        let Some(first) = words.first() else { return Ok(Yes) };
        if let Some((name, value)) = assignment(first) {
            if words.len() > 1 {
                let all = words.iter().all(|word| assignment(word).is_some());
                return if all { self.assign(words) } else { self.simple(&words[1..]) };
            }
            let value = self.expand(value)?;
            self.variables.insert(name.to_owned(), value);
            return Ok(Yes);
        }
        let name = self.expand(first)?;
        match name.as_str() {
            "true" | ":" => return Ok(Yes),
            "false" => return Ok(No),
            "export" | "local" | "readonly" => return self.assign(&words[1..]),
            "exit" => {
                let status = words.get(1).map_or(Ok("0".to_owned()), |word| self.expand(word))?;
                self.exited = status == "0";
                let failed = || format!("it would end with {status}");
                return if self.exited { Ok(Yes) } else { Err(failed()) };
            }
            "." => {
                let file = words.get(1).map_or("", String::as_str);
                if file == "/usr/share/debconf/confmodule" {
                    return Ok(Yes);
                }
                return Err(format!("`. {file}`"));
            }
            "rm" if self.is_fresh => return Ok(Yes),
            "getent" => return Ok(No),
            _ if is_without_effect(&name) => return Ok(Yes),
            _ => {}
        }
        let words: Vec<String> =
            words.iter().map(|word| self.expand(word)).collect::<Result<_, _>>()?;
        // A variable that is empty and not in quotes is no word at all.
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[0] {
            "[" => match words.split_last() {
                Some((&"]", rest)) => test(&rest[1..]),
                _ => Err("a `[` without `]`".into()),
            },
            "test" => test(&words[1..]),
            "command" | "which" | "type" => Ok(program(words.last().copied().unwrap_or_default())),
            "dpkg" if words.get(1) == Some(&"--compare-versions") => compare(&words[2..]),
            "dpkg-statoverride" if words.contains(&"--list") => Ok(No),
            _ => {
                let found = operations(&words)?;
                self.operations.extend(found);
                Ok(Yes)
            }
        }
    }

    fn assign(&mut self, words: &[String]) -> Result<Truth, String> {
        for word in words {
            if let Some((name, value)) = assignment(word) {
                let value = self.expand(value)?;
                self.variables.insert(name.to_owned(), value);
            }
        }
        Ok(Yes)
    }

    /// A word without its quotes, its variables replaced.
    fn expand(&self, word: &str) -> Result<String, String> {
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
                    out.push(escaped);
                    rest = &rest[(1 + escaped.len_utf8()).min(rest.len())..];
                }
                '`' => {
                    let end = rest[1..].find('`').ok_or("no closing `")? + 1;
                    out.push_str(&asked_program(&rest[1..end])?);
                    rest = &rest[end + 1..];
                }
                '$' => {
                    let (value, length) = self.variable(rest)?;
                    if !double && value.contains(char::is_whitespace) {
                        return Err(format!("several words in `{word}`"));
                    }
                    out.push_str(&value);
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

    /// The value of the variable that `text` begins with, and how long its name is.
    fn variable(&self, text: &str) -> Result<(String, usize), String> {
        let known = |name: &str| {
            self.variables.get(name).cloned().ok_or_else(|| format!("the variable `{name}`"))
        };
        if let Some(inside) = text.strip_prefix("$(") {
            let end = inside.find(')').ok_or("no closing )")?;
            return Ok((asked_program(&inside[..end])?, end + 3));
        }
        if let Some(inside) = text.strip_prefix("${") {
            let end = inside.find('}').ok_or("no closing }")?;
            let (name, rest) = inside[..end]
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .map_or((&inside[..end], ""), |at| inside[..end].split_at(at));
            let value = match (rest.get(..2), self.variables.get(name)) {
                (None, _) if rest.is_empty() => known(name)?,
                (Some(":-"), Some(value)) if !value.is_empty() => value.clone(),
                (Some(":-"), _) => self.expand(&rest[2..])?,
                (Some(":+"), Some(value)) if value.is_empty() => String::new(),
                _ => return Err(format!("`${{{}}}`", &inside[..end])),
            };
            return Ok((value, end + 3));
        }
        let name: String = match text[1..].chars().next() {
            Some(digit) if digit.is_ascii_digit() => digit.to_string(),
            _ => text[1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect(),
        };
        if name.is_empty() {
            return Err("a lone `$`".into());
        }
        Ok((known(&name)?, 1 + name.len()))
    }
}

/// `NAME=value` in two.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some((name, value))
}

/// `command -v NAME` as what stands for its path.
fn asked_program(command: &str) -> Result<String, String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["command", "-v", name, rest @ ..] | ["which", name, rest @ ..]
            if rest.iter().all(|word| word.contains("/dev/null")) =>
        {
            Ok(format!("{PROGRAM}{name}"))
        }
        _ => Err(format!("`$({command})`")),
    }
}

fn program(name: &str) -> Truth {
    if KNOWN.contains(&name) { Yes } else { Unknown }
}

/// `test(1)`, of two arguments joined by `-a` and `-o` at most.
fn test(words: &[&str]) -> Result<Truth, String> {
    if let Some(at) = words.iter().position(|word| matches!(*word, "-a" | "-o")) {
        let (one, other) = (test(&words[..at])?, test(&words[at + 1..])?);
        return Ok(match (words[at], one, other) {
            ("-a", No, _) | ("-a", _, No) => No,
            ("-o", Yes, _) | ("-o", _, Yes) => Yes,
            (_, Unknown, _) | (_, _, Unknown) => Unknown,
            (_, one, _) => one,
        });
    }
    match words {
        ["!", rest @ ..] => Ok(test(rest)?.opposite()),
        ["-n", word] if word.starts_with(PROGRAM) => Ok(program(&word[1..])),
        ["-z", word] if word.starts_with(PROGRAM) => Ok(program(&word[1..]).opposite()),
        ["-n", word] => Ok((!word.is_empty()).into()),
        ["-z", word] => Ok(word.is_empty().into()),
        ["-d", "/run/systemd/system"] => Ok(No),
        ["-e" | "-f" | "-d" | "-x" | "-L" | "-h" | "-r" | "-s" | "-w", path] => {
            Ok(path.strip_prefix(PROGRAM).map_or(Unknown, program))
        }
        [one, "=" | "==", other] => Ok((one == other).into()),
        [one, "!=", other] => Ok((one != other).into()),
        _ => Err(format!("the test `{}`", words.join(" "))),
    }
}

/// `dpkg --compare-versions` where there is no earlier version (`dpkg(1)`).
fn compare(words: &[&str]) -> Result<Truth, String> {
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "--").collect();
    match words.as_slice() {
        // Without quotes, the missing version is missing here too.
        ["", operator, _] | [operator, _] => match *operator {
            "lt" | "le" | "ne" | "ge-nl" | "gt-nl" | "<<" | "<=" => Ok(Yes),
            "gt" | "ge" | "eq" | "lt-nl" | "le-nl" | ">>" | ">=" | "=" => Ok(No),
            operator => Err(format!("the comparison `{operator}`")),
        },
        _ => Err("a comparison of versions".into()),
    }
}
