//! The wait for a store or a table that another process works on, of a command that nobody waits for.
//!
//! Jobs of one daemon never meet there: its agenda begins none on what another one works on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::CliError;
use super::env::Env;

/// How long a command waits, all its waits together. Who would have to wait longer has failed.
pub(crate) const AT_MOST: Duration = Duration::from_secs(60);
/// How often it is tried, at first and later: each time costs what opening costs.
const LOOK: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];
/// How soon it ends when it is told to.
const ENDS: Duration = Duration::from_millis(50);

/// Who is told that there is such a wait, and for what; and that it is over.
type Tell = dyn Fn(Option<&str>) + Send + Sync;

/// The patience of one command.
pub(crate) struct Patience {
    tell: Box<Tell>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When it ends, once there was something to wait for.
    until: Option<Instant>,
    /// Something is being tried: what it opens on the way is not waited for while it holds the rest.
    trying: bool,
}

impl Patience {
    pub(crate) fn new(tell: impl Fn(Option<&str>) + Send + Sync + 'static) -> Patience {
        Patience { tell: Box::new(tell), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens something, or several at once or none, as soon as no other process has it: if that is waited for at all, and the command
/// is not told to end.
///
/// # Errors
/// What it was refused with last.
pub(crate) fn once_free<T>(env: &Env, mut open: impl FnMut() -> Result<T, CliError>) -> Result<T, CliError> {
    let Some(patience) = &env.patience else { return open() };
    if std::mem::replace(&mut patience.lock().trying, true) {
        return open();
    }
    let [mut look, seldom] = LOOK;
    let before = beside(env);
    let opened = loop {
        let opened = open();
        let Err(error) = opened.as_ref().map(|_| ()) else { break opened };
        let until = *patience.lock().until.get_or_insert_with(|| Instant::now() + AT_MOST);
        if error.id != "store.in-use" || Instant::now() >= until || *env.left.borrow() {
            break opened;
        }
        // Nothing is held meanwhile: two that have one each would wait for each other.
        env.beside.lock().unwrap_or_else(PoisonError::into_inner).retain(|dir, _| before.contains(dir));
        (patience.tell)(Some(&error.message));
        let again = until.min(Instant::now() + look);
        while Instant::now() < again && !*env.left.borrow() {
            std::thread::sleep(ENDS);
        }
        look = (look * 2).min(seldom);
    };
    (patience.tell)(None);
    patience.lock().trying = false;
    opened
}

fn beside(env: &Env) -> BTreeSet<PathBuf> {
    env.beside.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
}
