//! Toolchains: what a target is, which packages make its tools, and where they come from.

pub mod answers;
pub mod compiler;
pub mod description;
pub mod end_of_life;
pub mod go;
pub mod parts;
pub mod rustup;
