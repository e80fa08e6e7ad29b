//! What a script would do on a fresh root, without running it: conditions are decided where
//! that can be known, and what depends on anything else must do nothing, or only make what is
//! not there.

use std::collections::BTreeMap;

use super::commands::{is_without_effect, operations, reads};
use super::conditions::Truth::{No, Unknown, Yes};
use super::conditions::{Flow, Truth, compare, program, test};
use super::shell::{AndOr, Command, List, parse};
use super::values::{PROGRAM, UNKNOWN, Values, asks, assignment, fits};
use super::{Operation, Subject};

/// Functions that call themselves are not followed further.
const DEEPEST: usize = 16;
/// Commands that are followed; loops in loops are far below.
const STEPS_AT_MOST: usize = 100_000;

const DEPENDS: &str = "a condition that depends on the machine";

/// Operations of a script that is called with `argument` and no earlier version, or what is
/// not understood.
pub fn evaluate(
    subject: Subject<'_>,
    script: &str,
    argument: &str,
    text: &str,
) -> Result<Vec<Operation>, String> {
    let list = parse(text)?;
    let mut evaluator = Evaluator {
        values: Values::new(subject, script, argument),
        functions: BTreeMap::new(),
        operations: Vec::new(),
        locals: Vec::new(),
        flow: Flow::On,
        may_leave: Flow::On,
        status: Yes,
        doubt: Vec::new(),
        umask: 0o022,
        depth: 0,
        steps: 0,
        is_fresh: argument == "install",
    };
    evaluator.list(&list)?;
    Ok(evaluator.operations)
}

struct Evaluator {
    values: Values,
    functions: BTreeMap<String, Command>,
    operations: Vec<Operation>,
    /// What variables were before functions made them their own.
    locals: Vec<(String, Option<String>)>,
    flow: Flow,
    /// How far what comes next may have been left already.
    may_leave: Flow,
    /// What a function returned.
    status: Truth,
    /// Conditions that are not known: the path that is not there, or any other.
    doubt: Vec<Option<String>>,
    umask: u32,
    depth: usize,
    steps: usize,
    /// Whether nothing of the package is there yet.
    is_fresh: bool,
}

impl Evaluator {
    fn list(&mut self, list: &List) -> Result<Truth, String> {
        let mut truth = Yes;
        for item in list {
            if self.flow != Flow::On {
                break;
            }
            truth = self.and_or(item)?;
        }
        Ok(truth)
    }

    fn and_or(&mut self, item: &AndOr) -> Result<Truth, String> {
        let mut truth = self.command(&item.first)?;
        for (and, command) in &item.rest {
            if self.flow != Flow::On {
                break;
            }
            truth = match (truth, and) {
                (Yes, true) | (No, false) => self.command(command)?,
                (truth @ (Yes | No), _) => truth,
                (truth, and) => {
                    let absent = if *and { truth } else { truth.opposite() };
                    let next = self.perhaps(absent.absent(), |this| this.command(command))?;
                    match (next, and) {
                        (No, true) => No,
                        (Yes, false) => Yes,
                        _ => Unknown,
                    }
                }
            };
        }
        Ok(truth)
    }

    /// What may or may not run has to do nothing, or only make `absent` if it is not there.
    fn perhaps(
        &mut self,
        absent: Option<String>,
        run: impl FnOnce(&mut Self) -> Result<Truth, String>,
    ) -> Result<Truth, String> {
        let before = self.values.clone();
        self.doubt.push(absent);
        let truth = run(self)?;
        self.doubt.pop();
        match std::mem::replace(&mut self.flow, Flow::On) {
            // Nobody is left with an image of packages that cannot be installed.
            Flow::On | Flow::Fail => {}
            left => self.may_leave = self.may_leave.max(left),
        }
        if self.values.arguments != before.arguments {
            return Err(DEPENDS.into());
        }
        for (name, value) in &mut self.values.variables {
            if before.variables.get(name) != Some(value) {
                *value = UNKNOWN.into();
            }
        }
        Ok(truth)
    }

    fn command(&mut self, command: &Command) -> Result<Truth, String> {
        self.steps += 1;
        if self.steps > STEPS_AT_MOST {
            return Err("too many commands".into());
        }
        match command {
            Command::Not(command) => Ok(self.command(command)?.opposite()),
            Command::Group(list) => self.list(list),
            Command::If(branches, otherwise) => self.condition(branches, otherwise),
            Command::Case(word, arms) => self.case(word, arms),
            Command::For(name, words, body) => self.each(name, words, body),
            Command::Simple(words) => self.simple(words),
            Command::Pipe(commands) if commands.iter().all(reads) => Ok(Unknown),
            Command::Pipe(_) => Err("a pipe".into()),
            Command::Refused(why) => Err(why.clone()),
            Command::Function(name, body) => {
                if self.is_doubtful() {
                    return Err(DEPENDS.into());
                }
                self.functions.insert(name.clone(), (**body).clone());
                Ok(Yes)
            }
        }
    }

    fn condition(&mut self, branches: &[(List, List)], otherwise: &List) -> Result<Truth, String> {
        let mut unknown = false;
        let mut last = None;
        for (condition, body) in branches {
            let truth = match unknown {
                true => self.perhaps(None, |this| this.list(condition))?,
                false => self.list(condition)?,
            };
            if self.flow != Flow::On {
                return Ok(Unknown);
            }
            match truth {
                No => {}
                Yes if !unknown => return self.list(body),
                truth => {
                    let absent = truth.absent().filter(|_| !unknown);
                    last = truth.opposite().absent().filter(|_| branches.len() == 1);
                    unknown = true;
                    self.perhaps(absent, |this| this.list(body))?;
                }
            }
        }
        if unknown {
            self.perhaps(last, |this| this.list(otherwise))?;
            return Ok(Unknown);
        }
        self.list(otherwise)
    }

    fn case(&mut self, word: &str, arms: &[(Vec<String>, List)]) -> Result<Truth, String> {
        let word = self.values.expand(word)?;
        let mut unknown = false;
        for (patterns, body) in arms {
            let mut truth = No;
            for pattern in patterns {
                let pattern = self.values.expand(pattern)?;
                match fits(&pattern, &word) {
                    _ if pattern == "*" => truth = Yes,
                    Some(true) => truth = Yes,
                    Some(false) => {}
                    None if truth == No => truth = Unknown,
                    None => {}
                }
            }
            match truth {
                No => {}
                Yes if !unknown => return self.list(body),
                truth => {
                    unknown = true;
                    self.perhaps(None, |this| this.list(body))?;
                    if truth == Yes {
                        break;
                    }
                }
            }
        }
        Ok(if unknown { Unknown } else { Yes })
    }

    fn each(&mut self, name: &str, words: &[String], body: &List) -> Result<Truth, String> {
        let mut values = Vec::new();
        for word in words {
            values.extend(self.values.expand_all(word)?);
        }
        values.retain(|value| !value.is_empty());
        let may_leave = self.may_leave;
        if values.iter().any(|value| value.contains(['*', '?', '[', UNKNOWN])) {
            // Twice, so that what one round leaves to the next is not known either.
            for _ in 0..2 {
                self.perhaps(None, |this| {
                    this.values.variables.insert(name.to_owned(), UNKNOWN.into());
                    this.list(body)
                })?;
            }
        } else {
            for value in values {
                self.assign(name, value);
                self.list(body)?;
                if self.flow == Flow::Continue {
                    self.flow = Flow::On;
                }
                if self.flow != Flow::On {
                    break;
                }
            }
        }
        if self.flow == Flow::Break {
            self.flow = Flow::On;
        }
        if self.may_leave <= Flow::Break {
            self.may_leave = may_leave;
        }
        Ok(Unknown)
    }

    fn simple(&mut self, words: &[String]) -> Result<Truth, String> {
        let Some(first) = words.first() else { return Ok(Yes) };
        if assignment(first).is_some() {
            let all = words.iter().all(|word| assignment(word).is_some());
            return if all { self.assign_all(words) } else { self.simple(&words[1..]) };
        }
        let name = self.values.expand(first)?;
        match name.as_str() {
            _ if self.functions.contains_key(&name) => {}
            "true" | ":" => return Ok(Yes),
            "false" => return Ok(No),
            "export" | "local" | "readonly" => {
                if name == "local" {
                    for word in &words[1..] {
                        let name = assignment(word).map_or(word.as_str(), |(name, _)| name);
                        let old = self.values.variables.get(name).cloned();
                        self.locals.push((name.to_owned(), old));
                    }
                }
                return self.assign_all(&words[1..]);
            }
            "rm" if self.is_fresh => return Ok(Yes),
            // Users are not there yet, and groups of the distribution can be added again.
            "getent" => return Ok(No),
            "db_get" | "read" => {
                let names =
                    words[1..].iter().filter(|word| name == "read" && !word.starts_with('-'));
                for name in names.map(String::as_str).chain(["RET"]) {
                    self.assign(name, UNKNOWN.into());
                }
                return Ok(if name == "read" { Unknown } else { Yes });
            }
            _ if is_without_effect(&name) => {
                // What it is told may be asked of a command that does something.
                for word in words.iter().filter(|word| asks(word)) {
                    self.values.expand(word)?;
                }
                return Ok(Yes);
            }
            _ => {}
        }
        let mut expanded = Vec::new();
        for word in words {
            expanded.extend(self.values.expand_all(word)?);
        }
        let words: Vec<&str> = expanded.iter().map(String::as_str).collect();
        match words.first().copied().unwrap_or_default() {
            name if self.functions.contains_key(name) => self.call(name, &words[1..]),
            "set" => self.set(&words[1..]),
            "unset" => {
                for name in &words[1..] {
                    self.assign(name, String::new());
                }
                Ok(Yes)
            }
            "exit" | "return" | "break" | "continue" | "shift" => self.leave(&words),
            "umask" => {
                let mask = words.get(1).and_then(|mask| u32::from_str_radix(mask, 8).ok());
                let mask = mask.ok_or("`umask`")?;
                if self.is_doubtful() && mask != self.umask {
                    return Err(DEPENDS.into());
                }
                self.umask = mask;
                Ok(Yes)
            }
            "." => match words.get(1) {
                Some(&"/usr/share/debconf/confmodule") => Ok(Yes),
                file => Err(format!("`. {}`", file.unwrap_or(&""))),
            },
            "[" => match words.split_last() {
                Some((&"]", rest)) => test(&rest[1..]),
                _ => Err("a `[` without `]`".into()),
            },
            "test" => test(&words[1..]),
            "command" | "which" | "type" => Ok(program(words.last().copied().unwrap_or_default())),
            "dpkg" if words.get(1) == Some(&"--compare-versions") => compare(&words[2..]),
            "dpkg-statoverride" if words.contains(&"--list") => Ok(No),
            "id" if words.iter().skip(1).any(|word| !word.starts_with('-')) => Ok(No),
            _ if reads(&Command::Simple(expanded.clone())) => Ok(Unknown),
            _ => {
                let shown = |why: String| why.replace(UNKNOWN, "…").replace(PROGRAM, "…/");
                let found = operations(&words).map_err(shown)?;
                if !found.is_empty() && words.iter().any(|word| word.contains([UNKNOWN, PROGRAM])) {
                    return Err(shown(format!("the command `{}`", words.join(" "))));
                }
                for operation in found {
                    self.add(operation)?;
                }
                Ok(Yes)
            }
        }
    }

    fn is_doubtful(&self) -> bool {
        !self.doubt.is_empty() || self.may_leave != Flow::On
    }

    fn add(&mut self, mut operation: Operation) -> Result<(), String> {
        if self.umask != 0o022 {
            match &mut operation {
                Operation::File { mode, .. } => *mode = Some(format!("{:o}", 0o666 & !self.umask)),
                Operation::Folder { mode: None, .. } | Operation::Tmpfiles { .. } => {
                    return Err("`umask`".into());
                }
                _ => {}
            }
        }
        let is_made = match self.doubt.as_slice() {
            [] if self.may_leave == Flow::On => {
                if let Operation::Copy { from, path } = &operation {
                    return Err(format!("the command `cp {from} {path}`"));
                }
                self.operations.push(operation);
                return Ok(());
            }
            [Some(absent)] if self.may_leave == Flow::On => absent.clone(),
            _ => return Err(DEPENDS.into()),
        };
        match &mut operation {
            Operation::File { path, .. }
            | Operation::Copy { path, .. }
            | Operation::Link { path, .. }
                if *path == is_made =>
            {
                self.operations.push(operation);
                return Ok(());
            }
            Operation::Folder { path, new, .. } if *path == is_made => {
                *new = true;
                self.operations.push(operation);
                return Ok(());
            }
            // What has just been made gets its mode and its owner.
            Operation::Mode { path, mode: new_mode, owner: new_owner, .. } if *path == is_made => {
                if let Some(
                    Operation::File { path, mode, owner, .. }
                    | Operation::Folder { path, mode, owner, new: true },
                ) = self.operations.last_mut()
                    && *path == is_made
                {
                    let octal = new_mode.as_ref().is_none_or(|mode| mode.parse::<u32>().is_ok());
                    let both = new_owner.as_ref().is_none_or(|owner| !owner.starts_with(':'));
                    if octal && both {
                        *mode = new_mode.take().or(mode.take());
                        *owner = new_owner.take().or(owner.take());
                        return Ok(());
                    }
                }
            }
            _ => {}
        }
        Err(DEPENDS.into())
    }

    /// A function does what it does with arguments of its own.
    fn call(&mut self, name: &str, words: &[&str]) -> Result<Truth, String> {
        let Some(body) = self.functions.get(name).cloned() else { return Ok(Unknown) };
        if self.depth >= DEEPEST {
            return Err(format!("the function `{name}` calls itself"));
        }
        let arguments = words.iter().map(|word| (*word).to_owned()).collect();
        let outer = std::mem::replace(&mut self.values.arguments, arguments);
        let (may_leave, locals) = (self.may_leave, self.locals.len());
        self.depth += 1;
        let mut truth = self.command(&body)?;
        self.depth -= 1;
        self.values.arguments = outer;
        for (name, old) in self.locals.split_off(locals).into_iter().rev() {
            match old {
                Some(value) => self.values.variables.insert(name, value),
                None => self.values.variables.remove(&name),
            };
        }
        if self.flow == Flow::Return {
            self.flow = Flow::On;
            truth = std::mem::replace(&mut self.status, Yes);
        }
        if self.may_leave != may_leave {
            truth = Unknown;
            if self.may_leave <= Flow::Return {
                self.may_leave = may_leave;
            }
        }
        Ok(truth)
    }

    fn set(&mut self, words: &[&str]) -> Result<Truth, String> {
        let options = |word: &&&str| word.starts_with(['-', '+']) && **word != "--";
        let rest: Vec<&str> = words.iter().skip_while(options).copied().collect();
        let rest = rest.strip_prefix(&["--"]).unwrap_or(&rest);
        if !rest.is_empty() {
            if self.is_doubtful() {
                return Err(DEPENDS.into());
            }
            self.values.arguments = rest.iter().map(|word| (*word).to_owned()).collect();
        }
        Ok(Yes)
    }

    fn leave(&mut self, words: &[&str]) -> Result<Truth, String> {
        let status = words.get(1).copied();
        match words[0] {
            "shift" if status.is_none_or(|count| count == "1") => {
                if !self.values.arguments.is_empty() {
                    self.values.arguments.remove(0);
                }
            }
            "continue" if status.is_none() => self.flow = Flow::Continue,
            "break" if status.is_none() => self.flow = Flow::Break,
            "return" => {
                self.status = match status {
                    Some("0") => Yes,
                    Some(status) if !status.contains(UNKNOWN) => No,
                    _ => Unknown,
                };
                self.flow = Flow::Return;
            }
            "exit" if status.is_none_or(|status| status == "0") => self.flow = Flow::Exit,
            "exit" if self.is_doubtful() && status.is_some_and(|s| s.parse::<u32>().is_ok()) => {
                self.flow = Flow::Fail;
            }
            "exit" if self.is_doubtful() => self.flow = Flow::Exit,
            "exit" => return Err(format!("it would end with {}", status.unwrap_or_default())),
            _ => return Err(format!("`{}`", words.join(" "))),
        }
        Ok(Yes)
    }

    fn assign(&mut self, name: &str, value: String) {
        let value = if self.may_leave == Flow::On { value } else { UNKNOWN.into() };
        self.values.variables.insert(name.to_owned(), value);
    }

    fn assign_all(&mut self, words: &[String]) -> Result<Truth, String> {
        for word in words {
            if let Some((name, value)) = assignment(word) {
                let value = self.values.expand(value)?;
                self.assign(name, value);
            }
        }
        // A command that is asked for a value may fail.
        Ok(if words.iter().any(|word| asks(word)) { Unknown } else { Yes })
    }
}
