//! What whoever started the daemon is told of it, if that is systemd or listens as it does: ready, alive, reading its
//! configuration again, ending. Without a supervisor nothing happens; what is told to people is in the log and in `status`.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells that all is open and time is kept, and what it does in a line.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Status(status), NotifyState::Ready]);
}

/// How long at most the supervisor waits to hear that the daemon is alive, if it does.
pub(super) fn asks_within() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Tells that jobs are still looked at.
pub(super) fn alive() {
    if asks_within().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// Tells that it ends, and takes the time that runs need.
pub(super) fn ending() {
    tell(&[NotifyState::Stopping]);
}

/// The configuration is being read again, until this is dropped.
pub(super) struct Reloading;

impl Reloading {
    pub(super) fn begin() -> Reloading {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
        Reloading
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        tell(&[NotifyState::Ready]);
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the supervisor cannot be told how the daemon is");
    }
}
