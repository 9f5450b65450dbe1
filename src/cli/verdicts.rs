//! The last verdict of each pair, kept in the home for `status`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::CliError;
use crate::node::Home;

const FILE: &str = "verdicts.toml";
/// Pairs that are remembered; the oldest verdicts go first.
const PAIRS_MAX: usize = 256;

/// What was found of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Last {
    /// The first side, as it was typed; a directory in full.
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
            Ok(file.map_err(malformed)?.verdict)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(CliError::new("home.file", format!("{}: {error}", path.display()))),
    }
}

/// Remembers a verdict in place of the pair's last.
pub(crate) fn note(home: &Home, last: Last) -> Result<(), CliError> {
    let mut verdict = read(home)?;
    verdict.retain(|earlier| (&earlier.a, &earlier.b) != (&last.a, &last.b));
    verdict.push(last);
    let surplus = verdict.len().saturating_sub(PAIRS_MAX);
    verdict.drain(..surplus);
    let text = toml::to_string(&File { verdict }).map_err(|error| CliError::new("defect", error.to_string()))?;
    let (path, new) = (home.dir().join(FILE), home.dir().join(format!("{FILE}.{}", std::process::id())));
    let written = std::fs::File::create(&new).and_then(|mut file| file.write_all(text.as_bytes()));
    let written = written.and_then(|()| std::fs::rename(&new, &path));
    written.map_err(|error| CliError::new("home.file", format!("{}: {error}", path.display())))
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
