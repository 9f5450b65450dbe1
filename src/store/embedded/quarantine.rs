//! Records from beyond the clock's bound: kept apart, neither applied nor dropped, until the clock has come near or someone
//! decides. What is too far ahead is the core's to say ([`reknit_core::Clock`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reknit_core::brakes::Losses;
use reknit_core::journal::{RunHeader, RunId, RunKind};
use reknit_core::query::Applied;
use reknit_core::{CollectionId, Millis, Stamp, State};

use super::collecting::parted;
use super::commit::submit;
use super::journal::Writing;
use super::lives::Renewal;
use super::rows;
use super::write::{Fate, Write};
use super::{Inner, Store, StoreError};
use crate::store::engine::{Batch, Durability, Snapshot};

/// Records that a quarantine holds.
const RECORDS_MAX: u64 = 100_000;
/// Bytes of rows that a quarantine holds.
const BYTES_MAX: u64 = 256 << 20;
/// Records that leave it in one commit.
const PAGE: usize = 256;

/// A record that is neither applied nor dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its collection.
    pub collection: CollectionId,
    /// Its key.
    pub key: Vec<u8>,
    /// When it came, by this store's clock.
    pub since: Millis,
    /// Why it is there.
    pub why: Why,
    /// What peers sent of it, or this store had.
    pub state: State,
}

impl Quarantined {
    /// Its greatest stamp.
    #[must_use]
    pub fn newest(&self) -> Stamp {
        self.state.winner().version.stamp
    }

    /// What the clock has to come near to: its greatest stamp, or when the last of it expires that has expired elsewhere.
    #[must_use]
    pub fn due(&self) -> Stamp {
        let expired = self.state.versions().iter().filter(|sibling| sibling.has_expired());
        expired.filter_map(|sibling| sibling.gone_since()).fold(self.newest(), Stamp::max)
    }
}

/// Why a record is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was stamped too far ahead of the clock.
    Ahead,
    /// This store missed that tombstones were collected, whom it caught up with had the record not or only older, and no receipt
    /// tells whether it was deleted.
    Stray,
}

/// How a record leaves quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is applied if the clock has come near enough; a stray stays.
    Due,
    /// It is applied whatever its stamp, under a run. The clock does not follow it. A stray is written anew.
    Accept,
    /// It is dropped; a peer that still has it will send it again. A stray, which nobody sends, is gone for good.
    Drop,
}

/// What left quarantine at somebody's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// How many records.
    pub left: u64,
    /// The run that can be undone, if what was accepted changed something.
    pub run: Option<RunId>,
}

/// What a quarantine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    records: u64,
    bytes: u64,
}

/// What is known of the quarantine while the store is open.
pub(super) struct Quarantine {
    held: Mutex<Held>,
}

/// What a commit adds to it, gathered while its writes are decided.
pub(super) type Gathered = BTreeMap<(CollectionId, Vec<u8>), (Why, State)>;

impl Quarantine {
    pub(super) fn open(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let mut held = Held::default();
        let (start, end) = rows::quarantined_all();
        for row in snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            held.records += 1;
            held.bytes += (row.len() + value.len()) as u64;
        }
        Ok(Self { held: Mutex::new(held) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record in, if there is room, or says why not.
    pub(super) fn take(
        &self,
        gathered: &mut Gathered,
        collection: CollectionId,
        key: &[u8],
        held: (Why, State),
    ) -> Result<(), String> {
        let there = *self.held();
        if there.records + gathered.len() as u64 >= RECORDS_MAX || there.bytes >= BYTES_MAX {
            return Err("the quarantine is full".into());
        }
        gathered.insert((collection, key.to_vec()), held);
        Ok(())
    }
}

/// Lays what was gathered into a commit, joined with what is in quarantine already. The writer's lock is held.
pub(super) fn stage(
    store: &Inner,
    snapshot: &dyn Snapshot,
    gathered: Gathered,
    now: Millis,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    for ((collection, key), (why, state)) in gathered {
        let row = rows::quarantined(collection, &key);
        let before = snapshot.get(&row)?;
        let (since, state) = match before.as_deref().map(|value| rows::read_quarantined(&row, value)).transpose()? {
            Some(held) => (held.since, held.state.join(&state, store.definition.keeps(collection), &store.keys)),
            None => (now, state),
        };
        let value = rows::put_quarantined(&row, &key, (since, why), &state);
        let mut held = store.quarantine.held();
        held.records += u64::from(before.is_none());
        held.bytes += value.len() as u64;
        held.bytes -= before.map_or(0, |value| value.len() as u64);
        drop(held);
        batch.put(&row, &value);
    }
    Ok(())
}

/// What leaves quarantine, and what becomes of its row then.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    /// Why it was there.
    pub(super) why: Why,
    /// What leaves; none where all of it stays, as a stray.
    pub(super) state: Option<State>,
    row: Vec<u8>,
    bytes: u64,
    /// What stays of it.
    stays: Option<Vec<u8>>,
}

impl Leaving {
    /// Lays into a commit that it leaves. The writer's lock is held.
    pub(super) fn stage(&self, store: &Inner, batch: &mut Batch) {
        let mut held = store.quarantine.held();
        let left = self.stays.as_ref().map_or(0, |stays| stays.len() as u64);
        held.bytes = held.bytes.saturating_sub(self.bytes) + left;
        held.records = held.records.saturating_sub(u64::from(self.stays.is_none()));
        drop(held);
        match &self.stays {
            Some(stays) => batch.put(&self.row, stays),
            None => batch.delete(&self.row),
        }
    }
}

/// Looks up what the releases among some writes mean. The writer's lock is held.
pub(super) fn look_up(
    store: &Inner,
    snapshot: &dyn Snapshot,
    now: Millis,
    writes: &mut [Write],
) -> Result<(), StoreError> {
    for write in writes {
        let Write::Release { collection, key, how, leaving, .. } = write else { continue };
        let row = rows::quarantined(*collection, key);
        let Some(value) = snapshot.get(&row)? else { continue };
        let mut held = rows::read_quarantined(&row, &value)?;
        if let Some(renewed) = store.lives.renewal().and_then(|renewal| renewed(&held, renewal)) {
            held.state = renewed;
        }
        let near = held.due().millis() <= now.saturating_add(store.clock_bound);
        if *how == Release::Due && (!near || held.why == Why::Stray) {
            continue;
        }
        let (why, bytes) = (held.why, value.len() as u64);
        let horizon = store.collecting.stamp();
        if *how == Release::Due
            && let (Some(old), later) = parted(&held.state, |sibling| sibling.version.stamp <= horizon)
        {
            // Whatever deleted those may have been collected since.
            let stays = Some(rows::put_quarantined(&row, key, (held.since, Why::Stray), &old));
            *leaving = Some(Leaving { why, state: later, row, bytes, stays });
            continue;
        }
        *leaving = Some(Leaving { why, state: Some(held.state), row, bytes, stays: None });
    }
    Ok(())
}

/// What was written here and set apart, under a new life; none where that changes nothing. What peers sent is as they have it.
fn renewed(held: &Quarantined, renewal: Renewal) -> Option<State> {
    if held.why == Why::Stray { renewal.of(&held.state) } else { None }
}

/// Gives to a new life what the old one wrote of what is set apart.
pub(super) fn renew(store: &Inner, renewal: Renewal) -> Result<(), StoreError> {
    let (mut start, end) = rows::quarantined_all();
    loop {
        let mut writer = store.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = store.engine.snapshot()?;
        let (mut seen, mut batch) = (0, Batch::new());
        for found in snapshot.scan(&start, &end)?.take(PAGE) {
            let (row, value) = found?;
            let held = rows::read_quarantined(&row, &value)?;
            seen += 1;
            if let Some(state) = renewed(&held, renewal) {
                let value_now = rows::put_quarantined(&row, &held.key, (held.since, held.why), &state);
                let mut bytes = store.quarantine.held();
                bytes.bytes = bytes.bytes.saturating_sub(value.len() as u64) + value_now.len() as u64;
                drop(bytes);
                batch.put(&row, &value_now);
            }
            start = rows::after(row);
        }
        drop(snapshot);
        if let Err(error) = store.engine.commit(&mut batch, Durability::Buffered) {
            writer.failed = true;
            return Err(error.into());
        }
        if seen < PAGE {
            return Ok(());
        }
    }
}

impl Store {
    /// Records in quarantine.
    #[must_use]
    pub fn quarantined_count(&self) -> u64 {
        self.inner.quarantine.held().records
    }

    /// What is in quarantine, by collection and key, at most `limit` after one.
    ///
    /// # Errors
    /// What the engine met, or [`StoreError::Damaged`].
    pub fn quarantined(
        &self,
        after: Option<(CollectionId, &[u8])>,
        limit: usize,
    ) -> Result<Vec<Quarantined>, StoreError> {
        let (mut start, end) = rows::quarantined_all();
        if let Some((collection, key)) = after {
            start = rows::after(rows::quarantined(collection, key));
        }
        let snapshot = self.inner.engine.snapshot()?;
        let mut found = Vec::new();
        for row in snapshot.scan(&start, &end)?.take(limit) {
            let (row, value) = row?;
            found.push(rows::read_quarantined(&row, &value)?);
        }
        Ok(found)
    }

    /// Lets one record out of quarantine; synced. Applied, it joins what is there.
    ///
    /// # Errors
    /// What the engine met, or of what is accepted [`StoreError::JournalFull`]; nothing has then changed.
    pub fn release(&self, collection: CollectionId, key: &[u8], how: Release) -> Result<Released, StoreError> {
        let run = accepting(how);
        if let Some(run) = &run {
            self.inner.journal.has_room(run)?;
        }
        let (key, run_of) = (key.to_vec(), run.clone());
        let write = Write::Release { collection, key, how, leaving: None, room: None, run: run_of };
        let done = submit(&self.inner, vec![write], Durability::Synced)?;
        Ok(Released { left: u64::from(done.fates != [Fate::Moved]), run: self.accepted(run.as_ref())? })
    }

    /// Lets all out of quarantine of which that may be said, or all of a collection, some at a time.
    ///
    /// # Errors
    /// As for [`Store::release`]; those that left before stay out.
    pub fn release_all(&self, how: Release, of: Option<CollectionId>) -> Result<Released, StoreError> {
        let run = accepting(how);
        let mut left = Applied::default();
        let done = self.release_in((how, of), run.as_ref(), None, &mut left);
        let run = self.accepted(run.as_ref())?;
        done.map(|()| Released { left: left.applied + left.kept, run })
    }

    /// Notes that what was accepted is written.
    fn accepted(&self, run: Option<&Arc<Writing>>) -> Result<Option<RunId>, StoreError> {
        run.map_or(Ok(None), |run| self.end_writing(run, RunKind::Accepted.name()))
    }

    /// Lets out all of which that may be said, as far as there is room for what readers lose; of more, what would lose them
    /// something stays, and counts as moved. What an error leaves done is told too.
    pub(super) fn release_in(
        &self,
        (how, of): (Release, Option<CollectionId>),
        run: Option<&Arc<Writing>>,
        mut room: Option<Losses>,
        all: &mut Applied,
    ) -> Result<(), StoreError> {
        let mut after: Option<(CollectionId, Vec<u8>)> = None;
        while self.quarantined_count() > 0 {
            let page = self.quarantined(after.as_ref().map(|(collection, key)| (*collection, key.as_slice())), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some((last.collection, last.key.clone()));
            let release = |held: Quarantined| Write::Release {
                collection: held.collection,
                key: held.key,
                how,
                leaving: None,
                room,
                run: run.cloned(),
            };
            let wanted = page.into_iter().filter(|held| of.is_none_or(|of| of == held.collection));
            let writes: Vec<Write> = wanted.map(release).collect();
            if writes.is_empty() {
                continue;
            }
            if let Some(run) = run.filter(|_| how == Release::Accept) {
                self.inner.journal.has_room(run)?;
            }
            let done = submit(&self.inner, writes, Durability::Synced)?;
            let count = |is: fn(&Fate) -> bool| done.fates.iter().filter(|fate| is(fate)).count() as u64;
            all.applied += done.changed();
            all.kept += count(|fate| *fate == Fate::Kept);
            all.moved += count(|fate| matches!(fate, Fate::Refused(_)));
            all.losses = all.losses.and(done.losses);
            room = room.map(|room| room.without(done.losses));
        }
        Ok(())
    }
}

/// The run under which is kept what accepting replaces; whatever else somebody decides replaces nothing.
fn accepting(how: Release) -> Option<Arc<Writing>> {
    let policy = "what had been set apart is applied".into();
    let header = RunHeader { kind: RunKind::Accepted, peer: String::new(), opener: true, policy, started: 0 };
    (how == Release::Accept).then(|| Writing::new(header))
}

/// Says of each row of the quarantine whether it is sound.
pub(super) fn verify(store: &Inner, snapshot: &dyn Snapshot, wrong: &mut dyn FnMut(String)) -> Result<(), StoreError> {
    let (start, end) = rows::quarantined_all();
    for row in snapshot.scan(&start, &end)? {
        let (row, value) = row?;
        match rows::read_quarantined(&row, &value) {
            Ok(held) if store.check(held.collection).is_err() => {
                wrong(format!("a record in quarantine is of collection number {}", held.collection.0));
            }
            Ok(_) => {}
            Err(error) => wrong(error.to_string()),
        }
    }
    Ok(())
}
