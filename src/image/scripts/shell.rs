//! The part of the shell's grammar (POSIX shell command language, 2.10) that maintainer
//! scripts are read with. What is not in it is refused, never guessed.

/// A list of commands, one after the other.
pub type List = Vec<AndOr>;

/// Commands joined by `&&` and `||`; the operator stands before its command.
#[derive(Debug, PartialEq, Eq)]
pub struct AndOr {
    /// The first.
    pub first: Command,
    /// The others: whether by `&&`, and what.
    pub rest: Vec<(bool, Command)>,
}

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Words as they are written, with their quotes.
    Simple(Vec<String>),
    /// Conditions with what follows them, and what follows none of them.
    If(Vec<(List, List)>, List),
    /// A word and patterns with what follows them.
    Case(String, Vec<(Vec<String>, List)>),
    /// Several as one.
    Group(List),
    /// The opposite.
    Not(Box<Command>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Operator(&'static str),
    Newline,
}

const OPERATORS: [&str; 8] = [";;", "&&", "||", ";", "|", "(", ")", "&"];

/// Reads a script.
pub fn parse(text: &str) -> Result<List, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let list = parser.list(&[])?;
    match parser.peek() {
        None => Ok(list),
        Some(token) => Err(format!("{token:?} where a command is expected")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let text = text.replace("\\\n", " ");
    let mut tokens = Vec::new();
    let mut rest = text.as_str();
    while let Some(next) = rest.chars().next() {
        if next == '\n' {
            tokens.push(Token::Newline);
            rest = &rest[1..];
        } else if next.is_whitespace() {
            rest = &rest[next.len_utf8()..];
        } else if next == '#' {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if let Some(length) = quiet_redirection(rest) {
            rest = &rest[length..];
        } else if let Some(operator) = OPERATORS.iter().find(|found| rest.starts_with(**found)) {
            tokens.push(Token::Operator(operator));
            rest = &rest[operator.len()..];
        } else {
            let length = word(rest)?;
            tokens.push(Token::Word(rest[..length].to_owned()));
            rest = &rest[length..];
        }
    }
    Ok(tokens)
}

/// The length of a redirection that loses or joins what a command says.
fn quiet_redirection(text: &str) -> Option<usize> {
    let line = text.split('\n').next().unwrap_or_default();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = line.len() - rest.len();
    let after = rest.strip_prefix('>')?;
    if digits > 1 {
        return None;
    }
    let target = after.trim_start();
    let length = ["/dev/null", "&1", "&2"].iter().find(|name| {
        let rest = target.strip_prefix(**name);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '/'))
    })?;
    Some(line.len() - target.len() + length.len())
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
            b'<' | b'>' => return Err("a redirection".into()),
            b'\n' | b' ' | b'\t' | b';' | b'&' | b'|' | b'(' | b')' => break,
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
            Some(b'$') if bytes.get(at + 1) == Some(&b'(') => at += substitution(&text[at..])?,
            Some(_) => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
        if !text.is_char_boundary(at.min(text.len())) {
            return Err("a quoted character that is not ASCII".into());
        }
    }
}

/// The length of `$(…)`, which may not hold another.
fn substitution(text: &str) -> Result<usize, String> {
    let end = closing(text, ")")?;
    if text[2..end].contains('(') {
        return Err("a command in a command".into());
    }
    Ok(end + 1)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
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
                Some(Token::Operator("|")) => return Err("a pipe".into()),
                Some(token) => return Err(format!("{token:?} after a command")),
            }
        }
    }

    fn and_or(&mut self) -> Result<AndOr, String> {
        let first = self.command()?;
        let mut rest = Vec::new();
        loop {
            let and = match self.peek() {
                Some(Token::Operator("&&")) => true,
                Some(Token::Operator("||")) => false,
                _ => return Ok(AndOr { first, rest }),
            };
            self.at += 1;
            self.newlines();
            rest.push((and, self.command()?));
        }
    }

    fn command(&mut self) -> Result<Command, String> {
        if self.is_word(&["!"]) {
            self.at += 1;
            return Ok(Command::Not(Box::new(self.command()?)));
        }
        if self.is_word(&["if"]) {
            return self.condition();
        }
        if self.is_word(&["case"]) {
            return self.case();
        }
        if self.is_word(&["{"]) {
            self.at += 1;
            let list = self.list(&["}"])?;
            self.expect("}")?;
            return Ok(Command::Group(list));
        }
        for word in ["for", "while", "until", "function"] {
            if self.is_word(&[word]) {
                return Err(format!("`{word}`"));
            }
        }
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.peek() {
            words.push(word.clone());
            self.at += 1;
        }
        match self.peek() {
            Some(Token::Operator("(")) => Err("a function or a subshell".into()),
            _ if words.is_empty() => Err("no command".into()),
            _ => Ok(Command::Simple(words)),
        }
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
