//! Where Rust and Go come from, pinned in the lock: nothing is exchanged silently.

use std::fs;
use std::path::{Path, PathBuf};

use super::resolve::Resolver;
use crate::model::action::{Shape, UnpackAction};
use crate::model::event::Event;
use crate::model::finding::REMOTE_FAILED;
use crate::model::package::PackageSet;
use crate::model::{Digest, Finding};
use crate::plan::facts::{GoToolchain, RustProvider};
use crate::source::lock::LockedToolchain;
use crate::toolchain::description::Description;
use crate::toolchain::{go, parts, rustup};

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
            match rustup::choose(
                &engine.environment,
                self.folder,
                &triples,
                engine.offline,
                &mut announce,
            ) {
                Ok(choice) => {
                    for folder in added {
                        let name = folder.file_name().unwrap_or_default().to_string_lossy();
                        let what = format!("Rust's standard library for {name}");
                        if let Ok(tree) = crate::store::describe(&folder) {
                            engine.tell(Event::Downloaded { what, size_bytes: tree.size_bytes() });
                        }
                    }
                    let digest = self.machine_folder(
                        &choice.root,
                        &["bin/rustc", "bin/cargo", "lib/rustlib/components"],
                    )?;
                    self.pin(
                        "rust",
                        LockedToolchain {
                            provider: "rustup".into(),
                            version: choice.version,
                            hash: digest,
                        },
                    )?;
                    return Some(RustProvider::Rustup { digest, root: choice.root });
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
                let message = format!(
                    "images.lock pins {name} {} from {}, this machine has {} from {}",
                    locked.version, locked.provider, found.version, found.provider
                );
                self.findings.push(Finding::new("toolchain-changed", message).help(format!(
                    "install the pinned one, or remove [toolchain.{name}] from images.lock to move to this one"
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
            let action = UnpackAction { packages: set.packages, shape: Shape::Toolchain };
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
