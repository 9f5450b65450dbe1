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
}

impl Mark {
    /// What decides which of two versions wins, before their contents do.
    pub fn rank(&self) -> (Stamp, Actor) {
        (self.stamp, self.actor)
    }

    /// The mark of a record; none if it has no entry, and so no place in a tree.
    pub fn of(item: &Item) -> Option<Mark> {
        let newest = item.versions.first().filter(|_| item.digest.is_some())?;
        let place = Range::of(item.position, ELEMENT_DEPTH);
        Some(Mark { place, stamp: newest.version.stamp, actor: newest.version.actor })
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

/// Packs marks, which are sorted by place: the places, the actors, the newest time, then of each how much older it is,
/// its counter unless that is nothing, and if there are several actors, which.
pub fn pack_marks(marks: &[Mark]) -> Vec<u8> {
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
    out
}

/// Reads marks, a bounded number.
pub fn unpack_marks(bytes: &[u8]) -> Result<Vec<Mark>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
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
        marks.push(Mark { place, stamp, actor });
    }
    reader.end()?;
    Ok(marks)
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
            drawn in proptest::collection::btree_map(any::<u64>(), (any::<u64>(), 0u64..4), 0..40), chosen: u64,
        ) {
            let mark = |(bits, (stamp, actor)): (u64, (u64, u64))| {
                Mark { place: Range::of(Position(bits), ELEMENT_DEPTH), stamp: Stamp(stamp), actor: Actor(actor) }
            };
            let mut marks: Vec<Mark> = drawn.into_iter().map(mark).collect();
            marks.dedup_by_key(|mark| mark.place);
            prop_assert_eq!(unpack_marks(&pack_marks(&marks)), Ok(marks.clone()));
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
