//! What nodes are connected by: QUIC keeps the contract that other networks are held to, and the suite notices who does not.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use reknit::transport::network::{End, Incoming, Pending, Port, Stream, Wire};
use reknit::transport::{Address, CloseCode, Identity, Network, PeerId, Quic, TransportError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

use super::support::run;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[test]
fn quic_keeps_the_contract_of_networks() {
    run(reknit::testing::network_contract(&Quic, ANY));
}

/// A promise that is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Breaks {
    /// An impostor is told as nobody.
    Impostor,
    /// The peer is somebody else.
    Peer,
    /// Now and then a byte is another.
    Bytes,
    /// Whatever is written is taken.
    Bounds,
    /// The peer hears that all is said, whatever the code.
    Code,
    /// Others may connect whether or not it is to listen.
    Listens,
    /// Whoever connected is somewhere else.
    Where,
    /// Who comes while accepting is dropped is gone.
    Arrivals,
    /// A stream that comes while accepting is dropped is gone.
    Arriving,
    /// Every 16th stream is never opened.
    Sixteenth,
    /// Whoever connects again loses the connection from before.
    Again,
}

struct Broken(Breaks);

impl Network for Broken {
    fn bind(&self, at: SocketAddr, identity: &Identity, listen: bool) -> Result<Arc<dyn Port>, TransportError> {
        let port = Quic.bind(at, identity, listen || self.0 == Breaks::Listens)?;
        Ok(Arc::new(BrokenPort(self.0, port, Mutex::default())))
    }
}

/// With the connection that was made last.
struct BrokenPort(Breaks, Arc<dyn Port>, Mutex<Option<Arc<dyn Wire>>>);

impl Port for BrokenPort {
    fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        self.1.local_addr()
    }

    fn connect<'a>(&'a self, address: &'a Address) -> Pending<'a, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(async move {
            match self.1.connect(address).await {
                Err(TransportError::Impostor { address, .. }) if self.0 == Breaks::Impostor => {
                    Err(TransportError::Unreachable { address, cause: "nobody".into() })
                }
                connected => {
                    let wire = connected?;
                    let before = self.2.lock().expect("no panic").replace(wire.clone());
                    if let Some(before) = before.filter(|_| self.0 == Breaks::Again) {
                        before.close(CloseCode::Done);
                    }
                    Ok(broken(self.0, wire, false))
                }
            }
        })
    }

    fn accept(&self) -> Pending<'_, Option<Incoming>> {
        Box::pin(async {
            let (breaks, incoming) = (self.0, self.1.accept().await?);
            if breaks == Breaks::Arrivals {
                tokio::task::yield_now().await;
            }
            Some(Box::pin(async move { incoming.await.map(|wire| broken(breaks, wire, true)) }) as Incoming)
        })
    }

    fn shutdown(&self, code: CloseCode) -> Pending<'_, ()> {
        self.1.shutdown(code)
    }

    fn leave(&self, code: CloseCode) -> Pending<'_, ()> {
        self.1.leave(code)
    }
}

fn broken(breaks: Breaks, wire: Arc<dyn Wire>, came: bool) -> Arc<dyn Wire> {
    Arc::new(BrokenWire { breaks, wire, came, opened: AtomicUsize::new(0) })
}

struct BrokenWire {
    breaks: Breaks,
    wire: Arc<dyn Wire>,
    /// Whether the other side connected.
    came: bool,
    opened: AtomicUsize,
}

impl Wire for BrokenWire {
    fn peer(&self) -> PeerId {
        let PeerId(mut key) = self.wire.peer();
        key[0] ^= u8::from(self.breaks == Breaks::Peer);
        PeerId(key)
    }

    fn remote_addr(&self) -> SocketAddr {
        let mut at = self.wire.remote_addr();
        if self.came && self.breaks == Breaks::Where {
            at.set_port(1);
        }
        at
    }

    fn open(&self) -> Pending<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            let nth = 1 + self.opened.fetch_add(1, Ordering::Relaxed);
            if self.breaks == Breaks::Sixteenth && nth.is_multiple_of(16) {
                std::future::pending::<()>().await;
            }
            self.wire.open().await.map(|stream| self.stream(stream))
        })
    }

    fn accept(&self) -> Pending<'_, Option<Stream>> {
        Box::pin(async {
            let stream = self.wire.accept().await;
            if self.breaks == Breaks::Arriving {
                tokio::task::yield_now().await;
            }
            stream.map(|stream| self.stream(stream))
        })
    }

    fn close(&self, code: CloseCode) {
        self.wire.close(if self.breaks == Breaks::Code { CloseCode::Done } else { code });
    }

    fn closed(&self) -> Pending<'_, ()> {
        self.wire.closed()
    }

    fn end(&self) -> Option<End> {
        self.wire.end()
    }
}

impl BrokenWire {
    fn stream(&self, Stream { reader, mut writer }: Stream) -> Stream {
        match self.breaks {
            Breaks::Bytes => Stream { reader: Box::new(Flips { reader, read: 0 }), writer },
            Breaks::Bounds => {
                let (sender, mut pieces) = mpsc::unbounded_channel::<Vec<u8>>();
                tokio::spawn(async move {
                    while let Some(piece) = pieces.recv().await {
                        if tokio::io::AsyncWriteExt::write_all(&mut writer, &piece).await.is_err() {
                            return;
                        }
                    }
                    let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
                });
                Stream { reader, writer: Box::new(Takes(Some(sender))) }
            }
            _ => Stream { reader, writer },
        }
    }
}

/// Changes a byte after a million of them.
struct Flips {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    read: usize,
}

impl AsyncRead for Flips {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.reader).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        if self.read < 1 << 20 && self.read + came >= 1 << 20 {
            buf.filled_mut()[before] ^= 1;
        }
        self.read += came;
        polled
    }
}

/// Takes whatever is written.
struct Takes(Option<mpsc::UnboundedSender<Vec<u8>>>);

impl AsyncWrite for Takes {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let sent = self.0.as_ref().is_some_and(|to| to.send(bytes.to_vec()).is_ok());
        let ended = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        Poll::Ready(if sent { Ok(bytes.len()) } else { Err(ended()) })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

#[test]
fn the_suite_notices_every_promise_that_is_broken() {
    run(async {
        use Breaks::*;
        let should = [
            (Impostor, "an impostor is called one"),
            (Peer, "each side knows who the other is"),
            (Bytes, "bytes come in order, each once"),
            (Bounds, "nobody reads, and all was taken"),
            (Code, "with the first code"),
            (Listens, "who does not listen"),
            (Where, "where whoever connected is"),
            (Arrivals, "while"),
            (Arriving, "a stream that came while accepting was dropped"),
            (Sixteenth, "of a connection: it was lost"),
            (Again, "leaves the others alone"),
        ];
        let runs: Vec<_> = should
            .into_iter()
            .map(|(breaks, says)| {
                let run = tokio::spawn(async move { reknit::testing::network_contract(&Broken(breaks), ANY).await });
                (breaks, says, run)
            })
            .collect();
        for (breaks, says, run) in runs {
            let panic = run.await.expect_err("it is noticed").into_panic();
            let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            let said = panic.downcast_ref::<&str>().map_or(said, |said| (*said).to_string());
            assert!(said.contains(says), "{breaks:?}: {said}");
        }
    });
}
