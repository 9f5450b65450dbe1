//! How much of what gossip wants of a peer that peer grants: all of it is asked for now and then, not each time.

use std::collections::BTreeMap;

use reknit_core::session::Intent;
use reknit_core::{CollectionId, Millis};

use super::allowed::{self, Turn};
use crate::transport::PeerId;

/// How long what was refused is not asked for again.
const AGAIN: Millis = 60_000;

/// What is tried first, and what then, one after the other until the peer refuses no more.
pub(super) type Tries = (Intent, &'static [Intent]);

/// What peers granted lately in place of what was wanted.
#[derive(Debug, Default)]
pub(super) struct Granted(BTreeMap<(PeerId, Vec<CollectionId>), Less>);

#[derive(Debug)]
struct Less {
    wanted: Intent,
    held: Intent,
    /// When all of it was asked for.
    asked: Millis,
}

impl Granted {
    /// What is tried with a peer.
    pub(super) fn tries(&self, peer: PeerId, turn: &Turn, now: Millis) -> Tries {
        let less = allowed::less(turn.intent);
        let lately = self.0.get(&(peer, turn.scope.clone()));
        let lately = lately.filter(|less| less.wanted == turn.intent && now < less.asked + AGAIN);
        match lately.and_then(|lately| less.iter().position(|intent| *intent == lately.held)) {
            Some(at) => (less[at], &less[at + 1..]),
            None => (turn.intent, less),
        }
    }

    /// Takes in with what of those the session was held, or what was refused last.
    pub(super) fn took(&mut self, peer: PeerId, turn: &Turn, held: Intent, now: Millis) {
        self.0.retain(|_, less| now < less.asked + AGAIN);
        let of = (peer, turn.scope.clone());
        // Where less still is granted than was, all of it is asked for no later.
        let asked = self.0.get(&of).filter(|less| less.wanted == turn.intent).map_or(now, |less| less.asked);
        match held == turn.intent {
            true => drop(self.0.remove(&of)),
            false => drop(self.0.insert(of, Less { wanted: turn.intent, held, asked })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::difference::Side;
    use reknit_core::session::Direction;

    const ALL: Intent = Intent::Repair(Direction::Both);
    const TO_MINE: Intent = Intent::Repair(Direction::To(Side::Mine));
    const TO_THEIRS: Intent = Intent::Repair(Direction::To(Side::Theirs));

    #[test]
    fn what_was_refused_is_asked_for_again_after_a_while() {
        let (peer, other) = (PeerId([1; 32]), PeerId([2; 32]));
        let turn = Turn { intent: ALL, scope: Vec::new() };
        let mut granted = Granted::default();
        let everything = (ALL, &[TO_MINE, TO_THEIRS, Intent::Check][..]);
        assert_eq!(granted.tries(peer, &turn, 0), everything);
        granted.took(peer, &turn, TO_THEIRS, 0);
        assert_eq!(granted.tries(peer, &turn, 1), (TO_THEIRS, &[Intent::Check][..]));
        // Sessions that go on so put nothing off.
        granted.took(peer, &turn, TO_THEIRS, AGAIN - 1);
        assert_eq!(granted.tries(peer, &turn, AGAIN), everything);
        // It grants less still, and then all of it.
        granted.took(peer, &turn, Intent::Check, AGAIN);
        assert_eq!(granted.tries(peer, &turn, AGAIN + 1), (Intent::Check, &[][..]));
        granted.took(peer, &turn, ALL, 2 * AGAIN);
        assert_eq!(granted.tries(peer, &turn, 2 * AGAIN), everything);
        // What is known of one says nothing of another peer, of other collections, or of another intent.
        granted.took(peer, &turn, Intent::Check, 2 * AGAIN);
        assert_eq!(granted.tries(other, &turn, 2 * AGAIN), everything);
        let some = Turn { scope: vec![CollectionId(1)], ..turn.clone() };
        assert_eq!(granted.tries(peer, &some, 2 * AGAIN), everything);
        let less = Turn { intent: TO_MINE, ..turn };
        assert_eq!(granted.tries(peer, &less, 2 * AGAIN), (TO_MINE, &[Intent::Check][..]));
    }
}
