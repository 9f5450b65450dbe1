//! Files of metrics: in the text format of Prometheus, read as strictly as its own tools do, and replaced whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::Place;

/// Samples by name and labels, in the order of the labels.
pub(crate) type Samples = BTreeMap<String, f64>;

/// Reads a file of metrics; panics at whatever the format does not allow.
#[track_caller]
pub(crate) fn read(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has an end");
    let (mut samples, mut closed) = (Samples::new(), BTreeSet::new());
    let (mut helped, mut typed) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and what it is");
            assert!(!help.is_empty() && !help.contains('\\') && closed.insert(name.to_string()), "{line}");
            helped = name.into();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let kind = if helped.ends_with("_total") { "counter" } else { "gauge" };
            assert_eq!(rest, format!("{helped} {kind}"));
            typed = helped.clone();
        } else {
            let end = line.find(['{', ' ']).expect("a name");
            let (name, rest) = line.split_at(end);
            assert!(
                name == typed
                    && (name.starts_with("reknit_") || name.starts_with("process_"))
                    && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => labels(rest),
                None => (Vec::new(), rest),
            };
            let names: BTreeSet<&String> = labels.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), labels.len(), "a label comes once: {line}");
            let value = value.strip_prefix(' ').expect("a blank").parse().expect("a number");
            let key = labels.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>();
            assert!(samples.insert(format!("{name}{key}"), value).is_none(), "twice: {line}");
        }
    }
    samples
}

/// The labels up to the brace that ends them, and what follows.
fn labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a name and a value");
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}");
        let (mut value, mut characters) = (String::new(), after.char_indices());
        let end = loop {
            match characters.next().expect("the value ends") {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next().expect("what is escaped").1 {
                    'n' => '\n',
                    other => {
                        assert!(['\\', '"'].contains(&other), "{other} is never escaped");
                        other
                    }
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_string(), value));
        rest = match after[end + 1..].split_at(1) {
            (",", rest) => rest,
            ("}", rest) => return (labels, rest),
            (other, _) => panic!("{other} after a label"),
        };
    }
}

fn with_tables() -> Place {
    let place = Place::new();
    for (file, rows) in [("a.db", "(1, 'x'), (2, 'y'), (3, 'z')"), ("b.db", "(1, 'x'), (2, 'other')")] {
        let table = format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES {rows}");
        rusqlite::Connection::open(place.path(file)).expect("a database").execute_batch(&table).expect("statements");
    }
    place
}

#[test]
fn what_a_command_found_is_written_whole_and_kept_by_runs_that_fail() {
    let place = with_tables();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let job = |name: &str, more: &str| {
        format!("[job.{name}]\na = 'a'\nb = 'b'\nsettle = '0ms'\nmetrics_file = '../orders.prom'\n{more}\n")
    };
    let stores = "[store.a]\nurl = 'sqlite:../a.db'\n[store.b]\nurl = 'sqlite:../b.db'\n";
    let mend = job("mend", "do = 'repair'\nto = 'b'\nno_probe = true");
    place.file("home/config.toml", format!("{stores}{}{mend}", job("orders", "do = 'diff'")));
    place.run("run orders").exits(1);
    let found = read(&place.read("orders.prom"));
    let root = place.path("").canonicalize().expect("it is there");
    let of = format!(" job=orders a=sqlite:{0}/a.db b=sqlite:{0}/b.db", root.display());
    for (name, more, value) in [
        ("verdict", " verdict=differs", 1.0),
        ("verdict", " verdict=in_sync", 0.0),
        ("exit_code", "", 1.0),
        ("differences", " class=only_a", 1.0),
        ("differences", " class=content", 1.0),
        ("differences", " class=only_b", 0.0),
        ("records", " side=a", 3.0),
        ("records", " side=b", 2.0),
        ("written_records", " side=b", 0.0),
    ] {
        assert_eq!(found.get(&format!("reknit_{name}{of}{more}")), Some(&value), "{name}{more} in {found:?}");
    }
    assert!(found[&format!("reknit_transferred_bytes{of} kind=messages")] > 0.0);
    assert!(found[&format!("reknit_duration_seconds{of}")] > 0.0);
    assert!(!found.contains_key(&format!("reknit_last_success_timestamp_seconds{of}")), "it has had none");
    place.run("run mend").ok();
    assert_eq!(
        read(&place.read("orders.prom"))[&format!("reknit_written_records{} side=b", of.replace("orders", "mend"))],
        2.0
    );
    place.run("run orders").ok();
    let success = format!("reknit_last_success_timestamp_seconds{of}");
    let first = read(&place.read("orders.prom"))[&success];
    // A command that fails writes its exit, and leaves the time of the last success.
    std::fs::remove_file(place.path("b.db")).expect("a database");
    place.run("run orders").exits(2);
    let failed = read(&place.read("orders.prom"));
    assert_eq!((failed[&format!("reknit_exit_code{of}")], failed[&success]), (2.0, first));
    assert!(failed.iter().filter(|(name, _)| name.starts_with("reknit_verdict")).all(|(_, is)| *is == 0.0));
    assert!(!failed.keys().any(|name| name.starts_with("reknit_differences")), "what is not known is not told");
    assert_eq!(place.names(&place.path("")), ["a.db", "home", "orders.prom"], "nothing else is left there");
}

#[test]
fn metrics_go_where_they_were_asked_to_go() {
    let mut place = with_tables();
    place.run("check sqlite:a.db sqlite:b.db --settle 0ms --metrics-file it\"s.prom").exits(1);
    let checked = read(&place.read("it\"s.prom"));
    assert!(
        checked.iter().any(|(name, n)| name.starts_with("reknit_estimated_differences") && *n > 0.0),
        "{checked:?}"
    );
    assert!(!checked.keys().any(|name| name.starts_with("reknit_differences")), "a check lists none");
    place.run("repair sqlite:a.db sqlite:b.db --metrics-file refused.prom").exits(4);
    let refused = read(&place.read("refused.prom"));
    assert!(refused.iter().any(|(name, is)| name.ends_with("verdict=refused") && *is == 1.0), "{refused:?}");
    place.run("run none --metrics-file none.prom").exits(2);
    assert_eq!(read(&place.read("none.prom"))["reknit_exit_code"], 2.0);
    // Labels hold any name; no password.
    std::fs::copy(place.path("a.db"), place.path("q\"\\.db")).expect("a copy");
    place.vars = vec![("REKNIT_METRICS_FILE", "odd.prom".into())];
    place.run("check sqlite:q\"\\.db sqlite:b.db --settle 0ms").exits(1);
    let odd = read(&place.read("odd.prom"));
    assert!(odd.keys().any(|name| name.contains(" a=sqlite:/") && name.contains("/q\"\\.db b=")), "{odd:?}");
    place.run("check postgres://me:secret@nowhere.invalid/db/t sqlite:b.db --settle 0ms").exits(2);
    let text = place.read("odd.prom");
    read(&text);
    assert!(text.contains("postgres://me@nowhere.invalid/db/t") && !text.contains("secret"), "{text}");
    // Where the file cannot be written, what was in sync is not told as done.
    place.vars = vec![("REKNIT_METRICS_FILE", "none/x.prom".into())];
    place.run("check sqlite:a.db sqlite:q\"\\.db --settle 0ms").exits(2).says(&["in sync", "[metrics.file]"]);
    place.run("check sqlite:a.db sqlite:b.db --settle 0ms").exits(1).says(&["[metrics.file]"]);
}
