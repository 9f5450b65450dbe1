//! The examples, run as whoever tries them would: the programs themselves, to their end.

mod terminal;
mod todo;

use std::path::Path;

use terminal::Terminal;

/// Runs an example to its end, which must be a good one, and gives what it printed.
fn run(name: &str) -> Vec<String> {
    let mut terminal = Terminal::of(name, &[], Path::new("."));
    terminal.hang_up();
    let mut lines = Vec::new();
    while let Some(line) = terminal.line() {
        lines.push(line);
    }
    assert!(terminal.ended_well(), "{name} failed: {lines:#?}");
    lines
}

#[track_caller]
fn says(lines: &[String], what: &str) {
    assert!(lines.iter().any(|line| line.contains(what)), "no line says {what:?}: {lines:#?}");
}

#[test]
fn embed() {
    says(&run("embed"), "the phone heard of milk");
}

#[test]
fn bring_your_own_io() {
    says(&run("bring_your_own_io"), "Only(Theirs) quince");
}

#[test]
fn gossip() {
    let lines = run("gossip");
    says(&lines, "Cleo hears of 1: a heron on the roof");
    let place = |what: &str| lines.iter().position(|line| line.contains(what)).expect(what);
    assert!(place("Ben is back") < place("Ben hears of 2"), "{lines:#?}");
    assert!(place("Ben is back") < place("Anna hears of 3"), "{lines:#?}");
    says(&lines, "all three are equal: 3 records");
}

#[test]
fn notes() {
    let lines = run("notes");
    says(&lines, "the policy keeps the laws");
    let text = ["for Sunday:", "milk", "bread", "salt"];
    assert!(lines.windows(4).any(|four| four == text), "both edits survive: {lines:#?}");
    says(&lines, "versions that are left: 1 and 1");
}

#[test]
fn custom_store() {
    let lines = run("custom_store");
    says(&lines, "the store keeps the contract under newest/1");
    says(&lines, "the store keeps the contract under keep-both/1");
    says(&lines, "both hold 3 records");
}

#[test]
fn custom_transport() {
    let lines = run("custom_transport");
    says(&lines, "the network keeps the contract");
    says(&lines, "in_sync");
    says(&lines, "the desk hears of bread");
}

/// An example that nobody runs may have stopped to work.
#[test]
fn every_example_is_run() {
    let tests = include_str!("main.rs").to_string() + include_str!("todo.rs");
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).expect("examples") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(tests.contains(&format!("\"{name}\"")), "{name} is run by no test");
    }
}
