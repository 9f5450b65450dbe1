//! What leaves quarantine counts as lost, whatever becomes of the session as which it left.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use reknit_core::brakes::{Brakes, Limit, Losses};
use reknit_core::stamp::CLOCK_BOUND_MILLIS;
use tokio::sync::mpsc::UnboundedSender;

use super::*;

const NOW: u64 = 1_000_000_000;
const LIVE: u32 = 600;

/// What becomes of the commits of an engine.
#[derive(Default)]
enum Next {
    #[default]
    Goes,
    /// The next one says that it came, and waits.
    Waits(UnboundedSender<()>, mpsc::Receiver<()>),
    /// So many go, and none after them.
    Fails(u64),
}

struct Told {
    rows: Memory,
    next: Arc<Mutex<Next>>,
}

impl Engine for Told {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        let next = std::mem::replace(&mut *self.next.lock().expect("whole"), Next::Goes);
        match next {
            Next::Goes => {}
            Next::Waits(begun, may) => {
                begun.send(()).expect("somebody waits");
                may.recv().expect("told");
            }
            Next::Fails(after) => {
                *self.next.lock().expect("whole") = Next::Fails(after.saturating_sub(1));
                if after == 0 {
                    let source = Arc::new(std::io::Error::other("told to fail"));
                    return Err(EngineError::Io { dir: "memory".into(), source });
                }
            }
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

/// Two equal stores, of which the second holds that so many were deleted in the first, due to leave quarantine; and its engine.
async fn due(deleted: u32) -> (Store, Store, Arc<Mutex<Next>>) {
    let clock = Arc::new(AtomicU64::new(NOW));
    let next = Arc::new(Mutex::new(Next::Goes));
    let store = |ahead: u64| {
        let clock = Arc::clone(&clock);
        let options =
            StoreOptions { clock: Arc::new(move || clock.load(Ordering::Relaxed) + ahead), ..StoreOptions::default() };
        let engine = Told { rows: Memory::new(), next: if ahead > 0 { Arc::default() } else { Arc::clone(&next) } };
        let key = DatasetKey::from_bytes([2; 32]);
        Store::found_over(Arc::new(engine), definition(), key, &options).expect("a store")
    };
    let (a, b) = (store(CLOCK_BOUND_MILLIS + 3_000), store(0));
    put(&b, "users", LIVE);
    repair(&a, &b).await;
    let ops = (0..deleted).map(|n| Op::delete(n.to_be_bytes())).collect();
    a.collection("users").expect("there").batch(ops, Durability::Synced).expect("deleted");
    repair(&a, &b).await;
    assert_eq!((live(&b), b.quarantined_count()), (u64::from(LIVE), u64::from(deleted)));
    clock.fetch_add(5_000, Ordering::Relaxed);
    (a, b, next)
}

async fn repair(a: &Store, b: &Store) {
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let sides = (Arc::new(a.clone()), Arc::new(b.clone()));
    between(sides.0, sides.1, options(REPAIR, &[]), Budget::default(), stopped, &mut |_| ()).await.expect("an outcome");
}

fn live(store: &Store) -> u64 {
    store.collection("users").expect("there").scan(b"").expect("scanned").count() as u64
}

/// What the second loses to the first.
fn window(a: &Store, b: &Store) -> Window {
    Window::of_store(Duration::from_secs(3600), &Arc::default(), &b.describe(), &a.describe())
}

/// A session that the first opens, and that may lose the second only so much.
async fn guarded(a: Store, b: Store, guarded: Guarded) -> Result<Verdict, NodeError> {
    let (near, far) = Link::pair();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let grant = Grant::everywhere(Rights::ALL);
    let answering = answer_with(Arc::new(b), far, grant, None, stopped.clone(), Whom::unnamed(), guarded);
    let mut progress = |_| ();
    let opening =
        open_session(Arc::new(a), near, options(REPAIR, &[]), Budget::default(), stopped.clone(), &mut progress);
    let (opened, answered) = tokio::join!(opening, answering);
    answered?;
    Ok(opened?.outcome.verdict)
}

#[test]
fn a_session_that_is_cut_while_records_leave_quarantine_gives_the_next_no_room_anew() {
    run(async {
        let (a, b, next) = due(20).await;
        let brakes = Brakes { delete: Limit::records(10), ..Brakes::default() };
        let window = window(&a, &b);
        let guards = || (Some(brakes), Some(window.clone()));
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let (lets, may) = mpsc::channel();
        *next.lock().expect("whole") = Next::Waits(begun, may);
        let cut = tokio::spawn(guarded(a.clone(), b.clone(), guards()));
        begins.recv().await.expect("it begins");
        cut.abort();
        assert!(cut.await.expect_err("it is over").is_cancelled());
        // What the first has begun goes on, and this one comes while it does.
        let after = tokio::spawn(guarded(a, b.clone(), guards()));
        lets.send(()).expect("held");
        assert_ne!(after.await.expect("no panic").expect("an outcome"), Verdict::InSync);
        assert_eq!((live(&b), b.quarantined_count()), (u64::from(LIVE) - 10, 10));
        assert_eq!(window.lost(Instant::now()), Losses { deleted: 10, changed: 0 });
    });
}

#[test]
fn what_left_quarantine_before_a_store_failed_is_counted() {
    run(async {
        let (a, b, next) = due(500).await;
        let window = window(&a, &b);
        *next.lock().expect("whole") = Next::Fails(1);
        let failed = guarded(a.clone(), b.clone(), (None, Some(window.clone()))).await;
        assert!(matches!(failed, Err(NodeError::Store(_))), "{failed:?}");
        assert!(b.refuses_writes() && !a.refuses_writes());
        let left = u64::from(LIVE) - live(&b);
        assert!((1..500).contains(&left), "{left}");
        assert_eq!(window.lost(Instant::now()), Losses { deleted: left, changed: 0 });
    });
}

/// Neither would come to a session.
#[test]
fn nothing_leaves_quarantine_for_a_store_that_takes_no_part() {
    run(async {
        let (paused, b, _) = due(20).await;
        let (first, _) = paused.runs().first().cloned().expect("it was repaired");
        paused.undo(first, Undo::Here, &mut |_| (), &mut |_| ()).expect("undone");
        let another = Definition { id: DatasetId([9; 16]), ..definition() };
        let another = Store::in_memory(another, DatasetKey::from_bytes([2; 32]), &StoreOptions::default());
        for a in [paused, another.expect("a store")] {
            let (_stop, stopped) = tokio::sync::watch::channel(false);
            let sides = (Arc::new(a), Arc::new(b.clone()));
            let mut progress = |_| ();
            let session =
                between(sides.0, sides.1, options(REPAIR, &[]), Budget::default(), stopped, &mut progress).await;
            let refused = match session {
                Ok(report) => report.outcome.verdict == Verdict::Refused,
                Err(error) => matches!(error, NodeError::Store(StoreError::Paused { .. })),
            };
            assert!(refused);
            assert_eq!((live(&b), b.quarantined_count()), (u64::from(LIVE), 20));
        }
    });
}
