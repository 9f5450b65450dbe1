//! Durations, sizes and counts as people type and read them.

use std::time::Duration;

use reknit_core::brakes::Limit;

use super::CliError;

/// Reads `500ms`, `2s`, `15m`, `1h`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, CliError> {
    let wrong = || CliError::new("usage.duration", format!("`{text}` is no duration; 500ms, 2s, 15m, 1h or 7d is"));
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// Writes a duration as [`parse_duration`] reads it: the largest unit that it is whole in.
pub(crate) fn typed_duration(millis: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let unit = units.into_iter().find(|(unit, _)| millis.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "ms"));
    format!("{}{name}", millis / unit)
}

/// Reads `100`, `64KiB`, `10MiB`, `2GiB`, and the same with kB, MB, GB.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, CliError> {
    let wrong = || CliError::new("usage.bytes", format!("`{text}` is no size; 4096, 64KiB, 10MiB or 2GB is"));
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor = match unit {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Reads a number of records or a share of them: `100`, `5%`, `0.25%`.
pub(crate) fn parse_limit(text: &str) -> Result<Limit, CliError> {
    let wrong =
        || CliError::new("usage.limit", format!("`{text}` is no limit; a number as 500 or a share as 5% or 0.5% is"));
    let Some(share) = text.strip_suffix('%') else {
        return text.parse().map(Limit::records).map_err(|_| wrong());
    };
    let (whole, part) = share.split_once('.').unwrap_or((share, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 4 {
        return Err(wrong());
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= 9999);
    let millionths = number(whole).zip(number(&format!("{part:0<4}"))).map(|(whole, part)| whole * 10_000 + part);
    millionths.filter(|share| *share <= 1_000_000).map(Limit::share).ok_or_else(wrong)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Shows `187 B`, `3.2 kB`, `1.4 MB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// Shows `26,463`.
pub(crate) fn show_count(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = Vec::new();
    if first > 0 {
        groups.push(&digits[..first]);
    }
    groups.extend((first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    groups.join(",")
}

/// Shows `340 ms`, `2.5 s`, `3 m`, `5 h`, `2 d`.
pub(crate) fn show_duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        s @ 60..3600 => format!("{} m", s / 60),
        s @ 3600..86_400 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// How long ago a moment is, or in how long; both in milliseconds since the Unix epoch.
pub(crate) fn ago(then: u64, now: u64) -> String {
    match now.checked_sub(then) {
        Some(millis) => format!("{} ago", show_duration(Duration::from_millis(millis))),
        None => format!("in {}", show_duration(Duration::from_millis(then - now))),
    }
}

/// A moment, in milliseconds since the Unix epoch, by the clock of UTC, to the minute.
pub(crate) fn show_time(at: u64) -> String {
    shown(at, "%Y-%m-%d %H:%M UTC")
}

/// The same, to the millisecond.
pub(crate) fn show_instant(at: u64) -> String {
    shown(at, "%Y-%m-%d %H:%M:%S.%3f UTC")
}

fn shown(at: u64, how: &str) -> String {
    let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    at.map_or_else(|| "some day".into(), |at| at.strftime(how).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_shown() {
        for (text, millis) in [("500ms", 500), ("2s", 2000), ("15m", 900_000), ("1h", 3_600_000), ("7d", 604_800_000)] {
            assert_eq!(parse_duration(text).map_err(|e| e.message), Ok(Duration::from_millis(millis)));
            assert_eq!(typed_duration(millis), text);
        }
        for text in ["", "5", "h", "-1s", "1 h", "99999999999999999999s", "1w"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for (text, bytes) in [("100", 100), ("64KiB", 65_536), ("10MB", 10_000_000), ("1GiB", 1 << 30)] {
            assert_eq!(parse_bytes(text).map_err(|e| e.message), Ok(bytes));
        }
        for (text, limit) in [
            ("0", Limit::records(0)),
            ("500", Limit::records(500)),
            ("5%", Limit::share(50_000)),
            ("0.25%", Limit::share(2500)),
            ("100%", Limit::share(1_000_000)),
        ] {
            assert_eq!(parse_limit(text).map_err(|e| e.message), Ok(limit));
        }
        for text in ["", "%", "-1", "101%", "1.%", ".5%", "0.00001%", "5 %", "99999999999%", "1e3"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
        assert!(parse_bytes("10 MB").is_err() && parse_bytes("18446744073709551615GB").is_err());
        let shown = [(999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (999_960, "1.0 MB")];
        shown.iter().for_each(|(n, text)| assert_eq!(show_bytes(*n), *text));
        let shown = [(0, "0"), (999, "999"), (1000, "1,000"), (26_463, "26,463"), (1_234_567, "1,234,567")];
        shown.iter().for_each(|(n, text)| assert_eq!(show_count(*n), *text));
        assert_eq!(show_duration(Duration::from_millis(340)), "340 ms");
        assert_eq!(show_duration(Duration::from_secs(7200)), "2 h");
        assert_eq!((ago(1000, 3500), ago(7_201_000, 1000)), ("2.5 s ago".into(), "in 2 h".into()));
        assert_eq!(show_time(1_795_974_919_676), "2026-11-29 17:55 UTC");
        assert_eq!(show_instant(1_795_974_919_676), "2026-11-29 17:55:19.676 UTC");
        assert_eq!(show_instant(u64::MAX), "some day");
    }
}
