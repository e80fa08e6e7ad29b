//! What the engine does itself for native libraries: sysroots joined, files that somebody
//! else built installed, outputs checked against what was declared.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Engine;
use super::execute::text;
use crate::gate::platform::mismatch;
use crate::image::elf::{self, ElfFacts};
use crate::model::action::{LibraryProduct, ProjectFile};
use crate::store::{Record, copy_file, duplicate};
use crate::toolchain::description::by_platform;

/// Joins trees: the first whole, of the others what belongs to a sysroot. Those at
/// `archives` are packages of the first that lose their shared libraries there.
pub fn join(
    engine: &Engine,
    names: &[String],
    archives: &[usize],
    needs: &[Record],
    out: &Path,
) -> Result<(), String> {
    // Which need gave a file, for the message about two that differ.
    let mut owners: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (index, (name, record)) in names.iter().zip(needs).enumerate() {
        let tree = engine.store.tree_path(&record.output);
        if index == 0 {
            duplicate(&tree, out).map_err(text)?;
            continue;
        }
        if archives.contains(&index) {
            if keep_archives(&tree, out)? == 0 {
                return Err(format!(
                    "the packages of library {name} have no archive beside a shared library, \
                     and `link = \"static\"` asks for one\n  help: leave `link` out"
                ));
            }
            continue;
        }
        add(&tree, Path::new("usr"), out, name, &mut owners)?;
    }
    Ok(())
}

fn add<'a>(
    tree: &Path,
    inside: &Path,
    out: &Path,
    name: &'a str,
    owners: &mut BTreeMap<PathBuf, &'a str>,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot join {}: {error}", inside.display());
    let Ok(entries) = fs::read_dir(tree.join(inside)) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = inside.join(entry.file_name());
        let (from, to) = (tree.join(&path), out.join(&path));
        let status = fs::symlink_metadata(&from).map_err(failed)?;
        if status.is_dir() {
            fs::create_dir_all(&to).map_err(failed)?;
            add(tree, &path, out, name, owners)?;
            continue;
        }
        if fs::symlink_metadata(&to).is_ok() {
            if !is_same(&from, &to).map_err(failed)? {
                let owner = owners.get(&path).map_or_else(
                    || "the distribution's packages".to_owned(),
                    |owner| format!("library {owner}"),
                );
                return Err(format!(
                    "{owner} and library {name} both have /{}, and they differ\n  help: build \
                     with one of the two: take the other out of `libraries` or `needs`",
                    path.display()
                ));
            }
            continue;
        }
        duplicate(&from, &to).map_err(text)?;
        owners.insert(path, name);
    }
    Ok(())
}

/// Takes from `out` each `lib*.so` of `tree` that has an archive beside it. Returns how many.
fn keep_archives(tree: &Path, out: &Path) -> Result<usize, String> {
    let failed = |error: io::Error| format!("cannot look into {}: {error}", tree.display());
    let mut removed = 0;
    for entry in fs::read_dir(tree).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let to = out.join(entry.file_name());
        if entry.file_type().map_err(failed)?.is_dir() {
            removed += keep_archives(&entry.path(), &to)?;
        } else if to.extension().is_some_and(|ending| ending == "so")
            && to.with_extension("a").is_file()
            && fs::symlink_metadata(&to).is_ok()
        {
            fs::remove_file(&to).map_err(failed)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (a, b) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    if a.is_symlink() || b.is_symlink() {
        return Ok(a.is_symlink()
            && b.is_symlink()
            && fs::read_link(one)? == fs::read_link(other)?);
    }
    Ok(a.len() == b.len() && fs::read(one)? == fs::read(other)?)
}

/// Copies files of the project to where libraries belong, and checks them.
pub fn install_files(
    engine: &Engine,
    files: &[ProjectFile],
    product: &LibraryProduct,
    out: &Path,
) -> Result<(), String> {
    for file in files {
        let (from, to) = (engine.project.join(&file.from), out.join(&file.to));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(text)?;
        }
        let digest = copy_file(&from, &to)
            .map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
        if digest != file.digest {
            return Err(format!(
                "{} has another content than its `sha256` says\n  expected {}\n  found    {}\n  \
                 help: if the new file is right, write its hash",
                file.from,
                file.digest.hex(),
                digest.hex()
            ));
        }
    }
    let folder = out.join(&product.folder);
    for name in product.libraries.iter().filter(|_| product.shared) {
        let link = folder.join(format!("lib{name}.so"));
        if link.exists() {
            continue;
        }
        let versioned = format!("lib{name}.so.");
        let mut found: Vec<String> = files_of(&folder).map_err(text)?;
        found.retain(|file| file.starts_with(&versioned));
        if let [only] = found.as_slice() {
            std::os::unix::fs::symlink(only, &link).map_err(text)?;
        }
    }
    check(product, out, out)
}

fn files_of(folder: &Path) -> io::Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Refuses an output that lacks what was declared, or holds code for another target. `left`
/// is everything that the build left, also what was not taken over.
pub fn check(product: &LibraryProduct, out: &Path, left: &Path) -> Result<(), String> {
    let target = by_platform(&product.platform)
        .ok_or_else(|| format!("no target for {}", product.platform))?;
    let folder = out.join(&product.folder);
    let mut problems = Vec::new();
    for name in &product.libraries {
        for (wanted, ending) in [(product.shared, "so"), (product.archives, "a")] {
            let file = format!("lib{name}.{ending}");
            if wanted && !folder.join(&file).is_file() {
                problems.push(format!("it left no /{}/{file}", product.folder));
            }
        }
    }
    for path in product.paths.iter().filter(|path| !out.join(path).exists()) {
        problems.push(format!("it left no /{path}"));
    }
    if !problems.is_empty() {
        let helps = helps(product, out, left).map_err(text)?;
        return Err(format!("{}\n  help: {}", problems.join("\n"), helps.join("\n  help: ")));
    }
    for name in files_of(&folder).map_err(text)? {
        for (member, facts) in code(&folder.join(&name)) {
            if let Some((_, problem)) = mismatch(&facts, target) {
                let member = member.map_or_else(String::new, |member| format!("({member})"));
                problems.push(format!("/{}/{name}{member} {problem}", product.folder));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let help = if left == out {
        "the files of another platform stand under this one's name"
    } else {
        "`$CC`, `$CXX`, `$AR` and `$LD` are for the target; `cc` and `gcc` alone are for the \
         machine that builds"
    };
    Err(format!("{}\n  help: {help}", problems.join("\n")))
}

/// What to do about files that are missing, by what is there instead.
fn helps(product: &LibraryProduct, out: &Path, left: &Path) -> io::Result<Vec<String>> {
    let there = files_of(&left.join(&product.folder))?;
    let has = |file: &String| there.contains(file);
    let mut helps = Vec::new();
    let mut unexplained = false;
    for name in &product.libraries {
        let (link, archive) = (format!("lib{name}.so"), format!("lib{name}.a"));
        let versioned = there.iter().find(|file| file.starts_with(&format!("{link}.")));
        let lacks = |file: &str| !out.join(&product.folder).join(file).is_file();
        if product.shared && lacks(&link) {
            match versioned {
                Some(file) => helps.push(format!(
                    "it left {file}, and programs are linked by the name {link}: install a link"
                )),
                None if has(&archive) => helps.push(format!(
                    "it left {archive} alone: turn shared libraries on in its options, or take \
                     the archive with `link = \"static\"`"
                )),
                None => unexplained = true,
            }
        }
        if product.archives && lacks(&archive) {
            match versioned.cloned().or_else(|| Some(link.clone()).filter(has)) {
                Some(file) => helps.push(format!(
                    "it left {file} alone: turn archives on in its options, or take the shared \
                     library with `link = \"shared\"`"
                )),
                None => unexplained = true,
            }
        }
    }
    if unexplained {
        let is_library = |name: &&String| name.contains(".so") || name.ends_with(".a");
        let libraries: Vec<&str> = there.iter().filter(is_library).map(String::as_str).collect();
        helps.push(match libraries.as_slice() {
            [] => format!(
                "it left no library in /{}: the build has to install below DESTDIR, with the \
                 prefix /usr",
                product.folder
            ),
            names => format!(
                "in /{} it left {}; `libraries` says which are expected",
                product.folder,
                names.join(", ")
            ),
        });
    }
    for path in product.paths.iter().filter(|path| !out.join(path).exists()) {
        let folder = match path.strip_prefix("usr/include/") {
            Some(_) => "usr/include",
            None => path.rsplit_once('/').map_or("", |(folder, _)| folder),
        };
        let there = files_of(&left.join(folder))?;
        let list = if there.is_empty() { "nothing".to_owned() } else { there.join(", ") };
        let help = format!("in /{folder} it left {list}");
        if !helps.contains(&help) {
            helps.push(help);
        }
    }
    Ok(helps)
}

/// The code in a file: of itself, or of the first object of each kind in an archive.
fn code(file: &Path) -> Vec<(Option<String>, ElfFacts)> {
    if fs::symlink_metadata(file).is_ok_and(|status| !status.is_file()) {
        return Vec::new();
    }
    let Ok(opened) = fs::File::open(file) else { return Vec::new() };
    if file.extension().is_some_and(|ending| ending == "a") {
        return elf::archive_members(opened)
            .into_iter()
            .map(|(name, facts)| (Some(name), facts))
            .collect();
    }
    elf::facts(opened).map(|facts| (None, facts)).into_iter().collect()
}

/// The shared libraries of a folder: what goes into an image, and what links it needs there.
pub struct SharedLibraries {
    /// Files by name.
    pub files: Vec<String>,
    /// Links by name, with their text.
    pub links: Vec<(String, String)>,
}

/// The files of `folder` that programs find at run time, each by its SONAME.
pub fn shared_libraries(folder: &Path) -> io::Result<SharedLibraries> {
    let mut found = SharedLibraries { files: Vec::new(), links: Vec::new() };
    for name in files_of(folder)? {
        let path = folder.join(&name);
        if !fs::symlink_metadata(&path)?.is_file() || !name.contains(".so") {
            continue;
        }
        let Some(facts) = elf::facts(fs::File::open(&path)?) else { continue };
        if let Some(soname) = facts.soname.filter(|soname| *soname != name) {
            found.links.push((soname, name.clone()));
        }
        found.files.push(name);
    }
    Ok(found)
}
