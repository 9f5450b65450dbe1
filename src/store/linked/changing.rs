//! Guarded writes: a row is written only over what was compared, and only if it becomes what was wanted. What it was is in the
//! index's journal, synced, before the database commits; runs are undone the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use reknit_core::brakes::Loss;
use reknit_core::journal::{JournalEntry, RunId, RunKind, Undoing};
use reknit_core::query::{Applied, Guard, Incoming, Overwrite, Replacement};
use reknit_core::row::Value;
use reknit_core::{Content, DecodeError};

use super::index::{FIRST, Linked};
use super::looking::Held;
use super::parked::Wait;
use super::references::{Ends, References};
use super::{Access, Besides, Change, Transaction, Written};
use crate::store::embedded::{Followed, PutsBack, Writing};
use crate::store::error::{Left, shown};
use crate::store::{Durability, Skipped, StoreError, Undo, Undone};

/// Transactions one after another that others let write nothing, before that is an error.
const BUSY_MAX: u32 = 3;

/// What a row is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its key, encoded.
    pub key: Vec<u8>,
    /// The entry that was compared, by [`reknit_core::Digest::short`]; none: there was none.
    pub expected: Option<u64>,
    /// Its encoding; none: it is to go.
    pub row: Option<Vec<u8>>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is to be written.
    Open,
    Applied,
    Kept,
    Moved,
    Refused(String),
    /// Others keep it locked.
    Busy(String),
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
        self.change(&wanted.collect::<Vec<_>>())
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
        let mut applied = self.change(&wanted)?;
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
        if !self.tells_what_it_left(id)? {
            let message = format!(
                "run {id} was made by an earlier encoding of rows, so it is not known any more which rows are as it left them; \
                 reknit runs show tells which it changed"
            );
            return Err(StoreError::database(self.table.place(), message));
        }
        self.index.undo_by(self, id, Undo::Here, skipped, progress)
    }

    /// What was done to the database besides rows that were written, a line each.
    #[must_use]
    pub fn besides(&self) -> Vec<String> {
        self.besides.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Rows that were counted as moved, since they waited for others, and of which more is known by now: how many have been
    /// written, and which were not, with the reasons.
    #[must_use]
    pub fn waited(&self) -> (u64, Vec<(Vec<u8>, String)>) {
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        (parked.late, parked.left())
    }

    fn change(&self, wanted: &[Wanted]) -> Result<Applied, StoreError> {
        let mut applied = Applied { commit: self.index.cut().commit, ..Applied::default() };
        match self.change_each(wanted, &mut applied) {
            Ok(()) => Ok(applied),
            // What is written counts, whatever became of the rest.
            Err(error) if applied.applied > 0 => {
                Err(StoreError::Partly { applied: Box::new(applied), error: Box::new(error) })
            }
            Err(error) => Err(error),
        }
    }

    /// Transaction by transaction, and notes what becomes of each row.
    fn change_each(&self, wanted: &[Wanted], applied: &mut Applied) -> Result<(), StoreError> {
        let run = self.run.as_ref();
        let references = self.references()?;
        for some in wanted.chunks(self.manner.batch.max(1)) {
            let (commit, batch) = match self.change_some(some, run) {
                Err(StoreError::Busy { message, .. }) if self.is_patient() => {
                    applied.refused.extend(some.iter().map(|wanted| (wanted.key.clone(), locked(&message))));
                    continue;
                }
                other => other.map_err(|error| self.left(error, run))?,
            };
            self.parked.lock().unwrap_or_else(PoisonError::into_inner).busy = 0;
            applied.commit = commit;
            let mut woken = Vec::new();
            for (wanted, fate) in some.iter().zip(&batch.fates) {
                let held = batch.held.get(&wanted.key);
                match fate {
                    Fate::Applied => {
                        applied.applied += 1;
                        applied.losses.add(Loss::between(held.map(|held| &held.row), wanted.row.as_ref()));
                        if !references.is_empty() {
                            woken.extend(references.wakes(&self.ends(wanted, held)));
                        }
                    }
                    Fate::Kept => applied.kept += 1,
                    Fate::Open | Fate::Moved => applied.moved += 1,
                    Fate::Refused(reason) if self.park(&references, wanted, held, reason) => applied.moved += 1,
                    Fate::Refused(reason) => applied.refused.push((wanted.key.clone(), reason.clone())),
                    Fate::Busy(reason) => applied.refused.push((wanted.key.clone(), locked(reason))),
                }
            }
            if let Some(commit) = self.change_woken(&references, woken)? {
                applied.commit = commit;
            }
        }
        Ok(())
    }

    /// Whether the next transaction is tried after one that others let write nothing.
    fn is_patient(&self) -> bool {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.busy += 1;
        parked.busy <= BUSY_MAX
    }

    /// Writes those that have waited for what was written, and those that have waited for them.
    fn change_woken(&self, references: &References, mut by: Vec<Wait>) -> Result<Option<u64>, StoreError> {
        let (run, mut last) = (self.run.as_ref(), None);
        let parked = || self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let woken = parked().woken(&by);
            if woken.is_empty() {
                return Ok(last);
            }
            by.clear();
            for some in woken.chunks(self.manner.batch.max(1)) {
                let (commit, batch) = self.change_some(some, run).map_err(|error| self.left(error, run))?;
                last = Some(commit);
                for (wanted, fate) in some.iter().zip(&batch.fates) {
                    let held = batch.held.get(&wanted.key);
                    match fate {
                        Fate::Applied => {
                            parked().late += 1;
                            by.extend(references.wakes(&self.ends(wanted, held)));
                        }
                        Fate::Refused(reason) => _ = self.park(references, wanted, held, reason),
                        // As one that has moved it is compared again.
                        Fate::Open | Fate::Kept | Fate::Moved | Fate::Busy(_) => {}
                    }
                }
            }
        }
    }

    /// Keeps a row that was refused until what it waits for is written; says whether it waits for anything.
    fn park(&self, references: &References, wanted: &Wanted, held: Option<&Held>, reason: &str) -> bool {
        let waits = references.waits(&self.ends(wanted, held));
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).park(wanted, waits, reason)
    }

    /// What is left behind by an error.
    fn left(&self, error: StoreError, run: Option<&Arc<Writing>>) -> StoreError {
        match error {
            StoreError::Database { left: Left::Unchanged, .. } | StoreError::Busy { .. }
                if run.is_some_and(|run| run.has_begun()) =>
            {
                error.when_written(Left::Batches)
            }
            error => error,
        }
    }

    /// Which rows of the table refer to which, as far as their columns are compared.
    pub(super) fn references(&self) -> Result<References, StoreError> {
        Ok(References::of(&self.table.references()?, &self.shape))
    }

    /// A row before and after.
    pub(super) fn ends(&self, wanted: &Wanted, held: Option<&Held>) -> Ends {
        let values = |row: &Vec<u8>| self.shape.row_values(row).ok();
        Ends { old: held.and_then(|held| values(&held.row)), new: wanted.row.as_ref().and_then(values) }
    }

    fn all_ends(&self, batch: &Batch<'_>, rows: &[usize]) -> Vec<Ends> {
        let wanted = rows.iter().map(|nth| &batch.wanted[*nth]);
        wanted.map(|wanted| self.ends(wanted, batch.held.get(&wanted.key))).collect()
    }

    /// The values that a row is to have; none if it is to go.
    pub(super) fn values(&self, wanted: &Wanted) -> Result<Option<Vec<Value>>, StoreError> {
        let values = wanted.row.as_deref().map(|row| self.shape.row_values(row)).transpose();
        values.map_err(|error| StoreError::database(self.table.place(), error.to_string()))
    }

    /// The columns in which a row is to become another, as far as they count.
    pub(super) fn differing<'v>(&self, held: &Held, new: &'v [Value]) -> Result<Vec<(usize, &'v Value)>, StoreError> {
        let old = self.shape.row_values(&held.row);
        let old = old.map_err(|error| StoreError::database(self.table.place(), error.to_string()))?;
        let counts = |(nth, value): &(usize, &Value)| {
            old.get(*nth).is_none_or(|old| self.shape.counts(*nth, old) != self.shape.counts(*nth, value))
        };
        Ok(new.iter().enumerate().filter(counts).collect())
    }

    /// One transaction.
    fn change_some<'a>(
        &self,
        wanted: &'a [Wanted],
        run: Option<&Arc<Writing>>,
    ) -> Result<(u64, Batch<'a>), StoreError> {
        let _alone = self.alone();
        let keys: Vec<Vec<u8>> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
        let mut transaction = self.table.begin(Access::Write, self.manner.wait)?;
        let compared: BTreeSet<&[u8]> =
            wanted.iter().filter(|wanted| wanted.expected.is_some()).map(|wanted| wanted.key.as_slice()).collect();
        let held = self.held(&mut *transaction, &keys, &|key| compared.contains(key))?;
        let fates = wanted.iter().map(|wanted| self.decide(wanted, held.get(&wanted.key))).collect();
        let mut batch = Batch { wanted, held, fates };
        self.write(&mut *transaction, &mut batch)?;
        let applied = |(wanted, fate): (&'a Wanted, &Fate)| (*fate == Fate::Applied).then_some(&wanted.key);
        let applied: Vec<&Vec<u8>> = wanted.iter().zip(&batch.fates).filter_map(applied).collect();
        if !applied.is_empty() {
            self.doubt(applied.iter().copied())?;
        }
        let (commit, _) = self.index.follow(FIRST, self.followed(&batch), run, Durability::Synced)?;
        match transaction.commit() {
            Ok(besides) => self.note(besides),
            Err(error) => {
                // Whether it did is for the table to say; what cannot be reached now is looked at when the index is followed.
                drop(_alone);
                let _ = self.look_at_doubted();
                return Err(error.when_written(Left::Unsure));
            }
        }
        if !applied.is_empty() {
            self.is_known()?;
        }
        Ok((commit, batch))
    }

    fn note(&self, besides: Besides) {
        self.besides.lock().unwrap_or_else(PoisonError::into_inner).extend(besides);
    }

    /// What becomes of a row, as far as that does not depend on the database.
    pub(super) fn decide(&self, wanted: &Wanted, held: Option<&Held>) -> Fate {
        let is = held.map(|held| &held.row);
        if self.same(is, wanted.row.as_ref()) {
            return Fate::Kept;
        }
        let entry = is.map(|row| self.entry(&wanted.key, row));
        if entry != wanted.expected {
            return Fate::Moved;
        }
        if let Some(reason) = held.and_then(|held| held.busy.clone()) {
            return Fate::Busy(reason);
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
        let references = self.references()?;
        if !references.is_empty() {
            open = references.order(&self.all_ends(batch, &open)).into_iter().map(|nth| open[nth]).collect();
        }
        transaction.mark()?;
        let mut all = Vec::new();
        for nth in &open {
            all.push((*nth, self.write_one(transaction, batch, *nth)?));
            if matches!(all.last(), Some((_, Fate::Refused(_) | Fate::Busy(_)))) {
                break;
            }
        }
        let refused =
            matches!(all.last(), Some((_, Fate::Refused(_) | Fate::Busy(_)))) || transaction.check()?.is_some();
        transaction.unmark(refused)?;
        if !refused {
            all.into_iter().for_each(|(nth, fate)| batch.fates[nth] = fate);
            return Ok(());
        }
        loop {
            let (mut left, mut late) = (Vec::new(), Vec::new());
            for nth in &open {
                transaction.mark()?;
                let mut fate = self.write_one(transaction, batch, *nth)?;
                if fate == Fate::Applied
                    && let Some(reason) = transaction.check()?
                {
                    fate = Fate::Refused(reason);
                    late.push(*nth);
                }
                let refused = matches!(fate, Fate::Refused(_));
                transaction.unmark(refused || matches!(fate, Fate::Busy(_)))?;
                if refused {
                    left.push(*nth);
                }
                batch.fates[*nth] = fate;
            }
            // A row may wait for another that it refers to.
            if left.is_empty() || left.len() == open.len() {
                return self.write_together(transaction, batch, late);
            }
            open = left;
        }
    }

    /// Of rows that alone break what is checked only in the end, writes those that refer to one another in a circle.
    fn write_together(
        &self,
        transaction: &mut dyn Transaction,
        batch: &mut Batch<'_>,
        mut rows: Vec<usize>,
    ) -> Result<(), StoreError> {
        let ends = self.all_ends(batch, &rows);
        rows = self.references()?.circles(&ends).into_iter().map(|nth| rows[nth]).collect();
        if rows.is_empty() {
            return Ok(());
        }
        transaction.mark()?;
        let mut all = Vec::new();
        for nth in rows {
            all.push((nth, self.write_one(transaction, batch, nth)?));
            if matches!(all.last(), Some((_, Fate::Refused(_) | Fate::Busy(_)))) {
                return transaction.unmark(true);
            }
        }
        let refused = transaction.check()?.is_some();
        transaction.unmark(refused)?;
        if !refused {
            all.into_iter().for_each(|(nth, fate)| batch.fates[nth] = fate);
        }
        Ok(())
    }

    fn write_one(&self, transaction: &mut dyn Transaction, batch: &Batch<'_>, nth: usize) -> Result<Fate, StoreError> {
        let wanted = &batch.wanted[nth];
        let new = self.values(wanted)?;
        let held = batch.held.get(&wanted.key);
        let written = match (held, &new) {
            (None, None) => return Ok(Fate::Kept),
            (None, Some(new)) => transaction.write(&self.shape, Change::Insert(&self.shape.given(new)))?,
            (Some(held), None) => transaction.write(&self.shape, Change::Delete(&held.place))?,
            (Some(held), Some(new)) => {
                let given = self.shape.given(new);
                let differing = self.differing(held, new)?;
                let differing: Vec<(usize, &Value)> = differing.iter().map(|(nth, _)| (*nth, &given[*nth])).collect();
                transaction.write(&self.shape, Change::Update(&held.place, &differing))?
            }
        };
        Ok(match written {
            Written::Gone => Fate::Applied,
            Written::Moved => Fate::Moved,
            Written::Refused(reason) => Fate::Refused(reason),
            Written::Busy(reason) => Fate::Busy(reason),
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

/// What is said of a row that others keep locked.
fn locked(reason: &str) -> String {
    format!("others keep it locked ({reason}); the same command goes on with it")
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
        let mut restored = Vec::new();
        for some in wanted.collect::<Vec<_>>().chunks(self.manner.batch) {
            let (_, batch) = self.change_some(some, Some(writing)).map_err(|error| self.left(error, Some(writing)))?;
            // What is skipped is never put back: a row that is in use for the moment is none of that.
            if let Some(reason) =
                batch.fates.iter().find_map(|fate| if let Fate::Busy(why) = fate { Some(why) } else { None })
            {
                let error = StoreError::database(self.table.place(), locked(reason));
                return Err(error.when_written(Left::Batches));
            }
            restored.extend(batch.fates.iter().map(|fate| matches!(fate, Fate::Applied | Fate::Kept)));
        }
        let back = restored.iter().filter(|restored| **restored).count() as u64;
        undoing.restored += back;
        undoing.skipped += restored.len() as u64 - back;
        self.index.note_undoing(run, undoing)?;
        Ok(restored)
    }
}
