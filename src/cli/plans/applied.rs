//! Plans that were carried out, by their ids, kept in the home.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::{CliError, verdicts};
use crate::node::Home;

const FILE: &str = "plans.toml";
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

/// Remembers that a plan was carried out.
pub(crate) fn note_applied(home: &Home, id: &str) -> Result<(), CliError> {
    let mut file = read(home)?;
    file.plan.push(Applied { id: id.into(), at: verdicts::now() });
    let surplus = file.plan.len().saturating_sub(PLANS_MAX);
    file.plan.drain(..surplus);
    let text = toml::to_string(&file).map_err(|error| CliError::new("defect", error.to_string()))?;
    let (path, new) = (home.dir().join(FILE), home.dir().join(format!("{FILE}.{}", std::process::id())));
    let written = std::fs::File::create(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&new, &path)).map_err(|error| unusable(&path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new("home.file", format!("{}: {error}", path.display()))
}
