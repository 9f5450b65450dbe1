//! The clock of this host. The core is told the time; whoever tells it reads it here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
#[cfg(feature = "node")]
use std::{sync::LazyLock, time::Instant};

/// Milliseconds since the Unix epoch; a clock before it counts as at it.
pub(crate) fn now_ms() -> u64 {
    millis(since())
}

/// Seconds since the Unix epoch.
#[cfg(feature = "cli")]
pub(crate) fn now_s() -> i64 {
    i64::try_from(since().as_secs()).unwrap_or(i64::MAX)
}

/// Milliseconds since this process first asked, by a clock that nobody sets: no timer, turn or patience that goes by it stands
/// still once the other is set back. What is shown to people, or told to peers, does not go by it.
#[cfg(feature = "node")]
pub(crate) fn ticks() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(BEGAN.elapsed())
}

/// Whether the wall clock is believed: that of a process that has just begun may be behind, and be put on soon.
#[cfg(feature = "node")]
pub(crate) fn is_settled() -> bool {
    const SETTLES_MILLIS: u64 = 600_000;
    ticks() >= SETTLES_MILLIS
}

/// A duration in whole milliseconds, as many as there may be.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
