//! Folding: the tail of a part that has grown long is laid over the cells that are kept in rows, by a commit of its own.
//!
//! It is worked out from a snapshot while others write, and takes the writer's lock only to begin and to be committed: its cells
//! take as long as a hundred puts, which would all wait. One of those who wrote does it for all, once what it wrote is committed.
//! Questions are answered by the module above.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use reknit_core::sketch::{Element, Falls, KEPT_DEPTH_MAX, Sketch, build, cells_kept};
use reknit_core::{CollectionId, Entry, Position, Range};

use super::{CHANGES_MAX, FOLD_EARLIER, Kept, Sketches, Tail, cells_to_keep, count, lay, part};
use crate::store::embedded::Inner;
use crate::store::embedded::rows::{self, Folded};
use crate::store::embedded::tree::Tree;
use crate::store::engine::Batch;
use crate::store::{Durability, StoreError};

/// A part whose tail has grown long.
pub(super) struct Due {
    pub(super) collection: CollectionId,
    pub(super) digit: u8,
    /// It is so long that whoever writes is to wait until it is folded.
    pub(super) late: bool,
}

/// What is to be folded in a store.
#[derive(Default)]
pub(super) struct Folding {
    /// Held by the one who folds.
    one: Mutex<()>,
    /// Parts that are due, and whether they are late.
    due: Mutex<BTreeMap<(CollectionId, u8), bool>>,
    failed: Mutex<Failed>,
}

/// What kept parts from being folded. Those whose writes made them due had been written already, so that later ones are told.
#[derive(Default)]
struct Failed {
    /// By part, until it is folded.
    parts: BTreeMap<(CollectionId, u8), StoreError>,
    /// Why the engine takes nothing more.
    engine: Option<StoreError>,
}

impl Folding {
    pub(super) fn owe(&self, due: Vec<Due>) {
        if !due.is_empty() {
            self.due().extend(due.into_iter().map(|due| ((due.collection, due.digit), due.late)));
        }
    }

    /// Refuses a write that would make a tail longer than it may be where damage keeps it from being folded; where something else
    /// did, once the tail is twice as long. The fold is tried again.
    pub(super) fn check(&self, due: &Due) -> Result<(), StoreError> {
        let Some(error) = self.failed().parts.get(&(due.collection, due.digit)).cloned() else { return Ok(()) };
        if !error.is_damage() && !due.late {
            return Ok(());
        }
        self.due().insert((due.collection, due.digit), due.late);
        Err(error)
    }

    fn failed(&self) -> MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<(CollectionId, u8), bool>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many changes the tails may hold.
pub(super) struct Bounds(usize);

impl Bounds {
    /// How many the tail of a part may: a quarter less to a quarter more, so that parts that grow alike are not all due at once.
    pub(super) fn of(&self, digit: u8) -> usize {
        (self.0 - self.0 / 4).saturating_add(self.0 / 32 * usize::from(digit))
    }
}

impl Sketches {
    /// Says why the engine takes nothing more, if a fold has met that.
    pub(in super::super) fn refused(&self) -> Option<StoreError> {
        self.folding.failed().engine.clone()
    }

    pub(super) fn bounds(&self, all: &[Kept]) -> Bounds {
        let crowded = all.iter().map(Kept::changes).sum::<usize>() > CHANGES_MAX;
        Bounds(if crowded { self.fold_at / FOLD_EARLIER } else { self.fold_at })
    }
}

/// Who is asked to fold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Asked {
    /// One who may take the time.
    Any,
    /// One beside whom somebody else writes who may: only where a part is late.
    Hurried,
}

/// Folds a part that is due, and whatever is late, unless somebody else does.
pub(in super::super) fn fold_due(store: &Inner, asked: Asked) {
    let folding = &store.sketches.folding;
    let late = match folding.due() {
        due if due.is_empty() => return,
        due => due.values().any(|late| *late),
    };
    if asked == Asked::Hurried && !late {
        return;
    }
    let _one = match folding.one.try_lock() {
        Ok(one) => one,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) if late => folding.one.lock().unwrap_or_else(PoisonError::into_inner),
        Err(TryLockError::WouldBlock) => return,
    };
    loop {
        // Its guard is gone before the fold begins.
        let Some((part, _)) = folding.due().pop_first() else { return };
        let failed = fold(store, part.0, part.1).err();
        match failed {
            Some(error) => folding.failed().parts.insert(part, error),
            None => folding.failed().parts.remove(&part),
        };
        if !folding.due().values().any(|late| *late) {
            return;
        }
    }
}

/// What a fold begins with.
struct Before {
    /// The tail that is folded. It is shared, so that the first commit that adds to it copies it.
    tail: Arc<Tail>,
    root_cells: usize,
    folded: bool,
}

/// Folds a part, if its tail is still too long.
fn fold(store: &Inner, collection: CollectionId, digit: u8) -> Result<(), StoreError> {
    let (place, nth) = (usize::from(collection.0), usize::from(digit));
    // Under the writer's lock rows, tails and head belong together, unless a commit failed.
    let (snapshot, before, entries) = {
        let writer = store.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let all = store.sketches.lock();
        let long = |kept: &&Kept| kept.parts[nth].changes > store.sketches.bounds(&all).of(digit);
        let Some(kept) = all.get(place).filter(|_| !writer.failed).filter(long) else { return Ok(()) };
        let before = Before { tail: kept.parts[nth].clone(), root_cells: kept.root_cells, folded: kept.folded };
        (store.engine.snapshot()?, before, store.head().roots[place].count)
    };
    let (tree, tail, mut batch) = (Tree::of(store, &*snapshot, collection), &before.tail, Batch::new());
    tail.commits.iter().for_each(|old| batch.delete(&rows::tail(collection, digit, *old)));
    let changes: Vec<(Element, i64)> = tail.net.iter().map(|(element, count)| (*element, *count)).collect();
    let root_cells = cells_to_keep(0, entries, before.root_cells);
    let mut root = folded_root(tree, before.folded, root_cells)?;
    if rows::read_cells(tree.snapshot, collection, part(nth), 1)?.is_some() {
        let falls = Falls::new(&changes, root.cells().len().max(cells_kept(1, u64::MAX)));
        root.lay_falls(&falls, 0..changes.len());
        let mut fold = Fold { tree, changes: &changes, falls, batch: &mut batch };
        fold.range(part(nth), 0..changes.len())?;
    } else {
        build_part(collection, part(nth), &changes, &mut root, &mut batch)?;
    }
    let folded = put_root(collection, &mut batch, before.root_cells, &root)?;

    let mut writer = store.writer.lock().unwrap_or_else(PoisonError::into_inner);
    // Readers see neither folded rows with an old tail nor the reverse.
    let mut held = store.sketches.hold();
    let wanted = cells_to_keep(0, store.head().roots[place].count, before.root_cells);
    let follows = |now: &&mut Kept| !writer.failed && wanted <= root_cells && now.follows(&before, nth);
    // Otherwise it is due again at the next change.
    let Some(now) = held.get_mut(place).filter(follows) else { return Ok(()) };
    if let Err(error) = store.engine.commit(&mut batch, Durability::Buffered) {
        writer.failed = true;
        store.sketches.folding.failed().engine = Some(error.into());
        return Ok(());
    }
    (now.root_cells, now.folded) = (root_cells, folded);
    if now.root.cells().len() > root_cells {
        Arc::make_mut(&mut now.root).truncate(root_cells);
    }
    now.parts[nth] = Arc::new(now.parts[nth].since(tail));
    Ok(())
}

impl Kept {
    /// Whether nothing but changes in the tails came after what a fold of a part began with.
    fn follows(&self, before: &Before, nth: usize) -> bool {
        (self.root_cells, self.folded) == (before.root_cells, before.folded)
            && self.parts[nth].commits.starts_with(&before.tail.commits)
    }
}

impl Tail {
    /// What came after an earlier one.
    fn since(&self, before: &Tail) -> Tail {
        let mut net = self.net.clone();
        for (element, count) in &before.net {
            let left = net.entry(*element).or_insert(0);
            *left = left.wrapping_sub(*count);
            if *left == 0 {
                net.remove(element);
            }
        }
        let commits = self.commits[before.commits.len()..].to_vec();
        Tail { net, changes: self.changes - before.changes, commits }
    }
}

/// Writes all cells of a part of which nothing is folded, and lays them over those of the root.
fn build_part(
    collection: CollectionId,
    part: Range,
    changes: &[(Element, i64)],
    root: &mut Sketch,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    count(part, changes.iter().map(|(_, count)| count).sum())?;
    let keeps = |depth, count| if count == 0 { 0 } else { cells_to_keep(depth, count, 0) };
    build(part, changes, root, &keeps, &mut |range, count, sketch| {
        rows::put_cells(batch, collection, range, 0, count, &sketch);
    });
    Ok(())
}

/// The cells of a whole collection, from all its elements, which come part by part.
#[cfg(feature = "embedded-redb")]
#[derive(Default)]
pub(in super::super) struct Filled {
    collection: CollectionId,
    root: Sketch,
}

#[cfg(feature = "embedded-redb")]
impl Filled {
    /// Of so many elements.
    pub(in super::super) fn new(collection: CollectionId, elements: u64) -> Self {
        Self { collection, root: Sketch::new(cells_to_keep(0, elements, 0)) }
    }

    /// Puts the cells of a part and of the ranges below it; its elements are sorted.
    pub(in super::super) fn part(
        &mut self,
        digit: u8,
        elements: &[(Element, i64)],
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        build_part(self.collection, part(usize::from(digit)), elements, &mut self.root, batch)
    }

    /// Puts the cells of the root.
    pub(in super::super) fn end(self, batch: &mut Batch) -> Result<(), StoreError> {
        let count = count(Range::ALL, self.root.count())?;
        rows::put_cells(batch, self.collection, Range::ALL, 0, count, &self.root);
        Ok(())
    }
}

/// The first cells of what is folded of the root so far.
fn folded_root(tree: Tree<'_>, folded: bool, cells: usize) -> Result<Sketch, StoreError> {
    if !folded {
        return Ok(Sketch::new(cells));
    }
    let row = rows::read_cells(tree.snapshot, tree.collection, Range::ALL, cells)?;
    Ok(row.ok_or_else(|| StoreError::damaged("the sketch of the root is missing"))?.sketch)
}

pub(super) fn lay_entries(sketch: &mut Sketch, entries: &[Entry]) {
    let elements: Vec<(Element, i64)> = entries.iter().map(|entry| (Element::of(entry), 1)).collect();
    lay(sketch, &elements);
}

/// Writes what is folded of the root; says whether anything is.
pub(super) fn put_root(
    collection: CollectionId,
    batch: &mut Batch,
    before: usize,
    rows: &Sketch,
) -> Result<bool, StoreError> {
    let count = count(Range::ALL, rows.count())?;
    let kept = if count > 0 { rows } else { &Sketch::default() };
    rows::put_cells(batch, collection, Range::ALL, before, count, kept);
    Ok(count > 0)
}

/// A fold of one part.
struct Fold<'a> {
    tree: Tree<'a>,
    /// All changes since the last fold, sorted, and where they fall.
    changes: &'a [(Element, i64)],
    falls: Falls,
    batch: &'a mut Batch,
}

impl Fold<'_> {
    /// Folds the changes of a range, of whose part something is folded already, into it and those below it.
    fn range(&mut self, range: Range, of: std::ops::Range<usize>) -> Result<(), StoreError> {
        let collection = self.tree.collection;
        let row = rows::read_cells(self.tree.snapshot, collection, range, usize::MAX)?;
        let growth: i64 = self.changes[of.clone()].iter().map(|(_, count)| count).sum();
        let after = match &row {
            Some(folded) => count(range, growth.wrapping_add_unsigned(folded.count))?,
            // One that has no node has few.
            None => self.tree.node(range)?.map_or(0, |summary| summary.count),
        };
        let Folded { cells: before, mut sketch, .. } = row.unwrap_or_default();
        let cells = if after == 0 { 0 } else { cells_to_keep(range.depth(), after, before) };
        if cells > before {
            sketch = Sketch::new(cells);
            lay_entries(&mut sketch, &self.tree.entries(range)?);
        } else {
            sketch.truncate(cells);
            sketch.lay_falls(&self.falls, of.clone());
        }
        if cells > 0 && count(range, sketch.count())? != after {
            return Err(StoreError::damaged(format!("the sketch of range {range} does not count its entries")));
        }
        rows::put_cells(self.batch, collection, range, before, after, &sketch);
        if range.depth() == KEPT_DEPTH_MAX {
            return Ok(());
        }
        let mut start = of.start;
        while start < of.end {
            let rest = &self.changes[start..of.end];
            let child = Range::of(Position(rest[0].0.0), range.depth() + 1);
            let end = start + rest.partition_point(|(element, _)| child.contains(Position(element.0)));
            self.range(child, start..end)?;
            start = end;
        }
        Ok(())
    }
}
