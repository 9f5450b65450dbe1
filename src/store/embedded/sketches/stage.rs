//! What a commit does to the sketches: rows of its changes in the tails, and more cells for a root that has become worth them.
//! Nothing in memory changes until the commit is made; a tail that has grown long is folded later, by [`super::fold`].

use std::sync::{Arc, MutexGuard};

use reknit_core::sketch::{Element, Sketch};
use reknit_core::tree::Update;
use reknit_core::{CollectionId, Range};

use super::fold::{Due, lay_entries, put_root};
use super::{Kept, cells_to_keep, lay};
use crate::store::StoreError;
use crate::store::embedded::Inner;
use crate::store::embedded::rows::{self, Moves};
use crate::store::embedded::tree::Tree;
use crate::store::engine::Batch;

/// Changes from which it pays to add them up before the lock is taken.
const WORTH_ADDING_UP: usize = 256;

/// What is to change in memory once a commit is made.
pub(in super::super) struct Staged {
    collection: CollectionId,
    commit: u64,
    moves: Moves,
    root_cells: usize,
    root: Root,
    /// Parts whose tails have grown long by it.
    due: Vec<Due>,
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

/// The right to change what readers see.
pub(in super::super) type Hold<'a> = MutexGuard<'a, Vec<Kept>>;

impl super::Sketches {
    /// Keeps readers away until what was staged is taken over.
    pub(in super::super) fn hold(&self) -> Hold<'_> {
        self.lock()
    }

    /// Takes over what commits have staged.
    pub(in super::super) fn take_over(&self, hold: &mut Hold<'_>, staged: Vec<Staged>) {
        for staged in staged {
            self.folding.owe(staged.due);
            let Some(kept) = hold.get_mut(usize::from(staged.collection.0)) else { continue };
            kept.root_cells = staged.root_cells;
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
                Arc::make_mut(&mut kept.parts[usize::from(digit)]).lay(staged.commit, &moves);
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
    let sketches = &store.sketches;
    let (kept, bounds) = {
        let all = sketches.lock();
        (all[usize::from(collection.0)].clone(), sketches.bounds(&all))
    };
    let mut due = Vec::new();
    for (digit, here) in moves.parts() {
        batch.put(&rows::tail(collection, digit, commit), &rows::tail_value(&here));
        let changes = kept.parts[usize::from(digit)].changes + here.len();
        if changes > bounds.of(digit) {
            let part = Due { collection, digit, late: changes > 2 * bounds.of(digit) };
            sketches.folding.check(&part)?;
            due.push(part);
        }
    }
    let wanted = cells_to_keep(0, laid.root.count, kept.root_cells);
    // Rows are cut only when they are written anyway.
    let root_cells = if kept.folded { wanted.max(kept.root_cells) } else { wanted };
    let in_memory = root_cells.min(sketches.root_cells_max);
    let mut staged = Staged { collection, commit, moves, root_cells, root: Root::Laid(in_memory), due };
    if root_cells > kept.root_cells {
        let mut root = Sketch::new(root_cells);
        let mut tail: Vec<(Element, i64)> = kept.tail(Range::ALL).collect();
        if kept.folded {
            lay_entries(&mut root, &tree.entries(Range::ALL)?);
            tail.iter_mut().for_each(|(_, count)| *count = -*count);
            let mut rows = root.clone();
            lay(&mut rows, &tail);
            put_root(collection, batch, kept.root_cells, &rows)?;
        } else {
            lay(&mut root, &tail);
        }
        lay(&mut root, &staged.moves.all());
        root.truncate(in_memory);
        staged.root = Root::New(root);
    } else if staged.moves.len() >= WORTH_ADDING_UP {
        let mut added = Sketch::new(in_memory);
        lay(&mut added, &staged.moves.all());
        staged.root = Root::Added(added);
    }
    Ok(staged)
}
