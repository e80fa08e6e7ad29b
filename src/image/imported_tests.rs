use super::*;

enum M<'a> {
    File(&'a str, &'a str),
    Folder(&'a str),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
}

fn layer(members: &[M<'_>]) -> (LayerSummary, Paths) {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        match member {
            M::File(path, text) => {
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
            M::Folder(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, path, io::empty()).unwrap();
            }
            M::Link(path, target) | M::Hard(path, target) => {
                let hard = matches!(member, M::Hard(..));
                let kind = if hard { tar::EntryType::Link } else { tar::EntryType::Symlink };
                header.set_entry_type(kind);
                builder.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    let bytes = builder.into_inner().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let layer = import(bytes.as_slice(), bytes.len() as u64, scratch.path()).unwrap();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    layer
}

fn joined(layers: &[&[M<'_>]]) -> Joined {
    let mut joined = Joined::default();
    for members in layers {
        let (summary, paths) = layer(members);
        joined.add(&summary, &paths);
    }
    joined
}

#[test]
fn upper_layers_hide_lower_ones() {
    let base = joined(&[
        &[
            M::Folder("usr/lib"),
            M::Link("lib", "usr/lib"),
            M::File("usr/lib/a", "#!/a\n"),
            M::File("usr/lib/b", "#!/b\n"),
            M::File("opt/x/y", "#!/y\n"),
            M::File("srv/z", "#!/z\n"),
        ],
        &[
            M::File("usr/lib/.wh.a", ""),
            M::File("opt/.wh..wh..opq", ""),
            M::File("opt/new", "#!/new\n"),
            M::File("lib/c", "#!/c\n"),
            M::Hard("usr/lib/d", "lib/b"),
            M::Link("srv", "opt"),
            M::File("none/.wh.nothing", ""),
        ],
    ]);
    let scripts: Vec<&str> = base.summary.scripts.keys().map(String::as_str).collect();
    assert_eq!(scripts, ["opt/new", "usr/lib/b", "usr/lib/c", "usr/lib/d"]);
    assert_eq!(base.summary.scripts["usr/lib/d"], "#!/b");
    assert!(!base.all.paths.contains_key("srv/z") && !base.all.paths.contains_key("opt/x/y"));
    assert!(base.broken.is_empty());
    let broken = joined(&[&[M::Hard("a", "none")]]);
    assert_eq!(broken.broken, ["a"]);
}

#[test]
fn links_are_followed_within_the_image() {
    let base = joined(&[&[
        M::Folder("usr/lib"),
        M::Folder("run"),
        M::Folder("var"),
        M::Link("lib", "usr/lib"),
        M::Link("var/run", "/run"),
        M::Link("up", "../../../usr"),
        M::Link("loop", "loop"),
    ]]);
    assert_eq!(base.real("lib/x.so"), "usr/lib/x.so");
    assert_eq!(base.real("lib"), "lib");
    assert_eq!(base.real("var/run/lock/x"), "run/lock/x");
    assert_eq!(base.real("up/lib/x"), "usr/lib/x");
    assert_eq!(base.real("loop/x"), "loop/x");
    assert_eq!(base.real("etc/new/x"), "etc/new/x");
    let links: Vec<String> = base.facts().links.into_keys().collect();
    assert_eq!(links, ["lib", "up", "var/run"]);
}

#[test]
fn a_base_says_what_it_is() {
    let status = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9+deb12u14\n\n\
                  Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
    let base = joined(&[&[
        M::File("usr/lib/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n"),
        M::Link("etc/os-release", "../usr/lib/os-release"),
        M::File("var/lib/dpkg/status", status),
        M::File("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2025b\n"),
        M::File("var/lib/dpkg/status.d/tzdata.md5sums", "Package: x\nVersion: 1\n"),
        M::File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/x\n"),
    ]]);
    let facts = base.facts();
    assert_eq!(facts.system.suite.as_deref(), Some("bookworm"));
    assert_eq!(facts.provided(), ["libc6=2.36-9+deb12u14", "tzdata=2025b"]);
    assert_eq!(facts.glibc(), Some("2.36"));
    assert_eq!(facts.users[&65534], "nobody");
}
