//! Repairs while both sides are written: no false verdict, nothing acknowledged lost, nothing planted missed.

use std::sync::atomic::{AtomicBool, Ordering};

use reknit::core::brakes::{Brakes, Limit};
use reknit::core::message::Rights;
use reknit::core::session::{Direction, Intent, Verdict};
use reknit::node::NodeBrakes;

use super::support::*;

/// Puts that each writer makes at least; it goes on for as long as repairs run.
const PUTS: usize = 2000;
const REPAIRS: usize = 12;

#[test]
fn repairs_under_writers_end_in_sync_or_converged_and_lose_nothing() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 2000);
        // Nearly every record changes from one repair to the next.
        let all = Limit::share(1_000_000);
        let brakes =
            NodeBrakes { brakes: Brakes { delete: all, change: all, shrunken: false }, ..NodeBrakes::default() };
        let two = two_braked(Counted::new(&b), Rights::ALL, brakes);
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let writers = [(&a, "a"), (&b, "b")].map(|(store, name)| {
            let (store, over) = (store.clone(), over.clone());
            std::thread::spawn(move || {
                let mut last = std::collections::BTreeMap::new();
                for nth in 0.. {
                    if nth >= PUTS && over.load(Ordering::SeqCst) {
                        break;
                    }
                    let (own, value) = (format!("{name} {}", nth % 300).into_bytes(), format!("{nth}").into_bytes());
                    store.put(&own, &value).expect("put");
                    last.insert(own, value);
                    store.put(&key(nth * 7 % 2000), format!("{name} {nth}").as_bytes()).expect("put");
                    // Leaves the processor to others.
                    std::thread::yield_now();
                }
                last
            })
        });
        for nth in 0..REPAIRS {
            let planted = format!("planted {nth}").into_bytes();
            let (from, to) = if nth % 2 == 0 { (&a, &b) } else { (&b, &a) };
            from.put(&planted, b"found").expect("put");
            let outcome = two.session(Counted::new(&a), intent(Intent::Repair(Direction::Both))).await.outcome;
            let verdict = outcome.verdict;
            assert!(matches!(verdict, Verdict::InSync | Verdict::Converged), "{verdict:?}: {}", outcome.reason);
            assert_eq!(to.get(&planted).expect("read"), Some(b"found".to_vec()));
        }
        over.store(true, Ordering::SeqCst);
        let written = writers.map(|writer| writer.join().expect("it ends"));
        let last = two.session(Counted::new(&a), intent(Intent::Repair(Direction::Both))).await;
        assert_eq!((last.outcome.verdict, contents(&a) == contents(&b)), (Verdict::InSync, true));
        for (own, value) in written.iter().flatten() {
            assert_eq!(a.get(own).expect("read").as_ref(), Some(value), "an acknowledged write is lost");
        }
        assert_sound(&a);
        assert_sound(&b);
    });
}
