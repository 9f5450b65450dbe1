//! How the cells of a range are packed into bytes, on the wire and in a store's rows.
//!
//! Sums go without the whole bytes of the prefix that all elements of the range share. A store's rows keep whole
//! counts, as what they are beyond what so many elements lead one to expect; on the wire less is enough ([`CellRun`]).

use super::{COUNTED, Cell, ELEMENT_DEPTH, Element};
use crate::bounds::{CELLS_MAX, RANGES_PER_MESSAGE_MAX};
use crate::canonical::{DecodeError, Reader, put_varint};
use crate::range::Range;
use crate::rising::{put_rising, take_rising};
use crate::wire::{put_range, take_range};

/// Some consecutive cells of a range, as they travel.
///
/// Whoever subtracts them knows how many elements both sides have, so little of a count is needed: sixteen bits of
/// the first [`COUNTED`] cells, for estimates, and what is left of four of the others, for signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRun {
    /// The range.
    pub range: Range,
    /// Elements in it.
    pub count: u64,
    /// The place of the first cell.
    pub from: usize,
    /// The cells, with what is left of their counts; none if the range keeps none there.
    pub cells: Vec<Cell>,
}

impl CellRun {
    /// A run of these cells, cut to what travels.
    pub fn new(range: Range, count: u64, from: usize, cells: &[Cell]) -> CellRun {
        let cut = |(place, cell): (usize, &Cell)| Cell { count: cell.count.rem_euclid(modulus(place)), ..*cell };
        CellRun { range, count, from, cells: (from..).zip(cells).map(cut).collect() }
    }

    /// Appends the packed run.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let known = known_bytes(self.range);
        put_range(out, self.range, 0);
        put_varint(out, self.count);
        put_varint(out, self.from as u64);
        put_varint(out, self.cells.len() as u64);
        let counted = COUNTED.saturating_sub(self.from).min(self.cells.len());
        let (counts, rest) = self.cells.split_at(counted);
        counts.iter().for_each(|cell| out.extend_from_slice(&(cell.count as u16).to_be_bytes()));
        out.extend(
            rest.chunks(4).map(|four| (0..).zip(four).fold(0u8, |b, (i, cell)| b | (cell.count as u8 & 3) << (2 * i))),
        );
        for cell in &self.cells {
            out.extend_from_slice(&cell.sum.to_be_bytes()[known..]);
            out.extend_from_slice(&cell.check.to_be_bytes());
        }
    }

    /// Reads a run of at most [`CELLS_MAX`] cells.
    pub fn decode(reader: &mut Reader<'_>) -> Result<CellRun, DecodeError> {
        let (range, 0) = take_range(reader)? else { return Err(DecodeError::Malformed("range of cells")) };
        let count = reader.varint("elements of a range", i64::MAX as u64)?;
        let mut place = || reader.varint("place of a cell", CELLS_MAX as u64).map(|place| place as usize);
        let (from, n) = (place()?, place()?);
        let counted = COUNTED.saturating_sub(from).min(n);
        let wide = reader.take(2 * counted)?.as_chunks::<2>().0;
        let wide = wide.iter().map(|bytes| i64::from(u16::from_be_bytes(*bytes)));
        let narrow = reader.take((n - counted).div_ceil(4))?;
        let narrow = narrow.iter().flat_map(|four| (0..4).map(|i| i64::from(*four >> (2 * i) & 3)));
        let (known, prefix) = (known_bytes(range), prefix(range));
        let mut cells = Vec::with_capacity(n.min(reader.rest().len() / 5));
        for beyond in wide.chain(narrow).take(n) {
            cells.push(take_cell(reader, known, prefix, beyond)?);
        }
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

/// What travels of the count of the cell at a place is what is left of this.
fn modulus(place: usize) -> i64 {
    if place < COUNTED { 1 << 16 } else { 4 }
}

/// Packs elements, which rise ([`crate::rising`]).
pub fn pack_elements(elements: &[Element]) -> Vec<u8> {
    let numbers: Vec<u64> = elements.iter().map(|element| element.0).collect();
    let mut out = Vec::new();
    if !numbers.is_empty() {
        put_rising(&mut out, u64::BITS, &numbers);
    }
    out
}

/// Reads elements, a bounded number.
pub fn unpack_elements(bytes: &[u8]) -> Result<Vec<Element>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    let numbers = take_rising(&mut reader, "elements of a message", u64::BITS, RANGES_PER_MESSAGE_MAX)?;
    reader.end()?;
    Ok(numbers.into_iter().map(Element).collect())
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
    let (known, prefix) = (known_bytes(range), prefix(range));
    let mut cells = Vec::with_capacity(n.min(reader.rest().len() / 5));
    for place in from..from.saturating_add(n) {
        let beyond = unzigzag(reader.varint("elements of a cell", u64::MAX)?);
        cells.push(take_cell(reader, known, prefix, expected(count, place).wrapping_add(beyond))?);
    }
    Ok(cells)
}

fn take_cell(reader: &mut Reader<'_>, known: usize, prefix: u64, count: i64) -> Result<Cell, DecodeError> {
    let mut sum = [0; 8];
    sum[known..].copy_from_slice(reader.take(8 - known)?);
    let check = u16::from_be_bytes(reader.array()?);
    // The prefix is there once for each element, and so not at all if they are even.
    let shared = if count % 2 == 0 { 0 } else { prefix };
    Ok(Cell { count, sum: u64::from_be_bytes(sum) | shared, check })
}

/// Elements to be expected at a place among so many.
fn expected(count: u64, place: usize) -> i64 {
    (u128::from(count) * 2 / (place as u128 + 2)) as i64
}

/// Whole bytes of an element that the range tells.
fn known_bytes(range: Range) -> usize {
    usize::from(range.depth().min(ELEMENT_DEPTH)) / 2
}

/// Those bytes, where they stand in an element.
fn prefix(range: Range) -> u64 {
    range.bits() & !u64::MAX.checked_shr(8 * known_bytes(range) as u32).unwrap_or(0)
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}
