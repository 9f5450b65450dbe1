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
        let keys = Keys::new(&crate::digest::DatasetKey::from_bytes([1; 32]));
        prop_assert_eq!(a.join(&b, &keys), b.join(&a, &keys));
        prop_assert_eq!(a.join(&b, &keys).join(&c, &keys), a.join(&b.join(&c, &keys), &keys));
        prop_assert_eq!(a.join(&a, &keys), a);
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
