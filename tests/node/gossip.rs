//! Nodes that gossip over real QUIC: who is up, what is written fresh, sessions with whoever was met longest ago.

use std::time::{Duration, Instant};

use reknit::core::collect::Horizon;
use reknit::core::gossip::{Counts, Speaker, Word};
use reknit::core::journal::RunKind;
use reknit::core::life::Life;
use reknit::core::message::Rights;
use reknit::core::query::Raising;
use reknit::core::session::{Direction, Intent, Verdict};
use reknit::core::{Actor, CollectionId, Content, DatasetId, Definition, Record, Sibling, Stamp, State, Version};
use reknit::node::{Apart, Gossip, GossipOptions, KnownPeer, Served};
use reknit::store::engine::Memory;
use reknit::store::{Durability, Op, Options, Side, Store, Undo};
use reknit::transport::{Address, PeerId};
use std::sync::Arc;
use tokio::sync::watch;

use super::support::*;

mod allowed;
mod braked;
mod troubled;

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
        Gossiping::start_with(peer, vec![store], seeds, every)
    }

    /// The same about several stores.
    fn start_with(peer: Peer, stores: Vec<Store>, seeds: Vec<Address>, every: Duration) -> Gossiping {
        let (stop, stopped) = watch::channel(false);
        let options = GossipOptions { seeds, every, seed: 7, ..GossipOptions::default() };
        let gossip = Gossip::start(&peer.node, &stores, &options, stopped.clone()).expect("started");
        let served = stores.iter().map(|store| Served { side: Arc::new(store.clone()) }).collect();
        let (node, taking, store) = (peer.node.clone(), gossip.clone(), stores[0].clone());
        let serving =
            tokio::spawn(async move { node.serve_with(served, Some(taking), stopped).await.expect("served") });
        Gossiping { peer, store, gossip, stop, serving }
    }

    fn up(&self) -> usize {
        self.gossip.neighbours().len()
    }

    async fn end(self) {
        self.stop.send(true).expect("it listens");
        self.serving.await.expect("no panic");
    }

    /// Ends it, and starts a node of the same home with another store.
    async fn again(self, store: Store, seed: Address) -> Gossiping {
        let Gossiping { mut peer, stop, serving, .. } = self;
        stop.send(true).expect("it listens");
        serving.await.expect("no panic");
        peer.node = bind(&peer.home, true);
        Gossiping::start(peer, store, vec![seed], NEVER)
    }

    fn left(&self) -> u64 {
        self.counts().left
    }

    /// What the store has counted. It may be busy for longer than somebody who asks is held up.
    fn counts(&self) -> Counts {
        let begun = Instant::now();
        loop {
            if let Some((counts, _)) = self.gossip.counts(DatasetId([7; 16])) {
                return counts;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it is gossiped about");
        }
    }

    fn neighbours(&self) -> Vec<PeerId> {
        self.gossip.neighbours().into_iter().map(|near| near.peer).collect()
    }

    fn apart(&self) -> Vec<Apart> {
        self.gossip.apart().into_iter().map(|(.., apart)| apart).collect()
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
            // Whoever is not answered in time asks another, and may be answered twice: not all at once.
            if nth % all.len() == all.len() - 1 {
                until("all are equal", || equal(&all) && all[0].store.cut().roots[0].count == nth as u64 + 1).await;
            }
        }
        all[3].store.batch((0..10).map(|nth| Op::delete(key(nth))).collect(), Durability::Buffered).expect("deleted");
        until("deletes too", || all.iter().all(|one| contents(&one.store).len() == 50) && equal(&all)).await;
        let counts: Vec<_> = all.iter().map(Gossiping::counts).collect();
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
        let met = |one: &Gossiping| {
            one.gossip.standings(DatasetId([7; 16])).iter().filter(|(_, standing)| standing.up).count()
        };
        until("it is not waited for", || all.iter().all(|one| (one.up(), met(one)) == (2, 2))).await;
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
        let left = || all[1].left();
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

/// A store as it is now, opened another time.
fn image(store: &Store) -> Store {
    let engine = Arc::new(Memory::new());
    store.copy_rows(&*engine).expect("copied");
    Store::over(engine, &Options::default()).expect("opened")
}

#[test]
fn a_store_that_was_opened_again_is_known_again_without_a_session() {
    run(async {
        let mut all = gossiping(peers(2, Rights::ALL), NEVER);
        until("they know each other", || all.iter().all(|one| one.up() == 1)).await;
        for nth in 0..4 {
            all[nth % 2].store.put(&key(nth), b"before").expect("written");
            until("it is told", || equal(&all)).await;
        }
        let seed = all[0].peer.address();
        let second = all.pop().expect("two");
        let store = image(&second.store);
        all.push(second.again(store, seed).await);
        until("they know each other again", || all.iter().all(|one| one.up() == 1)).await;
        for nth in 0..4 {
            all[nth % 2].store.put(&key(nth), b"after").expect("written");
            until("it is told", || equal(&all)).await;
        }
        all.iter().for_each(|one| assert_sound(&one.store));
        Gossiping::end_all(all).await;
    });
}

#[test]
fn a_store_that_was_rolled_back_is_not_gossiped_with_until_a_session_has_sorted_it_out() {
    run(async {
        let mut all = gossiping(peers(2, Rights::ALL), NEVER);
        until("they know each other", || all.iter().all(|one| one.up() == 1)).await;
        all[1].store.put(b"k", b"first").expect("written");
        until("it is told", || equal(&all)).await;
        let before = image(&all[1].store);
        let actor = before.actor();
        all[1].store.put(b"k", b"lost there").expect("written");
        all[1].store.put(b"alone", b"lost there").expect("written");
        until("it is told", || equal(&all)).await;
        let seed = all[0].peer.address();
        let second = all.pop().expect("two");
        all.push(second.again(before, seed.clone()).await);
        until("they know each other again", || all.iter().all(|one| one.up() == 1)).await;
        let was = all[0].left();
        for nth in 0..8 {
            all[1].store.put(&key(nth), b"since").expect("written");
        }
        all[1].store.put(b"k", b"since").expect("written");
        all[0].store.put(b"of the first", b"1").expect("written");
        until("some of it is left", || all[0].left() > was).await;
        assert_eq!(all[0].store.get(b"k").expect("read"), Some(b"lost there".to_vec()));
        assert_eq!((contents(&all[0].store).len(), contents(&all[1].store).len()), (3, 9), "nothing moved");
        until("it is said why", || all[0].apart() == [Apart::Life] && all[1].apart() == [Apart::OwnLife]).await;
        let side = Arc::new(all[1].store.clone());
        let repair = || session(&all[1].peer.node, &seed, side.clone(), intent(Intent::Repair(Direction::Both)));
        let found = repair().await.expect("an outcome").outcome;
        assert!(found.reason.contains("restored or copied"), "{found:?}");
        assert_ne!(all[1].store.actor(), actor);
        assert_eq!(repair().await.expect("an outcome").outcome.verdict, Verdict::InSync);
        assert_eq!(contents(&all[0].store).len(), 11);
        for nth in 0..4 {
            all[nth % 2].store.put(&key(nth), b"after").expect("written");
            until("they gossip again", || equal(&all)).await;
        }
        until("nothing is in the way", || all.iter().all(|one| one.apart().is_empty())).await;
        all.iter().for_each(|one| assert_sound(&one.store));
        Gossiping::end_all(all).await;
    });
}

#[test]
fn what_kept_stores_apart_is_past_once_a_session_found_both_equal_though_nothing_is_said() {
    run(async {
        let mut all = gossiping(peers(2, Rights::ALL), Duration::from_secs(3));
        until("they know each other", || all.iter().all(|one| one.up() == 1)).await;
        all[1].store.put(b"k", b"first").expect("written");
        until("it is told", || equal(&all)).await;
        let before = image(&all[1].store);
        all[1].store.put(b"k", b"lost there").expect("written");
        until("it is told", || equal(&all)).await;
        let Gossiping { mut peer, stop, serving, .. } = all.pop().expect("two");
        stop.send(true).expect("it listens");
        serving.await.expect("no panic");
        peer.node = bind(&peer.home, true);
        let seed = all[0].peer.address();
        all.push(Gossiping::start(peer, before, vec![seed], Duration::from_secs(3)));
        all[1].store.put(b"since", b"1").expect("written");
        until("it is said why", || all[0].apart() == [Apart::Life] || equal(&all)).await;
        until("a session has sorted it out", || equal(&all)).await;
        until("nothing is in the way", || all.iter().all(|one| one.apart().is_empty())).await;
        Gossiping::end_all(all).await;
    });
}

#[test]
fn stores_with_another_horizon_are_left_to_sessions() {
    run(async {
        let all = gossiping(peers(2, Rights::ALL), NEVER);
        until("they know each other", || all.iter().all(|one| one.up() == 1)).await;
        all[0].store.put(b"k", b"1").expect("written");
        until("it is told", || equal(&all)).await;
        // The first has collected up to here; the second was away meanwhile.
        let horizon = {
            let first = &all[0].store;
            let horizon = Horizon { stamp: first.cut().stamp, passed: Vec::new() };
            assert_eq!(first.raise(&horizon, true).expect("raised"), Raising::Raised);
            horizon
        };
        let was = (all[0].left(), all[1].left());
        all[1].store.put(b"of one behind", b"2").expect("written");
        all[0].store.put(b"of one ahead", b"3").expect("written");
        until("both are left", || all[0].left() > was.0 && all[1].left() > was.1).await;
        assert_eq!((contents(&all[0].store).len(), contents(&all[1].store).len()), (2, 2), "nothing moved");
        assert!(all.iter().all(|one| one.apart() == [Apart::Horizon]));
        assert_eq!(all[1].store.raise(&horizon, true).expect("raised"), Raising::Raised);
        for nth in 0..4 {
            all[nth % 2].store.put(&key(nth), b"after").expect("written");
            until("they gossip again", || {
                (0..=nth).all(|nth| all.iter().all(|one| one.store.get(&key(nth)).expect("read").is_some()))
            })
            .await;
        }
        Gossiping::end_all(all).await;
    });
}

/// A record as one that another store wrote, live or deleted.
fn record(key: &[u8], stamp: Stamp, content: Content) -> Record {
    let version = Version::after(stamp, Actor(77), []);
    Record { key: key.to_vec(), state: State::single(Sibling { version, content, expires: None }) }
}

#[test]
fn what_is_older_than_was_collected_or_meant_for_another_opening_is_not_taken() {
    run(async {
        let mut peers = peers(2, Rights::ALL);
        let other = peers.pop().expect("two");
        let store = store();
        store.put(b"mine", b"1").expect("written");
        let old = store.cut().stamp;
        store.put(b"later", b"1").expect("written");
        let horizon = Horizon { stamp: store.cut().stamp, passed: Vec::new() };
        assert_eq!(store.raise(&horizon, true).expect("raised"), Raising::Raised);
        let one = Gossiping::start(peers.pop().expect("one"), store, Vec::new(), NEVER);
        let root = one.store.root();
        let connection = other.node.connect(&one.peer.address()).await.expect("connected");
        let mut link = connection.open().await.expect("opened");
        let dataset = DatasetId([7; 16]);
        let hello = Word::Hello { datasets: vec![dataset], port: 1 };
        link.control.writer.write(&[&[72], hello.encode().as_slice()].concat()).await.expect("written");
        let nonce = one.store.describe().nonce;
        let me = Speaker { dataset, life: Life { actor: 77, nonce: 5 }, commit: 9, horizon: horizon.stamp };
        let (new, live) = (Stamp(horizon.stamp.0 + 1), || Content::Live(b"theirs".to_vec()));
        let records = |speaker, to, key: &[u8], stamp, content| {
            Word::Records(speaker, to, CollectionId(0), vec![record(key, stamp, content)])
        };
        let refused = [
            records(me, nonce, b"old", old, live()),
            records(me, nonce, b"mine", horizon.stamp, Content::Tombstone),
            records(me, nonce ^ 1, b"another opening", new, live()),
            records(Speaker { horizon: old, ..me }, nonce, b"another horizon", new, live()),
            // It was further a moment ago, and does not recall that.
            records(Speaker { commit: 3, ..me }, nonce, b"rolled back", new, live()),
        ];
        for (nth, word) in (1..).zip(refused) {
            link.control.writer.write(&word.encode()).await.expect("written");
            until("it is left", || one.left() == nth).await;
        }
        assert_eq!(one.store.root(), root, "nothing was taken");
        link.control.writer.write(&records(me, nonce, b"new", new, live()).encode()).await.expect("written");
        until("what is newer is taken", || one.store.get(b"new").expect("read").is_some()).await;
        one.end().await;
    });
}

/// Two that make a link at once end one each: what waits on it must not be lost.
#[test]
fn who_has_said_all_hears_what_waits_for_it() {
    run(async {
        let mut peers = peers(2, Rights::ALL);
        let other = peers.pop().expect("two");
        let one = Gossiping::start(peers.pop().expect("one"), store(), Vec::new(), NEVER);
        let connection = other.node.connect(&one.peer.address()).await.expect("connected");
        for round in 0..20 {
            let mut link = connection.open().await.expect("opened");
            let hello = Word::Hello { datasets: vec![DatasetId([7; 16])], port: 1 };
            link.control.writer.write(&[&[72], hello.encode().as_slice()].concat()).await.expect("written");
            link.control.writer.finish().await.expect("ended");
            let heard = link.control.reader.read().await.expect("read").expect("something was said");
            assert!(matches!(Word::decode(&heard), Ok(Word::Hello { .. })), "round {round}");
        }
        one.end().await;
    });
}

#[test]
fn who_loses_its_rights_is_let_go_at_once_and_taken_up_again_with_new_ones() {
    run(async {
        let all = gossiping(peers(2, Rights::ALL), NEVER);
        until("they know each other", || all.iter().all(|one| one.up() == 1)).await;
        all[0].store.put(b"before", b"1").expect("written");
        until("it is told", || equal(&all)).await;
        let [first, second] = [0, 1].map(|nth: usize| all[nth].peer.node.peer());
        assert!(all[0].peer.home.remove_peer(second).expect("removed"));
        until("it is let go", || all[0].up() == 0 && all[0].gossip.links().1 == 0).await;
        all[0].store.put(b"meanwhile", b"2").expect("written");
        all[1].store.put(b"meanwhile too", b"2").expect("written");
        until("the other hears why", || all[1].gossip.refusing() == [first]).await;
        assert_eq!((contents(&all[0].store).len(), contents(&all[1].store).len()), (2, 2));
        all[0].peer.admit(second, Rights::ALL);
        until("they know each other again", || all.iter().all(|one| one.up() == 1)).await;
        // What was written meanwhile is left to sessions; what is written now is told.
        let mut nth = 0;
        until("they tell each other again", || {
            nth += 1;
            all[nth % 2].store.put(&key(nth), b"after").expect("written");
            let has = |one: &Gossiping, parity: usize| {
                contents(&one.store).keys().any(|key| key.starts_with(b"key") && (key[9] as usize) % 2 == parity)
            };
            has(&all[0], 1) && has(&all[1], 0)
        })
        .await;
        assert_eq!(all[1].gossip.refusing(), []);
        Gossiping::end_all(all).await;
    });
}

/// The first is of two datasets; of the others each has a right on one of them there, and the last on neither.
#[test]
fn those_who_share_no_dataset_learn_nothing_of_one_another() {
    run(async {
        let peers: Vec<Peer> = (0..4).map(|_| peer(true)).collect();
        let ids: Vec<PeerId> = peers.iter().map(|peer| peer.node.peer()).collect();
        let stores = [1, 2].map(|nth| store_of(Definition::simple(DatasetId([nth; 16]), &format!("d{nth}"))));
        for (nth, may) in [(1, "d1=compare,d1=read,d1=write"), (2, "d2=compare,d2=read,d2=write"), (3, "other=read")] {
            let may = may.parse().expect("grants");
            peers[0].home.add_peer(&KnownPeer { peer: ids[nth], may, name: None }).expect("added");
            // They would know each other, and the first.
            (0..4).filter(|other| *other != nth).for_each(|other| peers[nth].admit(ids[other], Rights::ALL));
        }
        let seed = peers[0].address();
        let mut peers = peers.into_iter();
        let mut next = || peers.next().expect("one of four");
        let first = Gossiping::start_with(next(), stores.to_vec(), Vec::new(), NEVER);
        let others = [0, 1].map(|nth: usize| {
            let store = store_of(stores[nth].definition().as_ref().clone());
            Gossiping::start(next(), store, vec![seed.clone()], NEVER)
        });
        until("each knows the first", || first.up() == 2 && others.iter().all(|one| one.neighbours() == [ids[0]]))
            .await;
        for nth in 0..20 {
            stores
                .iter()
                .for_each(|store| drop(store.batch(vec![Op::put(key(nth), b"v".to_vec())], Durability::Buffered)));
            until("it is told", || others.iter().zip(&stores).all(|(one, of)| one.store.root() == of.root())).await;
            assert!(others.iter().all(|one| one.neighbours() == [ids[0]]), "round {nth}");
        }
        // The last says hello, and is told nothing.
        let last = next();
        let connection = last.node.connect(&seed).await.expect("connected");
        let mut link = connection.open().await.expect("opened");
        let hello = Word::Hello { datasets: vec![DatasetId([1; 16])], port: 1 };
        link.control.writer.write(&[&[72], hello.encode().as_slice()].concat()).await.expect("written");
        assert!(!matches!(link.control.reader.read().await, Ok(Some(_))));
        assert_eq!(first.up(), 2);
        Gossiping::end_all(std::iter::once(first).chain(others).collect()).await;
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
