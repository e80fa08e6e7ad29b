//! Sources of libraries that are no folder of the project.

use std::path::Path;

use super::Engine;
use super::execute::UnitError;
use crate::model::Digest;
use crate::model::source::Origin;

/// Leaves the sources in `out`.
pub fn source(
    _engine: &Engine,
    _unit: &str,
    origin: &Origin,
    _checksum: Option<&Digest>,
    _scratch: &Path,
    _out: &Path,
) -> Result<(), UnitError> {
    Err(format!("{origin}: this version takes folders of the project only").into())
}
