//! What is left out of packages: named sets of paths, and patterns.
//!
//! A set keeps `usr/share/doc/*/copyright`, which licences ask for, and what the C library
//! needs for the usual character sets; patterns do as they say.

/// What is left out where nothing is said: documentation, translations, rare character sets
/// and time zones.
pub const DEFAULT: &str = "default";

/// Sets by name, with their patterns.
const SETS: [(&str, &[&str]); 12] = [
    ("docs", &["usr/share/bug", "usr/share/doc", "usr/share/doc-base", "usr/share/lintian"]),
    ("man", &["usr/share/man"]),
    ("info", &["usr/share/info"]),
    ("locales", &["usr/share/locale"]),
    ("completions", &["usr/share/bash-completion", "usr/share/zsh/vendor-completions"]),
    ("gconv", &["usr/lib/*/gconv/*.so"]),
    ("iconv-data", &["usr/share/i18n"]),
    ("init", &["etc/init.d", "etc/rc?.d", "usr/lib/systemd"]),
    ("leap-seconds", &["usr/share/zoneinfo/right"]),
    ("terminfo", &["usr/lib/terminfo", "usr/share/terminfo"]),
    ("apparmor", &["etc/apparmor.d"]),
    ("logrotate", &["etc/logrotate.d"]),
];

/// The sets of [`DEFAULT`].
const DEFAULT_SETS: [&str; 6] = ["docs", "gconv", "info", "leap-seconds", "locales", "man"];

/// Conversions that `gconv` keeps: those that the C library itself counts as its core.
const CORE_CONVERSIONS: [&str; 7] = [
    "ANSI_X3.110.so",
    "CP1252.so",
    "ISO8859-1.so",
    "ISO8859-15.so",
    "UTF-16.so",
    "UTF-32.so",
    "UTF-7.so",
];

/// Names of the sets, with that of the default, in byte order.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SETS.iter().map(|(name, _)| *name).chain([DEFAULT]).collect();
    names.sort_unstable();
    names
}

/// Whether `item` is a pattern of paths, not the name of a set.
pub fn is_pattern(item: &str) -> bool {
    item.contains(['/', '*', '?'])
}

/// What `items` mean, each the name of a set or a pattern.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    /// Paths of sets.
    pub sets: Vec<String>,
    /// Paths that were asked for by themselves.
    pub patterns: Vec<String>,
}

impl Exclude {
    /// Reads a list that was checked: what is neither a set nor a pattern means nothing.
    pub fn new<S: AsRef<str>>(items: &[S]) -> Self {
        let mut exclude = Self::default();
        for item in items.iter().map(AsRef::as_ref) {
            let wanted: &[&str] = if item == DEFAULT { &DEFAULT_SETS } else { &[item] };
            let sets = SETS.iter().filter(|(name, _)| wanted.contains(name));
            exclude.sets.extend(sets.flat_map(|(_, paths)| paths.iter().map(|p| (*p).to_owned())));
            if is_pattern(item) {
                exclude.patterns.push(item.trim_start_matches('/').trim_end_matches('/').into());
            }
        }
        exclude
    }

    /// Whether the member at `path`, or a folder that it is in, is left out. `is_link` tells
    /// whether it is a symbolic link: those of `usr/share/doc` lead to copyright files.
    pub fn matches(&self, path: &str, is_link: bool) -> bool {
        let below = |pattern: &String| ways(path).any(|part| matches(pattern, part));
        if self.patterns.iter().any(below) {
            return true;
        }
        self.sets.iter().any(below)
            && !leads_to_copyright(path, is_link)
            && !path
                .rsplit_once("/gconv/")
                .is_some_and(|(_, name)| CORE_CONVERSIONS.contains(&name))
    }
}

fn leads_to_copyright(path: &str, is_link: bool) -> bool {
    let Some(rest) = path.strip_prefix("usr/share/doc/") else { return false };
    match rest.split_once('/') {
        Some((_, file)) => file == "copyright",
        None => is_link,
    }
}

/// A path and the folders that it is in.
fn ways(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

/// Whether a whole path fits a pattern: `?` and `*` stay within one part, `**` does not.
fn matches(pattern: &str, path: &str) -> bool {
    fits(pattern.as_bytes(), path.as_bytes())
}

fn fits(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        // As a whole part, it stands for none as well.
        [b'*', b'*', b'/', rest @ ..] => {
            let mut ends = (0..path.len()).filter(|at| path[*at] == b'/');
            fits(rest, path) || ends.any(|at| fits(rest, &path[at + 1..]))
        }
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| fits(rest, &path[at..])),
        [b'*', rest @ ..] => {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=end).any(|at| fits(rest, &path[at..]))
        }
        [wanted, rest @ ..] => match path {
            [found, left @ ..] => {
                (wanted == found || (*wanted == b'?' && *found != b'/')) && fits(rest, left)
            }
            [] => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, fits) in [
            ("usr/lib/*/gconv", "usr/lib/x86_64-linux-gnu/gconv", true),
            ("usr/lib/*/gconv", "usr/lib/a/b/gconv", false),
            ("usr/**/gconv", "usr/lib/a/b/gconv", true),
            ("**/*.a", "usr/lib/libx.a", true),
            ("**/*.a", "libx.a", true),
            ("*.a", "usr/libx.a", false),
            ("etc/rc?.d", "etc/rc5.d", true),
            ("etc/rc?.d", "etc/rc.d", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn sets_keep_what_licences_ask_for() {
        let exclude = Exclude::new(&["default", "/opt/**"]);
        for (path, is_link, left_out) in [
            ("usr/share/doc/x/README", false, true),
            ("usr/share/doc/x/examples/copyright", false, true),
            ("usr/share/doc/x/copyright", false, false),
            ("usr/share/doc/libstdc++6", true, false),
            ("usr/share/man/man1/x.1.gz", false, true),
            ("usr/share/misc/magic", false, false),
            ("usr/lib/x/gconv/UTF-16.so", false, false),
            ("usr/lib/x/gconv/gconv-modules", false, false),
            ("usr/lib/x/gconv/EUC-KR.so", false, true),
            ("usr/share/zoneinfo/right/UTC", false, true),
            ("usr/share/zoneinfo/UTC", false, false),
            ("opt/x/y", false, true),
        ] {
            assert_eq!(exclude.matches(path, is_link), left_out, "{path}");
        }
        assert!(Exclude::new(&["usr/share/doc"]).matches("usr/share/doc/x/copyright", false));
        assert!(names().windows(2).all(|pair| pair[0] < pair[1]));
    }
}
