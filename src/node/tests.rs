//! Sessions through the driver: over links in memory, and held by another node over QUIC.

mod leaving;
mod path;
mod refused;
mod slow;
mod stopped;

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::store::engine::{Batch, Engine, EngineError, Memory, Snapshot};
use crate::store::{Durability, Op, Options as StoreOptions, Store, Undo};
use crate::transport::{Address, CloseCode, FrameReader, FrameWriter};
use reknit_core::dataset::Collection;
use reknit_core::session::{Direction, Intent, Verdict};
use reknit_core::{CollectionId, DatasetId, DatasetKey, Definition};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

fn definition() -> Definition {
    let collections =
        ["users", "orders", "logs"].map(|name| Collection { name: name.into(), policy: "newest/1".into() });
    Definition { collections: collections.into(), ..Definition::simple(DatasetId([1; 16]), "shop") }
}

fn store(records: u32) -> Store {
    let store = Store::in_memory(definition(), DatasetKey::from_bytes([2; 32]), &StoreOptions::default());
    let store = store.expect("a store");
    put(&store, "users", records);
    store
}

fn put(store: &Store, collection: &str, records: u32) {
    let ops = (0..records).map(|n| Op::put(n.to_be_bytes(), b"value".as_slice())).collect();
    store.collection(collection).expect("there").batch(ops, Durability::Synced).expect("written");
}

fn options(intent: Intent, scope: &[u16]) -> Options {
    Options { settle: 20, scope: scope.iter().copied().map(CollectionId).collect(), ..Options::new(intent) }
}

async fn answered(a: &Store, b: &Store, options: Options, grant: Grant) -> reknit_core::session::Outcome {
    let (near, far) = Link::pair();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let answering = tokio::spawn(answer_session(Arc::new(b.clone()), far, grant, None, stopped.clone()));
    let tells = options.intent != Intent::Check;
    let report = open_session(Arc::new(a.clone()), near, options, Budget::default(), stopped, &mut |_| {}).await;
    let told = answering.await.expect("it ends").expect("answered");
    let outcome = report.expect("an outcome").outcome;
    // The outcome is there before the responder has heard it; it hears it all the same.
    let heard = if outcome.verdict == Verdict::Refused || tells { outcome.verdict.name() } else { "" };
    assert_eq!(told, heard);
    outcome
}

const REPAIR: Intent = Intent::Repair(Direction::Both);

#[test]
fn a_scope_is_compared_repaired_and_reported_alone() {
    run(async {
        let (a, b) = (store(300), store(0));
        put(&b, "orders", 200);
        let all = || Grant::everywhere(Rights::ALL);
        let logs = answered(&a, &b, options(Intent::Check, &[2]), all()).await;
        assert_eq!(logs.verdict, Verdict::InSync);
        let check = answered(&a, &b, options(Intent::Check, &[0, 1]), all()).await;
        assert_eq!((check.verdict, check.root_mine.count, check.root_theirs.count), (Verdict::Differs, 300, 200));
        let orders = answered(&a, &b, options(REPAIR, &[1]), all()).await;
        assert_eq!((orders.verdict, orders.counts.to_mine.applied), (Verdict::InSync, 200));
        assert_eq!(orders.counts.to_theirs.offered, 0, "users are out of scope");
        assert_ne!(orders.root_mine, check.root_mine);
        let whole = answered(&a, &b, options(Intent::Diff, &[]), all()).await;
        assert_eq!((whole.verdict, whole.counts.only_mine, whole.counts.differences()), (Verdict::Differs, 300, 300));
        let repaired = answered(&a, &b, options(REPAIR, &[]), all()).await;
        assert_eq!((repaired.verdict, repaired.counts.to_theirs.applied), (Verdict::InSync, 300));
        assert_eq!(a.root(), b.root());
        let unknown = answered(&a, &b, options(Intent::Diff, &[7]), all()).await;
        assert_eq!(unknown.verdict, Verdict::Refused);
        assert!(unknown.reason.contains("collections"), "{}", unknown.reason);
    });
}

#[test]
fn rights_on_a_collection_end_at_its_edge() {
    run(async {
        let (a, b) = (store(30), store(0));
        put(&a, "orders", 20);
        let grant = || Grant {
            rights: Rights::default(),
            collections: [(CollectionId(1), Rights::COMPARE.and(Rights::READ).and(Rights::WRITE))].into(),
            members: None,
        };
        let root = b.root();
        for scope in [&[][..], &[0], &[0, 1]] {
            let refused = answered(&a, &b, options(REPAIR, scope), grant()).await;
            assert_eq!((refused.verdict, b.root()), (Verdict::Refused, root), "{scope:?}");
            assert!(refused.reason.contains("compare,read,write in the collection users"), "{}", refused.reason);
        }
        let allowed = answered(&a, &b, options(REPAIR, &[1]), grant()).await;
        assert_eq!((allowed.verdict, allowed.counts.to_theirs.applied), (Verdict::InSync, 20));
        let nothing = answered(&a, &b, options(Intent::Check, &[1]), Grant::default()).await;
        assert_eq!((nothing.verdict, nothing.refusal.expect("told").definition.0), (Verdict::Refused, Vec::new()));
    });
}

/// A responder that was asked for records before the lane for them had arrived once ended its lanes.
#[test]
fn a_lane_of_records_may_arrive_after_the_wish_for_records() {
    run(async {
        let (a, b) = (Arc::new(store(0)), Arc::new(store(500)));
        let (near, mut far) = Link::pair();
        let lane = far.records;
        far.records = Box::pin(async move {
            for _ in 0..20_000 {
                tokio::task::yield_now().await;
            }
            lane.await
        });
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let answering = tokio::spawn(answer_session(b, far, Grant::everywhere(Rights::ALL), None, stopped.clone()));
        let options = Options::new(Intent::Repair(Direction::Both));
        let report = open_session(a, near, options, Budget::default(), stopped, &mut |_| {}).await;
        let outcome = report.expect("an outcome").outcome;
        assert_eq!((outcome.verdict, outcome.counts.to_mine.applied), (Verdict::InSync, 500));
        answering.await.expect("it ends").expect("answered");
    });
}

#[test]
fn a_peer_that_says_nothing_does_not_hold_a_session_for_ever() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (near, far) = Link::pair();
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let grant = Grant::everywhere(Rights::ALL);
        let began = tokio::time::Instant::now();
        let ended = answer_session(Arc::new(store(1)), far, grant, None, stopped).await;
        assert!(matches!(ended, Err(NodeError::Transport(TransportError::Lost(_)))), "{ended:?}");
        assert_eq!(began.elapsed().as_secs(), crate::transport::limits::SILENCE_MAX.as_secs());
        drop(near);
    });
}

/// Two ends of a link on which each frame of records takes a while.
async fn slow(each: Duration) -> (Link, Link) {
    let ((near, a), (b, far)) = (Link::pair(), Link::pair());
    let (a_records, b_records) = (a.records.await.expect("a lane"), b.records.await.expect("a lane"));
    let carry = |mut from: FrameReader, mut to: FrameWriter, each: Duration| {
        tokio::spawn(async move {
            while let Ok(Some(frame)) = from.read().await {
                tokio::time::sleep(each).await;
                if to.write(&frame).await.is_err() {
                    return;
                }
            }
            let _ = to.finish().await;
        });
    };
    carry(a.control.reader, b.control.writer, Duration::ZERO);
    carry(b.control.reader, a.control.writer, Duration::ZERO);
    carry(a_records.reader, b_records.writer, each);
    carry(b_records.reader, a_records.writer, each);
    (near, far)
}

#[test]
fn a_peer_that_takes_in_records_for_long_is_not_silent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (full, empty) = (store(1), store(2));
        let ops = (0..4000u32).map(|n| Op::put(n.to_be_bytes(), vec![7; 1000])).collect();
        full.batch(ops, Durability::Buffered).expect("written");
        // What lies between the two after the last was sent takes less than a silence would.
        let each = Duration::from_secs(180);
        let (near, far) = slow(each).await;
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let answering = tokio::spawn(answer_session(
            Arc::new(empty.clone()),
            far,
            Grant::everywhere(Rights::ALL),
            None,
            stopped.clone(),
        ));
        let began = tokio::time::Instant::now();
        let options = Options::new(Intent::Repair(Direction::Both));
        let report = open_session(Arc::new(full), near, options, Budget::default(), stopped, &mut |_| ()).await;
        assert_eq!(report.expect("a report").outcome.verdict, Verdict::InSync);
        assert!(began.elapsed() > crate::transport::limits::SILENCE_MAX, "{:?}", began.elapsed());
        answering.await.expect("no panic").expect("an end");
    });
}

/// An engine that takes no large batch before it is let to.
struct Held {
    rows: Memory,
    begun: tokio::sync::mpsc::UnboundedSender<()>,
    may: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Engine for Held {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.rows.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        if batch.bytes() > 10_000 {
            self.begun.send(()).expect("somebody waits");
            self.may.lock().expect("whole").recv().expect("told");
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

/// A store whose engine is held while more time passes than a peer may be silent for, and then let go.
async fn held_for_long<T>(test: impl AsyncFnOnce(Store) -> T) -> T {
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let (lets, may) = std::sync::mpsc::channel();
    let engine = Held { rows: Memory::new(), begun, may: Mutex::new(may) };
    let key = DatasetKey::from_bytes([2; 32]);
    let store = Store::found_over(Arc::new(engine), definition(), key, &StoreOptions::default()).expect("a store");
    // Time stands still while a thread is busy, but for what is passed by hand.
    let (over, busy) = std::sync::mpsc::channel::<()>();
    let busy = tokio::task::spawn_blocking(move || busy.recv());
    let passes = async {
        begins.recv().await.expect("it begins");
        // A first silence may begin while the last word is still on its way.
        for _ in 0..2 {
            tokio::time::advance(crate::transport::limits::SILENCE_MAX).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        lets.send(()).expect("held");
    };
    let (ended, ()) = tokio::join!(test(store), passes);
    drop(over);
    busy.await.expect("no panic").expect_err("nothing is said");
    ended
}

#[test]
fn a_side_that_is_busy_for_long_does_not_take_its_peer_for_silent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let answered = runtime.expect("a runtime").block_on(held_for_long(async |store| {
        let ((near, far), (_stop, stopped)) = (Link::pair(), tokio::sync::watch::channel(false));
        let opener_stopped = stopped.clone();
        // By a clock of its own, on which no time passes.
        let opening = std::thread::spawn(move || {
            run(async {
                let options = Options::new(REPAIR);
                let full = Arc::new(self::store(1_000));
                let opened = open_session(full, near, options, Budget::default(), opener_stopped, &mut |_| ()).await;
                assert_eq!(opened.expect("a report").outcome.verdict, Verdict::InSync);
            });
        });
        let answered = answer_session(Arc::new(store), far, Grant::everywhere(Rights::ALL), None, stopped).await;
        opening.join().expect("no panic");
        answered
    }));
    assert_eq!(answered.expect("an end"), "in_sync");
}

#[test]
fn what_ended_the_other_half_of_a_session_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let ended = runtime.expect("a runtime").block_on(held_for_long(async |store| {
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let (busy, full) = (Arc::new(store), Arc::new(self::store(1_000)));
        between(busy, full, Options::new(REPAIR), Budget::default(), stopped, &mut |_| ()).await
    }));
    let report = ended.expect("what was known when one of them had waited for too long");
    let lost = report.lost.expect("it was lost").to_string();
    assert!(report.outcome.verdict == Verdict::Partial && lost.contains("said nothing for 10 minutes"), "{lost}");
}

struct Served {
    home: Home,
    node: Node,
    _dir: tempfile::TempDir,
    _stop: Stop,
}

fn serve(store: &Store, listen: bool) -> Served {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::open(dir.path()).expect("a home");
    let bind = "127.0.0.1:0".parse().expect("an address");
    let node = Node::bind(&home, NodeOptions { bind, listen }).expect("bound");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    if listen {
        let (node, side) = (node.clone(), Arc::new(store.clone()));
        tokio::spawn(async move { node.serve(vec![super::Served { side }], stopped).await });
    }
    Served { home, node, _dir: dir, _stop: stop }
}

fn admit(at: &Served, who: &Served, may: &str) {
    let may = may.parse().expect("grants");
    at.home.add_peer(&KnownPeer { peer: who.node.peer(), may, name: None }).expect("added");
}

#[test]
fn a_session_of_two_other_nodes_is_held_for_whoever_may_operate() {
    run(async {
        let (a, b) = (store(300), store(0));
        put(&b, "orders", 200);
        let (first, second, me) = (serve(&a, true), serve(&b, true), serve(&a, false));
        let address = |served: &Served| {
            let port = served.node.local_addr().expect("bound").port();
            Address { peer: served.node.peer(), host: "127.0.0.1".into(), port, dataset: "shop".into() }
        };
        let request = |intent| HoldRequest {
            dataset: "shop".into(),
            with: address(&second).to_string(),
            options: options(intent, &[]),
            collections: vec!["users".into()],
            max_ms: None,
            max_bytes: None,
        };
        let (_never, stop) = tokio::sync::watch::channel(false);
        let failure = |held: Result<_, NodeError>| match held {
            Err(NodeError::Held { failure, message }) => (failure, message),
            other => panic!("{other:?}"),
        };
        // Not with every right but that one, nor while the third node does not admit the second.
        admit(&first, &me, "compare,read,write");
        let held = me.node.hold(&address(&first), &request(Intent::Diff), stop.clone(), &mut |_| {}).await;
        assert_eq!(failure(held).0, HeldFailure::Refused);
        admit(&first, &me, "shop=operate");
        let held = me.node.hold(&address(&first), &request(Intent::Diff), stop.clone(), &mut |_| {}).await;
        let (class, message) = failure(held);
        assert!(class == HeldFailure::NotBegun && message.contains("does not admit"), "{message}");
        admit(&second, &first, "shop/users=compare,shop/users=read,shop/users=write");
        let mut found = 0;
        let mut count = |progress| found += u64::from(matches!(progress, Progress::Found(_)));
        let held = me.node.hold(&address(&first), &request(Intent::Diff), stop.clone(), &mut count).await;
        let (store, report) = held.expect("held");
        assert_eq!(store.collections, ["users", "orders", "logs"]);
        assert_eq!((report.outcome.verdict, found), (Verdict::Differs, 300));
        let held = me.node.hold(&address(&first), &request(REPAIR), stop.clone(), &mut |_| {}).await;
        let outcome = held.expect("held").1.outcome;
        assert_eq!((outcome.verdict, outcome.counts.to_theirs.applied), (Verdict::InSync, 300));
        assert_eq!(b.collection("users").expect("there").scan(b"").expect("scanned").count(), 300);
        assert_eq!(a.collection("orders").expect("there").scan(b"").expect("scanned").count(), 0, "out of scope");
        let unknown = HoldRequest { collections: vec!["nothing".into()], ..request(REPAIR) };
        let held = me.node.hold(&address(&first), &unknown, stop.clone(), &mut |_| {}).await;
        assert!(failure(held).1.contains("no collection nothing"));
        me.node.shutdown().await;
        first.node.connect(&address(&second)).await.expect("still there").close(CloseCode::Done);
    });
}

#[test]
fn sessions_one_after_another_leave_nothing_behind() {
    run(async {
        let (a, b) = (store(300), store(0));
        let (me, second) = (serve(&a, false), serve(&b, true));
        admit(&second, &me, "compare,read,write");
        let port = second.node.local_addr().expect("bound").port();
        let address = Address { peer: second.node.peer(), host: "127.0.0.1".into(), port, dataset: "shop".into() };
        let (_never, stop) = tokio::sync::watch::channel(false);
        for n in 0..2 * crate::transport::limits::SESSIONS_MAX {
            a.collection("users").expect("there").put(&n.to_be_bytes(), b"x").expect("put");
            let side = Arc::new(a.clone());
            let (options, budget) = (options(REPAIR, &[]), Budget::default());
            let ran = me.node.session(&address, side, options, budget, stop.clone(), &mut |_| {}).await;
            assert_eq!(ran.unwrap_or_else(|error| panic!("{n}: {error}")).outcome.verdict, Verdict::InSync);
        }
    });
}
