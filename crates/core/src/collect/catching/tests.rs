//! The steps of catching up, over outcomes and differences that are made up.

use super::*;
use crate::brakes::{Brakes, Limit};
use crate::dataset::CollectionId;
use crate::difference::Kind;
use crate::digest::Digest;
use crate::query::{Cut, VersionInfo};
use crate::range::Position;
use crate::record::{Actor, Version};
use crate::session::KEEP_MOVING;
use crate::stamp::Stamp;

const WITH: Other = Other { actor: 7, undone: 3 };

const NONE: Losses = Losses { deleted: 0, changed: 0 };

fn ended(verdict: Verdict) -> Outcome {
    let (stamp, roots) = (Stamp::default(), Vec::new());
    let cut = Cut { commit: 0, stamp, horizon: stamp, undone: 0, watermark: 0, roots };
    let mut outcome = Outcome { verdict, other: Some(WITH), ..Outcome::begun(cut) };
    outcome.root_mine.count = 20;
    outcome
}

fn difference(key: &str, kind: Kind) -> Difference {
    let version = Version::after(Stamp(1), Actor(1), []);
    let info = VersionInfo { version, content: Some(Digest([1; 32])), bytes: 1, expires: None };
    Difference {
        collection: CollectionId(0),
        position: Position(0),
        key: key.into(),
        kind,
        mine: Some(info),
        theirs: None,
        entries: [Some(1), None],
        shared: Vec::new(),
        stable: true,
    }
}

/// One that has taken all, and looks.
fn looking(base: Options) -> CatchingUp {
    let mut steps = CatchingUp::begin(base);
    assert!(matches!(steps.ended(&ended(Verdict::Converged), NONE), Next::Session));
    steps
}

/// One that looked, found these and asked again.
fn judged(base: Options, found: &[Difference]) -> Next {
    let mut steps = looking(base);
    found.iter().for_each(|difference| steps.found(difference));
    match steps.ended(&ended(Verdict::Differs), NONE) {
        Next::Session => steps.ended(&ended(Verdict::Differs), NONE),
        other => other,
    }
}

fn base() -> Options {
    Options { settle: 50, ..Options::new(Intent::Check) }
}

#[test]
fn it_takes_before_it_looks_and_asks_before_it_judges() {
    let mut steps = CatchingUp::begin(base());
    let mut held = Vec::new();
    let judged = loop {
        let Options { intent, catching_up, receipt, settle, .. } = steps.session();
        held.push((intent, catching_up));
        assert!(!receipt, "what it holds before it caught up is no witness");
        assert_eq!(settle, if intent == Intent::Check { 0 } else { 50 }, "what is asked is told at once");
        // What is found while it takes is on its way.
        steps.found(&difference(&format!("{intent:?}"), Kind::Only(Side::Mine)));
        match steps.ended(&ended(Verdict::Differs), NONE) {
            Next::Session => {}
            next => break next,
        }
    };
    let taking = Intent::Repair(Direction::To(Side::Mine));
    assert_eq!(held, [(taking, true), (Intent::Diff, false), (Intent::Check, false)]);
    let Next::Judge(missed, with) = judged else { panic!("{judged:?}") };
    let keys: Vec<_> = missed.iter().map(|missed| missed.key.as_slice()).collect();
    assert_eq!((keys, with), (vec![b"Diff".as_slice()], WITH));
}

#[test]
fn what_is_newer_there_is_judged_and_need_not_stand_still() {
    let found = [
        difference("alone", Kind::Only(Side::Mine)),
        difference("theirs", Kind::Only(Side::Theirs)),
        Difference { stable: false, ..difference("older", Kind::Newer(Side::Theirs)) },
        difference("beside", Kind::Concurrent(Side::Theirs)),
    ];
    let Next::Judge(missed, _) = judged(base(), &found) else { panic!("it is to be judged") };
    let stands: Vec<_> = missed.into_iter().map(|missed| missed.stands).collect();
    assert_eq!(stands, [Stands::Alone, Stands::Below, Stands::Beside]);
}

#[test]
fn it_stays_behind_unless_every_session_told_all_and_all_stood_still() {
    for nth in 0..3 {
        for verdict in [Verdict::Undetermined, Verdict::Refused, Verdict::Partial] {
            let mut steps = CatchingUp::begin(base());
            (0..nth).for_each(|_| drop(steps.ended(&ended(Verdict::Converged), NONE)));
            assert!(matches!(steps.ended(&ended(verdict), NONE), Next::NotYet(None)), "{verdict:?} of session {nth}");
        }
    }
    let moving = Difference { stable: false, ..difference("moving", Kind::Only(Side::Mine)) };
    assert!(matches!(judged(base(), &[moving]), Next::NotYet(None)));
    let mut steps = looking(base());
    let _ = steps.ended(&ended(Verdict::Differs), NONE);
    let another = Outcome { other: None, ..ended(Verdict::Differs) };
    assert!(matches!(steps.ended(&another, NONE), Next::NotYet(None)), "somebody has collected meanwhile");
}

#[test]
fn whom_it_looked_at_may_be_written_all_the_time() {
    let moving = Outcome { reason: KEEP_MOVING.into(), ..ended(Verdict::Undetermined) };
    for (nth, judges) in [(0, false), (1, false), (2, true)] {
        let mut steps = CatchingUp::begin(base());
        (0..nth).for_each(|_| drop(steps.ended(&ended(Verdict::Converged), NONE)));
        let next = steps.ended(&moving, NONE);
        assert_eq!(matches!(next, Next::Judge(_, WITH)), judges, "session {nth}: {next:?}");
        assert_eq!(matches!(next, Next::NotYet(None)), !judges, "session {nth}: {next:?}");
    }
}

#[test]
fn brakes_hold_for_all_that_would_go() {
    let limit = Limit::records(2);
    let brakes = Brakes { delete: limit, change: limit, shrunken: false };
    let base = Options { brakes: Some(brakes), ..base() };
    let gone = |n: usize| (0..n).map(|nth| difference(&format!("{nth}"), Kind::Only(Side::Mine))).collect::<Vec<_>>();
    assert!(matches!(judged(base.clone(), &gone(2)), Next::Judge(..)));
    let stopped = judged(base.clone(), &gone(3));
    let Next::NotYet(Some(braked)) = stopped else { panic!("{stopped:?}") };
    assert_eq!((braked.losses.deleted, braked.allowed.deleted, braked.records), (3, 2, 20));
    // What was lost before counts, where it counts.
    let mut steps = looking(base.clone());
    gone(2).iter().for_each(|difference| steps.found(difference));
    let _ = steps.ended(&ended(Verdict::Differs), NONE);
    let Next::NotYet(Some(more)) = steps.ended(&ended(Verdict::Differs), Losses { deleted: 1, changed: 0 }) else {
        panic!("it was to be stopped")
    };
    assert_eq!((more.losses.deleted, more.before.deleted), (3, 1));
    // One that the session which takes ran into ends it as well.
    let mut steps = CatchingUp::begin(base);
    let refused = Outcome { braked: Some(braked.clone()), ..ended(Verdict::Refused) };
    let Next::NotYet(Some(told)) = steps.ended(&refused, NONE) else { panic!("it was stopped") };
    assert_eq!(told, braked);
}
