use super::*;

fn operation(json: &str) -> (String, Operation) {
    ("x".into(), serde_json::from_str(json).unwrap())
}

fn root(files: &[&str]) -> Root {
    let mut root = Root::new(true);
    for path in files {
        root.files.add_bytes(path, "", 0o755);
    }
    root
}

#[test]
fn users_are_in_files_and_own_what_is_theirs() {
    let mut root = root(&["etc/redis/redis.conf", "usr/bin/ping", "usr/bin/ssh-agent"]);
    root.files.add_bytes(
        "usr/lib/tmpfiles.d/x.conf",
        "# x\nd /run/x 0750 redis adm -\nr! /etc/passwd.lock\nL /run/y - - - - /run/x\n",
        0o644,
    );
    root.files.add_bytes(
        "usr/lib/sysusers.d/x.conf",
        "u daemonx - \"A daemon\" /var/lib/x\ng plain 777\nm daemonx plain\n",
        0o644,
    );
    let operations = [
        operation(
            r#"{"do":"user","name":"redis","home":"/var/lib/redis","create_home":true,"group":null}"#,
        ),
        operation(r#"{"do":"folder","path":"/var/log/redis","mode":"2750","owner":"redis:adm"}"#),
        operation(
            r#"{"do":"mode","path":"/etc/redis/redis.conf","mode":"640","owner":"redis:redis"}"#,
        ),
        operation(r#"{"do":"mode","path":"/not/there","mode":"640","owner":"nobody-knows"}"#),
        operation(r#"{"do":"capability","path":"/bin/ping","capabilities":"cap_net_raw+ep"}"#),
        operation(r#"{"do":"tmpfiles","name":"x.conf"}"#),
        operation(r#"{"do":"sysusers","name":"x.conf"}"#),
        operation(r#"{"do":"shell","path":"/bin/dash"}"#),
    ];
    root.settle(&operations).unwrap();
    let node = |path: &str| root.files.nodes[path].clone();
    let of = |path: &str| (node(path).mode, node(path).owner);
    assert_eq!(of("var/lib/redis"), (0o755, (103, 103)));
    assert_eq!(of("var/log/redis"), (0o2750, (103, 4)));
    assert_eq!(of("etc/redis/redis.conf"), (0o640, (103, 103)));
    assert_eq!(of("run/x"), (0o750, (103, 4)));
    assert_eq!(of("home/nonroot"), (0o755, (65532, 65532)));
    assert_eq!(node("run/y").kind, Kind::Link("/run/x".into()));
    assert_eq!(node("usr/bin/ping").attributes[ATTRIBUTE].len(), 20);
    let text = |path: &str| String::from_utf8(root.files.bytes(path).unwrap().unwrap()).unwrap();
    assert!(text("etc/passwd").contains("\ndaemonx:x:101:101:A daemon:/var/lib/x:"));
    assert!(text("etc/passwd").contains("\nnonroot:x:65532:65532:"));
    assert!(text("etc/group").contains("\nplain:x:102:daemonx\n"), "{}", text("etc/group"));
    assert_eq!(text("etc/shells"), "/bin/dash\n");
}

#[test]
fn owners_that_nobody_made_are_an_error() {
    let mut root = root(&["etc/x"]);
    let error = root.settle(&[operation(r#"{"do":"mode","path":"/etc/x","owner":"who"}"#)]);
    assert_eq!(error.unwrap_err(), "x: /etc/x belongs to `who`, whom nobody made");
}

#[test]
fn the_best_alternative_that_is_there_is_linked() {
    let candidate = |path: &str, priority: i64| {
        let slave = format!(r#"[["/usr/bin/nawk","nawk","{path}"],["/usr/share/x","x","/none"]]"#);
        operation(&format!(
            r#"{{"do":"alternative","name":"awk","link":"/usr/bin/awk","path":"{path}","priority":{priority},"slaves":{slave}}}"#
        ))
    };
    let mut root = root(&["usr/bin/mawk"]);
    root.settle(&[candidate("/usr/bin/gawk", 10), candidate("/usr/bin/mawk", 5)]).unwrap();
    let link = |root: &Root, path: &str| root.files.nodes.get(path).map(|node| node.kind.clone());
    let to = |text: &str| Some(Kind::Link(text.into()));
    assert_eq!(link(&root, "usr/bin/awk"), to("/etc/alternatives/awk"));
    assert_eq!(link(&root, "etc/alternatives/awk"), to("/usr/bin/mawk"));
    assert_eq!(link(&root, "usr/bin/nawk"), to("/etc/alternatives/nawk"));
    assert_eq!(link(&root, "usr/share/x"), None);
    // A better one that comes later, in a layer of its own.
    let below = root.files.clone();
    let mut tree = Filesystem::default();
    tree.add_bytes("usr/bin/gawk", "", 0o755);
    root.unpack(tree, &Record::default());
    root.settle(&[candidate("/usr/bin/gawk", 10)]).unwrap();
    let own = root.above(&below);
    assert_eq!(own.nodes["etc/alternatives/awk"].kind, Kind::Link("/usr/bin/gawk".into()));
    let paths: Vec<&str> = own.nodes.keys().map(String::as_str).collect();
    let wanted = [
        "etc",
        "etc/alternatives",
        "etc/alternatives/awk",
        "etc/alternatives/nawk",
        "usr",
        "usr/bin",
        "usr/bin/gawk",
    ];
    assert_eq!(paths, wanted);
}

#[test]
fn owners_come_from_the_record() {
    let mut tree = Filesystem::default();
    tree.add_bytes("usr/sbin/unix_chkpwd", "", 0o2755);
    tree.add_bytes(RECORD, "{}", 0o644);
    let owners = BTreeMap::from([("usr/sbin/unix_chkpwd".to_owned(), (0, 42))]);
    let mut root = Root::new(false);
    root.unpack(tree, &Record { owners, operations: vec![] });
    root.settle(&[]).unwrap();
    let paths: Vec<&str> = root.files.nodes.keys().map(String::as_str).collect();
    assert_eq!(paths, ["usr", "usr/sbin", "usr/sbin/unix_chkpwd"]);
    assert_eq!(root.files.nodes["usr/sbin/unix_chkpwd"].owner, (0, 42));
}

#[test]
fn packages_on_a_foreign_base_add_to_what_it_has() {
    let texts = [
        ("etc/passwd", "root:*:0:0:Admin:/root:/bin/ash\nredis:x:101:102::/:/bin/false\n+::::::\n"),
        ("etc/group", "root:!:0:\nredis:x:102:\n"),
        ("etc/shells", "/bin/ash"),
    ];
    let texts = texts.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let mut root = Root::on_base(texts);
    root.settle(&[]).unwrap();
    assert!(root.files.nodes.is_empty(), "nothing was asked: {:?}", root.files.nodes);
    let user = r#"{"do":"user","name":"NAME","home":"/x","shell":"/bin/false","comment":""}"#;
    let operations = [
        operation(&user.replace("NAME", "redis")),
        operation(&user.replace("NAME", "web")),
        operation(r#"{"do":"shell","path":"/bin/dash"}"#),
    ];
    root.settle(&operations).unwrap();
    let text = |path: &str| String::from_utf8(root.files.bytes(path).unwrap().unwrap()).unwrap();
    let passwd = "root:*:0:0:Admin:/root:/bin/ash\nredis:x:101:102::/:/bin/false\n\
                  web:x:103:103::/x:/bin/false\n+::::::\n";
    assert_eq!(text("etc/passwd"), passwd);
    assert_eq!(text("etc/group"), "root:!:0:\nredis:x:102:\nweb:x:103:\n");
    assert_eq!(text("etc/shells"), "/bin/ash\n/bin/dash\n");
}

#[test]
fn new_folders_stay_and_what_is_in_one_changes_with_it() {
    let mut root = root(&["srv/www/index.html", "usr/share/debianutils/shells.d/x"]);
    root.files.add_bytes("usr/share/debianutils/shells.d/x", "/bin/x\n", 0o644);
    root.files.add_bytes("etc/shells", "/bin/sh\n", 0o644);
    let operations = [
        operation(
            r#"{"do":"folder","path":"/srv/www","mode":"700","owner":"daemon:daemon","new":true}"#,
        ),
        operation(
            r#"{"do":"folder","path":"/srv/new","mode":"700","owner":"nobody:root","new":true}"#,
        ),
        operation(r#"{"do":"mode","path":"/srv","owner":"nobody:root","recursive":true}"#),
    ];
    root.settle(&operations).unwrap();
    let of = |path: &str| (root.files.nodes[path].mode, root.files.nodes[path].owner);
    assert_eq!(of("srv/new"), (0o700, (65534, 0)));
    assert_eq!(of("srv/www/index.html"), (0o755, (65534, 0)));
    assert!(!root.files.nodes.contains_key("srv/www") || of("srv/www").0 != 0o700);
    let shells = root.files.bytes("etc/shells").unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&shells), "/bin/sh\n/bin/x\n/usr/bin/x\n");
}
