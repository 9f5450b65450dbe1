//! How rows are laid out is known in stores that had no import of their own, as far as somebody could tell it.

use crate::daemon::{Daemon, admit, at};
use crate::harness::Place;

const CSV: &str = "id,name\n5,Bern\n7,Ulm\n8,Gera\n";

/// Stores `a` and `b` of a dataset, of which `a` then got a file.
fn imported(init: &[&str]) -> Place {
    let place = Place::new();
    place.run_args(&[&["init", "a"], init].concat()).ok();
    place.run("init b --like a").ok();
    place.file("rows.csv", CSV);
    place.run("import a rows.csv --key id").ok();
    place
}

#[test]
fn a_store_that_is_filled_by_another_here_knows_its_rows() {
    let place = imported(&["--policy", "ask"]);
    place.run("repair b a --apply").ok().says(&["in sync"]);
    place.run("get b 5").ok().prints("5,Bern\n");
    place.run_args(&["put", "b", "7", "7,Ulm an der Donau"]).ok();
    place.run_args(&["put", "a", "7", "7,Neu-Ulm"]).ok();
    place.run("repair a b --apply").ok();
    place.run("conflicts show b 7").exits(1).says(&["Neu-Ulm", "Ulm an der Donau"]);
    place.run("conflicts resolve b 7 --version 2").ok();
    place.run("repair a b --apply").ok();
    assert_eq!(place.run("export b").ok().out, place.run("export a").ok().out);
    assert_eq!(place.run("list b").ok().out, "5\n7\n8\n");
}

#[test]
fn only_a_store_that_is_written_and_holds_nothing_else_takes_it() {
    let place = imported(&[]);
    place.run("check a b").exits(1);
    place.run("repair a b").exits(1);
    place.run("repair a b --to a --apply").exits(1);
    place.run("repair a b --to a --mirror --apply").exits(4);
    place.run("put b k raw").ok();
    place.run("get b k").ok().prints("raw");
    place.run("repair a b --apply").ok().says(&["in sync"]);
    place.run("get b k").ok().prints("raw");
    place.run("delete b k").ok();
    // What was deleted is no record in another form.
    place.run("repair a b --apply").ok();
    place.run("get b 5").ok().prints("5,Bern\n");
    place.run("verify b").ok();
}

#[test]
fn rows_that_came_from_a_peer_are_known_by_the_file_or_by_another_store() {
    let place = imported(&[]);
    place.run("init c --like b").ok();
    admit(&place, "far", "compare,read,write");
    let daemon = Daemon::start(&place, "far", &["a"]);
    for store in ["b", "c"] {
        let told = place.run(&format!("repair {store} {} --apply", daemon.address())).ok();
        told.says(&["in sync", "default holds rows of a file and does not know how they are laid out"]);
    }
    place.run("get b 5").exits(1);
    drop(daemon);
    // Another file, or other keys, are not what it holds.
    place.file("other.csv", "name,id\nBern,5\n");
    place.run("import b other.csv --key name").exits(2).says(&["nothing was changed"]);
    place.file("raw.kv", "k\tv\n");
    place.file("head.csv", "id\n");
    place.run("import b head.csv --key id").ok().says(&["read 0 records"]);
    // The other columns are those of the rows.
    place.run("get b 5").ok().prints("5,Bern\n");
    place.run("export b").ok().prints(CSV);
    place.run("import b raw.kv").exits(2);
    let told = place.run("import b rows.csv").ok();
    told.says(&["read 3 records, wrote 0"]);
    place.run("repair a c --apply").ok().says(&["nothing to repair"]);
    place.run("get c 5").ok().prints("5,Bern\n");
    at(&place, "far", "verify a").ok();
}
