//! A table as a side of sessions with peers: opened while a session needs it, made to tell what it holds at the beginning of each,
//! and never written.
//!
//! What a table and its index do is said in [`super::index`]; who may ask is for the node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use reknit_core::query::{Applied, Ask, Cut, Incoming, Item, Overwrite, Page, Selection, View};
use reknit_core::sketch::Sketch;
use reknit_core::{Actor, CollectionId, Definition, Keys, Millis, Position, Range, Summary};

use super::{Linked, TableDataset};
use crate::store::{Durability, Listed, Side, SideInfo, StoreError};

/// Positions that are remembered as those where nothing was found; of more, the first ones count.
const LACKING_MAX: usize = 1_000_000;

type Open = Box<dyn Fn() -> Result<Linked, StoreError> + Send + Sync>;

/// A table that a node serves. It is opened when a session begins while none is under way, so that others get at its index in
/// between, and what has become of the table since is seen. Cloning gives another handle.
#[derive(Clone)]
pub struct ServedTable(Arc<Served>);

struct Served {
    definition: Arc<Definition>,
    keys: Arc<Keys>,
    place: String,
    layout: Option<Vec<u8>>,
    /// By which a peer knows it; an index may be made anew meanwhile.
    life: (Actor, u64),
    open: Open,
    opened: Mutex<Weak<Opened>>,
}

/// A table with its index, while sessions use it.
struct Opened {
    linked: Linked,
    /// How often it was asked to be followed.
    asked: AtomicU64,
    /// How often by the time it was followed last.
    followed: Mutex<u64>,
}

impl Opened {
    /// Makes the index tell what the table holds now. Who asks while that is begun for another takes part in that.
    fn follow(&self) -> Result<(), StoreError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut followed = locked(&self.followed);
        if *followed < number {
            let upto = self.asked.load(Ordering::SeqCst);
            self.linked.follow_table(&mut |_| {})?;
            *followed = upto;
        }
        Ok(())
    }
}

impl ServedTable {
    /// A table of this dataset, as `open` gives it with its index. `place` says where it is, `layout` how its rows are laid out,
    /// both for people; `life` is drawn when it begins to be served.
    #[must_use]
    pub fn new(
        dataset: &TableDataset,
        (place, layout): (String, Option<Vec<u8>>),
        life: (Actor, u64),
        open: impl Fn() -> Result<Linked, StoreError> + Send + Sync + 'static,
    ) -> ServedTable {
        let (definition, keys) = (Arc::new(dataset.definition().clone()), Arc::new(Keys::new(dataset.key())));
        let (open, opened): (Open, _) = (Box::new(open), Mutex::default());
        ServedTable(Arc::new(Served { definition, keys, place, layout, life, open, opened }))
    }

    fn session(&self) -> TableSession {
        TableSession {
            served: Some(self.clone()),
            info: self.describe(),
            side: Mutex::default(),
            lacking: Mutex::default(),
        }
    }

    fn opened(&self) -> Result<Arc<Opened>, StoreError> {
        let mut opened = locked(&self.0.opened);
        if let Some(opened) = opened.upgrade() {
            return Ok(opened);
        }
        let new = Arc::new(Opened::of((self.0.open)()?));
        *opened = Arc::downgrade(&new);
        Ok(new)
    }
}

impl Opened {
    fn of(linked: Linked) -> Opened {
        Opened { linked, asked: AtomicU64::new(0), followed: Mutex::default() }
    }
}

/// A table for one session with a peer.
pub struct TableSession {
    /// What it is opened by, at the first question.
    served: Option<ServedTable>,
    info: SideInfo,
    side: Mutex<Option<(Arc<Opened>, Linked)>>,
    lacking: Mutex<Lacking>,
}

/// Where the other side has a record, or so it seems since it asks, and this one has none: what has come since this table was read
/// is unknown here, so that it is read again before it is said once more that there is nothing.
#[derive(Default)]
struct Lacking {
    /// By how many readings nothing was there.
    at: BTreeMap<Position, u64>,
    readings: u64,
}

impl Lacking {
    /// Whether the table is to be read again before this is answered.
    fn asked_again(&self, ranges: &[Range]) -> bool {
        places(ranges).any(|place| self.at.get(&place) == Some(&self.readings))
    }

    fn note(&mut self, ranges: &[Range], items: &[Item]) {
        for place in places(ranges) {
            let has = items.binary_search_by(|item| item.position.cmp(&place)).is_ok();
            if has {
                self.at.remove(&place);
            } else if self.at.len() < LACKING_MAX || self.at.contains_key(&place) {
                self.at.insert(place, self.readings);
            }
        }
    }
}

/// Those of these ranges that are one position.
fn places(ranges: &[Range]) -> impl Iterator<Item = Position> {
    ranges.iter().filter(|range| range.first() == range.last()).map(|range| range.first())
}

impl TableSession {
    /// A table that was just made to tell what it holds.
    #[must_use]
    pub fn of(linked: Linked) -> TableSession {
        let info = SideInfo { writable: false, ..linked.describe() };
        let side = Mutex::new(Some((Arc::new(Opened::of(linked.clone())), linked.anew())));
        TableSession { served: None, info, side, lacking: Mutex::default() }
    }

    /// The table with its index; opened, and made to tell what it holds, when this is asked first.
    fn side(&self) -> Result<(Arc<Opened>, Linked), StoreError> {
        let mut side = locked(&self.side);
        if let (None, Some(served)) = (&*side, &self.served) {
            let opened = served.opened()?;
            opened.follow()?;
            let linked = opened.linked.anew();
            *side = Some((opened, linked));
        }
        side.clone().ok_or_else(|| self.unwritten())
    }

    fn linked(&self) -> Result<Linked, StoreError> {
        self.side().map(|(_, linked)| linked)
    }

    fn unwritten(&self) -> StoreError {
        StoreError::database(&self.info.place, "a table is compared with a peer's, and not written by its sessions")
    }
}

impl Side for TableSession {
    fn describe(&self) -> SideInfo {
        self.info.clone()
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        self.linked()?.cut()
    }

    fn expire(&self, upto: Option<Millis>) -> Result<Cut, StoreError> {
        self.linked()?.expire(upto)
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        self.linked()?.view(collection, asks)
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        let (opened, linked) = self.side()?;
        let mut lacking = locked(&self.lacking);
        // A file that stands has nothing new.
        if lacking.asked_again(ranges) && !linked.table().stands()? {
            opened.follow()?;
            lacking.readings += 1;
        }
        let items = linked.items(collection, ranges)?;
        lacking.note(ranges, &items);
        Ok(items)
    }

    fn sketches(&self, collection: CollectionId, ranges: &[Range], cells: usize) -> Result<Vec<Sketch>, StoreError> {
        self.linked()?.sketches(collection, ranges, cells)
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        self.linked()?.rests(collection, ranges)
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        self.linked()?.list(collection, range, after, limit)
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        self.linked()?.read(collection, what, after, max_bytes)
    }

    fn apply(&self, _: CollectionId, _: Vec<Incoming>, _: Durability) -> Result<Applied, StoreError> {
        Err(self.unwritten())
    }

    fn overwrite(&self, _: CollectionId, _: Vec<Overwrite>, _: Durability) -> Result<Applied, StoreError> {
        Err(self.unwritten())
    }

    fn layout(&self, _: CollectionId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.served.as_ref().and_then(|served| served.0.layout.clone()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Asked outside a session, each question is one of its own.
impl Side for ServedTable {
    fn describe(&self) -> SideInfo {
        let Served { definition, keys, place, life, .. } = &*self.0;
        let (definition, keys, place) = (definition.clone(), keys.clone(), place.clone());
        SideInfo { definition, keys, actor: life.0, nonce: life.1, place, writable: false }
    }

    fn for_session(&self) -> Option<Arc<dyn Side>> {
        Some(Arc::new(self.session()))
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        self.session().cut()
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        self.session().view(collection, asks)
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        self.session().items(collection, ranges)
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        self.session().rests(collection, ranges)
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        self.session().list(collection, range, after, limit)
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        self.session().read(collection, what, after, max_bytes)
    }

    fn apply(&self, _: CollectionId, _: Vec<Incoming>, _: Durability) -> Result<Applied, StoreError> {
        Err(self.session().unwritten())
    }

    fn overwrite(&self, _: CollectionId, _: Vec<Overwrite>, _: Durability) -> Result<Applied, StoreError> {
        Err(self.session().unwritten())
    }

    fn layout(&self, _: CollectionId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.layout.clone())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_again_once_for_all_that_is_asked_once_more() {
        let place = |nth: u64| Range::of(Position(nth), 16);
        let mut lacking = Lacking::default();
        assert!(!lacking.asked_again(&[place(1), place(2)]));
        lacking.note(&[place(1), place(2), Range::ALL], &[]);
        assert!(!lacking.asked_again(&[place(3), Range::ALL]));
        assert!(lacking.asked_again(&[place(1)]));
        lacking.readings += 1;
        lacking.note(&[place(1)], &[]);
        assert!(!lacking.asked_again(&[place(2)]), "it was read since that was asked");
        assert!(lacking.asked_again(&[place(1)]));
    }
}
