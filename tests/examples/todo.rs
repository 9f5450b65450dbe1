//! The list of things to do, kept in two terminals.

use std::path::Path;
use std::time::Instant;

use super::terminal::{NEVER, Terminal};

fn terminal(dir: &Path, words: &[&str]) -> Terminal {
    let mut terminal = Terminal::of("todo", words, dir);
    if words[0] != "new" {
        terminal.until("add TITLE");
    }
    terminal
}

/// The lines of a list.
fn list(terminal: &mut Terminal) -> Vec<String> {
    terminal.types("list");
    let mut lines = Vec::new();
    while let Some(line) = terminal.line().filter(|line| !line.ends_with("in all")) {
        // What others change is printed whenever it comes.
        if line.starts_with([' ', '1', '2']) {
            lines.push(line);
        }
    }
    lines
}

/// Waits until the list looks so.
#[track_caller]
fn until_list(terminal: &mut Terminal, should: &[&str]) {
    let began = Instant::now();
    let mut lines = list(terminal);
    while lines != should {
        assert!(began.elapsed() < NEVER, "the list should be {should:#?}, and is {lines:#?}");
        lines = list(terminal);
    }
}

#[test]
fn a_list_is_kept_in_two_terminals() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut anna = terminal(dir.path(), &["new", "anna"]);
    let ticket = anna.until("ticket ");
    let mut ben = terminal(dir.path(), &["join", "ben", &ticket]);
    anna.types("add milk");
    ben.until("added: milk");
    assert_eq!(list(&mut ben), [" 1 [ ] milk"]);
    ben.types("done 1");
    anna.until("done: milk");
    ben.types("add bread");
    anna.until("added: bread");
    assert_eq!(list(&mut anna), [" 1 [x] milk", " 2 [ ] bread"]);
    anna.types("drop 2");
    ben.until("dropped: bread");

    // One drops what the other changes at the same time: it stays, as it is now, and is yet to be done.
    ben.types("away");
    ben.types("edit 1 oat milk");
    assert_eq!(list(&mut ben), [" 1 [x] oat milk"]);
    anna.types("drop 1");
    assert_eq!(list(&mut anna), [""; 0]);
    ben.types("back");
    anna.until("added: oat milk");
    until_list(&mut ben, &[" 1 [ ] oat milk"]);
    until_list(&mut anna, &[" 1 [ ] oat milk"]);

    // Both change the same title: both are shown until one of them decides.
    ben.types("away");
    ben.types("edit 1 soy milk");
    assert_eq!(list(&mut ben), [" 1 [ ] soy milk"]);
    anna.types("edit 1 rice milk");
    assert_eq!(list(&mut anna), [" 1 [ ] rice milk"]);
    ben.types("back");
    let mut both = list(&mut ben);
    for terminal in [&mut ben, &mut anna] {
        let began = Instant::now();
        while both.len() < 2 {
            assert!(began.elapsed() < NEVER, "both titles are shown: {both:#?}");
            both = list(terminal);
        }
        let titles: Vec<&str> = both.iter().filter_map(|line| line.get(7..)).collect();
        assert!(titles.contains(&"soy milk") && titles.contains(&"rice milk"), "{both:#?}");
        both.clear();
    }
    ben.types("edit 1 soy milk");
    until_list(&mut anna, &[" 1 [ ] soy milk"]);

    anna.types("nonsense");
    anna.until("add TITLE");
    anna.types("quit");
    ben.hang_up();
    assert!(anna.ended_well() && ben.ended_well());
    let mut again = terminal(dir.path(), &["open", "ben"]);
    assert_eq!(list(&mut again), [" 1 [ ] soy milk"]);
}
