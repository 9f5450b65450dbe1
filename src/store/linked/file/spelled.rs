//! What texts of files mean where the kind of their column tells: bytes, intervals, and the times and numbers that PostgreSQL
//! spells in a way of its own. All other texts are taken by [`Kind::take`].

use reknit_core::row::{Interval, Json, Kind, Value};

const SECOND_US: i64 = 1_000_000;

/// The value of a kind that a text means, if it is spelled in a way that is not common to all stores; any other value as it is.
pub(super) fn meant(kind: Kind, value: Value) -> Value {
    let Value::Text(text) = &value else { return value };
    let taken = match kind {
        Kind::Bytes => bytes(text).map(Value::Bytes),
        Kind::Interval => interval(text).map(Value::Interval),
        Kind::Decimal if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => Some(other("numeric", text)),
        Kind::Date | Kind::DateTime | Kind::Timestamp if matches!(text.as_str(), "infinity" | "-infinity") => {
            let type_name = match kind {
                Kind::Date => "date",
                Kind::DateTime => "timestamp",
                _ => "timestamptz",
            };
            Some(other(type_name, text))
        }
        Kind::Date | Kind::DateTime | Kind::Timestamp => before_christ(text).map(Value::Text),
        _ => None,
    };
    taken.unwrap_or(value)
}

/// A value of JSON as a document: a text that spells an object or a list is that, as files have it that spell JSON as text;
/// all others are documents of one value.
pub(super) fn document(value: Value) -> Value {
    let nested = match &value {
        Value::Null | Value::Json(_) => return value,
        Value::Text(text) if text.starts_with(['{', '[']) => Json::parse(text).ok(),
        _ => None,
    };
    let scalar = || {
        let mut text = String::new();
        value.put_json(&mut text).ok().and_then(|()| Json::parse(&text).ok())
    };
    nested.or_else(scalar).map_or(value, Value::Json)
}

fn other(type_name: &str, text: &str) -> Value {
    Value::Other { type_name: type_name.into(), text: text.into() }
}

/// Pairs of hex digits behind `\x`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.strip_prefix("\\x")?.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.filter_map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect())
}

/// `0044-03-15 BC` is the year -43, as years are counted that have a zero.
fn before_christ(text: &str) -> Option<String> {
    let (year, rest) = text.strip_suffix(" BC")?.split_once('-')?;
    let year: i64 = year.parse().ok().filter(|year| *year > 0)?;
    let sign = if year > 1 { "-" } else { "" };
    Some(format!("{sign}{:04}-{rest}", year - 1))
}

/// An interval as ISO 8601 spells it (`P1Y2M3DT4H5M6.5S`), or as PostgreSQL does (`1 year 2 mons 3 days 04:05:06.5`).
fn interval(text: &str) -> Option<Interval> {
    let parts =
        if let Some(designated) = text.strip_prefix('P') { designated_parts(designated)? } else { named_parts(text)? };
    let (mut months, mut days, mut us) = (0_i64, 0_i64, 0_i64);
    for (count, unit) in parts {
        let (sum, size) = match unit {
            Unit::Years => (&mut months, 12),
            Unit::Months => (&mut months, 1),
            Unit::Weeks => (&mut days, 7),
            Unit::Days => (&mut days, 1),
            Unit::Hours => (&mut us, 3_600 * SECOND_US),
            Unit::Minutes => (&mut us, 60 * SECOND_US),
            Unit::Micros => (&mut us, 1),
        };
        *sum = sum.checked_add(count.checked_mul(size)?)?;
    }
    Some(Interval { months: i32::try_from(months).ok()?, days: i32::try_from(days).ok()?, us })
}

#[derive(Clone, Copy)]
enum Unit {
    Years,
    Months,
    Weeks,
    Days,
    Hours,
    Minutes,
    Micros,
}

/// What stands behind the `P`: numbers with a letter each; only seconds have a fraction.
fn designated_parts(text: &str) -> Option<Vec<(i64, Unit)>> {
    let (days, time) = text.split_once('T').map_or((text, None), |(days, time)| (days, Some(time)));
    let mut parts = Vec::new();
    for (text, of_day) in [(days, false), (time.unwrap_or_default(), true)] {
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, letter) = (&rest[..end], &rest[end..=end]);
            let unit = match (letter, of_day) {
                ("Y", false) => Unit::Years,
                ("M", false) => Unit::Months,
                ("W", false) => Unit::Weeks,
                ("D", false) => Unit::Days,
                ("H", true) => Unit::Hours,
                ("M", true) => Unit::Minutes,
                ("S", true) => Unit::Micros,
                _ => return None,
            };
            let count = if letter == "S" { seconds(number)? } else { number.parse().ok()? };
            parts.push((count, unit));
            rest = &rest[end + 1..];
        }
    }
    // `P` and `PT` say nothing.
    (!parts.is_empty() && time != Some("")).then_some(parts)
}

/// Numbers with a word each, and a time at the end, each with a sign of its own.
fn named_parts(text: &str) -> Option<Vec<(i64, Unit)>> {
    let mut parts = Vec::new();
    let mut words = text.split(' ').peekable();
    while let Some(number) = words.next() {
        if number.contains(':') && words.peek().is_none() {
            parts.push((clock(number)?, Unit::Micros));
            return Some(parts);
        }
        let unit = match words.next()? {
            "year" | "years" => Unit::Years,
            "mon" | "mons" => Unit::Months,
            "day" | "days" => Unit::Days,
            _ => return None,
        };
        parts.push((number.parse().ok()?, unit));
    }
    Some(parts)
}

/// Microseconds of `[-]04:05:06.5`; hours may be any.
fn clock(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let mut parts = text.strip_prefix('+').unwrap_or(text).splitn(3, ':');
    let (hours, minutes) = (unsigned(parts.next()?)?, unsigned(parts.next()?).filter(|minutes| *minutes < 60)?);
    let last = seconds(parts.next()?).filter(|us| (0..60 * SECOND_US).contains(us))?;
    let us = hours.checked_mul(3_600)?.checked_add(minutes * 60)?.checked_mul(SECOND_US)?.checked_add(last)?;
    Some(sign * us)
}

/// Microseconds of seconds with at most six digits behind a point.
fn seconds(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if fraction.len() > 6 {
        return None;
    }
    let us = unsigned(&format!("{fraction:0<6}"))?;
    Some(sign * unsigned(whole)?.checked_mul(SECOND_US)?.checked_add(us)?)
}

fn unsigned(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn texts_of_a_database_mean_what_it_meant() {
        let hours = 3_600 * SECOND_US;
        let all = Interval { months: 14, days: 3, us: 4 * hours + 5 * 60 * SECOND_US + 6 * SECOND_US + 500_000 };
        let less = Interval { months: -13, days: 3, us: -(100 * hours) };
        for (spelled, interval) in [
            ("1 year 2 mons 3 days 04:05:06.5", all),
            ("P1Y2M3DT4H5M6.5S", all),
            ("P14M3DT14706.5S", all),
            ("-1 years -1 mons +3 days -100:00:00", less),
            ("P-1Y-1M3DT-100H", less),
            ("00:00:00", Interval::default()),
            ("PT0S", Interval::default()),
        ] {
            assert_eq!(meant(Kind::Interval, text(spelled)), Value::Interval(interval), "{spelled}");
        }
        for wrong in ["", "P", "PT", "1 day 2", "1 fortnight", "01:60:00", "P1S", "04:05", "1 day 01:00:00 1 day", "P1"]
        {
            assert_eq!(meant(Kind::Interval, text(wrong)), text(wrong), "{wrong:?}");
        }
        assert_eq!(meant(Kind::Bytes, text("\\x00fF")), Value::Bytes(vec![0, 255]));
        assert_eq!(meant(Kind::Bytes, text("\\x0")), text("\\x0"));
        assert_eq!(meant(Kind::Date, text("0044-03-15 BC")), text("-0043-03-15"));
        assert_eq!(meant(Kind::Date, text("0001-03-15 BC")), text("0000-03-15"));
        assert_eq!(meant(Kind::Timestamp, text("infinity")), other("timestamptz", "infinity"));
        assert_eq!(meant(Kind::Text, text("\\x00")), text("\\x00"));
    }

    #[test]
    fn values_of_json_are_documents() {
        let json = |text: &str| Value::Json(Json::parse(text).expect("JSON"));
        assert_eq!(document(text("{\"a\": 1}")), json("{\"a\":1}"));
        assert_eq!(document(text("1")), json("\"1\""));
        assert_eq!(document(text("{")), json("\"{\""));
        assert_eq!(document(Value::Int(1)), json("1"));
        assert_eq!(document(Value::Null), Value::Null);
    }

    proptest! {
        #[test]
        fn intervals_are_read_as_they_are_printed(months: i32, days: i32, us in -1_000_000_000_000_000_i64..1_000_000_000_000_000) {
            let interval = Value::Interval(Interval { months, days, us });
            prop_assert_eq!(meant(Kind::Interval, text(&interval.to_string())), interval);
        }

        #[test]
        fn any_text_is_taken_without_a_panic(spelled in "[-+P0-9YMWDTHS.: ]{0,24}|\\PC{0,12}|[0-9]{0,24}( BC)?") {
            for kind in Kind::ALL {
                let _ = kind.take(meant(kind, text(&spelled)));
            }
            let _ = document(text(&spelled));
        }
    }
}
