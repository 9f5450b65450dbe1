//! Filling the index of a table at once, where it is empty or much of it has changed: records, tree and sketches are made in one
//! pass over sorted rows, each on a thread of its own, and packed by the engine, so that nothing is there before all is. What
//! changes otherwise is written as in any store.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use reknit_core::sketch::Element;
use reknit_core::tree::Summary;
use reknit_core::{CollectionId, Content, Entry, Position, Range, Record, Sibling, Stamp, State, Version};

use super::import::Beside;
use super::lookahead::Lookahead;
use super::open::{TEMPORARY, random};
use super::rows::{self, Counts};
use super::sketches::Filled;
use super::sorting::{Row, Run, RunWriter, SortedRows, duplicate};
use super::write::{digested, put_head};
use super::{Collection, ImportProgress, Imported, Inner, Store, StoreError};
use crate::store::engine::{Batch, Draft, Durability, EngineError};

/// Between two calls of a progress.
const TOLD_EVERY: u64 = 10_000;
/// Where the depth is in the key of a node or of cells.
const DEPTH_AT: usize = 3;
/// Records that are handed on at once, and how many times that may be done before they are taken.
const MADE_ROWS: usize = 1_024;
const MADE_AHEAD: usize = 4;
/// Keys of which is noted at once what they were.
const BEFORE_ROWS: usize = 10_000;

impl Collection {
    /// Whether it is the empty collection of an index, of which nobody wants to know what changes.
    pub(super) fn is_to_fill(&self) -> bool {
        let empty = self.store.inner.head().roots.iter().all(Summary::is_empty);
        empty && self.may_be_filled() && !self.store.inner.bases.keeps_changes()
    }

    /// How many of so many rows may have changed, and are written row by row; where more have, it is filled anew.
    pub(super) fn most_changed(&self, rows: u64) -> u64 {
        /// So many are no matter, and this share of all.
        const FEW: u64 = 10_000;
        const SHARE: u64 = 8;
        if self.may_be_filled() { FEW.max(rows / SHARE) } else { u64::MAX }
    }

    /// Whether it is the one collection of an index.
    fn may_be_filled(&self) -> bool {
        let inner = &self.store.inner;
        inner.definition.collections.len() == 1 && !inner.no_tree && inner.bare && inner.engine.packing().is_some()
    }

    /// Makes it hold sorted rows, of which so many were read, in place of what is there.
    pub(super) fn fill(
        &self,
        rows: SortedRows<'_>,
        beside: Option<Beside>,
        mut so_far: ImportProgress,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Imported, StoreError> {
        let inner = &*self.store.inner;
        let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(packing) = inner.engine.packing().filter(|_| !writer.failed) else {
            return Err(EngineError::Poisoned { dir: inner.dir.clone() }.into());
        };
        let (collection, commit, total) = (self.id, inner.head().commit + 1, so_far.read);
        let aside = Aside::new(inner)?;
        let mut draft = packing.draft()?;
        let (root, runs, changed) = std::thread::scope(|scope| {
            let (made, taken) = sync_channel(MADE_AHEAD);
            let (gathered, parts) = sync_channel(0);
            let making = Making { inner, collection, commit, beside, changed: 0, before: Batch::new() };
            let changed = scope.spawn(move || making.make_all(rows, &made));
            let cells = scope.spawn(|| cells_of(collection, total, parts, &aside));
            let records = Records {
                draft: &mut draft,
                taken,
                made: Made::default(),
                next: 0,
                ended: false,
                part: None,
                gathered,
                elements: Vec::new(),
                written: 0,
            };
            let built = build(records, inner, collection, &aside, &mut so_far, progress);
            // Where cells could not be kept nothing else went on either.
            let cells = cells.join().unwrap_or_else(|_| Err(StoreError::Panicked("making sketches".into())))?;
            let (root, nodes) = built?;
            let changed = changed.join().map_err(|_| StoreError::Panicked("indexing rows".into()))?;
            Ok::<_, StoreError>((root, [nodes, cells], changed))
        })?;
        for run in runs.into_iter().flatten().flatten() {
            let mut run = Run::open(&run.finish()?)?;
            while let Some(Row { key, value, .. }) = run.next()? {
                draft.put(&key, &value)?;
            }
        }
        let counts = Counts { live: total, tombstones: 0 };
        let mut batch = Batch::new();
        batch.put(&rows::counts(collection), &counts.encode());
        put_head(commit, &writer.clock, &mut batch);
        // What was changed row by row before is no part of cells that are made anew.
        let (start, end) = rows::tails_of(collection);
        for row in inner.engine.snapshot()?.scan(&start, &end)? {
            batch.delete(&row?.0);
        }
        let mut held = inner.sketches.hold();
        if let Err(error) = packing.pack(draft, &mut batch) {
            writer.failed = true;
            return Err(error.into());
        }
        inner.owed.settled(commit);
        writer.counts = vec![counts];
        // What it knew was of the tree before.
        writer.cache.clear();
        inner.sketches.reload(&mut held, &*inner.engine.snapshot()?, collection)?;
        inner.publish(commit, writer.clock.last(), vec![root]);
        drop(held);
        inner.watchers.push(commit, None);
        progress(so_far);
        Ok(Imported { records: total, changed, commit })
    }
}

impl Store {
    /// Packs all rows anew if much has changed since they were packed.
    pub(super) fn repack(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let Some(packing) = inner.engine.packing() else { return Ok(()) };
        let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.failed || !packing.is_loose()? {
            return Ok(());
        }
        let mut draft = packing.draft()?;
        let snapshot = inner.engine.snapshot()?;
        for kind in rows::packed_kinds() {
            for row in snapshot.scan(&[kind], &[kind + 1])? {
                let (key, value) = row?;
                draft.put(&key, &value)?;
            }
        }
        drop(snapshot);
        packing.pack(draft, &mut Batch::new()).map_err(|error| {
            writer.failed = true;
            error.into()
        })
    }
}

/// Rows by depth, in order.
type Runs = Vec<Option<RunWriter>>;

/// Rows that come in an order of their own, kept aside by depth until it is their turn.
struct Aside {
    dir: PathBuf,
}

impl Aside {
    fn new(inner: &Inner) -> Result<Aside, StoreError> {
        Ok(Aside { dir: inner.dir.join(TEMPORARY).join(format!("fill-{:016x}", random()?)) })
    }

    fn put(&self, runs: &mut Runs, name: &str, depth: usize, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        if runs.len() <= depth {
            runs.resize_with(depth + 1, || None);
        }
        let run = match &mut runs[depth] {
            Some(run) => run,
            none => none.insert(RunWriter::create(&self.dir, &format!("{name}-{depth}"))?),
        };
        run.put(&Row { position: Position(0), key, nth: 0, value })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the store is next opened.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Makes the tree of the records to come, whose rows go into the draft; gives its root and the rows of its nodes.
fn build(
    mut records: Records<'_>,
    inner: &Inner,
    collection: CollectionId,
    aside: &Aside,
    so_far: &mut ImportProgress,
    progress: &mut dyn FnMut(ImportProgress),
) -> Result<(Summary, Runs), StoreError> {
    let mut nodes = Runs::new();
    let mut entries = Lookahead::new(std::iter::from_fn(|| {
        let entry = records.next().transpose();
        so_far.written = records.written;
        if records.written.is_multiple_of(TOLD_EVERY) {
            progress(*so_far);
        }
        entry
    }));
    let mut tell = |range: Range, summary: Summary| match summary.is_empty() {
        true => Ok(()),
        false => {
            let (key, value) = (rows::node(collection, range).to_vec(), rows::node_value(&summary));
            aside.put(&mut nodes, "nodes", usize::from(range.depth()), key, value)
        }
    };
    let root = entries.build(&inner.keys, Range::ALL, &mut tell)?;
    if let Some(failed) = entries.failed.take() {
        return Err(failed);
    }
    tell(Range::ALL, root)?;
    drop(entries);
    records.end_part()?;
    Ok((root, nodes))
}

/// Records, some at a time: their rows, and the entries of all of them, which are in order too.
#[derive(Default)]
struct Made {
    /// Keys and values of rows, one behind the other.
    bytes: Vec<u8>,
    /// Where each row's key ends among the bytes, where its value does, and an entry.
    rows: Vec<(usize, usize, Entry)>,
}

/// Makes records of sorted rows, on a thread of its own.
struct Making<'a> {
    inner: &'a Inner,
    collection: CollectionId,
    commit: u64,
    /// What was there before, if anything was.
    beside: Option<Beside>,
    changed: u64,
    /// What keys were that have changed, where somebody wants to know.
    before: Batch,
}

impl Making<'_> {
    /// Ends once nobody takes them any more; an empty page says that all were made. Says how many are otherwise than before.
    fn make_all(mut self, rows: SortedRows<'_>, made: &SyncSender<Result<Made, StoreError>>) -> u64 {
        if let Err(error) = self.make(rows, made) {
            // Whoever has gone needs it no more.
            let _ = made.send(Err(error));
        }
        self.changed
    }

    fn make(&mut self, rows: SortedRows<'_>, to: &SyncSender<Result<Made, StoreError>>) -> Result<(), StoreError> {
        let (mut made, mut held) = (Made::default(), Vec::new());
        // Of one position entries have an order of their own.
        let (mut last, mut from): (Option<Row>, usize) = (None, 0);
        for row in rows {
            let row = row?;
            match &last {
                Some(last) if last.position == row.position => {
                    if last.key == row.key {
                        return Err(duplicate(&row.key, last.nth, row.nth));
                    }
                }
                _ => {
                    made.order_entries(from);
                    if made.rows.len() >= MADE_ROWS && to.send(Ok(std::mem::take(&mut made))).is_err() {
                        return Ok(());
                    }
                    from = made.rows.len();
                }
            }
            let written = self.written(&row)?;
            self.put(&row, written, &mut held, &mut made)?;
            last = Some(row);
        }
        made.order_entries(from);
        if let Some(mut beside) = self.beside.take() {
            let mut gone = Vec::new();
            beside.end(&mut |record| gone.push(record))?;
            self.note(gone)?;
        }
        self.keep_before(0)?;
        // Whoever has gone needs neither.
        let _ = made.rows.is_empty() || to.send(Ok(made)).is_ok();
        let _ = to.send(Ok(Made::default()));
        Ok(())
    }

    /// In which commit a row came to be as it is: an earlier one, if it is as before.
    fn written(&mut self, row: &Row) -> Result<u64, StoreError> {
        let Some(beside) = &mut self.beside else {
            self.changed += 1;
            return Ok(self.commit);
        };
        let mut gone = Vec::new();
        let before = beside.up_to(row, &mut |record| gone.push(record))?;
        self.note(gone)?;
        match before {
            Some(before) if before.state.value() == Some(row.value.as_slice()) => {
                return Ok(before.state.winner().version.stamp.0);
            }
            Some(before) if before.state.is_live() => self.note([before])?,
            _ => {
                self.changed += 1;
                let new = [(self.collection, row.key.as_slice(), None)];
                self.inner.bases.stage(self.commit, new.into_iter(), &mut self.before);
            }
        }
        Ok(self.commit)
    }

    /// Counts live records that are gone or otherwise now, and notes what they were.
    fn note(&mut self, records: impl IntoIterator<Item = Record>) -> Result<(), StoreError> {
        for record in records {
            self.changed += 1;
            let entry =
                self.inner.keys.entry(self.inner.definition.profile, self.inner.name_of(self.collection), &record);
            let was = [(self.collection, record.key.as_slice(), entry.map(|entry| entry.short()))];
            self.inner.bases.stage(self.commit, was.into_iter(), &mut self.before);
        }
        self.keep_before(BEFORE_ROWS)
    }

    /// Writes what keys were, if it is more than so much: ahead of the commit that changes them, without which it says no
    /// more than what they are.
    fn keep_before(&mut self, most: usize) -> Result<(), StoreError> {
        if self.before.len() > most {
            self.inner.engine.commit(&mut std::mem::take(&mut self.before), Durability::Buffered)?;
        }
        Ok(())
    }

    fn put(&self, row: &Row, commit: u64, held: &mut Vec<u8>, made: &mut Made) -> Result<(), StoreError> {
        let Row { position, key, value, .. } = row;
        let version = Version::after(Stamp(commit), self.inner.lives.actor(), []);
        let content = Content::Live(value.clone());
        let state = State::single(Sibling { version, content, expires: None });
        let record = rows::record(self.collection, *position, key);
        self.inner.put_record(held, &record, key, commit, &state);
        let (_, digest) = digested(self.inner, self.collection, key, state);
        let digest = digest.ok_or_else(|| StoreError::damaged("a row that was read has no digest"))?;
        made.bytes.extend_from_slice(&record);
        let key_ends = made.bytes.len();
        made.bytes.extend_from_slice(held);
        made.rows.push((key_ends, made.bytes.len(), Entry { position: *position, digest }));
        Ok(())
    }
}

impl Made {
    /// Puts the entries of the rows from one on in order; the rows stay as they are.
    fn order_entries(&mut self, from: usize) {
        let rows = &mut self.rows[from..];
        if rows.len() > 1 {
            let mut entries: Vec<Entry> = rows.iter().map(|(_, _, entry)| *entry).collect();
            entries.sort_unstable();
            rows.iter_mut().zip(entries).for_each(|((_, _, entry), ordered)| *entry = ordered);
        }
    }
}

/// Records on their way into a draft, which give their entries.
struct Records<'a> {
    draft: &'a mut Draft,
    taken: Receiver<Result<Made, StoreError>>,
    made: Made,
    /// The next of those.
    next: usize,
    ended: bool,
    /// The sixteenth that elements are gathered of, for whoever makes its cells.
    part: Option<u8>,
    elements: Vec<Element>,
    gathered: SyncSender<(u8, Vec<Element>)>,
    written: u64,
}

impl Records<'_> {
    fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        if self.next == self.made.rows.len() && !self.ended {
            let made = self.taken.recv().unwrap_or_else(|_| Err(StoreError::Panicked("indexing rows".into())))?;
            (self.ended, self.made, self.next) = (made.rows.is_empty(), made, 0);
        }
        let Some(&(key_ends, ends, entry)) = self.made.rows.get(self.next) else { return Ok(None) };
        let begins = self.next.checked_sub(1).map_or(0, |before| self.made.rows[before].1);
        let (key, value) = (&self.made.bytes[begins..key_ends], &self.made.bytes[key_ends..ends]);
        self.draft.put(key, value)?;
        self.next += 1;
        let part = u8::try_from(entry.position.0 >> 60).unwrap_or(0);
        if self.part.is_some_and(|before| before != part) {
            self.end_part()?;
        }
        self.part = Some(part);
        self.elements.push(Element::of(&entry));
        self.written += 1;
        Ok(Some(entry))
    }

    fn end_part(&mut self) -> Result<(), StoreError> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let elements = std::mem::take(&mut self.elements);
        // Why they are not taken is told by who would have.
        self.gathered.send((part, elements)).map_err(|_| StoreError::Panicked("making sketches".into()))
    }
}

/// The rows of the cells of a collection of so many records, whose elements come part by part.
fn cells_of(
    collection: CollectionId,
    records: u64,
    parts: Receiver<(u8, Vec<Element>)>,
    aside: &Aside,
) -> Result<Runs, StoreError> {
    let (mut sketches, mut cells) = (Filled::new(collection, records), Runs::new());
    let mut keep = |batch: &mut Batch| {
        batch.sorted().into_iter().try_for_each(|(key, value)| {
            let depth = key.get(DEPTH_AT).copied().unwrap_or(0);
            let value = value.unwrap_or_default().to_vec();
            aside.put(&mut cells, "cells", usize::from(depth), key.to_vec(), value)
        })
    };
    for (part, mut elements) in parts {
        elements.sort_unstable();
        let elements: Vec<(Element, i64)> = elements.into_iter().map(|element| (element, 1)).collect();
        let mut batch = Batch::new();
        sketches.part(part, &elements, &mut batch)?;
        keep(&mut batch)?;
    }
    let mut batch = Batch::new();
    sketches.end(&mut batch)?;
    keep(&mut batch)?;
    Ok(cells)
}
