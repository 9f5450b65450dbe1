//! What is wrong at the moment, each under a name of what it is about: for `status`, the metrics, the log and whoever listens.
//!
//! What the configuration and the jobs are wrong about is noted where that is noticed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::agenda::Job;
use reknit_core::gossip::Standing;
use reknit_core::objective::Objective;
use reknit_core::{Definition, Millis};

use super::Daemon;
use crate::cli::commands::jobs::shown::Seen;
use crate::cli::objectives;
use crate::cli::units::{show_bytes, show_count, show_duration};
use crate::cli::waiting::Conflicts;
use crate::clock::now_ms;
use crate::node::{Gossip, ParkedRanges};
use crate::store::{Store, Why};
use crate::transport::PeerId;

/// What trouble is about, as far as it is known here; more may be said by others.
pub(crate) const ABOUT: [&str; 21] = [
    "alerts",
    "apart",
    "clock",
    "config",
    "conflicts",
    "identity",
    "job",
    "journal",
    "late",
    "memory",
    "objective",
    "occupied",
    "paused",
    "peer",
    "quarantine",
    "refused",
    "seed",
    "store",
    "token",
    "unknown_job",
    "withheld",
];
/// How long a seed may not be up before that is trouble: who joins needs a moment.
const SEED_WITHIN: Duration = Duration::from_secs(3);
/// How often within a minute a node is displaced that is not alone with its identity. One that was out of reach is once.
const DISPLACED_LEAST: usize = 5;
/// How long what somebody else did is trouble.
const MISTAKES_FOR: Duration = Duration::from_secs(15 * 60);
/// Bytes that are told of a name that is not known.
const NAME_MAX: usize = 64;
/// Keys of a collection with several versions that are looked at for whether they wait for somebody.
const CONFLICTS_LOOKED_AT: usize = 1000;
/// Records of a quarantine that are looked at for why they are there.
const LOOKED_AT: usize = 64;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Trouble {
    /// One word for what it is about.
    pub(crate) about: String,
    /// Which of those, as it stays while the trouble does.
    pub(crate) subject: String,
    /// What it is, and what to do.
    pub(crate) message: String,
}

impl Trouble {
    fn new(about: &str, subject: impl std::fmt::Display, message: impl Into<String>) -> Trouble {
        Trouble { about: about.into(), subject: format!("{about} {subject}"), message: message.into() }
    }

    /// What was noted under the name of what it is about.
    fn noted(subject: &str, message: &str) -> Trouble {
        let about = subject.split(' ').next().unwrap_or_default().to_string();
        Trouble { about, subject: subject.into(), message: format!("{subject}: {message}") }
    }
}

/// What others did wrong of late, by what that is about: how often, when last, and what or who it was then.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Mutex<Made>);

type Made = BTreeMap<&'static str, (u64, Instant, String)>;

impl Mistakes {
    fn note(&self, about: &'static str, last: String) {
        let mut all = self.lock();
        let earlier = all.get(about).filter(|(_, at, _)| at.elapsed() < MISTAKES_FOR).map_or(0, |(times, ..)| *times);
        all.insert(about, (earlier + 1, Instant::now(), last));
    }

    fn troubles(&self) -> Vec<Trouble> {
        let all = self.lock();
        let late = all.iter().filter(|(_, (_, at, _))| at.elapsed() < MISTAKES_FOR);
        let told = late.map(|(about, (times, _, last))| {
            let times = show_count(*times);
            let message = match *about {
                "token" => format!("a wrong token was shown to HTTP of late: {times} times, last from {last}"),
                _ => format!("a job was asked for of late that there is not: {times} times, last `{last}`"),
            };
            Trouble::new(about, "of late", message)
        });
        told.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// Somebody there showed a wrong token.
    pub(crate) fn guessed(&self, from: IpAddr) {
        // The trouble is logged once, however often somebody tries.
        tracing::debug!(%from, "a wrong token was shown to HTTP");
        self.mistakes.note("token", from.to_string());
    }

    /// Somebody asked for a job that there is not.
    pub(super) fn asked_for_none(&self, name: &str) {
        let end = (0..=NAME_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        tracing::debug!(job = &name[..end], "a job was asked for that there is not");
        self.mistakes.note("unknown_job", name[..end].to_string());
    }

    /// All that is wrong.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let now = now_ms();
        let mut all = self.noted();
        {
            let state = self.lock();
            let configured = state.agenda.jobs().iter().filter(|(_, job)| job.plan.is_some());
            let of_job = |(name, job): (&String, &Job)| {
                let wrong = Seen { name, job, config: &state.config, now, live: true }.wrong();
                (!wrong.is_empty()).then(|| Trouble::new("job", name, wrong.join("; ")))
            };
            all.extend(configured.filter_map(of_job));
        }
        all.sort();
        all
    }

    /// What is wrong with something else than what jobs find.
    pub(super) fn noted(&self) -> Vec<Trouble> {
        let wrong = self.lock().wrong.clone();
        let mut all: Vec<Trouble> = wrong.iter().map(|(subject, message)| Trouble::noted(subject, message)).collect();
        all.extend(self.stores.values().flat_map(of_store));
        all.extend(self.of_gossip());
        all.extend(self.mistakes.troubles());
        all
    }

    /// The objective of a store with a peer by gossip; nothing where none is configured, or no session with that peer had a
    /// verdict yet: it may be new, or not have that dataset, and one that always fails is trouble of its own.
    pub(crate) fn objective(&self, standing: &Standing) -> Option<Objective> {
        let within = self.lock().config.serve.gossip.as_ref()?.within?;
        let known = standing.checked.and(standing.first)?;
        Some(Objective::at(within, known, standing.equal, now_ms()))
    }

    /// The peers of a store whose objective is broken, each with since when, and in words.
    pub(super) fn unproven(&self, gossip: &Gossip, definition: &Definition) -> Vec<(PeerId, Option<Millis>, String)> {
        let broken = |(peer, standing): (PeerId, Standing)| {
            let objective = self.objective(&standing)?;
            let message = objectives::broken(&objective, " and never was", now_ms())?;
            let message = format!("gossip of {} with {}: {message}", definition.name, peer.short());
            Some((peer, objective.broken_since(), message))
        };
        gossip.standings(definition.id).into_iter().filter_map(broken).collect()
    }

    /// With whom nothing is gossiped, and why.
    fn apart(&self, gossip: &Gossip) -> Vec<Trouble> {
        let name = |id| self.stores.values().map(Store::definition).find(|of| of.id == id).map(|of| of.name.clone());
        let apart = gossip.apart().into_iter().map(|(dataset, peer, apart)| {
            let (dataset, peer, reason) = (name(dataset).unwrap_or_default(), peer.short(), apart.reason());
            let message = format!("gossip of {dataset} with {peer} waits for a session that repairs: {reason}");
            Trouble::new("apart", format!("{peer} of {dataset}"), message)
        });
        let me = self.node.get().map(|node| node.peer().to_string()).unwrap_or_default();
        let refusing = gossip.refusing().into_iter().map(|peer| {
            let peer = peer.short();
            let message = format!(
                "gossip with {peer}: it does not take this node in, or not any more; there: reknit peers add {me} --may …"
            );
            Trouble::new("refused", peer, message)
        });
        apart.chain(refusing).collect()
    }

    fn of_gossip(&self) -> Vec<Trouble> {
        let Some(gossip) = self.gossip() else { return Vec::new() };
        let mut all = Vec::new();
        for seed in gossip.missing(SEED_WITHIN) {
            let message = match gossip.found_another(&seed) {
                true => format!(
                    "the seed {seed} is not up: whoever answers there has another key; if it has a new one that was not heard of \
                     here, correct `seeds`, and reknit peers add it; else find out who holds the address"
                ),
                false => format!("the seed {seed} is not up: nobody answers there, or it does not know this node"),
            };
            all.push(Trouble::new("seed", &seed, message));
        }
        if gossip.displaced() >= DISPLACED_LEAST {
            let message = "this node is displaced again and again: another one seems to run with its identity (a copy of its \
                           home); give one of them a new one";
            all.push(Trouble::new("identity", "gossip", message));
        }
        for store in self.stores.values() {
            let definition = store.definition();
            for (peer, standing) in
                gossip.standings(definition.id).into_iter().filter(|(_, it)| it.is_stalled() && !it.is_failing())
            {
                all.push(of_peer(peer, definition, stalled(gossip, definition, peer, &standing)));
            }
            for (peer, fails, why) in gossip.failing(definition.id) {
                all.push(of_peer(peer, definition, failing(definition, peer, fails, &why)));
            }
            for (peer, out) in gossip.parked(definition.id) {
                let subject = format!("{} of {}, parked", peer.short(), definition.name);
                all.push(Trouble::new("peer", subject, parked(definition, peer, &out)));
            }
            all.extend(self.unproven(gossip, definition).into_iter().map(|(peer, _, message)| {
                Trouble::new("objective", format!("{} of {}", peer.short(), definition.name), message)
            }));
            all.extend(withheld(gossip, store));
        }
        all.extend(self.apart(gossip));
        all
    }
}

fn of_peer(peer: PeerId, definition: &Definition, message: String) -> Trouble {
    Trouble::new("peer", format!("{} of {}", peer.short(), definition.name), message)
}

/// What is said of a peer that never gets better.
pub(super) fn stalled(gossip: &Gossip, definition: &Definition, peer: PeerId, standing: &Standing) -> String {
    let about = if gossip.repairs() { "" } else { "about " };
    let (left, name, peer) = (show_count(standing.left), &definition.name, peer.short());
    format!("{about}{left} keys of {name} differ from {peer} after each session as before it")
}

/// What is said of a peer with whom no session comes to a verdict.
pub(super) fn failing(definition: &Definition, peer: PeerId, fails: u32, why: &str) -> String {
    format!("{fails} sessions of {} with {} in a row have failed, the last: {why}", definition.name, peer.short())
}

/// What is said of ranges that sessions with a peer leave out.
pub(super) fn parked(definition: &Definition, peer: PeerId, of: &ParkedRanges) -> String {
    let ParkedRanges { ranges, lasts, why } = of;
    let (name, peer) = (&definition.name, peer.short());
    let plural = if *ranges == 1 { "" } else { "s" };
    let lasts = show_duration(*lasts);
    format!(
        "gossip of {name} with {peer}: {ranges} parked range{plural}, for {lasts}, left out so that the rest goes on: {why}"
    )
}

/// Pushed records that would replace or delete too much.
fn withheld(gossip: &Gossip, store: &Store) -> Option<Trouble> {
    let (count, keys) = gossip.withheld(store.definition().id);
    let keys: Vec<String> = keys.iter().map(|key| String::from_utf8_lossy(key).escape_debug().to_string()).collect();
    let (name, dir) = (&store.definition().name, store.dir().display());
    let (count, keys) = ((count > 0).then(|| show_count(count as u64))?, keys.join(", "));
    let message = format!(
        "gossip of {name} withholds {count} records that would replace or delete too much ({keys}, …); to look: reknit repair \
         {dir} ADDRESS, with --apply and --max-delete or --max-change to let them"
    );
    Some(Trouble::new("withheld", name, message))
}

/// Conflicts that wait for somebody, as far as a few of each collection tell.
pub(crate) fn waiting(store: &Store) -> Conflicts {
    // A store that cannot be read has other trouble.
    Conflicts::of_all(store, CONFLICTS_LOOKED_AT).unwrap_or_default()
}

fn conflicts(store: &Store) -> Option<Trouble> {
    let Conflicts { asked, failed, more, .. } = waiting(store);
    let (name, least) = (&store.definition().name, if more { "at least " } else { "" });
    let what = match (asked, failed) {
        (0, 0) => return None,
        (asked, 0) => format!("{least}{} keys of {name} wait for a decision", show_count(asked)),
        (0, failed) => format!("{least}{} keys of {name} cannot be judged by the policy", show_count(failed)),
        (asked, failed) => {
            let (asked, failed) = (show_count(asked), show_count(failed));
            format!("{least}{asked} keys of {name} wait for a decision, and {failed} cannot be judged by the policy")
        }
    };
    let message = format!("{what}; readers see an old value meanwhile: reknit conflicts list STORE");
    Some(Trouble::new("conflicts", name, message))
}

fn of_store(store: &Store) -> Vec<Trouble> {
    let name = &store.definition().name;
    let mut all: Vec<Trouble> = conflicts(store).into_iter().collect();
    let (bytes, limit) = (store.journal_bytes(), store.journal_limits().bytes);
    if bytes >= limit {
        let (bytes, limit) = (show_bytes(bytes), show_bytes(limit));
        let message = format!(
            "the journal of {name} is full ({bytes} of {limit}), and no repair can write there: reknit runs limit STORE --bytes N, \
             or --age D"
        );
        all.push(Trouble::new("journal", name, message));
    }
    if let Some(run) = store.paused() {
        let message = format!("repairs of {name} are paused since run {}, an undo: reknit resume STORE", run.0);
        all.push(Trouble::new("paused", name, message));
    }
    if store.refuses_writes() {
        let message = format!(
            "a write to {name} failed, and nothing is written there any more until it is opened again: once the cause is gone, \
             begin this daemon anew"
        );
        all.push(Trouble::new("store", name, message));
    }
    let set_apart = store.quarantined_count();
    if set_apart > 0 {
        let looked = store.quarantined(None, LOOKED_AT).unwrap_or_default();
        let mut why: BTreeMap<&str, &str> = BTreeMap::new();
        for held in looked {
            match held.why {
                Why::Ahead => why.insert(
                    "clock",
                    "some are stamped ahead of the clock of this machine: it is slow, or one that wrote them is fast",
                ),
                Why::Stray => why.insert("quarantine", "of some it is not known whether they were deleted"),
            };
        }
        for (about, why) in why {
            let n = show_count(set_apart);
            let message = format!(
                "{n} records of {name} are set apart, neither applied nor dropped; {why} (reknit quarantine list STORE)"
            );
            all.push(Trouble::new(about, name, message));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_named_by_its_first_word() {
        let trouble = Trouble::noted("memory of orders", "it is not what was written");
        assert_eq!((trouble.about.as_str(), trouble.subject.as_str()), ("memory", "memory of orders"));
        assert_eq!(trouble.message, "memory of orders: it is not what was written");
        assert!(ABOUT.is_sorted() && ABOUT.contains(&"memory") && ABOUT.contains(&"config"));
    }
}
