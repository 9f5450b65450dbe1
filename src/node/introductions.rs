//! How peers hear of a new key: a node that has one shows what its keys state to whoever has not heard, before it comes to it and
//! when it is come to.
//!
//! What is stated and who believes it is said in [`super::succession`].

use std::sync::Arc;

use reknit_core::succession::Lines as Keys;
use tokio::time::timeout;

use super::counters::Refusal;
use super::{Home, HomeError, Node, NodeError, Serving};
use crate::transport::limits::HANDSHAKE_TIMEOUT;
use crate::transport::{Address, CloseCode, Connection, Identity, Link, Links, PeerId};

/// The first byte of a frame that shows statements of succession.
pub(super) const FRAME_SUCCESSION: u8 = 68;
/// The answer: they are believed.
const FRAME_BELIEVED: u8 = 69;

impl Node {
    /// Connects to the peer of an address, by the newest key of it that is known here. One that has not heard of a new key of this
    /// node is told of it first; if it does not believe that, this node comes by the old key while it can.
    ///
    /// # Errors
    /// [`NodeError::Transport`].
    pub async fn connect(&self, address: &Address) -> Result<Connection, NodeError> {
        // A file of peers that cannot be read is told of by whoever decides by it.
        self.connect_by(address, &self.home().lines().unwrap_or_default()).await
    }

    /// The same, by keys that are known already.
    pub(super) async fn connect_by(&self, address: &Address, known: &Keys) -> Result<Connection, NodeError> {
        let newest = PeerId(known.newest(address.peer.0));
        let to = Address { peer: newest, ..address.clone() };
        let former = self.former.as_ref().filter(|_| self.identity().former().is_some());
        let endpoint = match former.filter(|_| self.shows_to(newest)) {
            Some(former) if !self.introduced(&to).await? => former,
            Some(_) => self.endpoint(),
            None => {
                if self.shows_to(newest) {
                    self.introduced(&to).await?;
                }
                self.endpoint()
            }
        };
        let connection = endpoint.connect(&to).await?;
        tokio::spawn(hear(self.home().clone(), connection.links(), newest));
        Ok(connection)
    }

    /// The identity by which a peer knows this node.
    pub(super) fn identity_as(&self, me: PeerId) -> Arc<Identity> {
        let former = self.identity().former().filter(|former| former.identity.peer() == me);
        former.map_or(self.identity(), |former| &former.identity).clone()
    }

    /// Whether there is something to show that a peer has not heard.
    pub(super) fn shows_to(&self, peer: PeerId) -> bool {
        !self.identity().statements().is_empty() && !self.home().has_heard(peer)
    }

    /// Shows what the keys of this node state on a connection of its own: a peer that does not know of it ends that.
    async fn introduced(&self, to: &Address) -> Result<bool, NodeError> {
        let connection = self.endpoint().connect(to).await?;
        let heard = self.show(&connection).await;
        connection.close(CloseCode::Done);
        Ok(heard)
    }

    /// Shows it; says whether the peer believes it.
    pub(super) async fn show(&self, connection: &Connection) -> bool {
        let shown = [&[FRAME_SUCCESSION], self.identity().statements()].concat();
        let answered = async {
            let mut link = connection.open().await.ok()?;
            link.control.writer.write(&shown).await.ok()?;
            link.control.reader.read().await.ok()?
        };
        let heard = timeout(HANDSHAKE_TIMEOUT, answered).await.ok().flatten() == Some(vec![FRAME_BELIEVED]);
        if heard {
            self.home().note_heard(connection.peer());
        }
        heard
    }
}

impl Serving {
    /// Somebody who may nothing: it is turned away, unless it shows that a peer has a new key.
    pub(super) async fn stranger(self, connection: Connection) {
        // Its lanes are let go after the close: it must hear of nothing else.
        let mut lane = timeout(HANDSHAKE_TIMEOUT, connection.accept()).await.ok().flatten();
        let first = match &mut lane {
            Some(link) => timeout(HANDSHAKE_TIMEOUT, link.control.reader.read()).await.ok(),
            None => None,
        };
        let frame = first.and_then(Result::ok).flatten().unwrap_or_default();
        match (frame.strip_prefix(&[FRAME_SUCCESSION]), lane) {
            (Some(shown), Some(link)) => self.succession(connection, link, shown).await,
            (_, _lane) => self.not_admitted(&connection),
        }
    }

    fn not_admitted(&self, connection: &Connection) {
        tracing::info!(peer = %connection.peer().short(), from = %connection.remote_addr(), "not admitted");
        self.refused(Refusal::NotAdmitted);
        connection.close(CloseCode::NotAdmitted);
    }

    /// What a peer shows of its keys.
    pub(super) async fn succession(self, connection: Connection, mut link: Link, shown: &[u8]) {
        match self.node().home().shown(shown, connection.peer(), None) {
            Ok(()) => {
                believe(&mut link).await;
                let _ = timeout(HANDSHAKE_TIMEOUT, connection.closed()).await;
            }
            Err(error) => {
                told(connection.peer(), &error);
                self.not_admitted(&connection);
            }
        }
    }
}

/// Hears what the peer of an address shows of its keys, once a connection.
async fn hear(home: Home, mut links: Links, peer: PeerId) {
    let Some(mut link) = links.next().await else { return };
    let Ok(Ok(Some(frame))) = timeout(HANDSHAKE_TIMEOUT, link.control.reader.read()).await else { return };
    if let Some(shown) = frame.strip_prefix(&[FRAME_SUCCESSION]) {
        match home.shown(shown, peer, Some(peer)) {
            Ok(()) => believe(&mut link).await,
            Err(error) => told(peer, &error),
        }
    }
}

/// Answers whoever shows statements that they are believed.
async fn believe(link: &mut Link) {
    let _ = link.control.writer.write(&[FRAME_BELIEVED]).await;
    let _ = link.control.writer.finish().await;
}

/// Says why they are not.
fn told(peer: PeerId, error: &HomeError) {
    tracing::warn!(peer = %peer.short(), %error, "it shows a new key");
}
