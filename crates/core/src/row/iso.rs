//! Dates, times and intervals read from text as ISO 8601 and SQL spell them, strictly: what is not one is none.

use super::Interval;

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

/// A calendar interval of ISO 8601, as `P1Y2M3DT4H5M6.7S`, or as PostgreSQL prints it by itself, as `1 year 2 mons 3 days
/// 04:05:06.7`. Each part has a sign of its own. Only seconds have a fraction.
pub(super) fn interval(text: &str) -> Option<Interval> {
    match text.strip_prefix('P') {
        Some(parts) => iso_interval(parts),
        None => printed_interval(text),
    }
}

fn iso_interval(text: &str) -> Option<Interval> {
    let (days, time) = text.split_once('T').map_or((text, None), |(days, time)| (days, Some(time)));
    let mut sum = Interval::default();
    let some = parts(days, &['Y', 'M', 'W', 'D'], |unit, value| match unit {
        'Y' => add_months(&mut sum, whole(value)?.checked_mul(12)?),
        'M' => add_months(&mut sum, whole(value)?),
        'W' => add_days(&mut sum, whole(value)?.checked_mul(7)?),
        _ => add_days(&mut sum, whole(value)?),
    })?;
    let Some(time) = time else { return some.then_some(sum) };
    let some = parts(time, &['H', 'M', 'S'], |unit, value| match unit {
        'H' => add_us(&mut sum, whole(value)?.checked_mul(3_600 * US)?),
        'M' => add_us(&mut sum, whole(value)?.checked_mul(60 * US)?),
        _ => add_us(&mut sum, seconds(value)?),
    })?;
    some.then_some(sum)
}

/// Numbers, each with its unit, which come in this order, each once at most; says whether there is any.
fn parts(mut text: &str, units: &[char], mut add: impl FnMut(char, &str) -> Option<()>) -> Option<bool> {
    let (some, mut left) = (!text.is_empty(), units);
    while !text.is_empty() {
        let at = text.find(|c: char| c.is_ascii_alphabetic())?;
        let unit = text[at..].chars().next()?;
        left = &left[left.iter().position(|known| *known == unit)? + 1..];
        add(unit, &text[..at])?;
        text = &text[at + unit.len_utf8()..];
    }
    Some(some)
}

fn printed_interval(text: &str) -> Option<Interval> {
    let (mut sum, mut left) = (Interval::default(), &["year", "mon", "day"][..]);
    let mut words = text.split(' ').peekable();
    words.peek().filter(|word| !word.is_empty())?;
    while let Some(word) = words.next() {
        if word.contains(':') {
            let (negative, clock) = signed(word);
            let us = clock_us(clock)?;
            add_us(&mut sum, if negative { -us } else { us })?;
            return words.next().is_none().then_some(sum);
        }
        let unit = words.next()?;
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        left = &left[left.iter().position(|known| *known == unit)? + 1..];
        match unit {
            "year" => add_months(&mut sum, whole(word)?.checked_mul(12)?)?,
            "mon" => add_months(&mut sum, whole(word)?)?,
            _ => add_days(&mut sum, whole(word)?)?,
        }
    }
    Some(sum)
}

/// Microseconds of `04:05:06.7`, of as many hours as there are.
fn clock_us(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let wide = hours.len() >= 2 && minutes.len() == 2 && rest.split('.').next()?.len() == 2;
    let unsigned = [hours, minutes, rest].iter().all(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    let (hours, minutes, us) = (whole(hours)?, whole(minutes)?, seconds(rest)?);
    let sound = wide && unsigned && minutes < 60 && us < 60 * US;
    hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60 * US)?.checked_add(us).filter(|_| sound)
}

fn signed(text: &str) -> (bool, &str) {
    text.strip_prefix('-').map_or((false, text.strip_prefix('+').unwrap_or(text)), |text| (true, text))
}

fn whole(text: &str) -> Option<i64> {
    let (negative, digits) = signed(text);
    let sound = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = sound.then(|| digits.parse().ok()).flatten()?;
    Some(if negative { -number } else { number })
}

/// Microseconds of `-6.7`.
fn seconds(text: &str) -> Option<i64> {
    let (negative, digits) = signed(text);
    let (seconds, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let unsigned = seconds.bytes().all(|byte| byte.is_ascii_digit());
    let us = fraction.map_or(Some(0), micros)?;
    let us = whole(seconds).filter(|_| unsigned)?.checked_mul(US)?.checked_add(us)?;
    Some(if negative { -us } else { us })
}

fn add_months(sum: &mut Interval, months: i64) -> Option<()> {
    sum.months = i32::try_from(i64::from(sum.months).checked_add(months)?).ok()?;
    Some(())
}

fn add_days(sum: &mut Interval, days: i64) -> Option<()> {
    sum.days = i32::try_from(i64::from(sum.days).checked_add(days)?).ok()?;
    Some(())
}

fn add_us(sum: &mut Interval, us: i64) -> Option<()> {
    sum.us = sum.us.checked_add(us)?;
    Some(())
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
        fn intervals_are_read_back_as_each_spells_them(months: i32, days: i32, us: i64) {
            // Of the least number of microseconds there is no positive one.
            let interval_of = Interval { months, days, us: us.max(-i64::MAX) };
            let us = interval_of.us;
            prop_assert_eq!(interval(&Value::Interval(interval_of).to_string()), Some(interval_of));
            let (sign, abs) = (if us < 0 { "-" } else { "" }, us.unsigned_abs());
            let (s, fraction) = (abs / 1_000_000, abs % 1_000_000);
            let clock = format!("{sign}{:02}:{:02}:{:02}.{fraction:06}", s / 3_600, s / 60 % 60, s % 60);
            let printed = format!("{} years {} mons {days:+} days {clock}", months / 12, months % 12);
            prop_assert_eq!(interval(&printed), Some(interval_of));
        }

        #[test]
        fn any_text_is_read_or_not_without_a_panic(text in "[0-9TZ:+. -]{0,32}|P?[0-9YMWDTHS.+-]{0,24}|[0-9a-z: .+-]{0,24}|\\PC{0,16}") {
            let _ = (date(&text), time(&text), date_time(&text), timestamp(&text), interval(&text));
        }
    }

    #[test]
    fn what_is_no_interval_is_none() {
        let of = |months, days, us| Some(Interval { months, days, us });
        for (text, meant) in [
            ("PT0S", of(0, 0, 0)),
            ("P1Y2M3DT4H5M6.7S", of(14, 3, 14_706_700_000)),
            ("P-1Y2M-3DT4H-5M-6.5S", of(-10, -3, 14_400 * US - 306_500_000)),
            ("P2W", of(0, 14, 0)),
            ("PT-0.5S", of(0, 0, -500_000)),
            ("00:00:00", of(0, 0, 0)),
            ("-1 years -2 mons +3 days -04:05:06.7", of(-14, 3, -14_706_700_000)),
            ("1 mon", of(1, 0, 0)),
            ("1 day 100:00:00", of(0, 1, 360_000 * US)),
        ] {
            assert_eq!(interval(text), meant, "{text:?}");
        }
        for wrong in [
            "",
            "P",
            "PT",
            "P1",
            "1Y",
            "P1D1Y",
            "P1Y1Y",
            "P1.5D",
            "PT1.S",
            "P1DT",
            "PT1H ",
            "p1d",
            "P1é",
            "P99999999999Y",
            "1",
            "1 day 1 mon",
            "1 days 2 days",
            " 1 day",
            "1 day ",
            "1  day",
            "1 day ago",
            "1 hour",
            "4:05:06",
            "04:05",
            "04:60:00",
            "04:05:60",
            "04:-5:06",
            "04:05:06 1 day",
            "1 fortnight",
            "--1 day",
            "1 day --04:05:06",
            "infinity",
        ] {
            assert_eq!(interval(wrong), None, "{wrong:?}");
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
