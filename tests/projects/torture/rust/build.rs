//! Compiles the bundled C file.

fn main() {
    println!("cargo::rerun-if-changed=native");
    cc::Build::new().file("native/bundled.c").include("native").warnings(true).compile("bundled");
}
