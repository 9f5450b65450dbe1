//! A look at some rows that two tables share, before much is believed of what differs: a column that differs in most of them is
//! read otherwise than it is meant, and has not drifted.

use std::collections::BTreeMap;

use reknit_core::row::Value;

use super::{Access, Manner, Shape, Table};
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

/// Compares the first rows of `a`, at most so many, with those of the same keys in `b`. Writes nothing.
///
/// # Errors
/// [`StoreError::Database`].
pub fn probe(a: (&dyn Table, &Shape), b: (&dyn Table, &Shape), rows: usize) -> Result<Probe, StoreError> {
    let ((a, shape), (b, shape_of_b)) = (a, b);
    // What counts of each column.
    let taken = |values: Vec<Value>| -> Vec<Value> {
        let taken = shape.columns().iter().zip(values).map(|((_, kind), value)| kind.take(value));
        taken.enumerate().map(|(place, value)| shape.counts(place, &value).into_owned()).collect()
    };
    let mut ours: BTreeMap<Vec<u8>, Vec<Value>> = BTreeMap::new();
    for values in a.scan(shape)?.take(rows) {
        let values = taken(values?);
        ours.insert(shape.key_of(&values), values);
    }
    let mut probe = Probe::default();
    let mut seen: Vec<Seen> = vec![Seen::default(); shape.columns().len()];
    let mut transaction = b.begin(Access::Read, Manner::default().wait)?;
    let keys: Vec<Vec<Value>> =
        ours.values().map(|values| shape.key_places().iter().map(|place| values[*place].clone()).collect()).collect();
    for some in keys.chunks(KEYS) {
        for found in transaction.find(shape_of_b, some)? {
            let theirs = taken(found.values);
            let Some(mine) = ours.remove(&shape.key_of(&theirs)) else { continue };
            probe.shared += 1;
            for (seen, (mine, theirs)) in seen.iter_mut().zip(mine.iter().zip(&theirs)) {
                seen.look(mine, theirs);
            }
        }
    }
    transaction.commit()?;
    for (seen, (name, _)) in seen.into_iter().zip(shape.columns()) {
        if seen.differs > 0 {
            probe.columns.push(ProbedColumn {
                name: name.clone(),
                differs: seen.differs,
                how: seen.how.map(How::told),
            });
        }
    }
    Ok(probe)
}

/// What was seen of a column so far.
#[derive(Clone, Default)]
struct Seen {
    differs: u64,
    /// How all that differs does, as long as it does so alike.
    how: Option<How>,
}

impl Seen {
    fn look(&mut self, a: &Value, b: &Value) {
        if a == b {
            return;
        }
        let how = How::of(a, b);
        self.how = if self.differs == 0 { how } else { self.how.zip(how).and_then(|(so_far, how)| so_far.and(how)) };
        self.differs += 1;
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
            pairs.iter().for_each(|(a, b)| seen.look(a, b));
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
    fn what_keeps_less_of_a_time_is_told_however_near_some_times_are() {
        let told = |pairs: &[(i64, i64)]| {
            let mut seen = Seen::default();
            pairs.iter().for_each(|(a, b)| seen.look(&Value::DateTime(*a), &Value::DateTime(*b)));
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
