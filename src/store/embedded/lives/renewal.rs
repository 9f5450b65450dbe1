//! A new life of a store and what of the old one is given to it: the records, what is set apart, and what the journal brings
//! back later. When a life begins is said in [`super`].

use std::sync::PoisonError;

use reknit_core::canonical::Reader;
use reknit_core::{Actor, CollectionId, DecodeError, Range, Stamp, State};

use crate::store::embedded::commit::submit;
use crate::store::embedded::read::records_after;
use crate::store::embedded::write::Write;
use crate::store::embedded::{Inner, Store, StoreError, quarantine, rows};
use crate::store::engine::{Batch, Durability, Snapshot};

/// A life that was begun while versions of the old one are still to be given to it.
const UNDER_WAY: &str = "renewal";
/// Those that are over.
const OVER: &str = "renewals";
/// So many are kept, the newest: what the journal has is not as old as the others.
const KEPT_MAX: usize = 1_000;
/// Records that are looked at, or change, in one commit of a renewal.
const PAGE: usize = 1_000;

/// A new life, and what of the old one it is to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::embedded) struct Renewal {
    pub(super) old: Actor,
    pub(super) after: Stamp,
    pub(super) new: Actor,
}

impl Renewal {
    /// The state under the new life, if that changes it.
    pub(in crate::store::embedded) fn of(self, state: &State) -> Option<State> {
        state.reattributed(self.old, self.after, self.new)
    }

    fn encode(self) -> Vec<u8> {
        [self.old.0, self.after.0, self.new.0].map(u64::to_be_bytes).concat()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { old: Actor(reader.u64()?), after: Stamp(reader.u64()?), new: Actor(reader.u64()?) })
    }
}

/// The renewal that is under way and those that are over, each with the last commit before its end.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    pub(super) under_way: Option<Renewal>,
    over: Vec<(Renewal, u64)>,
}

impl Renewals {
    pub(super) fn open(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let damaged = |row: &str| StoreError::damaged(format!("the row {row:?} does not decode"));
        let mut renewals = Self::default();
        if let Some(value) = snapshot.get(&rows::meta(UNDER_WAY))? {
            let mut reader = Reader::new(&value);
            let renewal = Renewal::read(&mut reader).and_then(|renewal| reader.end().map(|()| renewal));
            renewals.under_way = Some(renewal.map_err(|_| damaged(UNDER_WAY))?);
        }
        let value = snapshot.get(&rows::meta(OVER))?.unwrap_or_default();
        let mut reader = Reader::new(&value);
        while !reader.rest().is_empty() {
            let read = Renewal::read(&mut reader).and_then(|renewal| Ok((renewal, reader.u64()?)));
            renewals.over.push(read.map_err(|_| damaged(OVER))?);
        }
        Ok(renewals)
    }

    /// A state that was overwritten, as it is worth now: what was renewed since the commit that made it.
    pub(super) fn of_earlier(&self, state: State, made: u64) -> State {
        let over = self.over.iter().filter(|(_, until)| made <= *until).map(|(renewal, _)| renewal);
        over.chain(&self.under_way).fold(state, |state, renewal| renewal.of(&state).unwrap_or(state))
    }

    /// Notes that the renewal under way ends after that commit.
    fn end(&mut self, until: u64, batch: &mut Batch) {
        self.over.extend(self.under_way.take().map(|renewal| (renewal, until)));
        self.over.drain(..self.over.len().saturating_sub(KEPT_MAX));
        let encode = |(renewal, until): &(Renewal, u64)| [renewal.encode(), until.to_be_bytes().to_vec()].concat();
        batch.put(&rows::meta(OVER), &self.over.iter().flat_map(encode).collect::<Vec<u8>>());
        batch.delete(&rows::meta(UNDER_WAY));
    }
}

/// Notes that a renewal has begun.
pub(super) fn begin(renewal: Renewal, batch: &mut Batch) {
    batch.put(&rows::meta(UNDER_WAY), &renewal.encode());
}

impl Store {
    /// Goes on with a renewal that is under way.
    pub(in crate::store::embedded) fn finish_renewal(&self) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let Some(renewal) = inner.lives.renewal() else { return Ok(()) };
        for place in 0..inner.definition.collections.len() {
            renew_records(inner, CollectionId(u16::try_from(place).unwrap_or(u16::MAX)), renewal)?;
        }
        quarantine::renew(inner, renewal)?;
        let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::new();
        inner.lives.renewals().end(inner.head().commit, &mut batch);
        if let Err(error) = inner.engine.commit(&mut batch, Durability::Synced) {
            writer.failed = true;
            return Err(error.into());
        }
        Ok(())
    }
}

fn renew_records(inner: &Inner, collection: CollectionId, renewal: Renewal) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let snapshot = inner.engine.snapshot()?;
        let (mut seen, mut writes) = (0, Vec::new());
        for stored in records_after(inner, &*snapshot, collection, Range::ALL, after.as_ref())?.take(PAGE) {
            let stored = stored?;
            seen += 1;
            if renewal.of(&stored.state).is_some() {
                writes.push(Write::Reattribute { collection, key: stored.key.clone() });
            }
            after = Some((stored.position, stored.key));
        }
        drop(snapshot);
        if !writes.is_empty() {
            submit(inner, writes, Durability::Buffered)?;
        }
        if seen < PAGE {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reknit_core::{Content, DatasetId, DatasetKey, Definition, Sibling, Version};

    use super::*;
    use crate::store::embedded::open::put_life;
    use crate::store::engine::{Engine, Memory};
    use crate::store::{Options, Release, Why};

    fn written(actor: Actor, stamp: u64) -> State {
        let version = Version::after(Stamp(stamp), actor, []);
        State::single(Sibling { version, content: Content::Live(b"v".to_vec()), expires: None })
    }

    #[test]
    fn what_was_overwritten_is_renewed_by_each_renewal_that_ended_later() {
        let (a, b, c) = (Actor(1), Actor(2), Actor(3));
        let mut renewals = Renewals::default();
        let mut batch = Batch::new();
        for (old, after, new, until) in [(a, 10, b, 100), (b, 30, c, 200)] {
            renewals.under_way = Some(Renewal { old, after: Stamp(after), new });
            renewals.end(until, &mut batch);
        }
        let engine = Memory::new();
        engine.commit(&mut batch, Durability::Synced).expect("committed");
        let row = engine.snapshot().expect("a snapshot").get(b"\0renewals").expect("read").expect("a row");
        assert_eq!(row, [1, 10, 2, 100, 2, 30, 3, 200].map(u64::to_be_bytes).concat());
        let renewals = Renewals::open(&*engine.snapshot().expect("a snapshot")).expect("read");
        let actor = |stamp, made| renewals.of_earlier(written(a, stamp), made).winner().version.actor;
        assert_eq!((actor(10, 50), actor(20, 50), actor(20, 100), actor(40, 50)), (a, b, b, c));
        // What came after is another's of that name.
        assert_eq!((actor(20, 101), actor(40, 201)), (a, a));
        assert_eq!(renewals.of_earlier(written(b, 40), 150).winner().version.actor, c);
        let seen = renewals.of_earlier(written(a, 40), 50).winner().version.seen.clone();
        assert_eq!((seen.seen(a), seen.seen(b)), (Some(Stamp(10)), Some(Stamp(30))));
    }

    #[test]
    fn the_newest_renewals_are_kept() {
        let mut renewals = Renewals::default();
        for nth in 0..KEPT_MAX as u64 + 5 {
            renewals.under_way = Some(Renewal { old: Actor(nth), after: Stamp(0), new: Actor(nth + 1) });
            renewals.end(nth, &mut Batch::new());
        }
        assert_eq!((renewals.over.len(), renewals.over[0].1), (KEPT_MAX, 5));
    }

    #[test]
    fn what_was_set_apart_of_the_own_is_renewed_and_what_peers_sent_is_not() {
        let (engine, key) = (Arc::new(Memory::new()), DatasetKey::from_bytes([9; 32]));
        let definition = Definition::simple(DatasetId([7; 16]), "test");
        let store = Store::found_over(engine.clone(), definition, key, &Options::default()).expect("a store");
        let (old, new, first) = (store.actor(), Actor(5), CollectionId(0));
        drop(store);
        let mut batch = Batch::new();
        for (key, why) in [(b"stray", Why::Stray), (b"ahead", Why::Ahead)] {
            let row = rows::quarantined(first, key);
            batch.put(&row, &rows::put_quarantined(&row, key, (1, why), &written(old, 40)));
        }
        put_life(new, &mut batch);
        begin(Renewal { old, after: Stamp(30), new }, &mut batch);
        engine.commit(&mut batch, Durability::Synced).expect("committed");
        let store = Store::over(engine, &Options::default()).expect("opened");
        let actors = store.quarantined(None, 9).expect("read");
        let actors: Vec<_> = actors.iter().map(|held| (held.why, held.state.winner().version.actor)).collect();
        assert_eq!(actors, [(Why::Ahead, old), (Why::Stray, new)]);
        // Written anew it has seen what the new life wrote, and nothing more of the other of its old name.
        assert_eq!(store.release(first, b"stray", Release::Accept).expect("released").left, 1);
        let state = store.first().versions(b"stray").expect("read").expect("a state");
        assert_eq!(state.winner().version.seen.seen(old), Some(Stamp(30)));
    }
}
