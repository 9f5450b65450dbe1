//! Filling the empty index of a table at once: records, tree and sketches are made in one pass over sorted rows and packed by
//! the engine, so that nothing is there before all is. What changes later is written as in any store.

use std::iter::Peekable;
use std::path::PathBuf;
use std::sync::PoisonError;

use reknit_core::sketch::Element;
use reknit_core::tree::Summary;
use reknit_core::{CollectionId, Content, Entry, Position, Range, Sibling, Stamp, State, Version};

use super::lookahead::Lookahead;
use super::open::{TEMPORARY, random};
use super::rows::{self, Counts};
use super::sketches::Filled;
use super::sorting::{Row, Run, RunWriter, SortedRows, duplicate};
use super::write::{digested, put_head};
use super::{Collection, ImportProgress, Imported, Inner, Store, StoreError};
use crate::store::engine::{Batch, Draft, EngineError};

/// Between two calls of a progress.
const TOLD_EVERY: u64 = 10_000;
/// Where the depth is in the key of a node or of cells.
const DEPTH_AT: usize = 3;

impl Collection {
    /// Whether it is the empty collection of an index, of which nobody wants to know what changes.
    pub(super) fn is_to_fill(&self) -> bool {
        let inner = &self.store.inner;
        let empty = inner.head().roots.iter().all(Summary::is_empty);
        let alone = inner.definition.collections.len() == 1 && !inner.no_tree && inner.bare;
        alone && empty && inner.engine.packing().is_some() && !inner.bases.keeps_changes()
    }

    /// Makes it hold sorted rows, of which so many were read.
    pub(super) fn fill(
        &self,
        rows: SortedRows,
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
        let mut nodes: Vec<Option<RunWriter>> = Vec::new();
        let records = Records {
            inner,
            collection,
            commit,
            rows: rows.peekable(),
            draft: packing.draft()?,
            ready: Vec::new().into_iter(),
            sketches: Filled::new(collection, total),
            part: None,
            elements: Vec::new(),
            cells: Vec::new(),
            aside: &aside,
            written: 0,
        };
        let mut records = Ahead { records, so_far: &mut so_far, progress };
        let mut entries = Lookahead::new(std::iter::from_fn(|| records.next().transpose()));
        let mut tell = |range: Range, summary: Summary| match summary.is_empty() {
            true => Ok(()),
            false => {
                let (key, value) = (rows::node(collection, range).to_vec(), rows::node_value(&summary));
                aside.put(&mut nodes, "nodes", usize::from(range.depth()), key, value)
            }
        };
        let root = entries.build(&inner.keys, Range::ALL, &mut tell)?;
        let failed = entries.failed.take();
        drop(entries);
        if let Some(failed) = failed {
            return Err(failed);
        }
        tell(Range::ALL, root)?;
        let Records { mut draft, cells, .. } = records.records.end()?;
        for runs in [nodes, cells] {
            for run in runs.into_iter().flatten() {
                let mut run = Run::open(&run.finish()?)?;
                while let Some(Row { key, value, .. }) = run.next()? {
                    draft.put(&key, &value)?;
                }
            }
        }
        let counts = Counts { live: total, tombstones: 0 };
        let mut batch = Batch::new();
        batch.put(&rows::counts(collection), &counts.encode());
        put_head(commit, &writer.clock, &mut batch);
        // It was emptied row by row, perhaps: what was removed is no part of cells that are made anew.
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
        // What it knew was of an empty tree.
        writer.cache.clear();
        inner.sketches.reload(&mut held, &*inner.engine.snapshot()?, collection)?;
        inner.publish(commit, writer.clock.last(), vec![root]);
        drop(held);
        inner.watchers.push(commit, None);
        progress(so_far);
        Ok(Imported { records: total, changed: total, commit })
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

/// Rows that come in an order of their own, kept aside by depth until it is their turn.
struct Aside {
    dir: PathBuf,
}

impl Aside {
    fn new(inner: &Inner) -> Result<Aside, StoreError> {
        Ok(Aside { dir: inner.dir.join(TEMPORARY).join(format!("fill-{:016x}", random()?)) })
    }

    fn put(
        &self,
        runs: &mut Vec<Option<RunWriter>>,
        name: &str,
        depth: usize,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), StoreError> {
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

/// Records on their way into a draft, which give their entries.
struct Records<'a> {
    inner: &'a Inner,
    collection: CollectionId,
    commit: u64,
    rows: Peekable<SortedRows>,
    draft: Draft,
    /// Entries of a position whose records are written.
    ready: std::vec::IntoIter<Entry>,
    sketches: Filled,
    /// The sixteenth that elements are gathered of.
    part: Option<u8>,
    elements: Vec<(Element, i64)>,
    cells: Vec<Option<RunWriter>>,
    aside: &'a Aside,
    written: u64,
}

impl Records<'_> {
    fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        if let Some(entry) = self.ready.next() {
            return Ok(Some(entry));
        }
        let Some(first) = self.rows.next() else { return Ok(None) };
        let mut last = first?;
        let position = last.position;
        let part = u8::try_from(position.0 >> 60).unwrap_or(0);
        if self.part.is_some_and(|before| before != part) {
            self.end_part()?;
        }
        self.part = Some(part);
        let first = self.put(&last)?;
        let mut more = Vec::new();
        while let Some(next) = self.rows.next_if(|next| next.as_ref().map_or(true, |next| next.position == position)) {
            let next = next?;
            if next.key == last.key {
                return Err(duplicate(&next.key, last.nth, next.nth));
            }
            more.push(self.put(&next)?);
            last = next;
        }
        if more.is_empty() {
            return Ok(Some(first));
        }
        more.push(first);
        more.sort_unstable();
        self.ready = more.into_iter();
        Ok(self.ready.next())
    }

    /// Writes a record; gives its entry.
    fn put(&mut self, row: &Row) -> Result<Entry, StoreError> {
        let Row { position, key, value, .. } = row;
        let version = Version::after(Stamp(self.commit), self.inner.lives.actor(), []);
        let content = Content::Live(value.clone());
        let state = State::single(Sibling { version, content, expires: None });
        let record = rows::record(self.collection, *position, key);
        let mut held = Vec::new();
        self.inner.put_record(&mut held, &record, key, self.commit, &state);
        self.draft.put(&record, &held)?;
        let (_, digest) = digested(self.inner, self.collection, key, state);
        let digest = digest.ok_or_else(|| StoreError::damaged("a row that was read has no digest"))?;
        let entry = Entry { position: *position, digest };
        self.elements.push((Element::of(&entry), 1));
        self.written += 1;
        Ok(entry)
    }

    fn end_part(&mut self) -> Result<(), StoreError> {
        let Some(part) = self.part.take() else { return Ok(()) };
        self.elements.sort_unstable();
        let mut batch = Batch::new();
        self.sketches.part(part, &self.elements, &mut batch)?;
        self.elements.clear();
        self.keep_cells(&mut batch)
    }

    fn keep_cells(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        for (key, value) in batch.sorted() {
            let depth = key.get(DEPTH_AT).copied().unwrap_or(0);
            let value = value.unwrap_or_default().to_vec();
            self.aside.put(&mut self.cells, "cells", usize::from(depth), key.to_vec(), value)?;
        }
        Ok(())
    }

    /// Ends the last part, and the root's cells.
    fn end(mut self) -> Result<Self, StoreError> {
        self.end_part()?;
        let mut batch = Batch::new();
        std::mem::take(&mut self.sketches).end(&mut batch)?;
        self.keep_cells(&mut batch)?;
        Ok(self)
    }
}

/// Records, telling how far they are.
struct Ahead<'a, 'p> {
    records: Records<'a>,
    so_far: &'p mut ImportProgress,
    progress: &'p mut dyn FnMut(ImportProgress),
}

impl Ahead<'_, '_> {
    fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        let entry = self.records.next()?;
        self.so_far.written = self.records.written;
        if self.records.written.is_multiple_of(TOLD_EVERY) {
            (self.progress)(*self.so_far);
        }
        Ok(entry)
    }
}
