//! What two tables are compared on: what they have in common, and what was asked for beyond that, become one [`Shape`] as
//! each of the two sees it.

use std::collections::BTreeMap;
use std::fmt;

use reknit_core::row::{Kind, Rounding};

use super::shape::Compared;
use super::{Column, Columns, Shape};

/// What is asked for of a comparison. Names are those that columns have once they are renamed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The columns that name a row, in place of the tables' own.
    pub key: Vec<String>,
    /// The columns that are compared beside the key; none: all.
    pub columns: Vec<String>,
    /// Columns that are not compared.
    pub ignore: Vec<String>,
    /// Columns that are called otherwise: as a table has them, and as they are called here.
    pub renames: Vec<(String, String)>,
    /// The condition, in the databases' language, that rows meet.
    pub filter: Option<String>,
    /// How much of a column counts; without a name, of each that can be rounded so.
    pub roundings: Vec<(Option<String>, Rounding)>,
}

impl fmt::Display for Terms {
    /// What was asked for, for people; nothing if that is nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
        let renamed = self.renames.iter().map(|(from, to)| format!("{from} as {to}")).collect::<Vec<_>>();
        let rounded = self.roundings.iter().map(|(name, rounding)| match name {
            Some(name) => format!("{name} by {rounding}"),
            None => format!("all by {rounding}"),
        });
        let parts = [
            list("by", &self.key),
            list("of columns", &self.columns),
            list("without", &self.ignore),
            list("with", &renamed),
            list("rounded:", &rounded.collect::<Vec<_>>()),
            self.filter.as_ref().map(|filter| format!("where {filter}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Why two tables have no shape in common.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// One has a column that the other has not.
    #[error(
        "{place} has no column {column}, which the other side has; nothing was compared. --ignore {column} leaves it out, \
         --rename NAME={column} tells what it is called there"
    )]
    Missing {
        /// Which table lacks it.
        place: String,
        /// The column.
        column: String,
    },
    /// Neither has a column that was asked for.
    #[error("neither side has a column {column}; nothing was compared")]
    Unknown {
        /// The column.
        column: String,
    },
    /// A column cannot be called so.
    #[error("{place} has a column {taken} already, so {column} cannot be called so; nothing was compared")]
    Taken {
        /// Which table.
        place: String,
        /// What it has.
        taken: String,
        /// The column that was to be called so.
        column: String,
    },
    /// A column of the key cannot be left out.
    #[error("the column {column} belongs to the key, so it cannot be left out; nothing was compared")]
    KeyIgnored {
        /// The column.
        column: String,
    },
    /// Neither side has a key.
    #[error("neither {a} nor {b} has a key; --key COLUMN[,COLUMN] names the columns that tell rows apart")]
    NoKey {
        /// One table.
        a: String,
        /// The other.
        b: String,
    },
    /// A column cannot be rounded so.
    #[error("the column {column} is compared as {}, of which nothing can be left by {rounding}; nothing was compared", kind.name())]
    Rounding {
        /// The column.
        column: String,
        /// What it is compared as.
        kind: Kind,
        /// What was asked for.
        rounding: Rounding,
    },
    /// Two columns cannot mean the same.
    #[error(
        "the column {column} is {} in {} and {} in {}, which cannot mean the same; nothing was compared. --ignore {column} \
         leaves it out",
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
    /// The keys are made of other columns.
    #[error(
        "the key of {} is {}, that of {} is {}; nothing was compared. --key COLUMN[,COLUMN] names columns that tell rows apart \
         on both sides",
        a.0, a.1, b.0, b.1
    )]
    Keys {
        /// One table and its key.
        a: (String, String),
        /// The other.
        b: (String, String),
    },
}

/// A table's columns by the names that they have here.
struct Side<'a> {
    place: &'a str,
    columns: BTreeMap<String, &'a Column>,
    key: Vec<String>,
}

impl Terms {
    /// The shape that two tables have in common, as each of them sees it; the same whichever comes first.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn shapes(&self, a: (&str, &Columns), b: (&str, &Columns)) -> Result<[Shape; 2], ShapeError> {
        if let Some((column, _)) =
            self.renames.iter().find(|(from, _)| [a.1, b.1].iter().all(|t| t.column(from).is_none()))
        {
            return Err(ShapeError::Unknown { column: column.clone() });
        }
        let (a, b) = (self.side(a)?, self.side(b)?);
        let key = self.key(&a, &b)?;
        let known = |name: &String| a.columns.contains_key(name) || b.columns.contains_key(name);
        let rounded = self.roundings.iter().filter_map(|(name, _)| name.as_ref());
        if let Some(column) = self.columns.iter().chain(&self.ignore).chain(rounded).find(|name| !known(name)) {
            return Err(ShapeError::Unknown { column: column.clone() });
        }
        if let Some(column) = self.ignore.iter().find(|name| key.contains(name)) {
            return Err(ShapeError::KeyIgnored { column: column.clone() });
        }
        let asked = |name: &String| self.columns.is_empty() || self.columns.contains(name) || key.contains(name);
        let wanted = |name: &&String| asked(name) && !self.ignore.contains(name);
        if let Some(column) = b.columns.keys().filter(wanted).find(|name| !a.columns.contains_key(*name)) {
            return Err(ShapeError::Missing { place: a.place.into(), column: column.clone() });
        }
        let mut both = [Vec::new(), Vec::new()];
        for name in a.columns.keys().filter(wanted) {
            let Some(pair) = b.columns.get(name).map(|other| [a.columns[name], *other]) else {
                return Err(ShapeError::Missing { place: b.place.into(), column: name.clone() });
            };
            let (kind, rounding) = self.compared(name, pair).map_err(|error| match error {
                // Said with the places.
                None => {
                    let [a, b] =
                        [(&a, pair[0]), (&b, pair[1])].map(|(side, column)| (side.place.into(), column.to_string()));
                    ShapeError::Kinds { column: name.clone(), a, b }
                }
                Some(error) => error,
            })?;
            for (columns, column) in both.iter_mut().zip(pair) {
                columns.push(Compared { name: name.clone(), kind, rounding, source: column.name.clone() });
            }
        }
        let filter = self.filter.clone().filter(|filter| !filter.trim().is_empty());
        Ok(both.map(|columns| Shape::new(columns, &key, filter.clone())))
    }

    fn side<'a>(&self, (place, table): (&'a str, &'a Columns)) -> Result<Side<'a>, ShapeError> {
        let called = |name: &String| {
            let renamed = self.renames.iter().find(|(from, _)| from == name);
            renamed.map_or_else(|| name.clone(), |(_, to)| to.clone())
        };
        let mut columns = BTreeMap::new();
        for column in &table.columns {
            let name = called(&column.name);
            if let Some(other) = columns.insert(name.clone(), column) {
                let renamed = if other.name == name { &column.name } else { &other.name };
                return Err(ShapeError::Taken { place: place.into(), taken: name, column: renamed.clone() });
            }
        }
        Ok(Side { place, columns, key: table.key.iter().map(called).collect() })
    }

    /// The key that is asked for, or that of the tables; a side without one takes the other's.
    fn key(&self, a: &Side<'_>, b: &Side<'_>) -> Result<Vec<String>, ShapeError> {
        let key = match [self.key.is_empty(), a.key.is_empty(), b.key.is_empty()] {
            [false, ..] => self.key.clone(),
            [_, true, true] => return Err(ShapeError::NoKey { a: a.place.into(), b: b.place.into() }),
            [_, true, false] => b.key.clone(),
            [_, false, true] => a.key.clone(),
            _ if a.key == b.key => a.key.clone(),
            _ => {
                let [a, b] = [a, b].map(|side| (side.place.to_string(), side.key.join(", ")));
                return Err(ShapeError::Keys { a, b });
            }
        };
        for column in &key {
            match [a, b].map(|side| side.columns.contains_key(column)) {
                [true, true] => {}
                [false, false] => return Err(ShapeError::Unknown { column: column.clone() }),
                [has, _] => {
                    let place = if has { b.place } else { a.place };
                    return Err(ShapeError::Missing { place: place.into(), column: column.clone() });
                }
            }
        }
        Ok(key)
    }

    /// What a column of both is compared as, and how much of it counts.
    fn compared(&self, name: &str, pair: [&Column; 2]) -> Result<(Kind, Option<Rounding>), Option<ShapeError>> {
        let mut of_it =
            self.roundings.iter().filter(|(of, _)| of.as_deref() == Some(name)).map(|(_, rounding)| *rounding);
        let mut of_all = self.roundings.iter().filter(|(of, _)| of.is_none()).map(|(_, rounding)| *rounding);
        let asked = of_it.next_back();
        let [a, b] = pair.map(|column| column.kind);
        let digits = of_all.clone().chain(asked).any(|rounding| matches!(rounding, Rounding::Digits(_)));
        let exact = matches!((a, b), (Kind::Decimal, Kind::Float) | (Kind::Float, Kind::Decimal));
        // An exact number and a binary one mean the same as far as digits are counted.
        let kind = if exact && digits { Some(Kind::Float) } else { a.paired(b) }.ok_or(None)?;
        match asked {
            Some(rounding) if !rounding.fits(kind) => {
                Err(Some(ShapeError::Rounding { column: name.into(), kind, rounding }))
            }
            Some(rounding) => Ok((kind, Some(rounding))),
            None => Ok((kind, of_all.rfind(|rounding| rounding.fits(kind)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use reknit_core::row::Value;

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

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    #[test]
    fn a_pair_has_one_shape_whichever_side_comes_first() {
        let a = table(&[("id", Kind::Int), ("at", Kind::Text), ("ok", Kind::Bool)], &["id"]);
        let b = table(&[("ok", Kind::Int), ("id", Kind::Any), ("at", Kind::DateTime)], &["id"]);
        let [one, other] = Terms::default().shapes(("a", &a), ("b", &b)).expect("a shape");
        assert_eq!(one, other);
        assert_eq!(Terms::default().shapes(("b", &b), ("a", &a)), Ok([other, one.clone()]));
        let columns = [("at", Kind::DateTime), ("id", Kind::Int), ("ok", Kind::Bool)];
        assert_eq!(one.columns(), columns.map(|(name, kind)| (name.to_string(), kind)));
        let values = vec![Value::Text("2026-01-01 00:00:00".into()), Value::Text("7".into()), Value::Int(1)];
        let typed = vec![Value::DateTime(1_767_225_600_000_000), Value::Int(7), Value::Bool(true)];
        assert_eq!(one.record(values), one.record(typed));
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let a = table(&[("id", Kind::Int), ("at", Kind::Timestamp)], &["id"]);
        let told = |b: &Columns| Terms::default().shapes(("a", &a), ("b", b)).expect_err("an error").to_string();
        let fewer = told(&table(&[("id", Kind::Int)], &["id"]));
        assert!(fewer.contains("b has no column at") && fewer.contains("--ignore at"), "{fewer}");
        let other = told(&table(&[("id", Kind::Int), ("at", Kind::DateTime)], &["id"]));
        let kinds = "at is timestamp (TIMESTAMP) in a and datetime (DATETIME) in b";
        assert!(other.contains(kinds), "{other}");
        let keyed = told(&table(&[("id", Kind::Int), ("at", Kind::Timestamp)], &["id", "at"]));
        assert!(keyed.contains("the key of a is id, that of b is id, at") && keyed.contains("--key"), "{keyed}");
    }

    #[test]
    fn columns_are_picked_left_out_and_called_otherwise() {
        let a = table(&[("id", Kind::Int), ("name", Kind::Text), ("at", Kind::Timestamp), ("x", Kind::Int)], &["id"]);
        let b = table(&[("nr", Kind::Int), ("name", Kind::Text), ("at", Kind::DateTime), ("y", Kind::Int)], &["nr"]);
        let terms =
            Terms { ignore: names(&["at", "x", "y"]), renames: vec![("nr".into(), "id".into())], ..Terms::default() };
        let [ours, theirs] = terms.shapes(("a", &a), ("b", &b)).expect("a shape");
        assert_eq!(ours.to_bytes(), theirs.to_bytes());
        assert_eq!(ours.columns().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["id", "name"]);
        assert_eq!((ours.key_sources().next(), theirs.key_sources().next()), (Some("id"), Some("nr")));
        let [theirs_first, _] = terms.shapes(("b", &b), ("a", &a)).expect("a shape");
        assert_eq!(theirs_first, theirs);
        let picked = Terms { columns: names(&["name"]), ..Terms { ignore: vec![], ..terms.clone() } };
        assert_eq!(picked.shapes(("a", &a), ("b", &b)), Ok([ours, theirs]));
        let told = |terms: Terms| terms.shapes(("a", &a), ("b", &b)).expect_err("an error").to_string();
        let unknown = told(Terms { ignore: names(&["z"]), ..terms.clone() });
        assert!(unknown.contains("neither side has a column z"), "{unknown}");
        let key = told(Terms { ignore: names(&["id"]), ..terms.clone() });
        assert!(key.contains("id belongs to the key"), "{key}");
        let taken = told(Terms { renames: vec![("nr".into(), "name".into())], ..terms.clone() });
        assert!(taken.contains("b has a column name already, so nr cannot be called so"), "{taken}");
        let nothing = told(Terms { renames: vec![("none".into(), "id".into())], ..terms.clone() });
        assert!(nothing.contains("neither side has a column none"), "{nothing}");
        let missing = told(Terms { columns: names(&["x"]), ignore: vec![], ..terms });
        assert!(missing.contains("b has no column x"), "{missing}");
    }

    #[test]
    fn a_side_without_a_key_takes_the_others() {
        let (a, b) = (table(&[("id", Kind::Text)], &[]), table(&[("id", Kind::Int)], &["id"]));
        let [shape, _] = Terms::default().shapes(("a", &a), ("b", &b)).expect("a shape");
        assert_eq!(shape.key().collect::<Vec<_>>(), ["id"]);
        let none = Terms::default().shapes(("a", &a), ("c", &a)).expect_err("an error").to_string();
        assert!(none.contains("neither a nor c has a key; --key"), "{none}");
        let asked = Terms { key: names(&["id"]), ..Terms::default() };
        assert!(asked.shapes(("a", &a), ("c", &a)).is_ok());
        let unknown = Terms { key: names(&["no"]), ..Terms::default() };
        assert!(unknown.shapes(("a", &a), ("b", &b)).is_err());
    }

    #[test]
    fn roundings_are_for_what_can_be_rounded_so() {
        let a = table(&[("id", Kind::Int), ("at", Kind::Timestamp), ("n", Kind::Float), ("d", Kind::Decimal)], &["id"]);
        let b = table(&[("id", Kind::Int), ("at", Kind::Timestamp), ("n", Kind::Float), ("d", Kind::Float)], &["id"]);
        let with = |roundings: Vec<(Option<String>, Rounding)>| Terms { roundings, ..Terms::default() };
        let all = with(vec![
            (None, Rounding::Digits(6)),
            (None, Rounding::Seconds),
            (Some("at".into()), Rounding::Milliseconds),
        ]);
        let [shape, _] = all.shapes(("a", &a), ("b", &b)).expect("a shape");
        let rounded: Vec<Option<Rounding>> = (0..4).map(|place| shape.rounding(place)).collect();
        let digits = Some(Rounding::Digits(6));
        assert_eq!(rounded, [Some(Rounding::Milliseconds), digits, None, digits], "at, d, id, n");
        assert!(with(vec![]).shapes(("a", &a), ("b", &b)).is_err(), "d is exact on one side alone");
        let wrong = with(vec![(None, Rounding::Digits(6)), (Some("id".into()), Rounding::Seconds)]);
        let told = wrong.shapes(("a", &a), ("b", &b)).expect_err("an error").to_string();
        assert!(told.contains("id is compared as int"), "{told}");
    }
}
