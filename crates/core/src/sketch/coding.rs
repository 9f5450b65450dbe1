//! How the cells of a range are packed into bytes, on the wire and in a store's rows.
//!
//! Counts travel as what they are beyond what so many elements lead one to expect, and sums without the whole bytes
//! of the prefix that all elements of the range share: about eleven bytes a cell at the root, ten further down.

use super::{Cell, ELEMENT_DEPTH};
use crate::canonical::{DecodeError, Reader, put_varint};
use crate::range::Range;

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
