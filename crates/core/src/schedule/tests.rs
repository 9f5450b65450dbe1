//! Times are read as they are written; slots lie where the clock of a zone says, and in the windows.

use super::*;
use proptest::prelude::*;

/// A zone that is two hours ahead from the 100th to the 200th day of each 365, else one.
struct Summer;

impl Zone for Summer {
    fn offset_minutes(&self, at: Millis) -> i64 {
        let day = at / DAY_MILLIS % 365;
        if (100..200).contains(&day) { 120 } else { 60 }
    }
}

fn schedule(at: &str, windows: &[&str]) -> Schedule {
    let windows = windows.iter().map(|window| window.parse().expect("a window")).collect();
    Schedule { at: Some(at.parse().expect("a time")), windows, jitter: 0 }
}

/// A moment of UTC: days, hours, minutes.
fn utc(day: u64, hour: u64, minute: u64) -> Millis {
    day * DAY_MILLIS + hour * 3_600_000 + minute * MINUTE_MILLIS
}

#[test]
fn times_are_read_as_they_are_written() {
    for (text, at) in [
        ("00:00", At::Daily(vec![0])),
        ("03:00", At::Daily(vec![180])),
        ("03:00,23:59", At::Daily(vec![180, 1439])),
        ("every 1s", At::Every(1_000)),
        ("every 90m", At::Every(5_400_000)),
        ("every 6h", At::Every(21_600_000)),
        ("every 30d", At::Every(2_592_000_000)),
    ] {
        assert_eq!((text.parse(), at.to_string().as_str()), (Ok(at.clone()), text));
    }
    assert_eq!("every 60m".parse::<At>().expect("a time").to_string(), "every 1h");
    assert_eq!("15:00, 03:00,03:00".parse::<At>().expect("times").to_string(), "03:00,15:00");
    for text in [
        "",
        "3:00",
        "24:00",
        "12:60",
        "+1:00",
        "03:00:00",
        "noon",
        "every",
        "every ",
        "every m",
        "every 0m",
        "every 31d",
        "every 5",
        "every 5w",
        "every  5m",
        "every +5m",
        "every 99999999999999999999d",
        "15m",
        "03:00,",
        ",",
    ] {
        assert!(text.parse::<At>().is_err(), "{text}");
    }
}

#[test]
fn windows_are_read_as_they_are_written() {
    for (text, shown) in [
        ("22:00-06:00", "22:00-06:00"),
        ("Sat,Sun", "Sat,Sun 00:00-24:00"),
        ("Mon-Fri 20:00-24:00", "Mon,Tue,Wed,Thu,Fri 20:00-24:00"),
        ("sat-mon 01:00-02:00", "Mon,Sat,Sun 01:00-02:00"),
        ("Mon-Sun 01:00-02:00", "01:00-02:00"),
    ] {
        let window: Window = text.parse().expect("a window");
        assert_eq!((window.to_string().as_str(), shown.parse()), (shown, Ok(window)));
    }
    for text in ["", "Mon-", "Day", "22:00", "22:00-", "24:00-06:00", "06:00-06:00", "Mon 22:00", "Mon  1:00-2:00"] {
        assert!(text.parse::<Window>().is_err(), "{text}");
    }
}

#[test]
fn a_time_of_day_is_by_the_clock_of_the_zone() {
    let three = schedule("02:30", &[]);
    assert_eq!(three.next(&Utc, 0, utc(10, 0, 0)), Some(utc(10, 2, 30)));
    assert_eq!(three.next(&Utc, 0, utc(10, 2, 30)), Some(utc(11, 2, 30)));
    assert_eq!(three.next(&Summer, 0, utc(10, 0, 0)), Some(utc(10, 1, 30)));
    assert_eq!(three.next(&Summer, 0, utc(150, 0, 0)), Some(utc(150, 0, 30)));
    // Midnight of UTC, when it is one o'clock there, is when that clock is put to two, and on day 200 from two to one.
    let half_past_one = schedule("01:30", &[]);
    assert_eq!(half_past_one.next(&Summer, 0, utc(99, 12, 0)), Some(utc(100, 0, 30)), "skipped: as much later");
    assert_eq!(half_past_one.next(&Summer, 0, utc(199, 12, 0)), Some(utc(199, 23, 30)), "the first of two");
    assert_eq!(half_past_one.next(&Summer, 0, utc(199, 23, 30)), Some(utc(201, 0, 30)), "and not the second");
}

#[test]
fn what_runs_again_and_again_keeps_its_distance_and_waits_for_its_window() {
    let every = schedule("every 15m", &[]);
    assert_eq!(every.first(&Utc, 777), Some(777));
    assert_eq!(every.next(&Utc, 777, 777), Some(777 + 900_000));
    assert_eq!(every.next(&Utc, 777, 777 + 2_000_000), Some(777 + 2_700_000));
    assert_eq!(every.missed(&Utc, 777, 777 + 2_000_000), 2);
    // Day 4 of 1970 was a Monday.
    let nights = schedule("every 1h", &["Mon-Fri 22:00-06:00"]);
    assert_eq!(nights.first(&Utc, utc(4, 12, 0)), Some(utc(4, 22, 0)));
    assert_eq!(nights.next(&Utc, utc(4, 23, 30), utc(4, 23, 30)), Some(utc(5, 0, 30)));
    assert_eq!(nights.next(&Utc, utc(5, 5, 30), utc(5, 5, 30)), Some(utc(5, 22, 0)));
    assert!(nights.is_open(&Utc, utc(9, 5, 59)), "the night that began on Friday");
    assert_eq!(nights.next(&Utc, utc(9, 5, 30), utc(9, 5, 30)), Some(utc(11, 22, 0)));
    assert_eq!(nights.closes(&Utc, utc(5, 0, 30)), Some(utc(5, 6, 0)));
    assert_eq!(every.closes(&Utc, 5), None);
    let never = schedule("12:00", &["22:00-06:00"]);
    assert_eq!(never.first(&Utc, 5), None);
    let weekdays = schedule("03:00", &["Mon-Fri"]);
    assert_eq!(weekdays.next(&Utc, 0, utc(8, 12, 0)), Some(utc(11, 3, 0)));
    assert_eq!(weekdays.missed(&Utc, utc(4, 3, 0), utc(12, 3, 0)), 6);
}

proptest! {
    #[test]
    fn no_text_is_too_odd_to_be_read_or_refused(text in "((every )?|(Mon-)?Fri )\\PC{0,12}") {
        if let Ok(at) = text.parse::<At>() {
            prop_assert_eq!(at.to_string().parse::<At>(), Ok(at));
        }
        if let Ok(window) = text.parse::<Window>() {
            prop_assert_eq!(window.to_string().parse::<Window>(), Ok(window));
        }
    }

    #[test]
    fn slots_come_after_now_one_after_another_and_lie_in_the_windows(
        times in proptest::collection::btree_set(0u16..1440, 1..4),
        every in proptest::option::of(1_000u64..200_000_000),
        windows in proptest::collection::vec((any::<[bool; 7]>(), 0u16..1440, 0u16..=1440), 0..3),
        start in 86_400_000u64..1_000_000_000_000,
    ) {
        let windows: Vec<Window> = windows
            .into_iter()
            .filter(|(_, from, to)| from != to)
            .map(|(days, from, to)| Window { days, from, to })
            .collect();
        let at = Some(every.map_or(At::Daily(times.iter().copied().collect()), At::Every));
        let schedule = Schedule { at, windows, jitter: 0 };
        let mut now = start;
        let Some(mut slot) = schedule.first(&Summer, now) else { return Ok(()) };
        for _ in 0..6 {
            prop_assert!(slot >= now && schedule.is_open(&Summer, slot));
            now = slot;
            let Some(next) = schedule.next(&Summer, slot, now) else {
                // Only a time that the clock had moved into a window, on a day of the year that is another of the week next year.
                let shown = local_minute(&Summer, now).rem_euclid(MINUTES_OF_DAY) as u16;
                prop_assert!(every.is_none() && !times.contains(&shown), "no other after {now}");
                return Ok(());
            };
            slot = next;
            prop_assert!(slot > now);
            if every.is_none() {
                prop_assert_eq!(schedule.missed(&Summer, now, slot), 1);
                let shown = local_minute(&Summer, slot).rem_euclid(MINUTES_OF_DAY) as u16;
                let skipped = shown.checked_sub(60).is_some_and(|time| times.contains(&time));
                prop_assert!(times.contains(&shown) || skipped, "{shown}");
            }
        }
    }
}

#[test]
fn a_run_has_the_least_time_until_it_is_due_again_and_until_its_windows_close() {
    let minutes = |minutes: u64| minutes * MINUTE_MILLIS;
    for (at, windows, interval, window) in [
        ("every 15m", &[][..], 15, None),
        ("every 15m", &["22:00-23:00"], 15, Some(60)),
        ("every 1d", &["22:00-06:00", "Sat,Sun"], 1_440, Some(480)),
        ("every 1h", &["Sat", "Sun 00:00-06:00"], 60, Some(1_800)),
        // Past the end of the week, and always.
        ("every 1h", &["Sun 23:00-01:00", "Mon 01:00-02:00"], 60, Some(180)),
        ("every 1h", &["Sun 23:00-24:00", "Mon 00:00-06:00"], 60, Some(420)),
        ("every 1h", &["22:00-24:00", "00:00-06:00"], 60, Some(480)),
        ("every 1h", &["00:00-12:00", "12:00-24:00"], 60, None),
        ("every 1h", &["Mon-Fri", "Sat,Sun"], 60, None),
        ("03:00", &[], 1_440, None),
        ("03:00", &["Mon"], 7 * 1_440, Some(21 * 60)),
        ("03:00,03:30", &[], 30, None),
        ("03:00,03:30", &["02:00-04:00"], 30, Some(30)),
        ("01:00,03:00", &["00:30-02:00"], 1_440, Some(60)),
        ("23:00,01:00", &["22:00-02:00"], 120, Some(60)),
        ("00:00", &["Sun 22:00-02:00", "Wed"], 3 * 1_440 - 1_440, Some(120)),
    ] {
        let room = schedule(at, windows).room();
        let expected = Room { interval: minutes(interval), window: window.map(minutes) };
        assert_eq!(room, Some(expected), "{at} within {windows:?}");
    }
    let late = Schedule { jitter: minutes(45), ..schedule("every 1h", &["22:00-23:00"]) };
    assert_eq!(late.room().and_then(|room| room.window), Some(minutes(15)));
    assert_eq!(Schedule::by_hand().room(), None);
}

proptest! {
    /// What is worked out of the week is what the clock shows minute by minute.
    #[test]
    fn the_least_window_is_the_shortest_that_opens_in_a_week(
        windows in proptest::collection::vec((1u8..128, 0u16..1_440, 1u16..=1_440), 1..5),
    ) {
        let window = |(days, from, to): (u8, u16, u16)| Window { days: std::array::from_fn(|day| days >> day & 1 == 1), from, to };
        let windows: Vec<Window> = windows.into_iter().filter(|(_, from, to)| from != to).map(window).collect();
        let all = Schedule { windows, ..schedule("every 1h", &[]) };
        let (mut at, mut least) = (utc(4, 0, 0), None);
        // From one opening to the next, for two weeks.
        while let Some(opens) = all.closes(&Utc, at).and_then(|closed| all.opens(&Utc, closed)).filter(|at| *at < utc(18, 0, 0)) {
            let lasts = all.closes(&Utc, opens).expect("they close") - opens;
            least = Some(least.map_or(lasts, |least: Millis| least.min(lasts)));
            at = opens;
        }
        prop_assert_eq!(all.room().and_then(|room| room.window), least);
    }
}
