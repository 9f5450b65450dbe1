use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use reknit::core::row::{self, Value};
use reknit::format::{Format, Writer, open};

use super::{Records, export, import};

/// A file that is sorted by key and minimally quoted comes back byte for byte.
fn check(format: Format, key: &str, file: &str) {
    let (records, layout) = import(format, key, file);
    assert_eq!(String::from_utf8(export(format, &records, &layout)).unwrap(), file);
}

fn geonames(release: &str) -> String {
    let name = format!("data/geonames/cities15000-{release}.csv.zst");
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    assert_eq!(Format::of_path(&path), Some(Format::Csv));
    let mut text = String::new();
    open(&path).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn geonames_comes_back_byte_for_byte_and_differs_as_documented() {
    let (a_text, b_text) = (geonames("1.6.0"), geonames("2.0.0"));
    let ((a, a_layout), (b, b_layout)) =
        (import(Format::Csv, "geonameid", a_text.as_str()), import(Format::Csv, "geonameid", b_text.as_str()));
    assert!(export(Format::Csv, &a, &a_layout) == a_text.as_bytes());
    assert!(export(Format::Csv, &b, &b_layout) == b_text.as_bytes());

    assert_eq!((a.len(), b.len()), (26_457, 26_463));
    let only = |here: &Records, there: &Records| here.keys().filter(|key| !there.contains_key(*key)).count();
    let changed = a.iter().filter(|(key, value)| b.get(*key).is_some_and(|other| other != *value)).count();
    assert_eq!((only(&a, &b), only(&b, &a), changed), (2, 8, 256));

    // As JSON Lines the key is text, so it sorts otherwise; the rows are the same.
    let as_json = export(Format::Jsonl, &a, &a_layout);
    let (again, _) = import(Format::Jsonl, "geonameid", as_json);
    let rows = |records: &Records| records.values().cloned().collect::<BTreeSet<_>>();
    assert!(rows(&again) == rows(&a));
}

#[test]
fn nasty_csv_comes_back_byte_for_byte() {
    check(Format::Csv, "id", "id\n");
    check(Format::Csv, "id", "id,a,b\n1,,\"\"\n2,\"\",\n10,x,y\n");
    check(
        Format::Csv,
        "id",
        "id,a\n-9,x\n0,y\n007,\"quoted \"\"text\"\"\"\na,\"b,c\"\nb,\"two\nlines\"\nc,\"cr\r\nlf\"\n",
    );
    check(Format::Csv, "a,b", "b,c,a\n,1,\n2,,1\n10,,1\n\"\",1,1\n2,,10\nx,,10\n2,\"\",\"\"\nü,😀,é\n");
    check(Format::Csv, "id", "id, a ,\"x,y\",\n1, spaces ,\u{0},\t\n");
    check(Format::Csv, "id", "id,n\n1,'\n2,\\\n3,\"\u{feff}x\"\n");
    check(Format::Csv, "id", "id\n\n1\n\"\"\na\n");
}

#[test]
fn integers_sort_as_numbers_and_before_texts() {
    let big = i128::MAX;
    let file = format!("id\n-100\n-2\n0\n3\n20\n{big}\n+1\n-0\n00\n01\n1.0\n{big}0\nx\n");
    check(Format::Csv, "id", &file);
    check(
        Format::Jsonl,
        "id",
        "{\"id\":null}\n{\"id\":false}\n{\"id\":-100}\n{\"id\":20}\n{\"id\":1.5}\n{\"id\":2.0}\n{\"id\":\"\"}\n{\"id\":\"1\"}\n",
    );
}

#[test]
fn json_lines_come_back_byte_for_byte() {
    check(Format::Jsonl, "id", "");
    check(
        Format::Jsonl,
        "id",
        "{\"id\":1,\"z\":null,\"a\":\"\"}\n\
         {\"id\":2,\"z\":\"x\"}\n\
         {\"id\":3,\"z\":true,\"a\":12345678901234567890123456789.000000000000000000001}\n\
         {\"id\":4,\"z\":{\"a\":[1,2.5,null],\"b\":{}},\"a\":[]}\n\
         {\"id\":5,\"a\":\"\\\"\\\\\\n\\t\\u0000é😀\"}\n\
         {\"id\":6,\"z\":1e400,\"a\":-0.001}\n\
         {\"id\":7,\"z\":170141183460469231731687303715884105728,\"a\":3.0}\n",
    );
}

#[test]
fn kv_comes_back_byte_for_byte() {
    check(Format::Kv, "", "");
    check(Format::Kv, "", "\t\n\\t\\n\\r\\\\\t\\t\\n\\r\\\\\na\t\na b\t \u{0} \"x\",é\n");
    let (records, _) = import(Format::Kv, "", b"\xff\x00\t\xfe".to_vec());
    assert_eq!(records, Records::from([(vec![0xff, 0], vec![0xfe])]));
}

#[test]
fn what_is_normalised_is_what_the_documentation_says() {
    for (format, read, written) in [
        (Format::Csv, "\u{feff}id,\"a\"\r\n\"1\",\"x\"\r\n2,\"y\r\nz\"", "id,a\n1,x\n2,\"y\r\nz\"\n"),
        (Format::Jsonl, "\u{feff} { \"id\" : 1 , \"a\" : 1.50 } \r\n", "{\"id\":1,\"a\":1.5}\n"),
        (
            Format::Jsonl,
            "{\"id\":1,\"a\":\"\\u0041\"}\n{\"a\":1E2,\"id\":2}",
            "{\"id\":1,\"a\":\"A\"}\n{\"id\":2,\"a\":100.0}\n",
        ),
    ] {
        let (records, layout) = import(format, "id", read);
        assert_eq!(export(format, &records, &layout), written.as_bytes());
        check(format, "id", written);
    }
}

#[test]
fn null_empty_and_absent_are_three_things() {
    let values = |format, file: &str| -> Vec<Option<Value>> {
        let (records, _) = import(format, "id", file);
        records.values().map(|bytes| row::decode(bytes).unwrap().get("a").cloned()).collect()
    };
    let empty = Some(Value::Text(String::new()));
    assert_eq!(values(Format::Csv, "id,a\n1,\n2,\"\"\n"), [Some(Value::Null), empty.clone()]);
    let lines = "{\"id\":1}\n{\"id\":2,\"a\":null}\n{\"id\":3,\"a\":\"\"}\n";
    assert_eq!(values(Format::Jsonl, lines), [None, Some(Value::Null), empty]);
}

#[test]
fn a_compressed_file_reads_as_a_plain_one() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, packed) = (dir.path().join("a.kv"), dir.path().join("a.kv.zst"));
    std::fs::write(&plain, "a\t1\n").unwrap();
    let twice = [zstd::encode_all(&b"a\t"[..], 1).unwrap(), zstd::encode_all(&b"1\n"[..], 1).unwrap()].concat();
    std::fs::write(&packed, twice).unwrap();
    for path in [plain, packed] {
        let mut text = String::new();
        open(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((Format::of_path(&path), text.as_str()), (Some(Format::Kv), "a\t1\n"));
    }
    assert_eq!(Format::of_path(Path::new("a.tar.gz")), None);
}

#[test]
fn a_reader_that_went_away_is_told_from_a_failure() {
    #[derive(Debug)]
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (_, layout) = import(Format::Csv, "id", "id\n1\n");
    assert!(Writer::new(Gone, Format::Csv, layout).unwrap_err().is_broken_pipe());
}

proptest! {
    #[test]
    fn any_rows_survive_every_format(
        texts in prop::collection::vec(prop_oneof![Just(None), "[a,\"\r\n ]{0,4}".prop_map(Some), any::<String>().prop_map(Some)], 0..12)
    ) {
        let mut file = String::from("id,a\n");
        for (i, text) in texts.iter().enumerate() {
            let quoted = text.as_ref().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).unwrap_or_default();
            file.push_str(&format!("{i},{quoted}\n"));
        }
        let (records, layout) = import(Format::Csv, "id", file);
        let read: Vec<Option<Value>> = records.values().map(|v| row::decode(v).unwrap().get("a").cloned()).collect();
        let meant: Vec<Option<Value>> = texts.into_iter().map(|text| Some(text.map_or(Value::Null, Value::Text))).collect();
        prop_assert_eq!(read, meant);
        for format in [Format::Csv, Format::Kv] {
            let key = if format == Format::Csv { "id" } else { "" };
            prop_assert_eq!(&import(format, key, export(format, &records, &layout)).0, &records);
        }
        let (again, _) = import(Format::Jsonl, "id", export(Format::Jsonl, &records, &layout));
        let rows = |records: &Records| records.values().cloned().collect::<BTreeSet<_>>();
        prop_assert_eq!(rows(&again), rows(&records));
    }

    #[test]
    fn any_bytes_survive_kv(records in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 0..6), 0..6)) {
        let layout = reknit::format::Layout::raw();
        let mut writer = Writer::new(Vec::new(), Format::Kv, layout).unwrap();
        records.iter().for_each(|(key, value)| writer.write(key, value).unwrap());
        prop_assert_eq!(import(Format::Kv, "", writer.finish().unwrap()).0, records);
    }

    #[test]
    fn noise_is_refused_or_read_but_never_panics(noise in prop::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\t'), Just(b'\\'), any::<u8>()], 0..40)) {
        for (format, key) in [(Format::Csv, "a"), (Format::Jsonl, "a"), (Format::Kv, "")] {
            let bytes = if format == Format::Csv { [b"a,b\n", noise.as_slice()].concat() } else { noise.clone() };
            let records: Result<Vec<_>, _> = super::reader(format, key, bytes).unwrap().collect();
            if let Err(error) = records {
                prop_assert!(error.line > 0);
            }
        }
    }
}
