use super::*;

type Member<'a> = (&'a str, tar::EntryType, &'a [u8], &'a str);

fn layer(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content, link) in members {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn check(bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut seen = Vec::new();
    read_layer(bytes, bytes.len() as u64, &mut |member, _| {
        seen.push(format!("{:?} {}", member.kind, member.path));
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    Ok(seen)
}

fn refused(members: &[Member<'_>]) -> String {
    check(&layer(members)).unwrap_err()
}

#[test]
fn what_images_have_passes() {
    use tar::EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    let seen = check(&layer(&[
        ("./", Directory, b"", ""),
        ("./usr/", Directory, b"", ""),
        ("usr/", Directory, b"", ""),
        ("usr/bin/x", Regular, b"hello", ""),
        ("usr/bin/y", Link, b"", "./usr/bin/x"),
        ("etc/up", Symlink, b"", "../../../../etc/passwd"),
        ("bin", Symlink, b"", "usr/bin"),
        ("bin", Symlink, b"", "usr/bin"),
        ("dev/null", Char, b"", ""),
        ("run/initctl", Fifo, b"", ""),
        ("etc/.wh.gone", Regular, b"", ""),
        ("opt/.wh..wh..opq", Regular, b"", ""),
        (".wh..wh.aufs", Regular, b"", ""),
    ]));
    let seen = seen.unwrap();
    assert_eq!(seen[3], "File { size_bytes: 5, sparse: false } usr/bin/x");
    assert_eq!(seen[4], "HardLink(\"usr/bin/x\") usr/bin/y");
    assert_eq!(
        seen[8..],
        ["Special dev/null", "Special run/initctl", "Whiteout etc/gone", "Opaque opt"]
    );
}

#[test]
fn hostile_members_are_refused() {
    use tar::EntryType::{Block, Directory, Link, Regular, Symlink};
    let file = |name| [(name, Regular, &b""[..], "")];
    assert_eq!(refused(&file("../x")), "member `../x`: it is outside the image");
    assert_eq!(refused(&file("a/../../x")), "member `a/../../x`: it is outside the image");
    assert_eq!(refused(&file("/etc/x")), "member `/etc/x`: its path is absolute");
    assert_eq!(refused(&[("x", Block, b"", "")]), "member `x`: it is a device");
    let below = refused(&[("d", Symlink, b"", "/tmp"), ("d/x", Regular, b"", "")]);
    assert_eq!(below, "member `d/x`: it is below a link or a file");
    let below = refused(&[("d/x", Regular, b"", ""), ("d", Symlink, b"", "/tmp")]);
    assert_eq!(below, "member `d`: its path is there twice");
    let link = refused(&[("h", Link, b"", "../../etc/shadow")]);
    assert_eq!(link, "member `h`: it links to what is outside the image");
    assert_eq!(
        refused(&[("h", Link, b"", "h")]),
        "member `h`: it links to what is outside the image"
    );
    let twice = refused(&[("x", Regular, b"a", ""), ("./x", Regular, b"b", "")]);
    assert_eq!(twice, "member `./x`: its path is there twice");
    let twice = refused(&[("x", Symlink, b"", "a"), ("x", Symlink, b"", "b")]);
    assert_eq!(twice, "member `x`: its path is there twice");
    assert_eq!(refused(&file(".wh.")), "member `.wh.`: it is a whiteout of nothing");
    assert_eq!(refused(&file("a/.wh...")), "member `a/.wh...`: it is a whiteout of nothing");
    assert_eq!(
        refused(&file(".wh..wh..opq")),
        "member `.wh..wh..opq`: it is a whiteout of the root"
    );
    assert_eq!(
        refused(&file("a/.wh..wh.x")),
        "member `a/.wh..wh.x`: it is a whiteout of a whiteout"
    );
    let full = refused(&[("a/.wh..wh..opq", Regular, b"x", "")]);
    assert_eq!(full, "member `a/.wh..wh..opq`: it is a whiteout that is no empty file");
    let folder = refused(&[(".wh.x", Directory, b"", "")]);
    assert_eq!(folder, "member `.wh.x`: it is a whiteout that is no empty file");
    assert_eq!(refused(&file(".wh.x/y")), "member `.wh.x/y`: it is below a whiteout");
}

#[test]
fn bombs_are_refused_without_their_bytes() {
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(10 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let endless = io::Read::chain(&header.as_bytes()[..], io::repeat(0));
    let error = read_layer(endless, 10 << 10, &mut |_, _| Ok(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "member `zeros`: it has more than 69156864 bytes when decompressed, which only a bomb has"
    );
    // A name that long would have to be in memory.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(10 << 30);
    header.set_cksum();
    let endless = io::Read::chain(&header.as_bytes()[..], io::repeat(b'x'));
    let error = read_layer(endless, 10 << 20, &mut |_, _| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "its headers are longer than any name");
}

#[test]
fn paths_that_no_system_has_are_refused() {
    // Each folder of a path is remembered: a megabyte of them would be 250 gigabytes.
    let deep = "a/".repeat(1 << 18);
    for (key, why) in [("path", "its name is longer"), ("linkpath", "its link is longer")] {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([(key, deep.as_bytes())]).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_path("x").unwrap();
        header.set_size(0);
        header.set_mode(0o777);
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        let error = check(&builder.into_inner().unwrap()).unwrap_err();
        assert!(error.ends_with(&format!("{why} than any path")), "{error:.200}");
    }
    let mut known = Known::default();
    let mut add = |at: usize| {
        let path = format!("{at}{}/x", "/d".repeat(2000));
        let kind = LayerKind::File { size_bytes: 0, sparse: false };
        known.add(&LayerMember { path, kind, mode: 0, owner: (0, 0) })
    };
    let refused = (0..100).find_map(|at| add(at).err());
    assert_eq!(refused, Some("the layer has more members than any image"));
}

#[test]
fn nothing_hides_after_the_end() {
    let mut bytes = layer(&[("x", tar::EntryType::Regular, b"x", "")]);
    assert!(check(&bytes).is_ok());
    bytes.extend([0; 10_000]);
    assert!(check(&bytes).is_ok());
    bytes.extend(layer(&[("y", tar::EntryType::Regular, b"y", "")]));
    assert_eq!(check(&bytes).unwrap_err(), "it goes on after its end");
}

#[test]
fn damage_never_panics() {
    let bytes = layer(&[
        ("usr/bin/x", tar::EntryType::Regular, &[7; 3000], ""),
        ("usr/bin/y", tar::EntryType::Link, b"", "usr/bin/x"),
    ]);
    let mut state = 1_u64;
    for _ in 0..2000 {
        let mut damaged = bytes.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % damaged.len();
            damaged[at] ^= 1 << (state >> 61);
        }
        damaged.truncate((state >> 20) as usize % (bytes.len() + 1));
        let _ = check(&damaged);
    }
}
