//! Brakes where nobody watches: what is pushed, and what sessions bring that nobody asked for.

use super::*;

/// What one deletes the others pass on: all who push are braked together, however small the pushes.
#[test]
fn mass_deletes_are_withheld_however_they_come_and_a_repair_brings_them() {
    run(async {
        let all = gossiping(peers(3, Rights::ALL), NEVER);
        plant(&[&all[0].store, &all[1].store, &all[2].store], 400);
        until("they know each other", || all.iter().all(|one| one.up() == 2)).await;
        for nth in 0..300 {
            all[0].store.delete(&key(nth)).expect("deleted");
        }
        let withheld = |nth: usize| all[nth].gossip.withheld(DatasetId([7; 16]));
        // A tenth may go, and is gone; the rest stands.
        until("all have come", || withheld(1).0 == 260 && withheld(2).0 == 260).await;
        // What is withheld is told before the rest of the same word is applied.
        until("a tenth has gone", || [1, 2].iter().all(|nth| contents(&all[*nth].store).len() == 360)).await;
        assert_eq!((withheld(1).0, withheld(2).0, withheld(1).1.len()), (260, 260, 3));
        // What takes no record's place is taken as ever.
        all[0].store.put(b"new", b"1").expect("written");
        until("it is told", || all.iter().all(|one| one.store.get(b"new").expect("read").is_some())).await;
        let side = Arc::new(all[1].store.clone());
        let to = all[0].peer.address();
        let repair = session(&all[1].peer.node, &to, side, intent(Intent::Repair(Direction::Both))).await;
        assert_eq!(repair.expect("an outcome").outcome.verdict, Verdict::InSync);
        assert_eq!((contents(&all[1].store).len(), withheld(2).0), (101, 260));
        until("what a session brought is withheld no more", || withheld(1).0 == 0).await;
        Gossiping::end_all(all).await;
    });
}

#[test]
fn sessions_that_nobody_asked_for_are_braked_as_pushes_are() {
    run(async {
        let all = gossiping(peers(2, Rights::ALL), Duration::from_millis(50));
        plant(&[&all[0].store, &all[1].store], 400);
        until("they know each other", || all.iter().all(|one| one.up() == 1)).await;
        all[0].store.batch((0..300).map(|nth| Op::delete(key(nth))).collect(), Durability::Buffered).expect("deleted");
        let refused = |one: &Gossiping| one.gossip.standings(DatasetId([7; 16])).iter().any(|(_, of)| of.fails > 0);
        until("sessions are refused", || all.iter().all(refused)).await;
        let left = contents(&all[1].store).len();
        assert!(left >= 320, "{left}");
        Gossiping::end_all(all).await;
    });
}

#[test]
fn turns_of_gossip_lose_a_store_no_more_than_one_of_them_may() {
    run(async {
        let (first, second) = (peer(true), peer(true));
        first.admit(second.node.peer(), Rights::ALL);
        second.admit(first.node.peer(), Rights::ALL);
        let seed = first.address();
        let first = Gossiping::start(first, store(), Vec::new(), NEVER);
        plant(&[&first.store], 400);
        let stores = store();
        plant(&[&stores], 400);
        let second = Gossiping::start(second, stores, vec![seed], Duration::from_millis(50));
        // What is too large to be pushed is brought by turns alone.
        let large = "x".repeat(50_000);
        let kept = || contents(&second.store).values().filter(|value| value.len() < large.len()).count();
        let change = |from: usize| write(&first.store, (from..from + 90).map(key), &large);
        change(0);
        until("some are let go", || kept() == 310).await;
        let fails = || second.gossip.standings(DatasetId([7; 16])).iter().map(|(_, of)| of.fails).max().unwrap_or(0);
        for begin in [90, 180] {
            let before = fails();
            change(begin);
            until("as many again are refused", || fails() > before).await;
            assert_eq!(kept(), 310);
        }
        // A session that somebody asks for has limits of its own.
        let side = Arc::new(second.store.clone());
        let to = first.peer.address();
        let repair = session(&second.peer.node, &to, side, intent(Intent::Repair(Direction::Both))).await;
        assert_eq!(repair.expect("an outcome").outcome.verdict, Verdict::InSync);
        assert_eq!(kept(), 130);
        Gossiping::end_all(vec![first, second]).await;
    });
}

/// Nobody knows any more who pushed what waited in quarantine, so it counts for all who push.
#[test]
fn what_was_pushed_into_quarantine_counts_as_pushed_when_it_leaves() {
    use std::sync::atomic::{AtomicU64, Ordering};
    run(async {
        let clock = Arc::new(AtomicU64::new(1_000_000_000));
        let ahead = |by: u64| {
            let clock = Arc::clone(&clock);
            let options = Options { clock: Arc::new(move || clock.load(Ordering::Relaxed) + by), ..Options::default() };
            Store::in_memory(definition(), reknit::core::DatasetKey::from_bytes([9; 32]), &options).expect("a store")
        };
        let stores = [ahead(63_000), ahead(0), ahead(0)];
        plant(&stores.each_ref(), 60);
        // Two that know nothing of each other push to the one between them.
        let [fast, middle, other] = [peer(true), peer(true), peer(true)];
        for outer in [&fast, &other] {
            middle.admit(outer.node.peer(), Rights::ALL);
            outer.admit(middle.node.peer(), Rights::ALL);
        }
        let seed = vec![middle.address()];
        let [ahead, between, beside] = stores;
        let middle = Gossiping::start(middle, between, Vec::new(), NEVER);
        let fast = Gossiping::start(fast, ahead, seed.clone(), NEVER);
        let other = Gossiping::start(other, beside, seed, NEVER);
        until("it knows both", || middle.up() == 2).await;
        (0..9).for_each(|nth| assert!(fast.store.delete(&key(nth)).expect("deleted")));
        until("they are set apart", || middle.store.quarantined_count() == 9).await;
        clock.fetch_add(5_000, Ordering::Relaxed);
        let to = middle.peer.address();
        let side = Arc::new(fast.store.clone());
        let repair = session(&fast.peer.node, &to, side, intent(Intent::Repair(Direction::Both))).await;
        assert_eq!(repair.expect("an outcome").outcome.verdict, Verdict::InSync);
        assert_eq!(contents(&middle.store).len(), 51);
        (20..29).for_each(|nth| assert!(other.store.delete(&key(nth)).expect("deleted")));
        let withheld = || middle.gossip.withheld(DatasetId([7; 16])).0;
        until("the others are withheld", || withheld() == 8).await;
        until("one has gone", || contents(&middle.store).len() == 50).await;
        assert_eq!(withheld(), 8);
        Gossiping::end_all(vec![fast, middle, other]).await;
    });
}
