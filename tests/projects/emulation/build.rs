//! Finds out whether programs for the target run here, and has the result in the program.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=probe.c");
    let (out, target) = (var("OUT_DIR").unwrap(), var("TARGET").unwrap());
    let compiler = var(format!("CC_{}", target.replace('-', "_"))).unwrap();
    let program = format!("{out}/probe");
    let mut compiler = Command::new(compiler);
    let compiled = compiler.args(["-static", "-o", &program, "probe.c"]).status().unwrap();
    assert!(compiled.success());
    let found = match Command::new(&program).status() {
        Ok(status) => format!("the probe ran: {status}"),
        Err(error) => format!("the probe did not run: {error}"),
    };
    std::fs::write(format!("{out}/found.rs"), format!("{found:?}")).unwrap();
}
