//! What expires: up to when everything has, and how a session or a horizon has it expire. A version that has expired is a
//! tombstone under its old name, so that all who let it expire have the same ([`reknit_core::State::expired`]).
//!
//! The watermark only rises, and what is written below it has expired at once; readers hide what expires by the clock, too.

use std::sync::atomic::{AtomicU64, Ordering};

use reknit_core::planted::{Bug, planted};
use reknit_core::query::Cut;
use reknit_core::{Millis, Profile, State};

use super::commit::submit;
use super::rows;
use super::verify::fingerprint;
use super::write::Write;
use super::{Inner, Store, StoreError};
use crate::store::engine::{Batch, Durability, Snapshot};

/// The row of the watermark.
const WATERMARK: &str = "watermark";
/// Keys that go in one commit.
const PAGE: usize = 1_000;

/// What is known of it while the store is open.
pub(super) struct Expiring {
    watermark: AtomicU64,
}

impl Expiring {
    pub(super) fn open(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let malformed = |_| StoreError::damaged(format!("the row {WATERMARK:?} does not decode"));
        let kept = snapshot.get(&rows::meta(WATERMARK))?;
        let kept = kept.map(|value| <[u8; 8]>::try_from(value).map_err(malformed)).transpose()?;
        Ok(Self { watermark: AtomicU64::new(kept.map_or(0, u64::from_be_bytes)) })
    }

    /// Up to when everything that expires has expired.
    pub(super) fn watermark(&self) -> Millis {
        self.watermark.load(Ordering::SeqCst)
    }

    /// Notes the watermark in a commit.
    pub(super) fn put(&self, batch: &mut Batch) {
        batch.put(&rows::meta(WATERMARK), &self.watermark().to_be_bytes());
    }
}

impl Inner {
    /// Up to when readers take what expires for expired.
    pub(super) fn shown_until(&self) -> Millis {
        (self.clock)().max(self.expiring.watermark())
    }

    /// The latest time at which a record may have expired elsewhere without being taken for early here.
    pub(super) fn expires_until(&self, now: Millis) -> Millis {
        if planted(Bug::ExpiryByLocalClock) { Millis::MAX } else { now.saturating_add(self.clock_bound) }
    }

    /// What a key has once what has expired is taken from it.
    pub(super) fn without_expired(&self, state: State) -> State {
        let bare = self.definition.profile == Profile::Content;
        state.expired(self.expiring.watermark()).filter(|_| !bare).unwrap_or(state)
    }

    /// When the first version of a state expires; never where only bare content counts.
    pub(super) fn expires_first(&self, state: Option<&State>) -> Option<Millis> {
        let bare = self.definition.profile == Profile::Content;
        state.and_then(State::expires_first).filter(|_| !bare)
    }
}

impl Store {
    /// Lets expire what expires up to a time, or up to the clock if there is none, and keeps it so: the watermark never
    /// falls, and never rises beyond the clock and its bound. It stays where nothing is due, so that a store in which nothing
    /// expires has none to tell. Reads what expires, no more. Gives the cut afterwards.
    ///
    /// # Errors
    /// What the engine met; what has expired until then has.
    pub fn expire_until(&self, upto: Option<Millis>) -> Result<Cut, StoreError> {
        let inner = &*self.inner;
        let now = (inner.clock)();
        let upto = upto.unwrap_or(now).min(inner.expires_until(now));
        let versioned = inner.definition.profile == Profile::Versioned;
        if versioned && upto > inner.expiring.watermark() && self.is_due(upto)? {
            // First, so that nothing that is written meanwhile is passed over.
            inner.expiring.watermark.fetch_max(upto, Ordering::SeqCst);
            self.finish_expiring()?;
        }
        Ok(self.cut())
    }

    fn is_due(&self, upto: Millis) -> Result<bool, StoreError> {
        let (start, end) = rows::expiring_up_to(upto);
        let snapshot = self.inner.engine.snapshot()?;
        let first = snapshot.scan(&start, &end)?.next().transpose()?;
        Ok(first.is_some())
    }

    /// Lets expire what is still there from before the watermark.
    pub(super) fn finish_expiring(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let (mut start, end) = rows::expiring_up_to(inner.expiring.watermark());
        loop {
            let snapshot = inner.engine.snapshot()?;
            let mut writes = Vec::new();
            for row in snapshot.scan(&start, &end)?.take(PAGE) {
                let (row, value) = row?;
                let (collection, key) = rows::read_expiring(&row, &value)?;
                writes.push(Write::Expire { collection, key });
                start = rows::after(row);
            }
            drop(snapshot);
            if writes.is_empty() {
                return Ok(());
            }
            submit(inner, writes, Durability::Buffered)?;
        }
    }
}

/// Says whether the rows of what expires are those that the records make.
pub(super) fn verify(snapshot: &dyn Snapshot, sum: u128, wrong: &mut dyn FnMut(String)) -> Result<(), StoreError> {
    let (start, end) = rows::expiring_up_to(Millis::MAX);
    let mut found = 0_u128;
    for row in snapshot.scan(&start, &end)? {
        let (row, value) = row?;
        rows::read_expiring(&row, &value).map_or_else(|error| wrong(error.to_string()), drop);
        found = found.wrapping_add(fingerprint(&row, &value));
    }
    if found != sum {
        wrong("the list of what expires does not name just those keys that do".into());
    }
    Ok(())
}
