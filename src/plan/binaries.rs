//! Units that compile binaries.

use super::facts::{BinarySources, Setting};
use super::images::{Planner, slug};
use super::libraries::Build;
use super::mounts::Mounts;
use crate::config::{Binary, Link, Recipe, Strip};
use crate::model::action::{Action, ProcessAction, Shape, SourceReference, VendorSources};
use crate::recipe::environment::Cross;
use crate::recipe::native::Outcome;
use crate::recipe::{c, cargo, go};

impl Planner<'_> {
    /// The unit that compiles a binary.
    pub fn binary(&mut self, name: &str, setting: &Setting) -> usize {
        let facts = self.facts;
        let target = setting.target;
        let binary = &facts.project.binaries[name];
        if let Recipe::Built { folder, kind, program, .. } = &binary.recipe {
            let build = Build {
                what: format!("binary {name}"),
                slug: format!("binary-{name}"),
                kind,
                folder,
                sources: &facts.natives[&format!("binary {name}")],
                needs: &binary.libraries,
                tools: &binary.tools,
                env: &std::collections::BTreeMap::new(),
                options: &[],
                target_env: None,
                link: Link::Static,
                strip: binary.strip.unwrap_or(Strip::All),
                result: Outcome::Program {
                    program: name,
                    installed: program.as_deref().unwrap_or(name),
                },
            };
            return self.native(&build, setting);
        }
        let sources = &facts.binaries[name];
        let needs_c = !matches!(binary.recipe, Recipe::Go { cgo: false, .. });
        let mut mounts = if needs_c {
            self.compile_mounts(setting, &binary.libraries, &binary.tools)
        } else {
            let mut mounts = Mounts::default();
            let tools = facts.userland_tools(&binary.tools, target);
            let userland = &facts.userlands[&tools];
            let unit = format!("userland {}", tools.join(" "));
            let unit = self.packages(unit.trim_end().into(), &[userland], Shape::Toolchain);
            mounts.add("userland", unit);
            mounts
        };
        let mut rustup = false;
        if let Recipe::Rust { .. } = &binary.recipe {
            rustup = self.mount_rust(&mut mounts, target);
            if sources.has_dependencies {
                let folder = sources.folder.clone();
                let action = Action::VendorCrates {
                    sources: VendorSources::Listing { name: sources.listing.clone(), folder },
                    lock: None,
                    digest: sources.lock_digest,
                };
                let lock = [sources.listing.as_str(), "Cargo.lock"].join("/");
                let unit = format!("crates of {}", lock.trim_start_matches('/'));
                mounts.add("vendor", self.unit(unit, None, action, vec![]));
            }
        }
        if let (Recipe::Go { .. }, Some(go)) = (&binary.recipe, &sources.go) {
            if sources.has_dependencies {
                let action = Action::DownloadModules {
                    sources: sources.listing.clone(),
                    folder: sources.folder.clone(),
                    digest: sources.lock_digest,
                    go: go.version.clone(),
                };
                let unit = format!("modules of {}/go.mod", sources.folder);
                mounts.add("modules", self.unit(unit, None, action, vec![]));
            }
            let name = format!("go{}", go.version);
            self.machine_folder(&mut mounts, &name, "go", &go.root, go.digest);
        }
        let names: Vec<String> = mounts.mounts.keys().cloned().collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let cross = facts.cross(target, &names);
        let mounted = std::mem::take(&mut mounts.mounts);
        let mut process = self.recipe(&cross, (name, setting), binary, sources, rustup, mounted);
        self.pre_build(&mut process, target);
        let profile = match &binary.recipe {
            Recipe::Rust { profile, .. } => profile,
            _ => "release",
        };
        let configuration = self.configuration(setting, profile);
        let action = Action::Process(Box::new(process));
        self.unit(format!("binary {name} {}", setting.name()), configuration, action, mounts.needs)
    }

    fn recipe(
        &self,
        cross: &Cross<'_>,
        (name, setting): (&str, &Setting),
        binary: &Binary,
        sources: &BinarySources,
        rustup: bool,
        mounts: std::collections::BTreeMap<String, crate::model::action::Mount>,
    ) -> ProcessAction {
        let reference = SourceReference { name: sources.listing.clone(), digest: sources.digest };
        // All targets share a folder of cargo's, all suites do not: it would not see that
        // the sysroot is another, only that something is.
        let suite = setting.suite.iter().map(|suite| format!("-{suite}")).collect::<String>();
        let state = |language: &str| format!("{language}-{}{suite}", slug(&sources.folder));
        match &binary.recipe {
            Recipe::Rust { package, features, default_features, profile, .. } => {
                let build = cargo::Cargo {
                    package: Some(package),
                    features,
                    default_features: *default_features,
                    profile,
                    options: Vec::new(),
                    env: std::collections::BTreeMap::new(),
                    sources: Some(reference),
                    lock: None,
                    top: String::new(),
                    folder: sources.folder.clone(),
                    state: state("rust"),
                    vendored: sources.has_dependencies,
                    rustup,
                    result: cargo::Crate::Program {
                        program: &sources.program,
                        strip: binary.strip,
                    },
                };
                cargo::build(cross, &build, mounts)
            }
            Recipe::Go { package, tags, ldflags, cgo, .. } => {
                let version = &self.facts.version;
                let build = go::Go {
                    package,
                    program: &sources.program,
                    tags,
                    ldflags: &ldflags
                        .iter()
                        .map(|flag| flag.replace("{version}", version))
                        .collect::<Vec<_>>(),
                    cgo: *cgo,
                    strip: binary.strip.unwrap_or(Strip::All),
                    sources: reference,
                    folder: sources.folder.clone(),
                    // Go's cache has keys of its own, and its bytes do not depend on it.
                    state: format!("{}-{}", state("go"), cross.target.platform.slug()),
                };
                go::build(cross, &build, mounts)
            }
            Recipe::C { cxx, flags, ldflags, include, .. } => {
                let mut all_flags = cross.target.default_cflags.clone();
                all_flags.extend(cross.overrides.cflags.iter().chain(flags).cloned());
                let build = c::C {
                    program: &sources.program,
                    cxx: *cxx,
                    files: &sources.files,
                    flags: all_flags,
                    ldflags,
                    include,
                    strip: binary.strip.unwrap_or(Strip::All),
                    sources: reference,
                    state: format!("c-{name}-{}", setting.slug()),
                };
                c::build(cross, &build, mounts)
            }
            Recipe::Built { .. } => unreachable!("builds of other systems are planned before"),
        }
    }
}
