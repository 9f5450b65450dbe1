//! Lost ranges beside differences that are scattered: what they cost, and that setting them aside makes no session wrong.

use proptest::prelude::*;

use super::brute;
use super::model::Model;
use super::sketches::{drifted, planner, repair};
use super::world::{Run, World, run};
use crate::difference::Side;
use crate::range::Range;
use crate::session::{Direction, Intent, Options, Plan, Planner, Verdict, Why};

/// Both sides of `n` records after `d` scattered differences, of which one has lost a range.
fn lost(n: u32, d: u32, by: Side, range: Range) -> (Model, Model) {
    let (mut a, mut b) = drifted(n, d, 3);
    let lost = if by == Side::Mine { a.lose(range) } else { b.lose(range) };
    assert!(lost > 512);
    (a, b)
}

/// What a lost range beside scattered differences costs is pinned: about what both cost alone.
#[test]
fn golden_counters_beside_a_lost_range() {
    let mut text = String::from("records\tscattered\tlost range\tlost by\tbytes\tflights\tplans\n");
    let (sixteenth, deep) = (Range::ALL.child(3), Range::ALL.child(3).child(9));
    let cases = [
        (66_000, 0, sixteenth, Side::Mine),
        (66_000, 100, sixteenth, Side::Mine),
        (66_000, 1000, sixteenth, Side::Mine),
        (66_000, 100, sixteenth, Side::Theirs),
        (66_000, 1000, sixteenth, Side::Theirs),
        (140_000, 100, deep, Side::Theirs),
    ];
    for (n, d, range, by) in cases {
        let (mut a, mut b) = lost(n, d, by, range);
        let expected = brute(&a, &b).len() as u64;
        let Run { outcome, bytes, plans, flights, .. } =
            run(&mut a, &mut b, repair(Planner::default()), World::quiet());
        assert_eq!((outcome.verdict, outcome.counts.differences()), (Verdict::InSync, expected));
        for moves in [&outcome.counts.to_mine, &outcome.counts.to_theirs] {
            assert_eq!(moves.offered, moves.applied, "nothing needless travels");
        }
        assert!(bytes as u32 <= 2000 + 40 * d.max(50), "{bytes} bytes");
        let plans: Vec<String> = plans.iter().map(Plan::to_string).collect();
        text += &format!(
            "{n}\t{d}\t{range}\t{}\t{bytes}\t{flights}\t{}\n",
            if by == Side::Mine { "opener" } else { "responder" },
            plans.join("; ")
        );
    }
    assert_eq!(text, include_str!("../../../tests/vectors/counters-lost.tsv"), "as it is now:\n{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Several lost ranges, on either side or both, some not lost whole, whoever plans how.
    #[test]
    fn setting_lost_ranges_aside_makes_no_session_wrong(
        d in 0u32..300, gone in proptest::collection::vec((0u8..16, 0usize..3, any::<bool>()), 1..5),
        mine in planner(), theirs in planner(), intent in 0usize..3, few in 0u32..2,
    ) {
        let (mut a, mut b) = drifted(33_500, d, d);
        for (digit, sides, whole) in gone {
            let range = if whole { Range::ALL.child(digit) } else { Range::ALL.child(digit).child(digit) };
            if sides != 1 { a.lose(range); }
            if sides != 0 { b.lose(range); }
            // What was written there since.
            (0..few * 40).for_each(|i| a.write(&[7, digit, i as u8], Some(vec![1])));
        }
        b.planner = theirs;
        let expected = brute(&a, &b);
        let intent = [Intent::Diff, Intent::Repair(Direction::Both), Intent::Repair(Direction::To(Side::Mine))][intent];
        let Run { outcome, found, plans, .. } =
            run(&mut a, &mut b, Options { planner: mine, ..Options::new(intent) }, World::quiet());
        prop_assert_eq!(outcome.counts.differences(), expected.len() as u64, "{:?}", plans);
        match intent {
            Intent::Diff => prop_assert_eq!(found.len(), expected.len()),
            Intent::Repair(Direction::Both) => {
                prop_assert!(outcome.verdict == Verdict::InSync && a.records() == b.records());
                let aside = plans.iter().any(|plan| matches!(plan, Plan::Compare(Why::Lost(_))));
                for moves in [&outcome.counts.to_mine, &outcome.counts.to_theirs] {
                    prop_assert!(!aside || moves.offered == moves.applied, "{:?} {:?}", moves, plans);
                }
            }
            _ => prop_assert_eq!(brute(&a, &b).len() as u64, outcome.counts.left),
        }
    }
}
