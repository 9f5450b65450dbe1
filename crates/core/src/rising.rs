//! Rising numbers in few bits: each gap cut in two, its lower bits as they are, its upper ones in unary.
//!
//! For numbers that lie evenly, as hashes do, this comes within half a bit of the best there is (R. F. Rice, 1979). What
//! the numbers mean is left to others; the bytes are pinned by golden vectors.

use crate::canonical::{DecodeError, Reader, put_varint};

/// Appends numbers of at most `bits` bits that rise.
pub fn put_rising(out: &mut Vec<u8>, bits: u32, numbers: &[u64]) {
    put_varint(out, numbers.len() as u64);
    let low = low_bits(bits, numbers.len());
    let (mut held, mut filled, mut next) = (0u128, 0, 0u64);
    let mut put = |value: u64, n: u32| {
        held |= u128::from(value) << filled;
        filled += n;
        while filled >= 8 {
            out.push(held as u8);
            held >>= 8;
            filled -= 8;
        }
        (held, filled)
    };
    for number in numbers {
        let gap = number - next;
        next = number.wrapping_add(1);
        (0..gap >> low).for_each(|_| {
            put(1, 1);
        });
        put(0, 1);
        put(gap & lowest(low), low);
    }
    // What is left of the last byte is zero.
    if let (_, filled @ 1..) = put(0, 0) {
        put(0, 8 - filled);
    }
}

/// Reads what [`put_rising`] wrote, at most `limit` numbers.
///
/// # Errors
/// [`DecodeError`] for more numbers than that, or other bytes.
pub fn take_rising(
    reader: &mut Reader<'_>,
    what: &'static str,
    bits: u32,
    limit: usize,
) -> Result<Vec<u64>, DecodeError> {
    const WRONG: DecodeError = DecodeError::Malformed("rising number");
    let n = reader.varint(what, limit as u64)? as usize;
    let low = low_bits(bits, n);
    let (mut held, mut filled, mut next) = (0u128, 0, Some(0u64));
    let mut take = |n: u32| -> Result<u64, DecodeError> {
        while filled < n {
            held |= u128::from(reader.u8()?) << filled;
            filled += 8;
        }
        let value = held as u64 & lowest(n);
        held >>= n;
        filled -= n;
        Ok(value)
    };
    let mut numbers = Vec::new();
    for _ in 0..n {
        let mut gap = 0u64;
        while take(1)? == 1 {
            gap = gap.checked_add(1 << low).ok_or(WRONG)?;
        }
        let gap = gap.checked_add(take(low)?).ok_or(WRONG)?;
        let number = next.and_then(|next| next.checked_add(gap)).filter(|number| number & !lowest(bits) == 0);
        let number = number.ok_or(WRONG)?;
        numbers.push(number);
        next = number.checked_add(1);
    }
    if held != 0 {
        return Err(DecodeError::Malformed("end of rising numbers"));
    }
    Ok(numbers)
}

/// The lowest `n` bits, all set.
fn lowest(n: u32) -> u64 {
    u64::MAX.checked_shr(u64::BITS - n).unwrap_or(0)
}

/// Bits of a gap that are kept as they are: as many as an even gap has.
fn low_bits(bits: u32, n: usize) -> u32 {
    bits - (n.max(1).ilog2() + 1).min(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rising_numbers_come_back(
            bits in 1u32..=64, drawn in proptest::collection::btree_set(any::<u64>(), 0..200), more in 0u8..2,
        ) {
            let numbers: Vec<u64> = drawn.iter().map(|n| n >> (64 - bits)).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            let mut bytes = Vec::new();
            put_rising(&mut bytes, bits, &numbers);
            bytes.extend(vec![7; usize::from(more)]);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(take_rising(&mut reader, "numbers", bits, 200), Ok(numbers));
            prop_assert_eq!(reader.rest().len(), usize::from(more));
        }

        #[test]
        fn bytes_of_anyone_never_panic(bits in 1u32..=64, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = take_rising(&mut Reader::new(&bytes), "numbers", bits, 1 << 20);
        }
    }

    #[test]
    fn even_numbers_take_little_more_than_their_share() {
        let numbers: Vec<u64> = (1..=1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        let mut bytes = Vec::new();
        put_rising(&mut bytes, 48, &sorted);
        // 48 bits less ten for a thousand, and two at most for the way it is done.
        assert!(bytes.len() <= 1000 * 40 / 8 + 2, "{}", bytes.len());
    }
}
