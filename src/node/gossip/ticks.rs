//! The clock by which gossip waits: one that nobody sets, so that no timer, turn or patience stands still once the wall clock is
//! set back.
//!
//! What is shown to people, or told to peers, is by the wall clock.

use std::sync::LazyLock;
use std::time::Instant;

use crate::clock::millis;
use reknit_core::Millis;

/// Milliseconds since this process first asked.
pub(super) fn ticks() -> Millis {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(BEGAN.elapsed())
}
