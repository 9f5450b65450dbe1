//! What a running node keeps without being asked.

use super::*;
use crate::core::message::Rights;

#[test]
fn who_is_up_is_noted_while_a_node_runs_and_not_only_at_its_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
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
