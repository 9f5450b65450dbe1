//! import: what is loaded, what is refused with file and line, and that a refusal changes nothing.

use std::io::Write;
use std::process::Stdio;

use crate::harness::{Place, Ran};

const CSV: &str = "id,name\n1,Bern\n2,Ulm\n";

#[test]
fn a_file_is_loaded_once() {
    let place = Place::with_store();
    place.file("a.csv", CSV);
    let first = place.json("import s a.csv --key id").ok().summary();
    assert_eq!((&first["read"], &first["wrote"], &first["records"]), (&2.into(), &2.into(), &2.into()));
    let root = place.root("s");
    let again = place.json("import s a.csv --key id").ok().summary();
    assert_eq!((&again["read"], &again["wrote"], &again["unchanged"]), (&2.into(), &0.into(), &2.into()));
    assert_eq!(place.root("s"), root, "what is there already gets no new version");
    place.file("b.csv", "id,name\n2,Ulm\n3,Jena\n1,Berne\n");
    let other = place.json("import s b.csv").ok().summary();
    assert_eq!((&other["wrote"], &other["unchanged"], &other["records"]), (&2.into(), &1.into(), &3.into()));
    place.run("export s").ok().prints("id,name\n1,Berne\n2,Ulm\n3,Jena\n");
    place.run("import s a.csv").ok().says(&["read 2 records, wrote 1, 1 were there already", "records/s"]);
}

#[test]
fn every_format_is_read_from_files_packed_files_and_stdin() {
    let jsonl = "{\"id\":1,\"name\":\"Bern\"}\n{\"id\":2,\"name\":\"Ulm\"}\n";
    for (ending, content, key) in [("csv", CSV, "--key id"), ("jsonl", jsonl, "--key id"), ("kv", "a\tb\nc\td\n", "")] {
        let place = Place::new();
        for store in ["plain", "packed", "piped", "told"] {
            place.run(&format!("init {store}")).ok();
        }
        place.file(&format!("f.{ending}"), content);
        place.file("f.data", content);
        place.file(&format!("f.{ending}.zst"), zstd::encode_all(content.as_bytes(), 0).expect("packed"));
        place.run(&format!("import plain f.{ending} {key}")).ok();
        place.run(&format!("import packed f.{ending}.zst {key}")).ok();
        place.run(&format!("import told f.data --format {ending} {key}")).ok();
        place.feed(&format!("import piped - --format {ending} {key}"), content.as_bytes()).ok();
        for store in ["plain", "packed", "piped", "told"] {
            place.run(&format!("export {store}")).ok().prints(content);
        }
        // The store knows by now how stdin is to be read.
        let again = place.feed_json("import piped -", content.as_bytes()).ok().summary();
        assert_eq!((&again["read"], &again["wrote"]), (&2.into(), &0.into()));
    }
}

/// Imports a file that is refused, and holds that the store is what it was.
#[track_caller]
fn refused(name: &str, content: &[u8], flags: &str, id: &str) -> Ran {
    let place = Place::new();
    place.run("init empty").ok();
    place.run("init full").ok();
    place.file(name, content);
    place.file("good.csv", "id,name\n7,Gera\n");
    place.run("import full good.csv --key id").ok();
    let (empty, full) = (place.root("empty"), place.root("full"));
    place.run(&format!("import full {name} {flags}")).exits(2);
    let ran = place.run(&format!("import empty {name} {flags}")).fails(id);
    assert_eq!((place.root("empty"), place.root("full")), (empty, full));
    assert_eq!(place.run("dataset show empty").ok().out.matches("raw records").count(), 1, "no layout stays");
    place.run("export full").ok().prints("id,name\n7,Gera\n");
    ran.says(&["nothing was imported"])
}

#[test]
fn a_malformed_line_is_named_and_nothing_is_imported() {
    refused("a.csv", b"id,name\n1,Bern\n2,Ulm,x\n", "--key id", "import.malformed").says(&[
        "a.csv:3: ",
        "3 fields",
        "2",
    ]);
    refused("a.csv", b"id,name\n1,\"Bern\n", "--key id", "import.malformed").says(&["a.csv:2: "]);
    refused("a.csv", b"", "--key id", "import.malformed").says(&["a.csv", "names its columns"]);
    refused("a.csv", b"id,id\n", "--key id", "import.malformed").says(&["a.csv:1: ", "`id` twice"]);
    refused("a.csv", b"id,name\n1,\xff\n", "--key id", "import.malformed").says(&["a.csv:2: ", "UTF-8"]);
    refused("a.jsonl", b"{\"id\":1}\n{\"id\":\n", "--key id", "import.malformed").says(&["a.jsonl:2: "]);
    refused("a.jsonl", b"{\"id\":[1]}\n", "--key id", "import.malformed").says(&["a.jsonl:1: ", "`id`"]);
    refused("a.kv", b"a\tb\nnothing\n", "", "import.malformed").says(&["a.kv:2: "]);
}

#[test]
fn key_columns_are_named_and_known() {
    refused("a.csv", CSV.as_bytes(), "--key nmae", "import.key-column").says(&["`nmae`", "`id`, `name`"]);
    refused("a.csv", CSV.as_bytes(), "--key id,id", "import.key-column").says(&["`id`", "twice"]);
    refused("a.kv", b"a\tb\n", "--key id", "import.key-column").says(&["kv", "--key"]);
    let place = Place::with_store();
    place.file("a.csv", CSV);
    place.run("import s a.csv").fails("import.key-column").says(&["--key", "`id`, `name`"]);
    place.run("import s a.csv --key id").ok();
    place.run("import s a.csv --key name").fails("import.other-layout").says(&["`id`", "`name`"]);
    place.file("a.kv", "a\tb\n");
    place.run("import s a.kv").fails("import.other-layout").says(&["csv", "kv"]);
    place.run("init raw").ok();
    place.run("put raw a b").ok();
    place.run("import raw a.csv --key id").fails("import.other-layout");
}

#[test]
fn a_key_that_comes_twice_is_named_with_both_lines() {
    let twice = "id,name\n1,\"two\nlines\"\n2,Ulm\n3,Gera\n2,Jena\n";
    refused("a.csv", twice.as_bytes(), "--key id", "import.duplicate-key").says(&["a.csv: lines 4 and 6", "key 2;"]);
    refused("a.kv", b"x\t1\ny\t2\nx\t1\n", "", "import.duplicate-key").says(&["a.kv: lines 1 and 3", "key x;"]);
    let place = Place::with_store();
    let ran = place.feed("import s - --format csv --key id", twice.as_bytes());
    ran.fails("import.duplicate-key").says(&["stdin: records 2 and 4", "nothing was imported"]);
    place.run("dataset show s").ok().says(&["raw records"]);
}

#[test]
fn keys_and_values_beyond_their_bounds_are_named_with_them() {
    let key = "k".repeat(64 * 1024);
    let place = Place::with_store();
    place.file("fits.kv", format!("{key}\tv\n"));
    place.run("import s fits.kv").ok();
    refused("a.kv", format!("a\tb\n{key}k\tv\n").as_bytes(), "", "record.key-too-long").says(&[
        "a.kv:2: ",
        "65537 bytes",
        "65536",
    ]);
    let mut value = vec![b'v'; 64 * 1024 * 1024 + 3];
    value[..2].copy_from_slice(b"k\t");
    let ran = place.feed("import s - --format kv", &value).fails("record.value-too-long");
    ran.says(&["stdin:1: ", "67108865 bytes", "67108864"]);
}

#[test]
fn a_file_that_cannot_be_read_or_understood_is_named() {
    let place = Place::with_store();
    place.run("import s nowhere.csv --key id").fails("import.file").says(&["nowhere.csv"]);
    place.file("a.txt", "a\tb\n");
    place.run("import s a.txt").fails("usage.format").says(&["a.txt", "--format"]);
    place.feed("import s -", b"a\tb\n").fails("usage.format").says(&["stdin"]);
    place.file("a.csv.zst", "not packed at all");
    place.run("import s a.csv.zst --key id").fails("import.file").says(&["a.csv.zst"]);
    place.run("import s a.txt --format tsv").exits(2).says(&["tsv", "csv", "jsonl", "kv"]);
}

#[test]
fn an_import_that_is_killed_is_finished_by_the_same_import() {
    let place = Place::with_file("a.csv", "id,name\n1,Bern\n", "--key id");
    let root = place.root("s");
    let mut child = place.command(&["import", "s", "-", "--format", "csv"]);
    let mut child = child.stdin(Stdio::piped()).spawn().expect("the binary");
    let lines: String = (0..100_000).map(|n| format!("{n},name {n}\n")).collect();
    let whole = format!("id,name\n{lines}");
    child.stdin.as_mut().expect("its stdin").write_all(whole.as_bytes()).expect("read");
    child.kill().expect("killed");
    child.wait().expect("its end");
    assert_eq!(place.root("s"), root);
    let finished = place.feed_json("import s - --format csv", whole.as_bytes()).ok().summary();
    assert_eq!((&finished["wrote"], &finished["records"]), (&100_000.into(), &100_000.into()));
    place.run("verify s").ok().says(&["100,000 records"]);
}
