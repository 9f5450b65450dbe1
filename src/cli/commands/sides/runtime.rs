//! The runtime of a command: what its threads log belongs to whatever the command does.

use std::cell::RefCell;

use tracing::Span;
use tracing::span::EnteredSpan;

use crate::cli::CliError;

/// Threads on which stores are asked; each keeps what memory it once needed.
const BLOCKING_THREADS: usize = 4;

thread_local! {
    static WITHIN: RefCell<Option<EnteredSpan>> = const { RefCell::new(None) };
}

/// The runtime of one command, or of a daemon. Its threads are within the span that it was made in.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let span = Span::current();
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .on_thread_start(move || WITHIN.with(|within| drop(within.replace(Some(span.clone().entered())))))
        .on_thread_stop(|| WITHIN.with(|within| drop(within.take())))
        .build();
    built.map_err(|error| CliError::new("node.runtime", format!("threads cannot be started: {error}")))
}
