//! Pushed records that were not taken in, since too much would have been lost: how many, and some of their keys.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reknit_core::brakes::SAMPLES_MAX;
use reknit_core::query::Item;
use reknit_core::{CollectionId, Position, Record};

/// Records that are told apart; of more it is only known that there are so many.
const WITHHELD_MAX: usize = 65_536;
/// Of so many a key is kept, if it is no longer than that.
const KEYS_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 256;

/// Records of a store that are withheld from it.
#[derive(Clone, Debug, Default)]
pub(super) struct Withheld(BTreeMap<(CollectionId, Position), One>);

/// The key, if it is kept, and when it was heard of last.
type One = (Option<Vec<u8>>, Instant);

impl Withheld {
    /// One more; says whether it is the first.
    pub(super) fn add(&mut self, at: (CollectionId, Position), key: &[u8], now: Instant) -> bool {
        let first = self.0.is_empty();
        if self.0.contains_key(&at) || self.0.len() < WITHHELD_MAX {
            let key = (key.len() <= KEY_BYTES_MAX && self.0.len() < KEYS_MAX).then(|| key.to_vec());
            self.0.entry(at).or_insert((key, now)).1 = now;
        }
        first
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Something was written there since, as by a session.
    pub(super) fn written(&mut self, at: (CollectionId, Position)) {
        self.0.remove(&at);
    }

    /// Both sides were found equal.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many there are, and some of their keys; one of which nothing was heard for so long is forgotten.
    pub(super) fn told(&mut self, now: Instant, window: Duration) -> (usize, Vec<Vec<u8>>) {
        self.0.retain(|_, (_, last)| now.saturating_duration_since(*last) < window);
        let keys = self.0.values().filter_map(|(key, _)| key.clone()).take(SAMPLES_MAX).collect();
        (self.0.len(), keys)
    }
}

/// Whether a record, taken in, may take the place of what is here: not if that is deleted, or has all of it already.
pub(super) fn replaces(record: &Record, here: &Item) -> bool {
    let live = here.versions.first().is_some_and(|newest| newest.content.is_some());
    let mut versions = record.state.versions().iter();
    let has_all = versions.all(|one| here.versions.iter().any(|had| had.version.dot() == one.version.dot()));
    live && !has_all
}

#[cfg(test)]
mod tests {
    use reknit_core::query::{Guard, Incoming};
    use reknit_core::{DatasetId, DatasetKey, Definition, Range};

    use super::*;
    use crate::store::contract::record;
    use crate::store::{Durability, Options, Side, Store};

    #[test]
    fn a_record_that_is_here_already_replaces_nothing() {
        let store = Store::in_memory(
            Definition::simple(DatasetId([7; 16]), "records"),
            DatasetKey::from_bytes([2; 32]),
            &Options::default(),
        );
        let store = store.expect("a store");
        let first = CollectionId(0);
        let apply = |record: &Record| {
            let batch = vec![Incoming { record: record.clone(), guard: Guard::Join }];
            store.apply(first, batch, Durability::Buffered).expect("applied");
            store.items(first, &[Range::ALL]).expect("items").remove(0)
        };
        let [old, new, gone] =
            [(1, Some(&b"old"[..])), (2, Some(b"new")), (3, None)].map(|(n, value)| record(b"k", n, n, value));
        let here = apply(&old);
        assert_eq!([&old, &new, &gone].map(|record| replaces(record, &here)), [false, true, true]);
        let here = apply(&gone);
        assert_eq!([&new, &gone].map(|record| replaces(record, &here)), [false, false], "nothing is there");
    }

    #[test]
    fn what_is_withheld_goes_once_it_is_written_or_long_past_and_is_bounded() {
        let (mut withheld, begun, hour) = (Withheld::default(), Instant::now(), Duration::from_secs(3600));
        let at = |nth: u64| (CollectionId(0), Position(nth));
        assert!(withheld.add(at(1), b"one", begun) && !withheld.add(at(2), &[b'x'; 300], begun));
        assert_eq!(withheld.told(begun, hour), (2, vec![b"one".to_vec()]));
        withheld.written(at(1));
        assert!(!withheld.add(at(3), b"three", begun + hour / 2));
        assert_eq!(withheld.told(begun + hour, hour), (1, vec![b"three".to_vec()]));
        for nth in 0..2 * WITHHELD_MAX as u64 {
            withheld.add(at(nth), b"key", begun + hour);
        }
        assert_eq!((withheld.told(begun + hour, hour).0, withheld.told(begun + hour, hour).1.len()), (WITHHELD_MAX, 3));
        withheld.clear();
        assert_eq!(withheld.told(begun + hour, hour), (0, Vec::new()));
    }
}
