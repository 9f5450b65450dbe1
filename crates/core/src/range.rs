//! Positions and the ranges they fall in.
//!
//! A position is the first 64 bits of a key's placement hash; how it is made is in [`crate::entry`].

use serde::{Deserialize, Serialize};

/// Where a key lies in the tree of its collection: the first 64 bits of its placement hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

/// Hex digits of a position, and so the depth at which a range holds a single position.
pub const DEPTH_MAX: u8 = 16;

/// All positions under one hex prefix. Ordered by depth, then by prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Range {
    depth: u8,
    bits: u64,
}

impl Range {
    /// Every position.
    pub const ALL: Range = Range { depth: 0, bits: 0 };

    /// The range of the first `depth` hex digits of `bits`; none if other bits are set or the depth is beyond 16.
    pub fn new(bits: u64, depth: u8) -> Option<Range> {
        (depth <= DEPTH_MAX && bits & !mask(depth) == 0).then_some(Range { depth, bits })
    }

    /// The range at `depth` (at most 16) that holds `position`.
    pub fn of(position: Position, depth: u8) -> Range {
        let depth = depth.min(DEPTH_MAX);
        Range { depth, bits: position.0 & mask(depth) }
    }

    /// How many hex digits the prefix has.
    pub fn depth(self) -> u8 {
        self.depth
    }

    /// The prefix, left-aligned.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// The part of this range whose next hex digit is `digit` (0 to 15).
    ///
    /// # Panics
    /// On a range of depth 16, which holds one position and has no parts.
    pub fn child(self, digit: u8) -> Range {
        assert!(self.depth < DEPTH_MAX && digit < 16, "a range of one position has no children");
        let shift = 60 - 4 * u32::from(self.depth);
        Range { depth: self.depth + 1, bits: self.bits | u64::from(digit) << shift }
    }

    /// The `index`-th of the 16^levels ranges that lie `levels` below, in order.
    pub fn descendant(self, levels: u8, index: usize) -> Range {
        (0..levels).rev().fold(self, |range, level| range.child((index >> (4 * level)) as u8 & 15))
    }

    /// The range that this one is a sixteenth of; none for [`Range::ALL`].
    pub fn parent(self) -> Option<Range> {
        let depth = self.depth.checked_sub(1)?;
        Some(Range { depth, bits: self.bits & mask(depth) })
    }

    /// Which child of its parent `position` falls in, seen from this range.
    pub fn digit(self, position: Position) -> u8 {
        (position.0 >> (60 - 4 * u32::from(self.depth.min(15)))) as u8 & 15
    }

    /// Whether `position` lies in this range.
    pub fn contains(self, position: Position) -> bool {
        position.0 & mask(self.depth) == self.bits
    }

    /// Whether `other` lies wholly in this range.
    pub fn covers(self, other: Range) -> bool {
        other.depth >= self.depth && other.bits & mask(self.depth) == self.bits
    }

    /// The lowest position.
    pub fn first(self) -> Position {
        Position(self.bits)
    }

    /// The highest position.
    pub fn last(self) -> Position {
        Position(self.bits | !mask(self.depth))
    }
}

/// The ranges of one position each.
pub fn places(positions: &[Position]) -> Vec<Range> {
    positions.iter().map(|position| Range::of(*position, DEPTH_MAX)).collect()
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = format!("{:016x}", self.bits);
        write!(f, "{}*", &digits[..usize::from(self.depth)])
    }
}

impl std::str::FromStr for Range {
    type Err = &'static str;

    /// Reads what [`Range`] is shown as: its hex digits and a star.
    fn from_str(text: &str) -> Result<Range, &'static str> {
        let digits = text.strip_suffix('*').filter(|digits| digits.len() <= usize::from(DEPTH_MAX));
        let digits = digits.filter(|digits| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        let digits = digits.ok_or("a range is at most 16 hex digits and a star")?;
        let bits = digits.bytes().zip((0..).map(|nth| 60 - 4 * nth)).fold(0, |bits, (digit, shift)| {
            bits | u64::from(digit - if digit < b'a' { b'0' } else { b'a' - 10 }) << shift
        });
        Ok(Range { depth: digits.len() as u8, bits })
    }
}

impl From<Range> for String {
    fn from(range: Range) -> String {
        range.to_string()
    }
}

impl TryFrom<String> for Range {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Range, &'static str> {
        text.parse()
    }
}

impl std::fmt::Debug for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Range({self})")
    }
}

fn mask(depth: u8) -> u64 {
    u64::MAX.checked_shl(64 - 4 * u32::from(depth)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_is_in_exactly_the_ranges_on_its_path(bits: u64, depth in 0u8..=16) {
            let position = Position(bits);
            let range = Range::of(position, depth);
            prop_assert!(range.contains(position));
            prop_assert!(range.first() <= position && position <= range.last());
            prop_assert_eq!(Range::new(range.bits(), depth), Some(range));
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            if depth < 16 {
                let child = range.child(range.digit(position));
                prop_assert_eq!(child, Range::of(position, depth + 1));
                prop_assert_eq!(child.parent(), Some(range));
                prop_assert!(range.covers(child) && !child.covers(range));
                let others = (0..16).filter(|d| range.child(*d).contains(position)).count();
                prop_assert_eq!(others, 1);
            }
        }
    }

    #[test]
    fn what_is_no_range_is_not_read_as_one() {
        for text in ["", "3", "3f", "g*", "3F*", "+3*", "3**", "00112233445566778*"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    #[test]
    fn descendants_come_in_order() {
        let range = Range::ALL.child(10);
        assert_eq!(range.descendant(2, 0x3f).to_string(), "a3f*");
        assert_eq!(range.descendant(0, 0), range);
    }
}
