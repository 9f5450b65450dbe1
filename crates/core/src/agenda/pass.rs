//! A pass through all records of a store, which several runs of a job may make: each goes on where the one before ended.
//!
//! Reading the records, and judging them, is left to others.

use serde::{Deserialize, Serialize};

use crate::dataset::CollectionId;
use crate::range::{Position, Range};
use crate::stamp::Millis;

/// Records of a part, at most and at least; one that takes longer than there is time for is halved.
const MOST: u64 = 16_384;
const LEAST: u64 = 64;

/// How far a pass has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// What it goes through, by its name: what has another is begun anew.
    pub store: String,
    /// How many collections that has.
    pub collections: u16,
    /// When it began.
    pub began: Millis,
    /// The collection that is read; beyond the last of them it is over.
    pub collection: u16,
    /// What lies before this in it was read.
    pub from: u64,
    /// Records that were read.
    pub records: u64,
    /// What was found to be wrong.
    pub faults: u64,
    /// What the pass before this one found, which holds until this one is over.
    pub before: u64,
    /// Records of the next part, at most.
    pub most: u64,
}

impl Pass {
    /// One that has read nothing.
    pub fn begin(store: String, collections: u16, began: Millis) -> Pass {
        Pass { store, collections, began, collection: 0, from: 0, records: 0, faults: 0, before: 0, most: MOST }
    }

    /// The same if it goes through that store and is not over, or else a new one.
    #[must_use]
    pub fn through(self, store: &str, collections: u16, now: Millis) -> Pass {
        let new = Pass::begin(store.into(), collections, now);
        match (self.store == store && self.collections == collections, self.next()) {
            (false, _) => new,
            (true, None) => Pass { before: self.faults, most: self.most, ..new },
            (true, Some(_)) => self,
        }
    }

    /// How much is wrong with the store, as far as it is known: what was found is so until a later pass has come to its end.
    pub fn wrong(&self) -> u64 {
        if self.next().is_none() { self.faults } else { self.faults.max(self.before) }
    }

    /// Where it goes on: the collection, and the first position that was not read; nothing once all was.
    pub fn next(&self) -> Option<(CollectionId, Position)> {
        (self.collection < self.collections).then_some((CollectionId(self.collection), Position(self.from)))
    }

    /// A range was read that holds where it went on.
    pub fn note(&mut self, range: Range, records: u64, faults: u64) {
        (self.records, self.faults) = (self.records + records, self.faults + faults);
        // Slowly, so that what was given up is not tried again at once.
        self.most = (self.most + self.most / 16 + 1).clamp(LEAST, MOST);
        match range.last().0.checked_add(1) {
            Some(from) => self.from = from,
            None => (self.collection, self.from) = (self.collection + 1, 0),
        }
    }

    /// A part was given up before its end. The next is half as large; says whether it can be.
    pub fn give_up(&mut self) -> bool {
        let less = (self.most / 2).max(LEAST);
        std::mem::replace(&mut self.most, less) != less
    }

    /// The share of all positions that was read, in millionths.
    pub fn share(&self) -> u32 {
        let read = (u128::from(self.collection) << 64) + u128::from(self.from);
        let all = u128::from(self.collections.max(1)) << 64;
        u32::try_from(read.min(all) * 1_000_000 / all).unwrap_or(1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_goes_through_each_collection_and_is_over() {
        let mut pass = Pass::begin("s".into(), 2, 5);
        let mut shares = Vec::new();
        let mut nexts = Vec::new();
        while let Some((collection, position)) = pass.next() {
            nexts.push((collection.0, position.0));
            shares.push(pass.share());
            // Of the second the last half is read at once.
            let deep = if collection.0 == 1 && position.0 >= 8 << 60 { 0 } else { 1 };
            pass.note(Range::of(position, deep), 10, u64::from(position.0 == 0));
        }
        assert_eq!(nexts.len(), 16 + 9);
        assert_eq!((nexts[0], nexts[15], nexts[16], nexts[24]), ((0, 0), (0, 15 << 60), (1, 0), (1, 8 << 60)));
        assert_eq!((shares[0], shares[8], shares[16], pass.share()), (0, 250_000, 500_000, 1_000_000));
        assert_eq!((pass.records, pass.faults, pass.began), (250, 2, 5));
        assert_eq!(pass.clone().through("t", 2, 9), Pass::begin("t".into(), 2, 9));
        assert_eq!(pass.clone().through("s", 3, 9).before, 0);
        // What was found is so until the next has come to its end.
        let mut next = pass.through("s", 2, 9);
        assert_eq!((next.began, next.faults, next.before, next.wrong()), (9, 0, 2, 2));
        while let Some((_, position)) = next.next() {
            assert_eq!(next.clone().through("s", 2, 10), next);
            assert_eq!(next.wrong(), 2);
            next.note(Range::of(position, 1), 10, 0);
        }
        assert_eq!(next.wrong(), 0);
    }

    #[test]
    fn a_part_that_takes_too_long_is_halved_until_it_is_small_and_grows_again() {
        let mut pass = Pass::begin("s".into(), 1, 0);
        let halved = (0..20).take_while(|_| pass.give_up()).count();
        assert_eq!((halved, pass.most), (8, 64));
        pass.note(Range::of(Position(0), 1), 1, 0);
        assert_eq!(pass.most, 69);
        (0..100).for_each(|_| pass.note(Range::ALL.child(1), 1, 0));
        assert_eq!(pass.most, 16_384);
    }
}
