//! export: the same rows back, in key order, to stdout and to files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::harness::{Place, Ran};

#[test]
fn rows_come_back_byte_for_byte_in_key_order() {
    let sorted = "id,name,note\n-5,\"a,b\",\n2,\"say \"\"hi\"\"\",\"\"\n10,\"two\nlines\",x\nten,Ulm,\n";
    let place = Place::with_store();
    place.file(
        "shuffled.csv",
        "id,name,note\nten,\"Ulm\",\n10,\"two\nlines\",x\n2,\"say \"\"hi\"\"\",\"\"\n-5,\"a,b\",\n",
    );
    place.run("import s shuffled.csv --key id").ok();
    place.run("export s").ok().prints(sorted);
    place.run("export s --quiet").ok().prints(sorted);
    place.run("export s -o out.csv").ok().prints("exported 4 records to out.csv\n");
    assert_eq!(place.read("out.csv"), sorted);
    assert!(place.names(&place.path("")).iter().all(|name| !name.ends_with(".new")), "no draft stays");
    place.run("init t").ok();
    place.run("import t out.csv --key id").ok();
    place.run("export t").ok().prints(sorted);
}

#[test]
fn the_gazetteer_comes_back() {
    let place = Place::with_store();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/geonames/cities15000-1.6.0.csv.zst");
    place.run_args(&["import", "s", file.to_str().expect("a path"), "--key", "geonameid"]).ok();
    let plain = zstd::decode_all(fs::File::open(&file).expect("the data")).expect("unpacked");
    let exported = place.run("export s").ok();
    assert!(exported.bytes == plain, "{} bytes instead of {}", exported.bytes.len(), plain.len());
    // A reader that has seen enough ends the export quietly.
    let mut child = place.command(&["export", "s"]).spawn().expect("the binary");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("its stdout")).read_line(&mut first).expect("a line");
    let ran = Ran::of(child.wait_with_output().expect("its end")).ok();
    assert!(first.starts_with("geonameid,") && ran.err.is_empty(), "{ran:?}");
    let mut child = place.command(&["list", "s"]).spawn().expect("the binary");
    drop(child.stdout.take());
    assert_eq!(Ran::of(child.wait_with_output().expect("its end")).ok().err, "");
}

#[test]
fn the_format_is_as_asked_by_the_ending_or_as_imported() {
    let place = Place::with_file("a.csv", "id,name\n1,Bern\n", "--key id");
    let json = "{\"id\":\"1\",\"name\":\"Bern\"}\n";
    place.run("export s --format jsonl").ok().prints(json);
    place.run("export s -o out.jsonl").ok();
    place.run("export s -o out.csv.zst").ok();
    place.run("export s -o out.data").ok();
    assert_eq!((place.read("out.jsonl").as_str(), place.read("out.data").as_str()), (json, "id,name\n1,Bern\n"));
    let packed = fs::read(place.path("out.csv.zst")).expect("the file");
    assert_eq!(zstd::decode_all(packed.as_slice()).expect("packed"), b"id,name\n1,Bern\n");
    place.run("init raw").ok();
    place.run("put raw a b").ok();
    place.run("export raw").ok().prints("a\tb\n");
    place.run("export raw --format csv").fails("export.row").says(&["kv"]);
}

#[test]
fn a_report_of_an_export_to_stdout_goes_to_stderr() {
    let place = Place::with_file("a.kv", "a\tb\n", "");
    let ran = place.json("export s").ok().prints("a\tb\n");
    let summary: serde_json::Value = serde_json::from_str(&ran.err).expect("a summary");
    assert_eq!((&summary["command"], &summary["records"]), (&"export".into(), &1.into()));
}

#[test]
fn a_file_that_cannot_be_written_leaves_what_was_there() {
    let place = Place::with_file("a.jsonl", "{\"id\":1,\"x\":1}\n{\"id\":2}\n", "--key id");
    place.file("out.csv", "before");
    place.run("export s -o out.csv").fails("export.row").says(&["2", "`x`", "jsonl"]);
    assert_eq!(place.read("out.csv"), "before");
    place.run("export s -o nowhere/out.csv").fails("output").says(&["nowhere"]);
    place.run("export s -o s").fails("output").says(&["directory"]);
    assert!(place.names(&place.path("")).iter().all(|name| !name.ends_with(".new")), "no draft stays");
    std::os::unix::fs::symlink("out.csv", place.path("link.jsonl")).expect("a link");
    place.run("export s -o link.jsonl").ok();
    assert_eq!(place.read("out.csv"), "{\"id\":1,\"x\":1}\n{\"id\":2}\n");
    assert!(place.path("link.jsonl").is_symlink());
    if Path::new("/dev/full").exists() {
        place.run("export s --format jsonl -o /dev/full").fails("output");
        place.run("export s --format jsonl -o /dev/null").ok();
    }
}
