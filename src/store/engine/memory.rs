//! An engine without a disk, for tests and for whole clusters in one thread.
//! It keeps no promise across processes; within one it keeps all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Batch, Durability, Engine, EngineError, Rows, Snapshot};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Rows in an ordered map. A clone is another handle to the same rows, so a store can be "reopened" over it.
#[derive(Clone, Default)]
pub struct Memory {
    rows: Arc<RwLock<Arc<Map>>>,
}

impl Memory {
    /// An engine without rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Engine for Memory {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(Still(Arc::clone(&rows))))
    }

    fn commit(&self, batch: &mut Batch, _durability: Durability) -> Result<(), EngineError> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        // Copied only while a snapshot still looks at it.
        let rows = Arc::make_mut(&mut rows);
        for (key, value) in batch.sorted() {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        Ok(0)
    }
}

struct Still(Arc<Map>);

impl Snapshot for Still {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8]) -> Result<Rows<'a>, EngineError> {
        if start >= end {
            return Ok(Box::new(std::iter::empty()));
        }
        Ok(Box::new(self.0.range(start.to_vec()..end.to_vec()).map(|(key, value)| Ok((key.clone(), value.clone())))))
    }
}
