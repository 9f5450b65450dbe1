//! Who agrees with whom where several sides are not all equal: which of them is the odd one out in which ranges, or that no
//! majority is.
//!
//! One side, the *centre*, was compared with each of the others; that finding what differs, and that nothing moved meanwhile,
//! is for whoever did so.

use std::collections::{BTreeMap, BTreeSet};

use crate::dataset::CollectionId;
use crate::range::{DEPTH_MAX, Position, Range};

/// Sides of one comparison.
pub const SIDES_MAX: usize = 16;
/// Ranges that are told at most, if there are no more collections than that.
pub const SPANS_MAX: usize = 256;
/// Keys that are held at most: some 100 bytes each.
pub const KEYS_MAX: usize = 1_000_000;

/// A key in which not all sides are equal: its collection, where it lies, and the first 8 bytes of its digest.
pub type Place = (CollectionId, Position, u64);
/// What a side has of a key: the first 8 bytes of its entry's digest; none if it has no record.
pub type Has = Option<u64>;

/// Which sides have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Groups(Vec<u8>);

impl Groups {
    /// Of what each side has.
    pub fn of<T: PartialEq>(has: &[T]) -> Groups {
        let mut groups: Vec<u8> = Vec::with_capacity(has.len());
        let mut known = 0;
        for (nth, mine) in has.iter().enumerate() {
            let group = has[..nth].iter().position(|other| other == mine).map_or(known, |same| groups[same]);
            known += u8::from(group == known);
            groups.push(group);
        }
        Groups(groups)
    }

    /// The sides that agree with each other, group by group; sides are told by their places.
    pub fn sets(&self) -> Vec<Vec<usize>> {
        let groups: BTreeSet<u8> = self.0.iter().copied().collect();
        groups.into_iter().map(|group| self.members(group)).collect()
    }

    /// Those that more than half of all sides agree with, if there are such.
    pub fn majority(&self) -> Option<Vec<usize>> {
        self.sets().into_iter().find(|set| 2 * set.len() > self.0.len())
    }

    /// Those that the majority does not agree with; nobody where there is none.
    pub fn odd(&self) -> Vec<usize> {
        let majority = self.majority();
        majority.map_or(Vec::new(), |most| (0..self.0.len()).filter(|side| !most.contains(side)).collect())
    }

    fn members(&self, group: u8) -> Vec<usize> {
        (0..self.0.len()).filter(|side| self.0[*side] == group).collect()
    }
}

/// Positions from one to another, in which the same sides agree wherever not all do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// In which collection.
    pub collection: CollectionId,
    /// The first position.
    pub first: Position,
    /// The last one.
    pub last: Position,
    /// Keys in it in which not all sides agree.
    pub keys: u64,
    /// Which sides have the same in all of it.
    pub groups: Groups,
    /// Whether of some keys in it others agree than of others, which was too much to be told apart.
    pub mixed: bool,
}

impl Span {
    /// The share of all positions that lies in it, and so about that of all records.
    pub fn share(&self) -> f64 {
        ((self.last.0 - self.first.0) as f64 + 1.0) / 2f64.powi(64)
    }
}

/// What several sides have of the keys in which not all are equal.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    sides: usize,
    keys: BTreeMap<Place, Vec<Has>>,
    moved: BTreeSet<Place>,
}

impl Agreement {
    /// Puts together what the centre, the first side, and each other side have of the keys in which those two differ. What is
    /// told of none of them is the same on all sides. A key of which the centre is told to have two things has moved.
    pub fn of(others: &[BTreeMap<Place, [Has; 2]>]) -> Agreement {
        let mut all = Agreement { sides: others.len() + 1, ..Agreement::default() };
        for (place, [centre, _]) in others.iter().flatten() {
            let row = all.keys.entry(*place).or_insert_with(|| vec![*centre; others.len() + 1]);
            if row[0] != *centre {
                all.moved.insert(*place);
            }
        }
        for (side, differs) in others.iter().enumerate() {
            for (place, [_, other]) in differs {
                if let Some(row) = all.keys.get_mut(place) {
                    row[side + 1] = *other;
                }
            }
        }
        all.leave_out_moved();
        all
    }

    /// Leaves out keys that the centre may not have had all the time as they are.
    pub fn leave_out(&mut self, moved: impl Fn(&Place) -> bool) {
        self.moved.extend(self.keys.keys().copied().filter(|place| moved(place)));
        self.leave_out_moved();
    }

    fn leave_out_moved(&mut self) {
        self.keys.retain(|place, _| !self.moved.contains(place));
    }

    /// The keys, with what each side has.
    pub fn keys(&self) -> &BTreeMap<Place, Vec<Has>> {
        &self.keys
    }

    /// How many keys moved meanwhile, and are judged by nobody.
    pub fn moved(&self) -> u64 {
        self.moved.len() as u64
    }

    /// How many keys there are of each way to agree.
    pub fn counts(&self) -> BTreeMap<Groups, u64> {
        let mut counts = BTreeMap::new();
        self.keys.values().for_each(|row| *counts.entry(Groups::of(row)).or_insert(0) += 1);
        counts
    }

    /// In how many keys each side is among the odd ones.
    pub fn odd(&self) -> Vec<u64> {
        let mut odd = vec![0; self.sides];
        for (groups, keys) in self.counts() {
            groups.odd().into_iter().for_each(|side| odd[side] += keys);
        }
        odd
    }

    /// The ranges, in order, as fine as `most` of them can be, though at least one of a collection. Between two of them, and
    /// between the keys in one, all sides agree.
    pub fn spans(&self, most: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        for depth in (0..=DEPTH_MAX).rev() {
            spans = self.spans_at(depth);
            if spans.len() <= most {
                break;
            }
        }
        spans
    }

    /// Ranges of this depth, joined where the same sides agree.
    fn spans_at(&self, depth: u8) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut rest = self.keys.iter().peekable();
        while let Some(((collection, position, _), row)) = rest.next() {
            let range = Range::of(*position, depth);
            let mut rows = vec![row];
            let within = |(in_collection, at, _): &Place| in_collection == collection && range.contains(*at);
            while let Some((_, row)) = rest.next_if(|(place, _)| within(place)) {
                rows.push(row);
            }
            let of_keys: Vec<Groups> = rows.iter().map(|row| Groups::of(row)).collect();
            let mixed = of_keys.iter().any(|groups| *groups != of_keys[0]);
            // What a range is worth to a side is all that it has there.
            let whole: Vec<Vec<Has>> = (0..self.sides).map(|side| rows.iter().map(|row| row[side]).collect()).collect();
            let span = Span {
                collection: *collection,
                first: range.first(),
                last: range.last(),
                keys: rows.len() as u64,
                groups: Groups::of(&whole),
                mixed,
            };
            match spans.last_mut().filter(|before| before.goes_on(&span)) {
                Some(before) => (before.last, before.keys) = (span.last, before.keys + span.keys),
                None => spans.push(span),
            }
        }
        spans
    }
}

impl Span {
    fn goes_on(&self, next: &Span) -> bool {
        self.collection == next.collection && self.groups == next.groups && self.mixed == next.mixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Side = BTreeMap<Place, u64>;

    fn differences(sides: &[Side]) -> Vec<BTreeMap<Place, [Has; 2]>> {
        let centre = &sides[0];
        let of = |other: &Side| {
            let places: BTreeSet<&Place> = centre.keys().chain(other.keys()).collect();
            let rows = places.into_iter().map(|p| (*p, [centre.get(p).copied(), other.get(p).copied()]));
            rows.filter(|(_, [mine, theirs])| mine != theirs).collect()
        };
        sides[1..].iter().map(of).collect()
    }

    fn sides() -> impl Strategy<Value = Vec<Side>> {
        // Few places, near and far from each other, some of two keys; few values, so that sides agree.
        let place = (0u16..2, 0u64..12, 0u64..2)
            .prop_map(|(c, p, print)| (CollectionId(c), Position((p % 4) << 60 | (p / 4) << 4), print));
        let side = prop::collection::btree_map(place, 0u64..2, 0..12);
        (side.clone(), prop::collection::vec((side, 0u8..5), 1..6)).prop_map(|(base, changes)| {
            // Most have most of what one of them has.
            let changed = |(change, kept): (Side, u8)| match kept {
                0 => change,
                _ => base.clone().into_iter().chain(change.into_iter().take(usize::from(kept))).collect(),
            };
            changes.into_iter().map(changed).chain([base.clone()]).collect()
        })
    }

    proptest! {
        #[test]
        fn spans_tell_of_every_key_what_looking_at_all_sides_does(sides in sides(), most in 2usize..8) {
            let all = Agreement::of(&differences(&sides));
            let places: BTreeSet<&Place> = sides.iter().flat_map(BTreeMap::keys).collect();
            let has = |place: &Place| -> Vec<Has> { sides.iter().map(|side| side.get(place).copied()).collect() };
            let differ: Vec<Place> = places.into_iter().copied().filter(|p| Groups::of(&has(p)).sets().len() > 1).collect();
            prop_assert_eq!(all.keys().keys().copied().collect::<Vec<_>>(), differ.clone());
            prop_assert_eq!(all.moved(), 0);
            let spans = all.spans(most);
            prop_assert!(spans.len() <= most);
            prop_assert_eq!(spans.iter().map(|span| span.keys).sum::<u64>(), differ.len() as u64);
            let within = |span: &Span, (c, at, _): &Place| span.collection == *c && span.first <= *at && *at <= span.last;
            for place in &differ {
                let of: Vec<&Span> = spans.iter().filter(|span| within(span, place)).collect();
                prop_assert_eq!(of.len(), 1, "{:?} in {:?}", place, spans);
                prop_assert!(of[0].mixed || of[0].groups == Groups::of(&has(place)));
            }
            for span in &spans {
                // Sides are told to agree exactly where all that they have in it is equal.
                let whole: Vec<Vec<(Place, u64)>> = sides.iter()
                    .map(|side| side.iter().filter(|(p, _)| within(span, p)).map(|(p, v)| (*p, *v)).collect()).collect();
                prop_assert_eq!(&span.groups, &Groups::of(&whole));
                prop_assert!(span.share() > 0.0 && span.share() <= 1.0);
            }
            for pair in spans.windows(2) {
                prop_assert!((pair[0].collection, pair[0].last) < (pair[1].collection, pair[1].first));
                prop_assert!(!pair[0].goes_on(&pair[1]));
            }
            // With room for all, only keys of one position are not told apart.
            for span in all.spans(usize::MAX).iter().filter(|span| span.mixed) {
                let here: Vec<&Place> = differ.iter().filter(|place| within(span, place)).collect();
                let apart = |one: &Place, other: &Place| one.1 == other.1 && Groups::of(&has(one)) != Groups::of(&has(other));
                prop_assert!(here.iter().all(|one| here.iter().any(|other| apart(one, other))));
            }
        }

        #[test]
        fn a_majority_is_more_than_half_and_the_odd_are_the_others(has in prop::collection::vec(0u8..4, 1..9)) {
            let groups = Groups::of(&has);
            let most = (0..4u8).find(|value| 2 * has.iter().filter(|other| *other == value).count() > has.len());
            prop_assert_eq!(groups.majority().is_some(), most.is_some());
            let odd = (0..has.len()).filter(|side| most.is_some_and(|most| has[*side] != most));
            prop_assert_eq!(groups.odd(), odd.collect::<Vec<_>>());
            prop_assert_eq!(groups.sets().concat().len(), has.len());
            for set in groups.sets() {
                prop_assert!(set.iter().all(|side| has[*side] == has[set[0]]));
            }
        }
    }

    #[test]
    fn a_key_of_which_the_centre_had_two_things_is_judged_by_nobody() {
        let place = |at| (CollectionId(0), Position(at), 0);
        let one = BTreeMap::from([(place(1), [Some(1), None]), (place(2), [Some(5), None])]);
        let two = BTreeMap::from([(place(1), [Some(2), None])]);
        let mut all = Agreement::of(&[one, two]);
        assert_eq!((all.moved(), all.keys().len()), (1, 1));
        all.leave_out(|(_, at, _)| at.0 == 2);
        assert_eq!((all.moved(), all.keys().len(), all.spans(8)), (2, 0, vec![]));
    }
}
