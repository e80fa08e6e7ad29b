//! The part of the shell's grammar (POSIX shell command language, 2.10) that maintainer
//! scripts are read with. What is not in it is refused, never guessed.

/// A list of commands, one after the other.
pub type List = Vec<AndOr>;

/// Commands joined by `&&` and `||`; the operator stands before its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AndOr {
    /// The first.
    pub first: Command,
    /// The others: whether by `&&`, and what.
    pub rest: Vec<(bool, Command)>,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Words as they are written, with their quotes.
    Simple(Vec<String>),
    /// Conditions with what follows them, and what follows none of them.
    If(Vec<(List, List)>, List),
    /// A word and patterns with what follows them.
    Case(String, Vec<(Vec<String>, List)>),
    /// A variable, the words that it stands for one after the other, and what is done.
    For(String, Vec<String>, List),
    /// Several as one.
    Group(List),
    /// The opposite.
    Not(Box<Command>),
    /// Each reads what the one before it says.
    Pipe(Vec<Command>),
    /// A function's name and what it does.
    Function(String, Box<Command>),
    /// Not understood, which matters only if it would run.
    Refused(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Operator(&'static str),
    Redirection,
    Newline,
}

/// Commands in commands, which are read one inside the other.
const DEEPEST: usize = 100;

const OPERATORS: [&str; 8] = [";;", "&&", "||", ";", "|", "(", ")", "&"];

/// Reads a script.
pub fn parse(text: &str) -> Result<List, String> {
    if text.matches("$(").count() > 10 * DEEPEST {
        return Err("too many commands in words".into());
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let list = parser.list(&[])?;
    match parser.peek() {
        None => Ok(list),
        Some(token) => Err(format!("{token:?} where a command is expected")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    // Ends of here-documents, which begin after the line.
    let mut documents: Vec<(String, bool)> = Vec::new();
    while let Some(next) = rest.chars().next() {
        if next == '\n' {
            tokens.push(Token::Newline);
            rest = &rest[1..];
            for (end, tabs) in documents.drain(..) {
                rest = after_document(rest, &end, tabs)?;
            }
        } else if let Some(after) = rest.strip_prefix("\\\n") {
            rest = after;
        } else if next.is_whitespace() {
            rest = &rest[next.len_utf8()..];
        } else if next == '#' {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(length) = quiet_redirection(rest) {
            rest = &rest[length..];
        } else if let Some(after) = rest.strip_prefix("<<") {
            // What a command reads does nothing by itself.
            let tabs = after.starts_with('-');
            let after = after.trim_start_matches('-').trim_start_matches([' ', '\t']);
            let length = word(after)?;
            let end: String = after[..length].chars().filter(|c| !"'\"\\".contains(*c)).collect();
            if end.is_empty() {
                return Err("a document without an end".into());
            }
            documents.push((end, tabs));
            rest = &after[length..];
        } else if let Some(after) = other_redirection(rest) {
            let after = after.trim_start_matches([' ', '\t']);
            tokens.push(Token::Redirection);
            rest = &after[word(after)?..];
        } else if let Some(operator) = OPERATORS.iter().find(|found| rest.starts_with(**found)) {
            tokens.push(Token::Operator(operator));
            rest = &rest[operator.len()..];
        } else {
            let length = word(rest)?;
            tokens.push(Token::Word(rest[..length].to_owned()));
            rest = &rest[length..];
        }
    }
    match documents.is_empty() {
        true => Ok(tokens),
        false => Err("a document without an end".into()),
    }
}

/// What follows a here-document.
fn after_document<'a>(text: &'a str, end: &str, tabs: bool) -> Result<&'a str, String> {
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let line = if tabs { line.trim_start_matches('\t') } else { line };
        rest = after;
        if line == end {
            return Ok(rest);
        }
    }
    Err(format!("no `{end}` after a document"))
}

/// The length of a redirection that loses or joins what a command says, or reads nothing.
fn quiet_redirection(text: &str) -> Option<usize> {
    let line = text.split('\n').next().unwrap_or_default();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = line.len() - rest.len();
    let after = rest.strip_prefix(['>', '<'])?;
    if digits > 1 {
        return None;
    }
    let target = after.trim_start();
    let length = ["/dev/null", "&1", "&2", "&3"].iter().find(|name| {
        let rest = target.strip_prefix(**name);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '/'))
    })?;
    let length = line.len() - target.len() + length.len();
    Some(length)
}

/// What follows the operator of any other redirection.
fn other_redirection(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let at = text.len() - rest.len();
    let operators = [">>", ">|", ">&", "<&", "<>", ">", "<"];
    let operator = operators.iter().find(|operator| rest.starts_with(**operator))?;
    (at < 2).then(|| &rest[operator.len()..])
}

/// The length of the word that `text` begins with.
fn word(text: &str) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\'' => at += closing(&text[at + 1..], "'")? + 2,
            b'"' => at += double_quoted(&text[at..])?,
            b'\\' => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            b'`' => at += closing(&text[at + 1..], "`")? + 2,
            b'$' if bytes.get(at + 1) == Some(&b'(') => at += substitution(&text[at..])?,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                at += closing(&text[at + 2..], "}")? + 3;
            }
            b'<' | b'>' | b'\n' | b' ' | b'\t' | b';' | b'&' | b'|' | b'(' | b')' => break,
            _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
    }
    Ok(at)
}

fn closing(text: &str, end: &str) -> Result<usize, String> {
    text.find(end).ok_or_else(|| format!("no closing {end}"))
}

fn double_quoted(text: &str) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None => return Err("no closing \"".into()),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at += 2,
            Some(b'`') => at += closing(&text[at + 1..], "`")? + 2,
            Some(b'$') if bytes.get(at + 1) == Some(&b'(') => at += substitution(&text[at..])?,
            Some(_) => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
        if !text.is_char_boundary(at.min(text.len())) {
            return Err("a quoted character that is not ASCII".into());
        }
    }
}

/// The length of `$(…)` at the beginning of `text`.
pub fn substitution(text: &str) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (2, 1);
    while open > 0 {
        match bytes.get(at) {
            None => return Err("no closing )".into()),
            Some(b'\'') => at += closing(&text[at + 1..], "'")? + 2,
            Some(b'"') => at += double_quoted(&text[at..])?,
            Some(b'\\') => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            Some(b'#') if bytes[at - 1].is_ascii_whitespace() => {
                return Err("a remark in a command".into());
            }
            Some(next) => {
                open += i32::from(*next == b'(') - i32::from(*next == b')');
                at += text[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
    }
    Ok(at)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is_word(&self, words: &[&str]) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if words.contains(&word.as_str()))
    }

    fn take_operator(&mut self, operator: &'static str) -> bool {
        let found = self.peek() == Some(&Token::Operator(operator));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        self.newlines();
        if self.is_word(&[word]) {
            self.at += 1;
            return Ok(());
        }
        Err(format!("no `{word}`"))
    }

    fn newlines(&mut self) {
        while self.peek() == Some(&Token::Newline) {
            self.at += 1;
        }
    }

    /// Commands up to one of the words `ends`, `;;`, `)` or the end.
    fn list(&mut self, ends: &[&str]) -> Result<List, String> {
        let mut list = Vec::new();
        loop {
            while self.peek() == Some(&Token::Newline) || self.take_operator(";") {
                self.newlines();
            }
            let over = matches!(self.peek(), None | Some(Token::Operator(";;" | ")")));
            if over || self.is_word(ends) {
                return Ok(list);
            }
            list.push(self.and_or()?);
            match self.peek() {
                None | Some(Token::Newline | Token::Operator(";" | ";;" | ")")) => {}
                Some(token) => return Err(format!("{token:?} after a command")),
            }
        }
    }

    fn and_or(&mut self) -> Result<AndOr, String> {
        let first = self.pipe()?;
        let mut rest = Vec::new();
        loop {
            let and = match self.peek() {
                Some(Token::Operator("&&")) => true,
                Some(Token::Operator("||")) => false,
                _ => return Ok(AndOr { first, rest }),
            };
            self.at += 1;
            self.newlines();
            rest.push((and, self.pipe()?));
        }
    }

    fn pipe(&mut self) -> Result<Command, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("commands too deep in commands".into());
        }
        let command = self.commands();
        self.depth -= 1;
        command
    }

    fn commands(&mut self) -> Result<Command, String> {
        if self.is_word(&["!"]) {
            self.at += 1;
            return Ok(Command::Not(Box::new(self.pipe()?)));
        }
        let first = self.command()?;
        if self.peek() != Some(&Token::Operator("|")) {
            return Ok(first);
        }
        let mut commands = vec![first];
        while self.take_operator("|") {
            self.newlines();
            commands.push(self.command()?);
        }
        Ok(Command::Pipe(commands))
    }

    fn command(&mut self) -> Result<Command, String> {
        if self.is_word(&["if"]) {
            let command = self.condition()?;
            return Ok(self.redirected(command));
        }
        if self.is_word(&["case"]) {
            let command = self.case()?;
            return Ok(self.redirected(command));
        }
        if self.is_word(&["{"]) {
            self.at += 1;
            let list = self.list(&["}"])?;
            self.expect("}")?;
            return Ok(self.redirected(Command::Group(list)));
        }
        if self.is_word(&["for"]) {
            let command = self.each()?;
            return Ok(self.redirected(command));
        }
        for word in ["while", "until"] {
            if self.is_word(&[word]) {
                self.at += 1;
                self.list(&["do"])?;
                self.body()?;
                return Ok(self.redirected(Command::Refused(format!("`{word}`"))));
            }
        }
        if self.is_word(&["function", "select", "[["]) {
            return Err("what only some shells know".into());
        }
        if self.take_operator("(") {
            self.list(&[])?;
            if !self.take_operator(")") {
                return Err("no closing )".into());
            }
            return Ok(self.redirected(Command::Refused("a subshell".into())));
        }
        let (mut words, mut redirected) = (Vec::new(), false);
        loop {
            match self.peek() {
                Some(Token::Word(word)) => words.push(word.clone()),
                Some(Token::Redirection) => redirected = true,
                Some(Token::Operator("(")) if words.len() == 1 && !redirected => {
                    return self.function(&words[0]);
                }
                _ if redirected => return Ok(Command::Refused("a redirection".into())),
                _ if words.is_empty() => return Err("no command".into()),
                _ => return Ok(Command::Simple(words)),
            }
            self.at += 1;
        }
    }

    /// A command, unless something is read or written by all of it.
    fn redirected(&mut self, command: Command) -> Command {
        let mut redirected = false;
        while self.peek() == Some(&Token::Redirection) {
            self.at += 1;
            redirected = true;
        }
        if redirected { Command::Refused("a redirection".into()) } else { command }
    }

    fn function(&mut self, name: &str) -> Result<Command, String> {
        self.at += 1;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !self.take_operator(")") || !name.chars().all(is_name) {
            return Err("no name of a function".into());
        }
        self.newlines();
        Ok(Command::Function(name.to_owned(), Box::new(self.pipe()?)))
    }

    /// `for NAME in WORDS; do …; done`.
    fn each(&mut self) -> Result<Command, String> {
        self.at += 1;
        let Some(Token::Word(name)) = self.peek().cloned() else { return Err("no word".into()) };
        self.at += 1;
        self.newlines();
        let mut words = vec!["\"$@\"".to_owned()];
        if self.is_word(&["in"]) {
            self.at += 1;
            words.clear();
            while let Some(Token::Word(word)) = self.peek() {
                words.push(word.clone());
                self.at += 1;
            }
        }
        self.take_operator(";");
        Ok(Command::For(name, words, self.body()?))
    }

    /// `do …; done`.
    fn body(&mut self) -> Result<List, String> {
        self.expect("do")?;
        let list = self.list(&["done"])?;
        self.expect("done")?;
        Ok(list)
    }

    fn condition(&mut self) -> Result<Command, String> {
        let mut branches = Vec::new();
        loop {
            self.at += 1;
            let condition = self.list(&["then"])?;
            self.expect("then")?;
            let body = self.list(&["elif", "else", "fi"])?;
            branches.push((condition, body));
            if !self.is_word(&["elif"]) {
                break;
            }
        }
        let mut otherwise = Vec::new();
        if self.is_word(&["else"]) {
            self.at += 1;
            otherwise = self.list(&["fi"])?;
        }
        self.expect("fi")?;
        Ok(Command::If(branches, otherwise))
    }

    fn case(&mut self) -> Result<Command, String> {
        self.at += 1;
        let Some(Token::Word(word)) = self.peek().cloned() else { return Err("no word".into()) };
        self.at += 1;
        self.expect("in")?;
        let mut arms = Vec::new();
        loop {
            self.newlines();
            if self.is_word(&["esac"]) {
                self.at += 1;
                return Ok(Command::Case(word, arms));
            }
            self.take_operator("(");
            let mut patterns = Vec::new();
            loop {
                let Some(Token::Word(pattern)) = self.peek().cloned() else {
                    return Err("no pattern".into());
                };
                patterns.push(pattern);
                self.at += 1;
                if !self.take_operator("|") {
                    break;
                }
                self.newlines();
            }
            if !self.take_operator(")") {
                return Err("no `)` after a pattern".into());
            }
            let body = self.list(&["esac"])?;
            self.take_operator(";;");
            arms.push((patterns, body));
        }
    }
}
