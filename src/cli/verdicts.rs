//! The last verdict of each pair, kept in the home for `status`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CliError;
use super::commands::sides::tables;
use crate::node::{Home, whole_file};

const FILE: &str = "verdicts.toml";
const LOCK: &str = "verdicts.lock";
/// Pairs that are remembered; the oldest verdicts go first.
const PAIRS_MAX: usize = 256;

/// What was found of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Last {
    /// The first side, as it was typed; what is in a file or a directory here in full.
    pub(crate) a: String,
    /// The second side.
    pub(crate) b: String,
    /// The dataset's name.
    pub(crate) dataset: String,
    /// The verdict.
    pub(crate) verdict: String,
    /// The command that found it.
    pub(crate) command: String,
    /// Keys that differed.
    pub(crate) differences: i64,
    /// Whether that is about how many.
    #[serde(default)]
    pub(crate) estimated: bool,
    /// When, in seconds since the Unix epoch.
    pub(crate) at: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    verdict: Vec<Last>,
}

/// All pairs, the newest verdict last.
pub(crate) fn read(home: &Home) -> Result<Vec<Last>, CliError> {
    let path = home.dir().join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let file: Result<File, _> = toml::from_str(&text);
            let malformed = |error| CliError::new("home.malformed", format!("{}: {error}; remove it", path.display()));
            let mut all = file.map_err(malformed)?.verdict;
            // Earlier releases noted a table by its path as it was typed, under which no check notes it any more.
            let whole = |side: &str| tables::file_of(side).is_none_or(|(_, file)| Path::new(file).is_absolute());
            all.retain(|last| whole(&last.a) && whole(&last.b));
            Ok(all)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(CliError::new("home.file", format!("{}: {error}", path.display()))),
    }
}

/// Remembers a verdict in place of the pair's last. Several processes, and several threads of one, may at once.
pub(crate) fn note(home: &Home, last: Last) -> Result<(), CliError> {
    let path = home.dir().join(FILE);
    let failed = |error: std::io::Error| CliError::new("home.file", format!("{}: {error}", path.display()));
    let _held = whole_file::hold(&home.dir().join(LOCK)).map_err(failed)?;
    let mut verdict = read(home)?;
    verdict.retain(|earlier| (&earlier.a, &earlier.b) != (&last.a, &last.b));
    verdict.push(last);
    let surplus = verdict.len().saturating_sub(PAIRS_MAX);
    verdict.drain(..surplus);
    let text = toml::to_string(&File { verdict }).map_err(|error| CliError::new("defect", error.to_string()))?;
    // Whoever holds the lock alone writes it.
    let new = home.dir().join(format!("{FILE}.new"));
    whole_file::replace(&path, &new, text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_note_at_once_is_all_remembered() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("a home");
        let last = |a: String| Last {
            a,
            b: "b".into(),
            dataset: "d".into(),
            verdict: "in_sync".into(),
            command: "check".into(),
            differences: 0,
            estimated: false,
            at: 1,
        };
        std::thread::scope(|scope| {
            // Few enough for a disk that takes long: each waits for ten seconds at most.
            for writer in 0..4 {
                let (home, last) = (home.clone(), &last);
                scope.spawn(move || {
                    (0..4).for_each(|nth| note(&home, last(format!("{writer} {nth}"))).expect("noted"));
                });
            }
        });
        assert_eq!(read(&home).expect("read").len(), 16);
    }
}
