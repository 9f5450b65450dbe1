//! The suite for stores notices those that break a promise: each a good store but for one thing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::policy::{KEEP_BOTH, NEWEST};
use reknit::core::query::{Applied, Ask, Cut, Guard, Incoming, Item, Overwrite, Page, Replacement, Selection, View};
use reknit::core::{Actor, CollectionId, Digest, Keeps, Position, Range, Record, Sibling, Stamp, State, Summary};
use reknit::store::contract;
use reknit::store::{Durability, EngineKind, Listed, Side, SideInfo, Store, StoreError};

use crate::support::{self, options};

/// A promise that is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Breaks {
    OverwritePanics,
    OverwriteDoesNothing,
    OverwriteIgnoresExpected,
    OverwriteForgetsWhatWasSeen,
    OverwriteWritesGarbage,
    OverwriteForgetsExpiry,
    OverwriteTakesKeepForDelete,
    OverwriteCountsNoLosses,
    ElementsIgnored,
    BareIgnored,
    BareStripped,
    LossesNotCounted,
    LossesOfDeletionsNotCounted,
    ContentDigest,
    ContentBytes,
    ItemExpiry,
    ItemCommit,
    ItemVersions,
    ExpiryDropped,
    SeveralVersionsPanic,
    OneVersionOfSeveral,
    EmptyKeyPanics,
    SecondCollectionIsTheFirst,
    SecondCollectionIsNamedAsAnother,
    LargeBatchesCut,
    LargeBatchesCutAndCounted,
    PagesWithoutEnd,
    StampOfZero,
    StampAhead,
    StampOfTheLast,
    NonceOfEachCall,
    NeverWritable,
    GuardsIgnored,
    RefusedUnnamed,
    NoSuchCollection,
}

struct Broken {
    breaks: Breaks,
    store: Store,
    calls: AtomicU64,
    last: AtomicU64,
}

impl Broken {
    fn is(&self, breaks: Breaks) -> bool {
        self.breaks == breaks
    }

    /// The collection that is written and read instead.
    fn of(&self, collection: CollectionId) -> CollectionId {
        match collection {
            CollectionId(1) if self.is(Breaks::SecondCollectionIsTheFirst) => CollectionId(0),
            CollectionId(u16::MAX) if self.is(Breaks::NoSuchCollection) => CollectionId(0),
            collection => collection,
        }
    }

    fn told(&self, mut items: Vec<Item>) -> Vec<Item> {
        for item in &mut items {
            item.commit += u64::from(self.is(Breaks::ItemCommit));
            for info in &mut item.versions {
                match self.breaks {
                    Breaks::ContentDigest => info.content = info.content.map(|_| Digest::ZERO),
                    Breaks::ContentBytes => info.bytes /= 2,
                    Breaks::ItemExpiry => info.expires = None,
                    Breaks::ItemVersions => info.version.actor = Actor(3),
                    _ => {}
                }
            }
        }
        items
    }

    /// What there is of a key, shortened.
    fn expected(&self, collection: CollectionId, key: &[u8]) -> Option<u64> {
        let info = self.store.describe();
        let name = &info.definition.collections[usize::from(collection.0)].name;
        let place = Range::of(info.keys.position(name, key), reknit::core::range::DEPTH_MAX);
        let items = self.store.items(collection, &[place]).expect("items");
        items.into_iter().find(|item| item.key == key).and_then(|item| item.digest).map(|digest| digest.short())
    }
}

fn each(record: &mut Record, change: impl Fn(&Sibling) -> Sibling) {
    let states = record.state.versions().iter().map(|sibling| State::single(change(sibling)));
    let keys = keys();
    record.state = states.reduce(|all, next| all.join(&next, Keeps::All, &keys)).expect("a version");
}

fn keys() -> reknit::core::Keys {
    reknit::core::Keys::new(&support::key())
}

impl Side for Broken {
    fn describe(&self) -> SideInfo {
        let mut info = self.store.describe();
        match self.breaks {
            Breaks::NonceOfEachCall => info.nonce += self.calls.fetch_add(1, Ordering::Relaxed),
            Breaks::NeverWritable => info.writable = false,
            // What the store calls by one name is another collection to whoever asks.
            Breaks::SecondCollectionIsNamedAsAnother => {
                let mut definition = (*info.definition).clone();
                definition.collections[1].name = "another".into();
                info.definition = Arc::new(definition);
            }
            _ => {}
        }
        info
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        let cut = Side::cut(&self.store)?;
        let stamp = match self.breaks {
            Breaks::StampOfZero => Stamp(0),
            Breaks::StampAhead => Stamp::at(support::NOW + 1),
            Breaks::StampOfTheLast => Stamp(self.last.load(Ordering::Relaxed)),
            _ => cut.stamp,
        };
        Ok(Cut { stamp, ..cut })
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        self.store.view(self.of(collection), asks)
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        self.store.items(self.of(collection), ranges).map(|items| self.told(items))
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        self.store.rests(self.of(collection), ranges)
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        self.store.list(self.of(collection), range, after, limit).map(|(items, next)| (self.told(items), next))
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        match (self.breaks, what) {
            (Breaks::ElementsIgnored, Selection::Elements(..)) | (Breaks::BareIgnored, Selection::Bare(_)) => {
                Ok(Page::default())
            }
            (Breaks::BareStripped, Selection::Bare(_)) => {
                let mut page = self.store.read(collection, what, after, max_bytes)?;
                page.records.iter_mut().for_each(|record| record.strip(&keys()));
                Ok(page)
            }
            (Breaks::PagesWithoutEnd, _) => self.store.read(self.of(collection), what, after, usize::MAX),
            _ => self.store.read(self.of(collection), what, after, max_bytes),
        }
    }

    fn apply(
        &self,
        collection: CollectionId,
        mut batch: Vec<Incoming>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        let size = batch.len();
        for incoming in &mut batch {
            let versions = incoming.record.state.versions().len();
            let newest = incoming.record.state.winner().clone();
            self.last.store(newest.version.stamp.0, Ordering::Relaxed);
            match self.breaks {
                Breaks::ExpiryDropped => each(&mut incoming.record, |s| Sibling { expires: None, ..s.clone() }),
                Breaks::SeveralVersionsPanic => assert_eq!(versions, 1, "planted"),
                Breaks::OneVersionOfSeveral => incoming.record.state = State::single(newest),
                Breaks::EmptyKeyPanics => assert!(!incoming.record.key.is_empty(), "planted"),
                Breaks::GuardsIgnored if incoming.guard != Guard::Bare => incoming.guard = Guard::Join,
                _ => {}
            }
        }
        if matches!(self.breaks, Breaks::LargeBatchesCut | Breaks::LargeBatchesCutAndCounted) {
            batch.truncate(130);
        }
        let cut = size - batch.len();
        let mut done = self.store.apply(self.of(collection), batch, durability)?;
        match self.breaks {
            Breaks::LossesNotCounted => done.losses = Default::default(),
            Breaks::LossesOfDeletionsNotCounted => done.losses.deleted = 0,
            Breaks::LargeBatchesCutAndCounted => done.applied += cut as u64,
            Breaks::RefusedUnnamed => done.refused.iter_mut().for_each(|(key, _)| key.clear()),
            _ => {}
        }
        Ok(done)
    }

    fn overwrite(
        &self,
        collection: CollectionId,
        mut overwrites: Vec<Overwrite>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        if self.is(Breaks::OverwriteDoesNothing) {
            // It says that all was written, of a collection that is there.
            self.store.items(collection, &[])?;
            let (applied, commit) = (overwrites.len() as u64, Side::cut(&self.store)?.commit);
            return Ok(Applied { applied, commit, ..Applied::default() });
        }
        let collection = self.of(collection);
        for overwrite in &mut overwrites {
            match (self.breaks, &mut overwrite.content) {
                (Breaks::OverwritePanics, _) => panic!("planted"),
                (Breaks::OverwriteIgnoresExpected, _) => {
                    overwrite.expected = self.expected(collection, &overwrite.key);
                }
                (Breaks::OverwriteForgetsWhatWasSeen, _) => overwrite.seen.clear(),
                (Breaks::OverwriteWritesGarbage, Replacement::Take(value, _)) => value.push(0),
                (Breaks::OverwriteForgetsExpiry, Replacement::Take(_, expires)) => *expires = None,
                (Breaks::OverwriteTakesKeepForDelete, content @ Replacement::Keep) => *content = Replacement::Delete,
                _ => {}
            }
        }
        let mut done = self.store.overwrite(collection, overwrites, durability)?;
        if self.is(Breaks::OverwriteCountsNoLosses) {
            done.losses = Default::default();
        }
        Ok(done)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Side::sync(&self.store)
    }
}

/// What the suite says of a store; nothing if it is content.
fn said(breaks: Breaks, policy: &str) -> Option<String> {
    let mut definition = support::definition();
    definition.collections[0].policy = policy.into();
    let mut make = || -> Arc<dyn Side> {
        let store = Store::in_memory(definition.clone(), support::key(), &options(EngineKind::Fjall)).expect("create");
        Arc::new(Broken { breaks, store, calls: AtomicU64::new(0), last: AtomicU64::new(0) })
    };
    let panic = catch_unwind(AssertUnwindSafe(|| contract::run(&mut make, 1, 12))).err()?;
    let said = panic.downcast_ref::<String>().cloned();
    Some(said.or(panic.downcast_ref::<&str>().map(|said| (*said).to_string())).unwrap_or_default())
}

#[test]
fn the_suite_notices_every_promise_that_a_store_breaks() {
    use Breaks as B;
    let should = [
        (B::OverwritePanics, "planted"),
        (B::OverwriteDoesNothing, "what became of each"),
        (B::OverwriteIgnoresExpected, "what became of each"),
        (B::OverwriteForgetsWhatWasSeen, "what became of each"),
        (B::OverwriteWritesGarbage, "holds what it was to take"),
        (B::OverwriteForgetsExpiry, "is one version of this store's"),
        (B::OverwriteTakesKeepForDelete, "is one version of this store's"),
        (B::OverwriteCountsNoLosses, "live records that were lost"),
        (B::ElementsIgnored, "Elements"),
        (B::BareIgnored, ""),
        (B::BareStripped, "Bare"),
        (B::LossesNotCounted, "live records that were lost"),
        (B::LossesOfDeletionsNotCounted, "live records that were lost"),
        (B::ContentDigest, "holds what it was to take"),
        (B::ContentBytes, "items"),
        (B::ItemExpiry, "items"),
        (B::ItemCommit, ""),
        (B::ItemVersions, "items"),
        (B::ExpiryDropped, ""),
        (B::EmptyKeyPanics, "planted"),
        (B::SecondCollectionIsTheFirst, ""),
        (B::SecondCollectionIsNamedAsAnother, ""),
        (B::LargeBatchesCut, "is accounted for"),
        (B::LargeBatchesCutAndCounted, "is accounted for"),
        (B::PagesWithoutEnd, "a page of"),
        (B::StampOfZero, "shows in the cut"),
        (B::StampAhead, "has a stamp that was given out or seen before"),
        (B::StampOfTheLast, ""),
        (B::NonceOfEachCall, "it is one side, opened once"),
        (B::NeverWritable, "may be written"),
        (B::GuardsIgnored, ""),
        (B::RefusedUnnamed, "what was refused is named"),
        (B::NoSuchCollection, "NoCollection"),
        (B::SeveralVersionsPanic, "planted"),
        (B::OneVersionOfSeveral, ""),
    ];
    let mut missed = Vec::new();
    for (breaks, says) in should {
        let policy =
            if matches!(breaks, B::SeveralVersionsPanic | B::OneVersionOfSeveral) { KEEP_BOTH } else { NEWEST };
        let said = said(breaks, policy);
        if !said.as_ref().is_some_and(|said| said.contains(says)) {
            missed.push((breaks, said));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
