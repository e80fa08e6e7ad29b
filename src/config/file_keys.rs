//! What the entries of `files` of an image mean.

use super::FileEntry;
use super::raw::{Keys, Reader};
use super::valid::folder;

/// The entries of `files` of an image.
pub fn files<'a>(reader: &mut Reader<'a>, image: &str, keys: &mut Keys<'a>) -> Vec<FileEntry> {
    let mut files = Vec::new();
    for mut entry in reader.tables(keys, "files", &format!("`files` of [image.{image}]")) {
        let place = entry.place();
        let (from, to) = (folder(reader, &mut entry, "from"), reader.text(&mut entry, "to"));
        let mode = reader.text(&mut entry, "mode").and_then(|text| {
            let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
            if mode.is_none() {
                reader.problem(
                    "invalid-value",
                    place.clone(),
                    format!("`{text}` is no mode such as \"0755\""),
                );
            }
            mode
        });
        reader.finish(entry);
        let (Some(from), Some(to)) = (from, to) else {
            reader.problem(
                "missing-key",
                place,
                format!("`files` of [image.{image}] needs `from` and `to`"),
            );
            continue;
        };
        if !to.starts_with('/') || to.split('/').any(|part| part == "..") || to.ends_with('/') {
            reader.problem(
                "invalid-value",
                place.clone(),
                format!("`to` must be an absolute path of a file, this is `{to}`"),
            );
        }
        files.push(FileEntry { from, to, mode, place });
    }
    files
}
