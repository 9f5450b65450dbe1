//! Sessions through a relay on UDP, which counts what really travels, and makes a bad network of it.

use std::net::SocketAddr;
use std::time::Duration;

use reknit::core::message::Rights;
use reknit::core::session::{Direction, Intent, Verdict};
use reknit::node::NodeError;
use reknit::store::{Durability, Op, Store};
use reknit::transport::{Address, TransportError};

use super::relay::{Relay, Shape};
use super::support::*;

async fn relay(two: &Two, shape: Shape) -> (Relay, Address) {
    let server = two.server.node.local_addr().expect("bound");
    let relay = Relay::start(server, shape, 7).await.expect("a relay");
    let at: SocketAddr = relay.address();
    let address = Address { host: at.ip().to_string(), port: at.port(), ..two.server.address() };
    (relay, address)
}

/// Records that a capped line takes seconds for: nothing in their values compresses.
const NOISY: usize = 8000;

/// Much less than [`NOISY`] records have, and much more than the first of them.
const SLOW: Shape = Shape { delay: Duration::ZERO, lost: 0, doubled: 0, reordered: 0, bytes_per_second: Some(1 << 20) };

fn plant_noise(store: &Store) {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let ops = (0..NOISY).map(|nth| Op::put(key(nth), (0..500).map(|_| noise()).collect::<Vec<_>>())).collect();
    store.batch(ops, Durability::Buffered).expect("planted");
}

fn bytes(relay: &Relay) -> u64 {
    relay.by_client().bytes + relay.by_server().bytes
}

/// What the frames cost is known; around them are the handshake, acknowledgements, and QUIC's own headers.
#[test]
fn bytes_are_also_counted_outside_the_program() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 100_000);
        let two = two(Counted::new(&b), Rights::ALL);
        let (relay_to, address) = relay(&two, Shape::default()).await;
        let check = session(&two.client.node, &address, Counted::new(&a), intent(Intent::Check)).await;
        assert_eq!(check.expect("an outcome").outcome.verdict, Verdict::InSync);
        let checked = bytes(&relay_to);
        println!("check of 100,000 equal records: {checked} bytes on UDP, the handshake included");
        // QUIC pads the first flights to 1,200 bytes, three in all; some 4,300 bytes if nothing is late.
        assert!(checked < 12_000, "{checked}");
        a.put(&key(5), b"another value").expect("put");
        let (relay_to, address) = relay(&two, Shape::default()).await;
        let diff = session(&two.client.node, &address, Counted::new(&a), intent(Intent::Diff)).await;
        let diff = diff.expect("an outcome");
        assert_eq!((diff.outcome.verdict, diff.outcome.counts.mine_newer), (Verdict::Differs, 1));
        let compared = bytes(&relay_to);
        println!("diff of 1 in 100,000: {compared} bytes on UDP, {} of frames", diff.traffic.total());
        // Datagrams that come late are sent again, so that a busy machine adds some.
        assert!(compared < 20_000, "{compared}");
        assert!(compared > diff.traffic.total(), "frames are within datagrams");
    });
}

#[test]
fn a_bad_network_makes_no_bad_repair() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a, &b], 2000);
        write(&a, (0..2000).step_by(7).map(key), "newer in a");
        write(&b, (3000..3300).map(key), "only in b");
        let two = two(Counted::new(&b), Rights::ALL);
        let shape = Shape { delay: Duration::from_millis(5), lost: 20, doubled: 20, reordered: 30, ..Shape::default() };
        let (_relay, address) = relay(&two, shape).await;
        let repair =
            session(&two.client.node, &address, Counted::new(&a), intent(Intent::Repair(Direction::Both))).await;
        let outcome = repair.expect("an outcome").outcome;
        assert_eq!((outcome.verdict, contents(&a) == contents(&b)), (Verdict::InSync, true), "{}", outcome.reason);
        assert_eq!((outcome.counts.to_mine.applied, outcome.counts.to_theirs.applied), (300, 286));
    });
}

#[test]
fn a_network_that_is_cut_leaves_valid_records_and_the_same_session_goes_on() {
    run(async {
        let (a, b) = (store(), store());
        plant_noise(&a);
        let two = two(Counted::new(&b), Rights::ALL);
        let (relay_to, address) = relay(&two, SLOW).await;
        let (node, side) = (two.client.node.clone(), Counted::new(&a));
        let running =
            tokio::spawn(async move { session(&node, &address, side, intent(Intent::Repair(Direction::Both))).await });
        // As soon as records arrive the network goes, and with it the node that opened.
        while b.root().count == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(relay_to);
        two.client.node.shutdown().await;
        let ended = running.await.expect("it ends");
        // It knows that the peer had nothing, and not how much of it has arrived.
        let report = ended.expect("an outcome");
        assert!(matches!(report.lost.as_deref(), Some(NodeError::Transport(_) | NodeError::Cut)), "{report:?}");
        assert_eq!((report.outcome.verdict, report.outcome.unproven.sixteenths), (Verdict::Partial, u16::MAX));
        let there = b.root().count;
        assert!(there > 0 && there < NOISY as u64, "{there}");
        assert_sound(&b);
        let again = bind(&two.client.home, false);
        let report =
            session(&again, &two.server.address(), Counted::new(&a), intent(Intent::Repair(Direction::Both))).await;
        let outcome = report.expect("an outcome").outcome;
        assert_eq!((outcome.verdict, contents(&a) == contents(&b)), (Verdict::InSync, true));
        assert!(outcome.counts.to_theirs.applied <= NOISY as u64 - there, "what had arrived is not sent again");
    });
}

#[test]
fn a_long_and_bad_line_changes_no_verdict() {
    run(async {
        let shape =
            Shape { delay: Duration::from_millis(20), lost: 10, doubled: 10, reordered: 10, ..Shape::default() };
        for seed in [1, 2] {
            let (a, b) = (store(), store());
            plant(&[&a, &b], 2000);
            write(&a, (0..2000).step_by(50).map(key), "newer in a");
            write(&b, (5000..5300).map(key), "only in b");
            let two = two(Counted::new(&b), Rights::ALL);
            let server = two.server.node.local_addr().expect("bound");
            let relay = Relay::start(server, shape, seed).await.expect("a relay");
            let address = Address { port: relay.address().port(), ..two.server.address() };
            let mut outcomes = Vec::new();
            for intended in [Intent::Check, Intent::Diff, Intent::Repair(Direction::Both), Intent::Check] {
                let ran = session(&two.client.node, &address, Counted::new(&a), intent(intended)).await;
                outcomes.push(ran.expect("an outcome").outcome);
            }
            let verdicts = outcomes.iter().map(|outcome| outcome.verdict).collect::<Vec<_>>();
            assert_eq!(verdicts, [Verdict::Differs, Verdict::Differs, Verdict::InSync, Verdict::InSync]);
            assert_eq!((outcomes[1].counts.mine_newer, outcomes[1].counts.only_theirs), (40, 300));
            let repaired = &outcomes[2].counts;
            assert_eq!((repaired.to_mine.applied, repaired.to_theirs.applied), (300, 40));
            assert_eq!(a.root(), b.root());
        }
    });
}

#[test]
fn a_peer_that_dies_in_the_middle_is_missed_and_found_again() {
    run(async {
        let (a, b) = (store(), store());
        plant_noise(&b);
        let two = two(Counted::new(&b), Rights::ALL);
        let address = two.server.address();
        // It takes in one batch, so that the session is in the middle for as long as it lasts.
        let (node, near) = (two.client.node.clone(), Counted::stuck_after(&a, 1));
        let side = near.clone();
        let running =
            tokio::spawn(async move { session(&node, &address, side, intent(Intent::Repair(Direction::Both))).await });
        // As soon as its records arrive the node that answers goes.
        while near.applied() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        two.server.node.shutdown().await;
        let ended = running.await.expect("it ends");
        // Whether anything was known by then depends on what came first.
        let (told, lost) = match &ended {
            Ok(report) => (report.outcome.verdict == Verdict::Partial, report.lost.as_deref()),
            Err(error) => (true, Some(error)),
        };
        let broken = matches!(
            lost,
            Some(NodeError::Transport(TransportError::Lost(_) | TransportError::Closed) | NodeError::Cut)
        );
        assert!(told && broken, "{ended:?}");
        let here = contents(&a);
        assert!(!here.is_empty() && here.len() < NOISY, "{}", here.len());
        let there = contents(&b);
        assert!(here.iter().all(|(key, value)| there.get(key) == Some(value)));
        assert_sound(&a);
        // It comes back at another address.
        let again = bind(&two.server.home, true);
        let (_serving, _stop) = serve(&again, Counted::new(&b));
        let rest = Counted::new(&a);
        let side = rest.clone();
        let report =
            session(&two.client.node, &super::support::address(&again), side, intent(Intent::Repair(Direction::Both)))
                .await;
        assert_eq!((report.expect("an outcome").outcome.verdict, a.root()), (Verdict::InSync, b.root()));
        assert_eq!(near.applied(), here.len() as u64);
        assert_eq!(near.applied() + rest.applied(), NOISY as u64, "what had arrived is not sent again");
    });
}
