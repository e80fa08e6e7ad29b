//! Prints what the build script found.

fn main() {
    println!("{}", include!(concat!(env!("OUT_DIR"), "/found.rs")));
}
