//! The plan: a pure graph of units with keys, made from a configuration and facts.
//!
//! Deliberately absent: processes, files, clocks. What the plan knows about the world
//! is in [`facts::Facts`].

mod bases;
mod binaries;
pub mod difference;
pub mod environment;
pub mod explanation;
pub mod facts;
pub mod graph;
pub mod images;
pub mod key;
pub mod libraries;
pub mod mounts;
pub mod parts;
pub mod patterns;
pub mod reason;
pub mod roots;
pub mod selection;
pub mod touched;

pub use graph::{Plan, Unit};
