//! The wait for a store or a table that another process works on, of a command that nobody waits for.
//!
//! Jobs of one daemon never meet there: its agenda begins none on what another one works on.

use std::time::{Duration, Instant};

use super::CliError;
use super::env::Env;

/// How long it is waited for. Whoever would have to wait longer has failed.
pub(crate) const AT_MOST: Duration = Duration::from_secs(60);
/// How often it is tried.
const LOOK: Duration = Duration::from_millis(250);

/// Who is told that there is such a wait, and for what; and that it is over.
pub(crate) type Patience = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// Opens something as soon as no other process has it, if that is waited for at all and the command is not told to end.
///
/// # Errors
/// What it was refused with last.
pub(crate) fn once_free<T>(env: &Env, mut open: impl FnMut() -> Result<T, CliError>) -> Result<T, CliError> {
    let Some(tell) = &env.patience else { return open() };
    let begun = Instant::now();
    loop {
        match open() {
            Err(error) if error.id == "store.in-use" && begun.elapsed() < AT_MOST && !*env.left.borrow() => {
                tell(Some(&error.message));
                std::thread::sleep(LOOK);
            }
            opened => {
                tell(None);
                return opened;
            }
        }
    }
}
