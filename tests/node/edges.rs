//! What an embedded node refuses, by which error; and what is left of one that ends, or is forgotten.

use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use reknit::core::message::Rights;
use reknit::node::embed::{Builder, EmbedError, Keychain, Running};
use reknit::node::{Home, HomeError, Node, NodeError, Ticket};
use reknit::store::{EngineError, StoreError};
use reknit::transport::{Identity, TransportError};
use serde::{Deserialize, Serialize, Serializer};

use super::support::{definition, run, store_of};

const HOUR: Duration = Duration::from_secs(3600);

fn builder() -> Builder {
    Node::builder().dataset("todo", ["items"]).without_gossip()
}

async fn refused(builder: Builder) -> EmbedError {
    builder.start().await.map(|_| ()).expect_err("it does not start")
}

/// A keychain that fails, when it is asked or when it is told.
struct Broken(bool);

impl Keychain for Broken {
    fn load(&self) -> std::io::Result<Option<Vec<u8>>> {
        if self.0 { Err(Error::other("it is locked")) } else { Ok(None) }
    }

    fn keep(&self, secret: &[u8]) -> std::io::Result<()> {
        assert_eq!(secret.len(), 83, "as it is documented");
        Err(Error::other("it is full"))
    }
}

#[test]
fn a_node_that_cannot_be_had_says_why_and_holds_nothing() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "no directory").expect("written");
        assert!(matches!(refused(builder().home(&file)).await, EmbedError::Home(HomeError::Io { .. })));
        for (when, why) in [(true, "it is locked"), (false, "it is full")] {
            let error = refused(builder().keychain(Broken(when))).await;
            assert!(matches!(error, EmbedError::Keychain(_)) && error.to_string().ends_with(why), "{error}");
        }
        for name in ["", "a/b", ".hidden", "a\0"] {
            let error = refused(Node::builder().dataset(name, ["items"]).home(dir.path())).await;
            assert!(matches!(&error, EmbedError::DatasetName { name: told } if told == name), "{error}");
        }
        let twice = builder().store(store_of(definition())).store(store_of(definition()));
        assert!(matches!(refused(twice).await, EmbedError::DatasetExists { name } if name == "test"));
        let twice = builder().store(store_of(definition())).side(std::sync::Arc::new(store_of(definition())));
        assert!(matches!(refused(twice).await, EmbedError::DatasetExists { name } if name == "test"));
        let mut unknown = definition();
        unknown.collections[0].policy = "of-another-program/1".into();
        let error = refused(Node::builder().definition(unknown)).await;
        assert!(matches!(error, EmbedError::Store(StoreError::Policy(_))), "{error}");
        let taken = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let error = refused(builder().home(dir.path()).listen(taken.local_addr().expect("bound"))).await;
        let in_use = |cause: &Error| cause.kind() == ErrorKind::AddrInUse;
        assert!(
            matches!(&error, EmbedError::Node(NodeError::Transport(TransportError::Io { cause, .. })) if in_use(cause)),
            "{error}"
        );
        // The home is free after all of that; while a node runs it is not.
        let node = builder().home(dir.path()).start().await.expect("started");
        let error = refused(builder().home(dir.path())).await;
        assert!(matches!(&error, EmbedError::Home(HomeError::InUse(home)) if home == dir.path()), "{error}");
        assert!(error.to_string().starts_with("another node runs in the home"), "{error}");
        node.shutdown().await.expect("ended");
    });
}

/// A value that serde refuses.
#[derive(Deserialize)]
struct Refused;

impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it is a secret"))
    }
}

#[test]
fn what_cannot_be_stored_is_refused_by_name_and_bound() {
    run(async {
        let node = builder().start().await.expect("started");
        let long = node.put("todo", &vec![0; (64 << 10) + 1], b"").await;
        assert!(matches!(long, Err(EmbedError::Store(StoreError::KeyTooLong { limit: 65_536, .. }))), "{long:?}");
        assert!(node.put("todo", &vec![0; 64 << 10], b"").await.is_ok());
        let long = node.put("todo", b"k", &vec![0; (64 << 20) + 1]).await;
        let bound = 64 << 20;
        assert!(matches!(long, Err(EmbedError::Store(StoreError::ValueTooLong { limit, .. })) if limit == bound));
        assert_eq!(node.get("todo", b"k").await.expect("read"), None);
        let none = node.get("todo/none", b"k").await;
        assert!(matches!(&none, Err(EmbedError::Store(StoreError::NoCollection { have, .. })) if have == "items"));
        let none = node.get("list", b"k").await.expect_err("no dataset").to_string();
        assert_eq!(none, "this node has no dataset list; it has: todo");
        assert!(matches!(node.watch("list", None).map(|_| ()), Err(EmbedError::NoDataset { .. })));
        let refused = node.collection::<Refused>("todo").expect("a collection").put("k", &Refused).await;
        let said = refused.expect_err("refused").to_string();
        assert_eq!(
            said,
            "the value for k in todo cannot be written as MessagePack: it is a secret; nothing was changed"
        );
        node.shutdown().await.expect("ended");
    });
}

/// Takes an address that a node had a moment ago.
pub(crate) async fn freed(at: SocketAddr) -> UdpSocket {
    loop {
        match UdpSocket::bind(at) {
            Ok(socket) => return socket,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// The ticket of a node, with another address or another name in it.
async fn forged(node: &Running, change: impl FnOnce(&mut Ticket)) -> String {
    let ticket = node.invite("todo", Rights::ALL, HOUR).await.expect("a ticket");
    let mut ticket: Ticket = ticket.parse().expect("a ticket");
    change(&mut ticket);
    ticket.to_string()
}

#[test]
fn whom_a_node_cannot_be_with_is_said() {
    run(async {
        let everywhere = builder().listen("0.0.0.0:0".parse().expect("an address"));
        let node = everywhere.start().await.expect("started");
        assert!(matches!(node.invite("todo", Rights::ALL, HOUR).await, Err(EmbedError::NoAddress)));
        node.shutdown().await.expect("ended");
        let at = "192.0.2.1:7".parse().expect("an address");
        let node = builder().listen("0.0.0.0:0".parse().expect("an address")).advertise(at);
        let node = node.start().await.expect("started");
        let ticket = node.invite("todo", Rights::ALL, HOUR).await.expect("a ticket");
        assert!(ticket.parse::<Ticket>().expect("a ticket").address.contains("192.0.2.1:7"));
        node.shutdown().await.expect("ended");

        let (desk, phone) = (builder().start().await.expect("started"), Node::builder().without_gossip());
        let phone = phone.start().await.expect("started");
        let nowhere = forged(&desk, |ticket| ticket.address = "nowhere".into()).await;
        assert!(matches!(phone.join(&nowhere).await, Err(EmbedError::Address(_))));
        let name = forged(&desk, |ticket| ticket.definition.name = "../todo".into()).await;
        assert!(matches!(phone.join(&name).await, Err(EmbedError::DatasetName { .. })));
        let of_tables = forged(&desk, |ticket| ticket.table = Some(vec![1])).await;
        assert!(matches!(phone.join(&of_tables).await, Err(EmbedError::Tables { .. })));
        let stranger = Identity::generate().expect("drawn").peer();
        let unknown = desk.sync_now("todo", stranger).await;
        assert!(matches!(unknown, Err(EmbedError::UnknownPeer(told)) if told == stranger));
        let ticket = desk.invite("todo", Rights::ALL, HOUR).await.expect("a ticket");
        phone.suspend().await.expect("suspended");
        assert!(matches!(phone.join(&ticket).await, Err(EmbedError::Suspended)));
        phone.resume().await.expect("resumed");
        let at = phone.join(&ticket).await.expect("none of that has used it up");
        phone.suspend().await.expect("suspended");
        assert!(matches!(phone.sync_now("todo", at.peer).await, Err(EmbedError::Suspended)));
        // Somebody takes the address meanwhile: the node stays suspended until it is free.
        let bound = phone.local_addr().expect("bound");
        let taken = freed(bound).await;
        let error = phone.resume().await.expect_err("taken");
        assert!(matches!(error, EmbedError::Node(NodeError::Transport(TransportError::Io { .. }))), "{error}");
        assert!(matches!(phone.sync_at(&at).await, Err(EmbedError::Suspended)));
        drop(taken);
        phone.resume().await.expect("resumed");
        assert_eq!(phone.local_addr(), Some(bound));
        assert!(desk.revoke(phone.peer()).await.expect("revoked") && !desk.revoke(phone.peer()).await.expect("gone"));
        let refused = phone.sync_at(&at).await;
        assert!(matches!(refused, Err(EmbedError::Node(NodeError::Transport(TransportError::NotAdmitted { .. })))));
        desk.grant("todo", phone.peer(), Rights::ALL).await.expect("granted");
        phone.sync_at(&at).await.expect("a session");
        phone.shutdown().await.expect("ended");
        desk.shutdown().await.expect("ended");
        assert!(matches!(phone.status().await, Err(EmbedError::Ended)));
        assert!(matches!(phone.join(&ticket).await, Err(EmbedError::Ended)));
        assert!(matches!(phone.sync_at(&at).await, Err(EmbedError::Ended)));
        assert!(matches!(phone.watch("todo", None).map(|_| ()), Err(EmbedError::Ended)));
    });
}

#[test]
fn a_node_that_is_forgotten_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    run(async {
        let node = Node::builder().home(dir.path()).dataset("todo", ["items"]).start().await.expect("started");
        let mut watch = node.watch("todo", None).expect("watched");
        let at = node.local_addr().expect("bound");
        node.put("todo", b"a", b"1").await.expect("put");
        drop(node);
        while watch.next().await.is_some() {}
        // Its tasks and threads end by themselves, and with them go address, store and home.
        let metrics = tokio::runtime::Handle::current().metrics();
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
        drop(freed(at).await);
        let free = || Home::open(dir.path()).expect("a home").hold().is_ok();
        while !free() {
            tokio::task::yield_now().await;
        }
        let again = loop {
            match Node::builder().home(dir.path()).start().await {
                Ok(node) => break node,
                // The last thread of the one before lets its store go.
                Err(EmbedError::Store(StoreError::Engine(EngineError::Locked { .. }))) => {
                    tokio::task::yield_now().await
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(again.get("todo", b"a").await.expect("read"), Some(b"1".to_vec()));
        again.shutdown().await.expect("ended");
    });
}
