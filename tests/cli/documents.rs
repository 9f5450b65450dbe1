//! Help, manual pages and completions: made from one definition, and complete.

use crate::harness::Place;

/// The commands that a help names.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    list.lines()
        .take_while(|line| !line.trim().is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Every command, with those below it.
fn all(place: &Place, of: &str, found: &mut Vec<String>) {
    for command in commands(&place.run(&format!("{of} --help")).ok().out) {
        let whole = format!("{of} {command}").trim().to_string();
        found.push(whole.clone());
        all(place, &whole, found);
    }
}

#[test]
fn every_command_and_flag_is_explained() {
    let place = Place::new();
    let mut found = Vec::new();
    all(&place, "", &mut found);
    for name in
        ["demo", "init", "import", "export", "put", "get", "delete", "list", "verify", "backup", "restore", "id"]
    {
        assert!(found.iter().any(|command| command == name), "{name}");
    }
    for name in ["peers add", "peers remove", "dataset export", "check", "diff", "repair", "serve", "status", "man"] {
        assert!(found.iter().any(|command| command == name), "{name}");
    }
    for command in &found {
        let help = place.run(&format!("{command} --help")).ok().out;
        assert!(help.lines().next().is_some_and(|line| line.len() > 10 && !line.starts_with("Usage")), "{command}");
        // A flag and what is said of it, down to the next.
        let mut flags: Vec<String> = Vec::new();
        for line in help.lines() {
            let margin = line.len() - line.trim_start().len();
            if (2..=6).contains(&margin) && line.trim_start().starts_with('-') {
                flags.push(line.trim().to_string());
            } else if line.starts_with("   ")
                && let Some(flag) = flags.last_mut()
            {
                flag.push(' ');
                flag.push_str(line.trim());
            }
        }
        assert!(flags.len() >= 5, "{command}: {flags:?}");
        for flag in flags.iter().filter(|flag| !flag.contains("--help") && !flag.contains("--version")) {
            assert!(flag.contains("[env: REKNIT_"), "{command}: {flag} has no twin in the environment");
            let words = flag.split("[env").next().unwrap_or_default().split_whitespace();
            assert!(
                words.filter(|word| !word.starts_with(['-', '<'])).count() >= 2,
                "{command}: {flag} is not explained"
            );
        }
    }
    place.run("--help").ok().says(&["Examples:", "Exit codes:"]);
    place.run("--version").ok().says(&["reknit "]);
}

#[test]
fn what_is_typed_wrongly_exits_2() {
    let place = Place::with_store();
    for line in
        ["", "nonsense", "init", "put s a", "list s --limit x", "list s --no-such-flag", "id --format xml", "man x"]
    {
        let ran = place.run(line).exits(2);
        assert_eq!(ran.out, "", "{line}");
        assert!(ran.err.contains("Usage") || ran.err.contains("help"), "{line}: {ran:?}");
    }
}

#[test]
fn flags_have_twins_in_the_environment() {
    let mut place = Place::with_file("a.kv", "a\tb\nc\td\n", "");
    place.vars = vec![("REKNIT_LIMIT", "1".into()), ("REKNIT_FORMAT", "jsonl".into())];
    assert_eq!(place.run("list s").ok().objects().len(), 2);
    place.run("list s --limit 2 --format text").ok().prints("a\nc\n");
    place.vars = vec![("REKNIT_FILE_FORMAT", "jsonl".into()), ("REKNIT_KEY", "id".into())];
    place.run("init t").ok();
    place.feed("import t -", b"{\"id\":1}\n").ok();
    place.run("get t 1").ok().prints("{\"id\":1}\n");
    // What the environment says of new stores contradicts nothing that is typed.
    place.vars = vec![("REKNIT_NAME", "n".into()), ("REKNIT_NO_KEY_INDEX", "true".into())];
    place.run("init u --like t").ok().says(&["dataset t"]);
    place.run("init v").ok().says(&["dataset n"]);
    place.run("init w --like t --profile content").exits(2).says(&["--like", "--profile"]);
    let peer = place.run("id --home other").ok().out.trim_end().to_string();
    place.run(&format!("peers add {peer}")).ok();
    assert_eq!(place.json("peers list").ok().objects()[0]["name"], serde_json::Value::Null, "no name of a dataset");
    place.vars = vec![("REKNIT_LIKE", "t".into()), ("REKNIT_PEER_NAME", "bern".into())];
    place.run("init x").ok().says(&["dataset t"]);
    place.run("init y --name own").ok().says(&["dataset own"]);
    place.run(&format!("peers add {peer}")).ok();
    assert_eq!(place.json("peers list").ok().objects()[0]["name"], "bern");
    place.vars = vec![("REKNIT_FORMAT", "csv".into())];
    place.run("list s").exits(2).says(&["text, json or jsonl"]);
}

/// What stands in double quotes in the sources of the command line.
fn quoted(dir: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            quoted(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).expect("a source");
            found.extend(text.split('"').map(str::to_owned));
        }
    }
}

#[test]
fn every_error_is_in_the_documentation_and_the_other_way_round() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/errors.md")).expect("the errors");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let documented: Vec<&str> = rows.flat_map(|row| row.split(['`', ',', ' '])).filter(|id| !id.is_empty()).collect();
    assert!(documented.len() > 50, "{documented:?}");
    let mut sources = Vec::new();
    quoted(&root.join("src/cli"), &mut sources);
    // One is told by a daemon that did not understand the command, in its sentence alone.
    let is_told = |id: &&str| sources.iter().any(|source| source == id || source.contains(&format!("[{id}]")));
    let unknown: Vec<_> = documented.iter().filter(|id| !is_told(id)).collect();
    assert!(unknown.is_empty(), "no error has the id {unknown:?}");
    let family = |id: &str| documented.iter().filter_map(|known| known.split_once('.')).any(|(name, _)| id == name);
    let is_id = |text: &&String| {
        let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || b".-".contains(&byte));
        plain && text.split_once('.').is_some_and(|(name, rest)| family(name) && !rest.is_empty() && rest != "rs")
    };
    let ids: Vec<_> = sources.iter().filter(is_id).filter(|id| !documented.contains(&id.as_str())).collect();
    assert!(ids.is_empty(), "{ids:?} are not in docs/errors.md");
}

#[test]
fn no_colour_is_printed_where_nobody_looks_or_wants_it() {
    let mut place = Place::with_file("a.kv", "a\tb\n", "");
    let plain = [place.run("verify s").ok(), place.run("--help").ok(), place.run("nonsense").exits(2)];
    place.vars = vec![("NO_COLOR", "1".into()), ("CLICOLOR_FORCE", "0".into())];
    let without = [place.run("verify s").ok(), place.run("--help").ok(), place.run("nonsense").exits(2)];
    for (plain, without) in plain.iter().zip(&without) {
        assert_eq!((&plain.out, &plain.err), (&without.out, &without.err));
        assert!(!plain.out.contains('\u{1b}') && !plain.err.contains('\u{1b}'));
    }
}

#[test]
fn completions_and_manual_pages_are_made() {
    let mut place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        place.run(&format!("completions {shell}")).ok().says(&["reknit", "verify", "prefix"]);
    }
    place.run("completions tcsh").exits(2).says(&["bash"]);
    place.run("man").ok().says(&[".TH reknit 1", "verify"]);
    place.run("man --dir pages").ok().says(&["pages"]);
    let pages = place.names(&place.path("pages"));
    for page in ["reknit.1", "reknit-import.1", "reknit-peers-add.1", "reknit-dataset-show.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} in {pages:?}");
    }
    place.file("file", "");
    place.run("man --dir file").fails("output");
    // They are documents, whatever is said of reports.
    place.vars = vec![("REKNIT_FORMAT", "json".into()), ("REKNIT_QUIET", "true".into())];
    place.run("man").ok().says(&[".TH reknit 1"]);
    place.run("completions bash").ok().says(&["complete -F"]);
}
