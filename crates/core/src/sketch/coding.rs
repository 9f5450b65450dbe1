//! How the cells of a range are packed into bytes, on the wire and in a store's rows.
//!
//! Counts travel as what they are beyond what so many elements lead one to expect, and sums without the whole bytes
//! of the prefix that all elements of the range share: about eleven bytes a cell at the root, ten further down.

use super::{Cell, ELEMENT_DEPTH, Element};
use crate::bounds::CELLS_MAX;
use crate::canonical::{DecodeError, Reader, put_varint};
use crate::range::Range;
use crate::wire::{put_range, take_range};

/// Some consecutive cells of a range, as they travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRun {
    /// The range.
    pub range: Range,
    /// Elements in it.
    pub count: u64,
    /// The place of the first cell.
    pub from: usize,
    /// The cells; none if the range keeps none there.
    pub cells: Vec<Cell>,
}

impl CellRun {
    /// Appends the packed run.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_range(out, self.range, 0);
        put_varint(out, self.count);
        put_varint(out, self.from as u64);
        put_varint(out, self.cells.len() as u64);
        pack(out, self.range, self.count, self.from, &self.cells);
    }

    /// Reads a run of at most [`CELLS_MAX`] cells.
    pub fn decode(reader: &mut Reader<'_>) -> Result<CellRun, DecodeError> {
        let (range, 0) = take_range(reader)? else { return Err(DecodeError::Malformed("range of cells")) };
        let count = reader.varint("elements of a range", i64::MAX as u64)?;
        let mut place = || reader.varint("place of a cell", CELLS_MAX as u64).map(|place| place as usize);
        let (from, n) = (place()?, place()?);
        let cells = unpack(reader, range, count, from, n)?;
        Ok(CellRun { range, count, from, cells })
    }

    /// Reads all runs of a message.
    pub fn unpack_all(bytes: &[u8]) -> Result<Vec<CellRun>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut runs = Vec::new();
        while !reader.rest().is_empty() {
            runs.push(CellRun::decode(&mut reader)?);
        }
        Ok(runs)
    }
}

/// Packs elements, which are sorted.
pub fn pack_elements(elements: &[Element]) -> Vec<u8> {
    elements.iter().flat_map(|element| element.0.to_be_bytes()).collect()
}

/// Reads elements; they must rise, so that none comes twice.
pub fn unpack_elements(bytes: &[u8]) -> Result<Vec<Element>, DecodeError> {
    let (elements, rest) = bytes.as_chunks::<8>();
    let elements: Vec<Element> = elements.iter().map(|bytes| Element(u64::from_be_bytes(*bytes))).collect();
    let rising = elements.windows(2).all(|pair| pair[0] < pair[1]);
    if rest.is_empty() && rising { Ok(elements) } else { Err(DecodeError::Malformed("list of elements")) }
}

/// Appends cells `from..from + cells.len()` of a range whose sketch counts `count` elements in all.
pub fn pack(out: &mut Vec<u8>, range: Range, count: u64, from: usize, cells: &[Cell]) {
    let known = known_bytes(range);
    for (place, cell) in (from..).zip(cells) {
        put_varint(out, zigzag(cell.count.wrapping_sub(expected(count, place))));
        out.extend_from_slice(&cell.sum.to_be_bytes()[known..]);
        out.extend_from_slice(&cell.check.to_be_bytes());
    }
}

/// Reads `n` cells that [`pack`] wrote with the same range, count and place; the caller bounds `n`.
pub fn unpack(
    reader: &mut Reader<'_>,
    range: Range,
    count: u64,
    from: usize,
    n: usize,
) -> Result<Vec<Cell>, DecodeError> {
    let known = known_bytes(range);
    let prefix = range.bits() & !(u64::MAX.checked_shr(8 * known as u32).unwrap_or(0));
    let mut cells = Vec::with_capacity(n.min(reader.rest().len() / 8));
    for place in from..from.saturating_add(n) {
        let beyond = unzigzag(reader.varint("elements of a cell", u64::MAX)?);
        let count = expected(count, place).wrapping_add(beyond);
        let mut sum = [0; 8];
        sum[known..].copy_from_slice(reader.take(8 - known)?);
        let check = u16::from_be_bytes(reader.array()?);
        // The prefix is there once for each element, and so not at all if they are even.
        let shared = if count % 2 == 0 { 0 } else { prefix };
        cells.push(Cell { count, sum: u64::from_be_bytes(sum) | shared, check });
    }
    Ok(cells)
}

/// Elements to be expected at a place among so many.
fn expected(count: u64, place: usize) -> i64 {
    (u128::from(count) * 2 / (place as u128 + 2)) as i64
}

/// Whole bytes of an element that the range tells.
fn known_bytes(range: Range) -> usize {
    usize::from(range.depth().min(ELEMENT_DEPTH)) / 2
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}
