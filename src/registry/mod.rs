//! Registries (OCI distribution specification 1.1): manifests and blobs are pulled.
//!
//! Deliberately absent: what is in them, and pushing.

mod challenge;
pub mod client;
mod credentials;
pub mod sessions;
