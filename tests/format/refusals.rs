use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use reknit::core::row::{Json, Row, Value, encode, encode_key};
use reknit::format::{Format, LINE_BYTES_MAX, Layout, LayoutError, Reader, WriteError, Writer, open};

use super::{import, reader};

/// The message of the first error; the records before it must have been read.
fn check(format: Format, key: &str, file: impl Into<Vec<u8>>, records_before: usize, message: &str) {
    let (mut records, mut found) = (0, String::new());
    match reader(format, key, file) {
        Err(error) => found = error.to_string(),
        Ok(mut reader) => {
            for record in &mut reader {
                match record {
                    Ok(_) => records += 1,
                    Err(error) => found = error.to_string(),
                }
            }
            assert!(reader.next().is_none(), "nothing comes after an error");
        }
    }
    assert_eq!((records, found.as_str()), (records_before, message));
}

#[test]
fn csv_names_the_line_and_the_reason() {
    let csv = |file: &str, before, message| check(Format::Csv, "id", file, before, message);
    csv("", 0, "in.file: the file is empty; the first line of a CSV file names its columns");
    csv("id,a,id\n", 0, "in.file:1: the header names the column `id` twice");
    csv("Id,name\n1,a\n", 0, "in.file:1: there is no key column `id`; the columns are `Id`, `name`");
    csv("id,a\n1,x\n2\n3,y\n", 1, "in.file:3: 1 fields where the header has 2");
    csv("id,a\n1,\"two\nlines\"\n2,b,c\n", 1, "in.file:4: 3 fields where the header has 2");
    csv("id,a\n1,x\n\n", 1, "in.file:3: 1 fields where the header has 2");
    csv("id,a\n1,x\"y\n", 0, "in.file:2: malformed csv: a quote inside a field that does not start with one");
    csv("id,a\n1,\"x\"y\n", 0, "in.file:2: malformed csv: text after a closing quote");
    csv("id,a\n1,\"x\n\ny\"z\n", 0, "in.file:4: malformed csv: text after a closing quote");
    csv("id,a\n1,x\ry\n", 0, "in.file:2: malformed csv: a carriage return outside quotes, not at the end of a line");
    csv("id,a\n1,x\n2,\"y\n3,z\n", 1, "in.file:3: malformed csv: the file ends inside a quoted field");
    csv("id,\"a\n", 0, "in.file:1: malformed csv: the file ends inside a quoted field");
    check(
        Format::Csv,
        "",
        "id,a\n",
        0,
        "in.file:1: which columns are the key? Name them with --key; the columns are `id`, `a`",
    );
    check(Format::Csv, "id,id", "id,a\n", 0, "in.file: the key column `id` is given twice");
    let not_text = "is not UTF-8; convert the file to UTF-8, or use kv for raw bytes";
    check(Format::Csv, "id", *b"id,a\n1,\xff\n", 0, &format!("in.file:2: column `a` {not_text}"));
    check(Format::Csv, "id", *b"id,\xff\n", 0, &format!("in.file:1: the header {not_text}"));
    csv(&format!("id,{}\n", "n".repeat(256)), 0, "in.file:1: a column name of 256 bytes; at most 255 are allowed");
    let wide: Vec<String> = (0..4097).map(|i| i.to_string()).collect();
    csv(&wide.join(","), 0, "in.file:1: more than 4096 columns in one row; is a line end missing?");
}

#[test]
fn json_lines_name_the_line_and_the_reason() {
    let jsonl = |file: &str, before, message| check(Format::Jsonl, "id", file, before, message);
    jsonl("{\"id\":1}\n{\"id\":2\n", 1, "in.file:2: malformed jsonl: `,` or `}` was expected (at byte 9)");
    jsonl("[1]\n", 0, "in.file:1: malformed jsonl: an object `{…}` was expected (at byte 1)");
    jsonl("{\"id\":1}\n\n", 1, "in.file:2: malformed jsonl: an empty line; each line is one object");
    jsonl("{\"id\":1,\"id\":1}\n", 0, "in.file:1: malformed jsonl: the name `id` comes twice (at byte 16)");
    jsonl("{\"id\":1,\"a\":{\"b\":1,\"b\":2}}", 0, "in.file:1: malformed jsonl: the name `b` comes twice (at byte 26)");
    jsonl("{\"id\":1}\n{\"a\":1,\"b\":2}\n", 1, "in.file:2: there is no key column `id`; the columns are `a`, `b`");
    jsonl(
        "{\"id\":[1]}\n",
        0,
        "in.file:1: the key column `id` holds an object or a list; a key is text, a number or a truth value",
    );
    check(
        Format::Jsonl,
        "",
        "",
        0,
        "in.file: which columns are the key? Name them with --key; the columns are the names in its lines",
    );
    check(
        Format::Jsonl,
        "id",
        *b"{\"id\":\"\xff\"}",
        0,
        "in.file:1: the line is not UTF-8; convert the file to UTF-8, or use kv for raw bytes",
    );
}

#[test]
fn kv_names_the_line_and_the_reason() {
    let kv = |file: &str, before, message| check(Format::Kv, "", file, before, message);
    kv("a\t1\nb\n", 1, "in.file:2: malformed kv: a line without a tab");
    kv("a\t1\tx\n", 0, "in.file:1: malformed kv: a second tab; a tab inside a value is written \\t");
    kv(
        "a\t1\r\n",
        0,
        "in.file:1: malformed kv: a carriage return; lines end with LF, and one in a value is written \\r",
    );
    kv("a\\x\t1\n", 0, "in.file:1: malformed kv: a backslash before something other than t, n, r or a backslash");
    kv("a\t1\\\n", 0, "in.file:1: malformed kv: a backslash at the end of a key or value");
    check(
        Format::Kv,
        "id",
        "",
        0,
        "in.file: kv files have no columns: the key is what stands before the tab, so --key is not taken",
    );
}

#[test]
fn bounds_hold_at_the_limit_and_one_beyond() {
    let key = |bytes: usize| format!("{}\t\n", "k".repeat(bytes));
    assert_eq!(import(Format::Kv, "", key(65_536)).0.len(), 1);
    check(Format::Kv, "", key(65_537), 0, "in.file:1: a key of 65537 bytes; at most 65536 are allowed");
    // A text in a key takes three bytes more: its kind and its end.
    let row = |bytes: usize| format!("id,a\n1,\n{},\n", "k".repeat(bytes));
    assert_eq!(import(Format::Csv, "id", row(65_533)).0.len(), 2);
    check(Format::Csv, "id", row(65_534), 1, "in.file:3: a key of 65537 bytes; at most 65536 are allowed");
    let cap = 64 * 1024 * 1024;
    let value = |bytes: usize| format!("k\t{}\n", "v".repeat(bytes));
    assert_eq!(import(Format::Kv, "", value(cap)).0.len(), 1);
    check(Format::Kv, "", value(cap + 1), 0, "in.file:1: a value of 67108865 bytes; at most 67108864 are allowed");
}

/// Long lines for ever: `x` all over, ending as told.
struct Endless(u8);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        buffer[buffer.len() - 1] = self.0;
        Ok(buffer.len())
    }
}

#[test]
fn a_line_without_end_is_refused_before_memory_is() {
    let message =
        format!("in.file:2: a line of more than {LINE_BYTES_MAX} bytes; is the end of a quoted field missing?");
    let endless =
        |start: &'static [u8], line_end| Box::new(BufReader::new(Cursor::new(start).chain(Endless(line_end))));
    for (format, key, start, line_end) in [
        (Format::Csv, "id", &b"id\nx"[..], b'x'),
        (Format::Csv, "id", &b"id\n\"x"[..], b'\n'),
        (Format::Kv, "", &b"a\tb\nx"[..], b'x'),
    ] {
        let key: Vec<String> = key.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let error =
            Reader::new("in.file", endless(start, line_end), format, &key).unwrap().find_map(Result::err).unwrap();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn names_from_a_file_cannot_move_the_cursor() {
    check(
        Format::Csv,
        "id",
        "\u{1b}[2J,a\u{202e}b\n",
        0,
        "in.file:1: there is no key column `id`; the columns are `\\u001b[2J`, `a\\u202eb`",
    );
    check(
        Format::Jsonl,
        "id",
        "{\"\\u001b[2J\":1,\"\\u001b[2J\":2}",
        0,
        "in.file:1: malformed jsonl: the name `\\u001b[2J` comes twice (at byte 30)",
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.csv");
    let message = open(&missing).err().unwrap().to_string();
    assert!(message.starts_with(&format!("{}: cannot be read: ", missing.display())), "{message}");
    let broken = dir.path().join("broken.kv.zst");
    std::fs::write(&broken, "not compressed at all").unwrap();
    let mut reader = Reader::new("broken", open(Path::new(&broken)).unwrap(), Format::Kv, &[]).unwrap();
    assert!(reader.next().unwrap().unwrap_err().to_string().starts_with("broken:1: cannot be read: "));
    assert!(reader.next().is_none());
}

#[test]
fn rows_that_a_file_could_not_give_back_are_not_written() {
    let (records, layout) = import(Format::Csv, "id", "id,a\n1,x\n");
    let (key, value) = records.first_key_value().unwrap();
    let with = |columns: &[(&str, &str)]| {
        let mut row = Row::new();
        columns.iter().for_each(|(name, text)| drop(row.set(*name, Value::Text((*text).to_owned())).unwrap()));
        encode(&row)
    };
    let refused = |format, value: &[u8]| {
        let mut writer = Writer::new(Vec::new(), format, layout.clone()).unwrap();
        writer.write(key, value).unwrap_err().to_string()
    };
    for (format, bytes, message) in [
        (
            Format::Csv,
            with(&[("id", "1")]),
            "the row of 1 has no column `a`, which CSV cannot tell from NULL; export as jsonl",
        ),
        (
            Format::Csv,
            with(&[("id", "1"), ("a", ""), ("b", "")]),
            "the row of 1 has a column `b` that the header lacks; export as jsonl",
        ),
        (
            Format::Jsonl,
            with(&[("id", "2"), ("a", "")]),
            "the key columns of the row of 1 say another key; export as kv, or put the row again",
        ),
        (
            Format::Jsonl,
            b"raw".to_vec(),
            "the value of 1 is no row (format version 114 is not known to this release); export as kv to see its bytes",
        ),
    ] {
        assert_eq!(refused(format, &bytes), message);
    }
    let raw = Writer::new(Vec::new(), Format::Csv, Layout::raw()).unwrap_err();
    assert!(matches!(raw, WriteError::NoColumns(Format::Csv)));
    let mut kv = Writer::new(Vec::new(), Format::Kv, layout.clone()).unwrap();
    kv.write(key, value).unwrap();
}

#[test]
fn damaged_layouts_are_refused() {
    let (_, layout) = import(Format::Csv, "id", "id,a\n");
    let bytes = layout.to_bytes();
    assert_eq!(Layout::from_bytes(&bytes), Ok(layout));
    assert_eq!(Layout::from_bytes(&[]), Ok(Layout::raw()));
    assert_eq!(Layout::from_bytes(&[9]), Err(LayoutError::Version(9)));
    for cut in 1..bytes.len() {
        assert_eq!(Layout::from_bytes(&bytes[..cut]), Err(LayoutError::Damaged));
    }
    assert_eq!(Layout::from_bytes(&[bytes.as_slice(), b"x"].concat()), Err(LayoutError::Damaged));
}

#[test]
fn files_with_another_key_do_not_join_a_store() {
    let layout = |format, key, file: &str| import(format, key, file).1;
    let store = layout(Format::Csv, "id", "id,a\n");
    let message = store.joined(&layout(Format::Csv, "a", "id,a\n")).unwrap_err().to_string();
    assert_eq!(message, "the store's key is `id` and this file's is `a`; nothing was changed. Use a store of its own");
    let message = store.joined(&Layout::raw()).unwrap_err().to_string();
    assert_eq!(message, "the store holds csv records and this file is kv; nothing was changed. Use a store of its own");
    let joined = store.joined(&layout(Format::Jsonl, "id", "{\"id\":1,\"b\":2}\n")).unwrap();
    assert_eq!((joined.format(), joined.columns()), (Format::Jsonl, &["id", "a", "b"].map(str::to_owned)[..]));
    let nested = Value::Json(Json::parse("{}").unwrap());
    assert!(Layout::raw().show_value(&encode_key(&[nested])).starts_with("0x"));
}
