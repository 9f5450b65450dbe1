//! Sides whose tombstones were collected up to different horizons.

use super::model::Model;
use super::world::{World, run};
use crate::collect::{Horizon, Passed};
use crate::dataset::Profile;
use crate::difference::Side;
use crate::life::Sighting;
use crate::message::Rights;
use crate::session::{Behind, Direction, Intent, Options, Other, Outcome, Verdict};
use crate::stamp::Stamp;

const BOTH: Intent = Intent::Repair(Direction::Both);

/// Two sides that have met and hold the same, tombstones among it.
fn met() -> (Model, Model) {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    (0..300u16).for_each(|n| a.write(&n.to_be_bytes(), Some(vec![1])));
    (0..90u16).for_each(|n| a.write(&n.to_be_bytes(), None));
    assert_eq!(repaired(&mut a, &mut b, BOTH).verdict, Verdict::InSync);
    (a, b)
}

fn repaired(a: &mut Model, b: &mut Model, intent: Intent) -> Outcome {
    run(a, b, Options::new(intent), World::quiet()).outcome
}

/// A horizon beyond all that is there, which vouches for these.
fn horizon(passed: &[&Model]) -> Horizon {
    let met = |model: &Model| Sighting { nonce: model.life.nonce, commit: model.commit() };
    let passed = passed.iter().map(|model| Passed {
        actor: model.life.actor,
        met: met(model),
        everywhere: model.commit(),
        undone: 0,
    });
    Horizon { stamp: Stamp::at(2_000_000), passed: passed.collect() }
}

#[test]
fn whoever_has_passed_a_horizon_is_raised_to_it_first_in_either_direction() {
    for opens in [true, false] {
        let (mut a, mut b) = met();
        a.collect(horizon(&[&a, &b]));
        assert_eq!((a.records().len(), b.records().len()), (210, 300));
        // Only the keeper of tombstones would bring them back.
        let mut session =
            |intent| if opens { repaired(&mut a, &mut b, intent) } else { repaired(&mut b, &mut a, intent) };
        let first = session(BOTH);
        assert_eq!((first.verdict, first.raised, first.behind), (Verdict::Undetermined, true, None));
        assert_eq!(first.counts.to_mine.offered + first.counts.to_theirs.offered, 0);
        let second = session(BOTH);
        assert_eq!((second.verdict, second.raised, second.counts.differences()), (Verdict::InSync, false, 0));
        assert_eq!((a.records().len(), b.records().len()), (210, 210));
        assert_eq!(a.horizon, b.horizon, "who has passed it is handed on");
    }
}

#[test]
fn whoever_has_not_passed_a_horizon_gives_nothing() {
    for opens in [true, false] {
        let (mut a, mut b) = met();
        a.collect(horizon(&[&a]));
        a.undone = 7;
        b.write(&100u16.to_be_bytes(), Some(vec![7]));
        let first = if opens { repaired(&mut a, &mut b, BOTH) } else { repaired(&mut b, &mut a, BOTH) };
        let (side, told, other) = match opens {
            true => (Side::Theirs, Horizon::default(), Other { actor: 2, undone: 0 }),
            false => (Side::Mine, a.horizon.clone(), Other { actor: 1, undone: 7 }),
        };
        assert_eq!(first.verdict, Verdict::Undetermined);
        assert_eq!((first.behind, first.other), (Some(Behind { side, horizon: told }), Some(other)));
        assert_eq!((a.records().len(), b.records().len(), b.horizon.stamp), (210, 300, Stamp(0)));
    }
}

#[test]
fn a_store_that_is_not_where_it_was_vouched_for_is_behind() {
    let (mut a, mut b) = met();
    let mut ahead = horizon(&[&a, &b]);
    ahead.passed[1].met.commit += 1;
    a.collect(ahead);
    let behind = repaired(&mut b, &mut a, BOTH).behind.expect("behind");
    assert_eq!(behind.side, Side::Mine);
    // It has another actor: so it was restored, or copied.
    let (mut a, mut b) = met();
    a.collect(horizon(&[&a, &b]));
    b.life.actor = 77;
    assert!(repaired(&mut a, &mut b, BOTH).behind.is_some());
}

#[test]
fn one_direction_raises_only_what_it_may_write_and_looking_raises_nothing() {
    let (mut a, mut b) = met();
    a.collect(horizon(&[&a, &b]));
    for intent in [Intent::Check, Intent::Diff] {
        let outcome = repaired(&mut b, &mut a, intent);
        assert_eq!((outcome.verdict, outcome.raised), (Verdict::Differs, false));
    }
    let outcome = repaired(&mut b, &mut a, Intent::Repair(Direction::To(Side::Theirs)));
    assert_eq!((outcome.verdict, outcome.raised, outcome.behind), (Verdict::Undetermined, false, None));
    assert_eq!((a.records().len(), b.records().len()), (210, 300));
    assert!(repaired(&mut b, &mut a, Intent::Repair(Direction::To(Side::Mine))).raised);
    assert_eq!((a.records().len(), b.records().len()), (210, 210));
}

#[test]
fn only_whoever_may_write_all_raises_a_horizon() {
    let (mut a, mut b) = met();
    a.collect(horizon(&[&a, &b]));
    // The rights that the session itself wants are there, on the one collection; those on all are not.
    let world = World { on_first: Rights::ALL, rights: Rights::COMPARE, ..World::quiet() };
    let outcome = run(&mut a, &mut b, Options::new(BOTH), world).outcome;
    assert_eq!((outcome.verdict, outcome.raised, outcome.behind), (Verdict::Undetermined, false, None));
    assert_eq!(b.records().len(), 300);
}

#[test]
fn equal_roots_do_not_hide_another_horizon() {
    let (mut a, mut b) = met();
    let all = horizon(&[&a, &b]);
    b.collect(Horizon { passed: Vec::new(), ..all.clone() });
    a.collect(Horizon { stamp: Stamp(all.stamp.0 + 1), passed: horizon(&[&a, &b]).passed });
    assert_eq!(a.root(), b.root());
    assert!(repaired(&mut a, &mut b, BOTH).raised);
    assert_eq!(a.horizon, b.horizon);
}

#[test]
fn an_opener_that_keeps_its_horizon_is_raised_by_nobody() {
    let (mut a, mut b) = met();
    b.collect(horizon(&[&a, &b]));
    let options = Options { keeps_horizon: true, ..Options::new(BOTH) };
    let outcome = run(&mut a, &mut b, options, World::quiet()).outcome;
    assert_eq!((outcome.verdict, outcome.raised, outcome.behind), (Verdict::Undetermined, false, None));
    assert_eq!((a.records().len(), a.horizon.stamp), (300, Stamp(0)));
}
