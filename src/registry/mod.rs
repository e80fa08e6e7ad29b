//! Registries (OCI distribution specification 1.1): manifests and blobs are pulled and
//! pushed.
//!
//! Deliberately absent: what is in them.

mod challenge;
pub mod client;
mod credentials;
pub mod sessions;
pub mod upload;
