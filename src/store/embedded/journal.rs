//! The journal of a store: every commit of a run holds, beside the records, what it overwrote; and runs are undone.
//! When a run begins and ends is said by whoever drives sessions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use reknit_core::canonical::Reader;
use reknit_core::journal::{Changed, JournalEntry, Run, RunEnd, RunHeader, RunId, Undoing};
use reknit_core::{CollectionId, Millis, Position, Stamp, State};

use super::rows;
use super::{Inner, Store, StoreError};
use crate::store::engine::{Batch, Durability, Snapshot};

mod again;
mod did;
mod fill;
mod kept;
mod pushed;
mod side;
mod standing;
mod undo;
mod verify;

use kept::{KEPT, Keeping, counted, is_kept};
use pushed::Pushing;

pub use did::Did;
pub use kept::KeepHistory;
pub(super) use side::InRun;
pub(crate) use undo::PutsBack;
pub use undo::{Skipped, Undo, Undone};
pub(super) use verify::verify;

/// Bytes of packed entries in one row, about; a state that is larger lies in a row of its own.
const PACKED_BYTES: usize = 64 << 10;
/// Bytes that a journal may hold unless it is told otherwise.
const LIMIT_BYTES: u64 = 1 << 30;
/// How long a run is kept unless a store is told otherwise, in milliseconds: 30 days.
const LIMIT_AGE: Millis = 30 * 24 * 60 * 60 * 1000;
/// Rows of entries that one commit drops.
const DROPPED_ROWS: usize = 64;

const NEXT_RUN: &str = "next-run";
const PAUSED: &str = "paused";
const LIMITS: &str = "journal-limits";

/// How much a journal may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Bytes of entries; when they are used up, nothing is applied until there is room. One batch may go beyond.
    pub bytes: u64,
    /// How long runs are kept, in milliseconds; older ones are dropped whole, the oldest first.
    pub age: Millis,
}

/// What is known of the journal while the store is open.
pub(super) struct Journal {
    known: Mutex<Known>,
}

struct Known {
    next: u64,
    runs: BTreeMap<RunId, Run>,
    /// Bytes of the entries of all runs but those of ordinary writes and pushes.
    bytes: u64,
    limits: JournalLimits,
    keeping: Keeping,
    pushing: Pushing,
    paused: Option<RunId>,
}

/// A run that writes: it has a number once it has changed something.
pub(crate) struct Writing {
    header: RunHeader,
    id: OnceLock<RunId>,
    /// The horizon at which both sides were when its session began, once it has.
    level: OnceLock<Stamp>,
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run {:?}", self.id.get())
    }
}

impl Writing {
    pub(super) fn new(header: RunHeader) -> Arc<Self> {
        Arc::new(Self { header, id: OnceLock::new(), level: OnceLock::new() })
    }

    /// One that has its number already.
    fn resumed(header: RunHeader, id: RunId) -> Arc<Self> {
        Arc::new(Self { header, id: OnceLock::from(id), level: OnceLock::new() })
    }

    /// Whether it has changed something.
    pub(crate) fn has_begun(&self) -> bool {
        self.id.get().is_some()
    }

    /// Its session begins, at a horizon.
    pub(super) fn begin(&self, horizon: Stamp) {
        self.level.get_or_init(|| horizon);
    }

    /// Whether its session began before the horizon was raised: what a peer gives may have been deleted and collected since.
    pub(super) fn is_overtaken(&self, horizon: Stamp) -> bool {
        self.level.get().is_some_and(|level| *level != horizon)
    }
}

/// What a commit adds to the journal, gathered while its writes are decided.
#[derive(Default)]
pub(super) struct Gathered {
    runs: Vec<(Arc<Writing>, Added)>,
    /// How far a run was undone by this commit.
    undoing: Vec<(RunId, Undoing)>,
}

#[derive(Default)]
struct Added {
    entries: u64,
    overwritten: u64,
    bytes: u64,
    rows: Vec<Vec<u8>>,
    adds: fill::Adds,
    /// Position and number of row of each entry with something before.
    earlier: Vec<(CollectionId, Position, u64)>,
}

impl Gathered {
    /// Adds the change of a key by a run.
    pub(super) fn add(&mut self, run: &Arc<Writing>, entry: Change<'_>) {
        let nth = self.runs.iter().position(|(other, _)| Arc::ptr_eq(other, run)).unwrap_or_else(|| {
            self.runs.push((Arc::clone(run), Added::default()));
            self.runs.len() - 1
        });
        let added = &mut self.runs[nth].1;
        if added.rows.last().is_none_or(|row| row.len() >= PACKED_BYTES) {
            added.rows.push(Vec::new());
        }
        let number = added.rows.len() as u64 - 1;
        let Some(row) = added.rows.last_mut() else { return };
        let was = row.len();
        let Change { collection, position, key, before, after } = entry;
        reknit_core::journal::put_entry(row, collection, position, key, before, after);
        added.bytes += (row.len() - was) as u64;
        added.adds.note(collection, position, before.is_none());
        added.entries += 1;
        if before.is_some() {
            added.overwritten += 1;
            added.earlier.push((collection, position, number));
        }
    }

    /// Notes how far a run was undone.
    pub(super) fn undoing(&mut self, run: RunId, undoing: Undoing) {
        self.undoing.push((run, undoing));
    }

    /// Whether it notes how far a run was undone.
    pub(super) fn undoes(&self) -> bool {
        !self.undoing.is_empty()
    }

    /// Whether there is something to be written.
    pub(super) fn changes(&self) -> bool {
        !self.undoing.is_empty() || !self.runs.is_empty()
    }
}

/// The change of a key, whose parts lie elsewhere.
pub(super) struct Change<'a> {
    pub(super) collection: CollectionId,
    pub(super) position: Position,
    pub(super) key: &'a [u8],
    /// With the commit that had changed it last.
    pub(super) before: Option<(u64, &'a State)>,
    pub(super) after: Option<u64>,
}

/// What the journal will know once a commit has succeeded.
pub(super) struct Staged {
    next: u64,
    runs: BTreeMap<RunId, Run>,
}

impl Journal {
    pub(super) fn open(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let number = |name: &str| -> Result<Option<Vec<u64>>, StoreError> {
            let Some(value) = snapshot.get(&rows::meta(name))? else { return Ok(None) };
            let whole = value.chunks_exact(8);
            if !whole.remainder().is_empty() || value.is_empty() {
                return Err(StoreError::damaged(format!("the row {name:?} does not decode")));
            }
            Ok(Some(whole.map(|bytes| Reader::new(bytes).u64().unwrap_or_default()).collect()))
        };
        let limits = match number(LIMITS)?.as_deref() {
            None => JournalLimits { bytes: LIMIT_BYTES, age: LIMIT_AGE },
            Some([bytes, age]) => JournalLimits { bytes: *bytes, age: *age },
            Some(_) => return Err(StoreError::damaged(format!("the row {LIMITS:?} does not decode"))),
        };
        let kept = match number(KEPT)?.as_deref() {
            None => None,
            Some([age, bytes]) => Some(KeepHistory { age: *age, bytes: *bytes }),
            Some(_) => return Err(StoreError::damaged(format!("the row {KEPT:?} does not decode"))),
        };
        let keeping = Keeping::new(kept);
        let paused = number(PAUSED)?.and_then(|numbers| numbers.first().copied()).map(RunId);
        let mut next = number(NEXT_RUN)?.and_then(|numbers| numbers.first().copied()).unwrap_or(1);
        let mut runs = BTreeMap::new();
        let (start, end) = rows::runs();
        for row in snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            // A row that is damaged is named by `verify`; its run is not listed.
            if let Ok((id, run)) = rows::read_run(&row, &value) {
                next = next.max(id.0 + 1);
                runs.insert(id, run);
            }
        }
        let bytes = runs.values().map(counted).sum();
        Ok(Self {
            known: Mutex::new(Known { next, runs, bytes, limits, keeping, pushing: Pushing::default(), paused }),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses where repairs are paused, or where no more can be undone.
    pub(super) fn admits(&self) -> Result<(), StoreError> {
        let known = self.known();
        if let Some(run) = known.paused {
            return Err(StoreError::Paused { run: run.0, place: None });
        }
        known.room()
    }

    /// The same for a run that may have written before.
    fn admits_more(&self, writing: &Writing) -> Result<(), StoreError> {
        if let Some(run) = self.known().paused {
            return Err(StoreError::Paused { run: run.0, place: None });
        }
        self.has_room(writing)
    }

    /// Refuses where no more can be undone, a run that may have written before.
    pub(super) fn has_room(&self, writing: &Writing) -> Result<(), StoreError> {
        let known = self.known();
        known.room().map_err(|error| match error {
            StoreError::JournalFull { bytes, limit, .. } => {
                let run = writing.id.get().and_then(|id| known.runs.get(id).map(|run| run.entries));
                StoreError::JournalFull { bytes, limit, wrote: run.unwrap_or(0) }
            }
            error => error,
        })
    }

    /// Lays what was gathered into the batch of a commit.
    /// It changes so many keys of collections that have so many entries then.
    pub(super) fn stage(
        &self,
        gathered: Gathered,
        (commit, now): (u64, Millis),
        changed: u64,
        entries: impl Fn(CollectionId) -> u64,
        batch: &mut Batch,
    ) -> Option<Staged> {
        if !gathered.changes() {
            return None;
        }
        let known = self.known();
        let mut staged = Staged { next: known.next, runs: BTreeMap::new() };
        for (writing, mut added) in gathered.runs {
            if let Some(filled) = fill::close(&added, changed, &entries) {
                let mut row = Vec::new();
                filled.encode(&mut row);
                added.bytes = row.len() as u64;
                added.rows = vec![row];
            }
            let begun = writing.id.get().is_some();
            let id = *writing.id.get_or_init(|| RunId(staged.next));
            if id.0 >= staged.next {
                staged.next = id.0 + 1;
                batch.put(&rows::meta(NEXT_RUN), &staged.next.to_be_bytes());
            }
            for (number, packed) in added.rows.iter().enumerate() {
                let row = rows::packed((id, commit, number as u64));
                batch.put(&row, &rows::sealed(&row, packed));
            }
            for (collection, position, number) in &added.earlier {
                batch.put(&rows::earlier(*collection, *position, (id, commit, *number)), &[]);
            }
            // One that had begun and is not there was dropped for its age while it wrote.
            let fresh = || Run { dropped: begun, ..Run::new(RunHeader { started: now, ..writing.header.clone() }) };
            let mut run = known.runs.get(&id).cloned().unwrap_or_else(fresh);
            run.entries += added.entries;
            run.overwritten += added.overwritten;
            run.bytes += added.bytes;
            put_run(id, &run, batch);
            staged.runs.insert(id, run);
        }
        for (id, undoing) in gathered.undoing {
            let Some(mut run) = staged.runs.get(&id).or_else(|| known.runs.get(&id)).cloned() else { continue };
            run.undone = Some(undoing);
            put_run(id, &run, batch);
            staged.runs.insert(id, run);
        }
        Some(staged)
    }

    /// Takes over what a commit has made true.
    pub(super) fn take_over(&self, staged: Option<Staged>) {
        let Some(staged) = staged else { return };
        let mut known = self.known();
        known.next = staged.next;
        for (id, run) in staged.runs {
            known.bytes += counted(&run);
            known.keeping.begun |= is_kept(&run) && !known.runs.contains_key(&id);
            let replaced = known.runs.insert(id, run).map_or(0, |run| counted(&run));
            known.bytes -= replaced;
        }
    }
}

impl Known {
    fn room(&self) -> Result<(), StoreError> {
        if self.bytes >= self.limits.bytes {
            return Err(StoreError::JournalFull { bytes: self.bytes, limit: self.limits.bytes, wrote: 0 });
        }
        Ok(())
    }
}

fn put_run(id: RunId, run: &Run, batch: &mut Batch) {
    let row = rows::run(id);
    batch.put(&row, &rows::sealed(&row, &run.encode()));
}

/// A change of a key of which there had been something.
fn replaced(changed: &Changed) -> Option<&JournalEntry> {
    match changed {
        Changed::Key(entry) if entry.before.is_some() => Some(entry),
        _ => None,
    }
}

fn missing() -> StoreError {
    StoreError::damaged("journal entries of an earlier state are missing")
}

/// A key as it was before a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The run that replaced it.
    pub run: RunId,
    /// The commit that replaced it.
    pub commit: u64,
    /// What there was.
    pub state: State,
}

impl Store {
    /// All runs that the journal has, oldest first.
    #[must_use]
    pub fn runs(&self) -> Vec<(RunId, Run)> {
        self.inner.journal.known().runs.iter().map(|(id, run)| (*id, run.clone())).collect()
    }

    /// A run of the journal.
    ///
    /// # Errors
    /// [`StoreError::NoRun`].
    pub fn run(&self, id: RunId) -> Result<Run, StoreError> {
        self.inner.journal.known().runs.get(&id).cloned().ok_or(StoreError::NoRun { run: id.0 })
    }

    /// Shows the changes of a run, those of newer commits first, until `see` says no. Of keys that it added close together,
    /// those that were written since are left out.
    ///
    /// # Errors
    /// [`StoreError::NoRun`], or what the store met while reading.
    pub fn run_entries(&self, id: RunId, see: &mut dyn FnMut(JournalEntry) -> bool) -> Result<(), StoreError> {
        self.run(id)?;
        let snapshot = self.inner.engine.snapshot()?;
        let (start, end) = rows::packed_of(id, None);
        for row in snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            let commit = rows::read_place(&row)?.1;
            for changed in rows::read_packed(&row, &value)? {
                let entries = match changed {
                    Changed::Key(entry) => vec![entry],
                    Changed::Filled(filled) => fill::keys(&self.inner, &*snapshot, &filled, commit)?.0,
                };
                for entry in entries {
                    if !see(entry) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// How much the journal may hold.
    #[must_use]
    pub fn journal_limits(&self) -> JournalLimits {
        self.inner.journal.known().limits
    }

    /// Bytes of entries that the journal holds, without those of ordinary writes and pushes.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.inner.journal.known().bytes
    }

    /// Sets how much the journal may hold, and drops runs that are too old for it; synced.
    ///
    /// # Errors
    /// What the engine met.
    pub fn set_journal_limits(&self, limits: JournalLimits) -> Result<u64, StoreError> {
        self.change_journal(|known, batch| {
            known.limits = limits;
            batch.put(&rows::meta(LIMITS), &[limits.bytes.to_be_bytes(), limits.age.to_be_bytes()].concat());
        })?;
        self.drop_old_runs()
    }

    /// The undo after which repairs are paused here, if they are.
    #[must_use]
    pub fn paused(&self) -> Option<RunId> {
        self.inner.journal.known().paused
    }

    /// Lets repairs go on after an undo; tells the run that had paused them, if they were paused. Synced.
    ///
    /// # Errors
    /// What the engine met.
    pub fn resume(&self) -> Result<Option<RunId>, StoreError> {
        let paused = self.paused();
        if paused.is_some() {
            self.change_journal(|known, batch| {
                known.paused = None;
                batch.delete(&rows::meta(PAUSED));
            })?;
        }
        Ok(paused)
    }

    /// Drops the runs that are older than the journal's age, whole, the oldest first; tells how many. A run that is being
    /// undone stays.
    ///
    /// # Errors
    /// What the engine met; what was dropped before stays dropped.
    pub fn drop_old_runs(&self) -> Result<u64, StoreError> {
        let now = (self.inner.clock)();
        let old: Vec<RunId> = {
            let known = self.inner.journal.known();
            let limit = now.saturating_sub(known.limits.age);
            let ended = |run: &Run| run.end.as_ref().map_or(run.header.started, |end| end.ended);
            let undoing = |run: &Run| run.undone.is_some_and(|undone| !undone.done);
            let old = known.runs.iter().filter(|(_, run)| !is_kept(run) && ended(run) < limit && !undoing(run));
            old.map(|(id, _)| *id).chain(known.outlived(now)).chain(known.pushed_out()).collect()
        };
        for id in &old {
            while self.drop_some(*id)? {}
        }
        Ok(old.len() as u64)
    }

    /// Drops some rows of a run, or at last the run; tells whether there is more.
    fn drop_some(&self, id: RunId) -> Result<bool, StoreError> {
        let snapshot = self.inner.engine.snapshot()?;
        let (start, end) = rows::packed_of(id, None);
        let mut batch_rows = Vec::new();
        for row in snapshot.scan(&start, &end)?.take(DROPPED_ROWS) {
            batch_rows.push(row?);
        }
        drop(snapshot);
        self.change_journal(|known, batch| {
            if batch_rows.is_empty() {
                known.bytes -= known.runs.remove(&id).map_or(0, |run| counted(&run));
                batch.delete(&rows::run(id));
                return;
            }
            for (row, value) in &batch_rows {
                batch.delete(row);
                let (Ok(place), Ok(entries)) = (rows::read_place(row), rows::read_packed(row, value)) else { continue };
                for entry in entries.iter().filter_map(replaced) {
                    batch.delete(&rows::earlier(entry.collection, entry.position, place));
                }
            }
            if let Some(run) = known.runs.get_mut(&id) {
                run.dropped = true;
                put_run(id, run, batch);
            }
        })?;
        Ok(!batch_rows.is_empty())
    }

    /// The states that a key of the first collection had and that the journal still has, oldest first.
    ///
    /// # Errors
    /// What the store met while reading.
    pub fn history(&self, key: &[u8]) -> Result<Vec<Earlier>, StoreError> {
        self.first().history(key)
    }

    /// Notes how a run ended, if it changed anything.
    pub(super) fn end_writing(&self, writing: &Writing, verdict: &str) -> Result<Option<RunId>, StoreError> {
        let Some(id) = writing.id.get().copied() else { return Ok(None) };
        let ended = (self.inner.clock)();
        self.change_journal(|known, batch| {
            if let Some(run) = known.runs.get_mut(&id) {
                run.end = Some(RunEnd { ended, verdict: verdict.into() });
                put_run(id, run, batch);
            }
        })?;
        self.drop_old_runs()?;
        Ok(Some(id))
    }

    /// Changes facts alone, between commits; synced.
    pub(super) fn change_facts(&self, change: impl FnOnce(&mut Batch)) -> Result<(), StoreError> {
        self.change_journal(|_, batch| change(batch))
    }

    /// Changes facts alone, between commits; durable no later than what is committed next.
    pub(super) fn change_facts_soon(&self, change: impl FnOnce(&mut Batch)) -> Result<(), StoreError> {
        self.change(Durability::Buffered, |_, batch| change(batch))
    }

    /// Changes facts of the journal alone, between commits; synced.
    fn change_journal(&self, change: impl FnOnce(&mut Known, &mut Batch)) -> Result<(), StoreError> {
        self.change(Durability::Synced, change)
    }

    fn change(&self, durability: Durability, change: impl FnOnce(&mut Known, &mut Batch)) -> Result<(), StoreError> {
        let inner: &Inner = &self.inner;
        let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = inner.journal.known();
        let mut batch = Batch::new();
        change(&mut known, &mut batch);
        if let Err(error) = inner.engine.commit(&mut batch, durability) {
            writer.failed = true;
            return Err(error.into());
        }
        Ok(())
    }
}

impl super::Collection {
    /// The states that a key had and that the journal still has, oldest first.
    ///
    /// # Errors
    /// What the store met while reading.
    pub fn history(&self, key: &[u8]) -> Result<Vec<Earlier>, StoreError> {
        let inner = &self.store.inner;
        let position = inner.keys.position(self.name(), key);
        let snapshot = inner.engine.snapshot()?;
        let (start, end) = rows::earlier_of(self.id, position);
        let mut found = Vec::new();
        let mut last = None;
        for row in snapshot.scan(&start, &end)? {
            let place = rows::read_earlier(&row?.0)?;
            if last.replace(place) == Some(place) {
                continue;
            }
            let row = rows::packed(place);
            let value = snapshot.get(&row)?;
            let value = value.ok_or_else(missing)?;
            for changed in rows::read_packed(&row, &value)? {
                let Changed::Key(entry) = changed else { continue };
                if entry.collection == self.id && entry.key == key {
                    let before = entry.before.map(|before| before.state);
                    let state = before.map(|state| Earlier { run: place.0, commit: place.1, state });
                    found.extend(state);
                }
            }
        }
        Ok(found)
    }
}
