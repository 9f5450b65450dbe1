//! A disk that is full: the write that does not fit is refused by name, nothing before it is lost.

use std::io::Read as _;
use std::process::Command;

use reknit::store::{Durability, Store};

use crate::child;
use crate::model::{self, ENGINES, WRITERS, assert_sound, batches_held, durability};

/// No file may grow beyond this, in the shell's blocks of 512 or 1,024 bytes: the system then refuses as for a disk
/// that is full, without a disk having to be filled.
const FILE_BLOCKS_MAX: u32 = 4_000;

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("store");
        model::create(engine, &dir);
        let inner = child::command(&dir, engine.name(), &[0; 3]);
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {FILE_BLOCKS_MAX}; exec \"$0\" \"$@\""));
        command.arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdout(std::process::Stdio::piped());
        let mut process = command.spawn().expect("a shell");
        let mut said = String::new();
        process.stdout.take().expect("its output").read_to_string(&mut said).expect("text");
        process.wait().expect("its end");

        let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("failed")).collect();
        assert_eq!(failed.len() as u64, WRITERS, "{engine}: {failed:?}");
        assert!(failed.iter().any(|line| line.ends_with(" full")), "{engine}: {failed:?}");
        assert!(failed.iter().all(|line| !line.ends_with(" otherwise")), "{engine}: {failed:?}");

        let store = Store::open(&dir, &model::options(engine)).expect("open again with room");
        for writer in 0..WRITERS {
            let begin = format!("done {writer} ");
            let numbers = said.lines().filter_map(|line| line.strip_prefix(&begin)?.parse::<u64>().ok());
            let synced = numbers.filter(|nth| durability(*nth) == Durability::Synced).max().unwrap_or(0);
            assert!(batches_held(&store, writer, engine.name()) >= synced, "{engine}: writer {writer}");
        }
        assert_sound(&store, engine.name());
        store.put(b"9/after", b"x").expect("room again");
    }
}
