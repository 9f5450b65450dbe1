//! Whether the rows of a journal are sound, and its runs whole. What is done about it is left to whoever asked.

use std::collections::BTreeMap;

use reknit_core::journal::Changed;

use super::replaced;
use crate::store::StoreError;
use crate::store::embedded::rows;
use crate::store::engine::Snapshot;

/// Says of each row of the journal whether it is sound, and whether runs hold what they say.
pub(in crate::store::embedded) fn verify(
    snapshot: &dyn Snapshot,
    wrong: &mut dyn FnMut(String),
) -> Result<(), StoreError> {
    let mut runs = BTreeMap::new();
    let (start, end) = rows::runs();
    for row in snapshot.scan(&start, &end)? {
        let (row, value) = row?;
        match rows::read_run(&row, &value) {
            Ok((id, run)) => {
                runs.insert(id, (run, 0, 0));
            }
            Err(error) => wrong(error.to_string()),
        }
    }
    let (start, end) = rows::all_packed();
    for row in snapshot.scan(&start, &end)? {
        let (row, value) = row?;
        let found = rows::read_place(&row).and_then(|place| Ok((place, rows::read_packed(&row, &value)?)));
        let (place, entries) = match found {
            Ok(found) => found,
            Err(error) => {
                wrong(error.to_string());
                continue;
            }
        };
        match runs.get_mut(&place.0) {
            Some((_, count, overwritten)) => {
                *count += entries.iter().map(Changed::keys).sum::<u64>();
                *overwritten += entries.iter().filter_map(replaced).count() as u64;
            }
            None => wrong(format!("journal entries of run {} have no run", place.0)),
        }
        for entry in entries.iter().filter_map(replaced) {
            if snapshot.get(&rows::earlier(entry.collection, entry.position, place))?.is_none() {
                let key = crate::store::error::shown(&entry.key);
                wrong(format!("an earlier state of key {key} (run {}) is not found by its key", place.0));
            }
        }
    }
    for (id, (run, count, overwritten)) in runs {
        if !run.dropped && (run.entries, run.overwritten) != (count, overwritten) {
            wrong(format!(
                "run {id} has {count} of {} entries, {overwritten} of {} earlier states",
                run.entries, run.overwritten
            ));
        }
    }
    Ok(())
}
