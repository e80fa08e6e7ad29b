//! Patterns of paths, as configurations write them: `*` stays in a folder, `**` does not.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// What patterns match.
pub struct Patterns(GlobSet);

impl Patterns {
    /// Patterns of paths without a leading `./`, or why one is none.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let glob = GlobBuilder::new(pattern.trim_start_matches("./"))
                .literal_separator(true)
                .build()
                .map_err(|error| format!("`{pattern}` is no pattern: {error}"))?;
            set.add(glob);
        }
        set.build().map(Self).map_err(|error| error.to_string())
    }

    /// Whether one of them matches the path.
    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}
