//! Rows of one table that refer to one another: which are written before which, and what one waits for.
//!
//! Which columns refer to which is told by the adapter; references between tables are the database's own concern, since one
//! repair writes one table.

use std::collections::{BTreeMap, VecDeque};

use reknit_core::row::Value;

use super::Shape;

/// Columns of a table that refer to columns of the same table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Those that refer.
    pub columns: Vec<String>,
    /// Those that are referred to, in the same order.
    pub referred: Vec<String>,
    /// Whether rows go or change along with a row that they refer to.
    pub cascades: bool,
}

/// The references of a table, by the places of a shape's columns.
#[derive(Clone, Debug, Default)]
pub(super) struct References(Vec<(Vec<usize>, Vec<usize>)>);

/// What a row refers to, or is referred to by: which reference, and the values.
pub(super) type Tie = (usize, Vec<Value>);

/// A row before and after a change.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    pub(super) old: Option<Vec<Value>>,
    pub(super) new: Option<Vec<Value>>,
}

impl References {
    /// Those whose columns are all compared.
    pub(super) fn of(references: &[Reference], shape: &Shape) -> References {
        let place = |name: &String| shape.sources().iter().position(|source| source == name);
        let places = |names: &[String]| names.iter().map(place).collect::<Option<Vec<_>>>();
        let one = |of: &Reference| Some((places(&of.columns)?, places(&of.referred)?));
        References(references.iter().filter_map(one).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a row refers to; not itself.
    pub(super) fn refers(&self, row: &[Value]) -> Vec<Tie> {
        let ties = self.0.iter().enumerate().filter_map(|(nth, (from, to))| {
            let tie = tie(nth, from, row)?;
            (self::tie(nth, to, row).as_ref() != Some(&tie)).then_some(tie)
        });
        ties.collect()
    }

    /// By what others may refer to a row.
    pub(super) fn referred(&self, row: &[Value]) -> Vec<Tie> {
        self.0.iter().enumerate().filter_map(|(nth, (_, to))| tie(nth, to, row)).collect()
    }

    /// The order in which changes are made: what comes, parents before children; what changes; what goes, children before
    /// parents. Rows that refer to one another in a circle come last of their kind, in the order given.
    pub(super) fn order(&self, changes: &[Ends]) -> Vec<usize> {
        let of = |kind: fn(&Ends) -> bool| (0..changes.len()).filter(|nth| kind(&changes[*nth])).collect::<Vec<_>>();
        let mut come = of(|ends| ends.old.is_none() && ends.new.is_some());
        let mut go = of(|ends| ends.new.is_none());
        if !self.is_empty() {
            come = self.parents_first(&come, |nth| changes[nth].new.as_deref());
            go = self.parents_first(&go, |nth| changes[nth].old.as_deref());
            go.reverse();
        }
        come.extend(of(|ends| ends.old.is_some() && ends.new.is_some()));
        come.extend(go);
        come
    }

    fn parents_first<'a>(&self, rows: &[usize], values: impl Fn(usize) -> Option<&'a [Value]>) -> Vec<usize> {
        let mut by_tie: BTreeMap<Tie, usize> = BTreeMap::new();
        for nth in rows {
            by_tie.extend(self.referred(values(*nth).unwrap_or_default()).into_iter().map(|tie| (tie, *nth)));
        }
        let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut waits: BTreeMap<usize, usize> = rows.iter().map(|nth| (*nth, 0)).collect();
        for nth in rows {
            for tie in self.refers(values(*nth).unwrap_or_default()) {
                if let Some(parent) = by_tie.get(&tie) {
                    children.entry(*parent).or_default().push(*nth);
                    *waits.entry(*nth).or_default() += 1;
                }
            }
        }
        let mut ready: VecDeque<usize> = rows.iter().copied().filter(|nth| waits.get(nth) == Some(&0)).collect();
        let mut ordered = Vec::with_capacity(rows.len());
        while let Some(nth) = ready.pop_front() {
            waits.remove(&nth);
            ordered.push(nth);
            for child in children.remove(&nth).unwrap_or_default() {
                if let Some(left) = waits.get_mut(&child) {
                    *left -= 1;
                    if *left == 0 {
                        ready.push_back(child);
                    }
                }
            }
        }
        ordered.extend(rows.iter().copied().filter(|nth| waits.contains_key(nth)));
        ordered
    }
}

/// The values of some columns; none where one is NULL, which refers to nothing.
fn tie(nth: usize, places: &[usize], row: &[Value]) -> Option<Tie> {
    let one = |place: &usize| row.get(*place).filter(|value| **value != Value::Null).cloned();
    places.iter().map(one).collect::<Option<Vec<_>>>().map(|values| (nth, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number, and the number of a parent.
    type Numbers = Option<(i128, i128)>;

    fn order(changes: &[(Numbers, Numbers)]) -> Vec<usize> {
        let row = |(id, parent): (i128, i128)| {
            vec![Value::Int(id), if parent == 0 { Value::Null } else { Value::Int(parent) }]
        };
        let ends = |(old, new): &(Numbers, Numbers)| Ends { old: old.map(row), new: new.map(row) };
        References(vec![(vec![1], vec![0])]).order(&changes.iter().map(ends).collect::<Vec<_>>())
    }

    #[test]
    fn parents_come_before_children_and_go_after_them() {
        let come = [(None, Some((1, 2))), (None, Some((2, 3))), (None, Some((3, 0))), (None, Some((4, 4)))];
        assert_eq!(order(&come), [2, 3, 1, 0]);
        let go = come.map(|(_, row)| (row, None));
        assert_eq!(order(&go), [0, 1, 3, 2]);
        let mixed = [(Some((1, 0)), None), (Some((2, 1)), Some((2, 9))), (None, Some((9, 0)))];
        assert_eq!(order(&mixed), [2, 1, 0]);
    }

    #[test]
    fn circles_come_last_and_nothing_is_lost() {
        assert_eq!(order(&[(None, Some((1, 2))), (None, Some((2, 1))), (None, Some((3, 0)))]), [2, 0, 1]);
        assert_eq!(order(&[]), Vec::<usize>::new());
    }
}
