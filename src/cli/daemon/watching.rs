//! Looks at what is wrong and who is up, and tells what has changed: to the log, and to whoever listens.
//!
//! What is wrong is said where that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reknit_core::agenda::Unmet;
use serde_json::json;

use super::Daemon;
use super::trouble::Trouble;

/// How often it looks, unless a run ends.
const LOOK: Duration = Duration::from_secs(1);

/// What was seen last.
#[derive(Default)]
struct Known {
    troubles: BTreeMap<String, Trouble>,
    up: BTreeMap<String, String>,
    /// Jobs that take too long, each with for what.
    slow: BTreeSet<(String, Kept)>,
}

/// What a run is to keep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Interval,
    Window,
}

impl Daemon {
    /// Looks again and again, until the daemon ends.
    pub(super) fn watch(self: Arc<Daemon>) {
        let mut known = Known::default();
        loop {
            self.look(&mut known);
            let state = self.lock();
            if state.ending {
                return;
            }
            drop(self.woken.wait_timeout(state, LOOK));
        }
    }

    /// Logs which jobs take longer than they have until they are due again, or until their windows close, or no longer do: beside
    /// their other troubles.
    fn look_at_schedules(&self, known: &mut BTreeSet<(String, Kept)>) {
        let state = self.lock();
        let all = state.agenda.jobs().iter().filter_map(|(name, job)| Some((name.clone(), job.unmet()?)));
        let all: Vec<(String, Unmet)> = all.collect();
        drop(state);
        let mut now = BTreeSet::new();
        for (job, unmet) in all {
            let kept = match unmet {
                Unmet::Interval { .. } => Kept::Interval,
                Unmet::Window { .. } => Kept::Window,
            };
            if !known.contains(&(job.clone(), kept)) {
                match unmet {
                    Unmet::Interval { took: takes_ms, interval: every_ms } => {
                        tracing::warn!(job, takes_ms, every_ms, "the interval cannot be met: a run takes longer");
                    }
                    Unmet::Window { took: takes_ms, window: window_ms } => {
                        tracing::warn!(job, takes_ms, window_ms, "the window cannot be kept: a run takes longer");
                    }
                }
            }
            now.insert((job, kept));
        }
        for (job, kept) in known.difference(&now) {
            match kept {
                Kept::Interval => tracing::info!(job, "the interval can be met again"),
                Kept::Window => tracing::info!(job, "the window can be kept again"),
            }
        }
        *known = now;
    }

    fn look(&self, known: &mut Known) {
        let troubles: BTreeMap<String, Trouble> =
            self.troubles().into_iter().map(|trouble| (trouble.subject.clone(), trouble)).collect();
        for (subject, trouble) in troubles.iter().filter(|(subject, _)| !known.troubles.contains_key(*subject)) {
            let Trouble { about, message, .. } = trouble;
            tracing::warn!(about, subject, "trouble: {message}");
            self.events.tell("trouble", json!({ "about": about, "subject": subject, "message": message }));
        }
        for (subject, Trouble { about, .. }) in known.troubles.iter().filter(|(it, _)| !troubles.contains_key(*it)) {
            tracing::info!(about, subject, "the trouble is over");
            self.events.tell("trouble_over", json!({ "about": about, "subject": subject }));
        }
        known.troubles = troubles;
        self.look_at_schedules(&mut known.slow);
        let neighbours = self.gossip().map(crate::node::Gossip::neighbours).unwrap_or_default();
        let up: BTreeMap<String, String> =
            neighbours.iter().map(|near| (near.peer.to_string(), near.at.to_string())).collect();
        for (peer, at) in up.iter().filter(|(peer, at)| known.up.get(*peer) != Some(*at)) {
            self.events.tell("peer_up", json!({ "peer": peer, "at": at }));
        }
        for peer in known.up.keys().filter(|peer| !up.contains_key(*peer)) {
            self.events.tell("peer_down", json!({ "peer": peer }));
        }
        known.up = up;
    }
}
