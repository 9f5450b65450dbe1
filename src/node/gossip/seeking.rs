//! Which of the peers that were named beforehand are asked who they are, and when.
//!
//! Asking them, and looking up where they are, is `presence`'s.

use std::collections::HashMap;

use reknit_core::Millis;

use crate::transport::{Address, PeerId};

/// How often those are asked that are not up.
const EVERY: Millis = 10_000;

/// The seeds of a node, and when they were asked.
pub(super) struct Seeking {
    seeds: HashMap<PeerId, Address>,
    asked: Millis,
    due: bool,
}

impl Seeking {
    /// None of them was asked before `now`.
    pub(super) fn new(seeds: HashMap<PeerId, Address>, now: Millis) -> Seeking {
        Seeking { seeds, asked: now, due: true }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.seeds.keys().copied()
    }

    /// Has them asked at the next occasion.
    pub(super) fn hasten(&mut self) {
        self.due = true;
    }

    /// Who is to be asked now, of whom nothing more comes for a while then: all where nobody is up, else those that are `missing`,
    /// since in two halves of a net that were apart each knows somebody.
    pub(super) fn asks(&mut self, alone: bool, missing: impl Fn(PeerId) -> bool, now: Millis) -> Vec<Address> {
        let lacks = |seed: &PeerId| missing(*seed);
        if !self.due && (now < self.asked + EVERY || !self.seeds.keys().any(lacks)) {
            return Vec::new();
        }
        (self.due, self.asked) = (false, now);
        self.seeds.iter().filter(|(seed, _)| alone || lacks(seed)).map(|(_, at)| at.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u16; 0] = [];

    fn seeking(now: Millis) -> Seeking {
        let seed = |n: u8| {
            let peer = PeerId([n; 32]);
            (peer, Address { peer, host: "host".into(), port: n.into(), dataset: "todo".into() })
        };
        Seeking::new([1, 2].map(seed).into(), now)
    }

    /// The ports of those who are asked, in order.
    fn asked(seeking: &mut Seeking, alone: bool, missing: &[u8], now: Millis) -> Vec<u16> {
        let missing = |seed: PeerId| missing.contains(&seed.0[0]);
        let mut ports: Vec<u16> = seeking.asks(alone, missing, now).iter().map(|at| at.port).collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn a_seed_that_is_missing_is_asked_again_and_again_though_others_are_up() {
        let mut seeking = seeking(5);
        assert_eq!(asked(&mut seeking, true, &[1, 2], 5), [1, 2], "nobody is up yet");
        assert_eq!(asked(&mut seeking, true, &[1, 2], 6), NOBODY, "they were asked just now");
        assert_eq!(asked(&mut seeking, false, &[2], 4 + EVERY), NOBODY);
        assert_eq!(asked(&mut seeking, false, &[2], 5 + EVERY), [2], "one that is up is left alone");
        assert_eq!(asked(&mut seeking, false, &[2], 5 + 2 * EVERY), [2]);
        assert_eq!(asked(&mut seeking, false, &[], 5 + 9 * EVERY), NOBODY, "all are up");
        assert_eq!(asked(&mut seeking, false, &[1], 6 + 9 * EVERY), [1], "one went: it is late already");
    }

    #[test]
    fn whoever_knows_nobody_asks_all_at_once_where_that_is_hastened() {
        let mut seeking = seeking(0);
        asked(&mut seeking, true, &[1, 2], 0);
        seeking.hasten();
        assert_eq!(asked(&mut seeking, true, &[], 1), [1, 2], "they may be known by another key");
        assert_eq!(asked(&mut seeking, true, &[], 2), NOBODY);
    }
}
