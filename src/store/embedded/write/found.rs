//! What there is of the keys of a group: read by scans where they lie close together, one by one where they do not.

use reknit_core::Range;
use reknit_core::range::DEPTH_MAX;

use super::{Slot, read_stored};
use crate::store::embedded::rows::Stored;
use crate::store::embedded::tree::in_two;
use crate::store::embedded::walk::{Walk, close};
use crate::store::embedded::{Inner, StoreError};
use crate::store::engine::Snapshot;

/// Fewer keys that lie close together are read one by one.
const WORTH_A_SCAN: usize = 16;

/// Reads some of the slots, which are in the order of their rows.
pub(super) fn read(
    store: &Inner,
    snapshot: &dyn Snapshot,
    slots: &[Slot],
    some: &[usize],
) -> Result<Vec<Option<Stored>>, StoreError> {
    let mut found: Vec<Option<Stored>> = some.iter().map(|_| None).collect();
    let (mut alone, mut nth) = (Vec::new(), 0);
    for of_one in some.chunk_by(|a, b| slots[*a].collection == slots[*b].collection) {
        let collection = slots[of_one[0]].collection;
        let close = close(store, collection);
        for run in of_one.chunk_by(|a, b| slots[*b].position.0 - slots[*a].position.0 <= close) {
            let places = nth..nth + run.len();
            nth += run.len();
            if run.len() < WORTH_A_SCAN {
                alone.extend(places);
                continue;
            }
            let mut ranges: Vec<Range> = run.iter().map(|slot| Range::of(slots[*slot].position, DEPTH_MAX)).collect();
            ranges.dedup();
            let mut wanted = places.zip(run).peekable();
            for read in Walk::new(store, snapshot, collection, ranges) {
                let (range, mut held) = read?;
                while let Some((place, slot)) = wanted.next_if(|(_, slot)| range.contains(slots[**slot].position)) {
                    let own = held.iter().position(|stored| stored.key == slots[*slot].key);
                    found[place] = own.map(|own| held.swap_remove(own));
                }
            }
        }
    }
    let read = in_two(&alone, |place| {
        let slot = &slots[some[*place]];
        read_stored(store, snapshot, slot.collection, slot.position, &slot.key)
    })?;
    for (place, stored) in alone.into_iter().zip(read) {
        found[place] = stored;
    }
    Ok(found)
}
