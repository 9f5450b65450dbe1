//! Changing a tree: a batch of changes touches each node on its paths once.
//!
//! Reads the tree as it was through [`Nodes`] and returns what to write; writing is left to the store.

use super::{Summary, is_leaf};
use crate::digest::{Digest, Keys};
use crate::entry::Entry;
use crate::range::{Position, Range};

/// A tree as a store has it before a batch.
pub trait Nodes {
    /// Why the store could not answer.
    type Error;
    /// The summaries of the sixteen children of a range that is an inner node.
    ///
    /// # Errors
    /// What the store met.
    fn children(&self, range: Range) -> Result<[Summary; 16], Self::Error>;
    /// All entries of a range, sorted.
    ///
    /// # Errors
    /// What the store met.
    fn entries(&self, range: Range) -> Result<Vec<Entry>, Self::Error>;
}

/// What a batch does to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Where the key lies.
    pub position: Position,
    /// The digest of its record before, if it had an entry.
    pub before: Option<Digest>,
    /// The digest of its record afterwards, if it has an entry.
    pub after: Option<Digest>,
}

/// What to write so that the tree holds a batch of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The new root.
    pub root: Summary,
    /// Children of inner nodes that changed, each once; none where the node is gone.
    pub nodes: Vec<(Range, Option<Summary>)>,
    /// All digests that are now at each position that changed, sorted; none where the position is vacant.
    pub positions: Vec<(Position, Vec<Digest>)>,
    /// Nodes that were digested, for measurements.
    pub digested: u64,
}

/// Why a batch could not be laid over the tree; nothing is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// The store could not answer.
    Store(E),
    /// The tree does not hold an entry that a change replaces: tree and records disagree.
    Missing(Position),
    /// The tree already holds an entry that a change adds: tree and records disagree.
    Duplicate(Position),
}

impl<E: std::fmt::Display> std::fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UpdateError::Store(error) => error.fmt(f),
            UpdateError::Missing(p) => write!(f, "the tree lacks the entry at position {:016x} that a record has", p.0),
            UpdateError::Duplicate(p) => write!(f, "the tree has an entry at position {:016x} that no record has", p.0),
        }
    }
}

impl<E: std::fmt::Debug + std::fmt::Display> std::error::Error for UpdateError<E> {}

/// Lays `changes` (any order, one a key) over the tree whose root is `root`.
///
/// Costs one leaf read and one digest for each leaf touched, and one digest for each inner node above.
///
/// # Errors
/// [`UpdateError`]: what `nodes` says, or that tree and changes disagree.
pub fn update<N: Nodes>(
    keys: &Keys,
    nodes: &N,
    root: Summary,
    mut changes: Vec<Change>,
) -> Result<Update, UpdateError<N::Error>> {
    changes.retain(|change| change.before != change.after);
    changes.sort_unstable();
    let positions = Vec::with_capacity(changes.len());
    let mut run = Run { keys, nodes, written: Vec::new(), positions, digested: 0 };
    let root = if changes.is_empty() { root } else { run.range(Range::ALL, root, &changes)? };
    run.written.sort_unstable_by_key(|(range, _)| *range);
    Ok(Update { root, nodes: run.written, positions: run.positions, digested: run.digested })
}

struct Run<'a, N> {
    keys: &'a Keys,
    nodes: &'a N,
    /// Each range at most once.
    written: Vec<(Range, Option<Summary>)>,
    positions: Vec<(Position, Vec<Digest>)>,
    digested: u64,
}

impl<N: Nodes> Run<'_, N> {
    /// The range after some changes, at least one.
    fn range(&mut self, range: Range, old: Summary, changes: &[Change]) -> Result<Summary, UpdateError<N::Error>> {
        if is_leaf(range, old.count) {
            let before = if old.is_empty() { Vec::new() } else { self.read(range)? };
            let after = apply(before, changes)?;
            self.note_positions(&after, changes);
            return Ok(self.build(range, &after));
        }
        let old_children = self.nodes.children(range).map_err(UpdateError::Store)?;
        let mut children = old_children;
        let mark = self.written.len();
        let digit = |change: &Change| range.digit(change.position);
        for mine in changes.chunk_by(|a, b| digit(a) == digit(b)) {
            let digit = digit(&mine[0]);
            let (part, child) = (range.child(digit), &mut children[usize::from(digit)]);
            let new = self.range(part, *child, mine)?;
            if new != *child {
                self.written.push((part, (!new.is_empty()).then_some(new)));
                *child = new;
            }
        }
        let count = children.iter().map(|child| child.count).sum();
        if !is_leaf(range, count) {
            self.digested += 1;
            return Ok(self.keys.inner(range, &children));
        }
        // The range becomes a leaf: its children go, whatever was written of them; what was below them is gone already.
        let below = self.written.split_off(mark);
        self.written.extend(below.into_iter().filter(|(part, _)| part.depth() > range.depth() + 1));
        let gone = (0..16).filter(|digit| !old_children[usize::from(*digit)].is_empty());
        self.written.extend(gone.map(|digit| (range.child(digit), None)));
        let after = apply(self.read(range)?, changes)?;
        Ok(self.build(range, &after))
    }

    fn read(&self, range: Range) -> Result<Vec<Entry>, UpdateError<N::Error>> {
        self.nodes.entries(range).map_err(UpdateError::Store)
    }

    fn build(&mut self, range: Range, entries: &[Entry]) -> Summary {
        let (written, digested) = (&mut self.written, &mut self.digested);
        *digested += 1;
        self.keys.build(range, entries, &mut |part, summary| {
            *digested += 1;
            written.push((part, Some(summary)));
        })
    }

    fn note_positions(&mut self, after: &[Entry], changes: &[Change]) {
        for same in changes.chunk_by(|a, b| a.position == b.position) {
            let position = same[0].position;
            let start = after.partition_point(|entry| entry.position < position);
            let there = after[start..].iter().take_while(|entry| entry.position == position);
            self.positions.push((position, there.map(|entry| entry.digest).collect()));
        }
    }
}

/// The entries after the changes: what is replaced goes, then what is new comes.
fn apply<E>(mut entries: Vec<Entry>, changes: &[Change]) -> Result<Vec<Entry>, UpdateError<E>> {
    let entry =
        |change: &Change, digest: Option<Digest>| digest.map(|digest| Entry { position: change.position, digest });
    let mut removed: Vec<Entry> = changes.iter().filter_map(|change| entry(change, change.before)).collect();
    if !removed.is_empty() {
        removed.sort_unstable();
        let mut removed = removed.into_iter().peekable();
        entries.retain(|entry| removed.next_if_eq(entry).is_none());
        if let Some(missing) = removed.next() {
            return Err(UpdateError::Missing(missing.position));
        }
    }
    entries.extend(changes.iter().filter_map(|change| entry(change, change.after)));
    entries.sort_unstable();
    match entries.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(UpdateError::Duplicate(pair[0].position)),
        None => Ok(entries),
    }
}
