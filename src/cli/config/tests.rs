//! What is read of the configuration, and what is told of errors in it.

use std::num::NonZeroU32;

use clap::CommandFactory;

use super::*;

fn parse(text: &str) -> Result<Config, Vec<ConfigError>> {
    let (config, errors) = Config::parse(Path::new("/where/config.toml"), text, |_| false);
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

#[test]
fn names_stand_for_addresses_and_relative_paths_begin_beside_the_file() {
    let peer = format!("quic://{}@host/a", PeerId([7; 32]));
    let config = parse(&format!(
        "[store.pg]\nurl = 'postgres://me@host/db?sslmode=require'\n[store.lite]\nurl = \"sqlite:b.db\"\n\
         [store.dir]\nurl = '../a'\n[store.peer]\nurl = '{peer}'",
    ))
    .expect("a configuration");
    for (typed, address) in [
        ("@pg/public.t", "postgres://me@host/db/public.t?sslmode=require"),
        ("@lite", "sqlite:/where/b.db"),
        ("@lite/t", "sqlite:/where/b.db/t"),
        ("@dir", "/where/../a"),
        ("@peer", &*peer),
    ] {
        assert_eq!(config.address(typed).map_err(|error| error.message), Ok(address.into()));
    }
    let wrong = |typed| config.address(typed).expect_err("no address").message;
    assert!(wrong("@peers").contains("did you mean `peer`?"), "{}", wrong("@peers"));
    assert!(wrong("@dir/t").contains("is no database"));
    assert!(wrong("@").contains("there is no [store.]"));
}

#[test]
fn a_job_is_what_would_be_typed() {
    let config = parse(
        "[store.pg]\nurl = 'postgres://me@host/db/t'\n[store.b]\nurl = 'sqlite:b.db/t'\n[job.look]\na = 'pg'\nb = 'b'\n\
         [job.mend]\ndo = 'repair'\na = '@pg'\nb = 'sqlite:c.db/t'\nto = 'b'\nat = '03:00'\ndelete = true\n\
         max-change = \"5%\"\nreceipt = false\ncollection = ['x', 'y']\n\
         [job.preview]\ndo = 'repair'\na = 'pg'\nb = 'b'\nto = 'a'\napply = false\n\
         [job.some]\ndo = 'diff'\na = 'pg'\nb = 'b/u'\nlimit = 20\ndataset = 'orders'\n\
         [dataset.orders]\nignore = ['seen', 'note']\nfloat_digits = 6\nwhere = \"region = 'eu'\"\nrename = 'nr=id'",
    )
    .expect("a configuration");
    let typed = |name: &str| config.jobs[name].typed.join(" ");
    assert_eq!(typed("look"), "check -- @pg @b");
    assert_eq!(typed("mend"), "repair --collection=x,y --delete --max-change=5% --to=b --apply -- @pg sqlite:c.db/t");
    assert_eq!(typed("preview"), "repair --to=a -- @pg @b");
    let terms = "--float-digits=6 --ignore=seen,note --rename=nr=id --where=region = 'eu'";
    assert_eq!(typed("some"), format!("diff --limit=20 {terms} -- @pg @b/u"));
    assert_eq!(config.jobs["mend"].when.told(), "03:00");
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_was_meant() {
    let store = "[store.pg]\nurl = 'x:y'\n";
    let job = |said: &str| format!("{store}[job.j]\na = 'pg'\nb = 'c:d'\n{said}");
    for (text, line, words) in [
        ("[store.pg]\nurl = 'a'\nurll = 'b'", 3, "unknown key `urll` in [store.pg]; did you mean `url`?"),
        ("[stores.pg]\nurl = 'a'", 1, "unknown table [stores]; did you mean `store`?"),
        ("[store.pg]\n", 1, "[store.pg] lacks `url`, an address or a directory"),
        ("[store.pg]\nurl = 5", 2, "`url` in [store.pg] is 5; it must be a text in quotes"),
        ("[store.pg]\nurl = ''", 2, "`url` in [store.pg] is an empty text; it must be a text in quotes"),
        ("[store.pg]\nurl = 'secret", 2, ""),
        ("[store.pg]\nurl = secret", 2, ""),
        ("[store.pg]\nurl = ['secret']", 2, "`url` in [store.pg] is a list; it must be a text in quotes"),
        ("\n[store.'a b']\nurl = 'a'", 2, "`a b` in [store] is no name; letters, digits, - and _ make one"),
        ("store = 5", 1, "`store` is 5; it must be a table, [store]"),
        ("\n[job.j]\na = 'pg'\nb = 'x:y'", 3, "`a` in [job.j]: `pg` is no [store.pg] or [peer.pg] and no address"),
        (&format!("{store}[job.j]\na = 'pgg'\nb = 'pg'"), 4, "did you mean `pg`?"),
        (
            &format!("{store}[job.j]\nb = 'pg'\na = '@pgg/t'"),
            5,
            "is no [store.pgg] or [peer.pgg] and no address; did you mean `pg`?",
        ),
        (&format!("{store}[job.j]\na = 'pg'"), 3, "[job.j] lacks `b`, a [store] by its name, or an address"),
        (&job("setle = '1s'"), 6, "unknown key `setle` in [job.j]; did you mean `settle`?"),
        (&job("to = 'b'"), 6, "unknown key `to` in [job.j]"),
        (&job("\ndo = 'repare'"), 7, "`do` in [job.j]: `repare` is none of check, diff, repair, verify; did you mean"),
        (
            &job("do = 'repair'\nto = 'c'"),
            7,
            "`to` in [job.j]: invalid value 'c' for '--to <TO>' [possible values: a, b",
        ),
        (&job("do = 'repair'\nplan = 'p'"), 7, "unknown key `plan`"),
        (&job("receipt = 'yes'"), 6, "`receipt` in [job.j] is a text; it must be true or false"),
        (&job("max_time = true"), 6, "`max_time` in [job.j] is true; it must be a text in quotes, or a number"),
        (&job("max_time = '1s'\nsettle = 'soon'"), 7, "`settle` in [job.j]: `soon` is no duration; 500ms, 2s"),
        (&job("do = 'repair'\nmax_change = 'x'"), 7, "`max_change` in [job.j]: `x` is no limit; a number as 500"),
        (&job("\ndataset = 'o'"), 7, "`dataset` in [job.j]: there is no [dataset.o]"),
        ("[dataset.o]\ncolumn = ['a']", 2, "unknown key `column` in [dataset.o]; did you mean `columns`?"),
        ("[dataset.o]\nsettle = '1s'", 2, "unknown key `settle`"),
        ("[dataset.o]\nignore = 'a'\ncollate = 'x'", 3, "`collate` in [dataset.o]: --collate takes ci"),
        (
            &format!("[dataset.o]\nkey = 'k'\n{}", job("dataset = 'o'\nkey = 'l'")),
            9,
            "[job.j] says `key` itself, and so does [dataset.o]",
        ),
        (&job("\n\nat = 'noon'"), 8, "`at` in [job.j]: `noon` is no time of a job; \"03:00\" or"),
        (&job("\nevery = 'soon'"), 7, "`every` in [job.j]: `every soon` is no time of a job"),
        (&job("home = '/x'"), 6, "unknown key `home`"),
        (&job("at = '03:00'\nclock = 'Europe/Nowhere'"), 7, "`clock` in [job.j]: `Europe/Nowhere` is no zone"),
        (&job("window = [\n'Mon',\n'Day']"), 8, "`window` in [job.j]: `Day` is no window; \"22:00-06:00\""),
        (&job("window = ['Mon', 1]"), 6, "`window` in [job.j] is 1; it must be a text in quotes, or a list of them"),
        (&job("jitter = '2d'"), 6, "`jitter` in [job.j]: a job is due at most a day later, not 2d"),
        (&job("at = '03:00'\nevery = '1h'"), 7, "[job.j] says `at` and `every`; one of them says when it is due"),
        (
            &job("at = '03:00'\nwindow = '04:00-05:00'"),
            7,
            "[job.j] is never due: none of its times lies in its windows",
        ),
        (
            &job("every = '1h'\nproven_equal_within = '1m'"),
            7,
            "to be proven equal more often, by `proven_equal_within`",
        ),
        (&job("proven_equal_within = '0s'"), 6, "nothing is proven equal within no time; \"15m\" is some"),
        (&job("\nmax_bytes_per_day = '0'"), 7, "`max_bytes_per_day` in [job.j]: runs of a day cannot do with no bytes"),
        (
            "[serve]\nstores = 'a'\nlisten = '7473'",
            3,
            "`listen` in [serve]: `7473` is no address; \"0.0.0.0:7473\" is one",
        ),
        ("[serve]\n\njobs_at_once = 0", 3, "`jobs_at_once` in [serve] is 0; it must be a whole number from 1 to 64"),
        ("[serve]\nhttp = '7474'", 2, "`http` in [serve]: `7474` is no address; \"127.0.0.1:7474\" is one"),
        ("[serve]\nhttp_token = 'x'", 2, "unknown key `http_token` in [serve]; did you mean `http_token_file`?"),
        ("[serve]\nstore = 'a'", 2, "unknown key `store` in [serve]; did you mean `stores`?"),
        ("[serve]\nmax_delete = '1'\nmax_change = 'x'", 3, "`max_change` in [serve]: `x` is no limit"),
        ("[serve]\nbrake_window = 'x'", 2, "`brake_window` in [serve]: `x` is no duration"),
        ("[serve]\nreads = 5\nmax_run = 'long'", 3, "`max_run` in [serve]: `long` is no duration"),
        ("[serve]\nbandwidth = '1KiB'", 2, "`1KiB` a second is none; it is from 16KiB to 4095MiB"),
        ("[serve]\nreads = 0", 2, "`reads` in [serve] is 0; it must be a whole number from 1 to"),
        ("[peer.x]\nbandwidth = '1MiB'", 1, "[peer.x] lacks `id`, the peer as `reknit id` prints it there"),
        ("[peer.x]\nreads = 5\nid = 'abc'", 3, "`id` in [peer.x]: it is no peer: a peer has 56 letters and digits"),
        ("[gossip]\nseed = ['x']", 2, "unknown key `seed` in [gossip]; did you mean `seeds`?"),
        (
            "[gossip]\nevery = '1m'\nproven_equal_within = '50s'",
            3,
            "[gossip] is to be proven equal more often, by `proven_equal_within`, than it is looked at, by `every`",
        ),
        // Of what is not understood it is not said what it does not fit.
        ("[gossip]\nevery = 'soon'\nproven_equal_within = '1s'", 2, "`every` in [gossip]: `soon` is no duration"),
        ("[gossip]\nproven_equal_within = 'soon'", 2, "`proven_equal_within` in [gossip]: `soon` is no duration"),
        (
            "[gossip]\nevery = '1m'\nseeds = ['quic://x']",
            3,
            "`seeds` in [gossip]: `quic://x` is no address: an address names its peer",
        ),
        ("[gossip]\n\ndo = 'diff'", 3, "`do` in [gossip]: `diff` is none of check, repair"),
        ("[gossip]\nevery = '1ms'", 2, "at least 100ms lie between two sessions"),
        (
            "[gossip]\nadvertise = 'here'",
            2,
            "`advertise` in [gossip]: `here` is no address; \"203.0.113.5:7473\" is one",
        ),
        ("[alerts]\ncommand = 'a'\ntimeout = '2m'", 3, "`timeout` in [alerts]: it is above 0 and up to 60s, not 120s"),
        ("[alerts]\nwebhook = 'http://secret.example/'", 2, "`webhook` in [alerts]: it is no https:// address"),
    ] {
        let errors = parse(text).err().unwrap_or_default();
        let told: Vec<String> = errors.iter().map(ConfigError::to_string).collect();
        assert!(told.len() == 1 && told[0].contains(words), "{told:#?}, not {words}");
        assert!(told[0].starts_with(&format!("/where/config.toml:{line}: ")), "{told:?} is at {line}");
        assert!(!told[0].contains("secret"), "{told:?}");
    }
}

#[test]
fn one_reading_finds_all_that_is_wrong_in_the_order_of_the_file() {
    let text = "[serve]\nlisten = '7473'\njobs_at_once = 0\nstoers = 'a'\n[store.pg]\nurl = 5\n[dataset.o]\ncollate = 'x'\n\
                ignore = 'a'\n[job.j]\na = 'pg'\nb = 'nowhere'\ndataset = 'o'\nat = 'noon'\nwindow = ['Day', 'Night']\n\
                [job.k]\na = 'pg'\nb = 'c:d'\nsettle = 'soon'\nmax_time = 'late'\ndataset = 'o'\n[oops]\n[job.l]\ndo = 'x'\n\
                setle = '1s'\nmax_change = 5\nevery = 'often'\nproven_equal_within = 'soon'\n";
    let errors = parse(text).expect_err("errors");
    let told: Vec<String> = errors
        .iter()
        .map(|error| format!("{} [{}] {}", error.line, error.table, error.key.as_deref().unwrap_or("")))
        .collect();
    let all = [
        "2 [serve] listen",
        "3 [serve] jobs_at_once",
        "4 [serve] stoers",
        "6 [store.pg] url",
        "8 [dataset.o] collate",
        "12 [job.j] b",
        "14 [job.j] at",
        "15 [job.j] window",
        "15 [job.j] window",
        "19 [job.k] settle",
        "20 [job.k] max_time",
        "22 [oops] ",
        "24 [job.l] do",
        "25 [job.l] setle",
        "27 [job.l] every",
        "28 [job.l] proven_equal_within",
    ];
    assert_eq!(told, all);
    let refused = error::first(&errors).expect_err("refused").message;
    assert!(refused.ends_with("is one; 15 more errors: reknit config check; nothing was done"), "{refused}");
    // What is no TOML is told of line by line, and nothing else, which might be about what was meant.
    let errors = parse("[store.pg]\nurl = 'secret\n[job.j]\nat = = 5\nc = 'pg'\n").expect_err("errors");
    let told: Vec<(usize, &str)> = errors.iter().map(|error| (error.line, error.table.as_str())).collect();
    assert_eq!(told, [(2, ""), (4, "")]);
    assert!(errors.iter().all(|error| !error.message.contains("secret")), "{errors:?}");
}

#[test]
fn the_configuration_that_is_written_says_nothing_and_its_comments_are_one() {
    let config = parse(TEMPLATE).expect("comments");
    assert_eq!((config.jobs.len(), config.stores.len(), &config.serve), (0, 0, &ServeTable::default()));
    let said: String = TEMPLATE
        .lines()
        .filter(|line| !line.starts_with("# "))
        .map(|line| format!("{}\n", line.trim_start_matches('#')))
        .collect();
    let config = parse(&said).expect("a configuration");
    let rates = |bytes, records| Rates { bytes: NonZeroU32::new(bytes), records: NonZeroU32::new(records) };
    assert_eq!(config.serve.rates, rates(50 << 20, 50_000));
    let PeerTable { id, address, may, rates: slow } = &config.peers["branch"];
    assert_eq!((address.as_deref(), *slow), (Some("branch.example:7473"), rates(500 << 10, 0)));
    assert_eq!(may.as_ref().map(crate::node::Grants::names), Some(vec!["compare".into(), "cities=read".into()]));
    assert!(config.identity.is_some_and(|me| me != *id), "a home is no peer of its own");
    assert_eq!(config.serve.stores, [PathBuf::from("/where/data/cities")]);
    let within = "every 15m Europe/Berlin within Mon,Tue,Wed,Thu,Fri 20:00-06:00, Sat,Sun 00:00-24:00";
    assert_eq!(config.jobs["orders"].when.told(), within);
}

#[test]
fn the_environment_goes_before_the_file_for_each_flag_of_a_job() {
    let all = Cli::command();
    let mut seen = 0;
    for command in ["check", "diff", "repair", "verify"] {
        let sides = if command == "verify" { "store = 'x:y'" } else { "a = 'x:y'\nb = 'x:z'" };
        let flags = all.find_subcommand(command).expect("a command").get_arguments();
        for flag in flags.filter(|flag| flag.get_long().is_some_and(|long| !["plan", "sql"].contains(&long))) {
            let long = flag.get_long().expect("a name");
            let variable =
                flag.get_env().unwrap_or_else(|| panic!("{long} has no variable")).to_string_lossy().into_owned();
            let value = if flag.get_action().takes_values() { "'1'" } else { "true" };
            let text = format!("[job.j]\ndo = '{command}'\n{sides}\n{long} = {value}\n");
            let typed = |environment: fn(&str) -> bool| {
                let (mut config, _) = Config::parse(Path::new("/where/config.toml"), &text, environment);
                let job = config.jobs.remove("j").expect("a job");
                (job.typed.iter().any(|word| word.split('=').next() == Some(&format!("--{long}"))), job.overruled)
            };
            assert_eq!(typed(|_| false), (true, Vec::new()), "{text}");
            let (typed, overruled) = typed(|variable| variable.starts_with("REKNIT_"));
            // What it writes a job says alone.
            let alone = crate::cli::args::Repair::WRITING.contains(&&*long.replace('-', "_"));
            assert_eq!(typed, alone, "{text}");
            assert_eq!(overruled.contains(&(long.replace('-', "_"), variable)), !alone, "{text}: {overruled:?}");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
}
