//! What texts of files mean where the kind of their column tells: bytes, and the times and numbers that PostgreSQL spells in a
//! way of its own. All other texts are taken by [`Kind::take`].

use reknit_core::row::{Json, Kind, Value};

/// The value of a kind that a text means, if it is spelled in a way that is not common to all stores; any other value as it is.
pub(super) fn meant(kind: Kind, value: Value) -> Value {
    let Value::Text(text) = &value else { return value };
    let taken = match kind {
        Kind::Bytes => bytes(text).map(Value::Bytes),
        Kind::Decimal if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => Some(other("numeric", text)),
        Kind::Date | Kind::DateTime | Kind::Timestamp if matches!(text.as_str(), "infinity" | "-infinity") => {
            let type_name = match kind {
                Kind::Date => "date",
                Kind::DateTime => "timestamp",
                _ => "timestamptz",
            };
            Some(other(type_name, text))
        }
        Kind::Date | Kind::DateTime | Kind::Timestamp => before_christ(text).map(Value::Text),
        _ => None,
    };
    taken.unwrap_or(value)
}

/// A value of JSON as a document: a text that spells an object or a list is that, as files have it that spell JSON as text;
/// all others are documents of one value.
pub(super) fn document(value: Value) -> Value {
    let nested = match &value {
        Value::Null | Value::Json(_) => return value,
        Value::Text(text) if text.starts_with(['{', '[']) => Json::parse(text).ok(),
        _ => None,
    };
    let scalar = || {
        let mut text = String::new();
        value.put_json(&mut text).ok().and_then(|()| Json::parse(&text).ok())
    };
    nested.or_else(scalar).map_or(value, Value::Json)
}

fn other(type_name: &str, text: &str) -> Value {
    Value::Other { type_name: type_name.into(), text: text.into() }
}

/// Pairs of hex digits behind `\x`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.strip_prefix("\\x")?.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.filter_map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect())
}

/// `0044-03-15 BC` is the year -43, as years are counted that have a zero.
fn before_christ(text: &str) -> Option<String> {
    let (year, rest) = text.strip_suffix(" BC")?.split_once('-')?;
    let year: i64 = year.parse().ok().filter(|year| *year > 0)?;
    let sign = if year > 1 { "-" } else { "" };
    Some(format!("{sign}{:04}-{rest}", year - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn texts_of_a_database_mean_what_it_meant() {
        assert_eq!(meant(Kind::Bytes, text("\\x00fF")), Value::Bytes(vec![0, 255]));
        assert_eq!(meant(Kind::Bytes, text("\\x0")), text("\\x0"));
        assert_eq!(meant(Kind::Date, text("0044-03-15 BC")), text("-0043-03-15"));
        assert_eq!(meant(Kind::Date, text("0001-03-15 BC")), text("0000-03-15"));
        assert_eq!(meant(Kind::Timestamp, text("infinity")), other("timestamptz", "infinity"));
        assert_eq!(meant(Kind::Text, text("\\x00")), text("\\x00"));
    }

    #[test]
    fn values_of_json_are_documents() {
        let json = |text: &str| Value::Json(Json::parse(text).expect("JSON"));
        assert_eq!(document(text("{\"a\": 1}")), json("{\"a\":1}"));
        assert_eq!(document(text("1")), json("\"1\""));
        assert_eq!(document(text("{")), json("\"{\""));
        assert_eq!(document(Value::Int(1)), json("1"));
        assert_eq!(document(Value::Null), Value::Null);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(spelled in "[-+P0-9YMWDTHS.: ]{0,24}|\\PC{0,12}|[0-9]{0,24}( BC)?") {
            for kind in Kind::ALL {
                let _ = kind.take(meant(kind, text(&spelled)));
            }
            let _ = document(text(&spelled));
        }
    }
}
