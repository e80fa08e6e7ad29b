//! Small types that every room shares: digests, platforms, trees, actions, findings, events.
//!
//! Deliberately absent: effects of any kind. Nothing here opens a file, reads a clock
//! or looks at the environment.

pub mod action;
pub mod attempt;
pub mod base;
pub mod capability;
pub mod configuration;
pub mod digest;
pub mod event;
pub mod finding;
pub mod package;
pub mod platform;
pub mod reference;
pub mod source;
pub mod template;
pub mod tree;

pub use configuration::Configuration;
pub use digest::{Digest, Hasher};
pub use finding::{Finding, Place};
pub use platform::Platform;
pub use reference::Reference;
pub use source::Origin;
pub use tree::{Entry, Tree};
