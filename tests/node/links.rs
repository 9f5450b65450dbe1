//! Links: who may connect, lanes, back pressure, ends.

use quinn::{ConnectionError, TransportErrorCode};
use reknit::core::message::{AskRoots, Message, Rights};
use reknit::core::session::Intent;
use reknit::node::NodeError;
use reknit::transport::limits::STREAM_WINDOW_BYTES;
use reknit::transport::{Address, CloseCode, Connection, Endpoint, Identity, Link, Quic, TransportError};

use super::bare::{ALPN, Bare, framed, lane};
use super::support::{Counted, intent, peer, run, serve, session, store, two};

pub(crate) fn endpoint(identity: &Identity, listen: bool) -> Endpoint {
    let at = "127.0.0.1:0".parse().expect("an address");
    Endpoint::bind(&Quic, at, identity, listen).expect("bound")
}

pub(crate) fn address(endpoint: &Endpoint, identity: &Identity) -> Address {
    let at = endpoint.local_addr().expect("bound");
    Address { peer: identity.peer(), host: at.ip().to_string(), port: at.port(), dataset: "test".into() }
}

/// The next connection, after its handshake.
async fn arrival(server: &Endpoint) -> Option<Connection> {
    server.accept().await?.connection().await
}

/// A connection with one link, seen from both ends.
struct Pair {
    near: (Endpoint, Connection, Link),
    far: (Endpoint, Connection, Link),
}

async fn pair() -> Pair {
    let (alice, bob) = (Identity::generate().expect("drawn"), Identity::generate().expect("drawn"));
    let (client, server) = (endpoint(&alice, false), endpoint(&bob, true));
    let to = address(&server, &bob);
    let (out, arrived) = tokio::join!(client.connect(&to), arrival(&server));
    let (out, arrived) = (out.expect("connected"), arrived.expect("arrived"));
    assert_eq!((out.peer(), arrived.peer()), (bob.peer(), alice.peer()));
    let near = out.open().await.expect("opened");
    let far = arrived.accept().await.expect("accepted");
    Pair { near: (client, out, near), far: (server, arrived, far) }
}

#[test]
fn both_lanes_carry_frames_both_ways_to_a_clean_end() {
    run(async {
        let mut pair = pair().await;
        let (near, far) = (pair.near.2, pair.far.2);
        let (near_records, far_records) = tokio::join!(near.records, far.records);
        let lanes = [(near.control, far.control), (near_records.expect("opened"), far_records.expect("accepted"))];
        for (mut near, mut far) in lanes {
            for size in [0, 1, 127, 128, 60_000] {
                let frame = vec![size as u8; size];
                near.writer.write(&frame).await.expect("written");
                assert_eq!(far.reader.read().await.expect("read").as_ref(), Some(&frame));
                far.writer.write(&frame).await.expect("written");
                assert_eq!(near.reader.read().await.expect("read"), Some(frame));
            }
            near.writer.finish().await.expect("finished");
            assert_eq!(far.reader.read().await.expect("a clean end"), None);
            far.writer.write(b"still").await.expect("the other way is open");
            far.writer.finish().await.expect("finished");
            assert_eq!(near.reader.read().await.expect("read"), Some(b"still".to_vec()));
            assert_eq!(near.reader.read().await.expect("a clean end"), None);
        }
        pair.near.2 = pair.near.1.open().await.expect("a second session");
        pair.far.2 = pair.far.1.accept().await.expect("a second session");
    });
}

#[test]
fn a_writer_is_never_further_ahead_than_the_window() {
    const FRAME: usize = 1_000_000;
    run(async {
        let pair = pair().await;
        let (near, far) = tokio::join!(pair.near.2.records, pair.far.2.records);
        let (mut near, mut far) = (near.expect("opened"), far.expect("accepted"));
        let sent = near.writer.counts();
        let writing = tokio::spawn(async move {
            for nth in 0..10u8 {
                near.writer.write(&vec![nth; FRAME]).await.expect("written");
            }
            near.writer.finish().await.expect("finished");
        });
        for nth in 0..10u8 {
            let frame = far.reader.read().await.expect("read").expect("a frame");
            assert!(frame.len() == FRAME && frame.iter().all(|byte| *byte == nth));
            let ahead = sent.bytes() - far.reader.counts().bytes();
            assert!(ahead <= u64::from(STREAM_WINDOW_BYTES) + 2 * FRAME as u64, "{ahead} bytes ahead");
        }
        assert_eq!(far.reader.read().await.expect("a clean end"), None);
        writing.await.expect("written");
    });
}

#[test]
fn another_identity_at_a_pinned_address_is_an_impostor() {
    run(async {
        let [alice, bob, mallory] = [(); 3].map(|()| Identity::generate().expect("drawn"));
        let (client, server) = (endpoint(&alice, false), endpoint(&mallory, true));
        let to = Address { peer: bob.peer(), ..address(&server, &mallory) };
        let accepting = tokio::spawn(async move { arrival(&server).await.is_some() });
        let error = client.connect(&to).await.err();
        assert!(
            matches!(&error, Some(TransportError::Impostor { expected, .. }) if *expected == bob.peer()),
            "{error:?}"
        );
        accepting.abort();
    });
}

#[test]
fn a_connection_that_is_dropped_ends_at_the_other_end() {
    run(async {
        let Pair { near, far } = pair().await;
        let (endpoint, connection, link) = near;
        drop(link);
        drop(connection);
        let (_server, arrived, mut link) = far;
        assert!(!matches!(link.control.reader.read().await, Ok(Some(_))));
        arrived.closed().await;
        drop(endpoint);
    });
}

#[test]
fn a_link_outlives_the_handle_of_its_connection() {
    run(async {
        let Pair { near, far } = pair().await;
        let (_client, near_connection, near) = near;
        let (_server, far_connection, far) = far;
        drop(near_connection);
        drop(far_connection);
        let (opened, accepted) = tokio::join!(near.records, far.records);
        let (mut opened, mut accepted) = (opened.expect("opened"), accepted.expect("accepted"));
        opened.writer.write(b"late").await.expect("written");
        assert_eq!(accepted.reader.read().await.expect("read"), Some(b"late".to_vec()));
        drop((near.closed, far.closed));
    });
}

#[test]
fn versions_of_the_protocol_that_differ_are_told_on_both_sides() {
    run(async {
        // A node that connects to a later release.
        let later = Bare::server(b"reknit/2");
        let node = peer(false);
        let at = later.local_addr();
        let to = Address { peer: later.peer, host: at.ip().to_string(), port: at.port(), dataset: "test".into() };
        let connecting = node.node.connect(&to);
        let error = tokio::select! {
            connected = connecting => connected.err(),
            () = later.shake_hands() => None,
        };
        assert!(matches!(error, Some(NodeError::Transport(TransportError::Version { .. }))), "{error:?}");
        // A later release that connects to a node.
        let side = Counted::new(&store());
        let client = Bare::client();
        let two = two(side.clone(), Rights::ALL);
        two.server.admit(client.peer, Rights::ALL);
        let at = two.server.node.local_addr().expect("bound");
        let error = client.connect(at, b"reknit/2").await.err();
        let none = TransportErrorCode::crypto(120);
        assert!(
            matches!(&error, Some(ConnectionError::ConnectionClosed(close)) if close.error_code == none),
            "{error:?}"
        );
        client.connect(at, ALPN).await.expect("the version that is spoken");
        assert_eq!(side.asked(), 0);
    });
}

#[test]
fn a_peer_that_is_not_admitted_is_told_a_code_and_nothing_else() {
    run(async {
        let side = Counted::new(&store());
        let two = two(side.clone(), Rights::ALL);
        let stranger = Bare::client();
        let at = two.server.node.local_addr().expect("bound");
        let connection = stranger.connect(at, ALPN).await.expect("the handshake says who it is");
        // It may be closed before anything could be said.
        if let Ok((mut send, mut recv)) = lane(&connection, 0, 1).await {
            let _ = send.write_all(&framed(&Message::AskRoots(AskRoots { after: 0 }).encode())).await;
            let answer = recv.read_to_end(1 << 20).await;
            assert!(answer.is_err(), "{answer:?}");
        }
        let closed = connection.closed().await;
        let ConnectionError::ApplicationClosed(close) = &closed else { panic!("{closed:?}") };
        assert_eq!((close.error_code.into_inner(), close.reason.len()), (CloseCode::NotAdmitted as u64, 0));
        assert_eq!(connection.stats().frame_rx.stream, 0, "not a byte of an answer");
        // A node that is not admitted names itself, so that it can be added.
        let node = peer(false);
        let refused =
            session(&node.node, &two.server.address(), Counted::new(&store()), intent(Intent::Check)).await.err();
        let me = node.node.peer();
        let told =
            matches!(&refused, Some(NodeError::Transport(TransportError::NotAdmitted { me: who })) if *who == me);
        assert!(told, "{refused:?}");
        assert_eq!(side.asked(), 0);
    });
}

#[test]
fn a_node_does_not_connect_to_itself() {
    run(async {
        let node = peer(true);
        let side = Counted::new(&store());
        let (_serving, _stop) = serve(&node.node, side.clone());
        node.admit(node.node.peer(), Rights::ALL);
        let refused = session(&node.node, &node.address(), side.clone(), intent(Intent::Check)).await.err();
        let oneself = matches!(refused, Some(NodeError::Transport(TransportError::Oneself { .. })));
        assert!(oneself && side.asked() == 0, "{refused:?}");
    });
}
