//! What operators are told of by themselves: trouble that begins, goes on and ends, and who has heard what of it.
//!
//! What is wrong comes in, what is to be told comes out; telling it, and keeping the memory of it, is the driver's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::agenda::{Job, RunVerdict};
use crate::sealed::{KeptError, seal, unseal};
use crate::stamp::Millis;

/// Alerts that there are at most; of further trouble nobody is told.
pub const ALERTS_MAX: usize = 1_024;
/// Bytes of what is said of one.
pub const MESSAGE_BYTES_MAX: usize = 512;
/// How long is waited at first before what could not be told is tried again; twice as long each time.
const RETRY_MILLIS: Millis = 1_000;
/// How long at most.
const RETRY_MAX_MILLIS: Millis = 300_000;
/// How often in a row; then not before it would be repeated, and of an end not at all.
const TRIES_MAX: u32 = 10;
/// What every file begins with; the last byte is the version.
const MAGIC: &[u8; 8] = b"reknitA\x01";

/// What kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The sides of a job were not proven equal in time.
    Objective,
    /// A job failed, or was partial, several times in a row.
    Failing,
    /// A job was refused, or found damage.
    Refused,
    /// Differences stand still for long.
    Drift,
    /// A peer never gets better, however often it is met.
    Peer,
    /// Something else is wrong with the daemon.
    Wrong,
    /// Somebody tries it out.
    Test,
}

impl Kind {
    /// As it is written for machines.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Objective => "objective",
            Kind::Failing => "failing",
            Kind::Refused => "refused",
            Kind::Drift => "drift",
            Kind::Peer => "peer",
            Kind::Wrong => "wrong",
            Kind::Test => "test",
        }
    }
}

/// One thing that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What kind.
    pub kind: Kind,
    /// Which job, peer or other thing it is about.
    pub about: String,
    /// Since when, if that is known better than by whoever looks now.
    pub since: Option<Millis>,
    /// What is wrong, in words.
    pub message: String,
}

impl Trouble {
    /// The same trouble has the same id, whatever is said of it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind.name(), self.about)
    }
}

/// From when on something is trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// So many runs in a row that failed, or were partial.
    pub failures: u32,
    /// Differences that have stood still for so long.
    pub drift: Option<Millis>,
    /// How long passes until what goes on is told again.
    pub repeat: Millis,
}

impl Rules {
    /// What is wrong with a job, and since when.
    pub fn of_job(&self, job: &Job, now: Millis) -> Vec<(Kind, Option<Millis>)> {
        let kept = &job.kept;
        let mut all = Vec::new();
        if job.plan.is_none() {
            return all;
        }
        if let Some(since) = job.objective(now).and_then(|objective| objective.broken_since()) {
            all.push((Kind::Objective, Some(since)));
        }
        if kept.failures >= self.failures {
            let row = kept.history.iter().rev().take_while(|ran| ran.failed());
            all.push((Kind::Failing, row.last().map(|ran| ran.began)));
        }
        let refused = |verdict| matches!(verdict, RunVerdict::Refused | RunVerdict::Damaged);
        if let Some(ran) = kept.last().filter(|ran| refused(ran.verdict)) {
            all.push((Kind::Refused, Some(ran.ended)));
        }
        if let Some(oldest) = kept.oldest().filter(|at| self.drift.is_some_and(|most| now.saturating_sub(*at) > most)) {
            all.push((Kind::Drift, Some(oldest)));
        }
        all
    }

    /// When to look at a job again, if nothing happens to it.
    pub fn wake(&self, job: &Job, now: Millis) -> Option<Millis> {
        let breaks = job.objective(now).map(|objective| objective.breaks());
        let drifts = job.kept.oldest().and_then(|oldest| Some(oldest.saturating_add(self.drift?)));
        // It is broken once that time has passed.
        [breaks, drifts].into_iter().flatten().map(|at| at.saturating_add(1)).filter(|at| *at > now).min()
    }
}

/// Trouble, with who has heard of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What is, or was, wrong.
    pub trouble: Trouble,
    /// Since when.
    pub since: Millis,
    /// When it was right again.
    pub resolved: Option<Millis>,
    ways: BTreeMap<String, Heard>,
}

/// What was heard by one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    /// When it was last heard that it fires.
    firing: Option<Millis>,
    /// Times in a row that nothing was heard.
    tries: u32,
    /// When there is something to be told again.
    next: Millis,
}

/// One thing to be told, by one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The alert.
    pub id: String,
    /// By which way.
    pub way: String,
    /// What is, or was, wrong.
    pub trouble: Trouble,
    /// Since when.
    pub since: Millis,
    /// When it was right again; none while it fires.
    pub resolved: Option<Millis>,
    /// Whether it was told before that it fires.
    pub again: bool,
}

/// All alerts of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    alerts: BTreeMap<String, Alert>,
}

impl Alerts {
    /// Takes what is wrong now, all of it, and by which ways that is told; gives back what has begun or ended.
    pub fn look(&mut self, now: Millis, (ways, rules): (&[&str], &Rules), troubles: Vec<Trouble>) -> Vec<Alert> {
        let mut news = Vec::new();
        let ids: BTreeSet<String> = troubles.iter().map(Trouble::id).collect();
        for (id, alert) in &mut self.alerts {
            if alert.resolved.is_none() && !ids.contains(id) {
                alert.resolved = Some(now);
                // Who has not heard of it need not hear that it is over.
                alert.ways.retain(|_, heard| heard.firing.is_some());
                alert.ways.values_mut().for_each(|heard| (heard.tries, heard.next) = (0, now));
                news.push(alert.clone());
            }
        }
        for mut trouble in troubles {
            trouble.message = cut(trouble.message);
            let (id, since) = (trouble.id(), trouble.since.unwrap_or(now));
            let full = self.alerts.len() >= ALERTS_MAX;
            match self.alerts.get_mut(&id) {
                Some(alert) if alert.resolved.is_none() => alert.trouble = trouble,
                Some(alert) => {
                    // Whoever has not heard of the end has heard of it all the time.
                    (alert.trouble, alert.since, alert.resolved) = (trouble, since, None);
                    for heard in alert.ways.values_mut() {
                        let next = heard.firing.map_or(now, |at| at.saturating_add(rules.repeat));
                        (heard.tries, heard.next) = (0, next);
                    }
                    news.push(alert.clone());
                }
                None if full => {}
                None => {
                    let alert = Alert { trouble, since, resolved: None, ways: BTreeMap::new() };
                    news.push(alert.clone());
                    self.alerts.insert(id, alert);
                }
            }
        }
        for alert in self.alerts.values_mut() {
            alert.ways.retain(|way, _| ways.contains(&way.as_str()));
            // What was put off by a clock that was set back since is put off no longer than from now.
            let latest = now.saturating_add(rules.repeat.max(RETRY_MAX_MILLIS));
            alert.ways.values_mut().for_each(|heard| heard.next = heard.next.min(latest));
            if alert.resolved.is_none() {
                for way in ways {
                    alert.ways.entry((*way).into()).or_insert_with(|| Heard { next: now, ..Heard::default() });
                }
            }
        }
        self.alerts.retain(|_, alert| alert.resolved.is_none() || !alert.ways.is_empty());
        news
    }

    /// What is to be told now.
    pub fn due(&self, now: Millis) -> Vec<Event> {
        let of = |(id, alert): (&String, &Alert)| {
            let due = alert.ways.iter().filter(|(_, heard)| heard.next <= now);
            let event = |(way, heard): (&String, &Heard)| Event {
                id: id.clone(),
                way: way.clone(),
                trouble: alert.trouble.clone(),
                since: alert.since,
                resolved: alert.resolved,
                again: heard.firing.is_some(),
            };
            due.map(event).collect::<Vec<_>>()
        };
        self.alerts.iter().flat_map(of).collect()
    }

    /// Notes whether an event was heard.
    pub fn heard(&mut self, event: &Event, heard: bool, rules: &Rules, now: Millis) {
        if event.resolved.is_none() && heard {
            // It may have ended while that was told: then that is to be told as well.
            let over = || Alert {
                trouble: event.trouble.clone(),
                since: event.since,
                resolved: Some(now),
                ways: BTreeMap::new(),
            };
            let alert = self.alerts.entry(event.id.clone()).or_insert_with(over);
            alert.ways.entry(event.way.clone()).or_default();
        }
        let Some(alert) = self.alerts.get_mut(&event.id) else { return };
        let Some(way) = alert.ways.get_mut(&event.way) else { return };
        way.tries = if heard { 0 } else { way.tries.saturating_add(1) };
        let given_up = way.tries >= TRIES_MAX;
        match event.resolved {
            // It may fire again since: then the end that was told was one, and it is told anew.
            Some(_) if alert.resolved.is_none() => {
                if heard {
                    (way.firing, way.next) = (None, now);
                }
            }
            Some(_) if heard || given_up => {
                alert.ways.remove(&event.way);
            }
            None if heard => {
                way.firing = Some(now);
                way.next = if alert.resolved.is_some() { now } else { now.saturating_add(rules.repeat) };
            }
            None if given_up => (way.tries, way.next) = (0, now.saturating_add(rules.repeat)),
            _ => {
                let wait = RETRY_MILLIS.saturating_mul(1 << (way.tries - 1).min(32)).min(RETRY_MAX_MILLIS);
                way.next = now.saturating_add(wait);
            }
        }
        self.alerts.retain(|_, alert| alert.resolved.is_none() || !alert.ways.is_empty());
    }

    /// When there is something to be told, at the earliest.
    pub fn wake(&self) -> Option<Millis> {
        self.alerts.values().flat_map(|alert| alert.ways.values()).map(|heard| heard.next).min()
    }

    /// Those that fire, by their ids.
    pub fn firing(&self) -> impl Iterator<Item = (&String, &Alert)> {
        self.alerts.iter().filter(|(_, alert)| alert.resolved.is_none())
    }

    /// As bytes: what they are, MessagePack, the digest of both.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers, texts and options of them are always written.
        seal(MAGIC, &rmp_serde::to_vec_named(self).expect("alerts are numbers and texts"))
    }

    /// Reads what [`Alerts::to_bytes`] has written.
    ///
    /// # Errors
    /// [`KeptError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Alerts, KeptError> {
        rmp_serde::from_slice(unseal(MAGIC, bytes)?).map_err(|_| KeptError::Damaged)
    }
}

fn cut(mut message: String) -> String {
    let end = (0..=MESSAGE_BYTES_MAX.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    message.truncate(end.unwrap_or(0));
    message
}

#[cfg(test)]
mod tests;
