//! Sessions whose link is lost, or that are stopped, at any step: what is named as unproven holds all that was not found or settled.

use super::*;
use crate::range::{DEPTH_MAX, Range};

/// Whether a key is among what is named, or beyond what is.
fn named(unproven: &Unproven, model: &Model, key: &[u8]) -> bool {
    let at = model.keys().position("default", key);
    let told = unproven.ranges.iter().any(|(_, range)| range.contains(at));
    told || unproven.more > 0 && unproven.sixteenths >> (at.0 >> 60) & 1 == 1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_a_session_that_lost_its_link_has_not_proven_is_named(
        drift in drift(), content: bool, kind in 0..4, cells: bool, after in 0usize..40,
    ) {
        let (mut a, mut b) = two(&drift, if content { Profile::Content } else { Profile::Versioned });
        let intent = match kind {
            0 => Intent::Diff,
            1 => Intent::Repair(Direction::To(Side::Theirs)),
            2 => Intent::Repair(Direction::To(Side::Mine)),
            _ => Intent::Repair(Direction::Both),
        };
        let planner = Planner { opening: if cells { 28 } else { 0 }, ..Planner::default() };
        let options = Options { width: 6, planner, ..options(intent, &drift) };
        let Run { outcome, found, .. } = run(&mut a, &mut b, options, World::cut(after));
        let Outcome { unproven, verdict, coverage_millionths, .. } = &outcome;
        if !matches!(verdict, Verdict::Partial | Verdict::Undetermined) {
            prop_assert_eq!(unproven, &Unproven::default(), "it came to its end");
            return Ok(());
        }
        let known = *coverage_millionths > 0 || outcome.counts.differences() > 0;
        prop_assert_eq!(*verdict, if known { Verdict::Partial } else { Verdict::Undetermined });
        let found: std::collections::BTreeSet<Vec<u8>> = found.into_iter().map(|difference| difference.key).collect();
        let told = |key: &[u8]| {
            // What may not be written to the other side, or is bare and has no winner, is left: it was found.
            let leaves = intent != Intent::Repair(Direction::Both) || content;
            leaves && (found.contains(key) || outcome.counts.left > 0) || named(unproven, &a, key)
        };
        let open: Vec<Vec<u8>> = brute(&a, &b).into_keys().filter(|key| !told(key)).collect();
        prop_assert_eq!(open, Vec::<Vec<u8>>::new(), "{:?}", outcome);
        prop_assert!(unproven.sixteenths > 0 || *coverage_millionths == 999_999, "{:?}", outcome);
    }
}

#[test]
fn a_session_that_compares_ranges_names_those_that_it_had_not_come_to() {
    let mut a = Model::new(1, Profile::Versioned, 64);
    (0..3000).for_each(|n| a.write(&key(n), Some(vec![1])));
    let mut b = Model::new(2, Profile::Versioned, 64);
    b.copy_from(&a);
    (0..300).for_each(|n| b.write(&key(n * 10), Some(vec![2])));
    let planner = Planner { opening: 0, ..Planner::default() };
    let options = Options { requests: 1, planner, ..Options::new(Intent::Diff) };
    let mut last = 0;
    let partial: Vec<Outcome> = (0..40)
        .map(|after| run(&mut a, &mut b, options.clone(), World::cut(after)).outcome)
        .filter(|outcome| outcome.verdict == Verdict::Partial && outcome.unproven.sixteenths > 0)
        .collect();
    assert!(partial.len() > 3, "{}", partial.len());
    for outcome in &partial {
        assert!(outcome.coverage_millionths >= last, "what is proven stays so");
        last = outcome.coverage_millionths;
        assert_eq!(outcome.reason, "the link was lost before the end");
        assert!(
            outcome.unproven.ranges.iter().all(|(_, range)| range.depth() < DEPTH_MAX || outcome.unproven.more > 0)
        );
    }
    let nothing = run(&mut a, &mut b, options, World::cut(0)).outcome;
    assert_eq!(
        (nothing.verdict, nothing.unproven.ranges),
        (Verdict::Undetermined, vec![(CollectionId(0), Range::ALL)])
    );
}

#[test]
fn what_was_acted_on_by_sketches_alone_is_unproven_until_the_roots_agree() {
    let mut cuts = 0;
    for after in 0..10 {
        let mut a = Model::new(1, Profile::Versioned, 64);
        (0..3000).for_each(|n| a.write(&key(n), Some(vec![1])));
        let mut b = Model::new(2, Profile::Versioned, 64);
        b.copy_from(&a);
        (0..5).for_each(|n| b.write(&key(n * 500), Some(vec![2])));
        let options = Options::new(Intent::Repair(Direction::Both));
        let outcome = run(&mut a, &mut b, options, World::cut(after)).outcome;
        if outcome.verdict == Verdict::Partial {
            cuts += 1;
            assert_eq!(outcome.unproven.ranges, [(CollectionId(0), Range::ALL)], "{after}");
            assert_eq!(outcome.coverage_millionths, 0);
        }
    }
    assert!(cuts > 0, "none of them was in the middle");
}

#[test]
fn what_the_store_was_writing_when_a_session_was_told_to_end_is_counted() {
    let mut a = Model::new(1, Profile::Versioned, 64);
    (0..3000).for_each(|n| a.write(&key(n), Some(vec![1])));
    let mut b = Model::new(2, Profile::Versioned, 64);
    b.copy_from(&a);
    (0..500).for_each(|n| b.write(&key(n), Some(vec![2])));
    let before = brute(&a, &b).len();
    let world = World { stops: true, ..World::quiet() };
    let outcome = run(&mut a, &mut b, Options::new(Intent::Repair(Direction::Both)), world).outcome;
    assert_eq!((outcome.verdict, outcome.reason.as_str()), (Verdict::Partial, "stopped before the end"));
    let written = before - brute(&a, &b).len();
    assert!((1..500).contains(&written), "{written}");
    assert_eq!(outcome.counts.to_mine.applied, written as u64);
}
