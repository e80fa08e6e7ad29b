//! Release files: what a suite of an archive says of itself, and whether to believe it.
//!
//! The format is that of "RepositoryFormat" in Debian's wiki; dates are those of RFC 5322
//! as archives write them. Deliberately absent: signatures, and fetching.

use std::collections::BTreeMap;
use std::fmt;

use super::index::field;
use crate::model::Digest;

/// Clocks of two machines may differ by so much.
const CLOCK_SKEW_SECS: u64 = 6 * 3600;

/// A release file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// Who makes it: `Debian`, `Ubuntu`, ….
    pub origin: String,
    /// Such as `stable`.
    pub suite: String,
    /// Such as `bookworm`.
    pub codename: String,
    /// Such as `12.11`.
    pub version: String,
    /// When it was made, in seconds since 1970.
    pub date_secs: u64,
    /// Until when it is good, if it says.
    pub valid_until_secs: Option<u64>,
    /// Architectures that it has.
    pub architectures: Vec<String>,
    /// Whether packages for all architectures are in the lists of each.
    pub all_is_in_each: bool,
    /// Whether files are also found by their digests.
    pub by_hash: bool,
    /// Whether its packages are only taken when asked for.
    pub not_automatic: bool,
    /// Digest and size in bytes of each file, by path below the suite's folder.
    pub files: BTreeMap<String, (Digest, u64)>,
}

/// Why a release file is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseProblem {
    /// A field is missing or cannot be understood.
    Field(&'static str),
    /// It is of another suite.
    OtherSuite {
        /// The one that was asked for.
        wanted: String,
        /// What the file says.
        found: String,
    },
    /// It is past its `Valid-Until`.
    Expired(u64),
    /// It is from the future.
    Future(u64),
    /// It is older than one that the archive had before.
    Replayed {
        /// Its date.
        date_secs: u64,
        /// The date of the other.
        seen_secs: u64,
    },
}

impl fmt::Display for ReleaseProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "it has no usable `{name}`"),
            Self::OtherSuite { wanted, found } => {
                write!(f, "it is of {found}, `{wanted}` was asked for")
            }
            Self::Expired(at) => write!(f, "it was valid until {}", date(*at)),
            Self::Future(at) => write!(f, "its date {} is in the future", date(*at)),
            Self::Replayed { date_secs, seen_secs } => write!(
                f,
                "it is of {}, older than the one of {} that the archive had before",
                date(*date_secs),
                date(*seen_secs)
            ),
        }
    }
}

impl ReleaseProblem {
    /// What the user can do.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Field(_) => "check that `mirror` and `suites` name a signed Debian-style archive",
            Self::OtherSuite { .. } => {
                "name the suite as its release file does, by `Suite` or `Codename`"
            }
            Self::Expired(_) => {
                "the mirror is no longer updated: use another one; for a snapshot that is meant \
                 to be old, write `valid-until = false`"
            }
            Self::Future(_) => "check the clock of this machine",
            Self::Replayed { .. } => {
                "the mirror went back, or someone gives out an old state: use another mirror, or \
                 try again later"
            }
        }
    }
}

/// What a release file is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Name of the suite.
    pub suite: &'a str,
    /// The time, in seconds since 1970.
    pub now_secs: u64,
    /// Whether it must not be past its `Valid-Until`.
    pub valid_until: bool,
    /// Date of the newest that was seen before.
    pub seen_secs: Option<u64>,
}

impl Release {
    /// Reads a release file: its text without a signature.
    pub fn parse(text: &str) -> Result<Self, ReleaseProblem> {
        let text_of = |name| field(text, name).unwrap_or_default().to_owned();
        let is_yes = |name| field(text, name).is_some_and(|value| value == "yes");
        let valid_until = match field(text, "Valid-Until") {
            Some(value) => Some(parse_date(value).ok_or(ReleaseProblem::Field("Valid-Until"))?),
            None => None,
        };
        let mut files = BTreeMap::new();
        let missing = ReleaseProblem::Field("SHA256");
        for line in field(text, "SHA256").ok_or(missing.clone())?.lines() {
            if let Some(file) = parse_file(line) {
                files.extend([file]);
            } else if !line.trim().is_empty() {
                return Err(missing);
            }
        }
        let lists_all = field(text, "No-Support-for-Architecture-all") == Some("Packages");
        let architectures: Vec<String> =
            text_of("Architectures").split_whitespace().map(ToOwned::to_owned).collect();
        Ok(Self {
            origin: text_of("Origin"),
            suite: text_of("Suite"),
            codename: text_of("Codename"),
            version: text_of("Version"),
            date_secs: field(text, "Date")
                .and_then(parse_date)
                .ok_or(ReleaseProblem::Field("Date"))?,
            valid_until_secs: valid_until,
            all_is_in_each: lists_all || !architectures.iter().any(|name| name == "all"),
            architectures,
            by_hash: is_yes("Acquire-By-Hash"),
            not_automatic: is_yes("NotAutomatic"),
            files,
        })
    }

    /// Whether the file is of the suite, and neither too old nor too new.
    pub fn check(&self, expected: &Expected<'_>) -> Result<(), ReleaseProblem> {
        let Expected { suite, now_secs, valid_until, seen_secs } = *expected;
        if !self.is_called(suite) {
            let names = [&self.suite, &self.codename];
            let named: Vec<String> = names
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(|name| format!("`{name}`"))
                .collect();
            let found =
                if named.is_empty() { "no named suite".to_owned() } else { named.join(" or ") };
            return Err(ReleaseProblem::OtherSuite { wanted: suite.to_owned(), found });
        }
        if self.date_secs > now_secs + CLOCK_SKEW_SECS {
            return Err(ReleaseProblem::Future(self.date_secs));
        }
        if let Some(until) = self.valid_until_secs.filter(|until| valid_until && *until < now_secs)
        {
            return Err(ReleaseProblem::Expired(until));
        }
        match seen_secs {
            Some(seen_secs) if self.date_secs < seen_secs => {
                Err(ReleaseProblem::Replayed { date_secs: self.date_secs, seen_secs })
            }
            _ => Ok(()),
        }
    }

    /// Whether the suite has this name. Old security archives have `/updates` behind theirs.
    pub fn is_called(&self, name: &str) -> bool {
        let short = name.strip_suffix("/updates").unwrap_or(name);
        [&self.suite, &self.codename]
            .into_iter()
            .any(|own| !own.is_empty() && (own == name || own == short))
    }
}

/// A line of `SHA256`: digest, size and path of a file.
fn parse_file(line: &str) -> Option<(String, (Digest, u64))> {
    let mut words = line.split_whitespace();
    let digest = Digest::from_hex(words.next()?).ok()?;
    let size_bytes = words.next()?.parse().ok()?;
    Some((words.next()?.to_owned(), (digest, size_bytes)))
}

/// The text inside a clear-signed file whose signature somebody else has checked.
pub fn without_armor(text: &str) -> &str {
    let Some(rest) = text.strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----") else { return text };
    let inside = rest.split_once("\n\n").map_or("", |(_, inside)| inside);
    inside.split("-----BEGIN PGP SIGNATURE-----").next().unwrap_or_default()
}

/// Seconds since 1970 of a date such as `Sat, 07 Jun 2025 09:38:43 UTC`.
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let rest = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = rest.split_whitespace();
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let is_utc = matches!(words.next(), Some("UTC" | "GMT" | "+0000" | "Z"));
    let fits = (1..=31).contains(&day) && (1970..=9999).contains(&year) && hour < 24;
    if !is_utc || !fits || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 in a calendar whose years begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// A time for people, to the minute.
fn date(at_secs: u64) -> String {
    let days = at_secs / 86_400 + 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) =
        if month < 10 { (year + era * 400, month + 3) } else { (year + era * 400 + 1, month - 9) };
    let (hour, minute) = (at_secs / 3600 % 24, at_secs / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: stable\nVersion: 12.11\nCodename: bookworm\n\
        Date: Sat, 07 Jun 2025 09:38:43 UTC\nValid-Until: Sat, 14 Jun 2025 09:38:43 UTC\n\
        Acquire-By-Hash: yes\nNo-Support-for-Architecture-all: Packages\n\
        Architectures: all amd64 arm64\nMD5Sum:\n 0 1 x\nSHA256:\n \
        d7dd1d1411fedf27f5e27650a6eff20ef294077b568f4c8c5e51466dc7c08ce4  12 main/x\n \
        d7dd1d1411fedf27f5e27650a6eff20ef294077b568f4c8c5e51466dc7c08ce4 7 main/y\n";

    #[test]
    fn release_files_are_read() {
        let release = Release::parse(TEXT).unwrap();
        assert_eq!(release.date_secs, 1_749_289_123);
        assert_eq!(release.valid_until_secs, Some(1_749_289_123 + 7 * 86_400));
        assert!(release.by_hash && release.all_is_in_each && !release.not_automatic);
        assert_eq!(release.files.len(), 2);
        assert_eq!(release.files["main/y"].1, 7);
        assert!(release.is_called("bookworm") && release.is_called("stable/updates"));
        let armored = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{TEXT}-----BEGIN PGP SIGNATURE-----\nx"
        );
        assert_eq!(without_armor(&armored), TEXT);
        assert_eq!(without_armor(TEXT), TEXT);
        for (from, to, missing) in [
            ("Date: Sat, 07", "Date: Sat, 77", "Date"),
            ("SHA256", "SHA1", "SHA256"),
            (" 12 main", " x main", "SHA256"),
            ("Until: Sat, 14", "Until: Sat, 44", "Valid-Until"),
        ] {
            let problem = Release::parse(&TEXT.replace(from, to)).unwrap_err();
            assert_eq!(problem, ReleaseProblem::Field(missing));
        }
    }

    #[test]
    fn release_files_are_believed_in_their_time() {
        let release = Release::parse(TEXT).unwrap();
        let now_secs = release.date_secs + 60;
        let good = Expected { suite: "bookworm", now_secs, valid_until: true, seen_secs: None };
        let check = |expected: Expected<'_>| {
            release.check(&expected).map_err(|problem| problem.to_string())
        };
        assert_eq!(check(good), Ok(()));
        assert_eq!(check(Expected { seen_secs: Some(release.date_secs), ..good }), Ok(()));
        let late = Expected { now_secs: now_secs + 8 * 86_400, ..good };
        assert_eq!(check(Expected { valid_until: false, ..late }), Ok(()));
        let problems = [
            check(late),
            check(Expected { now_secs: release.date_secs - 7 * 3600, ..good }),
            check(Expected { seen_secs: Some(now_secs), ..good }),
            check(Expected { suite: "trixie", ..good }),
        ];
        let problems: Vec<String> = problems.into_iter().map(Result::unwrap_err).collect();
        insta::assert_snapshot!(problems.join("\n"), @r"
        it was valid until 2025-06-14 09:38 UTC
        its date 2025-06-07 09:38 UTC is in the future
        it is of 2025-06-07 09:38 UTC, older than the one of 2025-06-07 09:39 UTC that the archive had before
        it is of `stable` or `bookworm`, `trixie` was asked for
        ");
    }

    #[test]
    fn dates_are_read_as_they_are_written() {
        for (text, secs) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", 0),
            ("Thu, 29 Feb 2024 23:59:59 +0000", 1_709_251_199),
            ("Fri, 31 Dec 1999 23:59:00 GMT", 946_684_740),
        ] {
            assert_eq!(parse_date(text), Some(secs), "{text}");
        }
        assert_eq!(date(1_709_251_199), "2024-02-29 23:59 UTC");
        assert_eq!(date(946_684_740), "1999-12-31 23:59 UTC");
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 CET"), None);
        assert_eq!(parse_date("yesterday"), None);
    }
}
