//! Who gets what: strangers nothing, peers what they may, invitations once.

use std::sync::Arc;

use reknit::core::difference::Side as Seen;
use reknit::core::message::{Message, Open, PROTOCOL, RefuseCode, Rights};
use reknit::core::session::{Direction, Intent, Verdict};
use reknit::core::{DatasetId, Definition};
use reknit::node::{Invitation, NodeError, Ticket};
use reknit::store::{Side, Store};
use reknit::transport::{Connection, TransportError, limits};

use super::relay::{Relay, Shape};
use super::support::*;

const REPAIR: Intent = Intent::Repair(Direction::Both);
const TO_MINE: Intent = Intent::Repair(Direction::To(Seen::Mine));
const TO_THEIRS: Intent = Intent::Repair(Direction::To(Seen::Theirs));

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
fn rights_that_are_withdrawn_end_a_connection_at_once_and_say_so() {
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
        // What says nothing takes nothing away, and nobody new is admitted by it.
        let file = two.server.home.peers_file();
        let known = std::fs::read(&file).expect("the file");
        replace(&file, "[[peer]]");
        tokio::time::timeout(3 * reknit::node::RIGHTS_LOOK, connection.closed()).await.expect_err("it stays");
        replace(&file, known);
        // More rights take nothing away either.
        two.server.admit(two.client.node.peer(), Rights::COMPARE.and(Rights::READ));
        assert_eq!(check(&connection).await.expect("an outcome").outcome.verdict, Verdict::InSync);
        two.server.home.remove_peer(two.client.node.peer()).expect("removed");
        connection.closed().await;
        let ran = check(&connection).await;
        assert!(matches!(ran, Err(NodeError::Transport(TransportError::CutOff { .. }))), "{ran:?}");
        let anew = session(&two.client.node, &two.server.address(), Counted::new(&a), intent(Intent::Check)).await;
        assert!(matches!(anew, Err(NodeError::Transport(TransportError::NotAdmitted { .. }))), "{anew:?}");
    });
}

/// Puts `text` in the file's place in one step, so that no look finds it half written: an empty one admits nobody.
fn replace(file: &std::path::Path, text: impl AsRef<[u8]>) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).expect("written");
    std::fs::rename(&beside, file).expect("in place");
}

/// The side that answers is asked for records and stuck, so that the session is surely under way.
#[test]
fn a_session_ends_with_the_right_that_it_uses_and_takes_nothing_in_afterwards() {
    run(async {
        let (a, b) = (store(), store());
        // Many frames.
        write(&a, (0..3000).map(key), &"x".repeat(2000));
        let theirs = Counted::stuck_after(&b, 1);
        let two = two(theirs.clone(), Rights::ALL);
        let (client, address) = (two.client.node.clone(), two.server.address());
        let side = Counted::new(&a);
        let repair = tokio::spawn(async move { session(&client, &address, side, intent(REPAIR)).await });
        while theirs.applied() == 0 {
            tokio::task::yield_now().await;
        }
        // It still may write, but no longer read, which a repair of both sides does.
        two.server.admit(two.client.node.peer(), Rights::COMPARE.and(Rights::WRITE));
        let ran = repair.await.expect("no panic");
        assert!(matches!(ran, Err(NodeError::Transport(TransportError::CutOff { .. }))), "{ran:?}");
        let taken = b.root().count;
        assert!(taken < 3000, "{taken}");
        // A right that it does not use may go.
        let check = session(&two.client.node, &two.server.address(), Counted::new(&a), intent(Intent::Check)).await;
        assert_eq!(check.expect("an outcome").outcome.verdict, Verdict::Differs);
    });
}

/// While an invitation is open strangers may connect; one that then says nothing must not keep its place.
#[test]
fn a_stranger_that_shows_no_invitation_is_sent_away() {
    run(async {
        let b = store();
        let two = two(Counted::new(&b), Rights::ALL);
        let token_hash = *blake3::hash(b"token").as_bytes();
        let may = "test=compare".parse().expect("grants");
        two.server.home.invite(&Invitation { token_hash, may, expires: u64::MAX / 4 }).expect("invited");
        let stranger = peer(false);
        let connection = stranger.node.connect(&two.server.address()).await.expect("connected");
        connection.closed().await;
        // The other side has closed it: nobody's patience on this one is over.
        let opened = connection.open().await.err();
        assert!(matches!(opened, Some(TransportError::Closed)), "{opened:?}");
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
            table: None,
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

/// The welcome may have been lost, or what was to be done with it may have failed.
#[test]
fn whoever_took_up_an_invitation_is_welcomed_again_and_nobody_else_is() {
    run(async {
        let b = store();
        let two = two(Counted::new(&b), Rights::ALL);
        let [first, second] = [(); 2].map(|()| peer(false));
        let address = two.server.address();
        // While another is open, whoever shows the one that was taken up is heard.
        for token in [b"token", b"other"] {
            let token_hash = *blake3::hash(token).as_bytes();
            let may = "test=compare".parse().expect("grants");
            two.server.home.invite(&Invitation { token_hash, may, expires: u64::MAX / 4 }).expect("invited");
        }
        let ticket = Ticket {
            definition: definition(),
            key: b.dataset_key().clone(),
            address: address.to_string(),
            token: b"token".to_vec(),
            layouts: vec![None],
            table: None,
        };
        let refused = |joined: Result<_, NodeError>| {
            assert!(matches!(joined, Err(NodeError::Transport(TransportError::NotAdmitted { .. }))));
        };
        for _ in 0..2 {
            let granted = first.node.take_up(&ticket, &address).await.expect("welcomed");
            assert_eq!(granted.names(), ["test=compare"]);
            refused(second.node.take_up(&ticket, &address).await.map(drop));
        }
        let known = [&first, &second].map(|guest| two.server.home.grants(guest.node.peer()).expect("read").is_some());
        assert_eq!(known, [true, false]);
        // Who was removed does not come back by it.
        assert!(two.server.home.remove_peer(first.node.peer()).expect("removed"));
        refused(first.node.take_up(&ticket, &address).await.map(drop));
        assert_eq!(two.server.home.grants(first.node.peer()).expect("read"), None);
    });
}

#[test]
fn two_who_show_one_invitation_at_once_are_not_both_let_in() {
    run(async {
        let b = store();
        let two = two(Counted::new(&b), Rights::ALL);
        let address = two.server.address();
        for nth in 0..8u8 {
            let token = vec![nth; 16];
            let may = Rights::COMPARE.into();
            let token_hash = *blake3::hash(&token).as_bytes();
            two.server.home.invite(&Invitation { token_hash, may, expires: u64::MAX / 4 }).expect("invited");
            let (key, layouts) = (b.dataset_key().clone(), vec![None]);
            let ticket =
                Ticket { definition: definition(), key, address: address.to_string(), token, layouts, table: None };
            let [one, other] = [(); 2].map(|()| peer(false));
            let (first, second) =
                tokio::join!(one.node.take_up(&ticket, &address), other.node.take_up(&ticket, &address));
            assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
            let known = [&one, &other].map(|guest| two.server.home.grants(guest.node.peer()).expect("read").is_some());
            assert_eq!(known, [first.is_ok(), second.is_ok()]);
        }
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

/// Two stores that differ both ways.
fn differing() -> (Store, Store) {
    let (mine, theirs) = (store(), store());
    plant(&[&mine, &theirs], 200);
    write(&mine, (0..10).map(key), "mine");
    write(&theirs, (20..30).map(key), "theirs");
    (mine, theirs)
}

/// Says one message on a link of its own, and gives the answer.
async fn ask(connection: &Connection, message: &Message) -> Result<Message, TransportError> {
    let mut link = connection.open().await?;
    let said = link.control.writer.write(&message.encode()).await;
    said.map_err(|error| (link.closed)().unwrap_or(error))?;
    let lost = || (link.closed)().unwrap_or(TransportError::Lost("without a word".into()));
    let frame = link.control.reader.read().await.ok().flatten().ok_or_else(lost)?;
    Ok(Message::decode(&frame).expect("understood"))
}

/// The opening of a check by a store.
pub(crate) fn opening(store: &Store) -> Message {
    use reknit::core::message::{DatasetIdBytes, Life};
    let info = Side::describe(store);
    Message::Open(Open {
        protocol: PROTOCOL,
        dataset: DatasetIdBytes(info.definition.id),
        definition: info.definition.short_hash(),
        wants: Rights::COMPARE,
        descend: false,
        root: store.root(),
        life: Life { actor: info.actor.0, nonce: info.nonce },
        commit: store.cut().commit,
        scope: Vec::new(),
        cells: Default::default(),
        counts: Default::default(),
        parts: Default::default(),
        more: Default::default(),
    })
}

#[test]
fn each_right_is_enough_for_what_it_is_for() {
    run(async {
        let cases = [
            (Rights::COMPARE, Intent::Diff, Verdict::Differs),
            (Rights::COMPARE.and(Rights::READ), TO_MINE, Verdict::Differs),
            (Rights::COMPARE.and(Rights::WRITE), TO_THEIRS, Verdict::Differs),
            (Rights::COMPARE.and(Rights::READ).and(Rights::WRITE), REPAIR, Verdict::InSync),
        ];
        for (may, intended, verdict) in cases {
            let (mine, theirs) = differing();
            let two = two(Arc::new(theirs), may);
            let outcome = two.session(Arc::new(mine), intent(intended)).await.outcome;
            assert_eq!(outcome.verdict, verdict, "{intended:?}: {}", outcome.reason);
            let applied = (outcome.counts.to_mine.applied, outcome.counts.to_theirs.applied);
            let reads = matches!(intended, Intent::Repair(direction) if direction.writes(Seen::Mine));
            let writes = matches!(intended, Intent::Repair(direction) if direction.writes(Seen::Theirs));
            assert_eq!(applied, (10 * u64::from(reads), 10 * u64::from(writes)));
        }
    });
}

#[test]
fn another_version_of_the_protocol_within_the_link_is_refused_by_its_number() {
    run(async {
        let (mine, theirs) = differing();
        let two = two(Arc::new(theirs), Rights::ALL);
        let connection = two.client.node.connect(&two.server.address()).await.expect("connected");
        let Message::Open(open) = opening(&mine) else { unreachable!() };
        let later = Message::Open(Open { protocol: PROTOCOL + 1, ..open });
        let answer = ask(&connection, &later).await.expect("answered");
        let Message::Refuse(refuse) = answer else { panic!("{answer:?}") };
        assert_eq!((refuse.code, refuse.detail), (RefuseCode::Protocol, PROTOCOL.to_string()));
    });
}

#[test]
fn what_is_taken_away_is_gone_at_the_next_session_of_a_connection() {
    run(async {
        let (mine, theirs) = differing();
        let two = two(Arc::new(theirs), Rights::ALL);
        let me = two.client.node.peer();
        let connection = two.client.node.connect(&two.server.address()).await.expect("connected");
        let answer = ask(&connection, &opening(&mine)).await.expect("answered");
        assert!(matches!(&answer, Message::Accept(accept) if accept.rights == Rights::ALL), "{answer:?}");
        two.server.admit(me, Rights::WRITE);
        let answer = ask(&connection, &opening(&mine)).await.expect("answered");
        assert!(matches!(&answer, Message::Refuse(refuse) if refuse.detail == "compare"), "{answer:?}");
        assert!(two.server.home.remove_peer(me).expect("removed"));
        let error = ask(&connection, &opening(&mine)).await.err();
        // The connection may have been cut off by then.
        let refused = |error: &TransportError| {
            matches!(error, TransportError::NotAdmitted { .. } | TransportError::CutOff { .. })
        };
        assert!(error.as_ref().is_some_and(refused), "{error:?}");
    });
}

#[test]
fn sessions_above_the_limit_are_told_that_the_node_is_busy() {
    run(async {
        let (mine, theirs) = differing();
        let server = peer(true);
        let (_serving, _stop) = serve(&server.node, Arc::new(theirs));
        let per_peer = 2;
        let mut held = Vec::new();
        for _ in 0..limits::SESSIONS_MAX.div_ceil(per_peer) {
            let client = peer(false);
            server.admit(client.node.peer(), Rights::ALL);
            let connection = client.node.connect(&server.address()).await.expect("connected");
            for _ in 0..per_peer.min(limits::SESSIONS_MAX - held.len()) {
                let mut link = connection.open().await.expect("opened");
                // Once it is answered it has a place, and keeps it until it is ended.
                link.control.writer.write(&opening(&mine).encode()).await.expect("written");
                let answer = link.control.reader.read().await.expect("read").expect("answered");
                assert!(matches!(Message::decode(&answer), Ok(Message::Accept(_))));
                held.push((client.home.clone(), connection.clone(), link));
            }
        }
        assert_eq!(held.len(), limits::SESSIONS_MAX);
        let late = peer(false);
        server.admit(late.node.peer(), Rights::ALL);
        let side: Arc<dyn Side> = Arc::new(mine);
        let error = session(&late.node, &server.address(), side.clone(), intent(Intent::Check)).await.err();
        assert!(matches!(error, Some(NodeError::Transport(TransportError::Busy))), "{error:?}");
        drop(held);
        // The places are free again once their ends have arrived.
        let verdict = loop {
            match session(&late.node, &server.address(), side.clone(), intent(Intent::Check)).await {
                Err(NodeError::Transport(TransportError::Busy)) => tokio::task::yield_now().await,
                other => break other.expect("an outcome").outcome.verdict,
            }
        };
        assert_eq!(verdict, Verdict::Differs);
    });
}

#[test]
fn one_peer_does_not_take_the_places_of_all() {
    run(async {
        let (mine, theirs) = differing();
        let server = peer(true);
        let (_serving, _stop) = serve(&server.node, Arc::new(theirs));
        let (greedy, other) = (peer(false), peer(false));
        server.admit(greedy.node.peer(), Rights::ALL);
        server.admit(other.node.peer(), Rights::ALL);
        let (mut held, opening) = (Vec::new(), opening(&mine).encode());
        let busy = loop {
            let connection = greedy.node.connect(&server.address()).await.expect("connected");
            let mut link = connection.open().await.expect("opened");
            // Whoever is busy may have closed it already.
            let _ = link.control.writer.write(&opening).await;
            match link.control.reader.read().await {
                Ok(Some(_)) => held.push((connection, link)),
                _ => break (link.closed)(),
            }
        };
        assert!(matches!(busy, Some(TransportError::Busy)), "{busy:?}");
        assert_eq!(held.len(), limits::SESSIONS_OF_PEER_MAX);
        let side: Arc<dyn Side> = Arc::new(mine);
        let checked = session(&other.node, &server.address(), side, intent(Intent::Check)).await;
        assert_eq!(checked.expect("an outcome").outcome.verdict, Verdict::Differs);
    });
}
