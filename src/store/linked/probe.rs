//! A look at some rows that two tables share, before much is believed of what differs: a column that differs in most of them is
//! read otherwise than it is meant, and has not drifted.

use std::collections::BTreeMap;

use reknit_core::row::{Kind, Value};

use super::{Access, Manner, Shape, Table, Terms, Zone};
use crate::store::StoreError;

/// Keys that are looked up at once.
const KEYS: usize = 500;
/// Rows below which nothing is concluded.
const ROWS_MIN: u64 = 20;

/// What a look at shared rows has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Rows that both tables have.
    pub shared: u64,
    /// The columns that differ in some of them.
    pub columns: Vec<ProbedColumn>,
}

/// A column that differs in some shared rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbedColumn {
    /// Its name.
    pub name: String,
    /// In how many rows.
    pub differs: u64,
    /// How, if all of them differ alike.
    pub how: Option<String>,
}

impl Probe {
    /// The columns that differ in over half of the rows, if there were enough.
    pub fn suspicious(&self) -> impl Iterator<Item = &ProbedColumn> {
        self.columns.iter().filter(|column| self.shared >= ROWS_MIN && column.differs * 2 > self.shared)
    }
}

impl ProbedColumn {
    /// What is said of it.
    #[must_use]
    pub fn told(&self, shared: u64) -> String {
        let how = self.how.as_ref().map(|how| format!(", {how}")).unwrap_or_default();
        format!("{} differs in {} of {shared} probed rows{how}", self.name, self.differs)
    }
}

/// Compares the first rows of `a`, at most so many, with those of the same keys in `b`; what is tolerated is no difference.
/// Writes nothing.
///
/// # Errors
/// [`StoreError::Database`].
pub fn probe(
    terms: &Terms,
    a: (&dyn Table, &Shape),
    b: (&dyn Table, &Shape),
    rows: usize,
) -> Result<Probe, StoreError> {
    let sides = [a, b];
    let ((a, shape), (b, shape_of_b)) = (a, b);
    // What counts of each column.
    let taken = |shape: &Shape, values: Vec<Value>| -> Vec<Value> {
        let meant = values.into_iter().enumerate().map(|(place, value)| (place, shape.meant(place, value)));
        meant.map(|(place, value)| shape.counts(place, &value).into_owned()).collect()
    };
    let mut ours: BTreeMap<Vec<u8>, Vec<Value>> = BTreeMap::new();
    for values in a.scan(shape)?.take(rows) {
        let values = taken(shape, values?);
        ours.insert(shape.key_of(&values), values);
    }
    let mut probe = Probe::default();
    let mut seen: Vec<Seen> = vec![Seen::default(); shape.columns().len()];
    let mut transaction = b.begin(Access::Read, Manner::default().wait)?;
    let keys: Vec<Vec<Value>> =
        ours.values().map(|values| shape.key_places().iter().map(|place| values[*place].clone()).collect()).collect();
    let keys: Vec<Vec<Value>> = keys.into_iter().map(|key| shape_of_b.given_key(key)).collect();
    for some in keys.chunks(KEYS) {
        for found in transaction.find(shape_of_b, some)? {
            let theirs = taken(shape_of_b, found.values);
            let Some(mine) = ours.remove(&shape.key_of(&theirs)) else { continue };
            probe.shared += 1;
            for (place, (seen, (mine, theirs))) in seen.iter_mut().zip(mine.iter().zip(&theirs)).enumerate() {
                if terms.tolerates_of(&shape.columns()[place].0, mine, theirs) {
                    continue;
                }
                seen.look(mine, theirs, [shape.zone(place), shape_of_b.zone(place)]);
            }
        }
    }
    transaction.commit()?;
    for (place, (seen, (name, _))) in seen.into_iter().zip(shape.columns()).enumerate() {
        if seen.differs > 0 {
            let how = seen.zone(sides.map(|(table, shape)| declared(table, shape, place)));
            let how = how.or_else(|| seen.how.map(How::told));
            probe.columns.push(ProbedColumn { name: name.clone(), differs: seen.differs, how });
        }
    }
    Ok(probe)
}

/// How a table declares a column.
fn declared(table: &dyn Table, shape: &Shape, place: usize) -> String {
    match table.columns().column(shape.source(place)) {
        Some(column) if !column.declared.is_empty() => column.declared.to_lowercase(),
        _ => shape.columns()[place].1.name().into(),
    }
}

/// What was seen of a column so far.
#[derive(Clone, Default)]
struct Seen {
    differs: u64,
    /// How all that differs does, as long as it does so alike.
    how: Option<How>,
    /// Of each side, its dates and times without a zone with the instants of the other.
    civil: [Vec<(i64, i64)>; 2],
    /// Whether neither side says a zone: each was taken for instants, to see of which zone the other would be then.
    neither: bool,
}

impl Seen {
    fn look(&mut self, a: &Value, b: &Value, zones: [Option<&Zone>; 2]) {
        if a == b {
            return;
        }
        let civil = [civil(a, zones[0]), civil(b, zones[1])];
        match (a, b, civil) {
            (Value::Timestamp(instant), _, [_, Some(civil)]) => self.civil[1].push((civil, *instant)),
            (_, Value::Timestamp(instant), [Some(civil), _]) => self.civil[0].push((civil, *instant)),
            (Value::DateTime(_), Value::DateTime(_), [Some(a), Some(b)]) => {
                self.neither = true;
                self.civil[0].push((a, b));
                self.civil[1].push((b, a));
            }
            _ => {}
        }
        let how = How::of(a, b);
        self.how = if self.differs == 0 { how } else { self.how.zip(how).and_then(|(so_far, how)| so_far.and(how)) };
        self.differs += 1;
    }

    /// The zone that would make all that differs equal, if one would, with how the columns are declared.
    fn zone(&self, [in_a, in_b]: [String; 2]) -> Option<String> {
        let whole = |side: &usize| self.civil[*side].len() as u64 == self.differs;
        let (side, (zone, others)) =
            [1, 0].into_iter().filter(whole).find_map(|side| Some((side, Zone::that_fits(&self.civil[side])?)))?;
        let by = self.civil[side].iter().map(|(civil, instant)| civil - instant);
        let by = match (by.clone().min()?, by.max()?) {
            (0, 0) => "but for the zone".into(),
            (least, most) if least == most => format!("by {}", span(least)),
            (least, most) => format!("by {} to {}", span(least), span(most)),
        };
        let name = ["a", "b"][side];
        let others = match others {
            0 => String::new(),
            1 => " (1 other zone fits too)".into(),
            n => format!(" ({n} other zones fit too)"),
        };
        Some(match (self.neither, side) {
            (true, _) => {
                let other = ["b", "a"][side];
                format!(
                    "always {by}: they seem to be of different zones, of which neither side says one; if {other} is of UTC, \
                     try --zone {other}=UTC --zone {name}={zone}{others}"
                )
            }
            (false, 1) => format!("always {by}: a is {in_a}, b is {in_b} without a zone; try --zone b={zone}{others}"),
            (false, _) => format!("always {by}: a is {in_a} without a zone, b is {in_b}; try --zone a={zone}{others}"),
        })
    }
}

/// The date and time that a side holds in its own zone, if it says none.
fn civil(value: &Value, zone: Option<&Zone>) -> Option<i64> {
    match (value, zone) {
        (Value::Timestamp(instant), Some(zone)) => zone.civil(*instant),
        (Value::DateTime(civil), _) => Some(*civil),
        (Value::Text(_), _) => match Kind::DateTime.take(value.clone()) {
            Value::DateTime(civil) => Some(civil),
            _ => None,
        },
        _ => None,
    }
}

/// How two values differ, as far as that tells anything of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// One side has none.
    Null(&'static str),
    /// One side keeps only whole units of so many microseconds.
    Coarse(&'static str, i64),
    /// By so many microseconds.
    Shifted(i64),
    Blanks,
    Case,
    Digits,
    Kind,
}

impl How {
    fn of(a: &Value, b: &Value) -> Option<How> {
        let same_kind = std::mem::discriminant(a) == std::mem::discriminant(b);
        match (a, b) {
            (Value::Null, _) => Some(How::Null("a")),
            (_, Value::Null) => Some(How::Null("b")),
            (Value::Timestamp(a) | Value::DateTime(a), Value::Timestamp(b) | Value::DateTime(b)) if same_kind => {
                Some(How::of_times(*a, *b))
            }
            (Value::Text(a), Value::Text(b)) if a.trim_end() == b.trim_end() => Some(How::Blanks),
            (Value::Text(a), Value::Text(b)) if a.to_lowercase() == b.to_lowercase() => Some(How::Case),
            (Value::Float(a), Value::Float(b)) if (a.get() - b.get()).abs() <= a.get().abs() * 1e-6 => {
                Some(How::Digits)
            }
            _ if !same_kind => Some(How::Kind),
            _ => None,
        }
    }

    /// Whether cut or rounded, what a side keeps is whole in some unit and off by less than one.
    fn of_times(a: i64, b: i64) -> How {
        let by = b.wrapping_sub(a);
        let coarse = |unit: i64| {
            let less = by.unsigned_abs() < unit.unsigned_abs();
            let side = if b % unit == 0 { Some("b") } else { (a % unit == 0).then_some("a") };
            side.filter(|_| less).map(|side| How::Coarse(side, unit))
        };
        coarse(1_000).or_else(|| coarse(1_000_000)).unwrap_or(How::Shifted(by))
    }

    /// What is true of both.
    fn and(self, other: How) -> Option<How> {
        match (self, other) {
            // A time that is nearly whole says of a smaller unit what the others say of a larger one.
            (How::Coarse(a, one), How::Coarse(b, two)) if a == b => Some(How::Coarse(a, one.max(two))),
            _ => (self == other).then_some(self),
        }
    }

    fn told(self) -> String {
        match self {
            How::Null(side) => format!("always NULL in {side}"),
            How::Coarse(side, unit) => format!("always by less than {}: {side} keeps less of the time", span(unit)),
            How::Shifted(by) => format!("always by {}: they seem to be of different zones", span(by)),
            How::Blanks => "always by blanks at the end".into(),
            How::Case => "always by case alone".into(),
            How::Digits => "always by rounding: one side keeps fewer digits".into(),
            How::Kind => "always by type: one side holds what is none of the other's".into(),
        }
    }
}

/// Units of time, in microseconds, the largest first.
const UNITS: [(i64, &str); 4] = [(3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms")];

/// A span of time, in the largest unit that it is whole in.
fn span(us: i64) -> String {
    match UNITS.iter().find(|(unit, _)| us % unit == 0) {
        Some((unit, name)) => format!("{} {name}", us / unit),
        None => format!("{us} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_always_differs_alike_is_told() {
        let text = |text: &str| Value::Text(text.into());
        let told = |pairs: &[(Value, Value)]| {
            let mut seen = Seen::default();
            pairs.iter().for_each(|(a, b)| seen.look(a, b, [None; 2]));
            seen.how.map(How::told)
        };
        let hour = 3_600_000_000;
        let zones =
            [(Value::Timestamp(0), Value::Timestamp(2 * hour)), (Value::Timestamp(5), Value::Timestamp(5 + 2 * hour))];
        assert!(told(&zones).is_some_and(|how| how.starts_with("always by 2 h")));
        let not_alike =
            [(Value::Timestamp(0), Value::Timestamp(2 * hour)), (Value::Timestamp(0), Value::Timestamp(hour))];
        assert_eq!(told(&not_alike), None);
        assert!(told(&[(text("a  "), text("a")), (text("b"), text("b"))]).is_some_and(|how| how.contains("blanks")));
        assert!(told(&[(Value::Null, text("a")), (text("b"), text("c"))]).is_none());
        assert_eq!((span(-90_000_000), span(7)), ("-90 s".into(), "7 us".into()));
    }

    #[test]
    fn the_zone_that_would_do_is_told() {
        let text = |text: &str| Value::Text(text.into());
        let instant = |text: &str| Kind::Timestamp.take(Value::Text(text.into()));
        let civil = |text: &str| Kind::DateTime.take(Value::Text(text.into()));
        let told = |pairs: &[(Value, Value)], zones: [Option<&Zone>; 2]| {
            let mut seen = Seen::default();
            pairs.iter().for_each(|(a, b)| seen.look(a, b, zones));
            seen.zone(["timestamptz".into(), "text".into()])
        };
        let summer = (instant("2026-07-01T10:00:00Z"), text("2026-07-01 12:00:00"));
        let winter = (instant("2026-01-01T11:00:00Z"), text("2026-01-01 12:00:00"));
        let one = told(std::slice::from_ref(&summer), [None; 2]).expect("a zone");
        let words = "always by 2 h: a is timestamptz, b is text without a zone; try --zone b=Europe/Berlin (";
        assert!(one.starts_with(words), "{one}");
        let two = told(&[summer.clone(), winter.clone()], [None; 2]).expect("a zone");
        assert!(two.contains("always by 1 h to 2 h") && two.contains("b=Europe/Berlin"), "{two}");
        let other = [summer.clone(), winter.clone()].map(|(a, b)| (b, a));
        assert!(told(&other, [None; 2]).is_some_and(|told| told.contains("--zone a=Europe/Berlin")));
        // One that was said and is wrong.
        let utc = Zone::of_name("UTC");
        let taken = [summer, winter].map(|(a, b)| (a, utc.clone().expect("a zone").take(b)));
        assert!(told(&taken, [None, utc.as_ref()]).is_some_and(|told| told.contains("--zone b=Europe/Berlin")));
        let neither = [(civil("2026-07-01 10:00:00"), civil("2026-07-01 12:00:00"))];
        let neither = told(&neither, [None; 2]).expect("zones");
        assert!(neither.contains("if a is of UTC, try --zone a=UTC --zone b=Europe/Berlin"), "{neither}");
        let none = [(instant("2026-07-01T10:00:00Z"), text("2026-07-01 12:00:01.5"))];
        assert_eq!(told(&none, [None; 2]), None);
    }

    #[test]
    fn what_keeps_less_of_a_time_is_told_however_near_some_times_are() {
        let told = |pairs: &[(i64, i64)]| {
            let mut seen = Seen::default();
            pairs.iter().for_each(|(a, b)| seen.look(&Value::DateTime(*a), &Value::DateTime(*b), [None; 2]));
            seen.how.map(How::told)
        };
        let second = 1_000_000;
        let cut: Vec<(i64, i64)> = [1, 700, 900_000].map(|us| (5 * second + us, 5 * second)).to_vec();
        assert_eq!(told(&cut).expect("alike"), "always by less than 1 s: b keeps less of the time");
        let cut_before_1970: Vec<(i64, i64)> = cut.iter().map(|(a, b)| (*b - 9 * second, *a - 9 * second)).collect();
        assert_eq!(told(&cut_before_1970).expect("alike"), "always by less than 1 s: a keeps less of the time");
        let rounded = [(second + 700_001, 2 * second), (3 * second + 1_001, 3 * second)];
        assert_eq!(told(&rounded).expect("alike"), "always by less than 1 s: b keeps less of the time");
        assert_eq!(
            told(&[(1, 0), (4_999, 5_000)]).expect("alike"),
            "always by less than 1 ms: b keeps less of the time"
        );
        assert_eq!(told(&[(7 * second + 1, 7 * second), (second, second + 1)]), None);
        assert!(told(&[(i64::MIN, i64::MAX)]).is_some());
    }

    #[test]
    fn few_rows_make_nothing_suspicious() {
        let column = ProbedColumn { name: "v".into(), differs: 19, how: None };
        let mut probe = Probe { shared: 19, columns: vec![column] };
        assert_eq!(probe.suspicious().count(), 0);
        probe.shared = 20;
        assert_eq!(probe.suspicious().count(), 1);
        probe.shared = 38;
        assert_eq!(probe.suspicious().count(), 0);
    }
}
