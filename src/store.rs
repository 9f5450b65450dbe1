//! Where records live: the contract between a session and a store, and the stores that keep it.
//! What is asked when, and what follows from the answers, is left to the session.
//!
//! # The contract
//!
//! A store keeps the records of one dataset and, for each collection, the tree over them ([`crate::core::tree`]).
//!
//! - **One commit.** Records, tree, counts and the commit number change together or not at all. The commit number
//!   rises with each commit that changes something and never falls.
//! - **One picture an answer.** All answers of one call come from one snapshot, which ends with the call. Between
//!   two calls anything may have changed; therefore answers carry what they answer for (range, digest, commit).
//! - **Reads follow the question.** [`Side::items`] and [`Side::read`] by entries touch those records only; a
//!   [`Side::view`] touches the nodes it shows, and entries only where it shows or digests a leaf.
//! - **Guarded writes.** [`Side::apply`] writes a record only as its guard allows, and accounts for each:
//!   `applied + kept + moved + refused` is the size of the batch, however large, and what readers lose by it is counted
//!   ([`Applied::losses`]): brakes have nothing else to go by. A record from beyond the clock's bound is refused
//!   with a reason, the clock does not follow it, and a store of our own keeps it in quarantine.
//! - **Acknowledged means synced**, where the caller asks for [`Durability::Synced`]; otherwise [`Side::sync`]
//!   makes it so.
//! - **Nothing from outside panics.** What cannot be stored is refused by name and bound.
//!
//! Whoever implements [`Side`] runs the suite [`store_contract`](crate::testing::store_contract).

use std::sync::Arc;

use reknit_core::brakes::{Brakes, Losses};
use reknit_core::collect::Horizon;
pub use reknit_core::collect::{Base, CaughtUp, Missed, Stands};
use reknit_core::journal::{RunHeader, RunId};
use reknit_core::life::Sighting;
use reknit_core::query::{Applied, Ask, Cut, Incoming, Item, Overwrite, Page, Raising, Recognition, Selection, View};
use reknit_core::receipt::Receipt;
use reknit_core::sketch::Sketch;
use reknit_core::{Actor, CollectionId, Definition, Keys, Millis, Position, Range, Stamp, Summary};

#[doc(hidden)]
pub mod answer;
#[doc(hidden)]
pub mod contract;
mod embedded;
pub mod engine;
mod error;
pub mod linked;

#[cfg(feature = "node")]
pub(crate) use embedded::Acquaintance;
pub use embedded::{
    ChangedAfter, ChangedRecord, Collection, Conflict, Cursor, Did, Earlier, Event, GivesWay, ImportError,
    ImportProgress, Imported, JournalLimits, KeepHistory, Lagged, LookOut, Op, Options, Origin, Part, Quarantined,
    Reads, Release, Released, Report, Resolution, Resolved, Scan, ScanPositions, Skipped, Stats, Store, Undo, Undone,
    Watcher, Why,
};
pub use engine::{Durability, EngineError, EngineKind};
pub use error::{Left, StoreError};

/// A page of items without content, and where to go on.
pub type Listed = (Vec<Item>, Option<(Position, Vec<u8>)>);

/// Who a side is.
#[derive(Clone, Debug)]
pub struct SideInfo {
    /// The dataset that it holds.
    pub definition: Arc<Definition>,
    /// The dataset's keys.
    pub keys: Arc<Keys>,
    /// This life of this store.
    pub actor: Actor,
    /// Drawn each time the store is opened, so that a peer notices when it was; the same for as long as it is open.
    pub nonce: u64,
    /// Where it lies, for people.
    pub place: String,
    /// Whether records may be written at all.
    pub writable: bool,
}

/// A side as one session is to see it.
#[cfg(feature = "node")]
pub(crate) fn for_session(side: &Arc<dyn Side>) -> Arc<dyn Side> {
    side.for_session().unwrap_or_else(|| side.clone())
}

/// What a session needs of a store. Calls block; a driver keeps them off its asynchronous threads.
pub trait Side: Send + Sync {
    /// Who this side is.
    fn describe(&self) -> SideInfo;

    /// This side as one session is to see it, of a side that keeps something of each session, or is brought up to date at its
    /// beginning. It costs nothing yet; what takes time waits for the first question.
    fn for_session(&self) -> Option<Arc<dyn Side>> {
        None
    }

    /// The commit number and the root of every collection, read together.
    ///
    /// # Errors
    /// What the store met while reading.
    fn cut(&self) -> Result<Cut, StoreError>;

    /// The same, once what expires up to a time has expired, or up to its clock if there is none. A side where nothing ever
    /// expires has nothing to do.
    ///
    /// # Errors
    /// What the store met.
    fn expire(&self, upto: Option<Millis>) -> Result<Cut, StoreError> {
        let _ = upto;
        self.cut()
    }

    /// The same as by its clock, of a side that is about to be introduced to a peer: that it was opened is on record, synced, so that it
    /// knows the opening again. A side that has no lives needs none of that.
    ///
    /// # Errors
    /// What the store met.
    fn introduce(&self) -> Result<Cut, StoreError> {
        self.cut()
    }

    /// Lets out of quarantine what has come due, before records move and under the run of this side, as far as no more of it is
    /// lost than may be, where so much is lost already; without brakes all of it. What stays counts as moved. At most once a
    /// session; whoever does not ask is given all with [`Side::introduce`]. What was done is added to `released`.
    ///
    /// # Errors
    /// What the store met; what left before stays out, and is told.
    fn release_due(&self, brakes: Option<&Brakes>, lost: Losses, released: &mut Applied) -> Result<(), StoreError> {
        let _ = (brakes, lost, released);
        Ok(())
    }

    /// Remembers that a store of this actor was met in an opening, at a commit number; or gives what is remembered of it if
    /// it may be another life than that ([`reknit_core::life::meet`]), unless it was `recognised` by the last of that.
    ///
    /// # Errors
    /// What the store met.
    fn meet(&self, actor: Actor, now: Sighting, recognised: Option<Sighting>) -> Result<Vec<Sighting>, StoreError> {
        let _ = (actor, now, recognised);
        Ok(Vec::new())
    }

    /// Judges what a peer remembers of this store ([`reknit_core::life::forked`]), and whether that is `whole`. Where it is
    /// another life than the peer met, and all is known, it has begun a new one, as another actor, when this returns.
    ///
    /// # Errors
    /// What the store met; begun, it is finished when the store is opened again.
    fn recognise(&self, met: &[Sighting], whole: bool) -> Result<Recognition, StoreError> {
        let _ = (met, whole);
        Ok(Recognition::Same)
    }

    /// Up to where this side has collected tombstones, and who had passed that.
    ///
    /// # Errors
    /// What the store met.
    fn horizon(&self) -> Result<Horizon, StoreError> {
        Ok(Horizon::default())
    }

    /// Begins to look out for what sessions bring, while this side catches up with another: [`raise`](Self::raise) leaves it behind
    /// as long as that is held and something has come that is as old as what the horizon collects, since that may have been
    /// deleted there.
    fn look_out(&self) -> LookOut {
        LookOut::default()
    }

    /// Collects up to a peer's horizon, if this side has passed it, or has caught up with one that has. What is written here
    /// afterwards has greater stamps. A side that keeps no tombstones refuses.
    ///
    /// # Errors
    /// What the store met; what was not finished is finished when it is opened again.
    fn raise(&self, horizon: &Horizon, caught_up: bool) -> Result<Raising, StoreError> {
        let _ = (horizon, caught_up);
        Ok(Raising::Refused)
    }

    /// Catches up, on a side that missed a horizon: of the keys that stand otherwise here than there, goes what the other side
    /// had and has no more, by the newest of this side's receipts that it recalls; without one, it is set apart as a stray.
    ///
    /// # Errors
    /// What the store met, or [`StoreError::QuarantineFull`]; what was done before is valid, and can be done again.
    fn catch_up(&self, missed: Vec<Missed>, bases: &[Base], horizon: Stamp) -> Result<CaughtUp, StoreError> {
        let _ = (bases, horizon);
        Ok(CaughtUp { kept: missed.len() as u64, ..CaughtUp::default() })
    }

    /// Hands a receipt of a session of this side on to members that were not part of it, now and then. A side that keeps no
    /// members has nobody to tell.
    ///
    /// # Errors
    /// What the store met.
    fn forward(&self, receipt: &Receipt) -> Result<(), StoreError> {
        let _ = receipt;
        Ok(())
    }

    /// What this side has in these ranges, one view for each, in order, all from one snapshot.
    ///
    /// # Errors
    /// [`StoreError::Bound`] for more levels than [`reknit_core::bounds::LEVELS_MAX`], [`StoreError::NoCollection`],
    /// or what the store met while reading.
    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError>;

    /// What is known of the records in these ranges, in order of position and key; reads those records only. Meant for
    /// ranges of one or few positions.
    ///
    /// # Errors
    /// [`StoreError::NoCollection`], or what the store met while reading.
    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError>;

    /// The first cells that are kept of each range, in order, at most so many; a sketch without cells where none are
    /// kept. A store may keep none at all: then differences are found by comparing ranges alone.
    ///
    /// # Errors
    /// As for [`Side::items`].
    fn sketches(&self, collection: CollectionId, ranges: &[Range], cells: usize) -> Result<Vec<Sketch>, StoreError> {
        let _ = (collection, cells);
        Ok(vec![Sketch::default(); ranges.len()])
    }

    /// What each range is worth without the sorted, disjoint parts beside it, in order, all from one snapshot
    /// ([`reknit_core::tree::rest`]).
    ///
    /// # Errors
    /// As for [`Side::items`].
    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError>;

    /// The records of a range without their content, at most `limit` (at least one), after a position and key.
    ///
    /// # Errors
    /// As for [`Side::items`].
    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError>;

    /// The selected records after a position and key, in that order, until about `max_bytes` (at least one record). They come
    /// with their contents, also where they are to travel without: whoever sends them leaves those out.
    ///
    /// # Errors
    /// As for [`Side::items`].
    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError>;

    /// Writes these records as far as their guards allow, in one commit and in their order: a guard sees what was written before
    /// it. A record may come with several versions, and its key may be empty.
    ///
    /// # Errors
    /// What the store met; nothing of the batch is then written, unless it is [`StoreError::Partly`].
    fn apply(
        &self,
        collection: CollectionId,
        batch: Vec<Incoming>,
        durability: Durability,
    ) -> Result<Applied, StoreError>;

    /// Writes these under new versions of this store's, as far as what was compared still stands, in one commit and in their
    /// order. A version has seen what its key held and [`Overwrite::seen`], with what those had seen, and nothing else; its stamp
    /// is greater than theirs and the last of [`Cut::stamp`]. What is to have seen a version from beyond the clock's bound is
    /// refused, as such a record is.
    ///
    /// # Errors
    /// What the store met; nothing of the batch is then written, unless it is [`StoreError::Partly`].
    fn overwrite(
        &self,
        collection: CollectionId,
        overwrites: Vec<Overwrite>,
        durability: Durability,
    ) -> Result<Applied, StoreError>;

    /// The opaque bytes that say how a collection's rows are laid out, for whoever shows them.
    ///
    /// # Errors
    /// What the store met.
    fn layout(&self, collection: CollectionId) -> Result<Option<Vec<u8>>, StoreError> {
        let _ = collection;
        Ok(None)
    }

    /// This side as a run writes it: what is applied or overwritten through it is in the journal, in the same commit.
    /// A store that keeps no journal gives none, and is written as it is.
    ///
    /// # Errors
    /// [`StoreError::Paused`] for an opener while repairs are paused here, [`StoreError::JournalFull`].
    fn in_run(&self, header: RunHeader) -> Result<Option<Arc<dyn Side>>, StoreError> {
        let _ = header;
        Ok(None)
    }

    /// Notes how the run of this side ended, and gives its number if it changed anything.
    ///
    /// # Errors
    /// What the store met.
    fn end_run(&self, verdict: &str) -> Result<Option<RunId>, StoreError> {
        let _ = verdict;
        Ok(None)
    }

    /// Makes everything that was applied durable.
    ///
    /// # Errors
    /// What the store met.
    fn sync(&self) -> Result<(), StoreError>;
}
