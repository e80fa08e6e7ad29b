//! Names that must exist, and images that must not stand on themselves.

use super::raw::suggest;
use super::{Base, FileContent, LibraryRecipe, Project};
use crate::model::platform::{PLATFORMS, TRIPLES};
use crate::model::{Finding, Place};

pub fn check(project: &Project, file_name: &str, findings: &mut Vec<Finding>) {
    let missing = |code, what: &str, name: &str, known: Vec<&String>, place: &Place| {
        let finding = Finding::new(code, format!("there is no {what} `{name}`"));
        suggest(finding, name, &known).at(place.clone())
    };
    if project.images.is_empty() && findings.is_empty() {
        let place = Place { file: file_name.to_owned(), line: 1, column: 1 };
        let finding = Finding::new("no-images", "the configuration has no image")
            .help("add a table such as [image.NAME] with `from` and `binaries`");
        findings.push(finding.at(place));
    }
    for binary in project.binaries.values() {
        for name in binary.libraries.iter().filter(|name| !project.libraries.contains_key(*name)) {
            let known = project.libraries.keys().collect();
            findings.push(missing(
                "unknown-library",
                "library",
                name,
                known,
                &binary.libraries_place,
            ));
        }
    }
    for (name, library) in &project.libraries {
        for need in library.needs.iter().filter(|need| !project.libraries.contains_key(*need)) {
            let known = project.libraries.keys().filter(|known| *known != name).collect();
            let place = &library.needs_place;
            findings.push(missing("unknown-library", "library", need, known, place));
        }
        if let LibraryRecipe::Prebuilt(files) = &library.recipe {
            for platform in &project.platforms {
                let platform = platform.to_string();
                let index = PLATFORMS.iter().position(|known| *known == platform);
                let triple = index.map_or("", |index| TRIPLES[index]);
                if !files.contains_key(&platform) && !files.contains_key(triple) {
                    let message = format!("[library.{name}] has no `prebuilt` for {platform}");
                    let finding = Finding::new("missing-platform", message)
                        .help("add its files, or take the platform out of `platforms`");
                    findings.push(finding.at(library.place.clone()));
                }
            }
        }
        if let Some(cycle) = needs_cycle(project, name) {
            let message = format!("libraries need one another: {}", cycle.join(" → "));
            let finding = Finding::new("library-cycle", message);
            findings.push(finding.at(library.needs_place.clone()));
        }
    }
    for (name, image) in &project.images {
        for binary in image.binaries.iter().filter(|name| !project.binaries.contains_key(*name)) {
            let known = project.binaries.keys().collect();
            findings.push(missing(
                "unknown-binary",
                "binary",
                binary,
                known,
                &image.binaries_place,
            ));
        }
        for entry in &image.files {
            let FileContent::Copy(source) = &entry.content else { continue };
            for platform in source.missing(&project.platforms) {
                let message = format!("`files` of [image.{name}] has no `from` for {platform}");
                let finding = Finding::new("missing-platform", message)
                    .help("add its files, or take the platform out of `platforms`");
                findings.push(finding.at(entry.place.clone()));
            }
        }
        if let Base::Image(base) = &image.from
            && !project.images.contains_key(base)
        {
            let known = project.images.keys().filter(|known| *known != name).collect();
            let mut finding = missing("unknown-image", "image", base, known, &image.from_place);
            if finding.help.as_ref().is_none_or(|help| help.starts_with("known here")) {
                let help = format!("an image of a registry is written with its tag: `{base}:TAG`");
                finding.help = Some(help);
            }
            findings.push(finding);
        }
        if let Some(cycle) = cycle(project, name) {
            let message = format!("images stand on one another: {}", cycle.join(" → "));
            findings.push(Finding::new("image-cycle", message).at(image.from_place.clone()));
        }
    }
}

/// The way from an image back to itself, reported for the first of its images only.
fn cycle(project: &Project, start: &str) -> Option<Vec<String>> {
    let mut way = vec![start.to_owned()];
    let mut name = start;
    while let Some(Base::Image(base)) = project.images.get(name).map(|image| &image.from) {
        way.push(base.clone());
        if base == start {
            return way.iter().all(|member| member.as_str() >= start).then_some(way);
        }
        if way.len() > project.images.len() + 1 {
            return None;
        }
        name = base;
    }
    None
}

/// A way from a library back to itself, reported for the first of its libraries only.
fn needs_cycle(project: &Project, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    while let Some(way) = ways.pop() {
        let last = way.last().and_then(|name| project.libraries.get(name));
        for need in last.iter().flat_map(|library| &library.needs) {
            let next: Vec<String> = way.iter().chain([need]).cloned().collect();
            if need == start {
                return next.iter().all(|member| member.as_str() >= start).then_some(next);
            }
            if !way.contains(need) {
                ways.push(next);
            }
        }
    }
    None
}

/// The libraries of `names` and all that they need, each after what it needs.
pub fn library_closure(project: &Project, names: &[String]) -> Vec<String> {
    fn visit(project: &Project, name: &str, order: &mut Vec<String>) {
        if order.iter().any(|known| known == name) {
            return;
        }
        if let Some(library) = project.libraries.get(name) {
            let mut needs = library.needs.clone();
            needs.sort();
            for need in needs {
                visit(project, &need, order);
            }
            order.push(name.to_owned());
        }
    }
    let mut names = names.to_vec();
    names.sort();
    let mut order = Vec::new();
    for name in &names {
        visit(project, name, &mut order);
    }
    order
}

/// Names of the images, each after the one that it stands on.
pub fn image_order(project: &Project) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    while order.len() < project.images.len() {
        let before = order.len();
        for (name, image) in &project.images {
            let ready = match &image.from {
                Base::Image(base) => order.contains(base),
                _ => true,
            };
            if ready && !order.contains(name) {
                order.push(name.clone());
            }
        }
        if order.len() == before {
            break;
        }
    }
    order
}
