//! Plans that were carried out, by their ids, kept in the home.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::CliError;
use crate::clock::now_s;
use crate::node::{Home, whole_file};

const FILE: &str = "plans.toml";
const LOCK: &str = "plans.lock";
/// Plans that are remembered; the oldest go first.
const PLANS_MAX: usize = 10_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Applied {
    id: String,
    /// When, in seconds since the Unix epoch.
    at: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    plan: Vec<Applied>,
}

fn read(home: &Home) -> Result<File, CliError> {
    let path = home.dir().join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let malformed = |error| CliError::new("home.malformed", format!("{}: {error}; remove it", path.display()));
            toml::from_str(&text).map_err(malformed)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(unusable(&path, &error)),
    }
}

/// When the plan was carried out, in seconds since the Unix epoch, if it was.
pub(crate) fn is_applied(home: &Home, id: &str) -> Result<Option<i64>, CliError> {
    Ok(read(home)?.plan.into_iter().find(|applied| applied.id == id).map(|applied| applied.at))
}

/// Remembers that a plan was carried out. Several processes, and several threads of one, may at once.
pub(crate) fn note_applied(home: &Home, id: &str) -> Result<(), CliError> {
    let path = home.dir().join(FILE);
    // Whoever wrote at the same time would lose the other's plan, which could then be carried out again.
    let _held = whole_file::hold(&home.dir().join(LOCK)).map_err(|error| unusable(&path, &error))?;
    let mut file = read(home)?;
    file.plan.push(Applied { id: id.into(), at: now_s() });
    let surplus = file.plan.len().saturating_sub(PLANS_MAX);
    file.plan.drain(..surplus);
    let text = toml::to_string(&file).map_err(|error| CliError::new("defect", error.to_string()))?;
    let new = home.dir().join(format!("{FILE}.{}", std::process::id()));
    whole_file::replace(&path, &new, text.as_bytes()).map_err(|error| unusable(&path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new("home.file", format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_note_at_once_is_all_applied() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("a home");
        std::thread::scope(|scope| {
            // Few enough for a disk that takes long: each waits for ten seconds at most.
            for writer in 0..4 {
                let home = home.clone();
                scope.spawn(move || {
                    (0..4).for_each(|nth| note_applied(&home, &format!("{writer} {nth}")).expect("noted"));
                });
            }
        });
        for (writer, nth) in (0..4).flat_map(|writer| (0..4).map(move |nth| (writer, nth))) {
            let applied = is_applied(&home, &format!("{writer} {nth}")).expect("read");
            assert!(applied.is_some(), "{nth} of {writer} is lost");
        }
    }
}
