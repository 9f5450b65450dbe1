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

use super::MEMTABLE_BYTES;

/// How often it looks for a new version while tables are written: one lasts at least as long as that takes.
const LOOKS_EVERY: Duration = Duration::from_millis(5);
/// Looks without a new version after which it looks seldom, and sleeps once the engine holds no more than the newest.
const QUIET: u32 = 200;
const LOOKS_SELDOM: Duration = Duration::from_secs(1);

/// The thread of one open store. Letting it go ends the thread.
pub(super) struct Upkeep {
    // None once it is to end.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Begins for these rows, of whose memtable so many bytes are filled.
    pub(super) fn begin(rows: Keyspace, in_memtable: Arc<AtomicU64>) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new().name("reknit-upkeep".into()).spawn(move || {
            run(&rows, &in_memtable, &woken);
        })?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    /// Says that the memtable is full, or was rotated.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // One that has yet to hear of something looks at all there is.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked does nothing more; writers then rotate by themselves.
            let _ = thread.join();
        }
    }
}

fn run(rows: &Keyspace, in_memtable: &AtomicU64, woken: &Receiver<()>) {
    let (mut held, mut quiet) = (vec![rows.tree.current_version()], 0);
    loop {
        let heard = match quiet {
            ..QUIET => woken.recv_timeout(LOOKS_EVERY),
            _ if held.len() > 1 => woken.recv_timeout(LOOKS_SELDOM),
            _ => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        quiet = match heard {
            Ok(()) => 0,
            Err(RecvTimeoutError::Timeout) => quiet.saturating_add(1),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // What came while it slept is held before a rotation lets the engine remove what it replaced.
        let newest = rows.tree.current_version();
        if held.last().is_none_or(|last| last.id() < newest.id()) {
            quiet = 0;
            held.push(newest.clone());
        }
        // Several may have said so of one that was rotated since: a second rotation would make a small table.
        if in_memtable.load(Ordering::Relaxed) >= MEMTABLE_BYTES {
            in_memtable.store(0, Ordering::Relaxed);
            // An engine that failed refuses the next commit too.
            let _ = rows.rotate_memtable();
        }
        if held.len() > 1 {
            // Each is one above that before it; one that came since makes these more, not fewer.
            let engine_holds = rows.tree.get_version_history_lock().free_list_len() as u64;
            held.retain(|version| version.id() + engine_holds >= newest.id());
        }
    }
}
