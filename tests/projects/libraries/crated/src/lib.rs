//! A C library in Rust that calls one in C.

#[link(name = "plain")]
unsafe extern "C" {
    fn plain_answer() -> i32;
}

/// 600000 and what the other library says.
#[unsafe(no_mangle)]
pub extern "C" fn crated_answer() -> i32 {
    // SAFETY: the function takes nothing and touches nothing.
    600_000 + unsafe { plain_answer() }
}
