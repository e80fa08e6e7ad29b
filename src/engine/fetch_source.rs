//! Sources of libraries: fetched, verified, unpacked into one tree.

use std::fs;
use std::path::Path;

use super::execute::{UnitError, text};
use super::fetch::stop_if_offline;
use super::{Engine, fetch_crate, fetch_git};
use crate::archive::source::unpack_source;
use crate::machine::network::{NetworkError, NetworkProblem, Watch, download};
use crate::model::event::Event;
use crate::model::source::{file_url_path, is_web};
use crate::model::{Digest, Origin};
use crate::store::{NO_SPACE_HELP, copy_file, hash_file};

/// Leaves the sources in `out`, an empty folder. `checksum` is the digest of the `.crate`
/// file where they come from a crate.
pub fn source(
    engine: &Engine,
    unit: &str,
    origin: &Origin,
    checksum: Option<&Digest>,
    scratch: &Path,
    out: &Path,
) -> Result<(), UnitError> {
    match origin {
        Origin::Path { path } => Err(format!("`{path}` is in the project already").into()),
        Origin::Archive { at, sha256 } => {
            if engine.blob(sha256).is_none() {
                archive(engine, origin, at, sha256, scratch)?;
            }
            unpack(engine, origin, sha256, scratch, out)
        }
        Origin::Git { url, commit } => fetch_git::commit(engine, unit, (url, commit), scratch, out),
        Origin::Crate { name, version, folder } => {
            let checksum = fetch_crate::fetch(engine, (name, version), checksum, scratch)?;
            let whole = scratch.join("crate");
            fs::create_dir(&whole).map_err(text)?;
            unpack(engine, origin, &checksum, scratch, &whole)?;
            fetch_crate::take(&whole, folder, out).map_err(|why| format!("{origin}: {why}").into())
        }
    }
}

/// Unpacks an archive that is in the store.
fn unpack(
    engine: &Engine,
    origin: &Origin,
    digest: &Digest,
    scratch: &Path,
    out: &Path,
) -> Result<(), UnitError> {
    let archive = engine.store.blob_path(digest);
    unpack_source(&archive, &scratch.join("unpacked"), out).map_err(|mut error| {
        // Its place in the store would tell nobody anything.
        error.archive = origin.to_string().into();
        error.to_string().into()
    })
}

/// Brings an archive into the store, if it is the right one.
fn archive(
    engine: &Engine,
    origin: &Origin,
    at: &str,
    wanted: &Digest,
    scratch: &Path,
) -> Result<(), UnitError> {
    let file = scratch.join("archive");
    let found = if is_web(at) {
        stop_if_offline(engine)?;
        from_network(engine, origin, at, &file).map_err(|error| {
            let help = match &error.problem {
                NetworkProblem::File { source, .. }
                    if source.kind() == std::io::ErrorKind::StorageFull =>
                {
                    Some(NO_SPACE_HELP)
                }
                _ => error.help(),
            };
            let help = help.map_or_else(String::new, |help| format!("\n  help: {help}"));
            UnitError { message: format!("{error}{help}"), is_remote: error.is_remote() }
        })?;
        hash_file(&file).map_err(text)?.0
    } else {
        let path = file_url_path(at).map_or_else(|| engine.project.join(at), Into::into);
        copy_file(&path, &file)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?
    };
    if found != *wanted {
        return Err(mismatch(&origin.to_string(), wanted, &found).into());
    }
    engine.store.adopt_blob(&file, wanted).map_err(text)?;
    Ok(())
}

/// Says that an archive is another than the one that was asked for.
fn mismatch(place: &str, wanted: &Digest, found: &Digest) -> String {
    format!(
        "{place} is not the archive that the configuration asks for\n  expected sha256 {}\n  \
         found    sha256 {}\n  help: if the new archive is right, write its sha256 `{}` into \
         the configuration; if not, something between here and there changed it",
        wanted.hex(),
        found.hex(),
        found.hex()
    )
}

fn from_network(
    engine: &Engine,
    origin: &Origin,
    url: &str,
    file: &Path,
) -> Result<(), NetworkError> {
    let what = origin.to_string();
    let mut known = None;
    let mut progress = |done, size_bytes| {
        if done == 0 {
            known = size_bytes;
            let to = engine.store.root().join("blobs").display().to_string();
            engine.tell(Event::Download { what: what.clone(), size_bytes, to });
        }
    };
    let mut watch = Watch { stop: &|| engine.is_interrupted(), progress: &mut progress };
    let size_bytes = download(url, file, &engine.environment, &mut watch)?;
    if known.is_none() {
        engine.tell(Event::Downloaded { what, size_bytes });
    }
    Ok(())
}
