//! What a commit does to the sketches: rows of its changes, and, where a part's tail has grown long, a fold into cells.
//! Nothing in memory changes until the commit is made; questions are answered by the module above.

use std::sync::{Arc, MutexGuard};

use reknit_core::sketch::{Element, Falls, KEPT_DEPTH_MAX, Sketch, build, cells_kept};
use reknit_core::tree::Update;
use reknit_core::{CollectionId, Entry, Position, Range};

use super::{CHANGES_MAX, FOLD_EARLIER, Kept, cells_to_keep, count, lay, part};
use crate::store::StoreError;
use crate::store::embedded::Inner;
use crate::store::embedded::rows::{self, Folded, Moves};
use crate::store::embedded::tree::Tree;
use crate::store::engine::Batch;

/// Changes from which it pays to add them up before the lock is taken.
const WORTH_ADDING_UP: usize = 256;

/// What is to change in memory once a commit is made.
pub(in super::super) struct Staged {
    collection: CollectionId,
    commit: u64,
    moves: Moves,
    /// Which parts were folded.
    folds: [bool; 16],
    root_cells: usize,
    /// Whether rows hold the root.
    folded: bool,
    root: Root,
}

/// What becomes of the cells of a root that are in memory.
enum Root {
    /// They are other ones.
    New(Sketch),
    /// These are added, having been cut to as many.
    Added(Sketch),
    /// The changes are laid over so many of them.
    Laid(usize),
}

impl Staged {
    /// Whether a reader must not see the rows of the commit without what is in memory of it.
    pub(in super::super) fn folds(&self) -> bool {
        self.folds.contains(&true)
    }
}

/// The right to change what readers see.
pub(in super::super) type Hold<'a> = MutexGuard<'a, Vec<Kept>>;

impl super::Sketches {
    /// Keeps readers away until what was staged is taken over.
    pub(in super::super) fn hold(&self) -> Hold<'_> {
        self.lock()
    }
}

/// Takes over what commits have staged.
pub(in super::super) fn take_over(hold: &mut Hold<'_>, staged: Vec<Staged>) {
    for staged in staged {
        let Some(kept) = hold.get_mut(usize::from(staged.collection.0)) else { continue };
        kept.root_cells = staged.root_cells;
        kept.folded = staged.folded;
        match staged.root {
            Root::New(root) => kept.root = Arc::new(root),
            Root::Added(added) => {
                let root = Arc::make_mut(&mut kept.root);
                root.join(&added);
            }
            Root::Laid(cells) => {
                let root = Arc::make_mut(&mut kept.root);
                root.truncate(cells);
                lay(root, &staged.moves.all());
            }
        }
        for (digit, moves) in staged.moves.parts() {
            let tail = &mut kept.parts[usize::from(digit)];
            if staged.folds[usize::from(digit)] {
                *tail = Arc::default();
            } else {
                Arc::make_mut(tail).lay(staged.commit, &moves);
            }
        }
    }
}

/// Puts the rows that a commit's changes make; `tree` is as it was before, `laid` what becomes of it.
pub(in super::super) fn stage(
    store: &Inner,
    tree: Tree<'_>,
    laid: &Update,
    moves: Moves,
    commit: u64,
    batch: &mut Batch,
) -> Result<Staged, StoreError> {
    let collection = tree.collection;
    let (kept, crowded) = {
        let all = store.sketches.lock();
        let crowded = all.iter().map(Kept::changes).sum::<usize>() > CHANGES_MAX;
        (all[usize::from(collection.0)].clone(), crowded)
    };
    let fold_at = if crowded { store.sketches.fold_at / FOLD_EARLIER } else { store.sketches.fold_at };
    let mut folds = [false; 16];
    for (digit, here) in moves.parts() {
        let (folds, tail) = (&mut folds[usize::from(digit)], &kept.parts[usize::from(digit)]);
        // A quarter below to a quarter above, so that parts that grow alike are not all folded by one commit.
        let bound = (fold_at - fold_at / 4).saturating_add(fold_at / 32 * usize::from(digit));
        *folds = tail.changes + here.len() > bound;
        if *folds {
            tail.commits.iter().for_each(|old| batch.delete(&rows::tail(collection, digit, *old)));
        } else {
            batch.put(&rows::tail(collection, digit, commit), &rows::tail_value(&here));
        }
    }
    let folding = folds.contains(&true);
    let wanted = cells_to_keep(0, laid.root.count, kept.root_cells);
    // Rows are cut only when they are written anyway.
    let root_cells = if kept.folded && !folding { wanted.max(kept.root_cells) } else { wanted };
    let grows = root_cells > kept.root_cells;
    let in_memory = root_cells.min(store.sketches.root_cells_max);
    let mut rows = if folding && !grows { folded_root(tree, &kept, root_cells)? } else { Sketch::default() };
    for digit in (0..16).filter(|digit| folds[*digit]) {
        let mut changes: Vec<(Element, i64)> = kept.tail(part(digit)).collect();
        changes.extend(moves.within(part(digit)).all());
        changes.sort_unstable();
        if rows::read_cells(tree.snapshot, collection, part(digit), 1)?.is_none() {
            build_part(collection, part(digit), &changes, &mut rows, batch)?;
            continue;
        }
        let falls = Falls::new(&changes, rows.cells().len().max(cells_kept(1, u64::MAX)));
        rows.lay_falls(&falls, 0..changes.len());
        let mut fold = Fold { tree, laid, moves: &moves, changes: &changes, falls, batch };
        fold.range(part(digit), 0..changes.len())?;
    }
    let mut staged =
        Staged { collection, commit, moves, folds, root_cells, folded: kept.folded, root: Root::Laid(in_memory) };
    if grows {
        let mut root = Sketch::new(root_cells);
        if kept.folded {
            lay_entries(&mut root, &tree.entries(Range::ALL)?);
        } else {
            lay(&mut root, &kept.tail(Range::ALL).collect::<Vec<_>>());
        }
        lay(&mut root, &staged.moves.all());
        if kept.folded || folding {
            let mut rows = root.clone();
            for digit in (0..16).filter(|digit| !folds[*digit]) {
                let tail = kept.tail(part(digit)).chain(staged.moves.within(part(digit)).all());
                lay(&mut rows, &tail.map(|(element, count)| (element, -count)).collect::<Vec<_>>());
            }
            staged.put_root(batch, kept.root_cells, &rows)?;
        }
        root.truncate(in_memory);
        staged.root = Root::New(root);
        return Ok(staged);
    }
    if folding {
        staged.put_root(batch, kept.root_cells, &rows)?;
    }
    if staged.moves.len() >= WORTH_ADDING_UP {
        let mut added = Sketch::new(in_memory);
        lay(&mut added, &staged.moves.all());
        staged.root = Root::Added(added);
    }
    Ok(staged)
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
fn folded_root(tree: Tree<'_>, kept: &Kept, cells: usize) -> Result<Sketch, StoreError> {
    if !kept.folded {
        return Ok(Sketch::new(cells));
    }
    let row = rows::read_cells(tree.snapshot, tree.collection, Range::ALL, cells)?;
    Ok(row.ok_or_else(|| StoreError::damaged("the sketch of the root is missing"))?.sketch)
}

fn lay_entries(sketch: &mut Sketch, entries: &[Entry]) {
    let elements: Vec<(Element, i64)> = entries.iter().map(|entry| (Element::of(entry), 1)).collect();
    lay(sketch, &elements);
}

impl Staged {
    /// Writes what is folded of the root, if anything is.
    fn put_root(&mut self, batch: &mut Batch, before: usize, rows: &Sketch) -> Result<(), StoreError> {
        let count = count(Range::ALL, rows.count())?;
        self.folded = count > 0;
        let kept = if self.folded { rows } else { &Sketch::default() };
        rows::put_cells(batch, self.collection, Range::ALL, before, count, kept);
        Ok(())
    }
}

/// A fold of one part.
struct Fold<'a> {
    tree: Tree<'a>,
    laid: &'a Update,
    moves: &'a Moves,
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
            None => self.entries_after(range)?,
        };
        let Folded { cells: before, mut sketch, .. } = row.unwrap_or_default();
        let cells = if after == 0 { 0 } else { cells_to_keep(range.depth(), after, before) };
        if cells > before {
            sketch = Sketch::new(cells);
            lay_entries(&mut sketch, &self.tree.entries(range)?);
            lay(&mut sketch, &self.moves.within(range).all());
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

    /// The entries of a range once the commit is made. One that has no node has few.
    fn entries_after(&self, range: Range) -> Result<u64, StoreError> {
        let node = match self.laid.nodes.binary_search_by_key(&range, |(range, _)| *range) {
            Ok(place) => self.laid.nodes[place].1,
            Err(_) => self.tree.node(range)?,
        };
        Ok(node.map_or(0, |summary| summary.count))
    }
}
