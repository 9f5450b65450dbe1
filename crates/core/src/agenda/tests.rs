//! What is due, once however often it was missed, never twice at once, and the same after a restart.

mod killed;
mod tuned;

use super::*;
use crate::schedule::Utc;
use proptest::prelude::*;

const SECOND: Millis = 1_000;
const HOUR: Millis = 3_600 * SECOND;
const DAY: Millis = 24 * HOUR;

fn plan(at: &str, places: &[&str]) -> Plan {
    let at = Some(at.parse().expect("a time"));
    let places = places.iter().map(|place| place.to_string()).collect();
    Plan {
        schedule: Schedule { at, ..Schedule::by_hand() },
        zone: Arc::new(Utc),
        places,
        longest: 100 * SECOND,
        within: None,
        a_day: DayBudget::default(),
    }
}

fn agenda(plans: &[(&str, Plan)], at_once: usize, now: Millis) -> Agenda {
    let mut agenda = Agenda::new([7; 32], at_once);
    agenda.configure(plans.iter().map(|(name, plan)| (name.to_string(), plan.clone())).collect(), at_once, now);
    agenda
}

fn ran(begun: Begun, verdict: RunVerdict, now: Millis) -> Ran {
    Ran { verdict, ..Ran::cut(begun, now) }
}

/// What is left of an agenda when its process is gone.
fn restarted(agenda: &Agenda, at_once: usize, now: Millis) -> Agenda {
    let mut again = Agenda::new([7; 32], at_once);
    let mut plans = BTreeMap::new();
    for (name, job) in agenda.jobs() {
        again.remember(name.clone(), Kept::from_bytes(&job.kept.to_bytes()).expect("what was written"), now);
        plans.extend(job.plan.clone().map(|plan| (name.clone(), plan)));
    }
    again.configure(plans, at_once, now);
    again
}

#[test]
fn what_was_missed_while_the_node_was_down_is_run_once() {
    let mut jobs = agenda(&[("a", plan("every 10s", &[])), ("b", plan("00:01", &[]))], 4, 0);
    assert_eq!(jobs.due(0), ["a"]);
    let begun = jobs.begin("a", By::Schedule, 0).expect("it begins");
    jobs.end("a", ran(begun, RunVerdict::InSync, 1));
    assert_eq!((jobs.due(1), jobs.wake(1)), (Vec::new(), Some(10 * SECOND)));
    let later = 3 * 86_400 * SECOND + 5;
    let mut jobs = restarted(&jobs, 4, later);
    assert_eq!(jobs.due(later), ["a", "b"]);
    for name in ["a", "b"] {
        let begun = jobs.begin(name, By::Schedule, later).expect("it begins");
        assert_eq!(begun.cause, Cause::Schedule);
        jobs.end(name, ran(begun, RunVerdict::InSync, later + 1));
        assert_eq!(jobs.due(later + 2), if name == "a" { vec!["b"] } else { vec![] });
    }
    assert_eq!(jobs.jobs()["a"].kept.missed, later / (10 * SECOND) - 1);
    assert_eq!(jobs.jobs()["b"].kept.missed, 2);
    assert_eq!(jobs.wake(later + 2), Some(3 * 86_400 * SECOND + 10 * SECOND));
}

#[test]
fn a_run_that_was_cut_short_is_noted_and_begins_again() {
    let mut jobs = agenda(&[("a", plan("every 1h", &[]))], 1, 5);
    jobs.begin("a", By::Schedule, 5).expect("it begins");
    let mut jobs = restarted(&jobs, 1, 50);
    assert_eq!(jobs.jobs()["a"].kept.last().map(|ran| (ran.number, ran.verdict)), Some((1, RunVerdict::Interrupted)));
    assert_eq!(jobs.due(50), ["a"]);
    let begun = jobs.begin("a", By::Schedule, 50).expect("it begins");
    assert_eq!(begun.number, 2);
    // So it is where the node ends as it was told to.
    jobs.end("a", ran(begun, RunVerdict::Interrupted, 60));
    assert_eq!(restarted(&jobs, 1, 70).due(70), ["a"]);
}

#[test]
fn what_fails_is_tried_again_later_and_later() {
    let mut jobs = agenda(&[("a", plan("every 10s", &[])), ("d", plan("12:00", &[]))], 2, 0);
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..6 {
        let begun = jobs.begin("a", By::Schedule, now).expect("it begins");
        jobs.end("a", ran(begun, RunVerdict::Undetermined, now));
        let due = jobs.jobs()["a"].kept.due.expect("it is due");
        waits.push((due - now) / SECOND);
        now = due;
    }
    assert_eq!(waits, [10, 20, 40, 80, 80, 80]);
    let begun = jobs.begin("a", By::Schedule, now).expect("it begins");
    assert_eq!((begun.cause, jobs.jobs()["a"].kept.failures), (Cause::Retry, 6));
    jobs.end("a", ran(begun, RunVerdict::Differs, now));
    let kept = &jobs.jobs()["a"].kept;
    assert_eq!((kept.due.map(|due| due - now), kept.failures), (Some(10 * SECOND), 0));
    let noon = 12 * 3_600 * SECOND;
    let begun = jobs.begin("d", By::Schedule, noon).expect("it begins");
    jobs.end("d", ran(begun, RunVerdict::Partial, noon + 1));
    assert_eq!(jobs.jobs()["d"].kept.due, Some(noon + 1 + 60 * SECOND));
}

#[test]
fn one_place_is_worked_on_by_one_job_and_one_job_runs_once() {
    let plans =
        [("a", plan("every 1m", &["x", "y"])), ("b", plan("every 1m", &["y"])), ("c", plan("every 1m", &["z"]))];
    let mut jobs = agenda(&plans, 3, 0);
    assert_eq!(jobs.due(0), ["a", "c"]);
    let begun = jobs.begin("a", By::Schedule, 0).expect("it begins");
    assert_eq!(jobs.begin("a", By::Hand, 1), Err(Refusal::Running(begun)));
    assert_eq!(jobs.ask("a"), Err(Refusal::Running(begun)));
    assert_eq!(jobs.begin("b", By::Hand, 1), Err(Refusal::Occupied { place: "y".into(), by: "a".into() }));
    assert_eq!(jobs.begin("d", By::Hand, 1), Err(Refusal::Unknown));
    jobs.end("a", ran(begun, RunVerdict::InSync, 2));
    assert_eq!(jobs.due(2), ["b", "c"]);
}

#[test]
fn no_two_jobs_work_on_a_database_and_on_a_table_in_it() {
    let plans = [
        ("all", plan("every 1m", &["db:x"])),
        ("one", plan("every 1m", &["db:x/t"])),
        ("two", plan("every 1m", &["db:xy/t"])),
    ];
    let mut jobs = agenda(&plans, 4, 0);
    assert_eq!(jobs.due(0), ["all", "two"]);
    let begun = jobs.begin("one", By::Schedule, 0).expect("it begins");
    assert!(matches!(jobs.begin("all", By::Hand, 0), Err(Refusal::Occupied { place, .. }) if place == "db:x/t"));
    jobs.end("one", ran(begun, RunVerdict::InSync, 1));
    jobs.begin("all", By::Hand, 2).expect("it begins");
    assert!(matches!(jobs.begin("one", By::Hand, 2), Err(Refusal::Occupied { place, .. }) if place == "db:x"));
}

#[test]
fn a_paused_job_waits_and_runs_once_when_it_is_resumed() {
    let mut jobs = agenda(&[("a", plan("every 1m", &[]))], 1, 0);
    assert_eq!((jobs.pause("a", 0), jobs.pause("a", 9)), (Ok(true), Ok(false)));
    let mut jobs = restarted(&jobs, 1, 10);
    assert_eq!((jobs.due(600 * SECOND), jobs.wake(0)), (Vec::new(), None));
    jobs.ask("a").expect("known");
    assert_eq!(jobs.due(600 * SECOND), ["a"], "who asks for it gets it");
    let begun = jobs.begin("a", By::Schedule, 600 * SECOND).expect("it begins");
    assert_eq!(begun.cause, Cause::Asked);
    jobs.end("a", ran(begun, RunVerdict::InSync, 601 * SECOND));
    assert_eq!(jobs.due(900 * SECOND), Vec::<String>::new());
    assert_eq!((jobs.resume("a"), jobs.resume("a")), (Ok(true), Ok(false)));
    assert_eq!(jobs.due(900 * SECOND), ["a"]);
}

#[test]
fn the_oldest_difference_is_that_of_the_key_that_was_seen_first() {
    let mut kept = Kept::default();
    let mut see = |keys: Option<&[u64]>, verdict, at: Millis| {
        let begun = Begun { number: at, began: at, cause: Cause::Schedule, until: at, limit: None };
        let seen = keys.map(|keys| keys.iter().copied().collect());
        kept.note(Ran { seen, ..ran(begun, verdict, at) });
        (kept.oldest(), kept.proven)
    };
    assert_eq!(see(Some(&[1, 2]), RunVerdict::Differs, 10), (Some(10), None));
    assert_eq!(see(Some(&[2, 3]), RunVerdict::Differs, 20), (Some(10), None));
    assert_eq!(see(Some(&[3]), RunVerdict::Differs, 30), (Some(20), None), "what healed is not the oldest");
    assert_eq!(see(None, RunVerdict::Undetermined, 35), (Some(20), None), "nothing was seen");
    assert_eq!(see(None, RunVerdict::InSync, 40), (None, Some(40)));
    assert_eq!(see(None, RunVerdict::Differs, 50), (Some(50), Some(40)));
    assert_eq!(see(None, RunVerdict::Differs, 60), (Some(50), Some(40)), "which keys differ is not known");
}

#[test]
fn an_interval_that_cannot_be_met_is_told() {
    let mut jobs = agenda(&[("a", plan("every 10s", &[]))], 1, 0);
    let mut now = 0;
    for _ in 0..3 {
        let begun = jobs.begin("a", By::Schedule, now).expect("it begins");
        jobs.end("a", ran(begun, RunVerdict::InSync, now + 25 * SECOND));
        now = jobs.wake(now + 25 * SECOND).expect("it is due");
    }
    assert_eq!(now, 90 * SECOND, "slots that pass meanwhile are skipped");
    assert_eq!(jobs.jobs()["a"].kept.missed, 6);
    assert_eq!(jobs.jobs()["a"].unmet(), Some(Unmet::Interval { took: 25 * SECOND, interval: 10 * SECOND }));
}

#[test]
fn windows_and_times_that_runs_do_not_fit_in_are_told() {
    const MINUTE: Millis = 60 * SECOND;
    let planned = |at: &str| Plan { longest: 1440 * MINUTE, ..plan(at, &[]) };
    let within = |at: &str, window: &str| {
        let windows = vec![window.parse().expect("a window")];
        Plan { schedule: Schedule { windows, ..planned(at).schedule }, ..planned(at) }
    };
    // What three runs come to that take so many minutes, or are cut short as their window closes.
    let unmet = |plan: Plan, took: u64| {
        let mut jobs = agenda(&[("a", plan)], 1, 0);
        let mut now = 0;
        for _ in 0..3 {
            now = if jobs.due(now).is_empty() { jobs.wake(now).expect("it is due") } else { now };
            let begun = jobs.begin("a", By::Schedule, now).expect("it begins");
            let (verdict, ended) = match now + took * MINUTE {
                ended if ended > begun.until => (RunVerdict::Partial, begun.until),
                ended => (RunVerdict::InSync, ended),
            };
            now = ended;
            jobs.end("a", ran(begun, verdict, now));
        }
        jobs.jobs()["a"].unmet()
    };
    // The interval is long enough, but not the window.
    let short = Unmet::Window { took: 30 * MINUTE, window: 30 * MINUTE };
    assert_eq!(unmet(within("every 1h", "22:00-22:30"), 45), Some(short));
    assert_eq!(unmet(within("every 1h", "22:00-23:00"), 45), None);
    // A time in the middle of its window has the rest of it, and one before another the time between.
    // The first is cut short, and tried again as the window opens: that one takes all of its time.
    let rest = Unmet::Window { took: 25 * MINUTE, window: 20 * MINUTE };
    assert_eq!(unmet(within("22:10", "22:00-22:30"), 25), Some(rest));
    assert_eq!(unmet(within("22:00", "22:00-22:30"), 25), None);
    assert_eq!(unmet(planned("22:00,22:20"), 25), Some(Unmet::Interval { took: 25 * MINUTE, interval: 20 * MINUTE }));
    assert_eq!(unmet(planned("22:00,22:30"), 25), None);
    // One that was cut short by something else, or in a part of its window, says nothing of the window.
    let mut jobs = agenda(&[("a", within("every 1h", "22:00-23:00"))], 1, 22 * 60 * MINUTE);
    let begun = jobs.begin("a", By::Schedule, 22 * 60 * MINUTE + 40 * MINUTE).expect("it begins");
    jobs.end("a", ran(begun, RunVerdict::Partial, begun.until));
    assert_eq!(begun.limit, Some(Limit::Window));
    assert_eq!((begun.until, jobs.jobs()["a"].unmet()), (23 * 60 * MINUTE, None));
}

#[derive(Clone, Debug)]
enum Step {
    Wait(Millis),
    Begin,
    End(usize, RunVerdict),
    Hand(usize),
    Ask(usize),
    Pause(usize),
    Resume(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        Just(RunVerdict::InSync),
        Just(RunVerdict::Differs),
        Just(RunVerdict::Undetermined),
        Just(RunVerdict::Cancelled)
    ];
    let step = prop_oneof![
        (0..50_000u64).prop_map(Step::Wait),
        Just(Step::Begin),
        Just(Step::Begin),
        (0..4usize, verdict).prop_map(|(job, verdict)| Step::End(job, verdict)),
        (0..4usize).prop_map(Step::Hand),
        (0..4usize).prop_map(Step::Ask),
        (0..4usize).prop_map(Step::Pause),
        (0..4usize).prop_map(Step::Resume),
        Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn whatever_happens_no_job_runs_twice_at_once_and_none_is_forgotten(steps in steps(), jitter in 0..5_000u64) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let with_jitter = |mut plan: Plan| {
            plan.schedule.jitter = jitter;
            plan
        };
        let plans = [
            ("a", with_jitter(plan("every 10s", &["x"]))),
            ("b", with_jitter(plan("every 7s", &["x", "y"]))),
            ("c", with_jitter(plan("00:00,00:01", &[]))),
            ("d", with_jitter(plan("every 1m", &["z"]))),
        ];
        let (mut jobs, mut now) = (agenda(&plans, 2, 0), 0);
        let mut running: BTreeMap<&str, Begun> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Wait(millis) => now += millis,
                Step::Begin => {
                    for due in jobs.due(now) {
                        let name = NAMES.into_iter().find(|name| **name == *due).expect("known");
                        let begun = jobs.begin(name, By::Schedule, now).expect("what is due begins");
                        prop_assert!(begun.until > now);
                        prop_assert!(running.insert(name, begun).is_none());
                        prop_assert!(running.len() <= 2);
                    }
                    prop_assert!(jobs.due(now).is_empty(), "all that is due has begun, or waits for what runs");
                }
                Step::End(job, verdict) => {
                    if let Some(begun) = running.remove(NAMES[job]) {
                        jobs.end(NAMES[job], ran(begun, verdict, now));
                        let kept = &jobs.jobs()[NAMES[job]].kept;
                        prop_assert!(kept.due.is_some_and(|due| due > now), "it is due again, and not yet");
                    }
                }
                Step::Hand(job) if running.len() < 2 => match jobs.begin(NAMES[job], By::Hand, now) {
                    Ok(begun) => prop_assert!(running.insert(NAMES[job], begun).is_none()),
                    Err(refusal) => prop_assert!(refusal != Refusal::Unknown),
                },
                Step::Hand(_) => {}
                Step::Ask(job) => prop_assert_eq!(jobs.ask(NAMES[job]).is_err(), running.contains_key(NAMES[job])),
                Step::Pause(job) => {
                    let _ = jobs.pause(NAMES[job], now);
                }
                Step::Resume(job) => {
                    let _ = jobs.resume(NAMES[job]);
                }
                Step::Restart => {
                    jobs = restarted(&jobs, 2, now);
                    running.clear();
                }
            }
            // As if the clock had been set back: no schedule has put anything further ahead than it can.
            jobs.latest = Millis::MAX;
            prop_assert_eq!(jobs.set_right(now, true), Vec::<String>::new());
            prop_assert!(!(running.contains_key("a") && running.contains_key("b")), "they share a place");
            for (name, job) in jobs.jobs() {
                prop_assert_eq!(job.kept.running.is_some(), running.contains_key(&**name));
                prop_assert!(job.kept.due.is_some() && job.kept.slot.is_some());
            }
        }
    }
}

#[test]
fn an_objective_counts_from_the_last_proof_or_from_when_it_was_wanted_and_outlives_the_node() {
    use crate::objective::State;
    let wanted = |within| BTreeMap::from([("a".to_string(), Plan { within, ..plan("every 10s", &[]) })]);
    let mut jobs = Agenda::new([7; 32], 1);
    jobs.configure(wanted(None), 1, SECOND);
    assert_eq!(jobs.jobs()["a"].objective(SECOND), None);
    jobs.configure(wanted(Some(8 * SECOND)), 1, 2 * SECOND);
    // It is no other objective for being stricter.
    jobs.configure(wanted(Some(4 * SECOND)), 1, 3 * SECOND);
    let state = |jobs: &Agenda, now| jobs.jobs()["a"].objective(now).map(|objective| objective.state);
    assert_eq!(state(&jobs, 4 * SECOND), Some(State::Met));
    assert_eq!(state(&jobs, 5 * SECOND), Some(State::AtRisk));
    let kept = Kept::from_bytes(&jobs.jobs()["a"].kept.to_bytes()).expect("what was kept");
    let mut again = Agenda::new([7; 32], 1);
    again.remember("a".into(), kept, 7 * SECOND);
    again.configure(wanted(Some(4 * SECOND)), 1, 7 * SECOND);
    let objective = again.jobs()["a"].objective(7 * SECOND).expect("one");
    assert_eq!((objective.broken_since(), objective.proven), (Some(6 * SECOND), false));
    let begun = again.begin("a", By::Hand, 8 * SECOND).expect("it begins");
    let ran = Ran { verdict: RunVerdict::InSync, ..Ran::cut(begun, 9 * SECOND) };
    again.end("a", ran);
    assert_eq!(state(&again, 9 * SECOND), Some(State::Met));
    assert_eq!(state(&again, 14 * SECOND), Some(State::Broken));
    again.configure(wanted(None), 1, 15 * SECOND);
    assert_eq!(again.jobs()["a"].kept.wanted, None);
}

#[test]
fn a_part_of_the_sides_is_as_old_as_the_last_run_that_compared_it_to_its_end() {
    let mut kept = Kept::default();
    let mut run = |verdict, verified, began: Millis| {
        let begun = Begun { number: 1, began, cause: Cause::Schedule, until: began + 10, limit: None };
        kept.note(Ran { verified, ..ran(begun, verdict, began + 5) });
        kept.verified.oldest()
    };
    assert_eq!(run(RunVerdict::Partial, 0x00ff, 10), None, "some of it never was");
    assert_eq!(run(RunVerdict::Partial, 0xff00, 20), Some(10));
    assert_eq!(run(RunVerdict::Differs, u16::MAX, 30), Some(35));
    assert_eq!(run(RunVerdict::Partial, 0xfffe, 40), Some(35));
    assert_eq!(run(RunVerdict::Undetermined, 0, 50), Some(35));
    assert_eq!(run(RunVerdict::InSync, u16::MAX, 60), Some(65));
    let back = Kept::from_bytes(&kept.to_bytes()).expect("what was kept");
    assert_eq!(back.verified.oldest(), Some(65));
}

#[test]
fn a_days_budget_bounds_what_is_begun_by_itself_until_the_clock_shows_another_day() {
    const MINUTE: Millis = 60 * SECOND;
    let bounded = |bytes, time| {
        let plan = Plan { a_day: DayBudget { bytes, time }, longest: 12 * HOUR, ..plan("every 1h", &[]) };
        BTreeMap::from([("a".to_string(), plan)])
    };
    let mut jobs = Agenda::new([7; 32], 1);
    jobs.configure(bounded(Some(1000), Some(90 * MINUTE)), 1, 20 * HOUR);
    let spend = |jobs: &mut Agenda, by, now, bytes, took: Millis| {
        let begun = jobs.begin("a", by, now).expect("it begins");
        jobs.end("a", Ran { bytes, ..ran(begun, RunVerdict::InSync, now + took) });
        begun
    };
    assert_eq!(jobs.due(20 * HOUR), ["a"]);
    let first = spend(&mut jobs, By::Schedule, 20 * HOUR, 400, 30 * MINUTE);
    assert_eq!(first.limit, Some(Limit::Day));
    assert_eq!(first.until, 20 * HOUR + 90 * MINUTE, "a run is told to end when the time is up");
    let left = jobs.jobs()["a"].left(21 * HOUR);
    assert_eq!(left, DayBudget { bytes: Some(600), time: Some(60 * MINUTE) });
    assert_eq!(jobs.due(21 * HOUR), ["a"]);
    let second = spend(&mut jobs, By::Schedule, 21 * HOUR, 700, 10 * MINUTE);
    assert_eq!(second.until, 22 * HOUR);
    // It took more than was left: nothing begins, also not what was asked for, and it is known when.
    jobs.ask("a").expect("it is there");
    assert_eq!((jobs.due(22 * HOUR), jobs.wake(22 * HOUR)), (Vec::new(), Some(24 * HOUR)));
    assert_eq!((jobs.waiting(22 * HOUR), jobs.waiting(24 * HOUR)), (0, 1));
    assert_eq!(jobs.jobs()["a"].used_up(22 * HOUR), Some(24 * HOUR));
    // A restart forgets nothing of it; what somebody waits for begins, and counts.
    let mut jobs = restarted(&jobs, 1, 22 * HOUR);
    jobs.configure(bounded(Some(1000), Some(90 * MINUTE)), 1, 22 * HOUR);
    assert!(jobs.due(22 * HOUR).is_empty());
    let by_hand = spend(&mut jobs, By::Hand, 22 * HOUR, 50, 0);
    assert_eq!(by_hand.limit, Some(Limit::Longest));
    assert_eq!((by_hand.until, jobs.jobs()["a"].spent(23 * HOUR).bytes), (34 * HOUR, 1150));
    // Who bounds it less lets it begin at once, and the next day is a new one.
    jobs.configure(bounded(Some(2000), Some(90 * MINUTE)), 1, 23 * HOUR);
    assert_eq!(jobs.due(23 * HOUR), ["a"]);
    jobs.configure(bounded(Some(1000), Some(90 * MINUTE)), 1, 23 * HOUR);
    assert!(jobs.due(24 * HOUR - 1).is_empty());
    assert_eq!(jobs.due(24 * HOUR), ["a"]);
    assert_eq!(jobs.jobs()["a"].left(24 * HOUR).bytes, Some(1000));
    // What ran past midnight counts on the day on which it began.
    spend(&mut jobs, By::Schedule, 47 * HOUR, 900, 90 * MINUTE);
    assert_eq!(jobs.jobs()["a"].left(48 * HOUR + 31 * MINUTE).bytes, Some(1000));
}

#[test]
fn what_is_parked_is_tried_again_later_and_later_and_holds_up_nothing() {
    let mut jobs = agenda(&[("a", plan("every 1h", &[]))], 1, 0);
    let place = place_of("4f*");
    let one = |jobs: &mut Agenda, at: Millis, stuck: bool| {
        assert_eq!(jobs.due(at), ["a"]);
        let begun = jobs.begin("a", By::Schedule, at).expect("it begins");
        let trial = jobs.jobs()["a"].kept.parking.trial(false, at);
        let (verdict, parked) = if stuck { (RunVerdict::Damaged, 0) } else { (RunVerdict::Partial, 1) };
        let stuck = stuck.then(|| place.clone());
        jobs.end("a", Ran { parked, trial: trial.clone(), stuck, ..ran(begun, verdict, at + 1) });
        *jobs = restarted(jobs, 1, at + 1);
        trial
    };
    let (without, alone) = (Trial { out: place.clone(), tried: vec![] }, Trial { out: vec![], tried: place.clone() });
    // It gets stuck, does the rest, tries what it was about, and does the rest again.
    let trials = [true, false, true, false].into_iter().zip(0..).map(|(stuck, at)| one(&mut jobs, at, stuck));
    assert_eq!(trials.collect::<Vec<_>>(), [Trial::default(), without.clone(), alone.clone(), without.clone()]);
    let parked = |jobs: &Agenda| jobs.jobs()["a"].kept.parking.all()[0].clone();
    assert_eq!((parked(&jobs).tries, parked(&jobs).next, parked(&jobs).since), (1, 60_003, 1));
    // The schedule goes on as it would.
    assert_eq!((jobs.jobs()["a"].kept.due, jobs.jobs()["a"].kept.failures), (Some(3_600 * SECOND), 0));
    for tries in 2..6 {
        let at = u64::from(tries - 1) * 3_600 * SECOND;
        assert_eq!(one(&mut jobs, at, true), alone);
        assert_eq!((parked(&jobs).tries, parked(&jobs).next), (tries, at + 1 + (60_000 << (tries - 1))));
        assert_eq!(one(&mut jobs, at + 1, false), without);
    }
    // Sides that are equal are equal wherever they were not looked at.
    let at = 5 * 3_600 * SECOND;
    let begun = jobs.begin("a", By::Schedule, at).expect("it begins");
    jobs.end("a", ran(begun, RunVerdict::InSync, at + 1));
    assert!(jobs.jobs()["a"].kept.parking.is_empty());
}

#[test]
fn a_clock_that_is_set_back_puts_nothing_off_for_longer_than_its_schedule() {
    use crate::objective::State;
    let (ahead, now) = (400 * DAY, 399 * DAY);
    let wanted = Plan { within: Some(2 * HOUR), ..plan("every 1h", &[]) };
    let plans = [("a", wanted), ("b", plan("12:00", &[])), ("c", plan("every 10s", &[]))];
    let before = || {
        let mut jobs = agenda(&plans, 3, ahead);
        for (name, verdict) in [("a", RunVerdict::InSync), ("c", RunVerdict::Undetermined)] {
            let begun = jobs.begin(name, By::Schedule, ahead).expect("it begins");
            jobs.end(name, ran(begun, verdict, ahead + 1));
        }
        assert_eq!(jobs.set_right(ahead + 2, true), Vec::<String>::new(), "by that clock all is as it should be");
        jobs
    };
    for (mut jobs, settled) in [(before(), false), (restarted(&before(), 3, now), true)] {
        // A clock that has just begun may be behind itself.
        assert_eq!(jobs.set_right(now, false).is_empty(), settled);
        assert!(!settled || jobs.set_right(now, true) == ["a", "b", "c"]);
        // The retry of what had failed comes too.
        assert_eq!(jobs.due(now), ["a", "c"]);
        assert_eq!(jobs.wake(now), Some(now + 12 * HOUR));
        jobs.latest = Millis::MAX;
        assert_eq!(jobs.set_right(now + 1, true), Vec::<String>::new(), "once is enough");
        // The last proof is of a time that has not come: it counts as one of now.
        let objective = jobs.jobs()["a"].objective(now + 2 * HOUR + 1).map(|objective| objective.state);
        assert_eq!(objective, Some(State::Broken));
        let begun = jobs.begin("a", By::Schedule, now).expect("it begins");
        jobs.end("a", ran(begun, RunVerdict::InSync, now + 2));
        assert_eq!(jobs.jobs()["a"].kept.due, Some(now + HOUR));
    }
}

#[test]
fn a_clock_that_ran_ahead_for_one_run_or_is_set_back_within_a_window_puts_off_nothing() {
    let windows = vec!["22:00-06:00".parse().expect("a window")];
    let nights = Plan { schedule: Schedule { windows, ..plan("every 1h", &[]).schedule }, ..plan("every 1h", &[]) };
    let now = 10 * DAY + 23 * HOUR;
    let mut jobs = agenda(&[("a", nights)], 1, now);
    assert_eq!((jobs.set_right(now, true), jobs.due(now)), (vec![], vec!["a".to_string()]));
    // Nobody looks between the two: the run begins by the clock that is wrong, and ends by the one that is right.
    let begun = jobs.begin("a", By::Schedule, now + 365 * DAY).expect("it begins");
    jobs.end("a", ran(begun, RunVerdict::Differs, now + SECOND));
    assert_eq!(jobs.jobs()["a"].kept.oldest(), Some(now + SECOND), "nothing differs since a time that has not come");
    assert_eq!(jobs.set_right(now + 2 * SECOND, false), ["a"]);
    assert_eq!(jobs.due(now + 2 * SECOND), ["a"]);
    let begun = jobs.begin("a", By::Schedule, now + 2 * SECOND).expect("it begins");
    jobs.end("a", ran(begun, RunVerdict::InSync, now + 3 * SECOND));
    // The night before, also within the window.
    let back = now + 4 * SECOND - DAY;
    assert_eq!((jobs.set_right(back, false), jobs.due(back)), (vec!["a".to_string()], vec!["a".to_string()]));
}

#[test]
fn what_was_cut_short_begins_at_once_though_the_clock_was_set_back_meanwhile() {
    let (ahead, now) = (400 * DAY, 399 * DAY);
    let mut jobs = agenda(&[("a", plan("12:00", &[]))], 1, ahead);
    jobs.begin("a", By::Hand, ahead).expect("it begins");
    let mut jobs = restarted(&jobs, 1, now);
    assert_eq!(jobs.set_right(now, true), ["a"]);
    assert_eq!(jobs.due(now), ["a"]);
}

#[test]
fn what_is_parked_is_tried_again_though_the_clock_was_set_back() {
    let (ahead, now) = (400 * DAY, 398 * DAY);
    let mut jobs = agenda(&[("a", plan("every 1h", &[]))], 1, ahead);
    let begun = jobs.begin("a", By::Schedule, ahead).expect("it begins");
    jobs.end("a", Ran { stuck: Some(place_of("4f*")), ..ran(begun, RunVerdict::Damaged, ahead + 1) });
    let next = |jobs: &Agenda| jobs.jobs()["a"].kept.parking.all()[0].next;
    assert_eq!(next(&jobs), ahead + 1);
    assert_eq!((jobs.set_right(now, false), next(&jobs)), (vec!["a".to_string()], now));
}

fn place_of(range: &str) -> Named {
    vec![("default".into(), range.parse().expect("a range"))]
}

#[test]
fn a_step_back_of_a_moment_runs_nothing_twice() {
    let mut jobs = agenda(&[("a", plan("every 1h", &[]))], 1, DAY);
    let begun = jobs.begin("a", By::Schedule, DAY).expect("it begins");
    jobs.end("a", ran(begun, RunVerdict::InSync, DAY + 300));
    let now = DAY - 20 * SECOND;
    assert_eq!((jobs.set_right(now, false), jobs.due(now)), (Vec::new(), Vec::<String>::new()));
    assert_eq!(jobs.jobs()["a"].kept.proven, Some(DAY + 300));
}

#[test]
fn a_pass_through_a_store_goes_on_with_the_next_run_and_fails_nobody() {
    let mut jobs = agenda(&[("scrub", plan("every 10s", &[]))], 1, 0);
    let run = |jobs: &mut Agenda, verdict, pass: Option<Pass>, now| {
        let begun = jobs.begin("scrub", By::Schedule, now).expect("it begins");
        let goes_on = pass.as_ref().is_some_and(|pass| pass.next().is_some());
        jobs.end("scrub", Ran { pass, goes_on, ..ran(begun, verdict, now + 1) });
    };
    let kept = |jobs: &Agenda| jobs.jobs()["scrub"].kept.clone();
    let mut pass = Pass::begin("s".into(), 1, 0);
    pass.note(crate::range::Range::of(crate::range::Position(0), 1), 5, 0);
    run(&mut jobs, RunVerdict::Partial, Some(pass.clone()), 0);
    // It is due when it would be, and nothing is wrong with it.
    let last = kept(&jobs);
    assert_eq!((last.pass.as_ref(), last.failures, last.due), (Some(&pass), 0, Some(10 * SECOND)));
    assert!(!last.last().expect("a run").failed());
    let mut jobs = restarted(&jobs, 1, 5 * SECOND);
    assert_eq!(kept(&jobs), last);
    // One that came to nothing leaves it where it was.
    run(&mut jobs, RunVerdict::Undetermined, None, 10 * SECOND);
    assert_eq!((kept(&jobs).pass, kept(&jobs).failures), (Some(pass.clone()), 1));
    // What takes long does not fail to keep its interval: it goes on.
    let begun = jobs.begin("scrub", By::Hand, 100 * SECOND).expect("it begins");
    jobs.end("scrub", Ran { pass: Some(pass.clone()), goes_on: true, ..ran(begun, RunVerdict::Partial, 150 * SECOND) });
    assert_eq!(jobs.jobs()["scrub"].unmet(), None);
    while pass.next().is_some() {
        pass.note(crate::range::Range::of(crate::range::Position(pass.from), 1), 5, 0);
    }
    run(&mut jobs, RunVerdict::Sound, Some(pass.clone()), 200 * SECOND);
    assert_eq!((kept(&jobs).pass, kept(&jobs).failures), (None, 0));
    // However many runs there are since, it is known when the store was sound.
    (0..2 * HISTORY_MAX as u64).for_each(|nth| run(&mut jobs, RunVerdict::Undetermined, None, (300 + nth) * SECOND));
    assert_eq!(kept(&jobs).sound, Some(200 * SECOND + 1));
    // What is wrong is known beyond the pass that found it; how far a run has come is known before it ends.
    pass.faults = 3;
    run(&mut jobs, RunVerdict::Damaged, Some(pass.clone()), 2_000 * SECOND);
    assert_eq!((kept(&jobs).pass.as_ref(), kept(&jobs).passing()), (Some(&pass), None));
    let begun = jobs.begin("scrub", By::Hand, 2_100 * SECOND).expect("it begins");
    let mut next = pass.through("s", 1, 2_100 * SECOND);
    next.note(crate::range::Range::of(crate::range::Position(0), 1), 5, 0);
    jobs.note_pass("scrub", begun.number - 1, Pass::begin("t".into(), 1, 0));
    jobs.note_pass("scrub", begun.number, next.clone());
    let mut jobs = restarted(&jobs, 1, 2_200 * SECOND);
    assert_eq!((kept(&jobs).pass, next.wrong()), (Some(next), 3));
    // Whoever compares two sides makes none.
    let begun = jobs.begin("scrub", By::Hand, 2_300 * SECOND).expect("it begins");
    jobs.end("scrub", Ran { records: Some([1, 1]), ..ran(begun, RunVerdict::InSync, 2_301 * SECOND) });
    assert_eq!(kept(&jobs).pass, None);
}
