//! What a running node does without being asked.

use super::*;
use crate::core::message::Rights;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn who_is_up_is_noted_while_a_node_runs_and_not_only_at_its_end() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let build = || Node::builder().authorize(|_, _| Rights::ALL);
        let a = build().home(dir.path()).dataset("todo", ["items"]).start().await.expect("started");
        let b = build().start().await.expect("started");
        let ticket = a.invite("todo", Rights::ALL, Duration::from_secs(3600)).await.expect("a ticket");
        b.join(&ticket).await.expect("joined");
        let store = a.state().stores["todo"].store.clone();
        let noted = loop {
            if let Some(noted) = store.fact(NEAR).expect("read") {
                break String::from_utf8(noted).expect("text");
            }
            tokio::task::yield_now().await;
        };
        drop(store);
        let noted: Address = noted.parse().expect("an address");
        assert_eq!((noted.peer, noted.port), (b.peer(), b.local_addr().expect("bound").port()));
        for node in [a, b] {
            node.shutdown().await.expect("ended");
        }
    });
}

#[test]
fn no_job_begins_while_a_node_is_about_to_be_suspended() {
    run(async {
        let node = Node::builder().dataset("todo", ["items"]).without_gossip().start().await.expect("started");
        let at = node.local_addr().expect("bound");
        let (host, port) = (at.ip().to_string(), at.port());
        // Whoever answers there, the run of it ends somehow.
        let with = Address { peer: node.peer(), host, port, dataset: "todo".into() };
        node.job("mend", Job::repair(with)).expect("taken up");
        let runs = || node.jobs()["mend"].runs;
        // A session that takes its time: the node has told it to end, and waits.
        let session = node.shared.turn.read().await;
        let suspending = tokio::spawn({
            let node = node.clone();
            async move { node.suspend().await }
        });
        while !node.state().live.as_ref().is_some_and(|live| *live.stop.borrow()) {
            tokio::task::yield_now().await;
        }
        assert!(node.run_job("mend"));
        node.begin_due();
        assert_eq!(runs(), 0);
        drop(session);
        suspending.await.expect("no panic").expect("suspended");
        node.begin_due();
        assert_eq!(runs(), 0);
        node.resume().await.expect("resumed");
        while runs() == 0 {
            tokio::task::yield_now().await;
        }
        node.shutdown().await.expect("ended");
    });
}

#[test]
fn a_pause_that_nobody_waited_for_is_ended_by_the_next_resume() {
    run(async {
        let node = Node::builder().dataset("todo", ["items"]).without_gossip().start().await.expect("started");
        let other = Node::builder().without_gossip().start().await.expect("started");
        let ticket = node.invite("todo", Rights::ALL, Duration::from_secs(3600)).await.expect("a ticket");
        let at = other.join(&ticket).await.expect("joined");
        let session = other.shared.turn.read().await;
        let suspending = tokio::spawn({
            let other = other.clone();
            async move { other.suspend().await }
        });
        while !other.state().live.as_ref().is_some_and(|live| *live.stop.borrow()) {
            tokio::task::yield_now().await;
        }
        suspending.abort();
        assert!(suspending.await.expect_err("given up").is_cancelled());
        drop(session);
        other.resume().await.expect("resumed");
        other.sync_at(&at).await.expect("a session");
        for node in [node, other] {
            node.shutdown().await.expect("ended");
        }
    });
}

#[test]
fn whoever_waits_for_a_node_that_ends_does_not_hold_it_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let node = Node::builder().dataset("todo", ["items"]).without_gossip().start().await.expect("started");
        let (peer, port) = (node.peer(), node.local_addr().expect("bound").port());
        let with = Address { peer, host: "127.0.0.1".into(), port, dataset: "todo".into() };
        let session = node.shared.turn.read().await;
        node.job("mend", Job::repair(with.clone())).expect("taken up");
        assert!(node.run_job("mend"));
        // On one thread, what is begun first waits first.
        let ending = tokio::spawn({
            let node = node.clone();
            async move { node.shutdown().await }
        });
        node.begin_due();
        assert_eq!(node.jobs()["mend"].runs, 1);
        let waiting = tokio::spawn({
            let node = node.clone();
            async move { node.sync_at(&with).await.map(drop) }
        });
        while !node.state().live.as_ref().is_some_and(|live| *live.stop.borrow()) {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(session);
        ending.await.expect("no panic").expect("ended");
        assert!(matches!(waiting.await.expect("no panic"), Err(EmbedError::Ended)));
    });
}
