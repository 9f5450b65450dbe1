//! What receipts show, against stores of which everything is known.

use super::*;
use crate::dataset::{CollectionId, DatasetId};
use crate::members::LEASE_MILLIS;
use crate::receipt::Tally;
use proptest::prelude::*;

const NOW: Millis = 1_000_000_000_000;

/// A store as a set of writes, each by its writer and stamp, with what it held at each commit.
struct Store {
    life: Life,
    stamp: Stamp,
    undone: u64,
    at: Vec<BTreeSet<(u64, Stamp)>>,
}

impl Store {
    fn new(actor: u64) -> Store {
        Store { life: Life { actor, nonce: actor * 10 }, stamp: Stamp(0), undone: 0, at: vec![BTreeSet::new()] }
    }

    fn commit(&self) -> u64 {
        self.at.len() as u64 - 1
    }

    fn now(&self) -> &BTreeSet<(u64, Stamp)> {
        &self.at[self.at.len() - 1]
    }

    fn write(&mut self, stamp: Stamp) {
        let mut next = self.now().clone();
        self.stamp = stamp;
        next.insert((self.life.actor, stamp));
        self.at.push(next);
    }

    /// Holds again what it held at an earlier commit, and what it wrote itself.
    fn undo(&mut self, to: usize) {
        let own = self.now().iter().filter(|(by, _)| *by == self.life.actor);
        let next = self.at[to].iter().chain(own).copied().collect();
        self.at.push(next);
        self.undone = self.commit();
    }

    fn take(&mut self, writes: &BTreeSet<(u64, Stamp)>) {
        let next: BTreeSet<_> = self.now().union(writes).copied().collect();
        self.stamp = next.iter().map(|(_, stamp)| *stamp).fold(self.stamp, Stamp::max);
        if next != *self.now() {
            self.at.push(next);
        }
    }

    fn seat(&self, cut: u64, stamp: Stamp) -> Seat {
        let peer = [self.life.actor as u8; 32];
        let (life, commit, undone) = (self.life, self.commit(), self.undone);
        Seat { peer, life, cut, commit, undone, stamp, time: NOW, ..Seat::default() }
    }
}

fn definition() -> Definition {
    Definition::simple(DatasetId([7; 16]), "x").with_members()
}

fn receipt(opener: Seat, responder: Seat) -> Receipt {
    let definition = definition();
    Receipt {
        dataset: definition.id,
        definition: definition.hash(),
        scope: vec![CollectionId(0)],
        opener,
        responder,
        verdict: Verdict::Converged,
        tally: Tally::default(),
        signatures: ([0; 64], [0; 64]),
    }
}

/// A session: both hold what each held at its cut; one may write meanwhile.
fn session(stores: &mut [Store], a: usize, b: usize, meanwhile: Option<Stamp>) -> Receipt {
    let cuts = [a, b].map(|nth| (stores[nth].commit(), stores[nth].stamp));
    let (of_a, of_b) = (stores[a].now().clone(), stores[b].now().clone());
    meanwhile.into_iter().for_each(|stamp| stores[a].write(stamp));
    stores[a].take(&of_b);
    stores[b].take(&of_a);
    let verdict = if stores[a].now() == stores[b].now() { Verdict::InSync } else { Verdict::Converged };
    let receipt = receipt(stores[a].seat(cuts[0].0, cuts[0].1), stores[b].seat(cuts[1].0, cuts[1].1));
    Receipt { verdict, ..receipt }
}

fn members(n: usize) -> Vec<(PeerKey, Member)> {
    let member = Member { name: String::new(), since: NOW, lease: LEASE_MILLIS };
    (1..=n).map(|actor| ([actor as u8; 32], member.clone())).collect()
}

fn found(stores: &[Store], receipts: &[Receipt], members: &[(PeerKey, Member)], now: Millis) -> Found {
    found_after(stores, receipts, members, now, 0)
}

/// The same by a store that caught up at a commit.
fn found_after(
    stores: &[Store],
    receipts: &[Receipt],
    members: &[(PeerKey, Member)],
    now: Millis,
    caught_up: u64,
) -> Found {
    let me = &stores[0];
    let (life, commit, stamp, undone) = (me.life, me.commit(), me.stamp, me.undone);
    find(&Known { me: [1; 32], life, commit, stamp, undone, caught_up, members, receipts, now, grace: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// Whatever the order of writes and sessions, and whichever receipts are known: all that anyone wrote up to the horizon
    /// is with everyone at the commit that is vouched for, and what a store has held ever since `everywhere` is with all others.
    #[test]
    fn what_is_said_to_have_passed_has(
        n in 1usize..5,
        steps in proptest::collection::vec((0usize..5, 0usize..5, any::<bool>(), any::<bool>(), 0u8..4), 1..60),
    ) {
        let mut stores: Vec<Store> = (1..=n as u64).map(Store::new).collect();
        let mut receipts = Vec::new();
        for (nth, (a, b, writes, meanwhile, known)) in steps.into_iter().enumerate() {
            let (a, b, stamp) = (a % n, b % n, Stamp(10 * (nth as u64 + 1)));
            if known == 3 && meanwhile && !writes {
                let to = (nth * 7) % stores[a].at.len();
                stores[a].undo(to);
            } else if writes || a == b {
                // A store's stamps rise, also where its clock is behind.
                let stamp = stamp.max(Stamp(stores[a].stamp.0 + 1));
                stores[a].write(stamp);
            } else {
                let stamp = stamp.max(Stamp(stores[a].stamp.0 + 1));
                let receipt = session(&mut stores, a, b, meanwhile.then_some(stamp));
                receipts.extend((known > 0).then_some(receipt));
            }
        }
        let found = found(&stores, &receipts, &members(n), NOW);
        let horizon = &found.horizon;
        let at = |passed: &Passed| {
            let store = stores.iter().find(|store| store.life.actor == passed.actor).expect("a store");
            (store, passed.met.commit as usize, passed.everywhere as usize)
        };
        if horizon.stamp > Stamp(0) {
            prop_assert_eq!(horizon.passed.len(), n);
        }
        // Without a horizon nothing follows from who has passed it.
        for passed in horizon.passed.iter().filter(|_| horizon.stamp > Stamp(0)) {
            let (store, met, everywhere) = at(passed);
            prop_assert_eq!(passed.met.nonce, store.life.nonce);
            for other in &stores {
                let written = other.now().iter().filter(|(by, stamp)| *by == other.life.actor && *stamp <= horizon.stamp);
                for write in written {
                    prop_assert!(store.at[met].contains(write), "{write:?} at {}: {found:?}", passed.actor);
                }
            }
            for other in horizon.passed.iter().filter(|other| other.actor != passed.actor) {
                let (other, met, _) = at(other);
                let ever_since = |write: &&(u64, Stamp)| store.at[everywhere..].iter().all(|at| at.contains(write));
                let lacks: Vec<_> = store.at[everywhere].difference(&other.at[met]).filter(ever_since).collect();
                prop_assert!(lacks.is_empty(), "{} lacks {lacks:?}: {found:?}", other.life.actor);
            }
        }
    }
}

#[test]
fn two_stores_in_sync_pass_what_both_saw() {
    let mut stores = vec![Store::new(1), Store::new(2)];
    stores[0].write(Stamp(10));
    let first = session(&mut stores, 0, 1, None);
    let shown = |receipts: &[Receipt]| found(&stores, receipts, &members(2), NOW).horizon.stamp;
    assert_eq!(shown(&[]), Stamp(0), "nothing shows that the other has it");
    assert_eq!(shown(std::slice::from_ref(&first)), Stamp(0), "the other may still write something older");
    let second = session(&mut stores, 1, 0, None);
    let all = found(&stores, &[first, second], &members(2), NOW);
    assert_eq!(all.horizon.stamp, Stamp(10));
    assert_eq!(all.horizon.passed.len(), 2);
    assert!(all.standings.iter().all(|standing| standing.passed == Some(Stamp(10)) && !standing.lapsed));
}

#[test]
fn nobody_waits_for_a_member_whose_lease_has_lapsed() {
    let mut stores = vec![Store::new(1), Store::new(2), Store::new(3)];
    stores[0].write(Stamp(10));
    let receipts = [session(&mut stores, 0, 1, None), session(&mut stores, 0, 1, None)];
    let late = |now| found(&stores, &receipts, &members(3), now);
    let waiting = late(NOW);
    assert_eq!(waiting.horizon.stamp, Stamp(0), "the third was never met");
    let third = waiting.standings.iter().find(|standing| standing.actor.is_none()).expect("the third");
    assert_eq!((third.heard, third.lapsed, third.lapses), (None, false, NOW + LEASE_MILLIS));
    let lapsed = late(NOW + LEASE_MILLIS + 1);
    assert_eq!(lapsed.standings.iter().filter(|standing| standing.lapsed).count(), 2, "all but whoever collects");
    assert_eq!(lapsed.horizon.passed.iter().map(|passed| passed.actor).collect::<Vec<_>>(), [1]);
    assert_eq!(lapsed.horizon.stamp, Stamp(10));
}

#[test]
fn a_store_that_was_restored_has_passed_nothing_yet() {
    let mut stores = vec![Store::new(1), Store::new(2)];
    stores[0].write(Stamp(10));
    let mut receipts = vec![session(&mut stores, 0, 1, None), session(&mut stores, 0, 1, None)];
    stores[1] = Store { life: Life { actor: 9, nonce: 90 }, ..Store::new(2) };
    let again = session(&mut stores, 0, 1, None);
    let peer = receipts[0].responder.peer;
    let newer = |seat: Seat| Seat { peer, time: NOW, ..seat };
    // The other's time tells which life is the newest.
    receipts.push(Receipt {
        responder: newer(again.responder),
        opener: Seat { time: NOW + 1, ..again.opener },
        ..again
    });
    let found = found(&stores, &receipts, &members(2), NOW);
    assert_eq!(found.horizon.stamp, Stamp(0));
    assert_eq!(found.horizon.passed.iter().map(|passed| passed.actor).collect::<Vec<_>>(), [1, 9]);
}

#[test]
fn the_grace_time_comes_before_all_else() {
    let mut stores = [Store::new(1)];
    stores[0].write(Stamp::at(NOW));
    let me = &stores[0];
    let known = |grace| Known {
        me: [1; 32],
        life: me.life,
        commit: me.commit(),
        stamp: me.stamp,
        undone: 0,
        caught_up: 0,
        members: &[],
        receipts: &[],
        now: NOW,
        grace,
    };
    assert_eq!(find(&known(1000)).horizon.stamp, Stamp::at(NOW - 1000));
    assert_eq!(find(&known(0)).horizon.stamp, Stamp::at(NOW));
}

#[test]
fn a_receipt_of_less_than_all_counts_for_nothing() {
    let mut stores = vec![Store::new(1), Store::new(2)];
    let whole = session(&mut stores, 0, 1, None);
    let of = definition();
    assert!(counts(&whole, &of));
    assert!(!counts(&Receipt { scope: vec![], ..whole.clone() }, &of));
    assert!(!counts(&Receipt { verdict: Verdict::Differs, ..whole.clone() }, &of));
    assert!(!counts(&Receipt { tally: Tally { left: 1, ..Tally::default() }, ..whole.clone() }, &of));
    assert!(!counts(&Receipt { definition: Default::default(), ..whole.clone() }, &of));
    assert!(!counts(&Receipt { dataset: DatasetId([8; 16]), ..whole }, &of));
}

/// What it dropped since, another may hold still, and would bring it back.
#[test]
fn whoever_caught_up_vouches_for_nobody_by_receipts_of_before() {
    let (mut stores, members) = ([Store::new(1), Store::new(2)], members(2));
    stores[0].write(Stamp::at(NOW - 50));
    stores[1].write(Stamp::at(NOW - 40));
    let before = session(&mut stores, 0, 1, None);
    let stamp = |stores: &[Store], receipts: &[Receipt], caught_up| {
        found_after(stores, receipts, &members, NOW, caught_up).horizon.stamp
    };
    assert!(stamp(&stores, std::slice::from_ref(&before), 0) > Stamp(0));
    // As one does that drops what had been deleted elsewhere.
    stores[0].write(Stamp::at(NOW - 30));
    let caught_up = stores[0].commit();
    assert_eq!(stamp(&stores, std::slice::from_ref(&before), caught_up), Stamp(0));
    let after = session(&mut stores, 0, 1, None);
    assert!(stamp(&stores, &[before, after], caught_up) >= Stamp::at(NOW - 40));
}
