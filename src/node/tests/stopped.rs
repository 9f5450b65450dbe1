//! A session that is told to end counts what it has written, also of transfers that it has not come to the end of.

use std::sync::atomic::{AtomicU64, Ordering};

use reknit_core::difference::Side as Seen;

use super::*;

/// Rows in memory, of which one commit has a session told to end.
struct Stopping {
    rows: Memory,
    /// Commits before that.
    left: AtomicU64,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Engine for Stopping {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.stop.send_replace(true);
        }
        self.rows.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.rows.sync()
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.rows.disk_bytes()
    }
}

fn live(store: &Store) -> u64 {
    store.collection("users").expect("there").scan(b"").expect("scanned").count() as u64
}

/// A repair between a full store and an empty one, whose engine has it told to end at a commit; `opens` says which of them opens.
/// Gives how many records came, and how many it says came.
async fn stopped_at(commit: u64, opens: Seen) -> (u64, u64) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let engine = Arc::new(Stopping { rows: Memory::new(), left: AtomicU64::new(u64::MAX), stop });
    let key = DatasetKey::from_bytes([2; 32]);
    let empty = Store::found_over(engine.clone(), definition(), key, &StoreOptions::default()).expect("a store");
    engine.left.store(commit, Ordering::SeqCst);
    let full = store(20_000);
    let (a, b) = match opens {
        Seen::Mine => (empty.clone(), full),
        Seen::Theirs => (full, empty.clone()),
    };
    let report = between(Arc::new(a), Arc::new(b), options(REPAIR, &[]), Budget::default(), stopped, &mut |_| ()).await;
    let counts = report.expect("an outcome").outcome.counts;
    let told = if opens == Seen::Mine { counts.to_mine } else { counts.to_theirs };
    (live(&empty), told.applied)
}

#[test]
fn what_was_written_before_a_session_was_told_to_end_is_counted() {
    run(async {
        for opens in [Seen::Mine, Seen::Theirs] {
            let mut cut = 0;
            for commit in 0..12 {
                let (came, told) = stopped_at(commit, opens).await;
                assert_eq!(told, came, "{opens:?} opens, told to end at commit {commit}");
                cut += u64::from((1..20_000).contains(&came));
            }
            assert!(cut > 0, "{opens:?} opens, and none was cut short");
        }
    });
}
