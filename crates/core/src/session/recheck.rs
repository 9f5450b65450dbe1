//! Differences that were found, looked at again while both sides are written: which of them stood still.
//!
//! Of versions one look, some time later, is enough: none is ever written twice. Bare contents have no versions, and what is gone
//! is gone each time: a row that was read on one side before it was inserted, and on the other after, looks as one whose deletion
//! is under way. They are first looked at at one moment: this side's before and after the other's. What both sides are seen to hold
//! at one moment and again when differences had time to settle stood in between, if writes arrive in order.

use std::collections::{BTreeMap, BTreeSet};

use super::opener::{Opener, Purpose};
use super::request::Awaited;
use super::rounds::Phase;
use crate::dataset::{CollectionId, Profile};
use crate::difference::Difference;
use crate::query::{Item, Query, VersionInfo};
use crate::range::{Position, Range, places};
use crate::wire::WireItem;

/// How far a look at the differences has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// This side's are read, to be read again once the peer's are known.
    Mine,
    /// Both are read at one moment, the first time.
    First,
    /// Both are read after they had time to settle.
    Last,
}

impl Opener {
    pub(super) fn look_at_found_again(&mut self) {
        match self.moving.is_none() && self.definition.profile == Profile::Content {
            true => {
                self.moving = Some(BTreeSet::new());
                self.phase = Phase::Rechecking(Pass::Mine);
                for (collection, positions) in self.questioned() {
                    self.ask(Query::Items(collection, at_once(&positions)), Purpose::Stood(collection, positions));
                }
            }
            false => self.read_found(Pass::Last),
        }
    }

    /// All that was asked in a pass is known.
    pub(super) fn rechecked(&mut self, pass: Pass) {
        match pass {
            Pass::Mine => self.read_found(Pass::First),
            Pass::First => {
                let moving = (0..).zip(&self.found).filter(|(_, difference)| !difference.stable).map(|(nth, _)| nth);
                self.moving.get_or_insert_default().extend(moving);
                self.phase = Phase::Settling(self.now + self.options.settle);
                // To look at the same differences once more is no other round.
                self.counts.rounds -= 1;
            }
            Pass::Last => self.look(true),
        }
    }

    fn read_found(&mut self, pass: Pass) {
        self.phase = Phase::Rechecking(pass);
        self.found.iter_mut().for_each(|difference| difference.stable = false);
        for (collection, positions) in self.questioned() {
            self.send_list(collection, &[], positions, Awaited::List);
        }
    }

    /// Where the differences are that were not seen to move, in order, in parts that fit a frame.
    fn questioned(&self) -> Vec<(CollectionId, Vec<u64>)> {
        let mut of: BTreeMap<CollectionId, BTreeSet<u64>> = BTreeMap::new();
        for (_, difference) in self.unmoved(None) {
            of.entry(difference.collection).or_default().insert(difference.position.0);
        }
        let size = crate::bounds::FRAME_BYTES_AIM / 10;
        let parts = |(collection, positions): (CollectionId, BTreeSet<u64>)| {
            let positions: Vec<u64> = positions.into_iter().collect();
            positions.chunks(size).map(|some| (collection, some.to_vec())).collect::<Vec<_>>()
        };
        of.into_iter().flat_map(parts).collect()
    }

    fn unmoved(&self, of: Option<CollectionId>) -> impl Iterator<Item = (usize, &Difference)> {
        let moved = |nth: &usize| self.moving.as_ref().is_some_and(|moving| moving.contains(nth));
        let found = self.found.iter().enumerate();
        found.filter(move |(nth, difference)| !moved(nth) && of.is_none_or(|of| of == difference.collection))
    }

    /// Takes note of what has moved here since it was found.
    pub(super) fn stood(&mut self, collection: CollectionId, positions: &[u64], mine: &[Item]) {
        let asked = |difference: &Difference| positions.binary_search(&difference.position.0).is_ok();
        let moved = self.unmoved(Some(collection)).filter(|(_, difference)| {
            asked(difference) && newest(at(mine, difference, |item| item)) != version(&difference.mine)
        });
        let moved: Vec<usize> = moved.map(|(nth, _)| nth).collect();
        self.moving.get_or_insert_default().extend(moved);
    }

    /// Which of the differences that were found still stand as they were.
    pub(super) fn recheck(&mut self, collection: CollectionId, mine: &[Item], theirs: &[WireItem]) {
        let still = self.unmoved(Some(collection)).filter(|(_, difference)| {
            let here = at(mine, difference, |item| item);
            let there = at(theirs, difference, |item| &item.item);
            // One that both lack, or that others were asked about, stands by another answer or not at all.
            (here.is_some() || there.is_some())
                && newest(here) == version(&difference.mine)
                && newest(there) == version(&difference.theirs)
        });
        let still: Vec<usize> = still.map(|(nth, _)| nth).collect();
        still.into_iter().for_each(|nth| self.found[nth].stable = true);
    }
}

fn at_once(positions: &[u64]) -> Vec<Range> {
    places(&positions.iter().copied().map(Position).collect::<Vec<_>>())
}

/// The item of a difference among items in order of their positions.
fn at<'a, T>(items: &'a [T], difference: &Difference, item: impl Fn(&T) -> &Item) -> Option<&'a Item> {
    let first = items.partition_point(|one| item(one).position < difference.position);
    let there = items[first..].iter().map(item);
    there.take_while(|item| item.position == difference.position).find(|item| item.key == difference.key)
}

type Told = Option<(crate::record::Version, Option<u64>)>;

fn version(info: &Option<VersionInfo>) -> Told {
    info.as_ref().map(|info| (info.version.clone(), info.content.map(|digest| digest.short())))
}

fn newest(item: Option<&Item>) -> Told {
    version(&item.and_then(|item| item.versions.first().cloned()))
}
