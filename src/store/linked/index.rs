//! The index of a table, and the table with it as a side of a session. How rows are looked up and written is said in
//! [`super::looking`] and [`super::changing`].

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::journal::{RunHeader, RunId};
use reknit_core::query::{Applied, Ask, Cut, Incoming, Item, Overwrite, Page, Selection, View};
use reknit_core::row::{RowError, Value};
use reknit_core::sketch::Sketch;
use reknit_core::{
    Actor, CollectionId, Content, DatasetKey, Definition, Keys, Millis, Position, Range, Record, Sibling, Stamp, State,
    Summary, Version,
};

use super::kept::KeptScan;
use super::looking::{Ahead, Suspects};
use super::parked::Parked;
use super::shape::Fit;
use super::{Besides, Cautions, Manner, Pace, Scanned, Shape, Table};
use crate::clock::millis;
use crate::store::embedded::{Keeping, RENEWED, SortedUpto, Writing, renew};
use crate::store::{
    Durability, EngineKind, ImportProgress, Imported, Listed, Options, Side, SideInfo, Store, StoreError,
};

/// The name of the fact that says how much of the table the shape had.
const FIT: &str = "fit";
/// The fact that says how many rows it had, and how many milliseconds they took, when it was read whole last.
const SCANNED: &str = "scanned";
/// How long a replica may take to come as far as its primary was, and how often it is looked at.
const REPLICA_WAIT: Duration = Duration::from_secs(30);
const REPLICA_LOOK: Duration = Duration::from_millis(100);
/// The one collection of a table.
pub(super) const FIRST: CollectionId = CollectionId(0);
/// So many bytes of rows are taken to belong to a byte of their digests and keys, when a part of them is read.
const ROW_BYTES_PER_BYTE: usize = 8;

/// A table of a database with its index. Cloning gives another handle.
#[derive(Clone)]
pub struct Linked {
    pub(super) table: Arc<dyn Table>,
    pub(super) shape: Arc<Shape>,
    /// How much of the table the shape had when the index was made.
    pub(super) fit: Fit,
    /// The index's name, by which what belongs to it in the database is known.
    pub(super) name: Arc<str>,
    pub(super) index: Store,
    /// Those of whole records.
    pub(super) keys: Arc<Keys>,
    /// How it is read whole, and where, if not in its own place.
    pub(super) pace: Arc<Pace>,
    replica: Option<Arc<dyn Table>>,
    /// The run under which it is written, if it is.
    pub(super) run: Option<Arc<Writing>>,
    /// The one under which all of its sessions write, once the first of them has begun it.
    one_run: Option<Arc<OnceLock<Arc<Writing>>>>,
    pub(super) manner: Manner,
    /// Rows that wait for others.
    pub(super) parked: Arc<Mutex<Parked>>,
    /// What was done to the database besides rows that were written.
    pub(super) besides: Arc<Mutex<Besides>>,
    pub(super) suspects: Suspects,
    pub(super) ahead: Ahead,
    /// Held from a look at rows until the index has followed.
    busy: Arc<Mutex<()>>,
}

impl Linked {
    /// The table with its index in `dir`, which is made if there is none. It holds what the table held when it was last read:
    /// see [`Linked::refresh`].
    ///
    /// # Errors
    /// What the index met, or [`StoreError::Definition`].
    pub fn open(
        dir: &Path,
        table: Box<dyn Table>,
        shape: Shape,
        (definition, key): (Definition, DatasetKey),
        options: &Options,
    ) -> Result<Linked, StoreError> {
        let options = Linked::options(options);
        let keys = Arc::new(Keys::new(&key));
        let opened = renew(dir, &options).and_then(|()| Store::open(dir, &options));
        let index = match opened {
            Err(StoreError::NotAStore { .. }) => Store::create(dir, definition, key, &options),
            opened => opened,
        }?;
        if index.first().layout()?.is_none() {
            let Fit { whole, keyed } = shape.fit(table.columns());
            index.set_fact(FIT, Some(vec![whole.into(), keyed.into()]))?;
        }
        let layout = Some(shape.to_named_bytes());
        if index.first().layout()? != layout {
            index.first().set_layout(layout)?;
        }
        Linked::over(dir, index, table, shape, keys)
    }

    /// The table with the index that it has in `dir`, whatever shape and key that was made for.
    ///
    /// # Errors
    /// What the index met.
    pub fn reopen(dir: &Path, table: Box<dyn Table>, options: &Options) -> Result<Linked, StoreError> {
        let options = Linked::options(options);
        renew(dir, &options)?;
        let index = Store::open(dir, &options)?;
        let shape = Shape::from_bytes(&index.first().layout()?.unwrap_or_default());
        let shape = shape.map_err(|error| StoreError::damaged(format!("the shape of an index: {error}")))?;
        let keys = Arc::new(Keys::new(index.dataset_key()));
        Linked::over(dir, index, table, shape, keys)
    }

    fn options(options: &Options) -> Options {
        Options { bare: true, engine: EngineKind::Packed, ..options.clone() }
    }

    fn over(
        dir: &Path,
        index: Store,
        table: Box<dyn Table>,
        shape: Shape,
        keys: Arc<Keys>,
    ) -> Result<Linked, StoreError> {
        let (table, shape) = (Arc::from(table), Arc::new(shape));
        let name = Linked::name_in(dir).into();
        let fit = match index.fact(FIT)?.as_deref() {
            Some([whole, keyed]) => Fit { whole: *whole == 1, keyed: *keyed == 1 },
            _ => Fit::default(),
        };
        let (run, suspects, ahead, busy) = (None, Suspects::default(), Ahead::default(), Arc::default());
        let (pace, replica, one_run) = (Arc::default(), None, None);
        let (manner, parked, besides) = (Manner::default(), Arc::default(), Arc::default());
        Ok(Linked {
            table,
            shape,
            fit,
            name,
            index,
            keys,
            pace,
            replica,
            run,
            one_run,
            manner,
            parked,
            besides,
            suspects,
            ahead,
            busy,
        })
    }

    /// The same, written in this manner.
    #[must_use]
    pub fn in_manner(self, manner: Manner) -> Linked {
        Linked { manner, ..self }
    }

    /// The same, written under one run by all sessions of it and of its clones, so that what they do is undone as one.
    #[must_use]
    pub fn in_one_run(self) -> Linked {
        Linked { one_run: Some(Arc::default()), ..self }
    }

    /// The name of an index that lies in a directory.
    #[must_use]
    pub fn name_in(dir: &Path) -> String {
        dir.file_name().unwrap_or_default().to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect()
    }

    /// The same table and index for a session of its own: nothing is in question yet, waits for others or was done.
    #[must_use]
    pub fn anew(&self) -> Linked {
        let (suspects, ahead, parked, besides) = Default::default();
        Linked { run: None, suspects, ahead, parked, besides, ..self.clone() }
    }

    /// Whether a row is found by its key without others being read, and what the index knows of all others is of some worth.
    ///
    /// # Errors
    /// What the index met.
    pub fn finds_by_key(&self) -> Result<bool, StoreError> {
        let direct = self.table.stores_keys_one_way(&self.shape) && !self.shape.rounds_keys();
        Ok(direct && self.last_scan()?.is_some() && !self.is_renewed()? && self.outgrown()?.is_none())
    }

    /// Lets two sides of a session know what differs: each looks up in its table what either has found.
    #[must_use]
    pub fn paired(self, other: &Linked) -> Linked {
        Linked { suspects: other.suspects.clone(), ..self }
    }

    /// Lets it be read whole at this pace, and there, if it is to be read elsewhere than where it is.
    #[must_use]
    pub fn paced(self, pace: Pace, replica: Option<Box<dyn Table>>) -> Linked {
        Linked { pace: Arc::new(pace), replica: replica.map(Arc::from), ..self }
    }

    /// Reads the table, and makes the index tell what it holds: what has changed, came and went since. Reads each row once,
    /// sorts digests on disk where memory does not suffice, and writes nothing but the index.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Duplicate`] for rows whose keys mean the same, or what the index met.
    pub fn refresh(&self, progress: &mut dyn FnMut(ImportProgress)) -> Result<Imported, StoreError> {
        self.read_whole(None, progress).map(|(read, _)| read)
    }

    /// As [`Linked::refresh`]; says whether that was by slices, so that rows are of different times. Where a feed tells of all
    /// that changes from before it began, another may go on with it if it ends early.
    pub(super) fn read_whole(
        &self,
        kept: Option<KeptScan>,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<(Imported, bool), StoreError> {
        let _alone = self.alone();
        let began = Instant::now();
        let table = self.replica.as_ref().unwrap_or(&self.table);
        if self.replica.is_some() {
            self.await_replica(&**table)?;
        }
        let after = kept.as_ref().filter(|kept| kept.sorted.read > 0).map(|kept| kept.sorted.upto.clone());
        let (pages, sliced) = table.scan_paced(&self.shape, &self.pace, after.as_deref())?;
        let dir = self.kept_dir();
        let mut note = |sorted: &SortedUpto| self.keep_scan(kept.as_ref(), sorted);
        let keeping = kept.as_ref().filter(|_| sliced).map(|kept| (dir.as_path(), kept.sorted.clone()));
        let keeping = keeping.map(|(dir, sorted)| Keeping { dir, sorted, note: &mut note });
        let read = std::thread::scope(|scope| {
            let rows = self.digested(scope, pages);
            self.index.first().import_exactly(rows, keeping, progress)
        })?;
        self.note_encoding()?;
        let took = millis(began.elapsed());
        if self.is_renewed()? {
            self.index.set_fact(RENEWED, None)?;
        }
        self.index.set_fact(SCANNED, Some([read.records.to_be_bytes(), took.to_be_bytes()].concat()))?;
        Ok((read, sliced))
    }

    /// Waits until a replica has come as far as the table's own place is now.
    fn await_replica(&self, replica: &dyn Table) -> Result<(), StoreError> {
        let (own, until) = (self.table.standing()?, Instant::now() + REPLICA_WAIT);
        loop {
            let there = replica.standing()?;
            if there.identity != own.identity {
                let message = format!("it is no replica of {}: {} there", replica.place(), there.identity);
                return Err(StoreError::database(self.table.place(), message));
            }
            if there.at >= own.at {
                return Ok(());
            }
            if Instant::now() > until {
                let message = format!(
                    "after {} s it is still {} bytes behind {}, so what is read there would be older than what is asked for; \
                     nothing was read; leave out --scan-from, or look at its replication",
                    REPLICA_WAIT.as_secs(),
                    own.at - there.at,
                    self.table.place()
                );
                return Err(StoreError::database(replica.place(), message));
            }
            std::thread::sleep(REPLICA_LOOK);
        }
    }

    /// Whether its index was of an older release, and its table was not read since.
    pub(super) fn is_renewed(&self) -> Result<bool, StoreError> {
        Ok(self.index.fact(RENEWED)?.is_some())
    }

    /// When it was read whole last, how many rows that were, and how long it took.
    ///
    /// # Errors
    /// What the index met.
    pub fn last_scan(&self) -> Result<Option<Scanned>, StoreError> {
        let fact = self.index.fact(SCANNED)?;
        let numbers = fact.as_deref().and_then(|bytes| bytes.split_first_chunk::<8>());
        Ok(numbers.and_then(|(rows, took)| {
            let took = u64::from_be_bytes(took.try_into().ok()?);
            Some(Scanned { rows: u64::from_be_bytes(*rows), time: Duration::from_millis(took) })
        }))
    }

    /// How many rows it had when it was last read.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.index.cut().roots.iter().map(|root| root.count).sum()
    }

    /// What is compared of it.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The index: its runs, and what they replaced.
    #[must_use]
    pub fn index(&self) -> &Store {
        &self.index
    }

    /// Its name, by which what belongs to it in the database is known.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &dyn Table {
        &*self.table
    }

    /// What is to be known before the table is written.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn cautions(&self) -> Result<Cautions, StoreError> {
        self.table.cautions()
    }

    /// Nobody else looks at rows, or writes them, until this is dropped.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Key and row of the values of a row.
    pub(super) fn record(&self, values: Vec<Value>) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        self.shape.record(values).map_err(|error| self.unlike(&error))
    }

    /// That a row is none that can be compared.
    pub(super) fn unlike(&self, error: &RowError) -> StoreError {
        StoreError::database(self.table.place(), format!("a row cannot be compared: {error}"))
    }

    /// Where a key lies.
    pub(super) fn position(&self, key: &[u8]) -> Position {
        let definition = self.index.definition();
        self.keys.position(&definition.collections[usize::from(FIRST.0)].name, key)
    }

    /// What the index keeps of a row.
    pub(super) fn digest(&self, row: &[u8]) -> Vec<u8> {
        self.keys.content(&self.shape.counting(row)).0.to_vec()
    }

    /// The entry of a row, by [`reknit_core::Digest::short`].
    #[must_use]
    pub fn entry(&self, key: &[u8], row: &[u8]) -> u64 {
        // Of bare content the version is no part.
        let version = Version::after(Stamp(0), Actor(0), []);
        let sibling = Sibling { version, content: Content::Live(self.shape.counting(row).into_owned()), expires: None };
        let record = Record { key: key.to_vec(), state: State::single(sibling) };
        let definition = self.index.definition();
        let name = &definition.collections[usize::from(FIRST.0)].name;
        self.keys.entry(definition.profile, name, &record).map_or(0, |digest| digest.short())
    }
}

impl Side for Linked {
    fn describe(&self) -> SideInfo {
        let info = self.index.describe();
        SideInfo { keys: Arc::clone(&self.keys), place: self.table.place().into(), ..info }
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        self.look_again()?;
        Side::cut(&self.index)
    }

    fn expire(&self, upto: Option<Millis>) -> Result<Cut, StoreError> {
        Side::expire(&self.index, upto)
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        self.index.view(collection, asks)
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        self.look_within(ranges)?;
        let items = self.index.items(collection, ranges)?;
        self.suspects.add(&items);
        Ok(items)
    }

    fn sketches(&self, collection: CollectionId, ranges: &[Range], cells: usize) -> Result<Vec<Sketch>, StoreError> {
        self.index.sketches(collection, ranges, cells)
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        self.index.rests(collection, ranges)
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        let listed = self.index.list(collection, range, after, limit)?;
        self.suspects.add(&listed.0);
        Ok(listed)
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        // What was undone here is not offered while repairs are paused.
        if let (Some(_), Some(run)) = (&self.run, self.index.paused()) {
            return Err(StoreError::Paused { run: run.0, place: None });
        }
        self.filled(self.index.read(collection, what, after, max_bytes / ROW_BYTES_PER_BYTE)?)
    }

    fn apply(&self, _: CollectionId, batch: Vec<Incoming>, _: Durability) -> Result<Applied, StoreError> {
        self.index.admit_run()?;
        self.write_records(batch)
    }

    fn overwrite(&self, _: CollectionId, overwrites: Vec<Overwrite>, _: Durability) -> Result<Applied, StoreError> {
        self.index.admit_run()?;
        self.write_over(overwrites)
    }

    fn in_run(&self, header: RunHeader) -> Result<Option<Arc<dyn Side>>, StoreError> {
        let begun = self.index.begin_run(header)?;
        let run = self.one_run.as_ref().map_or_else(|| begun.clone(), |one| one.get_or_init(|| begun.clone()).clone());
        Ok(Some(Arc::new(Linked { run: Some(run), ..self.clone() })))
    }

    fn end_run(&self, verdict: &str) -> Result<Option<RunId>, StoreError> {
        self.run.as_ref().map_or(Ok(None), |run| self.index.close_run(run, verdict))
    }

    fn sync(&self) -> Result<(), StoreError> {
        Side::sync(&self.index)
    }
}
