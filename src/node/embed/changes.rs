//! What changes in a dataset, from a cursor on that a program may keep across restarts.
//!
//! Near the newest commit changes come from the store's ring, each of them and in order. A cursor from further back, or from
//! before the store was opened, is caught up from the records themselves.

use std::sync::Arc;
use std::time::Duration;

use reknit_core::CollectionId;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{EmbedError, Running};
use crate::store::{Cursor, Origin, Store, Watcher};

/// Changes, and KiB of their keys and values, that wait for whoever watches; one that is larger waits alone.
const WAITING: usize = 256;
const WAITING_KIB: u32 = 16 << 10;
/// How often it is looked whether anybody still watches.
const LOOK: Duration = Duration::from_millis(200);

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name of its collection.
    pub collection: String,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value now; none where it is deleted.
    pub value: Option<Vec<u8>>,
    /// Who changed it; none where that was caught up from the records, which do not tell.
    pub origin: Option<Origin>,
    /// Where to go on once this one was dealt with.
    pub cursor: Cursor,
}

/// Follows a dataset; ends when it is dropped, or with the node.
pub struct Watch {
    changes: mpsc::Receiver<Told>,
}

/// What is told, and the room that it takes until it is heard.
type Told = (Result<Change, EmbedError>, OwnedSemaphorePermit);

impl Watch {
    /// The next change; none once the node has ended, or after an error.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Change, EmbedError>> {
        self.changes.recv().await.map(|(told, _)| told)
    }

    /// Changes that wait to be heard.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.changes.len()
    }

    /// The same, for a thread outside of the runtime.
    pub fn blocking_next(&mut self) -> Option<Result<Change, EmbedError>> {
        self.changes.blocking_recv().map(|(told, _)| told)
    }
}

impl Running {
    /// Follows the changes of a dataset after `cursor`: whoever made them, here or on a peer. None: from now on;
    /// `Cursor(0)`: all that there is, then what changes.
    ///
    /// Each change is told at least once, to whoever keeps the cursor of the last change that it dealt with. From a cursor that
    /// is no longer in memory (it is further back than 65,536 changes, 16 MiB of keys and values, or a commit of more than 4,096
    /// changes that nobody watched; or the store was opened since) each record is told once as it is now, in no order, which
    /// reads all records of the dataset; values that it had in between are not told, and neither are deletions whose tombstones
    /// were collected. Members are not told. Costs a thread, and up to 16 MiB of what was not heard yet beside what the store
    /// itself keeps.
    ///
    /// # Errors
    /// [`EmbedError::NoDataset`], [`EmbedError::Runtime`].
    pub fn watch(&self, dataset: &str, cursor: Option<Cursor>) -> Result<Watch, EmbedError> {
        self.watch_in(dataset, None, cursor)
    }

    /// The same of one collection, if one is named.
    pub(super) fn watch_in(
        &self,
        dataset: &str,
        collection: Option<CollectionId>,
        cursor: Option<Cursor>,
    ) -> Result<Watch, EmbedError> {
        let store = self.store(dataset)?;
        let (sender, changes) = mpsc::channel(WAITING);
        let watcher = store.watch(cursor);
        let room = Arc::new(Semaphore::new(WAITING_KIB as usize));
        let (ended, runtime) = (self.shared.ended.subscribe(), self.shared.runtime.clone());
        let teller = Teller { store, of: collection, sender, room, ended, runtime };
        let thread = std::thread::Builder::new().name("watch".into()).spawn(move || teller.run(watcher));
        thread.map_err(EmbedError::Runtime)?;
        Ok(Watch { changes })
    }
}

/// Nobody listens any more.
struct Gone;

struct Teller {
    store: Store,
    /// The collection that it tells of; none: all that hold data.
    of: Option<CollectionId>,
    sender: mpsc::Sender<Told>,
    room: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
    runtime: Handle,
}

impl Teller {
    fn run(mut self, mut watcher: Watcher) {
        while !self.sender.is_closed() && !*self.ended.borrow() && self.ended.has_changed().is_ok() {
            let told = match watcher.next(LOOK) {
                Ok(None) => Ok(()),
                Ok(Some(event)) if !self.tells_of(event.collection) => Ok(()),
                Ok(Some(event)) => {
                    let collection = self.store.definition().collections[usize::from(event.collection.0)].name.clone();
                    let (key, value, origin) = (event.key, event.new, Some(event.origin));
                    self.tell(Ok(Change { collection, key, value, origin, cursor: watcher.cursor() }))
                }
                // A commit that this store has not made yet is another one's, or was lost: it begins anew.
                Err(lagged) if lagged.cursor > lagged.now => self.catch_up(Cursor(0), lagged.now),
                Err(lagged) => self.catch_up(lagged.cursor, lagged.now),
            };
            if told.is_err() {
                return;
            }
        }
    }

    fn tells_of(&self, collection: CollectionId) -> bool {
        self.of.map_or_else(|| self.store.definition().is_data(collection), |of| of == collection)
    }

    /// Tells of the records that have changed since; the last of them has the cursor behind all.
    fn catch_up(&mut self, since: Cursor, now: Cursor) -> Result<(), Gone> {
        let mut last: Option<Change> = None;
        let definition = self.store.definition().clone();
        let of = self.of;
        for (_, collection) in definition.data().filter(|(id, _)| of.is_none_or(|of| of == *id)) {
            let changed = match self.store.collection(&collection.name) {
                Ok(of) => of.changed_after(since),
                Err(error) => return self.fail(error.into()),
            };
            for record in changed {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => return self.fail(error.into()),
                };
                let (name, key, value) = (collection.name.clone(), record.key, record.value);
                let change = Change { collection: name, key, value, origin: None, cursor: since };
                if let Some(before) = last.replace(change) {
                    self.tell(Ok(before))?;
                }
            }
        }
        last.map_or(Ok(()), |last| self.tell(Ok(Change { cursor: now, ..last })))
    }

    fn fail(&mut self, error: EmbedError) -> Result<(), Gone> {
        self.tell(Err(error))?;
        Err(Gone)
    }

    /// Waits for room as long as somebody may make it.
    fn tell(&mut self, change: Result<Change, EmbedError>) -> Result<(), Gone> {
        let bytes = change.as_ref().map_or(0, |change| change.key.len() + change.value.as_ref().map_or(0, Vec::len));
        let kib = u32::try_from(bytes >> 10).unwrap_or(WAITING_KIB).clamp(1, WAITING_KIB);
        let (sender, room, ended) = (&self.sender, self.room.clone(), &mut self.ended);
        let told = async {
            let room = room.acquire_many_owned(kib).await.map_err(|_| Gone)?;
            sender.send((change, room)).await.map_err(|_| Gone)
        };
        self.runtime.block_on(async {
            tokio::select! {
                told = told => told,
                // Whoever has gone makes no room.
                () = sender.closed() => Err(Gone),
                _ = ended.wait_for(|ended| *ended) => Err(Gone),
            }
        })
    }
}
