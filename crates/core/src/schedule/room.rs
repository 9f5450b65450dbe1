//! How long a run may take so that a schedule can be kept: until it is due again, and until its windows close.
//!
//! By the clock of a week in which no clock is put on or back. How long runs take is for [`crate::agenda`].

use super::{At, MINUTE_MILLIS, MINUTES_OF_DAY, Schedule};
use crate::stamp::Millis;

const MINUTES_OF_WEEK: i64 = 7 * MINUTES_OF_DAY;

/// The least time that a run has, by what bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// From when it is due until it is due again.
    pub interval: Millis,
    /// From when it begins at the latest until its windows close; of a job that is due again and again, if it begins as they open.
    /// Nothing if they never close.
    pub window: Option<Millis>,
}

impl Schedule {
    /// The least time that a run has; nothing for a job that is run by hand alone.
    pub fn room(&self) -> Option<Room> {
        let open = self.stretches();
        // A run may begin as much later.
        let window = |minutes: Option<i64>| minutes.map(|least| millis(least).saturating_sub(self.jitter));
        Some(match self.at.as_ref()? {
            At::Every(every) => {
                Room { interval: *every, window: window(open.iter().flatten().map(|(_, length)| *length).min()) }
            }
            At::Daily(times) => {
                let all = (0..7).flat_map(|day| times.iter().map(move |time| day * MINUTES_OF_DAY + i64::from(*time)));
                // What of a time's stretch is left at that time; a time that lies in none is no slot.
                let left = |minute: i64| match &open {
                    None => Some(None),
                    Some(open) => {
                        let mut left =
                            open.iter().map(|(from, length)| length - (minute - from).rem_euclid(MINUTES_OF_WEEK));
                        left.find(|left| *left > 0).map(Some)
                    }
                };
                let slots: Vec<(i64, Option<i64>)> = all.filter_map(|minute| Some((minute, left(minute)?))).collect();
                let following = slots.iter().skip(1).chain(slots.first());
                let apart =
                    |((one, _), (next, _)): (&(i64, _), &(i64, _))| match (next - one).rem_euclid(MINUTES_OF_WEEK) {
                        0 => MINUTES_OF_WEEK,
                        apart => apart,
                    };
                let interval = slots.iter().zip(following).map(apart).min()?;
                Room { interval: millis(interval), window: window(slots.iter().filter_map(|(_, left)| *left).min()) }
            }
        })
    }

    /// The parts of the week in which it may run without an end, in order: from when, and for how long, in minutes. Nothing if it may
    /// always.
    fn stretches(&self) -> Option<Vec<(i64, i64)>> {
        let mut all: Vec<(i64, i64)> = Vec::new();
        for window in &self.windows {
            let (from, to) = (i64::from(window.from), i64::from(window.to));
            let length = if from < to { to - from } else { to + MINUTES_OF_DAY - from };
            let opens = window.days.iter().zip(0..).filter(|(opens, _)| **opens);
            all.extend(opens.map(|(_, day)| (day * MINUTES_OF_DAY + from, length)));
        }
        all.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        // Three times around, so that of the second all are whole: what goes past the end of the week goes on at its start.
        let around = |week: i64| all.iter().map(move |(from, length)| (from + week * MINUTES_OF_WEEK, *length));
        for (from, length) in (0..3).flat_map(around) {
            match merged.last_mut() {
                Some((begun, lasts)) if from <= *begun + *lasts => *lasts = (*lasts).max(from + length - *begun),
                _ => merged.push((from, length)),
            }
        }
        if merged.is_empty() || merged.iter().any(|(_, lasts)| *lasts >= MINUTES_OF_WEEK) {
            return None;
        }
        let second = |(from, _): &(i64, i64)| (MINUTES_OF_WEEK..2 * MINUTES_OF_WEEK).contains(from);
        Some(merged.into_iter().filter(second).map(|(from, lasts)| (from.rem_euclid(MINUTES_OF_WEEK), lasts)).collect())
    }
}

fn millis(minutes: i64) -> Millis {
    minutes.unsigned_abs() * MINUTE_MILLIS
}
