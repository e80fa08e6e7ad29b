use super::*;

const SUBJECT: Subject<'_> = Subject { package: "x", version: "1.0-1", architecture: "arm64" };

fn done(script: &str, text: &str) -> String {
    match judge(SUBJECT, script, text) {
        Ok(operations) => operations
            .iter()
            .map(|operation| serde_json::to_string(operation).unwrap() + "\n")
            .collect(),
        Err(refusal) => format!("refused: {}", refusal.why),
    }
}

fn configured(text: &str) -> String {
    done("postinst", text)
}

#[test]
fn nothing_is_done_by_scripts_for_other_times() {
    for script in ["prerm", "postrm", "config"] {
        assert_eq!(done(script, "rm -rf /"), "");
    }
    assert_eq!(configured("#!/bin/sh\nset -e\n\n#DEBHELPER#\nexit 0\nrm -rf /\n"), "");
    let upgrade = "case \"$1\" in\n  upgrade) mv /a /b ;;\n  install|abort-upgrade)\n  ;;\n  *) exit 1\nesac\n";
    assert_eq!(done("preinst", upgrade), "");
    let earlier = "if [ -n \"$2\" ] && dpkg --compare-versions \"$2\" lt 3; then mv /a /b; fi\n\
                   if dpkg --compare-versions \"$2\" lt-nl 3 ; then mv /a /b; fi\n";
    assert_eq!(configured(earlier), "");
}

#[test]
fn marked_sections_are_data() {
    let text = "#!/bin/sh
set -e
# Automatically added by dh_installsystemd/13.11.4
if [ -d /run/systemd/system ]; then
    for unit in a b; do systemctl start $unit; done
fi
# End automatically added section
# Automatically added by dh_installalternatives/13.11.4
if [ \"$1\" = \"configure\" ] || [ \"$1\" = \"abort-upgrade\" ]; then
        update-alternatives --install /usr/bin/vi vi /usr/bin/vim.tiny 15 \\
            --slave /usr/share/man/man1/vi.1.gz vi.1.gz /usr/share/man/man1/vim.1.gz
fi
# End automatically added section
# Automatically added by dh_installtmpfiles/13.11.4
if [ \"$1\" = \"configure\" ]; then
\tif [ -x \"$(command -v systemd-tmpfiles)\" ]; then
\t\tsystemd-tmpfiles ${DPKG_ROOT:+--root=\"$DPKG_ROOT\"} --create x.conf >/dev/null || true
\tfi
fi
# End automatically added section
# Automatically added by dh_installsysusers/13.14.1
if [ \"$1\" = \"configure\" ]; then
   systemd-sysusers ${DPKG_ROOT:+--root=\"$DPKG_ROOT\"} x.conf
fi
# End automatically added section
# Automatically added by dh_python3
if command -v py3compile >/dev/null 2>&1; then
\tpy3compile -p x
fi
# End automatically added section
exit 0
";
    insta::assert_snapshot!(configured(text), @r#"
    {"do":"alternative","name":"vi","link":"/usr/bin/vi","path":"/usr/bin/vim.tiny","priority":15,"slaves":[["/usr/share/man/man1/vi.1.gz","vi.1.gz","/usr/share/man/man1/vim.1.gz"]]}
    {"do":"tmpfiles","name":"x.conf"}
    {"do":"sysusers","name":"x.conf"}
    "#);
}

#[test]
fn well_known_commands_are_data() {
    let text = "USER=web
if ! getent passwd $USER >/dev/null; then
    adduser --system --quiet --group --home /var/lib/web --no-create-home \"$USER\" || true
fi
adduser web adm
mkdir -p /var/lib/web
install -d -m 2750 -o web -g adm /var/log/web
if ! dpkg-statoverride --list /var/lib/web >/dev/null 2>&1; then
    chown ${USER}:${USER} /var/lib/web
    chmod 750 /var/lib/web
fi
dpkg-statoverride --update --add root web 4750 /usr/bin/web
if command -v setcap > /dev/null; then
    setcap cap_net_raw+ep /usr/bin/web || chmod u+s /usr/bin/web
else
    chmod u+s /usr/bin/web
fi
ln -sf /a /b
";
    insta::assert_snapshot!(configured(text), @r#"
    {"do":"user","name":"web","group":null,"home":"/var/lib/web","shell":"/usr/sbin/nologin","comment":"","create_home":false}
    {"do":"member","user":"web","group":"adm"}
    {"do":"folder","path":"/var/lib/web","mode":null,"owner":null}
    {"do":"folder","path":"/var/log/web","mode":"2750","owner":"web:adm"}
    {"do":"mode","path":"/var/lib/web","mode":null,"owner":"web:web"}
    {"do":"mode","path":"/var/lib/web","mode":"750","owner":null}
    {"do":"mode","path":"/usr/bin/web","mode":"4750","owner":"root:web"}
    {"do":"capability","path":"/usr/bin/web","capabilities":"cap_net_raw+ep"}
    {"do":"link","path":"/b","target":"/a"}
    "#);
}

#[test]
fn what_is_not_understood_is_refused() {
    for (text, why) in [
        ("cp /a /b", "the command `cp /a /b`"),
        ("if [ -e /etc/x ]; then touch /etc/y; fi", "a condition that depends on the machine"),
        ("[ -e /etc/x ] || touch /etc/y", "a condition that depends on the machine"),
        ("if [ -e /etc/x ]; then exit 0; fi\ntouch /y", "a condition that depends on the machine"),
        ("cat > /etc/x <<EOF\nEOF\n", "a redirection"),
        ("echo x > /etc/x", "a redirection"),
        ("echo x > /dev/null/../sda", "a redirection"),
        ("cat /a | sh", "a pipe"),
        ("for x in /a/*; do touch $x; done", "the command `touch …`"),
        ("for x in /a/*; do touch /b; done", "a condition that depends on the machine"),
        ("while true; do touch /b; done", "`while`"),
        ("f() { rm -rf /; }\nf", "the command `rm -rf /`"),
        ("f() { f; }\nf", "the function `f` calls itself"),
        ("[ -e /x ] && f() { true; }", "a condition that depends on the machine"),
        ("(touch /x)", "a subshell"),
        ("cat <<EOF > /etc/x\nx\nEOF", "a redirection"),
        ("cat <<EOF\nx\n", "no `EOF` after a document"),
        ("{ touch /x; } > /y", "a redirection"),
        ("eval touch /x", "the command `eval touch /x`"),
        ("umask 077\nmkdir /x", "`umask`"),
        ("set -- /etc/*\ntouch \"$1\"", "the command `touch /etc/*`"),
        ("[ -e /x ] || return 0\ntouch /y", "a condition that depends on the machine"),
        ("[ -e /x ] || mkdir /y", "a condition that depends on the machine"),
        ("[ -e /x ] && touch /x", "a condition that depends on the machine"),
        (
            "if [ ! -e /x ]; then [ -e /y ] || touch /x; fi",
            "a condition that depends on the machine",
        ),
        ("case $SHELL in /bin/sh) touch /x ;; esac", "a condition that depends on the machine"),
        ("db_get x/y\n[ \"$RET\" = true ] || touch /x", "a condition that depends on the machine"),
        ("x=$(cat /x)\ntouch /$x", "the command `touch /…`"),
        ("x=$(rm /x)", "`$(rm /x)`"),
        ("echo $(rm /x)", "`$(rm /x)`"),
        ("x=$(sed -i s/a/b/ /x)", "`$(sed -i s/a/b/ /x)`"),
        (
            "y=1\nfor x in /a/*; do [ $y = 1 ] || touch /y; y=2; done",
            "a condition that depends on the machine",
        ),
        (
            "dpkg-divert --add --rename --divert /a.b /a",
            "the command `dpkg-divert --add --rename --divert /a.b /a`",
        ),
        ("chmod 644 /etc/*", "the command `chmod 644 /etc/*`"),
        ("rm -f /etc/x", "the command `rm -f /etc/x`"),
        ("touch $(find / -name x)", "the command `touch …`"),
        ("touch \"$UNKNOWN\"", "the command `touch …`"),
        (". /etc/default/x", "`. /etc/default/x`"),
        ("exit 3", "it would end with 3"),
        ("if true; then", "no `fi`"),
        ("touch '/x", "no closing '"),
        ("A='a b'\ntouch $A", "the command `touch a b`"),
        ("# Automatically added by dh_installinit/13\ncp /a /b", "the command `cp /a /b`"),
        ("sudo touch /x", "the command `sudo touch /x`"),
    ] {
        assert_eq!(configured(text), format!("refused: {why}"), "{text}");
    }
}

#[test]
fn what_is_decided_is_followed() {
    let text = r#"
# Not joined \
touch /1
. /usr/share/debconf/confmodule
make() {
    local name=$1
    shift
    [ $# -gt 0 ] || return 1
    for owner in "$@"; do
        case $owner in
            root*|adm) continue ;;
            other) break ;;
        esac
        install -d -o $owner /var/lib/$name/${owner#www-}
    done
}
never() { echo $(rm -rf /) | tee /etc/x; cat > /etc/y <<EOF; }
touch /etc/y
EOF
make web root www-data x other y
make nothing || touch /2
make "$DPKG_MAINTSCRIPT_PACKAGE" adm
name=$(echo "$name" | sed 's/^\(...\).*/\1/')
if [ "$1" = triggered ]; then never; fi
if [ -n "$(dpkg-divert --listpackage "/usr/bin/$name")" ]; then never; fi
cat <<-'EOF' | grep -q x || true
	touch /3
	EOF
if [ ! -e /etc/x ]; then
    umask 022
    cp -p /usr/share/x /etc/x
fi
if ! [ -d "$DPKG_ROOT/var/lib/x" ]; then
    mkdir -p /var/lib/x
    chown x:adm /var/lib/x
    chmod 750 /var/lib/x
fi
[ -f /var/log/x ] || touch /var/log/x
[ -f /etc/x.dpkg-bak ] && mv /etc/x.dpkg-bak /etc/x
[ -e /etc/staff-group-for-usr-local ] && chown root:staff /usr/local
umask 077
touch /etc/secret
umask 022
chown -R x /srv
dpkg-divert --package x --no-rename --divert /lib/x.usr-is-merged --add /lib/x
[ -x /usr/bin/y ] || exit 1
touch /4
"#;
    insta::assert_snapshot!(configured(text), @r#"
    {"do":"file","path":"/1","text":"","mode":null,"owner":null}
    {"do":"folder","path":"/var/lib/web/data","mode":null,"owner":"www-data:root"}
    {"do":"folder","path":"/var/lib/web/x","mode":null,"owner":"x:root"}
    {"do":"file","path":"/2","text":"","mode":null,"owner":null}
    {"do":"copy","from":"/usr/share/x","path":"/etc/x"}
    {"do":"folder","path":"/var/lib/x","mode":"750","owner":"x:adm","new":true}
    {"do":"file","path":"/var/log/x","text":"","mode":null,"owner":null}
    {"do":"file","path":"/etc/secret","text":"","mode":"600","owner":null}
    {"do":"mode","path":"/srv","mode":null,"owner":"x","recursive":true}
    {"do":"file","path":"/4","text":"","mode":null,"owner":null}
    "#);
}

/// Libraries whose files moved when folders were merged.
#[test]
fn diversions_that_hide_merged_folders_do_nothing() {
    let text = "set -e\nif test \"$1\" = install -o \"$1\" = upgrade; then\n\
                \tfor lib in libx.so.8 liby.so.8; do\n\
                \t\tdpkg-divert --package libx8t64 --no-rename --divert \
                \"/lib/x86_64-linux-gnu/$lib.usr-is-merged\" --add \
                \"/lib/x86_64-linux-gnu/$lib\"\n\tdone\nfi\n";
    assert_eq!(done("preinst", text), "");
}

#[test]
fn refusals_show_the_script() {
    let text = "#!/bin/sh\nset -e\n# Automatically added by dh_installinit/13\nupdate-rc.d x\n\
                # End automatically added section\ncp /usr/share/x/x.conf /etc/x.conf\n";
    let refusal = judge(SUBJECT, "postinst", text).unwrap_err();
    insta::assert_snapshot!(refusal.to_string(), @r#"
    x: its postinst script is not known (the command `cp /usr/share/x/x.conf /etc/x.conf`, sha256:2b48dfaea6b8de1f2265733f5fc95e2c3f554b31367fe05eaf4b7327a723a860):
      | #!/bin/sh
      | set -e
      | cp /usr/share/x/x.conf /etc/x.conf
      help: nothing of it is run; if the image needs nothing of it, write `scripts = { x = "ignore" }`
    "#);
}

/// Real scripts of the table, as their packages had them on two architectures.
#[test]
fn the_table_knows_scripts_wherever_they_were_built() {
    let text = "#!/bin/sh\nset -e\nFILES=$(dpkg -L libpython3.11-stdlib:armhf | sed x)\n";
    let of = |architecture| {
        let subject = Subject { package: "x", version: "3", architecture };
        table::digest(subject, &text.replace("armhf", architecture))
    };
    assert_eq!(of("armhf"), of("amd64"));
    let dash = Subject { package: "libc6", version: "2.36-9+deb12u14", architecture: "arm64" };
    assert_eq!(judge(dash, "postinst", "anything $(at all)"), Ok(vec![]));
    let older = Subject { version: "2.30-1", ..dash };
    assert!(judge(older, "postinst", "anything $(at all)").is_err());
}

#[test]
fn scripts_that_never_end_are_refused() {
    let deep = "! ".repeat(100_000) + "true";
    assert_eq!(configured(&deep), "refused: commands too deep in commands");
    let functions = "f() ".repeat(100_000) + "true";
    assert_eq!(configured(&functions), "refused: commands too deep in commands");
    let words = format!("x={}true{}", "\"$(".repeat(100_000), ")\"".repeat(100_000));
    assert_eq!(configured(&words), "refused: too many commands in words");
    let loops = "for x in 1 2 3 4; do ".repeat(40) + "true" + &"; done".repeat(40);
    assert_eq!(configured(&loops), "refused: too many commands");
    let maybe = "if [ -e /x ]; then ".repeat(40) + "true" + &"; fi".repeat(40);
    assert_eq!(configured(&maybe), "");
}
