//! What a transport is to a node: the seam at which a program plugs in one of its own. [`super::Quic`] is the one that comes
//! along. What is said over it, and which streams make a session, is [`super::Connection`]'s concern.
//!
//! # The contract
//!
//! - **Who is there is proven.** [`Wire::peer`] holds the key of that name: whoever cannot prove to be the peer that was asked
//!   for is an impostor. Where no stranger can come near, the transport's word is proof.
//! - **Streams are whole, in order and apart.** Each carries bytes both ways, none lost and none twice; one that is not read
//!   holds up no other. A stream may be heard of only once something was written to it.
//! - **Whoever does not read stops whoever writes.** What lies in between is bounded, for a stream and for a connection.
//! - **An end is heard.** [`Wire::close`] and [`Port::shutdown`] reach the other side with their code; streams then end there,
//!   and nothing waits for ever.
//! - **Futures may be dropped.** What was not taken yet is given to whoever asks next, and what was dropped leaves nothing.
//!
//! Whoever implements it runs the suite in [`crate::testing::network_contract`].

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Address, Identity, PeerId, TransportError};

/// What is not there yet.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where nodes bind addresses and reach each other.
pub trait Network: Send + Sync {
    /// Binds an address for a node of this identity; port 0 lets the network choose. Others may connect if it is to `listen`, and only then; a
    /// network that can lets those in too who ask for [`Identity::former`], and says so ([`Wire::reached_as`]). Called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// [`TransportError::Io`] where the address cannot be had, with [`std::io::ErrorKind::AddrInUse`] if somebody has it;
    /// [`TransportError::Tls`].
    fn bind(&self, at: SocketAddr, identity: &Identity, listen: bool) -> Result<Arc<dyn Port>, TransportError>;
}

/// An address that is bound, until it is dropped or shut down.
pub trait Port: Send + Sync {
    /// Where it is bound.
    ///
    /// # Errors
    /// [`TransportError::Io`].
    fn local_addr(&self) -> Result<SocketAddr, TransportError>;

    /// Connects to a peer, and to nobody else; gives up after [`super::limits::HANDSHAKE_TIMEOUT`]. Each call makes a connection
    /// of its own: two peers may have several, whoever made them.
    ///
    /// # Errors
    /// [`TransportError::Unreachable`], [`TransportError::Impostor`], [`TransportError::Version`], [`TransportError::Tls`].
    fn connect<'a>(&'a self, address: &'a Address) -> Pending<'a, Result<Arc<dyn Wire>, TransportError>>;

    /// The next that connects; none once it is shut down.
    fn accept(&self) -> Pending<'_, Option<Incoming>>;

    /// Closes all connections and waits until they are gone; the address is free soon after it is dropped.
    fn shutdown(&self, code: CloseCode) -> Pending<'_, ()>;

    /// The same, and waits until the last words have left, not until they were heard: for a program that ends.
    fn leave(&self, code: CloseCode) -> Pending<'_, ()> {
        self.shutdown(code)
    }
}

/// The handshake with somebody who connects; none if that fails or dawdles. Many may be under way at once.
pub type Incoming = Pending<'static, Option<Arc<dyn Wire>>>;

/// A connection to a known peer. It lasts until either side closes it.
pub trait Wire: Send + Sync {
    /// Who is at the other end.
    fn peer(&self) -> PeerId;

    /// As whom this side was reached, where it has two keys for a time ([`Identity::former`]) and that was not the newer.
    fn reached_as(&self) -> Option<PeerId> {
        None
    }

    /// Where the other end is: of one that connected, where its port is bound, as this side sees it.
    fn remote_addr(&self) -> SocketAddr;

    /// A new stream; waits while the peer allows no more of them.
    ///
    /// # Errors
    /// [`TransportError::Lost`] once the connection has ended.
    fn open(&self) -> Pending<'_, Result<Stream, TransportError>>;

    /// The next stream that the peer opens; none once the connection has ended.
    fn accept(&self) -> Pending<'_, Option<Stream>>;

    /// Closes it. Nothing happens to one that has ended already.
    fn close(&self, code: CloseCode);

    /// Waits until it has ended, by whomever.
    fn closed(&self) -> Pending<'_, ()>;

    /// How it has ended; none while it lasts.
    fn end(&self) -> Option<End>;
}

/// One stream: bytes in order, both ways. Shutting its writer down ends that way for the reader at the other end; dropping it
/// whole ends both.
pub struct Stream {
    /// What comes.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What goes.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// How a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// This side closed it.
    Here,
    /// The peer closed it, with the number of a [`CloseCode`].
    There(u64),
    /// It broke, and why.
    Broken(String),
}

/// Why a connection is closed, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// All is said.
    Done = 0,
    /// The peer is not admitted; it learns no more than that.
    NotAdmitted = 1,
    /// Too many sessions.
    Busy = 2,
    /// The peer broke the protocol.
    Protocol = 3,
    /// The node shuts down.
    Shutdown = 4,
    /// Rights that the peer was using were taken away.
    CutOff = 5,
}
