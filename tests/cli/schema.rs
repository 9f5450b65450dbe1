//! What is printed for machines is what the committed schema says: no field less, none that it does not know.

use serde_json::Value;

use crate::harness::Place;

const OUTPUT: &str = "output-1.json";

fn schema() -> Value {
    committed(OUTPUT)
}

fn committed(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("the schema")).expect("JSON")
}

/// What is wrong with a value, as far as the schema's words are used there.
fn wrong(schema: &Value, rule: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = rule["$ref"].as_str().and_then(|name| name.strip_prefix(OUTPUT)) {
        let other = self::schema();
        return wrong(&other, other.pointer(name.trim_start_matches('#')).expect("a definition"), value, at);
    }
    if let Some(name) = rule["$ref"].as_str() {
        let found = schema.pointer(name.trim_start_matches('#')).expect("a definition");
        return wrong(schema, found, value, at);
    }
    if let Some(choices) = rule["enum"].as_array() {
        return if choices.contains(value) { Vec::new() } else { vec![format!("{at} is {value}")] };
    }
    let types: Vec<&str> = match &rule["type"] {
        Value::String(one) => vec![one],
        several => several.as_array().expect("types").iter().filter_map(Value::as_str).collect(),
    };
    let is = |name: &&str| match *name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("a type {other}"),
    };
    if !types.iter().any(is) {
        return vec![format!("{at} is {value}, not {types:?}")];
    }
    let mut all = Vec::new();
    if rule["minimum"].as_i64().is_some_and(|least| value.as_i64().is_some_and(|found| found < least)) {
        all.push(format!("{at} is {value}"));
    }
    for (nth, item) in value.as_array().into_iter().flatten().enumerate() {
        if rule["items"].is_object() {
            all.extend(wrong(schema, &rule["items"], item, &format!("{at}[{nth}]")));
        }
    }
    for name in rule["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            all.push(format!("{at} lacks {name}"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        match rule["properties"].get(name) {
            Some(rule) => all.extend(wrong(schema, rule, field, &format!("{at}.{name}"))),
            None if rule["additionalProperties"] == false => all.push(format!("{at}.{name} is not in the schema")),
            None => {}
        }
    }
    all
}

/// What the schema says of objects of a kind, if it admits them.
fn admitted<'s>(schema: &'s Value, kind: &str) -> Option<&'s Value> {
    let name = format!("#/$defs/{kind}");
    let named = schema["anyOf"].as_array().expect("kinds").iter().any(|rule| rule["$ref"] == *name);
    schema["$defs"].get(kind).filter(|_| named)
}

/// Holds objects against the schema.
#[track_caller]
pub(crate) fn holds(objects: &[Value]) {
    let schema = schema();
    for object in objects {
        let kind = object["t"].as_str().expect("a kind");
        let rule = admitted(&schema, kind).unwrap_or_else(|| panic!("no {kind} in the schema"));
        let wrong = wrong(&schema, rule, object, kind);
        assert!(wrong.is_empty(), "{wrong:?} in {object}");
    }
}

/// Holds what was answered by HTTP against the document of what is.
#[track_caller]
pub(crate) fn answers(method: &str, path: &str, status: u16, value: &Value) {
    let document = committed("openapi-1.json");
    let followed = |rule: &Value| match rule["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).expect("a definition").clone(),
        None => rule.clone(),
    };
    let answer = followed(&document["paths"][path][method.to_lowercase()]["responses"][status.to_string()]);
    let rule = &answer["content"]["application/json"]["schema"];
    assert!(rule.is_object(), "{method} {path} is not said to answer {status}: {value}");
    let wrong = wrong(&document, rule, value, path);
    assert!(wrong.is_empty(), "{wrong:?} in {value}");
}

/// Holds an event against the document.
#[track_caller]
pub(crate) fn happens(kind: &str, value: &Value) {
    let document = committed("openapi-1.json");
    let rule = match kind {
        "run_ended" => serde_json::json!({ "$ref": "output-1.json#/$defs/job_run" }),
        "trouble" => document["components"]["schemas"][kind].clone(),
        _ => document["components"]["schemas"][format!("event_{kind}")].clone(),
    };
    let wrong = wrong(&document, &rule, value, kind);
    assert!(wrong.is_empty(), "{wrong:?} in {value}");
}

#[test]
fn every_object_that_is_printed_is_in_the_schema() {
    let schema = schema();
    let place = Place::new();
    place.file("all.csv", "id,name\n1,Bern\n2,Ulm\n");
    for (file, row) in [("t.db", "(1, 'x')"), ("u.db", "(2, 'y')")] {
        let table = format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES {row}");
        rusqlite::Connection::open(place.path(file)).expect("a database").execute_batch(&table).expect("statements");
    }
    let me = place.run("id").ok().out.trim().to_string();
    let commands = [
        "init a",
        "init a",
        "import a all.csv --key id",
        "import a none.csv --key id",
        "init b --like a",
        "init c --like a",
        "check a b --settle 0ms",
        "check a b c --settle 0ms",
        "diff a b --settle 0ms",
        "diff a b --settle 0ms --values",
        "diff sqlite:t.db/* sqlite:u.db/* --settle 0ms",
        "drift a b --settle 0ms --save now.drift",
        "drift now.drift now.drift",
        "drift sqlite:t.db/* sqlite:u.db/* --settle 0ms",
        "repair a b --settle 0ms",
        "repair a b --settle 0ms --prefer a",
        "repair sqlite:t.db sqlite:u.db --to b --sql u.sql --settle 0ms",
        "repair sqlite:t.db sqlite:u.db --to b --plan u.plan --settle 0ms",
        "repair a b --to a --prefer a",
        "repair a b --apply",
        "check a b",
        "check a a",
        "init other",
        "check a other",
        "repair a b --max-time 0s",
        "put a 3 3,Basel",
        "put a 4 4,Jena --expires 1d",
        "get a 3",
        "get a 9",
        "delete a 3",
        "delete a 9",
        "list a",
        "conflicts list a",
        "conflicts show a 1",
        "conflicts resolve a 1 --delete",
        "quarantine list a",
        "quarantine accept a 1",
        "quarantine drop a --all",
        &format!("members add a {me} --name me"),
        "members list a",
        &format!("members forget a {me}"),
        "gc a --grace 0s --apply",
        "receipts list a",
        "receipts export a",
        &format!("receipts verify none --peer {me}"),
        "verify a",
        "export a -o out.csv",
        "backup a saved",
        "restore saved again",
        "dataset show a",
        "dataset export a dataset.file",
        "dataset import dataset.file made",
        "id",
        "peers list",
        &format!("peers add {me} --may compare --name me"),
        "peers list",
        &format!("peers remove {me}"),
        "peers remove nobody",
        "peers succeed nothing",
        "invite a --at host",
        "join x nonsense",
        "status",
        "man --dir pages",
        "repair a b --plan p",
        "apply p a b",
        "repair a b --mirror --apply",
        "runs list b",
        "runs show b 1",
        "history b 1 --values",
        "runs undo b 1",
        "runs undo b 1",
        "runs list b",
        "runs limit b --bytes 1MiB",
        "runs limit b --keep-history 1d",
        "put b written 1",
        "put b written 2",
        "history b written",
        "runs list b",
        "resume b",
        "serve nowhere",
        "run none",
        "config init",
        "config init",
        "config check",
        "jobs list",
        "jobs show none",
        "jobs run none",
        "jobs pause none",
        "jobs resume none",
        "jobs cancel none",
        "jobs tune none --every 5m",
        "alerts list",
        "alerts test",
        "explain sqlite:t.db",
        "explain sqlite:t.db sqlite:u.db",
        "inspect sqlite:t.db 1 --against sqlite:u.db",
        "inspect b written",
        "explain sqlite:t.db --grants repair",
        "index build sqlite:t.db",
        "index build sqlite:t.db --feed triggers",
        "index build sqlite:t.db --feed triggers --apply",
        "index status sqlite:t.db",
        "index verify sqlite:t.db",
        "diff sqlite:t.db sqlite:u.db --settle 0ms",
        "repair sqlite:t.db sqlite:u.db --to b --settle 0ms",
        "repair sqlite:t.db sqlite:u.db --to b --settle 0ms --delete --apply --max-delete 100%",
        "runs show sqlite:u.db 1",
        "runs undo sqlite:u.db 1",
        "index drop sqlite:t.db --sql",
        "index drop sqlite:t.db",
        "id rotate --overlap 1h",
        "id statement",
    ];
    let mut kinds = std::collections::BTreeSet::new();
    let mut named = std::collections::BTreeSet::new();
    for command in commands {
        let objects = place.json(command).objects();
        let last = objects.last().unwrap_or_else(|| panic!("{command}: nothing was printed"));
        assert_eq!(last["t"], "summary", "{command}");
        for object in &objects {
            let kind = object["t"].as_str().expect("a kind");
            let rule = admitted(&schema, kind).unwrap_or_else(|| panic!("{command}: no {kind} in the schema"));
            let wrong = wrong(&schema, rule, object, kind);
            assert!(wrong.is_empty(), "{command}: {wrong:?} in {object}");
            kinds.insert(kind.to_string());
        }
        let name = last["command"].as_str().expect("a command");
        assert!(command.starts_with(name), "{command}: {last}");
        named.insert(name.to_string());
        let failed = last.get("error").is_some();
        let of_files = last.get("drift").is_some() && last.get("verdict").is_none();
        let session = ["check", "diff", "drift", "repair"].contains(&name) && !failed && last.get("tables").is_none();
        let session = session && !of_files && last.get("sides").is_none();
        for field in ["verdict", "scope", "coverage", "cuts", "roots", "counts", "wrote", "bytes", "run"] {
            assert!(!session || last.get(field).is_some(), "{command} lacks {field}: {last}");
        }
        // `status` exits as the pairs that it shows, of which one was refused.
        let unfit = last["exit"] == 2 || last["exit"] == 4 && name != "status";
        assert_eq!((failed, last.get("message").is_some()), (unfit, unfit), "{command}: {last}");
        if last["exit"] == 4 && failed {
            assert_eq!((&last["verdict"], &last["wrote"]), (&"refused".into(), &0.into()), "{command}");
        }
    }
    assert!(kinds.len() >= 4, "{kinds:?}");
    // The demo has a test of its own, and completions are a document.
    let known = schema["$defs"]["summary"]["properties"]["command"]["enum"].as_array().expect("the commands");
    let known = known.iter().filter_map(Value::as_str).filter(|name| !["demo", "completions"].contains(name));
    assert_eq!(known.filter(|name| !named.contains(*name)).collect::<Vec<_>>(), Vec::<&str>::new());
    // A configuration that names something is told too.
    place.file("home/config.toml", "[store.a]\nurl = '../a'\n[store.b]\nurl = '../b'\n[job.j]\na = 'a'\nb = 'b'\n");
    let configured = place.json("config check").ok().objects();
    assert!(configured.iter().filter(|object| object["t"] == "configured").count() == 3, "{configured:?}");
    holds(&configured);
    let mut bad = place.json("check a b").objects().pop().expect("a summary");
    bad["news"] = Value::from(1);
    bad["wrote"] = Value::from("one");
    assert_eq!(wrong(&schema, &schema["$defs"]["summary"], &bad, "summary").len(), 2, "the check would notice");
}

#[test]
fn the_schema_admits_every_kind_of_object_that_it_knows() {
    let schema = schema();
    for (name, rule) in schema["$defs"].as_object().expect("definitions") {
        let is_kind =
            rule["properties"]["t"]["enum"].as_array().is_some_and(|kinds| kinds.contains(&name.as_str().into()));
        assert!(!is_kind || admitted(&schema, name).is_some(), "{name} is not among those of `anyOf`");
    }
}
