//! Images: file systems, layers, summaries, manifests and indexes as values.
//!
//! Deliberately absent: registries, layouts on disk, and where files come from.

pub mod elf;
pub mod filesystem;
pub mod layer;
pub mod manifest;
pub mod root;
pub mod summary;
