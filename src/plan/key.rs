//! Keys: what decides that a result can be used again.
//!
//! | enters | why |
//! |---|---|
//! | the version of this program's way of doing such an action | a new packer may make other bytes |
//! | the action, as JSON: all of the rows below | it is what is done |
//! | the configuration: machine that compiles, target, suite, CPU, profile | the same commands for another target are another unit |
//! | digests of the outputs of the needed units, in order | they are inputs: packages, libraries, layers, manifests |
//!
//! | of an action enters | why |
//! |---|---|
//! | commands, variables, working folder | features, options, flags and linker flags are in them |
//! | texts of tools | wrappers of compilers, files for CMake and Meson, patches |
//! | digest of the sources: paths, digests, execute bits; those of `plan/selection.rs` | they are compiled |
//! | … of Rust: manifests, `Cargo.lock`, `.cargo/` there and above, `rust-toolchain*`, all members, packages named by path | any may be a dependency or an input of a `build.rs` |
//! | … and what `inputs` name | a build reads it, whoever ignores it |
//! | … of Go: the module and those it replaces by folders, with `go.mod` and `go.sum` | any file may be embedded |
//! | … of C: the folder that all patterns and `include` are in | any file may be a header |
//! | … of a library: its folder, or its `inputs` | its build system may read any |
//! | name of the listing | it says where in the project the files are |
//! | name and digest of a machine's folder | Go's and rustup's toolchains compile |
//! | places and names of mounts | commands name them |
//! | name of the compiler state, way of sharing cores, whether probes are left | what one cache of a compiler serves, `-p N` in commands |
//! | what a library has to leave | a result was checked against it |
//! | packages: name, version, architecture, hash, size, in order; how they are used | they are unpacked, later ones over earlier ones |
//! | what is left out of a root, ignored scripts, the table of known scripts | it decides what a root holds |
//! | origin and checksum of fetched sources, without credentials | they are fetched |
//! | digest or text of lock files and manifests, version of Go | they say which crates and modules are fetched |
//! | files of the project: path, digest, mode, owner, capabilities, place | they are packed |
//! | titles, compression, times of layers | they are in the layer and the history |
//! | a base's layer: digest, size, media type, diff ID | it is taken as it is |
//! | names of images, bases and platforms | they are in findings, manifests and annotations |
//! | the image's configuration, annotations, what a base leaves | they are in the manifest |
//!
//! | stays out | why |
//! |---|---|
//! | names of units | people may rename |
//! | paths, host, user, clock, inherited environment | the same work elsewhere is the same |
//! | number of jobs, sandbox tier | a test proves that they change nothing |
//! | where a base's layer is looked for | its digest says what it is |
//! | credentials in URLs | the content is pinned |
//! | compiler state, snapshots of sources | they save time, they are no inputs |
//! | mirrors and hosts of packages | hashes say what they are |

use serde::Serialize;

use super::Unit;
use crate::model::action::{Action, Shape, UnpackAction};
use crate::model::{Configuration, Digest};

/// Raised for a kind of action when the same text gives other bytes than before.
pub const fn version(action: &Action) -> u32 {
    match action {
        // The summary beside a layer holds the libraries and symbol versions of ELF files.
        Action::PackLayer(_) => 3,
        // What passed before may bring a library twice, or need a newer glibc.
        Action::CheckPlatform { .. } => 3,
        // An image of the configuration gives what others do to those on it.
        Action::Manifest(_) => 3,
        // What scripts would do is recorded.
        Action::UnpackPackages(UnpackAction { shape: Shape::Root, .. }) => 3,
        // Programs have the names that the alternatives system would give them.
        Action::UnpackPackages(_) => 2,
        // Raised with what summaries of base layers hold.
        Action::ImportLayer(_) => 2,
        // It keeps the texts that packages on the base add to.
        Action::CheckBase { .. } => 2,
        _ => 1,
    }
}

#[derive(Serialize)]
struct Key<'a> {
    version: u32,
    action: &'a Action,
    configuration: &'a Option<Configuration>,
    needs: &'a [Digest],
}

/// The key of `unit` whose needs gave `outputs`.
pub fn key(unit: &Unit, outputs: &[Digest]) -> Digest {
    let key = Key {
        version: version(&unit.action),
        action: &unit.action,
        configuration: &unit.configuration,
        needs: outputs,
    };
    Digest::of(&serde_json::to_vec(&key).expect("an action has string keys only"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::model::Origin;
    use crate::model::action::{
        ImportAction, JobStyle, LayerAction, LayerContent, LayerMember, LibraryProduct,
        ManifestAction, MemberKind, Mount, ProcessAction, ProjectFile, RootOptions,
        SourceReference, VendorSources,
    };
    use crate::model::base::{BaseLayer, Inherited};
    use crate::model::capability::Capabilities;
    use crate::model::package::Package;

    fn unit() -> Unit {
        let action = ProcessAction {
            commands: vec![vec!["cc".into(), "x.c".into()]],
            environment: BTreeMap::from([("LC_ALL".into(), "C".into())]),
            folder: "@{src}".into(),
            mounts: BTreeMap::from([("llvm".into(), Mount::Need { need: 0 })]),
            tools: BTreeMap::from([("bin/cc".into(), "#!/bin/sh\n".into())]),
            sources: Some(SourceReference { name: "x".into(), digest: Digest::of(b"x") }),
            state: "x".into(),
            jobs: JobStyle::Single,
            probes: false,
            product: None,
        };
        let configuration = Configuration {
            execution: "x86_64-unknown-linux-gnu".into(),
            target: "aarch64-unknown-linux-gnu".into(),
            suite: "bookworm".into(),
            cpu: "armv8-a".into(),
            profile: "release".into(),
        };
        Unit {
            name: "binary x".into(),
            configuration: Some(configuration),
            action: Action::Process(Box::new(action)),
            needs: vec![0],
        }
    }

    #[test]
    fn every_field_counts() {
        let needs = [Digest::of(b"need")];
        let base = key(&unit(), &needs);
        let differs = |what: &str, change: &dyn Fn(&mut ProcessAction, &mut Configuration)| {
            let mut unit = unit();
            let Action::Process(action) = &mut unit.action else { unreachable!() };
            change(action, unit.configuration.as_mut().unwrap());
            assert_ne!(key(&unit, &needs), base, "{what}");
        };
        differs("command", &|a, _| a.commands[0].push("-O2".into()));
        differs("environment", &|a, _| drop(a.environment.insert("X".into(), "1".into())));
        differs("folder", &|a, _| a.folder.push('x'));
        differs("mounts", &|a, _| {
            let machine = Mount::Machine { name: "go".into(), digest: Digest::of(b"go") };
            a.mounts.insert("go".into(), machine);
        });
        differs("machine folder", &|a, _| {
            let machine = Mount::Machine { name: "go".into(), digest: Digest::of(b"other") };
            a.mounts.insert("llvm".into(), machine);
        });
        differs("tools", &|a, _| drop(a.tools.insert("bin/ld".into(), String::new())));
        differs("sources", &|a, _| a.sources.as_mut().unwrap().digest = Digest::of(b"y"));
        differs("no sources", &|a, _| a.sources = None);
        differs("probes", &|a, _| a.probes = true);
        differs("product", &|a, _| {
            a.product = Some(LibraryProduct {
                platform: "linux/arm64".parse().unwrap(),
                folder: "usr/lib/aarch64-linux-gnu".into(),
                libraries: vec!["x".into()],
                shared: true,
                archives: false,
                paths: vec![],
            });
        });
        differs("state", &|a, _| a.state.push('x'));
        differs("jobs", &|a, _| a.jobs = JobStyle::Lease);
        differs("execution", &|_, c| c.execution.push('x'));
        differs("target", &|_, c| c.target.push('x'));
        differs("suite", &|_, c| c.suite.push('x'));
        differs("cpu", &|_, c| c.cpu.push('x'));
        differs("profile", &|_, c| c.profile.push('x'));
        assert_ne!(key(&unit(), &[Digest::of(b"other")]), base, "needs");
        let renamed = Unit { name: "other".into(), needs: vec![7], ..unit() };
        assert_eq!(key(&renamed, &needs), base, "names and places stay out");
    }

    #[test]
    fn fetched_sources_count() {
        let listing = |name: &str| VendorSources::Listing { name: name.into(), folder: "".into() };
        let of = |action: Action| {
            let unit = Unit { name: "x".into(), configuration: None, action, needs: vec![] };
            key(&unit, &[])
        };
        let archive = |at: &str, text: &str| Origin::Archive {
            at: at.into(),
            sha256: Digest::of(text.as_bytes()),
        };
        let git = |url: &str, commit: &str| Origin::Git { url: url.into(), commit: commit.into() };
        let part = |name: &str, version: &str, folder: &str| Origin::Crate {
            name: name.into(),
            version: version.into(),
            folder: folder.into(),
        };
        let fetch = |origin: Origin, checksum: Option<&str>| {
            let checksum = checksum.map(|text| Digest::of(text.as_bytes()));
            of(Action::FetchSource { origin, checksum })
        };
        let vendor = |sources: VendorSources, text: &str, lock: Option<&str>| {
            let digest = Digest::of(text.as_bytes());
            of(Action::VendorCrates { sources, digest, lock: lock.map(str::to_owned) })
        };
        let need = |folder: &str| VendorSources::Need { folder: folder.into() };
        let keys = [
            fetch(archive("https://h/x", "x"), None),
            fetch(archive("https://h/y", "x"), None),
            fetch(archive("https://h/x", "y"), None),
            fetch(git("https://h/x", "x"), None),
            fetch(git("https://h/y", "x"), None),
            fetch(git("https://h/x", "y"), None),
            fetch(part("x", "1", ""), None),
            fetch(part("y", "1", ""), None),
            fetch(part("x", "2", ""), None),
            fetch(part("x", "1", "y"), None),
            fetch(part("x", "1", ""), Some("x")),
            fetch(part("x", "1", ""), Some("y")),
            vendor(listing("x"), "x", None),
            vendor(listing("y"), "x", None),
            vendor(listing("x"), "y", None),
            vendor(listing("x"), "x", Some("x")),
            vendor(need("x"), "x", None),
            vendor(need("y"), "x", None),
        ];
        let different: std::collections::BTreeSet<&Digest> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        let secret = fetch(archive("https://me:s3cret@h/x", "x"), None);
        assert_eq!(secret, keys[0], "credentials stay out");
    }

    /// One action of each kind with something in every field.
    fn samples() -> Vec<Action> {
        let digest = Digest::of(b"x");
        let platform: crate::model::Platform = "linux/arm64".parse().unwrap();
        let file = ProjectFile { from: "a".into(), to: "b".into(), mode: 0o644, digest };
        let capabilities = Capabilities { permitted: 1, inheritable: 2, effective: true };
        let member = |kind: MemberKind| LayerMember {
            to: "/a".into(),
            kind,
            mode: 0o644,
            owner: (1, 2),
            capabilities: Some(capabilities),
        };
        let layer = |content: LayerContent| {
            Action::PackLayer(Box::new(LayerAction {
                title: "t".into(),
                content,
                compression: "gzip".into(),
                epoch_secs: 1,
                placed: true,
            }))
        };
        let product = LibraryProduct {
            platform: platform.clone(),
            folder: "usr/lib".into(),
            libraries: vec!["x".into()],
            shared: true,
            archives: true,
            paths: vec!["y".into()],
        };
        let Action::Process(mut process) = unit().action else { unreachable!() };
        process.product = Some(product.clone());
        process.mounts.insert("go".into(), Mount::Machine { name: "go".into(), digest });
        let package = Package {
            name: "p".into(),
            version: "1".into(),
            architecture: "arm64".into(),
            sha256: digest,
            size_bytes: 1,
        };
        let root = RootOptions {
            sets: vec!["s".into()],
            patterns: vec!["p".into()],
            ignored_scripts: vec!["i".into()],
            scripts: digest,
        };
        let text = |text: &str| BTreeMap::from([(text.to_owned(), text.to_owned())]);
        let manifest = ManifestAction {
            image: "i".into(),
            platform: platform.clone(),
            entrypoint: vec!["/e".into()],
            cmd: vec!["c".into()],
            env: text("E"),
            expose: vec!["80/tcp".into()],
            user: Some("1".into()),
            workdir: Some("/w".into()),
            labels: text("l"),
            volumes: vec!["/v".into()],
            stop_signal: Some("SIGINT".into()),
            annotations: text("a"),
            base: Some("b".into()),
            inherited: Some(Inherited {
                name: "n".into(),
                digest,
                config: serde_json::json!({"User": "u"}),
                history: vec![serde_json::json!({"comment": "c"})],
                layers: 1,
            }),
            epoch_secs: 1,
        };
        let vendor =
            |sources| Action::VendorCrates { sources, digest, lock: Some("lock".to_owned()) };
        let fetch = |origin| Action::FetchSource { origin, checksum: Some(digest) };
        vec![
            Action::UnpackPackages(UnpackAction {
                packages: vec![package],
                shape: Shape::Root,
                root: Some(root),
            }),
            fetch(Origin::Path { path: "p".into() }),
            fetch(Origin::Archive { at: "https://h/x".into(), sha256: digest }),
            fetch(Origin::Git { url: "https://h/x".into(), commit: "c".into() }),
            fetch(Origin::Crate { name: "n".into(), version: "1".into(), folder: "f".into() }),
            vendor(VendorSources::Listing { name: "n".into(), folder: "f".into() }),
            vendor(VendorSources::Need { folder: "f".into() }),
            Action::DownloadModules {
                sources: "s".into(),
                folder: "f".into(),
                digest,
                go: "1.22".into(),
            },
            Action::Process(process),
            Action::JoinTrees { names: vec!["n".into()], archives: vec![1] },
            Action::InstallFiles { files: vec![file], product },
            layer(LayerContent::Root { furnish: true, stages: vec![1], apart: 1 }),
            layer(LayerContent::Outputs { files: vec![("a".into(), "/b".into())] }),
            layer(LayerContent::SharedLibraries { folder: "usr/lib".into() }),
            layer(LayerContent::Files {
                members: vec![
                    member(MemberKind::File { from: "f".into(), digest }),
                    member(MemberKind::Link { target: "t".into() }),
                    member(MemberKind::Folder),
                ],
            }),
            Action::ImportLayer(Box::new(ImportAction {
                layer: BaseLayer { digest, size_bytes: 1, media_type: "m".into(), diff_id: digest },
                compression: Some("gzip".into()),
                origin: None,
            })),
            Action::CheckBase { name: "b".into(), platform: platform.clone() },
            Action::PlaceFolders { folders: vec!["f".into()], texts: true },
            Action::CheckPlatform { image: "i".into(), platform: platform.clone() },
            Action::Manifest(Box::new(manifest)),
            Action::Index { image: "i".into(), platforms: vec![platform], annotations: text("a") },
        ]
    }

    /// A value as others that may be in its place: the first that an action can have counts.
    fn others(value: &Value) -> Vec<Value> {
        match value {
            Value::Bool(value) => vec![Value::from(!value)],
            Value::Number(number) => vec![Value::from(number.as_u64().unwrap() + 1)],
            Value::String(text) => {
                let words = ["toolchain", "jobserver", "linux/amd64"];
                let digest = Digest::of(b"other").to_string();
                let other = if text.starts_with("sha256:") { digest } else { format!("{text}x") };
                let mut all = vec![Value::from(other)];
                all.extend(words.map(Value::from));
                all
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_leaf_of_every_action_counts() {
        let of = |action: &Action| key(&Unit { action: action.clone(), ..unit() }, &[]);
        let mut kinds = std::collections::BTreeSet::new();
        for action in samples() {
            let whole = serde_json::to_value(&action).unwrap();
            kinds.insert(whole["type"].as_str().unwrap().to_owned());
            let mut left = vec![String::new()];
            let mut leaves = 0;
            while let Some(pointer) = left.pop() {
                let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
                match whole.pointer(&pointer).unwrap() {
                    Value::Object(map) => {
                        left.extend(map.keys().map(|key| format!("{pointer}/{}", escape(key))));
                        continue;
                    }
                    Value::Array(items) => {
                        assert!(!items.is_empty(), "{pointer} of {whole} has nothing");
                        left.extend((0..items.len()).map(|at| format!("{pointer}/{at}")));
                        continue;
                    }
                    Value::Null => panic!("{pointer} of {whole} has nothing"),
                    leaf => {
                        // Variants are samples of their own.
                        let is_tag = ["/type", "/in", "/from", "/content", "/kind"]
                            .iter()
                            .any(|tag| pointer.ends_with(tag));
                        let changed = others(leaf).into_iter().find_map(|other| {
                            let mut copy = whole.clone();
                            *copy.pointer_mut(&pointer).unwrap() = other;
                            serde_json::from_value::<Action>(copy)
                                .ok()
                                .filter(|changed| *changed != action)
                        });
                        match changed {
                            Some(changed) => assert_ne!(of(&changed), of(&action), "{pointer}"),
                            None => assert!(is_tag, "{pointer} of {whole} cannot be changed"),
                        }
                        leaves += 1;
                    }
                }
            }
            assert!(leaves > 1, "{whole}");
        }
        assert_eq!(kinds.len(), KINDS, "{kinds:?}");
    }

    /// Number of kinds of actions. A new one makes this match incomplete, and needs a sample.
    const KINDS: usize = 14;

    #[allow(dead_code, reason = "it is there for the compiler to look at")]
    fn kinds(action: &Action) {
        match action {
            Action::UnpackPackages(_)
            | Action::FetchSource { .. }
            | Action::VendorCrates { .. }
            | Action::DownloadModules { .. }
            | Action::Process(_)
            | Action::JoinTrees { .. }
            | Action::InstallFiles { .. }
            | Action::PackLayer(_)
            | Action::ImportLayer(_)
            | Action::CheckBase { .. }
            | Action::PlaceFolders { .. }
            | Action::CheckPlatform { .. }
            | Action::Manifest(_)
            | Action::Index { .. } => {}
        }
    }
}
