//! What a store makes of overwrites: versions of its own, over what was compared alone, that have seen all that they should.

use std::collections::{BTreeMap, BTreeSet};

use reknit_core::bounds::KEY_BYTES_MAX;
use reknit_core::query::{Applied, Overwrite, Replacement, Selection};
use reknit_core::{Actor, CollectionId, Content, Millis, Range, Sibling, Stamp, State, Version};

use super::answers::pages;
use super::histories::{EXPIRES, Held, Named, Records, Tally, UNKNOWN, content, foreign, key};
use crate::store::engine::conformance::Draw;
use crate::store::{Durability, Side};

/// What is refused, what has moved, and how a batch is decided.
pub(super) fn run(side: &dyn Side, collection: CollectionId) {
    let named = Named::of(side, collection);
    let take = |key: &[u8], expected, value: &[u8], seen| Overwrite {
        key: key.to_vec(),
        expected,
        content: Replacement::Take(value.to_vec(), None),
        seen,
    };
    let overwrite = |batch| side.overwrite(collection, batch, Durability::Synced).expect("overwrite");
    let before = side.cut().expect("cut");
    let ahead = Version::after(Stamp(u64::MAX), Actor(1), []);
    let bad = vec![
        take(&[1; KEY_BYTES_MAX + 1], None, b"x", vec![]),
        take(b"future", None, b"x", vec![ahead]),
        take(b"gone", Some(7), b"x", vec![]),
    ];
    let done = overwrite(bad);
    let found = (done.applied, done.moved, done.refused.len());
    assert_eq!(
        found,
        (0, 1, 2),
        "what became of each: a key too long, a version seen from the future, one that is gone"
    );
    assert!(done.refused[0].1.contains("65536"), "{:?}", done.refused[0].1);
    assert_eq!(done.refused[1].0, b"future", "what was refused is named");
    assert!(done.refused[1].1.contains("ahead"), "{:?}", done.refused[1].1);
    assert_eq!(side.cut().expect("cut").roots, before.roots, "nothing was written");
    assert_eq!((overwrite(vec![]).commit, done.commit), (before.commit, before.commit), "nothing written is no commit");

    let done = overwrite(vec![take(b"o", None, b"one", vec![]), take(b"o", None, b"two", vec![])]);
    assert_eq!((done.applied, done.moved), (1, 1), "a batch is decided in order: something is there now");
    let held = super::item(side, collection, b"o").expect("it was written");
    assert_eq!(held.versions[0].content, Some(named.info.keys.content(b"one")), "it holds what it was to take");
    assert_eq!((done.losses.deleted, done.losses.changed), (0, 0), "nothing was there before");

    let mut draw = Draw(u64::from(collection.0));
    let mut model = Records::new();
    let kept = pages(side, collection, &Selection::Range(Range::ALL), 1 << 20, "overwrites").0;
    model.extend(kept.into_iter().map(|record| (record.key, Held { state: record.state, commits: UNKNOWN })));
    // Several times, so that there is something to be kept, deleted and replaced; more than a session hands over at once.
    for size in [300, 200, 100] {
        batch(side, &named, &mut model, (&mut draw, size), "overwrites");
    }
}

/// What a key should hold then, apart from the stamp.
struct Should {
    content: Content,
    expires: Option<Millis>,
    replaced: Vec<Version>,
}

/// Overwrites what is drawn, and lays what was written into the model. Gives what became of it, the last stamp that was given
/// out, and the last that was handed in.
pub(super) fn batch(
    side: &dyn Side,
    named: &Named,
    model: &mut Records,
    (draw, size): (&mut Draw, usize),
    note: &str,
) -> (Applied, Stamp, Stamp) {
    let before = side.cut().expect("cut");
    let (mut batch, mut should, mut tally) = (Vec::new(), BTreeMap::new(), Tally::default());
    let (mut keys, mut handed) = (BTreeSet::new(), Stamp::default());
    for _ in 0..size {
        let key = key(draw);
        if !keys.insert(key.clone()) {
            continue;
        }
        let held = model.get(&key).map(|held| &held.state);
        let right = named.short(&key, held);
        let expected = if draw.below(5) == 0 { Some(draw.bits()) } else { right };
        let (content, content_of) = replacement(draw, held);
        let seen: Vec<Version> = (0..draw.below(3)).map(|_| foreign(draw)).collect();
        // What was seen had seen others in its turn.
        let seen: Vec<Version> =
            seen.into_iter().map(|one| Version::after(one.stamp, one.actor, [&foreign(draw)])).collect();
        handed = seen.iter().map(|version| version.stamp).fold(handed, Stamp::max);
        if expected == right {
            let held = held.into_iter().flat_map(State::versions).map(|sibling| sibling.version.clone());
            let replaced = held.chain(seen.iter().cloned()).collect();
            should.insert(key.clone(), Should { content: content_of.0, expires: content_of.1, replaced });
        } else {
            tally.moved += 1;
        }
        batch.push(Overwrite { key, expected, content, seen });
    }
    let done = side.overwrite(named.id, batch, Durability::Buffered).expect("overwrite");
    let found = pages(side, named.id, &Selection::Range(Range::ALL), 1 << 20, note).0;
    let mut found: BTreeMap<Vec<u8>, State> = found.into_iter().map(|record| (record.key, record.state)).collect();
    let mut given = BTreeSet::new();
    for (key, Should { content, expires, replaced }) in should {
        let note = format!("{note}: the overwrite of {:?}", key.escape_ascii().to_string());
        let state = found.remove(&key).unwrap_or_else(|| panic!("{note} is not there"));
        let version = state.winner().version.clone();
        assert!(version.stamp > before.stamp, "{note} has a stamp that was given out or seen before");
        assert!(replaced.iter().all(|one| version.stamp > one.stamp), "{note} is older than what it replaces");
        assert!(given.insert(version.stamp), "{note} has the stamp of another");
        let version = Version::after(version.stamp, named.info.actor, &replaced);
        let all = State::single(Sibling { version, content, expires });
        assert_eq!(state, all, "{note} is one version of this store's that has seen all it replaces, and no more");
        tally.lay(model.get(&key).map(|held| &held.state), &state);
        model.insert(key, Held { state, commits: UNKNOWN });
    }
    tally.check(&done, note);
    let last = given.last().copied().unwrap_or_default();
    assert!(side.cut().expect("cut").stamp >= last, "{note}: what was given out shows in the cut");
    (done, last, handed)
}

/// What a key is to hold, and what that comes to.
fn replacement(draw: &mut Draw, held: Option<&State>) -> (Replacement, (Content, Option<Millis>)) {
    let drawn = content(draw);
    let sibling = |expires| Sibling { version: foreign(&mut Draw(7)), content: drawn.0.clone(), expires };
    // Of several versions a policy would choose.
    let shown = held.map_or(Some((Content::Tombstone, None)), |held| match held.versions() {
        [one] => Some((one.content.clone(), one.expires)),
        _ => None,
    });
    match (draw.below(5), shown) {
        (0 | 1, Some(shown)) => (Replacement::Keep, shown),
        (2, _) => (Replacement::Delete, (Content::Tombstone, None)),
        (3, _) => (Replacement::Shown(State::single(sibling(drawn.1))), drawn),
        _ => match drawn {
            (Content::Live(value), expires) => {
                (Replacement::Take(value.clone(), expires), (Content::Live(value), expires))
            }
            (Content::Tombstone, _) => {
                (Replacement::Take(Vec::new(), Some(EXPIRES)), (Content::Live(Vec::new()), Some(EXPIRES)))
            }
        },
    }
}
