//! A peer that reads slowly, or never: no more is made ready for it than may wait, and a session with it ends.

use std::sync::atomic::{AtomicU64, Ordering};

use reknit_core::Range;
use reknit_core::canonical::Blob;
use reknit_core::message::{Bye, List, Transfer, Want};
use reknit_core::query::Answer;
use reknit_core::session::{Input, Output};
use reknit_core::wire::pack_ranges;
use tokio::task::JoinHandle;

use super::*;
use crate::store::SideInfo;
use crate::transport::TransportError;
use crate::transport::limits::{CONTROL_FRAME_BYTES_MAX, SILENCE_MAX};

/// Rows in memory, and how often they were looked at.
struct Watched {
    rows: Memory,
    looks: AtomicU64,
}

impl Engine for Watched {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.rows.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        self.rows.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.rows.sync()
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.rows.disk_bytes()
    }
}

/// A store of so many records with keys of a thousand bytes, and what counts looks at it.
fn watched(records: u32) -> (Store, Arc<Watched>) {
    let engine = Arc::new(Watched { rows: Memory::new(), looks: AtomicU64::new(0) });
    let key = DatasetKey::from_bytes([2; 32]);
    let store = Store::found_over(engine.clone(), definition(), key, &StoreOptions::default()).expect("a store");
    let long = |n: u32| [n.to_be_bytes().as_slice(), &[7; 1000]].concat();
    let ops = (0..records).map(|n| Op::put(long(n), vec![7; 1000])).collect();
    store.batch(ops, Durability::Buffered).expect("written");
    (store, engine)
}

/// A clock that goes on whenever nothing else does.
fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(test);
}

/// A session that a bare peer has opened, and its answer to that.
async fn opened(store: Store) -> (Link, JoinHandle<Result<String, NodeError>>, Stop) {
    opened_over(Link::pair(), store).await
}

/// The same, over a link whose ends are these.
async fn opened_over(
    (mut near, far): (Link, Link),
    store: Store,
) -> (Link, JoinHandle<Result<String, NodeError>>, Stop) {
    let SideInfo { definition, keys, .. } = store.describe();
    let life = Life { actor: 99, nonce: 99 };
    let mut opener = Opener::new(definition, keys, life, Options::new(REPAIR), 0);
    assert!(matches!(opener.poll(), Some(Output::Ask(_))));
    let empty = self::store(0);
    opener.handle(Input::Answer(Answer::Cut(Side::cut(&empty).expect("a cut"))), 0).expect("in order");
    let Some(Output::Send(open)) = opener.poll() else { panic!("it opens") };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let answering = tokio::spawn(answer_session(Arc::new(store), far, Grant::everywhere(Rights::ALL), None, stopped));
    near.control.writer.write(&open.encode()).await.expect("written");
    let accepted = near.control.reader.read().await.expect("read").expect("answered");
    assert!(matches!(Message::decode(&accepted), Ok(Message::Accept(_))));
    (near, answering, stop)
}

const USERS: CollectionId = CollectionId(0);

/// A wish for all records.
fn want(nth: u16) -> Vec<u8> {
    let ranges = Blob(pack_ranges(&[Range::ALL]));
    Message::Want(Want { transfer: Transfer(nth, USERS), ranges, ..Want::default() }).encode()
}

/// A wish to hear of all keys.
fn list(id: u32) -> Vec<u8> {
    let ranges = Blob(pack_ranges(&[Range::ALL]));
    Message::List(List { id, collection: USERS, ranges, positions: Vec::new() }).encode()
}

/// Hears of all keys that it asked for; which of its questions were answered, in order.
async fn listed(near: &mut Link, questions: usize) -> Vec<u32> {
    let mut ended = Vec::new();
    while ended.len() < questions {
        let frame = near.control.reader.read().await.expect("it goes on").expect("an answer");
        if let Ok(Message::Compared(told)) = Message::decode(&frame)
            && told.last
            && told.id > 0
        {
            ended.push(told.id);
        }
    }
    ended
}

#[test]
fn a_list_is_read_no_further_than_its_reader_follows_and_goes_on_when_it_does() {
    paused(async {
        let (store, engine) = watched(20_000);
        let (mut near, answering, _stop) = opened(store).await;
        let before = engine.looks.load(Ordering::SeqCst);
        for id in [1, 2] {
            near.control.writer.write(&list(id)).await.expect("written");
        }
        // Until all stands still.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stalled = engine.looks.load(Ordering::SeqCst) - before;
        let ended = listed(&mut near, 2).await;
        let all = engine.looks.load(Ordering::SeqCst) - before;
        assert_eq!(ended, [1, 2]);
        assert!(stalled > 0 && stalled * 4 < all, "{stalled} of {all} looks while nothing was read");
        answering.abort();
    });
}

#[test]
fn nothing_more_is_read_for_whoever_takes_no_more() {
    paused(async {
        let (store, engine) = watched(20_000);
        let looks = || engine.looks.load(Ordering::SeqCst);
        let (mut near, answering, _stop) = opened(store.clone()).await;
        let before = looks();
        near.control.writer.write(&list(1)).await.expect("written");
        assert_eq!(listed(&mut near, 1).await, [1]);
        let all = looks() - before;
        answering.abort();

        // Each direction can go alone.
        let (mut near, mut far) = Link::pair();
        let direction = || {
            let (writes, reads) = tokio::io::duplex(64 << 10);
            (FrameWriter::new(writes, CONTROL_FRAME_BYTES_MAX), FrameReader::new(reads, CONTROL_FRAME_BYTES_MAX))
        };
        (near.control.writer, far.control.reader) = direction();
        (far.control.writer, near.control.reader) = direction();
        let (mut near, answering, _stop) = opened_over((near, far), store).await;
        let (before, began) = (looks(), tokio::time::Instant::now());
        near.control.reader = FrameReader::new(tokio::io::empty(), CONTROL_FRAME_BYTES_MAX);
        near.control.writer.write(&list(1)).await.expect("written");
        let ended = answering.await.expect("no panic");
        assert!(matches!(&ended, Err(NodeError::Transport(TransportError::Lost(_)))), "{ended:?}");
        let read = looks() - before;
        assert!(read * 4 < all, "{read} of {all} looks though nobody hears");
        assert!(began.elapsed() < SILENCE_MAX, "{:?}", began.elapsed());
    });
}

#[test]
fn streams_that_nobody_reads_are_not_wanted_without_end() {
    paused(async {
        let (store, _) = watched(1_000);
        let (mut near, answering, _stop) = opened(store).await;
        let mut wanted = 0_u16;
        let wants = async {
            loop {
                near.control.writer.write(&want(wanted)).await.expect("written");
                wanted += 1;
            }
        };
        // What the lane itself holds is taken from it; the rest waits where it is.
        assert!(tokio::time::timeout(Duration::from_secs(1), wants).await.is_err());
        assert!(wanted < 10_000, "{wanted} were taken up");
        answering.abort();
    });
}

#[test]
fn whoever_leaves_without_reading_what_it_wanted_is_not_waited_for_long() {
    paused(async {
        let (store, _) = watched(1_000);
        let (mut near, answering, _stop) = opened(store).await;
        near.control.writer.write(&want(1)).await.expect("written");
        let bye = Bye { verdict: "partial".into(), closing: None };
        near.control.writer.write(&Message::Bye(bye).encode()).await.expect("written");
        let ended = tokio::time::timeout(3 * SILENCE_MAX, answering).await;
        assert_eq!(ended.expect("it does not wait for ever").expect("no panic").expect("answered"), "partial");
    });
}
