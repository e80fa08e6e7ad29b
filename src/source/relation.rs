//! Relations between packages (Debian policy 7.1): `a (>= 1) | b:any, c`.

use std::cmp::Ordering;
use std::fmt;

use super::version::compare;

/// How a version must be to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// A package, in some versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Name of a package, or of something that packages provide.
    pub name: &'a str,
    /// What stands behind a colon: an architecture, `any` or `native`.
    pub qualifier: Option<&'a str>,
    /// The versions.
    pub version: Option<(Operator, &'a str)>,
}

impl Relation<'_> {
    /// Whether a package of that name is meant in this version.
    pub fn takes(&self, version: &str) -> bool {
        let Some((operator, wanted)) = self.version else { return true };
        let order = compare(version, wanted);
        match operator {
            Operator::Earlier => order == Ordering::Less,
            Operator::EarlierOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::LaterOrEqual => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = self.version {
            let sign = match operator {
                Operator::Earlier => "<<",
                Operator::EarlierOrEqual => "<=",
                Operator::Equal => "=",
                Operator::LaterOrEqual => ">=",
                Operator::Later => ">>",
            };
            write!(f, " ({sign} {version})")?;
        }
        Ok(())
    }
}

/// The groups of a field; one alternative of each is wanted. What is no relation is left out.
pub fn groups(field: &str) -> impl Iterator<Item = Vec<Relation<'_>>> {
    field
        .split(',')
        .map(|group| group.split('|').filter_map(relation).collect::<Vec<_>>())
        .filter(|group| !group.is_empty())
}

fn relation(text: &str) -> Option<Relation<'_>> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (name, None),
    };
    if name.is_empty() {
        return None;
    }
    let inside = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let version = inside.and_then(|(inside, _)| {
        let inside = inside.trim();
        let end = inside.find(|c: char| !"<>=".contains(c)).unwrap_or(inside.len());
        let (sign, version) = inside.split_at(end);
        let operator = match sign {
            "<<" => Operator::Earlier,
            "<=" | "<" => Operator::EarlierOrEqual,
            "=" => Operator::Equal,
            ">=" | ">" => Operator::LaterOrEqual,
            ">>" => Operator::Later,
            _ => return None,
        };
        Some((operator, version.trim()))
    });
    Some(Relation { name, qualifier, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_and_written() {
        let field = "libc6 (>= 2.36), python3:any (<< 3.12)|perl-base , gcc-12-base (=12.2.0-14),\n \
                     x [amd64] <!nocheck>,, y(>>1:2~)";
        let shown: Vec<String> = groups(field)
            .map(|group| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
            .collect();
        assert_eq!(
            shown,
            [
                "libc6 (>= 2.36)",
                "python3:any (<< 3.12) | perl-base",
                "gcc-12-base (= 12.2.0-14)",
                "x",
                "y (>> 1:2~)"
            ]
        );
        assert_eq!(groups(" ,|,").count(), 0);
    }

    #[test]
    fn versions_are_compared() {
        let takes = |text: &str, version: &str| relation(text).unwrap().takes(version);
        assert!(takes("a (>= 1)", "1") && takes("a (<= 1)", "1") && takes("a (= 1)", "1-0"));
        assert!(!takes("a (>> 1)", "1") && !takes("a (<< 1)", "1") && takes("a (<< 1)", "1~"));
        assert!(takes("a", "0"));
    }
}
