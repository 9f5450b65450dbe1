//! dataset show, export, import: what a dataset is, and its secret kept to its owner.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::Place;

#[test]
fn a_dataset_travels_by_file_with_its_secret_and_layout() {
    let place = Place::with_file("a.csv", "id,x\n1,a\n", "--key id");
    let ran = place.run("dataset export s file").ok();
    let text = place.read("file");
    let secret = text.lines().find_map(|line| line.strip_prefix("key = ")).expect("the secret").trim_matches('"');
    assert_eq!(secret.len(), 64);
    assert!(!ran.out.contains(secret) && !place.run("dataset show s").ok().out.contains(secret));
    assert!(!place.run("dataset show s --format json").ok().out.contains(secret));
    let mode = fs::metadata(place.path("file")).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    place.run("dataset export s file").fails("dataset.exists").says(&["file", "not touched"]);
    assert_eq!(place.read("file"), text);
    place.run("dataset import file t").ok().says(&["s"]);
    let [one, two] = ["s", "t"].map(|s| place.run(&format!("dataset show {s} --format jsonl")).ok().summary());
    assert_eq!((&one["definition"], &one["collections"]), (&two["definition"], &two["collections"]));
    assert_eq!((&one["entries"], &two["entries"]), (&1.into(), &0.into()));
    place.run("import t a.csv").ok();
    place.run("dataset import file t").fails("store.exists");
    place.run("dataset export s nowhere/file").fails("output");
}

#[test]
fn a_file_that_is_no_dataset_makes_nothing() {
    let place = Place::with_store();
    place.run("dataset export s file").ok();
    let text = place.read("file");
    let secret = text.lines().find_map(|line| line.strip_prefix("key = ")).expect("the secret").trim_matches('"');
    for (wrong, word) in [
        ("".to_string(), "format"),
        (text.replace("reknit dataset 1", "reknit dataset 2"), "reknit dataset 2"),
        (text.replace("definition = \"01", "definition = \"09"), "definition"),
        (text.replace("definition = \"01", "definition = \"0x"), "hex"),
        (text.replace(secret, &secret[2..]), "key"),
        (text.replace("key = ", "key: "), "line"),
        (format!("{text}more = 1\n"), "more"),
        (format!("{text}[[layout]]\ncollection = \"none\"\nlayout = \"\"\n"), "none"),
    ] {
        place.file("wrong", wrong);
        let ran =
            place.run("dataset import wrong t").fails("dataset.malformed").says(&["wrong", word, "nothing was made"]);
        assert!(!ran.err.contains(&secret[2..]), "the secret is not told");
        assert!(!place.path("t").exists());
    }
    place.run("dataset import nowhere t").fails("dataset.file");
    place.run("dataset").exits(2);
}
