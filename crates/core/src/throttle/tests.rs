//! A store as a queue: one writer, who serves clients before sessions; what clients wait with and without a session.

use proptest::prelude::*;

use super::*;

/// What a commit costs in a store, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Costs {
    /// Any synced commit of a client.
    synced: u64,
    /// Any commit of a session.
    buffered: u64,
    /// A record, in nanoseconds.
    record_nanos: u64,
    /// Each so manieth commit of a client takes ten times as long.
    hiccup: u64,
    /// After so many records of a session a commit of a client takes so much longer, as what was written is put in order.
    stall: Option<(u64, u64)>,
}

/// Runs a client that writes each `every` microseconds from and until a time, with a session beside it or not; gives the waits
/// of the second half of that time, those of whoever would have come meanwhile too, and the records that the session wrote in it.
fn run(costs: Costs, every: u64, (from, until): (u64, u64), throttle: &mut Throttle, session: bool) -> (Vec<u64>, u64) {
    let (mut now, mut arrives, mut ready, mut written, mut nth, mut passed) = (from, from, from, 0, 0, 0);
    let (mut waits, half) = (Vec::new(), from.midpoint(until));
    let (mut session_until, mut unordered) = (None, 0);
    while now < until {
        // The next event: a client that waits goes first, save for now and then.
        let turn = session && ready <= now && passed >= PASSED_MAX;
        let begins = if !session || !turn && arrives <= now.max(ready) { arrives } else { ready };
        now = now.max(begins);
        if arrives <= now && !turn {
            passed += u64::from(session && ready <= now);
            nth += 1;
            let slow = if nth % costs.hiccup == 0 { 10 } else { 1 };
            let stall = costs.stall.filter(|(records, _)| unordered >= *records);
            unordered -= stall.map_or(0, |(records, _)| records);
            let ends = now + costs.synced * slow + stall.map_or(0, |(_, micros)| micros);
            let beside = session_until.is_some_and(|until| until + ALONE_AFTER > arrives);
            throttle.waited(ends - arrives, beside, ends);
            if now > half {
                waits.extend((arrives..ends).step_by(1_000).map(|came| ends - came));
            }
            (now, arrives) = (ends, arrives + every.max(ends - arrives));
        } else {
            let records = throttle.piece(now).min(5_000);
            let took = costs.buffered + records as u64 * costs.record_nanos / 1_000;
            if now > half {
                written += records as u64;
            }
            now += took;
            unordered += records as u64;
            passed = 0;
            session_until = Some(now);
            ready = now + throttle.wrote(records, took, now);
        }
    }
    waits.sort_unstable();
    (waits, written)
}

/// For so long after a commit of a session a client is beside it, as in a store.
const ALONE_AFTER: u64 = 50_000;
/// Clients that go before a session that waits.
const PASSED_MAX: u64 = 8;

fn high(waits: &[u64]) -> u64 {
    waits[waits.len() - 1 - waits.len() / 100]
}

const SECOND: u64 = 1_000_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn clients_wait_at_most_twice_as_long_beside_a_session_which_still_gets_on(
        synced in 100u64..8_000,
        buffered in 10u64..150,
        record_nanos in 2_000u64..60_000,
        hiccup in 150u64..5_000,
        every in 500u64..5_000,
    ) {
        // Where about one of a hundred is slow the percentile itself would be chance; whoever would have come meanwhile counts too.
        let slow = (10 * synced).div_ceil(1_000) as f64 / (synced.div_ceil(1_000) * hiccup) as f64;
        prop_assume!(!(0.006..0.016).contains(&slow));
        let costs = Costs { synced, buffered, record_nanos, hiccup, stall: None };
        let mut throttle = Throttle::default();
        let (alone, _) = run(costs, every, (0, 40 * SECOND), &mut throttle, false);
        let (beside, written) = run(costs, every, (40 * SECOND, 100 * SECOND), &mut throttle, true);
        // The smallest piece is the least that a session can ask of a client, as rests are bounded.
        let least = high(&alone) + buffered + PIECE_MIN as u64 * record_nanos / 1_000;
        let most = (high(&alone) * RATIO_MAX).max(least);
        prop_assert!(high(&beside) <= most, "{} {} {throttle:?}", high(&alone), high(&beside));
        prop_assert!(written > 30 * 100, "{written}");
    }
}

#[test]
fn a_session_without_clients_goes_at_full_speed_and_again_once_they_have_gone() {
    let mut throttle = Throttle::default();
    assert_eq!((throttle.piece(0), throttle.wrote(100_000, SECOND, SECOND)), (usize::MAX, 0));
    assert_eq!(throttle.gives_way(0), None);
    throttle.waited(1_000, false, 2 * SECOND);
    assert_eq!(throttle.gives_way(2 * SECOND), Some((PIECE_FIRST, 0)));
    let gone = 2 * SECOND + ACTIVE_MICROS + 1;
    assert_eq!((throttle.piece(gone), throttle.gives_way(gone)), (usize::MAX, None));
}

/// A client that waited so long beside a session; the next comes after it.
fn wait_beside(throttle: &mut Throttle, micros: u64, now: &mut u64) {
    *now += micros;
    throttle.waited(micros, true, *now);
}

#[test]
fn a_client_that_is_made_to_wait_slows_a_session_down_in_steps_and_its_ease_lets_it_on_in_steps() {
    let (mut throttle, mut now) = (Throttle::default(), 0);
    for _ in 0..JUDGED {
        now += 1_000;
        throttle.waited(1_000, false, now);
    }
    let mut paces = vec![throttle.gives_way(now)];
    for _ in 0..20 {
        wait_beside(&mut throttle, 3_000, &mut now);
        paces.push(throttle.gives_way(now));
    }
    let expected = [(64, 0), (32, 0), (16, 0), (8, 0), (8, 500), (8, 1_000), (8, 2_000)].map(Some);
    assert_eq!(paces[..7], expected);
    assert_eq!(paces.last(), Some(&Some((PIECE_MIN, REST_MAX_MICROS))));
    // Small writes rest in proportion.
    assert_eq!(throttle.wrote(PIECE_MIN / 2, 100, now), REST_MAX_MICROS / 2);
    for _ in 0..40 {
        (0..1_000).for_each(|_| wait_beside(&mut throttle, 1_000, &mut now));
    }
    let (piece, rest) = throttle.gives_way(now).expect("a pace");
    assert!(rest == 0 && piece > PIECE_MIN, "{piece} {rest}");
}

#[test]
fn one_stall_counts_for_all_who_would_have_come_and_slows_a_session_down_once() {
    let mut throttle = Throttle::default();
    let calm = |throttle: &mut Throttle, from: u64, beside: bool| {
        (0..1_000).for_each(|nth| throttle.waited(500, beside, from + nth * 1_000));
    };
    calm(&mut throttle, 0, false);
    calm(&mut throttle, SECOND, true);
    let (before, _) = throttle.gives_way(2 * SECOND).expect("a pace");
    // Eight wait for one stall of 40 ms: by themselves they are fewer than one of a hundred, but all others were kept away.
    (0..8).for_each(|_| throttle.waited(40_000, true, 2 * SECOND + 40_000));
    assert_eq!(throttle.gives_way(2 * SECOND + 40_000), Some((before / 2, 0)));
}

/// What a session writes stalls clients later, when it has long been slow again: a calm second in between says little.
#[test]
fn stalls_by_what_was_written_earlier_slow_a_session_down_until_they_are_rare() {
    for (records, micros) in [(2_000, 25_000), (10_000, 80_000), (500, 10_000)] {
        let costs = Costs {
            synced: 500,
            buffered: 100,
            record_nanos: 30_000,
            hiccup: u64::MAX,
            stall: Some((records, micros)),
        };
        let mut throttle = Throttle::default();
        let (alone, _) = run(costs, 1_000, (0, 20 * SECOND), &mut throttle, false);
        let (beside, written) = run(costs, 1_000, (20 * SECOND, 220 * SECOND), &mut throttle, true);
        let late = beside.iter().filter(|wait| **wait > RATIO_MAX * high(&alone)).count();
        assert!(100 * late <= 3 * beside.len() / 2, "{late} of {}, stalls of {micros} after {records}", beside.len());
        assert!(written > 100 * 400, "{written}");
    }
}

/// Also where clients write seldom: others could have come all the time.
#[test]
fn a_stall_is_made_up_for_within_half_a_minute() {
    let (mut throttle, mut now) = (Throttle::default(), 0);
    let mut writes = |throttle: &mut Throttle, seconds: u64, micros: u64, beside: bool| {
        for _ in 0..seconds * 20 {
            now += SECOND / 20;
            throttle.waited(micros, beside, now);
        }
        throttle.gives_way(now).expect("a pace")
    };
    writes(&mut throttle, 20, 1_000, false);
    for _ in 0..8 {
        writes(&mut throttle, 1, 500_000, true);
    }
    let (_, slow) = writes(&mut throttle, 1, 1_000, true);
    assert!(slow > 0);
    let (_, rest) = writes(&mut throttle, 40, 1_000, true);
    assert!(rest < slow, "{rest}");
}

#[test]
fn a_piece_takes_no_longer_than_half_of_the_clients_wait_alone() {
    let (mut throttle, mut now) = (Throttle::default(), 0);
    // One of a hundred waits for long.
    for nth in 0..1_000 {
        let micros = if nth % 100 == 0 { 20_000 } else { 1_000 };
        now += 50_000;
        throttle.waited(micros, false, now);
    }
    throttle.wrote(1_000, 50_000, now);
    for _ in 0..100 {
        (0..1_000).for_each(|_| wait_beside(&mut throttle, 1_000, &mut now));
    }
    // A millisecond, told to a sixteenth, at 50 µs a record.
    assert_eq!(throttle.piece(now), 20);
}
