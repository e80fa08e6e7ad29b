//! Keys: what decides that a result can be used again.
//!
//! | enters | why |
//! |---|---|
//! | the version of this program's actions | a new packer may make other bytes |
//! | the action, as JSON | commands, environment, tools, package pins, origins of sources, layer members |
//! | digests of the sources it declares (in the action) | they are compiled |
//! | digests of machine folders it mounts (in the action) | they compile |
//! | the configuration | the same commands for another target are another unit |
//! | digests of the outputs of the needed units | they are inputs |
//!
//! | stays out | why |
//! |---|---|
//! | names of units | people may rename |
//! | paths, host, user, clock, inherited environment | the same work elsewhere is the same |
//! | number of jobs, sandbox tier | a test proves that they change nothing |

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

    use super::*;
    use crate::model::Origin;
    use crate::model::action::{
        JobStyle, LibraryProduct, Mount, ProcessAction, SourceReference, VendorSources,
    };

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
}
