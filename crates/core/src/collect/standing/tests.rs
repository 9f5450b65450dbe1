//! Which receipts stand, of some that are made up.

use super::*;
use crate::dataset::{CollectionId, DatasetId};
use crate::life::Life;
use crate::receipt::Tally;
use crate::session::Verdict;

const HERE: u64 = 1;

fn definition() -> Definition {
    Definition::simple(DatasetId([7; 16]), "x")
}

fn seat(actor: u64, commit: u64) -> Seat {
    let life = Life { actor, nonce: 10 * actor };
    Seat { peer: [actor as u8; 32], life, commit, cut: commit, ..Seat::default() }
}

fn receipt(a: (u64, u64), b: (u64, u64)) -> Receipt {
    Receipt {
        dataset: definition().id,
        definition: definition().hash(),
        scope: vec![CollectionId(0)],
        opener: seat(a.0, a.1),
        responder: seat(b.0, b.1),
        verdict: Verdict::Converged,
        tally: Tally::default(),
        signatures: ([0; 64], [0; 64]),
    }
}

fn kept(
    receipts: Vec<Receipt>,
    recalls: impl Fn(Sighting) -> bool,
    holds: impl Fn(&Receipt) -> bool,
) -> Vec<(u64, u64)> {
    let kept = standing(receipts, &definition(), HERE, |met| Ok::<_, ()>(recalls(met)), holds);
    let told = |receipt: &Receipt| (receipt.opener.commit, receipt.responder.commit);
    kept.expect("nothing fails").iter().map(told).collect()
}

#[test]
fn of_each_two_stores_the_newest_eight_stand_whoever_opened() {
    let of = |nth| if nth % 2 == 0 { receipt((1, nth), (2, nth)) } else { receipt((2, nth), (1, nth)) };
    let mut receipts: Vec<Receipt> = (0..20).map(of).collect();
    receipts.push(receipt((1, 1), (3, 1)));
    receipts.push(receipt((1, 1), (3, 1)));
    let expected: Vec<_> = (12..20).rev().map(|nth| (nth, nth)).chain([(1, 1)]).collect();
    assert_eq!(kept(receipts, |_| true, |_| true), expected);
}

#[test]
fn what_the_store_here_has_no_memory_of_does_not_stand_and_of_others_nobody_asks() {
    let receipts = vec![receipt((1, 5), (2, 9)), receipt((1, 6), (2, 9)), receipt((2, 7), (3, 7))];
    let asked = |met: Sighting| {
        assert_eq!(met.nonce, 10 * HERE);
        met.commit <= 5
    };
    assert_eq!(kept(receipts, asked, |_| true), [(7, 7), (5, 9)]);
}

#[test]
fn a_forged_one_takes_nobodys_place() {
    let receipts: Vec<Receipt> = (0..10).map(|nth| receipt((1, nth), (2, nth))).collect();
    let forged = |receipt: &Receipt| receipt.opener.commit >= 4;
    assert_eq!(kept(receipts, |_| true, |receipt| !forged(receipt)), [(3, 3), (2, 2), (1, 1), (0, 0)]);
}

#[test]
fn one_that_left_something_or_is_of_another_dataset_does_not_count() {
    let mut left = receipt((1, 3), (2, 3));
    left.tally.left = 1;
    let other = Receipt { dataset: DatasetId([8; 16]), ..receipt((1, 2), (2, 2)) };
    let failed = standing(vec![receipt((1, 1), (2, 1))], &definition(), HERE, |_| Err("no"), |_| true);
    assert!(kept(vec![left, other], |_| true, |_| true).is_empty() && failed == Err("no"));
}
