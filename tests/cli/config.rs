//! The configuration: names for stores and tables, and jobs that are what would be typed.

use std::os::unix::fs::PermissionsExt;

use crate::daemon::Daemon;
use crate::harness::{Place, Ran};

/// A place with two tables that differ in one row, and a configuration.
fn with_tables(config: &str) -> Place {
    let place = Place::new();
    for (file, value) in [("a.db", "x"), ("b.db", "y")] {
        let table = format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'same'), (2, '{value}');"
        );
        rusqlite::Connection::open(place.path(file)).expect("a database").execute_batch(&table).expect("statements");
    }
    configure(&place, config);
    place
}

fn configure(place: &Place, config: &str) {
    std::fs::create_dir_all(place.path("home")).expect("a home");
    place.file("home/config.toml", config);
}

/// What was printed, without what each run has of its own.
fn without_costs(ran: &Ran) -> String {
    ran.out.split(" (").next().unwrap_or_default().to_string()
}

const STORES: &str = "
[store.a]
url = \"sqlite:../a.db\"

[store.b]
url = \"sqlite:../b.db/t\"
";

#[test]
fn a_name_is_taken_wherever_a_side_a_table_or_a_store_is_typed() {
    let place = with_tables(&format!("{STORES}\n[store.dir]\nurl = '../s'"));
    place.run("diff @a @b --settle 0ms").exits(1).says(&["1 with different content"]);
    place.run("diff @a/t sqlite:b.db --settle 0ms").exits(1);
    place.run("explain @a @b").ok().says(&["2 shared rows"]);
    place.run("index build @a").ok().says(&["2 rows indexed"]);
    place.run("index status @a/t").ok();
    place.run("repair @a @b --to b --apply --no-probe").ok().says(&["wrote 0 records to a and 1 to b"]);
    place.run("runs list @b").ok().says(&["1"]);
    place.run("runs undo @b 1").ok();
    place.run("resume @b").ok();
    place.run("init s").ok();
    place.run("put @dir @key @value").ok();
    place.run("get s @key").ok().prints("@value");
    place.run("diff @a @bb").fails("config.store").says(&[
        "there is no [store.bb]",
        "config.toml",
        "did you mean `b`?",
    ]);
    place.run("get @dir/t x").fails("config.store").says(&["no database"]);
    // What is no name needs no configuration, however wrong that is.
    configure(&place, "nonsense");
    place.run("check sqlite:a.db sqlite:b.db --settle 0ms").exits(1);
    place.run("check @a @b").fails("config.malformed").says(&["config.toml:1: "]);
}

#[test]
fn a_job_is_the_command_that_it_names() {
    let jobs = "
[job.look]
a = 'a'
b = 'b'
settle = '0ms'

[job.list]
a = 'a'
b = 'b'
do = 'diff'
settle = '0ms'

[job.preview]
a = 'a'
b = 'b'
do = 'repair'
to = 'b'
apply = false

[job.mend]
a = 'a'
b = 'sqlite:../b.db/t'
do = 'repair'
to = 'b'
at = '03:00'
max-change = '100%'
no_probe = true
";
    let place = with_tables(&format!("{STORES}{jobs}"));
    for (job, typed) in
        [("look", "check @a @b --settle 0ms"), ("list", "diff @a @b --settle 0ms"), ("preview", "repair @a @b --to b")]
    {
        let (job, typed) = (place.run(&format!("run {job}")).exits(1), place.run(typed).exits(1));
        assert_eq!(without_costs(&job), without_costs(&typed));
    }
    let summary = place.json("run look").exits(1).summary();
    assert_eq!((&summary["command"], &summary["verdict"]), (&"check".into(), &"differs".into()));
    place.run("run look --exit-zero --quiet").ok().prints("");
    // A job that repairs writes.
    place.run("run mend").ok().says(&["wrote 0 records to a and 1 to b"]);
    place.run("run look").ok().says(&["in sync"]);
    place.run("run ment").fails("config.job").says(&["did you mean `mend`?"]);
    let other = Place::new();
    other.run("config init").ok();
    other.run("run mend").fails("config.job");
}

#[test]
fn what_tables_are_compared_on_is_written_down_once_for_several_jobs() {
    let config = "
[dataset.names]
ignore = ['v']

[job.some]
a = 'a'
b = 'b'
dataset = 'names'
settle = '0ms'

[job.all]
a = 'a'
b = 'b'
settle = '0ms'
";
    let place = with_tables(&format!("{STORES}{config}"));
    let (some, typed) = (place.run("run some").ok(), place.run("check @a @b --ignore v --settle 0ms").ok());
    assert_eq!(without_costs(&some), without_costs(&typed));
    place.run("run all").exits(1);
}

#[test]
fn the_configuration_is_checked_and_listed_without_passwords() {
    let config = "
[store.pg]
url = 'postgres://me:secret@host/db/t'

[store.b]
url = 'sqlite:b.db'

[job.orders]
a = 'pg'
b = 'b'
at = 'every 15m'
";
    let place = with_tables(config);
    let file = place.path("home/config.toml");
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
    mode(0o600);
    let ran = place.run("config check").ok().says(&[
        "postgres://me@host/db/t",
        "check @pg @b, every 15m",
        "2 stores, 1 jobs",
    ]);
    assert!(!ran.out.contains("secret") && ran.err.is_empty(), "{ran:?}");
    mode(0o640);
    let ran = place.run("config check").ok().says(&["holds a password", "chmod 600"]);
    assert!(!ran.err.contains("secret"), "{ran:?}");
    configure(&place, "[store.pg]\nurl = 'x:y'\nurll = 'secret'");
    let wrong = ["config.toml:3: unknown key `urll` in [store.pg]; did you mean `url`?"];
    let ran = place.run("config check").fails("config.malformed").says(&wrong);
    assert!(!ran.err.contains("secret"), "{ran:?}");
    place.run("run orders").fails("config.malformed").says(&wrong);
    configure(&place, "");
    place.run("config check").ok().says(&["0 stores, 0 jobs"]);
}

#[test]
fn the_configuration_of_the_guide_is_understood() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/jobs.md");
    let guide = std::fs::read_to_string(path).expect("the guide");
    let toml = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a configuration");
    let place = Place::new();
    configure(&place, toml);
    let listed = ["repair", "--ignore=seen_at", "--max-change=5%", "--apply @pg/public.orders @copy/orders, 03:00"];
    place.run("config check").ok().says(&listed).says(&["password from the file /etc/reknit/pg.password"]);
    place.json("config check").ok().says(&["postgres://reader@db.example/shop"]);
    // What it says of daemons, with the stores of before.
    let stores = toml.split("[job.orders]").next().unwrap_or_default();
    let daemon = guide.split("```toml\n").nth(2).and_then(|rest| rest.split("```").next()).expect("another");
    configure(&place, &format!("{stores}{daemon}"));
    place.run("config check").ok().says(&["every 15m Europe/Berlin within", "Sat,Sun 00:00-24:00"]);
    // And of peers: this home is another.
    let peers = guide.split("```toml\n").nth(3).and_then(|rest| rest.split("```").next()).expect("a third");
    configure(&place, peers);
    place
        .run("config check")
        .fails("config.identity")
        .says(&["config.toml:2: `peer` in [identity]: this home has no key"]);
    configure(&place, peers.split_once("\n\n").expect("a table").1);
    place.run("config check").ok().says(&["peer\tbranch\t", "at branch.example:7473, may compare, cities=read"]);
}

#[test]
fn a_job_on_stores_that_a_daemon_holds_runs_there() {
    let place = Place::with_file("a.kv", "a\tb\n", "");
    place.run("init t --like s").ok();
    configure(
        &place,
        "[job.j]\na = '../s'\nb = '../t'\nsettle = '0ms'\nmetrics_file = 'j.prom'\n[store.t]\nurl = '../t'",
    );
    let _daemon = Daemon::start(&place, "home", &["s"]);
    place.run("run j").exits(1).says(&["differs"]);
    assert!(place.read("home/j.prom").contains("job=\"j\""));
    place.run("get @t a").exits(1);
    place.run("run j --metrics-file k.prom").exits(1);
    assert!(place.read("k.prom").contains("reknit_exit_code"));
}

#[test]
fn what_a_job_or_a_daemon_names_is_looked_up_by_the_check() {
    let place = with_tables("[store.dir]\nurl = '../s'\n[store.b]\nurl = 'sqlite:../b.db'\n");
    place.run("config check").ok();
    let config = place.read("home/config.toml");
    configure(&place, &format!("{config}[job.look]\na = '@b/t'\nb = '@dir/t'\n"));
    let wrong = ["config.toml:7: `b` in [job.look]: @dir/t: [store.dir] is no database, and has no tables"];
    place.run("config check").fails("config.store").says(&wrong);
    configure(&place, &format!("[serve]\nstores = ['@nowhere']\n{config}"));
    let wrong = ["config.toml:2: `stores` in [serve]: there is no [store.nowhere]"];
    place.run("config check").fails("config.store").says(&wrong);
    configure(&place, &format!("[serve]\nhttp_token_file = 'none'\nhttp = '127.0.0.1:0'\n{config}"));
    place.run("config check").fails("http.token").says(&["config.toml:2: `http_token_file` in [serve]: "]);
}

#[test]
fn all_that_is_wrong_is_told_in_one_run_each_with_its_line_what_was_found_and_what_was_expected() {
    let place = with_tables(
        "[serve]\nlisten = '7473'\nstores = ['@nowhere']\n[store.a]\nurl = 'postgres://me:secret@h/d'\nurll = 'secret'\n\
         [job.look]\na = 'a/t'\nb = 'a/u'\nsettle = 'soon'\nmax_time = 5\nreceipt = 'yes'\n",
    );
    let told = [
        (2, "serve", "listen", "`listen` in [serve]: `7473` is no address; \"0.0.0.0:7473\" is one"),
        (3, "serve", "stores", "`stores` in [serve]: there is no [store.nowhere]"),
        (6, "store.a", "urll", "unknown key `urll` in [store.a]; did you mean `url`?"),
        (10, "job.look", "settle", "`settle` in [job.look]: `soon` is no duration; 500ms, 2s, 15m, 1h or 7d is"),
        (11, "job.look", "max_time", "`max_time` in [job.look]: `5` is no duration; 500ms, 2s, 15m, 1h or 7d is"),
        (12, "job.look", "receipt", "`receipt` in [job.look] is a text; it must be true or false"),
    ];
    let file = place.path("home/config.toml").display().to_string();
    let ran = place.run("config check").fails("config.malformed");
    let lines: Vec<&str> = ran.err.lines().filter(|line| line.contains(".toml:")).collect();
    assert_eq!(lines.len(), told.len(), "{ran:?}");
    for (line, (at, _, _, words)) in lines.iter().zip(told) {
        assert!(
            line.starts_with(&format!("reknit: {file}:{at}: {words}")) && line.ends_with(']'),
            "{line}, not {words}"
        );
    }
    let objects = place.json("config check").exits(2).objects();
    crate::schema::holds(&objects);
    let (summary, objects) = objects.split_last().expect("a summary");
    assert_eq!((&summary["error"], &summary["listed"]), (&"config.malformed".into(), &told.len().into()));
    for (object, (line, table, key, words)) in objects.iter().zip(told) {
        let found = (&object["line"], &object["table"], &object["key"], &object["file"]);
        assert_eq!(found, (&line.into(), &table.into(), &key.into(), &file.as_str().into()));
        assert!(object["message"].as_str().is_some_and(|message| message.starts_with(words)), "{object}");
    }
    let mut document = place.command(&["config", "check", "--format", "json"]);
    let document = Ran::of(document.output().expect("the binary")).exits(2);
    let document: serde_json::Value = serde_json::from_str(&document.out).expect("a document");
    assert_eq!(document["items"].as_array().map(Vec::as_slice), Some(objects));
    assert!(!ran.err.contains("secret") && !document.to_string().contains("secret"), "{ran:?}");
    // Who needs it hears of the first, and where the others are.
    place
        .run("run look")
        .fails("config.malformed")
        .says(&[&format!("{file}:2: "), "4 more errors: reknit config check"]);
}

#[test]
fn what_could_never_run_is_no_configuration() {
    let two = "[store.a]\nurl = 'sqlite:../a.db/t'\n[store.b]\nurl = 'sqlite:../b.db/t'\n";
    let job = |keys: &str| format!("{two}[job.j]\na = 'a'\nb = 'b'\n{keys}");
    let cases = [
        (job("max_rate = 'q'"), 8, "`max_rate` in [job.j]"),
        (job("max_time = '0s'"), 8, "`max_time` in [job.j]: a session cannot do in no time"),
        (job("do = 'repair'"), 8, "`do` in [job.j]: rows of tables have no versions"),
        (format!("{two}[job.j]\na = 'a'\nb = '@a'"), 7, "`b` in [job.j]: `@a` is what `a` is"),
        (format!("{two}[job.j]\na = 'a'\nb = 'mysql://u@h/db/t'"), 7, "`b` in [job.j]: mysql:// is no side"),
        ("[store.p]\nurl = 'mysql://u@h/db'".into(), 2, "`url` in [store.p]: mysql:// is no side"),
        ("[store.p]\nurl = 'postgres://u@h:99999/db'".into(), 2, "`url` in [store.p]: "),
        ("[store.p]\nurl = 'postgres://u:secret@h:port/db/t'".into(), 2, "`url` in [store.p]: "),
        ("[store.p]\nurl = 'postgres://u@h/db?sslmode=foo'".into(), 2, "`foo` is no sslmode"),
        ("[store.p]\nurl = 'quic://nobody'".into(), 2, "`url` in [store.p]: "),
        ("[serve]\nmax_run = '0s'".into(), 2, "`max_run` in [serve]: a run cannot do in no time"),
    ];
    let place = with_tables("");
    for (config, line, words) in cases {
        configure(&place, &config);
        let ran = place.run("config check").fails("config.malformed").says(&[&format!("config.toml:{line}: "), words]);
        assert!(!ran.err.contains("secret"), "{ran:?}");
        place.run("serve --listen 127.0.0.1:0").fails("config.malformed").says(&[words]);
    }
    let fine = "[store.p]\nurl = 'postgres://u@h:6432/db?sslmode=require'\n[store.q]\nurl = 'postgresql://h'\n\
                [store.r]\nurl = 'postgres://u@%2Frun%2Fpg/db/s.*'\n[store.s]\nurl = 's3://bucket/a.csv'\n";
    configure(&place, &format!("{fine}{}", job("do = 'repair'\nto = 'b'")));
    place.run("config check").ok().says(&["6 stores, 1 jobs"]);
    // As tuned as it is configured.
    place.run("jobs tune j --max-time 0s").fails("usage.duration").says(&["a session cannot do in no time"]);
    place.run("jobs tune j").exits(2).says(&["--max-time", "Usage: "]);
    place.run("jobs tune j --reset").ok();
}

#[test]
fn a_home_that_is_not_there_is_told_and_none_is_made_by_looking() {
    let place = Place::new();
    for look in ["status", "jobs list", "jobs show orders", "alerts list", "run orders"] {
        place.run(look).fails("home.none").says(&["there is no home at ", "/home: ", "--home"]);
    }
    assert!(!place.path("home").exists(), "who only looks makes nothing");
    place.run("config init").ok();
    place.run("status").ok().says(&["none was compared yet"]);
}

#[test]
fn what_names_nothing_is_told_once_and_asked_of_no_daemon() {
    let place = with_tables("");
    place.run("init s").ok();
    let _daemon = Daemon::start(&place, "home", &["s"]);
    let ran = place.run("diff s @nosuch/t").fails("config.store");
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}
