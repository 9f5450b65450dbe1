//! Lives of a store: which opening of it peers met, what it remembers of theirs, and how it begins a new life once it sees
//! that it was restored or copied. What tells lives apart is the core's ([`reknit_core::life`]).

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use reknit_core::canonical::Reader;
use reknit_core::life::{Common, Meeting, Opening, Sighting, confirm, forked, meet};
use reknit_core::query::{Cut, Recognition};
use reknit_core::{Actor, CollectionId, DecodeError, Range, Stamp, State};

use super::open::{Random, put_life};
use super::read::records_after;
use super::rows::{self, Opened};
use super::{Store, StoreError};
use crate::store::engine::{Batch, Durability, Snapshot};

mod renewal;

pub(super) use renewal::Renewal;
use renewal::Renewals;

/// Where the store lay when it was opened last, as far as the system can tell one directory from a copy of it.
const PLACE: &str = "place";
/// First and last of the openings that are kept, and how many there are.
const OPENINGS: &str = "openings";
/// Openings that are kept: one a minute for four months.
const OPENINGS_MAX: u64 = 200_000;

/// What is known of the store's lives while it is open.
pub(super) struct Lives {
    actor: AtomicU64,
    nonce: u64,
    /// The last stamp before this opening.
    before: Stamp,
    introduced: AtomicBool,
    renewals: Mutex<Renewals>,
}

impl Lives {
    pub(super) fn open(snapshot: &dyn Snapshot, actor: Actor, nonce: u64, before: Stamp) -> Result<Self, StoreError> {
        Ok(Self {
            actor: AtomicU64::new(actor.0),
            nonce,
            before,
            introduced: AtomicBool::new(false),
            renewals: Mutex::new(Renewals::open(snapshot)?),
        })
    }

    pub(super) fn actor(&self) -> Actor {
        Actor(self.actor.load(Ordering::Acquire))
    }

    pub(super) fn nonce(&self) -> u64 {
        self.nonce
    }

    fn renewals(&self) -> MutexGuard<'_, Renewals> {
        self.renewals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The renewal that is under way.
    pub(super) fn renewal(&self) -> Option<Renewal> {
        self.renewals().under_way
    }

    /// A state that was overwritten, as it is worth now: one that an earlier life wrote, before it was told apart from another
    /// of its name, is of the life that went on with it. `made` is the commit that had made it.
    pub(super) fn of_earlier(&self, state: State, made: u64) -> State {
        self.renewals().of_earlier(state, made)
    }
}

/// What tells the directory of a store from a copy of it; nothing where the system cannot tell.
fn place(marker: &Path) -> Option<Vec<u8>> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let facts = std::fs::metadata(marker).ok()?;
        // A number of a file may be used again, but not with the same time of birth.
        let born = facts.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some([facts.ino(), born.as_secs(), u64::from(born.subsec_nanos())].map(u64::to_be_bytes).concat())
    }
    #[cfg(not(unix))]
    {
        let _ = marker;
        None
    }
}

/// The actor that a store opens as: a new one where its directory is a copy. What was written before is then common to both.
pub(super) fn settle(
    marker: &Path,
    snapshot: &dyn Snapshot,
    actor: Actor,
    random: &Random,
    batch: &mut Batch,
) -> Result<Actor, StoreError> {
    let Some(here) = place(marker) else { return Ok(actor) };
    let row = rows::meta(PLACE);
    match snapshot.get(&row)? {
        Some(place) if place == here => Ok(actor),
        before => {
            batch.put(&row, &here);
            let actor = if before.is_some() { Actor(random()?) } else { actor };
            if before.is_some() {
                put_life(actor, batch);
                forget_openings(snapshot, batch)?;
            }
            Ok(actor)
        }
    }
}

/// The openings are those of a life: a new one has none.
fn forget_openings(snapshot: &dyn Snapshot, batch: &mut Batch) -> Result<(), StoreError> {
    let (start, end) = rows::openings();
    for row in snapshot.scan(&start, &end)? {
        batch.delete(&row?.0);
    }
    batch.delete(&rows::meta(OPENINGS));
    Ok(())
}

impl Store {
    /// The commit number that an opening came to, if it is one of this store's.
    pub(super) fn opening_of(&self, met: Sighting) -> Result<Option<u64>, StoreError> {
        let inner = &*self.inner;
        if met.nonce == inner.lives.nonce {
            return Ok(Some(inner.head().commit));
        }
        let snapshot = inner.engine.snapshot()?;
        Ok(opened(&*snapshot, met.nonce)?.and_then(|opened| opened.end).map(|(commit, _)| commit))
    }
}

fn opened(snapshot: &dyn Snapshot, nonce: u64) -> Result<Option<Opened>, StoreError> {
    snapshot.get(&rows::opening(nonce))?.map(|value| rows::read_opening(&value)).transpose()
}

/// First, last and number of the openings that are kept.
fn openings(snapshot: &dyn Snapshot) -> Result<Option<(u64, u64, u64)>, StoreError> {
    let Some(value) = snapshot.get(&rows::meta(OPENINGS))? else { return Ok(None) };
    let read = || -> Result<(u64, u64, u64), DecodeError> {
        let mut reader = Reader::new(&value);
        Ok((reader.u64()?, reader.u64()?, reader.u64()?))
    };
    read().map(Some).map_err(|_| StoreError::damaged(format!("the row {OPENINGS:?} does not decode")))
}

/// Notes how far the last opening came in which a peer met the store, as the store is opened again.
pub(super) fn end_last(snapshot: &dyn Snapshot, end: (u64, Stamp), batch: &mut Batch) -> Result<(), StoreError> {
    let Some((_, last, _)) = openings(snapshot)? else { return Ok(()) };
    match opened(snapshot, last)? {
        Some(before @ Opened { end: None, .. }) => {
            batch.put(&rows::opening(last), &rows::opening_value(&Opened { end: Some(end), ..before }));
        }
        Some(_) => {}
        None => return Err(StoreError::damaged("the row of an opening is missing")),
    }
    Ok(())
}

impl Store {
    /// Puts this opening on record, synced, before a peer hears of it; gives the cut.
    pub(super) fn introduce_now(&self) -> Result<Cut, StoreError> {
        let inner = &*self.inner;
        if inner.lives.introduced.load(Ordering::Acquire) {
            // A commit number that a peer heard of is not to be lost by a crash: that would look like a rollback.
            let head = inner.head();
            inner.owed.settle_all(&*inner.engine)?;
            return Ok(head);
        }
        let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.lives.introduced.load(Ordering::Acquire) {
            return Ok(inner.head());
        }
        let (snapshot, nonce) = (inner.engine.snapshot()?, inner.lives.nonce);
        let mut batch = Batch::new();
        let this = Opened { stamp: inner.lives.before, end: None, next: None };
        batch.put(&rows::opening(nonce), &rows::opening_value(&this));
        let (mut first, mut count) = (nonce, 1);
        if let Some((oldest, last, kept)) = openings(&*snapshot)? {
            (first, count) = (oldest, kept + 1);
            if let Some(before) = opened(&*snapshot, last)? {
                batch.put(&rows::opening(last), &rows::opening_value(&Opened { next: Some(nonce), ..before }));
            }
            if count > OPENINGS_MAX
                && let Some(Opened { next: Some(next), .. }) = opened(&*snapshot, oldest)?
            {
                batch.delete(&rows::opening(oldest));
                (first, count) = (next, kept);
            }
        }
        batch.put(&rows::meta(OPENINGS), &[first, nonce, count].map(u64::to_be_bytes).concat());
        drop(snapshot);
        if let Err(error) = inner.engine.commit(&mut batch, Durability::Synced) {
            writer.failed = true;
            return Err(error.into());
        }
        inner.lives.introduced.store(true, Ordering::Release);
        Ok(inner.head())
    }

    /// Remembers that a store was met; gives what was remembered if it may be another life than that. Of a store of this
    /// same actor, which is a copy, it gives the own openings.
    pub(super) fn meet_now(
        &self,
        actor: Actor,
        now: Sighting,
        recognised: Option<Sighting>,
    ) -> Result<Vec<Sighting>, StoreError> {
        let inner = &*self.inner;
        if actor == inner.lives.actor() {
            return self.own_openings();
        }
        let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows::met(actor.0);
        let value = inner.engine.snapshot()?.get(&row)?;
        let mut seen = value.map(|value| rows::read_met(&value)).transpose()?.unwrap_or_default();
        let met = meet(&mut seen, now);
        if met == Meeting::Doubtful && !recognised.is_some_and(|by| confirm(&mut seen, now, by)) {
            return Ok(seen);
        }
        if met != Meeting::Known {
            let mut batch = Batch::new();
            batch.put(&row, &rows::met_value(&seen));
            if let Err(error) = inner.engine.commit(&mut batch, Durability::Buffered) {
                writer.failed = true;
                return Err(error.into());
            }
            inner.owed.met(inner.head().commit + 1);
        }
        Ok(Vec::new())
    }

    /// Who a store is that says something outside of sessions. It is remembered if it was never met; if it may be another life
    /// than the one that was met last, or is not as far as it was then, it has to recall that opening first.
    ///
    /// # Errors
    /// What the engine met.
    #[cfg(feature = "node")]
    pub(crate) fn acquainted(
        &self,
        actor: Actor,
        now: Sighting,
        recalled: Option<Sighting>,
    ) -> Result<Acquaintance, StoreError> {
        if actor == self.inner.lives.actor() {
            return Ok(Acquaintance::Oneself);
        }
        let value = self.inner.engine.snapshot()?.get(&rows::met(actor.0))?;
        let last = value.map(|value| rows::read_met(&value)).transpose()?.and_then(|seen| seen.last().copied());
        if last == Some(now) {
            return Ok(Acquaintance::Known);
        }
        let doubted = self.meet_now(actor, now, recalled)?;
        Ok(doubted.last().map_or(Acquaintance::Known, |last| Acquaintance::Doubtful(*last)))
    }

    fn own_openings(&self) -> Result<Vec<Sighting>, StoreError> {
        let (inner, snapshot) = (&*self.inner, self.inner.engine.snapshot()?);
        // Whoever has the same actor and not this opening is another life; the first may be common to both.
        let mut seen = Vec::new();
        if let Some((first, ..)) = openings(&*snapshot)?
            && let Some(Opened { end: Some((commit, _)), .. }) = opened(&*snapshot, first)?
        {
            seen.push(Sighting { nonce: first, commit });
        }
        seen.push(Sighting { nonce: inner.lives.nonce, commit: inner.head().commit });
        Ok(seen)
    }

    /// Judges what a peer remembers of this store; begins a new life if it is another than the peer met, and says so.
    pub(super) fn recognise_now(&self, met: &[Sighting], whole: bool) -> Result<Recognition, StoreError> {
        let inner = &*self.inner;
        let seen = {
            let snapshot = inner.engine.snapshot()?;
            let opening = |sighting: &Sighting| {
                let found = opened(&*snapshot, sighting.nonce)?;
                // What is written in this opening may be a writing on of what another life went on with too.
                let opening = found.map(|Opened { stamp: began, end, .. }| {
                    let (end, stamp) = end.unwrap_or_else(|| (inner.head().commit, began));
                    Opening { began, end, stamp }
                });
                Ok::<_, StoreError>((*sighting, opening))
            };
            met.iter().map(opening).collect::<Result<Vec<_>, _>>()?
        };
        match forked(&seen) {
            None => Ok(Recognition::Same),
            Some(_) if !whole => Ok(Recognition::Unsure),
            Some(common) => {
                self.begin_life(self.last_common(common)?)?;
                Ok(Recognition::Renewed)
            }
        }
    }

    /// The last stamp that is common: that of the last write among the records that were not changed since the commit.
    fn last_common(&self, common: Common) -> Result<Stamp, StoreError> {
        let (inner, mut last) = (&*self.inner, common.stamp);
        if common.commit == 0 {
            return Ok(last);
        }
        let (actor, snapshot) = (inner.lives.actor(), inner.engine.snapshot()?);
        for place in 0..inner.definition.collections.len() {
            let collection = CollectionId(u16::try_from(place).unwrap_or(u16::MAX));
            for stored in records_after(inner, &*snapshot, collection, Range::ALL, None)? {
                let stored = stored?;
                let versions = stored.state.versions().iter().map(|sibling| &sibling.version);
                let own = versions.filter(|version| stored.commit <= common.commit && version.actor == actor);
                last = own.map(|version| version.stamp).fold(last, Stamp::max);
            }
        }
        Ok(last)
    }

    /// Begins a new life: all that this store wrote after a stamp is given to a new actor. Takes a look at every record.
    ///
    /// # Errors
    /// What the engine met; what was not finished is finished when the store is opened again.
    fn begin_life(&self, after: Stamp) -> Result<(), StoreError> {
        let inner = &*self.inner;
        {
            let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let renewal = Renewal { old: inner.lives.actor(), after, new: Actor((inner.random)()?) };
            let snapshot = inner.engine.snapshot()?;
            let mut batch = Batch::new();
            put_life(renewal.new, &mut batch);
            renewal::begin(renewal, &mut batch);
            forget_openings(&*snapshot, &mut batch)?;
            drop(snapshot);
            if let Err(error) = inner.engine.commit(&mut batch, Durability::Synced) {
                writer.failed = true;
                return Err(error.into());
            }
            inner.lives.renewals().under_way = Some(renewal);
            inner.lives.actor.store(renewal.new.0, Ordering::Release);
            inner.lives.introduced.store(false, Ordering::Release);
        }
        self.finish_renewal()
    }
}

/// Who a store is, by what is remembered of it.
#[cfg(feature = "node")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquaintance {
    /// The life that was met, or one that is met for the first time.
    Known,
    /// Perhaps another life than the one that was met in this opening.
    Doubtful(Sighting),
    /// It writes as this store does: a copy of it.
    Oneself,
}

/// Says of each row of lives whether it is sound.
pub(super) fn verify(snapshot: &dyn Snapshot, wrong: &mut dyn FnMut(String)) -> Result<(), StoreError> {
    let (start, end) = rows::openings();
    for row in snapshot.scan(&start, &end)? {
        rows::read_opening(&row?.1).map_or_else(|error| wrong(error.to_string()), drop);
    }
    let (start, end) = rows::all_met();
    for row in snapshot.scan(&start, &end)? {
        rows::read_met(&row?.1).map_or_else(|error| wrong(error.to_string()), drop);
    }
    Ok(())
}
