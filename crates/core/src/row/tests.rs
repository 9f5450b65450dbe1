use proptest::prelude::*;

use super::*;
use crate::bounds::KEY_BYTES_MAX;

fn number_text() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,6}|10{0,50})([.][0-9]{1,6})?(e-?[0-9]{1,3})?"
}

fn scalar() -> impl Strategy<Value = Value> {
    let near = prop_oneof![any::<i128>(), (-300i128..300), any::<i64>().prop_map(i128::from)];
    let text = prop_oneof!["[ab\u{0}\u{1}]{0,3}", any::<String>()];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        near.prop_map(Value::Int),
        number_text().prop_map(|text| Value::Decimal(Decimal::parse(&text).unwrap())),
        any::<u64>().prop_map(|bits| Value::Float(Float::new(f64::from_bits(bits)))),
        prop_oneof![Just(-0.0), Just(0.0), Just(f64::NAN), Just(1.5), Just(-1.5)]
            .prop_map(|n| Value::Float(Float::new(n))),
        text.clone().prop_map(Value::Text),
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..4).prop_map(Value::Bytes),
        any::<i64>().prop_map(Value::Timestamp),
        any::<i64>().prop_map(Value::DateTime),
        any::<i32>().prop_map(Value::Date),
        any::<i64>().prop_map(Value::Time),
        (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(months, days, us)| Value::Interval(Interval {
            months,
            days,
            us
        })),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        (text.clone(), number_text()).prop_map(|(text, number)| {
            let (mut name, mut other) = (String::new(), String::new());
            put_json_string(&mut name, &text).unwrap();
            put_json_string(&mut other, &format!("{text}+")).unwrap();
            Value::Json(Json::parse(&format!("{{{other}: [{number}, null], {name}: {name}}}")).unwrap())
        }),
        (text.clone(), text).prop_map(|(type_name, text)| Value::Other { type_name, text }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Value::Array))
}

fn row() -> impl Strategy<Value = Row> {
    prop::collection::btree_map("[ab]{0,2}", value(), 0..4).prop_map(Row)
}

/// Byte strings close to valid ones: an encoding with a few bytes changed, cut or added.
fn damaged(valid: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (valid, any::<prop::sample::Index>(), any::<u8>(), 0..4u8).prop_map(|(mut bytes, at, byte, how)| {
        let at = at.index(bytes.len() + 1);
        match how {
            0 if at < bytes.len() => bytes[at] = byte,
            1 => bytes.truncate(at),
            2 => bytes.insert(at, byte),
            _ => bytes = bytes[at..].to_vec(),
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn rows_are_equal_exactly_when_their_bytes_are(a in row(), b in row()) {
        prop_assert_eq!(a == b, encode(&a) == encode(&b));
        prop_assert_eq!(decode(&encode(&a)), Ok(a));
    }

    #[test]
    fn accepted_row_bytes_encode_to_themselves(bytes in damaged(row().prop_map(|row| encode(&row)))) {
        if let Ok(row) = decode(&bytes) {
            prop_assert_eq!(encode(&row), bytes);
        }
    }

    #[test]
    fn keys_sort_as_their_values_do(a in prop::collection::vec(value(), 0..4), b in prop::collection::vec(value(), 0..4)) {
        prop_assert_eq!(encode_key(&a).cmp(&encode_key(&b)), a.cmp(&b));
        prop_assert_eq!(decode_key(&encode_key(&a)), Ok(a));
    }

    #[test]
    fn keys_of_one_kind_sort_as_their_values_do(a in scalar(), b in scalar(), n: i128, shift in 0..128u32, d in -2..3i128) {
        let m = (n >> shift).saturating_add(d);
        let pairs = [(Value::Int(n >> shift), Value::Int(m)), (a, b)];
        for (a, b) in pairs {
            let keys = [encode_key(std::slice::from_ref(&a)), encode_key(std::slice::from_ref(&b))];
            prop_assert_eq!(keys[0].cmp(&keys[1]), a.cmp(&b));
        }
    }

    #[test]
    fn accepted_key_bytes_encode_to_themselves(
        bytes in damaged(prop::collection::vec(value(), 0..3).prop_map(|columns| encode_key(&columns)))
    ) {
        if let Ok(columns) = decode_key(&bytes) {
            prop_assert_eq!(encode_key(&columns), bytes);
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..64)) {
        let versioned = [&[ENCODING], noise.as_slice()].concat();
        for bytes in [&noise, &versioned] {
            if let Ok(row) = decode(bytes) {
                prop_assert_eq!(&encode(&row), bytes);
            }
        }
        if let Ok(columns) = decode_key(&noise) {
            prop_assert_eq!(encode_key(&columns), noise);
        }
    }

    #[test]
    fn decimals_compare_as_numbers(a in -10_000..10_000i64, b in -10_000..10_000i64, places in 0..6usize) {
        let decimal = |n: i64| {
            let digits = format!("{:0width$}", n.abs(), width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            let dot = if places > 0 { "." } else { "" };
            Decimal::parse(&format!("{}{whole}{dot}{fraction}", if n < 0 { "-" } else { "" })).unwrap()
        };
        prop_assert_eq!(decimal(a).cmp(&decimal(b)), a.cmp(&b));
        prop_assert_eq!(Decimal::parse(&decimal(a).to_string()), Some(decimal(a)));
    }

    #[test]
    fn columns_in_order_are_encoded_as_their_row_is(row in row()) {
        let mut bytes = vec![7];
        prop_assert_eq!(encode_columns(&mut bytes, row.columns()), Ok(()));
        prop_assert_eq!(&bytes[1..], encode(&row));
    }

    #[test]
    fn decimals_are_made_of_digits(negative: bool, digits in "[0-9]{0,9}", exponent in -400..400i64) {
        let text = format!("{}{}e{exponent}", if negative { "-" } else { "" }, if digits.is_empty() { "0" } else { &digits });
        prop_assert_eq!(Decimal::of_digits(negative, &digits, exponent), Decimal::parse(&text));
        prop_assert_eq!(Decimal::of_digits(negative, &format!("{digits}x"), exponent), None);
        prop_assert_eq!(Decimal::of_digits(negative, "1", i64::from(i32::MAX) + 1), None);
    }

    #[test]
    fn printed_decimals_read_back(text in number_text()) {
        let decimal = Decimal::parse(&text).unwrap();
        prop_assert_eq!(Decimal::parse(&decimal.to_string()), Some(decimal.clone()));
        let mut json = String::new();
        Value::Decimal(decimal.clone()).put_json(&mut json).unwrap();
        prop_assert_eq!(Json::value(&json), Ok(Value::Decimal(decimal)));
    }

    #[test]
    fn json_of_any_text_is_stable(text: String) {
        let mut quoted = String::new();
        put_json_string(&mut quoted, &text).unwrap();
        prop_assert_eq!(Json::value(&quoted), Ok(Value::Text(text.clone())));
        let _ = Json::parse(&text);
        let _ = Json::columns(&text);
    }

    #[test]
    fn noise_of_json_letters_is_refused_or_canonical(text in "[\\[\\]{},:\"ab\\\\u0-9.e+ -]{0,24}") {
        if let Ok(json) = Json::parse(&text) {
            prop_assert_eq!(Json::parse(json.as_str()), Ok(json.clone()));
        }
    }
}

#[test]
fn absent_null_and_empty_are_three_things() {
    let with = |value: Option<Value>| {
        let mut row = Row::new();
        row.set("other", Value::Int(1)).unwrap();
        if let Some(value) = value {
            row.set("a", value).unwrap();
        }
        encode(&row)
    };
    let all = [
        with(None),
        with(Some(Value::Null)),
        with(Some(Value::Text(String::new()))),
        with(Some(Value::Bytes(Vec::new()))),
        with(Some(Value::Array(Vec::new()))),
        with(Some(Value::Array(vec![Value::Null]))),
    ];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn numbers_have_one_form() {
    let decimal = |text: &str| Decimal::parse(text).unwrap();
    assert_eq!(decimal("3000.00"), decimal("3e3"));
    assert_eq!(decimal("-0.00"), decimal("0"));
    assert_eq!(Float::new(-0.0), Float::new(0.0));
    assert_eq!(Float::new(f64::NAN), Float::new(-f64::NAN));
    for wrong in ["", "-", "+1", "1.", ".5", "1e", "1e+", "0x1", "1e99999999999", "1 ", "1.2.3", "1e2147483648"] {
        assert_eq!(Decimal::parse(wrong), None, "{wrong:?}");
    }
    for (text, printed) in [
        ("1e400", "1e400"),
        ("-123e50", "-1.23e52"),
        ("1e3", "1000"),
        ("12.340", "12.34"),
        ("1e-3", "0.001"),
        ("1e-99", "1e-99"),
        ("15e-99", "1.5e-98"),
    ] {
        assert_eq!(decimal(text).to_string(), printed);
    }
}

#[test]
fn bounds_hold_for_rows_and_readers() {
    let nested = |depth: usize| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    let mut row = Row::new();
    assert_eq!(row.set("a", nested(ARRAY_DEPTH_MAX + 1)), Err(RowError::TooDeep));
    assert_eq!(row.set("n".repeat(NAME_BYTES_MAX + 1), Value::Null), Err(RowError::NameTooLong { bytes: 256 }));
    row.set("n".repeat(NAME_BYTES_MAX), nested(ARRAY_DEPTH_MAX)).unwrap();
    assert_eq!(decode(&encode(&row)), Ok(row.clone()));

    let deep = Row(BTreeMap::from([("a".to_owned(), nested(ARRAY_DEPTH_MAX + 1))]));
    assert!(matches!(decode(&encode(&deep)), Err(DecodeError::Bound { what: "depth of an array", .. })));
    let key = encode_key(&[nested(ARRAY_DEPTH_MAX + 1)]);
    assert!(matches!(decode_key(&key), Err(DecodeError::Bound { what: "depth of an array", .. })));

    let wide = Row((0..=COLUMNS_MAX).map(|i| (format!("{i:05}"), Value::Null)).collect());
    assert!(matches!(decode(&encode(&wide)), Err(DecodeError::Bound { what: "columns of a row", .. })));
    let mut full = wide;
    assert_eq!(full.set("one more", Value::Null), Err(RowError::TooManyColumns));
    full.0.pop_last();
    assert_eq!(decode(&encode(&full)), Ok(full.clone()));
    full.set("00000", Value::Int(1)).unwrap();

    assert!(matches!(decode_key(&vec![tag::NULL; KEY_BYTES_MAX + 1]), Err(DecodeError::Bound { .. })));
    let json = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Json::parse(&json(JSON_DEPTH_MAX)).is_ok());
    assert!(Json::parse(&json(JSON_DEPTH_MAX + 1)).is_err());
    assert!(Json::parse(&"[".repeat(1_000_000)).is_err());
}

#[test]
fn json_is_rewritten_canonically() {
    for (text, canonical) in [
        (" { \"b\" : 1.50 , \"a\" : [ 1 , 1.0 , -0 , 1E3 ] } ", r#"{"a":[1,1.0,0,1000.0],"b":1.5}"#),
        (r#""\u00e9\u0041\ud83d\ude00\/\u000a\u007f""#, "\"éA😀/\\n\u{7f}\""),
        ("[]", "[]"),
        ("{\"\":{}}", "{\"\":{}}"),
        ("170141183460469231731687303715884105728", "170141183460469231731687303715884105728"),
    ] {
        assert_eq!(Json::parse(text).unwrap().as_str(), canonical);
    }
    for wrong in [
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\":1,\"a\":2}",
        "01",
        "1.",
        "nul",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\\x\"",
        "\"\n\"",
        "1 2",
        "{a:1}",
        "'a'",
        "NaN",
        "+1",
        "--1",
        "\"\\u00g0\"",
        "\"\\u12",
    ] {
        assert!(Json::parse(wrong).is_err(), "{wrong:?}");
    }
    assert!(Json::columns("{\"a\":1,\"b\":2,\"a\":3}").unwrap_err().to_string().contains("`a` comes twice"));
    assert!(Json::columns("[1]").is_err());
    assert_eq!(Json::columns_within("{\"a\":1,\"b\":2}", 2), Json::columns("{\"a\":1,\"b\":2}"));
    assert!(Json::columns_within("{\"a\":1,\"b\":2", 1).unwrap_err().to_string().contains("more than 1 columns"));
}

#[test]
fn values_are_spelled_for_people() {
    let us = |s: i64| s * 1_000_000;
    for (value, text) in [
        (Value::Timestamp(0), "1970-01-01T00:00:00Z"),
        (Value::Timestamp(us(951_782_400) + 1), "2000-02-29T00:00:00.000001Z"),
        (Value::DateTime(us(-1)), "1969-12-31T23:59:59"),
        (Value::Date(-719_528), "0000-01-01"),
        (Value::Date(11_016), "2000-02-29"),
        (Value::Time(us(-3_661) - 500_000), "-01:01:01.5"),
        (Value::Interval(Interval { months: 1, days: -2, us: -500_000 }), "P1M-2DT-0.5S"),
        (Value::Uuid([0xab; 16]), "abababab-abab-abab-abab-abababababab"),
        (Value::Bytes(vec![0, 255]), "\\x00ff"),
        (Value::Float(Float::new(1e21)), "1e21"),
        (Value::Array(vec![Value::Int(1), Value::Text("a".into())]), "[1,\"a\"]"),
    ] {
        assert_eq!(value.to_string(), text);
    }
}

#[test]
fn what_engines_spell_each_in_its_own_way_has_these_bytes() {
    let bytes = |kind: Kind, value: Value| {
        let mut row = Row::new();
        row.set("c", kind.take(value)).unwrap();
        encode(&row)
    };
    let text = |text: &str| Value::Text(text.into());
    let interval =
        [&[1, 1, b'c', 12, 16][..], &[0, 0, 0, 14, 0xff, 0xff, 0xff, 0xfd, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40]].concat();
    for value in [
        Value::Interval(Interval { months: 14, days: -3, us: 1_000_000 }),
        text("P1Y2M-3DT1S"),
        text("P14M-3DT1S"),
        text("1 year 2 mons -3 days +00:00:01"),
    ] {
        assert_eq!(bytes(Kind::Interval, value.clone()), interval, "{value:?}");
    }
    let list = [&[1, 1, b'c', 14, 14][..], b"[\"a\",null,1.5]"].concat();
    for value in [
        Value::Array(vec![text("a"), Value::Null, Value::Decimal(Decimal::parse("1.50").unwrap())]),
        text(" [\"\\u0061\", null, 1.50]"),
    ] {
        assert_eq!(bytes(Kind::Json, value.clone()), list, "{value:?}");
    }
}
