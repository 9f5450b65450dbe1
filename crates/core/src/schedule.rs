//! When a job is due: every day at times, or again and again, within windows of the week and by the clock of a zone.
//!
//! Where a zone's clock stands is said by a [`Zone`]; which job runs, and what came of it, is for [`crate::agenda`].

mod room;
mod text;
mod window;

use crate::stamp::Millis;

pub use self::room::Room;
pub use self::text::{AtError, WindowError};
pub use self::window::Window;

/// Between two runs of a job lies so much at least, and so much at most.
pub const EVERY_MIN_MILLIS: Millis = 1_000;
/// See [`EVERY_MIN_MILLIS`].
pub const EVERY_MAX_MILLIS: Millis = 30 * DAY_MILLIS;
/// Times of one day.
pub const TIMES_MAX: usize = 24;
/// Windows of one job.
pub const WINDOWS_MAX: usize = 16;
/// How far is looked ahead for a time within the windows, in days: a time that is skipped once a year is found.
const DAYS_AHEAD: i64 = 400;

const MINUTE_MILLIS: Millis = 60_000;
const DAY_MILLIS: Millis = 86_400_000;
const MINUTES_OF_DAY: i64 = 1_440;

/// Where the clock of a place stands.
pub trait Zone: Send + Sync {
    /// What its clock is ahead of UTC at a moment, in minutes.
    fn offset_minutes(&self, at: Millis) -> i64;
}

/// The clock of UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utc;

impl Zone for Utc {
    fn offset_minutes(&self, _: Millis) -> i64 {
        0
    }
}

/// When a job is due: `03:00`, `03:00,15:00`, or `every 15m`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Each day at these times, in minutes after midnight, in order.
    Daily(Vec<u16>),
    /// Again after so many milliseconds.
    Every(Millis),
}

/// When a job is due, and when it may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// When it is due; a job without is run by hand alone.
    pub at: Option<At>,
    /// When it may run; at any time if there are none.
    pub windows: Vec<Window>,
    /// It is due up to so much later, at random, so that jobs of many nodes do not begin together.
    pub jitter: Millis,
}

impl Schedule {
    /// A job that is run by hand alone, at any time.
    pub fn by_hand() -> Schedule {
        Schedule { at: None, windows: Vec::new(), jitter: 0 }
    }

    /// The first slot of a job that has none yet: now where it runs again and again, else the next of its times.
    pub fn first(&self, zone: &dyn Zone, now: Millis) -> Option<Millis> {
        match self.at.as_ref()? {
            At::Every(_) => self.opens(zone, now),
            At::Daily(times) => self.daily(times, zone, now),
        }
    }

    /// The slot after `slot`, the first that lies after `now`. Those of `every` keep their distance from the first one,
    /// however long a run takes; outside of the windows they wait for the next one to open.
    ///
    /// Nothing if the job is run by hand, or no time of it ever falls in its windows.
    pub fn next(&self, zone: &dyn Zone, slot: Millis, now: Millis) -> Option<Millis> {
        match self.at.as_ref()? {
            At::Every(every) => {
                let passed = now.saturating_sub(slot) / every;
                self.opens(zone, slot.saturating_add((passed + 1).saturating_mul(*every)))
            }
            At::Daily(times) => self.daily(times, zone, now),
        }
    }

    /// How many slots lie after `slot` and not after `now`: those that were missed by a run that is late. Times outside of
    /// the windows are none; those of `every` are counted as if there were no windows.
    pub fn missed(&self, zone: &dyn Zone, slot: Millis, now: Millis) -> u64 {
        match &self.at {
            None => 0,
            Some(At::Every(every)) => now.saturating_sub(slot) / every,
            Some(At::Daily(times)) => {
                let next = |after: &Millis| self.daily(times, zone, *after).filter(|next| *next <= now);
                std::iter::successors(next(&slot), next).take(TIMES_MAX * DAYS_AHEAD as usize).count() as u64
            }
        }
    }

    /// Whether it may run at this moment.
    pub fn is_open(&self, zone: &dyn Zone, at: Millis) -> bool {
        self.windows.is_empty() || self.windows.iter().any(|window| window.holds(local_minute(zone, at)))
    }

    /// The first moment from `at` on at which it may run, to the minute.
    pub fn opens(&self, zone: &dyn Zone, at: Millis) -> Option<Millis> {
        self.turn(zone, at, true)
    }

    /// When what runs at `at` must have ended, as its windows close; nothing if they never do.
    pub fn closes(&self, zone: &dyn Zone, at: Millis) -> Option<Millis> {
        if self.windows.is_empty() { None } else { self.turn(zone, at, false) }
    }

    /// The first moment from `at` on at which it may, or may not, run.
    fn turn(&self, zone: &dyn Zone, at: Millis, open: bool) -> Option<Millis> {
        if self.is_open(zone, at) == open {
            return Some(at);
        }
        let first = at / MINUTE_MILLIS + 1;
        // Windows repeat with the week; a clock that is put on or back moves them by an hour or so.
        let week = (8 * MINUTES_OF_DAY) as u64;
        (first..first + week).map(|minute| minute * MINUTE_MILLIS).find(|at| self.is_open(zone, *at) == open)
    }

    /// The first of these times of day after `now` that falls in the windows.
    fn daily(&self, times: &[u16], zone: &dyn Zone, now: Millis) -> Option<Millis> {
        let today = local_minute(zone, now).div_euclid(MINUTES_OF_DAY);
        // A clock that is put back may show yesterday's date again.
        (today - 1..today + DAYS_AHEAD)
            .flat_map(|day| times.iter().map(move |time| day * MINUTES_OF_DAY + i64::from(*time)))
            .filter_map(|minute| instant(zone, minute))
            .find(|at| *at > now && self.is_open(zone, *at))
    }
}

/// The day that the clock of a zone shows, counted from the start of 1970 there.
pub(crate) fn day(zone: &dyn Zone, at: Millis) -> i64 {
    local_minute(zone, at).div_euclid(MINUTES_OF_DAY)
}

/// When the next day begins by that clock.
pub(crate) fn next_day(zone: &dyn Zone, at: Millis) -> Millis {
    let midnight = instant(zone, (day(zone, at) + 1) * MINUTES_OF_DAY);
    // A clock that is put back at midnight shows the day before once more.
    midnight.filter(|midnight| *midnight > at).unwrap_or(at.saturating_add(MINUTE_MILLIS))
}

/// What the clock of a zone shows, in minutes since the start of 1970 there.
fn local_minute(zone: &dyn Zone, at: Millis) -> i64 {
    (at / MINUTE_MILLIS) as i64 + zone.offset_minutes(at)
}

/// When the clock of a zone shows this minute: the first time if it does twice; if it skips it, as much later.
fn instant(zone: &dyn Zone, local: i64) -> Option<Millis> {
    let at = |offset: i64| u64::try_from(local - offset).ok()?.checked_mul(MINUTE_MILLIS);
    let before = zone.offset_minutes(at(MINUTES_OF_DAY).unwrap_or(0));
    let after = zone.offset_minutes(at(-MINUTES_OF_DAY)?);
    let holds = |offset: &&i64| at(**offset).is_some_and(|at| zone.offset_minutes(at) == **offset);
    // The greater offset comes first.
    let mut offsets = [before, after];
    offsets.sort_unstable_by(|one, other| other.cmp(one));
    at(*offsets.iter().find(holds).unwrap_or(&before))
}

#[cfg(test)]
mod tests;
