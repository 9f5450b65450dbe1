//! Repairs that prefer a side, over model stores: its value wins where both were written apart, and nowhere else.

use super::*;
use crate::brakes::{Brakes, Limit, Losses};
use crate::policy::NEWEST;
use crate::record::{Content, State};

const BOTH: Intent = Intent::Repair(Direction::Both);

/// What a key is to be in the end.
enum Wanted {
    /// This state, exactly.
    Kept(State),
    /// This content under a version that has seen both states.
    Won(Content, State, State),
}

/// Whether neither state has seen the other, and what they say differs.
fn apart(mine: &State, theirs: &State) -> bool {
    let (a, b) = (mine.winner(), theirs.winner());
    (&a.content, a.expires) != (&b.content, b.expires)
        && !a.version.has_seen(&b.version)
        && !b.version.has_seen(&a.version)
}

/// What a repair that prefers a side is to make of every key, where each side has one version of a key at most.
fn wanted(a: &Model, b: &Model, preferred: Side) -> BTreeMap<Vec<u8>, Wanted> {
    let of = |key: &Vec<u8>| match (a.records().get(key), b.records().get(key)) {
        (Some(mine), Some(theirs)) if apart(mine, theirs) => {
            let content = if preferred == Side::Mine { mine } else { theirs }.winner().content.clone();
            Some(Wanted::Won(content, mine.clone(), theirs.clone()))
        }
        (Some(mine), Some(theirs)) => Some(Wanted::Kept(mine.join(theirs, a.keeps(), a.keys()))),
        (mine, theirs) => mine.or(theirs).cloned().map(Wanted::Kept),
    };
    let keys = a.records().keys().chain(b.records().keys());
    keys.filter_map(|key| Some((key.clone(), of(key)?))).collect()
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Mine), Just(Side::Theirs)]
}

fn live(model: &Model) -> BTreeMap<Vec<u8>, Vec<u8>> {
    model.records().iter().filter_map(|(key, state)| Some((key.clone(), state.value()?.to_vec()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn the_value_of_the_preferred_side_wins_where_both_were_written_apart_and_nowhere_else(
        drift in drift(),
        preferred in side(),
        policy in prop_oneof![2 => Just(NEWEST), 1 => Just("keep-both/1"), 1 => Just("ask/1")],
        sketches: bool,
    ) {
        let (a, b) = two(&drift, Profile::Versioned);
        let (mut a, mut b) = (a.with_policy(policy), b.with_policy(policy));
        let (wanted, differing) = (wanted(&a, &b, preferred), brute(&a, &b).len() as u64);
        let planner = if sketches { Planner::default() } else { Planner { opening: 0, ..Planner::default() } };
        let options = Options { prefer: Some(preferred), planner, ..options(BOTH, &drift) };
        let Run { outcome, .. } = run(&mut a, &mut b, options.clone(), World::quiet());
        prop_assert_eq!(outcome.verdict, Verdict::InSync, "{:?}", outcome);
        prop_assert_eq!(a.records(), b.records());
        prop_assert_eq!(a.records().len(), wanted.len());
        let mut won = 0;
        for (key, wanted) in &wanted {
            let now = &a.records()[key];
            match wanted {
                Wanted::Kept(state) => prop_assert_eq!(now, state),
                Wanted::Won(content, mine, theirs) => {
                    won += 1;
                    prop_assert_eq!((now.versions().len(), &now.winner().content), (1, content));
                    for before in [mine, theirs] {
                        let (new, old) = (&now.winner().version, &before.winner().version);
                        prop_assert!(new.dot() != old.dot() && new.has_seen(old), "{:?} {:?}", new, old);
                        prop_assert_eq!(&before.join(now, a.keeps(), a.keys()), now, "it wins wherever it comes");
                    }
                }
            }
        }
        prop_assert_eq!((outcome.counts.concurrent, outcome.counts.differences()), (won, differing));
        let again = run(&mut a, &mut b, options, World::quiet());
        prop_assert_eq!((again.outcome.verdict, again.outcome.counts.messages), (Verdict::InSync, 2 + 1));
    }

    #[test]
    fn the_bare_content_of_the_preferred_side_wins_where_both_have_some(drift in drift(), preferred in side()) {
        let (mut a, mut b) = two(&drift, Profile::Content);
        let (winners, mut expected) = if preferred == Side::Mine { (live(&a), live(&b)) } else { (live(&b), live(&a)) };
        expected.extend(winners);
        let differing = brute(&a, &b).len() as u64;
        let options = Options { prefer: Some(preferred), ..options(BOTH, &drift) };
        let Run { outcome, .. } = run(&mut a, &mut b, options, World::quiet());
        prop_assert_eq!(outcome.verdict, Verdict::InSync, "{:?}", outcome);
        prop_assert_eq!((live(&a), live(&b)), (expected.clone(), expected));
        let moved = outcome.counts.to_mine.applied + outcome.counts.to_theirs.applied;
        prop_assert_eq!((moved, outcome.counts.left), (differing, 0));
    }

    #[test]
    fn writers_on_both_sides_do_not_make_a_repair_that_prefers_a_side_say_what_is_false(
        drift in drift(),
        preferred in side(),
        keep: bool,
        seed: u64,
    ) {
        let policy = if keep { "keep-both/1" } else { NEWEST };
        let (a, b) = two(&drift, Profile::Versioned);
        let (mut a, mut b) = (a.with_policy(policy), b.with_policy(policy));
        let options = Options { prefer: Some(preferred), ..options(BOTH, &drift) };
        let Run { outcome, .. } = run(&mut a, &mut b, options.clone(), World::written(seed));
        prop_assert!(matches!(outcome.verdict, Verdict::InSync | Verdict::Converged), "{:?}", outcome);
        let settled = run(&mut a, &mut b, options, World::quiet());
        prop_assert_eq!(settled.outcome.verdict, Verdict::InSync);
        prop_assert_eq!(a.records(), b.records());
    }
}

#[test]
fn what_one_side_had_seen_is_not_brought_back_by_preferring_it() {
    for preferred in [Side::Mine, Side::Theirs] {
        for policy in [NEWEST, "keep-both/1"] {
            let model = |actor| Model::new(actor, Profile::Versioned, 64).with_policy(policy);
            let (mut a, mut b) = (model(1), model(2));
            a.fill(300);
            b.copy_from(&a);
            let key = |n: u32| n.to_be_bytes();
            b.write(&key(1), Some(vec![1]));
            b.write(&key(2), None);
            a.write(&key(3), Some(vec![3]));
            a.write(b"only a", Some(vec![4]));
            let newer =
                (b.records()[&key(1)[..]].clone(), b.records()[&key(2)[..]].clone(), a.records()[&key(3)[..]].clone());
            let outcome =
                run(&mut a, &mut b, Options { prefer: Some(preferred), ..Options::new(BOTH) }, World::quiet()).outcome;
            assert_eq!((outcome.verdict, outcome.counts.concurrent), (Verdict::InSync, 0), "{outcome:?}");
            for side in [&a, &b] {
                let now = |n: u32| side.records()[&key(n)[..]].clone();
                assert_eq!((now(1), now(2), now(3)), newer);
                assert!(side.records().contains_key(&b"only a"[..]));
            }
            assert_eq!((outcome.counts.to_mine.applied, outcome.counts.to_theirs.applied), (2, 2));
        }
    }
}

/// The newest of its versions may be one that they do not see.
#[test]
fn where_the_preferred_side_has_several_versions_what_its_readers_see_wins() {
    for (policy, preferred) in [("keep-both/1", Side::Mine), ("keep-both/1", Side::Theirs), ("ask/1", Side::Theirs)] {
        let model = |actor| Model::new(actor, Profile::Versioned, 64).with_policy(policy);
        let (mut a, mut b, mut third) = (model(1), model(2), model(3));
        let (winner, loser) = if preferred == Side::Mine { (&mut a, &mut b) } else { (&mut b, &mut a) };
        winner.write(b"key", Some(vec![1]));
        third.copy_from(winner);
        winner.write(b"key", Some(vec![2]));
        third.write(b"key", Some(vec![3]));
        third.write(b"key", None);
        run(&mut third, winner, Options::new(BOTH), World::quiet());
        (0..9).for_each(|n| loser.write(b"key", Some(vec![9, n])));
        assert_eq!(winner.records()[&b"key"[..]].versions().len(), 2);
        let outcome =
            run(&mut a, &mut b, Options { prefer: Some(preferred), ..Options::new(BOTH) }, World::quiet()).outcome;
        assert_eq!((outcome.verdict, outcome.counts.concurrent), (Verdict::InSync, 1), "{outcome:?}");
        for side in [&a, &b] {
            let now = &side.records()[&b"key"[..]];
            assert_eq!(
                (now.versions().len(), side.shown(now).0),
                (1, Content::Live(vec![2])),
                "{policy} {preferred:?}"
            );
        }
    }
}

#[test]
fn past_the_bound_of_vectors_what_is_forgotten_stays_beside_and_the_session_ends() {
    for preferred in [Side::Mine, Side::Theirs] {
        let model = |actor| Model::new(actor, Profile::Versioned, 64).with_policy("keep-both/1");
        let (mut a, mut b) = (model(1), model(2));
        b.write(b"key", Some(vec![2]));
        let mut last = model(3);
        (0..9).for_each(|n| last.write(b"key", Some(vec![3, n])));
        for actor in 4..=34 {
            let mut next = model(actor);
            next.copy_from(&last);
            next.write(b"key", Some(vec![actor as u8]));
            last = next;
        }
        a.copy_from(&last);
        a.write(b"key", Some(vec![1]));
        let outcome =
            run(&mut a, &mut b, Options { prefer: Some(preferred), ..Options::new(BOTH) }, World::quiet()).outcome;
        assert_eq!(outcome.verdict, Verdict::InSync, "{outcome:?}");
        assert_eq!(a.records(), b.records());
        assert_eq!(a.records()[&b"key"[..]].versions().len(), 2, "what was forgotten stands beside what replaced it");
    }
}

#[test]
fn brakes_count_what_the_preferred_side_overwrites() {
    for (policy, profile) in
        [(NEWEST, Profile::Versioned), ("keep-both/1", Profile::Versioned), (NEWEST, Profile::Content)]
    {
        for preferred in [Side::Mine, Side::Theirs] {
            let model = |actor| Model::new(actor, profile, 64).with_policy(policy);
            let (mut a, mut b) = (model(1), model(2));
            a.fill(500);
            b.copy_from(&a);
            // Written last by the side that loses: of the newest nothing would be overwritten there.
            let (winner, loser) = if preferred == Side::Mine { (&mut a, &mut b) } else { (&mut b, &mut a) };
            (0..60u32).for_each(|n| winner.write(&n.to_be_bytes(), Some(vec![1])));
            (0..2).for_each(|_| (0..60u32).for_each(|n| loser.write(&n.to_be_bytes(), Some(vec![2]))));
            let before = (a.records().clone(), b.records().clone());
            for (most, verdict) in [(59, Verdict::Refused), (60, Verdict::InSync)] {
                let brakes = Some(Brakes { change: Limit::records(most), ..Brakes::default() });
                let options = Options { brakes, prefer: Some(preferred), ..Options::new(BOTH) };
                let outcome = run(&mut a, &mut b, options, World::quiet()).outcome;
                assert_eq!(outcome.verdict, verdict, "{policy} {profile:?} {preferred:?} {outcome:?}");
                let Some(told) = outcome.braked else { continue };
                assert_eq!((told.side, told.losses), (preferred.other(), Losses { deleted: 0, changed: 60 }));
                assert_eq!((a.records(), b.records()), (&before.0, &before.1));
            }
            assert!(
                (0..60u32)
                    .all(|n| [&a, &b].iter().all(|side| side.records()[&n.to_be_bytes()[..]].value() == Some(&[1])))
            );
        }
    }
}
