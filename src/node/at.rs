//! When a job is due: every day at a time, or again and again; written the same way as it is read.
//!
//! Waiting for it, and what is done then, are the scheduler's.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Between two runs of a job lies so much at least, and so much at most.
const EVERY_MIN: Duration = Duration::from_secs(60);
const EVERY_MAX: Duration = Duration::from_secs(30 * 86_400);

/// When a job is due: `03:00` (UTC), or `every 15m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Each day at this time of UTC, in minutes after midnight.
    Daily(u16),
    /// Again after so long, in whole minutes; when the first time is, the scheduler chooses.
    Every(Duration),
}

/// A text that is no time of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time of a job; \"03:00\" (each day, UTC) or \"every 15m\" (m, h or d; 1m to 30d) is")]
pub struct AtError(String);

impl FromStr for At {
    type Err = AtError;

    fn from_str(text: &str) -> Result<At, AtError> {
        let wrong = || AtError(text.to_string());
        match text.strip_prefix("every ") {
            Some(every) => every_so_long(every).ok_or_else(wrong),
            None => time_of_day(text).ok_or_else(wrong),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Daily(minute) => write!(f, "{:02}:{:02}", minute / 60, minute % 60),
            At::Every(every) => match every.as_secs() / 60 {
                minutes if minutes % 1440 == 0 => write!(f, "every {}d", minutes / 1440),
                minutes if minutes % 60 == 0 => write!(f, "every {}h", minutes / 60),
                minutes => write!(f, "every {minutes}m"),
            },
        }
    }
}

fn every_so_long(text: &str) -> Option<At> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let every = Duration::from_secs(digits(number)?.checked_mul(seconds)?);
    (EVERY_MIN..=EVERY_MAX).contains(&every).then_some(At::Every(every))
}

fn time_of_day(text: &str) -> Option<At> {
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    let (hour, minute) = (digits(hour)?, digits(minute)?);
    (hour < 24 && minute < 60).then(|| At::Daily((hour * 60 + minute) as u16))
}

/// A number without a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, at) in [
            ("00:00", At::Daily(0)),
            ("03:00", At::Daily(180)),
            ("23:59", At::Daily(1439)),
            ("every 1m", At::Every(Duration::from_secs(60))),
            ("every 90m", At::Every(Duration::from_secs(5400))),
            ("every 6h", At::Every(Duration::from_secs(21_600))),
            ("every 30d", At::Every(Duration::from_secs(2_592_000))),
        ] {
            assert_eq!((text.parse(), at.to_string().as_str()), (Ok(at), text));
        }
        assert_eq!("every 60m".parse::<At>().expect("a time").to_string(), "every 1h");
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
            "every 5s",
            "every 5",
            "every  5m",
            "every +5m",
            "every 99999999999999999999d",
            "15m",
        ] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_read_or_refused(text in "(every )?\\PC{0,8}") {
            if let Ok(at) = text.parse::<At>() {
                prop_assert_eq!(at.to_string().parse::<At>(), Ok(at));
            }
        }
    }
}
