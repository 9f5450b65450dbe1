use proptest::prelude::*;
use reknit::core::row::{Decimal, Value, encode_key};
use reknit::format::{Format, Layout};

use super::{export, import};

fn csv(key: &str) -> Layout {
    import(Format::Csv, key, "id,b,c\n").1
}

fn jsonl(key: &str) -> Layout {
    import(Format::Jsonl, key, "{\"id\":1,\"b\":2,\"c\":3}\n").1
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn a_key_is_typed_as_it_is_shown() {
    let decimal = Value::Decimal(Decimal::parse("1.5").unwrap());
    for (layout, argument, values) in [
        (csv("id"), "42", vec![Value::Int(42)]),
        (csv("id"), "042", vec![text("042")]),
        (csv("id"), "a,b \"c\"", vec![text("a,b \"c\"")]),
        (csv("id"), "\"\"\"a\"\"\"", vec![text("\"a\"")]),
        (csv("id"), "\"\"", vec![text("")]),
        (csv("id"), "", vec![Value::Null]),
        (csv("id"), "0xdeadbeef", vec![text("0xdeadbeef")]),
        (csv("id"), "0x06610a0000", vec![text("a\n")]),
        (csv("id"), "\"0x06610a0000\"", vec![text("0x06610a0000")]),
        (csv("id,b"), "a,7", vec![text("a"), Value::Int(7)]),
        (csv("id,b"), "\"a,b\",", vec![text("a,b"), Value::Null]),
        (jsonl("id"), "42", vec![Value::Int(42)]),
        (jsonl("id"), "\"42\"", vec![text("42")]),
        (jsonl("id"), "1.5", vec![decimal]),
        (jsonl("id"), "true", vec![Value::Bool(true)]),
        (jsonl("id"), "null", vec![Value::Null]),
        (jsonl("id"), "\"null\"", vec![text("null")]),
        (jsonl("id"), "Paris", vec![text("Paris")]),
        (jsonl("id,b"), "Paris,\"1\"", vec![text("Paris"), text("1")]),
    ] {
        let key = encode_key(&values);
        assert_eq!(layout.encode_key_argument(argument), Ok(key.clone()), "{argument}");
        assert_eq!(layout.show_key(&key), argument);
    }
}

#[test]
fn raw_keys_are_text_or_hex() {
    for (key, shown) in [
        (&b"user:1"[..], "user:1"),
        (b"\xff\x00", "0xff00"),
        (b"a\x1b[2J", "0x611b5b324a"),
        ("a\u{202e}".as_bytes(), "0x61e280ae"),
        (b"0xff", "0x30786666"),
        ("Āzād".as_bytes(), "Āzād"),
        (b"", ""),
    ] {
        assert_eq!(Layout::raw().show_key(key), shown);
        assert_eq!(Layout::raw().encode_key_argument(shown).unwrap(), key);
    }
}

#[test]
fn wrong_arguments_say_what_was_expected() {
    let message = |layout: Layout, argument: &str| layout.encode_key_argument(argument).unwrap_err().to_string();
    assert_eq!(message(Layout::raw(), "0xa"), "after 0x come pairs of hex digits; `a` has others");
    assert_eq!(
        message(csv("id,b"), "1"),
        "1 fields were given; the columns are id,b. Separate them with commas and quote those that contain one"
    );
    assert_eq!(message(csv("id"), "\"a"), "malformed: a closing quote is missing");
    assert_eq!(message(Layout::raw(), &"k".repeat(65_537)), "a key of 65537 bytes; at most 65536 are allowed");
}

#[test]
fn values_are_typed_and_shown_in_the_layout_of_the_store() {
    let (records, layout) = import(Format::Csv, "id", "id,b\n7,\"a \u{1b}\u{7f}\"\n");
    let (key, value) = records.first_key_value().unwrap();
    assert_eq!(layout.show_value(value), "{\"id\":\"7\",\"b\":\"a \\u001b\\u007f\"}");
    let typed = layout.encode_value_argument(key, "7,\"x,y\"").unwrap();
    assert_eq!(export(Format::Csv, &[(key.clone(), typed)].into(), &layout), b"id,b\n7,\"x,y\"\n");
    let message = |argument: &str| layout.encode_value_argument(key, argument).unwrap_err().to_string();
    assert_eq!(message("8,x"), "the value's key columns say 8, but the key is 7");
    assert!(message("7").starts_with("1 fields were given; the columns are id,b."));

    let (records, layout) = import(Format::Jsonl, "id", "{\"id\":7,\"b\":[1]}\n");
    let (key, value) = records.first_key_value().unwrap();
    assert_eq!(layout.show_value(value), "{\"id\":7,\"b\":[1]}");
    assert_eq!(layout.encode_value_argument(key, " {\"b\":[1], \"id\":7}").as_ref(), Ok(value));
    assert!(layout.encode_value_argument(key, "{}").unwrap_err().to_string().contains("no key column `id`"));

    assert_eq!(Layout::raw().show_value(b"plain"), "plain");
    assert_eq!(Layout::raw().show_value(b"a\x07"), "0x6107");
    assert_eq!(Layout::raw().encode_value_argument(b"k", "0xff"), Ok(b"0xff".to_vec()));
}

proptest! {
    #[test]
    fn every_shown_key_is_taken_back(
        a in prop_oneof!["[a,\"0x1.\n-]{0,5}", any::<String>()], b: String, n: i128, raw in prop::collection::vec(any::<u8>(), 0..8)
    ) {
        let one = encode_key(&[text(&a)]);
        let keys = [one.clone(), encode_key(&[Value::Int(n)]), encode_key(&[text(&a), text(&b)]), encode_key(&[Value::Null, Value::Int(n)]), a.into_bytes(), raw];
        for layout in [jsonl("id"), jsonl("id,b"), csv("id"), csv("id,b"), Layout::raw()] {
            for key in &keys {
                let shown = layout.show_key(key);
                prop_assert!(!shown.contains(char::is_control));
                let parts = reknit::core::row::decode_key(key).map_or(0, |parts| parts.len());
                // A key of another layout is shown in hex, which is not always an argument.
                if layout.format() == Format::Kv || parts == layout.key_columns().len() {
                    prop_assert_eq!(layout.encode_key_argument(&shown), Ok(key.clone()));
                }
            }
        }
    }
}
