//! Values as PostgreSQL reads them from text: what is sent as a parameter, and cast to the column's type there.

use reknit_core::row::{Json, Kind, Value};

/// The text of a value for a column of a kind; none for NULL.
pub(super) fn text(value: &Value, column: Kind) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        // A column of numbers that is compared with one of truth values.
        Value::Bool(yes) if column == Kind::Int => u8::from(*yes).to_string(),
        Value::Date(_) | Value::DateTime(_) | Value::Timestamp(_) => since_christ(&value.to_string()),
        Value::Array(items) => array(items),
        Value::Json(json) if column == Kind::Array => list(json).unwrap_or_else(|| value.to_string()),
        _ => value.to_string(),
    })
}

/// Whether a column of this kind can hold a value like that at all, so that it may be asked for.
pub(super) fn can_be_in(value: &Value, column: Kind) -> bool {
    match column {
        Kind::Bool => matches!(value, Value::Bool(_)),
        Kind::Int => match value {
            Value::Int(number) => i64::try_from(*number).is_ok(),
            Value::Bool(_) => true,
            Value::Decimal(number) => number.to_int().is_some_and(|number| i64::try_from(number).is_ok()),
            _ => false,
        },
        Kind::Decimal => matches!(value, Value::Int(_) | Value::Decimal(_) | Value::Other { .. }),
        Kind::Float => matches!(value, Value::Int(_) | Value::Float(_)),
        Kind::Bytes => matches!(value, Value::Bytes(_)),
        Kind::Timestamp => matches!(value, Value::Timestamp(_) | Value::Other { .. }),
        Kind::DateTime => matches!(value, Value::DateTime(_) | Value::Other { .. }),
        Kind::Date => matches!(value, Value::Date(_) | Value::Other { .. }),
        Kind::Time => matches!(value, Value::Time(_)),
        Kind::Interval => matches!(value, Value::Interval(_)),
        Kind::Uuid => matches!(value, Value::Uuid(_)),
        Kind::Json => matches!(value, Value::Json(_)),
        Kind::Array => matches!(value, Value::Array(_) | Value::Json(_)),
        Kind::Other => matches!(value, Value::Other { .. }),
        // No text holds a zero byte there.
        _ => !matches!(value, Value::Null | Value::Bytes(_)) && !value.to_string().contains('\0'),
    }
}

/// A date of ISO 8601, which has a year 0, as one that has none.
fn since_christ(iso: &str) -> String {
    let (before, rest) = iso.strip_prefix('-').map_or((false, iso), |rest| (true, rest));
    let (year, rest) = rest.split_once('-').unwrap_or((rest, ""));
    match year.parse::<u32>() {
        Ok(year) if before || year == 0 => format!("{:04}-{rest} BC", year + 1),
        _ => iso.to_string(),
    }
}

/// An array, each of its items quoted.
fn array(items: &[Value]) -> String {
    let item = |value: &Value| match value {
        Value::Array(items) => array(items),
        value => match text(value, Kind::Any) {
            None => "NULL".into(),
            Some(text) => quoted(&text),
        },
    };
    format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(","))
}

/// A list of JSON as an array: lists in it are dimensions, and what its elements are is for the column's type to say.
fn list(json: &Json) -> Option<String> {
    let item = |element: &str| match Json::value(element).ok()? {
        Value::Null => Some("NULL".into()),
        Value::Json(inner) if element.starts_with('[') => list(&inner),
        value => Some(quoted(&value.to_string())),
    };
    let items = json.elements()?.into_iter().map(item).collect::<Option<Vec<String>>>()?;
    Some(format!("{{{}}}", items.join(",")))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_before_christ_and_quotes_are_spelled_as_postgresql_reads_them() {
        // 0000-12-31, 0001-01-01, -0043-03-15 (the Ides of March).
        let date = |days| text(&Value::Date(days), Kind::Date).unwrap_or_default();
        assert_eq!([date(-719_163), date(-719_162), date(-735_160)], ["0001-12-31 BC", "0001-01-01", "0044-03-15 BC"]);
        let nested = Value::Array(vec![Value::Array(vec![Value::Text("a\"\\,".into()), Value::Null])]);
        assert_eq!(text(&nested, Kind::Array).as_deref(), Some("{{\"a\\\"\\\\,\",NULL}}"));
        let json = Value::Json(Json::parse(r#"[["a\"\\", null], [1.50, true], {"b": []}]"#).expect("JSON"));
        let spelled = r#"{{"a\"\\",NULL},{"1.5","true"},"{\"b\":[]}"}"#;
        assert_eq!(text(&json, Kind::Array).as_deref(), Some(spelled));
        assert_eq!(
            (text(&json, Kind::Json), text(&json, Kind::Text)),
            (Some(json.to_string()), Some(json.to_string()))
        );
        assert_eq!((text(&Value::Null, Kind::Text), text(&Value::Bool(true), Kind::Int)), (None, Some("1".into())));
    }
}
