//! Sessions that go by sketches: what they cost, and that nothing a sketch says can make them wrong.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::model::Model;
use super::world::{Run, World, run};
use super::{brute, two};
use crate::canonical::{Blob, put_varint};
use crate::dataset::{CollectionId, Profile};
use crate::message::{Message, Offer, Rights, Transfer};
use crate::query::{Answer, Query, Shape, View};
use crate::range::Range;
use crate::session::{Direction, Input, Intent, Options, Output, Plan, Planner, Verdict, Why};
use crate::sketch::{Cell, Element, Sketch};
use crate::tree::Summary;

/// Two sides of `n` records that share all but `d`: half of those are missing on the first, a quarter on the second, a
/// quarter are newer on the second.
pub(super) fn drifted(n: u32, d: u32, seed: u32) -> (Model, Model) {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    drift(&mut a, &mut b, n, d, seed);
    (a, b)
}

/// The same with two sides that hold nothing yet.
pub(super) fn drift(a: &mut Model, b: &mut Model, n: u32, d: u32, seed: u32) {
    let key = |i: u32| [seed.to_be_bytes(), i.to_be_bytes(), [7; 4], [7; 4]].concat();
    let value = |i: u32| Some([i.to_be_bytes(); 25].concat());
    (0..n).for_each(|i| a.write(&key(i), value(i)));
    b.copy_from(a);
    let quarter = d / 4;
    (0..quarter).for_each(|i| a.write(&key(n + i), value(i)));
    (0..quarter).for_each(|i| b.write(&key(i * (n / d)), value(n + i)));
    (0..d - 2 * quarter).for_each(|i| b.write(&key(2 * n + i), value(i)));
}

pub(super) fn repair(planner: Planner) -> Options {
    Options { planner, ..Options::new(Intent::Repair(Direction::Both)) }
}

fn compare_only() -> Planner {
    Planner { opening: 0, ..Planner::default() }
}

/// What a session costs is pinned: a change here is seen, and is to be explained.
#[test]
fn golden_counters() {
    let mut text = String::from("records\tdifferences\tintent\tbytes\tflights\titems read\tfirst plan\n");
    for (n, d) in [(20_000, 0), (20_000, 1), (20_000, 10), (20_000, 100), (20_000, 1000), (20_000, 5000)] {
        for (name, intent) in
            [("check", Intent::Check), ("diff", Intent::Diff), ("repair", Intent::Repair(Direction::Both))]
        {
            let (mut a, mut b) = drifted(n, d.max(1), 1);
            if d == 0 {
                b.copy_from(&a);
            }
            let Run { outcome, bytes, plans, flights, .. } = run(&mut a, &mut b, Options::new(intent), World::quiet());
            let plan = plans.first().map_or(String::new(), Plan::to_string);
            let reads = a.reads + b.reads;
            text += &format!("{n}\t{d}\t{name}\t{bytes}\t{flights}\t{reads}\t{plan}\n");
            assert!(reads <= 4 * u64::from(d) + 1000 || matches!(intent, Intent::Repair(_)));
            if intent != Intent::Check {
                assert_eq!(outcome.counts.differences(), u64::from(d));
            }
        }
    }
    assert_eq!(text, include_str!("../../../tests/vectors/counters.tsv"), "as it is now:\n{text}");
}

pub(super) fn planner() -> impl Strategy<Value = Planner> {
    (0u8..80, 0u8..100, 0u8..3).prop_map(|(opening, margin, more)| Planner { opening, margin, more })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn peers_with_different_planners_end_equal(
        drift in super::drift(), mine in planner(), theirs in planner(), intent in 0usize..3,
    ) {
        let (mut a, mut b) = two(&drift, Profile::Versioned);
        b.planner = theirs;
        let expected = brute(&a, &b);
        let intent = [Intent::Diff, Intent::Repair(Direction::Both), Intent::Repair(Direction::To(crate::difference::Side::Mine))][intent];
        let options = Options { planner: mine, ..Options::new(intent) };
        let Run { outcome, found, plans, .. } = run(&mut a, &mut b, options, World::quiet());
        prop_assert_eq!(outcome.counts.differences(), expected.len() as u64, "{:?}", plans);
        match intent {
            Intent::Diff => prop_assert_eq!(found.len(), expected.len()),
            Intent::Repair(Direction::Both) => prop_assert_eq!(outcome.verdict, Verdict::InSync),
            _ => prop_assert_eq!(brute(&a, &b).len() as u64, outcome.counts.left),
        }
    }

    /// A poisoned sketch, by accident or malice: elements that no entry has, elements that are missing, any cells at all.
    #[test]
    fn nothing_that_a_sketch_says_makes_a_session_wrong(
        n in 130u32..1500, d in 1u32..60, kind in 0..5, whose: bool, noise in proptest::collection::vec(any::<u64>(), 1..9), intent in 0usize..3,
    ) {
        let (mut a, mut b) = drifted(n, d, n);
        let distort = move |_: Range, mut sketch: Sketch| {
            match kind {
                0 => noise.iter().for_each(|bits| sketch.add(Element(*bits))),
                1 => noise.iter().for_each(|bits| sketch.remove(Element(*bits))),
                // The entries of both sides look equal.
                2 => sketch = Sketch::new(sketch.cells().len()),
                3 => {
                    let cell = |i: usize| Cell { count: noise[i % noise.len()] as i64 % 3, sum: noise[(i + 1) % noise.len()], check: i as u16 };
                    sketch = Sketch::from_cells((0..sketch.cells().len()).map(cell).collect());
                }
                _ => sketch.truncate(noise[0] as usize % 7),
            }
            sketch
        };
        if kind == 2 {
            a.distort = Some(Box::new(distort.clone()));
            b.distort = Some(Box::new(distort));
        } else if whose {
            a.distort = Some(Box::new(distort));
        } else {
            b.distort = Some(Box::new(distort));
        }
        let expected = brute(&a, &b);
        let intent = [Intent::Diff, Intent::Repair(Direction::Both), Intent::Repair(Direction::To(crate::difference::Side::Theirs))][intent];
        let Run { outcome, found, .. } = run(&mut a, &mut b, Options::new(intent), World::quiet());
        match intent {
            Intent::Diff => {
                let keys: std::collections::BTreeMap<_, _> = found.iter().map(|f| (f.key.clone(), true)).collect();
                prop_assert_eq!(&keys, &expected);
                prop_assert_eq!((found.len(), outcome.verdict), (expected.len(), Verdict::Differs));
            }
            Intent::Repair(Direction::Both) => {
                prop_assert_eq!(outcome.verdict, Verdict::InSync);
                prop_assert_eq!(a.records(), b.records());
            }
            _ => {
                prop_assert_eq!(brute(&a, &b).len() as u64, outcome.counts.left);
                prop_assert_eq!(outcome.counts.differences(), expected.len() as u64);
            }
        }
    }
}

/// Two digests of a key that share their first 24 bits cancel out in every sketch: only whole digests see them.
#[test]
fn an_element_that_collides_is_found_by_comparing_ranges() {
    for intent in [Intent::Diff, Intent::Repair(Direction::Both)] {
        let (mut a, mut b) = drifted(3000, 40, 5);
        // As if the digests of all changed records collided: the first side's sketch shows the second side's elements.
        let expected = brute(&a, &b);
        let swap = |mine: &Model, theirs: &Model| -> Vec<(Element, Element)> {
            let element = |model: &Model, key: &[u8]| {
                let digest = model.worth(key)?;
                Some(Element::of(&crate::Entry { position: model.keys().position("default", key), digest }))
            };
            expected.keys().filter_map(|key| Some((element(mine, key)?, element(theirs, key)?))).collect()
        };
        let pairs = swap(&a, &b);
        assert_eq!(pairs.len(), 10);
        a.distort = Some(Box::new(move |_, mut sketch| {
            pairs.iter().for_each(|(mine, theirs)| {
                sketch.remove(*mine);
                sketch.add(*theirs);
            });
            sketch
        }));
        let Run { outcome, plans, .. } = run(&mut a, &mut b, Options::new(intent), World::quiet());
        assert_eq!(outcome.counts.differences(), 40, "{plans:?}");
        assert_eq!(a.records() == b.records(), intent != Intent::Diff);
    }
}

#[test]
fn one_lost_range_is_found_by_going_down() {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(30_000);
    b.copy_from(&a);
    let lost = b.lose(Range::ALL.child(3).child(9));
    assert!(lost > 80);
    let Run { outcome, bytes, plans, .. } = run(&mut a, &mut b, repair(Planner::default()), World::quiet());
    assert_eq!(plans[0], Plan::Compare(Why::Clustered(1)));
    assert_eq!((outcome.verdict, outcome.counts.to_theirs.applied), (Verdict::InSync, lost as u64));
    assert!(bytes <= 2000, "{bytes} bytes beyond the records");
}

#[test]
fn where_most_differs_records_are_told_of_by_marks() {
    // All changed, some on each side; half changed; a third only on each side.
    for (n, changed, apart) in [(6000u32, 6000, 0), (6000, 3000, 0), (3000, 1000, 2000)] {
        let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
        let (key, value) = (|i: u32| i.to_be_bytes(), |i: u32| Some(vec![i as u8; 100]));
        (0..n).for_each(|i| a.write(&key(i), value(i)));
        b.copy_from(&a);
        (0..changed).for_each(|i| if i % 3 == 0 { &mut a } else { &mut b }.write(&key(i), value(i + 1)));
        (n..n + apart).for_each(|i| if i % 2 == 0 { &mut a } else { &mut b }.write(&key(i), value(i)));
        let Run { outcome, bytes, plans, .. } = run(&mut a, &mut b, repair(Planner::default()), World::quiet());
        assert!(matches!(plans[0], Plan::Compare(Why::Many(_))), "{plans:?}");
        assert_eq!((outcome.verdict, outcome.counts.rounds), (Verdict::InSync, 1));
        let (counts, apart) = (outcome.counts, u64::from(apart));
        assert_eq!((counts.only_mine + counts.only_theirs, counts.differences()), (apart, apart + u64::from(changed)));
        assert_eq!(
            (counts.mine_newer, counts.theirs_newer),
            (u64::from(changed.div_ceil(3)), u64::from(changed - changed.div_ceil(3)))
        );
        for moves in [counts.to_mine, counts.to_theirs] {
            assert_eq!(moves.offered, moves.applied, "nothing needless travels");
        }
        let each = bytes as f64 / f64::from(n);
        assert!(each <= 10.0, "{each} bytes a record");
    }
}

#[test]
fn a_sketch_costs_less_than_comparing_and_no_needless_record() {
    for d in [10, 100, 1000] {
        let (mut a, mut b) = drifted(10_000, d, d);
        let (mut c, mut e) = drifted(10_000, d, d);
        let by_sketch = run(&mut a, &mut b, repair(Planner::default()), World::quiet());
        let by_ranges = run(&mut c, &mut e, repair(compare_only()), World::quiet());
        assert!(3 * by_sketch.bytes < by_ranges.bytes, "{} and {} bytes", by_sketch.bytes, by_ranges.bytes);
        for moves in [by_sketch.outcome.counts.to_mine, by_sketch.outcome.counts.to_theirs] {
            assert_eq!(moves.offered, moves.applied);
        }
        assert_eq!(a.records(), c.records());
    }
}

proptest! {
    #[test]
    fn cells_of_anyone_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), count: u64) {
        let _ = crate::sketch::CellRun::unpack_all(&bytes);
        let _ = crate::sketch::unpack_elements(&bytes);
        let mut run = vec![0];
        put_varint(&mut run, count >> 1);
        run.extend([0, 20 << 1 | (count & 1) as u8]);
        run.extend(&bytes);
        if let Ok(runs) = crate::sketch::CellRun::unpack_all(&run) {
            for run in runs {
                let sketch = Sketch::from_cells(run.cells);
                let _ = sketch.estimate(0);
                let _ = sketch.peel().rest.estimate(i64::MIN);
            }
        }
    }
}

/// Whoever offers ranges that hold more than is ever offered at once is sent away before anything of them is read.
#[test]
fn an_offer_of_too_much_is_refused_before_it_is_read() {
    for (count, refused) in [(1000, false), (1 << 20, true)] {
        let (mut a, mut b) = drifted(200, 3, 1);
        let (mut opener, mut responder) = (a.opener(repair(Planner::default())), b.responder(Rights::ALL));
        let open = loop {
            match opener.poll().expect("an opening") {
                Output::Send(message) => break message,
                Output::Ask(query) => opener.handle(Input::Answer(a.answer(query)), 0).expect("in order"),
                other => panic!("{other:?}"),
            }
        };
        responder.handle(Input::Message(open)).expect("an opening");
        while let Some(output) = responder.poll() {
            if let Output::Ask(query) = output {
                responder.handle(Input::Answer(b.answer(query))).expect("in order");
            }
        }
        let whole = Blob(crate::wire::pack_ranges(&[Range::ALL]));
        let transfer = Transfer(7, CollectionId(0));
        responder
            .handle(Input::Message(Message::Offer(Offer { transfer, whole, ..Offer::default() })))
            .expect("a look");
        let Some(Output::Ask(Query::Views(_, asks))) = responder.poll() else { panic!("it looks first") };
        let summary = Summary { count, ..Summary::EMPTY };
        let view = View { range: asks[0].range, summary, shape: Shape::Inner(vec![summary]) };
        assert_eq!(responder.handle(Input::Answer(Answer::Views(vec![view]))).is_err(), refused);
        assert_eq!(matches!(responder.poll(), Some(Output::Ask(Query::Items(..)))), !refused);
    }
}

/// While records come and are applied, more are asked for: the peer always has some to send, as long as there are any.
#[test]
fn more_is_offered_while_records_are_applied() {
    const N: u32 = 50_000;
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(N);
    b.copy_from(&a);
    (0..N).for_each(|n| b.write(&n.to_be_bytes(), Some(vec![9])));
    let (mut opener, mut responder) = (a.opener(repair(Planner::default())), b.responder(Rights::ALL));
    let (mut offers, mut ends, mut came, mut least) = (0usize, 0usize, VecDeque::new(), usize::MAX);
    // The store is slow: more has come by the time that records are applied.
    let mut applying = None;
    let outcome = 'ends: loop {
        while let Some(output) = opener.poll() {
            match output {
                Output::Ask(query @ Query::Apply(..)) => applying = Some(query),
                Output::Ask(query) => opener.handle(Input::Answer(a.answer(query)), 0).expect("in order"),
                Output::Send(message) => {
                    offers += usize::from(matches!(message, Message::Offer(_)));
                    responder.handle(Input::Message(message)).expect("in order");
                }
                Output::Done(outcome) => break 'ends outcome,
                _ => {}
            }
        }
        let mut told = Vec::new();
        while let Some(output) = responder.poll() {
            match output {
                Output::Ask(query) => responder.handle(Input::Answer(b.answer(query))).expect("in order"),
                Output::Send(message) => told.push(Input::Message(message)),
                Output::Stream { transfer, selections, given, guards } => {
                    let (records, moved) = b.stream(&selections, given, &guards);
                    let end = Input::End { transfer, records: records.len() as u64, moved };
                    came.extend([Input::Records { transfer, records }, end]);
                }
                _ => {}
            }
        }
        if told.is_empty() {
            // Sooner or later all is offered, and what is on its way runs out.
            least = least.min(if ends > 0 && ends < 8 { offers - ends } else { usize::MAX });
            let next: Vec<Input> = came.drain(..came.len().min(2)).collect();
            ends += next.iter().filter(|input| matches!(input, Input::End { .. })).count();
            told.extend(next);
            told.extend(applying.take().map(|query| Input::Answer(a.answer(query))));
        }
        told.into_iter().for_each(|input| opener.handle(input, 0).expect("in order"));
    };
    assert_eq!((outcome.verdict, outcome.counts.to_mine.applied), (Verdict::InSync, u64::from(N)));
    // All that may be on its way, but for what is being looked at.
    assert!(least >= 15, "{least} of {offers} offers");
}
