//! The sketches that a store keeps of its ranges: cells that were folded into rows, and a tail of what changed since.
//! A range's sketch is the sum of the two. What a commit writes is in [`stage`], how a tail is folded in [`fold`], what rows hold
//! in [`super::rows`].
//!
//! A change would touch some sixty cells, so that writing them with every commit would write kilobytes for one put. A
//! commit therefore writes the elements that it removed and added, and they are folded into cells once they are many. The
//! tails are kept in memory too, for each sixteenth of a collection by itself, and so are the cells of each root.

mod check;
mod fold;
mod stage;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reknit_core::sketch::{Cell, Element, Falls, KEPT_DEPTH_MAX, Sketch, cells_kept};
use reknit_core::tree::Change;
use reknit_core::{CollectionId, Entry, Range};

use super::rows::{self, Moves};
use super::{Inner, StoreError};
use crate::store::engine::Snapshot;

use fold::Folding;

pub(super) use check::SketchCheck;
#[cfg(feature = "embedded-redb")]
pub(super) use fold::Filled;
pub(super) use fold::{Asked, fold_due};
pub(super) use stage::stage;

/// About how many changes in the tail of one part have it folded. A fold writes up to a megabyte, so it must be worth it;
/// a tail takes some 25 bytes of memory for each, and each is laid over what a question about its range reads.
pub(super) const FOLD_AT: usize = 16_384;
/// Changes in all tails together beyond which parts are folded earlier, so that many collections stay bounded.
const CHANGES_MAX: usize = 1 << 20;
/// How much earlier.
const FOLD_EARLIER: usize = 16;
/// Bytes of memory for the cells of all roots.
const ROOTS_BYTES: usize = 32 << 20;
/// Cells of the root that are kept in memory at least: more than any session opens with.
const ROOT_CELLS_MIN: usize = 64;
/// A sketch of fewer cells is kept only to check a tail by, and is no answer.
const ANSWER_CELLS_MIN: usize = 64;

/// Elements whose cells are worked out at once, in memory: about 100 bytes each.
const LAID_AT_ONCE: usize = 4096;

/// The sketches of all collections, as of the last commit; none where the store keeps no trees.
pub(super) struct Sketches {
    kept: Mutex<Vec<Kept>>,
    folding: Folding,
    fold_at: usize,
    root_cells_max: usize,
}

/// What is in memory of one collection's sketches. Cloning is cheap: a writer copies what a reader still looks at.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// The first cells of the root, changes of the tails included.
    root: Arc<Sketch>,
    /// How many cells the root keeps in all: in its rows, or, as long as nothing is folded, from its tails.
    root_cells: usize,
    /// Whether anything is folded.
    folded: bool,
    parts: [Arc<Tail>; 16],
}

/// What changed in a sixteenth of a collection since it was folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Elements by how often they were added more than removed.
    net: BTreeMap<Element, i64>,
    /// Elements in the rows of the tail.
    changes: usize,
    /// The commits that wrote those rows.
    commits: Vec<u64>,
}

impl Tail {
    fn lay(&mut self, commit: u64, moves: &Moves) {
        for (element, count) in moves.all() {
            let net = self.net.entry(element).or_insert(0);
            *net = net.wrapping_add(count);
            if *net == 0 {
                self.net.remove(&element);
            }
        }
        self.changes += moves.len();
        self.commits.push(commit);
    }
}

impl Kept {
    /// The net changes in a range.
    fn tail(&self, range: Range) -> impl Iterator<Item = (Element, i64)> + '_ {
        tail(&self.parts, range)
    }

    fn changes(&self) -> usize {
        self.parts.iter().map(|tail| tail.changes).sum()
    }
}

/// The net changes in a range.
fn tail<T: Borrow<Tail>>(parts: &[T; 16], range: Range) -> impl Iterator<Item = (Element, i64)> + '_ {
    let parts = if range.depth() == 0 { &parts[..] } else { &parts[part_of(range)..=part_of(range)] };
    let bounds = Element(range.first().0)..=Element(range.last().0);
    parts.iter().flat_map(move |tail| {
        let changes = tail.borrow().net.range(bounds.clone());
        changes.map(|(element, count)| (*element, *count))
    })
}

/// The part that a range below the root lies in.
fn part_of(range: Range) -> usize {
    (range.bits() >> 60) as usize
}

fn part(digit: usize) -> Range {
    Range::ALL.descendant(1, digit)
}

/// How many cells a range that has `have` of them is to keep: more as soon as it is worth more, fewer only when less
/// than half of what its cells need is left, so that no range goes back and forth. Root and parts keep one at least,
/// so that a tail can be checked.
fn cells_to_keep(depth: u8, count: u64, have: usize) -> usize {
    let wanted = cells_kept(depth, count).max(usize::from(depth <= 1));
    if wanted < have && count >= have as u64 { have } else { wanted }
}

fn lay(sketch: &mut Sketch, changes: &[(Element, i64)]) {
    for some in changes.chunks(LAID_AT_ONCE) {
        sketch.lay_falls(&Falls::new(some, sketch.cells().len()), 0..some.len());
    }
}

fn cut(sketch: &Sketch, cells: usize) -> Sketch {
    Sketch::from_cells(sketch.cells()[..cells.min(sketch.cells().len())].to_vec())
}

/// What changes of records do to the elements of a collection.
pub(super) fn moves(changes: &[Change]) -> Moves {
    let mut moves = Moves::default();
    for change in changes {
        let element = |digest| Element::of(&Entry { position: change.position, digest });
        let (before, after) = (change.before.map(element), change.after.map(element));
        if before != after {
            moves.removed.extend(before);
            moves.added.extend(after);
        }
    }
    moves.removed.sort_unstable();
    moves.added.sort_unstable();
    moves
}

impl Sketches {
    /// Reads the tails and the roots of so many collections.
    pub(super) fn open(snapshot: &dyn Snapshot, collections: usize, fold_at: usize) -> Result<Self, StoreError> {
        let each = ROOTS_BYTES / size_of::<Cell>() / collections.max(1);
        let root_cells_max = each.clamp(ROOT_CELLS_MIN, cells_kept(0, u64::MAX));
        let mut kept = Vec::with_capacity(collections);
        for place in 0..collections {
            let collection = CollectionId(u16::try_from(place).unwrap_or(u16::MAX));
            kept.push(load(snapshot, collection, root_cells_max)?);
        }
        Ok(Self { kept: Mutex::new(kept), folding: Folding::default(), fold_at, root_cells_max })
    }

    /// Sketches of a store that keeps no trees.
    pub(super) fn none() -> Self {
        Self { kept: Mutex::default(), folding: Folding::default(), fold_at: 0, root_cells_max: 0 }
    }

    /// What is in memory of a collection; none where the store keeps no trees.
    pub(super) fn of(&self, collection: CollectionId) -> Option<Kept> {
        self.lock().get(usize::from(collection.0)).cloned()
    }

    /// Reads anew what is kept in memory of a collection.
    #[cfg(feature = "embedded-redb")]
    pub(super) fn reload(
        &self,
        hold: &mut MutexGuard<'_, Vec<Kept>>,
        snapshot: &dyn Snapshot,
        collection: CollectionId,
    ) -> Result<(), StoreError> {
        if let Some(kept) = hold.get_mut(usize::from(collection.0)) {
            *kept = load(snapshot, collection, self.root_cells_max)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what is kept in memory of a collection.
fn load(snapshot: &dyn Snapshot, collection: CollectionId, root_cells_max: usize) -> Result<Kept, StoreError> {
    let mut parts: [Tail; 16] = Default::default();
    let (start, end) = rows::tails_of(collection);
    for row in snapshot.scan(&start, &end)? {
        let (row, value) = row?;
        let (part, commit, moves) = rows::read_tail(&row, &value)?;
        parts[usize::from(part & 15)].lay(commit, &moves);
    }
    let folded = rows::read_cells(snapshot, collection, Range::ALL, root_cells_max)?;
    let parts = parts.map(Arc::new);
    let tail: Vec<(Element, i64)> = tail(&parts, Range::ALL).collect();
    let growth: i64 = tail.iter().map(|(_, count)| count).sum();
    let in_rows = folded.is_some();
    let (mut root, cells) = match folded {
        Some(folded) => (folded.sketch, folded.cells),
        None => {
            let cells = cells_to_keep(0, u64::try_from(growth).unwrap_or(0), 0);
            (Sketch::new(cells.min(root_cells_max)), cells)
        }
    };
    lay(&mut root, &tail);
    Ok(Kept { root: Arc::new(root), root_cells: cells, folded: in_rows, parts })
}

/// The first `cells` cells of what is kept of each range, all as of one commit. Fewer than [`cells_kept`] says where a
/// range has grown since its part was folded; none where it was too small then.
pub(super) fn answer(
    store: &Inner,
    collection: CollectionId,
    ranges: &[Range],
    cells: usize,
) -> Result<Vec<Sketch>, StoreError> {
    // A fold holds the lock until both rows and tails are its own. A commit of records leaves the rows of cells as they
    // are, or gives the root more cells of the same elements, so that what is read here belongs to these tails.
    let (snapshot, kept) = {
        let all = store.sketches.lock();
        let Some(kept) = all.get(usize::from(collection.0)) else { return Ok(vec![Sketch::default(); ranges.len()]) };
        (store.engine.snapshot()?, kept.clone())
    };
    ranges.iter().map(|range| of_range(&*snapshot, collection, &kept, *range, cells)).collect()
}

fn of_range(
    snapshot: &dyn Snapshot,
    collection: CollectionId,
    kept: &Kept,
    range: Range,
    cells: usize,
) -> Result<Sketch, StoreError> {
    if range.depth() > KEPT_DEPTH_MAX || cells == 0 {
        return Ok(Sketch::default());
    }
    if range == Range::ALL {
        let wanted = cells_kept(0, count(range, kept.root.count())?).min(cells);
        if wanted <= kept.root.cells().len() {
            return Ok(cut(&kept.root, wanted));
        }
    }
    let tail: Vec<(Element, i64)> = kept.tail(range).collect();
    let growth: i64 = tail.iter().map(|(_, count)| count).sum();
    let folded = match rows::read_cells(snapshot, collection, range, cells)? {
        Some(folded) => folded,
        // Too small when its part was folded, or nothing is folded and all of it is in the tail.
        None if range.depth() > 1 && rows::read_cells(snapshot, collection, part(part_of(range)), 1)?.is_some() => {
            return Ok(Sketch::default());
        }
        None => {
            let wanted = cells_kept(range.depth(), count(range, growth)?).min(cells);
            let mut sketch = Sketch::new(wanted);
            lay(&mut sketch, &tail);
            return Ok(sketch);
        }
    };
    let wanted = cells_kept(range.depth(), count(range, growth.wrapping_add_unsigned(folded.count))?).min(cells);
    if folded.cells < ANSWER_CELLS_MIN {
        return Ok(Sketch::default());
    }
    let mut sketch = folded.sketch;
    sketch.truncate(wanted);
    lay(&mut sketch, &tail);
    Ok(sketch)
}

/// How many elements a range has, which are not fewer than none.
fn count(range: Range, count: i64) -> Result<u64, StoreError> {
    u64::try_from(count).map_err(|_| StoreError::damaged(format!("the sketch of range {range} counts {count} entries")))
}
