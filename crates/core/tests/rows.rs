//! Golden bytes of rows and keys, in files that another language can read: `name<TAB>hex`, one a line.

use reknit_core::row::{
    Decimal, Float, Interval, Json, Kind, Rounding, Row, Value, decode, decode_key, encode, encode_key,
};

const ROWS: &str = include_str!("vectors/rows.txt");
const KEYS: &str = include_str!("vectors/keys.txt");
/// `document<TAB>as it is compared by --json semantic`, both JSON.
const SEMANTIC: &str = include_str!("vectors/json-semantic.tsv");
/// `interval<TAB>hex` of the row that holds it.
const INTERVALS: &str = include_str!("vectors/intervals.tsv");
const REFUSED: &str = include_str!("vectors/rows-refused.txt");

fn values() -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let decimal = |text: &str| Value::Decimal(Decimal::parse(text).unwrap());
    let float = |number: f64| Value::Float(Float::new(number));
    vec![
        ("null", Value::Null),
        ("false", Value::Bool(false)),
        ("true", Value::Bool(true)),
        ("int least", Value::Int(i128::MIN)),
        ("int -256", Value::Int(-256)),
        ("int -1", Value::Int(-1)),
        ("int 0", Value::Int(0)),
        ("int 127", Value::Int(127)),
        ("int 128", Value::Int(128)),
        ("int 256", Value::Int(256)),
        ("int greatest", Value::Int(i128::MAX)),
        ("decimal -12.5", decimal("-12.50")),
        ("decimal 0", decimal("-0.0")),
        ("decimal 3000", decimal("3000.00")),
        ("float -1.5", float(-1.5)),
        ("float 0", float(-0.0)),
        ("float infinity", float(f64::INFINITY)),
        ("float not a number", float(f64::NAN)),
        ("text empty", text("")),
        ("text with a zero byte", text("a\0b")),
        ("text unicode", text("Āzādshahr")),
        ("bytes", Value::Bytes(vec![0, 255, 1])),
        ("timestamp", Value::Timestamp(-1)),
        ("datetime", Value::DateTime(1_000_000)),
        ("date", Value::Date(11_016)),
        ("time", Value::Time(86_399_999_999)),
        ("interval", Value::Interval(Interval { months: 1, days: -1, us: 2 })),
        ("uuid", Value::Uuid(*b"0123456789abcdef")),
        ("json", Value::Json(Json::parse("{\"b\":[1.50,true],\"a\":\"\\u00e9\"}").unwrap())),
        ("array", Value::Array(vec![Value::Int(1), Value::Null, Value::Array(vec![])])),
        ("other", Value::Other { type_name: "inet".to_owned(), text: "::1".to_owned() }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn lines(vectors: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    let lines = vectors.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('\t').unwrap()).map(|(name, bytes)| (name, unhex(bytes)))
}

/// Compares everything at once, so that a failure shows the whole file as it would have to be.
fn check(actual: &[(&str, Vec<u8>)], expected: &str) {
    let print = |(name, bytes): &(&str, Vec<u8>)| format!("{name}\t{}\n", hex(bytes));
    let actual: String = actual.iter().map(print).collect();
    let expected: String = lines(expected).map(|line| print(&line)).collect();
    assert!(actual == expected, "the vectors should be:\n{actual}");
}

#[test]
fn rows_have_the_bytes_of_the_vectors() {
    let row = |columns: &[(&str, Value)]| {
        let mut row = Row::new();
        columns.iter().for_each(|(name, value)| drop(row.set(*name, value.clone()).unwrap()));
        assert_eq!(decode(&encode(&row)), Ok(row.clone()));
        encode(&row)
    };
    let mut actual = vec![("no columns", row(&[]))];
    actual.extend(values().into_iter().map(|(name, value)| (name, row(&[("c", value)]))));
    actual.push(("sorted by name", row(&[("b", Value::Null), ("", Value::Int(1)), ("ab", Value::Bool(true))])));
    check(&actual, ROWS);
}

#[test]
fn intervals_have_the_bytes_of_the_vectors_however_they_are_spelled() {
    for (spelled, expected) in lines(INTERVALS) {
        let text = Value::Text(spelled.to_owned());
        let taken = Kind::Interval.take(text.clone());
        if expected.is_empty() {
            assert_eq!(taken, text);
            continue;
        }
        let mut row = Row::new();
        row.set("c", taken).unwrap();
        assert_eq!(hex(&encode(&row)), hex(&expected), "{spelled}");
    }
}

#[test]
fn keys_have_the_bytes_of_the_vectors_and_sort_as_listed() {
    let mut actual: Vec<_> = values().into_iter().map(|(name, value)| (name, encode_key(&[value]))).collect();
    assert!(actual.is_sorted_by(|a, b| a.1 < b.1), "the values above are listed in their order");
    actual.push(("two columns", encode_key(&[Value::Int(42), Value::Text("a".to_owned())])));
    check(&actual, KEYS);
    for (name, bytes) in lines(KEYS) {
        assert_eq!(encode_key(&decode_key(&bytes).unwrap()), bytes, "{name}");
    }
}

#[test]
fn bytes_that_are_not_canonical_are_refused() {
    assert!(lines(REFUSED).count() > 10);
    for (name, bytes) in lines(REFUSED) {
        assert!(decode(&bytes).is_err(), "{name}");
    }
}

#[test]
fn json_by_value_is_as_in_the_vectors() {
    let (mut seen, lines) = (0, SEMANTIC.lines().filter(|line| !line.starts_with('#')));
    for line in lines {
        let (document, counts) = line.split_once('\t').expect("two fields");
        let taken = Rounding::Semantic.of(Kind::Json.take(Value::Text(document.into())));
        let expected = match counts {
            "" => Value::Text(document.into()),
            counts => Value::Json(Json::parse(counts).unwrap()),
        };
        assert_eq!(taken, expected, "{document}");
        assert_eq!(taken.to_string(), if counts.is_empty() { document } else { counts }, "{document}");
        assert_eq!(Rounding::Semantic.of(taken.clone()), taken, "{document}");
        seen += 1;
    }
    assert!(seen > 20);
}
