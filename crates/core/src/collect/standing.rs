//! Which receipts a collector goes by: those that count and stand, the newest of each two stores.

use std::collections::BTreeMap;

use super::counts;
use crate::dataset::Definition;
use crate::life::Sighting;
use crate::receipt::{Receipt, Seat};

/// Receipts of the same two stores that are looked at: the newest. More would tell nothing that these do not, and what follows
/// from receipts takes the square of their number.
const RECEIPTS_MAX: usize = 8;

/// Of receipts that came from anywhere those that a collector goes by: they count, what they tell of the store here (the one of
/// this actor) it still knows, and they were signed by those who they say; of each two stores the newest eight. `recalls`
/// tells whether the store here has been where a receipt saw it: what it was told before it was rolled back it need not have any more.
///
/// # Errors
/// What `recalls` met.
pub fn standing<E>(
    mut receipts: Vec<Receipt>,
    definition: &Definition,
    here: u64,
    mut recalls: impl FnMut(Sighting) -> Result<bool, E>,
    holds: impl Fn(&Receipt) -> bool,
) -> Result<Vec<Receipt>, E> {
    receipts.sort_by_key(|receipt| std::cmp::Reverse((receipt.opener.commit, receipt.responder.commit)));
    receipts.dedup();
    let mut so_far: BTreeMap<_, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for receipt in receipts.into_iter().filter(|receipt| counts(receipt, definition)) {
        let mut stands = |seat: &Seat| {
            let met = Sighting { nonce: seat.life.nonce, commit: seat.commit };
            Ok(seat.life.actor != here || recalls(met)?)
        };
        if !stands(&receipt.opener)? || !stands(&receipt.responder)? {
            continue;
        }
        let [opener, responder] = [receipt.opener, receipt.responder].map(|seat| (seat.peer, seat.life.actor));
        let so_far = so_far.entry((opener.min(responder), opener.max(responder))).or_default();
        // Signatures last: they cost the most.
        if *so_far < RECEIPTS_MAX && holds(&receipt) {
            *so_far += 1;
            kept.push(receipt);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests;
