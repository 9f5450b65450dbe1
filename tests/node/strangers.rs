//! Who gets what: strangers nothing, peers what they may, invitations once.

use std::sync::Arc;

use reknit::core::message::{RefuseCode, Rights};
use reknit::core::session::{Direction, Intent, Verdict};
use reknit::core::{DatasetId, Definition};
use reknit::node::{Invitation, NodeError, Ticket};
use reknit::transport::{CloseCode, TransportError};

use super::relay::{Relay, Shape};
use super::support::*;

const REPAIR: Intent = Intent::Repair(Direction::Both);

#[test]
fn a_stranger_gets_nothing_not_even_a_root() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 10);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        two.server.home.remove_peer(two.client.node.peer()).expect("removed");
        for intent_of in [Intent::Check, Intent::Diff, REPAIR] {
            let ran = session(&two.client.node, &two.server.address(), Counted::new(&a), intent(intent_of)).await;
            assert!(matches!(ran, Err(NodeError::Transport(TransportError::NotAdmitted { .. }))), "{ran:?}");
        }
        assert_eq!((theirs.asked(), theirs.applied()), (0, 0), "the store was not even asked");
    });
}

#[test]
fn a_missing_right_is_named_and_nothing_changes() {
    run(async {
        let (compare, read, write_) = (Rights::COMPARE, Rights::READ, Rights::WRITE);
        for (may, intent_of, missing) in [
            (read.and(write_), Intent::Check, "compare"),
            (compare, REPAIR, "read,write"),
            (compare.and(write_), REPAIR, "read"),
            (compare.and(read), REPAIR, "write"),
        ] {
            let (a, b) = (store(), store());
            plant(&[&a], 10);
            let theirs = Counted::new(&b);
            let two = two(theirs.clone(), may);
            let outcome = two.session(Counted::new(&a), intent(intent_of)).await.outcome;
            let refusal = outcome.refusal.expect("refused");
            assert_eq!((outcome.verdict, refusal.code), (Verdict::Refused, RefuseCode::Rights));
            assert_eq!(refusal.detail, missing);
            assert_eq!((theirs.applied(), b.root().count), (0, 0));
        }
    });
}

#[test]
fn what_does_not_belong_together_is_refused() {
    run(async {
        let a = store();
        plant(&[&a], 10);
        let other_dataset = store_of(Definition::simple(DatasetId([8; 16]), "test"));
        let other_definition = store_of(Definition { name: "renamed".into(), ..definition() });
        for (mine, code, words) in [
            (other_dataset, RefuseCode::Dataset, "no such dataset"),
            (other_definition, RefuseCode::Definition, "differ in: name"),
            (a.clone(), RefuseCode::OneStore, "one store"),
        ] {
            let two = two(Counted::new(&a), Rights::ALL);
            let outcome = two.session(Counted::new(&mine), intent(REPAIR)).await.outcome;
            assert_eq!((outcome.verdict, outcome.refusal.expect("refused").code), (Verdict::Refused, code));
            assert!(outcome.reason.contains(words), "{}", outcome.reason);
        }
        assert_eq!(a.root().count, 10);
    });
}

#[test]
fn rights_that_are_withdrawn_end_with_the_next_session_of_a_connection() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 10);
        let two = two(Counted::new(&b), Rights::ALL);
        let connection = two.client.node.connect(&two.server.address()).await.expect("connected");
        let (_never, stop) = tokio::sync::watch::channel(false);
        let check = async |connection: &reknit::transport::Connection| {
            let link = connection.open().await?;
            let side = Counted::new(&a);
            reknit::node::open_session(side, link, intent(Intent::Check), Default::default(), stop.clone(), &mut |_| ())
                .await
        };
        assert_eq!(check(&connection).await.expect("an outcome").outcome.verdict, Verdict::InSync);
        two.server.home.remove_peer(two.client.node.peer()).expect("removed");
        let ran = check(&connection).await;
        assert!(matches!(ran, Err(NodeError::Transport(TransportError::NotAdmitted { .. }))), "{ran:?}");
    });
}

#[test]
fn an_invitation_is_taken_up_once_and_in_time() {
    run(async {
        let b = store();
        let two = two(Counted::new(&b), Rights::ALL);
        let [first, second] = [(); 2].map(|()| peer(false));
        let address = two.server.address();
        let ticket = |token: &[u8]| Ticket {
            definition: definition(),
            key: b.dataset_key().clone(),
            address: address.to_string(),
            token: token.to_vec(),
            layouts: vec![None],
        };
        let invite = |token: &[u8], expires| {
            let token_hash = *blake3::hash(token).as_bytes();
            let may = "test=compare".parse().expect("grants");
            two.server.home.invite(&Invitation { token_hash, may, expires }).expect("invited");
        };
        let refused = |joined: Result<_, NodeError>| {
            assert!(matches!(joined, Err(NodeError::Transport(TransportError::NotAdmitted { .. }))));
        };
        refused(first.node.take_up(&ticket(b"token"), &address).await.map(drop));
        invite(b"token", u64::MAX / 4);
        refused(first.node.take_up(&ticket(b"guess"), &address).await.map(drop));
        // Whoever has not shown a token yet gets no session.
        let early = session(&first.node, &address, Counted::new(&b), intent(Intent::Check)).await;
        assert!(matches!(early, Err(NodeError::Transport(TransportError::NotAdmitted { .. }))), "{early:?}");
        let granted = first.node.take_up(&ticket(b"token"), &address).await.expect("joined");
        assert_eq!(granted.names(), ["test=compare"]);
        refused(second.node.take_up(&ticket(b"token"), &address).await.map(drop));
        invite(b"late", 1);
        refused(second.node.take_up(&ticket(b"late"), &address).await.map(drop));
        let a = store();
        let checked = session(&first.node, &address, Counted::new(&a), intent(Intent::Check)).await;
        assert_eq!(checked.expect("an outcome").outcome.verdict, Verdict::InSync);
    });
}

#[test]
fn a_handshake_that_dawdles_holds_up_nobody() {
    run(async {
        let (a, b) = (store(), store());
        let two = two(Counted::new(&b), Rights::ALL);
        let server = two.server.node.local_addr().expect("bound");
        let mut dawdling = Vec::new();
        for nth in 0..4 {
            // The network goes once the server has taken up the handshake: it knows the address, and waits.
            let relay = Relay::start(server, Shape::default(), nth).await.expect("a relay");
            let mut address = two.server.address();
            address.port = relay.address().port();
            let other = peer(false);
            let node = other.node.clone();
            dawdling.push((tokio::spawn(async move { node.connect(&address).await.is_ok() }), other));
            while relay.by_server().datagrams < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            drop(relay);
        }
        for _ in 0..3 {
            let ran = two.session(Arc::new(a.clone()), intent(Intent::Check)).await;
            assert_eq!(ran.outcome.verdict, Verdict::InSync);
        }
        for (connecting, _) in dawdling {
            connecting.abort();
        }
    });
}

#[test]
fn a_peer_that_opens_more_than_it_may_is_told_that_the_node_is_busy() {
    run(async {
        let b = store();
        let two = two(Counted::new(&b), Rights::ALL);
        let connection = two.client.node.connect(&two.server.address()).await.expect("connected");
        // Sessions that never say a word.
        let mut links = Vec::new();
        let mut busy = false;
        for _ in 0..=reknit::transport::limits::BIDI_STREAMS_MAX {
            let opening = tokio::time::timeout(std::time::Duration::from_secs(2), connection.open()).await;
            match opening {
                Ok(Ok(link)) => links.push(link),
                // No more lanes are granted, or the connection was closed.
                Ok(Err(error)) => {
                    busy = matches!(error, TransportError::Busy | TransportError::Lost(_));
                    break;
                }
                Err(_) => {
                    busy = true;
                    break;
                }
            }
        }
        assert!(busy, "{} sessions were opened", links.len());
        connection.close(CloseCode::Done);
        let a = store();
        assert_eq!(two.session(Counted::new(&a), intent(Intent::Check)).await.outcome.verdict, Verdict::InSync);
    });
}
