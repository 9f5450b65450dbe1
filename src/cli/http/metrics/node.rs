//! Metrics of the node: its stores, its sessions with peers, gossip, and what waits.

use reknit_core::DatasetId;
use reknit_core::agenda::FreshIndex;
use reknit_core::gossip::Counts;

use super::seconds;
use crate::cli::daemon::Daemon;
use crate::cli::daemon::trouble::waiting;
use crate::cli::metrics::{Kind, Text};
use crate::node::{Counted, CountedSessions, Gossip, Traffic};
use crate::store::{Stats, Store};

/// Stores by the names of their datasets.
fn named(daemon: &Daemon) -> Vec<(&str, &Store)> {
    daemon.stores().values().map(|store| (store.definition().name.as_str(), store)).collect()
}

/// The stores that are open.
pub(super) fn stores(daemon: &Daemon, text: &mut Text) {
    let all: Vec<(&str, &Store, Option<Stats>)> =
        named(daemon).into_iter().map(|(dataset, store)| (dataset, store, store.stats().ok())).collect();
    let mut each = |name: &str, help: &str, known: &dyn Fn(&Store, Option<&Stats>) -> Option<u64>| {
        text.family(name, Kind::Gauge, help);
        for (dataset, store, stats) in &all {
            known(store, stats.as_ref()).into_iter().for_each(|n| text.sample(&[("dataset", dataset)], n as f64));
        }
    };
    each("reknit_store_records", "Records of a store that is served.", &|_, stats| Some(stats?.records));
    each("reknit_store_tombstones", "Tombstones of it.", &|_, stats| Some(stats?.tombstones));
    each("reknit_store_bytes", "Bytes of its files.", &|_, stats| Some(stats?.disk_bytes));
    each("reknit_journal_bytes", "Bytes of runs that its journal holds.", &|store, _| Some(store.journal_bytes()));
    let limit = |store: &Store, _: Option<&Stats>| Some(store.journal_limits().bytes);
    each("reknit_journal_limit_bytes", "How many it may hold.", &limit);
    let apart = |store: &Store, _: Option<&Stats>| Some(store.quarantined_count());
    each("reknit_quarantined_records", "Records that are set apart, neither applied nor dropped.", &apart);
    text.family("reknit_conflicts", Kind::Gauge, "Keys that wait for somebody: the policy asks, or cannot judge.");
    for (dataset, store) in named(daemon) {
        let waiting = waiting(store);
        for (why, n) in [("asks", waiting.asked), ("fails", waiting.failed)] {
            text.sample(&[("dataset", dataset), ("why", why)], n as f64);
        }
    }
}

/// The indexes of tables, as runs of jobs have followed them.
pub(super) fn indexes(daemon: &Daemon, text: &mut Text) {
    let all = daemon.indexes();
    let mut each = |name: &str, help: &str, known: &dyn Fn(&FreshIndex) -> Option<f64>| {
        text.family(name, Kind::Gauge, help);
        for one in all.values() {
            let labels = [("index", one.index.as_str()), ("table", one.table.as_str())];
            known(one).into_iter().for_each(|value| text.sample(&labels, value));
        }
    };
    let fresh = "When a run last made the index of a table tell what that held.";
    each("reknit_index_fresh_timestamp_seconds", fresh, &|one| Some(seconds(one.at)));
    let changes = "Changes, about, that waited in its feed just before.";
    each("reknit_feed_waiting_changes", changes, &|one| one.waited.map(|n| n as f64));
    let kept = "Bytes of its log that the database kept for its feed then.";
    each("reknit_feed_kept_bytes", kept, &|one| one.kept_bytes.map(|n| n as f64));
}

/// Sessions with peers.
pub(super) fn sessions(daemon: &Daemon, text: &mut Text) {
    let counted = daemon.counted();
    let by: Vec<(&str, &CountedSessions)> =
        counted.iter().flat_map(|all| [("peer", &all.answered), ("gossip", &all.opened)]).collect();
    text.family("reknit_sessions_total", Kind::Counter, "Sessions that have ended, by who opened them and how.");
    for (by, sessions) in &by {
        for (verdict, n) in &sessions.ended {
            text.sample(&[("by", by), ("verdict", verdict)], *n as f64);
        }
    }
    text.family("reknit_sessions", Kind::Gauge, "Sessions that are under way.");
    by.iter().for_each(|(by, sessions)| text.sample(&[("by", by)], sessions.under_way as f64));
    text.family("reknit_session_bytes_total", Kind::Counter, "What sessions that had an outcome moved, by kind.");
    for (by, sessions) in &by {
        let Traffic { control_sent, control_received, records_sent, records_received } = sessions.traffic;
        for (kind, way, n) in [
            ("messages", "sent", control_sent),
            ("messages", "received", control_received),
            ("records", "sent", records_sent),
            ("records", "received", records_received),
        ] {
            text.sample(&[("by", by), ("kind", kind), ("way", way)], n as f64);
        }
    }
    text.family("reknit_connections", Kind::Gauge, "Connections of peers that are open.");
    counted.iter().for_each(|all| text.sample(&[], all.connections as f64));
    text.family("reknit_refusals_total", Kind::Counter, "Peers that were refused, by why.");
    if let Some(Counted { refusals, .. }) = &counted {
        refusals.iter().for_each(|(why, n)| text.sample(&[("why", why)], *n as f64));
    }
    text.family("reknit_http_requests_total", Kind::Counter, "Requests by HTTP, by the status of the answer.");
    daemon.requests().into_iter().for_each(|(status, n)| text.sample(&[("status", &status.to_string())], n as f64));
}

/// Peers by gossip.
pub(super) fn gossip(daemon: &Daemon, text: &mut Text) {
    let gossip = daemon.gossip();
    let all = named(daemon);
    let known: Vec<_> = gossip.into_iter().flat_map(|gossip| peers(gossip, &all)).collect();
    text.family("reknit_gossip_peers", Kind::Gauge, "Peers that are up.");
    gossip.into_iter().for_each(|gossip| text.sample(&[], gossip.neighbours().len() as f64));
    let mut each = |name: &str, help: &str, what: &dyn Fn(&Known<'_>) -> Option<f64>| {
        text.family(name, Kind::Gauge, help);
        for one in &known {
            let labels = [("dataset", one.dataset), ("peer", one.peer.as_str())];
            what(one).into_iter().for_each(|value| text.sample(&labels, value));
        }
    };
    each("reknit_peer_up", "1 where a peer is up.", &|one| Some(f64::from(u8::from(one.standing.up))));
    each("reknit_peer_checked_timestamp_seconds", "When gossip last had a verdict with a peer.", &|one| {
        one.standing.checked.map(seconds)
    });
    each("reknit_peer_proven_timestamp_seconds", "When both were last proven equal.", &|one| {
        one.standing.equal.map(seconds)
    });
    each(
        "reknit_peer_unproven_since_timestamp_seconds",
        "The same, or else when a session with it first ended.",
        &|one| one.standing.equal.or(one.standing.first).map(seconds),
    );
    let oldest = "Since when both are known to differ without having been equal in between; nothing where they are.";
    each("reknit_peer_oldest_difference_timestamp_seconds", oldest, &|one| one.standing.since.map(seconds));
    each("reknit_peer_differences", "Keys that the last session with a verdict left.", &|one| {
        one.standing.checked.map(|_| one.standing.left as f64)
    });
    each("reknit_peer_failed_sessions", "Sessions with it in a row without a verdict.", &|one| {
        Some(f64::from(one.standing.fails))
    });
    let parked = "Ranges that sessions with it leave out, since a store could not answer there.";
    each("reknit_peer_parked_ranges", parked, &|one| Some(one.parked as f64));
    text.family("reknit_gossip_records_total", Kind::Counter, "Fresh writes: news here, needless, left to sessions.");
    for (dataset, Counts { news, needless, left }, _) in counts(gossip, &all) {
        for (what, n) in [("news", news), ("needless", needless), ("left", left)] {
            text.sample(&[("dataset", dataset), ("what", what)], n as f64);
        }
    }
    text.family("reknit_gossip_bytes_total", Kind::Counter, "Bytes of words of gossip.");
    if let Some(gossip) = gossip {
        let [said, heard] = gossip.bytes();
        text.sample(&[("way", "sent")], said as f64);
        text.sample(&[("way", "received")], heard as f64);
    }
    text.family("reknit_gossip_dropped_words_total", Kind::Counter, "Words that found a full queue, or nobody there.");
    gossip.into_iter().for_each(|gossip| text.sample(&[], gossip.links().0 as f64));
}

/// What waits; no number is cut off at a bound.
pub(super) fn queues(daemon: &Daemon, text: &mut Text) {
    let all = named(daemon);
    text.family("reknit_queue_length", Kind::Gauge, "What waits: jobs that are due, words and rumours of gossip.");
    text.sample(&[("queue", "jobs")], daemon.due() as f64);
    let Some(gossip) = daemon.gossip() else { return };
    let waiting = gossip.waiting();
    text.sample(&[("queue", "gossip_said")], waiting.said as f64);
    text.sample(&[("queue", "gossip_heard")], waiting.heard as f64);
    for (dataset, store) in &all {
        if let Some(n) = waiting.inboxes.get(&store.definition().id) {
            text.sample(&[("queue", "gossip_inbox"), ("dataset", dataset)], *n as f64);
        }
    }
    for (dataset, _, n) in counts(Some(gossip), &all) {
        text.sample(&[("queue", "gossip_rumours"), ("dataset", dataset)], n as f64);
    }
}

/// What became of fresh writes, and how many wait to be told.
fn counts<'a>(gossip: Option<&Gossip>, all: &[(&'a str, &Store)]) -> Vec<(&'a str, Counts, usize)> {
    let id = |store: &Store| -> DatasetId { store.definition().id };
    let of = |gossip: &Gossip| -> Vec<_> {
        let counted = all.iter().filter_map(|(dataset, store)| Some((*dataset, gossip.counts(id(store))?)));
        counted.map(|(dataset, (counts, waiting))| (dataset, counts, waiting)).collect()
    };
    gossip.map(of).unwrap_or_default()
}

/// A peer of a dataset.
struct Known<'a> {
    dataset: &'a str,
    peer: String,
    standing: reknit_core::gossip::Standing,
    parked: usize,
}

fn peers<'a>(gossip: &Gossip, all: &[(&'a str, &Store)]) -> Vec<Known<'a>> {
    let of = |(dataset, store): &(&'a str, &Store)| {
        let (dataset, id) = (*dataset, store.definition().id);
        let parked = gossip.parked(id);
        gossip.standings(id).into_iter().map(move |(peer, standing)| {
            let parked = parked.get(&peer).map_or(0, |parked| parked.ranges);
            Known { dataset, peer: peer.to_string(), standing, parked }
        })
    };
    all.iter().flat_map(of).collect()
}
