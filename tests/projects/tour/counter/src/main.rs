fn main() {
    println!("{}", if cfg!(feature = "loud") { "ONE!" } else { "one" });
}
