//! Each sort of difference, as it is told.

use serde_json::json;

use super::*;
use crate::model::Digest;
use crate::plan::facts::SourceFile;

fn parts(action: Value) -> Parts {
    let configuration = Configuration {
        execution: "x86_64-unknown-linux-gnu".into(),
        target: "aarch64-unknown-linux-gnu".into(),
        suite: "bookworm".into(),
        cpu: "armv8-a".into(),
        profile: "release".into(),
    };
    let need = |name: &str| (name.to_owned(), Some(Digest::of(name.as_bytes())));
    let needs = vec![need("toolchain llvm"), need("library x")];
    Parts { version: 1, action, configuration: Some(configuration), needs }
}

fn process() -> Value {
    json!({
        "type": "process",
        "commands": [["cc", "-O2", "-Wall", "--level=1", "a.c", "-o", "@{build}/0.o"]],
        "environment": {"LANG": "C", "CFLAGS": "-O2 -g", "TOKEN": Digest::of(b"1")},
        "folder": "@{src}",
        "mounts": {
            "go": {"from": "machine", "name": "go1.22.1", "digest": Digest::of(b"1")},
            "llvm": {"from": "need", "need": 0},
        },
        "tools": {"bin/cc": "exec clang", "patches/0": "+x"},
        "state": "x",
    })
}

fn check(old: &Value, change: impl FnOnce(&mut Value), name: &str, expected: &[&str]) {
    let mut new = old.clone();
    change(&mut new);
    let reasons = differences(name, &parts(old.clone()), &parts(new), Sources::default());
    let texts: Vec<&str> = reasons.iter().map(|reason| reason.text.as_str()).collect();
    assert_eq!(texts, expected);
}

#[test]
fn of_processes() {
    let check = |change: &dyn Fn(&mut Value), expected: &[&str]| {
        check(&process(), change, "binary x", expected);
    };
    check(&|_| {}, &[]);
    check(&|a| a["commands"][0][1] = "-O3".into(), &["flag -O2 -> -O3"]);
    check(&|a| a["commands"][0][3] = "--level=2".into(), &["flag --level=1 -> --level=2"]);
    let flags = json!([["cc", "-Wall", "--level=1", "-g", "a.c", "-o", "@{build}/0.o"]]);
    check(&|a| a["commands"] = flags.clone(), &["flag -O2 is gone", "flag -g is new"]);
    check(
        &|a| a["commands"][0].as_array_mut().unwrap().swap(1, 2),
        &["the words of its command lines have another order"],
    );
    check(&|a| a["environment"]["LANG"] = "de".into(), &["variable LANG changed from `C` to `de`"]);
    check(
        &|a| a["environment"]["CFLAGS"] = "-O2 -g -Wall".into(),
        &["variable CFLAGS gained `-Wall`"],
    );
    check(&|a| a["environment"]["X"] = "1".into(), &["variable X is new: `1`"]);
    let other = Digest::of(b"2").to_string();
    check(&|a| a["environment"]["TOKEN"] = other.clone().into(), &["variable TOKEN changed"]);
    check(&|a| a["mounts"]["go"]["name"] = "go1.23.0".into(), &["toolchain go1.22.1 -> go1.23.0"]);
    check(
        &|a| a["mounts"]["go"]["digest"] = other.clone().into(),
        &["toolchain go1.22.1 has other content"],
    );
    check(&|a| a["tools"]["bin/cc"] = "exec gcc".into(), &["template bin/cc changed"]);
    check(&|a| a["tools"]["patches/0"] = "+y".into(), &["patch patches/0 changed"]);
    check(&|a| a["folder"] = "x".into(), &["option folder changed from `@{src}` to `x`"]);
}

#[test]
fn of_packages() {
    let package = |name: &str, version: &str| {
        json!({"name": name, "architecture": "amd64", "version": version,
               "sha256": Digest::of(version.as_bytes()), "size_bytes": 1})
    };
    let action = |packages: &[Value]| json!({"type": "unpack-packages", "packages": packages});
    let old = action(&[package("clang", "19.1.7"), package("lld", "19"), package("old", "1")]);
    let new = action(&[package("clang", "19.1.8"), package("lld", "19"), package("new", "1")]);
    check(
        &old,
        |action| *action = new.clone(),
        "toolchain llvm",
        &[
            "toolchain clang:amd64 19.1.7 -> 19.1.8",
            "toolchain new:amd64 is new",
            "toolchain old:amd64 is gone",
        ],
    );
    check(
        &old,
        |action| action["packages"].as_array_mut().unwrap().swap(0, 1),
        "root x",
        &["its packages have another order"],
    );
    check(
        &old,
        |action| drop(action["packages"].as_array_mut().unwrap().pop()),
        "root x",
        &["package old:amd64 is gone"],
    );
}

#[test]
fn of_layers_and_manifests() {
    let member = |to: &str, from: &str, text: &str| {
        json!({"to": to, "mode": 0o644, "owner": [0, 0],
               "kind": {"kind": "file", "from": from, "digest": Digest::of(text.as_bytes())}})
    };
    let members = json!([member("/etc/a", "conf/a", "1"), member("/etc/b", "conf/b", "1")]);
    let layer = json!({"type": "pack-layer", "title": "files", "epoch_secs": 0,
                       "content": {"content": "files", "members": members}});
    check(
        &layer,
        |a| a["content"]["members"][0] = member("/etc/a", "conf/a", "2"),
        "layer",
        &["source conf/a changed"],
    );
    check(
        &layer,
        |a| a["content"]["members"][0]["mode"] = 0o755.into(),
        "layer",
        &["file /etc/a.mode changed from `644` to `755`"],
    );
    check(
        &layer,
        |a| a["content"]["members"][0] = member("/etc/c", "conf/c", "1"),
        "layer",
        &["file /etc/a is gone", "file /etc/c is new"],
    );
    let manifest = json!({"type": "manifest", "labels": {"a": "1"}, "cmd": ["x"]});
    check(
        &manifest,
        |a| a["labels"]["a"] = "2".into(),
        "manifest",
        &["option labels.a changed from `1` to `2`"],
    );
    check(
        &manifest,
        |a| a["labels"]["b"] = "2".into(),
        "manifest",
        &["option labels.b is new: `2`"],
    );
    check(
        &manifest,
        |a| a["cmd"][0] = "y".into(),
        "manifest",
        &[r#"option cmd changed from `["x"]` to `["y"]`"#],
    );
}

#[test]
fn of_sources_and_the_rest() {
    let file = |text: &str, executable: bool| SourceFile {
        digest: Digest::of(text.as_bytes()),
        executable,
    };
    let files = |all: &[(&str, SourceFile)]| -> Files {
        all.iter().map(|(path, file)| (path.to_string(), file.clone())).collect()
    };
    let mut new = process();
    new["sources"] = json!({"name": "x", "digest": Digest::of(b"2")});
    new["commands"][0][4] = "b.c".into();
    let mut old = process();
    old["sources"] = json!({"name": "x", "digest": Digest::of(b"1")});
    let then =
        files(&[("a.c", file("a", false)), ("x.h", file("1", false)), ("y.sh", file("y", false))]);
    let now =
        files(&[("b.c", file("a", false)), ("x.h", file("2", false)), ("y.sh", file("y", true))]);
    let sources = Sources { old: Some(&then), new: Some(&now) };
    let texts = |old: &Parts, new: &Parts, sources: Sources<'_>| -> Vec<String> {
        differences("binary x", old, new, sources).into_iter().map(|reason| reason.text).collect()
    };
    let (old, mut new) = (parts(old), parts(new));
    assert_eq!(
        texts(&old, &new, sources),
        [
            "source a.c is gone",
            "source b.c is new",
            "source x.h changed",
            "source y.sh became executable",
        ]
    );
    let unknown = texts(&old, &new, Sources::default());
    assert_eq!(unknown, ["its sources changed", "flag a.c is gone", "flag b.c is new"]);
    new = old.clone();
    new.configuration.as_mut().unwrap().profile = "dev".into();
    new.version = 2;
    assert_eq!(
        texts(&old, &new, sources),
        [
            "configuration profile changed from `release` to `dev`",
            "this version of xstitch makes a process otherwise",
        ]
    );
    new = old.clone();
    new.needs.push(("library y".into(), None));
    assert_eq!(texts(&old, &new, Sources::default()), ["now needs library y"]);
    assert_eq!(texts(&new, &old, Sources::default()), ["no longer needs library y"]);
}
