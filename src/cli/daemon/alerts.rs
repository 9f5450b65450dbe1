//! What a daemon tells operators of by itself: it looks at what is wrong, and has it told, on a thread of its own.
//!
//! What is told when, and when again, is the core's; by which ways, [`crate::cli::telling`]'s.

use std::sync::Arc;
use std::time::Duration;

use reknit_core::alert::{Alerts, Kind, Trouble};
use reknit_core::{Definition, Millis};

use super::{Daemon, State, files, trouble};
use crate::cli::commands::jobs::shown::Seen;
use crate::cli::config::AlertsTable;
use crate::cli::telling;
use crate::cli::units::show_duration;
use crate::clock::now_ms;
use crate::transport::PeerId;

/// What is wrong is looked at so often at least.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// What is wrong with telling is told by no alert.
const OWN: &str = "alerts";

impl Daemon {
    /// Tells what is to be told, until the daemon ends.
    pub(super) fn tell_when_due(self: Arc<Daemon>) {
        let node = self.home.identity().map_or_else(|_| String::new(), |identity| identity.peer().to_string());
        loop {
            let others = self.others();
            let mut state = self.lock();
            if state.ending {
                return;
            }
            let now = now_ms();
            let table = state.config.alerts.clone();
            let troubles = state.troubles(now, others);
            let before = state.alerts.clone();
            let news = state.alerts.look(now, (&table.ways(), &table.rules), troubles);
            for alert in &news {
                let (id, message) = (alert.trouble.id(), &alert.trouble.message);
                match alert.resolved {
                    None => tracing::warn!(alert = id, message, "an alert fires"),
                    Some(_) => tracing::info!(alert = id, message, "an alert is resolved"),
                }
            }
            if state.alerts != before {
                self.write_alerts(&mut state);
            }
            let events = state.alerts.due(now);
            if events.is_empty() {
                let wake = state.wake(&table, now);
                let wait = wake.map_or(LOOK_MAX, |wake| Duration::from_millis(wake - now).min(LOOK_MAX));
                drop(match self.woken.wait_timeout(state, wait) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                });
                continue;
            }
            drop(state);
            for event in events {
                let told = telling::tell(&table, &event.way, &telling::object(&event, &node, now_ms()));
                let mut state = self.lock();
                let about = format!("{OWN} by {}", event.way);
                match &told {
                    Ok(()) => _ = state.wrong.remove(&about),
                    Err(why) => {
                        tracing::warn!(alert = event.id, way = event.way, why, "an alert was not heard");
                        state.wrong.insert(about, why.clone());
                    }
                }
                state.alerts.heard(&event, told.is_ok(), &table.rules, now_ms());
                self.write_alerts(&mut state);
                if state.ending {
                    return;
                }
            }
        }
    }

    fn write_alerts(&self, state: &mut State) {
        let about = format!("{OWN} memory");
        match files::write_alerts(&self.home, &state.alerts) {
            Ok(()) => _ = state.wrong.remove(&about),
            Err(error) => {
                tracing::error!(error = error.message, "alerts are not remembered");
                state.wrong.insert(about, format!("what was told is not remembered: {error}"));
            }
        }
    }

    /// All that is wrong with something else than what jobs find.
    fn others(&self) -> Vec<Trouble> {
        // Peers are told of with since when, below; a name that somebody typed wrongly is nobody's alarm, nor is a wait that ends
        // by itself.
        let elsewhere = [OWN, "objective", "occupied", "peer", "unknown_job"];
        let noted = self.noted().into_iter().filter(|it| !elsewhere.contains(&it.about.as_str()));
        let trouble = |super::trouble::Trouble { subject: about, message, .. }| Trouble {
            kind: Kind::Wrong,
            about,
            since: None,
            message,
        };
        let mut all: Vec<Trouble> = noted.map(trouble).collect();
        let Some(gossip) = self.gossip() else { return all };
        for definition in self.stores.values().map(|store| store.definition()) {
            for (peer, standing) in gossip.standings(definition.id) {
                if standing.is_stalled() && !standing.is_failing() {
                    let message = trouble::stalled(gossip, definition, peer, &standing);
                    all.push(of_peer(Kind::Peer, definition, peer, standing.equal, message));
                }
            }
            for (peer, fails, why) in gossip.failing(definition.id) {
                let message = trouble::failing(definition, peer, fails, &why);
                all.push(of_peer(Kind::Peer, definition, peer, None, message));
            }
            for (peer, out) in gossip.parked(definition.id) {
                let since = now_ms().saturating_sub(out.lasts.as_millis() as Millis);
                let message = trouble::parked(definition, peer, &out);
                let about = format!("{}@{}/parked", definition.name, peer.short());
                all.push(Trouble { kind: Kind::Peer, about, since: Some(since), message });
            }
            for (peer, since, message) in self.unproven(gossip, definition) {
                all.push(of_peer(Kind::Objective, definition, peer, since, message));
            }
        }
        all
    }
}

fn of_peer(kind: Kind, definition: &Definition, peer: PeerId, since: Option<Millis>, message: String) -> Trouble {
    Trouble { kind, about: format!("{}@{}", definition.name, peer.short()), since, message }
}

impl State {
    /// All that is wrong now.
    fn troubles(&self, now: Millis, others: Vec<Trouble>) -> Vec<Trouble> {
        let mut all = others;
        for (name, job) in self.agenda.jobs() {
            let seen = Seen { name, job, config: &self.config, now, live: true };
            for (kind, since) in self.config.alerts.rules.of_job(job, now) {
                let message = match kind {
                    Kind::Drift => format!(
                        "{name}: what differs has for {}",
                        show_duration(Duration::from_millis(now.saturating_sub(since.unwrap_or(now))))
                    ),
                    _ => match seen.wrong() {
                        // So many runs in a row were ended by the budget of their day.
                        wrong if wrong.is_empty() => seen.ended_badly().unwrap_or_default(),
                        wrong => wrong.join("; "),
                    },
                };
                all.push(Trouble { kind, about: name.clone(), since, message });
            }
        }
        all
    }

    /// When there is something to be told, or something becomes trouble by waiting.
    fn wake(&self, table: &AlertsTable, now: Millis) -> Option<Millis> {
        let jobs = self.agenda.jobs().values().filter_map(|job| table.rules.wake(job, now));
        jobs.chain(self.alerts.wake()).filter(|at| *at > now).min()
    }
}

/// What is remembered of them, as it is shown.
pub(super) fn firing(alerts: &Alerts) -> Vec<reknit_core::alert::Alert> {
    alerts.firing().map(|(_, alert)| alert.clone()).collect()
}
