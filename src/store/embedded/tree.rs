//! The trees of a store as its engine and its cache have them, and questions about any range of them.
//! How a tree changes is the core's; this reads what it asks for.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit_core::tree::{Nodes, Summary, is_leaf};
use reknit_core::{CollectionId, Entry, Keys, Position, Range};

use super::Inner;
use super::cache::{Cache, Held, Touched};
use super::rows::{self, Stored};
use super::write::digested;
use crate::store::StoreError;
use crate::store::engine::Snapshot;

/// Rows read since the store was opened, so that tests can hold reads to the size of the question.
#[derive(Debug, Default)]
pub(super) struct ReadCounts {
    pub(super) records: AtomicU64,
    pub(super) nodes: AtomicU64,
    pub(super) entries: AtomicU64,
}

/// The tree of one collection in one snapshot.
#[derive(Clone, Copy)]
pub(super) struct Tree<'a> {
    pub(super) snapshot: &'a dyn Snapshot,
    pub(super) collection: CollectionId,
    pub(super) reads: &'a ReadCounts,
    /// The store, where entries have no rows of their own.
    pub(super) bare: Option<&'a Inner>,
}

impl<'a> Tree<'a> {
    pub(super) fn of(inner: &'a Inner, snapshot: &'a dyn Snapshot, collection: CollectionId) -> Self {
        Tree { snapshot, collection, reads: &inner.reads, bare: inner.bare.then_some(inner) }
    }
}

impl Tree<'_> {
    /// The root.
    pub(super) fn root(&self) -> Result<Summary, StoreError> {
        Ok(self.node(Range::ALL)?.unwrap_or(Summary::EMPTY))
    }

    /// The row of a node: of the root, or of a child of an inner node that has entries.
    pub(super) fn node(&self, range: Range) -> Result<Option<Summary>, StoreError> {
        let row = rows::node(self.collection, range);
        let Some(value) = self.snapshot.get(&row)? else { return Ok(None) };
        self.reads.nodes.fetch_add(1, Ordering::Relaxed);
        Ok(Some(rows::read_node(&row, &value)?.1))
    }

    /// The children of an inner node.
    pub(super) fn children(&self, range: Range) -> Result<[Summary; 16], StoreError> {
        let mut children = [Summary::EMPTY; 16];
        let (start, end) = rows::family(self.collection, range);
        let mut read = 0;
        for row in self.snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            let (child, summary) = rows::read_node(&row, &value)?;
            children[usize::from(range.digit(child.first()))] = summary;
            read += 1;
        }
        self.reads.nodes.fetch_add(read, Ordering::Relaxed);
        Ok(children)
    }

    /// All entries of a range, sorted.
    pub(super) fn entries(&self, range: Range) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        if let Some(inner) = self.bare {
            let (start, end) = rows::records_of(self.collection, range);
            for row in self.snapshot.scan(&start, &end)? {
                let (row, value) = row?;
                let Stored { position, key, state, .. } = inner.read_record(&row, &value)?;
                let (_, digest) = digested(inner, self.collection, &key, state);
                entries.extend(digest.map(|digest| Entry { position, digest }));
            }
            // Records at one position lie in the order of their keys.
            entries.sort_unstable();
            self.reads.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
            return Ok(entries);
        }
        let (start, end) = rows::entries_of(self.collection, range);
        for row in self.snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            rows::read_entries(&row, &value, &mut entries)?;
        }
        self.reads.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
        Ok(entries)
    }

    /// What any range is worth, also one below a leaf.
    pub(super) fn summary(&self, keys: &Keys, range: Range) -> Result<Summary, StoreError> {
        if let Some(summary) = self.node(range)? {
            return Ok(summary);
        }
        if range == Range::ALL {
            return Ok(Summary::EMPTY);
        }
        // Without a row of its own it lies in a leaf, or nothing lies in it.
        Ok(keys.leaf(range, &self.entries(range)?))
    }

    /// The summaries of the 16^levels parts of a range that is worth `summary`, in order.
    pub(super) fn parts(
        &self,
        keys: &Keys,
        range: Range,
        summary: Summary,
        levels: u8,
        out: &mut Vec<Summary>,
    ) -> Result<(), StoreError> {
        if levels == 0 {
            out.push(summary);
        } else if summary.is_empty() {
            out.extend((0..1_usize << (4 * levels)).map(|_| Summary::EMPTY));
        } else if is_leaf(range, summary.count) {
            let entries = self.entries(range)?;
            let mut rest = entries.as_slice();
            for index in 0..1_usize << (4 * levels) {
                let part = range.descendant(levels, index);
                let (mine, others) = rest.split_at(rest.partition_point(|entry| entry.position <= part.last()));
                rest = others;
                out.push(keys.leaf(part, mine));
            }
        } else {
            for (digit, child) in (0..16).zip(self.children(range)?) {
                self.parts(keys, range.child(digit), child, levels - 1, out)?;
            }
        }
        Ok(())
    }
}

impl Nodes for Tree<'_> {
    type Error = StoreError;

    fn children(&self, range: Range) -> Result<[Summary; 16], StoreError> {
        Tree::children(self, range)
    }

    fn entries(&self, range: Range) -> Result<Vec<Entry>, StoreError> {
        Tree::entries(self, range)
    }
}

/// A tree as the writer reads it for one batch: through the cache, keeping all that it touched.
pub(super) struct Batched<'a> {
    tree: Tree<'a>,
    cache: RefCell<&'a mut Cache>,
    touched: RefCell<Touched>,
}

impl<'a> Batched<'a> {
    pub(super) fn new(tree: Tree<'a>, cache: &'a mut Cache) -> Self {
        Self { tree, cache: RefCell::new(cache), touched: RefCell::default() }
    }

    /// Goes on with what an earlier look of the same batch touched.
    pub(super) fn resume(tree: Tree<'a>, cache: &'a mut Cache, touched: Touched) -> Self {
        Self { tree, cache: RefCell::new(cache), touched: RefCell::new(touched) }
    }

    /// What the batch touched, to be put back into the cache once it is committed.
    pub(super) fn into_touched(self) -> Touched {
        self.touched.into_inner()
    }

    /// Reads the leaves that `positions` (sorted) fall in, all at once and on both hands where there are many; gives
    /// the leaf of each, none where it is vacant.
    pub(super) fn prefetch(&self, root: Summary, positions: &[Position]) -> Result<Vec<Option<Range>>, StoreError> {
        let (mut leaves, mut missing) = (Vec::with_capacity(positions.len()), Vec::new());
        let mut last: Option<(Range, bool)> = None;
        for position in positions {
            if let Some((leaf, vacant)) = last
                && leaf.contains(*position)
            {
                leaves.push((!vacant).then_some(leaf));
                continue;
            }
            let (mut range, mut summary) = (Range::ALL, root);
            while !is_leaf(range, summary.count) {
                let digit = range.digit(*position);
                summary = self.child(range, digit)?;
                range = range.child(digit);
            }
            last = Some((range, summary.is_empty()));
            leaves.push((!summary.is_empty()).then_some(range));
            if !summary.is_empty() && !self.hold(range) {
                missing.push(range);
            }
        }
        let tree = self.tree;
        let read = in_two(&missing, |range| tree.entries(*range))?;
        let mut touched = self.touched.borrow_mut();
        for (range, entries) in missing.into_iter().zip(read) {
            touched.insert(range, Held::Leaf(entries));
        }
        Ok(leaves)
    }

    /// Whether no entry is at `position`, which lies in this prefetched leaf.
    pub(super) fn is_vacant(&self, leaf: Option<Range>, position: Position) -> bool {
        let Some(leaf) = leaf else { return true };
        let touched = self.touched.borrow();
        let Some(Held::Leaf(entries)) = touched.get(&leaf) else { return false };
        let place = entries.partition_point(|entry| entry.position < position);
        entries.get(place).is_none_or(|entry| entry.position != position)
    }

    fn child(&self, range: Range, digit: u8) -> Result<Summary, StoreError> {
        if let Some(Held::Family(family)) = self.touched.borrow().get(&range) {
            return Ok(family[usize::from(digit)]);
        }
        Ok(self.children(range)?[usize::from(digit)])
    }

    /// Whether the leaf of this range is at hand, in the cache or touched already.
    fn hold(&self, range: Range) -> bool {
        let mut touched = self.touched.borrow_mut();
        if matches!(touched.get(&range), Some(Held::Leaf(_))) {
            return true;
        }
        match self.cache.borrow_mut().take(self.tree.collection, range) {
            Some(held @ Held::Leaf(_)) => {
                touched.insert(range, held);
                true
            }
            _ => false,
        }
    }
}

impl Nodes for Batched<'_> {
    type Error = StoreError;

    fn children(&self, range: Range) -> Result<[Summary; 16], StoreError> {
        let mut touched = self.touched.borrow_mut();
        if let Some(Held::Family(family)) = touched.get(&range) {
            return Ok(**family);
        }
        let family = match self.cache.borrow_mut().take(self.tree.collection, range) {
            Some(Held::Family(family)) => family,
            _ => Box::new(self.tree.children(range)?),
        };
        let children = *family;
        touched.insert(range, Held::Family(family));
        Ok(children)
    }

    fn entries(&self, range: Range) -> Result<Vec<Entry>, StoreError> {
        if !self.hold(range) {
            let entries = self.tree.entries(range)?;
            self.touched.borrow_mut().insert(range, Held::Leaf(entries));
        }
        match self.touched.borrow().get(&range) {
            Some(Held::Leaf(entries)) => Ok(entries.clone()),
            _ => Ok(Vec::new()),
        }
    }
}

/// Maps over items in order, half of them on a second thread where that pays.
pub(super) fn in_two<T: Sync, R: Send>(
    items: &[T],
    read: impl Fn(&T) -> Result<R, StoreError> + Sync,
) -> Result<Vec<R>, StoreError> {
    /// Below it a thread costs more than it saves.
    const WORTH_A_THREAD: usize = 256;
    if items.len() < WORTH_A_THREAD {
        return items.iter().map(read).collect();
    }
    let (front, back) = items.split_at(items.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| back.iter().map(&read).collect::<Result<Vec<R>, _>>());
        let mut done = front.iter().map(&read).collect::<Result<Vec<R>, _>>()?;
        done.extend(other.join().map_err(|_| StoreError::Abandoned)??);
        Ok(done)
    })
}
