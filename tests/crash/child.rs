//! The process that writes: this test binary, started again with a directory in its environment.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use reknit::store::{EngineError, Store, StoreError};

use crate::model::{self, WRITERS, batch, durability};

const DIR: &str = "REKNIT_CRASH_DIR";
const ENGINE: &str = "REKNIT_CRASH_ENGINE";
const FROM: &str = "REKNIT_CRASH_FROM";

/// The command that starts the writing process; writer `w` goes on after its batch `from[w]`.
pub(crate) fn command(dir: &Path, engine: &str, from: &[u64]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "child::writes_when_told", "--nocapture", "--test-threads", "1"]);
    let from: Vec<String> = from.iter().map(u64::to_string).collect();
    command.env(DIR, dir).env(ENGINE, engine).env(FROM, from.join(","));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// Says a line to the watching process.
fn say(line: &str) {
    static OUT: Mutex<()> = Mutex::new(());
    let _held = OUT.lock().expect("one line at a time");
    let mut out = std::io::stdout().lock();
    // Without a listener there is nothing left to do.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Not a test of its own: does nothing unless the environment names a store.
#[test]
fn writes_when_told() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let engine = std::env::var(ENGINE).ok().and_then(|name| reknit::store::EngineKind::from_name(&name));
    let from: Vec<u64> = std::env::var(FROM).expect("from").split(',').map(|n| n.parse().expect("a number")).collect();
    say("\nbegun");
    let store = Store::open(Path::new(&dir), &model::options(engine.expect("an engine"))).expect("open");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, from) = (&store, from[usize::try_from(writer).expect("few")]);
            scope.spawn(move || {
                for nth in from + 1.. {
                    match store.batch(batch(writer, nth), durability(nth)) {
                        Ok(_) => say(&format!("done {writer} {nth}")),
                        Err(error) => {
                            say(&format!("failed {writer} {nth} {}", kind(&error)));
                            return;
                        }
                    }
                }
            });
        }
    });
    say("ended");
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Engine(EngineError::Full { .. }) => "full",
        StoreError::Engine(EngineError::Poisoned { .. }) => "poisoned",
        _ => "otherwise",
    }
}
