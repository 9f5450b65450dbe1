//! What is compared of a table: which columns, as what, which of them are the key, and which rows. Both sides of a pair have
//! one shape; how they come to it is said in [`super::terms`].

use std::borrow::Cow;

use reknit_core::DecodeError;
use reknit_core::bounds::{NAME_BYTES_MAX, VALUE_BYTES_MAX};
use reknit_core::canonical::{Reader, put_bytes, put_varint};
use reknit_core::row::{
    COLUMNS_MAX, Kind, Rounding, Row, RowError, Value, decode, decode_key, encode, encode_columns, encode_key,
};

use super::{Columns, Zone};

/// The first byte of the bytes of a shape of whole rows, of one that rounds or leaves rows out, of one with the names that its
/// columns have in the table, and of one with zones too.
const PLAIN: u8 = 1;
const ROUNDED: u8 = 2;
const NAMED: u8 = 3;
const ZONED: u8 = 4;
/// Words of SQL that tell of more than the row.
const MOVING: [&str; 14] = [
    "now",
    "today",
    "yesterday",
    "tomorrow",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "random",
    "select",
];
/// Bytes of a condition.
const FILTER_BYTES_MAX: usize = 4_096;

/// What is compared of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    columns: Vec<(String, Kind)>,
    /// How much of each column counts.
    roundings: Vec<Option<Rounding>>,
    /// The places of the key's columns, in the order of the key.
    key: Vec<usize>,
    /// The condition, in the database's language, that rows meet.
    filter: Option<String>,
    /// What each column is called in the table.
    sources: Vec<String>,
    /// The zone that the table's dates and times without one are of, in columns that are compared as instants.
    zones: Vec<Option<Zone>>,
}

/// How much of a table a shape had when its index was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// All of its columns.
    pub whole: bool,
    /// Its own key.
    pub keyed: bool,
}

/// A column of a shape that is made.
pub(super) struct Compared {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) rounding: Option<Rounding>,
    /// What it is called in the table.
    pub(super) source: String,
    /// The zone that what the table has without one is of.
    pub(super) zone: Option<Zone>,
}

impl Shape {
    /// A shape of these columns, which are in the order of their names; `key` holds some of those.
    pub(super) fn new(columns: Vec<Compared>, key: &[String], filter: Option<String>) -> Shape {
        let place = |name: &String| columns.iter().position(|column| column.name == *name);
        let key = key.iter().filter_map(place).collect();
        let (sources, zones) = (Vec::new(), Vec::new());
        let mut shape = Shape { columns: Vec::new(), roundings: Vec::new(), key, filter, sources, zones };
        for column in columns {
            shape.zones.push(column.zone);
            shape.columns.push((column.name, column.kind));
            shape.roundings.push(column.rounding);
            shape.sources.push(column.source);
        }
        shape
    }

    /// The same as a table would have it that calls its columns as they are called here, and needs no zones.
    #[must_use]
    pub fn without_own(&self) -> Shape {
        let sources = self.columns.iter().map(|(name, _)| name.clone()).collect();
        Shape { sources, zones: vec![None; self.columns.len()], ..self.clone() }
    }

    /// How much of a table it has.
    #[must_use]
    pub fn fit(&self, table: &Columns) -> Fit {
        let whole = table.columns.iter().all(|column| self.sources.contains(&column.name));
        Fit { whole, keyed: self.key_sources().eq(table.key.iter().map(String::as_str)) }
    }

    /// What of a table is no longer as this shape has it, if anything is: a column that is gone or means something else now;
    /// one that came, if it had all; or the key, if that was the table's own.
    #[must_use]
    pub fn misfit(&self, table: &Columns, fit: Fit) -> Option<String> {
        for (place, (source, (_, kind))) in self.sources.iter().zip(&self.columns).enumerate() {
            let Some(column) = table.column(source) else {
                return Some(format!("it has no column {source} any more"));
            };
            let rounded = self.roundings[place].is_some() && *kind == Kind::Float && column.kind == Kind::Decimal;
            let zoned = self.zones[place].is_some() && column.kind == Kind::DateTime;
            if kind.paired(column.kind) != Some(*kind) && !rounded && !zoned {
                return Some(format!("its column {source} is {column} now"));
            }
        }
        let now = self.fit(table);
        let new = table.columns.iter().find(|column| fit.whole && !self.sources.contains(&column.name));
        let new = new.map(|column| format!("its column {} is new", column.name));
        new.or_else(|| (fit.keyed && !now.keyed).then(|| format!("its key is {} now", table.key.join(", "))))
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

    /// What a column is called in the table; the place is that in [`Shape::columns`].
    #[must_use]
    pub fn source(&self, place: usize) -> &str {
        &self.sources[place]
    }

    /// What all columns are called in the table, in the order of [`Shape::columns`].
    #[must_use]
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// What the key's columns are called in the table, in the order of the key.
    pub fn key_sources(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|place| self.source(*place))
    }

    /// How much counts of a column, if not all; the place is that in [`Shape::columns`].
    #[must_use]
    pub fn rounding(&self, place: usize) -> Option<Rounding> {
        self.roundings[place]
    }

    /// The zone that the table's dates and times of a column are of where they say none; the place is that in
    /// [`Shape::columns`].
    #[must_use]
    pub fn zone(&self, place: usize) -> Option<&Zone> {
        self.zones[place].as_ref()
    }

    /// What a value of the table means, in the column of this place.
    #[must_use]
    pub fn meant(&self, place: usize, value: Value) -> Value {
        match &self.zones[place] {
            Some(zone) => zone.take(value),
            None => self.columns[place].1.take(value),
        }
    }

    /// Values of a row as the table is to have them.
    #[must_use]
    pub fn given<'a>(&self, values: &'a [Value]) -> Cow<'a, [Value]> {
        if self.zones.iter().all(Option::is_none) {
            return Cow::Borrowed(values);
        }
        Cow::Owned(values.iter().enumerate().map(|(place, value)| self.give(place, value.clone())).collect())
    }

    /// Values of a key, in its order, as the table is to have them.
    #[must_use]
    pub fn given_key(&self, values: Vec<Value>) -> Vec<Value> {
        self.key.iter().zip(values).map(|(place, value)| self.give(*place, value)).collect()
    }

    fn give(&self, place: usize, value: Value) -> Value {
        match &self.zones[place] {
            Some(zone) => zone.give(value),
            None => value,
        }
    }

    /// The condition, in the database's language, that rows meet.
    #[must_use]
    pub fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }

    /// The condition as a part of a longer one, whatever comment it ends with; true where all rows are meant.
    #[must_use]
    pub fn condition(&self) -> String {
        self.filter.as_ref().map_or_else(|| "TRUE".into(), |filter| format!("({filter}\n)"))
    }

    /// A word of the condition by which rows may come to meet it without being changed: it looks at the time, at chance or at
    /// other rows. Looks at words alone, so it may take a column's name for one.
    #[must_use]
    pub fn moving_word(&self) -> Option<&'static str> {
        let filter = self.filter.as_ref()?.to_lowercase();
        let words: Vec<&str> = filter.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        MOVING.into_iter().find(|moving| words.contains(moving))
    }

    /// Whether a key can be spelled in several ways, of which not all count.
    #[must_use]
    pub fn rounds_keys(&self) -> bool {
        self.key.iter().any(|place| self.roundings[*place].is_some())
    }

    /// What counts of a column's value.
    #[must_use]
    pub fn counts<'a>(&self, place: usize, value: &'a Value) -> Cow<'a, Value> {
        self.roundings[place].map_or(Cow::Borrowed(value), |rounding| Cow::Owned(rounding.of(value.clone())))
    }

    /// The encoding of what counts of a row, from its own encoding. What is no row of this shape counts whole.
    #[must_use]
    pub fn counting<'a>(&self, row: &'a [u8]) -> Cow<'a, [u8]> {
        if self.roundings.iter().all(Option::is_none) {
            return Cow::Borrowed(row);
        }
        let rounded = || {
            let mut counting = Row::new();
            for (place, value) in self.row_values(row).ok()?.into_iter().enumerate() {
                counting.set(self.columns[place].0.clone(), self.counts(place, &value).into_owned()).ok()?;
            }
            Some(encode(&counting))
        };
        rounded().map_or(Cow::Borrowed(row), Cow::Owned)
    }

    /// The key and the row, both encoded, of values in the order of [`Shape::columns`].
    ///
    /// # Errors
    /// What a row cannot hold.
    pub fn record(&self, values: Vec<Value>) -> Result<(Vec<u8>, Vec<u8>), RowError> {
        let values = self.all_meant(values);
        let mut row = Vec::new();
        encode_columns(&mut row, self.names().zip(&values))?;
        Ok((self.key_of(&values), row))
    }

    /// The key, encoded, of such values; puts the encoding of what counts of their row in place of what `counting` holds.
    ///
    /// # Errors
    /// What a row cannot hold.
    pub fn counted(&self, values: Vec<Value>, counting: &mut Vec<u8>) -> Result<Vec<u8>, RowError> {
        let values = self.all_meant(values);
        let key = self.key_of(&values);
        counting.clear();
        if self.roundings.iter().all(Option::is_none) {
            encode_columns(counting, self.names().zip(&values))?;
        } else {
            let counts: Vec<Cow<'_, Value>> =
                values.iter().enumerate().map(|(place, value)| self.counts(place, value)).collect();
            encode_columns(counting, self.names().zip(counts.iter().map(AsRef::as_ref)))?;
        }
        Ok(key)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    fn all_meant(&self, values: Vec<Value>) -> Vec<Value> {
        values.into_iter().enumerate().map(|(place, value)| self.meant(place, value)).collect()
    }

    /// The key, encoded, of what counts of values that are what the columns are compared as.
    #[must_use]
    pub fn key_of(&self, values: &[Value]) -> Vec<u8> {
        let part = |place: &usize| values.get(*place).map(|value| self.counts(*place, value).into_owned());
        encode_key(&self.key.iter().filter_map(part).collect::<Vec<_>>())
    }

    /// The key, encoded, of the values of its columns alone, in the order of the key, however they are spelled.
    #[must_use]
    pub fn key_from(&self, values: Vec<Value>) -> Vec<u8> {
        let part = |(place, value): (&usize, Value)| self.counts(*place, &self.meant(*place, value)).into_owned();
        encode_key(&self.key.iter().zip(values).map(part).collect::<Vec<_>>())
    }

    /// The key, encoded, of values as a table has them.
    #[must_use]
    pub fn key_as_stored(&self, values: &[Value]) -> Vec<u8> {
        self.key_from(self.key.iter().filter_map(|place| values.get(*place).cloned()).collect())
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
        if !row.columns().map(|(name, _)| name).eq(self.names()) {
            return Err(DecodeError::Malformed("columns of a row"));
        }
        Ok(row.columns().map(|(_, value)| value.clone()).collect())
    }

    /// The places of the key's columns among all, in the order of the key.
    #[must_use]
    pub fn key_places(&self) -> &[usize] {
        &self.key
    }

    /// The bytes that tell this shape from others, whatever its columns are called in a table.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let plain = self.filter.is_none() && self.roundings.iter().all(Option::is_none);
        let mut bytes = vec![if plain { PLAIN } else { ROUNDED }];
        put_varint(&mut bytes, self.columns.len() as u64);
        for ((name, kind), rounding) in self.columns.iter().zip(&self.roundings) {
            put_bytes(&mut bytes, name.as_bytes());
            put_bytes(&mut bytes, kind.name().as_bytes());
            if !plain {
                let rounding = rounding.map(|rounding| rounding.to_string()).unwrap_or_default();
                put_bytes(&mut bytes, rounding.as_bytes());
            }
        }
        put_varint(&mut bytes, self.key.len() as u64);
        for name in self.key() {
            put_bytes(&mut bytes, name.as_bytes());
        }
        if !plain {
            put_bytes(&mut bytes, self.filter.as_deref().unwrap_or_default().as_bytes());
        }
        bytes
    }

    /// The bytes that tell an index of this shape from others of the same table: another zone, another index.
    #[must_use]
    pub fn to_own_bytes(&self) -> Vec<u8> {
        if self.zones.iter().all(Option::is_none) { self.to_bytes() } else { self.to_named_bytes() }
    }

    /// The bytes of a shape with what its columns are called in the table, and of which zones they are there.
    #[must_use]
    pub fn to_named_bytes(&self) -> Vec<u8> {
        if self.zones.iter().any(Option::is_some) {
            let mut bytes = vec![ZONED];
            put_bytes(&mut bytes, &self.to_bytes());
            self.sources.iter().for_each(|source| put_bytes(&mut bytes, source.as_bytes()));
            for zone in &self.zones {
                put_bytes(&mut bytes, zone.as_ref().map(Zone::to_string).unwrap_or_default().as_bytes());
            }
            return bytes;
        }
        if self.columns.iter().map(|(name, _)| name).eq(&self.sources) {
            return self.to_bytes();
        }
        let mut bytes = vec![NAMED];
        put_bytes(&mut bytes, &self.to_bytes());
        self.sources.iter().for_each(|source| put_bytes(&mut bytes, source.as_bytes()));
        bytes
    }

    /// The shape of such bytes; without names of a table's own, its columns are called there as they are here.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but what [`Shape::to_bytes`] or [`Shape::to_named_bytes`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Shape, DecodeError> {
        let mut reader = Reader::new(bytes);
        let zoned = bytes.first() == Some(&ZONED);
        if bytes.first() != Some(&NAMED) && !zoned {
            let shape = Shape::read(&mut reader)?;
            return reader.end().map(|()| shape);
        }
        reader.u8()?;
        let mut named = Reader::new(reader.bytes("bytes of a shape", VALUE_BYTES_MAX)?);
        let mut shape = Shape::read(&mut named)?;
        named.end()?;
        let mut names = || (0..shape.columns.len()).map(|_| name(&mut reader)).collect::<Result<Vec<_>, _>>();
        let sources = names()?;
        let zones = if zoned { names()? } else { Vec::new() };
        reader.end()?;
        if sources == shape.sources && !zoned {
            return Err(DecodeError::Malformed("names of columns"));
        }
        let known = |name: &String| Zone::of_name(name).filter(|zone| zone.to_string() == *name);
        for (place, name) in zones.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            shape.zones[place] = Some(known(name).ok_or(DecodeError::Malformed("zone of a column"))?);
        }
        if zoned && shape.zones.iter().all(Option::is_none) {
            return Err(DecodeError::Malformed("zones of columns"));
        }
        shape.sources = sources;
        Ok(shape)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Shape, DecodeError> {
        let plain = match reader.u8()? {
            PLAIN => true,
            ROUNDED => false,
            other => return Err(DecodeError::Version(other)),
        };
        let (mut columns, mut roundings, mut key) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..reader.varint("columns", COLUMNS_MAX as u64)? {
            let name = name(reader)?;
            let kind = Kind::of_name(reader.bytes("bytes of a kind", NAME_BYTES_MAX)?);
            // Rows are encoded in the order of their columns here.
            if columns.last().is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::Malformed("order of columns"));
            }
            columns.push((name, kind.ok_or(DecodeError::Malformed("kind of a column"))?));
            let rounding = if plain { String::new() } else { self::name(reader)? };
            let known = Rounding::of_name(&rounding);
            if !rounding.is_empty() && known.is_none() {
                return Err(DecodeError::Malformed("rounding of a column"));
            }
            roundings.push(known);
        }
        for _ in 0..reader.varint("columns of a key", COLUMNS_MAX as u64)? {
            let name = name(reader)?;
            let place = columns.iter().position(|(column, _)| *column == name);
            key.push(place.ok_or(DecodeError::Malformed("column of a key"))?);
        }
        let filter = match plain {
            true => None,
            false => Some(text(reader.bytes("bytes of a condition", FILTER_BYTES_MAX)?)?),
        };
        let filter = filter.filter(|filter| !filter.is_empty());
        let sources = columns.iter().map(|(name, _)| name.clone()).collect();
        let zones = vec![None; columns.len()];
        Ok(Shape { columns, roundings, key, filter, sources, zones })
    }
}

fn name(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    text(reader.bytes("bytes of a column name", NAME_BYTES_MAX)?)
}

fn text(bytes: &[u8]) -> Result<String, DecodeError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed("text of a shape"))
}

#[cfg(test)]
mod tests {
    use super::super::{Column, Terms};
    use super::*;

    fn table(columns: &[(&str, Kind)], key: &[&str]) -> Columns {
        let declared = |kind: Kind| kind.name().to_uppercase();
        let column =
            |(name, kind): &(&str, Kind)| Column { name: (*name).into(), kind: *kind, declared: declared(*kind) };
        Columns {
            columns: columns.iter().map(column).collect(),
            key: key.iter().map(|name| (*name).to_string()).collect(),
        }
    }

    fn pair(columns: &[(&str, Kind)], key: &[&str], terms: &Terms) -> Shape {
        let table = table(columns, key);
        let [shape, _] = terms.shapes(("a", &table), ("b", &table)).expect("a shape");
        shape
    }

    #[test]
    fn a_table_that_has_changed_under_a_shape_is_told() {
        let is = table(&[("id", Kind::Int), ("at", Kind::Text)], &["id"]);
        let other = table(&[("id", Kind::Int), ("at", Kind::DateTime)], &["id"]);
        let [shape, _] = Terms::default().shapes(("a", &is), ("b", &other)).expect("a shape");
        let fit = shape.fit(&is);
        assert_eq!(fit, Fit { whole: true, keyed: true });
        assert_eq!((shape.misfit(&is, fit), shape.misfit(&other, fit)), (None, None));
        for (columns, key, told) in [
            (vec![("id", Kind::Int)], "id", "it has no column at any more"),
            (vec![("id", Kind::Int), ("at", Kind::Text), ("by", Kind::Text)], "id", "its column by is new"),
            (vec![("id", Kind::Int), ("at", Kind::Json)], "id", "its column at is json (JSON) now"),
            (vec![("id", Kind::Int), ("at", Kind::Text)], "at", "its key is at now"),
        ] {
            assert_eq!(shape.misfit(&table(&columns, &[key]), fit).as_deref(), Some(told));
        }
        // What was left out, or never was the table's own key, is no change.
        let more = table(&[("id", Kind::Int), ("at", Kind::Text), ("by", Kind::Text)], &["by"]);
        assert_eq!(shape.misfit(&more, Fit::default()), None);
    }

    #[test]
    fn shapes_are_told_apart_by_their_bytes() {
        let of = |columns: &[(&str, Kind)], key: &[&str]| pair(columns, key, &Terms::default()).to_bytes();
        let one = of(&[("a", Kind::Int), ("b", Kind::Text)], &["a"]);
        let golden = [&[1, 2, 1, b'a', 3], b"int".as_slice(), &[1, b'b', 4], b"text", &[1, 1, b'a']].concat();
        assert_eq!(one, golden, "the bytes by which indexes are found");
        for other in [
            of(&[("a", Kind::Int), ("b", Kind::Text)], &["b"]),
            of(&[("a", Kind::Int), ("b", Kind::Any)], &["a"]),
            of(&[("a", Kind::Int)], &["a"]),
            of(&[("ab", Kind::Int), ("", Kind::Text)], &["ab"]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn what_counts_of_values_is_what_counts_of_their_row() {
        let columns = [("a", Kind::Int), ("b", Kind::Text), ("c", Kind::Decimal)];
        let rounded = Terms { roundings: vec![(Some("b".into()), Rounding::Folded)], ..Terms::default() };
        let mut counting = b"of the row before".to_vec();
        for terms in [Terms::default(), rounded] {
            let shape = pair(&columns, &["b", "a"], &terms);
            for text in ["x", "X", "1.50"] {
                let values = vec![Value::Int(1), Value::Text("Ab".into()), Value::Text(text.into())];
                let (key, row) = shape.record(values.clone()).expect("a record");
                assert_eq!(shape.counted(values, &mut counting), Ok(key));
                assert_eq!(counting, shape.counting(&row).into_owned());
            }
        }
    }

    #[test]
    fn columns_of_a_shape_are_in_order() {
        let bytes = [&[1, 2, 1, b'b', 3], b"int".as_slice(), &[1, b'a', 4], b"text", &[1, 1, b'a']].concat();
        assert_eq!(Shape::from_bytes(&bytes), Err(DecodeError::Malformed("order of columns")));
    }

    #[test]
    fn what_is_rounded_left_out_and_called_otherwise_is_kept() {
        let columns = [("a", Kind::Int), ("b", Kind::Text)];
        let terms = Terms {
            roundings: vec![(Some("b".into()), Rounding::Folded)],
            filter: Some("a > 1".into()),
            renames: vec![("a".into(), "n".into())],
            ..Terms::default()
        };
        let shape = pair(&columns, &["a"], &terms);
        let parts: [&[u8]; 10] =
            [&[2, 2, 1, b'b', 4], b"text", &[2], b"ci", &[1, b'n', 3], b"int", &[0, 1, 1, b'n'], &[5], b"a > 1", &[]];
        assert_eq!(shape.to_bytes(), parts.concat(), "the bytes by which indexes are found");
        let named = [&[3, 28], parts.concat().as_slice(), &[1, b'b', 1, b'a']].concat();
        assert_eq!(shape.to_named_bytes(), named);
        let plain = pair(&columns, &["a"], &Terms::default());
        for shape in [shape, plain] {
            let bytes = shape.to_named_bytes();
            assert_eq!(Shape::from_bytes(&bytes), Ok(shape));
            for cut in 0..bytes.len() {
                assert!(Shape::from_bytes(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_condition_that_moves_by_itself_is_known_by_its_words() {
        let with = |filter: &str| {
            let terms = Terms { filter: Some(filter.into()), ..Terms::default() };
            pair(&[("a", Kind::Int)], &["a"], &terms).moving_word()
        };
        assert_eq!(with("at > now() - interval '7 days'"), Some("now"));
        assert_eq!(with("day < Date('NOW')"), Some("now"));
        assert_eq!(with("id IN (SELECT id FROM other)"), Some("select"));
        assert_eq!(with("at > '2026-01-01' AND known = 1"), None);
    }

    #[test]
    fn what_does_not_count_is_no_difference_and_travels_all_the_same() {
        let terms = Terms { roundings: vec![(None, Rounding::Folded)], ..Terms::default() };
        let shape = pair(&[("k", Kind::Text), ("v", Kind::Text)], &["k"], &terms);
        let text = |text: &str| Value::Text(text.into());
        let record = |k: &str, v: &str| shape.record(vec![text(k), text(v)]).expect("a record");
        let ((key, row), (same, other)) = (record("Ann", "X"), record("aNN", "x"));
        assert_eq!(key, same);
        assert_ne!(row, other);
        assert_eq!(shape.counting(&row), shape.counting(&other));
        assert_eq!(shape.row_values(&row), Ok(vec![text("Ann"), text("X")]));
    }
}
