//! When a job of the configuration is due, and by which clock: the keys `at`, `every`, `clock`, `window` and `jitter`.
//!
//! What follows from that is the core's.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reknit_core::Millis;
use reknit_core::agenda::Tuned;
use reknit_core::schedule::{At, Schedule, Utc, WINDOWS_MAX, Window, Zone};

use super::section::Section;
use crate::cli::CliError;
use crate::cli::units::parse_duration;
use crate::clock::now_ms;

/// Keys of a job that say when.
pub(super) const KEYS: [&str; 5] = ["at", "every", "clock", "window", "jitter"];
/// The longest jitter.
const JITTER_MAX: Millis = 86_400_000;

/// When a job is due, and by which clock.
#[derive(Clone, Debug)]
pub(crate) struct When {
    pub(crate) schedule: Schedule,
    /// The zone's name, unless it is UTC.
    pub(crate) zone: Option<String>,
    clock: Option<TimeZone>,
}

/// The clock of a zone.
struct Clock(TimeZone);

impl Zone for Clock {
    fn offset_minutes(&self, at: Millis) -> i64 {
        let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        at.map_or(0, |at| i64::from(self.0.to_offset(at).seconds()) / 60)
    }
}

impl When {
    /// Reads the keys.
    pub(super) fn read(section: &Section<'_>) -> When {
        let every = |text: &str| format!("every {text}").parse::<At>();
        let (at, every) = (section.read("at", str::parse::<At>), section.read("every", every));
        if section.has("at") && section.has("every") {
            section.wrong_by("every", "says `at` and `every`; one of them says when it is due");
        }
        let windows = section.read_each("window", str::parse::<Window>);
        if windows.len() > WINDOWS_MAX {
            section.wrong_by("window", format!("has {} windows; {WINDOWS_MAX} at most", windows.len()));
        }
        let jitter = section.read("jitter", jitter).unwrap_or(0);
        let known = |zone: &str| {
            let wrong = |_| format!("`{zone}` is no zone that this release knows; \"Europe/Berlin\" is one");
            TimeZone::get(zone).map(|clock| (zone.to_string(), clock)).map_err(wrong)
        };
        let (zone, clock) = section.read("clock", known).unzip();
        let when = When { schedule: Schedule { at: at.or(every), windows, jitter }, zone, clock };
        if when.schedule.at.is_some() && when.schedule.first(&*when.clock(), now_ms()).is_none() {
            section.wrong_by("window", "is never due: none of its times lies in its windows");
        }
        when
    }

    /// The clock that it goes by.
    pub(crate) fn clock(&self) -> Arc<dyn Zone> {
        match &self.clock {
            Some(zone) => Arc::new(Clock(zone.clone())),
            None => Arc::new(Utc),
        }
    }

    /// With what was tuned; what is not understood of that, by a release that knows less, is left out.
    pub(crate) fn tuned(&self, tuned: &Tuned) -> Schedule {
        let at = tuned.at.as_ref().and_then(|at| at.parse().ok()).or_else(|| self.schedule.at.clone());
        Schedule { at, jitter: tuned.jitter.unwrap_or(self.schedule.jitter), ..self.schedule.clone() }
    }

    /// In words; nothing if it is run by hand alone.
    pub(crate) fn told(&self) -> String {
        let Some(at) = &self.schedule.at else { return String::new() };
        let zone = self.zone.as_ref().map_or(String::new(), |zone| format!(" {zone}"));
        let windows: Vec<String> = self.schedule.windows.iter().map(Window::to_string).collect();
        let within = if windows.is_empty() { String::new() } else { format!(" within {}", windows.join(", ")) };
        format!("{at}{zone}{within}")
    }
}

/// Reads how much later a job may be due.
pub(crate) fn jitter(text: &str) -> Result<Millis, CliError> {
    let millis = u64::try_from(parse_duration(text)?.as_millis()).unwrap_or(u64::MAX);
    if millis > JITTER_MAX {
        return Err(CliError::new("usage.duration", format!("a job is due at most a day later, not {text}")));
    }
    Ok(millis)
}
