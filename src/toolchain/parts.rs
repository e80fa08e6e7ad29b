//! Which packages make the parts of a toolchain: the table in `toolchains/packages.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::model::package::PackageRequest;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    candidates: Vec<Vec<String>>,
    provided: Vec<String>,
}

static PARTS: LazyLock<BTreeMap<String, Part>> = LazyLock::new(|| {
    toml::from_str(include_str!("../../toolchains/packages.toml")).expect("a test parses the table")
});

fn part(name: &str) -> &'static Part {
    PARTS.get(name).expect("parts are named by constants of this program, each tested")
}

/// Requests for the part, best first, with `extra` packages added to each.
/// `name` is one of `cmake`, `go`, `llvm`, `meson`, `rust`, `rust-std`, `userland`, `sysroot`.
pub fn requests(name: &str, architecture: &str, extra: &[String]) -> Vec<PackageRequest> {
    let part = part(name);
    part.candidates
        .iter()
        .map(|packages| {
            let packages = packages.iter().chain(extra).cloned().collect();
            let mut provided = part.provided.clone();
            // The user's programs run, unlike the scripts of maintainers.
            if name == "userland" && !extra.is_empty() {
                provided.retain(|name| !name.starts_with("perl"));
            }
            request(architecture, packages, &provided, !matches!(name, "go" | "rust-std"))
        })
        .collect()
}

/// The request for the root of an image.
pub fn root_request(architecture: &str, packages: &[String]) -> PackageRequest {
    request(architecture, packages.to_vec(), &part("root").provided, true)
}

/// The request for packages in a layer on a base that has `provided`.
pub fn run_time_request(
    architecture: &str,
    packages: Vec<String>,
    provided: Vec<String>,
) -> PackageRequest {
    let mut request = request(architecture, packages, &provided, true);
    request.provided.dedup();
    request
}

fn request(
    architecture: &str,
    mut packages: Vec<String>,
    provided: &[String],
    closure: bool,
) -> PackageRequest {
    packages.sort();
    packages.dedup();
    let mut provided = provided.to_vec();
    provided.retain(|name| !packages.contains(name));
    provided.sort();
    PackageRequest {
        suite: None,
        architecture: architecture.to_owned(),
        packages,
        provided,
        closure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_part() {
        for name in ["cmake", "go", "llvm", "meson", "rust", "rust-std", "userland", "sysroot"] {
            let requests = requests(name, "arm64", &["libssl-dev".into()]);
            assert!(!requests.is_empty(), "{name}");
            assert!(requests[0].packages.contains(&"libssl-dev".to_owned()));
        }
        assert!(root_request("arm64", &["tar".into()]).provided.iter().all(|name| name != "tar"));
    }

    #[test]
    fn tools_may_need_perl() {
        let provides_perl = |extra: &[String]| {
            let request = &requests("userland", "arm64", extra)[0];
            request.provided.iter().any(|name| name.starts_with("perl"))
        };
        assert!(provides_perl(&[]));
        assert!(!provides_perl(&["autoconf".into()]));
    }
}
