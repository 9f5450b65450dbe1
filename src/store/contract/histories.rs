//! Histories that are drawn: batches of records and of overwrites, what a store should make of each, and what it made.

use std::collections::BTreeMap;

use reknit_core::bounds::KEY_BYTES_MAX;
use reknit_core::brakes::{Loss, Losses};
use reknit_core::query::{Applied, Guard, Incoming, Selection};
use reknit_core::{
    Actor, CollectionId, Content, Digest, Keeps, Millis, Position, Range, Record, Sibling, Stamp, State, Version,
};

use super::answers::{compare, pages};
use super::overwriting;
use crate::store::engine::conformance::Draw;
use crate::store::{Durability, Side, SideInfo};

/// Beyond any clock that a store may have here: the year 3084.
pub(super) const EXPIRES: Millis = 1 << 45;

/// What a store should hold of a key.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) state: State,
    /// The commit that changed it last lies behind the first, and not behind the second.
    pub(super) commits: (u64, u64),
}

/// What a collection should hold.
pub(super) type Records = BTreeMap<Vec<u8>, Held>;

/// A collection as it is described.
pub(super) struct Named {
    pub(super) id: CollectionId,
    pub(super) name: String,
    pub(super) keeps: Keeps,
    pub(super) info: SideInfo,
}

impl Named {
    pub(super) fn of(side: &dyn Side, id: CollectionId) -> Named {
        let info = side.describe();
        let name = info.definition.collections[usize::from(id.0)].name.clone();
        Named { id, name, keeps: info.definition.keeps(id), info }
    }

    pub(super) fn position(&self, key: &[u8]) -> Position {
        self.info.keys.position(&self.name, key)
    }

    pub(super) fn digest(&self, record: &Record) -> Option<Digest> {
        self.info.keys.entry(self.info.definition.profile, &self.name, record)
    }

    /// The digest of what is held of a key, as guards tell it.
    pub(super) fn short(&self, key: &[u8], held: Option<&State>) -> Option<u64> {
        let record = Record { key: key.to_vec(), state: held?.clone() };
        self.digest(&record).map(|digest| digest.short())
    }
}

/// The stamps that a store has seen for certain, and the most that it may have.
struct Stamps {
    least: Stamp,
    most: Stamp,
}

/// What should become of a batch.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) applied: u64,
    pub(super) kept: u64,
    pub(super) moved: u64,
    losses: Losses,
    /// Writes of which a policy decides whether they lose anything.
    unsure: u64,
}

impl Tally {
    /// One more that was applied.
    pub(super) fn lay(&mut self, before: Option<&State>, after: &State) {
        self.applied += 1;
        if before.into_iter().chain([after]).any(|state| state.versions().len() > 1) {
            self.unsure += 1;
            return;
        }
        self.losses.add(Loss::between(before.and_then(State::value), after.value()));
    }

    pub(super) fn check(&self, done: &Applied, note: &str) {
        let found = (done.applied, done.kept, done.moved, &done.refused);
        assert_eq!(found, (self.applied, self.kept, self.moved, &Vec::new()), "{note}: what became of each record");
        let Losses { deleted, changed } = done.losses;
        let sure = deleted >= self.losses.deleted && changed >= self.losses.changed;
        let most = self.losses.deleted + self.losses.changed + self.unsure;
        assert!(
            sure && deleted + changed <= most,
            "{note}: live records that were lost: {:?}, not {:?} (of {} a policy decides)",
            done.losses,
            self.losses,
            self.unsure
        );
    }
}

pub(super) fn run(side: &dyn Side, collections: &[CollectionId], seed: u64, batches: usize) {
    let mut draw = Draw(seed);
    let all: Vec<Named> = collections.iter().map(|id| Named::of(side, *id)).collect();
    let mut models: Vec<Records> = vec![Records::new(); all.len()];
    let cut = side.cut().expect("cut");
    let mut stamps = Stamps { least: cut.stamp, most: cut.stamp };
    let mut commit = cut.commit;
    for nth in 0..batches {
        let note = format!("seed {seed} batch {nth}");
        // Each collection has a batch of each kind and size, sooner or later; the first most of them.
        let at = if draw.below(3) > 0 { 0 } else { draw.below(all.len()) };
        let (named, model) = (&all[at], &mut models[at]);
        let size = draw.below(if nth % 4 == 0 { 120 } else { 12 });
        let done = if nth % 4 == 3 {
            let given = overwriting::batch(side, named, model, (&mut draw, size), &note);
            stamps.least = stamps.least.max(given.1);
            stamps.most = stamps.most.max(given.1).max(given.2);
            given.0
        } else {
            batch(side, named, model, (&mut draw, size), (&mut stamps, &note))
        };
        assert!(
            done.commit > commit || (done.applied == 0 && done.commit == commit),
            "{note}: the commit number rises with what changes something, and with nothing else"
        );
        model.values_mut().filter(|held| held.commits == UNKNOWN).for_each(|held| held.commits = (commit, done.commit));
        commit = done.commit;
        let cut = side.cut().expect("cut");
        assert_eq!(cut.commit, commit, "{note}: the commit number");
        assert!(
            (stamps.least..=stamps.most).contains(&cut.stamp),
            "{note}: {:?} is not the last stamp that was given out or seen: that lies from {:?} to {:?}",
            cut.stamp,
            stamps.least,
            stamps.most
        );
        stamps.least = cut.stamp;
        for (other, model) in all.iter().zip(&models) {
            if other.id == named.id {
                compare(side, named, model, &mut draw, &note);
            } else {
                let found = pages(side, other.id, &Selection::Range(Range::ALL), 1 << 20, &note).0;
                assert_eq!(found.len(), model.len(), "{note}: a batch changes its own collection, not {}", other.name);
            }
        }
    }
    let info = side.describe();
    let before = all.first().map(|named| (named.info.actor, named.info.nonce));
    assert_eq!(before, Some((info.actor, info.nonce)), "it was opened once");
}

/// Of a change in the batch that is under way.
pub(super) const UNKNOWN: (u64, u64) = (u64::MAX, u64::MAX);

fn batch(
    side: &dyn Side,
    named: &Named,
    model: &mut Records,
    (draw, size): (&mut Draw, usize),
    (stamps, note): (&mut Stamps, &str),
) -> Applied {
    let keys = &named.info.keys;
    let (mut batch, mut tally) = (Vec::<Incoming>::new(), Tally::default());
    for _ in 0..size {
        let mut record = drawn(draw, model, named.keeps);
        let mut guard = match draw.below(10) {
            0 => Guard::IfShort(named.short(&record.key, model.get(&record.key).map(|held| &held.state))),
            1 => Guard::IfShort(Some(draw.bits())),
            2 => Guard::Bare,
            _ => Guard::Join,
        };
        let again = batch.iter().rev().find(|incoming| incoming.guard == Guard::Join);
        if let Some(again) = again.filter(|_| draw.below(16) == 0) {
            (record, guard) = (again.record.clone(), Guard::Join);
        }
        let held = model.get(&record.key).map(|held| held.state.clone());
        let mut sent = record.clone();
        let stands = match guard {
            Guard::Join => true,
            Guard::IfShort(short) => short == named.short(&record.key, held.as_ref()),
            Guard::Bare => {
                sent.strip(keys);
                let values: Vec<&Vec<u8>> = held.iter().flat_map(State::versions).filter_map(Sibling::value).collect();
                record.state.versions().iter().filter_map(Sibling::value).all(|value| values.contains(&value))
            }
        };
        let newest = record.state.winner().version.stamp;
        stamps.most = stamps.most.max(newest);
        let next = match (guard, &held) {
            (Guard::Join | Guard::Bare, Some(mine)) => mine.join(&record.state, named.keeps, keys),
            _ => record.state.clone(),
        };
        if !stands {
            tally.moved += 1;
        } else if held.as_ref() == Some(&next) {
            tally.kept += 1;
        } else {
            tally.lay(held.as_ref(), &next);
            stamps.least = stamps.least.max(newest);
            model.insert(record.key, Held { state: next, commits: UNKNOWN });
        }
        batch.push(Incoming { record: sent, guard });
    }
    let durability = if draw.below(2) == 0 { Durability::Synced } else { Durability::Buffered };
    let done = side.apply(named.id, batch, durability).expect("apply");
    tally.check(&done, note);
    done
}

/// A key that may be any bytes, now and then one that a store might trip over.
pub(super) fn key(draw: &mut Draw) -> Vec<u8> {
    let odd: [&[u8]; 7] = [b"", &[0], &[0, 0], &[0xff], &[0xff, 0xff, 0], b"key", &[0xfe; KEY_BYTES_MAX]];
    match draw.below(16) {
        0 => odd[draw.below(odd.len())].to_vec(),
        _ => format!("key {}", draw.below(300)).into_bytes(),
    }
}

pub(super) fn content(draw: &mut Draw) -> (Content, Option<Millis>) {
    let len = draw.below(40);
    let value = draw.bytes(len);
    // Nobody writes a tombstone that expires.
    match draw.below(8) {
        0 | 1 => (Content::Tombstone, None),
        2 | 3 => (Content::Live(value), Some(EXPIRES + draw.below(1000) as u64)),
        _ => (Content::Live(value), None),
    }
}

/// A version that somebody wrote who had not seen any other. A stamp and an actor name one write, so they are drawn together.
pub(super) fn foreign(draw: &mut Draw) -> Version {
    Version::after(Stamp(draw.bits() >> 30), Actor(1 + (draw.bits() >> 1)), [])
}

fn drawn(draw: &mut Draw, model: &Records, keeps: Keeps) -> Record {
    let key = key(draw);
    let (content, expires) = content(draw);
    let mut sibling = Sibling { version: foreign(draw), content, expires };
    let held = model.get(&key).map(|held| &held.state);
    match (draw.below(4), held) {
        // Somebody who has seen all that is there writes again, perhaps the same.
        (0, Some(held)) => {
            let seen = held.versions().iter().map(|sibling| &sibling.version);
            let stamp = Stamp(held.winner().version.stamp.0 + 1 + (draw.bits() >> 48));
            sibling.version = Version::after(stamp, sibling.version.actor, seen);
            if draw.below(4) == 0 {
                sibling.content = held.winner().content.clone();
                sibling.expires = held.winner().expires;
            }
        }
        (1, Some(held)) => {
            sibling.content = held.versions()[held.versions().len() - 1].content.clone();
            sibling.expires = None;
        }
        _ => {}
    }
    let state = State::single(sibling);
    let several = keeps == Keeps::All && draw.below(4) == 0;
    let state = (0..if several { draw.below(12) } else { 0 }).fold(state, |state, _| {
        let (content, expires) = self::content(draw);
        let other = State::single(Sibling { version: foreign(draw), content, expires });
        joined(&state, &other)
    });
    Record { key, state }
}

/// Two states side by side, whoever has written them.
fn joined(one: &State, other: &State) -> State {
    let keys = reknit_core::Keys::new(&reknit_core::DatasetKey::from_bytes([0; 32]));
    one.join(other, Keeps::All, &keys)
}
