//! Prints what a build may leak: paths from `file!`, `__FILE__` and panics.

use std::ffi::{CStr, c_char};
use std::panic;
use std::process::ExitCode;
use std::sync::mpsc;

use torture_macros::fingerprint;

unsafe extern "C" {
    fn bundled_crc32(bytes: *const u8, length: u32) -> u32;
    fn bundled_file() -> *const c_char;
}

const CHECK: &[u8] = b"123456789";

fn main() -> ExitCode {
    openssl_sys::init();
    // SAFETY: both return static strings that end with NUL.
    let (openssl, c_file) = unsafe {
        (CStr::from_ptr(openssl_sys::OpenSSL_version(0)), CStr::from_ptr(bundled_file()))
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
    println!(
        "fingerprint {:016x}",
        fingerprint!(
            struct Torture(u64);
        )
    );
    println!("panic at {}", panic_location());
    ExitCode::SUCCESS
}

/// Where a panic that is caught here says that it happened.
fn panic_location() -> String {
    let (sender, receiver) = mpsc::channel();
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string);
        // The receiver outlives the panic, which is caught below.
        let _ = sender.send(place);
    }));
    let caught = panic::catch_unwind(|| slice_of(CHECK, CHECK.len() + 1).len());
    let _ = panic::take_hook();
    assert!(caught.is_err(), "sliced beyond the end");
    receiver.recv().ok().flatten().unwrap_or_default()
}

#[inline(never)]
fn slice_of(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[..length]
}
