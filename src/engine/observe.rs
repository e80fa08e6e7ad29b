//! Reading what builds left behind about themselves.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::recipe::probes::{is_probe_file, origin};

/// Larger files are no answers of probes.
const BYTES_AT_MOST: u64 = 8 << 20;

/// The files below `build_folder` with answers of probes, by their paths there. Symlinks are
/// not followed. Of several builds of one crate, which cargo keeps beside each other, only
/// the last one counts.
pub fn probe_files(build_folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut newest: BTreeMap<String, (SystemTime, String)> = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let place = build_folder.join(&folder);
        for entry in fs::read_dir(&place).map_err(|error| at(&place, &error))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is_probe_file(&name, &path) {
                let metadata = entry.metadata()?;
                if metadata.len() > BYTES_AT_MOST {
                    continue;
                }
                let found = (metadata.modified()?, path);
                let known = newest.entry(format!("{} {name}", origin(&found.1)));
                let known = known.or_insert_with(|| found.clone());
                if *known < found {
                    *known = found;
                }
            }
        }
    }
    newest
        .into_values()
        .map(|(_, path)| {
            let place = build_folder.join(&path);
            let bytes = fs::read(&place).map_err(|error| at(&place, &error))?;
            Ok((path, String::from_utf8_lossy(&bytes).into_owned()))
        })
        .collect()
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn files_of_probes_are_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str, age: u64| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age)).unwrap();
        };
        let crates = "target/aarch64-unknown-linux-gnu/release/build";
        let old = format!("{crates}/x-sys-fedcba9876543210/out/build/CMakeCache.txt");
        let new = format!("{crates}/x-sys-0123456789abcdef/out/build/CMakeCache.txt");
        write("config.log", "a", 0);
        write("sub/config.log", "b", 0);
        write("sub/config.status", "no", 0);
        write(&old, "old", 9);
        write(&new, "new", 0);
        write("large/config.log", "", 0);
        let large = fs::File::options().write(true).open(root.path().join("large/config.log"));
        large.unwrap().set_len(BYTES_AT_MOST + 1).unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        std::os::unix::fs::symlink("config.log", root.path().join("CMakeCache.txt")).unwrap();
        let files = probe_files(root.path()).unwrap();
        let files: Vec<_> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
        assert_eq!(files, [("config.log", "a"), ("sub/config.log", "b"), (&new, "new")]);
    }
}
