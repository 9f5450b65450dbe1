//! How records, entries, nodes and facts about a store become rows of an engine, and back.
//! A row begins with its tag; numbers are big-endian, so rows lie in the order of their fields (see `docs/formats.md`).

mod bases;
mod cells;
mod collecting;
mod expiring;
mod journal;
mod lives;
mod quarantine;

use reknit_core::bounds::KEY_BYTES_MAX;
use reknit_core::canonical::{Reader, put_bytes, put_varint};
use reknit_core::tree::Summary;
use reknit_core::{
    Actor, CollectionId, Content, DecodeError, Digest, Entry, Position, Range, Sibling, Stamp, State, Version,
};

use crate::store::StoreError;
use crate::store::error::shown;

pub(super) use bases::{
    Equal, all_bases, all_except, base, base_value, before, before_within, except, read_base, read_before, read_except,
};
pub(super) use cells::{
    Folded, FoldedRows, Moves, cells_beyond, folded_at, put_cells, read_cells, read_tail, tail, tail_value, tails_of,
};

pub(super) use collecting::{Kept, horizon_value, read_horizon, read_tombstone, tombstone, tombstones_up_to};
pub(super) use expiring::{expiring, expiring_up_to, read_expiring};

pub(super) use journal::{
    all_packed, earlier, earlier_of, packed, packed_of, read_earlier, read_packed, read_place, read_run, run, runs,
    sealed,
};

pub(super) use lives::{Opened, all_met, met, met_value, opening, opening_value, openings, read_met, read_opening};
pub(super) use quarantine::{put_quarantined, quarantined, quarantined_all, read_quarantined};

/// The format of all rows; the row `format` carries it.
pub(super) const FORMAT: u8 = 1;
/// That of a store of bare records: they hold less, and there are no rows of entries.
pub(super) const BARE_FORMAT: u8 = 2;

const META: u8 = 0;
const RECORD: u8 = 1;
const ENTRY: u8 = 2;
const NODE: u8 = 3;
const INDEX: u8 = 4;
const COUNTS: u8 = 5;
const LAYOUT: u8 = 6;
const CELLS: u8 = 7;
const TAIL: u8 = 8;
const CONFLICT: u8 = 12;
const QUARANTINE: u8 = 13;
const OPENING: u8 = 14;
const MET: u8 = 15;
const TOMBSTONE: u8 = 16;
const EXPIRING: u8 = 17;
const BASE: u8 = 18;
const BEFORE: u8 = 19;
const EXCEPT: u8 = 20;

/// Runs of the journal, their packed entries, and where earlier states of a key lie.
const RUN: u8 = 9;
const ENTRIES: u8 = 10;
const EARLIER: u8 = 11;

const NODE_VERSION: u8 = 1;

/// The kinds that an engine may keep packed are those that there are many of.
#[cfg(feature = "embedded-redb")]
const _: () = assert!(matches!(crate::store::engine::PACKED, [RECORD, NODE, CELLS]));

/// Whether a row stays when all records go and come anew: whatever is neither a record nor made of records, nor says what
/// changed since when.
pub(super) fn outlives_content(row: &[u8]) -> bool {
    let made = [RECORD, ENTRY, NODE, INDEX, COUNTS, CELLS, TAIL, BASE, BEFORE, EXCEPT];
    row.first().is_some_and(|kind| !made.contains(kind)) && *row != *meta(super::bases::KEPT)
}

/// Those kinds, in order.
#[cfg(feature = "embedded-redb")]
pub(super) fn packed_kinds() -> [u8; 3] {
    crate::store::engine::PACKED
}

/// Bytes of a record's key that lie in the key of its row. A longer key, which with tag and position would not fit
/// every engine, keeps its beginning there, followed by its hash, and its end in the value.
const KEY_INLINE_MAX: usize = 65_000;
const HASH_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 8;
const RECORD_HEAD: usize = 1 + 2 + 8;
const INDEX_HEAD: usize = 1 + 2;

/// A fact about the whole store.
pub(super) fn meta(name: &str) -> Vec<u8> {
    let mut row = vec![META];
    row.extend_from_slice(name.as_bytes());
    row
}

pub(super) fn counts(collection: CollectionId) -> Vec<u8> {
    head(COUNTS, collection, 0)
}

pub(super) fn layout(collection: CollectionId) -> Vec<u8> {
    head(LAYOUT, collection, 0)
}

fn head(tag: u8, collection: CollectionId, more: usize) -> Vec<u8> {
    let mut row = Vec::with_capacity(3 + more);
    row.push(tag);
    row.extend_from_slice(&collection.0.to_be_bytes());
    row
}

fn placed(tag: u8, collection: CollectionId, position: Position, more: usize) -> Vec<u8> {
    let mut row = head(tag, collection, 8 + more);
    row.extend_from_slice(&position.0.to_be_bytes());
    row
}

/// The first row after all that begin with `row`.
pub(super) fn after_all(mut row: Vec<u8>) -> Vec<u8> {
    while let Some(last) = row.pop() {
        if last < 0xff {
            row.push(last + 1);
            return row;
        }
    }
    vec![0xff; 16]
}

/// The first row after this one.
pub(super) fn after(mut row: Vec<u8>) -> Vec<u8> {
    row.push(0);
    row
}

/// Appends a key as it lies in a row's key; gives the rest that belongs into the value.
fn put_key<'k>(row: &mut Vec<u8>, key: &'k [u8]) -> Option<&'k [u8]> {
    if key.len() <= KEY_INLINE_MAX {
        row.extend_from_slice(key);
        return None;
    }
    row.extend_from_slice(&key[..KEY_INLINE_MAX]);
    row.extend_from_slice(blake3::hash(key).as_bytes());
    Some(&key[KEY_INLINE_MAX..])
}

/// Whether the end of this key lies in the value.
fn is_long(inline: &[u8]) -> bool {
    inline.len() == KEY_INLINE_MAX + HASH_BYTES
}

/// The row of a record, without its value.
pub(super) fn record(collection: CollectionId, position: Position, key: &[u8]) -> Vec<u8> {
    let mut row = placed(RECORD, collection, position, key.len().min(KEY_INLINE_MAX + HASH_BYTES));
    put_key(&mut row, key);
    row
}

/// Makes `value` what the row of a record holds. It begins with a checksum, since not every engine checks what it reads, and a
/// damaged record must be missing rather than wrong.
pub(super) fn put_record_value(value: &mut Vec<u8>, row: &[u8], key: &[u8], commit: u64, state: &State) {
    value.clear();
    value.extend_from_slice(&[0; CHECKSUM_BYTES]);
    put_varint(value, commit);
    if key.len() > KEY_INLINE_MAX {
        put_bytes(value, &key[KEY_INLINE_MAX..]);
    }
    state.encode(value);
    let checksum = checksum(row, &value[CHECKSUM_BYTES..]);
    value[..CHECKSUM_BYTES].copy_from_slice(&checksum);
}

/// Makes `value` what the row of a bare record holds: the digest of its content alone, or, should it be otherwise, its whole
/// state. Engines of such stores check what they read.
pub(super) fn put_bare_value(value: &mut Vec<u8>, key: &[u8], commit: u64, state: &State) {
    value.clear();
    let digest = Some(state).filter(|state| state.versions().len() == 1 && state.winner().expires.is_none());
    let digest = digest.and_then(State::value);
    put_varint(value, commit << 1 | u64::from(digest.is_none()));
    if key.len() > KEY_INLINE_MAX {
        put_bytes(value, &key[KEY_INLINE_MAX..]);
    }
    match digest {
        Some(digest) => value.extend_from_slice(digest),
        None => state.encode(value),
    }
}

/// Reads the row of a bare record. Its version says when it was written here, and by whom.
pub(super) fn read_bare(row: &[u8], value: &[u8], actor: Actor) -> Result<Stored, StoreError> {
    let broken = |error: DecodeError| {
        let key = shown(row.get(RECORD_HEAD..).unwrap_or_default());
        StoreError::damaged(format!("the record of key {key} does not decode: {error}"))
    };
    let read = || {
        let mut reader = Reader::new(row);
        reader.take(3)?;
        let position = Position(reader.u64()?);
        let inline = reader.rest();
        let mut reader = Reader::new(value);
        let told = reader.varint("commit of a record", u64::MAX)?;
        let rest = if is_long(inline) { reader.bytes("bytes of a key", KEY_BYTES_MAX)? } else { &[] };
        let key = whole(inline, rest)?;
        let commit = told >> 1;
        let state = match told & 1 {
            0 => {
                let version = Version::after(Stamp(commit), actor, []);
                State::single(Sibling { version, content: Content::Live(reader.rest().to_vec()), expires: None })
            }
            _ => State::decode(reader.rest())?,
        };
        Ok(Stored { position, key, commit, state })
    };
    read().map_err(broken)
}

fn checksum(row: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(row).update(value);
    let hash = hasher.finalize();
    std::array::from_fn(|i| hash.as_bytes()[i])
}

/// Bounds of the rows of all records of a range.
pub(super) fn records_of(collection: CollectionId, range: Range) -> (Vec<u8>, Vec<u8>) {
    bounds(RECORD, collection, range)
}

/// Bounds of the rows of all entries of a range.
pub(super) fn entries_of(collection: CollectionId, range: Range) -> (Vec<u8>, Vec<u8>) {
    bounds(ENTRY, collection, range)
}

fn bounds(tag: u8, collection: CollectionId, range: Range) -> (Vec<u8>, Vec<u8>) {
    let first = placed(tag, collection, range.first(), 0);
    let end = after_all(placed(tag, collection, range.last(), 0));
    (first, end)
}

/// A record as its row has it.
pub(super) struct Stored {
    pub(super) position: Position,
    pub(super) key: Vec<u8>,
    pub(super) commit: u64,
    pub(super) state: State,
}

/// Reads the row of a record.
pub(super) fn read_record(row: &[u8], value: &[u8]) -> Result<Stored, StoreError> {
    let broken = |error: DecodeError| {
        let key = shown(row.get(RECORD_HEAD..).unwrap_or_default());
        StoreError::damaged(format!("the record of key {key} does not decode: {error}"))
    };
    let mut reader = Reader::new(row);
    reader.take(3).map_err(broken)?;
    let position = Position(reader.u64().map_err(broken)?);
    let inline = reader.rest();
    let (sum, value) = value.split_at_checked(CHECKSUM_BYTES).ok_or_else(|| broken(DecodeError::Truncated))?;
    if sum != checksum(row, value) {
        return Err(broken(DecodeError::Malformed("checksum")));
    }
    let (commit, rest, state) = read_record_value(is_long(inline), value).map_err(broken)?;
    let key = whole(inline, rest).map_err(broken)?;
    Ok(Stored { position, key, commit, state })
}

fn read_record_value(long: bool, value: &[u8]) -> Result<(u64, &[u8], State), DecodeError> {
    let mut reader = Reader::new(value);
    let commit = reader.varint("commit of a record", u64::MAX)?;
    let rest = if long { reader.bytes("bytes of a key", KEY_BYTES_MAX)? } else { &[] };
    Ok((commit, rest, State::decode(reader.rest())?))
}

fn whole(inline: &[u8], rest: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if !is_long(inline) {
        return Ok(inline.to_vec());
    }
    let (front, hash) = inline.split_at(KEY_INLINE_MAX);
    let key = [front, rest].concat();
    if blake3::hash(&key).as_bytes() == hash { Ok(key) } else { Err(DecodeError::Malformed("long key")) }
}

/// The row of the entries at a position.
pub(super) fn entry(collection: CollectionId, position: Position) -> [u8; 11] {
    let mut row = [0; 11];
    row[0] = ENTRY;
    row[1..3].copy_from_slice(&collection.0.to_be_bytes());
    row[3..].copy_from_slice(&position.0.to_be_bytes());
    row
}

/// The digests at a position, as their row holds them.
pub(super) fn entry_value(digests: &[Digest]) -> Vec<u8> {
    let mut value = Vec::with_capacity(32 * digests.len());
    digests.iter().for_each(|digest| value.extend_from_slice(&digest.0));
    value
}

/// Reads the row of the entries at a position; appends them in order.
pub(super) fn read_entries(row: &[u8], value: &[u8], out: &mut Vec<Entry>) -> Result<(), StoreError> {
    let position = row.get(3..11).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    let digests = value.chunks_exact(32);
    let sound = row.len() == 11 && !value.is_empty() && digests.remainder().is_empty();
    let (Some(position), true) = (position.map(|bytes| Position(u64::from_be_bytes(bytes))), sound) else {
        return Err(StoreError::damaged("a row of entries does not decode"));
    };
    for digest in digests {
        let digest = Digest(std::array::from_fn(|i| digest[i]));
        if out.last().is_some_and(|last| *last >= Entry { position, digest }) {
            return Err(StoreError::damaged(format!("entries at position {:016x} are out of order", position.0)));
        }
        out.push(Entry { position, digest });
    }
    Ok(())
}

/// The row of a node.
pub(super) fn node(collection: CollectionId, range: Range) -> [u8; 12] {
    let mut row = [0; 12];
    row[0] = NODE;
    row[1..3].copy_from_slice(&collection.0.to_be_bytes());
    row[3] = range.depth();
    row[4..].copy_from_slice(&range.bits().to_be_bytes());
    row
}

/// Bounds of the rows of the sixteen children of a range that is not of depth 16.
pub(super) fn family(collection: CollectionId, range: Range) -> (Vec<u8>, Vec<u8>) {
    (node(collection, range.child(0)).to_vec(), after(node(collection, range.child(15)).to_vec()))
}

/// Bounds of the rows of all nodes of a depth in a range, which lies no deeper.
pub(super) fn nodes_in(collection: CollectionId, range: Range, depth: u8) -> (Vec<u8>, Vec<u8>) {
    let (first, last) = (Range::of(range.first(), depth), Range::of(range.last(), depth));
    (node(collection, first).to_vec(), after(node(collection, last).to_vec()))
}

/// What the row of a node holds: its version leaves room for more than count and digest.
pub(super) fn node_value(summary: &Summary) -> Vec<u8> {
    let mut value = Vec::with_capacity(43);
    value.push(NODE_VERSION);
    put_varint(&mut value, summary.count);
    value.extend_from_slice(&summary.digest.0);
    value
}

/// Reads the row of a node.
pub(super) fn read_node(row: &[u8], value: &[u8]) -> Result<(Range, Summary), StoreError> {
    let broken = |_| StoreError::damaged("a row of a node does not decode");
    let mut reader = Reader::new(row);
    reader.take(3).map_err(broken)?;
    let depth = reader.u8().map_err(broken)?;
    let bits = reader.u64().map_err(broken)?;
    let range = Range::new(bits, depth).ok_or_else(|| broken(DecodeError::Truncated))?;
    let summary = read_summary(value)
        .map_err(|error| StoreError::damaged(format!("the node of range {range} does not decode: {error}")))?;
    Ok((range, summary))
}

/// Reads what the row of a node holds.
pub(super) fn read_summary(value: &[u8]) -> Result<Summary, DecodeError> {
    let mut reader = Reader::new(value);
    match reader.u8()? {
        NODE_VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let count = reader.varint("entries of a range", u64::MAX)?;
    let digest = Digest(reader.array()?);
    reader.end()?;
    Ok(Summary { count, digest })
}

/// The row of a live key in the index by key, and its value.
pub(super) fn index(collection: CollectionId, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    by_key(INDEX, collection, key)
}

/// The row of a key that has several versions, and its value.
pub(super) fn conflict(collection: CollectionId, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    by_key(CONFLICT, collection, key)
}

fn by_key(tag: u8, collection: CollectionId, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut row = head(tag, collection, key.len().min(KEY_INLINE_MAX + HASH_BYTES));
    let rest = put_key(&mut row, key).map(<[u8]>::to_vec);
    (row, rest.unwrap_or_default())
}

/// Bounds of the rows of all keys that have several versions.
pub(super) fn conflicts_of(collection: CollectionId) -> (Vec<u8>, Vec<u8>) {
    let row = head(CONFLICT, collection, 0);
    (row.clone(), after_all(row))
}

/// Reads the key of a row of a key that has several versions.
pub(super) fn conflict_key(row: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
    row.get(INDEX_HEAD..)
        .ok_or(DecodeError::Truncated)
        .and_then(|inline| whole(inline, value))
        .map_err(|error| StoreError::damaged(format!("a row of the list of conflicts does not decode: {error}")))
}

/// Bounds of the index rows of the keys that begin with `prefix`.
pub(super) fn index_of(collection: CollectionId, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut row = head(INDEX, collection, prefix.len().min(KEY_INLINE_MAX));
    row.extend_from_slice(&prefix[..prefix.len().min(KEY_INLINE_MAX)]);
    let end = after_all(row.clone());
    (row, end)
}

/// Whether keys that share this beginning come in the order of a hash rather than their own.
pub(super) fn long_beginning(index_row: &[u8]) -> Option<&[u8]> {
    let inline = index_row.get(INDEX_HEAD..)?;
    is_long(inline).then(|| &index_row[..INDEX_HEAD + KEY_INLINE_MAX])
}

/// Reads the key of an index row.
pub(super) fn read_index(row: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
    row.get(INDEX_HEAD..)
        .ok_or(DecodeError::Truncated)
        .and_then(|inline| whole(inline, value))
        .map_err(|error| StoreError::damaged(format!("a row of the index by key does not decode: {error}")))
}

/// How many records of a collection are live, and how many are tombstones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) live: u64,
    pub(super) tombstones: u64,
}

impl Counts {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut value = Vec::new();
        put_varint(&mut value, self.live);
        put_varint(&mut value, self.tombstones);
        value
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let live = reader.varint("live records", u64::MAX)?;
        let tombstones = reader.varint("tombstones", u64::MAX)?;
        reader.end()?;
        Ok(Self { live, tombstones })
    }

    /// Counts a record that is live or is not, where before there was such a one or none.
    pub(super) fn replace(&mut self, before_live: Option<bool>, live: bool) {
        self.change(before_live, Some(live));
    }

    /// Counts a record that is live, is not, or is gone, where before there was such a one or none.
    pub(super) fn change(&mut self, before_live: Option<bool>, live: Option<bool>) {
        match before_live {
            Some(true) => self.live = self.live.saturating_sub(1),
            Some(false) => self.tombstones = self.tombstones.saturating_sub(1),
            None => {}
        }
        match live {
            Some(true) => self.live += 1,
            Some(false) => self.tombstones += 1,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::ROW_KEY_BYTES_MAX;

    fn record_value(row: &[u8], key: &[u8], commit: u64, state: &State) -> Vec<u8> {
        let mut value = Vec::new();
        put_record_value(&mut value, row, key, commit, state);
        value
    }

    fn state(value: &[u8]) -> State {
        let version = Version::after(Stamp(5), Actor(6), []);
        State::single(Sibling { version, content: Content::Live(value.to_vec()), expires: None })
    }

    #[test]
    fn keys_of_every_length_come_back() {
        let (collection, position) = (CollectionId(3), Position(0x0123_4567_89ab_cdef));
        for len in [0, 1, KEY_INLINE_MAX - 1, KEY_INLINE_MAX, KEY_INLINE_MAX + 1, KEY_INLINE_MAX + 32, KEY_BYTES_MAX] {
            let key: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0]).collect();
            let row = record(collection, position, &key);
            assert!(row.len() <= ROW_KEY_BYTES_MAX);
            let found = read_record(&row, &record_value(&row, &key, 300, &state(b"v"))).expect("a record");
            assert_eq!((found.position, found.commit, found.state), (position, 300, state(b"v")));
            assert!(found.key == key, "{len}");
            let (row, value) = index(collection, &key);
            assert!(row.len() <= ROW_KEY_BYTES_MAX);
            assert!(read_index(&row, &value).expect("a key") == key, "{len}");
        }
    }

    #[test]
    fn torn_rows_are_refused() {
        let row = record(CollectionId(0), Position(1), b"k");
        let value = record_value(&row, b"k", 1, &state(b"v"));
        let mut flipped = value.clone();
        flipped[12] ^= 1;
        assert!(read_record(&row, &flipped).is_err());
        assert!(read_record(&row[..5], &value).is_err());
        assert!(read_record(&row, &value[..value.len() - 1]).is_err());
        assert!(read_entries(&entry(CollectionId(0), Position(1)), &[0; 33], &mut Vec::new()).is_err());
        assert!(read_summary(&[9; 40]).is_err());
        assert!(Counts::decode(&[1]).is_err());
    }

    #[test]
    fn a_bare_record_is_its_digest_and_little_more() {
        let row = record(CollectionId(0), Position(1), b"k");
        let mut value = Vec::new();
        put_bare_value(&mut value, b"k", 200, &state(&[7; 32]));
        let golden = [&[0x90, 3][..], &[7; 32]].concat();
        assert_eq!(value, golden);
        let found = read_bare(&row, &value, Actor(9)).expect("a record");
        assert_eq!((found.key.as_slice(), found.commit, found.position), (&b"k"[..], 200, Position(1)));
        assert_eq!(found.state.value(), Some(&[7; 32][..]));
        assert_eq!(found.state.winner().version.dot(), Version::after(Stamp(200), Actor(9), []).dot());
        let gone = State::single(Sibling { content: Content::Tombstone, ..state(&[]).winner().clone() });
        put_bare_value(&mut value, b"k", 200, &gone);
        assert_eq!(read_bare(&row, &value, Actor(9)).expect("a record").state, gone);
        assert!(read_bare(&row, &value[..4], Actor(9)).is_err() && read_bare(&row[..5], &value, Actor(9)).is_err());
        let key = vec![5; KEY_INLINE_MAX + 2];
        let row = record(CollectionId(0), Position(1), &key);
        put_bare_value(&mut value, &key, 0, &state(&[7; 32]));
        assert!(read_bare(&row, &value, Actor(9)).expect("a record").key == key);
    }

    #[test]
    fn the_end_of_a_prefix_is_beyond_all_its_rows() {
        assert_eq!(after_all(vec![1, 0xff, 0xff]), vec![2]);
        assert_eq!(after_all(vec![1, 2]), vec![1, 3]);
        let (start, end) = records_of(CollectionId(0), Range::ALL);
        let last = record(CollectionId(0), Position(u64::MAX), &[0xff; 9]);
        assert!(start <= last && last < end && end <= record(CollectionId(1), Position(0), b""));
    }
}
