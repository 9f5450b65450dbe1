//! Receipts: what both sides of a session state and sign of how it ended, as values.
//!
//! When they are exchanged is the sessions' concern, who signs that of a [`Witness`], where they are kept that of the node.
//! The responder signs what it held at which commit; the opener signs all of it, the responder's signature included, and
//! the verdict. So neither can say later that it held something else, and whoever knows both keys can tell.

use crate::canonical::{DecodeError, Reader, put_varint};
use crate::dataset::{CollectionId, DatasetId};
use crate::digest::Digest;
use crate::message::Life;
use crate::session::{Counts, Verdict};
use crate::stamp::{Millis, Stamp};
use crate::tree::Summary;

/// The public key of a peer.
pub type PeerKey = [u8; 32];
/// An Ed25519 signature.
pub type Signature = [u8; 64];

/// What every statement begins with: a signature is never taken for one of anything else.
const DOMAIN: &[u8] = b"reknit receipt 1\0";
const RESPONDER: u8 = 1;
const OPENER: u8 = 2;
/// Collections that a receipt may be about.
const SCOPE_MAX: u64 = 1 << 16;

/// Signs for one side of a session, and knows the other's signature.
pub trait Witness: Send + Sync {
    /// Who signs here.
    fn me(&self) -> PeerKey;
    /// Who is at the other end.
    fn peer(&self) -> PeerKey;
    /// The wall clock.
    fn now(&self) -> Millis;
    /// Signs a statement.
    fn sign(&self, statement: &[u8]) -> Signature;
    /// Whether a signature of `peer` holds.
    fn holds(&self, peer: &PeerKey, statement: &[u8], signature: &Signature) -> bool;
}

/// One side as it speaks of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Who.
    pub peer: PeerKey,
    /// Which life of its store.
    pub life: Life,
    /// The commit number at which it began to compare: what was there then was compared.
    pub cut: u64,
    /// The commit number at which the root was read.
    pub commit: u64,
    /// The commit at which it last put back what a run had changed, as of then.
    pub undone: u64,
    /// The last stamp of its store at the cut: what it wrote since has a greater one.
    pub stamp: Stamp,
    /// The root of the collections in scope.
    pub root: Summary,
    /// When it signed, by its own clock.
    pub time: Millis,
}

/// What was found and moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys that differed.
    pub differences: u64,
    /// Of those, keys that were left as they are, refused or in flight.
    pub left: u64,
    /// Records that changed the opener's store.
    pub to_opener: u64,
    /// Records that changed the responder's.
    pub to_responder: u64,
}

impl Tally {
    /// Of what a session counted.
    pub fn of(counts: &Counts) -> Tally {
        let refused = counts.to_mine.refused + counts.to_theirs.refused;
        Tally {
            differences: counts.differences(),
            left: counts.left + counts.in_flight + refused,
            to_opener: counts.to_mine.applied,
            to_responder: counts.to_theirs.applied,
        }
    }
}

/// The outcome of a session, signed by both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Of which dataset.
    pub dataset: DatasetId,
    /// The hash of its definition.
    pub definition: Digest,
    /// The collections that were compared.
    pub scope: Vec<CollectionId>,
    /// The side that opened the session.
    pub opener: Seat,
    /// The side that answered.
    pub responder: Seat,
    /// What was concluded.
    pub verdict: Verdict,
    /// What was found and moved.
    pub tally: Tally,
    /// The opener's signature, and the responder's.
    pub signatures: (Signature, Signature),
}

impl Receipt {
    /// What the responder signs.
    pub fn responder_statement(&self) -> Vec<u8> {
        let mut out = self.head(RESPONDER);
        put_party(&mut out, &self.opener);
        put_seat(&mut out, &self.responder);
        out
    }

    /// What the opener signs: both sides, the responder's signature, and the verdict.
    pub fn opener_statement(&self) -> Vec<u8> {
        let mut out = self.head(OPENER);
        put_seat(&mut out, &self.opener);
        put_seat(&mut out, &self.responder);
        out.extend_from_slice(&self.signatures.1);
        out.push(verdict_byte(self.verdict));
        let Tally { differences, left, to_opener, to_responder } = self.tally;
        [differences, left, to_opener, to_responder].into_iter().for_each(|number| put_varint(&mut out, number));
        out
    }

    /// Whether one process held both stores, so that nobody else has seen it.
    pub fn one_witness(&self) -> bool {
        self.opener.peer == self.responder.peer
    }

    /// Whether both signatures hold, by `holds`.
    ///
    /// # Errors
    /// [`Forged`]: whose signature does not hold, or that the verdict does not fit what was signed.
    pub fn verify(&self, holds: impl Fn(&PeerKey, &[u8], &Signature) -> bool) -> Result<(), Forged> {
        if !holds(&self.responder.peer, &self.responder_statement(), &self.signatures.1) {
            return Err(Forged::Responder);
        }
        if !holds(&self.opener.peer, &self.opener_statement(), &self.signatures.0) {
            return Err(Forged::Opener);
        }
        // The opener's own word: in sync means one root.
        if self.verdict == Verdict::InSync && self.opener.root != self.responder.root {
            return Err(Forged::Roots);
        }
        Ok(())
    }

    fn head(&self, who: u8) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        out.push(who);
        out.extend_from_slice(&self.dataset.0);
        out.extend_from_slice(&self.definition.0);
        put_varint(&mut out, self.scope.len() as u64);
        self.scope.iter().for_each(|collection| put_varint(&mut out, u64::from(collection.0)));
        out
    }

    /// The bytes under which it is kept and handed on: the opener's statement and both signatures.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.opener_statement();
        out.extend_from_slice(&self.signatures.0);
        out
    }

    /// Reads a receipt; whether its signatures hold is another question.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not those of a receipt.
    pub fn decode(bytes: &[u8]) -> Result<Receipt, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.take(DOMAIN.len())? != DOMAIN || reader.u8()? != OPENER {
            return Err(DecodeError::Malformed("receipt"));
        }
        let (dataset, definition) = (DatasetId(reader.array()?), Digest(reader.array()?));
        let mut scope = Vec::new();
        for _ in 0..reader.varint("collections of a receipt", SCOPE_MAX)? {
            let id = reader.varint("collection of a receipt", u64::from(u16::MAX))?;
            scope.push(CollectionId(u16::try_from(id).unwrap_or(u16::MAX)));
        }
        let (opener, responder) = (take_seat(&mut reader)?, take_seat(&mut reader)?);
        let theirs = reader.array()?;
        let verdict = match reader.u8()? {
            0 => Verdict::InSync,
            1 => Verdict::Converged,
            2 => Verdict::Differs,
            _ => return Err(DecodeError::Malformed("verdict of a receipt")),
        };
        let mut number = || reader.varint("count of a receipt", u64::MAX);
        let (differences, left, to_opener, to_responder) = (number()?, number()?, number()?, number()?);
        let tally = Tally { differences, left, to_opener, to_responder };
        let signatures = (reader.array()?, theirs);
        reader.end()?;
        Ok(Receipt { dataset, definition, scope, opener, responder, verdict, tally, signatures })
    }
}

/// What is wrong with a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forged {
    /// The opener's signature is not of what stands there.
    Opener,
    /// The responder's signature is not of what stands there.
    Responder,
    /// It says that both were in sync, with two roots.
    Roots,
}

impl std::fmt::Display for Forged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Forged::Opener => "the opener's signature is not of what stands there",
            Forged::Responder => "the responder's signature is not of what stands there",
            Forged::Roots => "it says in sync, and names two roots",
        })
    }
}

impl std::error::Error for Forged {}

/// Whether a receipt is left of such an end.
pub(crate) fn is_told(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::InSync | Verdict::Converged | Verdict::Differs)
}

fn verdict_byte(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::InSync => 0,
        Verdict::Converged => 1,
        Verdict::Differs => 2,
        // No receipt is made of those.
        _ => u8::MAX,
    }
}

fn put_party(out: &mut Vec<u8>, seat: &Seat) {
    out.extend_from_slice(&seat.peer);
    out.extend_from_slice(&seat.life.actor.to_be_bytes());
    out.extend_from_slice(&seat.life.nonce.to_be_bytes());
    put_varint(out, seat.cut);
}

fn put_seat(out: &mut Vec<u8>, seat: &Seat) {
    put_party(out, seat);
    put_varint(out, seat.commit);
    put_varint(out, seat.undone);
    out.extend_from_slice(&seat.stamp.0.to_be_bytes());
    put_varint(out, seat.root.count);
    out.extend_from_slice(&seat.root.digest.0);
    out.extend_from_slice(&seat.time.to_be_bytes());
}

fn take_seat(reader: &mut Reader<'_>) -> Result<Seat, DecodeError> {
    let peer = reader.array()?;
    let life = Life { actor: reader.u64()?, nonce: reader.u64()? };
    let cut = reader.varint("commit number", u64::MAX)?;
    let commit = reader.varint("commit number", u64::MAX)?;
    let undone = reader.varint("commit number", u64::MAX)?;
    let stamp = Stamp(reader.u64()?);
    let root = Summary { count: reader.varint("records", u64::MAX)?, digest: Digest(reader.array()?) };
    Ok(Seat { peer, life, cut, commit, undone, stamp, root, time: reader.u64()? })
}
