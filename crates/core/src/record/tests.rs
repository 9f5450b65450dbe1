use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn sibling() -> impl Strategy<Value = Sibling> {
    let vector = proptest::collection::vec((0u64..6, 0u64..9), 0..4);
    let content = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4));
    (0u64..4, 0u64..3, vector, content, proptest::option::of(0u64..3)).prop_map(
        |(stamp, actor, vector, content, expires)| {
            let mut seen = Vector::default();
            vector.into_iter().for_each(|(actor, stamp)| seen.see(Actor(actor), Stamp(stamp)));
            let content = content.map_or(Content::Tombstone, Content::Live);
            Sibling { version: Version { stamp: Stamp(stamp), actor: Actor(actor), seen }, content, expires }
        },
    )
}

fn keys() -> Keys {
    Keys::new(&crate::digest::DatasetKey::from_bytes([1; 32]))
}

/// A replica of one key, with the writes that its state stands for and those that they had seen.
#[derive(Clone, Debug, Default)]
struct Replica {
    state: Option<State>,
    /// The past of each write that is known here, by the number of its step.
    past: BTreeMap<usize, BTreeSet<usize>>,
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Join { from: usize, to: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..4).prop_map(Step::Write),
        (0usize..4, 0usize..4).prop_map(|(from, to)| Step::Join { from, to }),
    ]
}

impl Replica {
    /// Stamps of one actor rise; its clock is ahead of those of others, or behind.
    fn write(&mut self, at: usize, skew: u64, nth: usize) {
        let seen = self.state.iter().flat_map(State::versions).map(|sibling| &sibling.version);
        let version = Version::after(Stamp(nth as u64 + skew), Actor(at as u64), seen);
        let content = Content::Live(nth.to_be_bytes().to_vec());
        let past = self.past.keys().copied().collect();
        self.past.insert(nth, past);
        self.state = Some(State::single(Sibling { version, content, expires: None }));
    }

    fn join(&mut self, other: &Replica) {
        self.past.extend(other.past.clone());
        let joined = match (&self.state, &other.state) {
            (Some(mine), Some(theirs)) => Some(mine.join(theirs, Keeps::All, &keys())),
            (mine, theirs) => mine.clone().or(theirs.clone()),
        };
        self.state = joined;
    }

    fn check(&self) {
        let seen: BTreeSet<usize> = self.past.values().flatten().copied().collect();
        let expected: BTreeSet<usize> = self.past.keys().copied().filter(|nth| !seen.contains(nth)).collect();
        let number = |sibling: &Sibling| match &sibling.content {
            Content::Live(value) => usize::from_be_bytes(value.as_slice().try_into().expect("a number")),
            Content::Tombstone => unreachable!("nothing is deleted here"),
        };
        let found: BTreeSet<usize> = self.state.iter().flat_map(State::versions).map(number).collect();
        assert_eq!(found, expected);
    }
}

fn bytes(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    state.encode(&mut out);
    out
}

proptest! {
    #[test]
    fn joining_is_commutative_associative_and_idempotent(a in sibling(), b in sibling(), c in sibling()) {
        // What was written at one stamp by one actor, with one content, was one write.
        prop_assume!(a.rank() != b.rank() || a == b);
        prop_assume!(b.rank() != c.rank() || b == c);
        prop_assume!(a.rank() != c.rank() || a == c);
        let (a, b, c) = (State::single(a), State::single(b), State::single(c));
        let keys = keys();
        let join = |a: &State, b: &State| a.join(b, Keeps::Newest, &keys);
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &a), a);
    }

    /// Some replicas write, having seen what they have, and join each other's states, against a model that knows the
    /// whole past of each write.
    #[test]
    fn a_state_is_what_no_other_has_seen_whatever_the_clocks_say(
        steps in proptest::collection::vec(step(), 1..40), skews in proptest::array::uniform4(0u64..100),
    ) {
        let mut replicas = vec![Replica::default(); 4];
        for (nth, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(at) => replicas[at].write(at, skews[at], nth),
                Step::Join { from, to } => {
                    let from = replicas[from].clone();
                    replicas[to].join(&from);
                }
            }
            for replica in &replicas {
                replica.check();
            }
        }
        let all = replicas.iter().skip(1).fold(replicas[0].clone(), |mut all, one| { all.join(one); all });
        let back = replicas.iter().rev().skip(1).fold(replicas[3].clone(), |mut all, one| { all.join(one); all });
        prop_assert_eq!(&all.state, &back.state);
        replicas.iter_mut().for_each(|replica| replica.join(&all));
        prop_assert!(replicas.iter().all(|replica| replica.state == all.state));
    }

    #[test]
    fn sets_of_anyone_join_to_a_state_that_can_be_read(a in proptest::collection::vec(sibling(), 1..50), b in proptest::collection::vec(sibling(), 1..50)) {
        let keys = keys();
        let (a, b) = (State::of(a), State::of(b));
        for keeps in [Keeps::Newest, Keeps::All] {
            let joined = a.join(&b, keeps, &keys);
            prop_assert_eq!(&joined, &b.join(&a, keeps, &keys));
            prop_assert_eq!(State::decode(&bytes(&joined)), Ok(joined.clone()));
        }
    }

    #[test]
    fn a_state_has_one_encoding(a in sibling(), noise in proptest::collection::vec(any::<u8>(), 0..60)) {
        let state = State::single(a);
        prop_assert_eq!(State::decode(&bytes(&state)), Ok(state.clone()));
        if let Ok(found) = State::decode(&noise) {
            prop_assert_eq!(bytes(&found), noise);
        }
        let mut torn = bytes(&state);
        torn.pop();
        prop_assert!(State::decode(&torn).is_err());
    }
}

#[test]
fn a_write_has_seen_what_it_replaces_and_what_that_had_seen() {
    let a = Version::after(Stamp(1), Actor(1), []);
    let b = Version::after(Stamp(2), Actor(2), [&a]);
    let c = Version::after(Stamp(3), Actor(3), [&b]);
    assert!(c.has_seen(&b) && c.has_seen(&a) && !a.has_seen(&c) && !b.has_seen(&c));
    let other = Version::after(Stamp(9), Actor(4), [&a]);
    assert!(!other.has_seen(&b) && !b.has_seen(&other), "neither knew of the other");
}

#[test]
fn a_vector_keeps_its_greatest_stamps() {
    let mut vector = Vector::default();
    (0..100).for_each(|i| vector.see(Actor(i), Stamp(1000 - i)));
    let kept: Vec<u64> = vector.iter().map(|(actor, _)| actor.0).collect();
    assert_eq!(kept, (0..32).collect::<Vec<u64>>());
}

proptest! {
    #[test]
    fn what_expires_may_do_so_before_a_join_or_after(
        a in proptest::collection::vec(written(), 1..5),
        b in proptest::collection::vec(written(), 1..5),
        watermark in 0u64..4,
        newest: bool,
    ) {
        let keeps = if newest { Keeps::Newest } else { Keeps::All };
        let state = |versions: &[Sibling]| {
            let mut states = versions.iter().cloned().map(State::single);
            let first = states.next().expect("one at least");
            states.fold(first, |all, one| all.join(&one, keeps, &keys()))
        };
        let (a, b) = (state(&a), state(&b));
        let expired = |state: &State| state.expired(watermark).unwrap_or_else(|| state.clone());
        let after = expired(&a.join(&b, keeps, &keys()));
        prop_assert_eq!(&expired(&a).join(&expired(&b), keeps, &keys()), &after);
        prop_assert_eq!(&expired(&a).join(&b, keeps, &keys()), &b.join(&expired(&a), keeps, &keys()));
        prop_assert_eq!(expired(&expired(&a).join(&b, keeps, &keys())), after);
        prop_assert_eq!(expired(&a).join(&a, keeps, &keys()), expired(&a));
        let mut bytes = Vec::new();
        expired(&a).encode(&mut bytes);
        prop_assert_eq!(State::decode(&bytes), Ok(expired(&a)));
    }
}

/// A version as a store writes it: what a name stands for is written once, and no tombstone expires.
fn written() -> impl Strategy<Value = Sibling> {
    (1u64..9, 0u64..3).prop_map(|(stamp, actor)| {
        let name = stamp * 3 + actor;
        let mut seen = Vector::default();
        // What a version has seen has lesser stamps.
        (0..name % 4).for_each(|other| seen.see(Actor(other), Stamp((name * 5 + other * 3) % stamp)));
        let content = if name % 4 == 0 { Content::Tombstone } else { Content::Live(vec![name as u8]) };
        let expires = (name % 4 != 0 && name % 3 != 0).then_some(name % 5);
        Sibling { version: Version { stamp: Stamp(stamp), actor: Actor(actor), seen }, content, expires }
    })
}
