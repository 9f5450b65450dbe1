//! What is compared of a table: which columns, as what, and which of them are the key. Both sides of a pair have one shape.

use reknit_core::canonical::put_bytes;
use reknit_core::row::{Kind, Row, RowError, Value, encode, encode_key};

use super::Columns;

/// What is compared of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    columns: Vec<(String, Kind)>,
    /// The places of the key's columns, in the order of the key.
    key: Vec<usize>,
}

/// Why two tables have no shape in common.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// One has a column that the other has not.
    #[error("{place} has no column {column}, which the other side has; nothing was compared")]
    Missing {
        /// Which table lacks it.
        place: String,
        /// The column.
        column: String,
    },
    /// Two columns cannot mean the same.
    #[error(
        "the column {column} is {} in {} and {} in {}, which cannot mean the same; nothing was compared",
        a.1.name(), a.0, b.1.name(), b.0
    )]
    Kinds {
        /// The column.
        column: String,
        /// One table and its kind there.
        a: (String, Kind),
        /// The other.
        b: (String, Kind),
    },
    /// The keys are made of other columns.
    #[error("the key of {} is {}, that of {} is {}; nothing was compared", a.0, a.1, b.0, b.1)]
    Keys {
        /// One table and its key.
        a: (String, String),
        /// The other.
        b: (String, String),
    },
}

impl Shape {
    /// The shape of one table.
    #[must_use]
    pub fn of(table: &Columns) -> Shape {
        let place = |name: &String| table.columns.iter().position(|column| column.name == *name);
        Shape {
            columns: table.columns.iter().map(|column| (column.name.clone(), column.kind)).collect(),
            key: table.key.iter().filter_map(place).collect(),
        }
    }

    /// The shape that two tables have in common, whichever comes first.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn of_pair((a_place, a): (&str, &Columns), (b_place, b): (&str, &Columns)) -> Result<Shape, ShapeError> {
        if a.key != b.key {
            let [a, b] = [(a_place, a), (b_place, b)].map(|(place, table)| (place.to_string(), table.key.join(", ")));
            return Err(ShapeError::Keys { a, b });
        }
        let lacks = |place: &str, table: &Columns, of: &Columns| {
            let missing = of.columns.iter().find(|column| table.kind(&column.name).is_none());
            missing.map(|column| ShapeError::Missing { place: place.to_string(), column: column.name.clone() })
        };
        if let Some(error) = lacks(a_place, a, b).or_else(|| lacks(b_place, b, a)) {
            return Err(error);
        }
        let mut columns = Vec::new();
        for (name, [one, other]) in
            a.columns.iter().filter_map(|column| Some((&column.name, [column.kind, b.kind(&column.name)?])))
        {
            let Some(kind) = one.paired(other) else {
                let (a, b) = ((a_place.to_string(), one), (b_place.to_string(), other));
                return Err(ShapeError::Kinds { column: name.clone(), a, b });
            };
            columns.push((name.clone(), kind));
        }
        // One order, whichever side was named first.
        columns.sort();
        let key = a.key.iter().filter_map(|name| columns.iter().position(|(column, _)| column == name)).collect();
        Ok(Shape { columns, key })
    }

    /// The columns by name, with what they are compared as.
    #[must_use]
    pub fn columns(&self) -> &[(String, Kind)] {
        &self.columns
    }

    /// The names of the key's columns, in the order of the key.
    pub fn key(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|place| self.columns[*place].0.as_str())
    }

    /// The key and the row, both encoded, of values in the order of [`Shape::columns`].
    ///
    /// # Errors
    /// What a row cannot hold.
    pub fn record(&self, values: Vec<Value>) -> Result<(Vec<u8>, Vec<u8>), RowError> {
        let values: Vec<Value> = self.columns.iter().zip(values).map(|((_, kind), value)| kind.take(value)).collect();
        let key: Vec<Value> = self.key.iter().filter_map(|place| values.get(*place).cloned()).collect();
        let mut row = Row::new();
        for ((name, _), value) in self.columns.iter().zip(values) {
            row.set(name.clone(), value)?;
        }
        Ok((encode_key(&key), encode(&row)))
    }

    /// The bytes that tell this shape from others.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        for (name, kind) in &self.columns {
            put_bytes(&mut bytes, name.as_bytes());
            put_bytes(&mut bytes, kind.name().as_bytes());
        }
        bytes.push(0);
        for name in self.key() {
            put_bytes(&mut bytes, name.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::Column;
    use super::*;

    fn table(columns: &[(&str, Kind)], key: &[&str]) -> Columns {
        let column =
            |(name, kind): &(&str, Kind)| Column { name: (*name).into(), kind: *kind, declared: String::new() };
        Columns {
            columns: columns.iter().map(column).collect(),
            key: key.iter().map(|name| (*name).to_string()).collect(),
        }
    }

    #[test]
    fn a_pair_has_one_shape_whichever_side_comes_first() {
        let a = table(&[("id", Kind::Int), ("at", Kind::Text), ("ok", Kind::Bool)], &["id"]);
        let b = table(&[("ok", Kind::Int), ("id", Kind::Any), ("at", Kind::DateTime)], &["id"]);
        let one = Shape::of_pair(("a", &a), ("b", &b)).expect("a shape");
        assert_eq!(Shape::of_pair(("b", &b), ("a", &a)), Ok(one.clone()));
        let columns = [("at", Kind::DateTime), ("id", Kind::Int), ("ok", Kind::Bool)];
        assert_eq!(one.columns(), columns.map(|(name, kind)| (name.to_string(), kind)));
        let values = vec![Value::Text("2026-01-01 00:00:00".into()), Value::Text("7".into()), Value::Int(1)];
        let typed = vec![Value::DateTime(1_767_225_600_000_000), Value::Int(7), Value::Bool(true)];
        assert_eq!(one.record(values), one.record(typed));
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let a = table(&[("id", Kind::Int), ("at", Kind::Timestamp)], &["id"]);
        let told = |b: &Columns| Shape::of_pair(("a", &a), ("b", b)).expect_err("an error").to_string();
        let fewer = told(&table(&[("id", Kind::Int)], &["id"]));
        assert!(fewer.contains("b has no column at"), "{fewer}");
        let other = told(&table(&[("id", Kind::Int), ("at", Kind::DateTime)], &["id"]));
        assert!(other.contains("at is timestamp in a and datetime in b"), "{other}");
        let keyed = told(&table(&[("id", Kind::Int), ("at", Kind::Timestamp)], &["id", "at"]));
        assert!(keyed.contains("the key of a is id, that of b is id, at"), "{keyed}");
    }

    #[test]
    fn shapes_are_told_apart_by_their_bytes() {
        let of = |columns: &[(&str, Kind)], key: &[&str]| Shape::of(&table(columns, key)).to_bytes();
        let one = of(&[("a", Kind::Int), ("b", Kind::Text)], &["a"]);
        for other in [
            of(&[("a", Kind::Int), ("b", Kind::Text)], &["b"]),
            of(&[("a", Kind::Int), ("b", Kind::Any)], &["a"]),
            of(&[("a", Kind::Int)], &["a"]),
            of(&[("ab", Kind::Int), ("", Kind::Text)], &["ab"]),
        ] {
            assert_ne!(one, other);
        }
    }
}
