//! Sessions about several collections: what they cost, and that what their sum of sketches says makes none wrong.

use proptest::prelude::*;

use super::brute;
use super::model::Model;
use super::sketches::{drift, planner};
use super::world::{Run, World, run};
use crate::dataset::{CollectionId, Profile};
use crate::difference::Side;
use crate::message::{Message, Named, NamedIn, Rights};
use crate::range::Range;
use crate::session::{Direction, Input, Intent, Options, Output, Plan, Verdict};

/// Two sides that share all but so many of so many records, collection by collection.
fn sides(collections: &[(u32, u32)]) -> (Model, Model) {
    let empty = |actor| {
        let names = ["second", "third", "fourth"].into_iter().take(collections.len() - 1);
        names.fold(Model::new(actor, Profile::Versioned, 64), |model, name| model.beside(name))
    };
    let (mut a, mut b) = (empty(1), empty(2));
    for (nth, (n, d)) in (0..).zip(collections) {
        drift(a.of_mut(CollectionId(nth)), b.of_mut(CollectionId(nth)), *n, *d, u32::from(nth));
    }
    (a, b)
}

fn differing(a: &Model, b: &Model, collections: usize) -> u64 {
    let each = (0..collections as u16).map(CollectionId);
    each.map(|c| brute(a.of(c), b.of(c)).len() as u64).sum()
}

/// What a session about several collections costs is pinned.
#[test]
fn golden_counters_of_several_collections() {
    let mut dear = false;
    let mut text = String::from("records\tdifferences\tintent\tbytes\tflights\titems read\tfirst plan\n");
    let cases: [&[(u32, u32)]; 8] = [
        &[(20_000, 0), (20_000, 0)],
        &[(20_000, 1), (20_000, 0)],
        &[(20_000, 5), (20_000, 5)],
        &[(20_000, 0), (20_000, 10)],
        &[(20_000, 4), (100, 4)],
        &[(20_000, 50), (20_000, 50)],
        &[(20_000, 3), (8_000, 3), (1_000, 3), (0, 0)],
        &[(20_000, 500), (20_000, 0)],
    ];
    for case in cases {
        for (name, intent) in [("diff", Intent::Diff), ("repair", Intent::Repair(Direction::Both))] {
            let (mut a, mut b) = sides(case);
            let expected: u32 = case.iter().map(|(_, d)| d).sum();
            let Run { outcome, bytes, plans, flights, .. } = run(&mut a, &mut b, Options::new(intent), World::quiet());
            assert_eq!(outcome.counts.differences(), u64::from(expected));
            assert_eq!(outcome.verdict == Verdict::InSync, expected == 0 || name == "repair");
            let all = (0..case.len() as u16).map(CollectionId);
            let reads: u64 = all.map(|c| a.of(c).reads + b.of(c).reads).sum();
            match expected {
                0 => assert!(bytes <= 650 && flights == 2, "{bytes} bytes, {flights} flights"),
                1..=10 if name == "repair" && case.iter().all(|(n, _)| *n == 20_000) => {
                    dear |= bytes > 900 || flights > 3;
                }
                _ => {}
            }
            let [n, d] = [|c: &(u32, u32)| c.0, |c: &(u32, u32)| c.1]
                .map(|of| case.iter().map(|c| of(c).to_string()).collect::<Vec<_>>().join(" + "));
            let plan = plans.first().map_or(String::new(), Plan::to_string);
            text += &format!("{n}\t{d}\t{name}\t{bytes}\t{flights}\t{reads}\t{plan}\n");
        }
    }
    assert!(!dear, "ten differences take 900 bytes and three flights:\n{text}");
    assert_eq!(text, include_str!("../../../tests/vectors/counters-several.tsv"), "as it is now:\n{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn several_collections_end_equal_however_each_side_plans(
        each in proptest::collection::vec((0u32..700, 0u32..9), 2..5), mine in planner(), theirs in planner(),
        intent in 0usize..3, alone: bool,
    ) {
        let each: Vec<(u32, u32)> = each.into_iter().map(|(n, d)| (n, d.min(n))).collect();
        let (mut a, mut b) = sides(&each);
        if alone {
            a.of_mut(CollectionId(1)).lose(Range::ALL);
        }
        b.planner = theirs;
        let expected = differing(&a, &b, each.len());
        let intent = [Intent::Diff, Intent::Repair(Direction::Both), Intent::Repair(Direction::To(Side::Mine))][intent];
        let Run { outcome, found, plans, .. } =
            run(&mut a, &mut b, Options { planner: mine, ..Options::new(intent) }, World::quiet());
        prop_assert_eq!(outcome.counts.differences(), expected, "{:?}", plans);
        match intent {
            Intent::Diff => prop_assert_eq!(found.len() as u64, expected),
            Intent::Repair(Direction::Both) => {
                prop_assert_eq!((outcome.verdict, differing(&a, &b, each.len())), (Verdict::InSync, 0));
                for moves in [&outcome.counts.to_mine, &outcome.counts.to_theirs] {
                    prop_assert_eq!(moves.offered, moves.applied, "{:?}", plans);
                }
            }
            _ => prop_assert_eq!(differing(&a, &b, each.len()), outcome.counts.left),
        }
    }
}

/// What nobody asked for, or speaks of what it cannot know, ends a session.
#[test]
fn differences_are_named_once_and_only_where_they_were_shown() {
    let each = |collection: &[u16]| {
        let each = collection.iter().map(|c| NamedIn {
            collection: CollectionId(*c),
            mine: Default::default(),
            marks: Default::default(),
            unclear: Default::default(),
        });
        Named { each: each.collect(), ..Named::default() }
    };
    let open = |c| Named { open: vec![CollectionId(c)], ..Named::default() };
    for (named, taken) in
        [(each(&[0, 1]), true), (each(&[2]), false), (open(0), false), (open(7), false), (open(2), true)]
    {
        let (mut a, mut b) = sides(&[(300, 1), (300, 1), (40, 0)]);
        let (mut opener, mut responder) = (a.opener(Options::new(Intent::Diff)), b.responder(Rights::ALL));
        let mut accepted = None;
        while accepted.is_none() {
            while let Some(output) = opener.poll() {
                match output {
                    Output::Ask(query) => opener.handle(Input::Answer(a.answer(query)), 0).expect("in order"),
                    Output::Send(message) => responder.handle(Input::Message(message)).expect("in order"),
                    other => panic!("{other:?}"),
                }
            }
            match responder.poll().expect("it answers") {
                Output::Ask(query) => responder.handle(Input::Answer(b.answer(query))).expect("in order"),
                Output::Send(message) => accepted = Some(message),
                _ => {}
            }
        }
        opener.handle(Input::Message(accepted.expect("an acceptance")), 0).expect("it is accepted");
        let took = opener.handle(Input::Message(Message::Named(named.clone())), 0).is_ok();
        assert_eq!(took, taken, "{named:?}");
        assert!(opener.handle(Input::Message(Message::Named(named)), 0).is_err(), "once");
    }
}
