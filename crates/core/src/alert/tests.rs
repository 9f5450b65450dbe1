//! What is told to whom and when: against a model of listeners, and its bytes.

use super::*;
use crate::agenda::{Agenda, By, Plan, Ran};
use crate::schedule::{Schedule, Utc};
use proptest::prelude::*;
use std::sync::Arc;

const RULES: Rules = Rules { failures: 3, drift: Some(5_000), repeat: 60_000 };

fn trouble(about: u8) -> Trouble {
    Trouble { kind: Kind::Wrong, about: about.to_string(), since: None, message: "it is".into() }
}

/// What one listener believes, and when it last heard that something fires.
#[derive(Default)]
struct Listener(BTreeMap<String, Millis>);

impl Listener {
    fn hears(&mut self, event: &Event, now: Millis) -> Result<(), TestCaseError> {
        match (event.resolved, self.0.get(&event.id).copied()) {
            (None, None) => {
                prop_assert!(!event.again);
                self.0.insert(event.id.clone(), now);
            }
            (None, Some(before)) => {
                prop_assert!(event.again && now >= before + RULES.repeat, "{event:?} after {before} at {now}");
                self.0.insert(event.id.clone(), now);
            }
            (Some(_), before) => {
                prop_assert!(before.is_some(), "an end of what it has not heard of");
                self.0.remove(&event.id);
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn each_listener_hears_of_everything_once_until_it_is_repeated_and_of_its_end(
        steps in prop::collection::vec(
            (prop::collection::btree_set(0u8..4, 0..4), 0u64..40_000, any::<[bool; 2]>(), any::<bool>()), 1..60),
    ) {
        let (mut alerts, mut now) = (Alerts::default(), 1_000);
        let mut listeners: BTreeMap<&str, Listener> = [("a", Listener::default()), ("b", Listener::default())].into();
        let ways = ["a", "b"];
        let mut wrong = BTreeSet::new();
        for (set, passed, up, restarted) in steps {
            now += passed;
            wrong = set;
            let before: BTreeSet<String> = alerts.firing().map(|(id, _)| id.clone()).collect();
            let news = alerts.look(now, (&ways, &RULES), wrong.iter().map(|about| trouble(*about)).collect());
            let after: BTreeSet<String> = wrong.iter().map(|about| trouble(*about).id()).collect();
            prop_assert_eq!(alerts.firing().map(|(id, _)| id.clone()).collect::<BTreeSet<_>>(), after.clone());
            let changed: BTreeSet<String> = before.symmetric_difference(&after).cloned().collect();
            prop_assert_eq!(news.iter().map(|alert| alert.trouble.id()).collect::<BTreeSet<_>>(), changed);
            for event in alerts.due(now) {
                let nth = usize::from(event.way == "b");
                if up[nth] {
                    listeners.get_mut(event.way.as_str()).expect("a way").hears(&event, now)?;
                }
                alerts.heard(&event, up[nth], &RULES, now);
            }
            if restarted {
                alerts = Alerts::from_bytes(&alerts.to_bytes()).expect("what was written");
            }
        }
        // Once they are up, everybody comes to know what is wrong, and nothing else; and there is an end to it.
        for _ in 0..3 {
            now += RETRY_MAX_MILLIS.max(RULES.repeat);
            alerts.look(now, (&ways, &RULES), wrong.iter().map(|about| trouble(*about)).collect());
            for event in alerts.due(now) {
                listeners.get_mut(event.way.as_str()).expect("a way").hears(&event, now)?;
                alerts.heard(&event, true, &RULES, now);
            }
        }
        let ids: BTreeSet<String> = wrong.iter().map(|about| trouble(*about).id()).collect();
        for (way, listener) in &listeners {
            prop_assert_eq!(&listener.0.keys().cloned().collect::<BTreeSet<_>>(), &ids, "{}", way);
        }
        prop_assert_eq!(alerts.alerts.len(), ids.len());
        prop_assert!(alerts.wake().is_none_or(|wake| wake >= now + RULES.repeat));
    }

    #[test]
    fn damaged_bytes_are_never_alerts(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut alerts = Alerts::default();
        alerts.look(5, (&["a"], &RULES), vec![trouble(1)]);
        let mut bytes = alerts.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Alerts::from_bytes(&bytes).is_err());
    }
}

#[test]
fn what_is_down_is_tried_less_and_less_often_and_the_number_of_alerts_is_bounded() {
    let (mut alerts, mut now, mut waits) = (Alerts::default(), 0, Vec::new());
    alerts.look(now, (&["a"], &RULES), vec![trouble(1)]);
    for _ in 0..TRIES_MAX {
        let event = alerts.due(now).pop().expect("it is due");
        alerts.heard(&event, false, &RULES, now);
        let next = alerts.wake().expect("it is tried again");
        waits.push(next - now);
        now = next;
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 60_000]);
    let many = |n: usize| (0..n).map(|nth| Trouble { about: nth.to_string(), ..trouble(0) }).collect();
    alerts.look(now, (&["a"], &RULES), many(ALERTS_MAX + 10));
    assert_eq!(alerts.firing().count(), ALERTS_MAX);
    let long = Trouble { message: "ü".repeat(MESSAGE_BYTES_MAX), ..trouble(0) };
    alerts = Alerts::default();
    alerts.look(now, (&[], &RULES), vec![long]);
    assert_eq!(alerts.firing().next().map(|(_, alert)| alert.trouble.message.len()), Some(MESSAGE_BYTES_MAX));
    assert_eq!((alerts.due(now), alerts.wake()), (vec![], None), "nobody is to be told");
}

#[test]
fn a_job_is_trouble_when_it_fails_in_a_row_drifts_for_long_is_refused_or_breaks_its_objective() {
    let mut agenda = Agenda::new([1; 32], 1);
    let schedule = Schedule { at: "every 1s".parse().ok(), ..Schedule::by_hand() };
    let plan = Plan {
        schedule,
        zone: Arc::new(Utc),
        places: BTreeSet::new(),
        longest: 1_000,
        within: Some(20_000),
        a_day: Default::default(),
    };
    agenda.configure(BTreeMap::from([("j".to_string(), plan)]), 1, 1_000);
    let kinds = |agenda: &Agenda, now| -> Vec<Kind> {
        RULES.of_job(&agenda.jobs()["j"], now).into_iter().map(|(kind, _)| kind).collect()
    };
    let run = |agenda: &mut Agenda, verdict, at| {
        let begun = agenda.begin("j", By::Hand, at).expect("it begins");
        agenda.end("j", Ran { verdict, ..Ran::cut(begun, at + 1) });
    };
    for nth in 0..3 {
        assert_eq!(kinds(&agenda, 2_000 + nth), []);
        run(&mut agenda, RunVerdict::Partial, 2_000 + nth * 2);
    }
    assert_eq!(RULES.of_job(&agenda.jobs()["j"], 3_000), [(Kind::Failing, Some(2_000))]);
    run(&mut agenda, RunVerdict::Differs, 4_000);
    assert_eq!(kinds(&agenda, 9_000), []);
    assert_eq!(RULES.wake(&agenda.jobs()["j"], 5_000), Some(9_001));
    assert_eq!(kinds(&agenda, 9_001), [Kind::Drift]);
    assert_eq!(RULES.wake(&agenda.jobs()["j"], 9_001), Some(21_001));
    assert_eq!(
        RULES.of_job(&agenda.jobs()["j"], 21_001),
        [(Kind::Objective, Some(21_000)), (Kind::Drift, Some(4_000))]
    );
    run(&mut agenda, RunVerdict::InSync, 22_000);
    assert_eq!(kinds(&agenda, 22_001), []);
    run(&mut agenda, RunVerdict::Damaged, 23_000);
    assert_eq!(kinds(&agenda, 23_001), [Kind::Refused]);
    agenda.configure(BTreeMap::new(), 1, 24_000);
    assert_eq!(kinds(&agenda, 90_000), [], "what is no longer configured troubles nobody");
}

#[test]
fn what_ends_while_it_is_told_is_told_to_have_ended() {
    let mut alerts = Alerts::default();
    alerts.look(5, (&["a"], &RULES), vec![trouble(1)]);
    let event = alerts.due(5).pop().expect("it is due");
    alerts.look(6, (&["a"], &RULES), vec![]);
    alerts.heard(&event, true, &RULES, 7);
    let end = alerts.due(7).pop().expect("its end is due");
    assert!(end.resolved.is_some());
    alerts.heard(&end, true, &RULES, 8);
    assert_eq!(alerts, Alerts::default());
}

#[test]
fn a_clock_that_is_set_back_keeps_nobody_from_hearing_it_again() {
    const DAY: Millis = 24 * 3_600_000;
    let (mut alerts, ways) = (Alerts::default(), ["a", "b"]);
    let later = 3 * DAY;
    alerts.look(later, (&ways, &RULES), vec![trouble(1)]);
    for event in alerts.due(later) {
        // One has heard, the other is tried again.
        alerts.heard(&event, event.way == "a", &RULES, later);
    }
    let now = later - DAY;
    alerts.look(now, (&ways, &RULES), vec![trouble(1)]);
    assert!(alerts.due(now).is_empty());
    let due = now + RETRY_MAX_MILLIS;
    assert!(alerts.wake().is_some_and(|wake| wake <= due), "{:?}", alerts.wake());
    assert_eq!(alerts.due(due).len(), 2);
    // What was put off by the right clock stays so.
    alerts.look(due - 1, (&ways, &RULES), vec![trouble(1)]);
    assert_eq!(alerts.due(due).len(), 2);
}
