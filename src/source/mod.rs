//! Sources of everything that is not compiled here: packages, and the lock that pins them.
//!
//! [`archives`] is the front for packages. Behind it, [`apt`] and [`mirror`] bring the bytes
//! of lists and packages, [`openpgp`] and [`release_file`] say whether to believe them,
//! [`index`] reads lists, and [`closure`] chooses.

pub mod apt;
pub mod archives;
pub mod closure;
pub mod index;
pub mod installed;
pub mod list_file;
pub mod lists;
pub mod lock;
mod lock_base;
pub mod mirror;
pub mod openpgp;
pub mod pins;
pub mod refusal;
pub mod relation;
pub mod release_file;
pub mod version;
