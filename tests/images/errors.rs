//! Bad input: each problem is named with its place, and the last good output stays.

use std::fs;

use crate::fixture::{build, copy, text, xstitch};

#[test]
fn integration_errors_say_what_to_do_and_leave_the_last_output() {
    let folder = tempfile::tempdir().unwrap();
    let project = copy("tests/projects/small", folder.path());
    let good = build(&mut xstitch(&project), &project);
    let configuration = fs::read_to_string(project.join("images.toml")).unwrap();
    let check = |change: &dyn Fn(), arguments: &[&str], code: i32, words: &str| {
        change();
        let output = xstitch(&project).args(arguments).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "expected `{words}` in:\n{said}");
        let layout = project.join("target/images/index.json");
        assert_eq!(fs::read_to_string(layout).unwrap(), good);
        fs::write(project.join("images.toml"), &configuration).unwrap();
    };
    let edit = |from: &'static str, to: &'static str| {
        let (file, text) = (project.join("images.toml"), configuration.replace(from, to));
        move || fs::write(&file, &text).unwrap()
    };
    check(&edit("src/*.c", "none/*.c"), &[], 2, "there is no folder");
    check(&edit("src/*.c", "src/*.cc"), &[], 2, "no file matches `src/*.cc`");
    check(
        &edit("\"libc6\"", "\"libc6\", \"no-such-package\""),
        &[],
        2,
        "has no package `no-such-package`",
    );
    check(&edit("\"libc6\"", "\"libc6\", \"zlib1g\""), &["--offline"], 2, "`--offline` was given");
    check(&edit("\"libc6\"", "\"libc6\", \"zlib1g\""), &["--locked"], 2, "`--locked` was given");
    check(&edit("platforms", "platfroms"), &[], 2, "did you mean `platforms`?");
    check(&|| fs::remove_file(project.join("images.toml")).unwrap(), &[], 2, "there is no ");
    check(&|| (), &["--platform", "linux/s390x"], 2, "the project has no platform linux/s390x");
    check(&|| (), &["nobody"], 2, "there is no image `nobody`");
    let source = project.join("src/hello.c");
    let program = fs::read_to_string(&source).unwrap();
    check(
        &|| fs::write(&source, "int main(void) { return x; }\n").unwrap(),
        &[],
        1,
        "hello.c:1:25: error: use of undeclared identifier 'x'",
    );
    fs::write(&source, program).unwrap();
    assert_eq!(build(&mut xstitch(&project), &project), good);
}
