//! Meson's log: lines of the form `Checking for function "x" : YES`, among the programs that
//! were tried.
//!
//! It does not tell which machine a compiler was asked for, so that a name has two answers
//! where a project asks the same about the machine that builds.

/// How the lines of probes start, and how their names do then.
const PROBES: [(&str, &str); 10] = [
    ("Checking for ", ""),
    ("Checking whether ", ""),
    ("Checking if ", ""),
    ("Check usable header ", "usable header "),
    ("Has header ", "header "),
    ("Header ", "header "),
    ("Fetching value of ", ""),
    ("Computing int of ", "int of "),
    ("Run-time dependency ", "dependency "),
    ("Library ", "library "),
];

/// Names and values, in the order of the log.
pub fn results(text: &str) -> Vec<(String, String)> {
    text.lines().filter_map(result).collect()
}

fn result(line: &str) -> Option<(String, String)> {
    let (name, value) = match line.split_once(" found: ") {
        Some(parts) => parts,
        None => line.split_at_checked(colon(line)?).map(|(name, value)| (name, &value[1..]))?,
    };
    let (name, value) = (name.trim(), value.trim().trim_end_matches("(cached)").trim());
    if value.starts_with("skipped") {
        return None;
    }
    let name = if let Some(name) = name.strip_prefix("Compiler for ") {
        let (language, asked) = name.split_once(" supports ")?;
        let flags = asked.strip_prefix("arguments ");
        let warnings = |flags: &str| {
            flags
                .split(' ')
                .all(|flag| flag.strip_prefix('-').is_some_and(super::autoconf::is_warning))
        };
        if flags.is_some_and(warnings) {
            return None;
        }
        format!("{language} {asked}")
    } else if let Some(name) = name.strip_prefix("Dependency ") {
        // What is for the build machine is of no interest.
        let name = name.split(" from subproject ").next().unwrap_or(name);
        let name = name.strip_suffix(" for host machine").unwrap_or(name);
        if name.ends_with(" for build machine") {
            return None;
        }
        format!("dependency {name}")
    } else {
        let (start, short) = PROBES.iter().find(|(start, _)| name.starts_with(start))?;
        format!("{short}{}", &name[start.len()..])
    };
    let mut words = value.split_whitespace();
    let value = match words.next()?.trim_end_matches('.') {
        "YES" => words
            .next()
            .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .unwrap_or("yes"),
        "NO" => "no",
        _ if value == "DID NOT COMPILE" => "no",
        _ => value,
    };
    Some((name, value.to_owned()))
}

/// The place of the first colon that is not in quotes or parentheses.
fn colon(line: &str) -> Option<usize> {
    let (mut quoted, mut depth) = (false, 0_usize);
    line.char_indices().find_map(|(at, c)| {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            ':' if !quoted && depth == 0 && line[at + 1..].starts_with(' ') => return Some(at),
            _ => {}
        }
        None
    })
}
