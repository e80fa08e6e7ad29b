//! Where Rust and Go come from, pinned in the lock: nothing is exchanged silently.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::resolve::Resolver;
use crate::model::action::{Shape, UnpackAction};
use crate::model::event::Event;
use crate::model::finding::REMOTE_FAILED;
use crate::model::package::PackageSet;
use crate::model::{Digest, Finding, Tree};
use crate::plan::facts::{GoToolchain, RustProvider};
use crate::source::lock::LockedToolchain;
use crate::toolchain::description::Description;
use crate::toolchain::rustup::{Guards, Rustup};
use crate::toolchain::{go, parts, rustup};

/// The parts of a rustup toolchain that compile.
#[derive(Serialize, Deserialize)]
struct RustupView {
    /// Their folder.
    root: PathBuf,
    /// What `rustc --version` prints.
    version: String,
    /// Digest of all but the standard libraries of other targets than the host.
    host: Digest,
    /// Digests of the standard libraries by triple.
    targets: BTreeMap<String, Digest>,
}

impl Resolver<'_> {
    pub(super) fn rust(
        &mut self,
        host: &'static Description,
        targets: &[&'static Description],
    ) -> Option<RustProvider> {
        let pinned = self.lock.toolchains.get("rust").cloned();
        if pinned.as_ref().is_none_or(|locked| locked.provider == "rustup") {
            let triples: Vec<String> = targets
                .iter()
                .map(|target| target.triple.clone())
                .chain([host.triple.clone()])
                .collect();
            let engine = self.engine;
            let mut added: Vec<PathBuf> = Vec::new();
            let mut announce = |wanted: &[&String], to: &Path| {
                added.extend(wanted.iter().map(|triple| to.join("lib/rustlib").join(triple)));
                let wanted: Vec<&str> = wanted.iter().map(|triple| triple.as_str()).collect();
                engine.tell(Event::Download {
                    what: format!("Rust's standard library for {} by rustup", wanted.join(", ")),
                    size_bytes: None,
                    to: to.display().to_string(),
                });
            };
            let chosen = self.active_rustup(&triples, &mut announce);
            match chosen {
                Ok(root) => {
                    for folder in added {
                        let name = folder.file_name().unwrap_or_default().to_string_lossy();
                        let what = format!("Rust's standard library for {name}");
                        if let Ok(tree) = crate::store::describe(&folder) {
                            engine.tell(Event::Downloaded { what, size_bytes: tree.size_bytes() });
                        }
                    }
                    return self.pinned_rustup(&root, &host.triple, &triples);
                }
                Err(reason) if pinned.is_some() => {
                    let message = format!(
                        "images.lock pins a rustup toolchain, which cannot be used: {reason}"
                    );
                    self.problem("no-rust", &message);
                    return None;
                }
                Err(reason) => {
                    let text = format!("using the distribution's Rust: {reason}");
                    self.engine.tell(Event::Note { text });
                }
            }
        }
        let architecture = &host.debian_architecture;
        let host_set = self.part("rust", architecture, &[], None)?;
        let web = host_set.packages.iter().any(|package| package.name == "libstd-rust-web-dev");
        let mut packages = Vec::new();
        let crossed = targets.iter().filter(|target| target.triple != host.triple);
        for target in crossed.clone() {
            let architecture = &target.debian_architecture;
            let mut requests = parts::requests("rust-std", architecture, &[]);
            // Standard library and compiler must be of one build.
            requests.retain(|request| {
                web == request.packages.iter().any(|name| name.contains("-web-"))
            });
            packages
                .extend(self.set(&format!("rust-std {architecture}"), &requests, None)?.packages);
        }
        let compiler = host_set.packages.iter().find(|package| package.name.starts_with("rustc"));
        for (target, package) in crossed.zip(&packages) {
            let Some(compiler) = compiler.filter(|found| found.version != package.version) else {
                continue;
            };
            let message = format!(
                "{}: the package archive of {} has no Rust standard library for {} that fits \
                 {compiler}, only {package}",
                target.platform,
                self.suite(),
                target.debian_architecture
            );
            self.findings.push(Finding::new("no-rust-std", message).help(
                "use a rustup that can add the target, leave the platform out of `platforms`, or \
                 let APT_CONFIG name sources that have one version for both architectures",
            ));
            return None;
        }
        let version = compiler.map_or_else(String::new, |package| package.version.clone());
        let targets = PackageSet { packages };
        let all =
            serde_json::to_vec(&(&host_set, &targets)).expect("packages have string keys only");
        if pinned.is_none() {
            let hash = Digest::of(&all);
            self.pin("rust", LockedToolchain { provider: "packages".into(), version, hash })?;
        }
        Some(RustProvider::Packages { host: host_set, targets })
    }

    /// Pins the compiler and each standard library on its own, so that a further platform
    /// changes no pin.
    fn pinned_rustup(
        &mut self,
        root: &Path,
        host: &str,
        triples: &[String],
    ) -> Option<RustProvider> {
        let view = match self.rustup_view(root, host, triples) {
            Ok(view) => view,
            Err(error) => {
                self.problem("unreadable-toolchain", &error);
                return None;
            }
        };
        let mut digests = BTreeMap::new();
        for (triple, digest) in &view.targets {
            let name = format!("rust {triple}");
            let (name, hash) =
                if triple == host { ("rust", view.host) } else { (name.as_str(), *digest) };
            let (provider, version) = ("rustup".to_owned(), view.version.clone());
            self.pin(name, LockedToolchain { provider, version, hash })?;
            let both = serde_json::to_vec(&(view.host, digest)).expect("plain data");
            digests.insert(triple.clone(), Digest::of(&both));
        }
        Some(RustProvider::Rustup { root: view.root, version: view.version, digests })
    }

    /// The folder of the rustup toolchain that is active in the project, with all of `triples`.
    /// Which it is, is remembered by what rustup would read to say so.
    fn active_rustup(
        &mut self,
        triples: &[String],
        announce: &mut dyn FnMut(&[&String], &Path),
    ) -> Result<PathBuf, String> {
        let engine = self.engine;
        let rustup = Rustup::find(&engine.environment, self.folder)?;
        let digest = |file: &Path| self.index.digest(file).ok();
        let guards = Guards::of(&engine.environment, self.folder, digest);
        let memory = guards.map(|guards| {
            let key = Digest::of(&serde_json::to_vec(&guards).expect("paths are texts"));
            engine.store.state("rustup").join(key.hex())
        });
        let known = memory.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let known = known.map(PathBuf::from).filter(|root| root.join("bin/rustc").is_file());
        let root = match known {
            Some(root) => root,
            None => {
                let root = rustup.active()?;
                if let (Some(memory), Some(text)) = (memory, root.to_str()) {
                    // Without, rustup is asked again.
                    let _ = crate::store::write_atomically(&memory, text.as_bytes());
                }
                root
            }
        };
        rustup.complete(&root, triples, engine.offline, announce)?;
        Ok(root)
    }

    /// A folder with the parts of a rustup toolchain that compile, and their digests,
    /// remembered by the state of the compiler and the lists of installed components.
    fn rustup_view(
        &mut self,
        root: &Path,
        host: &str,
        triples: &[String],
    ) -> Result<RustupView, String> {
        let parts = rustup::parts(root, triples).map_err(|error| error.to_string())?;
        let lists = triples.iter().map(|triple| format!("lib/rustlib/manifest-rust-std-{triple}"));
        let guards: Vec<String> =
            ["bin/rustc", "bin/cargo"].map(str::to_owned).into_iter().chain(lists).collect();
        let guards: Vec<Option<Digest>> =
            guards.iter().map(|name| self.index.digest(&root.join(name)).ok()).collect();
        // Those are large: that their lengths and times are the same has to do.
        let libraries: Vec<_> = parts
            .iter()
            .filter_map(|part| {
                let status = fs::metadata(root.join(part)).ok().filter(fs::Metadata::is_file)?;
                Some((part, status.len(), status.mtime(), status.mtime_nsec()))
            })
            .collect();
        let key = (root, &parts, &guards, &libraries);
        let key = Digest::of(&serde_json::to_vec(&key).expect("plain data"));
        let memory = self.engine.store.state("folders").join(key.hex());
        let known = fs::read(&memory).ok().and_then(|json| serde_json::from_slice(&json).ok());
        if let Some(view) = known.filter(|view: &RustupView| view.root.is_dir()) {
            return Ok(view);
        }
        let store = &self.engine.store;
        let scratch = store.scratch().map_err(|error| error.to_string())?;
        let new = scratch.path().join("rust");
        for part in &parts {
            crate::store::duplicate(&root.join(part), &new.join(part))
                .map_err(|error| error.to_string())?;
        }
        let whole = crate::store::describe(&new).map_err(|error| error.to_string())?;
        let of = |wanted: &dyn Fn(&str) -> bool| {
            let entries = whole.entries.iter().filter(|(path, _)| wanted(path));
            Tree { entries: entries.map(|(path, entry)| (path.clone(), entry.clone())).collect() }
                .digest()
        };
        let inside = |path: &str, triple: &str| {
            Path::new(path).starts_with(rustup::standard_library(triple))
        };
        let place = store.state("rust").join(whole.digest().short());
        let view = RustupView {
            root: place.clone(),
            version: rustup::version(&self.engine.environment, root)?,
            host: of(&|path| !triples.iter().any(|t| t != host && inside(path, t))),
            targets: triples.iter().map(|t| (t.clone(), of(&|path| inside(path, t)))).collect(),
        };
        if !place.is_dir() {
            fs::create_dir_all(store.state("rust")).map_err(|error| error.to_string())?;
            match fs::rename(&new, &place) {
                // Another process was first.
                Err(error) if !place.is_dir() => return Err(error.to_string()),
                _ => {}
            }
        }
        let json = serde_json::to_vec(&view).expect("a view has string keys only");
        crate::store::write_atomically(&memory, &json).map_err(|error| error.to_string())?;
        Ok(view)
    }

    /// Pins a toolchain, or checks it against its pin.
    fn pin(&mut self, name: &str, found: LockedToolchain) -> Option<()> {
        match self.lock.toolchains.get(name) {
            None if self.locked => {
                let message = format!(
                    "images.lock does not pin the toolchain `{name}`, and `--locked` was given"
                );
                self.problem("not-locked", &message);
                None
            }
            None => {
                self.lock.toolchains.insert(name.to_owned(), found);
                Some(())
            }
            Some(locked) if *locked == found => Some(()),
            Some(locked) => {
                let pinned = format!("{} from {}", locked.version, locked.provider);
                let has = format!("{} from {}", found.version, found.provider);
                let has = if has == pinned {
                    // Built by somebody else, or changed after it was installed.
                    let (pinned, found) = (locked.hash.short(), found.hash.short());
                    format!(
                        "the same version with other content ({pinned} is pinned, {found} is here)"
                    )
                } else {
                    has
                };
                let message = format!("images.lock pins {name} {pinned}, this machine has {has}");
                self.findings.push(Finding::new("toolchain-changed", message).help(format!(
                    "install the pinned one, or move to this one with `xstitch lock --update {name}`"
                )));
                None
            }
        }
    }

    /// The digest of a toolchain folder of the machine, remembered by the state of `guards`.
    fn machine_folder(&mut self, root: &Path, guards: &[&str]) -> Option<Digest> {
        let guards: Vec<(String, Option<Digest>)> = guards
            .iter()
            .map(|name| ((*name).to_owned(), self.index.digest(&root.join(name)).ok()))
            .collect();
        let key = Digest::of(&serde_json::to_vec(&(root, &guards)).expect("plain data"));
        let memory = self.engine.store.state("folders").join(key.hex());
        if let Some(digest) = fs::read_to_string(&memory).ok().and_then(|text| text.parse().ok()) {
            return Some(digest);
        }
        let digest = match crate::store::describe(root) {
            Ok(tree) => tree.digest(),
            Err(error) => {
                self.problem("unreadable-toolchain", &error.to_string());
                return None;
            }
        };
        let written = crate::store::write_atomically(&memory, digest.to_string().as_bytes());
        if let Err(error) = written {
            self.problem("store", &error.to_string());
        }
        Some(digest)
    }

    pub(super) fn go(&mut self, go_mod: &str) -> Option<GoToolchain> {
        let need = go::required_version(go_mod).unwrap_or_else(|| "1.21".to_owned());
        let engine = self.engine;
        let folder = engine.store.state("go");
        let pinned = self.lock.toolchains.get(&format!("go{need}")).cloned();
        let machine = go::of_machine(&engine.environment);
        let wanted = match (&pinned, &machine) {
            (Some(locked), _) if locked.provider != "machine" => locked.version.clone(),
            (_, Some(choice)) if go::satisfies(&choice.version, &need) => {
                return self.pinned_go(&need, choice.clone());
            }
            _ => need.clone(),
        };
        let wanted = go::release(&wanted);
        let choice = match go::fetched(&folder, &wanted) {
            Some(choice) => choice,
            None if engine.offline => {
                let message = format!("Go {wanted} is needed, and `--offline` was given");
                self.findings.push(Finding::new("offline", message).help("run once without it"));
                return None;
            }
            None => {
                // The module proxy is asked by any Go, the distribution's where there is none.
                let asking = match &machine {
                    Some(choice) => Some(choice.root.clone()),
                    None => self.packaged_go(),
                };
                let what = format!("Go {wanted}");
                let to = folder.display().to_string();
                engine.tell(Event::Download { what: what.clone(), size_bytes: None, to });
                let fetched = go::fetch(&engine.environment, &wanted, asking.as_deref(), &folder);
                match fetched {
                    Ok(choice) => {
                        if let Ok(tree) = crate::store::describe(&choice.root) {
                            engine.tell(Event::Downloaded { what, size_bytes: tree.size_bytes() });
                        }
                        choice
                    }
                    Err(reason) => {
                        let have = machine.map_or("there is no Go on PATH".to_owned(), |go| {
                            format!("the Go on PATH is {}", go.version)
                        });
                        let message = format!(
                            "Go {wanted} is needed, {have}, and it could not be fetched: {reason}"
                        );
                        self.findings.push(Finding::new(REMOTE_FAILED, message).help(format!(
                            "install Go {wanted} or later, or lower the `go` and `toolchain` lines of go.mod"
                        )));
                        return None;
                    }
                }
            }
        };
        self.pinned_go(&need, choice)
    }

    fn pinned_go(&mut self, need: &str, choice: go::GoChoice) -> Option<GoToolchain> {
        let digest = self.machine_folder(&choice.root, &["VERSION", "bin/go"])?;
        let found = LockedToolchain {
            provider: choice.provider,
            version: choice.version.clone(),
            hash: digest,
        };
        self.pin(&format!("go{need}"), found)?;
        Some(GoToolchain { version: choice.version, digest, root: choice.root })
    }

    /// The distribution's Go, which is old: it only downloads the one that is asked for.
    fn packaged_go(&mut self) -> Option<PathBuf> {
        let host = &crate::toolchain::description::host()?.debian_architecture;
        // Without packages a wheel may serve: that nothing was found is no problem yet.
        let before = self.findings.len();
        let set = self.part("go", host, &[], None);
        self.findings.truncate(before);
        let set = set?;
        let key = Digest::of(&serde_json::to_vec(&set).expect("packages have string keys only"));
        let place = self.engine.store.state("go").join(format!("packaged-{}", key.short()));
        if !place.is_dir() {
            let scratch = self.engine.store.scratch().ok()?;
            let out = scratch.path().join("out");
            fs::create_dir(&out).ok()?;
            let action =
                UnpackAction { packages: set.packages, shape: Shape::Toolchain, root: None };
            let unpacked = super::fetch::unpack(
                self.engine,
                "the distribution's Go",
                &action,
                scratch.path(),
                &out,
            );
            if let Err(error) = unpacked {
                self.engine.tell(Event::Warning { text: error.message });
                return None;
            }
            fs::create_dir_all(place.parent()?).ok()?;
            fs::rename(&out, &place).ok()?;
        }
        go::root_below(&place)
    }
}
