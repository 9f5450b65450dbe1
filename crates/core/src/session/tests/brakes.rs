//! Brakes in sessions over model stores: what is refused is refused before anything is written, what passes costs nothing.

use super::*;
use crate::brakes::{Brakes, Limit, Loss, Losses};
use crate::range::Range;
use crate::record::{Content, State};

fn live(model: &Model, key: &[u8]) -> Option<Vec<u8>> {
    match &model.records().get(key)?.winner().content {
        Content::Live(value) => Some(value.clone()),
        Content::Tombstone => None,
    }
}

/// What the first side has lost since, key by key.
fn lost(before: &BTreeMap<Vec<u8>, State>, after: &Model) -> Losses {
    let mut losses = Losses::default();
    for (key, state) in before {
        losses.add(Loss::of_states(Some(state), after.records().get(key)));
    }
    losses
}

fn limits(losses: Losses) -> Brakes {
    Brakes { delete: Limit::records(losses.deleted), change: Limit::records(losses.changed), shrunken: true }
}

/// The larger of both, in both.
fn most(a: Losses, b: Losses) -> Losses {
    Losses { deleted: a.deleted.max(b.deleted), changed: a.changed.max(b.changed) }
}

/// Which sides are written, which becomes a mirror and which is preferred.
fn intents() -> impl Strategy<Value = (Direction, Option<Side>, Option<Side>)> {
    prop_oneof![
        3 => Just((Direction::Both, None, None)),
        1 => Just((Direction::To(Side::Mine), None, None)),
        1 => Just((Direction::To(Side::Theirs), None, None)),
        1 => Just((Direction::Both, Some(Side::Mine), None)),
        1 => Just((Direction::Both, Some(Side::Theirs), None)),
        1 => Just((Direction::Both, None, Some(Side::Mine))),
        1 => Just((Direction::Both, None, Some(Side::Theirs))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// Limits of exactly what a session loses, with what was lost in those before, let it pass; one less stops it before anything is
    /// written.
    #[test]
    fn the_brakes_hold_exactly(
        drift in drift(),
        content: bool,
        (direction, mirror, prefer) in intents(),
        opening in 0u8..2,
        earlier in (0u64..9, 0u64..9),
    ) {
        let earlier = Losses { deleted: earlier.0, changed: earlier.1 };
        let world = || World { lost: (earlier, earlier), ..World::quiet() };
        let profile = if content { Profile::Content } else { Profile::Versioned };
        let planner = Planner { opening: opening * 28, ..Planner::default() };
        // A digest that is too short to be relied on shows itself only after something was written.
        let drift = Drift { width: 6, ..drift };
        let options = Options { mirror, prefer, planner, ..options(Intent::Repair(direction), &drift) };
        let (mut a, mut b) = two(&drift, profile);
        let before = (a.records().clone(), b.records().clone());
        let free = run(&mut a, &mut b, options.clone(), World::quiet());
        let losses = most(lost(&before.0, &a), lost(&before.1, &b));
        let after = (a.records().clone(), b.records().clone());

        let (mut a, mut b) = two(&drift, profile);
        let braked = Options { brakes: Some(limits(losses.and(earlier))), ..options.clone() };
        let passed = run(&mut a, &mut b, braked, world());
        prop_assert_eq!(passed.outcome.verdict, free.outcome.verdict, "{:?}", passed.outcome);
        prop_assert_eq!(lost(&before.0, &a), lost(&before.0, &with(&after.0, &a)));

        for less in [Losses { deleted: losses.deleted.wrapping_sub(1), ..losses }, Losses { changed: losses.changed.wrapping_sub(1), ..losses }] {
            // A kind of which nothing is lost is not held against it, whatever was lost before.
            if less.deleted == u64::MAX || less.changed == u64::MAX {
                continue;
            }
            let (losses, less) = (losses.and(earlier), less.and(earlier));
            let (mut a, mut b) = two(&drift, profile);
            let options = Options { brakes: Some(limits(less)), ..options.clone() };
            let stopped = run(&mut a, &mut b, options, world()).outcome;
            prop_assert_eq!(stopped.verdict, Verdict::Refused, "{:?}", stopped);
            let told = stopped.braked.expect("told");
            prop_assert_eq!((told.allowed, told.before), (less, earlier));
            prop_assert!(told.losses == losses || !told.losses.within(&less));
            let kind = if told.losses.deleted > less.deleted { Loss::Deleted } else { Loss::Changed };
            prop_assert!((1..=3).contains(&told.samples.of(kind).len()));
            // Where all keys lie at one position, some show themselves only once others are out of the way.
            if drift.position_bits > 0 {
                prop_assert_eq!((a.records(), b.records()), (&before.0, &before.1), "something was written");
            }
        }
    }
}

/// A model that holds these records.
fn with(records: &BTreeMap<Vec<u8>, State>, like: &Model) -> Model {
    let mut model = Model::new(9, Profile::Versioned, 64);
    model.copy_from(like);
    model.put_all(records);
    model
}

/// Two sides of so many records, of which the second changed some and deleted some.
fn changed(n: u32, changes: u32, deletes: u32) -> (Model, Model) {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(n);
    b.copy_from(&a);
    (0..changes).for_each(|i| b.write(&(i * 7 % n).to_be_bytes(), Some(vec![1])));
    (changes..changes + deletes).for_each(|i| b.write(&(i * 7 % n).to_be_bytes(), None));
    (a, b)
}

const BOTH: Intent = Intent::Repair(Direction::Both);

fn braked(intent: Intent) -> Options {
    Options { brakes: Some(Brakes::default()), ..Options::new(intent) }
}

#[test]
fn small_repairs_cost_what_they_cost_without_brakes() {
    for (changes, deletes) in [(1, 0), (3, 3), (8, 2), (90, 9), (300, 0)] {
        let cost = |options: Options| {
            let (mut a, mut b) = changed(5000, changes, deletes);
            let ran = run(&mut a, &mut b, options, World::quiet());
            assert_eq!(ran.outcome.verdict, Verdict::InSync);
            (ran.outcome.counts.flights, ran.outcome.counts.messages, ran.bytes, ran.whole, ran.flights)
        };
        assert_eq!(cost(braked(BOTH)), cost(Options::new(BOTH)), "{changes} changes, {deletes} deletes");
    }
}

#[test]
fn filling_a_side_is_never_braked() {
    for (one, other) in [(0, 3000), (3, 3000), (3000, 0), (3000, 11)] {
        let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
        a.fill(one.max(other));
        b.copy_from(&a);
        let side = if one < other { &mut a } else { &mut b };
        let mut few = Model::new(3, Profile::Versioned, 64);
        few.fill(one.min(other));
        side.copy_from(&few);
        let none = Brakes { delete: Limit::records(0), change: Limit::records(0), shrunken: false };
        let options = Options { brakes: Some(none), ..Options::new(BOTH) };
        // The same keys may have been written twice, apart; only what is missing counts here.
        few.put_all(&BTreeMap::new());
        let ran = run(&mut a, &mut b, options, World::quiet());
        assert!(matches!(ran.outcome.verdict, Verdict::InSync), "{one} {other} {:?}", ran.outcome);
    }
}

#[test]
fn what_loses_nothing_goes_on_however_much_was_lost_before() {
    let much = Losses { deleted: 700, changed: 7000 };
    let world = || World { lost: (much, much), ..World::quiet() };
    let (mut a, mut b) = changed(5000, 0, 0);
    (5000..5300u32).for_each(|i| b.write(&i.to_be_bytes(), Some(vec![1])));
    let outcome = run(&mut a, &mut b, braked(BOTH), world()).outcome;
    assert_eq!((outcome.verdict, outcome.counts.to_mine.applied), (Verdict::InSync, 300), "{outcome:?}");
    b.write(&7u32.to_be_bytes(), None);
    let outcome = run(&mut a, &mut b, braked(BOTH), world()).outcome;
    let told = outcome.braked.expect("told");
    assert_eq!((outcome.verdict, told.side, told.losses.deleted), (Verdict::Refused, Side::Mine, 701));
}

#[test]
fn a_mirror_of_what_shrank_is_braked_until_it_is_allowed() {
    for side in [Side::Mine, Side::Theirs] {
        for (source, goes) in [(0, false), (39, false), (40, true), (80, true)] {
            let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
            a.fill(80);
            b.copy_from(&a);
            let mut few = Model::new(3, Profile::Versioned, 64);
            few.fill(source);
            let small = if side == Side::Mine { &mut b } else { &mut a };
            small.copy_from(&few);
            let before = (a.records().clone(), b.records().clone());
            let loose = Brakes { delete: Limit::records(80), change: Limit::records(80), shrunken: false };
            let options = Options { brakes: Some(loose), mirror: Some(side), ..Options::new(BOTH) };
            let outcome = run(&mut a, &mut b, options.clone(), World::quiet()).outcome;
            if goes {
                assert_eq!(outcome.verdict, Verdict::InSync, "{side:?} {source} {outcome:?}");
                continue;
            }
            let told = outcome.braked.expect("told");
            assert_eq!((outcome.verdict, told.side, told.shrunken), (Verdict::Refused, side, Some(source.into())));
            assert_eq!(told.losses.deleted, 80 - u64::from(source));
            assert_eq!((a.records(), b.records()), (&before.0, &before.1));
            let options = Options { brakes: Some(Brakes { shrunken: true, ..loose }), ..options };
            let outcome = run(&mut a, &mut b, options, World::quiet()).outcome;
            assert_eq!(outcome.verdict, Verdict::InSync, "{outcome:?}");
            assert!((0..80u32).all(|i| live(&a, &i.to_be_bytes()).is_some() == (i < source)));
        }
    }
}

#[test]
fn a_responder_refuses_what_would_lose_it_too_much() {
    let (mut a, mut b) = changed(5000, 1200, 600);
    let before = a.records().clone();
    let world = |brakes| World { brakes: Some(brakes), ..World::quiet() };
    // Sides swapped: the one that changed opens, and pushes.
    let outcome = run(&mut b, &mut a, Options::new(BOTH), world(Brakes::default())).outcome;
    assert_eq!(outcome.verdict, Verdict::Refused, "{outcome:?}");
    assert!(outcome.reason.contains("of at most 500") && outcome.reason.contains("of at most 1000"), "{outcome:?}");
    let lost = lost(&before, &a);
    assert!(lost.within(&Losses { deleted: 500, changed: 1000 }), "{lost:?}");
    assert!(outcome.counts.to_theirs.applied >= lost.deleted + lost.changed);
    let loose = Brakes { delete: Limit::records(600), change: Limit::records(1200), shrunken: false };
    assert_eq!(run(&mut b, &mut a, Options::new(BOTH), world(loose)).outcome.verdict, Verdict::InSync);
    assert_eq!(live(&a, &0u32.to_be_bytes()), Some(vec![1]));
}

#[test]
fn more_differences_than_are_gathered_are_counted_first() {
    let brakes = |changed| Brakes { delete: Limit::records(10), change: Limit::records(changed), shrunken: false };
    for (limit, verdict) in [(69_999, Verdict::Refused), (70_000, Verdict::InSync)] {
        let (mut a, mut b) = changed(70_001, 70_000, 0);
        let before = (a.records().clone(), b.records().clone());
        let options = Options { brakes: Some(brakes(limit)), ..Options::new(BOTH) };
        let outcome = run(&mut a, &mut b, options, World::quiet()).outcome;
        assert_eq!(outcome.verdict, verdict, "{outcome:?}");
        if verdict == Verdict::Refused {
            assert_eq!(outcome.braked.expect("told").losses.changed, 70_000);
            assert_eq!((a.records(), b.records()), (&before.0, &before.1));
        } else {
            assert_eq!((outcome.counts.theirs_newer, outcome.counts.to_mine.applied), (70_000, 70_000));
        }
    }
}

#[test]
fn a_lost_range_and_a_few_changes_are_told_apart() {
    let (mut a, mut b) = changed(20_000, 150, 15);
    let range = Range::ALL.child(3);
    let gone = a.lose(range);
    assert!(gone > 1000);
    let tight = Brakes { delete: Limit::records(1), ..Brakes::default() };
    let before = (a.records().clone(), b.records().clone());
    let options = Options { brakes: Some(tight), ..Options::new(BOTH) };
    let outcome = run(&mut a, &mut b, options, World::quiet()).outcome;
    let told = outcome.braked.expect("told");
    assert!((10..=15).contains(&told.losses.deleted), "{told:?}");
    assert_eq!((a.records(), b.records()), (&before.0, &before.1));
    assert_eq!(run(&mut a, &mut b, braked(BOTH), World::quiet()).outcome.verdict, Verdict::InSync);
}
