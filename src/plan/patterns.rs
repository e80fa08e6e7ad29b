//! Patterns of paths, as configurations write them: `*` stays in a folder, `**` does not.

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// What patterns match.
#[derive(Clone)]
pub struct Patterns {
    texts: Vec<String>,
    set: GlobSet,
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.texts.fmt(f)
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Patterns {
    /// Patterns of paths without a leading `./`, or why one is none.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        let mut texts = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim_start_matches("./");
            let glob = GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map_err(|error| format!("`{pattern}` is no pattern: {error}"))?;
            set.add(glob);
            texts.push(pattern.to_owned());
        }
        let set = set.build().map_err(|error| error.to_string())?;
        Ok(Self { texts, set })
    }

    /// The patterns, as they were given.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether one of them matches the path.
    pub fn matches(&self, path: &str) -> bool {
        self.set.is_match(path)
    }
}

/// The folder that everything is in which a pattern matches: its parts before a wildcard.
pub fn start(pattern: &str) -> String {
    let parts: Vec<&str> = pattern.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let folders = &parts[..parts.len().saturating_sub(1)];
    let fixed = folders.iter().take_while(|part| !part.contains(['*', '?', '[', '{']));
    fixed.copied().collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns_start_where_they_vary() {
        for (pattern, start) in
            [("a/b/*.c", "a/b"), ("./a/**/x", "a"), ("x.c", ""), ("a/[bc]/d/e", "a"), ("", "")]
        {
            assert_eq!(super::start(pattern), start, "{pattern}");
        }
    }
}
