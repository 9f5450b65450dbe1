//! Two sessions in one thread over model stores, against brute force.

mod base;
mod brakes;
mod crowd;
mod earlier;
mod expiry;
mod hostile;
mod joint;
mod levels;
mod lives;
mod lost;
mod model;
mod parked;
mod party;
mod picked;
mod prefer;
mod receipts;
mod sketches;
mod standing;
mod unproven;
mod versions;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::dataset::Profile;
use crate::difference::{Kind, Side};
use crate::receipt::Receipt;
use model::Model;
use world::{Run, World, run};

fn key(n: u16) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

/// Writes that both sides share, then writes of each side alone.
#[derive(Clone, Debug)]
struct Drift {
    shared: Vec<(u16, Option<u8>)>,
    mine: Vec<(u16, Option<u8>)>,
    theirs: Vec<(u16, Option<u8>)>,
    position_bits: u32,
    width: u8,
}

fn drift() -> impl Strategy<Value = Drift> {
    let writes = |n: usize| proptest::collection::vec((0u16..3000, proptest::option::weighted(0.8, 0u8..4)), 0..n);
    let bits = prop_oneof![4 => Just(64u32), 1 => Just(5), 1 => Just(0)];
    let width = prop_oneof![3 => Just(6u8), 1 => Just(1), 1 => Just(32)];
    let shared = prop_oneof![writes(3000), writes(40), writes(2)];
    let own = || prop_oneof![writes(40), writes(400), writes(1)];
    (shared, own(), own(), bits, width).prop_map(|(shared, mine, theirs, position_bits, width)| {
        // Positions that all collide cost a list of everything; keep those sets small.
        let few = if position_bits < 64 { 300 } else { 3000 };
        let cut = |writes: Vec<(u16, Option<u8>)>| writes.into_iter().take(few).collect();
        Drift { shared: cut(shared), mine: cut(mine), theirs: cut(theirs), position_bits, width }
    })
}

fn two(drift: &Drift, profile: Profile) -> (Model, Model) {
    let (mut a, mut b) = (Model::new(1, profile, drift.position_bits), Model::new(2, profile, drift.position_bits));
    for (n, value) in &drift.shared {
        a.write(&key(*n), value.map(|v| vec![v]));
    }
    b.copy_from(&a);
    drift.mine.iter().for_each(|(n, value)| a.write(&key(*n), value.map(|v| vec![v])));
    drift.theirs.iter().for_each(|(n, value)| b.write(&key(*n), value.map(|v| vec![v, 100])));
    (a, b)
}

/// A width of one byte makes wrong "equal"s common; only a repair of both sides can see them, by the roots.
fn options(intent: Intent, drift: &Drift) -> Options {
    let seen = intent == Intent::Repair(Direction::Both);
    let requests = if drift.shared.len().is_multiple_of(2) { 1 } else { crate::bounds::REQUESTS_MAX };
    Options { width: if seen { drift.width } else { drift.width.max(6) }, requests, ..Options::new(intent) }
}

/// Keys that differ, by comparing the maps.
fn brute(a: &Model, b: &Model) -> BTreeMap<Vec<u8>, bool> {
    let keys = a.records().keys().chain(b.records().keys());
    keys.filter(|k| a.worth(k) != b.worth(k)).map(|k| (k.clone(), true)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_diff_is_exact_and_changes_nothing(drift in drift(), content: bool) {
        let profile = if content { Profile::Content } else { Profile::Versioned };
        let (mut a, mut b) = two(&drift, profile);
        let expected = brute(&a, &b);
        let before = (a.records().clone(), b.records().clone());
        let Run { outcome, found, .. } = run(&mut a, &mut b, options(Intent::Diff, &drift), World::quiet());
        let keys: BTreeMap<Vec<u8>, bool> = found.iter().map(|d| (d.key.clone(), d.stable)).collect();
        prop_assert_eq!(keys, expected.clone());
        prop_assert_eq!(found.len(), expected.len());
        prop_assert_eq!(outcome.counts.differences(), expected.len() as u64);
        prop_assert_eq!(outcome.verdict, if expected.is_empty() { Verdict::InSync } else { Verdict::Differs });
        prop_assert_eq!(before, (a.records().clone(), b.records().clone()));
    }

    #[test]
    fn a_repair_makes_both_sides_equal_and_moves_only_what_differs(drift in drift()) {
        let (mut a, mut b) = two(&drift, Profile::Versioned);
        let expected = brute(&a, &b);
        let keys = a.keys().clone();
        let mut joined = a.records().clone();
        for (key, state) in b.records() {
            joined.entry(key.clone()).and_modify(|mine| *mine = mine.join(state, a.keeps(), &keys)).or_insert_with(|| state.clone());
        }
        let all = options(Intent::Repair(Direction::Both), &drift);
        let Run { outcome, .. } = run(&mut a, &mut b, all.clone(), World::quiet());
        prop_assert_eq!(outcome.verdict, Verdict::InSync, "{:?}", outcome);
        prop_assert_eq!(a.records(), &joined);
        prop_assert_eq!(b.records(), &joined);
        let counts = &outcome.counts;
        prop_assert_eq!(counts.to_mine.applied + counts.to_theirs.applied, expected.len() as u64);
        for moves in [counts.to_mine, counts.to_theirs] {
            prop_assert_eq!(moves.offered, moves.applied + moves.kept + moves.moved + moves.refused);
            prop_assert_eq!(moves.offered - moves.moved, moves.applied, "nothing needless travels");
        }
        prop_assert_eq!(counts.differences(), expected.len() as u64);
        let again = run(&mut a, &mut b, all, World::quiet());
        prop_assert_eq!((again.outcome.verdict, again.outcome.counts.messages), (Verdict::InSync, 2 + 1));
    }

    #[test]
    fn a_repair_to_one_side_writes_only_that_side(drift in drift(), theirs: bool) {
        let (mut a, mut b) = two(&drift, Profile::Versioned);
        let (side, untouched) = if theirs { (Side::Theirs, a.records().clone()) } else { (Side::Mine, b.records().clone()) };
        let Run { outcome, plans, .. } = run(&mut a, &mut b, options(Intent::Repair(Direction::To(side)), &drift), World::quiet());
        let other = if theirs { &a } else { &b };
        prop_assert_eq!(other.records(), &untouched);
        let left = brute(&a, &b);
        prop_assert_eq!(outcome.counts.left, left.len() as u64, "{:?}", plans);
        prop_assert_eq!(outcome.verdict, if left.is_empty() { Verdict::InSync } else { Verdict::Differs });
    }

    #[test]
    fn a_mirror_is_exactly_the_other_side_and_both_have_one_root(drift in drift(), theirs: bool, content: bool) {
        let (mut a, mut b) = two(&drift, if content { Profile::Content } else { Profile::Versioned });
        let side = if theirs { Side::Theirs } else { Side::Mine };
        let values = |m: &Model| m.records().iter().filter_map(|(k, s)| Some((k.clone(), s.value()?.to_vec()))).collect::<BTreeMap<_, _>>();
        let source = if theirs { values(&a) } else { values(&b) };
        let mut all = options(Intent::Repair(Direction::Both), &drift);
        all.mirror = Some(side);
        let Run { outcome, .. } = run(&mut a, &mut b, all, World::quiet());
        prop_assert_eq!(outcome.verdict, Verdict::InSync, "{:?}", outcome);
        prop_assert_eq!(values(&a), source.clone());
        prop_assert_eq!(values(&b), source);
        if !content {
            prop_assert_eq!(a.records(), b.records());
        }
        let moved = outcome.counts.to_mine.applied + outcome.counts.to_theirs.applied;
        prop_assert!(!content || moved == outcome.counts.differences(), "{:?}", outcome.counts);
    }

    #[test]
    fn writers_on_both_sides_never_make_a_verdict_false(drift in drift(), seed: u64) {
        let (mut a, mut b) = two(&drift, Profile::Versioned);
        let (cut_a, cut_b) = (a.records().clone(), b.records().clone());
        let Run { outcome, .. } = run(&mut a, &mut b, options(Intent::Repair(Direction::Both), &drift), World::written(seed));
        prop_assert!(matches!(outcome.verdict, Verdict::InSync | Verdict::Converged), "{:?}", outcome);
        for key in cut_a.keys().chain(cut_b.keys()) {
            for (cut, own, other) in [(&cut_a, &a, &b), (&cut_b, &b, &a)] {
                let Some(state) = cut.get(key) else { continue };
                // A key that was written since the cut is in flight; the next session moves it.
                if own.records()[key] == *state {
                    let there = other.records().get(key).map(|now| now.join(state, a.keeps(), a.keys()) == *now);
                    prop_assert_eq!(there, Some(true), "what stood at the cut is everywhere, or something newer is");
                }
            }
        }
        let settled = run(&mut a, &mut b, options(Intent::Repair(Direction::Both), &drift), World::quiet());
        prop_assert_eq!(settled.outcome.verdict, Verdict::InSync);
    }

    #[test]
    fn a_check_tells_equal_from_different(drift in drift()) {
        let (mut a, mut b) = two(&drift, Profile::Versioned);
        let expected = brute(&a, &b).len() as u64;
        let Run { outcome, .. } = run(&mut a, &mut b, options(Intent::Check, &drift), World::quiet());
        prop_assert_eq!(outcome.verdict, if expected == 0 { Verdict::InSync } else { Verdict::Differs });
        if let Some(estimate) = outcome.estimate {
            prop_assert!(estimate.low <= estimate.likely && estimate.likely <= estimate.high);
        }
    }

    #[test]
    fn any_bytes_end_a_session_without_a_panic(noise in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..20), kind in 1u8..12) {
        let mut model = Model::new(1, Profile::Versioned, 64);
        (0..100).for_each(|n| model.write(&key(n), Some(vec![1])));
        let mut responder = model.responder(crate::message::Rights::ALL);
        let mut opener = model.opener(Options::new(Intent::Diff));
        for mut frame in noise {
            frame.insert(0, kind);
            if let Ok(message) = Message::decode(&frame) {
                prop_assert_eq!(Message::decode(&message.encode()), Ok(message.clone()));
                let _ = responder.handle(Input::Message(message.clone()));
                let _ = opener.handle(Input::Message(message), 0);
            }
            let _ = crate::wire::RecordFrame::decode(&frame);
        }
    }
}

#[test]
fn one_difference_in_many_costs_a_few_kilobytes_and_three_round_trips() {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(100_000);
    b.copy_from(&a);
    b.write(b"one more", Some(vec![1]));
    let Run { outcome, bytes, found, .. } = run(&mut a, &mut b, Options::new(Intent::Diff), World::quiet());
    assert_eq!((outcome.verdict, found.len()), (Verdict::Differs, 1));
    assert_eq!(found[0].kind, Kind::Only(Side::Theirs));
    assert!(bytes <= 4000 && outcome.counts.flights <= 9, "{bytes} bytes, {} flights", outcome.counts.flights);
}

#[test]
fn equal_stores_cost_two_small_frames() {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(1000);
    b.copy_from(&a);
    let Run { outcome, bytes, .. } = run(&mut a, &mut b, Options::new(Intent::Check), World::quiet());
    assert_eq!((outcome.verdict, outcome.counts.messages), (Verdict::InSync, 2));
    assert!(bytes <= 200, "{bytes} bytes");
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let check = |change: &dyn Fn(&mut Model, &mut Model), rights, reason: &str| {
        let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
        a.write(b"k", Some(vec![1]));
        change(&mut a, &mut b);
        let before = (a.records().clone(), b.records().clone());
        let world = World { rights, ..World::quiet() };
        let outcome = run(&mut a, &mut b, Options::new(Intent::Repair(Direction::Both)), world).outcome;
        assert_eq!(outcome.verdict, Verdict::Refused);
        assert!(outcome.reason.contains(reason), "{}", outcome.reason);
        assert_eq!(before, (a.records().clone(), b.records().clone()));
    };
    use crate::message::Rights;
    check(&|_, b| b.definition_mut().id = crate::DatasetId([9; 16]), Rights::ALL, "no such dataset");
    check(&|_, b| b.definition_mut().key_index = false, Rights::ALL, "differ in: key_index");
    let other_policy = |_: &mut Model, b: &mut Model| b.definition_mut().collections[0].policy = "keep-both/1".into();
    check(&other_policy, Rights::ALL, "differ in: policy of default (newest/1 here, keep-both/1 there)");
    check(&|_, _| (), Rights::COMPARE.and(Rights::READ), "no right to write");
    check(&|_, _| (), Rights::default(), "no right to compare,read,write");
    check(&|a, b| b.life = a.life, Rights::ALL, "one store");
}

/// An opener that listed leaf by leaf once had more requests under way than a responder takes.
#[test]
fn many_scattered_differences_never_ask_more_at_once_than_is_allowed() {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(60_000);
    b.copy_from(&a);
    (0..300u32).for_each(|n| b.write(&(n * 199).to_be_bytes(), Some(vec![9])));
    let Run { outcome, .. } = run(&mut a, &mut b, Options::new(Intent::Repair(Direction::Both)), World::quiet());
    assert_eq!((outcome.verdict, outcome.counts.to_mine.applied), (Verdict::InSync, 300));
}

/// Items of the longest keys once made frames above their cap.
#[test]
fn the_longest_keys_fit_the_frames() {
    let mut a = Model::new(1, Profile::Versioned, 64);
    let mut b = Model::new(2, Profile::Versioned, 64);
    let long = |n: u8, bytes: usize| [vec![n], vec![7; bytes - 1]].concat();
    for n in 0..20 {
        let bytes = if n % 3 == 0 { crate::bounds::KEY_BYTES_MAX } else { 30_000 };
        a.write(&long(n, bytes), Some(vec![1]));
        b.write(&long(n, bytes), Some(vec![2]));
    }
    let diff = run(&mut a, &mut b, Options::new(Intent::Diff), World::quiet());
    assert_eq!((diff.outcome.verdict, diff.found.len()), (Verdict::Differs, 20));
    let repair = run(&mut a, &mut b, Options::new(Intent::Repair(Direction::Both)), World::quiet());
    assert_eq!(repair.outcome.verdict, Verdict::InSync);
}

/// The roots that end a repair hold what was sent just before, whichever lane is faster.
#[test]
fn live_roots_wait_for_the_records_that_they_are_to_hold() {
    use crate::CollectionId;
    use crate::message::{AskRoots, Rights, Transfer};
    use crate::query::{Guard, Incoming};
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.write(b"k", Some(vec![1]));
    let mut opener = a.opener(Options::new(Intent::Check));
    let mut responder = b.responder(Rights::ALL);
    let mut hand = |input| {
        responder.handle(input)?;
        let mut told = Vec::new();
        while let Some(output) = responder.poll() {
            match output {
                Output::Ask(query) => responder.handle(Input::Answer(b.answer(query)))?,
                Output::Send(message) => told.push(message),
                _ => unreachable!("nothing is streamed or judged here"),
            }
        }
        Ok::<_, SessionError>(told)
    };
    while let Some(output) = opener.poll() {
        match output {
            Output::Ask(query) => opener.handle(Input::Answer(a.answer(query)), 0).expect("in order"),
            Output::Send(open) => drop(hand(Input::Message(open)).expect("opened")),
            _ => unreachable!("it has only begun"),
        }
    }
    let ask = |after| Input::Message(Message::AskRoots(AskRoots { after }));
    assert!(matches!(hand(ask(0)).as_deref(), Ok([Message::Roots(roots)]) if roots.roots[0].count == 0));
    let transfer = Transfer(0, CollectionId(0));
    assert_eq!(hand(ask(1)), Ok(Vec::new()));
    let record = a.records().iter().map(|(key, state)| crate::Record { key: key.clone(), state: state.clone() }).next();
    let records = vec![Incoming { record: record.expect("written"), guard: Guard::Join }];
    assert_eq!(hand(Input::Records { transfer, records }), Ok(Vec::new()), "not durable yet");
    let told = hand(Input::End { transfer, records: 1, moved: 0 }).expect("durable");
    let [Message::Written(written), Message::Roots(roots)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((written.applied, roots.roots[0].count, roots.moved), (1, 1, false));
    // Who asks again before the answer has lost count.
    assert_eq!(hand(ask(2)), Ok(Vec::new()));
    assert!(hand(ask(2)).is_err());
}

/// Records may take long to be sent, and roots are asked for before: whoever is written meanwhile looks again.
#[test]
fn a_write_while_records_are_sent_costs_no_round() {
    let repair = || Options::new(Intent::Repair(Direction::Both));
    let ends = |late, alone: u8| {
        let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
        a.fill(1000);
        b.copy_from(&a);
        a.write(b"only here", Some(vec![alone]));
        let run = run(&mut a, &mut b, repair(), World { late, ..World::quiet() });
        (run.outcome.verdict, run.outcome.counts.rounds, a.records() == b.records())
    };
    assert_eq!(ends(0, 1), (Verdict::InSync, 1, true));
    // What was written is a difference of its own, for the second round.
    assert_eq!(ends(1, 2), (Verdict::InSync, 2, true));
    // One that is written at each look has no verdict but that of the cut.
    assert_eq!(ends(u8::MAX, 3).0, Verdict::Converged);
}
