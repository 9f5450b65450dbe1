//! Sessions about picked keys over model stores: nothing else is written, and what moved is left as it is.

use std::sync::Arc;

use super::*;
use crate::brakes::{Brakes, Limit};
use crate::difference::Difference;
use crate::session::{Picked, PickedKey};

fn pick(found: &[Difference]) -> Option<Arc<Picked>> {
    let key = |d: &Difference| PickedKey {
        collection: d.collection,
        key: d.key.clone(),
        mine: d.entries[0],
        theirs: d.entries[1],
    };
    Some(Arc::new(Picked { name: "test".into(), keys: found.iter().map(key).collect() }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn picked_keys_end_as_in_a_whole_repair_and_no_others_change(
        drift in drift(),
        content: bool,
        to in prop_oneof![Just((Direction::Both, None)), Just((Direction::To(Side::Theirs), None)),
            Just((Direction::Both, Some(Side::Mine))), Just((Direction::Both, Some(Side::Theirs)))],
        moved in 0usize..4,
    ) {
        let profile = if content { Profile::Content } else { Profile::Versioned };
        let drift = Drift { width: 6, ..drift };
        let (mut a, mut b) = two(&drift, profile);
        let found = run(&mut a, &mut b, options(Intent::Diff, &drift), World::quiet()).found;
        let half: Vec<Difference> = found.iter().enumerate().filter(|(n, _)| n % 2 == 0).map(|(_, d)| d.clone()).collect();
        let (direction, mirror) = to;
        let whole = Options { mirror, ..options(Intent::Repair(direction), &drift) };
        let (mut whole_a, mut whole_b) = two(&drift, profile);
        run(&mut whole_a, &mut whole_b, whole.clone(), World::quiet());

        // Some of them move meanwhile, on either side.
        for (n, difference) in half.iter().take(moved).enumerate() {
            let side = if n % 2 == 0 { &mut a } else { &mut b };
            side.write(&difference.key, Some(vec![200, 200]));
        }
        let before = (a.records().clone(), b.records().clone());
        let outcome = run(&mut a, &mut b, Options { picked: pick(&half), ..whole }, World::quiet()).outcome;
        let moved = half.len().min(moved);
        prop_assert_eq!(outcome.skipped.len(), moved, "{:?}", outcome);
        let picked: Vec<&Vec<u8>> = half[moved..].iter().map(|d| &d.key).collect();
        for key in found.iter().map(|d| &d.key) {
            if picked.contains(&key) {
                prop_assert_eq!(a.worth(key).is_some(), whole_a.worth(key).is_some(), "{:?}", key);
                if mirror.is_none() {
                    prop_assert_eq!((a.worth(key), b.worth(key)), (whole_a.worth(key), whole_b.worth(key)));
                } else {
                    prop_assert_eq!(a.worth(key), b.worth(key), "a mirror has one version of {:?}", key);
                }
            } else {
                prop_assert_eq!(a.records().get(key), before.0.get(key), "{:?}", key);
                prop_assert_eq!(b.records().get(key), before.1.get(key), "{:?}", key);
            }
        }
        let told = [Verdict::InSync, Verdict::Converged, Verdict::Differs];
        prop_assert!(told.contains(&outcome.verdict), "{:?}", outcome);
        prop_assert!(moved == 0 || outcome.verdict == Verdict::Differs || outcome.verdict == Verdict::InSync);
    }
}

#[test]
fn brakes_hold_for_picked_keys_too() {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(500);
    b.copy_from(&a);
    (0..30u32).for_each(|n| b.write(&n.to_be_bytes(), None));
    let found = run(&mut a, &mut b, Options::new(Intent::Diff), World::quiet()).found;
    let before = (a.records().clone(), b.records().clone());
    for (most, verdict) in [(29, Verdict::Refused), (30, Verdict::InSync)] {
        let brakes = Some(Brakes { delete: Limit::records(most), ..Brakes::default() });
        let options = Options { picked: pick(&found), brakes, ..Options::new(Intent::Repair(Direction::Both)) };
        let outcome = run(&mut a, &mut b, options, World::quiet()).outcome;
        assert_eq!(outcome.verdict, verdict, "{outcome:?}");
        if verdict == Verdict::Refused {
            assert_eq!((a.records(), b.records()), (&before.0, &before.1));
        }
    }
}
