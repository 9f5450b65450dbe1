//! How the cells of a range are packed into bytes, on the wire and in a store's rows.
//!
//! Sums go without the whole bytes of the prefix that all elements of the range share. A store's rows keep whole
//! counts, as what they are beyond what so many elements lead one to expect; on the wire less is enough ([`CellRun`]).

use super::{COUNTED, Cell, ELEMENT_DEPTH, Element, POSITION_BITS};
use crate::bounds::{CELLS_MAX, COUNT_MAX, RANGES_PER_MESSAGE_MAX};
use crate::canonical::{DecodeError, Reader, put_varint};
use crate::range::Range;
use crate::rising::{put_rising, take_rising};
use crate::wire::{put_range, take_range};

/// Some consecutive cells of a range, as they travel.
///
/// Of a count only its sign is needed to peel: what is left of four. Sixteen bits of it travel where the number of
/// differences is yet to be estimated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRun {
    /// The range.
    pub range: Range,
    /// Elements in it.
    pub count: u64,
    /// The place of the first cell.
    pub from: usize,
    /// Whether sixteen bits of the counts travel. Only of cells from the first on, and at most [`COUNTED`].
    pub counted: bool,
    /// The cells, with what is left of their counts; none if the range keeps none there.
    pub cells: Vec<Cell>,
}

impl CellRun {
    /// A run of these cells, from a place on, to be peeled.
    pub fn new(range: Range, count: u64, from: usize, cells: &[Cell]) -> CellRun {
        CellRun { range, count, from, counted: false, cells: cut(cells, 1 << 2) }
    }

    /// The first cells of a range, at most [`COUNTED`] of these, to be peeled and to estimate by.
    pub fn counted(range: Range, count: u64, cells: &[Cell]) -> CellRun {
        let cells = cut(&cells[..cells.len().min(COUNTED)], 1 << 16);
        CellRun { range, count, from: 0, counted: true, cells }
    }

    /// Appends the packed run.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let known = known_bytes(self.range);
        put_range(out, self.range, 0);
        put_varint(out, self.count);
        put_varint(out, self.from as u64);
        put_varint(out, (self.cells.len() as u64) << 1 | u64::from(self.counted));
        let (counts, rest) = self.cells.split_at(if self.counted { self.cells.len() } else { 0 });
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
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the bytes of a run.
    pub fn decode(reader: &mut Reader<'_>) -> Result<CellRun, DecodeError> {
        let (range, 0) = take_range(reader)? else { return Err(DecodeError::Malformed("range of cells")) };
        let count = reader.varint("elements of a range", COUNT_MAX)?;
        let from = reader.varint("place of a cell", CELLS_MAX as u64)? as usize;
        let length = reader.varint("cells of a run", (CELLS_MAX as u64) << 1 | 1)?;
        let (n, counted) = (length as usize >> 1, length & 1 == 1);
        if counted && (from > 0 || n > COUNTED) {
            return Err(DecodeError::Malformed("counted cells"));
        }
        let (wide, narrow) = if counted { (n, 0) } else { (0, n) };
        let wide = reader.take(2 * wide)?.as_chunks::<2>().0;
        let wide = wide.iter().map(|bytes| i64::from(u16::from_be_bytes(*bytes)));
        let narrow = reader.take(narrow.div_ceil(4))?;
        let narrow = narrow.iter().flat_map(|four| (0..4).map(|i| i64::from(*four >> (2 * i) & 3)));
        let (known, prefix) = (known_bytes(range), prefix(range));
        let mut cells = Vec::with_capacity(n.min(reader.rest().len() / 5));
        for beyond in wide.chain(narrow).take(n) {
            cells.push(take_cell(reader, known, prefix, beyond)?);
        }
        Ok(CellRun { range, count, from, counted, cells })
    }

    /// Reads all runs of a message.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the bytes of runs, of a bounded number of cells in all.
    pub fn unpack_all(bytes: &[u8]) -> Result<Vec<CellRun>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut runs = Vec::new();
        while !reader.rest().is_empty() {
            runs.push(CellRun::decode(&mut reader)?);
        }
        Ok(runs)
    }
}

/// What is left of the counts of these cells.
fn cut(cells: &[Cell], modulus: i64) -> Vec<Cell> {
    cells.iter().map(|cell| Cell { count: cell.count.rem_euclid(modulus), ..*cell }).collect()
}

/// Packs elements, which rise ([`crate::rising`]), each by its first `bits` bits, at least those of its position.
pub fn pack_elements(bits: u32, elements: &[Element]) -> Vec<u8> {
    let mut numbers: Vec<u64> = elements.iter().map(|element| element.0 >> (u64::BITS - bits)).collect();
    numbers.dedup();
    let mut out = Vec::new();
    if !numbers.is_empty() {
        out.push(bits as u8);
        put_rising(&mut out, bits, &numbers);
    }
    out
}

/// Reads elements, a bounded number, and how many bits of each came; the others are zero.
///
/// # Errors
/// [`DecodeError`] for anything but the bytes of elements.
pub fn unpack_elements(bytes: &[u8]) -> Result<(u32, Vec<Element>), DecodeError> {
    if bytes.is_empty() {
        return Ok((u64::BITS, Vec::new()));
    }
    let mut reader = Reader::new(bytes);
    let bits = u32::from(reader.u8()?);
    if !(POSITION_BITS..=u64::BITS).contains(&bits) {
        return Err(DecodeError::Malformed("bits of an element"));
    }
    let numbers = take_rising(&mut reader, "elements of a message", bits, RANGES_PER_MESSAGE_MAX)?;
    reader.end()?;
    Ok((bits, numbers.into_iter().map(|number| Element(number << (u64::BITS - bits))).collect()))
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
///
/// # Errors
/// [`DecodeError`] if the bytes are no such cells.
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
