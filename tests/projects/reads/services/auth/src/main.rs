fn main() {
    println!("{} {}", greeting::TEXT, include_str!("../../../proto/auth.txt").trim());
}
