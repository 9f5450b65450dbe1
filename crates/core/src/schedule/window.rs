//! Parts of the week in which a job may run.
//!
//! By which clock is said by whoever asks.

use super::MINUTES_OF_DAY;

/// Days of the week, and a part of each: `Mon-Fri 22:00-06:00`. What goes past midnight belongs to the day on which it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whether it opens on each day, from Monday on.
    pub days: [bool; 7],
    /// When it opens, in minutes after midnight.
    pub from: u16,
    /// When it closes; on the next day if that is not later.
    pub to: u16,
}

impl Window {
    /// Whether a minute lies in it, counted since the start of 1970 by the clock that it is meant by.
    pub(super) fn holds(&self, minute: i64) -> bool {
        let (day, time) = (minute.div_euclid(MINUTES_OF_DAY), minute.rem_euclid(MINUTES_OF_DAY));
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        // The first day of 1970 was a Thursday.
        let opens = |day: i64| self.days[(day + 3).rem_euclid(7) as usize];
        if from < to {
            return opens(day) && (from..to).contains(&time);
        }
        opens(day) && time >= from || opens(day - 1) && time < to
    }
}
