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

#[test]
fn what_was_cut_off_while_it_was_made_keeps_no_home_from_beginning() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = dir.path().join("stores");
        for (name, file) in [("todo", "reknit.making"), ("lost+found", "of the system")] {
            std::fs::create_dir_all(stores.join(name)).expect("made");
            std::fs::write(stores.join(name).join(file), "").expect("written");
        }
        let start = || Node::builder().home(dir.path()).dataset("todo", ["items"]).start();
        for _ in 0..2 {
            let node = start().await.expect("started");
            node.put("todo", b"milk", b"two").await.expect("put");
            node.shutdown().await.expect("ended");
        }
        assert!(stores.join("lost+found/of the system").exists());
    });
}

#[test]
fn a_node_that_is_dropped_with_its_runtime_lets_go_of_its_stores() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let build = || Node::builder().home(dir.path()).dataset("todo", ["items"]);
    let first = runtime();
    let node = first.block_on(build().start()).expect("started");
    drop(node);
    drop(first);
    let second = runtime();
    second.block_on(async {
        let until = Instant::now() + Duration::from_secs(120);
        let node = loop {
            match build().start().await {
                Ok(node) => break node,
                Err(error) if Instant::now() >= until => panic!("it never let go: {error}"),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        };
        node.shutdown().await.expect("ended");
    });
}

#[test]
fn what_panics_as_it_decides_lets_nobody_in_and_stops_nothing() {
    run(async {
        let panics = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = panics.clone();
        let decides = move |_, _: &str| match asked.load(std::sync::atomic::Ordering::Relaxed) {
            true => panic!("as a program may"),
            false => Rights::ALL,
        };
        let node = Node::builder().dataset("todo", ["items"]).authorize(decides).start().await.expect("started");
        let other = Node::builder().start().await.expect("started");
        let ticket = node.invite("todo", Rights::ALL, Duration::from_secs(3600)).await.expect("a ticket");
        // What was granted holds, whatever becomes of the other.
        other.join(&ticket).await.expect("joined");
        let third = Node::builder().start().await.expect("started");
        let grants = || node.shared.home.grants(third.peer()).expect("read");
        assert_eq!(grants(), None);
        node.suspend().await.expect("suspended");
        node.resume().await.expect("resumed");
        panics.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(grants().is_some());
        for node in [node, other, third] {
            node.shutdown().await.expect("ended");
        }
    });
}

#[test]
fn what_is_granted_on_one_dataset_leaves_the_others_to_whoever_decides() {
    run(async {
        let decides = |_, dataset: &str| if dataset == "notes" { Rights::ALL } else { Rights::default() };
        let build = || Node::builder().without_gossip();
        let desk = build().dataset("todo", ["items"]).dataset("notes", ["pages"]).authorize(decides);
        let desk = desk.start().await.expect("started");
        let phone = build().start().await.expect("started");
        let ticket = desk.invite("todo", Rights::ALL, Duration::from_secs(3600)).await.expect("a ticket");
        phone.join(&ticket).await.expect("joined");
        let notes = desk.store("notes").expect("a store").definition().clone();
        let todo = desk.store("todo").expect("a store").definition().clone();
        let may = desk.shared.home.grants(phone.peer()).expect("read").expect("granted");
        assert_eq!((may.on(&notes).rights, may.on(&todo).rights), (Rights::ALL, Rights::ALL));
        for node in [desk, phone] {
            node.shutdown().await.expect("ended");
        }
    });
}

#[test]
fn a_join_that_nobody_waits_for_goes_on_and_several_wait_for_each_other() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let desk = ["a", "b", "c"]
            .into_iter()
            .fold(Node::builder().without_gossip(), |all, name| all.dataset(name, ["items"]));
        let desk = desk.start().await.expect("started");
        let phone = Node::builder().without_gossip().home(dir.path()).start().await.expect("started");
        let mut tickets = Vec::new();
        for name in ["a", "b", "c"] {
            tickets.push(desk.invite(name, Rights::ALL, Duration::from_secs(3600)).await.expect("a ticket"));
        }
        let (one, two) = (phone.join(&tickets[0]), phone.join(&tickets[1]));
        let (one, two) = tokio::join!(one, two);
        let (one, two) = (one.expect("joined"), two.expect("joined"));
        {
            let mut third = std::pin::pin!(phone.join(&tickets[2]));
            std::future::poll_fn(|context| {
                let _ = third.as_mut().poll(context);
                std::task::Poll::Ready(())
            })
            .await;
        }
        assert!(within(Duration::from_secs(60), || phone.store("c").is_ok()).await, "it went on");
        for at in [&one, &two, &Address { dataset: "c".into(), ..one.clone() }] {
            phone.sync_at(at).await.expect("a session");
        }
        for node in [desk, phone] {
            node.shutdown().await.expect("ended");
        }
    });
}

#[test]
fn whoever_does_not_hear_what_changes_keeps_so_many_bytes_of_it() {
    run(async {
        let node = Node::builder().dataset("todo", ["items"]).without_gossip().start().await.expect("started");
        let mut watch = node.watch("todo", None).expect("followed");
        let large = vec![b'x'; (1 << 20) - 2];
        for nth in 0..40 {
            node.put("todo", &[nth], &large).await.expect("put");
        }
        assert!(within(Duration::from_secs(60), || watch.waiting() == 16).await);
        // What the store itself does not keep any more is told from the records, in no order.
        let mut told = std::collections::BTreeSet::new();
        while told.len() < 40 {
            assert!(watch.waiting() <= 16, "{}", watch.waiting());
            told.extend(watch.next().await.expect("a change").expect("told").key);
        }
        node.shutdown().await.expect("ended");
    });
}

#[test]
fn whoever_may_only_read_takes_what_there_is() {
    run(async {
        let desk = Node::builder().dataset("todo", ["items"]).without_gossip().start().await.expect("started");
        let phone = Node::builder().without_gossip().start().await.expect("started");
        desk.put("todo", b"milk", b"two").await.expect("put");
        let may = Rights::COMPARE.and(Rights::READ);
        let ticket = desk.invite("todo", may, Duration::from_secs(3600)).await.expect("a ticket");
        let at = phone.join(&ticket).await.expect("joined");
        phone.put("todo", b"own", b"1").await.expect("put");
        phone.sync_at(&at).await.expect("a session");
        assert_eq!(phone.get("todo", b"milk").await.expect("read"), Some(b"two".to_vec()));
        assert_eq!(desk.get("todo", b"own").await.expect("read"), None);
        for node in [desk, phone] {
            node.shutdown().await.expect("ended");
        }
    });
}
