//! The release: what is built, handed over.

pub mod layout;
