//! Going down: compares the peer's view of a range with ours and says what follows.
//!
//! Both sides use it in the same way; what each does about the steps is its own concern.

use crate::bounds::LEVELS_MAX;
use crate::digest::{Digest, Keys};
use crate::entry::Entry;
use crate::query::{Ask, Shape, View};
use crate::range::{DEPTH_MAX, Position, Range};
use crate::tree::{LEAF_ENTRIES_MAX, Summary};
use crate::wire::{Body, RangeView};

/// What follows from comparing one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Only we have entries in the range, so many.
    OnlyMine(Range, u64),
    /// Only the peer has entries in the range.
    OnlyTheirs(Range),
    /// Both have entries in the range and they differ; so many are ours.
    Open(Range, u64),
    /// The entries of a leaf differ at these positions.
    Leaf {
        /// Positions where only we have entries.
        mine: Vec<Position>,
        /// Positions where only the peer has entries.
        theirs: Vec<Position>,
        /// Positions where both have, and they differ.
        both: Vec<Position>,
    },
}

/// What we must look at to compare the peer's view.
pub(super) fn ask_for(theirs: &RangeView) -> Ask {
    let levels = match theirs.body {
        Body::Parts { levels, .. } => levels,
        _ => 0,
    };
    Ask { range: theirs.range, levels }
}

/// Compares the peer's view with ours of the same range.
pub(super) fn compare(keys: &Keys, ours: &View, theirs: &RangeView, steps: &mut Vec<Step>) {
    let range = theirs.range;
    let count = ours.summary.count;
    match &theirs.body {
        Body::None if count > 0 => steps.push(Step::OnlyMine(range, count)),
        Body::None => {}
        Body::All(0) => {}
        Body::All(_) if count > 0 => steps.push(Step::Open(range, count)),
        Body::All(_) => steps.push(Step::OnlyTheirs(range)),
        Body::Parts { levels, width, digests } => {
            for (index, (part, other)) in parts(keys, ours, *levels).iter().zip(digests).enumerate() {
                let below = range.descendant(*levels, index);
                match other {
                    None if part.is_empty() => {}
                    None => steps.push(Step::OnlyMine(below, part.count)),
                    Some(_) if part.is_empty() => steps.push(Step::OnlyTheirs(below)),
                    Some(other) if part.digest.cut(usize::from(*width)) == *other => {}
                    Some(_) => steps.push(Step::Open(below, part.count)),
                }
            }
        }
        // A proof is not compared by looking at the range.
        Body::Rest { .. } => {}
        Body::Entries { width, entries } => match &ours.shape {
            Shape::Inner(_) => steps.push(Step::Open(range, count)),
            Shape::Empty => steps.extend(leaf(&[], entries, *width)),
            Shape::Leaf(own) => steps.extend(leaf(own, entries, *width)),
        },
    }
}

/// How many levels to open a range at once: two at the root, where most parts are worth it, if nothing else is open.
pub(super) fn levels(range: Range, count: u64, open: usize) -> u8 {
    let room = DEPTH_MAX - range.depth();
    let wanted =
        if range == Range::ALL && open == 1 && count > 128 * LEAF_ENTRIES_MAX as u64 / 2 { LEVELS_MAX } else { 1 };
    wanted.min(room)
}

/// Our view of a range as it travels.
pub(super) fn view(ours: &View, levels: u8, width: u8) -> RangeView {
    let cut = |digest: Digest| digest.cut(usize::from(width));
    let body = match &ours.shape {
        Shape::Empty => Body::None,
        Shape::Leaf(entries) => {
            let mut entries: Vec<(Position, Digest)> = entries.iter().map(|e| (e.position, cut(e.digest))).collect();
            entries.sort_unstable();
            Body::Entries { width, entries }
        }
        Shape::Inner(parts) => {
            let digests = parts.iter().map(|part| (!part.is_empty()).then(|| cut(part.digest))).collect();
            Body::Parts { levels, width, digests }
        }
    };
    RangeView { range: ours.range, body }
}

/// The summaries of all parts of a range; those of a leaf are worked out from its entries.
fn parts(keys: &Keys, ours: &View, levels: u8) -> Vec<Summary> {
    let of = |entries: &[Entry]| {
        let part = |index| {
            let below = ours.range.descendant(levels, index);
            let start = entries.partition_point(|entry| entry.position < below.first());
            let end = entries.partition_point(|entry| entry.position <= below.last());
            keys.build(below, &entries[start..end], &mut |_, _| {})
        };
        (0..1usize << (4 * levels)).map(part).collect()
    };
    match &ours.shape {
        Shape::Empty => of(&[]),
        Shape::Leaf(entries) => of(entries),
        Shape::Inner(parts) => parts.clone(),
    }
}

/// Where two lists of entries differ, by position.
fn leaf(ours: &[Entry], theirs: &[(Position, Digest)], width: u8) -> Option<Step> {
    let mut own: Vec<(Position, Digest)> =
        ours.iter().map(|entry| (entry.position, entry.digest.cut(usize::from(width)))).collect();
    own.sort_unstable();
    let only = |a: &[(Position, Digest)], b: &[(Position, Digest)]| {
        let mut positions: Vec<Position> =
            a.iter().filter(|entry| b.binary_search(entry).is_err()).map(|entry| entry.0).collect();
        positions.dedup();
        positions
    };
    let (mut mine, mut foreign) = (only(&own, theirs), only(theirs, &own));
    // A position is in both lists too if either side has more entries there than differ.
    let has = |list: &[(Position, Digest)], p: Position| list.binary_search_by(|e| e.0.cmp(&p)).is_ok();
    let mut both: Vec<Position> = mine.iter().copied().filter(|p| has(theirs, *p)).collect();
    both.extend(foreign.iter().copied().filter(|p| has(&own, *p)));
    both.sort_unstable();
    both.dedup();
    mine.retain(|p| both.binary_search(p).is_err());
    foreign.retain(|p| both.binary_search(p).is_err());
    let differs = !(mine.is_empty() && foreign.is_empty() && both.is_empty());
    differs.then_some(Step::Leaf { mine, theirs: foreign, both })
}
