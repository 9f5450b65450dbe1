//! Commits of a run that added many keys close together: the journal names the positions between which they lie, not the
//! keys, since each record knows the commit that last changed it. What is done with them is said in [`super`].

use reknit_core::journal::{Changed, Filled, JournalEntry};
use reknit_core::range::DEPTH_MAX;
use reknit_core::{CollectionId, Position, Range};

use super::Added;
use crate::store::StoreError;
use crate::store::embedded::read::records;
use crate::store::embedded::rows::Stored;
use crate::store::embedded::write::digested;
use crate::store::embedded::{Inner, rows};
use crate::store::engine::Snapshot;

/// Fewer keys are named one by one.
const KEYS_MIN: u64 = 32;

/// What a run adds in a commit, as long as that is only keys of one collection that were not there.
#[derive(Clone, Copy, Default)]
pub(super) enum Adds {
    #[default]
    Nothing,
    Keys(Filled),
    Other,
}

impl Adds {
    pub(super) fn note(&mut self, collection: CollectionId, position: Position, is_new: bool) {
        *self = match *self {
            Adds::Nothing if is_new => Adds::Keys(Filled { collection, first: position, last: position, count: 1 }),
            Adds::Keys(filled) if is_new && filled.collection == collection => Adds::Keys(Filled {
                first: filled.first.min(position),
                last: filled.last.max(position),
                count: filled.count + 1,
                ..filled
            }),
            _ => Adds::Other,
        };
    }
}

/// Whether what a run adds can be told by positions: it is all that the commit changes, `changed` keys, and there is hardly
/// anything else between them, judged from how many entries the collection has.
pub(super) fn close(added: &Added, changed: u64, entries: impl Fn(CollectionId) -> u64) -> Option<Filled> {
    let Adds::Keys(filled) = added.adds else { return None };
    let share = (filled.last.0 - filled.first.0) as f64 / u64::MAX as f64;
    let between = share * entries(filled.collection) as f64;
    (filled.count >= KEYS_MIN && filled.count == changed && between <= 2.0 * filled.count as f64).then_some(filled)
}

/// The keys that a commit of a run added and that stand as it left them, and those that were written since. A key
/// that a run wrote after that, and that an undo has put back since, stands too.
pub(super) fn keys(
    inner: &Inner,
    snapshot: &dyn Snapshot,
    filled: &Filled,
    commit: u64,
) -> Result<(Vec<JournalEntry>, Vec<Vec<u8>>), StoreError> {
    let collection = filled.collection;
    inner.check(collection)?;
    let (start, _) = rows::records_of(collection, Range::of(filled.first, DEPTH_MAX));
    let (_, end) = rows::records_of(collection, Range::of(filled.last, DEPTH_MAX));
    let (mut stand, mut since) = (Vec::new(), Vec::new());
    for stored in records(inner, snapshot.scan(&start, &end)?) {
        let stored = stored?;
        if stored.commit < commit {
            continue;
        }
        if stored.commit > commit && !is_back(snapshot, collection, commit, &stored)? {
            since.push(stored.key);
        } else {
            let position = stored.position;
            let (_, digest) = digested(inner, collection, &stored.key, stored.state);
            let after = digest.map(|digest| digest.short());
            stand.push(JournalEntry { collection, position, key: stored.key, before: None, after });
        }
    }
    Ok((stand, since))
}

/// Whether what a commit had written was first replaced by a run, and is there again.
fn is_back(
    snapshot: &dyn Snapshot,
    collection: CollectionId,
    commit: u64,
    stored: &Stored,
) -> Result<bool, StoreError> {
    let (start, end) = rows::earlier_of(collection, stored.position);
    for row in snapshot.scan(&start, &end)? {
        let place = rows::read_earlier(&row?.0)?;
        if place.1 <= commit {
            continue;
        }
        let row = rows::packed(place);
        let value = snapshot.get(&row)?.ok_or_else(super::missing)?;
        for changed in rows::read_packed(&row, &value)? {
            let Changed::Key(JournalEntry { collection: of, key, before: Some(before), .. }) = changed else {
                continue;
            };
            if of == collection && key == stored.key {
                return Ok(before.commit == commit && before.state == stored.state);
            }
        }
    }
    Ok(false)
}
