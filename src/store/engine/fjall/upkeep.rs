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

/// How often it looks for a new version: one lasts at least as long as a table is written.
const LOOKS_EVERY: Duration = Duration::from_millis(5);
/// Looks without a new version after which it sleeps until a memtable is full: nothing is flushed or merged then.
const QUIET: u32 = 200;

/// The thread of one open store. Letting it go ends the thread.
pub(super) struct Upkeep {
    // None once it is to end.
    full: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Begins for these rows, of whose memtable so many bytes are filled.
    pub(super) fn begin(rows: Keyspace, in_memtable: Arc<AtomicU64>) -> std::io::Result<Self> {
        let (full, told) = sync_channel(1);
        let thread = std::thread::Builder::new().name("reknit-upkeep".into()).spawn(move || {
            run(&rows, &in_memtable, &told);
        })?;
        Ok(Self { full: Some(full), thread: Some(thread) })
    }

    /// Says that the memtable is full.
    pub(super) fn full(&self) {
        if let Some(full) = &self.full {
            // One that is told already knows.
            let _ = full.try_send(());
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.full = None;
        if let Some(thread) = self.thread.take() {
            // What it would have removed is removed when the store is next opened.
            let _ = thread.join();
        }
    }
}

fn run(rows: &Keyspace, in_memtable: &AtomicU64, full: &Receiver<()>) {
    let mut held = vec![rows.tree.current_version()];
    let mut quiet = 0;
    loop {
        let told = match quiet {
            QUIET => full.recv().map_err(|_| RecvTimeoutError::Disconnected),
            _ => full.recv_timeout(LOOKS_EVERY),
        };
        match told {
            Ok(()) => {
                quiet = 0;
                in_memtable.store(0, Ordering::Relaxed);
                // What keeps it from that the next commit meets too, and tells.
                let _ = rows.rotate_memtable();
            }
            Err(RecvTimeoutError::Timeout) => quiet += 1,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let newest = rows.tree.current_version();
        if held.last().is_none_or(|last| last.id() < newest.id()) {
            quiet = 0;
            held.push(newest.clone());
        }
        if held.len() > 1 {
            // Each is one above that before it.
            let engine_holds = rows.tree.get_version_history_lock().free_list_len() as u64;
            held.retain(|version| version.id() + engine_holds >= newest.id());
        }
    }
}
