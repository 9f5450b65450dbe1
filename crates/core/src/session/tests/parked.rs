//! Sides whose stores cannot answer for some records: runs that leave those out settle all the rest, and find out how few they are.

use std::collections::BTreeSet;

use super::*;
use crate::agenda::{Agenda, By, DayBudget, Named, Parking, Plan as JobPlan, Ran, RunVerdict};
use crate::dataset::CollectionId;
use crate::range::Range;
use crate::record::Record;
use crate::schedule::{Schedule, Utc};
use crate::stamp::Millis;

const HOUR: Millis = 3_600_000;

/// A job of two sides.
struct Mending {
    agenda: Agenda,
    now: Millis,
}

impl Mending {
    fn new() -> Mending {
        let mut agenda = Agenda::new([1; 32], 1);
        let plan = JobPlan {
            schedule: Schedule { at: Some("every 1h".parse().expect("a time")), ..Schedule::by_hand() },
            zone: Arc::new(Utc),
            places: BTreeSet::new(),
            longest: HOUR,
            within: None,
            a_day: DayBudget::default(),
        };
        agenda.configure([("mend".to_string(), plan)].into(), 1, 0);
        Mending { agenda, now: 0 }
    }

    fn parking(&self) -> &Parking {
        &self.agenda.jobs()["mend"].kept.parking
    }

    /// Runs whatever is due, until nothing is; gives how the runs ended.
    fn run(&mut self, a: &mut Model, b: &mut Model, options: &Options) -> Vec<RunVerdict> {
        let mut verdicts = Vec::new();
        while !self.agenda.due(self.now).is_empty() {
            let begun = self.agenda.begin("mend", By::Schedule, self.now).expect("it is due");
            let trial = self.parking().trial(false, self.now);
            let ids = |named: &Named| named.iter().map(|(_, range)| (CollectionId(0), *range)).collect();
            let parked = Parked::new(ids(&trial.out), ids(&trial.tried));
            let parked = (!self.parking().is_empty()).then(|| Arc::new(parked));
            let Run { outcome, stuck, .. } = run(a, b, Options { parked, ..options.clone() }, World::quiet());
            let stuck: Option<Named> =
                stuck.map(|stuck| stuck.ranges.into_iter().map(|range| ("default".into(), range)).collect());
            let verdict = match outcome.verdict {
                _ if stuck.is_some() => RunVerdict::Damaged,
                Verdict::InSync => RunVerdict::InSync,
                Verdict::Differs => RunVerdict::Differs,
                Verdict::Partial => RunVerdict::Partial,
                other => panic!("{other:?}: {}", outcome.reason),
            };
            self.now += 1;
            let error = stuck.as_ref().map(|_| ("store.damaged".into(), "it rots".into()));
            let ran = Ran { verdict, parked: outcome.left_out, trial, stuck, error, ..Ran::cut(begun, self.now) };
            self.agenda.end("mend", ran);
            verdicts.push(verdict);
            assert!(verdicts.len() < 200, "it finds no end: {verdicts:?}");
        }
        verdicts
    }

    fn ranges(&self) -> Vec<Range> {
        self.parking().all().iter().flat_map(|parked| parked.ranges.iter().map(|(_, range)| *range)).collect()
    }
}

/// Keys of some numbers.
fn keys(of: &[u16]) -> BTreeSet<Vec<u8>> {
    of.iter().map(|n| key(*n)).collect()
}

/// Whether a side that the repair may write lacks what the other has.
fn lacks(direction: Direction, a: &Model, b: &Model, key: &[u8]) -> bool {
    let newest = |of: &Model| of.records().get(key).and_then(|state| Some(state.versions().first()?.version.stamp));
    match direction {
        Direction::Both => true,
        Direction::To(Side::Mine) => newest(b) > newest(a),
        Direction::To(Side::Theirs) => newest(a) > newest(b),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_stores_cannot_answer_for_is_parked_and_all_the_rest_is_settled(
        drift in drift(),
        rotten in proptest::array::uniform4(proptest::collection::vec(0u16..3000, 0..3)),
        direction in 0usize..3,
    ) {
        let drift = Drift { position_bits: 64, width: 6, ..drift };
        let (mut a, mut b) = two(&drift, Profile::Versioned);
        a.rotten = (keys(&rotten[0]), keys(&rotten[1]));
        b.rotten = (keys(&rotten[2]), keys(&rotten[3]));
        let direction = [Direction::Both, Direction::To(Side::Mine), Direction::To(Side::Theirs)][direction];
        let mut mending = Mending::new();
        let options = options(Intent::Repair(direction), &drift);
        let mut verdicts = mending.run(&mut a, &mut b, &options);
        while mending.parking().all().iter().any(|parked| parked.tries == 0) {
            mending.now += HOUR;
            verdicts.extend(mending.run(&mut a, &mut b, &options));
            prop_assert!(verdicts.len() < 1000, "it finds no end: {verdicts:?}");
        }
        let at = |key: &[u8]| Model::new(1, Profile::Versioned, 64).keys().position("default", key);
        let parked = mending.ranges();
        for key in brute(&a, &b).into_keys().filter(|key| lacks(direction, &a, &b, key)) {
            prop_assert!(parked.iter().any(|range| range.contains(at(&key))), "{:?} of {:?}", key, verdicts);
        }
        for range in &parked {
            let rots = rotten.iter().flatten().any(|n| range.contains(at(&key(*n))));
            prop_assert!(rots, "{range} is parked, where nothing is wrong: {:?}", verdicts);
            // Of a side so small that all of it is a leaf, whatever is shown shows what rots.
            prop_assert!(range.depth() > 0 || a.records().len().min(b.records().len()) <= 64, "{range}");
        }
        prop_assert!(parked.is_empty() || verdicts.contains(&RunVerdict::Damaged), "{verdicts:?}");
        // Once it is readable again, it is settled too.
        (a.rotten, b.rotten) = Default::default();
        mending.now += 48 * HOUR;
        let verdicts = mending.run(&mut a, &mut b, &options);
        prop_assert!(mending.parking().is_empty(), "{verdicts:?}");
        prop_assert_eq!(brute(&a, &b).into_keys().filter(|key| lacks(direction, &a, &b, key)).count(), 0, "{:?}", verdicts);
    }
}

#[test]
fn a_diff_finds_all_but_what_is_parked_and_says_so() {
    let mut a = Model::new(1, Profile::Versioned, 64);
    a.fill(2000);
    let mut b = Model::new(2, Profile::Versioned, 64);
    b.copy_from(&a);
    (0..40u32).for_each(|n| b.write(&(n * 50).to_be_bytes(), Some(vec![2])));
    let there = b.records().clone();
    let take = |a: &mut Model, key: &[u8]| {
        a.join(Record { key: key.to_vec(), state: there[key].clone() });
    };
    let one = 50u32.to_be_bytes().to_vec();
    let at = Range::of(a.keys().position("default", &one), 4);
    let parked = |range| Some(Arc::new(Parked::new(vec![(CollectionId(0), range)], Vec::new())));
    let options = Options { parked: parked(at), ..Options::new(Intent::Diff) };
    let Run { outcome, found, .. } = run(&mut a, &mut b, options, World::quiet());
    assert_eq!((outcome.verdict, found.len(), outcome.left_out), (Verdict::Differs, 39, 1));
    assert_eq!(outcome.unproven.ranges, [(CollectionId(0), at)]);
    // All differences lie in what is left out.
    (0..40u32).filter(|n| *n != 1).for_each(|n| take(&mut a, &(n * 50).to_be_bytes()));
    let options = Options { parked: parked(at), ..Options::new(Intent::Diff) };
    let Run { outcome, found, .. } = run(&mut a, &mut b, options.clone(), World::quiet());
    assert_eq!((outcome.verdict, found.len(), outcome.left_out), (Verdict::Partial, 0, 1));
    assert_eq!(outcome.reason, "1 parked range was left out");
    assert_eq!(outcome.coverage_millionths, 999_984);
    // Roots that agree tell of all.
    take(&mut a, &one);
    let Run { outcome, .. } = run(&mut a, &mut b, options, World::quiet());
    assert_eq!((outcome.verdict, outcome.left_out), (Verdict::InSync, 0));
}
