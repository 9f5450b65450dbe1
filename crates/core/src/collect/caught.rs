//! What a side is told that missed a horizon: which keys stand otherwise there, and what its own receipts tell of them.
//!
//! When it is told is said in [`super::CatchingUp`]; what it does about each key is the store's concern.

use super::{Horizon, Passed, compared_until, counts};
use crate::dataset::{CollectionId, Definition};
use crate::difference::{Difference, Kind, Side};
use crate::life::Sighting;
use crate::receipt::{PeerKey, Receipt, Seat};
use crate::record::Dot;
use crate::session::Other;

/// Receipts that are looked at for what the other side had: the newest.
const BASES_MAX: usize = 64;

/// A key that stands otherwise on a side that missed a horizon than on the side that it catches up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Its collection.
    pub collection: CollectionId,
    /// The key.
    pub key: Vec<u8>,
    /// How it stands.
    pub stands: Stands,
    /// Where all versions are kept, those that the other side has too.
    pub shared: Vec<Dot>,
}

/// How a key stands on a side that missed a horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// The other side has nothing of it.
    Alone,
    /// The other side lacks something of what is here, and has nothing newer.
    Above,
    /// The other side lacks something of what is here, and has something newer.
    Beside,
    /// The other side has all of what is here, or had seen it, and has something newer: written since this side took all.
    Below,
}

/// A receipt of a side, as far as it is needed to tell what the other side had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The life that compared.
    pub actor: u64,
    /// Its opening, and the commit number at which it read its root.
    pub met: Sighting,
    /// The commit number up to which the other side had what was here.
    pub cut: u64,
}

/// What catching up did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    /// Keys of which what others had deleted is gone, or whose deletion was written anew.
    pub removed: u64,
    /// Keys that stay as they are: they were written since, or stand well.
    pub kept: u64,
    /// Keys of which no receipt tells whether others had deleted them: set apart.
    pub strays: u64,
}

impl Missed {
    /// How a key that differs stands on the side that catches up, which looked at it as the opener; none where nothing of
    /// it is here.
    #[must_use]
    pub fn of(difference: &Difference) -> Option<Self> {
        let stands = match difference.kind {
            Kind::Only(Side::Mine) => Stands::Alone,
            // Also the same content by another version: whoever deletes the one has not seen the other.
            Kind::Newer(Side::Mine) | Kind::Concurrent(Side::Mine) | Kind::Versions(Side::Mine) => Stands::Above,
            Kind::Concurrent(Side::Theirs) | Kind::Versions(Side::Theirs) => Stands::Beside,
            Kind::Newer(Side::Theirs) => Stands::Below,
            _ => return None,
        };
        Some(Self {
            collection: difference.collection,
            key: difference.key.clone(),
            stands,
            shared: difference.shared.clone(),
        })
    }
}

impl Base {
    /// What receipts tell of a life of a store of this peer, the newest first. They count if whom they are with is the one
    /// that it catches up with, or one of whom all have what it held then; and if nothing was put back there since.
    #[must_use]
    pub fn all(
        receipts: &[Receipt],
        definition: &Definition,
        (me, actor): (&PeerKey, u64),
        (horizon, other): (&Horizon, Other),
    ) -> Vec<Self> {
        // One that is not among those who have passed the horizon has caught up itself, and need not have had all since.
        let passed = horizon.of(other.actor).map(|passed| passed.met.commit).max();
        let has_all = passed.is_some_and(|commit| commit >= other.undone);
        let knows = |seat: &Seat| {
            let itself = seat.life.actor == other.actor && seat.commit >= other.undone;
            let whole = |passed: &Passed| passed.undone <= seat.commit && seat.commit <= passed.everywhere;
            itself || has_all && horizon.of(seat.life.actor).any(whole)
        };
        let mut bases = Vec::new();
        for receipt in receipts.iter().filter(|receipt| counts(receipt, definition)) {
            let seats = [receipt.opener, receipt.responder];
            let own = |seat: &Seat| seat.peer == *me && seat.life.actor == actor;
            let pair = [(&seats[0], &seats[1]), (&seats[1], &seats[0])];
            let own = pair.into_iter().find(|(seat, with)| own(seat) && knows(with));
            bases.extend(own.map(|(seat, _)| {
                let met = Sighting { nonce: seat.life.nonce, commit: seat.commit };
                Self { actor, met, cut: compared_until(receipt, seat) }
            }));
        }
        bases.sort_by_key(|base| std::cmp::Reverse(base.cut));
        bases.truncate(BASES_MAX);
        bases
    }
}
