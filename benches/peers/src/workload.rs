//! The two sets that every peer is given: made from a seed, with the truth of what each side has to send.
//!
//! How a peer keeps or compares them is its adapter's concern.

use std::collections::HashMap;

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 100;
/// Bytes of a whole record: key, eight bytes of version, value.
pub const RECORD_BYTES: u64 = (KEY_BYTES + 8 + VALUE_BYTES) as u64;
/// A clustered loss takes one of so many parts of the set.
const LOST_PART: usize = 256;

/// The BLAKE3 digest of key, version and value: what a peer that compares hashes knows of a record.
pub type Id = [u8; 32];

/// One record. Its value is worked out when it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: [u8; KEY_BYTES],
    /// Its version: a number that rises with time.
    pub version: u64,
    /// The version that it replaced; 0 for a first version.
    pub replaces: u64,
    /// Its id.
    pub id: Id,
}

/// Where the differences lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Anywhere: half missing on A, a quarter missing on B, a quarter newer on B.
    Scattered,
    /// A lost one run of n/256 records that are neighbours in the peer's own order.
    Clustered,
    /// A lacks the newest d records of a log; keys and versions rise together.
    Tail,
    /// Every record has a newer version on B.
    AllChanged,
    /// A is empty.
    OneEmpty,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Shape; 5] = [Shape::Scattered, Shape::Clustered, Shape::Tail, Shape::AllChanged, Shape::OneEmpty];

    /// Its name on the command line and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Scattered => "scattered",
            Shape::Clustered => "clustered",
            Shape::Tail => "tail",
            Shape::AllChanged => "all-changed",
            Shape::OneEmpty => "one-empty",
        }
    }

    /// The shape of this name.
    pub fn named(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|shape| shape.name() == name)
    }

    /// Whether the number of differences may be chosen.
    pub fn takes_differences(self) -> bool {
        matches!(self, Shape::Scattered | Shape::Tail)
    }
}

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Records that at least one side has.
    pub records: usize,
    /// Records that differ, where the shape leaves it open.
    pub differences: usize,
    /// Where they lie.
    pub shape: Shape,
    /// What everything follows from.
    pub seed: u64,
}

/// The two sets.
#[derive(Debug)]
pub struct Pair {
    /// What they were made from.
    pub plan: Plan,
    /// The records of A and of B, sorted by key.
    pub sides: [Vec<Record>; 2],
    /// The ids of the records that A has to send to B, and B to A: each difference once, its newer version.
    pub truth: [Vec<Id>; 2],
}

impl Pair {
    /// Makes the sets. `place` says where a record lies in the order of the peer; only a clustered loss looks at it.
    pub fn new(plan: Plan, place: impl Fn(&Record) -> u64) -> Pair {
        let mut random = Random::new(plan.seed);
        let n = plan.records;
        let mut all: Vec<Record> = Vec::with_capacity(n);
        for i in 0..n {
            let mut key = [0; KEY_BYTES];
            key[..8].copy_from_slice(&random.next().to_be_bytes());
            key[8..].copy_from_slice(&random.next().to_be_bytes());
            if plan.shape == Shape::Tail {
                key[..8].copy_from_slice(&(i as u64).to_be_bytes());
            }
            all.push(record(plan.seed, key, i as u64 + 1, 0));
        }
        let fate = fates(plan, &all, &mut random, place);
        let mut pair = Pair { plan, sides: [Vec::with_capacity(n), Vec::with_capacity(n)], truth: Default::default() };
        for (i, old) in all.into_iter().enumerate() {
            match fate.get(&i) {
                None => pair.sides.iter_mut().for_each(|side| side.push(old)),
                Some(Fate::LacksA) => pair.only(1, old),
                Some(Fate::LacksB) => pair.only(0, old),
                Some(Fate::NewerB) => {
                    let new = record(plan.seed, old.key, (n + i) as u64 + 1, old.version);
                    pair.sides[0].push(old);
                    pair.only(1, new);
                }
            }
        }
        pair.sides.iter_mut().for_each(|side| side.sort_unstable_by_key(|record| record.key));
        pair
    }

    fn only(&mut self, side: usize, record: Record) {
        self.sides[side].push(record);
        self.truth[side].push(record.id);
    }

    /// How many records differ.
    pub fn differences(&self) -> usize {
        self.truth.iter().map(Vec::len).sum()
    }

    /// The id of the record of this key and version.
    pub fn id(&self, key: &[u8; KEY_BYTES], version: u64) -> Id {
        record(self.plan.seed, *key, version, 0).id
    }

    /// New versions of some of A's records, to be written there: the old and the new one of each.
    pub fn updates(&self, count: usize) -> Vec<(Record, Record)> {
        let mut random = Random::new(self.plan.seed ^ 0x5eed);
        let mine = &self.sides[0];
        let chosen = sample(&mut random, mine.len(), count.min(mine.len()));
        let first = 2 * self.plan.records as u64 + 1;
        let new = |(i, at): (usize, usize)| {
            let old = mine[at];
            (old, record(self.plan.seed, old.key, first + i as u64, old.version))
        };
        chosen.into_iter().enumerate().map(new).collect()
    }

    /// The value of a record.
    pub fn value(&self, key: &[u8; KEY_BYTES], version: u64) -> [u8; VALUE_BYTES] {
        value(self.plan.seed, key, version)
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    LacksA,
    LacksB,
    NewerB,
}

fn fates(plan: Plan, all: &[Record], random: &mut Random, place: impl Fn(&Record) -> u64) -> HashMap<usize, Fate> {
    let n = all.len();
    let d = plan.differences.min(n);
    match plan.shape {
        Shape::Scattered => {
            let (first, rest) = (d.div_ceil(2), d / 2);
            let fate = |i: usize| match i {
                _ if i < first => Fate::LacksA,
                _ if i < first + rest / 2 => Fate::LacksB,
                _ => Fate::NewerB,
            };
            sample(random, n, d).into_iter().enumerate().map(|(i, at)| (at, fate(i))).collect()
        }
        Shape::Clustered => {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_unstable_by_key(|i| place(&all[*i]));
            let lost = n / LOST_PART;
            let start = random.below(n - lost + 1);
            order[start..start + lost].iter().map(|at| (*at, Fate::LacksA)).collect()
        }
        Shape::Tail => (n - d..n).map(|at| (at, Fate::LacksA)).collect(),
        Shape::AllChanged => (0..n).map(|at| (at, Fate::NewerB)).collect(),
        Shape::OneEmpty => (0..n).map(|at| (at, Fate::LacksA)).collect(),
    }
}

/// `count` of the numbers below `n`, each once, in random order.
fn sample(random: &mut Random, n: usize, count: usize) -> Vec<usize> {
    // The first steps of a shuffle of 0..n, of which only what has moved is kept.
    let mut moved: HashMap<usize, usize> = HashMap::new();
    let mut step = |i: usize| {
        let j = i + random.below(n - i);
        let taken = moved.get(&j).copied().unwrap_or(j);
        let here = moved.get(&i).copied().unwrap_or(i);
        moved.insert(j, here);
        taken
    };
    (0..count).map(&mut step).collect()
}

fn record(seed: u64, key: [u8; KEY_BYTES], version: u64, replaces: u64) -> Record {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key).update(&version.to_be_bytes()).update(&value(seed, &key, version));
    Record { key, version, replaces, id: *hasher.finalize().as_bytes() }
}

fn value(seed: u64, key: &[u8; KEY_BYTES], version: u64) -> [u8; VALUE_BYTES] {
    let half = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| key[at + i]));
    let mut random = Random::new(seed ^ half(0) ^ half(8).rotate_left(32) ^ version.rotate_left(17));
    let mut out = [0; VALUE_BYTES];
    out.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_be_bytes()[..part.len()]));
    out
}

/// SplitMix64 (Steele, Lea, Flood, 2014): the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that follow from a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn by_key(record: &Record) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|i| record.key[i]))
    }

    fn pair(records: usize, differences: usize, shape: Shape) -> Pair {
        Pair::new(Plan { records, differences, shape, seed: 7 }, by_key)
    }

    /// Differences by comparing the sides as maps: only A, only B, newer on A, newer on B.
    fn brute(pair: &Pair) -> [usize; 4] {
        let map = |side: usize| pair.sides[side].iter().map(|r| (r.key, r.version)).collect::<BTreeMap<_, _>>();
        let (a, b) = (map(0), map(1));
        let newer = |x: &BTreeMap<_, u64>, y: &BTreeMap<_, u64>| {
            x.iter().filter(|(key, version)| y.get(*key).is_some_and(|other| other < *version)).count()
        };
        let only = |x: &BTreeMap<_, u64>, y: &BTreeMap<_, u64>| x.keys().filter(|key| !y.contains_key(*key)).count();
        [only(&a, &b), only(&b, &a), newer(&a, &b), newer(&b, &a)]
    }

    fn check(pair: &Pair, expected: [usize; 4]) {
        assert_eq!(brute(pair), expected);
        let [only_a, only_b, newer_a, newer_b] = expected;
        assert_eq!(pair.truth.each_ref().map(Vec::len), [only_a + newer_a, only_b + newer_b]);
        for (side, truth) in pair.sides.iter().zip(&pair.truth) {
            let ids: BTreeSet<Id> = side.iter().map(|record| record.id).collect();
            assert!(truth.iter().all(|id| ids.contains(id)), "a side sends what it has");
            assert!(side.windows(2).all(|two| two[0].key < two[1].key), "sorted, each key once");
        }
    }

    #[test]
    fn half_is_missing_on_a_a_quarter_on_b_and_a_quarter_is_newer_on_b() {
        let cases =
            [(0, [0, 0, 0, 0]), (1, [0, 1, 0, 0]), (2, [0, 1, 0, 1]), (10, [2, 5, 0, 3]), (1000, [250, 500, 0, 250])];
        for (d, expected) in cases {
            let pair = pair(5000, d, Shape::Scattered);
            check(&pair, expected);
            assert_eq!(pair.differences(), d);
            let union: BTreeSet<_> = pair.sides.iter().flatten().map(|record| record.key).collect();
            assert_eq!(union.len(), 5000);
        }
    }

    #[test]
    fn a_clustered_loss_is_one_run_in_the_order_of_the_peer() {
        let reversed = |record: &Record| !by_key(record);
        for place in [by_key as fn(&Record) -> u64, reversed] {
            let plan = Plan { records: 5120, differences: 3, shape: Shape::Clustered, seed: 1 };
            let pair = Pair::new(plan, place);
            check(&pair, [0, 20, 0, 0]);
            let lost: BTreeSet<Id> = pair.truth[1].iter().copied().collect();
            let mut order = pair.sides[1].clone();
            order.sort_by_key(place);
            let flags: Vec<bool> = order.iter().map(|record| lost.contains(&record.id)).collect();
            assert!(flags.windows(2).filter(|two| two[0] != two[1]).count() <= 2, "one run");
        }
    }

    #[test]
    fn a_tail_is_what_was_written_last_and_its_keys_rise() {
        let pair = pair(1000, 17, Shape::Tail);
        check(&pair, [0, 17, 0, 0]);
        assert!(pair.sides[1].windows(2).all(|two| two[0].version < two[1].version));
        assert!(pair.sides[0].iter().all(|record| record.version <= 983));
    }

    #[test]
    fn all_changed_and_one_empty_are_as_they_say() {
        check(&pair(300, 5, Shape::AllChanged), [0, 0, 0, 300]);
        check(&pair(300, 5, Shape::OneEmpty), [0, 300, 0, 0]);
    }

    #[test]
    fn a_seed_tells_everything() {
        let plan = Plan { records: 500, differences: 50, shape: Shape::Scattered, seed: 3 };
        let (one, two) = (Pair::new(plan, by_key), Pair::new(plan, by_key));
        assert_eq!((&one.sides, &one.truth), (&two.sides, &two.truth));
        let other = Pair::new(Plan { seed: 4, ..plan }, by_key);
        assert_ne!(one.sides[0][0].key, other.sides[0][0].key);
    }

    #[test]
    fn an_id_is_the_digest_of_key_version_and_value() {
        let pair = pair(10, 0, Shape::Scattered);
        let record = pair.sides[0][3];
        let mut bytes = record.key.to_vec();
        bytes.extend(record.version.to_be_bytes());
        bytes.extend(pair.value(&record.key, record.version));
        assert_eq!(bytes.len() as u64, RECORD_BYTES);
        assert_eq!(record.id, *blake3::hash(&bytes).as_bytes());
        assert_eq!(record.id, pair.id(&record.key, record.version));
    }

    #[test]
    fn updates_replace_what_is_there() {
        let pair = pair(100, 10, Shape::Scattered);
        let updates = pair.updates(20);
        let keys: BTreeSet<_> = updates.iter().map(|(old, _)| old.key).collect();
        assert_eq!((updates.len(), keys.len()), (20, 20));
        assert!(
            updates.iter().all(|(old, new)| new.key == old.key && new.version > 200 && new.replaces == old.version)
        );
    }
}
