//! Rows that a database refused and that wait for others of their table: children for parents that come in a later
//! transaction, parents that go for their last child.
//!
//! Which columns refer to which is said in [`super::references`]; what is refused for any other reason does not wait.

use std::collections::{BTreeMap, BTreeSet};

use super::changing::Wanted;
use super::references::{Ends, References, Tie};

/// Rows that wait at once; more are refused at once.
const PARKED_MAX: usize = 100_000;

/// What a row waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// A row that is to come.
    ForParent(Tie),
    /// Rows that are to go, or to refer to another.
    ForChildren(Tie),
}

/// The rows that wait.
#[derive(Default)]
pub(super) struct Parked {
    rows: BTreeMap<Vec<u8>, Row>,
    waiting: BTreeMap<Wait, BTreeSet<Vec<u8>>>,
    /// How many have been written.
    pub(super) late: u64,
    /// Transactions one after another that others let write nothing.
    pub(super) busy: u32,
}

struct Row {
    wanted: Wanted,
    waits: Vec<Wait>,
    reason: String,
}

impl Parked {
    /// Keeps a row that was refused, if it waits for anything; not one that has waited already.
    pub(super) fn park(&mut self, wanted: &Wanted, waits: Vec<Wait>, reason: &str) -> bool {
        if self.take(&wanted.key).is_some() || waits.is_empty() || self.rows.len() >= PARKED_MAX {
            return false;
        }
        for wait in &waits {
            self.waiting.entry(wait.clone()).or_default().insert(wanted.key.clone());
        }
        self.rows.insert(wanted.key.clone(), Row { wanted: wanted.clone(), waits, reason: reason.into() });
        true
    }

    fn take(&mut self, key: &[u8]) -> Option<Row> {
        let row = self.rows.remove(key)?;
        for wait in &row.waits {
            if let Some(keys) = self.waiting.get_mut(wait) {
                keys.remove(key);
            }
            if self.waiting.get(wait).is_some_and(BTreeSet::is_empty) {
                self.waiting.remove(wait);
            }
        }
        Some(row)
    }

    /// Those that have waited for this; they wait no more.
    pub(super) fn woken(&mut self, by: &[Wait]) -> Vec<Wanted> {
        let keys: BTreeSet<Vec<u8>> = by.iter().filter_map(|wait| self.waiting.get(wait)).flatten().cloned().collect();
        keys.iter().filter_map(|key| self.take(key)).map(|row| row.wanted).collect()
    }

    /// The keys that wait still, with the reasons.
    pub(super) fn left(&self) -> Vec<(Vec<u8>, String)> {
        self.rows.iter().map(|(key, row)| (key.clone(), row.reason.clone())).collect()
    }
}

impl References {
    /// What a row that was refused waits for.
    pub(super) fn waits(&self, ends: &Ends) -> Vec<Wait> {
        match (&ends.new, &ends.old) {
            (Some(new), _) => self.refers(new).into_iter().map(Wait::ForParent).collect(),
            (None, Some(old)) => self.referred(old).into_iter().map(Wait::ForChildren).collect(),
            (None, None) => Vec::new(),
        }
    }

    /// Those rows of which each waits for another of them.
    pub(super) fn circles(&self, rows: &[Ends]) -> Vec<usize> {
        let mut left: Vec<usize> = (0..rows.len()).collect();
        loop {
            let woken: BTreeSet<Wait> = left.iter().flat_map(|nth| self.wakes(&rows[*nth])).collect();
            let before = left.len();
            left.retain(|nth| self.waits(&rows[*nth]).iter().any(|wait| woken.contains(wait)));
            if left.len() == before {
                return left;
            }
        }
    }

    /// Whom a row that was written wakes.
    pub(super) fn wakes(&self, ends: &Ends) -> Vec<Wait> {
        let came = ends.new.iter().flat_map(|new| self.referred(new)).map(Wait::ForParent);
        let went = ends.old.iter().flat_map(|old| self.refers(old)).map(Wait::ForChildren);
        came.chain(went).collect()
    }
}

#[cfg(test)]
mod tests {
    use reknit_core::row::{Kind, Value};

    use super::super::{Column, Columns, Reference, Terms};
    use super::*;

    #[test]
    fn circles_are_what_is_left_without_those_that_wait_for_nobody() {
        let names = ["id", "parent"].map(String::from);
        let column = |name: &String| Column { name: name.clone(), kind: Kind::Int, declared: String::new() };
        let columns = Columns { columns: names.iter().map(column).collect(), key: vec!["id".into()] };
        let [shape, _] = Terms::default().shapes(("a", &columns), ("b", &columns)).expect("a shape");
        let reference = Reference { columns: vec!["parent".into()], referred: vec!["id".into()], cascades: false };
        let references = References::of(&[reference], &shape);
        let row = |id, parent| vec![Value::Int(id), Value::Int(parent)];
        let come = |(id, parent)| Ends { old: None, new: Some(row(id, parent)) };
        let go = |(id, parent)| Ends { old: Some(row(id, parent)), new: None };
        let rows = [(1, 2), (2, 1), (3, 77), (4, 3), (5, 5), (6, 1)];
        assert_eq!(references.circles(&rows.map(come)), [0, 1, 5]);
        assert_eq!(references.circles(&[(1, 2), (2, 1), (3, 4), (4, 9)].map(go)), [0, 1]);
    }

    #[test]
    fn a_row_waits_once_and_is_woken_by_whom_it_waits_for() {
        let tie = |n| Wait::ForParent((0, vec![Value::Int(n)]));
        let wanted = |key: u8| Wanted { key: vec![key], expected: None, row: Some(vec![]) };
        let mut parked = Parked::default();
        assert!(!parked.park(&wanted(1), Vec::new(), "no"));
        assert!(parked.park(&wanted(1), vec![tie(7), tie(8)], "no"));
        assert!(parked.park(&wanted(2), vec![tie(8)], "no"));
        assert_eq!(parked.woken(&[tie(9), Wait::ForChildren((0, vec![Value::Int(7)]))]), []);
        assert_eq!(parked.woken(&[tie(7)]), [wanted(1)]);
        assert_eq!(parked.left(), [(vec![2], "no".to_string())]);
        assert!(!parked.park(&wanted(2), vec![tie(8)], "still"));
        assert_eq!((parked.left(), parked.waiting.len()), (vec![], 0));
    }
}
