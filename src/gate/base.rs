//! What a base image must be before anything is compiled for it: it has every platform, and
//! is what it says.

use crate::image::document::normal;
use crate::image::manifest::Descriptor;
use crate::image::summary::LayerSummary;
use crate::model::base::BaseSystem;
use crate::model::{Digest, Finding, Platform};
use crate::toolchain::description::{Description, machine_name};
use crate::toolchain::end_of_life::end_of_life;

/// Files that are named before only their number is told.
const NAMED_AT_MOST: usize = 3;

/// The manifest of an index that is for `platform`, or why there is none. Entries for other
/// things than platforms, such as signatures, do not count.
pub fn select<'a>(
    name: &str,
    manifests: &'a [Descriptor],
    platform: &Platform,
) -> Result<&'a Descriptor, Finding> {
    let offered = |entry: &Descriptor| entry.platform.as_ref().map(normal);
    let wanted = normal(platform);
    let mut fitting = manifests.iter().filter(|entry| offered(entry).as_ref() == Some(&wanted));
    match (fitting.next(), fitting.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(one), Some(other)) => {
            let message = format!(
                "the base {name} has two images for {platform}: {} and {}",
                one.digest, other.digest
            );
            Err(Finding::new("base-ambiguous", message).help("name one of them by its digest"))
        }
        (None, _) => {
            let mut others: Vec<String> = manifests
                .iter()
                .filter_map(offered)
                .filter(|platform| platform.os != "unknown")
                .map(|platform| platform.to_string())
                .collect();
            others.sort();
            others.dedup();
            let has = match others.as_slice() {
                [] => "names no platform".to_owned(),
                others => format!("has {}", others.join(", ")),
            };
            let message = format!("the base {name} has nothing for {platform}; it {has}");
            let help = "take a base that has it, or leave the platform out of `platforms`";
            Err(Finding::new("base-lacks-platform", message).help(help))
        }
    }
}

/// A finding where a base is one image for `own`, and something else is built for.
pub fn single(name: &str, digest: &Digest, own: &Platform, wanted: &Platform) -> Option<Finding> {
    if normal(own) == normal(wanted) {
        return None;
    }
    let message = format!(
        "the base {name} is one image for {own} ({digest}) and no index of several, {wanted} is \
         asked for too"
    );
    Some(Finding::new("base-single-platform", message).help(
        "name the tag, or the digest of the index: `docker buildx imagetools inspect` and \
         `skopeo inspect --raw` show it",
    ))
}

/// A finding where the configuration of an image says another platform than its index.
pub fn disagrees(name: &str, entry: &Platform, config: &Platform) -> Option<Finding> {
    if normal(entry) == normal(config) {
        return None;
    }
    let message =
        format!("the base {name} offers an image for {entry} whose configuration says {config}");
    Some(Finding::new("base-config-disagrees", message).help(
        "whoever made the base put a wrong image into its index; take another tag or tell them",
    ))
}

/// A warning about a base whose suite gets no security updates on the day `today`, as
/// `2026-11-25`.
pub fn outdated(name: &str, system: &BaseSystem, today: &str) -> Option<String> {
    let (id, suite) = (system.id.as_deref()?, system.suite.as_deref()?);
    let end = end_of_life(id, suite)?;
    (today > end.as_str()).then(|| {
        format!("the base {name} is of {id} {suite}, which got its last security updates on {end}")
    })
}

/// What is wrong with the content of a base for `target`.
pub fn check(
    name: &str,
    summary: &LayerSummary,
    broken: &[String],
    target: &Description,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let foreign = super::platform::check(summary, name, target);
    if let Some(first) = foreign.first() {
        let wrong: Vec<&String> = summary
            .elf
            .iter()
            .filter(|(_, facts)| facts.machine != super::platform::EM_BPF)
            .filter(|(_, facts)| super::platform::mismatch(facts, target).is_some())
            .map(|(path, _)| path)
            .collect();
        let named: Vec<String> =
            wrong.iter().take(NAMED_AT_MOST).map(|path| format!("/{path}")).collect();
        let more = match wrong.len().saturating_sub(NAMED_AT_MOST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let machine =
            summary.elf.get(wrong[0]).map_or_else(String::new, |facts| machine_name(facts.machine));
        let message = format!(
            "the base {name} says that it is for {}, and has {} of {} programs and libraries for \
             {machine}: {}{more}",
            target.platform,
            foreign.len(),
            summary.elf.len(),
            named.join(", ")
        );
        findings.push(Finding::new(first.code, message).help(
            "whoever made the base put files of another architecture into it; take another base",
        ));
    }
    if let Some(path) = broken.first() {
        let message = format!(
            "the base {name} has a second name /{path} of a file that none of its layers has"
        );
        findings.push(Finding::new("base-broken-link", message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::elf::ElfFacts;
    use crate::image::manifest::MANIFEST;
    use crate::toolchain::description::by_triple;

    fn entry(platform: &str) -> Descriptor {
        let mut entry = Descriptor::of(MANIFEST, platform.as_bytes());
        entry.platform = Some(platform.parse().unwrap());
        entry
    }

    #[test]
    fn platforms_are_found_by_their_meaning() {
        let manifests =
            ["linux/amd64", "linux/arm64/v8", "linux/arm/v6", "unknown/unknown"].map(entry);
        let check = |platform: &str| {
            select("x:1", &manifests, &platform.parse().unwrap())
                .map(|entry| entry.platform.as_ref().unwrap().to_string())
                .map_err(|finding| finding.message)
        };
        assert_eq!(check("linux/arm64").as_deref(), Ok("linux/arm64/v8"));
        assert_eq!(
            check("linux/arm/v7").unwrap_err(),
            "the base x:1 has nothing for linux/arm/v7; it has linux/amd64, linux/arm/v6, \
             linux/arm64"
        );
        let two = ["linux/arm64", "linux/arm64/v8"].map(entry);
        let finding = select("x:1", &two, &"linux/arm64".parse().unwrap()).unwrap_err();
        assert_eq!(finding.code, "base-ambiguous");
    }

    #[test]
    fn claims_are_compared() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let (amd64, arm) = (platform("linux/amd64"), platform("linux/arm64"));
        assert_eq!(disagrees("x", &arm, &platform("linux/arm64/v8")), None);
        assert_eq!(disagrees("x", &arm, &amd64).unwrap().code, "base-config-disagrees");
        assert_eq!(single("x", &Digest::of(b""), &amd64, &amd64), None);
        let finding = single("x", &Digest::of(b""), &amd64, &arm).unwrap();
        assert!(finding.message.ends_with("linux/arm64 is asked for too"), "{}", finding.message);
    }

    #[test]
    fn foreign_bases_are_told_once() {
        let fact = |machine, class| ElfFacts {
            machine,
            class,
            little_endian: true,
            ..ElfFacts::default()
        };
        let mut summary = LayerSummary::default();
        for name in 0..5 {
            summary.elf.insert(format!("bin/{name}"), fact(62, 64));
        }
        summary.elf.insert("bin/own".into(), fact(183, 64));
        let arm = by_triple("aarch64-unknown-linux-gnu").unwrap();
        let findings = check("x:1", &summary, &["a".into()], arm);
        assert_eq!(
            findings[0].message,
            "the base x:1 says that it is for linux/arm64, and has 5 of 6 programs and libraries \
             for x86-64: /bin/0, /bin/1, /bin/2 and 2 more"
        );
        assert_eq!(findings[1].code, "base-broken-link");
    }

    #[test]
    fn suites_end() {
        let check = |id: &str, suite: &str, today: &str| {
            let system = BaseSystem { id: Some(id.into()), suite: Some(suite.into()) };
            outdated("x", &system, today).is_some()
        };
        assert!(check("debian", "buster", "2026-11-25"));
        assert!(!check("debian", "buster", "2024-06-30"));
        assert!(!check("debian", "bookworm", "2026-11-25"));
        assert!(!check("other", "buster", "2026-11-25"));
    }
}
