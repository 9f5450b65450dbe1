//! Repairs of sides that were equal once, over model stores of bare content, held against a merge of plain maps.

use std::sync::Arc;

use super::*;
use crate::brakes::{Brakes, Limit};
use crate::dataset::CollectionId;
use crate::session::Base;

const BOTH: Intent = Intent::Repair(Direction::Both);

type Values = BTreeMap<Vec<u8>, Vec<u8>>;
/// A key's value on either side.
type Both<'v> = (Option<&'v Vec<u8>>, Option<&'v Vec<u8>>);

fn live(model: &Model) -> Values {
    model.records().iter().filter_map(|(key, state)| Some((key.clone(), state.value()?.to_vec()))).collect()
}

/// Both sides as they were equal, what they are now, and what is known of that.
fn since(drift: &Drift, deletes: bool) -> (Values, (Model, Model), Arc<Base>) {
    let equal = Drift { mine: vec![], theirs: vec![], ..drift.clone() };
    let (then, _) = two(&equal, Profile::Content);
    let (a, b) = two(drift, Profile::Content);
    let written = drift.mine.iter().chain(&drift.theirs).map(|(n, _)| key(*n));
    let was = written.map(|key| ((CollectionId(0), key.clone()), then.worth(&key).map(|digest| digest.short())));
    let base = Arc::new(Base { was: was.collect(), deletes });
    (live(&then), (a, b), base)
}

/// What a merge makes of a key's value on either side, and whether a conflict is left.
fn merged<'v>(
    then: Option<&'v Vec<u8>>,
    (mine, theirs): Both<'v>,
    preferred: Option<Side>,
    deletes: bool,
) -> (Both<'v>, bool) {
    let wins = match (mine == then, theirs == then) {
        _ if mine == theirs => return ((mine, theirs), false),
        (false, true) => Some(Side::Mine),
        (true, false) => Some(Side::Theirs),
        _ => preferred,
    };
    match wins.map(|side| if side == Side::Mine { mine } else { theirs }) {
        Some(value) if value.is_some() || deletes => ((value, value), false),
        _ => ((mine, theirs), true),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_one_side_has_changed_goes_to_the_other_and_what_both_have_is_left_or_as_preferred(
        drift in drift(),
        deletes: bool,
        preferred in proptest::option::of(prop_oneof![Just(Side::Mine), Just(Side::Theirs)]),
        sketches: bool,
    ) {
        // A wrong "equal" of a short digest is seen by the roots alone, which differ where something is left.
        let drift = Drift { width: 6, ..drift };
        let (then, (mut a, mut b), base) = since(&drift, deletes);
        let (mine, theirs) = (live(&a), live(&b));
        let planner = if sketches { Planner::default() } else { Planner { opening: 0, ..Planner::default() } };
        let options = Options { base: Some(base), prefer: preferred, planner, ..options(BOTH, &drift) };
        let Run { outcome, .. } = run(&mut a, &mut b, options, World::quiet());
        let (mine_now, theirs_now) = (live(&a), live(&b));
        let mut left = 0;
        for key in mine.keys().chain(theirs.keys()).collect::<std::collections::BTreeSet<_>>() {
            let ((here, there), conflict) =
                merged(then.get(key), (mine.get(key), theirs.get(key)), preferred, deletes);
            prop_assert_eq!((mine_now.get(key), theirs_now.get(key)), (here, there), "{:?}", key);
            left += u64::from(conflict);
        }
        prop_assert!(mine_now.keys().chain(theirs_now.keys()).all(|key| mine.contains_key(key) || theirs.contains_key(key)));
        let verdict = if left == 0 { Verdict::InSync } else { Verdict::Differs };
        prop_assert_eq!((outcome.verdict, outcome.counts.left), (verdict, left), "{:?}", outcome);
    }

    #[test]
    fn a_diff_tells_which_side_has_changed(drift in drift()) {
        let (then, (mut a, mut b), base) = since(&drift, false);
        let (mine, theirs) = (live(&a), live(&b));
        let options = Options { base: Some(base), ..options(Intent::Diff, &drift) };
        let Run { found, .. } = run(&mut a, &mut b, options, World::quiet());
        prop_assert_eq!(found.len(), brute(&a, &b).len());
        for difference in found {
            let key = &difference.key;
            let expected = match (mine.get(key) == then.get(key), theirs.get(key) == then.get(key)) {
                (false, true) => Kind::Newer(Side::Mine),
                (true, false) => Kind::Newer(Side::Theirs),
                _ => Kind::Content,
            };
            prop_assert_eq!(difference.kind, expected, "{:?}", key);
        }
        prop_assert_eq!((live(&a), live(&b)), (mine, theirs));
    }

    #[test]
    fn brakes_hold_for_what_the_other_side_has_deleted(drift in drift(), deletes: bool) {
        let (_, (mut a, mut b), base) = since(&drift, deletes);
        let before = (live(&a), live(&b));
        let nothing = Limit { share: 0, least: 0, most: 0 };
        let none = Brakes { delete: nothing, change: nothing, shrunken: false };
        let options = Options { base: Some(base), brakes: Some(none), ..options(BOTH, &drift) };
        let Run { outcome, .. } = run(&mut a, &mut b, options, World::quiet());
        let lost = |before: &Values, now: &Values| before.iter().any(|(key, value)| now.get(key) != Some(value));
        prop_assert!(!lost(&before.0, &live(&a)) && !lost(&before.1, &live(&b)), "{:?}", outcome);
    }
}

#[test]
fn what_is_spared_is_not_counted_as_lost() {
    let (mut a, mut b) = (Model::new(1, Profile::Content, 64), Model::new(2, Profile::Content, 64));
    a.fill(100);
    b.copy_from(&a);
    let was = (0..100u32).map(|i| {
        let key = i.to_be_bytes().to_vec();
        ((CollectionId(0), key.clone()), a.worth(&key).map(|digest| digest.short()))
    });
    let was: BTreeMap<_, _> = was.collect();
    (0..100u32).for_each(|i| a.write(&i.to_be_bytes(), None));
    for (deletes, verdict) in [(false, Verdict::Differs), (true, Verdict::Refused)] {
        let base = Some(Arc::new(Base { was: was.clone(), deletes }));
        let options = Options { base, brakes: Some(Brakes::default()), ..Options::new(BOTH) };
        assert_eq!(run(&mut a, &mut b, options, World::quiet()).outcome.verdict, verdict);
        assert_eq!(live(&b).len(), 100);
    }
}

#[test]
fn what_is_not_known_to_have_changed_is_left() {
    let (mut a, mut b) = (Model::new(1, Profile::Content, 64), Model::new(2, Profile::Content, 64));
    a.fill(50);
    b.copy_from(&a);
    a.write(b"late", Some(b"a".to_vec()));
    b.write(&7u32.to_be_bytes(), None);
    let options = Options { base: Some(Arc::new(Base::default())), ..Options::new(BOTH) };
    let outcome = run(&mut a, &mut b, options, World::quiet()).outcome;
    assert_eq!((outcome.verdict, outcome.counts.left), (Verdict::Differs, 2));
    assert!(live(&a).len() == 51 && live(&b).len() == 49);
}

#[test]
fn what_the_peer_did_not_find_is_sought_once_more_though_something_is_left() {
    // Of positions that few bits tell apart, what is told of a wanted entry fits several.
    let (mut a, mut b) = (Model::new(1, Profile::Content, 5), Model::new(2, Profile::Content, 5));
    a.fill(240);
    b.copy_from(&a);
    (500..510u32).for_each(|i| b.write(&i.to_be_bytes(), Some(b"b".to_vec())));
    a.write(&7u32.to_be_bytes(), Some(b"here".to_vec()));
    b.write(&7u32.to_be_bytes(), Some(b"there".to_vec()));
    let Run { outcome, found, .. } = run(&mut a, &mut b, Options::new(BOTH), World::quiet());
    assert_eq!((outcome.verdict, outcome.counts.left, outcome.counts.content), (Verdict::Differs, 1, 1));
    assert!(outcome.counts.to_mine.moved > 0, "it was not put to the test: {outcome:?}");
    assert_eq!((live(&a).len(), live(&b).len()), (250, 250));
    let times = found.iter().filter(|difference| difference.key == 7u32.to_be_bytes()).count();
    assert_eq!(times, 1, "it is told once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_is_tolerated_is_told_apart_and_left_and_all_else_goes_as_ever(
        drift in drift(),
        intent in prop_oneof![
            Just(Intent::Diff), Just(BOTH), Just(Intent::Repair(Direction::To(Side::Mine))),
            Just(Intent::Repair(Direction::To(Side::Theirs)))
        ],
        mirror: bool,
    ) {
        let drift = Drift { width: 6, ..drift };
        let (mut a, mut b) = two(&drift, Profile::Content);
        let (mine, theirs) = (live(&a), live(&b));
        let differ: Vec<&Vec<u8>> = mine.keys().filter(|key| theirs.get(*key).is_some_and(|other| *other != mine[*key])).collect();
        // Every other one; of one of those it was judged when it was something else.
        let some: Vec<&Vec<u8>> = differ.iter().step_by(2).copied().collect();
        let entries = |key: &Vec<u8>| [a.worth(key), b.worth(key)].map(|digest| digest.map(|digest| digest.short()));
        let mut keys: BTreeMap<(CollectionId, Vec<u8>), [Option<u64>; 2]> =
            some.iter().map(|key| ((CollectionId(0), (*key).clone()), entries(key))).collect();
        if let Some(first) = keys.values_mut().next() {
            first[0] = first[0].map(|entry| entry ^ 1);
        }
        let told = some.len().saturating_sub(1) as u64;
        let tolerated = Some(Arc::new(crate::session::Tolerated { keys }));
        let mirror = match intent {
            Intent::Repair(Direction::To(side)) if mirror => Some(side),
            _ => None,
        };
        let intent = if mirror.is_some() { BOTH } else { intent };
        let options = Options { tolerated, mirror, ..options(intent, &drift) };
        let Run { outcome, .. } = run(&mut a, &mut b, options, World::quiet());
        prop_assert_eq!(outcome.counts.tolerated, told, "{:?}", outcome);
        let (mine_now, theirs_now) = (live(&a), live(&b));
        for key in some.iter().skip(1) {
            prop_assert_eq!((mine_now.get(*key), theirs_now.get(*key)), (mine.get(*key), theirs.get(*key)));
        }
        match (intent, mirror) {
            (Intent::Diff, _) => prop_assert_eq!((&mine_now, &theirs_now), (&mine, &theirs)),
            (_, Some(side)) => {
                let (of, from) = if side == Side::Mine { (&mine_now, &theirs) } else { (&theirs_now, &mine) };
                let others = |all: &Values| -> Values {
                    all.iter().filter(|(key, _)| !some[1.min(some.len())..].contains(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
                };
                prop_assert_eq!(others(of), others(from));
            }
            _ => prop_assert!(outcome.counts.left >= told),
        }
        let verdict = if told > 0 { Verdict::Differs } else { outcome.verdict };
        prop_assert_eq!(outcome.verdict, verdict);
    }
}
