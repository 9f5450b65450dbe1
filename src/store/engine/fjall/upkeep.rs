//! What the engine would do while somebody waits for a commit, on a thread of its own: a full memtable is rotated, and the files
//! of tables that were merged are removed.
//!
//! The engine lets go of a version of its list of tables under the lock that every read and write needs, and removes the files
//! of tables that were in no later one: some 5 ms for each 8 MiB. So each version is held here for longer than the engine holds
//! it, and nobody waits while it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::{AbstractTree as _, Keyspace};

/// How often it looks for a new version while tables are written: one lasts at least as long as that takes.
const LOOKS_EVERY: Duration = Duration::from_millis(5);
/// Looks without a new version after which it looks seldom, and sleeps once the engine holds no more than the newest.
const QUIET: u32 = 200;
const LOOKS_SELDOM: Duration = Duration::from_secs(1);

/// What the thread is told.
enum Told {
    /// The memtable is full.
    Full,
    /// It was rotated.
    Rotated,
}

/// The thread of one open store. Letting it go ends the thread.
pub(super) struct Upkeep {
    // None once it is to end.
    tell: Option<SyncSender<Told>>,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Begins for these rows, of whose memtable so many bytes are filled.
    pub(super) fn begin(rows: Keyspace, in_memtable: Arc<AtomicU64>) -> std::io::Result<Self> {
        let (tell, told) = sync_channel(1);
        let thread = std::thread::Builder::new().name("reknit-upkeep".into()).spawn(move || {
            run(&rows, &in_memtable, &told);
        })?;
        Ok(Self { tell: Some(tell), thread: Some(thread) })
    }

    /// Says that the memtable is full.
    pub(super) fn full(&self) {
        self.tell(Told::Full);
    }

    /// Says that it was rotated.
    pub(super) fn rotated(&self) {
        self.tell(Told::Rotated);
    }

    fn tell(&self, told: Told) {
        if let Some(tell) = &self.tell {
            // One that has yet to hear something is awake, and hears of a memtable that stays full again.
            let _ = tell.try_send(told);
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.tell = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked does nothing more; writers then rotate by themselves.
            let _ = thread.join();
        }
    }
}

fn run(rows: &Keyspace, in_memtable: &AtomicU64, told: &Receiver<Told>) {
    let (mut held, mut quiet) = (vec![rows.tree.current_version()], 0);
    loop {
        let heard = match quiet {
            ..QUIET => told.recv_timeout(LOOKS_EVERY),
            _ if held.len() > 1 => told.recv_timeout(LOOKS_SELDOM),
            _ => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        quiet = if heard.is_ok() { 0 } else { quiet.saturating_add(1) };
        // What came while it slept is held before a rotation lets the engine remove what it replaced.
        let newest = rows.tree.current_version();
        if held.last().is_none_or(|last| last.id() < newest.id()) {
            quiet = 0;
            held.push(newest.clone());
        }
        match heard {
            Ok(Told::Full) => {
                in_memtable.store(0, Ordering::Relaxed);
                // An engine that failed refuses the next commit too.
                let _ = rows.rotate_memtable();
            }
            Ok(Told::Rotated) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if held.len() > 1 {
            // Each is one above that before it; one that came since makes these more, not fewer.
            let engine_holds = rows.tree.get_version_history_lock().free_list_len() as u64;
            held.retain(|version| version.id() + engine_holds >= newest.id());
        }
    }
}
