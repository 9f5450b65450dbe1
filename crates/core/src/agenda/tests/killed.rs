//! Runs that the end of the process cut short.

use super::*;

#[test]
fn a_run_that_the_end_of_the_process_cut_short_has_no_end_and_costs_what_is_known_of_it() {
    const MINUTE: Millis = 60 * SECOND;
    let a_day = DayBudget { bytes: None, time: Some(90 * MINUTE) };
    let plan = Plan { a_day, longest: 12 * HOUR, ..plan("every 1h", &[]) };
    let mut jobs = agenda(&[("a", plan)], 1, HOUR);
    let begun = jobs.begin("a", By::Schedule, HOUR).expect("it begins");
    assert!(jobs.note_alive(HOUR + ALIVE_MILLIS - 1).is_empty());
    assert_eq!(jobs.note_alive(HOUR + 10 * MINUTE), ["a"]);
    assert_eq!(jobs.note_alive(HOUR + 20 * MINUTE), ["a"]);
    // However long it is down, and however often it is looked at.
    for now in [2 * HOUR, 5 * HOUR] {
        let again = restarted(&jobs, 1, now);
        let kept = &again.jobs()["a"].kept;
        let last = kept.last().expect("it was cut short");
        assert_eq!((last.verdict, last.end_unknown), (RunVerdict::Interrupted, true));
        assert_eq!((last.began, last.ended, kept.alive), (HOUR, HOUR + 20 * MINUTE, None));
        assert_eq!(again.jobs()["a"].spent(now).time, 20 * MINUTE);
    }
    // One that comes to its end counts once.
    jobs.end("a", ran(begun, RunVerdict::InSync, HOUR + 25 * MINUTE));
    assert_eq!(jobs.jobs()["a"].spent(2 * HOUR).time, 25 * MINUTE);
}
