//! What has changed since a store of bare content was equal to another: bare content has no versions that would tell. From
//! when it is asked to, a store keeps of each key that changes what it was before, until all who want to know were equal to it
//! later.
//!
//! Who was equal to whom is for those to say who compare them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reknit_core::{CollectionId, Millis};

use super::rows::{self, Equal};
use super::{Inner, Store, StoreError};
use crate::store::engine::{Batch, Snapshot};

/// Changes that are kept; past it nothing is known any more, since a pair that drifts so far is better compared anew.
const CHANGES_MAX: u64 = 1_000_000;
/// The row of how many are kept.
pub(super) const KEPT: &str = "changes";
/// Rows that are forgotten in one commit.
const PAGE: usize = 10_000;

/// What keys were, of those that have changed.
pub(crate) type Changed = BTreeMap<(CollectionId, Vec<u8>), Option<u64>>;

/// When a store was last equal to another, as the caller may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// The same on both sides.
    pub(crate) id: u64,
    /// When that was.
    pub(crate) at: Millis,
    commit: u64,
}

/// What is known while the store is open.
pub(super) struct Bases {
    known: Mutex<Known>,
}

struct Known {
    with: BTreeMap<String, Equal>,
    /// From which commit on all changes are kept; none: they are not.
    from: Option<u64>,
    kept: u64,
}

impl Bases {
    /// Bases that another life had are none: their commit numbers are not this one's.
    pub(super) fn open(snapshot: &dyn Snapshot, actor: reknit_core::Actor) -> Result<Self, StoreError> {
        let (start, end) = rows::all_bases();
        let mut with = BTreeMap::new();
        for row in snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            let (name, equal) = rows::read_base(&row, &value)?;
            if equal.actor == actor {
                with.insert(name, equal);
            }
        }
        let kept =
            snapshot.get(&rows::meta(KEPT))?.and_then(|value| value.try_into().ok()).map_or(0, u64::from_be_bytes);
        let from = with.values().map(|equal| equal.commit).min();
        Ok(Self { known: Mutex::new(Known { with, from, kept }) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody wants to know what changes.
    #[cfg(feature = "embedded-redb")]
    pub(super) fn keeps_changes(&self) -> bool {
        self.known().from.is_some()
    }

    /// Notes what keys were before a commit, if anybody wants to know.
    pub(super) fn stage<'k>(
        &self,
        commit: u64,
        changes: impl Iterator<Item = (CollectionId, &'k [u8], Option<u64>)>,
        batch: &mut Batch,
    ) {
        let mut known = self.known();
        if known.from.is_none() {
            return;
        }
        let before = known.kept;
        for (collection, key, entry) in changes {
            let (row, value) = rows::before(commit, collection, key, entry);
            batch.put(&row, &value);
            known.kept += 1;
        }
        if known.kept > CHANGES_MAX {
            for name in std::mem::take(&mut known.with).into_keys() {
                batch.delete(&rows::base(&name));
            }
            known.from = None;
        }
        if known.kept > before {
            batch.put(&rows::meta(KEPT), &known.kept.to_be_bytes());
        }
    }
}

impl Store {
    /// Keeps what changes from now on, so that it is known should it prove equal to another store.
    pub(crate) fn keep_changes(&self) {
        let _writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let commit = self.inner.head().commit;
        self.inner.bases.known().from.get_or_insert(commit);
    }

    /// When it was last equal to the store of that name, if all that has changed since is known.
    pub(crate) fn base(&self, with: &str) -> Option<Base> {
        let known = self.inner.bases.known();
        known.with.get(with).map(|equal| Base { id: equal.id, at: equal.at, commit: equal.commit })
    }

    /// What has changed since it was equal to the store of that name.
    pub(crate) fn changed_since(&self, with: &str, base: &Base) -> Result<Changed, StoreError> {
        let snapshot = self.inner.engine.snapshot()?;
        let mut changed = Changed::new();
        let (start, end) = rows::all_except(with);
        for row in snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            let (collection, key, was) = rows::read_except(with, &row, &value)?;
            changed.insert((collection, key), was);
        }
        let (start, end) = rows::before_within(base.commit, u64::MAX);
        for row in snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            let (collection, key, was) = rows::read_before(&row, &value)?;
            // What was first is what it was then.
            changed.entry((collection, key)).or_insert(was);
        }
        Ok(changed)
    }

    /// Notes that at a commit it was equal to the store of that name, but for some keys of which is told what they were when
    /// they were. Does nothing if changes since then were not kept; says whether it did.
    pub(crate) fn set_base(&self, with: &str, (id, commit): (u64, u64), except: &Changed) -> Result<bool, StoreError> {
        let inner: &Inner = &self.inner;
        let equal = Equal { id, commit, at: (inner.clock)(), actor: inner.lives.actor() };
        let before = {
            let known = inner.bases.known();
            if known.from.is_none_or(|from| from > commit) {
                return Ok(false);
            }
            known.with.get(with).copied()
        };
        let old = self.rows_within(&rows::all_except(with), usize::MAX)?;
        self.change_facts(|batch| {
            old.iter().for_each(|row| batch.delete(row));
            for ((collection, key), was) in except {
                let (row, value) = rows::except(with, *collection, key, *was);
                batch.put(&row, &value);
            }
            batch.put(&rows::base(with), &rows::base_value(&equal));
            inner.bases.known().with.insert(with.into(), equal);
        })?;
        if before.is_none_or(|before| before.commit != commit) {
            self.forget_changes()?;
        }
        Ok(true)
    }

    /// Forgets when it was equal to any other; what changes is kept no longer.
    pub(crate) fn drop_bases(&self) -> Result<bool, StoreError> {
        let rows = self.rows_within(&rows::all_bases(), usize::MAX)?;
        self.change_facts(|batch| {
            rows.iter().for_each(|row| batch.delete(row));
            let mut known = self.inner.bases.known();
            known.with.clear();
            known.from = None;
        })?;
        Ok(!rows.is_empty())
    }

    /// Forgets what nobody asks for any more.
    fn forget_changes(&self) -> Result<(), StoreError> {
        let inner: &Inner = &self.inner;
        let upto = {
            let mut known = inner.bases.known();
            let Some(first) = known.with.values().map(|equal| equal.commit).min() else { return Ok(()) };
            known.from = Some(first);
            first
        };
        loop {
            let rows = self.rows_within(&rows::before_within(0, upto), PAGE)?;
            if rows.is_empty() {
                return Ok(());
            }
            self.change_facts(|batch| {
                rows.iter().for_each(|row| batch.delete(row));
                let mut known = inner.bases.known();
                known.kept = known.kept.saturating_sub(rows.len() as u64);
                batch.put(&rows::meta(KEPT), &known.kept.to_be_bytes());
            })?;
        }
    }

    fn rows_within(&self, (start, end): &(Vec<u8>, Vec<u8>), most: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let snapshot = self.inner.engine.snapshot()?;
        let mut rows = Vec::new();
        for row in snapshot.scan(start, end)?.take(most) {
            rows.push(row?.0);
        }
        Ok(rows)
    }
}

/// Checks that what is kept can be read.
pub(super) fn verify(snapshot: &dyn Snapshot, wrong: &mut dyn FnMut(String)) -> Result<(), StoreError> {
    let (start, end) = rows::before_within(0, u64::MAX);
    for row in snapshot.scan(&start, &end)? {
        let (row, value) = row?;
        if let Err(error) = rows::read_before(&row, &value) {
            wrong(error.to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use reknit_core::{DatasetId, DatasetKey, Definition, Profile};

    use super::*;
    use crate::store::engine::{Durability, Engine, Memory};
    use crate::store::{Op, Options, Side};

    fn open(engine: &Arc<dyn Engine>) -> Store {
        Store::over(Arc::clone(engine), &Options::default()).expect("opened")
    }

    fn made() -> Arc<dyn Engine> {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let definition = Definition { profile: Profile::Content, ..Definition::simple(DatasetId([1; 16]), "bases") };
        Store::found_over(Arc::clone(&engine), definition, DatasetKey::from_bytes([2; 32]), &Options::default())
            .expect("made");
        engine
    }

    /// The entries of all keys.
    fn worth(store: &Store) -> BTreeMap<Vec<u8>, u64> {
        let items = Side::items(store, CollectionId(0), &[reknit_core::Range::ALL]).expect("items");
        items.into_iter().filter_map(|item| Some((item.key, item.digest?.short()))).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(Vec<(u8, Option<u8>)>),
        /// It is equal to the one of that name now, but for a key.
        Equal(u8, Option<u8>),
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        let writes = proptest::collection::vec((0u8..12, proptest::option::of(0u8..3)), 1..6);
        let except = proptest::option::of(0u8..12);
        prop_oneof![
            6 => writes.prop_map(Step::Write),
            2 => (0u8..3, except).prop_map(|(with, except)| Step::Equal(with, except)),
            1 => Just(Step::Reopen),
        ]
    }

    proptest! {
        #[test]
        fn what_has_changed_since_is_known_whoever_was_equal_when(steps in proptest::collection::vec(step(), 1..40)) {
            let engine = made();
            let mut store = open(&engine);
            store.keep_changes();
            // What was equal to whom: what all keys were then.
            let mut model: BTreeMap<u8, BTreeMap<Vec<u8>, u64>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Write(writes) => {
                        let op = |(key, value): (u8, Option<u8>)| match value {
                            Some(value) => Op::put(vec![key], vec![value]),
                            None => Op::delete(vec![key]),
                        };
                        store.batch(writes.into_iter().map(op).collect(), Durability::Buffered).expect("written");
                    }
                    Step::Equal(with, except) => {
                        let mut then = worth(&store);
                        let before = model.get(&with);
                        let except: Changed = except.into_iter().map(|key| {
                            let was = before.and_then(|before| before.get(&vec![key])).copied();
                            was.map(|was| then.insert(vec![key], was)).unwrap_or_else(|| then.remove(&vec![key]));
                            ((CollectionId(0), vec![key]), was)
                        }).collect();
                        let commit = store.cut().commit;
                        prop_assert!(store.set_base(&with.to_string(), (7, commit), &except).expect("noted"));
                        model.insert(with, then);
                    }
                    // Without a base nothing is kept across openings.
                    Step::Reopen if !model.is_empty() => {
                        drop(store);
                        store = open(&engine);
                    }
                    Step::Reopen => {}
                }
                let now = worth(&store);
                for (with, then) in &model {
                    let name = with.to_string();
                    let base = store.base(&name).expect("a base");
                    let changed = store.changed_since(&name, &base).expect("changes");
                    for ((_, key), was) in &changed {
                        prop_assert_eq!(*was, then.get(key).copied(), "{:?} with {}", key, with);
                    }
                    for key in now.keys().chain(then.keys()).filter(|key| now.get(*key) != then.get(*key)) {
                        prop_assert!(changed.contains_key(&(CollectionId(0), key.clone())), "{:?} with {}", key, with);
                    }
                }
            }
            prop_assert!(store.verify(&mut |_| ()).expect("verified").is_sound());
            prop_assert_eq!(store.drop_bases().expect("dropped"), !model.is_empty());
            prop_assert_eq!(store.base("0"), None);
        }
    }

    #[test]
    fn what_was_not_kept_makes_no_base() {
        let engine = made();
        let store = open(&engine);
        store.put(b"a", b"1").expect("put");
        assert!(!store.set_base("x", (1, store.cut().commit), &Changed::new()).expect("asked"));
        store.keep_changes();
        let before = store.cut().commit - 1;
        assert!(!store.set_base("x", (1, before), &Changed::new()).expect("asked"));
        assert!(store.set_base("x", (1, store.cut().commit), &Changed::new()).expect("asked"));
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let engine = made();
        let store = open(&engine);
        store.keep_changes();
        let kept = || store.rows_within(&rows::before_within(0, u64::MAX), usize::MAX).expect("rows").len();
        for with in ["x", "y"] {
            assert!(store.set_base(with, (1, store.cut().commit), &Changed::new()).expect("noted"));
        }
        for key in 0..9u8 {
            store.put(&[key], b"1").expect("put");
        }
        let _ = store.set_base("x", (2, store.cut().commit), &Changed::new()).expect("noted");
        assert_eq!(kept(), 9, "y asks for it still");
        let _ = store.set_base("y", (2, store.cut().commit), &Changed::new()).expect("noted");
        assert_eq!(kept(), 0);
    }
}
