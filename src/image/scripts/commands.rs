//! Commands of maintainer scripts: those that do nothing to a fresh root that an image needs,
//! and those whose effect is an operation.

use super::Operation;
use super::shell::{Command, List};
use super::values::{PROGRAM, UNKNOWN, assignment};

/// Commands without effect, each with its reason.
const WITHOUT_EFFECT: [&str; 34] = [
    // Of the shell.
    "echo",
    "printf",
    // Services are started by whoever starts the container.
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "invoke-rc.d",
    "service",
    "systemctl",
    "update-rc.d",
    // Earlier versions, of which there are none.
    "dpkg-maintscript-helper",
    "dpkg-trigger",
    // Questions that nobody asks.
    "db_capb",
    "db_fset",
    "db_go",
    "db_input",
    "db_purge",
    "db_set",
    "db_stop",
    "db_title",
    "db_version",
    // Caches that are made when they are first wanted, or not needed.
    "ldconfig",
    "py3clean",
    "py3compile",
    "pycompile",
    "pypy3compile",
    // Desktops, and documentation.
    "gtk-update-icon-cache",
    "install-info",
    "update-desktop-database",
    "update-icon-caches",
    "update-menus",
    "update-mime",
    "update-mime-database",
    // The kernel's.
    "apparmor_parser",
    "udevadm",
    "update-initramfs",
];

/// Whether a command does nothing that an image needs.
pub fn is_without_effect(name: &str) -> bool {
    WITHOUT_EFFECT.contains(&name) || name == "restorecon"
}

/// Commands that do nothing but tell what is there.
const READING: [&str; 35] = [
    "[",
    "basename",
    "cat",
    "cmp",
    "cut",
    "date",
    "diff",
    "dirname",
    "dpkg-query",
    "echo",
    "egrep",
    "expr",
    "fgrep",
    "find",
    "getcap",
    "getent",
    "grep",
    "head",
    "id",
    "ischroot",
    "ls",
    "md5sum",
    "mountpoint",
    "pidof",
    "printf",
    "readlink",
    "realpath",
    "sed",
    "sha256sum",
    "sort",
    "stat",
    "tail",
    "test",
    "tr",
    "uname",
];

/// Whether a list of commands does nothing but tell what is there.
pub fn only_reads(list: &List) -> bool {
    list.iter()
        .all(|item| reads(&item.first) && item.rest.iter().all(|(_, command)| reads(command)))
}

/// Whether a command does nothing but tell what is there.
pub fn reads(command: &Command) -> bool {
    let words = match command {
        Command::Simple(words) => words,
        Command::Pipe(commands) => return commands.iter().all(reads),
        Command::Not(command) => return reads(command),
        Command::Group(list) => return only_reads(list),
        _ => return false,
    };
    let is_assigned = |word: &&String| assignment(word).is_some();
    let words: Vec<&str> = words.iter().skip_while(is_assigned).map(String::as_str).collect();
    let Some((name, rest)) = words.split_first() else { return true };
    if rest.iter().any(|word| word.contains("$(") || word.contains('`')) {
        return false;
    }
    let has = |options: &[&str]| {
        rest.iter().any(|word| options.iter().any(|option| word.starts_with(option)))
    };
    match *name {
        "true" | ":" | "false" | "wc" | "uniq" => true,
        "command" | "which" => true,
        "awk" => !rest.iter().any(|word| word.contains(['>', '|']) || word.contains("system")),
        "dpkg" => has(&["-s", "-l", "-L", "--status", "--list", "--print-architecture"]),
        "dpkg-divert" => has(&["--list", "--truename"]),
        "date" => !has(&["-s", "--set"]),
        "find" => !has(&["-exec", "-ok", "-delete", "-f"]),
        "sed" => !has(&["-i", "--in-place", "-ni", "-ri", "-Ei"]),
        "sort" => !has(&["-o", "--output"]),
        name => READING.contains(&name),
    }
}

/// What a command does.
pub fn operations(words: &[&str]) -> Result<Vec<Operation>, String> {
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    let unknown = || format!("the command `{}`", words.join(" "));
    let Some((name, rest)) = words.split_first() else { return Ok(Vec::new()) };
    let (options, values) = split(rest);
    match *name {
        "update-alternatives" => alternatives(rest).ok_or_else(unknown),
        "adduser" | "useradd" => user(name, rest).ok_or_else(unknown),
        "addgroup" | "groupadd" if options.iter().all(|o| is_quiet(o)) && values.len() == 1 => {
            Ok(vec![Operation::Group { name: values[0].to_owned() }])
        }
        "setcap" if options.is_empty() && values.len() == 2 => Ok(vec![Operation::Capability {
            path: values[1].to_owned(),
            capabilities: values[0].to_owned(),
        }]),
        "systemd-tmpfiles" if options.contains(&"--create") && !values.is_empty() => {
            Ok(values.iter().map(|name| Operation::Tmpfiles { name: (*name).to_owned() }).collect())
        }
        "systemd-sysusers" if !values.is_empty() => {
            Ok(values.iter().map(|name| Operation::Sysusers { name: (*name).to_owned() }).collect())
        }
        "chown" | "chgrp" | "chmod"
            if options.iter().all(|o| matches!(*o, "-f" | "-h" | "-R" | "-Rf" | "--recursive")) =>
        {
            let recursive =
                options.iter().any(|option| matches!(*option, "-R" | "-Rf" | "--recursive"));
            let (what, paths) = values.split_first().ok_or_else(unknown)?;
            let (mode, owner) = match *name {
                "chmod" if is_mode(what) => (Some((*what).to_owned()), None),
                "chmod" => return Err(unknown()),
                "chgrp" => (None, Some(format!(":{what}"))),
                _ => (None, Some(what.replace('.', ":"))),
            };
            if paths.iter().any(|path| !is_plain(path)) {
                return Err(unknown());
            }
            let of = |path: &&str| Operation::Mode {
                path: (*path).to_owned(),
                mode: mode.clone(),
                owner: owner.clone(),
                recursive,
            };
            Ok(paths.iter().map(of).collect())
        }
        "dpkg-statoverride" => match values.as_slice() {
            [user, group, mode, path] if options.contains(&"--add") && is_plain(path) => {
                Ok(vec![Operation::Mode {
                    path: (*path).to_owned(),
                    mode: Some((*mode).to_owned()),
                    owner: Some(format!("{user}:{group}")),
                    recursive: false,
                }])
            }
            _ => Err(unknown()),
        },
        // In an empty root, nothing is moved aside but what would hide that folders are merged.
        "dpkg-divert"
            if options.contains(&"--remove")
                || values.iter().any(|value| value.ends_with(".usr-is-merged")) =>
        {
            Ok(Vec::new())
        }
        "cp" if options.iter().all(|o| matches!(*o, "-a" | "-p" | "-f" | "-pZ")) => {
            match values.as_slice() {
                [from, path] if is_plain(from) && is_plain(path) && !path.ends_with('/') => {
                    Ok(vec![Operation::Copy { from: (*from).to_owned(), path: (*path).to_owned() }])
                }
                _ => Err(unknown()),
            }
        }
        "mkdir" | "install" => folders(name, rest).ok_or_else(unknown),
        "touch" if options.is_empty() && values.iter().all(|path| is_plain(path)) => Ok(values
            .iter()
            .map(|path| Operation::File {
                path: (*path).to_owned(),
                text: String::new(),
                mode: None,
                owner: None,
            })
            .collect()),
        "ln" if options.iter().all(|o| matches!(*o, "-s" | "-sf" | "-nsf" | "-f" | "-n"))
            && options.iter().any(|option| option.contains('s')) =>
        {
            match values.as_slice() {
                [target, path] if is_plain(path) => Ok(vec![Operation::Link {
                    path: (*path).to_owned(),
                    target: (*target).to_owned(),
                }]),
                _ => Err(unknown()),
            }
        }
        "add-shell" if options.is_empty() => {
            Ok(values.iter().map(|path| Operation::Shell { path: (*path).to_owned() }).collect())
        }
        _ => Err(unknown()),
    }
}

/// Options, and what is none.
fn split<'a>(words: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    words.iter().copied().filter(|word| *word != "--").partition(|word| word.starts_with('-'))
}

/// Whether a path is the whole of what it means.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['*', '?', '[', '{', PROGRAM, UNKNOWN])
}

fn is_mode(mode: &str) -> bool {
    mode.parse::<u32>().is_ok() || matches!(mode, "u+s" | "u-s" | "g+s" | "g-s" | "a+x" | "+x")
}

fn is_quiet(option: &str) -> bool {
    matches!(
        option,
        "--system"
            | "--quiet"
            | "-q"
            | "-r"
            | "--force-badname"
            | "--allow-bad-names"
            | "--allow-badname"
            | "--disabled-login"
            | "--disabled-password"
    )
}

/// `update-alternatives(1)`.
fn alternatives(words: &[&str]) -> Option<Vec<Operation>> {
    let mut words = words.iter().copied().filter(|word| !matches!(*word, "--quiet" | "--force"));
    match words.next()? {
        // Of earlier versions.
        "--remove" | "--auto" | "--remove-all" => return Some(Vec::new()),
        "--install" => {}
        _ => return None,
    }
    let mut next = || words.next().map(str::to_owned);
    let (link, name, path) = (next()?, next()?, next()?);
    let priority = next()?.parse().ok()?;
    let mut slaves = Vec::new();
    while let Some(word) = next() {
        if word != "--slave" {
            return None;
        }
        slaves.push((next()?, next()?, next()?));
    }
    Some(vec![Operation::Alternative { name, link, path, priority, slaves }])
}

/// `adduser(8)` and `useradd(8)`, for system users.
fn user(program: &str, words: &[&str]) -> Option<Vec<Operation>> {
    let is_adduser = program == "adduser" && !words.contains(&"-r");
    let (mut names, mut system, mut own_group) = (Vec::new(), false, !is_adduser);
    let (mut group, mut home, mut shell, mut comment) = (None, None, None, None);
    let mut create_home = is_adduser;
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let (word, given) = match word.split_once('=') {
            Some((word, value)) if word.starts_with("--") => (word, Some(value)),
            _ => (word, None),
        };
        let mut value = || given.or_else(|| words.next()).map(str::to_owned);
        match word {
            "--system" | "-r" => system = true,
            "--group" | "-U" => own_group = true,
            "--ingroup" | "--gid" | "-g" => group = Some(value()?),
            "--home" | "-d" | "--home-dir" => home = Some(value()?),
            "--shell" | "-s" => shell = Some(value()?),
            "--gecos" | "--comment" | "-c" => comment = Some(value()?),
            "--no-create-home" | "-M" => create_home = false,
            "-m" | "--create-home" => create_home = true,
            word if is_quiet(word) => {}
            word if word.starts_with('-') => return None,
            word => names.push(word.to_owned()),
        }
    }
    if let ([user, group], false) = (names.as_slice(), system) {
        return Some(vec![Operation::Member { user: user.clone(), group: group.clone() }]);
    }
    let [name] = names.as_slice() else { return None };
    if !system {
        return None;
    }
    let home = home.unwrap_or_else(|| "/nonexistent".into());
    Some(vec![Operation::User {
        name: name.clone(),
        group: if own_group { None } else { Some(group.unwrap_or_else(|| "nogroup".into())) },
        create_home: create_home && home != "/nonexistent",
        home,
        shell: shell.unwrap_or_else(super::nologin),
        comment: comment.unwrap_or_default(),
    }])
}

/// `mkdir(1)` and `install(1)` with `-d`.
fn folders(program: &str, words: &[&str]) -> Option<Vec<Operation>> {
    let (mut paths, mut is_folder) = (Vec::new(), program == "mkdir");
    let (mut mode, mut user, mut group) = (None, None, None);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "-p" | "-Z" | "-pZ" => {}
            "-d" => is_folder = true,
            "-m" => mode = Some(words.next()?.to_owned()),
            "-o" => user = Some(words.next()?.to_owned()),
            "-g" => group = Some(words.next()?.to_owned()),
            word if is_plain(word) => paths.push(word.to_owned()),
            _ => return None,
        }
    }
    let owner = (user.is_some() || group.is_some())
        .then(|| format!("{}:{}", user.unwrap_or("root".into()), group.unwrap_or("root".into())));
    let of =
        |path| Operation::Folder { path, mode: mode.clone(), owner: owner.clone(), new: false };
    (is_folder && !paths.is_empty()).then(|| paths.into_iter().map(of).collect())
}
