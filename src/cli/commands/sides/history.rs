//! What differed between two sides at several moments, a file of each pair in the home, replaced whole.
//!
//! What is in it is the core's; what is told of it is the command's.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use reknit_core::drift::{BYTES_MAX, History, Pair, Picture};
use reknit_core::sealed::KeptError;
use reknit_core::session::{Intent, Verdict};

use super::{Ran, compared, full};
use crate::cli::CliError;
use crate::cli::args::Sides;
use crate::cli::env::Env;
use crate::clock::now_ms;
use crate::node::{Home, whole_file};

/// Pairs that are remembered; that which was looked at longest ago goes first.
const PAIRS_MAX: usize = 256;
/// What a file is called that is being written, or that could not be read.
const NEW: &str = "new";
const DAMAGED: &str = "damaged";

/// Two jobs of one process may look at one pair.
static WRITING: Mutex<()> = Mutex::new(());

/// Remembers what differs now, if all of it was looked at; gives back everything that is remembered then. Of whoever lists no
/// differences that the sides are equal is remembered, where they were seen to differ.
///
/// # Errors
/// `home.file`, `home.malformed`: nothing was changed.
pub(super) fn note(
    env: &mut Env,
    sides: &Sides,
    ran: &Ran,
    intent: Intent,
    picture: Picture,
) -> Result<Option<History>, CliError> {
    let verdict = ran.report.outcome.verdict;
    let equal = matches!(verdict, Verdict::InSync | Verdict::Converged);
    let lists = matches!(intent, Intent::Diff);
    if ran.interrupted.is_some() || !(equal || lists && verdict == Verdict::Differs) {
        return Ok(None);
    }
    // What a repair found it has mended.
    let picture = if lists { picture } else { Picture::new(now_ms()) };
    let pair = Pair {
        a: full(env, &sides.a),
        b: full(env, &sides.b),
        compared: ran.compared.as_ref().map_or(String::new(), |(terms, shapes)| compared::name(terms, shapes)),
        scope: ran.scope.clone(),
        collections: ran.collections.clone(),
        layout: ran.layouts.first().to_bytes(),
    };
    let dir = env.home()?.drift();
    let path = dir.join(pair.id());
    let _held = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let known = path.exists();
    if !known && !lists {
        return Ok(None);
    }
    let mut history = match known.then(|| read(&path)).transpose()? {
        Some(Ok(history)) => history,
        Some(Err(KeptError::Newer)) => {
            let message = format!("{}: {}; upgrade, or remove it", path.display(), KeptError::Newer);
            return Err(CliError::new("home.malformed", message));
        }
        Some(Err(error @ KeptError::Damaged)) => {
            std::fs::rename(&path, dir.join(format!("{}.{DAMAGED}", pair.id())))
                .map_err(|cause| failed(&path, &cause))?;
            say(env, &format!("{}: {error}; it was set aside, and what differed before is not known", path.display()));
            History::new(pair)
        }
        None => History::new(pair),
    };
    history.add(picture);
    for gone in write(&dir, &path, &history).map_err(|cause| failed(&path, &cause))? {
        say(
            env,
            &format!(
                "{PAIRS_MAX} pairs are remembered: what differed before between {gone} is forgotten, which was looked at longest ago"
            ),
        );
    }
    Ok(Some(history))
}

/// Tells whoever gave the command, wherever that runs.
fn say(env: &mut Env, message: &str) {
    if !env.global.quiet {
        // Where nobody listens any more there is nobody to tell.
        let _ = writeln!(env.err, "reknit: {message}");
    }
}

/// Shows the histories of a home, at most so many: those of the pairs that were looked at last, one after the other. One that
/// cannot be read is left out here: whoever looks at that pair is told.
///
/// # Errors
/// `home.file`.
pub(crate) fn newest(home: &Home, most: usize, see: &mut dyn FnMut(History)) -> Result<(), CliError> {
    let dir = home.drift();
    if !dir.exists() {
        return Ok(());
    }
    let all = by_age(&dir).map_err(|cause| failed(&dir, &cause))?;
    // Names of pairs have no dots; what has one was left by a crash, or set aside.
    let whole = all.iter().rev().map(|(_, path)| path).filter(|path| path.extension().is_none());
    whole.take(most).filter_map(|path| read(path).ok()?.ok()).for_each(see);
    Ok(())
}

/// A history in a file, or that it holds none.
///
/// # Errors
/// `home.file`.
pub(crate) fn read(path: &Path) -> Result<Result<History, KeptError>, CliError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|cause| failed(path, &cause))?;
    Ok(History::from_bytes(&bytes))
}

fn failed(path: &Path, cause: &std::io::Error) -> CliError {
    CliError::new("home.file", format!("{}: {cause}; what differs now is not remembered for `drift`", path.display()))
}

/// Writes a history; says which pairs had to go for it.
fn write(dir: &Path, path: &Path, history: &History) -> std::io::Result<Vec<String>> {
    std::fs::create_dir_all(dir)?;
    let gone = if path.exists() { Vec::new() } else { make_room(dir)? };
    let new = path.with_extension(format!("{}.{NEW}", std::process::id()));
    whole_file::replace(path, &new, &history.to_bytes())?;
    Ok(gone)
}

/// Files and when they were written, the oldest first.
fn by_age(dir: &Path) -> std::io::Result<Vec<(std::time::SystemTime, PathBuf)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        all.push((entry.metadata()?.modified()?, entry.path()));
    }
    all.sort();
    Ok(all)
}

/// Removes the histories that were written longest ago, until one more may be there; says of which pairs they were.
fn make_room(dir: &Path) -> std::io::Result<Vec<String>> {
    let all = by_age(dir)?;
    let surplus = (all.len() + 1).saturating_sub(PAIRS_MAX);
    let removed = |(_, path): &(std::time::SystemTime, PathBuf)| {
        let history = read(path).ok().and_then(Result::ok);
        std::fs::remove_file(path)?;
        // What was set aside, or left by a crash, is no pair's.
        Ok(history.map(|history| format!("{} and {}", history.pair.a, history.pair.b)))
    };
    all.iter().take(surplus).filter_map(|one| removed(one).transpose()).collect()
}
