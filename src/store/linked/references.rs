//! Rows that refer to one another: which of one table are written before which, what one waits for, and which stay since others
//! would go along.
//!
//! Which columns refer to which is told by the adapter. In which order tables are written is for whoever repairs several; the
//! order itself is the core's.

use std::collections::BTreeMap;

use reknit_core::order::Order;
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

/// How tables of a database refer to one another, by what the database calls them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kin {
    /// The table itself, as in [`Cautions::cascades`](super::Cautions::cascades).
    pub name: String,
    /// The others that its rows refer to.
    pub parents: Vec<String>,
}

/// A reference of another table, with which rows of that go or change along.
#[cfg(any(feature = "linked-sqlite", feature = "linked-postgres"))]
#[derive(Clone, Debug)]
pub(super) struct Along {
    /// The other table, as SQL names it.
    pub(super) table: String,
    /// Its columns, and those that they refer to.
    pub(super) columns: Vec<String>,
    pub(super) referred: Vec<String>,
}

/// What is said of a row of a table that is to go, where that is done only if no other row would go or change along, those
/// of its own table or of others; none if no row ever does.
#[cfg(any(feature = "linked-sqlite", feature = "linked-postgres"))]
pub(super) fn stays(own: &[Reference], others: &[Along]) -> Option<String> {
    let mut tables: Vec<&str> = others.iter().map(|of| of.table.as_str()).collect();
    tables.sort_unstable();
    tables.dedup();
    match (own.iter().any(|of| of.cascades), tables.is_empty()) {
        (false, true) => None,
        (true, true) => Some("rows that refer to it would go or change along, and stay".into()),
        (own, false) => {
            let here = if own { ", here or" } else { "" };
            Some(format!("rows that refer to it{here} in {} would go or change along, and stay", tables.join(", ")))
        }
    }
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
    /// parents. Rows that refer to one another in a circle stand next to each other.
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
        for (parent, nth) in rows.iter().enumerate() {
            by_tie.extend(self.referred(values(*nth).unwrap_or_default()).into_iter().map(|tie| (tie, parent)));
        }
        let mut pairs = Vec::new();
        for (child, nth) in rows.iter().enumerate() {
            let ties = self.refers(values(*nth).unwrap_or_default());
            pairs.extend(ties.iter().filter_map(|tie| Some((child, *by_tie.get(tie)?))));
        }
        Order::of(rows.len(), &pairs).parents_first.into_iter().map(|place| rows[place]).collect()
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
        assert_eq!(order(&come), [2, 1, 0, 3]);
        let go = come.map(|(_, row)| (row, None));
        assert_eq!(order(&go), [3, 0, 1, 2]);
        let mixed = [(Some((1, 0)), None), (Some((2, 1)), Some((2, 9))), (None, Some((9, 0)))];
        assert_eq!(order(&mixed), [2, 1, 0]);
    }

    #[test]
    fn circles_stay_together_and_nothing_is_lost() {
        let come = [(None, Some((4, 1))), (None, Some((1, 2))), (None, Some((3, 0))), (None, Some((2, 1)))];
        assert_eq!(order(&come), [2, 1, 3, 0]);
        assert_eq!(order(&[]), Vec::<usize>::new());
    }

    #[test]
    fn rows_that_would_go_along_are_said_to_be_where_they_are() {
        let own = |cascades| [Reference { columns: vec![], referred: vec![], cascades }];
        let along = |table: &str| Along { table: table.into(), columns: vec![], referred: vec![] };
        assert_eq!(stays(&own(false), &[]), None);
        for (said, words) in [
            (stays(&own(true), &[]), "rows that refer to it would go"),
            (stays(&[], &[along("u"), along("t"), along("u")]), "rows that refer to it in t, u would go"),
            (stays(&own(true), &[along("t")]), "rows that refer to it, here or in t would go"),
        ] {
            assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{said:?}");
        }
    }
}
