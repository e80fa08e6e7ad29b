use super::super::index::ListOrigin;
use super::*;

/// An index of `name version; field: value; …` lines.
fn index(lines: &str) -> Index {
    let mut list = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        list.push_str(&format!("Package: {name}\nVersion: {version}\nArchitecture: all\n"));
        parts.for_each(|field| list.push_str(&format!("{field}\n")));
        list.push('\n');
    }
    let mut index = Index::default();
    let origin = ListOrigin { list: 0, is_backup: false };
    index.add(list.as_bytes(), origin, "arm64").unwrap();
    index.finish();
    index
}

fn check(lines: &str, packages: &str, provided: &str) -> String {
    let index = index(lines);
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(ToOwned::to_owned).collect() };
    match closure(&index, "arm64", &words(packages), &words(provided)) {
        Ok(ids) => {
            let shown = ids.iter().map(|id| format!("{} {}", index.name(*id), index.version(*id)));
            shown.collect::<Vec<_>>().join(", ")
        }
        Err(NoClosure::Missing(name)) => format!("missing {name}"),
        Err(NoClosure::Unsatisfiable(text)) => text,
    }
}

#[test]
fn dependencies_come_along_in_their_highest_version() {
    let lines = "a 1; Depends: b (>= 2), c\n a 1.1; Depends: b (>= 2), c; Pre-Depends: d\n\
                 b 1\n b 2\n b 3\n c 1; Depends: a\n d 1\n e 1";
    assert_eq!(check(lines, "a", ""), "a 1.1, b 3, c 1, d 1");
    assert_eq!(check(lines, "a", "c d=0.1"), "a 1.1, b 3");
    assert_eq!(check(lines, "x", ""), "missing x");
    assert_eq!(check(lines, "e b", ""), "b 3, e 1");
}

#[test]
fn a_lower_version_serves_where_the_highest_cannot() {
    let lines = "a 2; Depends: b (= 1)\n a 1\n b 2\n c 1; Depends: a, b (>= 2)";
    assert_eq!(check(lines, "c", ""), "a 1, b 2, c 1");
    assert_eq!(check(lines, "a", ""), "a 2; b 1".replace("a 2; b 1", "a 1"));
}

#[test]
fn alternatives_are_taken_in_order_unless_one_is_there() {
    let lines = "a 1; Depends: b | c\n b 1\n c 1\n d 1; Depends: b | c, c";
    assert_eq!(check(lines, "a", ""), "a 1, b 1");
    assert_eq!(check(lines, "a c", ""), "a 1, c 1");
    assert_eq!(check(lines, "d", ""), "c 1, d 1");
    assert_eq!(check(lines, "a", "c"), "a 1");
    assert_eq!(check("a 1; Depends: x | c (>= 2) | b\n b 1\n c 1", "a", ""), "a 1, b 1");
}

#[test]
fn names_that_are_provided_serve() {
    let lines = "a 1; Depends: v\n b 1; Depends: v (>= 2)\n p 1; Provides: v\n\
                 q 1; Provides: v (= 2); Priority: required\n real 1; Provides: w (= 1)\n w 3";
    assert_eq!(check(lines, "b", ""), "b 1, q 1");
    assert_eq!(check(lines, "a", ""), "a 1, q 1");
    assert_eq!(check(lines, "a p", ""), "a 1, p 1");
    assert_eq!(check(lines, "w", ""), "w 3");
    // What is there already stands for what it provides.
    assert_eq!(check(lines, "a", "p=1"), "a 1");
    assert_eq!(check(lines, "b", "p=1"), "b 1, q 1");
    assert_eq!(check(lines, "b", "q=1"), "b 1");
    assert_eq!(check(lines, "b", "p"), "b 1");
}

#[test]
fn qualifiers_want_packages_that_allow_it() {
    let lines = "a 1; Depends: p:any\n p 1; Multi-Arch: allowed\n b 1; Depends: q:any\n q 1\n\
                 c 1; Depends: q:amd64\n d 1; Depends: q:arm64";
    assert_eq!(check(lines, "a", ""), "a 1, p 1");
    assert_eq!(check(lines, "b", "q"), "b 1");
    assert_eq!(check(lines, "d", ""), "d 1, q 1");
    for name in ["b", "c"] {
        assert!(check(lines, name, "").contains("which needs `q:"), "{name}");
    }
}

#[test]
fn what_cannot_be_together_is_not() {
    let lines = "a 1; Depends: b | c\n b 1; Conflicts: d\n c 1\n d 1\n e 1; Breaks: c (<< 2)\n\
                 f 1; Provides: m; Conflicts: m\n g 1; Provides: m; Conflicts: m";
    assert_eq!(check(lines, "a d", ""), "a 1, c 1, d 1");
    assert_eq!(check(lines, "f", ""), "f 1");
    assert_eq!(check(lines, "b", "d"), "b 1");
    let refusals = [
        check(lines, "b d", ""),
        check(lines, "f g", ""),
        check(lines, "c e", ""),
        check(lines, "b", "d=1"),
        check(lines, "a d e", ""),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r"
    `d` cannot be had: b 1 cannot be with d
    `g` cannot be had: f 1 cannot be with m, which g 1 provides
    `e` cannot be had: e 1 cannot be with c (<< 2)
    `b` cannot be had: b 1 cannot be with d
    a 1, which needs `b | c`, but b 1 cannot be with d
    ");
}

#[test]
fn what_is_missing_is_said_with_its_chain() {
    let lines = "a 1; Depends: b\n b 2; Depends: c (>= 3) | x\n c 1\n d 1; Depends: e (>= 2)\n\
                 e 2\n f 1; Depends: g (= 1), g (= 2)\n g 1\n g 2\n h 1; Depends: i\n i 1; Depends: j";
    let refusals = [
        check(lines, "a", ""),
        check(lines, "d", "e=1"),
        check(lines, "f", ""),
        check(lines, "h", ""),
    ];
    insta::assert_snapshot!(refusals.join("\n"), @r"
    a 1, which needs b 2, which needs `c (>= 3) | x`, but the archive has c 1
    d 1, which needs `e (>= 2)`, but the base has version 1 of e
    f 1, which needs `g (= 2)`, but version 1 of g is needed too
    h 1, which needs i 1, which needs `j`, but no package has that name or provides it
    ");
}

#[test]
fn the_same_question_has_the_same_answer() {
    let mut lines = String::from("root 1; Depends: p0 | q0\n");
    for at in 0..40 {
        let next = at + 1;
        lines.push_str(&format!("p{at} 1; Depends: p{next} | q{next}; Breaks: q{next}\n"));
        lines.push_str(&format!("p{at} 2; Depends: p{next} | q{next}, nowhere\n"));
        lines.push_str(&format!("q{at} 1; Depends: q{next}\n"));
    }
    lines.push_str("p40 1\n q40 1\n");
    let first = check(&lines, "root", "");
    assert_eq!(first.split(", ").count(), 42, "{first}");
    assert!(!first.contains('q'), "{first}");
    assert_eq!(check(&lines, "root", ""), first);
    // All the same choices, and none of them comes to anything.
    let hopeless = lines.replace("p40 1\n q40 1", "p40 1; Depends: z\n q40 1; Depends: z");
    assert!(check(&hopeless, "root", "").contains("no package has that name"));
}

#[test]
fn choices_without_end_are_no_overflow() {
    let choices: Vec<String> = (0..6000).map(|at| format!("a{at} | b{at}")).collect();
    let mut lines = format!("x 1; Depends: {}\n", choices.join(", "));
    for at in 0..6000 {
        lines.push_str(&format!("a{at} 1\nb{at} 1\n"));
    }
    let answer = check(&lines, "x", "");
    assert!(answer.ends_with("but there are more choices than can be tried"), "{answer:.200}");
}
