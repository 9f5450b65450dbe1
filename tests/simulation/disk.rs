//! A disk that keeps the contract of engines, and dies when it is told: whatever was not synced may then be gone, whole
//! commits from the end. What was changed by each commit is told to whoever checks.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use reknit::store::engine::conformance::Draw;
use reknit::store::engine::{Batch, Durability, Engine, EngineError, Rows, Snapshot};

type Bytes = Arc<[u8]>;
pub(crate) type Map = BTreeMap<Bytes, Bytes>;
type Writes = Vec<(Bytes, Option<Bytes>)>;

/// Tag of the rows of records.
const RECORD: u8 = 1;

/// What the disk was asked to do when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    Idle,
    Snapshot,
    BeforeCommit,
    AfterCommit,
    BeforeSync,
    AfterSync,
}

/// The row of a record before and after a commit.
pub(crate) struct Changed {
    pub(crate) row: Bytes,
    pub(crate) old: Option<Bytes>,
    pub(crate) new: Option<Bytes>,
}

/// When a disk dies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuse {
    /// Operations until then.
    pub(crate) left: u32,
    /// Only those that write count.
    pub(crate) writes: bool,
    /// The last one is still done.
    pub(crate) done: bool,
}

impl Fuse {
    pub(crate) fn draw(draw: &mut Draw, most: usize) -> Self {
        Self { left: draw.below(most) as u32, writes: draw.below(2) == 0, done: draw.below(2) == 0 }
    }
}

struct State {
    now: Arc<Map>,
    durable: Arc<Map>,
    /// Commits since the last sync.
    pending: Vec<Writes>,
    /// Handles of earlier lives are dead.
    life: u64,
    died: Option<Point>,
    fuse: Option<Fuse>,
    changes: Vec<Changed>,
}

/// The disk itself, which outlives the processes that open it.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            now: Arc::default(),
            durable: Arc::default(),
            pending: Vec::new(),
            life: 0,
            died: None,
            fuse: None,
            changes: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds a disk")
    }

    /// A handle for one life of one process.
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(Handle { disk: self.clone(), life: self.lock().life })
    }

    /// Will die.
    pub(crate) fn arm(&self, fuse: Fuse) {
        self.lock().fuse = Some(fuse);
    }

    pub(crate) fn disarm(&self) {
        self.lock().fuse = None;
    }

    /// Where it died, if it has.
    pub(crate) fn died(&self) -> Option<Point> {
        self.lock().died
    }

    /// What the next process finds: all that was synced, and as many of the commits since as the draw lets. Tells how
    /// many of how many are gone.
    pub(crate) fn crash(&self, draw: &mut Draw) -> (usize, usize) {
        let mut state = self.lock();
        let pending = std::mem::take(&mut state.pending);
        let kept = match draw.below(3) {
            0 => 0,
            1 => pending.len(),
            _ => draw.below(pending.len() + 1),
        };
        let gone = (pending.len() - kept, pending.len());
        let mut durable = Arc::clone(&state.durable);
        pending.into_iter().take(kept).for_each(|writes| lay(&mut durable, &writes));
        state.durable = durable;
        state.reset();
        gone
    }

    /// What is there.
    pub(crate) fn rows(&self) -> Arc<Map> {
        Arc::clone(&self.lock().now)
    }

    /// What is safe.
    pub(crate) fn durable(&self) -> Arc<Map> {
        Arc::clone(&self.lock().durable)
    }

    /// Holds other rows from now on, as after a backup was put back.
    pub(crate) fn replace(&self, rows: Arc<Map>) {
        let mut state = self.lock();
        state.durable = rows;
        state.pending.clear();
        state.reset();
    }

    /// The rows of records that were changed since this was asked last.
    pub(crate) fn changes(&self) -> Vec<Changed> {
        std::mem::take(&mut self.lock().changes)
    }
}

impl State {
    fn reset(&mut self) {
        self.now = Arc::clone(&self.durable);
        self.life += 1;
        self.died = None;
        self.fuse = None;
        self.changes.clear();
    }

    fn sync(&mut self) {
        for writes in std::mem::take(&mut self.pending) {
            lay(&mut self.durable, &writes);
        }
    }
}

fn lay(rows: &mut Arc<Map>, writes: &Writes) {
    let rows = Arc::make_mut(rows);
    for (key, value) in writes {
        match value {
            Some(value) => rows.insert(Arc::clone(key), Arc::clone(value)),
            None => rows.remove(key),
        };
    }
}

struct Handle {
    disk: Disk,
    life: u64,
}

fn dead() -> EngineError {
    EngineError::Io { dir: PathBuf::from("simulated"), source: Arc::new(io::Error::other("the process has died")) }
}

impl Handle {
    /// The disk, for one operation; the second tells whether the operation is the last, which is still done.
    fn operation(&self, before: Point) -> Result<(MutexGuard<'_, State>, bool), EngineError> {
        let mut state = self.disk.lock();
        if state.life != self.life || state.died.is_some() {
            return Err(dead());
        }
        match &mut state.fuse {
            Some(Fuse { writes: true, .. }) if before == Point::Snapshot => {}
            Some(Fuse { left: 0, done: true, .. }) => return Ok((state, true)),
            Some(Fuse { left: 0, .. }) => {
                state.died = Some(before);
                return Err(dead());
            }
            Some(fuse) => fuse.left -= 1,
            None => {}
        }
        Ok((state, false))
    }
}

impl Engine for Handle {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        let (mut state, last) = self.operation(Point::Snapshot)?;
        if last {
            state.died = Some(Point::Snapshot);
            return Err(dead());
        }
        Ok(Box::new(Still(Arc::clone(&state.now))))
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        let (mut state, last) = self.operation(Point::BeforeCommit)?;
        let bytes = |bytes: &[u8]| Bytes::from(bytes);
        let writes: Writes = batch.sorted().map(|(key, value)| (bytes(key), value.map(bytes))).collect();
        for (key, value) in writes.iter().filter(|(key, _)| key.first() == Some(&RECORD)) {
            let old = state.now.get(key).cloned();
            state.changes.push(Changed { row: Arc::clone(key), old, new: value.clone() });
        }
        lay(&mut state.now, &writes);
        state.pending.push(writes);
        if last {
            state.died = Some(Point::AfterCommit);
            return Err(dead());
        }
        if durability == Durability::Synced {
            state.sync();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        let (mut state, last) = self.operation(Point::BeforeSync)?;
        state.sync();
        if last {
            state.died = Some(Point::AfterSync);
            return Err(dead());
        }
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        Ok(0)
    }
}

struct Still(Arc<Map>);

impl Snapshot for Still {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.get(key).map(|value| value.to_vec()))
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8]) -> Result<Rows<'a>, EngineError> {
        if start >= end {
            return Ok(Box::new(std::iter::empty()));
        }
        let range = self.0.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)));
        Ok(Box::new(range.map(|(key, value)| Ok((key.to_vec(), value.to_vec())))))
    }
}

#[cfg(test)]
mod tests {
    use reknit::store::engine::conformance;

    use super::*;

    #[test]
    fn the_disk_conforms() {
        for seed in 0..20 {
            let disk = Disk::new();
            conformance::run(&mut || disk.engine(), seed, 100);
        }
    }

    #[test]
    fn a_crash_takes_whole_commits_from_the_end_and_nothing_that_was_synced() {
        for seed in 0..200 {
            let mut draw = Draw(seed);
            let disk = Disk::new();
            let engine = disk.engine();
            let synced = draw.below(6);
            for nth in 0..10_u8 {
                let mut batch = Batch::new();
                batch.put(&[nth, 0], b"a");
                batch.put(&[nth, 1], b"b");
                let durability = if usize::from(nth) == synced { Durability::Synced } else { Durability::Buffered };
                engine.commit(&mut batch, durability).expect("commit");
            }
            let gone = disk.crash(&mut draw).0;
            assert!(engine.commit(&mut Batch::new(), Durability::Synced).is_err(), "the process is gone");
            let rows = disk.engine().snapshot().expect("snapshot").scan(&[], &[0xff]).expect("scan").count();
            assert_eq!(rows, 20 - 2 * gone);
            assert!(rows > 2 * synced);
        }
    }
}
