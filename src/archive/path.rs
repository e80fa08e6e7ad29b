//! Paths of members: made safe, and moved where merged-usr systems have them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::Problem;

/// Top-level folders that merged-usr systems have below `usr`.
pub const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Links on the way of one path that an operating system follows before it calls them a loop.
const LINKS_AT_MOST: usize = 40;

/// The member's path without `./`, empty for the root itself. `None` if it has `..`.
pub fn clean(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// `lib/x` as `usr/lib/x`.
pub fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) { format!("usr/{path}") } else { path.to_owned() }
}

/// The place of a member below `root`, its parents made; refuses to pass through a link
/// or a file.
pub fn place(root: &Path, path: &str) -> Result<PathBuf, Problem> {
    let mut place = root.to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    for parent in &parts[..parts.len() - 1] {
        place.push(parent);
        match fs::symlink_metadata(&place) {
            Ok(status) if status.is_dir() => {}
            Ok(_) => return Err(Problem::Escapes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&place).map_err(Problem::Io)?;
                super::deb::set_mode(&place, 0o755).map_err(Problem::Io)?;
            }
            Err(error) => return Err(Problem::Io(error)),
        }
    }
    place.push(parts[parts.len() - 1]);
    Ok(place)
}

/// The path of a link below `root` that leads out of it: absolute, or through `..` once the
/// links on its way are followed.
pub fn leaving_link(root: &Path) -> io::Result<Option<String>> {
    let mut folders = vec![Vec::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(at(root, &folder))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let inside = || folder.iter().cloned().chain([entry.file_name()]).collect::<Vec<_>>();
            if kind.is_dir() {
                folders.push(inside());
            } else if kind.is_symlink() && leaves(root, &folder, &fs::read_link(entry.path())?)? {
                let place: PathBuf = inside().iter().collect();
                return Ok(Some(place.to_string_lossy().into_owned()));
            }
        }
    }
    Ok(None)
}

fn at(root: &Path, parts: &[OsString]) -> PathBuf {
    root.iter().map(OsString::from).chain(parts.iter().cloned()).collect()
}

/// Whether a link in `folder` to `target` leads out of `root`. What is missing is taken for
/// a folder; a loop leads nowhere.
fn leaves(root: &Path, folder: &[OsString], target: &Path) -> io::Result<bool> {
    let mut reached = folder.to_vec();
    let mut ahead: Vec<PathBuf> = vec![target.to_owned()];
    let mut hops = 0;
    while let Some(path) = ahead.pop() {
        let mut parts = path.components();
        let Some(part) = parts.next() else { continue };
        ahead.push(parts.as_path().to_owned());
        match part {
            Component::Prefix(_) | Component::RootDir => return Ok(true),
            Component::CurDir => {}
            Component::ParentDir => {
                if reached.pop().is_none() {
                    return Ok(true);
                }
            }
            Component::Normal(name) => {
                reached.push(name.to_owned());
                let place = at(root, &reached);
                if fs::symlink_metadata(&place).is_ok_and(|found| found.is_symlink()) {
                    hops += 1;
                    if hops > LINKS_AT_MOST {
                        return Ok(false);
                    }
                    reached.pop();
                    ahead.push(fs::read_link(&place)?);
                }
            }
        }
    }
    Ok(false)
}

/// An absolute link target, relative to the folder of the link at `path`.
pub fn relative_target(path: &str, target: &str) -> String {
    let Some(absolute) = target.strip_prefix('/') else { return target.to_owned() };
    let up = path.matches('/').count();
    let absolute = merged(absolute.trim_start_matches('/'));
    format!("{}{absolute}", "../".repeat(up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(clean("./usr//bin/x").as_deref(), Some("usr/bin/x"));
        assert_eq!(clean("../x"), None);
        assert_eq!(clean("/etc/passwd").as_deref(), Some("etc/passwd"));
        assert_eq!(merged("lib/x"), "usr/lib/x");
        assert_eq!(merged("library/x"), "library/x");
        assert_eq!(relative_target("usr/lib/a/x.so", "/lib/a/y.so"), "../../../usr/lib/a/y.so");
        assert_eq!(relative_target("usr/x", "y"), "y");
    }
}
