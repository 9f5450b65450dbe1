//! A store as a session sees it that writes under a run: what it overwrites goes to the journal in the same commit.
//! All else is the store's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reknit_core::brakes::{Brakes, Losses};
use reknit_core::collect::Horizon;
use reknit_core::journal::RunId;
use reknit_core::life::Sighting;
use reknit_core::query::{Applied, Ask, Cut, Incoming, Item, Overwrite, Page, Raising, Recognition, Selection, View};
use reknit_core::receipt::Receipt;
use reknit_core::sketch::Sketch;
use reknit_core::{Actor, CollectionId, Millis, Position, Range, Stamp, Summary};

use super::Writing;
use crate::store::embedded::Store;
use crate::store::embedded::quarantine::Release;
use crate::store::{Base, CaughtUp, Durability, Listed, LookOut, Missed, Side, SideInfo, StoreError};

/// A store that is written under a run.
pub(in crate::store::embedded) struct InRun {
    pub(in crate::store::embedded) store: Store,
    pub(in crate::store::embedded) writing: Arc<Writing>,
    /// Whether what is due has left quarantine.
    released: AtomicBool,
}

impl InRun {
    pub(in crate::store::embedded) fn new(store: Store, writing: Arc<Writing>) -> InRun {
        InRun { store, writing, released: AtomicBool::new(false) }
    }
}

impl Side for InRun {
    fn describe(&self) -> SideInfo {
        self.store.describe()
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        Side::cut(&self.store)
    }

    fn expire(&self, upto: Option<Millis>) -> Result<Cut, StoreError> {
        Side::expire(&self.store, upto)
    }

    fn introduce(&self) -> Result<Cut, StoreError> {
        self.release_due(None, Losses::default(), &mut Applied::default())?;
        let cut = Side::introduce(&self.store)?;
        self.writing.begin(cut.horizon);
        Ok(cut)
    }

    fn release_due(&self, brakes: Option<&Brakes>, lost: Losses, released: &mut Applied) -> Result<(), StoreError> {
        if self.released.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        // Records are to move: what is due leaves quarantine first, and can be undone like what the run brings; not so what
        // would have expired here anyway.
        let cut = self.store.expire_until(None)?;
        let records = cut.roots.iter().map(|root| root.count).sum();
        let room = brakes.map(|brakes| Losses::allowed(brakes, records).without(lost));
        self.store.release_in((Release::Due, None), Some(&self.writing), room, released)
    }

    fn meet(&self, actor: Actor, now: Sighting, recognised: Option<Sighting>) -> Result<Vec<Sighting>, StoreError> {
        Side::meet(&self.store, actor, now, recognised)
    }

    fn recognise(&self, met: &[Sighting], whole: bool) -> Result<Recognition, StoreError> {
        Side::recognise(&self.store, met, whole)
    }

    fn horizon(&self) -> Result<Horizon, StoreError> {
        Side::horizon(&self.store)
    }

    fn look_out(&self) -> LookOut {
        Side::look_out(&self.store)
    }

    fn raise(&self, horizon: &Horizon, caught_up: bool) -> Result<Raising, StoreError> {
        Side::raise(&self.store, horizon, caught_up)
    }

    fn catch_up(&self, missed: Vec<Missed>, bases: &[Base], horizon: Stamp) -> Result<CaughtUp, StoreError> {
        self.store.inner.journal.admits_more(&self.writing)?;
        self.store.catch_up_in(missed, bases, horizon, &self.writing)
    }

    fn forward(&self, receipt: &Receipt) -> Result<(), StoreError> {
        Side::forward(&self.store, receipt)
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        self.store.view(collection, asks)
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        self.store.items(collection, ranges)
    }

    fn sketches(&self, collection: CollectionId, ranges: &[Range], cells: usize) -> Result<Vec<Sketch>, StoreError> {
        Side::sketches(&self.store, collection, ranges, cells)
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        self.store.rests(collection, ranges)
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        self.store.list(collection, range, after, limit)
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        // Only a repair moves records: what was undone here is not offered while repairs are paused.
        if let Some(run) = self.store.paused() {
            return Err(StoreError::Paused { run: run.0, place: None });
        }
        self.store.read(collection, what, after, max_bytes)
    }

    fn apply(
        &self,
        collection: CollectionId,
        batch: Vec<Incoming>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        self.store.inner.journal.admits_more(&self.writing)?;
        if self.writing.is_overtaken(self.store.cut().horizon) {
            return Err(StoreError::Overtaken);
        }
        self.store.apply_in(collection, batch, durability, Some(&self.writing))
    }

    fn overwrite(
        &self,
        collection: CollectionId,
        overwrites: Vec<Overwrite>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        self.store.inner.journal.admits_more(&self.writing)?;
        self.store.overwrite_in(collection, overwrites, durability, Some(&self.writing))
    }

    fn layout(&self, collection: CollectionId) -> Result<Option<Vec<u8>>, StoreError> {
        Side::layout(&self.store, collection)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Side::sync(&self.store)
    }

    fn end_run(&self, verdict: &str) -> Result<Option<RunId>, StoreError> {
        self.store.end_writing(&self.writing, verdict)
    }
}
