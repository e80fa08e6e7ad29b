//! Images: file systems, layers, summaries, manifests and indexes as values.
//!
//! Deliberately absent: registries, layouts on disk, and where files come from.

pub mod accounts;
pub mod document;
pub mod elf;
pub mod filesystem;
pub mod imported;
pub mod inherited;
pub mod layer;
pub mod manifest;
pub mod places;
pub mod root;
pub mod scripts;
pub mod settle;
pub mod summary;
