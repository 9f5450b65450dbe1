//! How ranges, items and records are packed into bytes.
//!
//! Canonical and bounded: what is read back is exactly what was written, or an error. The grammar is
//! in `docs/protocol.md`.

use crate::bounds::{
    COUNT_MAX, KEY_BYTES_MAX, LEVELS_MAX, RANGES_PER_MESSAGE_MAX, RECORD_FRAME_BYTES_MAX, VERSIONS_MAX,
};
use crate::canonical::{DecodeError, Reader, put_bytes, put_varint};
use crate::dataset::CollectionId;
use crate::digest::Digest;
use crate::message::Transfer;
use crate::query::{Guard, Incoming, Item, VersionInfo};
use crate::range::{DEPTH_MAX, Position, Range};
use crate::record::{Record, Version};

const KIND_NONE: u8 = 0;
const KIND_ALL: u8 = 1;
const KIND_PARTS: u8 = 2;
const KIND_ENTRIES: u8 = 3;
const KIND_REST: u8 = 4;
/// Entries in one view; only a position that very many keys share comes near it.
const ENTRIES_MAX: usize = 4096;

/// How one side sees a range, cut to what travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeView {
    /// The range.
    pub range: Range,
    /// What the side says of it.
    pub body: Body,
}

/// What a side says of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// I have nothing here.
    None,
    /// You have nothing here, I have so many entries.
    All(u64),
    /// The digests of its 16^levels parts, cut to `width` bytes; none where a part is empty.
    Parts {
        /// How many levels below.
        levels: u8,
        /// Bytes of each digest.
        width: u8,
        /// One for each part, in order.
        digests: Vec<Option<Digest>>,
    },
    /// All entries, with digests cut to `width` bytes.
    Entries {
        /// Bytes of each digest.
        width: u8,
        /// Position and digest, sorted.
        entries: Vec<(Position, Digest)>,
    },
    /// What the range is worth without some of its parts ([`crate::tree::rest`]); only in a comparison.
    Rest {
        /// The parts, sorted and disjoint, all below the range.
        parts: Vec<Range>,
        /// The digest of the rest, whole.
        digest: Digest,
    },
}

/// Appends a range: its depth, then the bytes of its prefix.
pub fn put_range(out: &mut Vec<u8>, range: Range, kind: u8) {
    out.push(range.depth() | kind << 5);
    out.extend_from_slice(&range.bits().to_be_bytes()[..prefix_bytes(range)]);
}

/// Reads a range and the three bits that came with it.
///
/// # Errors
/// [`DecodeError`] for anything but the bytes of a range.
pub fn take_range(reader: &mut Reader<'_>) -> Result<(Range, u8), DecodeError> {
    let head = reader.u8()?;
    let depth = head & 31;
    if depth > DEPTH_MAX {
        return Err(DecodeError::Malformed("depth of a range"));
    }
    let mut bits = [0; 8];
    let n = usize::from(depth).div_ceil(2);
    bits[..n].copy_from_slice(reader.take(n)?);
    let range = Range::new(u64::from_be_bytes(bits), depth).ok_or(DecodeError::Malformed("prefix of a range"))?;
    Ok((range, head >> 5))
}

/// Packs ranges alone.
pub fn pack_ranges(ranges: &[Range]) -> Vec<u8> {
    let mut out = Vec::new();
    ranges.iter().for_each(|range| put_range(&mut out, *range, 0));
    out
}

/// Reads ranges alone, a bounded number.
///
/// # Errors
/// [`DecodeError`] for anything but the bytes of ranges.
pub fn unpack_ranges(bytes: &[u8]) -> Result<Vec<Range>, DecodeError> {
    unpack_all(bytes, |reader| match take_range(reader)? {
        (range, 0) => Ok(range),
        _ => Err(DecodeError::Malformed("range")),
    })
}

impl RangeView {
    /// Appends the packed view.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.body {
            Body::None => put_range(out, self.range, KIND_NONE),
            Body::All(count) => {
                put_range(out, self.range, KIND_ALL);
                put_varint(out, *count);
            }
            Body::Parts { levels, width, digests } => {
                put_range(out, self.range, KIND_PARTS);
                out.push(levels << 6 | width);
                let present = digests.chunks(8).map(|eight| {
                    eight.iter().enumerate().fold(0u8, |bits, (i, part)| bits | u8::from(part.is_some()) << i)
                });
                out.extend(present);
                digests.iter().flatten().for_each(|digest| out.extend_from_slice(&digest.0[..usize::from(*width)]));
            }
            Body::Entries { width, entries } => {
                put_range(out, self.range, KIND_ENTRIES);
                out.push(*width);
                put_varint(out, entries.len() as u64);
                for (position, digest) in entries {
                    out.extend_from_slice(&position.0.to_be_bytes()[known_bytes(self.range)..]);
                    out.extend_from_slice(&digest.0[..usize::from(*width)]);
                }
            }
            Body::Rest { parts, digest } => {
                put_range(out, self.range, KIND_REST);
                put_varint(out, parts.len() as u64);
                parts.iter().for_each(|part| put_range(out, *part, 0));
                out.extend_from_slice(&digest.0);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<RangeView, DecodeError> {
        let (range, kind) = take_range(reader)?;
        let body = match kind {
            KIND_NONE => Body::None,
            KIND_ALL => Body::All(reader.varint("entries of a range", COUNT_MAX)?),
            KIND_PARTS => take_parts(reader, range)?,
            KIND_ENTRIES => take_entries(reader, range)?,
            KIND_REST => take_rest(reader, range)?,
            _ => return Err(DecodeError::Malformed("view of a range")),
        };
        Ok(RangeView { range, body })
    }

    /// Reads all views of a message, a bounded number.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the bytes of views.
    pub fn unpack(bytes: &[u8]) -> Result<Vec<RangeView>, DecodeError> {
        unpack_all(bytes, RangeView::decode)
    }
}

fn take_parts(reader: &mut Reader<'_>, range: Range) -> Result<Body, DecodeError> {
    let head = reader.u8()?;
    let (levels, width) = (head >> 6, head & 63);
    let deep = u16::from(range.depth()) + u16::from(levels) > u16::from(DEPTH_MAX);
    if levels == 0 || levels > LEVELS_MAX || deep || !(1..=32).contains(&width) {
        return Err(DecodeError::Malformed("parts of a range"));
    }
    let parts = 1usize << (4 * levels);
    let present = reader.take(parts / 8)?;
    let part = |i: usize| -> Result<Option<Digest>, DecodeError> {
        if present[i / 8] >> (i % 8) & 1 == 0 { Ok(None) } else { take_digest(reader, width).map(Some) }
    };
    Ok(Body::Parts { levels, width, digests: (0..parts).map(part).collect::<Result<_, _>>()? })
}

fn take_entries(reader: &mut Reader<'_>, range: Range) -> Result<Body, DecodeError> {
    let width = reader.u8()?;
    if !(1..=32).contains(&width) {
        return Err(DecodeError::Malformed("entries of a range"));
    }
    let n = reader.varint("entries of a view", ENTRIES_MAX as u64)?;
    let mut entries: Vec<(Position, Digest)> = Vec::new();
    for _ in 0..n {
        let mut position = range.bits().to_be_bytes();
        let known = known_bytes(range);
        position[known..].copy_from_slice(reader.take(8 - known)?);
        let position = Position(u64::from_be_bytes(position));
        let entry = (position, take_digest(reader, width)?);
        if !range.contains(position) || entries.last().is_some_and(|last| *last > entry) {
            return Err(DecodeError::Malformed("order of entries"));
        }
        entries.push(entry);
    }
    Ok(Body::Entries { width, entries })
}

fn take_rest(reader: &mut Reader<'_>, range: Range) -> Result<Body, DecodeError> {
    let n = reader.varint("parts of a range", RANGES_PER_MESSAGE_MAX as u64)?;
    let mut parts: Vec<Range> = Vec::new();
    for _ in 0..n {
        let (part, 0) = take_range(reader)? else { return Err(DecodeError::Malformed("part of a range")) };
        if !range.covers(part) || parts.last().is_some_and(|last| last.last() >= part.first()) {
            return Err(DecodeError::Malformed("order of parts"));
        }
        parts.push(part);
    }
    Ok(Body::Rest { parts, digest: take_digest(reader, 32)? })
}

fn take_digest(reader: &mut Reader<'_>, width: u8) -> Result<Digest, DecodeError> {
    let mut digest = Digest::ZERO;
    digest.0[..usize::from(width)].copy_from_slice(reader.take(usize::from(width))?);
    Ok(digest)
}

/// Bytes that tell the prefix of a range.
fn prefix_bytes(range: Range) -> usize {
    usize::from(range.depth()).div_ceil(2)
}

/// Whole bytes of a position that its range already tells.
fn known_bytes(range: Range) -> usize {
    usize::from(range.depth()) / 2
}

/// An item as it travels: digests cut to eight bytes, and whether it was written since the cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireItem {
    /// The item; its commit stays at home and reads 0.
    pub item: Item,
    /// Whether anyone but the session wrote it since the cut.
    pub fresh: bool,
}

impl WireItem {
    /// Appends the packed item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.item.position.0.to_be_bytes());
        put_bytes(out, &self.item.key);
        out.push(u8::from(self.fresh) | u8::from(self.item.digest.is_some()) << 1);
        if let Some(digest) = self.item.digest {
            out.extend_from_slice(&digest.0[..8]);
        }
        put_varint(out, self.item.versions.len() as u64);
        for info in &self.item.versions {
            info.version.encode(out);
            out.push(u8::from(info.content.is_some()) | u8::from(info.expires.is_some()) << 1);
            if let Some(content) = info.content {
                out.extend_from_slice(&content.0[..8]);
                put_varint(out, info.bytes);
            }
            if let Some(expires) = info.expires {
                out.extend_from_slice(&expires.to_be_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<WireItem, DecodeError> {
        let position = Position(reader.u64()?);
        let key = reader.bytes("bytes of a key", KEY_BYTES_MAX)?.to_vec();
        let flags = take_bits(reader, 3)?;
        let digest = if flags & 2 != 0 { Some(take_digest(reader, 8)?) } else { None };
        let n = reader.varint("versions of a key", VERSIONS_MAX as u64)?;
        let mut versions = Vec::new();
        for _ in 0..n {
            let version = Version::decode(reader)?;
            let flags = take_bits(reader, 3)?;
            let (mut content, mut bytes) = (None, 0);
            if flags & 1 != 0 {
                content = Some(take_digest(reader, 8)?);
                bytes = reader.varint("bytes of a value", u64::MAX)?;
            }
            let expires = if flags & 2 != 0 { Some(reader.u64()?) } else { None };
            versions.push(VersionInfo { version, content, bytes, expires });
        }
        if versions.is_empty() {
            return Err(DecodeError::Malformed("item without a version"));
        }
        Ok(WireItem { item: Item { position, key, digest, versions, commit: 0 }, fresh: flags & 1 != 0 })
    }

    /// Reads all items of a message, a bounded number.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the bytes of items.
    pub fn unpack(bytes: &[u8]) -> Result<Vec<WireItem>, DecodeError> {
        unpack_all(bytes, WireItem::decode)
    }
}

fn take_bits(reader: &mut Reader<'_>, known: u8) -> Result<u8, DecodeError> {
    let flags = reader.u8()?;
    if flags & !known == 0 { Ok(flags) } else { Err(DecodeError::Malformed("flags")) }
}

fn unpack_all<T>(
    bytes: &[u8],
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while !reader.rest().is_empty() {
        if out.len() == RANGES_PER_MESSAGE_MAX {
            let (found, limit) = (out.len() as u64 + 1, RANGES_PER_MESSAGE_MAX as u64);
            return Err(DecodeError::Bound { what: "parts of a message", found, limit });
        }
        out.push(one(&mut reader)?);
    }
    Ok(out)
}

/// A frame on a lane of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordFrame {
    /// Some records of a transfer.
    Records {
        /// The transfer.
        transfer: Transfer,
        /// Records, each with when it may be written.
        records: Vec<Incoming>,
    },
    /// A part of one record that is larger than a frame: its canonical bytes, cut.
    Chunk {
        /// The transfer.
        transfer: Transfer,
        /// When the record may be written.
        guard: Guard,
        /// Bytes of the whole record.
        total: u64,
        /// The next of them.
        bytes: Vec<u8>,
    },
    /// Nothing more comes in this transfer.
    End {
        /// The transfer.
        transfer: Transfer,
        /// Records that were sent in it.
        records: u64,
        /// Records that were wanted and had moved.
        moved: u64,
    },
}

impl RecordFrame {
    /// The frame's bytes, before compression.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            RecordFrame::Records { transfer, records } => {
                out.push(0);
                put_transfer(&mut out, *transfer);
                for incoming in records {
                    put_guard(&mut out, incoming.guard);
                    incoming.record.encode(&mut out);
                }
            }
            RecordFrame::Chunk { transfer, guard, total, bytes } => {
                out.push(1);
                put_transfer(&mut out, *transfer);
                put_guard(&mut out, *guard);
                put_varint(&mut out, *total);
                out.extend_from_slice(bytes);
            }
            RecordFrame::End { transfer, records, moved } => {
                out.push(2);
                put_transfer(&mut out, *transfer);
                put_varint(&mut out, *records);
                put_varint(&mut out, *moved);
            }
        }
        out
    }

    /// Reads a frame of records.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but such a frame, its records within their bounds.
    pub fn decode(frame: &[u8]) -> Result<RecordFrame, DecodeError> {
        let limit = RECORD_FRAME_BYTES_MAX + KEY_BYTES_MAX;
        if frame.len() > limit {
            let (found, limit) = (frame.len() as u64, limit as u64);
            return Err(DecodeError::Bound { what: "bytes of a record frame", found, limit });
        }
        let mut reader = Reader::new(frame);
        let kind = reader.u8()?;
        let number = |reader: &mut Reader<'_>, what| reader.varint(what, u64::from(u16::MAX)).map(|n| n as u16);
        let seq = number(&mut reader, "number of a transfer")?;
        let transfer = Transfer(seq, CollectionId(number(&mut reader, "collection of a transfer")?));
        match kind {
            0 => {
                let mut records = Vec::new();
                while !reader.rest().is_empty() {
                    let guard = take_guard(&mut reader)?;
                    records.push(Incoming { record: Record::decode(&mut reader)?, guard });
                }
                Ok(RecordFrame::Records { transfer, records })
            }
            1 => {
                let guard = take_guard(&mut reader)?;
                let total = reader.varint("bytes of a record", u64::MAX)?;
                Ok(RecordFrame::Chunk { transfer, guard, total, bytes: reader.rest().to_vec() })
            }
            2 => {
                let records = reader.varint("records of a transfer", u64::MAX)?;
                let moved = reader.varint("records that moved", u64::MAX)?;
                reader.end()?;
                Ok(RecordFrame::End { transfer, records, moved })
            }
            _ => Err(DecodeError::Malformed("kind of record frame")),
        }
    }
}

fn put_transfer(out: &mut Vec<u8>, transfer: Transfer) {
    put_varint(out, u64::from(transfer.0));
    put_varint(out, u64::from(transfer.1.0));
}

fn put_guard(out: &mut Vec<u8>, guard: Guard) {
    match guard {
        Guard::Join => out.push(0),
        Guard::Bare => out.push(3),
        Guard::IfShort(None) => out.push(1),
        Guard::IfShort(Some(short)) => {
            out.push(2);
            out.extend_from_slice(&short.to_be_bytes());
        }
    }
}

fn take_guard(reader: &mut Reader<'_>) -> Result<Guard, DecodeError> {
    match reader.u8()? {
        0 => Ok(Guard::Join),
        1 => Ok(Guard::IfShort(None)),
        2 => Ok(Guard::IfShort(Some(reader.u64()?))),
        3 => Ok(Guard::Bare),
        _ => Err(DecodeError::Malformed("guard of a record")),
    }
}
