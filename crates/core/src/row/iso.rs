//! Dates and times read from text as ISO 8601 and SQL spell them, strictly: what is not one is none.

const US: i64 = 1_000_000;
const DAY: i64 = 86_400 * US;

/// Days since 1970-01-01 of `2026-11-26`.
pub(super) fn date(text: &str) -> Option<i32> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let wide = (4..=6).contains(&year.len()) && month.len() == 2 && day.len() == 2;
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    let year = if negative { -year } else { year };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => 0,
    };
    let there = wide && (1..=days).contains(&day);
    there.then(|| i32::try_from(days_from_civil(year, month, day)).ok()).flatten()
}

/// Microseconds since midnight of `13:05`, `13:05:09` or `13:05:09.25`; `24:00:00` is the end of a day.
pub(super) fn time(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut parts = whole.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next());
    let wide = [Some(hour), Some(minute), second].into_iter().flatten().all(|part| part.len() == 2);
    if !wide || parts.next().is_some() || (fraction.is_some() && second.is_none()) {
        return None;
    }
    let (hour, minute, second) = (number(hour)?, number(minute)?, second.map_or(Some(0), number)?);
    let us = fraction.map_or(Some(0), micros)?;
    let all = ((hour * 60 + minute) * 60 + second) * US + us;
    (minute < 60 && second < 60 && all <= DAY).then_some(all)
}

/// Microseconds since 1970-01-01 00:00:00 of its own calendar.
pub(super) fn date_time(text: &str) -> Option<i64> {
    let (day, rest) = text.split_once(['T', 't', ' '])?;
    i64::from(date(day)?).checked_mul(DAY)?.checked_add(time(rest)?)
}

/// Microseconds since 1970-01-01 00:00:00 UTC of a date and time with `Z`, `+02`, `+0200`, `+02:00` or, as before there were
/// zones, `+00:53:28` behind.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    if let Some(civil) = text.strip_suffix(['Z', 'z']) {
        return date_time(civil);
    }
    let at = text.rfind(['+', '-']).filter(|at| *at > "0000-00-00".len())?;
    let (civil, zone) = text.split_at(at);
    let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes, seconds) = match digits.len() {
        2 => (number(&digits)?, 0, 0),
        4 => (number(digits.get(..2)?)?, number(digits.get(2..)?)?, 0),
        6 => (number(digits.get(..2)?)?, number(digits.get(2..4)?)?, number(digits.get(4..)?)?),
        _ => return None,
    };
    let ahead = ((hours * 60 + minutes) * 60 + seconds) * US;
    let sound = hours < 24 && minutes < 60 && seconds < 60;
    let ahead = if zone.starts_with('-') { -ahead } else { ahead };
    date_time(civil).filter(|_| sound)?.checked_sub(ahead)
}

fn number(digits: &str) -> Option<i64> {
    let sound = !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| digits.parse().ok()).flatten()
}

/// Microseconds of a fraction of a second; finer digits must be zeros, so that nothing is rounded unasked.
fn micros(fraction: &str) -> Option<i64> {
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && !fraction.is_empty();
    let (head, tail) = fraction.split_at_checked(6).unwrap_or((fraction, ""));
    let exact = digits && tail.bytes().all(|byte| byte == b'0');
    exact.then(|| format!("{head:0<6}").parse().ok()).flatten()
}

/// The days of the proleptic Gregorian calendar, by Howard Hinnant's `days_from_civil` ("chrono-compatible low-level date
/// algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::Value;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(us in -62_135_596_800_000_000_i64..253_402_300_800_000_000) {
            let civil = Value::DateTime(us).to_string();
            prop_assert_eq!(date_time(&civil), Some(us));
            prop_assert_eq!(timestamp(&Value::Timestamp(us).to_string()), Some(us));
            prop_assert_eq!(timestamp(&format!("{civil}+05:30")), Some(us - 19_800 * US));
            prop_assert_eq!(timestamp(&format!("{civil}-08")), Some(us + 28_800 * US));
            prop_assert_eq!(timestamp(&format!("{civil}+00:53:28")), Some(us - 3_208 * US));
            let days = us.div_euclid(DAY) as i32;
            prop_assert_eq!(date(&Value::Date(days).to_string()), Some(days));
            let of_day = us.rem_euclid(DAY);
            prop_assert_eq!(time(&Value::Time(of_day).to_string()), Some(of_day));
        }

        #[test]
        fn any_text_is_read_or_not_without_a_panic(text in "[0-9TZ:+. -]{0,32}|\\PC{0,16}") {
            let _ = (date(&text), time(&text), date_time(&text), timestamp(&text));
        }
    }

    #[test]
    fn what_is_no_date_or_time_is_none() {
        for wrong in ["1900-02-29", "2026-13-01", "2026-00-10", "26-01-01", "2026-1-01", "2026-01-01 ", ""] {
            assert_eq!(date(wrong), None, "{wrong:?}");
        }
        for wrong in
            ["1:00", "12:60", "12:00:60", "12:00:00.", "12:00.5", "12:00:00.0000001", "24:00:00.1", "12:00:00:00"]
        {
            assert_eq!(time(wrong), None, "{wrong:?}");
        }
        assert_eq!((time("24:00"), time("12:00:00.1230000")), (Some(DAY), Some(43_200 * US + 123_000)));
        assert_eq!((date("2000-02-29"), date("1969-12-31")), (Some(11_016), Some(-1)));
        for zone in ["+aé1", "-1é1é", "+é"] {
            assert_eq!(timestamp(&format!("2026-01-01 00:00:00{zone}")), None);
        }
        assert_eq!((timestamp("2026-01-01 00:00:00"), timestamp("2026-01-01 00:00:00+24")), (None, None));
    }
}
