//! What is compared of a table: which columns, as what, and which of them are the key. Both sides of a pair have one shape.

use reknit_core::DecodeError;
use reknit_core::bounds::NAME_BYTES_MAX;
use reknit_core::canonical::{Reader, put_bytes, put_varint};
use reknit_core::row::{COLUMNS_MAX, Kind, Row, RowError, Value, decode, decode_key, encode, encode_key};

use super::Columns;

/// The first byte of a shape's bytes.
const FORMAT: u8 = 1;

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
        a.1, a.0, b.1, b.0
    )]
    Kinds {
        /// The column.
        column: String,
        /// One table and what it is there.
        a: (String, String),
        /// The other.
        b: (String, String),
    },
    /// Neither side says what names a row.
    #[error(
        "neither {a} nor {b} says which columns name a row, as a file does not; compare it with a table that has a primary \
         key; nothing was compared"
    )]
    NoKey {
        /// One side.
        a: String,
        /// The other.
        b: String,
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
    /// The shape that two tables have in common, whichever comes first. One that has no key of its own, as a file, is keyed as
    /// the other.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn of_pair((a_place, a): (&str, &Columns), (b_place, b): (&str, &Columns)) -> Result<Shape, ShapeError> {
        let key = if a.key.is_empty() { &b.key } else { &a.key };
        if key.is_empty() {
            return Err(ShapeError::NoKey { a: a_place.into(), b: b_place.into() });
        }
        if !b.key.is_empty() && *key != b.key {
            let [a, b] = [(a_place, a), (b_place, b)].map(|(place, table)| (place.to_string(), table.key.join(", ")));
            return Err(ShapeError::Keys { a, b });
        }
        if let Some(column) = b.columns.iter().find(|column| a.column(&column.name).is_none()) {
            return Err(ShapeError::Missing { place: a_place.into(), column: column.name.clone() });
        }
        let mut columns = Vec::new();
        for one in &a.columns {
            let Some(other) = b.column(&one.name) else {
                return Err(ShapeError::Missing { place: b_place.into(), column: one.name.clone() });
            };
            let Some(kind) = one.kind.paired(other.kind) else {
                let (a, b) = ((a_place.to_string(), one.to_string()), (b_place.to_string(), other.to_string()));
                return Err(ShapeError::Kinds { column: one.name.clone(), a, b });
            };
            columns.push((one.name.clone(), kind));
        }
        // One order, whichever side was named first.
        columns.sort();
        let key = key.iter().filter_map(|name| columns.iter().position(|(column, _)| column == name)).collect();
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
        let key = self.key_of(&values);
        let mut row = Row::new();
        for ((name, _), value) in self.columns.iter().zip(values) {
            row.set(name.clone(), value)?;
        }
        Ok((key, encode(&row)))
    }

    /// The key, encoded, of values that are what the columns are compared as.
    #[must_use]
    pub fn key_of(&self, values: &[Value]) -> Vec<u8> {
        let key: Vec<Value> = self.key.iter().filter_map(|place| values.get(*place).cloned()).collect();
        encode_key(&key)
    }

    /// The key, encoded, of values as a table has them.
    #[must_use]
    pub fn key_as_stored(&self, values: &[Value]) -> Vec<u8> {
        let part = |place: &usize| Some(self.columns[*place].1.take(values.get(*place)?.clone()));
        encode_key(&self.key.iter().filter_map(part).collect::<Vec<_>>())
    }

    /// The values of a key's columns, in the order of the key, from its encoding.
    ///
    /// # Errors
    /// [`DecodeError`] for what is no key of this shape.
    pub fn key_values(&self, key: &[u8]) -> Result<Vec<Value>, DecodeError> {
        let values = decode_key(key)?;
        if values.len() == self.key.len() { Ok(values) } else { Err(DecodeError::Malformed("columns of a key")) }
    }

    /// The values of a row, in the order of [`Shape::columns`], from its encoding.
    ///
    /// # Errors
    /// [`DecodeError`] for what is no row of this shape.
    pub fn row_values(&self, row: &[u8]) -> Result<Vec<Value>, DecodeError> {
        let row = decode(row)?;
        let names = row.columns().map(|(name, _)| name).eq(self.columns.iter().map(|(name, _)| name.as_str()));
        if !names {
            return Err(DecodeError::Malformed("columns of a row"));
        }
        Ok(row.columns().map(|(_, value)| value.clone()).collect())
    }

    /// The places of the key's columns among all, in the order of the key.
    #[must_use]
    pub fn key_places(&self) -> &[usize] {
        &self.key
    }

    /// The bytes that tell this shape from others.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        put_varint(&mut bytes, self.columns.len() as u64);
        for (name, kind) in &self.columns {
            put_bytes(&mut bytes, name.as_bytes());
            put_bytes(&mut bytes, kind.name().as_bytes());
        }
        put_varint(&mut bytes, self.key.len() as u64);
        for name in self.key() {
            put_bytes(&mut bytes, name.as_bytes());
        }
        bytes
    }

    /// The shape of such bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but what [`Shape::to_bytes`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Shape, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            FORMAT => {}
            other => return Err(DecodeError::Version(other)),
        }
        let name = |reader: &mut Reader<'_>| {
            let name = reader.bytes("bytes of a column name", NAME_BYTES_MAX)?;
            String::from_utf8(name.to_vec()).map_err(|_| DecodeError::Malformed("name of a column"))
        };
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for _ in 0..reader.varint("columns", COLUMNS_MAX as u64)? {
            let name = name(&mut reader)?;
            let kind = Kind::of_name(reader.bytes("bytes of a kind", NAME_BYTES_MAX)?);
            columns.push((name, kind.ok_or(DecodeError::Malformed("kind of a column"))?));
        }
        for _ in 0..reader.varint("columns of a key", COLUMNS_MAX as u64)? {
            let name = name(&mut reader)?;
            let place = columns.iter().position(|(column, _)| *column == name);
            key.push(place.ok_or(DecodeError::Malformed("column of a key"))?);
        }
        reader.end()?;
        Ok(Shape { columns, key })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Column;
    use super::*;

    fn table(columns: &[(&str, Kind)], key: &[&str]) -> Columns {
        let column = |(name, kind): &(&str, Kind)| Column {
            name: (*name).into(),
            kind: *kind,
            declared: kind.name().to_uppercase(),
        };
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
        let kinds = "at is timestamp (TIMESTAMP) in a and datetime (DATETIME) in b";
        assert!(other.contains(kinds), "{other}");
        let keyed = told(&table(&[("id", Kind::Int), ("at", Kind::Timestamp)], &["id", "at"]));
        assert!(keyed.contains("the key of a is id, that of b is id, at"), "{keyed}");
    }

    #[test]
    fn a_side_without_a_key_is_keyed_as_the_other() {
        let [keyed, bare] = [["k"].as_slice(), &[]].map(|key| table(&[("k", Kind::Int), ("v", Kind::Text)], key));
        let one = Shape::of_pair(("a", &keyed), ("b", &bare)).expect("a shape");
        assert_eq!(one.key().collect::<Vec<_>>(), ["k"]);
        assert_eq!(Shape::of_pair(("b", &bare), ("a", &keyed)), Ok(one));
        let none = Shape::of_pair(("a", &bare), ("b", &bare)).expect_err("an error").to_string();
        assert!(none.contains("neither a nor b says"), "{none}");
    }

    #[test]
    fn shapes_are_told_apart_by_their_bytes() {
        let of = |columns: &[(&str, Kind)], key: &[&str]| {
            let table = table(columns, key);
            Shape::of_pair(("a", &table), ("b", &table)).expect("a shape").to_bytes()
        };
        let one = of(&[("a", Kind::Int), ("b", Kind::Text)], &["a"]);
        let golden = [&[1, 2, 1, b'a', 3], b"int".as_slice(), &[1, b'b', 4], b"text", &[1, 1, b'a']].concat();
        assert_eq!(one, golden, "the bytes by which indexes are found");
        assert_eq!(Shape::from_bytes(&one).map(|shape| shape.to_bytes()), Ok(one.clone()));
        for cut in 0..one.len() {
            assert!(Shape::from_bytes(&one[..cut]).is_err());
        }
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
