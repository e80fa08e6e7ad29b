//! The gate: what every image must pass before it is stitched.
//!
//! Deliberately absent: reading files. The gate sees layer summaries.

pub mod base;
pub mod glibc;
pub mod libraries;
pub mod platform;
