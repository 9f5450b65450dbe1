//! Undoing a run: backwards through its entries, one row of them a commit, which also says how far it has come.
//! A key that was written after the run stays as it is, and is told.

use std::sync::Arc;

use reknit_core::CollectionId;
use reknit_core::journal::{Changed, JournalEntry, Run, RunHeader, RunId, RunKind, Undoing};
use reknit_core::query::{Overwrite, Replacement};

use super::again::{Again, written};
use super::standing::{is_back, not_back};
use super::{NEXT_RUN, PAUSED, Writing, fill, is_kept, put_run};
use crate::store::embedded::commit::submit;
use crate::store::embedded::write::{Fate, Write};
use crate::store::embedded::{Inner, Store, rows};
use crate::store::{Durability, StoreError};

/// How a run is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The exact states come back here alone, and repairs are paused here.
    Here,
    /// What readers saw before is written as new versions, which win wherever they come.
    Everywhere,
}

/// A key that an undo left as it was, since it had been written after the run.
pub type Skipped = (CollectionId, Vec<u8>);

/// What an undo did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone {
    /// The undo as a run.
    pub by: RunId,
    /// Keys put back.
    pub restored: u64,
    /// Keys skipped.
    pub skipped: u64,
}

/// Who puts back what a run had changed.
pub(crate) trait PutsBack {
    /// Puts back what these changes replaced, as far as each key is as the run left it, and says of each whether it is. Notes
    /// how far the run is undone then, with what was put back counted: not before it is put back.
    fn put_back(
        &self,
        entries: Vec<JournalEntry>,
        kind: RunKind,
        writing: &Arc<Writing>,
        undoing: (RunId, Undoing),
    ) -> Result<Vec<bool>, StoreError>;
}

impl PutsBack for Store {
    fn put_back(
        &self,
        entries: Vec<JournalEntry>,
        kind: RunKind,
        writing: &Arc<Writing>,
        (run, undoing): (RunId, Undoing),
    ) -> Result<Vec<bool>, StoreError> {
        let of = entries.len();
        let made = undoing.at.map_or(0, |(commit, _)| commit);
        let mut writes: Vec<Write> =
            entries.into_iter().map(|entry| write(&self.inner, (entry, made), kind, writing)).collect();
        // The commit that puts them back counts them too.
        writes.push(Write::Undoing { run, undoing, of });
        let done = submit(&self.inner, writes, Durability::Buffered)?;
        Ok(done.fates.iter().take(of).map(|fate| matches!(fate, Fate::Applied | Fate::Kept)).collect())
    }
}

impl Store {
    /// Undoes a run; synced when it returns. Where it was killed in the middle, the same call goes on. `skipped` hears the
    /// keys that stay, `progress` the changes undone so far.
    ///
    /// # Errors
    /// [`StoreError::NoRun`], [`StoreError::NoUndo`], [`StoreError::Undone`], [`StoreError::BeingUndone`], or what the engine
    /// met; what was put back before stays so.
    pub fn undo(
        &self,
        id: RunId,
        how: Undo,
        skipped: &mut dyn FnMut(Skipped),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Undone, StoreError> {
        self.undo_by(self, id, how, skipped, progress)
    }

    /// The same by whoever keeps what the run had changed.
    ///
    /// # Errors
    /// As for [`Store::undo`], or what it met.
    pub(crate) fn undo_by(
        &self,
        who: &dyn PutsBack,
        id: RunId,
        how: Undo,
        skipped: &mut dyn FnMut(Skipped),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Undone, StoreError> {
        let run = self.run(id)?;
        if is_kept(&run) {
            return Err(StoreError::NoUndo { run: id.0 });
        }
        let kind = if how == Undo::Here { RunKind::Undo(id) } else { RunKind::UndoEverywhere(id) };
        if let Some(last) = self.undone(id) {
            // What it has put back is back in its way, so only the same way goes on with what it skipped.
            let same = self.run(last.by).map_or(true, |by| by.header.kind == kind);
            if last.skipped == 0 || !same {
                return Err(StoreError::Undone { run: id.0, by: self.standing(id, last.by) });
            }
        }
        if run.dropped {
            return Err(StoreError::NoRun { run: id.0 });
        }
        let inner = &self.inner;
        let header = |kind| RunHeader { kind, peer: String::new(), opener: true, policy: String::new(), started: 0 };
        let (writing, mut undoing) = match run.undone.filter(|undone| !undone.done) {
            // One that was killed goes on as it began.
            Some(undoing) => {
                let began = self.run(undoing.by).map_or(kind, |by| by.header.kind);
                if began != kind {
                    let everywhere = how == Undo::Here;
                    return Err(StoreError::BeingUndone { run: id.0, by: undoing.by.0, everywhere });
                }
                (Writing::resumed(header(kind), undoing.by), undoing)
            }
            None => {
                inner.journal.known().room()?;
                let writing = Writing::new(header(kind));
                let by = self.begin(&writing, id, kind)?;
                (writing, Undoing { by, at: None, restored: 0, skipped: 0, done: false })
            }
        };
        let earlier = self.undos_before(id, undoing.by);
        let mut seen = undoing.restored + undoing.skipped;
        loop {
            let snapshot = inner.engine.snapshot()?;
            let (start, end) = rows::packed_of(id, undoing.at);
            let newest = snapshot.scan(&start, &end)?.next().transpose()?;
            let Some(last) = newest else { break };
            let (_, commit, number) = rows::read_place(&last.0)?;
            let mut entries = Vec::new();
            // The exact state that a change left is there again once a later one is undone; a new version is not that state.
            let mut again = matches!(kind, RunKind::UndoEverywhere(_)).then(|| Again::new(inner, &*snapshot, id));
            let mut run = Again::new(inner, &*snapshot, id);
            let mut earlier: Vec<Again<'_>> = earlier.iter().map(|by| Again::new(inner, &*snapshot, *by)).collect();
            for changed in rows::read_packed(&last.0, &last.1)?.into_iter().rev() {
                match (changed, &mut again) {
                    (Changed::Key(entry), _)
                        if is_back(inner, &*snapshot, (&mut run, &mut earlier), (commit, &entry))? =>
                    {
                        seen += 1
                    }
                    (Changed::Key(entry), None) => entries.push(entry),
                    (Changed::Key(entry), Some(again)) => {
                        if !again.is_within(commit, &entry)? {
                            entries.push(JournalEntry { before: again.first(commit, &entry)?, ..entry });
                        }
                    }
                    (Changed::Filled(filled), again) => {
                        let (stand, mut since) = fill::keys(inner, &*snapshot, &filled, commit)?;
                        let mut undone = 0;
                        if let Some(again) = again {
                            let mut by = Again::new(inner, &*snapshot, undoing.by);
                            for key in std::mem::take(&mut since) {
                                match again.is_put_back(&mut by, commit, filled.collection, &key)? {
                                    true => undone += 1,
                                    false => since.push(key),
                                }
                            }
                        }
                        since = not_back(inner, &*snapshot, &mut earlier, filled.collection, since)?;
                        // Keys that were deleted and collected since leave no trace; they count as skipped all the same, but
                        // where an earlier undo may have removed them.
                        let rest = if earlier.is_empty() { filled.count } else { 0 };
                        let gone = rest.saturating_sub(stand.len() as u64 + undone).max(since.len() as u64);
                        undoing.skipped += gone;
                        seen += gone;
                        since.into_iter().for_each(|key| skipped((filled.collection, key)));
                        entries.extend(stand);
                    }
                }
            }
            drop((again, earlier));
            drop(snapshot);
            let keys: Vec<Skipped> = entries.iter().map(|entry| (entry.collection, entry.key.clone())).collect();
            undoing.at = Some((commit, number));
            let restored = who.put_back(entries, kind, &writing, (id, undoing))?;
            for (key, restored) in keys.into_iter().zip(restored) {
                match restored {
                    true => undoing.restored += 1,
                    false => {
                        undoing.skipped += 1;
                        skipped(key);
                    }
                }
                seen += 1;
            }
            progress(seen);
        }
        undoing.done = true;
        submit(inner, vec![Write::Undoing { run: id, undoing, of: 0 }], Durability::Synced)?;
        self.end_writing(&writing, "done")?;
        Ok(Undone { by: undoing.by, restored: undoing.restored, skipped: undoing.skipped })
    }

    /// Gives an undo its number, and pauses repairs before anything is put back.
    fn begin(&self, writing: &Writing, id: RunId, kind: RunKind) -> Result<RunId, StoreError> {
        let now = (self.inner.clock)();
        let mut by = RunId(0);
        self.change_journal(|known, batch| {
            by = *writing.id.get_or_init(|| RunId(known.next));
            known.next = by.0 + 1;
            batch.put(&rows::meta(NEXT_RUN), &known.next.to_be_bytes());
            let run = Run::new(RunHeader { started: now, ..writing.header.clone() });
            put_run(by, &run, batch);
            known.runs.insert(by, run);
            if let Some(run) = known.runs.get_mut(&id) {
                run.undone = Some(Undoing { by, at: None, restored: 0, skipped: 0, done: false });
                put_run(id, run, batch);
            }
            if matches!(kind, RunKind::Undo(_)) {
                known.paused = Some(by);
                batch.put(&rows::meta(PAUSED), &by.0.to_be_bytes());
            }
        })?;
        Ok(by)
    }
}

/// What undoes one change, made in a commit.
fn write(store: &Inner, (entry, made): (JournalEntry, u64), kind: RunKind, writing: &Arc<Writing>) -> Write {
    let JournalEntry { collection, key, before, after, .. } = entry;
    let run = Arc::clone(writing);
    if let RunKind::Undo(_) = kind {
        let state = before.map(|before| {
            let (made, _) = written(&before, made);
            (before.state, made)
        });
        return Write::Restore { collection, key, expected: after, state, run };
    }
    // What readers would see of it now, which may be another version than the newest, or made of several.
    let content = before.map_or(Replacement::Delete, |before| Replacement::Shown(store.without_expired(before.state)));
    let overwrite = Overwrite { key, expected: after, content, seen: Vec::new() };
    Write::Overwrite { collection, overwrite, run: Some(run) }
}
