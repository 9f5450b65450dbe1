//! Nodes that live in a program: the builder, invitations, typed collections, watching, pauses and the end, over real QUIC.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reknit::core::message::Rights;
use reknit::core::session::Verdict;
use reknit::node::embed::{Change, EmbedError, Keychain, Running, Watch};
use reknit::node::{GossipOptions, Node, NodeError};
use reknit::store::{Cursor, Durability, Op, Origin, StoreError};
use reknit::transport::{Identity, TransportError};
use serde::{Deserialize, Serialize};

use super::edges::freed;
use super::support::*;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Item {
    title: String,
    done: bool,
}

fn item(title: &str) -> Item {
    Item { title: title.into(), done: false }
}

/// A node with the dataset `todo`, which does nothing that it is not asked for.
pub(super) async fn alone() -> Running {
    Node::builder().dataset("todo", ["items", "notes"]).without_gossip().start().await.expect("started")
}

pub(super) async fn joined(to: &Running) -> (Running, reknit::transport::Address) {
    let node = Node::builder().without_gossip().start().await.expect("started");
    let ticket = to.invite("todo", Rights::ALL, HOUR).await.expect("a ticket");
    let at = node.join(&ticket).await.expect("joined");
    (node, at)
}

pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), waited).await.expect("it comes to hold");
}

async fn next(watch: &mut Watch) -> Change {
    watch.next().await.expect("not the end").expect("a change")
}

#[test]
fn a_ticket_lets_one_node_in_and_a_session_makes_both_equal() {
    run(async {
        let desk = alone().await;
        desk.put("todo/items", b"milk", b"two").await.expect("put");
        let ticket = desk.invite("todo", Rights::ALL, HOUR).await.expect("a ticket");
        let phone = Node::builder().without_gossip().start().await.expect("started");
        let at = phone.join(&ticket).await.expect("joined");
        assert_eq!((at.peer, at.dataset.as_str()), (desk.peer(), "todo"));
        assert!(matches!(phone.join(&ticket).await, Err(EmbedError::DatasetExists { name }) if name == "todo"));
        phone.put("todo/notes", b"n", b"hello").await.expect("put");
        let report = phone.sync_now("todo", desk.peer()).await.expect("a session");
        assert_eq!(report.outcome.verdict, Verdict::InSync);
        assert_eq!(phone.get("todo", b"milk").await.expect("read"), Some(b"two".to_vec()));
        assert_eq!(desk.get("todo/notes", b"n").await.expect("read"), Some(b"hello".to_vec()));
        assert!(phone.delete("todo/items", b"milk").await.expect("deleted"));
        // It joined too, so the desk may begin as well: it knows where the phone is by nothing but its address.
        let other =
            reknit::transport::Address { peer: phone.peer(), port: phone.local_addr().expect("bound").port(), ..at };
        assert_eq!(desk.sync_at(&other).await.expect("a session").outcome.verdict, Verdict::InSync);
        assert_eq!(desk.list("todo/items", b"", 10).await.expect("listed"), []);
        // An invitation is for one.
        let third = Node::builder().start().await.expect("started");
        let refused = third.join(&ticket).await;
        assert!(matches!(refused, Err(EmbedError::Node(NodeError::Transport(TransportError::NotAdmitted { .. })))));
        assert!(matches!(third.get("todo", b"milk").await, Err(EmbedError::NoDataset { .. })));
        assert!(matches!(third.join("reknit-").await, Err(EmbedError::Ticket(_))));
        assert!(matches!(third.sync_now("todo", desk.peer()).await, Err(EmbedError::NoDataset { .. })));
        let status = desk.status().await.expect("status");
        assert_eq!(status.datasets[0].root, phone.status().await.expect("status").datasets[0].root);
        for node in [third, phone, desk] {
            node.shutdown().await.expect("ended");
        }
    });
}

#[test]
fn the_program_decides_on_peers_that_nobody_invited() {
    run(async {
        let allowed = Arc::new(Mutex::new(Rights::default()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (said, heard) = (allowed.clone(), asked.clone());
        let decides = move |peer, dataset: &str| {
            heard.lock().expect("not poisoned").push((peer, dataset.to_string()));
            *said.lock().expect("not poisoned")
        };
        let key = reknit::core::DatasetKey::from_bytes([9; 32]);
        let store = || store_of(definition());
        let desk = Node::builder().store(store()).without_gossip().authorize(decides).start().await.expect("started");
        let phone = Node::builder().store(store()).without_gossip().start().await.expect("started");
        assert_eq!(desk.store("test").expect("a store").dataset_key(), &key);
        desk.put("test", b"a", b"1").await.expect("put");
        let at = desk.local_addr().expect("bound");
        let (host, port) = (at.ip().to_string(), at.port());
        let at = reknit::transport::Address { peer: desk.peer(), host, port, dataset: "test".into() };
        let refused = phone.sync_at(&at).await;
        assert!(matches!(refused, Err(EmbedError::Node(NodeError::Transport(TransportError::NotAdmitted { .. })))));
        assert!(asked.lock().expect("not poisoned").contains(&(phone.peer(), "test".into())));
        // May it compare alone, it hears that both differ, and nothing more.
        *allowed.lock().expect("not poisoned") = Rights::COMPARE;
        assert_eq!(phone.sync_at(&at).await.expect("an outcome").outcome.verdict, Verdict::Differs);
        assert_eq!(phone.get("test", b"a").await.expect("read"), None);
        *allowed.lock().expect("not poisoned") = Rights::ALL;
        assert_eq!(phone.sync_at(&at).await.expect("an outcome").outcome.verdict, Verdict::InSync);
        assert_eq!(phone.get("test", b"a").await.expect("read"), Some(b"1".to_vec()));
        // What was taken away is gone with the next session.
        *allowed.lock().expect("not poisoned") = Rights::default();
        desk.put("test", b"b", b"1").await.expect("put");
        let refused = phone.sync_at(&at).await;
        assert!(matches!(refused, Err(EmbedError::Node(NodeError::Transport(TransportError::NotAdmitted { .. })))));
        assert_eq!(phone.get("test", b"b").await.expect("read"), None);
        phone.shutdown().await.expect("ended");
        desk.shutdown().await.expect("ended");
    });
}

#[test]
fn values_have_the_types_of_the_program_and_one_that_has_not_is_named() {
    run(async {
        let node = alone().await;
        let items = node.collection::<Item>("todo/items").expect("a collection");
        items.put("milk", &item("two bottles")).await.expect("put");
        assert_eq!(items.get("milk").await.expect("read"), Some(item("two bottles")));
        assert_eq!(items.list("", 9).await.expect("listed"), [(b"milk".to_vec(), item("two bottles"))]);
        node.put("todo/items", b"bread", b"\xc1").await.expect("put");
        let error = items.get("bread").await.expect_err("no item").to_string();
        assert!(
            error.starts_with("the value of bread in todo/items cannot be read as") && error.contains("Item"),
            "{error}"
        );
        assert!(matches!(items.list("", 9).await, Err(EmbedError::Value { key, .. }) if key == "bread"));
        // A watcher is told that, and goes on; what changes in another collection is not of its type.
        let mut watch = items.watch(Some(Cursor(0))).expect("watched");
        node.put("todo/notes", b"n", b"no item").await.expect("put");
        items.put("salt", &item("a pinch")).await.expect("put");
        let mut told = Vec::new();
        while told.len() < 3 {
            told.push(watch.next().await.expect("not the end").map(|change| (change.key, change.value)).ok());
        }
        told.sort();
        assert_eq!(
            told,
            [
                None,
                Some((b"milk".to_vec(), Some(item("two bottles")))),
                Some((b"salt".to_vec(), Some(item("a pinch"))))
            ]
        );
        let done = |value: Option<Item>| value.map(|item| Item { done: true, ..item });
        assert!(items.update("milk", done).await.expect("updated"));
        assert_eq!(items.get("milk").await.expect("read").map(|item| item.done), Some(true));
        let last = watch.next().await.expect("not the end").expect("a change");
        assert_eq!((last.key, last.origin), (b"milk".to_vec(), Some(Origin::Local)));
        assert!(matches!(items.update("bread", done).await, Err(EmbedError::Value { key, .. }) if key == "bread"));
        assert_eq!(node.get("todo/items", b"bread").await.expect("read"), Some(b"\xc1".to_vec()));
        assert!(items.delete("bread").await.expect("deleted") && items.get("bread").await.expect("read").is_none());
        assert!(matches!(node.collection::<Item>("todo/none").map(|_| ()), Err(EmbedError::Store(_))));
        node.shutdown().await.expect("ended");
        assert!(matches!(items.get("milk").await, Err(EmbedError::Ended)));
    });
}

#[test]
fn a_watcher_goes_on_from_its_cursor_after_a_restart() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let start = || Node::builder().home(dir.path()).dataset("todo", ["items"]).without_gossip().start();
        let node = start().await.expect("started");
        let peer = node.peer();
        let mut watch = node.watch("todo", None).expect("watched");
        for key in [b"a", b"b", b"c"] {
            node.put("todo", key, b"1").await.expect("put");
        }
        let seen = [next(&mut watch).await, next(&mut watch).await];
        assert_eq!((seen[0].key.as_slice(), seen[1].key.as_slice()), (&b"a"[..], &b"b"[..]));
        let cursor = seen[1].cursor;
        node.delete("todo", b"a").await.expect("deleted");
        node.put("todo", b"d", b"1").await.expect("put");
        assert!(matches!(start().await.map(|_| ()), Err(EmbedError::Home(_))), "one node has a home");
        node.shutdown().await.expect("ended");
        // What was under way is read to its end.
        while watch.next().await.is_some() {}

        let node = start().await.expect("started again: the store was closed");
        assert_eq!(node.peer(), peer);
        let mut watch = node.watch("todo", Some(cursor)).expect("watched");
        let mut since = vec![next(&mut watch).await, next(&mut watch).await, next(&mut watch).await];
        assert!(since[0].cursor == cursor && since[1].cursor == cursor && since[2].cursor > cursor, "{since:?}");
        let newest = since[2].cursor;
        since.sort_by(|a, b| a.key.cmp(&b.key));
        let told: Vec<_> = since.iter().map(|change| (change.key.as_slice(), change.value.is_some())).collect();
        assert_eq!(told, [(&b"a"[..], false), (b"c", true), (b"d", true)]);
        node.put("todo", b"e", b"1").await.expect("put");
        let last = next(&mut watch).await;
        assert_eq!((last.key.as_slice(), last.collection.as_str()), (&b"e"[..], "items"));
        assert!(last.cursor > newest);
        // All that there is, which does not have what is deleted and was never told otherwise.
        let mut all = node.watch("todo", Some(Cursor(0))).expect("watched");
        let mut keys = Vec::new();
        while keys.len() < 5 {
            keys.push(next(&mut all).await.key);
        }
        keys.sort();
        assert_eq!(keys, [b"a", b"b", b"c", b"d", b"e"]);
        // Nobody reads on: the end does not wait for that.
        for nth in 0..600_u32 {
            let store = node.store("todo").expect("a store");
            store.batch(vec![Op::put(nth.to_be_bytes(), "x")], Durability::Buffered).expect("put");
        }
        node.shutdown().await.expect("ended");
    });
}

#[test]
fn a_watcher_of_one_collection_is_behind_all_of_it_at_the_end_and_members_are_told_to_nobody() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let definition = reknit::core::Definition {
            collections: ["items", "notes"]
                .map(|name| reknit::core::dataset::Collection { name: name.into(), policy: "newest/1".into() })
                .into(),
            ..reknit::core::Definition::simple(reknit::core::DatasetId([0; 16]), "todo")
        };
        let build = || Node::builder().home(dir.path()).definition(definition.clone().with_members()).without_gossip();
        let node = build().start().await.expect("started");
        let mut watch = node.watch("todo", None).expect("followed");
        node.invite("todo", Rights::ALL, HOUR).await.expect("a ticket");
        let members = node.store("todo").expect("a store").members().expect("read");
        assert_eq!(members.len(), 1, "whoever invites takes part");
        node.put("todo/items", b"a", b"\x01").await.expect("put");
        node.put("todo/notes", b"b", b"\x02").await.expect("put");
        assert_eq!(next(&mut watch).await.collection, "items");
        assert!(node.put("todo/.members", b"junk", b"1").await.is_err());
        node.shutdown().await.expect("ended");
        let node = build().start().await.expect("started");
        let items = node.collection::<u8>("todo/items").expect("there");
        let mut watch = items.watch(Some(Cursor(0))).expect("followed");
        let told = watch.next().await.expect("no end").expect("a change");
        assert_eq!((told.key.as_slice(), told.value), (&b"a"[..], Some(1)));
        assert!(told.cursor > Cursor(0), "it would be told all of it again");
        node.put("todo/notes", b"c", b"\x03").await.expect("put");
        node.put("todo/items", b"d", b"\x04").await.expect("put");
        assert_eq!(watch.next().await.expect("no end").expect("a change").key, b"d");
        node.shutdown().await.expect("ended");
    });
}

#[test]
fn nothing_comes_about_while_a_node_is_suspended() {
    run(async {
        let desk = alone().await;
        let (phone, at) = joined(&desk).await;
        let bound = desk.local_addr();
        desk.suspend().await.expect("suspended");
        desk.put("todo", b"a", b"1").await.expect("records are there");
        assert_eq!(desk.status().await.expect("status").listening, None);
        assert!(matches!(desk.sync_at(&at).await, Err(EmbedError::Suspended)));
        assert!(matches!(phone.sync_at(&at).await, Err(EmbedError::Node(NodeError::Transport(_)))));
        assert_eq!(phone.get("todo", b"a").await.expect("read"), None);
        desk.resume().await.expect("resumed");
        desk.resume().await.expect("once more does nothing");
        assert_eq!(desk.local_addr(), bound);
        assert_eq!(phone.sync_at(&at).await.expect("a session").outcome.verdict, Verdict::InSync);
        assert_eq!(phone.get("todo", b"a").await.expect("read"), Some(b"1".to_vec()));
        phone.shutdown().await.expect("ended");
        desk.shutdown().await.expect("ended");
    });
}

#[test]
fn the_end_leaves_nothing_running_and_frees_address_and_home() {
    let dir = tempfile::tempdir().expect("a directory");
    run(async {
        let node = Node::builder().home(dir.path()).dataset("todo", ["items"]).start().await.expect("started");
        let mut watch = node.watch("todo", None).expect("watched");
        let at = node.local_addr().expect("bound");
        let again = node.clone();
        node.shutdown().await.expect("ended");
        node.shutdown().await.expect("once more does nothing");
        assert!(watch.next().await.is_none());
        drop(freed(at).await);
        assert!(matches!(again.put("todo", b"a", b"1").await, Err(EmbedError::Ended)));
        assert!(matches!(again.resume().await, Err(EmbedError::Ended)));
        assert!(matches!(again.suspend().await, Err(EmbedError::Ended)));
        // Tasks of the runtime end by themselves.
        let metrics = tokio::runtime::Handle::current().metrics();
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
        // A store that somebody uses is closed with its last use, and that is said.
        let node = Node::builder().home(dir.path()).start().await.expect("started again");
        let used = node.store("todo").expect("it is found in the home");
        assert!(matches!(node.shutdown().await, Err(EmbedError::StillHeld { dataset }) if dataset == "todo"));
        drop(used);
        Node::builder().home(dir.path()).start().await.expect("started again").shutdown().await.expect("ended");
    });
}

/// A keychain in memory.
#[derive(Clone, Default)]
struct Chain(Arc<Mutex<Option<Vec<u8>>>>);

impl Keychain for Chain {
    fn load(&self) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().expect("not poisoned").clone())
    }

    fn keep(&self, secret: &[u8]) -> std::io::Result<()> {
        *self.0.lock().expect("not poisoned") = Some(secret.to_vec());
        Ok(())
    }
}

#[test]
fn a_secret_may_lie_in_a_keychain_of_the_program() {
    run(async {
        let chain = Chain::default();
        let mut peers = Vec::new();
        let dir = tempfile::tempdir().expect("a directory");
        for _ in 0..2 {
            let node = Node::builder().home(dir.path()).keychain(chain.clone()).start().await.expect("started");
            peers.push(node.peer());
            node.shutdown().await.expect("ended");
        }
        assert_eq!(peers[0], peers[1]);
        assert!(!dir.path().join("identity.key").exists(), "nothing secret lies in the home");
        let identity = Identity::generate().expect("an identity");
        let (given, peer) = (Identity::from_secret(identity.secret()).expect("the same"), identity.peer());
        let node = Node::builder().identity(given).start().await.expect("started");
        assert_eq!(node.peer(), peer);
        node.shutdown().await.expect("ended");
        *chain.0.lock().expect("not poisoned") = Some(b"noise".to_vec());
        assert!(matches!(Node::builder().keychain(chain).start().await.map(|_| ()), Err(EmbedError::Identity(_))));
    });
}

#[test]
fn three_nodes_gossip_by_tickets_and_the_programs_word() {
    run(async {
        // Sessions would take an hour: what arrives was gossiped.
        let gossip = GossipOptions { every: HOUR, seed: 7, ..GossipOptions::default() };
        let build = || Node::builder().gossip(gossip.clone()).authorize(|_, _| Rights::ALL);
        let a = build().dataset("todo", ["items"]).start().await.expect("started");
        let (b, c) = (build().start().await.expect("started"), build().start().await.expect("started"));
        let mut watches = Vec::new();
        for node in [&b, &c] {
            node.join(&a.invite("todo", Rights::ALL, HOUR).await.expect("a ticket")).await.expect("joined");
            watches.push(node.watch("todo", None).expect("watched"));
        }
        for node in [&a, &b] {
            sees(node, 2).await;
        }
        b.collection::<Item>("todo").expect("a collection").put("milk", &item("two")).await.expect("put");
        let told = next(&mut watches[1]).await;
        let read = c.collection::<Item>("todo").expect("a collection").read(&told.key, &told.value.expect("a value"));
        assert_eq!(read.expect("an item"), item("two"));
        // An update is a write of one's own too.
        let items = c.collection::<Item>("todo").expect("a collection");
        assert!(items.update("milk", |milk| milk.map(|milk| Item { done: true, ..milk })).await.expect("updated"));
        assert_eq!(next(&mut watches[0]).await.origin, Some(Origin::Local));
        let told = next(&mut watches[0]).await;
        assert!(items.read(&told.key, &told.value.expect("a value")).expect("an item").done);
        assert_eq!(told.origin, Some(Origin::Session));
        for node in [c, b, a] {
            node.shutdown().await.expect("ended");
        }
    });
}

/// Waits until a node sees so many others.
async fn sees(node: &Running, others: usize) {
    while node.status().await.expect("status").up.len() != others {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn whoever_invited_all_is_taken_in_again_after_a_pause_and_after_a_restart() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let gossip = GossipOptions { every: HOUR, seed: 7, ..GossipOptions::default() };
        let build = || Node::builder().gossip(gossip.clone()).authorize(|_, _| Rights::ALL);
        let a = build().home(dir.path()).dataset("todo", ["items"]).start().await.expect("started");
        let (b, c) = (build().start().await.expect("started"), build().start().await.expect("started"));
        for node in [&b, &c] {
            node.join(&a.invite("todo", Rights::ALL, HOUR).await.expect("a ticket")).await.expect("joined");
        }
        sees(&a, 2).await;
        sees(&b, 2).await;
        sees(&c, 2).await;
        a.suspend().await.expect("suspended");
        // The others have each other, so they do not ask for anybody.
        sees(&b, 1).await;
        sees(&c, 1).await;
        a.resume().await.expect("resumed");
        sees(&a, 2).await;
        a.shutdown().await.expect("ended");
        sees(&b, 1).await;
        // It is bound elsewhere now.
        let a = build().home(dir.path()).start().await.expect("started again");
        sees(&a, 2).await;
        sees(&b, 2).await;
        let mut watch = b.watch("todo", None).expect("watched");
        a.put("todo", b"a", b"1").await.expect("put");
        assert_eq!(next(&mut watch).await.key, b"a");
        for node in [c, b, a] {
            node.shutdown().await.expect("ended");
        }
    });
}

#[test]
fn what_an_update_was_not_shown_is_not_replaced() {
    run(async {
        let node = alone().await;
        let adds = |by: u64| {
            move |value: Option<&[u8]>| {
                let before = value.map_or(0, |value| u64::from_be_bytes(value.try_into().expect("a number")));
                Some((before + by).to_be_bytes().to_vec())
            }
        };
        // Many at once: each has seen what those before it wrote.
        let mut tasks = tokio::task::JoinSet::new();
        for nth in 1..=20 {
            let node = node.clone();
            tasks.spawn(async move { node.update("todo", b"sum", adds(nth)).await });
        }
        while let Some(done) = tasks.join_next().await {
            assert!(done.expect("no panic").expect("updated"));
        }
        assert_eq!(node.get("todo", b"sum").await.expect("read"), Some(210u64.to_be_bytes().to_vec()));
        assert!(!node.update("todo", b"sum", |value| value.map(<[u8]>::to_vec)).await.expect("the same"));
        assert!(!node.update("todo", b"none", |_| None).await.expect("nothing"));
        assert!(node.update("todo", b"sum", |_| None).await.expect("deleted"));
        assert_eq!(node.get("todo", b"sum").await.expect("read"), None);
        // A write that comes in between is seen the second time.
        let (store, mut shown) = (node.store("todo").expect("a store"), Vec::new());
        let written = store.first().update(b"k", |value| {
            shown.push(value.map(<[u8]>::to_vec));
            if shown.len() == 1 {
                store.put(b"k", b"between").expect("put");
            }
            Some(b"after".to_vec())
        });
        assert!(written.expect("updated"));
        assert_eq!(shown, [None, Some(b"between".to_vec())]);
        assert_eq!(store.get(b"k").expect("read"), Some(b"after".to_vec()));
        // Whoever writes the key each time ends it at last, with what stands.
        let mut nth = 0u32;
        let never = store.first().update(b"k", |_| {
            nth += 1;
            store.batch(vec![Op::put("k", nth.to_be_bytes())], Durability::Buffered).expect("put");
            Some(b"never".to_vec())
        });
        assert!(matches!(never, Err(StoreError::Bound { found: 1_000, .. })), "{never:?}");
        assert_eq!(store.get(b"k").expect("read"), Some(1_000u32.to_be_bytes().to_vec()));
        let long = store.first().update(&vec![0; 65 << 10], |_| Some(Vec::new()));
        assert!(matches!(long, Err(StoreError::KeyTooLong { .. })));
        drop(store);
        node.shutdown().await.expect("ended");
    });
}

#[test]
fn a_program_without_a_runtime_has_the_same() {
    let desk = Node::builder().dataset("todo", ["items"]).without_gossip().start_blocking().expect("started");
    let phone = Node::builder().without_gossip().start_blocking().expect("started");
    desk.collection("todo").expect("a collection").put("milk", &item("two")).expect("put");
    let at = phone.join(&desk.invite("todo", Rights::ALL, HOUR).expect("a ticket")).expect("joined");
    let mut watch = phone.watch("todo", None).expect("watched");
    assert_eq!(phone.sync_at(&at).expect("a session").outcome.verdict, Verdict::InSync);
    assert_eq!(watch.blocking_next().expect("not the end").expect("a change").key, b"milk");
    assert_eq!(phone.collection("todo").expect("a collection").get("milk").expect("read"), Some(item("two")));
    desk.suspend().expect("suspended");
    assert!(matches!(desk.sync_at(&at), Err(EmbedError::Suspended)));
    desk.resume().expect("resumed");
    phone.sync_now("todo", desk.peer()).expect("a session");
    assert!(desk.collection::<Item>("todo").expect("a collection").update("milk", |_| None).expect("updated"));
    assert_eq!(desk.get("todo", b"milk").expect("read"), None);
    phone.shutdown().expect("ended");
    desk.shutdown().expect("ended");
}

/// Before either has seen that the other is up; no session is held within the hour.
#[test]
fn what_is_written_at_once_after_a_join_is_told_too() {
    run(async {
        let gossip = GossipOptions { every: HOUR, seed: 7, ..GossipOptions::default() };
        let build = || Node::builder().gossip(gossip.clone());
        let desk = build().dataset("todo", ["items"]).start().await.expect("started");
        let phone = build().start().await.expect("started");
        let ticket = desk.invite("todo", Rights::ALL, HOUR).await.expect("a ticket");
        phone.join(&ticket).await.expect("joined");
        let (mut there, mut here) =
            (desk.watch("todo", None).expect("watched"), phone.watch("todo", None).expect("watched"));
        phone.put("todo", b"bread", b"1").await.expect("put");
        desk.put("todo", b"milk", b"2").await.expect("put");
        for (watch, key) in [(&mut there, b"bread".as_slice()), (&mut here, b"milk".as_slice())] {
            while next(watch).await.key != key {}
        }
        phone.shutdown().await.expect("ended");
        desk.shutdown().await.expect("ended");
    });
}
