//! What the keys of `[image.*]` mean, but for its files.

use std::collections::BTreeMap;

use super::file_keys::files;
use super::package_keys::{Treatment, package_keys, treatment};
use super::raw::{Keys, Reader, Value};
use super::valid::{folder, rust};
use super::{Base, Binary, Image, Recipe};
use crate::model::base::BaseOrigin;
use crate::model::{Finding, Place};

/// The keys of an image. Binaries that it declares by itself go to `binaries`.
pub fn image<'a>(
    reader: &mut Reader<'a>,
    name: &str,
    mut keys: Keys<'a>,
    binaries: &mut BTreeMap<String, Binary>,
) -> Image {
    let place = keys.place();
    let (from_place, binaries_place) = (keys.place_of("from"), keys.place_of("binaries"));
    let mut treated = Treatment::default();
    let from = match reader.take(&mut keys, "from") {
        Some((place, value)) => base(reader, name, &place, value, &mut treated),
        None => {
            let finding = Finding::new("missing-key", format!("[image.{name}] needs `from`")).help(
                "`from = \"scratch\"`, `from = \"IMAGE\"`, `from = \"HOST/NAME:TAG\"` or \
                 `from = { packages = [\"libc6\"] }`",
            );
            reader.findings.push(finding.at(place.clone()));
            Base::Scratch
        }
    };
    let mut own = reader.texts(&mut keys, "binaries", false);
    for kind in ["rust", "go"] {
        let recipe_place = keys.place_of(kind);
        if let Some(text) = reader.text(&mut keys, kind) {
            if kind == "go" && (text.starts_with('/') || text.split('/').any(|part| part == "..")) {
                let message = format!("`go` must stay in the project, this is `{text}`");
                reader.problem("invalid-value", recipe_place.clone(), message);
            }
            let parts: Vec<&str> =
                text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            // The project's own folder has no name.
            let binary = parts.last().copied().unwrap_or(name).to_owned();
            let recipe = match kind {
                "rust" => rust(text.clone()),
                _ => Recipe::Go {
                    path: parts.join("/"),
                    package: ".".into(),
                    tags: vec![],
                    ldflags: vec![],
                    cgo: false,
                },
            };
            binaries.entry(binary.clone()).or_insert(Binary {
                recipe,
                libraries: vec![],
                libraries_place: recipe_place.clone(),
                tools: vec![],
                inputs: vec![],
                strip: None,
                differences: BTreeMap::new(),
                place: recipe_place,
            });
            own.push(binary);
        }
    }
    let packages = package_keys(reader, &mut keys, treated);
    let files = files(reader, name, &mut keys);
    let mut expose = Vec::new();
    for (place, port) in reader.placed_texts(&mut keys, "expose", false) {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        if number.parse::<u16>().is_ok() && matches!(protocol, "tcp" | "udp" | "sctp") {
            expose.push(format!("{number}/{protocol}"));
        } else {
            reader.problem(
                "invalid-value",
                place,
                format!("`{port}` is no port such as 8080 or \"53/udp\""),
            );
        }
    }
    let image = Image {
        from,
        from_place,
        packages,
        binaries: own,
        binaries_place,
        files,
        entrypoint: reader.texts(&mut keys, "entrypoint", true),
        cmd: reader.texts(&mut keys, "cmd", true),
        env: reader.map(&mut keys, "env"),
        expose,
        user: reader.text(&mut keys, "user"),
        workdir: reader.text(&mut keys, "workdir"),
        labels: reader.map(&mut keys, "labels"),
        volumes: reader.texts(&mut keys, "volumes", false),
        stop_signal: reader.text(&mut keys, "stop-signal"),
        publish: reader.boolean(&mut keys, "publish", true),
        title: reader.text(&mut keys, "title"),
        place,
    };
    reader.finish(keys);
    image
}

/// What `from` means.
fn base<'a>(
    reader: &mut Reader<'a>,
    image: &str,
    place: &Place,
    value: Value<'a>,
    treated: &mut Treatment,
) -> Base {
    if value.get_ref().is_str() {
        let text = reader.as_text("from", place, value).unwrap_or_default();
        return match text.as_str() {
            "scratch" => Base::Scratch,
            // No image of a configuration has a name like this.
            _ if text.contains(['/', ':', '@']) => registry(reader, place, &text),
            _ => Base::Image(text),
        };
    }
    let Some(mut keys) = reader.table("from", place, value) else { return Base::Scratch };
    let kinds = ["packages", "layout", "archive", "image"];
    let given: Vec<&str> = kinds.into_iter().filter(|kind| keys.has(kind)).collect();
    if given.len() != 1 {
        let wanted = kinds.map(|kind| format!("`{kind}`")).join(", ");
        let message = format!(
            "`from` of [image.{image}] needs exactly one of {wanted}; it has {}",
            given.len()
        );
        reader.problem("missing-key", place.clone(), message);
    }
    let base = match given.first() {
        Some(&"layout") => {
            let folder = folder(reader, &mut keys, "layout").unwrap_or_default();
            let reference = reader.text(&mut keys, "ref");
            Base::External(BaseOrigin::Layout { folder, reference })
        }
        Some(&"archive") => {
            let file = folder(reader, &mut keys, "archive").unwrap_or_default();
            if file.is_empty() {
                let message = format!("`archive` of [image.{image}] names no file");
                reader.problem("invalid-value", place.clone(), message);
            }
            let reference = reader.text(&mut keys, "ref");
            Base::External(BaseOrigin::Archive { file, reference })
        }
        Some(&"image") => {
            let text = reader.text(&mut keys, "image").unwrap_or_default();
            registry(reader, place, &text)
        }
        _ => {
            let suite = reader.text(&mut keys, "suite");
            let packages = reader.texts(&mut keys, "packages", false);
            if packages.is_empty() && given == ["packages"] {
                let message =
                    format!("`from` of [image.{image}] needs `packages`, a list of package names");
                reader.problem("missing-key", place.clone(), message);
            }
            *treated = treatment(reader, &mut keys);
            Base::Packages { suite, packages }
        }
    };
    if given.len() == 1 {
        reader.finish(keys);
    }
    base
}

fn registry(reader: &mut Reader<'_>, place: &Place, text: &str) -> Base {
    match text.parse() {
        Ok(reference) => Base::External(BaseOrigin::Registry { reference }),
        Err(error) => {
            let finding = Finding::new("invalid-reference", ToString::to_string(&error))
                .help("write `HOST/NAME:TAG` or `HOST/NAME@sha256:…`, as for `docker pull`");
            reader.findings.push(finding.at(place.clone()));
            Base::Scratch
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{FILE_NAME, parse};

    fn check(from: &str) -> String {
        match parse(FILE_NAME, &format!("[image.x]\nfrom = {from}\n")) {
            Ok(project) => format!("{:?}", project.images["x"].from),
            Err(findings) => {
                findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
        }
    }

    #[test]
    fn bases() {
        let reference = check("\"debian:12\"");
        assert_eq!(check("{ image = \"docker.io/library/debian:12\" }"), reference);
        assert!(reference.starts_with("External(Registry { reference: Reference {"), "{reference}");
        assert_eq!(
            check("{ layout = \"./vendor/base\", ref = \"a:1\" }"),
            "External(Layout { folder: \"vendor/base\", reference: Some(\"a:1\") })"
        );
        assert_eq!(
            check("{ archive = \"base.tar\" }"),
            "External(Archive { file: \"base.tar\", reference: None })"
        );
        assert_eq!(check("\"scratch\""), "Scratch");
    }

    #[test]
    fn bases_that_are_none() {
        insta::assert_snapshot!(
            [
                "\"https://x.example/y\"",
                "\"x.example/Y:1\"",
                "\"x@sha256:12\"",
                "{ layout = \"/etc\" }",
                "{ archive = \"../x.tar\" }",
                "{ layout = \"a\", archive = \"b\" }",
                "{ layout = \"a\", reference = \"b\" }",
                "{ image = \"\" }",
                "{}",
                "\"debian\"",
            ]
            .map(check)
            .join("\n")
        );
    }
}
