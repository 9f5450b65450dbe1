//! Golden vectors of what is remembered of jobs.

use reknit_core::agenda::{
    Agenda, Begun, By, Cause, DayBudget, FreshIndex, Kept, Limit, Parking, Pass, Ran, RunVerdict, Tuned, Unproven,
    Verified,
};
use reknit_core::sealed::KeptError;
use reknit_core::*;

use super::compare;

#[test]
fn jobs() {
    let fresh = Kept::default();
    let begun =
        Begun { number: 3, began: 1_700_000_000_000, cause: Cause::Retry, until: 1_700_000_600_000, limit: None };
    let ran = Ran {
        differences: Some(412),
        records: Some([1_000_000, 999_588]),
        written: [0, 7],
        bytes: 65_536,
        verdict: RunVerdict::Differs,
        exit: 1,
        error: Some(("peer.unreachable".into(), "nobody answers".into())),
        ..Ran::cut(Begun { number: 2, ..begun }, 1_700_000_300_000)
    };
    let all = Kept {
        paused: Some(5),
        tuned: Tuned {
            at: Some("every 5m".into()),
            jitter: Some(60_000),
            max_time: Some(1),
            max_bytes: Some(2),
            ..Tuned::default()
        },
        planned: Some("every 5m".into()),
        slot: Some(1_700_000_000_000),
        due: Some(1_700_000_000_001),
        asked: true,
        runs: 3,
        running: Some(begun),
        alive: None,
        failures: 2,
        missed: 9,
        spent: None,
        parking: Parking::default(),
        wanted: None,
        proven: Some(1_600_000_000_000),
        verified: Verified::default(),
        pass: None,
        sound: None,
        indexes: Vec::new(),
        open: Some(1_650_000_000_000),
        keys: [(0x0102_0304_0506_0708, 1_650_000_000_000)].into(),
        history: [ran].into(),
    };
    let listed =
        Ran { classes: [("only_a".to_string(), 400), ("content".to_string(), 12)].into(), ..all.history[0].clone() };
    let listed = Kept { history: [listed].into(), ..Kept::default() };
    let ranges = ["4*", "17*"].map(|range| ("default".to_string(), range.parse().expect("a range")));
    let unproven = Unproven { ranges: ranges.into(), more: 3 };
    let partial = Ran { verdict: RunVerdict::Partial, unproven, ..all.history[0].clone() };
    let mut verified = Verified::default();
    verified.note(0x8001, 1_700_000_000_000);
    let partial = Kept { history: [partial].into(), verified, ..Kept::default() };
    let parked = parked();
    let part = Ran { verdict: RunVerdict::Partial, goes_on: true, ..all.history[0].clone() };
    let mut pass = Pass::begin("/var/lib/cities".into(), 2, 1_700_000_000_000);
    pass.note("4*".parse().expect("a range"), 62_500, 1);
    let pass = Kept { history: [part].into(), pass: Some(pass), sound: Some(1_690_000_000_000), ..Kept::default() };
    let index = FreshIndex {
        index: "0a1b2c3d-4e5f".into(),
        table: "postgresql://shop@db/shop/orders".into(),
        at: 1_700_000_000_000,
        waited: Some(412),
        kept_bytes: None,
    };
    let indexed = Kept { indexes: vec![index], ..Kept::default() };
    let estimated = Ran { estimated: true, ..all.history[0].clone() };
    let estimated = Kept { history: [estimated].into(), ..Kept::default() };
    let killed = Ran { end_unknown: true, ..Ran::cut(begun, 1_700_000_030_000) };
    let began = Begun { limit: Some(Limit::Day), ..begun };
    let ended = Ran { limit: Some(Limit::Window), ..all.history[0].clone() };
    let limited = Kept { running: Some(began), history: [ended].into(), ..Kept::default() };
    let killed = Kept { alive: Some(1_700_000_060_000), history: [killed].into(), ..Kept::default() };
    let lines = [
        ("job(fresh)", fresh.to_bytes()),
        ("job(all)", all.to_bytes()),
        ("job(listed)", listed.to_bytes()),
        ("job(partial)", partial.to_bytes()),
        ("job(parked)", parked.to_bytes()),
        ("job(pass)", pass.to_bytes()),
        ("job(indexed)", indexed.to_bytes()),
        ("job(estimated)", estimated.to_bytes()),
        ("job(killed)", killed.to_bytes()),
        ("job(limited)", limited.to_bytes()),
    ];
    for (kept, (_, bytes)) in
        [fresh, all, listed, partial, parked, pass, indexed, estimated, killed, limited].iter().zip(&lines)
    {
        assert_eq!(Kept::from_bytes(bytes).as_ref(), Ok(kept));
        for cut in 0..bytes.len() {
            assert_eq!(Kept::from_bytes(&bytes[..cut]), Err(KeptError::Damaged));
        }
    }
    compare("jobs.tsv", &lines);
}

/// A job whose first run got stuck in two ranges.
fn parked() -> Kept {
    let plan = agenda::Plan {
        schedule: schedule::Schedule::by_hand(),
        zone: std::sync::Arc::new(schedule::Utc),
        places: Default::default(),
        longest: 60_000,
        within: None,
        a_day: DayBudget::default(),
    };
    let mut agenda = Agenda::new([1; 32], 1);
    agenda.configure([("mend".to_string(), plan)].into(), 1, 0);
    agenda.ask("mend").expect("it is known");
    let begun = agenda.begin("mend", By::Hand, 1_700_000_000_000).expect("it may");
    let ranges = ["4*", "17*"].map(|range| ("default".to_string(), range.parse().expect("a range")));
    let stuck = Ran {
        verdict: RunVerdict::Damaged,
        error: Some(("store.damaged".into(), "a record is damaged".into())),
        stuck: Some(ranges.into()),
        ..Ran::cut(begun, 1_700_000_300_000)
    };
    agenda.end("mend", stuck);
    agenda.jobs()["mend"].kept.clone()
}
