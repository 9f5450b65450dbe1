//! What every [`Network`] must do, as a function that panics where it does not.
//! It uses the contract alone, so that one suite serves QUIC and whatever a program brings.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::network::{CloseCode, End, Network, Port, Stream, Wire};
use super::{Address, Identity, TransportError};

/// Bytes of which a network must not hold so many for a peer that does not read.
const UNREAD_MAX: u64 = 32 << 20;
/// How long nothing may move until it counts as stopped; where it was merely slow, less is checked.
const STILL: Duration = Duration::from_millis(200);
/// What takes longer will never come.
const NEVER: Duration = Duration::from_secs(30);
/// What was told on the way already, and does not come for so long, was lost.
const LOST: Duration = Duration::from_secs(10);
const PIECE: usize = 1 << 16;
/// Streams that come and go on one connection, one after the other: more than a network lets be open at once.
const STREAMS: usize = 70;
/// Times that somebody asks what has come and does not wait, and how long apart.
const LOOKS: usize = 400;
const LOOKS_EVERY: Duration = Duration::from_millis(5);

/// All checks of a network, on which nodes bind at `at`, such as port 0 of an address of the network. Runs within a tokio
/// runtime with a clock that goes by itself, for some seconds: it waits for one handshake that nobody answers.
///
/// # Panics
/// Where the network breaks its contract, with what it should have done.
pub async fn run(network: &dyn Network, at: SocketAddr) {
    tokio::join!(ports(network, at), deaf(network, at), async {
        streams(&pair(network, at).await).await;
        apart(&pair(network, at).await).await;
        halves(&pair(network, at).await).await;
        back_pressure(&pair(network, at).await).await;
        dropped(&pair(network, at).await).await;
        lost(network, at).await;
        many(&pair(network, at).await).await;
        several(&pair(network, at).await).await;
        closes(network, at).await;
        shutdowns(network, at).await;
    });
}

/// Something that must come, and does not hang.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(NEVER, future).await.unwrap_or_else(|_| panic!("{what}: it never came"))
}

/// The same of what has been on its way, on a connection that works.
async fn now<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LOST, future).await.unwrap_or_else(|_| panic!("{what}: it was lost"))
}

struct Pair {
    near: Arc<dyn Wire>,
    far: Arc<dyn Wire>,
    ports: [Arc<dyn Port>; 2],
    /// Where the far one listens.
    to: Address,
}

fn identity() -> Identity {
    Identity::generate().expect("randomness")
}

fn bound(network: &dyn Network, at: SocketAddr, identity: &Identity, listen: bool) -> Arc<dyn Port> {
    network.bind(at, identity, listen).expect("an address")
}

fn address(port: &dyn Port, of: &Identity) -> Address {
    let at = port.local_addr().expect("it is bound");
    Address { peer: of.peer(), host: at.ip().to_string(), port: at.port(), dataset: String::new() }
}

async fn arrival(port: &dyn Port) -> Arc<dyn Wire> {
    loop {
        let incoming = soon("whoever connects arrives", port.accept()).await.expect("a port that is open accepts");
        // Whoever gave up meanwhile is passed over.
        if let Some(wire) = soon("a handshake", incoming).await {
            return wire;
        }
    }
}

async fn pair(network: &dyn Network, at: SocketAddr) -> Pair {
    let (here, there) = (identity(), identity());
    let ports = [bound(network, at, &here, false), bound(network, at, &there, true)];
    let to = address(&*ports[1], &there);
    let (near, far) = tokio::join!(soon("a connection", ports[0].connect(&to)), arrival(&*ports[1]));
    let near = near.expect("a peer that is there is reached");
    assert_eq!((near.peer(), far.peer()), (there.peer(), here.peer()), "each side knows who the other is");
    assert_eq!(near.remote_addr(), ports[1].local_addr().expect("it is bound"), "where the peer is");
    assert_eq!(far.remote_addr(), ports[0].local_addr().expect("it is bound"), "where whoever connected is");
    assert_eq!((near.end(), far.end()), (None, None), "both ends last");
    Pair { near, far, ports, to }
}

/// A stream as both ends see it.
async fn stream(from: &dyn Wire, to: &dyn Wire, first: &[u8]) -> (Stream, Stream) {
    let mut near = soon("a stream", from.open()).await.expect("a connection that lasts has streams");
    near.writer.write_all(first).await.expect("written");
    near.writer.flush().await.expect("written");
    let mut far = soon("the peer hears of a stream that was written to", to.accept()).await.expect("a stream");
    let mut heard = vec![0; first.len()];
    soon("the first bytes", far.reader.read_exact(&mut heard)).await.expect("read");
    assert_eq!(heard, first, "what was written first is read first");
    (near, far)
}

async fn ports(network: &dyn Network, at: SocketAddr) {
    let (here, there, other) = (identity(), identity(), identity());
    let (client, server) = (bound(network, at, &here, false), bound(network, at, &there, true));
    let to = address(&*server, &there);
    // An impostor is told from a peer, whatever the listener makes of that.
    let impostor = Address { peer: other.peer(), ..to.clone() };
    let listening = async {
        loop {
            let incoming = server.accept().await.expect("a port that is open accepts");
            if let Some(wire) = incoming.await {
                wire.closed().await;
            }
        }
    };
    let refused = tokio::select! {
        refused = soon("an impostor is refused", client.connect(&impostor)) => refused,
        () = listening => unreachable!("it listens until the other is done"),
    };
    let refused = refused.map(|wire| wire.peer());
    assert!(matches!(refused, Err(TransportError::Impostor { .. })), "an impostor is called one, not {refused:?}");
    let taken = network.bind(server.local_addr().expect("it is bound"), &other, true).map(|_| ());
    let in_use = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    assert!(matches!(&taken, Err(TransportError::Io { cause, .. }) if in_use(cause)), "it is bound already: {taken:?}");
    let free = server.local_addr().expect("it is bound");
    soon("a port shuts down", server.shutdown(CloseCode::Done)).await;
    assert!(soon("a port that was shut down", server.accept()).await.is_none(), "accepts nobody");
    drop(server);
    let nobody = soon("nobody is there", client.connect(&to)).await.map(|wire| wire.peer());
    assert!(matches!(nobody, Err(TransportError::Unreachable { .. })), "nobody is there: {nobody:?}");
    let again = soon("the address is free again", async {
        loop {
            match network.bind(free, &there, true) {
                Ok(port) => return port,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    assert_eq!(again.await.local_addr().expect("it is bound"), free);
}

/// Bytes that tell their place.
fn pattern(from: u64, into: &mut [u8]) {
    for (byte, place) in into.iter_mut().zip(from..) {
        *byte = (place % 251) as u8 ^ (place >> 16) as u8;
    }
}

async fn send(writer: &mut (dyn tokio::io::AsyncWrite + Send + Unpin), bytes: u64, sent: &AtomicU64) {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < bytes {
        // Pieces of many sizes.
        let size = (1 + at.wrapping_mul(2_654_435_761) % PIECE as u64).min(bytes - at) as usize;
        pattern(at, &mut piece[..size]);
        writer.write_all(&piece[..size]).await.expect("written");
        at += size as u64;
        sent.store(at, Ordering::Relaxed);
    }
    writer.shutdown().await.expect("ended");
}

async fn receive(reader: &mut (dyn tokio::io::AsyncRead + Send + Unpin), bytes: u64) {
    let (mut piece, mut should) = (vec![0; PIECE / 3], vec![0; PIECE / 3]);
    let mut at = 0;
    loop {
        let size = soon("bytes, or their end", reader.read(&mut piece)).await.expect("read");
        if size == 0 {
            break;
        }
        pattern(at, &mut should[..size]);
        assert!(piece[..size] == should[..size], "bytes come in order, each once: near byte {at}");
        at += size as u64;
    }
    assert_eq!(at, bytes, "all that was written is read before the end");
}

/// Both sides open streams, which carry much both ways at once.
async fn streams(pair: &Pair) {
    for (from, to) in [(&pair.near, &pair.far), (&pair.far, &pair.near)] {
        let (mut near, mut far) = stream(&**from, &**to, b"?").await;
        let (there, back) = (3 << 20, (2 << 20) + 7);
        let (none, other) = (AtomicU64::new(0), AtomicU64::new(0));
        tokio::join!(
            send(&mut *near.writer, there, &none),
            receive(&mut *far.reader, there),
            send(&mut *far.writer, back, &other),
            receive(&mut *near.reader, back),
        );
    }
}

/// A stream that nobody reads holds up no other.
async fn apart(pair: &Pair) {
    let (mut stuck, _unread) = stream(&*pair.near, &*pair.far, b"1").await;
    let (mut near, mut far) = stream(&*pair.near, &*pair.far, b"2").await;
    let (sent, other) = (AtomicU64::new(0), AtomicU64::new(0));
    tokio::select! {
        () = send(&mut *stuck.writer, UNREAD_MAX, &sent) => panic!("nobody reads, and all was taken"),
        ((), ()) = async {
            tokio::join!(send(&mut *near.writer, 1 << 20, &other), receive(&mut *far.reader, 1 << 20))
        } => {}
    }
}

/// One way may end before the other.
async fn halves(pair: &Pair) {
    let (mut near, mut far) = stream(&*pair.near, &*pair.far, b"last").await;
    near.writer.shutdown().await.expect("ended");
    let mut rest = Vec::new();
    soon("the end of one way", far.reader.read_to_end(&mut rest)).await.expect("a clean end");
    assert!(rest.is_empty());
    far.writer.write_all(b"answer").await.expect("the other way lasts");
    far.writer.shutdown().await.expect("ended");
    soon("the end of the other", near.reader.read_to_end(&mut rest)).await.expect("a clean end");
    assert_eq!(rest, b"answer");
}

/// Whoever writes is stopped where nobody reads, and goes on once somebody does.
async fn back_pressure(pair: &Pair) {
    let (near, mut far) = stream(&*pair.near, &*pair.far, b"!").await;
    let sent = Arc::new(AtomicU64::new(0));
    let (mut writer, counts) = (near.writer, sent.clone());
    let writing = tokio::spawn(async move { send(&mut *writer, UNREAD_MAX, &counts).await });
    let mut before = u64::MAX;
    while sent.load(Ordering::Relaxed) != before {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(STILL).await;
    }
    assert!(before < UNREAD_MAX, "{before} bytes were taken though nobody reads");
    receive(&mut *far.reader, UNREAD_MAX).await;
    writing.await.expect("written to the end");
}

/// Looks once whether something is there.
fn look<T>(mut future: std::pin::Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(there) => Some(there),
        Poll::Pending => None,
    }
}

/// Futures that are dropped lose nothing.
async fn dropped(pair: &Pair) {
    assert!(look(pair.far.accept()).is_none(), "nobody opened a stream");
    let (mut near, mut far) = stream(&*pair.near, &*pair.far, b"#").await;
    let mut bytes = [0; 4];
    assert!(look(Box::pin(far.reader.read(&mut bytes))).is_none(), "nothing was written");
    near.writer.write_all(b"here").await.expect("written");
    near.writer.flush().await.expect("written");
    soon("what came after a read was dropped", far.reader.read_exact(&mut bytes)).await.expect("read");
    assert_eq!(&bytes, b"here");
    assert!(look(pair.near.closed()).is_none() && look(pair.ports[1].accept()).is_none(), "it lasts, and is alone");
}

/// What comes while somebody asks for it and does not wait is given to whoever asks next.
async fn lost(network: &dyn Network, at: SocketAddr) {
    let (here, there) = (identity(), identity());
    let (client, server) = (bound(network, at, &here, false), bound(network, at, &there, true));
    let to = address(&*server, &there);
    let connecting = async {
        let connected = soon("a connection", client.connect(&to)).await;
        connected.expect("whoever connects while nobody waits is let in once somebody does")
    };
    let arriving = async {
        for _ in 0..LOOKS {
            if let Some(incoming) = look(server.accept()) {
                let incoming = incoming.expect("a port that is open accepts");
                return soon("a handshake", incoming).await.expect("nobody gave up");
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
        now("who connected while accepting was dropped", arrival(&*server)).await
    };
    let (near, far) = tokio::join!(connecting, arriving);

    for (from, to) in [(&near, &far), (&far, &near)] {
        let mut opened = soon("a stream", from.open()).await.expect("a connection that lasts has streams");
        opened.writer.write_all(b"^").await.expect("written");
        opened.writer.flush().await.expect("written");
        let mut looks = 0;
        let mut come = loop {
            if let Some(stream) = look(to.accept()) {
                break stream;
            }
            looks += 1;
            if looks == LOOKS {
                break now("a stream that came while accepting was dropped", to.accept()).await;
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        };
        let reader = &mut come.as_mut().expect("a connection that lasts has streams").reader;
        let mut heard = [0];
        now("its bytes", reader.read_exact(&mut heard)).await.expect("read");
        assert_eq!(&heard, b"^");
    }
}

/// Streams come and go for as long as a connection lasts.
async fn many(pair: &Pair) {
    for nth in 0..STREAMS {
        let (from, to) = if nth % 2 == 0 { (&pair.near, &pair.far) } else { (&pair.far, &pair.near) };
        let note = format!("stream {} of a connection", nth + 1);
        let (mut near, mut far) = now(&note, stream(&**from, &**to, b"&")).await;
        near.writer.shutdown().await.expect("ended");
        far.writer.shutdown().await.expect("ended");
        for stream in [&mut far, &mut near] {
            let mut rest = Vec::new();
            now(&note, stream.reader.read_to_end(&mut rest)).await.expect("a clean end");
            assert!(rest.is_empty());
        }
    }
}

/// Two peers may have several connections, each by itself.
async fn several(pair: &Pair) {
    let connecting = soon("another connection", pair.ports[0].connect(&pair.to));
    let (near, far) = tokio::join!(connecting, arrival(&*pair.ports[1]));
    let near = near.expect("a peer is reached more than once");
    assert_eq!((near.peer(), far.peer()), (pair.near.peer(), pair.far.peer()), "it is the same peer");
    let ends = [&near, &far, &pair.near, &pair.far].map(|wire| wire.end());
    assert_eq!(ends, [None, None, None, None], "one connection of two peers leaves the others alone");
    now("a stream of one", stream(&*near, &*far, b"one")).await;
    now("a stream of the other", stream(&*pair.near, &*pair.far, b"other")).await;
    near.close(CloseCode::Done);
    soon("the peer hears that one was closed", far.closed()).await;
    assert_eq!((pair.near.end(), pair.far.end()), (None, None), "the other lasts");
    now("a stream of what lasts", stream(&*pair.far, &*pair.near, b"still")).await;
}

/// Nobody is let in at an address that does not listen.
async fn deaf(network: &dyn Network, at: SocketAddr) {
    let (here, there) = (identity(), identity());
    let (client, silent) = (bound(network, at, &here, false), bound(network, at, &there, false));
    let to = address(&*silent, &there);
    let let_in = async {
        while let Some(incoming) = silent.accept().await {
            assert!(incoming.await.is_none(), "who does not listen lets nobody in");
        }
        std::future::pending::<()>().await;
    };
    let reached = tokio::select! {
        reached = soon("nobody listens", client.connect(&to)) => reached.map(|wire| wire.peer()),
        () = let_in => unreachable!("it asks until the other is done"),
    };
    assert!(
        matches!(reached, Err(TransportError::Unreachable { .. })),
        "who does not listen is not reached: {reached:?}"
    );
}

async fn closes(network: &dyn Network, at: SocketAddr) {
    for (code, by_far) in [(CloseCode::Busy, true), (CloseCode::NotAdmitted, false)] {
        let pair = pair(network, at).await;
        let (closing, hearing) = if by_far { (&pair.far, &pair.near) } else { (&pair.near, &pair.far) };
        let (_here, mut there) = stream(&**closing, &**hearing, b"$").await;
        let reading = tokio::spawn(async move { there.reader.read_to_end(&mut Vec::new()).await.map(drop) });
        closing.close(code);
        closing.close(CloseCode::Done);
        soon("whoever closes hears of it too", closing.closed()).await;
        soon("the peer hears that it was closed", hearing.closed()).await;
        assert_eq!(closing.end(), Some(End::Here), "who closed it");
        assert_eq!(hearing.end(), Some(End::There(code as u64)), "with the first code");
        let _ = soon("a read that was under way ends", reading).await.expect("no panic");
        for wire in [closing, hearing] {
            assert!(soon("accepting ends", wire.accept()).await.is_none(), "no streams come any more");
            let opened = soon("opening ends", wire.open()).await;
            assert!(opened.is_err(), "no streams are opened any more");
        }
    }
}

async fn shutdowns(network: &dyn Network, at: SocketAddr) {
    for leave in [false, true] {
        let pair = pair(network, at).await;
        let (_near, mut far) = stream(&*pair.near, &*pair.far, b"%").await;
        let ending = &pair.ports[0];
        if leave {
            soon("leaving", ending.leave(CloseCode::Done)).await;
        } else {
            soon("a shutdown", ending.shutdown(CloseCode::Shutdown)).await;
        }
        soon("the peer hears of it", pair.far.closed()).await;
        let code = if leave { CloseCode::Done } else { CloseCode::Shutdown };
        assert_eq!(pair.far.end(), Some(End::There(code as u64)), "the peer hears why");
        let _ = soon("streams end", far.reader.read_to_end(&mut Vec::new())).await;
        assert!(soon("a port that was shut down", ending.accept()).await.is_none());
    }
}
