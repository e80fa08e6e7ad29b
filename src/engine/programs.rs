//! The programs of a userland, for tiers that show the machine's `/usr` instead: each is
//! started by the userland's own loader with its own libraries, so that it runs wherever the
//! kernel does, and a build finds the same `sed` and `awk` on every machine.
//!
//! Also here: whether those tiers can work where the cache is.
//! Deliberately absent: what programs look for in fixed places, such as the modules of perl;
//! that needs namespaces.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::Engine;
use super::execute::text;
use super::natives::native_builds;
use crate::config::{Kind, Project};
use crate::image::elf;
use crate::machine::sandbox::Tier;
use crate::model::Finding;

/// What the scripts here cannot quote, or `PATH` cannot hold.
const NEVER: &str = "':\n";
/// What make, configure and libtool cannot have in a path, however it is quoted.
const NOT_FOR_MAKE: &str = " \t\"`$\\#%&*();<>?[]{}|!~,=";

/// A finding if builds will see the path of the cache, and cannot work there.
pub fn unusable_cache(project: &Project, tier: Tier, cache: &Path) -> Option<Finding> {
    if tier == Tier::Namespaces {
        return None;
    }
    let path = cache.to_string_lossy();
    let binaries = project.binaries.keys().collect();
    let mut builds = native_builds(project, &binaries).into_iter();
    let by_make = builds.find(|build| !matches!(build.kind, Kind::Cargo { .. } | Kind::Cc { .. }));
    let odd = path.chars().find(|&character| {
        NEVER.contains(character) || (by_make.is_some() && NOT_FOR_MAKE.contains(character))
    })?;
    let who = by_make.as_ref().map_or("builds", |build| build.what.as_str());
    let message = format!(
        "{who} cannot be built below `{path}`, a path with `{odd}` in it: in the sandbox tier \
         `{}`, make, configure and compilers are given that path",
        tier.name()
    );
    let finding = Finding::new("unusable-cache", message)
        .help("set XSTITCH_CACHE to a folder of another name, or build where namespaces work");
    Some(match by_make {
        Some(build) => finding.at(build.place.clone()),
        None => finding,
    })
}

/// The folder of scripts that start what `userland` has in `usr/bin`. Made once for each start of
/// the machine.
pub fn wrapped(engine: &Engine, userland: &Path) -> Result<PathBuf, String> {
    // After a loss of power such scripts may be empty, and nothing says what they should be.
    let name = userland.file_name().unwrap_or_default().to_string_lossy();
    let boot = engine.store.boot().split('-').next().unwrap_or_default();
    let place = engine.store.state("programs").join(format!("{name}-{boot}"));
    if place.is_dir() {
        return Ok(place);
    }
    let failed = |error: io::Error| format!("cannot write {}: {error}", place.display());
    let scratch = engine.store.scratch().map_err(text)?;
    let new = scratch.path().join("programs");
    wrap(userland, &new).map_err(failed)?;
    fs::create_dir_all(engine.store.state("programs")).map_err(failed)?;
    match fs::rename(&new, &place) {
        // Somebody else was first.
        Err(error) if !place.is_dir() => Err(failed(error)),
        _ => Ok(place),
    }
}

fn wrap(userland: &Path, place: &Path) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let programs = userland.join("usr/bin");
    if !programs.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&programs)? {
        let entry = entry?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if !path.is_file() {
            continue;
        }
        let facts = elf::facts(fs::File::open(&path)?);
        match facts.and_then(|facts| facts.interpreter) {
            Some(loader) => {
                let loader = userland.join(loader.trim_start_matches('/'));
                let loader = loader.canonicalize().unwrap_or(loader);
                let libraries = loader.parent().unwrap_or(userland).display();
                let script = format!(
                    "#!/bin/sh\nexec '{}' --library-path '{libraries}' --argv0 '{name}' '{}' \"$@\"\n",
                    loader.display(),
                    path.display()
                );
                fs::write(place.join(&name), script)?;
                fs::set_permissions(place.join(&name), fs::Permissions::from_mode(0o755))?;
            }
            None if is_shell_script(&path)? => symlink(&path, place.join(&name))?,
            None => {}
        }
    }
    Ok(())
}

fn is_shell_script(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    fs::File::open(path)?.take(64).read_to_end(&mut head)?;
    let head = String::from_utf8_lossy(&head);
    let shells = ["/bin/sh", "/bin/bash"];
    Ok(head.strip_prefix("#!").is_some_and(|line| {
        let line = line.trim_start().trim_start_matches("/usr");
        shells.iter().any(|shell| line.starts_with(shell))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_caches_cannot_be_built_in() {
        let text = "[library.x]\nmake = { path = \"x\" }\n[image.a]\nfrom = \"scratch\"\n";
        let make = crate::config::parse("images.toml", text).unwrap();
        let none = crate::config::parse("images.toml", "[image.a]\nfrom = \"scratch\"\n").unwrap();
        let check = |project, tier, path: &str| unusable_cache(project, tier, Path::new(path));
        assert_eq!(check(&make, Tier::Namespaces, "/a b"), None);
        assert_eq!(check(&make, Tier::None, "/home/Möller/.cache/x-1_2+3"), None);
        assert_eq!(check(&none, Tier::None, "/a b"), None);
        assert!(check(&none, Tier::Landlock, "/where's").is_some());
        let finding = check(&make, Tier::Landlock, "/a b/c").unwrap();
        assert_eq!(
            finding.to_string(),
            "images.toml:2:1: library x cannot be built below `/a b/c`, a path with ` ` in it: in \
             the sandbox tier `landlock`, make, configure and compilers are given that path \
             [unusable-cache]\n  help: set XSTITCH_CACHE to a folder of \
             another name, or build where namespaces work"
        );
    }
}
