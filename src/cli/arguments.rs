//! Arguments as typed, and what they mean.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::build::{Pins, Request};
use crate::engine::remote::settings::RemoteMode;
use crate::engine::report::BuildError;
use crate::machine::sandbox::Tier;
use crate::model::Finding;

/// Cross-compiles services for every target and stitches them into multi-arch images.
#[derive(Parser, Debug)]
#[command(name = "xstitch", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    images: Images,
    /// What every verb takes, before or after it.
    #[command(flatten)]
    pub options: Options,
}

/// The verbs. Without one, `build`.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Build images: compile, check, layer and stitch into one OCI layout
    Build(Images),
    /// Show what `build` would do
    Plan(Planning),
    /// Check the configuration and its inputs; build nothing
    Check(Images),
    /// Pin everything that images are made with in images.lock; build nothing
    Lock(Pinning),
    /// Download everything that images.lock pins, so that `--offline` works
    Fetch(Images),
    /// Look at the cache, remove what is not used, or carry results to another machine
    Cache(Cache),
    /// Run a command in the environment of a target, or show that environment
    Env(Env),
}

/// What is done with the cache.
#[derive(Args, Debug, Clone)]
pub struct Cache {
    /// What is done.
    #[command(subcommand)]
    pub verb: CacheVerb,
}

/// What can be done with the cache.
#[derive(Subcommand, Debug, Clone)]
pub enum CacheVerb {
    /// Show what the cache holds, by kind of result and by project
    Info,
    /// Show where the cache is
    Path,
    /// Remove what was not used for long [default: `--keep 20GB --unused 14d`]
    Gc(Limit),
    /// Make a folder hold the results that a build of this project needs
    Export(Export),
    /// Take the results of an exported folder
    Import(Import),
    /// Make a key to sign results with that go into a shared cache
    Key(Key),
}

/// A file for a key.
#[derive(Args, Debug, Clone)]
pub struct Key {
    /// File that the secret key is written to, or that has it; without, it is shown
    pub file: Option<PathBuf>,
}

/// What may stay.
#[derive(Args, Debug, Clone)]
pub struct Limit {
    /// What the cache may take on the disk, such as 20GB; least recently used results go first
    #[arg(long, value_name = "SIZE")]
    pub keep: Option<String>,
    /// How long it may be since something was used, such as 14d
    #[arg(long, value_name = "TIME")]
    pub unused: Option<String>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// A folder to export to.
#[derive(Args, Debug, Clone)]
pub struct Export {
    /// Folder that is to hold the results, a new one or one exported before
    pub folder: PathBuf,
    /// Images whose results are wanted [default: all]
    pub images: Vec<String>,
}

/// A folder to import from.
#[derive(Args, Debug, Clone)]
pub struct Import {
    /// Folder that `xstitch cache export` wrote
    pub folder: PathBuf,
}

/// A target and a command.
#[derive(Args, Debug, Clone)]
pub struct Env {
    /// Triple or platform of the target, such as linux/arm64
    pub target: String,
    /// The command; without one, the variables are shown
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// What is planned, and since when changes count.
#[derive(Args, Debug, Clone)]
pub struct Planning {
    #[command(flatten)]
    images: Images,
    /// Name the images and units that files changed since a git revision touch
    #[arg(long, value_name = "REV")]
    pub since: Option<String>,
}

/// What becomes of pins that are there.
#[derive(Args, Debug, Clone)]
pub struct Pinning {
    /// Move pins to what is there now: those of images, libraries, parts or packages of these
    /// names, or all
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with_all = ["check", "locked"])]
    update: Option<Vec<String>>,
    /// Say what is newer than what is pinned, and end with 1 if anything is; change nothing
    #[arg(long, conflicts_with_all = ["vendor", "locked", "offline"])]
    pub check: bool,
    /// Keep what is pinned in a folder, for days when mirrors have dropped it [default: `vendor`
    /// of the project]
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub vendor: Option<Option<PathBuf>>,
}

impl Pinning {
    /// What becomes of pins.
    fn pins(&self) -> Pins {
        match &self.update {
            _ if self.check => Pins::Compare,
            Some(names) => Pins::Move(names.clone()),
            None => Pins::Keep,
        }
    }
}

/// Which images.
#[derive(Args, Debug, Clone)]
pub struct Images {
    /// Images to build [default: all]
    images: Vec<String>,
}

/// What every verb takes.
#[derive(Args, Debug, Clone)]
pub struct Options {
    /// Folder of images.toml
    #[arg(global = true, long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// Platforms to build for, such as linux/arm64 [default: the project's]
    #[arg(global = true, long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Cores that all tools together may use [default: the machine's]
    #[arg(global = true, long, short, value_name = "N")]
    jobs: Option<usize>,
    /// Fail instead of adding to images.lock
    #[arg(global = true, long)]
    locked: bool,
    /// Use no network
    #[arg(global = true, long)]
    offline: bool,
    /// Go on with independent units after a failure
    #[arg(global = true, long)]
    keep_going: bool,
    /// Isolation of compilers: namespaces, landlock or none [default: the best here]
    #[arg(global = true, long, value_name = "TIER")]
    sandbox: Option<String>,
    /// Tags of the images, with {version} [default: the project's]
    #[arg(global = true, long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Compression of layers: gzip or zstd [default: the project's, else gzip]
    #[arg(global = true, long, value_name = "NAME", value_parser = ["gzip", "zstd"])]
    compression: Option<String>,
    /// How far the shared cache is used: off, read or write [default: as far as can be]
    #[arg(global = true, long, value_name = "MODE", value_parser = ["off", "read", "write"])]
    remote_cache: Option<String>,
    /// Folder of the OCI layout [default: target/images in the project]
    #[arg(global = true, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Show errors and results only
    #[arg(global = true, long, short)]
    quiet: bool,
    /// Show every command line with its environment, and every reason
    #[arg(global = true, long, short, conflicts_with = "quiet")]
    verbose: bool,
    /// Form of the result; dot and mermaid are for plan
    #[arg(global = true, long, value_enum, default_value = "text")]
    format: Format,
}

/// Form of what goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[value(alias = "tree")]
    Text,
    /// For programs.
    Json,
    /// A plan as a graph for Graphviz.
    Dot,
    /// A plan as a graph for Mermaid.
    Mermaid,
}

/// How much is shown while things happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// Nothing.
    Quiet,
    /// Units.
    Normal,
    /// Units and their command lines.
    Verbose,
}

impl Arguments {
    /// The verb.
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or_else(|| Command::Build(self.images.clone()))
    }
}

impl Options {
    /// How much is shown.
    pub fn screen(&self) -> Screen {
        match (self.quiet, self.verbose) {
            (true, _) => Screen::Quiet,
            (_, true) => Screen::Verbose,
            _ => Screen::Normal,
        }
    }

    /// Form of the result.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The request.
    pub fn request(&self, command: &Command) -> Result<Request, BuildError> {
        let images = match command {
            Command::Plan(planning) => planning.images.images.clone(),
            Command::Build(images) | Command::Check(images) | Command::Fetch(images) => {
                images.images.clone()
            }
            Command::Cache(Cache { verb: CacheVerb::Export(export) }) => export.images.clone(),
            Command::Cache(_) | Command::Env(_) | Command::Lock(_) => Vec::new(),
        };
        let mut findings = Vec::new();
        let platforms = self
            .platform
            .iter()
            .filter_map(|text| {
                text.parse()
                    .map_err(|error| {
                        findings.push(Finding::new("unknown-platform", format!("{error}")))
                    })
                    .ok()
            })
            .collect();
        let tier = self.sandbox.as_ref().and_then(|name| {
            let tier = Tier::parse(name);
            if tier.is_none() {
                let message =
                    format!("`{name}` is no sandbox tier; known: namespaces, landlock, none");
                findings.push(Finding::new("unknown-sandbox", message));
            }
            tier
        });
        let draws = matches!(self.format, Format::Dot | Format::Mermaid);
        let is_since = matches!(command, Command::Plan(planning) if planning.since.is_some());
        if draws && (is_since || !matches!(command, Command::Plan(_))) {
            let message = "`--format dot` and `mermaid` are for `plan` without `--since`";
            findings.push(Finding::new("invalid-format", message));
        }
        if self.jobs == Some(0) {
            findings.push(Finding::new("invalid-jobs", "`--jobs` must be at least 1"));
        }
        if !findings.is_empty() {
            return Err(BuildError::Findings(findings));
        }
        Ok(Request {
            project: self.project.clone(),
            images,
            platforms,
            jobs: self.jobs,
            locked: self.locked,
            pins: match command {
                Command::Lock(pinning) => pinning.pins(),
                _ => Pins::Keep,
            },
            every_library: matches!(command, Command::Env(_)),
            offline: self.offline,
            keep_going: self.keep_going,
            tier,
            tags: self.tag.clone(),
            compression: self.compression.clone(),
            remote_cache: self.remote_cache.as_deref().and_then(RemoteMode::parse),
            output: self.output.clone(),
        })
    }
}
