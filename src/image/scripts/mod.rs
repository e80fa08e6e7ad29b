//! What maintainer scripts (Debian policy 6) would do to a fresh root, as data.
//!
//! Of a package that is unpacked into an empty root, only `preinst install` and `postinst
//! configure` would run; the others are for upgrades, removals and questions. A script is
//! understood wholly by [`evaluate`], or known by the reviewed [`table`], or refused. What
//! debhelper marks as its own is looked at apart.
//!
//! Deliberately absent: running anything, and files. [`super::settle`] applies operations.

mod commands;
mod conditions;
mod evaluate;
mod shell;
pub mod table;
mod values;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// One thing to be done to a root. Paths are absolute, owners are `user:group` by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub enum Operation {
    /// A candidate of the alternatives system: the one that is there and has the highest
    /// priority is linked through `/etc/alternatives`.
    Alternative {
        /// Generic name.
        name: String,
        /// Path by which it is known.
        link: String,
        /// The candidate.
        path: String,
        /// Its priority.
        priority: i64,
        /// Links that go with it: link, name, candidate.
        #[serde(default)]
        slaves: Vec<(String, String, String)>,
    },
    /// A link, unless something is there.
    Link {
        /// Its path.
        path: String,
        /// Its text.
        target: String,
    },
    /// A folder, with that mode and owner also if it is there unless it has to be new.
    Folder {
        /// Its path.
        path: String,
        /// Permission bits, octal.
        mode: Option<String>,
        /// Its owner.
        owner: Option<String>,
        /// Whether nothing is done to one that is there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        new: bool,
    },
    /// A file, unless something is there.
    File {
        /// Its path.
        path: String,
        /// Its text.
        text: String,
        /// Permission bits, octal; otherwise 644.
        mode: Option<String>,
        /// Its owner.
        owner: Option<String>,
    },
    /// A copy of a file of the root, unless something is there or there is none to copy.
    Copy {
        /// The file.
        from: String,
        /// Path of the copy.
        path: String,
    },
    /// Mode and owner of what is there, if it is.
    Mode {
        /// Its path.
        path: String,
        /// Octal, or one of `u+s`, `u-s`, `g+s`, `g-s`, `a+x`.
        mode: Option<String>,
        /// Its owner; `:group` leaves the user.
        owner: Option<String>,
        /// Whether what is in it changes too, but for links.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        recursive: bool,
    },
    /// A system group.
    Group {
        /// Its name.
        name: String,
    },
    /// A system user.
    User {
        /// Its name.
        name: String,
        /// Its group: one of its own name unless it is said.
        group: Option<String>,
        /// Home folder.
        home: String,
        /// Its shell.
        #[serde(default = "nologin")]
        shell: String,
        /// What it is for.
        #[serde(default)]
        comment: String,
        /// Whether the home folder is made.
        #[serde(default)]
        create_home: bool,
    },
    /// A user becomes member of a group.
    Member {
        /// The user.
        user: String,
        /// The group.
        group: String,
    },
    /// Capabilities of a program, which take the place of setuid.
    Capability {
        /// Its path.
        path: String,
        /// As `setcap` takes them.
        capabilities: String,
    },
    /// What a file of `tmpfiles.d` makes.
    Tmpfiles {
        /// Its name.
        name: String,
    },
    /// Users and groups of a file of `sysusers.d`.
    Sysusers {
        /// Its name.
        name: String,
    },
    /// A line of `/etc/shells`.
    Shell {
        /// Path of the shell.
        path: String,
    },
}

fn nologin() -> String {
    "/usr/sbin/nologin".into()
}

/// A package and what its control data say, as far as scripts depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Name.
    pub package: &'a str,
    /// Version.
    pub version: &'a str,
    /// Architecture.
    pub architecture: &'a str,
}

/// A script that is neither understood nor in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The package.
    pub package: String,
    /// Name of the script.
    pub script: String,
    /// What is not understood.
    pub why: String,
    /// What the table would know it by.
    pub digest: Digest,
    /// What was written by hand.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, script, why, digest, .. } = self;
        writeln!(f, "{package}: its {script} script is not known ({why}, {digest}):")?;
        for line in self.text.lines() {
            writeln!(f, "  | {line}")?;
        }
        write!(
            f,
            "  help: nothing of it is run; if the image needs nothing of it, write \
             `scripts = {{ {package} = \"ignore\" }}`"
        )
    }
}

/// Marks around what debhelper adds (`dh_installdeb(1)`).
const BEGIN: &str = "# Automatically added by ";
const END: &str = "# End automatically added section";

/// Sections of these do nothing that an image needs.
const WITHOUT_EFFECT: [&str; 19] = [
    // Services are started by whoever starts the container.
    "dh_installinit",
    "dh_installsystemd",
    "dh_installsystemduser",
    "dh_runit",
    "dh_systemd_enable",
    "dh_systemd_start",
    // The kernel's profiles are the machine's.
    "dh_apparmor",
    // Files of earlier versions are moved or removed (`dpkg-maintscript-helper(1)`).
    "dh_installdeb",
    // The loader finds libraries without its cache.
    "dh_makeshlibs",
    // Bytecode is made by Python when it is first wanted.
    "dh_python2",
    "dh_python3",
    "dh_pypy",
    // Questions that nobody asks.
    "dh_installdebconf",
    // Menus, icons and documentation of a desktop.
    "dh_icons",
    "dh_installdocs",
    "dh_installinfo",
    "dh_installmenu",
    "dh_installmime",
    "dh_installmodules",
];

/// A script in parts: what was written by hand, and the sections of tools by their name.
fn parts(text: &str) -> (String, Vec<(String, String)>) {
    let (mut own, mut sections) = (String::new(), Vec::new());
    let mut section: Option<(String, String)> = None;
    for line in text.lines() {
        if let Some(tool) = line.strip_prefix(BEGIN).filter(|_| section.is_none()) {
            let tool = tool.split('/').next().unwrap_or_default().trim();
            section = Some((tool.to_owned(), String::new()));
        } else if line.starts_with(END) && section.is_some() {
            sections.extend(section.take());
        } else {
            let to = section.as_mut().map_or(&mut own, |(_, text)| text);
            to.push_str(line);
            to.push('\n');
        }
    }
    // A section without an end is no section.
    if let Some((_, text)) = section {
        own.push_str(&text);
    }
    (own, sections)
}

/// What the `script` of that name would do when the package is first installed.
pub fn judge(
    subject: Subject<'_>,
    script: &str,
    text: &str,
) -> Result<Vec<Operation>, Box<Refusal>> {
    let argument = match script {
        "preinst" => "install",
        "postinst" => "configure",
        _ => return Ok(Vec::new()),
    };
    let (own, sections) = parts(text);
    let refused = |why: String, text: &str| {
        Box::new(Refusal {
            package: subject.package.to_owned(),
            script: script.to_owned(),
            why,
            digest: table::digest(subject, &own),
            text: text.trim().to_owned(),
        })
    };
    let evaluated = |text: &str| evaluate::evaluate(subject, script, argument, text);
    let mut operations = match table::find(subject, script, &own) {
        Some(operations) => operations,
        None => evaluated(&own).map_err(|why| refused(why, &own))?,
    };
    for (tool, section) in &sections {
        if WITHOUT_EFFECT.contains(&tool.as_str()) {
            continue;
        }
        let found = match tool.as_str() {
            "dh_nginx" => Ok(nginx_modules(section)),
            _ => evaluated(section),
        };
        operations.extend(found.map_err(|why| refused(why, section))?);
    }
    Ok(operations)
}

/// `dh_nginx(1)` enables modules in a loop over `file:link` pairs.
fn nginx_modules(section: &str) -> Vec<Operation> {
    let line = section.lines().find_map(|line| line.trim().strip_prefix("for confpair in "));
    let pairs = line.unwrap_or_default().split(';').next().unwrap_or_default();
    let links = pairs.split_whitespace().filter_map(|pair| pair.split_once(':'));
    links
        .map(|(file, link)| Operation::Link {
            path: format!("/etc/nginx/modules-enabled/{link}"),
            target: format!("/usr/share/nginx/modules-available/{file}"),
        })
        .collect()
}

#[cfg(test)]
mod tests;
