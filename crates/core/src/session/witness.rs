//! The receipt of a session as it comes about: the responder signs the roots that it tells, the opener all of it.
//!
//! It travels in messages that are sent anyway: no flight is added. What a receipt says is in [`crate::receipt`].

use std::sync::Arc;

use super::opener::Opener;
use super::responder::Responder;
use super::{SessionError, Verdict};
use crate::canonical::Blob;
use crate::dataset::Definition;
use crate::life::Life;
use crate::message::{Accept, Bye, Closing, Open, Word};
use crate::query::Cut;
use crate::receipt::{self, PeerKey, Receipt, Seat, Signature, Tally, Witness};
use crate::tree::Summary;

use super::scope::Scope;

/// What a side knows of the receipt so far.
#[derive(Default)]
pub(super) struct Signing {
    witness: Option<Arc<dyn Witness>>,
    opener: Seat,
    responder: Seat,
    /// The responder's signature of what it told last.
    word: Option<Signature>,
    /// Whether the opener's root was read since.
    stood: bool,
    receipt: Option<Box<Receipt>>,
}

impl Signing {
    /// Whether a receipt is to be signed.
    pub(super) fn is_asked(&self) -> bool {
        self.witness.is_some()
    }

    /// What was told is not current any more.
    pub(super) fn look_again(&mut self) {
        (self.word, self.stood) = (None, false);
    }

    fn keys(&self) -> (PeerKey, PeerKey) {
        self.witness.as_ref().map(|witness| (witness.me(), witness.peer())).unwrap_or_default()
    }

    fn draft(&self, definition: &Definition, scope: &Scope) -> Receipt {
        Receipt {
            dataset: definition.id,
            definition: definition.hash(),
            scope: scope.iter().collect(),
            opener: self.opener,
            responder: self.responder,
            verdict: Verdict::Undetermined,
            tally: Tally::default(),
            signatures: ([0; 64], self.word.unwrap_or([0; 64])),
        }
    }
}

impl Opener {
    /// Signs a receipt of the session if the responder does. None is left of one about picked keys alone: it says nothing of
    /// all others.
    #[must_use]
    pub fn with_witness(mut self, witness: Arc<dyn Witness>) -> Opener {
        self.signing.witness = Some(witness).filter(|_| !self.is_picked());
        self
    }

    /// Keeps who answers, and its word if there is nothing to do.
    pub(super) fn meet_witness(&mut self, accept: &Accept) -> Result<(), SessionError> {
        let (me, peer) = self.signing.keys();
        let (mine, cut) = (self.life, self.outcome.cut_mine.commit);
        self.signing.opener = Seat { peer: me, life: mine, cut, ..Seat::default() };
        self.signing.responder = Seat { peer, life: accept.life, cut: accept.commit, ..Seat::default() };
        self.heard_word(accept.commit, accept.root, accept.more.word.as_ref())
    }

    /// Keeps what the responder signed (M18).
    pub(super) fn heard_word(&mut self, commit: u64, root: Summary, word: Option<&Word>) -> Result<(), SessionError> {
        let (Some(witness), Some(word)) = (self.signing.witness.clone(), word) else { return Ok(()) };
        let signature = signature(&word.signature)?;
        let Word { undone, stamp, time, .. } = *word;
        self.signing.responder = Seat { commit, undone, stamp, root, time, ..self.signing.responder };
        let statement = self.signing.draft(&self.definition, &self.scope).responder_statement();
        if !witness.holds(&witness.peer(), &statement, &signature) {
            return Err(SessionError::Unexpected("roots with a signature that does not hold"));
        }
        self.signing.word = Some(signature);
        Ok(())
    }

    /// Our root was read after the responder's.
    pub(super) fn stand_at(&mut self, cut: &Cut) {
        let root = self.outcome.root_mine;
        // The stamp is that of the cut: what was written since need not have been compared.
        let stamp = self.outcome.cut_mine.stamp;
        let (commit, undone) = (cut.commit, cut.undone);
        self.signing.opener = Seat { commit, undone, stamp, root, ..self.signing.opener };
        self.signing.stood = true;
    }

    /// Signs the receipt, if both sides' part is there; gives what the responder lacks of it.
    pub(super) fn close_receipt(&mut self) -> Option<Closing> {
        let verdict = self.outcome.verdict;
        let (witness, _, true, true) =
            (self.signing.witness.clone()?, self.signing.word?, self.signing.stood, receipt::is_told(verdict))
        else {
            return None;
        };
        self.signing.opener.time = witness.now();
        let tally = Tally::of(&self.counts);
        let mut receipt = Receipt { verdict, tally, ..self.signing.draft(&self.definition, &self.scope) };
        let signature = witness.sign(&receipt.opener_statement());
        receipt.signatures.0 = signature;
        let Seat { commit, undone, stamp, root, time, .. } = receipt.opener;
        let root = (root != receipt.responder.root).then_some(root);
        self.outcome.receipt = Some(Box::new(receipt));
        let tally = (tally.differences, tally.left, tally.to_opener, tally.to_responder);
        Some(Closing { commit, undone, stamp, root, tally, time, signature: Blob(signature.to_vec()) })
    }
}

impl Responder {
    /// Signs receipts of sessions whose opener asks for one.
    #[must_use]
    pub fn with_witness(mut self, witness: Arc<dyn Witness>) -> Responder {
        self.signing.witness = Some(witness);
        self
    }

    /// The receipt, once the opener has signed it.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.signing.receipt.as_deref()
    }

    /// Keeps who opens, if it asks for a receipt.
    pub(super) fn meet_opener(&mut self, open: &Open, me: Life, cut: u64) {
        if !open.more.receipt {
            self.signing.witness = None;
        }
        let (key, peer) = self.signing.keys();
        self.signing.opener = Seat { peer, life: open.life, cut: open.commit, ..Seat::default() };
        self.signing.responder = Seat { peer: key, life: me, cut, ..Seat::default() };
    }

    /// Signs the root that is told next.
    pub(super) fn give_word(&mut self, scope: &Scope, cut: &Cut, root: Summary) -> Option<Word> {
        let witness = self.signing.witness.clone()?;
        let (stamp, time) = (self.cut.as_ref().unwrap_or(cut).stamp, witness.now());
        let (commit, undone) = (cut.commit, cut.undone);
        self.signing.responder = Seat { commit, undone, stamp, root, time, ..self.signing.responder };
        let signature = witness.sign(&self.signing.draft(&self.definition, scope).responder_statement());
        self.signing.word = Some(signature);
        Some(Word { undone, stamp, time, signature: Blob(signature.to_vec()) })
    }

    /// Puts the receipt together from what was told last and what the opener has signed.
    pub(super) fn close(&mut self, bye: &Bye, scope: Option<&Scope>) -> Result<(), SessionError> {
        let (Some(witness), Some(closing), Some(scope)) = (self.signing.witness.clone(), &bye.closing, scope) else {
            return Ok(());
        };
        let ends = [Verdict::InSync, Verdict::Converged, Verdict::Differs];
        let verdict = ends.into_iter().find(|verdict| verdict.name() == bye.verdict);
        let (Some(verdict), Some(_)) = (verdict, self.signing.word) else {
            return Err(SessionError::Unexpected("a receipt of what was not told"));
        };
        let Closing { commit, undone, stamp, root, time, .. } = closing.clone();
        let root = root.unwrap_or(self.signing.responder.root);
        self.signing.opener = Seat { commit, undone, stamp, root, time, ..self.signing.opener };
        let (differences, left, to_opener, to_responder) = closing.tally;
        let tally = Tally { differences, left, to_opener, to_responder };
        let mut receipt = Receipt { verdict, tally, ..self.signing.draft(&self.definition, scope) };
        receipt.signatures.0 = signature(&closing.signature)?;
        if receipt.verify(|peer, statement, signature| witness.holds(peer, statement, signature)).is_err() {
            return Err(SessionError::Unexpected("a receipt that does not hold"));
        }
        self.signing.receipt = Some(Box::new(receipt));
        Ok(())
    }
}

fn signature(bytes: &Blob) -> Result<Signature, SessionError> {
    Signature::try_from(bytes.0.as_slice()).map_err(|_| SessionError::Unexpected("a signature of another length"))
}
