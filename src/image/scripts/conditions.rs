//! What conditions of a script are on a fresh root: known, or not, or about a path that may
//! be there.

use super::values::{PROGRAM, UNKNOWN};

/// How far a script is left, and that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// It is not.
    On,
    /// The loop goes on with the next word.
    Continue,
    /// The loop ends.
    Break,
    /// The function ends.
    Return,
    /// The script ends.
    Exit,
    /// The package would not be installed.
    Fail,
}

/// Whether a condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// That depends on the machine.
    Unknown,
    /// It does if something is at the path.
    There(String),
    /// It does if nothing is at the path.
    Absent(String),
}

use Truth::{Absent, No, There, Unknown, Yes};

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Yes } else { No }
    }
}

impl Truth {
    /// Whether the opposite holds.
    pub fn opposite(self) -> Self {
        match self {
            Yes => No,
            No => Yes,
            Unknown => Unknown,
            There(path) => Absent(path),
            Absent(path) => There(path),
        }
    }

    /// The path that is not there if this holds.
    pub fn absent(&self) -> Option<String> {
        match self {
            Absent(path) => Some(path.clone()),
            _ => None,
        }
    }
}

/// Programs whose effect is known as data, so that they count as installed.
const KNOWN: [&str; 8] = [
    "adduser",
    "addgroup",
    "groupadd",
    "setcap",
    "systemd-sysusers",
    "systemd-tmpfiles",
    "update-alternatives",
    "useradd",
];

/// Ends of names that files of earlier versions have, of which there are none.
const EARLIER: [&str; 5] = [".dpkg-backup", ".dpkg-bak", ".dpkg-dist", ".dpkg-old", ".dpkg-remove"];

/// Whether nothing can be at a path.
fn is_never_there(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    matches!(path, "/run/systemd/system" | "/etc/staff-group-for-usr-local")
        || EARLIER.iter().any(|end| path.ends_with(end))
}

/// Whether there is a program.
pub fn program(name: &str) -> Truth {
    if KNOWN.contains(&name) { Yes } else { Unknown }
}

/// `test(1)`, of two arguments joined by `-a` and `-o` at most.
pub fn test(words: &[&str]) -> Result<Truth, String> {
    if let Some(at) = words.iter().rposition(|word| *word == "-o") {
        return Ok(match (test(&words[..at])?, test(&words[at + 1..])?) {
            (Yes, _) | (_, Yes) => Yes,
            (No, other) | (other, No) => other,
            _ => Unknown,
        });
    }
    if let Some(at) = words.iter().rposition(|word| *word == "-a").filter(|at| *at > 0) {
        return Ok(match (test(&words[..at])?, test(&words[at + 1..])?) {
            (No, _) | (_, No) => No,
            (Yes, other) | (other, Yes) => other,
            _ => Unknown,
        });
    }
    let unknown = |word: &str| word.contains(UNKNOWN);
    match words {
        [] => Ok(No),
        ["!", rest @ ..] => Ok(test(rest)?.opposite()),
        ["-n", word] if word.starts_with(PROGRAM) => Ok(program(&word[1..])),
        ["-z", word] if word.starts_with(PROGRAM) => Ok(program(&word[1..]).opposite()),
        ["-n" | "-z", word] if unknown(word) => Ok(Unknown),
        ["-n", word] => Ok((!word.is_empty()).into()),
        ["-z", word] => Ok(word.is_empty().into()),
        ["-e" | "-f" | "-d" | "-x" | "-L" | "-h" | "-r" | "-s" | "-w", path]
            if is_never_there(path) =>
        {
            Ok(No)
        }
        ["-e" | "-f" | "-d" | "-x" | "-L" | "-h" | "-r" | "-s" | "-w", path]
            if path.starts_with(PROGRAM) =>
        {
            Ok(program(&path[1..]))
        }
        ["-e" | "-f" | "-d" | "-L" | "-h", path] if path.starts_with('/') && !unknown(path) => {
            Ok(There((*path).to_owned()))
        }
        [option, _] if option.starts_with('-') && option.len() == 2 => Ok(Unknown),
        [one, _, other] if unknown(one) || unknown(other) => Ok(Unknown),
        [one, "=" | "==", other] => Ok((one == other).into()),
        [one, "!=", other] => Ok((one != other).into()),
        [one, operator @ ("-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge"), other] => {
            let (Ok(one), Ok(other)) = (one.parse::<i64>(), other.parse::<i64>()) else {
                return Err(format!("the test `{}`", words.join(" ")));
            };
            Ok(match *operator {
                "-eq" => one == other,
                "-ne" => one != other,
                "-lt" => one < other,
                "-le" => one <= other,
                "-gt" => one > other,
                _ => one >= other,
            }
            .into())
        }
        [word] if unknown(word) => Ok(Unknown),
        [word] if word.starts_with(PROGRAM) => Ok(program(&word[1..])),
        [word] => Ok((!word.is_empty()).into()),
        _ => Err(format!("the test `{}`", words.join(" ").replace(UNKNOWN, "…"))),
    }
}

/// `dpkg --compare-versions` where there is no earlier version (`dpkg(1)`).
pub fn compare(words: &[&str]) -> Result<Truth, String> {
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "--").collect();
    match words.as_slice() {
        // Without quotes, the missing version is missing here too.
        ["", operator, _] | [operator, _] => match *operator {
            "lt" | "le" | "ne" | "ge-nl" | "gt-nl" | "<<" | "<=" => Ok(Yes),
            "gt" | "ge" | "eq" | "lt-nl" | "le-nl" | ">>" | ">=" | "=" => Ok(No),
            operator => Err(format!("the comparison `{operator}`")),
        },
        [one, _, other] if one.contains(UNKNOWN) || other.contains(UNKNOWN) => Ok(Unknown),
        _ => Err("a comparison of versions".into()),
    }
}
