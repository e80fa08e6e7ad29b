//! A root file system grown in stages: trees of packages come in, what their scripts would do
//! is done as data, and the users and links of an image are there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

use super::accounts::{Accounts, Wanted};
use super::filesystem::{Filesystem, Kind, Node};
use super::root;
use super::scripts::Operation;
use crate::archive::path::merged;
use crate::model::capability::{ATTRIBUTE, Capabilities};

/// What is kept beside the files of packages, because files on disk cannot have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Numbers of users and groups by path, of members that do not belong to 0 and 0.
    pub owners: BTreeMap<String, (u64, u64)>,
    /// What scripts would do, by package.
    pub operations: Vec<(String, Operation)>,
}

/// Name of the file that holds a [`Record`] in a tree of packages. No package has it.
pub const RECORD: &str = ".xstitch-record.json";

/// A root file system in the making.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// What is there.
    pub files: Filesystem,
    furnished: bool,
    accounts: Option<Accounts>,
    /// Files of a base that others made.
    texts: BTreeMap<String, String>,
    /// Candidates by generic name: all that ever came.
    alternatives: BTreeMap<String, Vec<Candidate>>,
}

#[derive(Clone, Debug)]
struct Candidate {
    link: String,
    path: String,
    priority: i64,
    slaves: Vec<(String, String, String)>,
}

impl Root {
    /// An empty one. `furnished` tells whether it is the root of an image, and not a few
    /// files on top of nothing.
    pub fn new(furnished: bool) -> Self {
        Self { furnished, ..Self::default() }
    }

    /// What goes onto a base that others made, of which these files may get more lines.
    pub fn on_base(texts: BTreeMap<String, String>) -> Self {
        let text = |path: &str| texts.get(path).map(String::as_str);
        let accounts = match (text("etc/passwd"), text("etc/group")) {
            (None, None) => None,
            (passwd, group) => {
                Some(Accounts::parse(passwd.unwrap_or_default(), group.unwrap_or_default()))
            }
        };
        Self { accounts, texts, ..Self::default() }
    }

    /// Adds the files of packages, without doing anything else.
    pub fn unpack(&mut self, tree: Filesystem, record: &Record) {
        for (path, mut node) in tree.nodes {
            if path == RECORD {
                continue;
            }
            if let Some(owner) = record.owners.get(&path) {
                node.owner = *owner;
            }
            let both_folders = matches!(node.kind, Kind::Folder)
                && self.files.nodes.get(&path).is_some_and(|old| old.kind == Kind::Folder);
            if !both_folders {
                self.files.nodes.insert(path, node);
            }
        }
    }

    /// Does what every image needs, and `operations` of the packages that came.
    pub fn settle(&mut self, operations: &[(String, Operation)]) -> Result<(), String> {
        if self.furnished {
            root::furnish(&mut self.files);
        }
        root::trust(&mut self.files).map_err(|error| error.to_string())?;
        let mut accounts = match self.accounts.take() {
            Some(accounts) => accounts,
            None => self.first_accounts().map_err(|error| error.to_string())?,
        };
        let before = accounts.clone();
        self.add_accounts(&mut accounts, operations);
        for (package, operation) in operations {
            self.apply(operation, &mut accounts).map_err(|why| format!("{package}: {why}"))?;
        }
        self.link_alternatives();
        self.list_shells();
        if self.furnished || accounts != before {
            self.files.add_bytes("etc/passwd", accounts.passwd(), 0o644);
            self.files.add_bytes("etc/group", accounts.group_file(), 0o644);
        }
        self.accounts = Some(accounts);
        self.files.add_parents();
        Ok(())
    }

    /// The members that `below` has not, with the folders that they are in.
    pub fn above(&self, below: &Filesystem) -> Filesystem {
        let mut own = Filesystem::default();
        for (path, node) in &self.files.nodes {
            if below.nodes.get(path) == Some(node) {
                continue;
            }
            for (at, _) in path.match_indices('/') {
                if let Some(parent) = self.files.nodes.get(&path[..at]) {
                    own.nodes.entry(path[..at].to_owned()).or_insert_with(|| parent.clone());
                }
            }
            own.nodes.insert(path.clone(), node.clone());
        }
        own
    }

    /// Users that every image has, and those of the package that brings a list of them.
    fn first_accounts(&self) -> io::Result<Accounts> {
        let mut accounts = Accounts::default();
        let text = |path: &str| {
            let bytes = self.files.bytes(path).transpose()?;
            io::Result::Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let (passwd, group) = (
            text("usr/share/base-passwd/passwd.master")?,
            text("usr/share/base-passwd/group.master")?,
        );
        if let (Some(passwd), Some(group)) = (passwd, group) {
            let mut first = Accounts::parse(&passwd, &group);
            first.join(&accounts);
            accounts = first;
        }
        Ok(accounts)
    }

    fn add_accounts(&mut self, accounts: &mut Accounts, operations: &[(String, Operation)]) {
        let (mut users, mut groups, mut members) = (Vec::new(), Vec::new(), Vec::new());
        for (_, operation) in operations {
            match operation {
                Operation::Group { name } => groups.push(name.clone()),
                Operation::User { name, group, home, shell, comment, .. } => users.push(Wanted {
                    name: name.clone(),
                    number: None,
                    group: group.clone(),
                    comment: comment.clone(),
                    home: home.clone(),
                    shell: shell.clone(),
                }),
                Operation::Member { user, group } => members.push((user.clone(), group.clone())),
                Operation::Sysusers { name } => {
                    let text = self.text(&format!("usr/lib/sysusers.d/{name}"));
                    sysusers(&text.unwrap_or_default(), &mut users, &mut groups, &mut members);
                }
                _ => {}
            }
        }
        // Two packages may ask for one user.
        let mut seen = BTreeSet::new();
        users.retain(|user| seen.insert(user.name.clone()));
        accounts.add(&users, &groups);
        for (user, group) in members {
            accounts.join_group(&user, &group);
        }
    }

    fn text(&self, path: &str) -> Option<String> {
        match self.files.bytes(path) {
            Some(bytes) => Some(String::from_utf8_lossy(&bytes.ok()?).into_owned()),
            None => self.texts.get(path).cloned(),
        }
    }

    fn apply(&mut self, operation: &Operation, accounts: &mut Accounts) -> Result<(), String> {
        match operation {
            Operation::Alternative { name, link, path, priority, slaves } => {
                let candidates = self.alternatives.entry(name.clone()).or_default();
                candidates.retain(|known| known.path != *path);
                candidates.push(Candidate {
                    link: link.clone(),
                    path: path.clone(),
                    priority: *priority,
                    slaves: slaves.clone(),
                });
            }
            Operation::Link { path, target } => {
                let path = place(path);
                if !self.files.nodes.contains_key(&path) {
                    self.files.add_link(&path, target);
                }
            }
            Operation::Folder { path, mode, owner, new } => {
                let path = place(path);
                if *new && self.files.nodes.contains_key(&path) {
                    return Ok(());
                }
                self.files.nodes.entry(path.clone()).or_insert(Node::new(Kind::Folder, 0o755));
                self.change(&path, mode.as_deref(), owner.as_deref(), accounts)?;
            }
            Operation::File { path, text, mode, owner } => {
                let path = place(path);
                if !self.files.nodes.contains_key(&path) {
                    self.files.add_bytes(&path, text.as_str(), 0o644);
                    self.change(&path, mode.as_deref(), owner.as_deref(), accounts)?;
                }
            }
            Operation::Copy { from, path } => {
                let (from, path) = (place(from), place(path));
                if let Some(node) = self.files.nodes.get(&from).cloned()
                    && !self.files.nodes.contains_key(&path)
                {
                    self.files.nodes.insert(path, node);
                }
            }
            Operation::Mode { path, mode, owner, recursive } => {
                let path = place(path);
                let mut paths = vec![path.clone()];
                if *recursive {
                    let within = format!("{path}/");
                    let all = self.files.nodes.iter();
                    let inside = all.filter(|(path, node)| {
                        path.starts_with(&within) && !matches!(node.kind, Kind::Link(_))
                    });
                    paths.extend(inside.map(|(path, _)| path.clone()));
                }
                for path in &paths {
                    self.change(path, mode.as_deref(), owner.as_deref(), accounts)?;
                }
            }
            Operation::User { name, home, create_home, .. } => {
                let home = place(home);
                if *create_home && !self.files.nodes.contains_key(&home) {
                    self.files.add_folder(&home, 0o755);
                    self.change(&home, None, Some(&format!("{name}:")), accounts)?;
                }
            }
            Operation::Capability { path, capabilities } => {
                let value = Capabilities::parse(&[capabilities])
                    .map_err(|error| format!("{path}: {error}"))?;
                if let Some(node) = self.files.nodes.get_mut(&place(path)) {
                    node.attributes.insert(ATTRIBUTE.to_owned(), value.attribute());
                }
            }
            Operation::Tmpfiles { name } => {
                let text = self.text(&format!("usr/lib/tmpfiles.d/{name}")).unwrap_or_default();
                for operation in tmpfiles(&text) {
                    self.apply(&operation, accounts)?;
                }
            }
            Operation::Shell { path } => {
                let mut text = self.text("etc/shells").unwrap_or_default();
                if !text.lines().any(|line| line == path) {
                    if !text.is_empty() && !text.ends_with('\n') {
                        text.push('\n');
                    }
                    text.push_str(path);
                    text.push('\n');
                    self.files.add_bytes("etc/shells", text, 0o644);
                }
            }
            Operation::Group { .. } | Operation::Member { .. } | Operation::Sysusers { .. } => {}
        }
        Ok(())
    }

    /// Adds shells that packages have to the list of them (`update-shells(8)`).
    fn list_shells(&mut self) {
        let folder = "usr/share/debianutils/shells.d/";
        let paths: Vec<String> =
            self.files.nodes.keys().filter(|path| path.starts_with(folder)).cloned().collect();
        let Some(mut text) = self.text("etc/shells").filter(|_| !paths.is_empty()) else { return };
        let before = text.clone();
        let lists: Vec<String> = paths.iter().filter_map(|path| self.text(path)).collect();
        for shell in lists.iter().flat_map(|list| list.lines()).filter(|l| l.starts_with('/')) {
            for path in [shell.to_owned(), format!("/{}", place(shell))] {
                if !text.lines().any(|line| line == path) {
                    text.push_str(&path);
                    text.push('\n');
                }
            }
        }
        if text != before {
            self.files.add_bytes("etc/shells", text, 0o644);
        }
    }

    fn change(
        &mut self,
        path: &str,
        mode: Option<&str>,
        owner: Option<&str>,
        accounts: &mut Accounts,
    ) -> Result<(), String> {
        let Some(node) = self.files.nodes.get_mut(path) else { return Ok(()) };
        if let Some(owner) = owner {
            node.owner = accounts
                .owner(owner, node.owner)
                .ok_or_else(|| format!("/{path} belongs to `{owner}`, whom nobody made"))?;
        }
        if let Some(mode) = mode {
            node.mode = match mode {
                "u+s" => node.mode | 0o4000,
                "u-s" => node.mode & !0o4000,
                "g+s" => node.mode | 0o2000,
                "g-s" => node.mode & !0o2000,
                "a+x" | "+x" => node.mode | 0o111,
                octal => u32::from_str_radix(octal, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| format!("`{octal}` is no mode of /{path}"))?,
            };
        }
        Ok(())
    }

    /// Links generic names to the best candidate that is there (`update-alternatives(1)`).
    fn link_alternatives(&mut self) {
        let mut links = Vec::new();
        for (name, candidates) in &self.alternatives {
            let there = |path: &str| self.files.nodes.contains_key(&place(path));
            let mut best: Option<&Candidate> = None;
            for candidate in candidates.iter().filter(|candidate| there(&candidate.path)) {
                if best.is_none_or(|best| candidate.priority > best.priority) {
                    best = Some(candidate);
                }
            }
            let Some(best) = best else { continue };
            let main = (best.link.clone(), name.clone(), best.path.clone());
            let slaves = best.slaves.iter().filter(|(_, _, path)| there(path)).cloned();
            links.extend([main].into_iter().chain(slaves));
        }
        for (link, name, path) in links {
            let place = place(&link);
            // What a package has there by itself stays.
            let is_own = match self.files.nodes.get(&place).map(|node| &node.kind) {
                None => true,
                Some(Kind::Link(target)) => target.starts_with("/etc/alternatives/"),
                Some(_) => false,
            };
            if is_own {
                self.files.add_link(&place, &format!("/etc/alternatives/{name}"));
                self.files.add_link(&format!("etc/alternatives/{name}"), &path);
            }
        }
    }
}

/// The place of an absolute path in the root.
fn place(path: &str) -> String {
    let path = merged(path.trim_matches('/'));
    for (old, new) in [("var/run/", "run/"), ("var/lock/", "run/lock/")] {
        if let Some(rest) = path.strip_prefix(old) {
            return format!("{new}{rest}");
        }
    }
    path
}

/// What lines of `tmpfiles.d(5)` make; those that clean up, or are for the time when a machine
/// starts, make nothing.
fn tmpfiles(text: &str) -> Vec<Operation> {
    let mut operations = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [kind, path, rest @ ..] = fields.as_slice() else { continue };
        if path.contains('%') || kind.contains('!') {
            continue;
        }
        let field = |at: usize| rest.get(at).filter(|field| **field != "-").copied();
        let mode = field(0).map(str::to_owned);
        let owner = (field(1).is_some() || field(2).is_some())
            .then(|| format!("{}:{}", field(1).unwrap_or("root"), field(2).unwrap_or("root")));
        let path = (*path).to_owned();
        operations.extend(match kind.trim_end_matches(['+', '-', '=', '$', '~', '^']) {
            "d" | "D" | "v" | "q" | "Q" => {
                Some(Operation::Folder { path, mode, owner, new: false })
            }
            "f" | "F" => {
                let text = rest.get(4..).unwrap_or_default().join(" ");
                Some(Operation::File { path, text, mode, owner })
            }
            "L" => field(4).map(|target| Operation::Link { path, target: target.to_owned() }),
            "z" | "m" => Some(Operation::Mode { path, mode, owner, recursive: false }),
            _ => None,
        });
    }
    operations
}

/// Users and groups of lines of `sysusers.d(5)`.
fn sysusers(
    text: &str,
    users: &mut Vec<Wanted>,
    groups: &mut Vec<String>,
    members: &mut Vec<(String, String)>,
) {
    for line in text.lines() {
        // The comment is in quotes.
        let mut quoted = line.splitn(3, '"');
        let (before, comment) = (quoted.next().unwrap_or_default(), quoted.next());
        let mut fields: Vec<&str> = before.split_whitespace().collect();
        if let Some(comment) = comment {
            fields.push(comment);
            fields.extend(quoted.next().unwrap_or_default().split_whitespace());
        }
        let [kind, name, rest @ ..] = fields.as_slice() else { continue };
        let field = |at: usize| rest.get(at).filter(|field| **field != "-").copied();
        match *kind {
            "u" | "u!" => {
                let id = field(0).unwrap_or_default();
                let (number, group) = id.split_once(':').map_or((id, None), |(n, g)| (n, Some(g)));
                users.push(Wanted {
                    name: (*name).to_owned(),
                    number: number.parse().ok(),
                    group: group.map(str::to_owned),
                    comment: field(1).unwrap_or_default().to_owned(),
                    home: field(2).unwrap_or("/").to_owned(),
                    shell: field(3).unwrap_or("/usr/sbin/nologin").to_owned(),
                });
            }
            "g" => groups.push((*name).to_owned()),
            "m" => {
                members.extend(rest.first().map(|g| ((*name).to_owned(), (*g).to_owned())));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
