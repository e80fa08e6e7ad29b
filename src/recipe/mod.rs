//! Recipes: what a binary's units run, as data. Pure: nothing here looks at the machine.

pub mod c;
pub mod cargo;
pub mod environment;
pub mod go;
pub mod probes;
