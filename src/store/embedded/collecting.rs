//! Collecting tombstones: up to which horizon this store keeps none, how it gets there, and what it does where it missed it.
//! How far may be collected is the core's to say ([`reknit_core::collect`]), and when a session raises a horizon.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use reknit_core::collect::Horizon;
use reknit_core::life::Sighting;
use reknit_core::planted::{Bug, planted};
use reknit_core::query::Raising;
use reknit_core::{CollectionId, Profile, Sibling, Stamp, State};

use super::commit::submit;
use super::journal::Writing;
use super::lookouts::LookOut;
use super::rows::{self, Kept};
use super::verify::fingerprint;
use super::write::{Fate, Write, put_head};
use super::{Inner, Store, StoreError};
use crate::store::engine::{Batch, Durability, Snapshot};
use crate::store::{Base, CaughtUp, Missed};

/// The row of the horizon.
const HORIZON: &str = "horizon";
/// The row of the commit at which a horizon was taken over that this store had not passed.
const CAUGHT_UP: &str = "caught-up-at";
/// The row of the commit that put back what a run had changed.
const UNDONE: &str = "undone-at";
/// Tombstones that go in one commit.
const PAGE: usize = 1_000;

/// What is known of it while the store is open.
pub(super) struct Collecting {
    kept: RwLock<Arc<Kept>>,
    /// What was passed before this commit was put back by an undo.
    undone: AtomicU64,
    /// When a horizon was taken over that had not been passed.
    caught_up: AtomicU64,
}

impl Collecting {
    pub(super) fn open(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let kept = snapshot.get(&rows::meta(HORIZON))?.map(|value| rows::read_horizon(&value)).transpose()?;
        let commit = |row: &str| -> Result<u64, StoreError> {
            let malformed = |_| StoreError::damaged(format!("the row {row:?} does not decode"));
            let value = snapshot.get(&rows::meta(row))?.map(|value| <[u8; 8]>::try_from(value).map_err(malformed));
            Ok(value.transpose()?.map_or(0, u64::from_be_bytes))
        };
        Ok(Self {
            kept: RwLock::new(Arc::new(kept.unwrap_or_default())),
            undone: AtomicU64::new(commit(UNDONE)?),
            caught_up: AtomicU64::new(commit(CAUGHT_UP)?),
        })
    }

    fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Up to where there are no tombstones.
    pub(super) fn stamp(&self) -> Stamp {
        self.kept().horizon.stamp
    }

    /// The commit that last put back what a run had changed: what was passed before need not be any more.
    pub(super) fn undone(&self) -> u64 {
        self.undone.load(Ordering::SeqCst)
    }

    /// Notes in a commit that it puts back what a run had changed.
    pub(super) fn put_undone(&self, commit: u64, batch: &mut Batch) {
        self.undone.fetch_max(commit, Ordering::SeqCst);
        batch.put(&rows::meta(UNDONE), &commit.to_be_bytes());
    }
}

/// Since when a state is gone that is nothing but a tombstone.
pub(super) fn dead(state: &State) -> Option<Stamp> {
    state.versions().iter().map(Sibling::gone_since).try_fold(Stamp::default(), |last, since| Some(last.max(since?)))
}

/// The versions that are old, as the caller sees it, and the others.
pub(super) fn parted(state: &State, is_old: impl Fn(&Sibling) -> bool) -> (Option<State>, Option<State>) {
    let of = |old: bool| {
        let side = |sibling: &&Sibling| is_old(sibling) == old;
        let dots: Vec<_> = state.versions().iter().filter(side).map(|sibling| sibling.version.dot()).collect();
        state.only(&dots)
    };
    (of(true), of(false))
}

impl Inner {
    /// Since when a tombstone is there that may be collected one day: members of the dataset are told of for ever.
    pub(super) fn dead(&self, collection: CollectionId, state: Option<&State>) -> Option<Stamp> {
        let kept_for_ever =
            self.definition.profile == Profile::Content || self.definition.members() == Some(collection);
        if kept_for_ever { None } else { state.and_then(dead) }
    }

    /// Whether a state is a tombstone that is not kept any more.
    pub(super) fn is_collected(&self, collection: CollectionId, state: &State) -> bool {
        self.dead(collection, Some(state)).is_some_and(|stamp| stamp <= self.collecting.stamp())
    }

    /// Whether all members certainly have a tombstone: who wrote it has passed the horizon, or it was here when all passed
    /// what was here. Otherwise it came from one that nobody waited for, after the others had looked.
    pub(super) fn is_known_everywhere(&self, state: &State, commit: u64) -> bool {
        let kept = self.collecting.kept();
        let written_by_members = || {
            let passed = |actor| kept.horizon.of(actor).next().is_some();
            state.versions().iter().all(|sibling| passed(sibling.version.actor.0))
        };
        let mut here = kept.horizon.of(self.lives.actor().0);
        kept.all || commit > 0 && here.any(|here| commit <= here.everywhere) || written_by_members()
    }
}

impl Store {
    /// Up to where tombstones are collected here, and who had passed that.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        self.inner.collecting.kept().horizon.clone()
    }

    /// The commit at which this store last took over a horizon that it had not passed, as one does that catches up; 0 if it never
    /// did. What others had of it before tells nothing of what was collected by then.
    #[must_use]
    pub fn caught_up_at(&self) -> u64 {
        self.inner.collecting.caught_up.load(Ordering::SeqCst)
    }

    /// Begins to look out for what sessions bring ([`LookOut`]).
    pub fn look_out(&self) -> LookOut {
        self.inner.lookouts.begin()
    }

    /// How many records were deleted, or have expired, up to this stamp. Reads a row of each.
    ///
    /// # Errors
    /// What the engine met.
    pub fn tombstones_up_to(&self, stamp: Stamp) -> Result<u64, StoreError> {
        let snapshot = self.inner.engine.snapshot()?;
        let (start, end) = rows::tombstones_up_to(stamp);
        let mut count = 0;
        for row in snapshot.scan(&start, &end)? {
            row?;
            count += 1;
        }
        Ok(count)
    }

    /// Collects all tombstones up to a horizon, if this store has passed it or `caught_up` says that it has caught up with one
    /// that has. One that has no records has. Whoever caught up stays behind where a [`LookOut`] that is held has seen something
    /// come that is as old as what the horizon collects.
    ///
    /// # Errors
    /// What the engine met; what was not finished is finished when the store is opened again.
    pub fn raise(&self, horizon: &Horizon, caught_up: bool) -> Result<Raising, StoreError> {
        let inner = &*self.inner;
        let now = (inner.clock)();
        let ahead = horizon.stamp.millis() > now.saturating_add(inner.clock_bound);
        if ahead || inner.definition.profile == Profile::Content {
            return Ok(Raising::Refused);
        }
        // What has expired by then is a tombstone, whoever of the members knows it already.
        self.expire_until(Some(horizon.stamp.millis()))?;
        let undone = inner.collecting.undone();
        let mut passed = false;
        for own in horizon.of(inner.lives.actor().0) {
            passed |= own.met.commit >= undone && self.recalls(own.met)?;
        }
        let nothing = !passed && !caught_up && self.holds_nothing();
        if !(passed || caught_up || nothing || planted(Bug::LapsedPushesFirst)) {
            return Ok(Raising::Behind);
        }
        {
            let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            if horizon.stamp <= inner.collecting.stamp() {
                return Ok(Raising::Raised);
            }
            if caught_up && !passed && inner.lookouts.came_up_to(horizon.stamp) {
                return Ok(Raising::Behind);
            }
            let kept = Kept { horizon: horizon.clone(), all: !passed };
            let mut clock = writer.clock;
            // What is written from now on has a greater stamp.
            let _ = clock.observe(horizon.stamp, now, inner.clock_bound);
            let (mut batch, head) = (Batch::new(), inner.head());
            batch.put(&rows::meta(HORIZON), &rows::horizon_value(&kept));
            if !passed {
                batch.put(&rows::meta(CAUGHT_UP), &head.commit.to_be_bytes());
            }
            put_head(head.commit, &clock, &mut batch);
            if let Err(error) = inner.engine.commit(&mut batch, Durability::Synced) {
                writer.failed = true;
                return Err(error.into());
            }
            writer.clock = clock;
            if !passed {
                inner.collecting.caught_up.store(head.commit, Ordering::SeqCst);
            }
            *inner.collecting.kept.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(kept);
            inner.publish(head.commit, clock.last(), head.roots);
        }
        self.finish_collecting()?;
        Ok(Raising::Raised)
    }

    /// Drops what is still there up to the horizon.
    pub(super) fn finish_collecting(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let (mut start, end) = rows::tombstones_up_to(inner.collecting.stamp());
        loop {
            let snapshot = inner.engine.snapshot()?;
            let mut writes = Vec::new();
            for row in snapshot.scan(&start, &end)?.take(PAGE) {
                let (row, value) = row?;
                let (collection, _, key) = rows::read_tombstone(&row, &value)?;
                writes.push(Write::Collect { collection, key });
                start = rows::after(row);
            }
            drop(snapshot);
            if writes.is_empty() {
                return Ok(());
            }
            submit(inner, writes, Durability::Buffered)?;
        }
    }

    /// Does about each key what a store has to that missed a horizon, as far as that is known from one of its receipts.
    pub(super) fn catch_up_in(
        &self,
        missed: Vec<Missed>,
        bases: &[Base],
        horizon: Stamp,
        run: &Arc<Writing>,
    ) -> Result<CaughtUp, StoreError> {
        let base = self.newest_base(bases)?;
        let write = |missed| Write::CatchUp { missed, base, horizon, run: Arc::clone(run) };
        let before = self.quarantined_count();
        let done = submit(&self.inner, missed.into_iter().map(write).collect(), Durability::Buffered)?;
        if done.fates.iter().any(|fate| matches!(fate, Fate::Refused(_))) {
            return Err(StoreError::QuarantineFull);
        }
        let strays = self.quarantined_count().saturating_sub(before);
        let (all, changed) = (done.fates.len() as u64, done.changed());
        Ok(CaughtUp { removed: changed.saturating_sub(strays), kept: all - changed, strays })
    }

    /// The cut of the newest receipt of this very store: what is unchanged since then, the other side had.
    fn newest_base(&self, bases: &[Base]) -> Result<Option<u64>, StoreError> {
        let undone = self.inner.collecting.undone();
        let mut newest = None;
        for base in bases {
            let own = base.actor == self.inner.lives.actor().0 && base.cut >= undone;
            if own && newest.is_none_or(|newest| newest < base.cut) && self.recalls(base.met)? {
                newest = Some(base.cut);
            }
        }
        Ok(newest)
    }

    fn holds_nothing(&self) -> bool {
        let roots = self.inner.head().roots;
        self.inner.definition.data().all(|(id, _)| roots[usize::from(id.0)].is_empty())
    }

    /// Whether this store remembers an opening, and came as far in it: if not, it was restored, copied or rolled back.
    ///
    /// # Errors
    /// What the engine met.
    pub fn recalls(&self, met: Sighting) -> Result<bool, StoreError> {
        self.opening_of(met).map(|end| end.is_some_and(|end| met.commit <= end))
    }
}

/// Says whether the rows of tombstones are those that the records make.
pub(super) fn verify(snapshot: &dyn Snapshot, sum: u128, wrong: &mut dyn FnMut(String)) -> Result<(), StoreError> {
    let (start, end) = rows::tombstones_up_to(Stamp(u64::MAX));
    let mut found = 0_u128;
    for row in snapshot.scan(&start, &end)? {
        let (row, value) = row?;
        rows::read_tombstone(&row, &value).map_or_else(|error| wrong(error.to_string()), drop);
        found = found.wrapping_add(fingerprint(&row, &value));
    }
    if found != sum {
        wrong("the list of tombstones does not name just those keys that were deleted".into());
    }
    if let Some(value) = snapshot.get(&rows::meta(HORIZON))? {
        rows::read_horizon(&value).map_or_else(|error| wrong(error.to_string()), drop);
    }
    Ok(())
}
