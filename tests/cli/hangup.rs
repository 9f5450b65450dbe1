//! SIGHUP: what a daemon takes up of a configuration that it reads again, and what it names that it does not, key by key.

use serde_json::Value;

use crate::daemon::until;
use crate::harness::Place;
use crate::monitoring::{log, logged, signal};

const BEGUN: &str = "[serve]
stores = ['@main']
[store.main]
url = '../s'
[gossip]
every = '1h'
";

const CHANGED: &str = "[serve]
stores = ['@main', '../t']
listen = '127.0.0.1:1'
http = '127.0.0.1:1'
http_token_file = 'token'
max_delete = '1%'
max_change = '2%'
brake_window = '2h'
bandwidth = '1MiB'
reads = 1000
jobs_at_once = 3
max_run = '1h'
[store.main]
url = '../t'
[gossip]
every = '2h'
do = 'repair'
advertise = '127.0.0.1:2'
seeds = 'quic://lh4mfee-wnejaad-nb7errh-cad3wso-btwjjgm-5ad4vml-5nz7tzf-x7qk6mo@127.0.0.1:9/s'
max_delete = '1%'
max_change = '2%'
brake_window = '2h'
[job.new]
a = '../s'
b = '../t'
";

/// Keys in a table, as they are named.
fn keys(table: &str, keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}` in [{table}]")).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_a_daemon_does_not_take_up_is_named_key_by_key_in_status_and_the_log() {
    let place = Place::with_store();
    place.run("init t --name other").ok();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    place.file("home/config.toml", BEGUN);
    let (mut child, _http, _out) = logged(&place, &[], "reknit=info");
    let wrong = || place.json("status").summary()["wrong"].clone();
    let told = |words: &str| -> Vec<Value> {
        let said = log(&place).into_iter().filter(|line| line["fields"]["message"] == words);
        said.map(|line| line["fields"]["keys"].clone()).collect()
    };
    let (again, until_begun, overruled) = (
        "the configuration was read again",
        "they are taken up when the daemon begins again",
        "they are not taken up: the daemon was told otherwise where it was started",
    );
    place.file("home/config.toml", CHANGED);
    signal(&child, "-HUP");
    let named = [
        keys("serve", &["stores", "http_token_file", "max_delete", "max_change", "brake_window"]),
        keys("gossip", &["seeds", "every", "do", "advertise", "max_delete", "max_change", "brake_window"]),
        keys("store.main", &["url"]),
    ];
    let named = named.join(", ");
    let message = format!("config: {named} are taken up when the daemon begins again; the rest was taken up");
    until(|| wrong().as_array().is_some_and(|all| all.contains(&message.as_str().into())));
    until(|| !told(overruled).is_empty());
    assert_eq!(told(until_begun), [Value::from(named)]);
    // What was typed goes before the file, now and later.
    assert_eq!(told(overruled), [Value::from(keys("serve", &["listen", "http"]))]);
    place.run("jobs show new").ok();

    // A table that went is named whole; what is as it was when the daemon began is not.
    place.file("home/config.toml", BEGUN.split("[gossip]").next().expect("tables"));
    signal(&child, "-HUP");
    let message = "config: [gossip] is taken up when the daemon begins again; the rest was taken up";
    until(|| wrong().as_array().is_some_and(|all| all.contains(&message.into())));
    place.file("home/config.toml", BEGUN);
    signal(&child, "-HUP");
    until(|| told(again).len() == 3);
    assert!(!wrong().to_string().contains("config: "), "{}", wrong());
    assert_eq!(told(until_begun).len(), 2);
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}

/// A name that was typed stands for a place that the configuration says, and that daemon stays where it was then.
#[test]
fn a_store_that_was_typed_by_its_name_and_has_moved_is_named_too() {
    let place = Place::with_store();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let configured = |url: &str| place.file("home/config.toml", format!("[store.main]\nurl = '{url}'\n"));
    configured("../s");
    let (mut child, _http, _out) = logged(&place, &["@main"], "reknit=info");
    configured("../elsewhere");
    signal(&child, "-HUP");
    let named = keys("store.main", &["url"]);
    let message = format!("config: {named} is taken up when the daemon begins again; the rest was taken up");
    until(|| {
        place.json("status").summary()["wrong"].as_array().is_some_and(|all| all.contains(&message.as_str().into()))
    });
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}
