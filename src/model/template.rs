//! Names in braces that stand for a platform or a version: `{arch}`, `{version}`.

use super::Platform;

/// The names that there are.
pub const NAMES: [&str; 5] = ["arch", "platform", "triple", "variant", "version"];

/// What the names stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// Platform and triple; without, names of them stay as they are.
    pub target: Option<(&'a Platform, &'a str)>,
    /// The project's version.
    pub version: &'a str,
}

/// The names in a text. Braces around anything else, such as the choice `{a,b}` of a pattern,
/// are none.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('{').filter_map(move |(start, _)| {
        let rest = &text[start + 1..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c))?;
        (end > 0 && rest[end..].starts_with('}')).then(|| &rest[..end])
    })
}

/// Whether the text differs between platforms.
pub fn is_of_platform(text: &str) -> bool {
    names(text).any(|name| NAMES.contains(&name) && name != "version")
}

/// Whether the text has the name of the version.
pub fn is_of_version(text: &str) -> bool {
    names(text).any(|name| name == "version")
}

/// The text with values for names.
pub fn fill(text: &str, values: &Values<'_>) -> String {
    let mut filled = text.replace("{version}", values.version);
    if let Some((platform, triple)) = values.target {
        filled = filled
            .replace("{arch}", &platform.architecture)
            .replace("{platform}", &platform.to_string())
            .replace("{triple}", triple)
            .replace("{variant}", platform.variant.as_deref().unwrap_or_default());
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_filled() {
        let found = |text| names(text).collect::<Vec<_>>();
        assert_eq!(found("dist/{arch}/{version}.txt"), ["arch", "version"]);
        assert_eq!(found("{a,b}/{arhc}/{a,{arch}}"), ["arhc", "arch"]);
        assert_eq!(found("{}{a b}{x"), Vec::<&str>::new());
        assert!(is_of_platform("x{variant}") && !is_of_platform("{version}{x}"));
        let platform: Platform = "linux/arm/v7".parse().unwrap();
        let target = Some((&platform, "armv7-unknown-linux-gnueabihf"));
        let values = Values { target, version: "1.2" };
        assert_eq!(fill("{arch}{variant} {platform} {version}", &values), "armv7 linux/arm/v7 1.2");
        assert_eq!(fill("{arch}-{version}", &Values { target: None, ..values }), "{arch}-1.2");
    }
}
