//! A transport of one's own: a network in memory, on which nodes of one process meet without sockets and without encryption.
//!
//! `cargo run --example custom_transport` checks it by the suite for networks, then lets two nodes meet on it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use reknit::core::message::Rights;
use reknit::node::Node;
use reknit::transport::network::{End, Incoming, Pending, Port, Stream, Wire};
use reknit::transport::{Address, CloseCode, Identity, Network, PeerId, TransportError};
use tokio::io::{copy_bidirectional, duplex, split};
use tokio::sync::{mpsc, watch};

/// Bytes that wait for a reader.
const WAITING_BYTES: usize = 64 << 10;
/// Connections that wait to be accepted, and streams of a connection.
const WAITING: usize = 16;
const FIRST_FREE_PORT: u16 = 49_152;

/// Who is bound where. Cloning gives another handle.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<HashMap<SocketAddr, Weak<Bound>>>>);

impl Memory {
    fn bound(&self) -> MutexGuard<'_, HashMap<SocketAddr, Weak<Bound>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network for Memory {
    fn bind(&self, at: SocketAddr, identity: &Identity, listen: bool) -> Result<Arc<dyn Port>, TransportError> {
        let mut all = self.bound();
        let is_free = |at: &SocketAddr| all.get(at).is_none_or(|there| there.strong_count() == 0);
        let mut places = (FIRST_FREE_PORT..=u16::MAX).map(|port| SocketAddr::new(at.ip(), port));
        let at = if at.port() == 0 { places.find(is_free) } else { Some(at).filter(is_free) };
        let at = at.ok_or_else(|| TransportError::Io {
            what: "the address in memory cannot be bound".into(),
            cause: std::io::ErrorKind::AddrInUse.into(),
        })?;
        let (arrives, arrived) = mpsc::channel(WAITING);
        let bound = Arc::new(Bound {
            network: self.clone(),
            at,
            me: identity.peer(),
            arrives: listen.then_some(arrives),
            arrived: arrived.into(),
            lines: Mutex::default(),
            shut: watch::Sender::new(false),
        });
        all.insert(at, Arc::downgrade(&bound));
        Ok(bound)
    }
}

/// An address, and what it is connected to.
struct Bound {
    network: Memory,
    at: SocketAddr,
    /// Whoever binds shows an identity, with its secret: nobody can pretend to be another.
    me: PeerId,
    arrives: Option<mpsc::Sender<Half>>,
    arrived: tokio::sync::Mutex<mpsc::Receiver<Half>>,
    lines: Mutex<Vec<(Arc<Line>, Side)>>,
    shut: watch::Sender<bool>,
}

impl Bound {
    fn takes_part(&self, line: &Arc<Line>, side: Side) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|(line, _)| line.ended.borrow().is_none());
        lines.push((line.clone(), side));
    }

    fn shut(&self, code: CloseCode) {
        self.shut.send_replace(true);
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        lines.iter().for_each(|(line, side)| line.close(*side, code));
        let mut all = self.network.bound();
        if all.get(&self.at).is_some_and(|there| std::ptr::eq(there.as_ptr(), self)) {
            all.remove(&self.at);
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.shut(CloseCode::Done);
    }
}

impl Port for Bound {
    fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        Ok(self.at)
    }

    fn connect<'a>(&'a self, address: &'a Address) -> Pending<'a, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            let unreachable =
                || TransportError::Unreachable { address: address.to_string(), cause: "nobody is there".into() };
            let to = address.host.parse().map(|host| SocketAddr::new(host, address.port)).map_err(|_| unreachable())?;
            let there = self.network.bound().get(&to).and_then(Weak::upgrade).ok_or_else(unreachable)?;
            let arrives = there.arrives.clone().filter(|_| !*self.shut.borrow()).ok_or_else(unreachable)?;
            if there.me != address.peer {
                return Err(TransportError::Impostor { address: address.to_string(), expected: address.peer });
            }
            // Nothing is there of a connection that was not taken in.
            let place = arrives.reserve().await.map_err(|_| unreachable())?;
            let line = Arc::new(Line { ended: watch::Sender::new(None) });
            let (near, far) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
            self.takes_part(&line, Side::Opener);
            there.takes_part(&line, Side::Other);
            let half = |side, peer, at, opens, opened: mpsc::Receiver<Stream>| Half {
                line: line.clone(),
                side,
                peer,
                at,
                opens,
                opened: opened.into(),
            };
            place.send(half(Side::Other, self.me, self.at, near.0, far.1));
            Ok(Arc::new(half(Side::Opener, there.me, there.at, far.0, near.1)) as Arc<dyn Wire>)
        })
    }

    fn accept(&self) -> Pending<'_, Option<Incoming>> {
        Box::pin(async {
            let (mut shut, mut arrived) = (self.shut.subscribe(), self.arrived.lock().await);
            let half = tokio::select! {
                biased;
                _ = shut.wait_for(|shut| *shut) => None,
                // Where nobody may connect, nobody does.
                half = arrived.recv(), if self.arrives.is_some() => half,
            }?;
            let wire: Arc<dyn Wire> = Arc::new(half);
            Some(Box::pin(async move { Some(wire) }) as Incoming)
        })
    }

    fn shutdown(&self, code: CloseCode) -> Pending<'_, ()> {
        Box::pin(async move { self.shut(code) })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Opener,
    Other,
}

/// What both sides of a connection share: who has ended it, and why.
struct Line {
    ended: watch::Sender<Option<(Side, CloseCode)>>,
}

impl Line {
    fn close(&self, side: Side, code: CloseCode) {
        self.ended.send_if_modified(|ended| ended.is_none() && ended.replace((side, code)).is_none());
    }

    async fn ended(&self) {
        let _ = self.ended.subscribe().wait_for(Option::is_some).await;
    }
}

/// One side's half of a connection.
struct Half {
    line: Arc<Line>,
    side: Side,
    peer: PeerId,
    at: SocketAddr,
    opens: mpsc::Sender<Stream>,
    opened: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
}

impl Wire for Half {
    fn peer(&self) -> PeerId {
        self.peer
    }

    fn remote_addr(&self) -> SocketAddr {
        self.at
    }

    fn open(&self) -> Pending<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            let lost = || TransportError::Lost("the connection has ended".into());
            let place = tokio::select! {
                biased;
                () = self.line.ended() => return Err(lost()),
                place = self.opens.reserve() => place.map_err(|_| lost())?,
            };
            let ((near, mut here), (far, mut there)) = (duplex(WAITING_BYTES), duplex(WAITING_BYTES));
            let line = self.line.clone();
            // Once the connection has ended, both ends of the stream do.
            tokio::spawn(async move {
                tokio::select! {
                    () = line.ended() => {}
                    _ = copy_bidirectional(&mut here, &mut there) => {}
                }
            });
            let stream = |io| {
                let (reader, writer) = split(io);
                Stream { reader: Box::new(reader), writer: Box::new(writer) }
            };
            place.send(stream(far));
            Ok(stream(near))
        })
    }

    fn accept(&self) -> Pending<'_, Option<Stream>> {
        Box::pin(async {
            let mut opened = self.opened.lock().await;
            tokio::select! {
                biased;
                () = self.line.ended() => None,
                stream = opened.recv() => stream,
            }
        })
    }

    fn close(&self, code: CloseCode) {
        self.line.close(self.side, code);
    }

    fn closed(&self) -> Pending<'_, ()> {
        Box::pin(self.line.ended())
    }

    fn end(&self) -> Option<End> {
        let (side, code) = (*self.line.ended.borrow())?;
        Some(if side == self.side { End::Here } else { End::There(code as u64) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = Memory::default();
    let any: SocketAddr = "10.0.0.1:0".parse()?;
    reknit::testing::network_contract(&network, any).await;
    println!("the network keeps the contract");

    let node = || Node::builder().network(network.clone()).listen(any);
    let desk = node().dataset("todo", ["items"]).start().await?;
    let phone = node().start().await?;
    let at = phone.join(&desk.invite("todo", Rights::ALL, Duration::from_secs(60)).await?).await?;
    desk.put("todo", b"milk", b"two bottles").await?;
    let report = phone.sync_at(&at).await?;
    println!("a session with {at}: {}", report.outcome.verdict.name());
    assert_eq!(phone.get("todo", b"milk").await?, Some(b"two bottles".to_vec()));

    // What is fresh is told by gossip, which goes over the same network.
    let mut hears = desk.watch("todo", None)?;
    phone.put("todo", b"bread", b"rye").await?;
    let heard = hears.next().await.transpose()?;
    println!("the desk hears of {}", String::from_utf8_lossy(&heard.ok_or("the desk has ended")?.key));
    phone.shutdown().await?;
    desk.shutdown().await?;
    Ok(())
}
