//! All rows in which two tables differ, listed before the session whose course depends on them.

use std::sync::Arc;

use reknit_core::Millis;
use reknit_core::difference::Difference;
use reknit_core::session::{Intent, Options, Verdict};
use tokio::sync::watch;

use super::runtime;
use crate::cli::env::Env;
use crate::cli::interrupt::Interrupt;
use crate::cli::{CliError, Exit};
use crate::node::{Budget, Progress, between_witnessed};
use crate::store::Side;
use crate::store::linked::Linked;

/// Rows that may differ for each to be looked at.
const ROWS_MAX: usize = 1_000_000;

/// What differs; writes nothing but what the indexes learn.
pub(super) fn differing(env: &mut Env, [a, b]: &[Linked; 2], settle: Millis) -> Result<Vec<Difference>, CliError> {
    let home = env.home()?;
    let mut found = Vec::new();
    let mut progress = |progress: Progress| {
        if let Progress::Found(difference) = progress {
            found.push(*difference);
        }
    };
    let options = Options { settle, ..Options::new(Intent::Diff) };
    let pair: (Arc<dyn Side>, Arc<dyn Side>) = (Arc::new(a.clone()), Arc::new(b.clone()));
    let (report, interrupted) = runtime()?.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let interrupt = Interrupt::listen(stop, env.left.clone());
        let budget = Budget { time: None, bytes: None };
        let report = between_witnessed(&home, pair, options, budget, stopped, &mut progress).await;
        (report, interrupt.exit())
    });
    let outcome = report?.outcome;
    let undetermined = |message: String| {
        let exit = interrupted.unwrap_or(Exit::Undetermined);
        CliError { exit, ..CliError::new("database.differing", format!("{message}; wrote 0 records")) }
    };
    match outcome.verdict {
        Verdict::InSync | Verdict::Differs if found.len() <= ROWS_MAX => Ok(found),
        Verdict::InSync | Verdict::Differs => Err(undetermined(format!("more than {ROWS_MAX} rows differ"))),
        _ => Err(undetermined(format!("what differs is not known: {}", outcome.reason))),
    }
}
