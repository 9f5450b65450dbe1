//! Peers that say more than is taken in, that never answer, that differ all the time or fail each session, and that are gone.

use std::sync::{Condvar, Mutex};

use reknit::core::gossip::{Rumour, Standing};
use reknit::core::{Collection, Position};
use reknit::store::engine::{Batch, Engine, EngineError, Snapshot};

use super::*;

const OFTEN: Duration = Duration::from_millis(50);

/// A node that joins by those, gossips as told, and answers sessions by another side than its store.
fn start(peer: Peer, store: Store, side: Arc<dyn Side>, options: GossipOptions) -> Gossiping {
    let (stop, stopped) = watch::channel(false);
    let stores = [store];
    let gossip = Gossip::start(&peer.node, &stores, &options, stopped.clone()).expect("started");
    let (node, taking, [store]) = (peer.node.clone(), gossip.clone(), stores);
    let serving =
        tokio::spawn(
            async move { node.serve_with(vec![Served { side }], Some(taking), stopped).await.expect("served") },
        );
    Gossiping { peer, store, gossip, stop, serving }
}

fn options(seeds: Vec<Address>, every: Duration) -> GossipOptions {
    GossipOptions { seeds, every, seed: 7, ..GossipOptions::default() }
}

fn standing(one: &Gossiping, other: PeerId) -> Option<Standing> {
    let all = one.gossip.standings(DatasetId([7; 16]));
    all.into_iter().find(|(peer, _)| *peer == other).map(|(_, standing)| standing)
}

/// An engine that commits nothing while it is shut.
struct Gate {
    engine: Memory,
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().expect("no panic") = shut;
        self.opened.notify_all();
    }
}

impl Engine for Gate {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.engine.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        drop(self.opened.wait_while(self.shut.lock().expect("no panic"), |shut| *shut).expect("no panic"));
        self.engine.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.engine.disk_bytes()
    }
}

#[test]
fn a_bounded_part_of_what_a_peer_says_waits_for_a_store_that_stands_still_and_sessions_bring_the_rest() {
    run(async {
        const WORDS: usize = 10_000;
        let mut peers = peers(2, Rights::ALL);
        let other = peers.pop().expect("two");
        let gate = Arc::new(Gate { engine: Memory::new(), shut: Mutex::new(false), opened: Condvar::new() });
        store().copy_rows(&*gate).expect("copied");
        let here = Store::over(gate.clone(), &Options::default()).expect("opened");
        let one = Gossiping::start(peers.pop().expect("one"), here, Vec::new(), NEVER);
        let there = store();
        plant(&[&there], 100);
        let connection = other.node.connect(&one.peer.address()).await.expect("connected");
        let mut link = connection.open().await.expect("opened");
        let dataset = DatasetId([7; 16]);
        let hello = Word::Hello { datasets: vec![dataset], port: 1 };
        link.control.writer.write(&[&[72], hello.encode().as_slice()].concat()).await.expect("written");
        let (info, cut) = (there.describe(), there.cut());
        let life = Life { actor: info.actor.0, nonce: info.nonce };
        let me = Speaker { dataset, life, commit: cut.commit, horizon: Stamp::default() };
        let version = Version::after(Stamp(1), Actor(1), []);
        let state = State::single(Sibling { version, content: Content::Live(b"value 0".to_vec()), expires: None });
        let given = Word::Records(me, one.store.describe().nonce, CollectionId(0), vec![Record { key: key(0), state }]);
        gate.set(true);
        link.control.writer.write(&given.encode()).await.expect("written");
        let mut said = 0;
        for nth in 0..WORDS {
            let rumour = Rumour { collection: CollectionId(0), position: Position(nth as u64), entry: 1 };
            let word = Word::Tell(me, vec![rumour]).encode();
            said += word.len() as u64;
            link.control.writer.write(&word).await.expect("written");
        }
        until("all is heard", || one.gossip.bytes()[1] >= said && one.gossip.waiting().heard == 0).await;
        let waits = one.gossip.waiting().inboxes[&dataset];
        assert!(waits <= 1_100, "{waits} words wait");
        let dropped = one.gossip.links().0;
        assert!(dropped >= 8_900, "{dropped} were dropped, and counted");
        gate.set(false);
        until("what waited is taken up", || one.gossip.waiting().inboxes[&dataset] == 0).await;
        until("what was given is taken in", || one.store.get(&key(0)).expect("read").is_some()).await;
        let side = Arc::new(there.clone());
        let repair = session(&other.node, &one.peer.address(), side, intent(Intent::Repair(Direction::Both))).await;
        assert_eq!(repair.expect("an outcome").outcome.verdict, Verdict::InSync);
        assert_eq!(one.store.root(), there.root());
        one.end().await;
    });
}

#[test]
fn who_is_no_peer_any_more_is_forgotten_with_all_that_was_wrong_with_it() {
    run(async {
        let all = gossiping(peers(3, Rights::ALL), NEVER);
        until("all know each other", || all.iter().all(|one| one.up() == 2)).await;
        let gone = all[1].peer.node.peer();
        all[0].store.put(b"k", b"1").expect("written");
        until("it is told", || equal(&all)).await;
        let horizon = Horizon { stamp: all[0].store.cut().stamp, passed: Vec::new() };
        assert_eq!(all[0].store.raise(&horizon, true).expect("raised"), Raising::Raised);
        all[1].store.put(b"of one behind", b"1").expect("written");
        let apart = || all[0].gossip.apart().iter().any(|(_, peer, _)| *peer == gone);
        until("nothing is gossiped with it", apart).await;
        assert!(standing(&all[0], gone).is_some());
        assert!(all[0].peer.home.remove_peer(gone).expect("removed"));
        until("it is forgotten", || standing(&all[0], gone).is_none() && !apart()).await;
        assert!(standing(&all[0], all[2].peer.node.peer()).is_some(), "the others are not");
        all[0].peer.admit(gone, Rights::ALL);
        until("it is known anew", || standing(&all[0], gone).is_some_and(|it| it.up)).await;
        Gossiping::end_all(all).await;
    });
}

#[test]
fn a_check_tells_about_how_much_differs_and_since_when() {
    run(async {
        let mut peers = peers(2, Rights::ALL).into_iter();
        let mut next = || peers.next().expect("one of two");
        let (first, second) = (store(), store());
        plant(&[&first], 400);
        let one = start(
            next(),
            first.clone(),
            Arc::new(first),
            GossipOptions { repair: false, ..options(Vec::new(), OFTEN) },
        );
        let seed = one.peer.address();
        let other = start(next(), second.clone(), Arc::new(second.clone()), options(vec![seed], NEVER));
        let peer = other.peer.node.peer();
        let left = || standing(&one, peer).filter(|it| it.checked.is_some()).map(|it| it.left);
        until("it was checked", || left().is_some()).await;
        let found = left().expect("it was");
        assert!((200..=800).contains(&found), "about 400 differ: {found}");
        assert!(standing(&one, peer).is_some_and(|it| it.since.is_some() && it.equal.is_none()));
        plant(&[&second], 400);
        until("they are equal", || standing(&one, peer).is_some_and(|it| it.equal.is_some())).await;
        assert!(standing(&one, peer).is_some_and(|it| it.since.is_none() && it.left == 0));
        Gossiping::end_all(vec![one, other]).await;
    });
}

#[test]
fn a_peer_whose_sessions_never_end_holds_up_no_other() {
    run(async {
        let mut peers = peers(3, Rights::ALL).into_iter();
        let mut next = || peers.next().expect("one of three");
        let (first, stuck, third) = (store(), store(), store());
        plant(&[&first], 20);
        let short = GossipOptions { session_max: Duration::from_secs(2), ..options(Vec::new(), OFTEN) };
        let one = start(next(), first.clone(), Arc::new(first.clone()), short);
        let seed = vec![one.peer.address()];
        let never = start(next(), stuck.clone(), Counted::stuck_after(&stuck, 0), options(seed.clone(), NEVER));
        let silent = never.peer.node.peer();
        let fails = || standing(&one, silent).is_some_and(|it| it.fails >= 3 && it.is_failing());
        until("sessions with it fail", fails).await;
        let dataset = DatasetId([7; 16]);
        until("it is told of", || one.gossip.failing(dataset).iter().any(|(peer, ..)| *peer == silent)).await;
        let fine = start(next(), third.clone(), Arc::new(third.clone()), options(seed, NEVER));
        until("another is met", || third.root() == first.root()).await;
        assert!(one.gossip.failing(dataset).iter().all(|(peer, ..)| *peer == silent));
        // The thread of the one that is stuck never comes back.
        drop((one, never, fine));
    });
}

#[test]
fn a_peer_with_another_definition_of_the_dataset_is_told_of_after_a_few_sessions() {
    run(async {
        let mut peers = peers(2, Rights::ALL).into_iter();
        let mut next = || peers.next().expect("one of two");
        let mut wider = definition();
        wider.collections.push(Collection { name: "more".into(), policy: wider.collections[0].policy.clone() });
        let (first, second) = (store(), store_of(wider));
        let one = start(next(), first.clone(), Arc::new(first), options(Vec::new(), OFTEN));
        let seed = one.peer.address();
        let other = start(next(), second.clone(), Arc::new(second), options(vec![seed], NEVER));
        let failing = || one.gossip.failing(DatasetId([7; 16]));
        until("it is told of", || !failing().is_empty()).await;
        let (peer, fails, why) = failing().remove(0);
        assert_eq!(peer, other.peer.node.peer());
        assert!(fails >= 3 && why.contains("definitions of the dataset differ"), "{fails}: {why}");
        Gossiping::end_all(vec![one, other]).await;
    });
}

#[test]
fn another_key_at_the_address_of_a_seed_is_told_from_nobody_there() {
    run(async {
        let mut peers = peers(3, Rights::ALL);
        let (absent, other) = (peers.pop().expect("three"), peers.pop().expect("two"));
        let seeds = [address(&absent.node), Address { peer: absent.node.peer(), ..address(&other.node) }];
        let other = start(other, store(), Arc::new(store()), options(Vec::new(), NEVER));
        absent.node.shutdown().await;
        for (seed, another) in seeds.into_iter().zip([false, true]) {
            let one = peer(true);
            one.admit(seed.peer, Rights::ALL);
            let one = start(one, store(), Arc::new(store()), options(vec![seed.clone()], NEVER));
            if another {
                until("it is noticed", || one.gossip.found_another(&seed)).await;
            }
            assert_eq!((one.gossip.missing(Duration::ZERO), one.gossip.found_another(&seed)), (vec![seed], another));
            one.end().await;
        }
        other.end().await;
    });
}
