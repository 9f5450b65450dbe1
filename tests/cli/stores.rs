//! init, verify, backup, restore, and stores that cannot be used.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use reknit::store::engine::{self, Batch};
use reknit::store::{Durability, EngineKind};

use crate::harness::Place;

#[test]
fn a_store_is_made_once() {
    let place = Place::new();
    let made = place.run("init cities --format jsonl").ok().summary();
    assert_eq!((&made["command"], &made["dataset"], &made["records"]), (&"init".into(), &"cities".into(), &0.into()));
    assert_eq!(made["dataset_id"].as_str().map(str::len), Some(32));
    place.run("init cities").fails("store.exists").says(&["cities", "nothing was changed"]);
    fs::create_dir(place.path("full")).expect("a directory");
    place.file("full/x", "x");
    place.run("init full").fails("store.exists");
    assert_eq!(place.names(&place.path("full")), ["x"]);
    fs::create_dir(place.path("empty")).expect("a directory");
    place.run("init empty").ok();
}

#[test]
fn a_store_is_named_profiled_and_indexed_as_asked() {
    let place = Place::new();
    place.run("init a --name towns --profile content --no-key-index").ok();
    let shown = place.run("dataset show a --format jsonl").ok().summary();
    assert_eq!((&shown["dataset"], &shown["profile"]), (&"towns".into(), &"content".into()));
    assert_eq!(shown["key_index"], false);
    place.run("list a").fails("store.no-key-index");
    place.run("export a").fails("store.no-key-index");
    place.run_args(&["init", "b", "--name", "a/b"]).fails("usage.name");
    assert!(!place.path("b").exists());
}

#[test]
fn a_store_like_another_shares_its_dataset_but_not_its_life() {
    let place = Place::with_file("a.csv", "id,x\n1,a\n", "--key id");
    let one = place.run("dataset show s --format jsonl").ok().summary();
    let made = place.run("init t --like s --format jsonl").ok().summary();
    let two = place.run("dataset show t --format jsonl").ok().summary();
    assert_eq!((&one["definition"], &one["collections"]), (&two["definition"], &two["collections"]));
    assert_eq!(two["entries"], 0);
    let again = place.run("init u --like s --format jsonl").ok().summary();
    assert_ne!(made["actor"], again["actor"]);
    place.run("import t a.csv").ok();
    place.run("export t").ok().prints("id,x\n1,a\n");
    place.run("init v --like s --name other").exits(2);
    place.run("init v --like nowhere").fails("store.none");
    assert!(!place.path("v").exists());
}

#[test]
fn what_is_no_store_is_said_by_every_command() {
    let place = Place::new();
    place.file("a.kv", "a\tb\n");
    place.file("file", "");
    fs::create_dir(place.path("dir")).expect("a directory");
    for store in ["nowhere", "dir", "file", "sqlite:a.db/t", "postgres://me@host/shop/t", "csv:file"] {
        let table = store.contains(':');
        for command in [
            "import STORE a.kv",
            "export STORE",
            "put STORE a b",
            "get STORE a",
            "delete STORE a",
            "list STORE",
            "verify STORE",
            "backup STORE copy",
            "restore STORE copy",
            "dataset show STORE",
            "dataset export STORE out",
        ] {
            // What is restored is a directory of its own kind.
            let id = if table && !command.starts_with("restore") { "store.table" } else { "store.none" };
            place.run(&command.replace("STORE", store)).fails(id).says(&[store]);
        }
    }
    assert!(!place.path("nowhere").exists() && !place.path("copy").exists() && !place.path("out").exists());
}

#[test]
fn a_store_of_a_later_release_is_left_alone() {
    let place = Place::with_store();
    place.file("s/reknit.store", "reknit store 99\nengine fjall\n");
    place.run("verify s").fails("store.format").says(&["reknit store 99"]);
}

#[test]
fn a_store_that_another_process_holds_is_in_use() {
    let place = Place::with_store();
    let mut holder = place.command(&["import", "s", "-", "--format", "kv"]);
    let mut holder = holder.stdin(Stdio::piped()).spawn().expect("the binary");
    // More than a pipe holds: once it is written, the store was opened and is being filled.
    let lines: String = (0..100_000).map(|n| format!("key {n}\tvalue\n")).collect();
    let stdin = holder.stdin.as_mut().expect("its stdin");
    stdin.write_all(lines.as_bytes()).expect("read");
    for command in ["verify s", "get s a", "put s a b", "list s", "export s", "init t --like s"] {
        place.run(command).fails("store.in-use").says(&["in use by another process"]);
    }
    holder.kill().expect("killed");
    holder.wait().expect("its end");
    // Killed before the end of its input, the import has changed nothing.
    place.run("list s").ok().prints("");
    place.run("verify s").ok();
}

/// The keys of all rows of the store `s`.
pub(crate) fn rows(place: &Place) -> Vec<Vec<u8>> {
    let engine = engine::open(EngineKind::default(), &place.path("s/rows"), 1 << 20).expect("the engine");
    let snapshot = engine.snapshot().expect("a snapshot");
    snapshot.scan(&[], &[0xff; 8]).expect("rows").map(|row| row.expect("a row").0).collect()
}

/// The row of an entry: its tag is as docs/formats.md has it.
pub(crate) fn entry(rows: &[Vec<u8>]) -> &[u8] {
    rows.iter().find(|row| row.starts_with(&[2])).expect("an entry")
}

/// Overwrites the row of a record with what is none; gives the row, and what it held.
pub(crate) fn rot(place: &Place, store: &str, key: &str) -> (Vec<u8>, Vec<u8>) {
    let engine = engine::open(EngineKind::default(), &place.path(store).join("rows"), 1 << 20).expect("the engine");
    let found = {
        let snapshot = engine.snapshot().expect("a snapshot");
        let mut rows = snapshot.scan(&[1], &[2]).expect("rows").map(|row| row.expect("a row"));
        rows.find(|(row, _)| row.ends_with(key.as_bytes())).expect("a record")
    };
    set(engine, &found.0, &vec![0xff; found.1.len()]);
    (found.0.to_vec(), found.1.to_vec())
}

/// Puts a row back as it was.
pub(crate) fn heal(place: &Place, store: &str, (row, value): &(Vec<u8>, Vec<u8>)) {
    let engine = engine::open(EngineKind::default(), &place.path(store).join("rows"), 1 << 20).expect("the engine");
    set(engine, row, value);
}

fn set(engine: std::sync::Arc<dyn engine::Engine>, row: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(row, value);
    engine.commit(&mut batch, Durability::Synced).expect("committed");
}

/// Takes a row away.
pub(crate) fn remove(place: &Place, row: &[u8]) {
    let engine = engine::open(EngineKind::default(), &place.path("s/rows"), 1 << 20).expect("the engine");
    let mut batch = Batch::new();
    batch.delete(row);
    engine.commit(&mut batch, Durability::Synced).expect("committed");
}

#[test]
fn verify_names_what_is_damaged() {
    let place = Place::with_file("a.csv", "id,x\n1,a\n2,b\n3,c\n", "--key id");
    place.run("verify s").ok().says(&["sound: 3 records"]);
    let rows = rows(&place);
    let damage = |row: &[u8]| remove(&place, row);
    damage(entry(&rows));
    let ran = place.run("verify s").exits(1).says(&["damaged: "]);
    assert!(ran.out.lines().count() >= 2, "a line for each fault, then the summary: {ran:?}");
    let ran = place.run("verify s --format jsonl").exits(1);
    let summary = ran.summary();
    assert_eq!((&summary["sound"], &summary["exit"]), (&false.into(), &1.into()));
    assert_eq!(ran.objects().iter().filter(|o| o["t"] == "fault").count() as u64, summary["faults"].as_u64().unwrap());
    place.run("verify s --exit-zero").ok();
    place.run("verify s --quiet").exits(1).says(&["damaged: "]);
    let definition = rows.iter().find(|row| row.ends_with(b"definition")).expect("the row of the definition").clone();
    damage(&definition);
    place.run("verify s").fails("store.damaged").says(&["definition"]);
    place.run("get s 1").fails("store.damaged");
}

#[test]
fn a_backup_becomes_a_store_with_a_life_of_its_own() {
    let place = Place::with_file("a.csv", "id,x\n1,a\n2,b\n", "--key id");
    let copied = place.run("backup s copy --format jsonl").ok().summary();
    assert!(copied["rows"].as_u64().unwrap_or(0) >= 2);
    place.run("backup s copy").fails("store.exists");
    place.run("put s 3 3,c").ok();
    let one = place.run("restore copy r --format jsonl").ok().summary();
    let two = place.run("restore copy q --format jsonl").ok().summary();
    assert_eq!(one["records"], 2);
    assert_ne!(one["actor"], two["actor"]);
    place.run("restore copy r").fails("store.exists");
    place.run("export r").ok().prints("id,x\n1,a\n2,b\n");
    place.run("verify r").ok();
    assert_eq!(place.root("r"), place.root("q"));
}

#[test]
fn both_engines_serve_the_same_commands() {
    for (engine, other) in [("fjall", "redb"), ("redb", "fjall")] {
        let place = Place::new();
        place.run(&format!("init s --engine {engine}")).ok();
        assert!(place.read("s/reknit.store").contains(engine));
        place.file("a.csv", "id,x\n1,a\n2,b\n");
        place.run("import s a.csv --key id").ok();
        place.run(&format!("backup s copy --engine {other}")).ok();
        place.run("restore copy r").ok();
        place.run("export r").ok().prints("id,x\n1,a\n2,b\n");
        place.run("verify s").ok();
        assert_eq!(place.root("s"), place.root("r"));
    }
}

/// The names of directories are bytes; what is not UTF-8 is shown as well as it can be.
#[test]
#[cfg(target_os = "linux")]
fn any_directory_will_do() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut place = Place::new();
    place.vars = vec![("REKNIT_FORMAT", "jsonl".into())];
    place.file("a.kv", "a\tb\n");
    let odd = |name: &str| OsString::from_vec([name.as_bytes(), b"\xff"].concat());
    let home = [OsStr::from_bytes(b"--home").to_owned(), odd("home")];
    let commands: [&[&OsStr]; 9] = [
        &["init".as_ref(), &odd("s")],
        &["import".as_ref(), &odd("s"), "a.kv".as_ref()],
        &["export".as_ref(), &odd("s"), "-o".as_ref(), &odd("out")],
        &["backup".as_ref(), &odd("s"), &odd("copy")],
        &["restore".as_ref(), &odd("copy"), &odd("again")],
        &["dataset".as_ref(), "export".as_ref(), &odd("s"), &odd("file")],
        &["id".as_ref()],
        &["status".as_ref()],
        &["man".as_ref(), "--dir".as_ref(), &odd("pages")],
    ];
    for command in commands {
        let args: Vec<&OsStr> = command.iter().copied().chain(home.iter().map(OsString::as_os_str)).collect();
        let ran = crate::harness::Ran::of(place.command(&args).output().expect("the binary")).ok();
        assert_eq!(ran.summary()["exit"], 0, "{ran:?}");
    }
}
