//! Tombstones at a horizon, and stores that missed one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use reknit::core::collect::{Horizon, Passed};
use reknit::core::journal::{RunHeader, RunKind};
use reknit::core::life::Sighting;
use reknit::core::members::Member;
use reknit::core::query::{Guard, Incoming, Raising};
use reknit::core::receipt::{Receipt, Seat, Tally};
use reknit::core::session::Verdict;
use reknit::core::stamp::Stamp;
use reknit::core::{CollectionId, Definition, Range, State, difference};
use reknit::store::contract::record;
use reknit::store::engine::{Batch, Engine, EngineError, Memory, Snapshot};
use reknit::store::{Base, CaughtUp, Durability, Missed, Options, Release, Side, Stands, Store, Undo, Why};

use crate::support::{self, assert_sound};

const FIRST: CollectionId = CollectionId(0);
const BEGUN: u64 = 1_000_000;

/// A store whose clock moves by a second with each write.
struct Held {
    clock: Arc<AtomicU64>,
    engine: Arc<Memory>,
    options: Options,
    store: Store,
}

impl Held {
    fn new() -> Held {
        Held::of(support::definition())
    }

    fn of(definition: Definition) -> Held {
        let (clock, options) = support::clocked(BEGUN);
        let engine = Arc::new(Memory::new());
        let store = Store::found_over(engine.clone(), definition, support::key(), &options).expect("a store");
        store.introduce().expect("introduced");
        Held { clock, engine, options, store }
    }

    fn put(&self, key: &str) {
        self.clock.fetch_add(1000, Ordering::Relaxed);
        self.store.put(key.as_bytes(), b"value").expect("put");
    }

    fn delete(&self, key: &str) {
        self.clock.fetch_add(1000, Ordering::Relaxed);
        assert!(self.store.delete(key.as_bytes()).expect("delete"));
    }

    fn bring(&self, key: &str, stamp: Stamp, actor: u64, value: Option<&[u8]>) -> (u64, u64) {
        let record = record(key.as_bytes(), stamp.0, actor, value);
        let incoming = vec![Incoming { record, guard: Guard::Join }];
        let applied = self.store.apply(FIRST, incoming, Durability::Synced).expect("apply");
        (applied.applied, applied.kept)
    }

    /// A horizon at the last stamp, which vouches for the store as it is, and all that it holds.
    fn horizon(&self) -> Horizon {
        let (info, cut) = (self.store.describe(), self.store.cut());
        let met = Sighting { nonce: info.nonce, commit: cut.commit };
        Horizon {
            stamp: cut.stamp,
            passed: vec![Passed { actor: info.actor.0, met, everywhere: cut.commit, undone: 0 }],
        }
    }

    fn raise(&self, horizon: &Horizon) -> Raising {
        Side::raise(&self.store, horizon, false).expect("raised")
    }

    fn tombstones(&self) -> u64 {
        let listed = self.store.tombstones_up_to(Stamp(u64::MAX)).expect("counted");
        assert_eq!(listed, self.store.stats().expect("stats").tombstones);
        listed
    }

    fn reopen(&mut self) {
        self.store = Store::over(self.engine.clone(), &self.options).expect("opened");
    }
}

#[test]
fn what_all_have_passed_goes_and_does_not_come_back() {
    let mut held = Held::new();
    (0..3000).for_each(|n| held.put(&n.to_string()));
    (0..2500).for_each(|n| held.delete(&n.to_string()));
    let horizon = held.horizon();
    held.put("later");
    held.delete("later");
    held.put("0");
    assert_eq!(held.tombstones(), 2500);
    let commit = held.store.cut().commit;
    assert_eq!(held.raise(&horizon), Raising::Raised);
    assert_eq!((held.tombstones(), held.store.stats().expect("stats").records), (1, 501));
    assert_eq!((held.store.cut().horizon, held.store.horizon()), (horizon.stamp, horizon.clone()));
    assert!(held.store.cut().commit > commit);
    assert_sound(&held.store, "collected");
    // A tombstone from before the horizon is taken for one that is known; what is written anew is not touched.
    assert_eq!(held.bring("1", horizon.stamp, 7, None), (0, 1));
    assert_eq!(held.store.get(b"0").expect("get"), Some(b"value".to_vec()));
    held.reopen();
    assert_eq!((held.tombstones(), held.store.horizon()), (1, horizon.clone()));
    // It never falls, and a stamp given out from now on is beyond it.
    assert_eq!(held.raise(&Horizon { stamp: Stamp(1), ..horizon.clone() }), Raising::Raised);
    assert_eq!(held.store.horizon(), horizon);
    held.clock.store(BEGUN, Ordering::Relaxed);
    held.put("again");
    assert!(held.store.cut().stamp > horizon.stamp);
    assert_sound(&held.store, "reopened");
}

#[test]
fn a_tombstone_that_a_member_may_lack_is_written_anew() {
    let held = Held::new();
    ["mine", "met", "late", "live"].iter().for_each(|key| held.put(key));
    let stamp = Stamp(held.store.cut().stamp.0 + 1);
    assert_eq!(held.bring("met", stamp, 7, None), (1, 0));
    let mut horizon = held.horizon();
    // One of a store that is not waited for came after all others had looked here, and one of a store that is.
    assert_eq!(held.bring("late", stamp, 8, None), (1, 0));
    assert_eq!(held.bring("live", stamp, 9, None), (1, 0));
    horizon.stamp = stamp;
    horizon.passed.push(Passed { actor: 9, met: Sighting { nonce: 1, commit: 1 }, everywhere: 0, undone: 0 });
    assert_eq!(held.raise(&horizon), Raising::Raised);
    assert_eq!(held.tombstones(), 1);
    let versions = held.store.first().versions(b"late").expect("read").expect("a tombstone");
    assert_eq!(versions.winner().version.actor, held.store.actor());
    assert!(versions.winner().version.stamp > horizon.stamp && !versions.is_live());
    assert!(held.store.first().versions(b"met").expect("read").is_none());
    assert_sound(&held.store, "collected");
}

#[test]
fn only_a_store_that_has_passed_a_horizon_or_holds_nothing_takes_it() {
    let held = Held::new();
    let horizon = |change: &dyn Fn(&mut Passed)| {
        let mut horizon = held.horizon();
        horizon.stamp = Stamp::at(BEGUN + 5000);
        horizon.passed.iter_mut().for_each(change);
        horizon
    };
    let other = horizon(&|passed| passed.actor ^= 1);
    assert_eq!(held.raise(&other), Raising::Raised, "it holds nothing that could have been deleted");
    held.put("k");
    let beyond = |mut horizon: Horizon, by: u64| {
        horizon.stamp = Stamp::at(BEGUN + 5000 + by);
        horizon
    };
    assert_eq!(held.raise(&beyond(other, 1)), Raising::Behind, "nobody vouches for it");
    assert_eq!(held.raise(&beyond(horizon(&|passed| passed.met.commit += 1), 2)), Raising::Behind, "it was further");
    assert_eq!(held.raise(&beyond(horizon(&|passed| passed.met.nonce ^= 1), 3)), Raising::Behind, "another opening");
    assert_eq!(held.raise(&beyond(horizon(&|_| {}), 1 << 40)), Raising::Refused, "beyond its clock");
    assert_eq!(held.raise(&beyond(horizon(&|_| {}), 4)), Raising::Raised);
    let content = Store::in_memory(support::content_definition(), support::key(), &held.options).expect("a store");
    assert_eq!(Side::raise(&content, &held.horizon(), true).expect("answered"), Raising::Refused);
}

#[test]
fn what_was_put_back_by_an_undo_was_passed_by_nobody() {
    let held = Held::new();
    held.put("k");
    let header = RunHeader { kind: RunKind::Repair, peer: "p".into(), opener: true, policy: "p".into(), started: 0 };
    let run = held.store.in_run(header).expect("a run").expect("journalled");
    let stamp = Stamp(held.store.cut().stamp.0 + 1);
    let incoming = vec![Incoming { record: record(b"k", stamp.0, 7, None), guard: Guard::Join }];
    run.apply(FIRST, incoming, Durability::Synced).expect("apply");
    let id = run.end_run("in_sync").expect("ended").expect("changed");
    let before = held.horizon();
    held.store.undo(id, Undo::Here, &mut |_| {}, &mut |_| {}).expect("undone");
    assert_eq!(held.store.get(b"k").expect("get"), Some(b"value".to_vec()));
    assert_eq!(held.raise(&before), Raising::Behind, "it holds again what all others have deleted");
    let after = held.horizon();
    assert_eq!(held.raise(&after), Raising::Raised);
}

/// A store with a record, with what was written since its last receipt, and with a tombstone; and that receipt.
fn away() -> (Held, Base) {
    let held = Held::new();
    ["kept", "gone", "older", "dead"].iter().for_each(|key| held.put(key));
    held.delete("dead");
    let (info, cut) = (held.store.describe(), held.store.cut());
    let met = Sighting { nonce: info.nonce, commit: cut.commit };
    held.put("since");
    held.delete("older");
    (held, Base { actor: info.actor.0, met, cut: cut.commit })
}

/// An engine that fails after so many commits.
struct Failing {
    engine: Arc<Memory>,
    commits: AtomicI64,
}

impl Engine for Failing {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.engine.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        match self.commits.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => self.engine.commit(batch, durability),
            false => Err(EngineError::Poisoned { dir: "failing".into() }),
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.engine.disk_bytes()
    }
}

fn header() -> RunHeader {
    RunHeader { kind: RunKind::CatchUp, peer: "p".into(), opener: true, policy: "p".into(), started: 0 }
}

fn catch_up(held: &Held, bases: &[Base]) -> CaughtUp {
    let missed =
        |key: &str, stands| Missed { collection: FIRST, key: key.as_bytes().to_vec(), stands, shared: Vec::new() };
    let all = vec![
        missed("gone", Stands::Alone),
        missed("since", Stands::Alone),
        missed("dead", Stands::Alone),
        missed("older", Stands::Above),
        missed("never", Stands::Alone),
    ];
    let run = held.store.in_run(header()).expect("a run").expect("journalled");
    let horizon = Horizon { stamp: held.store.cut().stamp, passed: Vec::new() };
    let caught = run.catch_up(all, bases, horizon.stamp).expect("caught up");
    assert_eq!(run.raise(&horizon, true).expect("raised"), Raising::Raised);
    run.end_run("converged").expect("ended");
    assert_sound(&held.store, "caught up");
    caught
}

#[test]
fn what_others_bring_while_a_store_catches_up_leaves_it_behind() {
    let (held, _) = away();
    let horizon = Horizon { stamp: held.store.cut().stamp, passed: Vec::new() };
    let raise = || Side::raise(&held.store, &horizon, true).expect("raised");
    let looks_out = held.store.look_out();
    assert_eq!(held.bring("old", horizon.stamp, 77, Some(b"value")), (1, 0));
    assert_eq!((raise(), held.store.horizon()), (Raising::Behind, Horizon::default()), "it may have been deleted");
    drop(looks_out);
    // What was there before it looked was looked at, and what is newer no horizon collects.
    let looks_out = held.store.look_out();
    held.put("mine");
    assert_eq!(held.bring("new", Stamp(horizon.stamp.0 + 1), 77, Some(b"value")), (1, 0));
    assert_eq!(raise(), Raising::Raised);
    drop(looks_out);
}

#[test]
fn a_store_that_was_away_drops_what_it_held_at_its_last_receipt_and_keeps_what_it_wrote_since() {
    let (held, base) = away();
    let stamp = held.store.cut().stamp;
    assert_eq!(catch_up(&held, &[base]), CaughtUp { removed: 2, kept: 3, strays: 0 });
    let has = |key: &str| held.store.get(key.as_bytes()).expect("get").is_some();
    assert_eq!((has("kept"), has("gone"), has("since")), (true, false, true));
    assert!(held.store.first().versions(b"gone").expect("read").is_none(), "there is no tombstone to be sent");
    // What it deleted since is told anew, or nobody would store it; what was dead for long is known.
    let older = held.store.first().versions(b"older").expect("read").expect("a tombstone");
    assert!(older.winner().version.stamp > stamp);
    assert_eq!(held.tombstones(), 1);
    // It can be undone like any run.
    let run = held.store.runs().into_iter().next_back().expect("a run");
    assert_eq!(run.1.header.kind, RunKind::CatchUp);
    held.store.undo(run.0, Undo::Here, &mut |_| {}, &mut |_| {}).expect("undone");
    assert!(has("gone"));
}

#[test]
fn without_a_receipt_that_it_recalls_they_are_strays() {
    let (held, base) = away();
    let foreign = [Base { actor: base.actor ^ 1, ..base }, Base { met: Sighting { nonce: 5, ..base.met }, ..base }];
    let caught = catch_up(&held, &foreign);
    assert_eq!(caught, CaughtUp { removed: 1, kept: 2, strays: 2 });
    let strays = held.store.quarantined(None, 10).expect("listed");
    assert_eq!(strays.iter().map(|held| held.key.as_slice()).collect::<Vec<_>>(), [b"gone".as_slice(), b"since"]);
    assert!(strays.iter().all(|held| held.why == Why::Stray));
    // Time alone does not let them out.
    assert_eq!(held.store.release_all(Release::Due, None).expect("released").left, 0);
    let stamp = held.store.cut().stamp;
    assert_eq!(held.store.release(FIRST, b"gone", Release::Accept).expect("released").left, 1);
    assert_eq!(held.store.release(FIRST, b"since", Release::Drop).expect("dropped").left, 1);
    let gone = held.store.first().versions(b"gone").expect("read").expect("it is back");
    assert!(
        gone.is_live() && gone.winner().version.stamp > stamp,
        "written anew, so that it wins over what was collected"
    );
    assert_eq!((held.store.get(b"since").expect("get"), held.store.quarantined_count()), (None, 0));
    assert_sound(&held.store, "settled");
}

#[test]
fn collecting_that_was_cut_short_is_finished_when_the_store_is_opened() {
    let mut held = Held::new();
    (0..1500).for_each(|n| held.put(&n.to_string()));
    (0..1500).for_each(|n| held.delete(&n.to_string()));
    // The horizon is on disk, and a first part of what it takes away, in whatever state the rest is.
    let horizon = held.horizon();
    for (commits, left) in [(0, 1500), (1, 0)] {
        let failing = Arc::new(Failing { engine: held.engine.clone(), commits: AtomicI64::new(i64::MAX) });
        let store = Store::over(failing.clone(), &held.options).expect("opened");
        failing.commits.store(commits, Ordering::SeqCst);
        assert!(Side::raise(&store, &horizon, false).is_err(), "after {commits} commits");
        drop(store);
        held.reopen();
        assert_sound(&held.store, "opened after a cut");
        assert_eq!(held.tombstones(), left, "after {commits} commits");
    }
}

fn receipt(held: &Held, time: u64, opener: u8, responder: u8) -> Receipt {
    let definition = held.store.definition();
    let seat = |peer| Seat { peer: [peer; 32], time, ..Seat::default() };
    Receipt {
        dataset: definition.id,
        definition: definition.hash(),
        scope: vec![FIRST, CollectionId(1)],
        opener: seat(opener),
        responder: seat(responder),
        verdict: Verdict::InSync,
        tally: Tally::default(),
        signatures: ([0; 64], [0; 64]),
    }
}

#[test]
fn receipts_are_handed_on_now_and_then_where_there_is_a_third_to_tell() {
    const HOUR: u64 = 3600 * 1000;
    let held = Held::of(support::definition().with_members());
    let forwarded = || {
        let all = held.store.forwarded().expect("read");
        let mut times: Vec<u64> = all.into_iter().map(|receipt| receipt.opener.time / HOUR).collect();
        times.sort_unstable();
        times
    };
    let forward = |time, opener, responder| {
        held.store.forward(&receipt(&held, time * HOUR, opener, responder)).expect("handed on, or not")
    };
    let member = Member { name: String::new(), since: 0, lease: 1 };
    for peer in [1, 2] {
        held.store.add_member(&[peer; 32], &member).expect("added");
    }
    assert!(!forward(100, 1, 2), "both members were there");
    held.store.add_member(&[3; 32], &member).expect("added");
    assert!(forward(100, 1, 2) && !forward(107, 1, 2) && forward(108, 1, 2));
    assert_eq!(forwarded(), [100, 108], "the newest, and the one before");
    assert!(forward(200, 1, 2) && forward(100, 2, 3));
    assert_eq!(forwarded(), [100, 108, 200]);
    let partial = Receipt { scope: vec![FIRST], ..receipt(&held, 900 * HOUR, 1, 2) };
    assert!(!held.store.forward(&partial).expect("answered"));
    assert_eq!(held.store.members().expect("read").len(), 3, "receipts are no members");
    assert_eq!(held.store.tombstones_up_to(Stamp(u64::MAX)).expect("counted"), 0);
    held.store.forget_member(&[3; 32]).expect("forgotten");
    assert_eq!(held.store.tombstones_up_to(Stamp(u64::MAX)).expect("counted"), 0, "that is told of for ever");
    assert_sound(&held.store, "with members");
}

#[test]
fn what_the_other_side_has_something_else_instead_of_had_been_deleted_or_replaced_there() {
    // What replaced it there may never come: nothing that is newer there lets it stay.
    let each =
        [Stands::Above, Stands::Beside, Stands::Below].map(|stands| [("newest/1", stands), ("keep-both/1", stands)]);
    for (policy, stands) in each.concat() {
        let mut definition = support::definition();
        definition.collections[0].policy = policy.into();
        for known in [true, false] {
            let held = Held::of(definition.clone());
            held.put("other");
            held.bring("k", Stamp(held.store.cut().stamp.0 + 1), 7, Some(b"value"));
            let info = held.store.describe();
            let met = Sighting { nonce: info.nonce, commit: held.store.cut().commit };
            let base = Base { actor: info.actor.0, met, cut: met.commit };
            let missed = Missed { collection: FIRST, key: b"k".to_vec(), stands, shared: Vec::new() };
            let horizon = held.store.cut().stamp;
            let bases: &[Base] = if known { &[base] } else { &[] };
            let run = held.store.in_run(header()).expect("a run").expect("journalled");
            let caught = run.catch_up(vec![missed], bases, horizon).expect("caught up");
            let expected = match known {
                true => CaughtUp { removed: 1, ..CaughtUp::default() },
                false => CaughtUp { strays: 1, ..CaughtUp::default() },
            };
            assert_eq!(caught, expected, "{policy} {stands:?} with a receipt: {known}");
            assert_eq!(held.store.get(b"k").expect("get"), None);
            assert_sound(&held.store, "caught up");
        }
    }
}

#[test]
fn a_deletion_is_not_written_anew_over_what_is_newer_there() {
    for (policy, stands, anew) in [
        ("newest/1", Stands::Above, true),
        ("newest/1", Stands::Beside, false),
        ("newest/1", Stands::Below, false),
        ("keep-both/1", Stands::Above, true),
        ("keep-both/1", Stands::Beside, true),
        ("keep-both/1", Stands::Below, false),
    ] {
        let mut definition = support::definition();
        definition.collections[0].policy = policy.into();
        let held = Held::of(definition);
        held.bring("k", Stamp(held.store.cut().stamp.0 + 1), 7, None);
        let missed = Missed { collection: FIRST, key: b"k".to_vec(), stands, shared: Vec::new() };
        let horizon = held.store.cut().stamp;
        let run = held.store.in_run(header()).expect("a run").expect("journalled");
        let caught = run.catch_up(vec![missed], &[], horizon).expect("caught up");
        assert_eq!((caught.removed, caught.kept), (u64::from(anew), u64::from(!anew)), "{policy} {stands:?}");
        let state = held.store.first().versions(b"k").expect("read").expect("it is there");
        assert_eq!(state.winner().version.stamp > horizon, anew, "{policy} {stands:?}");
        assert_sound(&held.store, "caught up");
    }
}

#[test]
fn a_version_that_the_other_side_has_too_stays_beside_those_that_it_lacks() {
    let mut definition = support::definition();
    definition.collections[0].policy = "keep-both/1".into();
    for known in [true, false] {
        // Many that are there, one of which nobody there knows, one that replaced what is there still, and one that was
        // written since.
        let (held, other) = (Held::of(definition.clone()), Held::of(definition.clone()));
        let stamp = |n: u64| Stamp(n << 16);
        let both = (1..=9).filter(|n| *n != 2);
        for (n, there) in both.map(|n| (n, true)).chain([(2, false), (21, false)]) {
            held.bring("k", stamp(n), n, Some(b"value"));
            if there {
                other.bring("k", stamp(n), n, Some(b"value"));
            }
        }
        other.bring("k", stamp(10), 30, Some(b"value"));
        held.bring("k", stamp(11), 30, Some(b"value"));
        let info = held.store.describe();
        let met = Sighting { nonce: info.nonce, commit: held.store.cut().commit };
        let base = Base { actor: info.actor.0, met, cut: met.commit };
        let [mine, theirs] = [&held, &other].map(|held| held.store.items(FIRST, &[Range::ALL]).expect("items"));
        let shared = difference::shared(&mine[0].versions, &theirs[0].versions);
        let missed = Missed { collection: FIRST, key: b"k".to_vec(), stands: Stands::Above, shared };
        let bases: &[Base] = if known { &[base] } else { &[] };
        let run = held.store.in_run(header()).expect("a run").expect("journalled");
        let caught = run.catch_up(vec![missed], bases, stamp(20)).expect("caught up");
        let strays = u64::from(!known);
        assert_eq!(caught, CaughtUp { removed: 1 - strays, kept: 0, strays });
        let actors = |state: &State| state.versions().iter().map(|sibling| sibling.version.actor.0).collect::<Vec<_>>();
        let state = held.store.first().versions(b"k").expect("read").expect("it is there");
        assert_eq!(actors(&state), [21, 9, 8, 7, 6, 5, 4, 3, 1], "with a receipt: {known}");
        let apart = held.store.quarantined(None, 10).expect("listed");
        assert!(apart.iter().all(|held| actors(&held.state) == [30, 2]), "{apart:?}");
        assert_eq!(apart.is_empty(), known);
        assert_sound(&held.store, "caught up");
    }
}
