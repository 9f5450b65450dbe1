//! What leaves quarantine as a session begins: it counts as what the session brings, and is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::DatasetKey;
use reknit::core::brakes::{Brakes, Limit};
use reknit::core::message::Rights;
use reknit::core::session::{Direction, Intent, Options as SessionOptions, Verdict};
use reknit::core::stamp::CLOCK_BOUND_MILLIS;
use reknit::node::{Budget, SessionReport, between};
use reknit::store::{Options, Store};
use tokio::sync::watch;

use super::support::*;

/// By so much a clock is ahead, in milliseconds: a little more than is taken.
const AHEAD: u64 = CLOCK_BOUND_MILLIS + 3_000;
const NOW: u64 = 1_000_000_000;

/// Two stores of 60 records, and the clock of the second; the first is always ahead of it.
fn ahead() -> (Store, Store, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(NOW));
    let store = |by: u64| {
        let clock = Arc::clone(&clock);
        let options = Options { clock: Arc::new(move || clock.load(Ordering::Relaxed) + by), ..Options::default() };
        Store::in_memory(definition(), DatasetKey::from_bytes([9; 32]), &options).expect("a store")
    };
    let (a, b) = (store(AHEAD), store(0));
    plant(&[&a, &b], 60);
    (a, b, clock)
}

fn delete(store: &Store, nths: std::ops::Range<usize>) {
    nths.for_each(|nth| assert!(store.delete(&key(nth)).expect("deleted")));
}

fn braked(deletes: u64) -> SessionOptions {
    let brakes = Brakes { delete: Limit::records(deletes), ..Brakes::default() };
    SessionOptions { brakes: Some(brakes), ..intent(Intent::Repair(Direction::Both)) }
}

async fn repair(a: &Store, b: &Store, options: SessionOptions) -> SessionReport {
    let (_never, stop) = watch::channel(false);
    let sides = (Arc::new(a.clone()), Arc::new(b.clone()));
    between(sides.0, sides.1, options, Budget::default(), stop, &mut |_| ()).await.expect("an outcome")
}

#[test]
fn a_clock_that_is_ahead_is_no_way_around_the_window_of_a_daemon() {
    run(async {
        let (a, b, clock) = ahead();
        let two = two(Arc::new(b.clone()), Rights::ALL);
        let mut refused = 0;
        for nth in 0..5 {
            delete(&a, nth * 9..nth * 9 + 9);
            let report = two.session(Arc::new(a.clone()), braked(60)).await;
            refused += u64::from(report.outcome.verdict == Verdict::Refused);
            clock.fetch_add(5_000, Ordering::Relaxed);
        }
        // Ten may go in an hour: those of the first session, and none of the others.
        assert_eq!((contents(&b).len(), refused, b.quarantined_count()), (51, 4, 0));
        assert_sound(&b);
    });
}

#[test]
fn what_leaves_quarantine_is_a_part_of_what_a_repair_may_lose_and_has_written() {
    run(async {
        let (a, b, clock) = ahead();
        delete(&a, 0..8);
        let set_apart = repair(&a, &b, braked(10)).await;
        assert_eq!((set_apart.outcome.counts.to_theirs.applied, b.quarantined_count()), (0, 8));
        clock.fetch_add(5_000, Ordering::Relaxed);
        for swapped in [false, true] {
            delete(&a, if swapped { 13..14 } else { 8..13 });
            clock.fetch_add(5_000, Ordering::Relaxed);
            let report = if swapped { repair(&b, &a, braked(5)).await } else { repair(&a, &b, braked(10)).await };
            let outcome = report.outcome;
            assert_eq!(outcome.verdict, Verdict::Refused, "{}", outcome.reason);
            let braked = outcome.braked.expect("told");
            let (wrote, run) = match swapped {
                false => (outcome.counts.to_theirs, report.runs.1),
                true => (outcome.counts.to_mine, report.runs.0),
            };
            let (released, foreseen) = if swapped { (0, 6) } else { (8, 13) };
            assert_eq!((wrote.applied, braked.losses.deleted), (released, foreseen));
            assert_eq!(run.is_some(), released > 0);
        }
        let rest = repair(&a, &b, braked(6)).await.outcome;
        assert_eq!((rest.verdict, rest.counts.to_theirs.applied), (Verdict::InSync, 6), "{}", rest.reason);
        assert_eq!(contents(&b).len(), 46);
    });
}

#[test]
fn what_would_be_too_much_stays_in_quarantine() {
    run(async {
        let (a, b, clock) = ahead();
        delete(&a, 0..15);
        write(&a, (20..24).map(key), "another");
        repair(&a, &b, braked(20)).await;
        assert_eq!(b.quarantined_count(), 19);
        clock.fetch_add(5_000, Ordering::Relaxed);
        // The opener is the side that has them, then.
        let report = repair(&b, &a, braked(10)).await;
        let outcome = report.outcome;
        assert_eq!((outcome.verdict, outcome.counts.to_mine.applied), (Verdict::Refused, 14), "{}", outcome.reason);
        assert_eq!((contents(&b).len(), b.quarantined_count()), (50, 5));
        assert_eq!(b.get(&key(20)).expect("read"), Some(b"another".to_vec()));
        let run = b.run(report.runs.0.expect("a run")).expect("it is kept");
        assert_eq!((run.entries, run.overwritten), (14, 14));
        let rest = repair(&b, &a, braked(5)).await.outcome;
        assert_eq!((rest.verdict, rest.counts.to_mine.applied), (Verdict::InSync, 5), "{}", rest.reason);
        assert_eq!((contents(&b).len(), b.quarantined_count()), (45, 0));
        assert_sound(&b);
    });
}
