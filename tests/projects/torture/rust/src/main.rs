//! Prints what a build may leak: paths from `file!`, `__FILE__` and panics.

use std::ffi::{CStr, c_char, c_int};
use std::panic::{self, Location};
use std::process::ExitCode;

use torture_macros::fingerprint;

unsafe extern "C" {
    fn bundled_crc32(bytes: *const u8, length: u32) -> u32;
    fn bundled_file() -> *const c_char;
}

// Not in every version of openssl-sys, but in every libcrypto since 1.1.0.
unsafe extern "C" {
    fn OpenSSL_version(kind: c_int) -> *const c_char;
}

const CHECK: &[u8] = b"123456789";

fn main() -> ExitCode {
    openssl_sys::init();
    // SAFETY: both return static strings that end with NUL.
    let (openssl, c_file) = unsafe {
        (
            CStr::from_ptr(OpenSSL_version(0)),
            CStr::from_ptr(bundled_file()),
        )
    };
    println!("torture-rust {}", env!("CARGO_PKG_VERSION"));
    println!("{}", openssl.to_string_lossy());
    if std::env::args().nth(1).as_deref() == Some("--version") {
        return ExitCode::SUCCESS;
    }
    // SAFETY: the pointer and the length are those of one slice.
    let crc = unsafe { bundled_crc32(CHECK.as_ptr(), CHECK.len() as u32) };
    assert_eq!(crc, 0xcbf4_3926, "the bundled C file is miscompiled");
    println!("C file {}", c_file.to_string_lossy());
    println!("Rust file {}", file!());
    println!("fingerprint {:016x}", fingerprint!(struct Torture(u64);));
    println!("panic at {}", panic_location());
    ExitCode::SUCCESS
}

/// Panics inside the standard library, and says where it thinks that was.
fn panic_location() -> String {
    panic::set_hook(Box::new(|_| ()));
    let caught = panic::catch_unwind(|| slice_of(CHECK, CHECK.len() + 1).len());
    let _ = panic::take_hook();
    match caught {
        Ok(length) => unreachable!("sliced {length} bytes out of {}", CHECK.len()),
        Err(_) => Location::caller().to_string(),
    }
}

#[inline(never)]
fn slice_of(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[..length]
}
