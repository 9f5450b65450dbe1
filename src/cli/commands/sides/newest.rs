//! Which of two rows is the newer, by a column that both tables have: of two that differ the one whose value is greater, and a
//! row that only one table has.
//!
//! It is told as a base in which the other row is what there was before: what moves meanwhile is neither, and is left.

use std::cmp::Ordering;

use reknit_core::Millis;
use reknit_core::difference::Side as Seen;
use reknit_core::row::Value;
use reknit_core::session::Base;

use super::listed;
use crate::cli::env::Env;
use crate::cli::{CliError, Exit};
use crate::store::linked::Linked;

/// Rows that are looked up at once.
const ROWS: usize = 1_000;

/// Compares two tables, and tells of each row that differs which side has the newer one.
pub(super) fn base(env: &mut Env, pair: &[Linked; 2], column: &str, settle: Millis) -> Result<Base, CliError> {
    let [a, b] = pair;
    let place = a.shape().columns().iter().position(|(name, _)| name == column).ok_or_else(|| {
        let columns: Vec<&str> = a.shape().columns().iter().map(|(name, _)| name.as_str()).collect();
        let message =
            format!("no column {column} is compared, by which to tell the newer row; {} are", columns.join(", "));
        CliError { exit: Exit::Refused, ..CliError::new("database.shape", message) }
    })?;
    let found = listed::differing(env, pair, settle)?;
    let mut base = Base::default();
    for some in found.chunks(ROWS) {
        let keys: Vec<Vec<u8>> = some.iter().map(|difference| difference.key.clone()).collect();
        let (mine, theirs) = (a.rows_of(&keys)?, b.rows_of(&keys)?);
        for difference in some {
            let at = |linked: &Linked, row: Option<&Vec<u8>>| {
                let values = linked.shape().row_values(row?).ok()?;
                values.get(place).cloned()
            };
            let [here, there] = difference.entries;
            let newer = match (here, there) {
                (Some(_), None) => Some(Seen::Mine),
                (None, Some(_)) => Some(Seen::Theirs),
                _ => newer(at(a, mine.get(&difference.key)), at(b, theirs.get(&difference.key))),
            };
            if let Some(newer) = newer {
                let was = if newer == Seen::Mine { there } else { here };
                base.was.insert((difference.collection, difference.key.clone()), was);
            }
        }
    }
    Ok(base)
}

/// The side whose value is greater; neither if they are equal, of different kinds, or if one is missing.
fn newer(mine: Option<Value>, theirs: Option<Value>) -> Option<Seen> {
    let (mine, theirs) = (mine?, theirs?);
    let comparable = std::mem::discriminant(&mine) == std::mem::discriminant(&theirs) && mine != Value::Null;
    match mine.cmp(&theirs) {
        Ordering::Greater if comparable => Some(Seen::Mine),
        Ordering::Less if comparable => Some(Seen::Theirs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_value_is_newer_and_nothing_else() {
        let at = |us| Some(Value::Timestamp(us));
        assert_eq!(newer(at(2), at(1)), Some(Seen::Mine));
        assert_eq!(newer(at(-1), at(1)), Some(Seen::Theirs));
        for (mine, theirs) in [
            (at(1), at(1)),
            (at(1), Some(Value::Null)),
            (Some(Value::Null), at(1)),
            (None, at(1)),
            (at(1), Some(Value::Int(0))),
        ] {
            assert_eq!(newer(mine, theirs), None);
        }
    }
}
