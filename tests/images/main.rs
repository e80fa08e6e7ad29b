//! Real projects, real compilers, real packages: what is built, twice and elsewhere.
//!
//! `integration_` tests need apt and a network; `system_` tests also need skopeo, a
//! registry, umoci and qemu-user. A tool that is missing fails a test under `CI`, and
//! skips it loudly elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should end")]
#![allow(clippy::disallowed_methods, reason = "tests start programs")]
#![allow(clippy::disallowed_macros, reason = "a skipped test says so")]

mod agency;
mod base_archives;
mod base_errors;
mod base_suites;
mod bases;
mod cache;
mod emulation;
mod errors;
mod explain;
mod files;
mod first;
mod fixture;
mod foreign_files;
mod inheritance;
mod layout;
mod libraries;
mod libraries_env;
mod library_errors;
mod library_sources;
mod library_torture;
mod lock;
mod monorepo;
mod packages;
mod packages_http;
mod probes;
mod reads;
mod remote_cache;
mod roots;
mod scanner;
mod service;
mod signed_archive;
mod small;
mod targets;
mod tools;
mod torture;
