//! What an opener has asked the responder, and how much of an answer it takes.

use super::cells::Seen;
use crate::bounds::{GATHERED_BYTES_MAX, KEY_BYTES_MAX, LEVELS_MAX};
use crate::dataset::CollectionId;
use crate::range::Range;
use crate::wire::WireItem;

/// A request that waits for its answer.
pub(super) struct Request {
    pub(super) collection: CollectionId,
    pub(super) ranges: Vec<Range>,
    pub(super) awaited: Awaited,
    /// Single positions that were asked about.
    pub(super) positions: Vec<u64>,
    /// Views and bytes of items that were told so far.
    told: (usize, usize),
}

impl Request {
    pub(super) fn new(collection: CollectionId, ranges: Vec<Range>, awaited: Awaited) -> Request {
        Request { collection, ranges, awaited, positions: Vec::new(), told: (0, 0) }
    }

    /// Whether an answer may go on after so much more: it tells of each part of a range once, and of each key.
    pub(super) fn may_tell(&mut self, views: usize, bytes: usize) -> bool {
        self.told = (self.told.0 + views, self.told.1 + bytes);
        let (most, place) = (1 << (4 * LEVELS_MAX), KEY_BYTES_MAX);
        let gathers = matches!(self.awaited, Awaited::Close(_));
        self.told.0 <= most * self.ranges.len().max(1)
            && (!gathers || self.told.1 <= GATHERED_BYTES_MAX + place * self.ranges.len())
    }
}

/// What a request waits for.
pub(super) enum Awaited {
    /// Whatever the responder's planner sends unasked after the opening.
    First,
    /// The responder's view of ranges.
    Compare,
    /// Whether ranges are equal without what was named.
    Proof,
    /// Items.
    List,
    /// Items of single elements' ranges, gathered until all are there.
    Close(Vec<WireItem>),
    /// Cells, gathered with those that came before; and how often they did not suffice.
    Cells(Vec<Seen>, u8),
}
