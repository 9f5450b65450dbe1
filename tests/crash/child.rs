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

/// Writes to the store that the environment names, until it is killed. Where none is named, some batches to stores of its own,
/// which have them all afterwards.
#[test]
fn writes_when_told() {
    let Ok(dir) = std::env::var(DIR) else { return writes_untold() };
    let engine = std::env::var(ENGINE).ok().and_then(|name| reknit::store::EngineKind::from_name(&name));
    let from: Vec<u64> = std::env::var(FROM).expect("from").split(',').map(|n| n.parse().expect("a number")).collect();
    say("\nbegun");
    let store = Store::open(Path::new(&dir), &model::options(engine.expect("an engine"))).expect("open");
    write(&store, &from, u64::MAX, &say);
    say("ended");
}

fn writes_untold() {
    const BATCHES: u64 = 20;
    for engine in model::ENGINES {
        let home = crate::process::quick_dir();
        let dir = home.path().join("store");
        model::create(engine, &dir);
        let open = || Store::open(&dir, &model::options(engine)).expect("open");
        write(&open(), &[0; WRITERS as usize], BATCHES, &|line| assert!(line.starts_with("done"), "{line}"));
        let store = open();
        (0..WRITERS).for_each(|writer| assert_eq!(model::batches_held(&store, writer, "untold"), BATCHES));
    }
}

/// Each writer goes on after its batch `from[writer]`, up to `most`.
fn write(store: &Store, from: &[u64], most: u64, say: &(dyn Fn(&str) + Sync)) {
    std::thread::scope(|scope| {
        for (writer, from) in (0..WRITERS).zip(from) {
            scope.spawn(move || {
                for nth in from + 1..=most {
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
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Engine(EngineError::Full { .. }) => "full",
        StoreError::Engine(EngineError::Poisoned { .. }) => "poisoned",
        _ => "otherwise",
    }
}
