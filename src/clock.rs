//! The clock of this host. The core is told the time; whoever tells it reads it here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; a clock before it counts as at it.
pub(crate) fn now_ms() -> u64 {
    millis(since())
}

/// Seconds since the Unix epoch.
#[cfg(feature = "cli")]
pub(crate) fn now_s() -> i64 {
    i64::try_from(since().as_secs()).unwrap_or(i64::MAX)
}

/// A duration in whole milliseconds, as many as there may be.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
