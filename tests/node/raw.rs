//! Hostile bytes on the lanes of an admitted peer: the session ends, the node lives, the store is as it was.

use std::sync::Arc;

use reknit::core::CollectionId;
use reknit::core::message::{Message, Rights, Transfer, Want};
use reknit::core::session::{Intent, Verdict};
use reknit::transport::{Connection, Link};

use super::support::*;

async fn link(two: &Two) -> (Connection, Link) {
    let connection = two.client.node.connect(&two.server.address()).await.expect("connected");
    let link = connection.open().await.expect("opened");
    (connection, link)
}

/// The opening of an honest session, as bytes.
fn opening(side: &reknit::store::Store) -> Vec<u8> {
    use reknit::core::query::Answer;
    use reknit::core::session::{Opener, Options, Output};
    use reknit::store::Side;
    let info = side.describe();
    let life = reknit::core::message::Life { actor: info.actor.0, nonce: info.nonce };
    let repair = Intent::Repair(reknit::core::session::Direction::Both);
    let mut opener = Opener::new(info.definition, info.keys, life, Options::new(repair), 0);
    assert!(matches!(opener.poll(), Some(Output::Ask(_))));
    opener
        .handle(reknit::core::session::Input::Answer(Answer::Cut(Side::cut(side).expect("a cut"))), 0)
        .expect("in order");
    match opener.poll() {
        Some(Output::Send(message)) => message.encode(),
        other => panic!("{other:?}"),
    }
}

async fn alive(two: &Two, a: &reknit::store::Store) {
    let report = two.session(Arc::new(a.clone()), intent(Intent::Diff)).await;
    assert_eq!(report.outcome.verdict, Verdict::Differs);
}

#[test]
fn bytes_that_mean_nothing_end_their_session_and_no_other() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let root = b.root();
        let bye =
            Message::Want(Want { transfer: Transfer(1, CollectionId(9)), ranges: Default::default(), entries: vec![] });
        let mut first: Vec<Vec<u8>> =
            vec![vec![], vec![0], vec![1, 0xc0], vec![255; 900], vec![64, 1, 2], vec![66, 0xc1], bye.encode()];
        let mut seed = 1_u64;
        for len in [1, 20, 300, 4000] {
            let noise = (0..len).map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            });
            first.push(noise.collect());
        }
        // In place of the opening, and after an honest one.
        for honest in [false, true] {
            for frame in &first {
                let (connection, mut link) = link(&two).await;
                if honest {
                    link.control.writer.write(&opening(&a)).await.expect("written");
                    assert!(link.control.reader.read().await.expect("accepted").is_some());
                }
                // The node may close before all of it was written.
                let _ = link.control.writer.write(frame).await;
                let _ = link.control.writer.finish().await;
                while let Ok(Some(_)) = link.control.reader.read().await {}
                drop(connection);
            }
            alive(&two, &a).await;
        }
        assert_eq!((b.root(), theirs.applied()), (root, 0));
        assert_sound(&b);
    });
}

#[test]
fn records_that_are_none_end_the_session_and_change_nothing() {
    run(async {
        let (a, b) = (store(), store());
        plant(&[&a], 50);
        plant(&[&b], 40);
        let theirs = Counted::new(&b);
        let two = two(theirs.clone(), Rights::ALL);
        let root = b.root();
        let bomb = [vec![1], zstd::encode_all([0_u8; 16 << 20].as_slice(), 19).expect("packed")].concat();
        let frames = [
            vec![],
            vec![0],
            vec![0, 0, 1, 0, 9, 9, 9],
            vec![1, 2, 3],
            vec![7; 1000],
            vec![0, 1, 1, 0, 0, 255, 255, 255, 255, 127],
            bomb,
        ];
        for frame in frames {
            let (connection, mut link) = link(&two).await;
            link.control.writer.write(&opening(&a)).await.expect("written");
            assert!(link.control.reader.read().await.expect("accepted").is_some());
            let mut records = link.records.await.expect("opened");
            let _ = records.writer.write(&frame).await;
            let _ = records.writer.finish().await;
            let _ = link.control.writer.finish().await;
            while let Ok(Some(_)) = link.control.reader.read().await {}
            drop(connection);
        }
        alive(&two, &a).await;
        assert_eq!((b.root(), theirs.applied()), (root, 0));
        assert_sound(&b);
    });
}
