//! What the keys of `[image.*]` mean, but for its files.

use std::collections::BTreeMap;

use super::file_keys::files;
use super::raw::{Keys, Reader, Value};
use super::valid::rust;
use super::{Base, Binary, Image, Recipe};
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
    let from = match reader.take(&mut keys, "from") {
        Some((place, value)) => base(reader, name, &place, value),
        None => {
            let finding = Finding::new("missing-key", format!("[image.{name}] needs `from`")).help(
                "`from = \"scratch\"`, `from = \"IMAGE\"` or `from = { packages = [\"libc6\"] }`",
            );
            reader.findings.push(finding.at(place.clone()));
            Base::Scratch
        }
    };
    let mut own = reader.texts(&mut keys, "binaries", false);
    for kind in ["rust", "go"] {
        let recipe_place = keys.place_of(kind);
        if let Some(text) = reader.text(&mut keys, kind) {
            let recipe = match kind {
                "rust" => rust(text.clone()),
                _ => Recipe::Go {
                    path: text.clone(),
                    package: ".".into(),
                    tags: vec![],
                    ldflags: vec![],
                    cgo: false,
                },
            };
            let binary = text.rsplit('/').next().unwrap_or(&text).to_owned();
            binaries.entry(binary.clone()).or_insert(Binary {
                recipe,
                libraries: vec![],
                libraries_place: recipe_place.clone(),
                tools: vec![],
                strip: None,
                differences: BTreeMap::new(),
                place: recipe_place,
            });
            own.push(binary);
        }
    }
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

fn base<'a>(reader: &mut Reader<'a>, image: &str, place: &Place, value: Value<'a>) -> Base {
    if value.get_ref().is_str() {
        let text = reader.as_text("from", place, value).unwrap_or_default();
        if text == "scratch" {
            return Base::Scratch;
        }
        if text.contains(['/', ':']) {
            let message = format!(
                "[image.{image}] stands on `{text}`: bases from registries are not supported by this version"
            );
            let finding = Finding::new("unsupported", message)
                .help("use \"scratch\", another image, or { packages = [\"…\"] }");
            reader.findings.push(finding.at(place.clone()));
        }
        return Base::Image(text);
    }
    let Some(mut keys) = reader.table("from", place, value) else { return Base::Scratch };
    let suite = reader.text(&mut keys, "suite");
    let packages = reader.texts(&mut keys, "packages", false);
    if packages.is_empty() {
        let message =
            format!("`from` of [image.{image}] needs `packages`, a list of package names");
        reader.problem("missing-key", place.clone(), message);
    }
    reader.finish(keys);
    Base::Packages { suite, packages }
}
