//! Random choices from a seed.

/// A sequence of numbers that a seed tells (SplitMix64: Steele, Lea, Flood, 2014).
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `below` numbers; 0 of none.
    pub(super) fn below(&mut self, below: usize) -> usize {
        (self.next() % below.max(1) as u64) as usize
    }

    /// So many of them at most, in no order.
    pub(super) fn some<T>(&mut self, mut of: Vec<T>, count: usize) -> Vec<T> {
        for nth in 0..count.min(of.len()) {
            let other = nth + self.below(of.len() - nth);
            of.swap(nth, other);
        }
        of.truncate(count);
        of
    }
}
