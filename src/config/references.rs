//! Names that must exist, and images that must not stand on themselves.

use super::raw::suggest;
use super::{Base, Project};
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
        if let Base::Image(base) = &image.from
            && !project.images.contains_key(base)
            && !base.contains(['/', ':'])
        {
            let known = project.images.keys().filter(|known| *known != name).collect();
            findings.push(missing("unknown-image", "image", base, known, &image.from_place));
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
