//! A program in a terminal: lines that are typed, lines that it prints.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What takes longer will never come.
pub(crate) const NEVER: Duration = Duration::from_secs(60);

/// A program that runs, and is killed when this is dropped.
pub(crate) struct Terminal {
    child: Child,
    keyboard: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Terminal {
    /// Starts an example in a directory.
    pub(crate) fn of(example: &str, words: &[&str], dir: &Path) -> Terminal {
        let mut command = Command::new(program(example));
        command.args(words).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let screen = BufReader::new(child.stdout.take().expect("a screen"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in screen.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Terminal { keyboard: child.stdin.take(), child, lines, seen: Vec::new() }
    }

    pub(crate) fn types(&mut self, line: &str) {
        let keyboard = self.keyboard.as_mut().expect("it is not hung up");
        writeln!(keyboard, "{line}").expect("it listens");
    }

    pub(crate) fn hang_up(&mut self) {
        self.keyboard = None;
    }

    /// The next line; none at the end.
    pub(crate) fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(NEVER) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("nothing more came: {:#?}", self.seen),
        }
    }

    /// Reads to the line that begins so, and gives the rest of it.
    #[track_caller]
    pub(crate) fn until(&mut self, start: &str) -> String {
        while let Some(line) = self.line() {
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_string();
            }
        }
        panic!("it ended without a line {start:?}: {:#?}", self.seen);
    }

    /// Waits for the end of a program that prints nothing more, and says whether it was a good one.
    pub(crate) fn ended_well(&mut self) -> bool {
        while self.line().is_some() {}
        self.child.wait().expect("it ends").success()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing happens to one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of an example: cargo puts it beside the tests, and makes it whenever it runs all of them.
fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a program");
    let place = test.ancestors().nth(2).expect("a target directory").join("examples").join(example);
    let made = |path: &Path| path.metadata().and_then(|about| about.modified());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{example}.rs"));
    let fresh = made(&place).is_ok_and(|built| built >= made(&source).expect("a source"));
    let place_shown = place.display();
    assert!(fresh, "{place_shown} is not there or older than its source; make it: cargo build --examples");
    place
}
