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
        assert_eq!((contents(&all[1].store).len(), contents(&all[2].store).len()), (360, 360));
        assert_eq!(withheld(1).1.len(), 3);
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
        // It takes in no pushes: what it loses, its own turns bring.
        second.admit(first.node.peer(), Rights::COMPARE.and(Rights::READ));
        let seed = first.address();
        let first = Gossiping::start(first, store(), Vec::new(), NEVER);
        plant(&[&first.store], 400);
        let stores = store();
        plant(&[&stores], 400);
        let second = Gossiping::start(second, stores, vec![seed], Duration::from_millis(50));
        let kept = || contents(&second.store).len();
        let delete = |from: usize| {
            let ops = (from..from + 32).map(|nth| Op::delete(key(nth))).collect();
            first.store.batch(ops, Durability::Buffered).expect("deleted");
        };
        delete(0);
        until("8 % are let go", || kept() == 368).await;
        let fails = || second.gossip.standings(DatasetId([7; 16])).iter().map(|(_, of)| of.fails).max().unwrap_or(0);
        for begin in [32, 64] {
            let before = fails();
            delete(begin);
            until("another 8 % are refused", || fails() > before).await;
            assert_eq!(kept(), 368);
        }
        // A session that somebody asks for has limits of its own.
        let side = Arc::new(second.store.clone());
        let to = first.peer.address();
        let repair = session(&second.peer.node, &to, side, intent(Intent::Repair(Direction::Both))).await;
        assert_eq!(repair.expect("an outcome").outcome.verdict, Verdict::InSync);
        assert_eq!(kept(), 304);
        Gossiping::end_all(vec![first, second]).await;
    });
}
