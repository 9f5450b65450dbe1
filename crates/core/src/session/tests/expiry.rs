//! What has expired on one side is a difference only where the other side's clock is too far behind to follow.

use super::*;
use crate::record::{Actor, Content, Sibling, State, Version};
use crate::stamp::{CLOCK_BOUND_MILLIS, Millis, Stamp};

const BOTH: Intent = Intent::Repair(Direction::Both);
const LAST: Millis = 1_000;

/// Two stores of the same records, of which each but the first expires at the time of its number.
fn same(n: u32) -> (Model, Model) {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    let record = |nth: u32| {
        let version = Version::after(Stamp(u64::from(nth) + 1), Actor(7), []);
        let expires = (nth > 0).then_some(Millis::from(nth));
        (nth.to_be_bytes().to_vec(), State::single(Sibling { version, content: Content::Live(vec![1]), expires }))
    };
    let records = (0..n).map(record).collect();
    a.put_all(&records);
    b.put_all(&records);
    (a, b)
}

fn live(model: &Model) -> usize {
    model.records().values().filter(|state| state.is_live()).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_expired_on_one_side_alone_is_no_difference(
        walls in (0..LAST, 0..LAST),
        raised in 0..LAST,
        intent in prop_oneof![Just(Intent::Check), Just(Intent::Diff), Just(BOTH)],
        n in prop_oneof![1_u32..40, 900_u32..1_000],
    ) {
        let (mut a, mut b) = same(n);
        (a.wall, b.wall) = walls;
        b.expire(Some(raised));
        let watermark = walls.0.max(raised);
        let mut ran = run(&mut a, &mut b, Options::new(intent), World::quiet());
        if ran.outcome.raised {
            prop_assert_eq!(ran.outcome.verdict, Verdict::Undetermined);
            prop_assert!(raised > walls.0);
            ran = run(&mut a, &mut b, Options::new(intent), World::quiet());
        }
        prop_assert_eq!(ran.outcome.verdict, Verdict::InSync);
        prop_assert!(ran.outcome.counts.messages <= 3, "they are equal from the beginning");
        prop_assert_eq!((a.records(), b.watermark), (b.records(), watermark));
        prop_assert_eq!(live(&a), 1 + (n as usize - 1).saturating_sub(watermark as usize));
    }

    #[test]
    fn a_clock_too_far_behind_does_not_follow(ahead in 1_u64..LAST, intent in prop_oneof![Just(Intent::Check), Just(BOTH)]) {
        let (mut a, mut b) = same(LAST as u32 + 1);
        // Of records that expire from the beginning of time on, the other side lets none expire that are beyond its bound.
        let shift = CLOCK_BOUND_MILLIS;
        for model in [&mut a, &mut b] {
            let later = |(key, state): (&Vec<u8>, &State)| {
                let mut one = state.winner().clone();
                one.expires = one.expires.map(|expires| expires + shift);
                (key.clone(), State::single(one))
            };
            let records = model.records().iter().map(later).collect();
            model.put_all(&records);
        }
        a.wall = shift + ahead;
        let Run { outcome, .. } = run(&mut a, &mut b, Options::new(intent), World::quiet());
        prop_assert_eq!(b.watermark, CLOCK_BOUND_MILLIS);
        match intent {
            Intent::Check => {
                prop_assert_eq!(outcome.verdict, Verdict::Differs);
                prop_assert_eq!((live(&a), live(&b)), ((LAST + 1 - ahead) as usize, LAST as usize + 1));
            }
            // This model keeps nothing in quarantine.
            _ => {
                prop_assert_eq!(outcome.verdict, Verdict::InSync);
                let counts = outcome.counts;
                prop_assert_eq!((counts.mine_newer, counts.differences()), (ahead, ahead));
                prop_assert_eq!(a.records(), b.records());
            }
        }
    }
}
