//! Recipes: what units of binaries and libraries run, as data. Pure: nothing here looks at the machine.

pub mod c;
pub mod cargo;
pub mod cc;
pub mod environment;
pub mod go;
pub mod native;
pub mod probes;
