//! What is parked, as a session knows it by number, and as it is remembered by name.

use std::sync::Arc;

use reknit_core::agenda::{Named, Trial};
use reknit_core::session::{Parked, Stuck};
use reknit_core::{CollectionId, Definition, Range};

/// What a session leaves out and tries; nothing where nothing of it is this dataset's.
pub(super) fn parked(trial: &Trial, definition: &Definition) -> Option<Arc<Parked>> {
    let ids = |of: &Named| -> Vec<_> {
        of.iter().filter_map(|(name, range)| Some((definition.collection(name)?, *range))).collect()
    };
    let parked = Parked::new(ids(&trial.out), ids(&trial.tried));
    (parked != Parked::default()).then(|| Arc::new(parked))
}

/// Where a session got stuck.
pub(super) fn stuck_in(stuck: &Stuck, definition: &Definition) -> Named {
    named(stuck.ranges.iter().map(|range| (stuck.collection, *range)), definition)
}

/// Ranges by the names of their collections, of those that the dataset has.
pub(super) fn named(ranges: impl Iterator<Item = (CollectionId, Range)>, definition: &Definition) -> Named {
    let name = |collection: CollectionId| Some(definition.collections.get(usize::from(collection.0))?.name.clone());
    ranges.filter_map(|(collection, range)| Some((name(collection)?, range))).collect()
}
