//! xstitch cross-compiles services for every target and stitches the results into multi-arch images.
//!
//! The rooms are listed in the order in which they may import one another: a room
//! imports only rooms above it.

pub mod model;

pub mod machine;

pub mod store;

pub mod archive;

pub mod config;

pub mod source;

pub mod toolchain;

pub mod recipe;

pub mod image;

pub mod registry;

pub mod gate;

pub mod plan;

pub mod release;

pub mod engine;

pub mod cli;
