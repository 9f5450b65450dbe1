//! Nodes that gossip over real QUIC: who is up, what is written fresh, sessions with whoever was met longest ago.

use std::time::{Duration, Instant};

use reknit::core::DatasetId;
use reknit::core::journal::RunKind;
use reknit::core::message::Rights;
use reknit::node::{Gossip, GossipOptions, Served};
use reknit::store::{Op, Store, Undo};
use reknit::transport::Address;
use std::sync::Arc;
use tokio::sync::watch;

use super::support::*;

/// A long time, in which no session is held.
const NEVER: Duration = Duration::from_secs(3600);

struct Gossiping {
    peer: Peer,
    store: Store,
    gossip: Gossip,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Gossiping {
    /// A node that joins by those.
    fn start(peer: Peer, store: Store, seeds: Vec<Address>, every: Duration) -> Gossiping {
        let (stop, stopped) = watch::channel(false);
        let options = GossipOptions { seeds, every, seed: 7, ..GossipOptions::default() };
        let stores = [store.clone()];
        let gossip = Gossip::start(&peer.node, &stores, &options, stopped.clone()).expect("started");
        let (node, taking, served) = (peer.node.clone(), gossip.clone(), Served { side: Arc::new(store.clone()) });
        let serving =
            tokio::spawn(async move { node.serve_with(vec![served], Some(taking), stopped).await.expect("served") });
        Gossiping { peer, store, gossip, stop, serving }
    }

    fn up(&self) -> usize {
        self.gossip.neighbours().len()
    }

    async fn end(self) {
        self.stop.send(true).expect("it listens");
        self.serving.await.expect("no panic");
    }

    async fn end_all(all: Vec<Gossiping>) {
        let ends: Vec<_> = all.into_iter().map(|one| tokio::spawn(one.end())).collect();
        for end in ends {
            end.await.expect("no panic");
        }
    }
}

/// So many peers, each of which may do that with all others.
fn peers(count: usize, may: Rights) -> Vec<Peer> {
    let peers: Vec<Peer> = (0..count).map(|_| peer(true)).collect();
    for one in &peers {
        peers
            .iter()
            .filter(|other| other.node.peer() != one.node.peer())
            .for_each(|other| one.admit(other.node.peer(), may));
    }
    peers
}

fn gossiping(peers: Vec<Peer>, every: Duration) -> Vec<Gossiping> {
    let seed = peers[0].address();
    let start =
        |(nth, peer)| Gossiping::start(peer, store(), if nth == 0 { Vec::new() } else { vec![seed.clone()] }, every);
    peers.into_iter().enumerate().map(start).collect()
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn equal(all: &[Gossiping]) -> bool {
    all.iter().all(|one| one.store.cut().roots == all[0].store.cut().roots)
}

#[test]
fn a_write_is_everywhere_without_a_session_and_travels_about_once() {
    run(async {
        let all = gossiping(peers(6, Rights::ALL), NEVER);
        until("all know each other", || all.iter().all(|one| one.up() == 5)).await;
        for nth in 0..60 {
            let of = &all[nth % all.len()].store;
            of.put(&key(nth), format!("v{nth}").as_bytes()).expect("written");
        }
        until("all are equal", || equal(&all) && all[0].store.cut().roots[0].count == 60).await;
        all[3]
            .store
            .batch((0..10).map(|nth| Op::delete(key(nth))).collect(), reknit::store::Durability::Buffered)
            .expect("deleted");
        until("deletes too", || all.iter().all(|one| contents(&one.store).len() == 50) && equal(&all)).await;
        let counts: Vec<_> =
            all.iter().map(|one| one.gossip.counts(DatasetId([7; 16])).expect("it is gossiped about").0).collect();
        let (news, needless) =
            counts.iter().fold((0, 0), |(news, needless), of| (news + of.news, needless + of.needless));
        assert!(news <= 70 * 5, "{counts:?}");
        assert!(needless <= 70 * 3, "{needless} records came twice: {counts:?}");
        all.iter().for_each(|one| assert_sound(&one.store));
        Gossiping::end_all(all).await;
    });
}

#[test]
fn who_joins_late_is_brought_up_by_sessions_and_who_leaves_is_noticed() {
    run(async {
        let mut peers = peers(4, Rights::ALL);
        let late = peers.pop().expect("four");
        let mut all = gossiping(peers, Duration::from_millis(50));
        let seed = all[0].peer.address();
        plant(&[&all[1].store], 500);
        until("sessions bring what nobody was told of", || equal(&all)).await;
        all.push(Gossiping::start(late, store(), vec![seed], Duration::from_millis(50)));
        until("it has all", || equal(&all) && all[3].store.cut().roots[0].count == 500).await;
        until("it is known", || all.iter().all(|one| one.up() == 3)).await;
        let gone = all.remove(2);
        gone.end().await;
        until("it is not waited for", || all.iter().all(|one| one.up() == 2)).await;
        for one in &all {
            let standings = one.gossip.standings(DatasetId([7; 16]));
            assert_eq!(standings.iter().filter(|(_, standing)| standing.up).count(), 2);
        }
        Gossiping::end_all(all).await;
    });
}

#[test]
fn nobody_gossips_more_than_it_may() {
    run(async {
        let peers: Vec<Peer> = (0..3).map(|_| peer(true)).collect();
        let [first, reader, stranger] = [0, 1, 2].map(|nth: usize| peers[nth].node.peer());
        // The first takes from the others what they may write: nothing. The third may not read there either.
        peers[0].admit(reader, Rights::COMPARE.and(Rights::READ));
        peers[0].admit(stranger, Rights::COMPARE);
        peers[1].admit(first, Rights::ALL);
        peers[1].admit(stranger, Rights::COMPARE);
        peers[2].admit(first, Rights::ALL);
        peers[2].admit(reader, Rights::ALL);
        let all = gossiping(peers, NEVER);
        until("all know each other", || all.iter().all(|one| one.up() == 2)).await;
        all[0].store.put(b"of the first", b"1").expect("written");
        until("who may read is told", || contents(&all[1].store).len() == 1).await;
        all[1].store.put(b"of the reader", b"2").expect("written");
        all[2].store.put(b"of the stranger", b"3").expect("written");
        // What comes later came after what was refused.
        all[0].store.put(b"the last", b"4").expect("written");
        until("it has all of the first", || all[1].store.get(b"the last").expect("read").is_some()).await;
        assert_eq!(contents(&all[0].store).len(), 2, "none may write there");
        assert!(all[2].store.get(b"of the first").expect("read").is_none(), "none may read that");
        Gossiping::end_all(all).await;
    });
}

#[test]
fn mass_deletes_are_left_to_sessions() {
    run(async {
        let all = gossiping(peers(2, Rights::ALL), NEVER);
        plant(&[&all[0].store, &all[1].store], 1000);
        until("they know each other", || all.iter().all(|one| one.up() == 1)).await;
        all[0]
            .store
            .batch((0..900).map(|nth| Op::delete(key(nth))).collect(), reknit::store::Durability::Buffered)
            .expect("deleted");
        // A tenth may go, and is gone; the rest stands.
        let left = || all[1].gossip.counts(DatasetId([7; 16])).expect("it is gossiped about").0.left;
        until("all have come", || left() >= 800).await;
        let left = contents(&all[1].store).len();
        assert!(left >= 900, "{left} are left");
        Gossiping::end_all(all).await;
    });
}

#[test]
fn what_a_push_replaces_is_in_one_run_and_comes_back_exactly() {
    run(async {
        let all = gossiping(peers(2, Rights::ALL), NEVER);
        plant(&[&all[0].store, &all[1].store], 20);
        until("they know each other", || all.iter().all(|one| one.up() == 1)).await;
        let here = &all[1].store;
        let (before, root) = (contents(here), here.cut().roots);
        all[0].store.put(&key(3), b"pushed").expect("written");
        until("it is told", || here.get(&key(3)).expect("read") == Some(b"pushed".to_vec())).await;
        all[0].store.delete(&key(4)).expect("deleted");
        all[0].store.put(b"new", b"pushed").expect("written");
        until("all is told", || equal(&all)).await;
        let runs = here.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        let (id, pushed) = &runs[0];
        assert_eq!((pushed.header.kind, pushed.entries, pushed.overwritten), (RunKind::Pushed, 3, 2));
        assert_eq!(pushed.header.peer, all[0].peer.node.peer().to_string());
        let undone = here.undo(*id, Undo::Here, &mut |_| (), &mut |_| ()).expect("undone");
        assert_eq!((undone.restored, undone.skipped), (3, 0));
        assert_eq!((contents(here), here.cut().roots), (before, root), "states, not only contents");
        // While repairs are paused, nothing is pushed here; what is afterwards is of another run.
        let left = || all[1].gossip.counts(DatasetId([7; 16])).expect("it is gossiped about").0.left;
        let was = left();
        all[0].store.put(b"meanwhile", b"1").expect("written");
        until("it has come", || left() > was).await;
        assert_eq!(here.get(b"meanwhile").expect("read"), None);
        here.resume().expect("resumed");
        all[0].store.put(b"after", b"1").expect("written");
        until("it is told", || here.get(b"after").expect("read").is_some()).await;
        let runs = here.runs();
        assert_eq!(runs.last().map(|(last, run)| (last > id, run.entries)), Some((true, 1)), "{runs:?}");
        assert_sound(here);
        Gossiping::end_all(all).await;
    });
}

/// Ten nodes, a hundred writes a second, for a few seconds or as many as the campaign wants; tells how soon each was everywhere.
#[test]
fn ten_nodes_hear_of_a_hundred_writes_a_second() {
    let seconds = std::env::var("REKNIT_GOSSIP_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(2);
    run_for(Duration::from_secs(seconds) + SAFETY, async move {
        let all = gossiping(peers(10, Rights::ALL), Duration::from_secs(1));
        until("all know each other", || all.iter().all(|one| one.up() == 9)).await;
        let watching: Vec<_> = all.iter().map(|one| arrivals(&one.store, 100 * seconds as usize)).collect();
        let mut written = Vec::new();
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        for nth in 0..100 * seconds as usize {
            ticks.tick().await;
            let store = all[nth % all.len()].store.clone();
            written.push(Instant::now());
            tokio::task::spawn_blocking(move || store.put(&key(nth), b"fresh").expect("written"))
                .await
                .expect("no panic");
        }
        let ended = Instant::now();
        until("all are equal", || equal(&all) && all[0].store.cut().roots[0].count == written.len() as u64).await;
        let equal_after = ended.elapsed();
        let mut latest = written.clone();
        for arrived in watching {
            let arrived = arrived.join().expect("no panic");
            latest.iter_mut().zip(arrived).for_each(|(latest, at)| *latest = at.max(*latest));
        }
        let mut took: Vec<u128> = latest.iter().zip(&written).map(|(at, since)| (*at - *since).as_millis()).collect();
        took.sort_unstable();
        let within = took.iter().filter(|ms| **ms <= 1000).count();
        println!(
            "{} writes: {:.2} % everywhere within 1 s, half within {} ms, 99 % within {} ms, the last after {} ms; equal {} ms after the last",
            took.len(),
            100.0 * within as f64 / took.len() as f64,
            took[took.len() / 2],
            took[took.len() * 99 / 100],
            took[took.len() - 1],
            equal_after.as_millis()
        );
        Gossiping::end_all(all).await;
    });
}

/// When each of so many keys arrives in a store.
fn arrivals(store: &Store, count: usize) -> std::thread::JoinHandle<Vec<Instant>> {
    let mut watcher = store.watch(None);
    std::thread::spawn(move || {
        let mut at: Vec<Option<Instant>> = vec![None; count];
        while at.iter().any(Option::is_none) {
            let event = watcher.next(Duration::from_secs(60)).expect("it keeps up").expect("one comes");
            let nth: usize = String::from_utf8_lossy(&event.key[4..]).parse().expect("a number");
            at[nth].get_or_insert_with(Instant::now);
        }
        at.into_iter().flatten().collect()
    })
}
