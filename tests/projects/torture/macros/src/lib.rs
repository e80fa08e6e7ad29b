//! A procedural macro: code that runs on the host while the target is built.

use proc_macro::{Literal, TokenStream, TokenTree};

/// The FNV-1a hash of the tokens, as a `u64` literal.
#[proc_macro]
pub fn fingerprint(input: TokenStream) -> TokenStream {
    let hash = input.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    TokenTree::from(Literal::u64_suffixed(hash)).into()
}
