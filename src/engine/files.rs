//! Files of images: what the entries of `files` come to for each platform, and packing them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::Engine;
use super::execute::text;
use super::files_found::{Finder, Found, Sought};
use super::resolve::Resolver;
use super::secrets::{self, Mark};
use super::sources::is_executable;
use crate::archive::path::merged;
use crate::config::{Base, FileContent, FileEntry, Project, check_link, image_order};
use crate::image::filesystem::{Filesystem, Kind, Node, Source};
use crate::model::action::{LayerMember, MemberKind};
use crate::model::capability::ATTRIBUTE;
use crate::model::event::Event;
use crate::model::template::{Values, fill, is_of_version};
use crate::model::{Digest, Finding, Place};
use crate::plan::facts::ImageFiles;
use crate::plan::images::INSTALL_FOLDER;
use crate::store::{copy_file, write_atomically};
use crate::toolchain::description::Description;

/// Folders that every system has: an entry that fills one does not own it.
const SYSTEM_FOLDERS: [&str; 38] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/etc",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/local/share",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/spool",
    "/var/tmp",
];

/// A member, and the entry that gives it.
struct Given {
    member: LayerMember,
    entry: usize,
    /// Whether it is a folder only because something is in it.
    implied: bool,
}

/// What is remembered of files' content: marks by digest, of those with any known.
#[derive(Default)]
pub struct Marks {
    known: BTreeMap<Digest, BTreeSet<Mark>>,
    used: BTreeMap<Digest, BTreeSet<Mark>>,
}

impl Resolver<'_> {
    /// Files of every image. `version` is missing where that is a problem already.
    pub(super) fn files(
        &mut self,
        project: &Project,
        targets: &[&'static Description],
        version: Option<&str>,
    ) -> BTreeMap<String, ImageFiles> {
        let memory = self.engine.project_state.join("secrets.json");
        let known = fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (of, known) = known.unwrap_or((0, BTreeMap::new()));
        let known = if of == secrets::VERSION { known } else { BTreeMap::new() };
        let mut marks = Marks { known, used: BTreeMap::new() };
        let mut all = BTreeMap::new();
        for name in image_order(project) {
            let files = self.image_files(project, &name, targets, version, &mut marks);
            all.insert(name, files);
        }
        if marks.used != marks.known {
            let bytes = serde_json::to_vec(&(secrets::VERSION, &marks.used));
            // Without, files are only read again.
            let _ = write_atomically(&memory, &bytes.expect("marks have string keys only"));
        }
        all
    }

    fn image_files(
        &mut self,
        project: &Project,
        image: &str,
        targets: &[&'static Description],
        version: Option<&str>,
        marks: &mut Marks,
    ) -> ImageFiles {
        let entries = &project.images[image].files;
        let start = self.findings.len();
        let is_merged = stands_on_packages(project, image);
        let mut common = Vec::new();
        let mut own: BTreeMap<&str, Vec<Given>> = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            if version.is_none() && entry.templates().iter().any(|text| is_of_version(text)) {
                continue;
            }
            let before = self.findings.len();
            let mut allowed = BTreeSet::new();
            let version = version.unwrap_or_default();
            let wanted: Vec<Option<&'static Description>> = match entry.is_of_platform() {
                true => targets.iter().copied().map(Some).collect(),
                false => vec![None],
            };
            for target in wanted {
                let names = target.map(|target| (&target.platform, target.triple.as_str()));
                let values = Values { target: names, version };
                let given = self.entry(image, entry, &values, marks, &mut allowed);
                let given = given.into_iter().map(|(mut member, implied)| {
                    if is_merged {
                        member.to = format!("/{}", merged(&member.to[1..]));
                    }
                    Given { member, entry: index, implied }
                });
                match target {
                    Some(target) => own.entry(&target.triple).or_default().extend(given),
                    None => common.extend(given),
                }
            }
            let unused = entry.allow_secrets.iter().filter(|path| !allowed.contains(*path));
            for path in unused.collect::<Vec<_>>() {
                let message = format!(
                    "image {image}: `allow-secrets` names `{path}`, which the entry does not copy"
                );
                self.findings.push(Finding::new("unknown-file", message));
            }
            self.place_findings(before, &entry.place);
        }
        let binaries = &project.images[image].binaries;
        let all = self.merge(image, entries, binaries, common.iter());
        let of_common = all.into_values().map(|given| given.member.clone()).collect();
        let mut files = ImageFiles { common: of_common, own: BTreeMap::new() };
        for target in targets {
            let Some(of_target) = own.remove(target.triple.as_str()) else { continue };
            let all = self.merge(image, entries, binaries, common.iter().chain(&of_target));
            let mut paths: BTreeSet<&str> = BTreeSet::new();
            for given in &of_target {
                let path = given.member.to.as_str();
                // And the folders above, as the layer of all platforms has them.
                let parents = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
                paths.extend(parents.chain([path]));
            }
            let members = paths.into_iter().filter_map(|path| all.get(path));
            let members = members.map(|given| given.member.clone()).collect();
            files.own.insert(target.platform.clone(), members);
        }
        self.findings[start..].sort_by(|a, b| a.place.cmp(&b.place));
        files
    }

    /// Gives findings since `before` a place, and takes out those that are told twice.
    fn place_findings(&mut self, before: usize, place: &Place) {
        let mut fresh: Vec<Finding> = Vec::new();
        for mut finding in self.findings.split_off(before) {
            finding.place.get_or_insert_with(|| place.clone());
            if !fresh.contains(&finding) {
                fresh.push(finding);
            }
        }
        self.findings.append(&mut fresh);
    }

    /// What an entry comes to. Paths of allowed secrets that it has are added to `allowed`.
    fn entry(
        &mut self,
        image: &str,
        entry: &FileEntry,
        values: &Values<'_>,
        marks: &mut Marks,
        allowed: &mut BTreeSet<String>,
    ) -> Vec<(LayerMember, bool)> {
        let to = fill(&entry.to, values);
        let Some(place) = destination(&to) else {
            self.problem(
                "invalid-value",
                &format!("image {image}: a path in the image can have no `..`, this is `{to}`"),
            );
            return Vec::new();
        };
        let member = |to: &str, kind: MemberKind, mode: u32| LayerMember {
            to: if to.is_empty() { "/".to_owned() } else { to.to_owned() },
            kind,
            mode,
            owner: entry.owner.unwrap_or((0, 0)),
            capabilities: None,
        };
        let source = match &entry.content {
            FileContent::Folder => {
                let mode = entry.mode.unwrap_or(0o755);
                return vec![(member(&place, MemberKind::Folder, mode), false)];
            }
            FileContent::Link(target) => {
                let target = fill(target, values);
                if let Err(why) = check_link(&place, &target) {
                    let message = format!("image {image}: the link `{place}`: {why}");
                    self.problem("invalid-value", &message);
                }
                return vec![(member(&place, MemberKind::Link { target }, 0o777), false)];
            }
            FileContent::Copy(source) => {
                let (platform, triple) =
                    values.target.map_or_else(Default::default, |(platform, triple)| {
                        (platform.to_string(), triple)
                    });
                let Some(from) = source.of(&platform, triple) else { return Vec::new() };
                fill(from, values)
            }
        };
        let sought = Sought { from: &source, exclude: &entry.exclude };
        let mut finder = Finder::new(self.folder);
        let found = finder.find(&sought);
        for (code, message, help) in finder.problems {
            let finding = Finding::new(code, format!("image {image}: {message}"));
            self.findings.push(match help {
                Some(help) => finding.help(help),
                None => finding,
            });
        }
        for text in finder.warnings {
            self.engine.tell(Event::Warning { text: format!("image {image}: {text}") });
        }
        let is_single = matches!(found.as_slice(), [Found { inside, .. }] if inside.is_empty());
        let mut members = Vec::new();
        for Found { path, inside, kind } in found {
            // A file goes to the path itself, or into a folder by its own name.
            let own_name = path.rsplit('/').next().unwrap_or_default();
            let at = match (is_single, to.ends_with('/') || place.is_empty()) {
                (true, false) => place.clone(),
                (true, true) if !matches!(kind, MemberKind::Folder) => {
                    format!("{place}/{own_name}")
                }
                _ if inside.is_empty() => place.clone(),
                _ => format!("{place}/{inside}"),
            };
            match kind {
                MemberKind::Folder => {
                    if !SYSTEM_FOLDERS.contains(&at.as_str()) && !at.is_empty() {
                        let mode = entry.folder_mode.unwrap_or(0o755);
                        members.push((member(&at, MemberKind::Folder, mode), true));
                    }
                }
                MemberKind::Link { target } => {
                    if let Err(why) = check_link(&at, &target) {
                        let message = format!("image {image}: the link `{path}` as `{at}`: {why}");
                        self.problem("outside-image", &message);
                    }
                    members.push((member(&at, MemberKind::Link { target }, 0o777), false));
                }
                MemberKind::File { .. } => {
                    let file = self.folder.join(&path);
                    let looked_at = fs::metadata(&file).and_then(|status| {
                        Ok((self.index.digest_of(&file, &status)?, is_executable(&status)))
                    });
                    let (digest, executable) = match looked_at {
                        Ok(looked_at) => looked_at,
                        Err(error) => {
                            let message = format!("image {image}: cannot read `{path}`: {error}");
                            self.problem("missing-file", &message);
                            continue;
                        }
                    };
                    if entry.allow_secrets.contains(&path) {
                        allowed.insert(path.clone());
                    } else {
                        self.refuse_secret(image, &path, digest, marks);
                    }
                    let mode = entry.mode.unwrap_or(if executable { 0o755 } else { 0o644 });
                    let mut file = member(&at, MemberKind::File { from: path, digest }, mode);
                    file.capabilities = entry.capabilities;
                    members.push((file, false));
                }
            }
        }
        members
    }

    fn refuse_secret(&mut self, image: &str, path: &str, digest: Digest, marks: &mut Marks) {
        let found = match marks.used.get(&digest).or_else(|| marks.known.get(&digest)) {
            Some(found) => Ok(found.clone()),
            None => fs::File::open(self.folder.join(path)).and_then(secrets::marks),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let message = format!("image {image}: cannot read `{path}`: {error}");
                self.problem("missing-file", &message);
                return;
            }
        };
        if let Some(what) = secrets::secret(path, &found) {
            let message = format!("image {image}: `{path}` looks like {what}");
            self.findings.push(Finding::new("secret", message).help(format!(
                "whoever has the image has it: give it to the container when that runs, or leave \
                 it out with `exclude`; if it is none, or meant to be there, add \
                 `allow-secrets = [\"{path}\"]` to the entry"
            )));
        }
        marks.used.insert(digest, found);
    }

    /// All members by path, each once.
    fn merge<'a>(
        &mut self,
        image: &str,
        entries: &[FileEntry],
        binaries: &[String],
        given: impl Iterator<Item = &'a Given>,
    ) -> BTreeMap<&'a str, &'a Given> {
        let mut all: BTreeMap<&str, &Given> = BTreeMap::new();
        let mut problems = Vec::new();
        for given in given {
            let path = given.member.to.as_str();
            let Some(&other) = all.get(path) else {
                all.insert(path, given);
                continue;
            };
            let folders =
                [given, other].iter().all(|given| given.member.kind == MemberKind::Folder);
            if !folders || (!given.implied && !other.implied) {
                problems.push((
                    given.entry,
                    format!("two entries of `files` give `{path}`"),
                    other.entry,
                ));
            } else if other.implied && !given.implied {
                all.insert(path, given);
            }
        }
        for (path, given) in &all {
            for (at, _) in path.match_indices('/').skip(1) {
                if let Some(other) = all.get(&path[..at])
                    && other.member.kind != MemberKind::Folder
                {
                    let message =
                        format!("`{path}` cannot be in `{}`, which is no folder", &path[..at]);
                    problems.push((given.entry, message, other.entry));
                }
            }
        }
        let mut findings: Vec<Finding> = problems
            .into_iter()
            .map(|(entry, message, other)| {
                let place = &entries[other].place;
                let message = format!("image {image}: {message}");
                let finding = Finding::new("two-files", message).at(entries[entry].place.clone());
                finding.help(format!("the other entry is at {place}"))
            })
            .collect();
        for binary in binaries {
            if let Some(given) = all.get(format!("{INSTALL_FOLDER}/{binary}").as_str()) {
                let message = format!(
                    "image {image}: `{}` is where the binary `{binary}` goes",
                    given.member.to
                );
                let place = entries[given.entry].place.clone();
                findings.push(Finding::new("two-files", message).at(place));
            }
        }
        for finding in findings {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        all
    }
}

/// An absolute path without `.` and slashes too many, empty for the root; nothing if it has
/// `..`.
fn destination(to: &str) -> Option<String> {
    let parts: Vec<&str> = to.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let path: String = parts.iter().flat_map(|part| ["/", part]).collect();
    (!parts.contains(&"..")).then_some(path)
}

/// Whether an image stands on packages, whose `/bin` and `/lib` are links into `/usr`.
fn stands_on_packages(project: &Project, image: &str) -> bool {
    match project.images.get(image).map(|image| &image.from) {
        Some(Base::Image(base)) => stands_on_packages(project, base),
        Some(Base::Packages { .. }) => true,
        _ => false,
    }
}

/// The members as a file system. Files are copied beside `out`, so that what is packed is what
/// was checked.
pub fn collect(engine: &Engine, members: &[LayerMember], out: &Path) -> Result<Filesystem, String> {
    let mut files = Filesystem::default();
    let copies = out.with_extension("files");
    fs::create_dir(&copies).map_err(text)?;
    for (index, member) in members.iter().enumerate() {
        let kind = match &member.kind {
            MemberKind::Folder => Kind::Folder,
            MemberKind::Link { target } => Kind::Link(target.clone()),
            MemberKind::File { from, digest } => {
                let path = engine.project.join(from);
                let copy = copies.join(index.to_string());
                let copied = copy_file(&path, &copy)
                    .map_err(|error| format!("cannot copy {}: {error}", path.display()))?;
                if copied != *digest {
                    return Err(format!("{from} changed while the build ran; run it again"));
                }
                Kind::File(Source::Path(copy))
            }
        };
        let mut node = Node::new(kind, member.mode);
        node.owner = member.owner;
        if let Some(capabilities) = &member.capabilities {
            node.attributes.insert(ATTRIBUTE.to_owned(), capabilities.attribute());
        }
        files.nodes.insert(member.to.trim_start_matches('/').to_owned(), node);
    }
    Ok(files)
}
