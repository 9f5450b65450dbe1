//! What a node needs so that its peers hear at once that it was killed and has begun again, rather than wait for a silence: QUIC's
//! stateless resets (RFC 9000, 10.3), by a key that outlives the process.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::Identity;

/// Bytes of the name of a connection: as many as quinn's own have.
const ID_BYTES: usize = 8;

/// Settings of a socket that takes in connections at that port. Of one identity each port has a key of its own, since whoever is
/// told to reset a connection by one must learn nothing of those at another (RFC 9000, 21.11). An identity on two machines, which
/// is a mistake that gossip names, has one key at one port.
///
/// # Errors
/// The system has no randomness to give.
pub(super) fn config(identity: &Identity, port: u16) -> std::io::Result<EndpointConfig> {
    let secret = identity.derive("reknit 2026 v1 stateless reset");
    let key = blake3::keyed_hash(&secret, &port.to_be_bytes());
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())));
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| std::io::Error::other("the system gives no randomness"))?;
    // quinn's own are told from those of another process, and what came for one of these would get no answer.
    config.cid_generator(move || Box::new(Ids { secret, next: 0 }));
    Ok(config)
}

/// Names of connections that say nothing, and of which none comes twice.
struct Ids {
    secret: [u8; 32],
    next: u64,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId::new(&blake3::keyed_hash(&self.secret, &self.next.to_be_bytes()).as_bytes()[..ID_BYTES])
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::network::{CloseCode, End, Network, Port, Wire};
    use super::super::{Address, Quic};
    use super::*;

    fn bound(at: SocketAddr, identity: &Identity) -> Arc<dyn Port> {
        Quic.bind(at, identity, true).expect("bound")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
    }

    async fn arrival(port: &dyn Port) -> Arc<dyn Wire> {
        loop {
            if let Some(wire) = port.accept().await.expect("it is open").await {
                return wire;
            }
        }
    }

    #[test]
    fn a_node_that_was_killed_and_begins_again_ends_what_its_peers_hold_of_it() {
        let (here, there) = (Identity::generate().expect("randomness"), Identity::generate().expect("randomness"));
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let (runtime, dying) = (runtime(), self::runtime());
        let client = runtime.block_on(async { bound(any, &here) });
        let (server, at) = dying.block_on(async {
            let server = bound(any, &there);
            let at = server.local_addr().expect("bound");
            (server, at)
        });
        let to = Address { peer: there.peer(), host: at.ip().to_string(), port: at.port(), dataset: String::new() };
        let accepting = dying.spawn(async move {
            let wire = arrival(&*server).await;
            (server, wire)
        });
        let wire = runtime.block_on(client.connect(&to)).expect("connected");
        let (server, far) = dying.block_on(accepting).expect("no panic");
        // As a process that is killed: nothing more is sent, not even that it ends.
        dying.shutdown_background();
        let (_, _) = (server, far);
        let end = runtime.block_on(async {
            // The address is free once all tasks of the former are gone.
            let mut tries = 0;
            let again = loop {
                match Quic.bind(at, &there, true) {
                    Ok(again) => break again,
                    Err(error) => assert!(tries < 100_000, "{error}"),
                }
                tries += 1;
                tokio::task::yield_now().await;
            };
            let mut stream = wire.open().await.expect("nobody has told");
            tokio::io::AsyncWriteExt::write_all(&mut stream.writer, &[7; 100]).await.expect("written");
            wire.closed().await;
            again.shutdown(CloseCode::Done).await;
            wire.end()
        });
        assert_eq!(end, Some(End::Broken("reset by peer".into())), "not by its silence");
    }

    #[test]
    fn each_connection_has_a_name_of_its_own() {
        let mut ids = Ids { secret: [1; 32], next: 0 };
        let all: std::collections::HashSet<ConnectionId> = (0..1000).map(|_| ids.generate_cid()).collect();
        assert!(all.len() == 1000 && all.iter().all(|id| id.len() == ids.cid_len()));
    }
}
