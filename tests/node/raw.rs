//! Hostile bytes on the lanes of an admitted peer: the session ends, the node lives, the store is as it was.

use std::sync::Arc;

use quinn::ConnectionError;
use reknit::core::canonical::Blob;
use reknit::core::message::{
    AskRoots, Bye, Compared, List, Message, Open, Refuse, RefuseCode, Rights, Roots, Transfer, Want,
};
use reknit::core::query::{Guard, Incoming, Selection};
use reknit::core::session::{Intent, Verdict};
use reknit::core::wire::RecordFrame;
use reknit::core::{CollectionId, Range};
use reknit::store::Side;
use reknit::transport::{CloseCode, Connection, Link, limits};

use super::bare::{ALPN, Bare, framed, lane};
use super::support::*;

async fn link(two: &Two) -> (Connection, Link) {
    let connection = two.client.node.connect(&two.server.address()).await.expect("connected");
    let link = connection.open().await.expect("opened");
    (connection, link)
}

/// The opening of an honest session, as bytes.
fn opening(side: &reknit::store::Store) -> Vec<u8> {
    use reknit::core::query::Answer;
    use reknit::core::session::{Opener, Options, Output};
    let info = side.describe();
    let life = reknit::core::message::Life { actor: info.actor.0, nonce: info.nonce };
    let repair = Intent::Repair(reknit::core::session::Direction::Both);
    let mut opener = Opener::new(info.definition, info.keys, life, Options::new(repair), 0);
    assert!(matches!(opener.poll(), Some(Output::Ask(_))));
    opener
        .handle(reknit::core::session::Input::Answer(Answer::Cut(Side::cut(side).expect("a cut"))), 0)
        .expect("in order");
    match opener.poll() {
        Some(Output::Send(message)) => message.encode(),
        other => panic!("{other:?}"),
    }
}

async fn alive(two: &Two, a: &reknit::store::Store) {
    let report = two.session(Arc::new(a.clone()), intent(Intent::Diff)).await;
    assert_eq!(report.outcome.verdict, Verdict::Differs);
}

#[test]
fn bytes_that_mean_nothing_end_their_session_and_no_other() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let root = b.root();
        let bye = Message::Want(Want { transfer: Transfer(1, CollectionId(9)), ..Want::default() });
        let mut first: Vec<Vec<u8>> =
            vec![vec![], vec![0], vec![1, 0xc0], vec![255; 900], vec![64, 1, 2], vec![66, 0xc1], bye.encode()];
        let mut seed = 1_u64;
        for len in [1, 20, 300, 4000] {
            let noise = (0..len).map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            });
            first.push(noise.collect());
        }
        // In place of the opening, and after an honest one.
        for honest in [false, true] {
            for frame in &first {
                let (connection, mut link) = link(&two).await;
                if honest {
                    link.control.writer.write(&opening(&a)).await.expect("written");
                    assert!(link.control.reader.read().await.expect("accepted").is_some());
                }
                // The node may close before all of it was written.
                let _ = link.control.writer.write(frame).await;
                let _ = link.control.writer.finish().await;
                while let Ok(Some(_)) = link.control.reader.read().await {}
                drop(connection);
            }
            alive(&two, &a).await;
        }
        assert_eq!((b.root(), theirs.applied()), (root, 0));
        assert_sound(&b);
    });
}

/// More than a node works on at once waits in the lane: whoever asks for much gets all of it.
#[test]
fn requests_that_come_at_once_are_answered_one_after_another() {
    const MANY: u32 = 300;
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let two = two(Counted::new(&b), Rights::ALL);
        let (_connection, mut link) = link(&two).await;
        link.control.writer.write(&opening(&a)).await.expect("written");
        let ranges = Blob(reknit::core::wire::pack_ranges(&[Range::ALL]));
        for id in 1..=MANY {
            let list = List { id, collection: CollectionId(0), ranges: ranges.clone(), positions: Vec::new() };
            link.control.writer.write(&Message::List(list).encode()).await.expect("written");
        }
        let mut answered = Vec::new();
        while answered.len() < MANY as usize {
            let frame = link.control.reader.read().await.expect("it goes on").expect("an answer");
            if let Ok(Message::Compared(Compared { id: id @ 1.., last: true, .. })) = Message::decode(&frame) {
                answered.push(id);
            }
        }
        assert!(answered.into_iter().eq(1..=MANY));
    });
}

#[test]
fn records_that_are_none_end_the_session_and_change_nothing() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let root = b.root();
        let bomb = [vec![1], zstd::encode_all([0_u8; 16 << 20].as_slice(), 19).expect("packed")].concat();
        let frames = [
            vec![],
            vec![0],
            vec![0, 0, 1, 0, 9, 9, 9],
            vec![1, 2, 3],
            vec![7; 1000],
            vec![0, 1, 1, 0, 0, 255, 255, 255, 255, 127],
            bomb,
        ];
        for frame in frames {
            let (connection, mut link) = link(&two).await;
            link.control.writer.write(&opening(&a)).await.expect("written");
            assert!(link.control.reader.read().await.expect("accepted").is_some());
            let mut records = link.records.await.expect("opened");
            let _ = records.writer.write(&frame).await;
            let _ = records.writer.finish().await;
            let _ = link.control.writer.finish().await;
            while let Ok(Some(_)) = link.control.reader.read().await {}
            drop(connection);
        }
        alive(&two, &a).await;
        assert_eq!((b.root(), theirs.applied()), (root, 0));
        assert_sound(&b);
    });
}

/// A peer that may do this much, with a connection below our transport.
async fn bare(two: &Two, may: Rights) -> (Bare, quinn::Connection) {
    let client = Bare::client();
    two.server.admit(client.peer, may);
    let at = two.server.node.local_addr().expect("bound");
    let connection = client.connect(at, ALPN).await.expect("connected");
    (client, connection)
}

fn code(error: &ConnectionError) -> Option<u64> {
    match error {
        ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

#[test]
fn a_length_above_the_cap_ends_the_session_before_a_byte_of_it_is_read() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let root = b.root();
        let above = |cap: usize| {
            let mut length = Vec::new();
            reknit::core::canonical::put_varint(&mut length, cap as u64 + 1);
            length
        };
        // A byte too many, 32 GiB, and a length that never ends.
        let control = above(limits::CONTROL_FRAME_BYTES_MAX);
        let lengths = [control, vec![0xff, 0xff, 0xff, 0xff, 0x7f], vec![0xff; 12]];
        for length in &lengths {
            let (_client, connection) = bare(&two, Rights::ALL).await;
            let (mut send, _recv) = lane(&connection, 0, 1).await.expect("opened");
            send.write_all(length).await.expect("written");
            assert_eq!(code(&connection.closed().await), Some(CloseCode::Protocol as u64), "{length:?}");
        }
        // In the middle of a session, on either lane.
        let above = above(limits::RECORD_LANE_FRAME_BYTES_MAX);
        for (records, length) in lengths.iter().map(|length| (false, length)).chain([(true, &above)]) {
            let (_client, connection) = bare(&two, Rights::ALL).await;
            let (mut send, mut recv) = lane(&connection, 0, 1).await.expect("opened");
            send.write_all(&framed(&opening(&a))).await.expect("written");
            recv.read_exact(&mut [0]).await.expect("answered");
            let (mut send_records, _recv_records) = lane(&connection, 1, 1).await.expect("opened");
            let to = if records { &mut send_records } else { &mut send };
            to.write_all(length).await.expect("written");
            // The session's side of the lane ends, though this side says no more and stays.
            let mut rest = [0; 4096];
            while let Ok(Some(_)) = recv.read(&mut rest).await {}
        }
        alive(&two, &a).await;
        assert_eq!((b.root(), theirs.applied()), (root, 0));
    });
}

#[test]
fn lanes_of_no_kind_and_lanes_that_end_early_harm_nobody() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let two = two(Counted::new(&b), Rights::ALL);
        let (_client, connection) = bare(&two, Rights::ALL).await;
        let _lane = lane(&connection, 7, 1).await.expect("opened");
        assert_eq!(code(&connection.closed().await), Some(CloseCode::Protocol as u64));
        let (_client, connection) = bare(&two, Rights::ALL).await;
        // Records of a session that there is not, a lane without a preamble, a frame that is cut off.
        let _records = lane(&connection, 1, 9).await.expect("opened");
        let (mut empty, _recv) = connection.open_bi().await.expect("opened");
        empty.write_all(&[0]).await.expect("written");
        empty.finish().expect("open");
        let (mut torn, mut answer) = lane(&connection, 0, 2).await.expect("opened");
        torn.write_all(&framed(&opening(&a))[..9]).await.expect("written");
        torn.finish().expect("open");
        assert!(!matches!(answer.read_to_end(1 << 20).await, Ok(bytes) if !bytes.is_empty()));
        alive(&two, &a).await;
    });
}

#[test]
fn a_message_out_of_place_ends_the_session() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let root = b.root();
        let roots = Message::Roots(Roots { commit: 1, moved: false, roots: vec![], word: None });
        let refuse = Refuse { code: RefuseCode::Busy, detail: String::new(), definition: Default::default() };
        let compared = Compared { last: true, ..Compared::default() };
        let opener = Message::decode(&opening(&a)).expect("an opening");
        // Before the opening, and after it: the opening again, and what only a responder says.
        let first = [
            Message::AskRoots(AskRoots { after: 0 }),
            roots.clone(),
            Message::Bye(Bye { verdict: "in_sync".into(), closing: None }),
        ];
        let later = [opener, roots, Message::Refuse(refuse), Message::Compared(compared)];
        for (honest, message) in first.iter().map(|m| (false, m)).chain(later.iter().map(|m| (true, m))) {
            let (connection, mut link) = link(&two).await;
            if honest {
                link.control.writer.write(&opening(&a)).await.expect("written");
                assert!(link.control.reader.read().await.expect("accepted").is_some());
            }
            link.control.writer.write(&message.encode()).await.expect("written");
            connection.closed().await;
            let why = (link.closed)().map(|error| error.to_string()).unwrap_or_default();
            assert!(why.contains("broke the protocol"), "{message:?}: {why}");
        }
        alive(&two, &a).await;
        assert_eq!((b.root(), theirs.applied()), (root, 0));
    });
}

/// The opening asks for no more than to compare; what follows is not what was asked for.
#[test]
fn what_was_not_granted_is_not_done_though_the_session_began() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::COMPARE);
        let root = b.root();
        let Ok(Message::Open(open)) = Message::decode(&opening(&a)) else { panic!("an opening") };
        let opening = Message::Open(Open { wants: Rights::COMPARE, ..open }).encode();
        let transfer = Transfer(1, CollectionId(0));
        for writes in [true, false] {
            let (connection, mut link) = link(&two).await;
            link.control.writer.write(&opening).await.expect("written");
            assert!(link.control.reader.read().await.expect("accepted").is_some());
            let mut records = link.records.await.expect("opened");
            if writes {
                let page = Side::read(&a, CollectionId(0), &Selection::Range(Range::ALL), None, 1 << 20).expect("read");
                let guard = Guard::Join;
                let incoming = page.records.into_iter().map(|record| Incoming { record, guard }).collect();
                let frame = RecordFrame::Records { transfer, records: incoming }.encode();
                records.writer.write(&[&[0], frame.as_slice()].concat()).await.expect("written");
            } else {
                let ranges = Blob(reknit::core::wire::pack_ranges(&[Range::ALL]));
                let want = Message::Want(Want { transfer, ranges, ..Want::default() });
                link.control.writer.write(&want.encode()).await.expect("written");
            }
            connection.closed().await;
            assert!(!matches!(records.reader.read().await, Ok(Some(_))), "a record was given away");
        }
        alive(&two, &a).await;
        assert_eq!((b.root(), theirs.applied()), (root, 0));
        assert_sound(&b);
    });
}

#[test]
fn a_peer_that_stalls_holds_up_nobody_but_itself() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 20_000);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let root = b.root();
        // One says nothing, one half of a frame, one wants everything and reads none of it.
        let (_silent, silent) = bare(&two, Rights::ALL).await;
        let _nothing = lane(&silent, 0, 1).await.expect("opened");
        let (_half, half) = bare(&two, Rights::ALL).await;
        let (mut send, _recv) = lane(&half, 0, 1).await.expect("opened");
        send.write_all(&framed(&opening(&a))[..20]).await.expect("written");
        let (_greedy, greedy) = bare(&two, Rights::ALL).await;
        let (mut wants, mut answers) = lane(&greedy, 0, 1).await.expect("opened");
        wants.write_all(&framed(&opening(&a))).await.expect("written");
        answers.read_exact(&mut [0]).await.expect("answered");
        let _records = lane(&greedy, 1, 1).await.expect("opened");
        for number in 0..4 {
            let ranges = Blob(reknit::core::wire::pack_ranges(&[Range::ALL]));
            let want = Want { transfer: Transfer(number, CollectionId(0)), ranges, ..Want::default() };
            wants.write_all(&framed(&Message::Want(want).encode())).await.expect("written");
        }
        for _ in 0..3 {
            alive(&two, &a).await;
        }
        assert_eq!((b.root(), theirs.applied()), (root, 0));
    });
}
