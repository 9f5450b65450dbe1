//! What is remembered of each job, a file of its own in the home, and of alerts; replaced whole.
//!
//! What is in it is the core's.

use reknit_core::agenda::Kept;
use reknit_core::alert::Alerts;
use reknit_core::sealed::KeptError;

use crate::cli::CliError;
use crate::node::{Home, whole_file};

/// Bytes of a file; one that is full of everything has a tenth of it.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What a file is called that is being written, or that could not be read.
const NEW: &str = "new";
const DAMAGED: &str = "damaged";

/// A job by its name, with what is remembered of it or why that cannot be read.
type Found = (String, Result<Kept, String>);

/// All jobs that are remembered; of a file that is damaged why, once it was set aside.
///
/// # Errors
/// `home.file`; `home.malformed` where a later release wrote.
pub(super) fn read(home: &Home) -> Result<Vec<Found>, CliError> {
    let dir = home.jobs();
    let failed = |path: &std::path::Path, cause: std::io::Error| {
        CliError::new("home.file", format!("{} cannot be read: {cause}; nothing was changed", path.display()))
    };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(failed(&dir, cause)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|cause| failed(&dir, cause))?.path();
        // Names have no dots; what has one was left by a crash, or set aside.
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.contains('.')) else {
            continue;
        };
        let name = name.to_string();
        let small = std::fs::metadata(&path).map_err(|cause| failed(&path, cause))?.len() <= FILE_BYTES_MAX;
        let bytes = if small { std::fs::read(&path).map_err(|cause| failed(&path, cause))? } else { Vec::new() };
        match Kept::from_bytes(&bytes) {
            Ok(kept) => found.push((name, Ok(kept))),
            Err(KeptError::Newer) => {
                let message = format!("{}: {}; upgrade, or remove it", path.display(), KeptError::Newer);
                return Err(CliError::new("home.malformed", message));
            }
            Err(error) => {
                let message = format!("{}: {error}; the job begins anew, without its history", path.display());
                found.push((name, Err(message)));
            }
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// What operators were told of; of a file that is damaged why it counts for nothing.
///
/// # Errors
/// `home.file`; `home.malformed` where a later release wrote.
pub(super) fn read_alerts(home: &Home) -> Result<Result<Alerts, String>, CliError> {
    let path = home.alerts();
    let failed = |cause: std::io::Error| {
        CliError::new("home.file", format!("{} cannot be read: {cause}; nothing was changed", path.display()))
    };
    let bytes = match std::fs::metadata(&path) {
        Ok(found) if found.len() <= FILE_BYTES_MAX => std::fs::read(&path).map_err(failed)?,
        Ok(_) => Vec::new(),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Ok(Alerts::default())),
        Err(cause) => return Err(failed(cause)),
    };
    match Alerts::from_bytes(&bytes) {
        Err(KeptError::Newer) => {
            let message = format!("{}: {}; upgrade, or remove it", path.display(), KeptError::Newer);
            Err(CliError::new("home.malformed", message))
        }
        Err(error) => Ok(Err(format!("{}: {error}; what fires is told anew", path.display()))),
        Ok(alerts) => Ok(Ok(alerts)),
    }
}

/// Replaces what is remembered of alerts.
///
/// # Errors
/// `home.file`: it is as it was.
pub(super) fn write_alerts(home: &Home, alerts: &Alerts) -> Result<(), CliError> {
    let path = home.alerts();
    let failed =
        |cause: std::io::Error| CliError::new("home.file", format!("{} cannot be written: {cause}", path.display()));
    whole_file::replace(&path, &path.with_extension(NEW), &alerts.to_bytes()).map_err(failed)
}

/// Replaces the file of a job; one that is damaged is kept beside it.
///
/// # Errors
/// `home.file`: it is as it was.
pub(super) fn write(home: &Home, name: &str, kept: &Kept) -> Result<(), CliError> {
    let dir = home.jobs();
    let (path, new) = (dir.join(name), dir.join(format!("{name}.{NEW}")));
    let failed =
        |cause: std::io::Error| CliError::new("home.file", format!("{} cannot be written: {cause}", path.display()));
    std::fs::create_dir_all(&dir).map_err(failed)?;
    whole_file::write_draft(&new, &kept.to_bytes()).map_err(failed)?;
    if std::fs::read(&path).is_ok_and(|bytes| Kept::from_bytes(&bytes).is_err()) {
        std::fs::rename(&path, dir.join(format!("{name}.{DAMAGED}"))).map_err(failed)?;
    }
    whole_file::put_in_place(&new, &path).map_err(failed)
}
