//! Guarded writes: a row is written only over what was compared, and only if it becomes what was wanted. What it was is in the
//! index's journal, synced, before the database commits; runs are undone the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reknit_core::brakes::Loss;
use reknit_core::journal::{JournalEntry, RunId, RunKind, Undoing};
use reknit_core::query::{Applied, Guard, Incoming, Overwrite, Replacement};
use reknit_core::row::Value;
use reknit_core::{Content, DecodeError};

use super::index::{FIRST, Linked};
use super::looking::Held;
use super::{Access, Change, Transaction, Written};
use crate::store::embedded::{Followed, PutsBack, Writing};
use crate::store::error::{Left, shown};
use crate::store::{Durability, Skipped, StoreError, Undo, Undone};

/// Rows that one transaction writes.
const ROWS_PER_TRANSACTION: usize = 500;

/// What a row is to be.
struct Wanted {
    key: Vec<u8>,
    /// The entry that was compared, by [`reknit_core::Digest::short`]; none: there was none.
    expected: Option<u64>,
    /// Its encoding; none: it is to go.
    row: Option<Vec<u8>>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It is to be written.
    Open,
    Applied,
    Kept,
    Moved,
    Refused(String),
}

/// Rows that were wanted, with what is there and what becomes of each.
struct Batch<'a> {
    wanted: &'a [Wanted],
    held: BTreeMap<Vec<u8>, Held>,
    fates: Vec<Fate>,
}

impl Linked {
    /// Writes records as far as their guards allow.
    pub(super) fn write_records(&self, batch: Vec<Incoming>) -> Result<Applied, StoreError> {
        let wanted = batch.into_iter().map(|incoming| {
            let expected = match incoming.guard {
                Guard::IfShort(expected) => expected,
                // Rows have no versions that could be joined: only what is not there comes.
                Guard::Join | Guard::Bare => None,
            };
            let row = incoming.record.state.value().map(<[u8]>::to_vec);
            Wanted { key: incoming.record.key, expected, row }
        });
        self.change(&wanted.collect::<Vec<_>>(), self.run.as_ref()).map(|(applied, _)| applied)
    }

    /// Writes what rows are to hold.
    pub(super) fn write_over(&self, overwrites: Vec<Overwrite>) -> Result<Applied, StoreError> {
        let (mut wanted, mut kept) = (Vec::new(), 0);
        for Overwrite { key, expected, content, .. } in overwrites {
            let row = match content {
                Replacement::Keep => {
                    kept += 1;
                    continue;
                }
                Replacement::Delete => None,
                Replacement::Take(row, _) => Some(row),
                Replacement::Shown(state) => state.value().map(<[u8]>::to_vec),
            };
            wanted.push(Wanted { key, expected, row });
        }
        let (mut applied, _) = self.change(&wanted, self.run.as_ref())?;
        applied.kept += kept;
        Ok(applied)
    }

    /// Undoes a run: rows that are as it left them become what they were.
    ///
    /// # Errors
    /// As for [`crate::store::Store::undo`], or [`StoreError::Database`].
    pub fn undo(
        &self,
        id: RunId,
        skipped: &mut dyn FnMut(Skipped),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Undone, StoreError> {
        self.index.undo_by(self, id, Undo::Here, skipped, progress)
    }

    fn change(&self, wanted: &[Wanted], run: Option<&Arc<Writing>>) -> Result<(Applied, Vec<Fate>), StoreError> {
        let (mut applied, mut fates) = (Applied { commit: self.index.cut().commit, ..Applied::default() }, Vec::new());
        for some in wanted.chunks(ROWS_PER_TRANSACTION) {
            let (commit, batch) = self.change_some(some, run).map_err(|error| match error {
                StoreError::Database { left: Left::Unchanged, .. } if run.is_some_and(|run| run.has_begun()) => {
                    error.when_written(Left::Batches)
                }
                error => error,
            })?;
            applied.commit = commit;
            for (wanted, fate) in some.iter().zip(&batch.fates) {
                match fate {
                    Fate::Applied => {
                        applied.applied += 1;
                        let before = batch.held.get(&wanted.key).map(|held| &held.row);
                        applied.losses.add(Loss::between(before, wanted.row.as_ref()));
                    }
                    Fate::Kept => applied.kept += 1,
                    Fate::Open | Fate::Moved => applied.moved += 1,
                    Fate::Refused(reason) => applied.refused.push((wanted.key.clone(), reason.clone())),
                }
            }
            fates.extend(batch.fates);
        }
        Ok((applied, fates))
    }

    /// One transaction.
    fn change_some<'a>(
        &self,
        wanted: &'a [Wanted],
        run: Option<&Arc<Writing>>,
    ) -> Result<(u64, Batch<'a>), StoreError> {
        let _alone = self.alone();
        let keys: Vec<Vec<u8>> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
        let mut transaction = self.table.begin(Access::Write)?;
        let compared: BTreeSet<&[u8]> =
            wanted.iter().filter(|wanted| wanted.expected.is_some()).map(|wanted| wanted.key.as_slice()).collect();
        let held = self.held(&mut *transaction, &keys, &|key| compared.contains(key))?;
        let fates = wanted.iter().map(|wanted| self.decide(wanted, held.get(&wanted.key))).collect();
        let mut batch = Batch { wanted, held, fates };
        self.write(&mut *transaction, &mut batch)?;
        let (commit, _) = self.index.follow(FIRST, self.followed(&batch), run, Durability::Synced)?;
        if let Err(error) = transaction.commit() {
            // Whether it did is for the table to say.
            drop(_alone);
            let _ = self.look(&keys);
            return Err(error.when_written(Left::Unsure));
        }
        Ok((commit, batch))
    }

    /// What becomes of a row, as far as that does not depend on the database.
    fn decide(&self, wanted: &Wanted, held: Option<&Held>) -> Fate {
        let is = held.map(|held| &held.row);
        if self.same(is, wanted.row.as_ref()) {
            return Fate::Kept;
        }
        let entry = is.map(|row| self.entry(&wanted.key, row));
        if entry != wanted.expected {
            return Fate::Moved;
        }
        let Some(row) = &wanted.row else { return Fate::Open };
        let named = self.shape.row_values(row).and_then(|values| match self.shape.key_of(&values) == wanted.key {
            true => Ok(()),
            false => Err(DecodeError::Malformed("key of a row")),
        });
        named.map_or_else(|error| Fate::Refused(error.to_string()), |()| Fate::Open)
    }

    /// Writes what is open, all at once if the database takes it; else row by row, those that it refuses again after the others.
    fn write(&self, transaction: &mut dyn Transaction, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let mut open: Vec<usize> = (0..batch.wanted.len()).filter(|nth| batch.fates[*nth] == Fate::Open).collect();
        if open.is_empty() {
            return Ok(());
        }
        transaction.mark()?;
        let mut all = Vec::new();
        for nth in &open {
            all.push((*nth, self.write_one(transaction, batch, *nth)?));
            if matches!(all.last(), Some((_, Fate::Refused(_)))) {
                break;
            }
        }
        let refused = matches!(all.last(), Some((_, Fate::Refused(_)))) || transaction.check()?.is_some();
        transaction.unmark(refused)?;
        if !refused {
            all.into_iter().for_each(|(nth, fate)| batch.fates[nth] = fate);
            return Ok(());
        }
        loop {
            let mut left = Vec::new();
            for nth in &open {
                transaction.mark()?;
                let mut fate = self.write_one(transaction, batch, *nth)?;
                if fate == Fate::Applied
                    && let Some(reason) = transaction.check()?
                {
                    fate = Fate::Refused(reason);
                }
                let refused = matches!(fate, Fate::Refused(_));
                transaction.unmark(refused)?;
                if refused {
                    left.push(*nth);
                }
                batch.fates[*nth] = fate;
            }
            // A row may wait for another that it refers to.
            if left.is_empty() || left.len() == open.len() {
                return Ok(());
            }
            open = left;
        }
    }

    fn write_one(&self, transaction: &mut dyn Transaction, batch: &Batch<'_>, nth: usize) -> Result<Fate, StoreError> {
        let wanted = &batch.wanted[nth];
        let values = |row: &[u8]| {
            self.shape.row_values(row).map_err(|error| StoreError::database(self.table.place(), error.to_string()))
        };
        let new = wanted.row.as_deref().map(values).transpose()?;
        let held = batch.held.get(&wanted.key);
        let old = held.map(|held| values(&held.row)).transpose()?.unwrap_or_default();
        let written = match (held, &new) {
            (None, None) => return Ok(Fate::Kept),
            (None, Some(new)) => transaction.write(&self.shape, Change::Insert(&self.shape.given(new)))?,
            (Some(held), None) => transaction.write(&self.shape, Change::Delete(&held.place))?,
            (Some(held), Some(new)) => {
                let counts = |(nth, value): &(usize, &Value)| {
                    old.get(*nth).is_none_or(|old| self.shape.counts(*nth, old) != self.shape.counts(*nth, value))
                };
                let given = self.shape.given(new);
                let differing = new.iter().enumerate().filter(counts).map(|(nth, _)| (nth, &given[nth]));
                let differing: Vec<(usize, &Value)> = differing.collect();
                transaction.write(&self.shape, Change::Update(&held.place, &differing))?
            }
        };
        Ok(match written {
            Written::Gone => Fate::Applied,
            Written::Moved => Fate::Moved,
            Written::Refused(reason) => Fate::Refused(reason),
            Written::Row(values) => {
                let became = self.record(values)?.1;
                if self.same(Some(&became), wanted.row.as_ref()) {
                    Fate::Applied
                } else {
                    Fate::Refused(self.became(&new.unwrap_or_default(), &became))
                }
            }
        })
    }

    /// Whether two rows are the same as far as they count.
    fn same(&self, one: Option<&Vec<u8>>, other: Option<&Vec<u8>>) -> bool {
        one.map(|row| self.shape.counting(row)) == other.map(|row| self.shape.counting(row))
    }

    /// Which column the table does not hold as it was wanted.
    fn became(&self, wanted: &[Value], became: &[u8]) -> String {
        let became = self.shape.row_values(became).unwrap_or_default();
        let mut columns = self.shape.columns().iter().zip(wanted.iter().zip(&became)).enumerate();
        let counts = |nth: usize, value| self.shape.counts(nth, value);
        match columns.find(|(nth, (_, (wanted, became)))| counts(*nth, wanted) != counts(*nth, became)) {
            Some((_, ((name, _), (wanted, became)))) => {
                let told = |value: &Value| shown(value.to_string().as_bytes());
                format!("the column {name} cannot hold {}: it becomes {}", told(wanted), told(became))
            }
            None => "the row becomes another".into(),
        }
    }

    /// What the index learns of a batch.
    fn followed(&self, batch: &Batch<'_>) -> Vec<Followed> {
        let one = |(wanted, fate): (&Wanted, &Fate)| {
            let held = batch.held.get(&wanted.key);
            let key = wanted.key.clone();
            match fate {
                Fate::Applied => Followed::Becomes {
                    key,
                    before: held.map(|held| (self.digest(&held.row), held.row.clone())),
                    after: wanted.row.as_ref().map(|row| self.digest(row)),
                },
                _ => Followed::Is(key, held.map(|held| self.digest(&held.row))),
            }
        };
        batch.wanted.iter().zip(&batch.fates).map(one).collect()
    }
}

impl PutsBack for Linked {
    fn put_back(
        &self,
        entries: Vec<JournalEntry>,
        _: RunKind,
        writing: &Arc<Writing>,
        (run, mut undoing): (RunId, Undoing),
    ) -> Result<Vec<bool>, StoreError> {
        let wanted = entries.into_iter().map(|JournalEntry { key, before, after, .. }| {
            let row = before.and_then(|before| match &before.state.winner().content {
                Content::Live(row) => Some(row.clone()),
                Content::Tombstone => None,
            });
            Wanted { key, expected: after, row }
        });
        let (_, fates) = self.change(&wanted.collect::<Vec<_>>(), Some(writing))?;
        let restored: Vec<bool> = fates.iter().map(|fate| matches!(fate, Fate::Applied | Fate::Kept)).collect();
        let back = restored.iter().filter(|restored| **restored).count() as u64;
        undoing.restored += back;
        undoing.skipped += restored.len() as u64 - back;
        self.index.note_undoing(run, undoing)?;
        Ok(restored)
    }
}
