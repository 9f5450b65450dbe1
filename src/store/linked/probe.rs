//! A look at some rows that two tables share, before much is believed of what differs: a column that differs in most of them is
//! read otherwise than it is meant, and has not drifted.

use std::collections::BTreeMap;

use reknit_core::row::Value;

use super::{Access, Shape, Table};
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
pub fn probe(a: &dyn Table, b: &dyn Table, shape: &Shape, rows: usize) -> Result<Probe, StoreError> {
    let taken = |values: Vec<Value>| -> Vec<Value> {
        shape.columns().iter().zip(values).map(|((_, kind), value)| kind.take(value)).collect()
    };
    let mut ours: BTreeMap<Vec<u8>, Vec<Value>> = BTreeMap::new();
    for values in a.scan(shape)?.take(rows) {
        let values = taken(values?);
        ours.insert(shape.key_of(&values), values);
    }
    let mut probe = Probe::default();
    let mut seen: Vec<Seen> = vec![Seen::default(); shape.columns().len()];
    let mut transaction = b.begin(Access::Read)?;
    let keys: Vec<Vec<Value>> =
        ours.values().map(|values| shape.key_places().iter().map(|place| values[*place].clone()).collect()).collect();
    for some in keys.chunks(KEYS) {
        for found in transaction.find(shape, some)? {
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
            let how = seen.how.filter(|_| seen.alike);
            probe.columns.push(ProbedColumn { name: name.clone(), differs: seen.differs, how });
        }
    }
    Ok(probe)
}

/// What was seen of a column so far.
#[derive(Clone, Default)]
struct Seen {
    differs: u64,
    how: Option<String>,
    alike: bool,
}

impl Seen {
    fn look(&mut self, a: &Value, b: &Value) {
        if a == b {
            return;
        }
        let how = how(a, b);
        self.alike = if self.differs == 0 { how.is_some() } else { self.alike && self.how == how };
        self.how = how;
        self.differs += 1;
    }
}

/// How two values differ, as far as that tells anything of others.
fn how(a: &Value, b: &Value) -> Option<String> {
    let same_kind = std::mem::discriminant(a) == std::mem::discriminant(b);
    match (a, b) {
        (Value::Null, _) => Some("always NULL in a".into()),
        (_, Value::Null) => Some("always NULL in b".into()),
        (Value::Timestamp(a) | Value::DateTime(a), Value::Timestamp(b) | Value::DateTime(b)) if same_kind => {
            let whole = |unit: i64| a.div_euclid(unit) == b.div_euclid(unit);
            match () {
                () if whole(1_000) => Some("never by a millisecond: one side keeps less of a second".into()),
                () if whole(1_000_000) => Some("never by a second: one side keeps less of it".into()),
                () => Some(format!("always by {}: they seem to be of different zones", span(b - a))),
            }
        }
        (Value::Text(a), Value::Text(b)) if a.trim_end() == b.trim_end() => Some("always by blanks at the end".into()),
        (Value::Text(a), Value::Text(b)) if a.to_lowercase() == b.to_lowercase() => Some("always by case alone".into()),
        (Value::Float(a), Value::Float(b)) if (a.get() - b.get()).abs() <= a.get().abs() * 1e-6 => {
            Some("always by rounding: one side keeps fewer digits".into())
        }
        _ if !same_kind => Some("always by type: one side holds what is none of the other's".into()),
        _ => None,
    }
}

/// A span of time, in the largest unit that it is whole in.
fn span(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    let units = [(3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s")];
    match units.into_iter().find(|(unit, _)| us.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{sign}{} {name}", us / unit),
        None => format!("{sign}{us} us"),
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
            seen.how.filter(|_| seen.alike)
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
        assert!(told(&[(Value::DateTime(1), Value::DateTime(0))]).is_some_and(|how| how.contains("millisecond")));
        assert_eq!((span(-90_000_000), span(7)), ("-90 s".into(), "7 us".into()));
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
