//! Receipts of sessions over model stores: both sides hold the same, it says what was so, and costs no flight.

use super::world::{OPENER, RESPONDER, Signer};
use super::*;
use crate::receipt::{Forged, Witness};

fn signed() -> World {
    World { signs: (true, true), ..World::quiet() }
}

/// The receipt that both sides have.
fn both(run: &Run) -> Receipt {
    let receipt = run.outcome.receipt.as_deref().expect("the opener's").clone();
    assert_eq!(run.receipt_there, Ok(Some(receipt.clone())));
    receipt
}

fn holds(receipt: &Receipt) -> Result<(), Forged> {
    let signer = Signer { me: OPENER, peer: RESPONDER, forges: false };
    receipt.verify(|peer, statement, signature| signer.holds(peer, statement, signature))
}

fn pair(changes: u32) -> (Model, Model) {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    a.fill(500);
    b.copy_from(&a);
    (0..changes).for_each(|i| {
        if i % 2 == 0 { a.write(&i.to_be_bytes(), Some(vec![9])) } else { b.write(&i.to_be_bytes(), None) }
    });
    (a, b)
}

#[test]
fn both_sides_have_the_receipt_of_what_was_so_in_no_more_flights() {
    for (changes, intent) in [
        (0, Intent::Repair(Direction::Both)),
        (20, Intent::Repair(Direction::Both)),
        (20, Intent::Diff),
        (0, Intent::Check),
        (9, Intent::Check),
    ] {
        let (mut a, mut b) = pair(changes);
        let without = run(&mut a, &mut b, Options::new(intent), World::quiet());
        assert_eq!((&without.outcome.receipt, &without.receipt_there), (&None, &Ok(None)));
        let (mut a, mut b) = pair(changes);
        let run = run(&mut a, &mut b, Options::new(intent), signed());
        let receipt = both(&run);
        assert_eq!(holds(&receipt), Ok(()));
        assert_eq!((receipt.opener.peer, receipt.responder.peer, receipt.one_witness()), (OPENER, RESPONDER, false));
        assert_eq!(
            (receipt.verdict, receipt.opener.life, receipt.responder.life),
            (run.outcome.verdict, a.life, b.life)
        );
        assert_eq!((receipt.opener.root, receipt.responder.root), (run.outcome.root_mine, run.outcome.root_theirs));
        assert_eq!((receipt.opener.root, receipt.responder.root), (a.root(), b.root()));
        assert_eq!((receipt.opener.commit, receipt.responder.commit), (a.commit(), b.commit()));
        assert_eq!((receipt.opener.stamp, receipt.responder.stamp), (a.last_stamp(), b.last_stamp()));
        let applied = (run.outcome.counts.to_mine.applied, run.outcome.counts.to_theirs.applied);
        assert_eq!((receipt.tally.to_opener, receipt.tally.to_responder), applied);
        // A check says goodbye only for the sake of the receipt.
        let more = run.outcome.counts.flights - without.outcome.counts.flights;
        assert_eq!(more, u64::from(intent == Intent::Check), "{changes} {intent:?}");
        assert!(run.bytes - without.bytes <= 300, "{} B more", run.bytes - without.bytes);
        assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt));
    }
}

#[test]
fn where_one_side_signs_nothing_there_is_none_and_the_session_goes_on() {
    for signs in [(true, false), (false, true)] {
        let (mut a, mut b) = pair(20);
        let run = run(&mut a, &mut b, Options::new(Intent::Repair(Direction::Both)), World { signs, ..World::quiet() });
        assert_eq!((run.outcome.verdict, run.outcome.receipt, run.receipt_there), (Verdict::InSync, None, Ok(None)));
    }
}

#[test]
fn a_signature_that_does_not_hold_makes_no_receipt() {
    let (mut a, mut b) = pair(20);
    let run = run(&mut a, &mut b, Options::new(Intent::Repair(Direction::Both)), World { forges: true, ..signed() });
    assert_eq!(run.receipt_there, Err(SessionError::Unexpected("a receipt that does not hold")));
}

#[test]
fn whatever_is_altered_in_a_receipt_is_noticed() {
    let (mut a, mut b) = pair(20);
    let receipt = both(&run(&mut a, &mut b, Options::new(Intent::Repair(Direction::Both)), signed()));
    let bytes = receipt.encode();
    for at in 0..bytes.len() {
        for bit in [1, 64] {
            let mut altered = bytes.clone();
            altered[at] ^= bit;
            let taken = Receipt::decode(&altered).map(|receipt| holds(&receipt));
            assert!(!matches!(taken, Ok(Ok(()))), "byte {at}");
        }
        assert!(Receipt::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(holds(&Receipt { verdict: Verdict::Differs, ..receipt.clone() }), Err(Forged::Opener));
    let mut other = receipt.clone();
    other.responder.commit += 1;
    assert_eq!(holds(&other), Err(Forged::Responder));
}

#[test]
fn a_session_under_writers_has_a_receipt_too() {
    for seed in 0..40 {
        let (mut a, mut b) = pair(40);
        let world = World { signs: (true, true), ..World::written(seed) };
        let run = run(&mut a, &mut b, Options::new(Intent::Repair(Direction::Both)), world);
        let receipt = both(&run);
        assert_eq!((holds(&receipt), receipt.verdict), (Ok(()), run.outcome.verdict));
        assert!(receipt.opener.cut <= receipt.opener.commit && receipt.responder.cut <= receipt.responder.commit);
    }
}
