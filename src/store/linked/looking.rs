//! Rows looked up by their keys in the table itself: what a session is given, what it may overwrite, and whether what differs
//! still stands. The index follows what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use reknit_core::query::{Item, Page};
use reknit_core::{Content, Position, Range, Sibling, State};

use super::index::{FIRST, Linked};
use super::{Access, Found, Transaction};
use crate::store::embedded::Followed;
use crate::store::{Durability, StoreError};

/// Keys that one transaction looks up.
const KEYS_PER_LOOK: usize = 1_000;
/// Keys, and bytes of their rows, that are read along where a table has to be read whole to look some up.
const KEYS_AHEAD: usize = 50_000;
const BYTES_AHEAD: usize = 48 << 20;
/// Keys that are remembered as in question, by both sides of a pair together; of more, the first ones are looked at again.
const SUSPECTS_MAX: usize = 1_000_000;

/// Rows, by their keys, that were read along of a table that stands.
pub(super) type Ahead = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// A row as it is in the table.
pub(super) struct Held {
    /// Where the database keeps it.
    pub(super) place: Vec<reknit_core::row::Value>,
    /// Its encoding.
    pub(super) row: Vec<u8>,
    /// Its values as the database has them.
    pub(super) values: Vec<reknit_core::row::Value>,
    /// Why it cannot be written, if others keep it locked.
    pub(super) busy: Option<String>,
}

/// The keys that two sides found to differ. Whether they still do is looked up in both tables each time their roots are read,
/// and from then on each time they are asked for: a scan is some seconds old by then.
#[derive(Clone, Default)]
pub(super) struct Suspects(Arc<Mutex<Questioned>>);

/// Keys in the order of their positions, and whether they were looked at.
type Questioned = BTreeMap<(Position, Vec<u8>), bool>;

impl Suspects {
    pub(super) fn add(&self, items: &[Item]) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            if keys.len() < SUSPECTS_MAX {
                keys.entry((item.position, item.key.clone())).or_default();
            }
        }
    }

    /// All of them, which are looked at from now on.
    fn look(&self) -> Vec<Vec<u8>> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.values_mut().for_each(|looked| *looked = true);
        keys.keys().map(|(_, key)| key.clone()).collect()
    }

    fn from(&self, first: Position) -> BTreeSet<Vec<u8>> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.range((first, Vec::new())..).take(KEYS_AHEAD).map(|((_, key), _)| key.clone()).collect()
    }

    /// Those of these ranges that were looked at before.
    fn looked(&self, ranges: &[Range]) -> Vec<Vec<u8>> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let within = |range: &Range| {
            let last = range.last();
            let from = keys.range((range.first(), Vec::new())..);
            from.take_while(move |((position, _), _)| *position <= last).filter(|(_, looked)| **looked)
        };
        ranges.iter().flat_map(within).map(|((_, key), _)| key.clone()).collect()
    }
}

impl Linked {
    /// Looks at all keys in question.
    pub(super) fn look_again(&self) -> Result<(), StoreError> {
        if self.table.stands()? {
            return Ok(());
        }
        self.look(&self.suspects.look()).map(drop)
    }

    /// Looks once more at the keys of these ranges that are in question.
    pub(super) fn look_within(&self, ranges: &[Range]) -> Result<(), StoreError> {
        let keys = self.suspects.looked(ranges);
        if keys.is_empty() || self.table.stands()? {
            return Ok(());
        }
        self.look(&keys).map(drop)
    }

    /// Reads these rows anew; the index follows what has changed, come and gone. Says how many that are.
    ///
    /// # Errors
    /// As for [`Linked::row`].
    pub fn look(&self, keys: &[Vec<u8>]) -> Result<u64, StoreError> {
        let mut changed = 0;
        for some in keys.chunks(KEYS_PER_LOOK) {
            let _alone = self.alone();
            let found = self.read_rows(some)?;
            changed += self.follow(some, &found)?;
        }
        Ok(changed)
    }

    /// The rows of these keys in a transaction that reads.
    fn read_rows(&self, keys: &[Vec<u8>]) -> Result<BTreeMap<Vec<u8>, Held>, StoreError> {
        let mut transaction = self.table.begin(Access::Read, self.manner.wait)?;
        let found = match self.table.stands()? {
            true => self.held_ahead(&mut *transaction, keys)?,
            false => self.held(&mut *transaction, keys, &|_| true)?,
        };
        transaction.commit()?;
        Ok(found)
    }

    /// The rows of these keys in a table that stands. Where it has to be read for them, it is read for others in question too:
    /// those that lie next, since that is how a session goes through them.
    fn held_ahead(
        &self,
        transaction: &mut dyn Transaction,
        keys: &[Vec<u8>],
    ) -> Result<BTreeMap<Vec<u8>, Held>, StoreError> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.iter().any(|key| !ahead.contains_key(key)) {
            let first = keys.iter().map(|key| self.position(key)).min().unwrap_or(Position(0));
            let next = self.suspects.from(first);
            let asked: BTreeSet<&Vec<u8>> = keys.iter().collect();
            ahead.clear();
            let mut room = BYTES_AHEAD;
            let wanted = &mut |values: &[_]| {
                let key = self.shape.key_as_stored(values);
                asked.contains(&key)
                    || next.contains(&key)
                        && self.record(values.to_vec()).is_ok_and(|(_, row)| {
                            let fits = row.len() <= room;
                            room = room.saturating_sub(row.len());
                            fits
                        })
            };
            for found in transaction.find_by_reading(&self.shape, wanted)? {
                let (key, row) = self.record(found.values)?;
                ahead.insert(key, row);
            }
        }
        let held = |key: &Vec<u8>| {
            let row = ahead.get(key)?.clone();
            Some((key.clone(), Held { place: Vec::new(), row, values: Vec::new(), busy: None }))
        };
        Ok(keys.iter().filter_map(held).collect())
    }

    /// The rows of these keys as the table has them now, encoded; the index follows.
    ///
    /// # Errors
    /// As for [`Linked::row`].
    pub fn rows_of(&self, keys: &[Vec<u8>]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let _alone = self.alone();
        let found = self.read_rows(keys)?;
        self.follow(keys, &found)?;
        Ok(found.into_iter().map(|(key, held)| (key, held.row)).collect())
    }

    /// The row of a key as the table has it now, encoded; the index follows.
    ///
    /// # Errors
    /// [`StoreError::Database`], also for what is no key of this table, or what the index met.
    pub fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows_of(&[key.to_vec()])?.remove(key))
    }

    fn follow(&self, keys: &[Vec<u8>], found: &BTreeMap<Vec<u8>, Held>) -> Result<u64, StoreError> {
        let is = |key: &Vec<u8>| Followed::Is(key.clone(), found.get(key).map(|held| self.digest(&held.row)));
        self.index.follow(FIRST, keys.iter().map(is).collect(), None, Durability::Buffered).map(|(_, changed)| changed)
    }

    /// The rows of these keys. Where the table can spell a key in several ways, it is read for those that are `sought`.
    pub(super) fn held(
        &self,
        transaction: &mut dyn Transaction,
        keys: &[Vec<u8>],
        sought: &dyn Fn(&[u8]) -> bool,
    ) -> Result<BTreeMap<Vec<u8>, Held>, StoreError> {
        let mut missing: BTreeSet<&[u8]> = BTreeSet::new();
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            if missing.insert(key) {
                let key = self.shape.key_values(key);
                let key = key.map_err(|error| StoreError::database(self.table.place(), error.to_string()))?;
                values.push(self.shape.given_key(key));
            }
        }
        let mut held = BTreeMap::new();
        for found in transaction.find(&self.shape, &values)? {
            let (key, found) = self.as_held(found)?;
            if missing.remove(key.as_slice()) {
                held.insert(key, found);
            }
        }
        if self.table.stores_keys_one_way(&self.shape) && !self.shape.rounds_keys() {
            return Ok(held);
        }
        let sought: BTreeSet<Vec<u8>> = missing.into_iter().filter(|key| sought(key)).map(<[u8]>::to_vec).collect();
        if !sought.is_empty() {
            let wanted = &mut |values: &[_]| self.record(values.to_vec()).is_ok_and(|(key, _)| sought.contains(&key));
            for found in transaction.find_by_reading(&self.shape, wanted)? {
                let (key, found) = self.as_held(found)?;
                held.insert(key, found);
            }
        }
        Ok(held)
    }

    /// The key of a row that was found, and the row.
    fn as_held(&self, Found { place, values, busy }: Found) -> Result<(Vec<u8>, Held), StoreError> {
        let (key, row) = self.record(values.clone())?;
        Ok((key, Held { place, row, values, busy }))
    }

    /// A page of records in place of their digests; those whose rows have moved are left out and counted.
    pub(super) fn filled(&self, mut page: Page) -> Result<Page, StoreError> {
        for some in page.records.chunks_mut(KEYS_PER_LOOK) {
            let keys: Vec<Vec<u8>> = some.iter().map(|record| record.key.clone()).collect();
            let _alone = self.alone();
            let mut found = self.read_rows(&keys)?;
            self.follow(&keys, &found)?;
            for record in some {
                let row = found.remove(&record.key).map(|held| held.row);
                let bare = record.state.value().map(<[u8]>::to_vec);
                let same = |row: &Vec<u8>| Some(self.digest(row)) == bare;
                record.state = State::single(Sibling {
                    // One that has moved is told by a tombstone, and left out below.
                    content: row.filter(same).map_or(Content::Tombstone, Content::Live),
                    ..record.state.winner().clone()
                });
            }
        }
        let all = page.records.len();
        page.records.retain(|record| record.state.is_live());
        page.moved += (all - page.records.len()) as u64;
        Ok(page)
    }
}
