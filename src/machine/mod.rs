//! The machine: environment, processes and sandboxes. Everything that a program can only
//! do to the computer it runs on goes through here.

pub mod disk;
pub mod environment;
pub mod network;
pub mod process;
pub mod sandbox;
mod seccomp;
mod starter;
pub mod supervisor;
