//! Pictures and histories against plain maps, and the bytes that they are kept as.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::difference::Side;
use crate::range::Position;

fn difference(key: &[u8], kind: Kind) -> Difference {
    Difference {
        collection: CollectionId(0),
        position: Position(0),
        key: key.to_vec(),
        kind,
        mine: None,
        theirs: None,
        entries: [Some(1), None],
        shared: Vec::new(),
        stable: true,
    }
}

fn picture(at: Millis, keys: impl IntoIterator<Item = u32>) -> Picture {
    let mut picture = Picture::new(at);
    keys.into_iter().for_each(|key| picture.add(&difference(&key.to_be_bytes(), Kind::Content), false));
    picture
}

fn pair() -> Pair {
    Pair {
        a: "a".into(),
        b: "b".into(),
        compared: "people".into(),
        scope: vec!["people".into()],
        collections: vec!["people".into()],
        layout: vec![1],
    }
}

fn prints(keys: &BTreeSet<u32>) -> BTreeSet<u64> {
    keys.iter().map(|key| fingerprint(CollectionId(0), &key.to_be_bytes())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is said of two moments is what two plain sets say.
    #[test]
    fn what_became_of_keys_is_what_sets_say(then in proptest::collection::btree_set(0u32..40, 0..20), now in proptest::collection::btree_set(0u32..40, 0..20)) {
        let (one, other) = (picture(1, then.iter().copied()), picture(2, now.iter().copied()));
        let changes = Changes::between(&one, &other);
        prop_assert!(changes.exact);
        let (then, now) = (prints(&then), prints(&now));
        for (change, said) in [
            (Change::New, now.difference(&then).copied().collect::<BTreeSet<_>>()),
            (Change::Open, now.intersection(&then).copied().collect()),
            (Change::Healed, then.difference(&now).copied().collect()),
        ] {
            let found = changes.keys.iter().filter(|(_, (became, _))| *became == change).map(|(print, _)| *print);
            prop_assert_eq!(found.collect::<BTreeSet<_>>(), said);
        }
    }

    /// A key is as old as its unbroken row of moments, whatever comes between; the bytes bring all of it back.
    #[test]
    fn a_key_is_as_old_as_since_when_it_has_differed(moments in proptest::collection::vec(proptest::collection::btree_set(0u32..6, 0..6), 1..90)) {
        let mut history = History::new(pair());
        let mut first: BTreeMap<u64, Millis> = BTreeMap::new();
        for (at, keys) in (100..).zip(&moments) {
            history.add(picture(at, keys.iter().copied()));
            first = prints(keys).into_iter().map(|print| (print, first.get(&print).copied().unwrap_or(at))).collect();
            let last = history.pictures().back().expect("one");
            let kept: BTreeMap<u64, Millis> = last.keys.iter().map(|(print, seen)| (*print, seen.first)).collect();
            prop_assert_eq!(&kept, &first);
            prop_assert!(history.pictures().len() <= PICTURES_MAX);
        }
        prop_assert_eq!(history.pictures()[0].at, 100);
        prop_assert_eq!(History::from_bytes(&history.to_bytes()), Ok(history));
    }

    /// Bytes that are changed anywhere are refused, and none of them is a panic.
    #[test]
    fn bytes_that_were_changed_are_refused(at in 0usize..200, flip in 1u8..) {
        let mut history = History::new(pair());
        history.add(picture(5, [1]));
        let mut bytes = history.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        prop_assert_eq!(History::from_bytes(&bytes), Err(KeptError::Damaged));
        prop_assert_eq!(History::from_bytes(&bytes[..at]), Err(KeptError::Damaged));
    }
}

#[test]
fn past_the_bound_what_is_said_is_true_and_says_that_it_is_not_all() {
    let many = u32::try_from(KEYS_MAX).expect("small") + 1000;
    let (then, now) = (picture(1, 0..many), picture(2, 500..many + 500));
    assert_eq!((then.keys.len(), then.total, then.is_whole()), (KEYS_MAX, u64::from(many), false));
    let changes = Changes::between(&then, &now);
    assert!(!changes.exact);
    let healed = prints(&(0..500).collect());
    let fresh = prints(&(many..many + 500).collect());
    for (print, (change, _)) in &changes.keys {
        let truth = match (healed.contains(print), fresh.contains(print)) {
            (true, _) => Change::Healed,
            (_, true) => Change::New,
            _ => Change::Open,
        };
        assert_eq!(*change, truth);
    }
    assert!([Change::New, Change::Open, Change::Healed].iter().all(|change| changes.count(*change) > 0));
    // Such pictures fill a history sooner; the newest always stays.
    let mut history = History::new(pair());
    (0..40).for_each(|at| history.add(picture(at, 0..many)));
    assert!(history.pictures().len() <= 16 && history.pictures().back().is_some_and(|picture| picture.at == 39));
    assert_eq!(history.pictures().back().and_then(Picture::oldest).map(|seen| seen.first), Some(0));
    let bytes = history.to_bytes();
    assert!(bytes.len() <= BYTES_MAX / 2);
    assert_eq!(History::from_bytes(&bytes), Ok(history));
}

#[test]
fn long_ago_is_remembered_more_coarsely_and_then_is_the_last_moment_before() {
    let mut history = History::new(pair());
    assert_eq!(history.then(5), None);
    (0..10_000).for_each(|hour| history.add(picture(hour * 3_600_000, [])));
    assert_eq!(history.pictures().len(), PICTURES_MAX);
    let now = 9_999 * 3_600_000;
    for days in [1, 7, 30, 300] {
        let asked = now - days * 86_400_000;
        let then = history.then(asked).expect("one").at;
        assert!(
            then <= asked && asked - then <= days * 86_400_000 / 2,
            "{days} d: {} h off",
            (asked - then) / 3_600_000
        );
    }
    assert_eq!(history.then(u64::MAX).map(|picture| picture.at), Some(now - 3_600_000));
}

#[test]
fn a_clock_that_was_put_back_makes_no_future() {
    let mut history = History::new(pair());
    history.add(picture(1000, [1]));
    history.add(picture(10, [1]));
    assert_eq!(history.pictures().iter().map(|picture| picture.at).collect::<Vec<_>>(), [10, 10]);
    assert_eq!(history.pictures()[1].oldest().map(|seen| seen.first), Some(10));
    assert_eq!(History::from_bytes(&history.to_bytes()), Ok(history));
}

#[test]
fn sides_are_told_as_they_were_typed_and_what_is_tolerated_is_no_difference() {
    let mut picture = Picture::new(7);
    picture.add(&difference(b"k", Kind::Only(Side::Mine)), true);
    picture.add(&difference(b"t", Kind::Tolerated), true);
    picture.add(&difference(&[0; KEY_BYTES_MAX + 1], Kind::Content), false);
    assert_eq!(picture.total, 2);
    let seen = &picture.keys[&fingerprint(CollectionId(0), b"k")];
    assert_eq!((seen.kind, seen.entries), (Kind::Only(Side::Theirs), [None, Some(1)]));
    assert!(picture.keys[&fingerprint(CollectionId(0), &[0; KEY_BYTES_MAX + 1])].key.is_empty());
}

#[test]
fn the_bytes_are_what_they_were() {
    let mut history = History::new(pair());
    history.add(picture(5, [1]));
    let hex: String = history.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "72656b6e69744401",                                                 // what they are, and the version
            "9296a161a162a670656f706c6591a670656f706c6591a670656f706c65c40101", // the pair
            "9193050181cf59a8d0e54e4261979500c40400000001a7436f6e74656e749201c0",
            "05",                                                               // one moment with one key
            "0626315f890494fc81984c508e024d3fa9c249866c19d0eaa446f18c94123216", // the digest of all that
        )
    );
}
