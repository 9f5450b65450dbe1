//! What a column means, whatever its store calls it, and how a value that a store gives becomes one of that kind.
//!
//! Which declared type of which store is of which kind is the adapters' concern.

use super::iso::{date, date_time, interval, time, timestamp};
use super::{Decimal, Float, Json, Value};

/// The kind of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Whatever comes, as it comes: the column has no type.
    Any,
    /// True or false.
    Bool,
    /// Whole numbers.
    Int,
    /// Exact decimal numbers.
    Decimal,
    /// Binary floating-point numbers.
    Float,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Points in time.
    Timestamp,
    /// Civil dates and times without a zone.
    DateTime,
    /// Civil dates.
    Date,
    /// Times of day.
    Time,
    /// Calendar intervals.
    Interval,
    /// UUIDs.
    Uuid,
    /// JSON documents.
    Json,
    /// Lists.
    Array,
    /// A type of one kind of store only.
    Other,
    /// Text that spells a value of whatever kind the other side has: a file without types.
    Spelled,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 17] = [
        Kind::Any,
        Kind::Bool,
        Kind::Int,
        Kind::Decimal,
        Kind::Float,
        Kind::Text,
        Kind::Bytes,
        Kind::Timestamp,
        Kind::DateTime,
        Kind::Date,
        Kind::Time,
        Kind::Interval,
        Kind::Uuid,
        Kind::Json,
        Kind::Array,
        Kind::Other,
        Kind::Spelled,
    ];

    /// The kind of a name.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// The kind's name, as it is printed and kept.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Any => "any",
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Decimal => "decimal",
            Kind::Float => "float",
            Kind::Text => "text",
            Kind::Bytes => "bytes",
            Kind::Timestamp => "timestamp",
            Kind::DateTime => "datetime",
            Kind::Date => "date",
            Kind::Time => "time",
            Kind::Interval => "interval",
            Kind::Uuid => "uuid",
            Kind::Json => "json",
            Kind::Array => "array",
            Kind::Other => "other",
            Kind::Spelled => "spelled",
        }
    }

    /// The kind that two columns of a pair are compared as; none if they cannot mean the same. A column without a type, or
    /// of text, is read as what the other is.
    #[must_use]
    pub fn paired(self, other: Kind) -> Option<Kind> {
        let (less, more) = (self.min(other), self.max(other));
        match (less, more) {
            _ if less == more => Some(more),
            // Where lists have no type of their own they are spelled as JSON, of which the elements' kinds are no part.
            (Kind::Any | Kind::Text | Kind::Json, Kind::Array) => Some(Kind::Json),
            (Kind::Any, kind) => Some(kind),
            // How a text spells them depends on a type that it does not tell.
            (Kind::Array | Kind::Other, Kind::Spelled) => None,
            (kind, Kind::Spelled) => Some(kind),
            (Kind::Bool, Kind::Int) => Some(Kind::Bool),
            (Kind::Int, Kind::Decimal) => Some(Kind::Decimal),
            (Kind::Int, Kind::Float) => Some(Kind::Float),
            (Kind::Bytes, Kind::Uuid) => Some(Kind::Uuid),
            // A text has no type of its own.
            (kind, Kind::Text) => Some(kind),
            (Kind::Text, Kind::Bytes | Kind::Other) => None,
            (Kind::Text, kind) => Some(kind),
            _ => None,
        }
    }

    /// The value of this kind that a store's value means; as it was where it means none, so that it differs from what does.
    #[must_use]
    pub fn take(self, value: Value) -> Value {
        let taken = match (self, &value) {
            (Kind::Bool, Value::Int(0)) => Some(Value::Bool(false)),
            (Kind::Bool, Value::Int(1)) => Some(Value::Bool(true)),
            (Kind::Bool, Value::Text(text)) => match text.as_str() {
                "f" | "false" | "0" => Some(Value::Bool(false)),
                "t" | "true" | "1" => Some(Value::Bool(true)),
                _ => None,
            },
            (Kind::Int, Value::Text(text)) => text.parse().ok().map(Value::Int),
            (Kind::Int, Value::Decimal(number)) => number.to_int().map(Value::Int),
            (Kind::Int, Value::Float(number)) => whole(*number).map(Value::Int),
            (Kind::Decimal, Value::Int(number)) => Decimal::parse(&number.to_string()).map(Value::Decimal),
            (Kind::Decimal, Value::Text(text)) => Decimal::parse(text).map(Value::Decimal),
            // The shortest digits that make the number: what was written, where the store kept a decimal as a binary number.
            (Kind::Decimal, Value::Float(number)) => Decimal::parse(&number.get().to_string()).map(Value::Decimal),
            (Kind::Float, Value::Int(number)) => exact(*number).map(Value::Float),
            (Kind::Float, Value::Text(text)) => float(text).map(Value::Float),
            (Kind::Float, Value::Decimal(number)) => float(&number.to_string()).map(Value::Float),
            (Kind::Timestamp, Value::Text(text)) => timestamp(text).map(Value::Timestamp),
            (Kind::DateTime, Value::Text(text)) => date_time(text).map(Value::DateTime),
            (Kind::Date, Value::Text(text)) => date(text).map(Value::Date),
            (Kind::Time, Value::Text(text)) => time(text).map(Value::Time),
            (Kind::Interval, Value::Text(text)) => interval(text).map(Value::Interval),
            (Kind::Uuid, Value::Text(text)) => uuid(text).map(Value::Uuid),
            (Kind::Uuid, Value::Bytes(bytes)) => bytes.as_slice().try_into().ok().map(Value::Uuid),
            (Kind::Json, Value::Text(text)) => Json::parse(text).ok().map(Value::Json),
            (Kind::Json, Value::Array(_)) => Json::parse(&value.to_string()).ok().map(Value::Json),
            (Kind::Spelled, value) if !matches!(value, Value::Null | Value::Text(_)) => {
                Some(Value::Text(value.to_string()))
            }
            _ => None,
        };
        taken.unwrap_or(value)
    }
}

/// A whole number that a binary one is, as far as those are exact.
fn whole(number: Float) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = number.get();
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i128)
}

/// A binary number that a whole one is, if it is exact.
fn exact(number: i128) -> Option<Float> {
    let float = number as f64;
    (float as i128 == number && float.abs() < 1e38).then(|| Float::new(float))
}

fn float(text: &str) -> Option<Float> {
    text.trim().parse().ok().map(Float::new)
}

/// 32 hex digits, hyphens anywhere between them, in braces or not.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let mut uuid = [0; 16];
    let mut digits = text.bytes().filter(|byte| *byte != b'-').map(|byte| char::from(byte).to_digit(16));
    for byte in &mut uuid {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::super::Interval;
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn one_meaning_has_one_value_however_it_is_spelled() {
        let decimal = |text: &str| Value::Decimal(Decimal::parse(text).expect("a decimal"));
        for (kind, spelled, meant) in [
            (Kind::Bool, vec![Value::Int(1), text("t"), text("true"), Value::Bool(true)], Value::Bool(true)),
            (Kind::Int, vec![text("12"), decimal("12.0"), Value::Float(Float::new(12.0))], Value::Int(12)),
            (Kind::Decimal, vec![text("3000.00"), Value::Int(3000), Value::Float(Float::new(3e3))], decimal("3000")),
            (Kind::Float, vec![text("0.5"), decimal("0.50")], Value::Float(Float::new(0.5))),
            (Kind::Float, vec![Value::Int(7)], Value::Float(Float::new(7.0))),
            (Kind::Date, vec![text("1970-01-02")], Value::Date(1)),
            (
                Kind::DateTime,
                vec![text("1970-01-01 00:00:01"), text("1970-01-01T00:00:01.0")],
                Value::DateTime(1_000_000),
            ),
            (Kind::Timestamp, vec![text("1970-01-01 02:00:00+02"), text("1970-01-01T00:00:00Z")], Value::Timestamp(0)),
            (Kind::Time, vec![text("00:00:00.000001")], Value::Time(1)),
            (Kind::Json, vec![text("{\"b\": 1, \"a\": [] }")], Kind::Json.take(text("{\"a\":[],\"b\":1}"))),
            (
                Kind::Json,
                vec![
                    Value::Array(vec![text("a\""), Value::Null, Value::Array(vec![Value::Int(1), Value::Bool(true)])]),
                    text("[\"a\\\"\", null, [1, true]]"),
                ],
                Value::Json(Json::parse("[\"a\\\"\",null,[1,true]]").expect("JSON")),
            ),
            (
                Kind::Interval,
                vec![text("P1Y2M3DT4H5M6.7S"), text("1 year 2 mons 3 days 04:05:06.7")],
                Value::Interval(Interval { months: 14, days: 3, us: 14_706_700_000 }),
            ),
            (
                Kind::Uuid,
                vec![
                    text("{00000000-0000-0000-0000-0000000000FF}"),
                    Value::Bytes([[0; 15].as_slice(), &[255]].concat()),
                ],
                Value::Uuid(std::array::from_fn(|i| if i == 15 { 255 } else { 0 })),
            ),
            (Kind::Spelled, vec![Value::Int(7), decimal("7.0")], text("7")),
            (Kind::Spelled, vec![Value::Bool(true), text("true")], text("true")),
        ] {
            for value in spelled {
                assert_eq!(kind.take(value.clone()), meant, "{value:?} as {}", kind.name());
            }
            assert_eq!(kind.take(meant.clone()), meant);
            assert_eq!(kind.take(Value::Null), Value::Null);
        }
    }

    #[test]
    fn what_means_nothing_of_a_kind_stays_as_it_is() {
        for (kind, value) in [
            (Kind::Bool, Value::Int(2)),
            (Kind::Int, text("12x")),
            (Kind::Int, Value::Float(Float::new(1.5))),
            (Kind::Float, Value::Int((1 << 53) + 1)),
            (Kind::Date, text("1970-02-30")),
            (Kind::DateTime, text("1970-01-01T00:00:00Z")),
            (Kind::Timestamp, text("1970-01-01 00:00:00")),
            (Kind::Time, text("24:00:01")),
            (Kind::Uuid, text("00000000-0000-0000-0000-0000000000f")),
            (Kind::Json, text("{")),
            (Kind::Interval, text("1 day ago")),
            (Kind::Any, text("1")),
        ] {
            assert_eq!(kind.take(value.clone()), value, "as {}", kind.name());
        }
    }

    #[test]
    fn columns_pair_the_same_either_way() {
        use Kind::*;
        for a in Kind::ALL {
            assert_eq!(Kind::of_name(a.name().as_bytes()), Some(a));
            for b in Kind::ALL {
                assert_eq!(a.paired(b), b.paired(a));
                assert_eq!(a.paired(a), Some(a));
            }
        }
        assert_eq!((Text.paired(Int), Text.paired(Date), Any.paired(Text)), (Some(Int), Some(Date), Some(Text)));
        assert_eq!((Int.paired(Date), DateTime.paired(Timestamp), Text.paired(Bytes)), (None, None, None));
        assert_eq!((Spelled.paired(Bytes), Any.paired(Spelled)), (Some(Bytes), Some(Spelled)));
        assert_eq!((Spelled.paired(Array), Text.paired(Array), Any.paired(Array)), (None, Some(Json), Some(Json)));
        assert_eq!(
            (Json.paired(Array), Text.paired(Interval), Spelled.paired(Other)),
            (Some(Json), Some(Interval), None)
        );
    }
}
