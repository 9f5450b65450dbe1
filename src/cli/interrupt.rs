//! Interrupts: a signal, or that nobody waits any more, asks a session or a daemon to end with what it has.
//!
//! What ending means is the node's concern.

use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::Exit;

/// What was asked for, if anything was.
pub(crate) struct Interrupt {
    exit: Arc<OnceLock<Exit>>,
}

impl Interrupt {
    /// Listens from now on, within a runtime; the first signal sends `true`, and so does the end of whoever waits for
    /// the command in another process.
    pub(crate) fn listen(stop: watch::Sender<bool>, mut left: watch::Receiver<bool>) -> Interrupt {
        let exit = Arc::new(OnceLock::new());
        let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok());
        let [interrupted, terminated] = signals;
        let told = exit.clone();
        tokio::spawn(async move {
            let exit = tokio::select! {
                () = came(interrupted) => Exit::Interrupted,
                () = came(terminated) => Exit::Terminated,
                Ok(_) = left.wait_for(|left| *left) => Exit::Interrupted,
            };
            // First what it means: whoever sees the stop asks for it.
            let _ = told.set(exit);
            let _ = stop.send(true);
        });
        Interrupt { exit }
    }

    /// The exit that it means.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.exit.get().copied()
    }
}

/// Ends when the signal comes; never where the system does not let us hear of it.
async fn came(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
