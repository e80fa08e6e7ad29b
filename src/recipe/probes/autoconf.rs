//! `config.log` of a `configure` that Autoconf made: the variables of its cache, which have
//! each answer, and `confdefs.h`, which has what was asked without one.

use std::collections::BTreeSet;

/// Variables of the cache about the machine that builds, or with scripts as values.
const NO_PROBES: [&str; 13] = [
    "*_cv_build*",
    "*_cv_env_*",
    "*_cv_host*",
    "*_cv_path_*",
    "*_cv_target*",
    "am_cv_filesystem_timestamp_resolution",
    "am_cv_prog_tar*",
    "am_cv_sleep_*",
    "am_cv_xargs_*",
    "lt_cv_sys_global_symbol*",
    "lt_cv_sys_max_cmd_len",
    "lt_cv_to_*_cmd",
    "lt_cv_truncate_bin",
];

/// Names and values: first the variables, then the macros, each in the order of the file.
pub fn results(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut macros = Vec::new();
    let mut section = "";
    let mut libraries = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ").and_then(|title| title.strip_suffix(" ##")) {
            // Titles are underlined.
            if !title.starts_with('-') {
                section = title;
            }
            continue;
        }
        match section {
            "Core tests." => variables.extend(libtool(line, &mut libraries)),
            "Cache variables." => variables.extend(variable(line)),
            "confdefs.h." => macros.extend(definition(line)),
            _ => {}
        }
    }
    let told: BTreeSet<String> = variables.iter().filter_map(|(name, _)| macro_of(name)).collect();
    macros.retain(|(name, _)| !told.contains(name));
    variables.extend(macros);
    variables
}

/// What libtool decided is in no variable of the cache.
fn libtool(line: &str, libraries: &mut Option<String>) -> Option<(String, String)> {
    let (_, message) = line.strip_prefix("configure:")?.split_once(": ")?;
    if let Some(kind) = message.strip_prefix("checking whether to build ") {
        *libraries = kind.ends_with(" libraries").then(|| format!("libtool builds {kind}"));
        return None;
    }
    let value = message.strip_prefix("result: ")?;
    Some((libraries.take()?, value.to_owned()))
}

fn variable(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let (_, rest) = name.split_once("_cv_")?;
    // `ac_cv_prog_CC` is a tool of the machine that builds, `ac_cv_prog_cc_c11` a question.
    let tool = rest.starts_with("prog_") && rest.contains(char::is_uppercase);
    let other = NO_PROBES.iter().any(|pattern| super::matches(pattern, name));
    if tool || other || only_warnings(rest) {
        return None;
    }
    let unquoted = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
    Some((name.to_owned(), unquoted.unwrap_or(value).replace("'\\''", "'")))
}

fn definition(line: &str) -> Option<(String, String)> {
    let definition = line.strip_prefix("#define ")?;
    let (name, value) = definition.split_once(' ').unwrap_or((definition, "1"));
    if name == "VERSION" || name.starts_with("PACKAGE") {
        return None;
    }
    // `#define HAVE_X /**/` says no more than `#define HAVE_X 1`.
    let value = match value.trim() {
        "" | "/**/" => "1",
        value => value.trim_matches('"'),
    };
    Some((name.to_owned(), value.to_owned()))
}

/// Whether flags were tried, as in `check_cflags___Wall__Wextra`, that change no output.
fn only_warnings(rest: &str) -> bool {
    let Some((_, flags)) = rest.split_once("__") else { return false };
    let mut flags = flags.split("__").map(|flag| flag.trim_start_matches('_')).peekable();
    flags.peek().is_some() && flags.all(|flag| flag.is_empty() || is_warning(flag))
}

/// Whether `-` and these letters are a flag for warnings, not one for a part of the compiler.
pub fn is_warning(flag: &str) -> bool {
    let passed_on = ["Wa", "Wl", "Wp"]
        .iter()
        .any(|part| flag.strip_prefix(part).is_some_and(|rest| rest.starts_with([',', '_'])));
    let mut letters = flag.chars();
    letters.next() == Some('W') && letters.next().is_some_and(char::is_lowercase) && !passed_on
}

/// The macro that stands for a variable of the cache, so that it is not told twice.
fn macro_of(variable: &str) -> Option<String> {
    let (_, rest) = variable.split_once("_cv_")?;
    let kinds = [
        ("func_", "HAVE_"),
        ("header_", "HAVE_"),
        ("type_", "HAVE_"),
        ("member_", "HAVE_"),
        ("have_decl_", "HAVE_DECL_"),
        ("sizeof_", "SIZEOF_"),
    ];
    kinds.iter().find_map(|(kind, prefix)| {
        rest.strip_prefix(kind).map(|name| format!("{prefix}{}", name.to_ascii_uppercase()))
    })
}
