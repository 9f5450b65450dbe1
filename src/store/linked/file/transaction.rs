//! Looking rows up in what is only read: it has no index, so that all that is asked at once is found in one pass.

use std::collections::BTreeSet;

use reknit_core::row::{Value, encode_key};

use crate::store::StoreError;
use crate::store::linked::{Besides, Change, Found, Shape, Table, Transaction, Written};

pub(super) struct Reading<'a> {
    pub(super) table: &'a dyn Table,
    /// What is said of writing it.
    pub(super) refused: &'static str,
}

impl Transaction for Reading<'_> {
    fn find(&mut self, shape: &Shape, keys: &[Vec<Value>]) -> Result<Vec<Found>, StoreError> {
        let wanted: BTreeSet<Vec<u8>> = keys.iter().map(|key| encode_key(key)).collect();
        self.find_by_reading(shape, &mut |values| wanted.contains(&shape.key_as_stored(values)))
    }

    fn find_by_reading(
        &mut self,
        shape: &Shape,
        wanted: &mut dyn FnMut(&[Value]) -> bool,
    ) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        for values in self.table.scan(shape)? {
            let values = values?;
            if wanted(&values) {
                found.push(Found { place: Vec::new(), values, busy: None });
            }
        }
        Ok(found)
    }

    fn write(&mut self, _: &Shape, _: Change<'_>) -> Result<Written, StoreError> {
        Err(StoreError::database(self.table.place(), self.refused))
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn unmark(&mut self, _: bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Besides, StoreError> {
        Ok(Besides::new())
    }
}
