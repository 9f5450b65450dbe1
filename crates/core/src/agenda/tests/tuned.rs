//! What is due of a job whose configuration is another now.

use super::*;

#[test]
fn what_is_tuned_or_configured_otherwise_is_planned_anew_and_the_rest_is_not() {
    let mut jobs = agenda(&[("a", plan("every 1h", &[]))], 1, 0);
    let begun = jobs.begin("a", By::Schedule, 0).expect("it begins");
    jobs.end("a", ran(begun, RunVerdict::InSync, 1));
    let plans = |at| [("a".to_string(), plan(at, &[]))].into();
    jobs.configure(plans("every 1h"), 1, 600);
    assert_eq!(jobs.wake(600), Some(3_600 * SECOND));
    jobs.configure(plans("every 2h"), 1, 600);
    assert_eq!(jobs.wake(600), Some(7_200 * SECOND), "it has just run");
    jobs.configure(plans("every 1s"), 1, 5 * SECOND);
    assert_eq!(jobs.due(5 * SECOND), ["a"]);
    jobs.configure(plans("every 1h"), 1, 600);
    let tuned = Tuned { at: Some("03:00".into()), ..Tuned::default() };
    jobs.tune("a", tuned.clone(), plan("03:00", &[]), 600).expect("known");
    assert_eq!(jobs.wake(600), Some(3 * 3_600 * SECOND));
    let jobs = restarted(&jobs, 1, 700);
    assert_eq!((&jobs.jobs()["a"].kept.tuned, jobs.wake(700)), (&tuned, Some(3 * 3_600 * SECOND)));
}

#[test]
fn what_is_tuned_of_a_job_beside_its_schedule_leaves_it_due_as_it_was() {
    for (at, next) in [("every 1h", 3_600), ("03:00", 3 * 3_600)] {
        let mut jobs = agenda(&[("a", plan(at, &[]))], 1, 0);
        jobs.ask("a").expect("known");
        let begun = jobs.begin("a", By::Schedule, 0).expect("it begins");
        jobs.end("a", ran(begun, RunVerdict::InSync, 1));
        let tuned = || Tuned { max_bytes: Some(9), ..Tuned::default() };
        jobs.tune("a", tuned(), plan(at, &[]), 600).expect("known");
        assert_eq!(jobs.wake(600), Some(next * SECOND), "{at}");
        // One that failed is tried again when it would have been.
        jobs.ask("a").expect("known");
        let begun = jobs.begin("a", By::Schedule, 700).expect("it begins");
        jobs.end("a", ran(begun, RunVerdict::Undetermined, 701));
        let retry = jobs.wake(701);
        jobs.tune("a", Tuned::default(), plan(at, &[]), 702).expect("known");
        assert_eq!(jobs.wake(702), retry, "{at}");
    }
}
