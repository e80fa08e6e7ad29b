//! Sources of everything that is not compiled here: packages, and the lock that pins them.

pub mod debian;
pub mod lists;
pub mod lock;
pub mod pins;
pub mod refusal;
