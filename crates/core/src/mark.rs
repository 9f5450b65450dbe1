//! Marks: what a side tells of a record so that the other sees whose is newer, without key, vector or content.
//!
//! What is done about it is the sessions' concern; the bytes are pinned by golden vectors.

use std::collections::BTreeMap;

use crate::bounds::RANGES_PER_MESSAGE_MAX;
use crate::canonical::{DecodeError, Reader, put_varint};
use crate::query::Item;
use crate::range::{Position, Range};
use crate::record::Actor;
use crate::rising::{put_rising, take_rising};
use crate::sketch::ELEMENT_DEPTH;
use crate::stamp::Stamp;

/// Bits of a stamp that count within a millisecond.
const COUNTER_BITS: u32 = 16;
const COUNTER: u64 = (1 << COUNTER_BITS) - 1;
/// Bits of a place: the positions that an element may stand for.
const PLACE_BITS: u32 = 4 * ELEMENT_DEPTH as u32;

/// How the newest version of the only record at a place ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Where: a range of [`ELEMENT_DEPTH`].
    pub place: Range,
    /// When it was written.
    pub stamp: Stamp,
    /// By whom.
    pub actor: Actor,
    /// The digest of its content, cut short; zero of a tombstone. Of another side's mark its first three bytes, if each
    /// was told ([`Grain`]).
    pub content: u64,
}

impl Mark {
    /// Whether two records seem to have the same content, of which one mark is another side's.
    pub fn seems_same(&self, other: &Mark) -> bool {
        self.content >> 40 == other.content >> 40
    }

    /// What decides which of two versions wins, before their contents do.
    pub fn rank(&self) -> (Stamp, Actor) {
        (self.stamp, self.actor)
    }

    /// The mark of a record; none if it has no entry, and so no place in a tree.
    pub fn of(item: &Item) -> Option<Mark> {
        let newest = item.versions.first().filter(|_| item.digest.is_some())?;
        let place = Range::of(item.position, ELEMENT_DEPTH);
        let content = newest.content.map_or(0, |digest| digest.short());
        Some(Mark { place, stamp: newest.version.stamp, actor: newest.version.actor, content })
    }
}

/// Sorts items by place: those that are alone there, and the places that hold none or several.
pub fn alone(places: &[Range], items: Vec<Item>) -> (Vec<(Mark, Item)>, Vec<Range>) {
    let mut held: BTreeMap<Range, Vec<(Mark, Item)>> = places.iter().map(|place| (*place, Vec::new())).collect();
    for item in items {
        if let Some(mark) = Mark::of(&item)
            && let Some(there) = held.get_mut(&mark.place)
        {
            there.push((mark, item));
        }
    }
    let (mut lone, mut unclear) = (Vec::new(), Vec::new());
    for (place, mut there) in held {
        match there.pop() {
            Some(one) if there.is_empty() => lone.push(one),
            _ => unclear.push(place),
        }
    }
    (lone, unclear)
}

/// How closely marks tell their contents apart, so that a content that the other side has need not travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grain {
    /// Each by three bytes: where few are told of, and most differ.
    #[default]
    Each,
    /// Sixteen together by four bytes: where many are told of, and contents differ everywhere or hardly anywhere.
    Sixteen,
}

impl Grain {
    fn marks(self) -> usize {
        match self {
            Grain::Each => 1,
            Grain::Sixteen => 16,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Grain::Each => 3,
            Grain::Sixteen => 4,
        }
    }

    /// What tells the contents of some neighbours.
    fn check(self, contents: impl Iterator<Item = u64>) -> u32 {
        let mixed = contents.fold(0u64, |mixed, content| mixed.rotate_left(23).wrapping_mul(MIX) ^ content);
        (mixed >> (64 - 8 * self.bytes())) as u32
    }
}

/// An odd number with its bits evenly spread: the golden ratio's.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Another side's marks, sorted by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The marks.
    pub list: Vec<Mark>,
    grain: Grain,
    checks: Vec<u32>,
}

impl Marks {
    /// Which contents seem to be the same as ours, given for each mark in order where there is just one record.
    pub fn same(&self, own: &[Option<u64>]) -> Vec<bool> {
        let grain = self.grain;
        let mut same = Vec::with_capacity(own.len());
        for (contents, check) in own.chunks(grain.marks()).zip(&self.checks) {
            let all = contents.iter().all(Option::is_some);
            let equal = all && grain.check(contents.iter().flatten().copied()) == *check;
            same.extend(contents.iter().map(|_| equal));
        }
        same
    }
}

/// Packs marks, which are sorted by place: the places, the actors, the newest time, then of each how much older it is,
/// its counter unless that is nothing, and if there are several actors, which; then what tells their contents.
pub fn pack_marks(marks: &[Mark], grain: Grain) -> Vec<u8> {
    let mut out = Vec::new();
    if marks.is_empty() {
        return out;
    }
    let places: Vec<u64> = marks.iter().map(|mark| mark.place.bits() >> (64 - PLACE_BITS)).collect();
    put_rising(&mut out, PLACE_BITS, &places);
    let mut actors: Vec<Actor> = marks.iter().map(|mark| mark.actor).collect();
    actors.sort_unstable();
    actors.dedup();
    put_varint(&mut out, actors.len() as u64);
    actors.iter().for_each(|actor| out.extend_from_slice(&actor.0.to_be_bytes()));
    let newest = marks.iter().map(|mark| mark.stamp.0 >> COUNTER_BITS).max().unwrap_or(0);
    put_varint(&mut out, newest);
    for mark in marks {
        let (time, counter) = (mark.stamp.0 >> COUNTER_BITS, mark.stamp.0 & COUNTER);
        put_varint(&mut out, (newest - time) << 1 | u64::from(counter > 0));
        if counter > 0 {
            put_varint(&mut out, counter - 1);
        }
        if actors.len() > 1 {
            put_varint(&mut out, actors.partition_point(|actor| *actor < mark.actor) as u64);
        }
    }
    out.push(grain.marks() as u8);
    for together in marks.chunks(grain.marks()) {
        let check = grain.check(together.iter().map(|mark| mark.content));
        out.extend_from_slice(&check.to_be_bytes()[4 - grain.bytes()..]);
    }
    out
}

/// Reads marks, a bounded number.
///
/// # Errors
/// [`DecodeError`] for anything but the bytes of marks.
pub fn unpack_marks(bytes: &[u8]) -> Result<Marks, DecodeError> {
    if bytes.is_empty() {
        return Ok(Marks::default());
    }
    let mut reader = Reader::new(bytes);
    let places = take_rising(&mut reader, "places of marks", PLACE_BITS, RANGES_PER_MESSAGE_MAX)?;
    let n = reader.varint("actors of marks", places.len() as u64)?;
    let actors = (0..n).map(|_| reader.u64().map(Actor)).collect::<Result<Vec<_>, _>>()?;
    let newest = reader.varint("time of a mark", u64::MAX >> COUNTER_BITS)?;
    let mut marks = Vec::with_capacity(places.len());
    for place in places {
        let age = reader.varint("age of a mark", newest << 1 | 1)?;
        let counter = if age & 1 == 1 { reader.varint("counter of a mark", COUNTER - 1)? + 1 } else { 0 };
        let stamp = Stamp((newest - (age >> 1)) << COUNTER_BITS | counter);
        let actor = if n > 1 { reader.varint("actor of a mark", n)? as usize } else { 0 };
        let actor = *actors.get(actor).ok_or(DecodeError::Malformed("actor of a mark"))?;
        let place = Range::of(Position(place << (64 - PLACE_BITS)), ELEMENT_DEPTH);
        marks.push(Mark { place, stamp, actor, content: 0 });
    }
    let grain = match reader.u8()? {
        1 => Grain::Each,
        16 => Grain::Sixteen,
        _ => return Err(DecodeError::Malformed("grain of marks")),
    };
    let mut checks = Vec::with_capacity(marks.len().div_ceil(grain.marks()));
    for _ in marks.chunks(grain.marks()) {
        let bytes = reader.take(grain.bytes())?;
        checks.push(bytes.iter().fold(0, |check, byte| check << 8 | u32::from(*byte)));
    }
    reader.end()?;
    if grain == Grain::Each {
        marks.iter_mut().zip(&checks).for_each(|(mark, check)| mark.content = u64::from(*check) << 40);
    }
    Ok(Marks { list: marks, grain, checks })
}

/// Packs which of a list are meant, by their places in it, which rise.
pub fn pack_places(places: &[usize]) -> Vec<u8> {
    let (mut out, mut next) = (Vec::new(), 0);
    for place in places {
        put_varint(&mut out, (place - next) as u64);
        next = place + 1;
    }
    out
}

/// Reads which of a list of `length` are meant.
///
/// # Errors
/// [`DecodeError`] for anything but the bytes of places below `length`.
pub fn unpack_places(bytes: &[u8], length: usize) -> Result<Vec<usize>, DecodeError> {
    let (mut reader, mut places, mut next) = (Reader::new(bytes), Vec::new(), 0);
    while !reader.rest().is_empty() {
        let place = next + reader.varint("place in a list", length as u64)? as usize;
        if place >= length {
            return Err(DecodeError::Malformed("place in a list"));
        }
        places.push(place);
        next = place + 1;
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_and_places_come_back(
            drawn in proptest::collection::btree_map(any::<u64>(), (any::<u64>(), 0u64..4, any::<u16>()), 0..40), chosen: u64, other: usize,
        ) {
            let mark = |(bits, (stamp, actor, content)): (u64, (u64, u64, u16))| {
                let place = Range::of(Position(bits), ELEMENT_DEPTH);
                Mark { place, stamp: Stamp(stamp), actor: Actor(actor), content: u64::from(content) << 48 }
            };
            let mut marks: Vec<Mark> = drawn.into_iter().map(mark).collect();
            marks.dedup_by_key(|mark| mark.place);
            let told = unpack_marks(&pack_marks(&marks, Grain::Each)).expect("marks");
            prop_assert_eq!(&told.list, &marks);
            let mut own: Vec<Option<u64>> = marks.iter().map(|mark| Some(mark.content)).collect();
            for grain in [Grain::Each, Grain::Sixteen] {
                let told = unpack_marks(&pack_marks(&marks, grain)).expect("marks");
                prop_assert!(told.list.iter().zip(&marks).all(|(a, b)| a.place == b.place && a.rank() == b.rank()));
                prop_assert_eq!(told.same(&own), vec![true; marks.len()]);
            }
            if let Some(changed) = other.checked_rem(marks.len()) {
                own[changed] = own[changed].map(|content| content ^ 1 << 50);
                let differ = |grain: Grain| {
                    let told = unpack_marks(&pack_marks(&marks, grain)).expect("marks");
                    (0..).zip(told.same(&own)).filter(|(_, same)| !same).map(|(nth, _)| nth).collect::<Vec<usize>>()
                };
                prop_assert_eq!(differ(Grain::Each), vec![changed]);
                let together = changed / 16 * 16..marks.len().min(changed / 16 * 16 + 16);
                prop_assert_eq!(differ(Grain::Sixteen), together.collect::<Vec<_>>());
            }
            let places: Vec<usize> = (0..marks.len()).filter(|i| chosen >> i & 1 == 1).collect();
            prop_assert_eq!(unpack_places(&pack_places(&places), marks.len()), Ok(places));
        }

        #[test]
        fn bytes_of_anyone_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0usize..50) {
            let _ = unpack_marks(&bytes);
            let _ = unpack_places(&bytes, length);
        }
    }
}
