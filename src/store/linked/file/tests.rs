use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::basic::{Compression, Encoding};
use ::parquet::data_type::{
    ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type, Int96,
    Int96Type,
};
use ::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use reknit_core::bounds::VALUE_BYTES_MAX;
use reknit_core::row::{Kind, Value};

use super::*;
use crate::store::linked::{Column, Terms};

/// A directory with one file, and where that is.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    (dir, path)
}

/// The shape in which a file is compared with itself, keyed by its first column.
fn shape(file: &TableFile) -> Shape {
    let columns = file.columns();
    let key = vec![columns.columns[0].name.clone()];
    let [shape, _] =
        Terms::default().shapes(("a", columns), ("b", &Columns { key, ..columns.clone() })).expect("a shape");
    shape
}

fn read(file: &TableFile) -> Result<Vec<Vec<Value>>, StoreError> {
    file.scan(&shape(file))?.collect()
}

#[test]
fn a_file_that_was_changed_while_it_was_read_is_an_error() {
    let lines: String = (0..100_000).map(|i| format!("{i},some text that fills a block\n")).collect();
    let (_dir, path) = file("a.csv", format!("k,v\n{lines}").as_bytes());
    let table = TableFile::open(FileFormat::Csv, &path).expect("a table");
    let shape = shape(&table);
    let changed = |error: StoreError| error.to_string().contains("was changed while it was read");
    // Longer; of the same length; another file under the name; gone.
    let append =
        || std::fs::OpenOptions::new().append(true).open(&path).expect("it").write_all(b"x,y\n").expect("written");
    let replace = || {
        let other = path.with_extension("other");
        std::fs::copy(&path, &other).expect("a copy");
        std::fs::rename(other, &path).expect("renamed");
    };
    for change in [&append as &dyn Fn(), &replace] {
        let mut rows = table.scan(&shape).expect("rows");
        assert!(rows.next().is_some_and(|row| row.is_ok()));
        change();
        let ends = rows.by_ref().find_map(Result::err);
        assert!(ends.is_some_and(changed));
        assert!(rows.next().is_none());
        assert!(matches!(table.stands(), Ok(false)), "it was not read whole");
        table.scan(&shape).expect("rows").for_each(|row| drop(row.expect("a row")));
        assert!(matches!(table.stands(), Ok(true)));
        change();
        assert!(table.stands().is_err_and(changed));
        assert!(table.begin(Access::Read, Duration::ZERO).is_err_and(changed));
        *table.read.lock().expect("nobody else") = None;
    }
    std::fs::remove_file(&path).expect("removed");
    assert!(table.scan(&shape).is_err_and(|error| error.to_string().contains("cannot be read")));
}

#[test]
fn what_cannot_be_read_in_a_file_that_is_being_written_is_no_fault_of_it() {
    let (_dir, path) = file("a.csv", b"k,v\n1,\"half\n");
    let table = TableFile::open(FileFormat::Csv, &path).expect("a table");
    let mut rows = table.scan(&shape(&table)).expect("rows");
    std::fs::OpenOptions::new().append(true).open(&path).expect("it").write_all(b"\"\n").expect("written");
    let ends = rows.next().expect("an end").expect_err("an error").to_string();
    assert!(ends.contains("was changed while it was read"), "{ends}");
}

#[test]
fn all_keys_that_are_sought_are_found_in_one_pass_however_they_are_spelled() {
    let (_dir, path) = file("a.jsonl", b"{\"k\":1,\"v\":\"a\"}\n{\"k\":2.0,\"v\":null}\n{\"k\":\"3\",\"v\":\"c\"}\n");
    let table = TableFile::open(FileFormat::Jsonl, &path).expect("a table");
    let typed = Column { name: "k".into(), kind: Kind::Int, declared: "bigint".into() };
    let other = Columns {
        columns: vec![typed, Column { name: "v".into(), kind: Kind::Text, declared: "text".into() }],
        key: vec!["k".into()],
    };
    let [shape, _] = Terms::default().shapes(("a", table.columns()), ("b", &other)).expect("a shape");
    let mut transaction = table.begin(Access::Read, Duration::ZERO).expect("a transaction");
    let keys: Vec<Vec<Value>> = [3, 2, 9].map(|k| vec![Value::Int(k)]).to_vec();
    let found = transaction.find(&shape, &keys).expect("rows");
    let texts: Vec<&Value> = found.iter().map(|found| &found.values[1]).collect();
    assert_eq!(texts, [&Value::Null, &Value::Text("c".into())]);
    assert!(transaction.write(&shape, crate::store::linked::Change::Delete(&[])).is_err());
    assert!(table.begin(Access::Write, Duration::ZERO).is_err_and(|error| error.to_string().contains("never written")));
    assert!(table.run(&[]).is_err() && table.remains().is_ok_and(|remains| remains.is_empty()));
}

/// A file of which is counted how often it was opened.
struct Counted(Local, Arc<std::sync::atomic::AtomicUsize>);

impl Source for Counted {
    fn version(&self) -> io::Result<Version> {
        self.0.version()
    }

    fn open(&self) -> io::Result<Arc<dyn Opened>> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.open()
    }
}

#[test]
fn rows_that_a_session_asks_for_page_by_page_are_read_at_once() {
    use reknit_core::query::Selection;
    use reknit_core::{CollectionId, DatasetId, DatasetKey, Definition, Profile, Range};

    use crate::store::linked::Linked;
    use crate::store::{EngineKind, Options, Side};

    const ROWS: usize = 3_000;
    let lines: String = (0..ROWS).map(|i| format!("{i},v{i}\n")).collect();
    let (dir, path) = file("a.csv", format!("k,v\n{lines}").as_bytes());
    let opened = Arc::default();
    let source = Counted(Local::new(&path), Arc::clone(&opened));
    let table = TableFile::over(Box::new(source), FileFormat::Csv, "csv:a".into()).expect("a table");
    let shape = shape(&table);
    let definition = Definition::simple(DatasetId([3; 16]), "table");
    let definition = Definition { profile: Profile::Content, key_index: false, ..definition };
    let options = Options { engine: EngineKind::Redb, ..Options::default() };
    let dataset = (definition, DatasetKey::from_bytes([5; 32]));
    let linked = Linked::open(&dir.path().join("index"), Box::new(table), shape, dataset, &options).expect("opened");
    linked.refresh(&mut |_| ()).expect("read");
    let first = CollectionId(0);
    let (items, _) = linked.list(first, Range::ALL, None, ROWS).expect("items");
    assert_eq!(items.len(), ROWS);
    let before = opened.load(std::sync::atomic::Ordering::Relaxed);
    let (mut after, mut pages, mut records) = (None, 0, 0);
    loop {
        let page = linked.read(first, &Selection::Range(Range::ALL), after, 64 << 10).expect("a page");
        (pages, records) = (pages + 1, records + page.records.len());
        assert!(page.records.iter().all(|record| record.state.is_live()) && page.moved == 0);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let passes = opened.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert!(pages > 3 && records == ROWS && passes == 1, "{pages} pages, {records} records, {passes} passes");
}

/// A Parquet file of some types, its pages in one way of many.
fn sample(version: WriterVersion, compression: Compression, dictionary: bool) -> Vec<u8> {
    let schema = "message m { required int32 k (INTEGER(8,false)); optional int64 t (TIMESTAMP(NANOS,true));
        optional int96 old; optional fixed_len_byte_array(20) d (DECIMAL(40,3)); optional binary text (STRING); optional double f;
        optional fixed_len_byte_array(12) span (INTERVAL);
        optional group tags (LIST) { repeated group list { optional binary element (STRING); } }
        optional group nested { optional int32 x; } }";
    let properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(compression)
        .set_dictionary_enabled(dictionary)
        .set_data_page_row_count_limit(2)
        .set_write_batch_size(1);
    let properties = if dictionary { properties } else { properties.set_encoding(Encoding::PLAIN) };
    let mut out = Vec::new();
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(properties.build())).expect("a writer");
    for group in 0..2 {
        let mut rows = writer.next_row_group().expect("a row group");
        macro_rules! column {
            ($type:ty, $values:expr, $defined:expr, $repeated:expr) => {
                let mut column = rows.next_column().expect("a column").expect("one more");
                column.typed::<$type>().write_batch($values, $defined, $repeated).expect("written");
                column.close().expect("closed");
            };
        }
        column!(Int32Type, &[group * 3, group * 3 + 1, -1 - group], None, None);
        column!(Int64Type, &[1_000, 1_001], Some(&[1, 0, 1]), None);
        let mut old = Int96::new();
        old.set_data(5_000, 0, 2_440_589);
        column!(Int96Type, &[old], Some(&[0, 0, 1]), None);
        let negative = [[0xff; 18].as_slice(), &[0xfb, 0x2e]].concat();
        column!(FixedLenByteArrayType, &[FixedLenByteArray::from(ByteArray::from(negative))], Some(&[1, 0, 0]), None);
        column!(ByteArrayType, &["a", ""].map(ByteArray::from), Some(&[1, 1, 0]), None);
        column!(DoubleType, &[0.5, 0.5, 0.5], Some(&[1, 1, 1]), None);
        let span = [1_u32, 2, 3].map(u32::to_le_bytes).concat();
        column!(FixedLenByteArrayType, &[FixedLenByteArray::from(ByteArray::from(span))], Some(&[1, 0, 0]), None);
        column!(ByteArrayType, &["x", "y"].map(ByteArray::from), Some(&[3, 3, 0, 1]), Some(&[0, 1, 0, 0]));
        column!(Int32Type, &[], Some(&[0, 0, 0]), None);
        rows.close().expect("closed");
    }
    writer.close().expect("closed");
    out
}

/// Opened without the column that is not compared.
fn open_parquet(path: &std::path::Path) -> Result<TableFile, StoreError> {
    let mut table = TableFile::open(FileFormat::Parquet, path)?;
    table.columns.columns.retain(|column| column.name != "nested");
    Ok(table)
}

#[test]
fn parquet_means_the_same_however_its_pages_are_written() {
    let text = |text: &str| Value::Text(text.into());
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::LZ4_RAW,
            Compression::ZSTD(Default::default()),
            Compression::GZIP(Default::default()),
        ] {
            for dictionary in [true, false] {
                let (_dir, path) = file("a.parquet", &sample(version, compression, dictionary));
                let whole = TableFile::open(FileFormat::Parquet, &path).expect("a table");
                let kinds: Vec<Kind> = whole.columns().columns.iter().map(|column| column.kind).collect();
                use Kind::*;
                assert_eq!(kinds, [Int, Timestamp, DateTime, Decimal, Text, Float, Interval, Array, Other]);
                assert!(read(&whole).is_err_and(|error| error.to_string().contains("the column nested holds columns")));
                let rows = read(&open_parquet(&path).expect("a table")).expect("rows");
                assert_eq!(rows.len(), 6);
                // In the order of the names: d, f, k, old, span, t, tags, text.
                let half = Value::Float(reknit_core::row::Float::new(0.5));
                let decimal = Value::Decimal(reknit_core::row::Decimal::parse("-1.234").expect("a decimal"));
                let span = Value::Interval(reknit_core::row::Interval { months: 1, days: 2, us: 3_000 });
                let tags = Value::Array(vec![text("x"), text("y")]);
                let first =
                    vec![decimal, half.clone(), Value::Int(0), Value::Null, span, Value::Timestamp(1), tags, text("a")];
                assert_eq!(rows[0], first);
                let second = vec![
                    Value::Null,
                    half.clone(),
                    Value::Int(1),
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    Value::Null,
                    text(""),
                ];
                assert_eq!(rows[1], second);
                let too_fine = Value::Other { type_name: "INT64".into(), text: "1001".into() };
                let old = Value::DateTime(86_400_000_005);
                assert_eq!(
                    (rows[2][2].clone(), rows[5][2].clone()),
                    (Value::Int(u32::MAX.into()), Value::Int((u32::MAX - 1).into()))
                );
                let third = [old, Value::Null, too_fine, Value::Array(vec![]), Value::Null];
                assert_eq!(rows[2][3..], third);
            }
        }
    }
}

/// Bytes of a long value.
const LONG: usize = 4 << 20;

/// A file of numbered rows with a value each; with levels that tell where lists begin, with a list each.
fn numbered(
    properties: WriterPropertiesBuilder,
    values: &[ByteArray],
    lists: Option<&[i16]>,
) -> (tempfile::TempDir, PathBuf) {
    let kind = if lists.is_some() { "repeated" } else { "required" };
    let schema = format!("message m {{ required int32 k; {kind} binary v; }}");
    let schema = Arc::new(parse_message_type(&schema).expect("a schema"));
    let rows = lists.map_or(values.len(), |levels| levels.iter().filter(|level| **level == 0).count());
    let keys: Vec<i32> = (0..).take(rows).collect();
    let defined = lists.map(|levels| vec![1_i16; levels.len()]);
    let properties = properties.set_compression(Compression::ZSTD(Default::default())).set_write_batch_size(1);
    let mut out = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut out, schema, Arc::new(properties.build())).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    let mut column = group.next_column().expect("a column").expect("one more");
    column.typed::<Int32Type>().write_batch(&keys, None, None).expect("written");
    column.close().expect("closed");
    let mut column = group.next_column().expect("a column").expect("one more");
    column.typed::<ByteArrayType>().write_batch(values, defined.as_deref(), lists).expect("written");
    column.close().expect("closed");
    group.close().expect("closed");
    writer.close().expect("closed");
    file("a.parquet", &out)
}

#[test]
fn no_more_is_held_of_long_values_than_is_wanted() {
    let all = vec![ByteArray::from(vec![b'x'; LONG]); 64];
    let some = [vec![ByteArray::from("short"); 4_000], all.clone()].concat();
    let plain = || WriterProperties::builder().set_dictionary_enabled(false);
    for (what, properties, values) in [
        ("all are long", plain(), &all),
        ("few are long, which the average does not tell", plain(), &some),
        ("all are one of a dictionary", WriterProperties::builder().set_dictionary_page_size_limit(16 << 20), &all),
        (
            "all are told by the one before, on one page",
            plain().set_column_encoding("v".into(), Encoding::DELTA_BYTE_ARRAY),
            &all,
        ),
    ] {
        let (_dir, path) = numbered(properties, values, None);
        let table = TableFile::open(FileFormat::Parquet, &path).expect("a table");
        let opened = table.opened().expect("opened");
        let mut scan = super::parquet::scan(&table.place, opened, &shape(&table)).expect("rows");
        let (mut rows, mut most) = (0, 0);
        while let Some(row) = scan.next() {
            let row = row.expect("a row");
            assert!(matches!(&row[1], Value::Bytes(bytes) if bytes == values[rows].data()), "{what}: row {rows}");
            (rows, most) = (rows + 1, most.max(scan.held_bytes()));
        }
        assert_eq!(rows, values.len(), "{what}");
        assert!(most <= super::parquet::HELD_BYTES, "{what}: {most} bytes were held");
    }
}

#[test]
fn a_value_beyond_the_bound_is_named_with_its_row() {
    let long = |bytes: usize| ByteArray::from(vec![b'x'; bytes]);
    let values = [long(1), long(VALUE_BYTES_MAX), long(VALUE_BYTES_MAX + 1), long(1)];
    let plain = WriterProperties::builder().set_dictionary_enabled(false);
    // As many of a dictionary as are too long only together.
    let count = VALUE_BYTES_MAX / LONG + 1;
    let items = [vec![long(1)], vec![long(LONG); count]].concat();
    let begins = [vec![0_i16, 0], vec![1; count - 1]].concat();
    let dictionary = WriterProperties::builder().set_dictionary_page_size_limit(16 << 20);
    for ((_dir, path), sound, bytes) in [
        (numbered(plain, &values, None), 2, VALUE_BYTES_MAX + 1),
        (numbered(dictionary, &items, Some(&begins)), 1, count * LONG),
    ] {
        let table = TableFile::open(FileFormat::Parquet, &path).expect("a table");
        let mut rows = table.scan(&shape(&table)).expect("rows");
        assert!(rows.by_ref().take(sound).all(|row| row.is_ok()));
        let told = rows.next().expect("an end").map(drop).expect_err("an error").to_string();
        let named = format!("row {}: the column v holds a value of {bytes} bytes; at most 67108864 are", sound + 1);
        assert!(told.contains(&named), "{told}");
        assert!(rows.next().is_none());
    }
}

#[test]
fn a_file_that_is_cut_short_is_named_with_what_is_wrong() {
    let whole = sample(WriterVersion::PARQUET_2_0, Compression::SNAPPY, true);
    for cut in [0, 3, 11, 12, whole.len() / 2, whole.len() - 1] {
        let (_dir, path) = file("a.parquet", &whole[..cut]);
        let told = TableFile::open(FileFormat::Parquet, &path).err().expect("an error").to_string();
        assert!(told.contains("this is no sound Parquet file") && told.contains("a.parquet"), "{told}");
    }
}

/// A file with some bytes changed, cut out or added.
fn damaged(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    prop::collection::vec(change, 1..6).prop_map(move |changes| {
        let mut bytes = valid.clone();
        for (at, byte, how) in changes {
            let at = at.index(bytes.len().max(1));
            match how {
                _ if bytes.is_empty() => {}
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// Reads it to its end or to an error.
fn survives(format: FileFormat, name: &str, bytes: &[u8]) {
    let (_dir, path) = file(name, bytes);
    let Ok(mut table) = TableFile::open(format, &path) else { return };
    table.columns.columns.retain(|column| column.kind != Kind::Other);
    let columns = table.columns();
    let Some(first) = columns.columns.first() else { return };
    let keyed = Columns { key: vec![first.name.clone()], ..columns.clone() };
    let Ok([shape, _]) = Terms::default().shapes(("a", columns), ("b", &keyed)) else { return };
    if let Ok(rows) = table.scan(&shape) {
        for row in rows.flatten() {
            let _ = shape.record(row);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_of_a_text_are_read_or_refused(
        csv in damaged(b"\xef\xbb\xbfk,v\n1,\"a\"\"b\n\"\n2,\n3,\xc3\xbc\r\n".to_vec()),
        lines in damaged(b"{\"k\":1,\"v\":[\"\\u00e9\"]}\n{\"v\":{\"x\":1e3},\"k\":null}\n".to_vec()),
        zipped in damaged(zstd::encode_all(b"k,v\n1,2\n".as_slice(), 1).expect("zstd")),
    ) {
        survives(FileFormat::Csv, "a.csv", &csv);
        survives(FileFormat::Jsonl, "a.jsonl", &lines);
        survives(FileFormat::Csv, "a.csv.zst", &zipped);
    }

    #[test]
    fn any_bytes_of_parquet_are_read_or_refused(
        bytes in prop_oneof![
            damaged(sample(WriterVersion::PARQUET_1_0, Compression::UNCOMPRESSED, true)),
            damaged(sample(WriterVersion::PARQUET_2_0, Compression::UNCOMPRESSED, false)),
            damaged(sample(WriterVersion::PARQUET_2_0, Compression::SNAPPY, true)),
        ]
    ) {
        survives(FileFormat::Parquet, "a.parquet", &bytes);
    }
}
