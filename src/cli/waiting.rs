//! Conflicts that wait for somebody: keys of which the policy asks for a decision, or which it cannot judge.
//!
//! What readers see of them meanwhile is the store's concern; how they are settled that of `reknit conflicts`.

use reknit_core::policy::{Judgement, Why};

use crate::store::{Store, StoreError};

/// Keys that are read at once.
const PAGE: usize = 10_000;
/// Of those that cannot be judged, so many are named.
const SAMPLES: usize = 3;

/// Keys of a store that have several versions.
#[derive(Default)]
pub(crate) struct Conflicts {
    /// All of them.
    pub(crate) keys: u64,
    /// Those of which the policy asks somebody to decide.
    pub(crate) asked: u64,
    /// Those that the policy cannot judge.
    pub(crate) failed: u64,
    /// Some of these: collection, key, and why not.
    pub(crate) samples: Vec<(String, Vec<u8>, String)>,
    /// There may be more: not all were looked at.
    pub(crate) more: bool,
}

impl Conflicts {
    /// Looks at those of these collections, of each at so many at most.
    ///
    /// # Errors
    /// As for [`crate::store::Collection::conflicts`].
    pub(crate) fn of<'a>(
        store: &Store,
        collections: impl IntoIterator<Item = &'a String>,
        most: usize,
    ) -> Result<Conflicts, StoreError> {
        Conflicts::by_pages(store, collections, (most, PAGE))
    }

    fn by_pages<'a>(
        store: &Store,
        collections: impl IntoIterator<Item = &'a String>,
        (most, page): (usize, usize),
    ) -> Result<Conflicts, StoreError> {
        let mut all = Conflicts::default();
        for name in collections {
            let collection = store.collection(name)?;
            let (mut looked, mut after) = (0, None::<Vec<u8>>);
            loop {
                let wanted = page.min(most - looked);
                let some = collection.conflicts(after.as_deref(), wanted)?;
                let whole = some.len() < wanted;
                looked += some.len();
                after = some.last().map(|last| last.key.clone());
                some.into_iter().for_each(|conflict| all.add(name, conflict.key, conflict.judgement));
                if whole {
                    break;
                }
                if looked == most {
                    all.more = true;
                    break;
                }
            }
        }
        Ok(all)
    }

    /// Those of all collections but the members.
    ///
    /// # Errors
    /// As for [`Conflicts::of`].
    pub(crate) fn of_all(store: &Store, most: usize) -> Result<Conflicts, StoreError> {
        Conflicts::of(store, store.definition().data().map(|(_, collection)| &collection.name), most)
    }

    fn add(&mut self, collection: &str, key: Vec<u8>, judgement: Judgement) {
        self.keys += 1;
        match judgement {
            Judgement::Open { why: Why::Asks, .. } => self.asked += 1,
            Judgement::Open { why: Why::Failed(error), .. } => {
                self.failed += 1;
                if self.samples.len() < SAMPLES {
                    self.samples.push((collection.into(), key, error.to_string()));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use reknit_core::query::{Guard, Incoming};
    use reknit_core::{CollectionId, DatasetId, DatasetKey, Definition};

    use super::*;
    use crate::store::contract::record;
    use crate::store::{Durability, Options, Side};

    #[test]
    fn all_are_counted_page_by_page_unless_fewer_are_asked_for() {
        let mut definition = Definition::simple(DatasetId([1; 16]), "test");
        definition.collections[0].policy = "ask/1".into();
        let store =
            Store::in_memory(definition, DatasetKey::from_bytes([2; 32]), &Options::default()).expect("a store");
        for stamp in [5, 7] {
            let one = |key: u8| record(&[key], stamp << 16, stamp, Some(b"value"));
            let batch = (0..7).map(|key| Incoming { record: one(key), guard: Guard::Join }).collect();
            store.apply(CollectionId(0), batch, Durability::Buffered).expect("applied");
        }
        let names: Vec<String> = store.definition().collections.iter().map(|of| of.name.clone()).collect();
        let counted = |most, page| {
            let found = Conflicts::by_pages(&store, &names, (most, page)).expect("looked at");
            (found.keys, found.asked, found.failed, found.more)
        };
        for page in [1, 2, 3, 7, 100] {
            assert_eq!(counted(usize::MAX, page), (7, 7, 0, false), "{page}");
            assert_eq!(counted(4, page), (4, 4, 0, true), "{page}");
        }
    }
}
