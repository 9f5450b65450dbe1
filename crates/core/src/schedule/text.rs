//! Times and windows as people write them, read the same way as they are written.
//!
//! What they mean is said where they are.

use std::fmt;
use std::str::FromStr;

use super::{At, EVERY_MAX_MILLIS, EVERY_MIN_MILLIS, MINUTES_OF_DAY, TIMES_MAX, Window};
use crate::stamp::Millis;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const UNITS: [(&str, Millis); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// A text that is no time of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtError(String);

impl fmt::Display for AtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(
            f,
            "`{text}` is no time of a job; \"03:00\" or \"03:00,15:00\" (each day) or \"every 15m\" (s, m, h or d; 1s to 30d) is"
        )
    }
}

impl std::error::Error for AtError {}

/// A text that is no window of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowError(String);

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        write!(f, "`{text}` is no window; \"22:00-06:00\", \"Sat,Sun\" or \"Mon-Fri 20:00-24:00\" is")
    }
}

impl std::error::Error for WindowError {}

impl FromStr for At {
    type Err = AtError;

    fn from_str(text: &str) -> Result<At, AtError> {
        let read = match text.strip_prefix("every ") {
            Some(every) => every_so_long(every),
            None => times(text),
        };
        read.ok_or_else(|| AtError(text.to_string()))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Daily(times) => {
                let times: Vec<String> = times.iter().map(|minute| show_time(*minute)).collect();
                f.write_str(&times.join(","))
            }
            At::Every(every) => {
                let (unit, millis) = UNITS.into_iter().find(|(_, millis)| every % millis == 0).unwrap_or(("s", 1_000));
                write!(f, "every {}{unit}", every / millis)
            }
        }
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Window, WindowError> {
        window(text).ok_or_else(|| WindowError(text.to_string()))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let days: Vec<&str> = DAYS.into_iter().zip(self.days).filter(|(_, on)| *on).map(|(day, _)| day).collect();
            write!(f, "{} ", days.join(","))?;
        }
        write!(f, "{}-{}", show_time(self.from), show_time(self.to))
    }
}

fn every_so_long(text: &str) -> Option<At> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let (_, millis) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let every = digits(number)?.checked_mul(millis)?;
    (EVERY_MIN_MILLIS..=EVERY_MAX_MILLIS).contains(&every).then_some(At::Every(every))
}

fn times(text: &str) -> Option<At> {
    let times: Option<Vec<u16>> = text.split(',').map(|time| time_of_day(time.trim())).collect();
    let mut times = times.filter(|times| times.len() <= TIMES_MAX)?;
    times.sort_unstable();
    times.dedup();
    times.iter().all(|minute| i64::from(*minute) < MINUTES_OF_DAY).then_some(At::Daily(times))
}

fn window(text: &str) -> Option<Window> {
    let (days, hours) = match text.split_once(' ') {
        Some((days, hours)) => (Some(days), Some(hours)),
        None if text.contains(':') => (None, Some(text)),
        None => (Some(text), None),
    };
    let days = days.map_or(Some([true; 7]), days_of)?;
    let (from, to) = match hours {
        Some(hours) => {
            let (from, to) = hours.split_once('-')?;
            (time_of_day(from)?, time_of_day(to)?)
        }
        None => (0, 1_440),
    };
    // It may close, but not open, at the end of a day.
    (i64::from(from) < MINUTES_OF_DAY && from != to).then_some(Window { days, from, to })
}

fn days_of(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.into_iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // From Saturday to Monday goes past the end of the week.
        (0..=(last + 7 - first) % 7).for_each(|further| days[(first + further) % 7] = true);
    }
    Some(days)
}

/// A time of day in minutes; 24:00 is the end of it.
fn time_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    let (hour, minute) = (digits(hour)?, digits(minute)?);
    (hour < 24 && minute < 60 || (hour, minute) == (24, 0)).then_some((hour * 60 + minute) as u16)
}

fn show_time(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// A number without a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
