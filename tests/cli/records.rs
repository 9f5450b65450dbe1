//! put, get, delete, list: one record at a time, as raw bytes and as rows.

use crate::harness::Place;

#[test]
fn raw_records_are_put_got_and_deleted() {
    let place = Place::with_store();
    place.run("get s a").exits(1).prints("");
    place.run("put s a b").ok().prints("put a\n");
    place.run("get s a").ok().prints("b");
    place.feed("put s a -", b"\x00line\n\xff").ok();
    assert_eq!(place.run("get s a").ok().bytes, b"\x00line\n\xff");
    place.run_args(&["put", "s", "0x00ff", "x"]).ok();
    place.run("list s").ok().prints("0x00ff\na\n");
    place.run("delete s a").ok().prints("deleted a\n");
    place.run("delete s a").exits(1).says(&["has no value"]);
    place.run("delete s a --exit-zero").ok();
    place.run("get s a --exit-zero").ok().prints("");
    place.run("list s").ok().prints("0x00ff\n");
    place.run("verify s").ok().says(&["1 records, 1 tombstones"]);
}

#[test]
fn rows_are_put_got_and_deleted_as_the_file_spelled_them() {
    let place = Place::with_file("a.csv", "id,name,note\n1,Bern,\n", "--key id");
    place.run("get s 1").ok().prints("1,Bern,\n");
    place.run_args(&["put", "s", "2", "2,\"a,b\",\"\""]).ok();
    place.run("get s 2").ok().prints("2,\"a,b\",\"\"\n");
    let line = place.run("get s 2").ok().out;
    place.feed("put s 2 -", line.as_bytes()).ok();
    place.run("export s").ok().prints("id,name,note\n1,Bern,\n2,\"a,b\",\"\"\n");
    place.run("put s 3 4,x,y").fails("usage.record").says(&["4", "3", "nothing was changed"]);
    place.run("put s 3 3,x").fails("usage.record").says(&["id,name,note"]);
    place.feed("put s 3 -", b"3,\xff,\n").fails("usage.record").says(&["UTF-8"]);
    place.run("delete s 1").ok();
    place.run("list s").ok().prints("2\n");
    let place = Place::with_file("a.jsonl", "{\"id\":1,\"x\":[true]}\n{\"id\":\"1\"}\n", "--key id");
    place.run("get s 1").ok().prints("{\"id\":1,\"x\":[true]}\n");
    place.run_args(&["get", "s", "\"1\""]).ok().prints("{\"id\":\"1\"}\n");
    place.run("list s").ok().prints("1\n\"1\"\n");
}

#[test]
fn bounds_are_named() {
    let place = Place::with_store();
    let key = "k".repeat(64 * 1024 + 1);
    for command in ["get", "delete"] {
        place.run_args(&[command, "s", &key]).fails("record.key-too-long").says(&["65537", "65536"]);
    }
    place.run_args(&["put", "s", &key, "v"]).fails("record.key-too-long");
    let ran = place.feed("put s k -", &vec![0; 64 * 1024 * 1024 + 1]).fails("record.value-too-long");
    ran.says(&["67108864", "nothing was changed"]);
    place.run("get s k").exits(1);
    place.feed("put s k -", &vec![7; 1 << 20]).ok();
    assert_eq!(place.run("get s k").ok().bytes, vec![7; 1 << 20]);
    place.run("get s 0xzz").fails("usage.record").says(&["hex"]);
}

#[test]
fn keys_are_listed_in_order_by_prefix_and_limit() {
    let place = Place::with_file("a.kv", "b\t1\nab\t2\na\\tb\t3\na\t4\n", "");
    place.run("list s").ok().prints("a\n0x610962\nab\nb\n");
    place.run("list s --prefix a").ok().prints("a\n0x610962\nab\n");
    place.run("list s --prefix 0x6109").ok().prints("0x610962\n");
    place.run("list s --limit 2").ok().prints("a\n0x610962\n");
    place.run("list s --limit 0").ok().prints("");
    place.run("list s --prefix zz").ok().prints("");
    let ran = place.run("list s --limit 2 --format jsonl").ok();
    let keys = ran.objects();
    assert_eq!((&keys[0]["key"], keys[0].get("key_hex")), (&"a".into(), None));
    assert_eq!((&keys[1]["key"], &keys[1]["key_hex"]), (&"0x610962".into(), &"610962".into()));
    assert_eq!((&ran.summary()["keys"], &ran.summary()["more"]), (&2.into(), &true.into()));
    let place = Place::with_file("a.csv", "k\nalpha\nalps\n12\n12a\nbeta\n", "--key k");
    place.run("list s --prefix al").ok().prints("alpha\nalps\n");
    place.run_args(&["list", "s", "--prefix", "\"12"]).ok().prints("12a\n");
    place.run("list s --prefix 12").fails("usage.prefix").says(&["numbers"]);
    let place = Place::with_file("a.csv", "a,b\nx,1\n", "--key a,b");
    place.run("list s --prefix x").fails("usage.prefix").says(&["a,b"]);
    place.run("list s").ok().prints("x,1\n");
    place.run("get s x,1").ok().prints("x,1\n");
    place.run("get s x").fails("usage.record").says(&["a,b"]);
}

#[test]
fn json_is_one_document_that_ends_with_a_summary() {
    let mut place = Place::with_file("a.csv", "id,name\n1,Bern\n", "--key id");
    for (command, exit, name) in [
        ("put s 2 2,Ulm", 0, "put"),
        ("get s 1", 0, "get"),
        ("get s 9", 1, "get"),
        ("delete s 2", 0, "delete"),
        ("delete s 2", 1, "delete"),
        ("list s", 0, "list"),
        ("verify s", 0, "verify"),
        ("import s a.csv", 0, "import"),
        ("dataset show s", 0, "dataset show"),
        ("export s -o out.csv", 0, "export"),
        ("backup s copy", 0, "backup"),
        ("restore copy r", 0, "restore"),
        ("id", 0, "id"),
        ("peers list", 0, "peers list"),
        ("init new", 0, "init"),
        ("init new", 2, "init"),
    ] {
        place.vars = vec![("REKNIT_FORMAT", "json".into())];
        let ran = place.run(command).exits(exit);
        place.vars.clear();
        let document: serde_json::Value = serde_json::from_str(&ran.out).expect("a document");
        let summary = &document["summary"];
        assert_eq!((&summary["t"], &summary["exit"]), (&"summary".into(), &exit.into()), "{command}");
        assert_eq!(summary["command"].as_str().unwrap_or_default(), name, "{command}");
        assert!(document["items"].is_array());
        if exit == 2 {
            assert_eq!(summary["error"], "store.exists");
        }
    }
    let got = place.run("get s 1 --format jsonl").ok().summary();
    assert_eq!((&got["row"]["name"], &got["key"], &got["found"]), (&"Bern".into(), &"1".into(), &true.into()));
    place.run("init raw").ok();
    place.feed("put raw k -", b"\xff\x00").ok();
    assert_eq!(place.run("get raw k --format jsonl").ok().summary()["value_hex"], "ff00");
    place.run("put raw k text").ok();
    assert_eq!(place.run("get raw k --format jsonl").ok().summary()["value"], "text");
    assert_eq!(place.run("put raw k text --format jsonl").ok().summary()["wrote"], 1);
}

#[test]
fn quiet_prints_nothing_when_all_is_well() {
    let mut place = Place::with_file("a.csv", "id,name\n1,Bern\n", "--key id");
    place.vars.push(("REKNIT_QUIET", "true".into()));
    for command in [
        "init new",
        "import s a.csv",
        "put s 2 2,Ulm",
        "get s 1",
        "list s",
        "delete s 2",
        "verify s",
        "backup s copy",
        "restore copy r",
        "dataset show s",
        "dataset export s file",
        "dataset import file t",
        "export s -o out.csv",
        "id",
        "peers list",
        "man --dir pages",
    ] {
        let ran = place.run(command).ok();
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "{command}");
    }
    place.run("delete s 2").exits(1).says(&["has no value"]);
}

#[test]
fn what_expires_is_gone_everywhere_and_no_difference() {
    let place = Place::with_store();
    place.run("init t --like s").ok();
    let ran = place.json("put s stays v --expires 1d").ok();
    assert!(ran.summary()["expires_ms"].as_u64() > Some(86_400_000));
    place.run("put s plain v").ok();
    place.run("repair s t --apply").ok();
    place.run("put s goes v --expires 0ms").ok();
    place.run("get s goes").exits(1).prints("");
    place.run("list s").ok().prints("plain\nstays\n");
    // It is deleted where it was and where it never came to be.
    place.run("repair s t --apply").ok();
    place.run("check s t").ok().says(&["in sync"]);
    place.run("list t").ok().prints("plain\nstays\n");
    for store in ["s", "t"] {
        place.run(&format!("verify {store}")).ok().says(&["2 records, 1 tombstones"]);
    }
    place.run("put s k v --expires soon").fails("usage.duration");
    place.run("init c --profile content").ok();
    place.run("put c k v --expires 1d").fails("put.expires").says(&["versions", "wrote 0 records"]);
    place.run("get c k").exits(1);
}
