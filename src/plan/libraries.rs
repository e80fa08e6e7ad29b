//! Units of native libraries: their sources, their builds, and the layers that carry them
//! into images.

use std::collections::BTreeMap;

use super::facts::{Facts, NativeSources, Setting};
use super::graph::Plan;
use super::images::Planner;
use super::mounts::Mounts;
use crate::config::{Kind, Library, LibraryRecipe, Link, Strip, library_closure};
use crate::model::Configuration;
use crate::model::action::{
    Action, JobStyle, LayerContent, LibraryProduct, ProcessAction, ProjectFile, Shape,
    VendorSources,
};
use crate::model::source::Origin;
use crate::recipe::cargo::{Cargo, Crate, shell};
use crate::recipe::environment::library_folder;
use crate::recipe::native::{Native, Outcome, quoted};
use crate::recipe::{cargo, native};
use crate::toolchain::description::Description;

/// What a build says for one target, by platform or triple.
pub fn for_target<'a, T>(map: &'a BTreeMap<String, T>, target: &Description) -> Option<&'a T> {
    map.get(&target.platform.to_string()).or_else(|| map.get(&target.triple))
}

impl Planner<'_> {
    /// The configuration of a compile unit.
    pub fn configuration(&self, setting: &Setting, profile: &str) -> Option<Configuration> {
        let target = setting.target;
        Some(Configuration {
            execution: self.facts.host.triple.clone(),
            target: target.triple.clone(),
            suite: setting.suite.clone().unwrap_or_else(|| self.facts.suite.clone()),
            cpu: target.cpu.clone(),
            profile: profile.to_owned(),
        })
    }

    /// The unit of a library for a target; libraries of packages have none.
    pub fn library(&mut self, name: &str, setting: &Setting) -> Option<usize> {
        let facts = self.facts;
        let target = setting.target;
        let library = &facts.project.libraries[name];
        let product = product(library, target);
        let unit = format!("library {name} {}", setting.name());
        match &library.recipe {
            LibraryRecipe::Packages(_) => None,
            LibraryRecipe::Prebuilt(files) => {
                let files = for_target(files, target)?;
                let files = files.iter().map(|file| ProjectFile {
                    from: file.from.clone(),
                    to: output_path(&file.to, target),
                    mode: 0o644,
                    digest: file.sha256,
                });
                let action = Action::InstallFiles { files: files.collect(), product };
                Some(self.unit(unit, self.configuration(setting, "release"), action, vec![]))
            }
            LibraryRecipe::Built { kind, folder, .. } => {
                let sources = &facts.natives[&format!("library {name}")];
                let build = Build {
                    what: format!("library {name}"),
                    slug: format!("library-{name}"),
                    kind,
                    folder,
                    sources,
                    needs: &library.needs,
                    tools: &library.tools,
                    env: &library.env,
                    options: for_target(&library.targets, target)
                        .map_or(&[][..], |target| target.options.as_slice()),
                    target_env: for_target(&library.targets, target).map(|target| &target.env),
                    link: library.link,
                    strip: library.strip,
                    result: Outcome::Library(&product),
                };
                Some(self.native(&build, setting))
            }
        }
    }

    /// The unit of a build by another build system, of a library or a program.
    pub fn native(&mut self, build: &Build<'_>, setting: &Setting) -> usize {
        let facts = self.facts;
        let target = setting.target;
        let tools = build_tools(build.kind, build.tools);
        let mut mounts = self.compile_mounts(setting, build.needs, &tools);
        let is_cargo = matches!(build.kind, Kind::Cargo { .. });
        let rustup = is_cargo && self.mount_rust(&mut mounts, target);
        let mut reference = build.sources.reference.clone();
        let mut start = build.sources.start.clone();
        if let Some(unit) = self.source(&build.what, build.sources) {
            if is_cargo && build.sources.has_dependencies {
                let action = Action::VendorCrates {
                    sources: VendorSources::Need { folder: build.folder.to_owned() },
                    lock: build.sources.lock.clone(),
                    digest: build.sources.lock_digest,
                };
                let vendor =
                    self.unit(format!("crates of {}", build.what), None, action, vec![unit]);
                mounts.add("vendor", vendor);
            }
            mounts.add("src", unit);
            reference = None;
            start = String::new();
        } else if is_cargo && build.sources.has_dependencies {
            let name = reference.as_ref().map(|found| found.name.clone()).unwrap_or_default();
            let folder = [start.as_str(), build.folder].join("/").trim_matches('/').to_owned();
            let action = Action::VendorCrates {
                sources: VendorSources::Listing { name, folder },
                lock: build.sources.lock.clone(),
                digest: build.sources.lock_digest,
            };
            let vendor = self.unit(format!("crates of {}", build.what), None, action, vec![]);
            mounts.add("vendor", vendor);
        }
        let folder = [start.as_str(), build.folder].join("/");
        let folder = folder.trim_matches('/').to_owned();
        let names: Vec<String> = mounts.mounts.keys().cloned().collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let cross = facts.cross(target, &names);
        let mut env = build.env.clone();
        env.extend(build.target_env.cloned().unwrap_or_default());
        let state = format!("{}-{}", build.slug, setting.slug());
        let mut process = match build.kind {
            Kind::Cargo {
                package,
                features,
                default_features,
                profile,
                options,
                include,
                soname,
            } => {
                let Outcome::Library(product) = build.result else {
                    unreachable!("programs of cargo are `rust` binaries")
                };
                let mut options = options.clone();
                options.extend(build.options.iter().cloned());
                let cargo = Cargo {
                    package: package.as_deref(),
                    features,
                    default_features: *default_features,
                    profile,
                    options,
                    env,
                    sources: reference,
                    lock: build.sources.lock.as_deref(),
                    top: start,
                    folder: build.folder.to_owned(),
                    state,
                    vendored: build.sources.has_dependencies,
                    rustup,
                    result: Crate::Library {
                        product,
                        link: build.link,
                        strip: build.strip,
                        include,
                        soname: soname.as_deref(),
                    },
                };
                cargo::build(&cross, &cargo, mounts.mounts)
            }
            kind => {
                let start =
                    if folder.is_empty() { "@{src}".into() } else { format!("@{{src}}/{folder}") };
                let native = Native {
                    kind,
                    start,
                    options: build.options,
                    env,
                    link: build.link,
                    strip: build.strip,
                    sources: reference,
                    state,
                    result: build.result.clone(),
                };
                native::build(&cross, &native, mounts.mounts)
            }
        };
        self.pre_build(&mut process, target);
        let unit = format!("{} {}", build.what, setting.name());
        let configuration = self.configuration(setting, "release");
        self.unit(unit, configuration, Action::Process(Box::new(process)), mounts.needs)
    }

    /// What is to be done before anything is compiled for a target.
    pub fn pre_build(&self, process: &mut ProcessAction, target: &Description) {
        let scripts = self.facts.pre_builds.get(&target.triple).map(|found| &found.scripts);
        for script in scripts.into_iter().flatten().rev() {
            process.commands.insert(0, shell(script));
        }
    }

    /// The unit that leaves the sources of a build, where they are not simply a folder of the
    /// project.
    fn source(&mut self, what: &str, sources: &NativeSources) -> Option<usize> {
        let fetched = match &sources.origin {
            Origin::Path { .. } => None,
            origin => {
                let action =
                    Action::FetchSource { origin: origin.clone(), checksum: sources.checksum };
                Some(self.unit(format!("source of {what}"), None, action, vec![]))
            }
        };
        if sources.patches.is_empty() {
            return fetched;
        }
        let facts = self.facts;
        let mut mounts = Mounts::default();
        let userland = &facts.userlands[&Vec::new()];
        mounts.add("userland", self.packages("userland".into(), &[userland], Shape::Toolchain));
        if let Some(fetched) = fetched {
            mounts.add("src", fetched);
        }
        let from = quoted(&format!("@{{src}}/{}", sources.start));
        let mut commands =
            vec![shell(&format!("cp -R {from}/. '@{{out}}'\nchmod -R u+w '@{{out}}'"))];
        let mut tools = BTreeMap::new();
        for (index, (name, text)) in sources.patches.iter().enumerate() {
            let name = quoted(name);
            tools.insert(format!("patches/{index}"), text.clone());
            commands.push(shell(&format!(
                "echo applying {name}\npatch -p1 --forward --no-backup-if-mismatch -d '@{{out}}' \
                 < '@{{tools}}/patches/{index}' || {{ echo {name} does not apply; exit 1; }}"
            )));
        }
        let environment = [
            ("PATH", "@{programs}:/usr/bin:/bin"),
            ("LC_ALL", "C"),
            ("HOME", "@{build}"),
            ("TMPDIR", "@{tmp}"),
        ];
        let process = ProcessAction {
            commands,
            environment: environment.map(|(name, value)| (name.into(), value.into())).into(),
            folder: "@{out}".into(),
            mounts: mounts.mounts,
            tools,
            sources: if fetched.is_some() { None } else { sources.reference.clone() },
            state: format!("{}-patches", what.replace(' ', "-")),
            jobs: JobStyle::Single,
            probes: false,
            product: None,
        };
        let unit = format!("patched source of {what}");
        Some(self.unit(unit, None, Action::Process(Box::new(process)), mounts.needs))
    }

    /// The layers of the libraries of a binary and all that they need, each before what needs
    /// it. `image` is the image that they come to.
    pub fn library_layers(
        &mut self,
        image: &str,
        libraries: &[String],
        setting: &Setting,
    ) -> Vec<usize> {
        let facts = self.facts;
        let target = setting.target;
        let platform = &target.platform;
        let mut layers = Vec::new();
        for name in library_closure(&facts.project, libraries) {
            let library = &facts.project.libraries[&name];
            if !library.link.is_shared() || is_without_code(library, target) {
                continue;
            }
            match self.library(&name, setting) {
                Some(unit) => {
                    let content = LayerContent::SharedLibraries { folder: library_folder(target) };
                    let title = format!("library {name}");
                    let layer = self.layer(
                        format!("layer {title} {}", setting.name()),
                        &title,
                        content,
                        vec![unit],
                    );
                    layers.push(layer);
                }
                None => layers.extend(self.runtime_layer(image, &name, platform)),
            }
        }
        layers
    }
}

/// The plan of the sources of a build alone, and the unit that leaves them, unless they are
/// simply a folder of the project. `what` is `library NAME` or `binary NAME`.
pub fn source_plan(facts: &Facts, what: &str) -> (Plan, Option<usize>) {
    let mut planner = Planner::new(facts);
    let unit = planner.source(what, &facts.natives[what]);
    (planner.plan, unit)
}

/// One build by another build system.
pub struct Build<'a> {
    /// `library NAME` or `binary NAME`.
    pub what: String,
    /// The same as a file name.
    pub slug: String,
    /// By what.
    pub kind: &'a Kind,
    /// Folder in the sources.
    pub folder: &'a str,
    /// Sources.
    pub sources: &'a NativeSources,
    /// Libraries that it is built against.
    pub needs: &'a [String],
    /// Packages of the build.
    pub tools: &'a [String],
    /// Variables.
    pub env: &'a BTreeMap<String, String>,
    /// Options for the target.
    pub options: &'a [String],
    /// Variables for the target.
    pub target_env: Option<&'a BTreeMap<String, String>>,
    /// Forms that are kept.
    pub link: Link,
    /// What is removed.
    pub strip: Strip,
    /// What results.
    pub result: Outcome<'a>,
}

/// The programs that a build needs beside the usual ones: those of its kind and the user's.
pub fn build_tools(kind: &Kind, tools: &[String]) -> Vec<String> {
    let mut all = tools.to_vec();
    match kind {
        Kind::Cmake { .. } => all.push("cmake".into()),
        Kind::Meson { .. } => all.push("meson".into()),
        _ => {}
    }
    all.sort();
    all.dedup();
    all
}

/// A path that the user gave below `usr`, where `lib` is the target's folder of libraries.
pub fn output_path(path: &str, target: &Description) -> String {
    match path.strip_prefix("lib/") {
        Some(rest) => format!("{}/{rest}", library_folder(target)),
        None => format!("usr/{path}"),
    }
}

/// Whether a library that somebody else built is of headers alone, so that images need no
/// layer of it.
fn is_without_code(library: &Library, target: &Description) -> bool {
    match &library.recipe {
        LibraryRecipe::Prebuilt(files) => for_target(files, target)
            .is_some_and(|files| files.iter().all(|file| !file.to.contains(".so"))),
        _ => false,
    }
}

/// What the output of a library has to hold.
pub fn product(library: &Library, target: &Description) -> LibraryProduct {
    let mut paths: Vec<String> =
        library.headers.iter().map(|header| format!("usr/include/{header}")).collect();
    if let LibraryRecipe::Built { kind: Kind::Command { outputs, .. }, .. } = &library.recipe {
        paths.extend(outputs.iter().map(|path| output_path(path, target)));
    }
    LibraryProduct {
        platform: target.platform.clone(),
        folder: library_folder(target),
        libraries: library.libraries.clone(),
        shared: library.link.is_shared(),
        archives: library.link.is_static(),
        paths,
    }
}
