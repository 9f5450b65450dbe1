//! Stores that were rolled back or copied since a peer met them.

use super::model::Model;
use super::world::{World, run};
use crate::dataset::Profile;
use crate::life::Sighting;
use crate::session::{Direction, Intent, Options, Verdict};

fn met() -> (Model, Model) {
    let (mut a, mut b) = (Model::new(1, Profile::Versioned, 64), Model::new(2, Profile::Versioned, 64));
    (0..300u16).for_each(|n| a.write(&n.to_be_bytes(), Some(vec![1])));
    assert_eq!(repair(&mut a, &mut b), Verdict::InSync);
    (a, b)
}

fn repair(a: &mut Model, b: &mut Model) -> Verdict {
    run(a, b, Options::new(Intent::Repair(Direction::Both)), World::quiet()).outcome.verdict
}

/// What the model is worth: its records.
fn records(model: &Model) -> Vec<Vec<u8>> {
    model.records().keys().cloned().collect()
}

#[test]
fn a_store_that_goes_on_is_met_again_without_a_further_message() {
    let (mut a, mut b) = met();
    let costs = |a: &mut Model, b: &mut Model| {
        let done = run(a, b, Options::new(Intent::Check), World::quiet());
        (done.outcome.verdict, done.outcome.counts.messages)
    };
    assert_eq!(costs(&mut a, &mut b), (Verdict::InSync, 2));
    a.write(b"more", Some(vec![2]));
    assert_eq!(repair(&mut a, &mut b), Verdict::InSync);
    // Opened again: told of once, and recognised.
    a.life.nonce = 77;
    assert_eq!(repair(&mut a, &mut b), Verdict::InSync);
    b.life.nonce = 78;
    assert_eq!(repair(&mut a, &mut b), Verdict::InSync);
    assert_eq!(costs(&mut a, &mut b), (Verdict::InSync, 2));
    assert_eq!((a.life.actor, b.life.actor), (1, 2));
}

#[test]
fn a_store_that_lost_an_opening_begins_a_new_life_before_anything_moves() {
    for opens in [true, false] {
        let (mut a, mut b) = met();
        // As after a restore: it is opened anew and knows nothing of the opening that the peer met.
        a.openings.clear();
        a.life.nonce = 77;
        a.write(b"forged", Some(vec![9]));
        let before = records(&b);
        let verdict = if opens { repair(&mut a, &mut b) } else { repair(&mut b, &mut a) };
        assert_eq!((verdict, a.life.actor, b.life.actor), (Verdict::Undetermined, 1001, 2));
        assert_eq!(records(&b), before);
        let verdict = if opens { repair(&mut a, &mut b) } else { repair(&mut b, &mut a) };
        assert_eq!((verdict, a.life.actor), (Verdict::InSync, 1001));
    }
}

#[test]
fn a_store_that_is_not_so_far_any_more_begins_a_new_life() {
    let (mut a, mut b) = met();
    // Its opening is the same, but what it had committed is not there.
    b.met.get_mut(&1).expect("met").last_mut().expect("once").commit += 1000;
    a.write(b"more", Some(vec![2]));
    assert_eq!((repair(&mut a, &mut b), a.life.actor), (Verdict::Undetermined, 1001));
}

#[test]
fn a_store_that_was_recognised_is_in_doubt_again_once_another_life_of_it_was_met_meanwhile() {
    for opens in [true, false] {
        let (mut a, mut b) = met();
        a.life.nonce = 77;
        a.write(b"more", Some(vec![2]));
        // Another life went on in the opening that both know, and meets the peer in a session beside this one.
        let last = *b.met[&1].last().expect("met");
        b.meanwhile = Some((1, Sighting { commit: last.commit + 1000, ..last }));
        let before = records(&b);
        let verdict = if opens { repair(&mut a, &mut b) } else { repair(&mut b, &mut a) };
        assert_eq!((verdict, a.life.actor, records(&b)), (Verdict::Undetermined, 1, before));
        assert_eq!(b.met[&1].last().map(|last| last.nonce), Some(last.nonce));
        // The next session sees that it is another.
        let verdict = if opens { repair(&mut a, &mut b) } else { repair(&mut b, &mut a) };
        assert_eq!((verdict, a.life.actor), (Verdict::Undetermined, 1001));
    }
}
