//! Sessions between two nodes: what is found, what moves, what a budget and a stop leave.

use std::collections::BTreeSet;

use reknit::core::difference::Side as Seen;
use reknit::core::message::Rights;
use reknit::core::session::{Direction, Intent, Options as SessionOptions, Verdict};
use reknit::node::{Budget, Progress};
use reknit::store::{Durability, Op};
use tokio::sync::watch;

use super::support::*;

const REPAIR: Intent = Intent::Repair(Direction::Both);

#[test]
fn a_check_of_equal_stores_is_one_small_round_trip() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 3000);
        let (mine, theirs) = (Counted::new(&a), Counted::new(&b));
        let two = two(theirs.clone(), Rights::COMPARE);
        let report = two.session(mine.clone(), intent(Intent::Check)).await;
        assert_eq!((report.outcome.verdict, report.outcome.counts.flights), (Verdict::InSync, 2));
        assert!(report.traffic.total() <= 200, "{:?}", report.traffic);
        assert_eq!((mine.asked(), theirs.asked()), (2, 1), "roots alone were read");
    });
}

#[test]
fn differences_are_found_exactly_and_only_they_move() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 3000);
        write(&a, (3000..3020).map(key), "only in a");
        write(&b, (4000..4030).map(key), "only in b");
        write(&a, (0..700).step_by(70).map(key), "newer in a");
        b.batch((1..701).step_by(70).map(|nth| Op::delete(key(nth))).collect(), Durability::Buffered).expect("deleted");
        let expected: BTreeSet<Vec<u8>> =
            (3000..3020).chain(4000..4030).chain((0..700).step_by(70)).chain((1..701).step_by(70)).map(key).collect();
        let (mine, theirs) = (Counted::new(&a), Counted::new(&b));
        let two = two(theirs.clone(), Rights::ALL);
        let mut found = BTreeSet::new();
        let (_never, stop) = watch::channel(false);
        let mut note = |progress| {
            if let Progress::Found(difference) = progress {
                assert!(difference.stable && found.insert(difference.key.clone()), "{difference:?}");
            }
        };
        let (node, address) = (&two.client.node, two.server.address());
        let diff = session_with(node, &address, mine.clone(), intent(Intent::Diff), Budget::default(), stop, &mut note);
        assert_eq!(diff.await.expect("an outcome").outcome.verdict, Verdict::Differs);
        assert_eq!(found, expected);
        let report = two.session(mine.clone(), intent(REPAIR)).await;
        assert_eq!(report.outcome.verdict, Verdict::InSync, "{}", report.outcome.reason);
        let counts = &report.outcome.counts;
        assert_eq!((counts.to_mine.applied, counts.to_theirs.applied), (40, 30));
        for moves in [counts.to_mine, counts.to_theirs] {
            assert_eq!(moves.offered, moves.applied + moves.kept + moves.moved + moves.refused);
            assert_eq!(moves.offered, moves.applied);
        }
        // As the receiving stores counted it.
        assert_eq!((mine.applied(), theirs.applied()), (40, 30));
        assert_eq!(contents(&a), contents(&b));
        assert_sound(&a);
        assert_sound(&b);
    });
}

#[test]
fn one_side_alone_is_written_and_a_mirror_is_the_other_side() {
    run(async {
        for to in [Seen::Mine, Seen::Theirs] {
            let (a, b) = (store(), store());
            plant(&[&a, &b], 500);
            write(&a, (500..520).map(key), "only in a");
            write(&b, (600..630).map(key), "only in b");
            let two = two(Counted::new(&b), Rights::ALL);
            let (root_a, root_b) = (a.root(), b.root());
            let report = two.session(Counted::new(&a), intent(Intent::Repair(Direction::To(to)))).await;
            assert_eq!(report.outcome.verdict, Verdict::Differs);
            let (mine, theirs) = (report.outcome.counts.to_mine.applied, report.outcome.counts.to_theirs.applied);
            assert_eq!((mine, theirs), if to == Seen::Mine { (30, 0) } else { (0, 20) });
            assert_eq!((a.root() == root_a, b.root() == root_b), (to == Seen::Theirs, to == Seen::Mine));
            let source = if to == Seen::Mine { contents(&b) } else { contents(&a) };
            let mirror = SessionOptions { mirror: Some(to), ..intent(REPAIR) };
            let report = two.session(Counted::new(&a), mirror).await;
            assert_eq!(report.outcome.verdict, Verdict::InSync, "{}", report.outcome.reason);
            assert_eq!((contents(&a), contents(&b)), (source.clone(), source));
        }
    });
}

#[test]
fn an_empty_side_is_filled_and_large_values_travel_in_chunks() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 5000);
        let large: Vec<u8> =
            (0..5_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(5 << 20).collect();
        a.put(b"large", &large).expect("put");
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let report = two.session(Counted::new(&a), intent(REPAIR)).await;
        assert_eq!((report.outcome.verdict, theirs.applied()), (Verdict::InSync, 5001));
        assert!(report.traffic.control() < 400, "an empty side is streamed to without questions: {:?}", report.traffic);
        assert_eq!(b.get(b"large").expect("read"), Some(large));
        assert_sound(&b);
    });
}

#[test]
fn a_budget_and_a_stop_end_with_what_is_known() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 5000);
        write(&a, (0..5000).step_by(9).map(key), "newer");
        let two = two(Counted::new(&b), Rights::ALL);
        let (node, address) = (&two.client.node, two.server.address());
        let (_never, going) = watch::channel(false);
        let mut silent = |_| ();
        let budget = Budget { bytes: Some(6000), ..Budget::default() };
        let ran = session_with(node, &address, Counted::new(&a), intent(REPAIR), budget, going.clone(), &mut silent);
        let outcome = ran.await.expect("an outcome").outcome;
        assert!(matches!(outcome.verdict, Verdict::Partial | Verdict::Undetermined), "{:?}", outcome.verdict);
        assert!(outcome.coverage_millionths < 1_000_000);
        let (stop, stopped) = watch::channel(true);
        let ran =
            session_with(node, &address, Counted::new(&a), intent(REPAIR), Budget::default(), stopped, &mut silent);
        assert_eq!(ran.await.expect("an outcome").outcome.verdict, Verdict::Undetermined);
        drop(stop);
        assert_sound(&b);
        let report = two.session(Counted::new(&a), intent(REPAIR)).await;
        assert_eq!((report.outcome.verdict, contents(&a) == contents(&b)), (Verdict::InSync, true));
    });
}
