//! What two tables are compared on: what they have in common, and what was asked for beyond that, become one [`Shape`] as
//! each of the two sees it.

use std::collections::BTreeMap;
use std::fmt;

use reknit_core::row::{Kind, Rounding, Tolerance, Value};

use super::shape::Compared;
use super::{Column, Columns, Shape, Table, Zone};

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
    /// Of which zones dates and times without one are.
    pub zones: Vec<Zoned>,
    /// How far apart values of a column may be that is no difference worth mention; no part of what is digested.
    pub tolerances: Vec<(String, Tolerance)>,
}

/// Of which zone dates and times are that say none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zoned {
    /// Those of this side, the first (0) or the second (1); none: those of both.
    pub side: Option<usize>,
    /// Those of this column; none: those of each that is compared as instants then.
    pub column: Option<String>,
    /// The zone.
    pub zone: Zone,
}

impl fmt::Display for Zoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.side.map(|side| SIDES[side]).into_iter().chain(self.column.as_deref());
        let place = place.collect::<Vec<_>>().join(".");
        if place.is_empty() { write!(f, "{}", self.zone) } else { write!(f, "{place} in {}", self.zone) }
    }
}

/// What the sides are called.
const SIDES: [&str; 2] = ["a", "b"];

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
            list("of zone", &self.zones.iter().map(Zoned::to_string).collect::<Vec<_>>()),
            list("tolerating", &self.tolerances.iter().map(|(name, by)| format!("{name} by {by}")).collect::<Vec<_>>()),
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
    /// Values of a column cannot be as far apart.
    #[error("the column {column} is {why}, so nothing of it can be tolerated by {tolerance}; nothing was compared")]
    Tolerance {
        /// The column.
        column: String,
        /// What it is.
        why: String,
        /// What was asked for.
        tolerance: Tolerance,
    },
    /// One side tells instants, the other dates and times of no zone.
    #[error(
        "the column {column} tells instants in {instants} and dates and times without a zone in {civil}; nothing was \
         compared. --zone {side}=ZONE says of which zone those are, as in --zone {side}=Europe/Berlin; --ignore {column} \
         leaves it out"
    )]
    Zoneless {
        /// The column.
        column: String,
        /// The table that tells instants.
        instants: String,
        /// The other one.
        civil: String,
        /// What that side is called.
        side: &'static str,
    },
    /// There is nothing of which a zone could tell more.
    #[error(
        "--zone {zone} tells nothing: there is no such column with dates and times without a zone on that side and instants \
         on the other; nothing was compared. Where both say no zone, both sides take one: --zone a=ZONE --zone b=ZONE"
    )]
    Zone {
        /// What was asked for.
        zone: String,
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
        let zoned = self.zones.iter().filter_map(|zoned| zoned.column.as_ref());
        let zoned = zoned.chain(self.tolerances.iter().map(|(name, _)| name));
        if let Some(column) =
            self.columns.iter().chain(&self.ignore).chain(rounded).chain(zoned).find(|name| !known(name))
        {
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
        let (mut both, mut used) = ([Vec::new(), Vec::new()], vec![false; self.zones.len()]);
        for name in a.columns.keys().filter(wanted) {
            let Some(pair) = b.columns.get(name).map(|other| [a.columns[name], *other]) else {
                return Err(ShapeError::Missing { place: b.place.into(), column: name.clone() });
            };
            let zones = self.zones(name, pair.map(|column| column.kind), &mut used);
            let (kind, rounding) = self.compared(name, pair, &zones).map_err(|error| match error {
                // Said with the places.
                None => {
                    let civil = pair.iter().position(|column| column.kind == Kind::DateTime);
                    if let (Some(civil), Some(_)) = (civil, pair.iter().find(|column| column.kind == Kind::Timestamp)) {
                        let places = [a.place, b.place].map(String::from);
                        let (civil, instants, side) = (places[civil].clone(), places[1 - civil].clone(), SIDES[civil]);
                        return ShapeError::Zoneless { column: name.clone(), instants, civil, side };
                    }
                    let [a, b] =
                        [(&a, pair[0]), (&b, pair[1])].map(|(side, column)| (side.place.into(), column.to_string()));
                    ShapeError::Kinds { column: name.clone(), a, b }
                }
                Some(error) => error,
            })?;
            for ((columns, column), zone) in both.iter_mut().zip(pair).zip(zones) {
                columns.push(Compared { name: name.clone(), kind, rounding, source: column.name.clone(), zone });
            }
        }
        for (column, tolerance) in &self.tolerances {
            let compared = both[0].iter().find(|compared: &&Compared| compared.name == *column);
            let why = match compared {
                Some(_) if key.contains(column) => "part of the key".to_string(),
                Some(compared) if tolerance.fits(compared.kind) => continue,
                Some(compared) => format!("compared as {}", compared.kind.name()),
                None => "left out".to_string(),
            };
            let (column, tolerance) = (column.clone(), tolerance.clone());
            return Err(ShapeError::Tolerance { column, why, tolerance });
        }
        if let Some((zoned, _)) = self.zones.iter().zip(used).find(|(_, used)| !used) {
            return Err(ShapeError::Zone { zone: zoned.to_string() });
        }
        let filter = self.filter.clone().filter(|filter| !filter.trim().is_empty());
        Ok(both.map(|columns| Shape::new(columns, &key, filter.clone())))
    }

    /// Whether two rows of a shape differ, as far as they count, by no more than is tolerated; their values are in the order of
    /// [`Shape::columns`].
    #[must_use]
    pub fn tolerates(&self, shape: &Shape, a: &[Value], b: &[Value]) -> bool {
        shape.columns().iter().enumerate().all(|(place, (name, _))| {
            let (Some(a), Some(b)) = (a.get(place), b.get(place)) else { return false };
            let (a, b) = (shape.counts(place, a), shape.counts(place, b));
            a == b || self.tolerates_of(name, &a, &b)
        })
    }

    /// Whether what counts of two values of a column is as near as is tolerated.
    pub(super) fn tolerates_of(&self, column: &str, a: &Value, b: &Value) -> bool {
        self.tolerances.iter().any(|(of, tolerance)| of == column && tolerance.is_kept(a, b))
    }

    /// These terms, and UTC as the zone of each column of which one has to be said: the columns, and what that would be as an
    /// argument. For a look at what the zone might be.
    #[must_use]
    pub fn with_zones_for(&self, (a, b): (&dyn Table, &dyn Table)) -> (Terms, Vec<(String, String)>) {
        let (mut terms, mut zoneless) = (self.clone(), Vec::new());
        let Some(zone) = Zone::of_name("UTC") else { return (terms, zoneless) };
        let sides = [(a.place(), a.columns()), (b.place(), b.columns())];
        while let Err(ShapeError::Zoneless { column, side, .. }) = terms.shapes(sides[0], sides[1]) {
            let side = SIDES.iter().position(|name| *name == side);
            let zoned = Zoned { side, column: Some(column.clone()), zone: zone.clone() };
            let typed = side.map_or_else(String::new, |side| format!("{}.{column}={zone}", SIDES[side]));
            // Each column once.
            if terms.zones.contains(&zoned) {
                break;
            }
            zoneless.push((column, typed));
            terms.zones.push(zoned);
        }
        (terms, zoneless)
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

    /// Of which zones a column of these kinds is on both sides, where that makes it one of instants; those that do are used.
    fn zones(&self, name: &str, kinds: [Kind; 2], used: &mut [bool]) -> [Option<Zone>; 2] {
        let civil = |kind| matches!(kind, Kind::DateTime | Kind::Text | Kind::Any | Kind::Spelled);
        let of = |side: usize| {
            let fits = |zoned: &Zoned| {
                zoned.side.is_none_or(|of| of == side) && zoned.column.as_deref().is_none_or(|of| of == name)
            };
            // One that names a column goes before one that does not.
            let fitting = self.zones.iter().enumerate().filter(|(_, zoned)| civil(kinds[side]) && fits(zoned));
            fitting.max_by_key(|(_, zoned)| (zoned.column.is_some(), zoned.side.is_some()))
        };
        let found = [of(0), of(1)];
        let means = match (kinds, &found) {
            ([Kind::Timestamp, other] | [other, Kind::Timestamp], _) => civil(other),
            // Two that say no zone mean instants as soon as both are said to be of one, unless it is the same.
            (kinds, [Some((_, a)), Some((_, b))]) => kinds.contains(&Kind::DateTime) && a.zone != b.zone,
            _ => false,
        };
        found.map(|found| {
            let (nth, zoned) = found.filter(|_| means)?;
            used[nth] = true;
            Some(zoned.zone.clone())
        })
    }

    /// What a column of both is compared as, and how much of it counts.
    fn compared(
        &self,
        name: &str,
        pair: [&Column; 2],
        zones: &[Option<Zone>; 2],
    ) -> Result<(Kind, Option<Rounding>), Option<ShapeError>> {
        let mut of_it =
            self.roundings.iter().filter(|(of, _)| of.as_deref() == Some(name)).map(|(_, rounding)| *rounding);
        let mut of_all = self.roundings.iter().filter(|(of, _)| of.is_none()).map(|(_, rounding)| *rounding);
        let asked = of_it.next_back();
        let [a, b] = pair.map(|column| column.kind);
        let digits = of_all.clone().chain(asked).any(|rounding| matches!(rounding, Rounding::Digits(_)));
        let exact = matches!((a, b), (Kind::Decimal, Kind::Float) | (Kind::Float, Kind::Decimal));
        let kind = match () {
            // An exact number and a binary one mean the same as far as digits are counted.
            () if exact && digits => Some(Kind::Float),
            () if zones.iter().any(Option::is_some) => Some(Kind::Timestamp),
            () => a.paired(b),
        };
        let kind = match kind.ok_or(None)? {
            // A text may be said to spell JSON.
            Kind::Text | Kind::Any | Kind::Spelled if asked == Some(Rounding::Semantic) => Kind::Json,
            kind => kind,
        };
        match asked {
            Some(rounding) if !rounding.fits(kind) => {
                Err(Some(ShapeError::Rounding { column: name.into(), kind, rounding }))
            }
            Some(rounding) => Ok((kind, Some(rounding))),
            // The elements of an array have a type, those of a list in JSON none: how a number is spelled tells nothing.
            None if kind == Kind::Json && [a, b].contains(&Kind::Array) => Ok((kind, Some(Rounding::Semantic))),
            None => Ok((kind, of_all.rfind(|rounding| rounding.fits(kind)))),
        }
    }
}

#[cfg(test)]
mod tests {
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
        let other = told(&table(&[("id", Kind::Int), ("at", Kind::Date)], &["id"]));
        let kinds = "at is timestamp (TIMESTAMP) in a and date (DATE) in b";
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
    fn a_zone_makes_times_without_one_instants() {
        let of = |at: Kind, on: Kind| table(&[("id", Kind::Int), ("at", at), ("on", on)], &["id"]);
        let (instants, civil) = (of(Kind::Timestamp, Kind::DateTime), of(Kind::DateTime, Kind::DateTime));
        let zoned = |side, column: Option<&str>, name| Zoned {
            side,
            column: column.map(String::from),
            zone: Zone::of_name(name).expect("a zone"),
        };
        let with = |zones: Vec<Zoned>| Terms { zones, ..Terms::default() };
        let told = with(vec![]).shapes(("x", &instants), ("y", &civil)).expect_err("no zone").to_string();
        assert!(told.contains("without a zone in y; nothing was compared. --zone b=ZONE"), "{told}");
        let told = with(vec![]).shapes(("y", &civil), ("x", &instants)).expect_err("no zone").to_string();
        assert!(told.contains("--zone a=ZONE"), "{told}");
        let berlin = with(vec![zoned(Some(1), None, "Europe/Berlin")]);
        let [ours, theirs] = berlin.shapes(("x", &instants), ("y", &civil)).expect("shapes");
        assert_eq!(ours.to_bytes(), theirs.to_bytes());
        assert_ne!(ours.to_own_bytes(), theirs.to_own_bytes());
        let kinds = ours.columns().iter().map(|(name, kind)| (name.as_str(), *kind)).collect::<Vec<_>>();
        assert_eq!(kinds, [("at", Kind::Timestamp), ("id", Kind::Int), ("on", Kind::DateTime)]);
        let text = |text: &str| Value::Text(text.into());
        let (at, on) = (text("2026-07-01 12:00:00"), text("2026-01-01 00:00:00"));
        let instant = Value::Timestamp(1_782_900_000_000_000);
        let here = theirs.record(vec![at, Value::Int(1), on.clone()]);
        assert_eq!(here, ours.record(vec![instant.clone(), Value::Int(1), on.clone()]));
        assert_eq!(theirs.given(&[instant.clone(), on.clone()])[0].to_string(), "2026-07-01T12:00:00");
        assert_eq!(ours.given(&[instant.clone(), on])[0], instant);
        assert_eq!(Shape::from_bytes(&theirs.to_named_bytes()).as_ref(), Ok(&theirs));
        assert!(theirs.misfit(&civil, theirs.fit(&civil)).is_none());
        // Where neither says a zone, both are told one.
        let unused = |zones| with(zones).shapes(("x", &civil), ("y", &civil)).expect_err("unused").to_string();
        let told = unused(vec![zoned(Some(1), None, "UTC")]);
        assert!(told.contains("--zone b in UTC tells nothing"), "{told}");
        unused(vec![zoned(None, None, "UTC")]);
        let both = with(vec![zoned(Some(0), Some("at"), "UTC"), zoned(Some(1), Some("at"), "Europe/Berlin")]);
        let [ours, theirs] = both.shapes(("x", &civil), ("y", &civil)).expect("shapes");
        let zones = [&ours, &theirs].map(|shape| shape.zone(0).map(Zone::to_string));
        assert_eq!(zones, [Some("UTC".into()), Some("Europe/Berlin".into())]);
        assert_eq!((ours.zone(2), both.to_string().as_str()), (None, "of zone a.at in UTC, b.at in Europe/Berlin"));
        let none = with(vec![zoned(Some(0), Some("no"), "UTC")]).shapes(("x", &civil), ("y", &instants));
        assert_eq!(none, Err(ShapeError::Unknown { column: "no".into() }));
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
        let texts = table(&[("id", Kind::Int), ("doc", Kind::Text), ("kept", Kind::Text)], &["id"]);
        let json = with(vec![(None, Rounding::Semantic), (Some("doc".into()), Rounding::Semantic)]);
        let [shape, _] = json.shapes(("a", &texts), ("b", &texts)).expect("a shape");
        assert_eq!(
            shape.columns().iter().map(|(_, kind)| *kind).collect::<Vec<_>>(),
            [Kind::Json, Kind::Int, Kind::Text]
        );
        assert!(shape.misfit(&texts, shape.fit(&texts)).is_none());
        let wrong = with(vec![(None, Rounding::Digits(6)), (Some("id".into()), Rounding::Seconds)]);
        let told = wrong.shapes(("a", &a), ("b", &b)).expect_err("an error").to_string();
        assert!(told.contains("id is compared as int"), "{told}");
    }
}
