//! Sources in repositories: one commit of each, through the machine's git.
//!
//! The user's configuration counts for how to reach a repository (credentials, proxies,
//! other URLs) and for nothing that changes files: a commit gives the same tree everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Engine;
use super::execute::{UnitError, text};
use super::fetch::stop_if_offline;
use crate::archive::source::leaving_link;
use crate::machine::process::{Output, Process};
use crate::model::event::Event;
use crate::model::source::{credentials, local_repository, redacted};

/// Submodules may have submodules; a repository that goes on for ever is no library.
const DEPTH_AT_MOST: usize = 16;

/// What the user's or the machine's configuration must not decide.
const SETTINGS: [&str; 17] = [
    "advice.detachedHead=false",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.bare=false",
    "core.eol=lf",
    "core.fileMode=true",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.ignoreCase=false",
    "core.safecrlf=false",
    "core.sparseCheckout=false",
    "core.symlinks=true",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.version=2",
    "submodule.recurse=false",
];

/// How git says that it could not reach the repository, or may not read it.
const REMOTE_WORDS: [&str; 19] = [
    "' not found",
    "Authentication failed",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Could not read from remote repository",
    "Could not resolve host",
    "Couldn't connect to server",
    "Failed to connect",
    "Host key verification failed",
    "Network is unreachable",
    "Operation timed out",
    "Permission denied (",
    "The requested URL returned error",
    "could not read Password",
    "could not read Username",
    "early EOF",
    "the remote end hung up unexpectedly",
    "unable to access",
];

/// Leaves the files of a commit and of its submodules in `out`, without a repository.
pub(super) fn commit(
    engine: &Engine,
    unit: &str,
    (url, commit): (&str, &str),
    scratch: &Path,
    out: &Path,
) -> Result<(), UnitError> {
    let program = engine.environment.find_program("git").ok_or_else(|| {
        format!("no `git` on PATH to fetch {} with\n  help: install git", redacted(url))
    })?;
    let mut git = Git {
        program,
        environment: environment(engine.environment.for_downloads()),
        scratch,
        is_local: local_repository(url).is_some(),
        repositories: 0,
        reach: &mut |url| {
            if local_repository(url).is_some() {
                return Ok(());
            }
            stop_if_offline(engine)?;
            let to = engine.store.root().join("trees").display().to_string();
            engine.tell(Event::Download { what: redacted(url), size_bytes: None, to });
            Ok(())
        },
        warn: &mut |text| engine.tell(Event::Warning { text: format!("{unit}: {text}") }),
    };
    git.settle_ssh(scratch)?;
    git.checkout(url, commit, out, 0)?;
    if let Some(link) = leaving_link(out).map_err(text)? {
        let url = redacted(url);
        return Err(format!("{url}: the link `{link}` leads out of the sources").into());
    }
    if local_repository(url).is_some() {
        return Ok(());
    }
    let size_bytes = crate::store::describe(out).map_err(text)?.size_bytes();
    engine.tell(Event::Downloaded { what: redacted(url), size_bytes });
    Ok(())
}

/// The variables of git: never a question on a terminal, messages that can be understood.
fn environment(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (name, value) in [
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_LFS_SKIP_SMUDGE", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("LC_ALL", "C"),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables
}

/// The machine's git, on its way through a repository and its submodules.
struct Git<'a> {
    program: PathBuf,
    environment: BTreeMap<String, String>,
    /// Where repositories are kept while they are needed.
    scratch: &'a Path,
    /// Whether the first repository is a folder of this machine.
    is_local: bool,
    /// How many repositories there were.
    repositories: usize,
    /// Asked before each fetch from a URL.
    reach: &'a mut dyn FnMut(&str) -> Result<(), UnitError>,
    warn: &'a mut dyn FnMut(String),
}

/// One repository in scratch, with its files elsewhere.
struct Repository<'a> {
    url: &'a str,
    folder: PathBuf,
    files: &'a Path,
    /// What git may do with folders of this machine, if not what the user configured.
    local: Option<&'static str>,
}

impl Git<'_> {
    /// Keeps ssh from asking on a terminal, unless the user configured a command of their own.
    fn settle_ssh(&mut self, folder: &Path) -> Result<(), UnitError> {
        let asked =
            ["GIT_SSH", "GIT_SSH_COMMAND"].iter().any(|it| self.environment.contains_key(*it));
        let configured = || -> Result<bool, UnitError> {
            let process = self.process(["config", "--get", "core.sshCommand"]).folder(folder);
            Ok(process.output().map_err(text)?.success())
        };
        if !asked && !configured()? {
            let command = "ssh -oBatchMode=yes".to_owned();
            self.environment.insert("GIT_SSH_COMMAND".to_owned(), command);
        }
        Ok(())
    }

    fn process<'b>(&self, arguments: impl IntoIterator<Item = &'b str>) -> Process {
        let mut process = Process::new(&self.program).args(arguments);
        process.environment.clone_from(&self.environment);
        process
    }

    /// A command about a repository.
    fn about(&self, repository: &Repository<'_>, arguments: &[&str]) -> Process {
        let mut process = self.process(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        if let Some(policy) = repository.local {
            process = process.arg("-c").arg(format!("protocol.file.allow={policy}"));
        }
        process
            .arg(format!("--git-dir={}", repository.folder.display()))
            .arg(format!("--work-tree={}", repository.files.display()))
            .args(arguments.iter().copied())
            .folder(repository.files)
    }

    /// Runs a command about a repository that has to end well.
    fn run(&self, repository: &Repository<'_>, arguments: &[&str]) -> Result<String, UnitError> {
        let output = self.about(repository, arguments).output().map_err(text)?;
        if output.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(failure(repository.url, arguments[0], &output))
    }

    fn checkout(
        &mut self,
        url: &str,
        commit: &str,
        files: &Path,
        depth: usize,
    ) -> Result<(), UnitError> {
        let place = redacted(url);
        if url.is_empty() || url.starts_with('-') {
            return Err(format!("`{place}` is no URL of a repository").into());
        }
        if !matches!(commit.len(), 40 | 64) || !commit.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(format!("{place}: `{commit}` is no whole name of a commit").into());
        }
        if depth > DEPTH_AT_MOST {
            return Err(format!("{place}: submodules are more than {DEPTH_AT_MOST} deep").into());
        }
        let folder = self.scratch.join(format!("repository-{}", self.repositories));
        self.repositories += 1;
        // What is fetched from elsewhere must not reach repositories of this machine.
        let local = if self.is_local { Some("always") } else { (depth > 0).then_some("never") };
        let repository = Repository { url, folder: folder.clone(), files, local };
        let format = if commit.len() == 64 { "sha256" } else { "sha1" };
        let process = self
            .process(["init", "--quiet", "--bare", "--template=", "--object-format", format])
            .arg(folder.to_string_lossy())
            .folder(self.scratch);
        let output = process.output().map_err(text)?;
        if !output.success() {
            return Err(failure(url, "init", &output));
        }
        // Filters are programs of the user's; a checkout must not need or notice them.
        let info = folder.join("info");
        fs::create_dir_all(&info)
            .and_then(|()| fs::write(info.join("attributes"), "* -filter\n"))
            .map_err(|error| format!("cannot write in {}: {error}", info.display()))?;
        (self.reach)(url)?;
        self.fetch(&repository, commit)?;
        self.run(&repository, &["checkout", "--quiet", "--force", "--detach", commit])?;
        let head = self.run(&repository, &["rev-parse", "--verify", "HEAD"])?;
        if !head.trim().eq_ignore_ascii_case(commit) {
            let head = head.trim();
            return Err(format!("{place}: `{commit}` is no commit, it leads to {head}").into());
        }
        let attributes = fs::read(files.join(".gitattributes")).unwrap_or_default();
        if String::from_utf8_lossy(&attributes).contains("filter=lfs") {
            (self.warn)(format!("{place} keeps files in Git LFS; they are not fetched"));
        }
        let submodules = self.submodules(&repository)?;
        // From here on only its files are needed.
        fs::remove_dir_all(&folder).map_err(text)?;
        for (path, commit, url) in submodules {
            let files = files.join(path);
            self.checkout(&url, &commit, &files, depth + 1)?;
        }
        Ok(())
    }

    /// Fetches that commit alone or, where the server gives only what has a name, all of it.
    fn fetch(&self, repository: &Repository<'_>, commit: &str) -> Result<(), UnitError> {
        let start = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
        let shallow = [&start[..], &["--depth=1", "--", repository.url, commit]].concat();
        let output = self.about(repository, &shallow).output().map_err(text)?;
        if output.success() {
            return Ok(());
        }
        let error = failure(repository.url, "fetch", &output);
        if error.is_remote {
            return Err(error);
        }
        let references = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        let whole = [&start[..], &["--", repository.url], &references].concat();
        self.run(repository, &whole)?;
        let there = ["cat-file", "-e", &format!("{commit}^{{commit}}")];
        if self.about(repository, &there).output().map_err(text)?.success() {
            return Ok(());
        }
        let place = redacted(repository.url);
        Err(format!(
            "{place} has no commit {commit} in its branches and tags\n  help: check the \
             repository and the commit; one that was only proposed may be on another repository"
        )
        .into())
    }

    /// Path, commit and URL of the submodules of what is checked out.
    fn submodules(
        &self,
        repository: &Repository<'_>,
    ) -> Result<Vec<(String, String, String)>, UnitError> {
        let file = repository.files.join(".gitmodules");
        if !fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
            return Ok(Vec::new());
        }
        let file = file.to_string_lossy();
        let listed = self.run(repository, &["config", "--file", &file, "--null", "--list"])?;
        let known = parse_modules(&listed);
        let tree = self.run(repository, &["ls-tree", "-r", "-z", "HEAD"])?;
        let links = tree.split('\0').filter_map(|line| {
            let (entry, path) = line.split_once('\t')?;
            Some((path, entry.strip_prefix("160000 commit ")?))
        });
        Ok(links
            .filter_map(|(path, commit)| {
                let url = known.get(path)?;
                Some((path.to_owned(), commit.to_owned(), relative_url(repository.url, url)))
            })
            .collect())
    }
}

/// URLs by path, from what `git config --null --list` says about a `.gitmodules`; without
/// submodules that are not to be fetched.
fn parse_modules(listed: &str) -> BTreeMap<String, String> {
    let mut modules: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for entry in listed.split('\0') {
        let Some((key, value)) = entry.split_once('\n') else { continue };
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|key| key.rsplit_once('.'))
        else {
            continue;
        };
        modules.entry(name).or_default().insert(key, value);
    }
    modules
        .values()
        .filter(|module| module.get("update") != Some(&"none"))
        .filter_map(|module| {
            Some(((*module.get("path")?).to_owned(), (*module.get("url")?).to_owned()))
        })
        .collect()
}

/// The URL of a submodule, which may be relative to the repository's (gitmodules(5)).
fn relative_url(base: &str, url: &str) -> String {
    if !url.starts_with("./") && !url.starts_with("../") {
        return url.to_owned();
    }
    let mut base = base.trim_end_matches('/');
    let mut rest = url;
    let mut joint = '/';
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            rest = after;
            // `host:path` of ssh ends in a colon once its path is used up.
            let at = base.rfind('/').or_else(|| base.rfind(':')).unwrap_or(0);
            joint = base[at..].chars().next().unwrap_or('/');
            base = &base[..at];
        } else {
            return format!("{base}{joint}{rest}");
        }
    }
}

/// What a failed command of git says, without secrets.
fn failure(url: &str, command: &str, output: &Output) -> UnitError {
    let mut words = output.text().replace(url, &redacted(url));
    if let Some((user, password)) = credentials(url) {
        let user_info = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        words = words.replace(&format!("{}@", user_info.map_or(url, |(info, _)| info)), "");
        for secret in [password, user].iter().filter(|secret| secret.len() > 3) {
            words = words.replace(secret, "…");
        }
    }
    let is_remote =
        local_repository(url).is_none() && REMOTE_WORDS.iter().any(|remote| words.contains(remote));
    let help = if is_remote {
        "\n  help: check the network, the URL, and that git may read it: nobody is asked for a \
         password"
    } else {
        ""
    };
    let place = redacted(url);
    let message = format!(
        "{place}: git {command} ended with {}:\n{}{help}",
        output.ending(),
        words.trim_end()
    );
    UnitError { message, is_remote }
}

#[cfg(test)]
mod tests;
