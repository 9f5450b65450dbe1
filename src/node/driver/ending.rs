//! The end of a session: a link that is gone, a store that still writes, lanes that are to be heard to their end.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Driver, Event, Machine};
use crate::node::NodeError;
use crate::transport::TransportError;

/// How long an opener waits for the peer to have heard its last word.
pub(super) const CLOSE_MAX: Duration = Duration::from_secs(2);
/// How long a session that is over, or whose link is gone, waits for what its store is writing, so that it is counted.
const LANDING_MAX: Duration = Duration::from_secs(3);

impl Driver {
    /// The link is gone. An opener gives its verdict with what it knows; whoever answers has none to give.
    pub(super) fn lose(&mut self, error: NodeError) -> Result<(), NodeError> {
        use TransportError::{Closed, Lost};
        let breaks = matches!(error, NodeError::Cut | NodeError::Transport(Lost(_) | Closed));
        if !breaks || matches!(self.machine, Machine::Responder(_)) {
            return Err(error);
        }
        self.lost.get_or_insert((error, Instant::now()));
        Ok(())
    }

    /// How much longer what the store is doing is waited for, once the link is gone or it was told to end.
    pub(super) fn landing(&self) -> Option<Duration> {
        let at = self.lost.as_ref().map(|(_, at)| *at).or(self.stopped)?;
        Some(LANDING_MAX.saturating_sub(at.elapsed()))
    }

    /// Waits, where it is over, for what the store is writing all the same: what it loses by that counts.
    pub(super) async fn let_land(&mut self) {
        let until = tokio::time::Instant::now() + self.landing().unwrap_or(LANDING_MAX);
        while self.writing {
            match tokio::time::timeout_at(until, self.events.recv()).await {
                Ok(Some(Event::Answer(Ok(answer)))) => self.note_written(Ok(&answer)),
                Ok(Some(Event::Answer(Err(failure)))) => return self.note_written(Err(&failure.error)),
                Ok(None) | Err(_) => return,
                Ok(Some(_)) => {}
            }
        }
    }

    /// Gives the link what is still to be said, then ends the lanes; or gives up once nothing has moved for so long.
    pub(super) async fn end_lanes(&mut self, patience: Duration) {
        let (nobody, _) = mpsc::unbounded_channel();
        self.control = nobody;
        let (nobody, _) = mpsc::unbounded_channel();
        self.jobs = nobody;
        loop {
            let passed = self.traffic().total();
            let finished = tokio::time::timeout(patience, self.lanes.finished()).await;
            if finished.is_ok() || self.traffic().total() == passed {
                return;
            }
        }
    }

    /// Keeps the link until the peer has ended its side: what was said last has arrived by then. A check has said nothing
    /// since it was answered.
    pub(super) async fn hear_the_end(mut self) {
        let last_word = matches!(&self.machine, Machine::Opener(opener) if opener.said_bye());
        let heard =
            async { while !matches!(self.events.recv().await, None | Some(Event::Ended | Event::Broken(_))) {} };
        if last_word {
            let _ = tokio::time::timeout(CLOSE_MAX, heard).await;
        }
    }
}
